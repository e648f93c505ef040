#include "commands/complete.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE_DEPTH 16
#define SOURCE_LINES 100000

/* A pipe that nobody writes into would hold the screen for ever: regular files only. */
static FILE *open_script(const char *path, struct error *error)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = NULL;
    if (descriptor >= 0 && fstat(descriptor, &status) == 0 && !S_ISREG(status.st_mode)) {
        error_set(error, ERROR_FILE, path, "cannot be read: it is %s",
                  S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
        if (!S_ISDIR(status.st_mode))
            error_hint(error, "layertop -f %s", path);
    } else if (descriptor < 0 || (file = fdopen(descriptor, "r")) == NULL) {
        error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    }
    if (!file && descriptor >= 0)
        close(descriptor);
    return file;
}

static void run_source(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    (void)argc;
    if (workbench->current_depth >= SOURCE_DEPTH) {
        error_set(&error, ERROR_COMMAND, argv[1], "sourced by itself, or %d files deep",
                  SOURCE_DEPTH);
        execution_fail(execution, &error);
        return;
    }
    FILE *file = open_script(argv[1], &error);
    if (!file) {
        execution_fail(execution, &error);
        return;
    }
    char *line = NULL;
    size_t capacity = 0, position = 0, lines = 0;
    errno = 0;
    while (lines < SOURCE_LINES && getline(&line, &capacity, file) >= 0) {
        lines++;
        dispatch_insert(workbench, line, execution->sink, workbench->current_depth + 1, &position);
    }
    bool bad = ferror(file) != 0;
    int cause = errno;
    free(line);
    fclose(file);
    json_object_set_new(execution->data, "path", json_string(argv[1]));
    json_object_set_new(execution->data, "commands", json_integer((json_int_t)position));
    if (bad)
        error_set(&error, ERROR_FILE, argv[1], "cannot be read: %s", strerror(cause));
    if (bad)
        execution_fail(execution, &error);
    else
        execution_done(execution);
}

static void complete_source(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add_files(completion);
}

const struct command command_source = {
    .name = "source",
    .usage = "source FILE",
    .summary = "run the commands of a file",
    .help =
        "One or more commands a line; '#' begins a comment. They run before what is queued behind\n"
        "this command, and a failing one stops a script as if it stood in it.",
    .json = "path commands",
    .see = WORDS("echo", "config"),
    .examples = WORDS("source session.lt"),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_source,
    .complete = complete_source,
};
