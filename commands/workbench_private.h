/* What workbench.c, link.c, dispatch.c and the cmd_ files share about a workbench and nobody else sees. */
#ifndef LAYERTOP_COMMANDS_WORKBENCH_PRIVATE_H
#define LAYERTOP_COMMANDS_WORKBENCH_PRIVATE_H

#include "commands/command.h"
#include "commands/history.h"

/* A reply to a request: `data` NULL means `error` says why. */
typedef void workbench_reply(struct workbench *workbench, void *context, const json_t *data,
                             const struct error *error);

struct pending {
    uint64_t id; /* never used again, whichever worker comes next */
    char verb[16];
    workbench_reply *reply;
    void *context;
};

/* A change of an engine setting under way (one at a time). */
struct change {
    bool active;
    bool restarting; /* the change waits for a fresh worker */
    bool fresh;      /* there was no worker before: nothing worth telling about its start */
    bool forced;     /* no forecast may refuse it */
    const struct setting *setting;
    json_t *value, *old;
    int64_t start_ns;
    char note[160];
    workbench_reply *reply;
    void *context;
};

struct queued {
    int argc;
    char **argv;
    struct error error;      /* a line that could not be parsed: reported in its turn */
    const struct sink *sink; /* NULL: whatever is current when it runs */
    int depth;               /* of nested `source` */
    bool if_well;            /* left out if what ended before it failed */
};

/* A recording is played instead of a worker that computes. */
struct replaying {
    char *path; /* NULL: none */
    double speed;
    json_t *settings, *load_arguments; /* of the session before, to go back to */
    bool live;                         /* that one was */
    json_t *progress;                  /* {position_s, duration_s}, or NULL */
    bool leave;                        /* go back as soon as no event is under way */
};

struct workbench {
    char *program, *worker_command;
    bool keep_going, interactive;
    unsigned require;
    const struct clock *clock;
    const struct sink *sink;
    struct store *store;
    struct history *history;
    json_t *settings; /* name -> value */
    json_t *aliases_answered;

    struct engine *engine;           /* NULL: none, the next request starts one */
    bool engine_ended;               /* ENDED arrived: to be reaped after the dispatch */
    int64_t connect_ns;              /* when it was started */
    int64_t hello_ns, configured_ns; /* when it said hello, and was ready for a model; 0: not yet */
    struct error connect_error;      /* configure or reload failed: give up this worker */
    bool restart_wanted;
    bool told_bad_record;
    int64_t cancel_ns; /* of the last cancel */
    char notice[160];
    char note[512];        /* the last one of `configure`, to say it once */
    char record_note[512]; /* the profiler's last, as told */
    char hello[160];       /* "layertop VERSION on HOST, process PID" */

    json_t *devices; /* ids of the devices in use, as `configure` said */
    json_t *model, *plan;
    json_t
        *known_devices; /* of a `devices` reply of this worker; NULL: not asked, or no reply yet */
    bool devices_asked;
    json_t *load_arguments; /* to load the model again; NULL without a model */
    bool live;
    bool recording;          /* a journal is being written: by the engine, or it waits for one */
    struct journal *journal; /* of a worker that is gone, for its successor */
    char *record_path;       /* the file that FILE.part becomes; NULL: none */
    struct replaying replay;
    uint32_t last_segment;      /* of the last finished `run`, 0 if none since the plan changed */
    json_t *last_run;           /* its reply */
    json_t *last_result;        /* data of the last COMMAND_RESULT that succeeded, NULL: none */
    const char *last_result_of; /* that command's name */
    json_t *last_sweep;         /* of batches: {points[], bearings}, NULL: none */
    json_t *tried;              /* by `advise --try`: {trials[], bearings}, NULL: nothing */
    json_t *remembered;         /* by workbench_remember() */
    json_t *advice;             /* of the last `advise`: id -> {title, action, changes} */
    double observed_ms;         /* of the last `gap`, with the run that it spoke of */
    uint32_t observed_segment;  /* 0: none */

    struct pending *pending;
    size_t pending_count;
    uint64_t last_id; /* of a request */
    struct change change;

    struct queued *queue; /* [0] is next */
    size_t queue_count;
    struct execution *current;
    int current_depth;
    bool quitting, exit_code_set, interrupted;
    bool failed; /* the last command that ended */
    int exit_code;

    struct tutor *tutor; /* NULL: no lesson has been asked for yet */

    char *(*display_text)(void *context); /* NULL: there is no screen */
    void *display_context;
};

