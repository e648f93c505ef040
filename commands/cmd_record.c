#define _GNU_SOURCE /* closefrom */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "profiler/recording.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The HDF5 file is made by a child of ours: it may take seconds, and the screen must not wait. */
struct packing {
    pid_t child;
    int answer; /* read end of a pipe: the error, or nothing */
    bool off;   /* `record off` */
    char *path;
};

static void free_packing(void *state)
{
    struct packing *packing = state;
    if (packing->answer >= 0)
        close(packing->answer);
    if (packing->child > 0 && waitpid(packing->child, NULL, WNOHANG) == 0) {
        kill(packing->child, SIGKILL); /* interrupted: FILE.part stays */
        waitpid(packing->child, NULL, 0);
    }
    free(packing->path);
    free(packing);
}

static void packed(struct execution *execution)
{
    struct packing *packing = execution->state;
    int status;
    pid_t got = waitpid(packing->child, &status, WNOHANG);
    if (got == 0)
        return;
    struct error error = {0};
    char why[1024], bytes[FORMAT_SIZE];
    ssize_t length = read(packing->answer, why, sizeof why - 1);
    struct stat file;
    packing->child = 0;
    why[length > 0 ? length : 0] = '\0';
    if (length > 0 || got < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
        stat(packing->path, &file) != 0) {
        error_set(&error, ERROR_FILE, packing->path, "%s",
                  length > 0 ? why : "the process that writes it died");
        error_hint(&error, "replay %s.part", packing->path);
        execution_fail(execution, &error);
        return;
    }
    char *part = xasprintf("%s.part", packing->path);
    unlink(part);
    free(part);
    json_object_set_new(execution->data, "path", json_string(packing->path));
    json_object_set_new(execution->data, "bytes", json_integer((json_int_t)file.st_size));
    execution_print(execution, "recorded %s: %lld frames, %s", packing->path,
                    (long long)json_integer_value(json_object_get(execution->data, "frames")),
                    format_bytes(bytes, sizeof bytes, (double)file.st_size));
    execution_done(execution);
}

static void pack(struct execution *execution)
{
    struct packing *packing = execution->state;
    struct error error = {0};
    int ends[2] = {-1, -1};
    if (pipe(ends) == 0)
        packing->child = fork();
    if (ends[0] < 0 || packing->child < 0) {
        error_set(&error, ERROR_FILE, packing->path, "no process can be started: %s",
                  strerror(errno));
        execution_fail(execution, &error);
        return;
    }
    if (packing->child == 0) {
        dup2(ends[1], 0); /* nothing else of ours: not the terminal, not the worker's pipes */
        closefrom(3);
        char *part = xasprintf("%s.part", packing->path);
        bool ok = recording_pack(part, packing->path, &error);
        if (!ok && write(0, error.why, strlen(error.why)) < 0)
            _exit(2);
        _exit(ok ? 0 : 1);
    }
    close(ends[1]);
    packing->answer = ends[0];
    execution->tick = packed;
}

static void recorded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct workbench *workbench = execution->workbench;
    struct packing *packing = execution->state;
    if (!data && packing->off && workbench->recording) { /* it ended early, but it ended */
        workbench->recording = false;
        free(workbench->record_path);
        workbench->record_path = NULL;
    }
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    workbench->recording = !packing->off;
    free(workbench->record_path);
    workbench->record_path = packing->off ? NULL : xstrdup(packing->path);
    if (packing->off) {
        /* {path: FILE.part}: the client knows, whoever began the recording */
        const char *part = json_string_value(json_object_get(data, "path"));
        size_t length = part ? strlen(part) : 0;
        free(packing->path);
        packing->path = xasprintf("%.*s", (int)(length > 5 ? length - 5 : 0), part ? part : "");
        pack(execution);
    } else {
        execution_print(execution, "recording to %s.part", packing->path);
        execution_done(execution);
    }
}

static void run_record(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    const char *path = NULL;
    bool raw = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--raw") == 0)
            raw = true;
        else if (!path)
            path = argv[i];
        else
            error_set(&error, ERROR_SYNTAX, "record", "'%s' is one too many: %s", argv[i],
                      command_record.usage);
    }
    bool off = path && strcmp(path, "off") == 0;
    if (!path && error.code == ERROR_NONE)
        error_set(&error, ERROR_SYNTAX, "record", "it needs a file: %s", command_record.usage);
    if (error.code == ERROR_NONE && !off && access(path, F_OK) == 0)
        error_set(&error, ERROR_FILE, path, "exists already");
    if (error.code != ERROR_NONE) {
        error_hint(&error, "record session-2.ltr");
        execution_fail(execution, &error);
        return;
    }
    struct packing *packing = xcalloc(1, sizeof *packing);
    packing->answer = -1;
    packing->off = off;
    packing->path = xstrdup(path);
    execution->state = packing;
    execution->free_state = free_packing;
    json_t *arguments = off ? json_pack("{s:b}", "off", 1)
                            : json_pack("{s:s, s:o}", "path", path, "settings",
                                        workbench_engine_settings(execution->workbench));
    if (raw && !off)
        json_object_set_new(arguments, "raw", json_sprintf("%s.cupti", path));
    execution_request(execution, "record", arguments, recorded);
}

static void complete_record(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    completion_add(completion, "--raw");
    if (argc == 1) {
        completion_add(completion, "off");
        completion_add_files(completion);
    }
}

const struct command command_record = {
    .name = "record",
    .usage = "record FILE|off [--raw]",
    .summary = "record everything measured into a file, until `record off`",
    .help =
        "While it runs, FILE.part is written; it plays even if it is cut. `record off`, or the "
        "end\n"
        "of the program, turns it into FILE: HDF5 with the settings, the model, every window's\n"
        "layers, every step, memory and commands as tables (h5dump, pandas), and all that "
        "`replay`\n"
        "needs. --raw also keeps CUPTI's own buffers in\n"
        "FILE.cupti, where the worker is.",
    .json = "path frames bytes",
    .see = WORDS("replay", "compare", "export"),
    .examples = WORDS("record session.ltr", "record off"),
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_record,
    .complete = complete_record,
};
