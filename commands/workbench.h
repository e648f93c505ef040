/* The workbench: model, settings, engine client and store of one layertop; what commands act on and
 * panes look at. One thread: the front's. */
#ifndef LAYERTOP_COMMANDS_WORKBENCH_H
#define LAYERTOP_COMMANDS_WORKBENCH_H

#include "commands/settings.h"
#include "commands/sink.h"
#include "engine/engine.h"
#include "profiler/store.h"

enum run_state { STATE_IDLE, STATE_LOADING, STATE_LIVE, STATE_RUNNING, STATE_DEAD };

struct workbench_options {
    const char *program;
    const char *worker_command; /* or NULL */
    bool keep_going;            /* -k */
    bool interactive;           /* a screen or -i: errors do not stop the queue */
    unsigned require;           /* enum workbench_require bits, checked after each `run` */
    const struct clock *clock;  /* borrowed; NULL: clock_system */
};

enum workbench_require { REQUIRE_STEADY = 1, REQUIRE_GPU = 2, REQUIRE_CUPTI = 4 };

struct workbench;

/* Make a workbench with default settings; starts no worker yet (the first request does). */
struct workbench *workbench_new(const struct workbench_options *options, struct error *error);
/* End the worker, and with it the recording if one is being made: its file is written now, and what
 * fails leaves FILE.part behind. False with ERROR_FILE then. */
bool workbench_close(struct workbench *workbench, struct error *error);
/* Does the same without a word if it was not done. */
void workbench_free(struct workbench *workbench);
/* The sink of commands submitted from now on (borrowed). */
void workbench_set_sink(struct workbench *workbench, const struct sink *sink);

/* To poll: the worker's descriptor (-1 if none), whether to poll it for writing, and the longest
 * time to sleep in ms (-1: until something comes). */
int workbench_fd(const struct workbench *workbench);
bool workbench_wants_write(const struct workbench *workbench);
int workbench_timeout_ms(const struct workbench *workbench);
/* Handle what arrived, run queued commands as far as they go. Never blocks. */
void workbench_dispatch(struct workbench *workbench);

/* The clock that everything here goes by; loops around a workbench wait with it. */
const struct clock *workbench_clock(const struct workbench *workbench);

const struct store *workbench_store(const struct workbench *workbench);
const json_t *workbench_model(const struct workbench *workbench); /* load reply, or NULL */
const json_t *workbench_plan(const struct workbench *workbench);  /* plan event, or NULL */
/* What is known of the plan's device, an object of the `devices` reply (id, name, driver ...); NULL
 * while it is not known, and for a CPU plan: asking would wake the GPU's driver. */
const json_t *workbench_device(const struct workbench *workbench);
enum run_state workbench_state(const struct workbench *workbench);
/* "" or why the worker is gone: "worker ended: signal 9". */
const char *workbench_notice(const struct workbench *workbench);
/* The effective value of a setting (borrowed). */
const json_t *workbench_setting(const struct workbench *workbench, const char *name);
/* "layertop[digits cpu b32 fp32]> " into out[size]; returns out. `name` stands for the model's name;
 * NULL: the name itself, or "no model". */
char *workbench_prompt(const struct workbench *workbench, const char *name, char *out, size_t size);

/* A recording that is played. Times are NAN while they are not known. */
struct replay_state {
    const char *path; /* NULL: none is */
    double speed;     /* 0: as fast as it goes */
    double position_s, duration_s;
};
void workbench_replay_state(const struct workbench *workbench, struct replay_state *out);
/* The file that a recording is made for (FILE.part grows beside it), NULL: none is. */
const char *workbench_recording(const struct workbench *workbench);

/* Lines typed so far, newest last; opened on the first call. Whoever reads lines adds to it. */
struct history;
struct history *workbench_history(struct workbench *workbench);

/* What gives the screen as text (to be freed) for `save-display FILE`: set by tui/ while it shows one,
 * NULL (the default) when there is none; the command then fails. */
void workbench_set_display(struct workbench *workbench, char *(*text)(void *context),
                           void *context);

bool workbench_quitting(const struct workbench *workbench);
/* 0, the code of the first error that counts, or N of `exit N`. */
int workbench_exit_code(const struct workbench *workbench);

#endif