/* The time by the workbench's clock. */
static inline int64_t workbench_now_ns(const struct workbench *workbench)
{
    return clock_read_ns(workbench->clock);
}

/* link.c (and workbench_dispatch()). Submit a request, starting a worker if there is none. Returns its id, > 0. If no worker can
 * be started, `reply` is called before this returns; if the worker goes, with what became of it.
 * Steals `arguments`. */
uint64_t workbench_request(struct workbench *workbench, const char *verb, json_t *arguments,
                           workbench_reply *reply, void *context);
/* Cancel what is pending; called again within a second, give the worker up. */
void workbench_cancel(struct workbench *workbench);

/* Change a setting: an engine's is checked by the worker, a restart is done if it takes one.
 * `reply` gets {key, value, cost_ms, note?}. Steals `value`. One change at a time. */
void workbench_change(struct workbench *workbench, const struct setting *setting, json_t *value,
                      workbench_reply *reply, void *context);
/* The same, with memory really asked for where a forecast would refuse it. */
void workbench_change_forced(struct workbench *workbench, const struct setting *setting,
                             json_t *value, workbench_reply *reply, void *context);

/* End the worker: the next request starts another one, with the same settings. Not while events are
 * delivered: for a command's run(). */
void workbench_end_worker(struct workbench *workbench);

/* Play the recording `path` from now on: the worker ends, its settings and model are kept aside. Not
 * while events are delivered: for a command's run(). */
void workbench_replay(struct workbench *workbench, const char *path, double speed);
/* Back to the session before, at the end of this dispatch: the next request starts a worker. */
void workbench_replay_off(struct workbench *workbench);

/* Parts of workbench_close() and workbench_free(): end the worker and the recording, forget what
 * waits for them. */
bool link_close(struct workbench *workbench, struct error *error);
void link_free(struct workbench *workbench);

/* Keep what a `load` or `unload` reply says; `arguments` as they were submitted. */
void workbench_loaded(struct workbench *workbench, const json_t *model, json_t *arguments);
/* A `run` ended: remember its numbers for `layers`. */
void workbench_ran(struct workbench *workbench, const json_t *reply);

/* A sweep of batches ended: remember its points for `fit`. */
void workbench_swept(struct workbench *workbench, json_t *points);
/* Its points, NULL if there was none with the present model and settings. */
const json_t *workbench_sweep(const struct workbench *workbench);

/* `advise --try` measured something: remember it, the present model and settings with it. */
void workbench_tried(struct workbench *workbench, json_t *trial);
/* What it measured with the present model and settings, an array; NULL if there is nothing. */
const json_t *workbench_trials(const struct workbench *workbench);

/* remembered.c: keep what the engine answered to `calibrate`, `evaluate`, `predict` or `ceilings`. */
void workbench_remember(struct workbench *workbench, const char *verb, const json_t *data);
/* The last such answer, while it still holds: of this worker, since the model was loaded, and of `evaluate` and
 * `predict` with these settings. NULL: none. */
const json_t *workbench_remembered(const struct workbench *workbench, const char *verb);

/* The values of the engine's settings. New reference. */
json_t *workbench_engine_settings(const struct workbench *workbench);

/* Is one of the devices in use a GPU, as far as a worker has said? */
bool workbench_has_gpu(const struct workbench *workbench);
/* Is the terminal able to show block characters, by the setting `symbols` and the locale? */
bool workbench_utf8(const struct workbench *workbench);

/* table.c: as command_find(); *is_setting: the word names a setting, and the command is `set`. */
const struct command *command_resolve(const char *word, bool *is_setting, struct error *error);

/* dispatch.c */
/* Of a command with a setting's name: is this line the setting's? */
bool command_is_of_setting(const struct command *command, int argc, char *const *argv);
void dispatch_run(struct workbench *workbench); /* run queued commands as far as they go */
bool dispatch_ticking(const struct workbench *workbench);
void dispatch_free(struct workbench *workbench);
/* Put the commands of one line in front of the queue's first `*position` entries' end: used by
 * `source`; *position is advanced. */
void dispatch_insert(struct workbench *workbench, const char *line, const struct sink *sink,
                     int depth, size_t *position);
void dispatch_quit(struct workbench *workbench, bool has_code, int code);
/* The lines of a text, clean. */
void dispatch_show_text(const struct sink *sink, enum sink_style style, const char *text);
/* The lines of an error: what, why, and the hint. */
void dispatch_show_error(const struct sink *sink, const struct error *error);

#endif
