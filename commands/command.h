/* Commands: the one place where words become actions. The prompt, -c, a script, a key and a mouse
 * click all end in command_submit(). One command = one file cmd_NAME.c = one const struct = one row
 * of table.c; parser, completion, help, man page and tests are made from the table. */
#ifndef LAYERTOP_COMMANDS_COMMAND_H
#define LAYERTOP_COMMANDS_COMMAND_H

#include "commands/settings.h"
#include "commands/sink.h"
#include "commands/workbench.h"

struct execution;

enum command_flags {
    COMMAND_NEEDS_MODEL = 1,
    COMMAND_INTERACTIVE = 2, /* makes sense with a screen or -i only */
    COMMAND_RESULT = 4,      /* its data is what `assert` speaks about */
};

struct command_completion; /* complete.h */

struct command {
    const char *name;
    const char *const *aliases; /* NULL-terminated, or NULL */
    const char *usage;          /* "run [N] [--warmup N]" */
    const char *summary;        /* one line */
    const char *help;           /* more lines, may be "" */
    /* Keys of `data` with --json: "batch layers[]{name time_ms} settings{}", {} for an object whose
     * keys are not listed; NULL: none. */
    const char *json;
    const char *const *see;      /* other commands, settings and topics; NULL-terminated */
    const char *const *examples; /* command lines that parse; NULL-terminated, at least one */
    unsigned flags;
    /* Of a command with a setting's name: only a line whose first argument is one of these is the
     * command's, any other is the setting's. NULL: all are the command's. */
    const char *const *words;
    /* The other way round: a line that is nothing but one of these, or the bare name, is the
     * setting's. NULL: no line is. */
    const char *const *not_words;
    int arguments_min, arguments_max; /* -1: any number */
    /* Start. Either finish at once (execution_done/_fail) or submit engine requests and return;
     * replies come to execution->reply. Never blocks. */
    void (*run)(struct execution *execution, int argc, char *const *argv);
    /* Candidates for the word being typed, or NULL. */
    void (*complete)(struct command_completion *completion, int argc, char *const *argv);
};

/* A command under way. Made by the dispatcher; the cmd_ files read and fill it. */
struct execution {
    struct workbench *workbench;
    const struct sink *sink;
    const struct command *command;
    int argc;
    char **argv;
    json_t *data;     /* object for the result; commands add to it */
    json_t *warnings; /* array of strings */
    struct error error;
    uint64_t request; /* engine request waited for, 0 if none */
    /* Long work of several requests: the engine's progress is a part of ours and gets our label. */
    char progress_label[128]; /* "" : shown as it comes */
    double progress_from, progress_span;
    /* Set before returning from run() to wait for `request`; data NULL: `error` says why. */
    void (*reply)(struct execution *execution, const json_t *data, const struct error *error);
    void (*tick)(struct execution *execution); /* about every 50 ms, may be NULL (watch, sleep) */
    void *state;                               /* the command's own, freed with free_state */
    void (*free_state)(void *state);
    bool done;
};

void execution_done(struct execution *execution);
void execution_fail(struct execution *execution, const struct error *error);
/* One printf-like line of the result for people (dropped in JSON mode); several if the format holds
 * a newline or is "%s". A newline that comes in otherwise is part of a name, and is written as \x0a. */
void execution_print(struct execution *execution, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A warning: shown, and put into "warn" of the JSON. */
void execution_warn(struct execution *execution, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Submit a request and wait for it with `reply`. */
void execution_request(struct execution *execution, const char *verb, json_t *arguments,
                       void (*reply)(struct execution *, const json_t *, const struct error *));

size_t command_count(void);
const struct command *command_at(size_t index);
/* By exact name, alias, or unique prefix over commands, then settings (a setting's name runs
 * `set`). NULL with ERROR_UNKNOWN_COMMAND, "could be" or "did you mean". */
const struct command *command_find(const char *word, struct error *error);

/* Queue one line (it may hold several commands joined by ';'). They run in order, one at a time,
 * while workbench_dispatch() is called. A syntax error is reported through the sink in its turn. */
void command_submit(struct workbench *workbench, const char *line);
/* The same for what makes sense only after what was submitted before it: left out if that failed. */
void command_submit_if_well(struct workbench *workbench, const char *line);
/* Is a command running or queued? */
bool command_busy(const struct workbench *workbench);
/* Ctrl-C: cancel the running command and drop the queue. Returns false if nothing was running. A
 * worker that has not reacted when it is called again within a second is killed. */
bool command_cancel(struct workbench *workbench);

/* Candidates for the text before the cursor: fills *start with the byte offset of the word being
 * completed and returns a NULL-terminated array (free with command_candidates_free). */
char **command_complete(struct workbench *workbench, const char *text, size_t cursor,
                        size_t *start);
void command_candidates_free(char **candidates);

#endif
