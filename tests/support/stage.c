#define _GNU_SOURCE /* ptsname_r, memmem */
#include "support/stage.h"

#include "engine/error.h"
#include "profiler/replay.h"
#include "support/actor.h"
#include "support/baton.h"
#include "support/stage_keys.h"
#include "support/stage_terminal.h"
#include "tui/tui.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS       INT64_C(1000000)
#define START_NS (INT64_C(1000) * 1000 * MS)

struct stage {
    const char *script;
    char **lines;
    size_t line_count, next;
    char *keys; /* of the present line that are not yet pressed, or NULL */
    struct stage_terminal *terminal;
    struct workbench *workbench;
    struct baton baton;
    bool passed; /* the worker knows the time and has done its part */
    int64_t now_ns, target_ns;
    FILE *out;
};

/* ---- the script ---- */

/* The script is wrong, or the screen is: end this process with a line that says so. */
static void fail(const struct stage *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
static void fail(const struct stage *stage, const char *format, ...)
{
    va_list arguments;
    fprintf(stage->out, "\n%s:%zu: ", stage->script, stage->next);
    va_start(arguments, format);
    vfprintf(stage->out, format, arguments);
    va_end(arguments);
    fprintf(stage->out, "\n");
    if (stage->terminal != NULL)
        stage_terminal_text(stage->terminal, stage->out, false);
    fclose(stage->out);
    _exit(1);
}

static void read_script(struct stage *stage)
{
    FILE *file = fopen(stage->script, "re");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    if (file == NULL)
        fail(stage, "%s", strerror(errno));
    while ((length = getline(&line, &capacity, file)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        stage->lines = xrealloc(stage->lines, (stage->line_count + 1) * sizeof *stage->lines);
        stage->lines[stage->line_count++] = xstrdup(line);
    }
    free(line);
    fclose(file);
}

/* The next line with something on it: its verb, and in *rest what follows. NULL at the end. */
static char *next_line(struct stage *stage, char **rest)
{
    while (stage->next < stage->line_count) {
        char *line = stage->lines[stage->next++];
        line += strspn(line, " ");
        if (line[0] == '\0' || line[0] == '#')
            continue;
        *rest = line + strcspn(line, " ");
        if (**rest != '\0')
            *(*rest)++ = '\0';
        return line;
    }
    return NULL;
}

static void parse_size(const struct stage *stage, const char *text, int *rows, int *cols)
{
    if (sscanf(text, "%dx%d", cols, rows) != 2)
        fail(stage, "'%s' is no size", text);
}

/* ---- the actions ---- */

static void type(struct stage *stage, const char *bytes, size_t count)
{
    if (!stage_terminal_type(stage->terminal, bytes, count))
        fail(stage, "what was typed does not arrive");
}

static void type_text(struct stage *stage, const char *before, const char *text, const char *after)
{
    char *bytes = xasprintf("%s%s%s", before, text, after);
    type(stage, bytes, stage_unescape(bytes));
    free(bytes);
}

/* The next of the keys of a line. */
static void type_key(struct stage *stage)
{
    const char *name = strsep(&stage->keys, " ");
    const char *bytes = name[0] != '\0' ? stage_key(name) : "";
    if (bytes == NULL)
        fail(stage, "'%s' is no key", name);
    type(stage, bytes, strlen(bytes));
    if (strcmp(name, "Esc") == 0) /* nobody's next key comes as fast as the rest of a sequence */
        stage->target_ns = stage->now_ns + 25 * MS;
}

static void mouse(struct stage *stage, const char *verb, const char *rest)
{
    int button = 0, col, row;
    char bytes[64];
    if (strcmp(verb, "wheel") == 0) {
        button = strncmp(rest, "up", 2) == 0 ? 64 : 65;
        rest += strcspn(rest, " ");
    }
    if (sscanf(rest, "%d %d", &col, &row) != 2)
        fail(stage, "%s needs a column and a row", verb);
    int length = snprintf(bytes, sizeof bytes, "\033[<%d;%d;%dM", button, col + 1, row + 1);
    type(stage, bytes, (size_t)length);
}

static void kill_worker(struct stage *stage)
{
    siginfo_t info;
    if (stage->baton.worker <= 0 || kill(stage->baton.worker, SIGKILL) != 0)
        fail(stage, "there is no worker");
    waitid(P_PID, (id_t)stage->baton.worker, &info, WEXITED | WNOWAIT);
}

static void snapshot(struct stage *stage, const char *title, bool looks)
{
    int rows, cols;
    stage_terminal_size(stage->terminal, &rows, &cols);
    fprintf(stage->out, "=== %s%s%dx%d, ", title, title[0] != '\0' ? ", " : "", cols, rows);
    stage_terminal_text(stage->terminal, stage->out, looks);
}

static void perform(struct stage *stage, const char *verb, char *rest)
{
    int rows, cols;
    if (strcmp(verb, "tick") == 0) {
        stage->target_ns = stage->now_ns + strtoll(rest, NULL, 10) * MS;
    } else if (strcmp(verb, "key") == 0) {
        stage->keys = rest;
    } else if (strcmp(verb, "type") == 0) {
        type_text(stage, "", rest, "");
    } else if (strcmp(verb, "line") == 0) {
        type_text(stage, "", rest, "\r");
    } else if (strcmp(verb, "paste") == 0) {
        type_text(stage, "\033[200~", rest, "\033[201~");
    } else if (strcmp(verb, "press") == 0 || strcmp(verb, "wheel") == 0) {
        mouse(stage, verb, rest);
    } else if (strcmp(verb, "size") == 0) {
        parse_size(stage, rest, &rows, &cols);
        stage_terminal_resize(stage->terminal, rows, cols);
    } else if (strcmp(verb, "kill") == 0) {
        kill_worker(stage);
    } else if (strcmp(verb, "print") == 0) {
        dprintf(STDOUT_FILENO, "%s\n", rest);
    } else if (strcmp(verb, "expect") == 0) {
        if (!stage_terminal_holds(stage->terminal, rest))
            fail(stage, "'%s' is not on the screen:", rest);
    } else if (strcmp(verb, "absent") == 0) {
        if (stage_terminal_holds(stage->terminal, rest))
            fail(stage, "'%s' is on the screen:", rest);
    } else if (strcmp(verb, "snapshot") == 0 || strcmp(verb, "looks") == 0) {
        snapshot(stage, rest, verb[0] == 'l');
    } else {
        fail(stage, "'%s' is no action", verb);
    }
}

/* ---- the clock of the screen ---- */

static int64_t stage_now_ns(void *context)
{
    return ((const struct stage *)context)->now_ns;
}

/* The screen has nothing to do before `until_ns`: time passes if the script wants it to, or else the
 * next action comes. */
static void go_on(struct stage *stage, int64_t until_ns)
{
    char *rest, *verb;
    int64_t worker_until_ns = stage->baton.worker_until_ns;
    if (stage->now_ns < stage->target_ns) {
        int64_t next_ns = stage->target_ns;
        next_ns = until_ns < next_ns ? until_ns : next_ns;
        stage->now_ns = worker_until_ns < next_ns ? worker_until_ns : next_ns;
    } else if (stage->keys != NULL) {
        type_key(stage);
    } else if ((verb = next_line(stage, &rest)) != NULL) {
        perform(stage, verb, rest);
    } else {
        raise(SIGTERM); /* the end of the script is the end of the screen */
    }
}

static int stage_wait(void *context, struct pollfd *fds, size_t count, int64_t until_ns)
{
    struct stage *stage = context;
    stage_terminal_catch_up(stage->terminal);
    for (;;) {
        if (workbench_fd(stage->workbench) < 0)
            stage->baton.worker_until_ns = CLOCK_NEVER;
        else if (!stage->passed)
            stage->passed = baton_pass(&stage->baton, stage->now_ns, fds, count);
        int ready = poll(fds, (nfds_t)count, 0);
        if (ready != 0 || until_ns <= stage->now_ns) {
            stage->passed = false; /* the screen may ask the worker for something */
            return ready;
        }
        stage->passed = false;
        go_on(stage, until_ns);
    }
}

/* ---- the play ---- */

/* The head of the script: what has to be known before the screen starts. */
static void prepare(struct stage *stage, const char *home, char **commands, size_t *command_count,
                    int *rows, int *cols)
{
    char *history = xasprintf("%s/layertop", home), *rest, *verb;
    mkdir(history, 0700);
    free(history);
    history = xasprintf("%s/layertop/history", home);
    while ((verb = next_line(stage, &rest)) != NULL) {
        if (strcmp(verb, "size") == 0) {
            parse_size(stage, rest, rows, cols);
        } else if (strcmp(verb, "env") == 0) {
            putenv(rest);
        } else if (strcmp(verb, "command") == 0 && *command_count < 8) {
            commands[(*command_count)++] = rest;
        } else if (strcmp(verb, "history") == 0) {
            FILE *file = fopen(history, "ae");
            fprintf(file, "%s\n", rest);
            fclose(file);
        } else {
            if (rest > verb + strlen(verb))
                rest[-1] = ' '; /* the first action: comes again, whole */
            stage->next--;
            break;
        }
    }
    free(history);
}

static void play(const char *script, const char *output, const char *home)
{
    struct stage stage = {.script = script, .now_ns = START_NS};
    struct clock clock = {.context = &stage, .now_ns = stage_now_ns, .wait = stage_wait};
    struct error error = {0};
    char *commands[8], *path = xasprintf("%s/baton", home);
    size_t command_count = 0;
    int rows = 24, cols = 80;
    stage.out = fopen(output, "we");
    if (stage.out == NULL)
        _exit(2);
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("XDG_STATE_HOME", home, 1);
    setenv("XDG_CONFIG_HOME", home, 1);
    unsetenv("NO_COLOR");
    read_script(&stage);
    char *data = realpath("tests/data", NULL);
    if (data == NULL || chdir(home) != 0 || symlink(data, "data") != 0)
        fail(&stage, "no home: %s", strerror(errno));
    free(data);
    prepare(&stage, home, commands, &command_count, &rows, &cols);
    stage.terminal = stage_terminal_new(rows, cols);
    if (stage.terminal == NULL || !baton_open(&stage.baton, path))
        fail(&stage, "no terminal or no socket: %s", strerror(errno));
    stage.workbench = workbench_new(&(struct workbench_options){.program = "/proc/self/exe",
                                                                .interactive = true,
                                                                .clock = &clock},
                                    &error);
    int code =
        tui_run(stage.workbench, &(struct tui_options){.commands = (const char *const *)commands,
                                                       .command_count = command_count});
    if (code != 128 + SIGTERM && code != 0)
        fail(&stage, "ended with code %d", code);
    if (!stage_terminal_restored(stage.terminal))
        fail(&stage, "the terminal was not put back");
    workbench_free(stage.workbench);
    fclose(stage.out);
    _exit(0);
}

char *stage_perform(const char *script, const char *output, const char *home)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        play(script, output, home);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 1)
        return xasprintf("%s says at its end why", output);
    return xasprintf("the screen ended with status %d", pid > 0 ? status : -1);
}

void stage_worker(int argc, char *const argv[])
{
    const char *recording = NULL;
    double speed = 1;
    if (argc < 2 || strcmp(argv[1], "--worker") != 0)
        return;
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--replay") == 0)
            recording = argv[i + 1];
        else if (strcmp(argv[i], "--replay-speed") == 0)
            speed = strtod(argv[i + 1], NULL);
    }
    const struct clock *clock = baton_follow();
    int input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    int output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    _exit(recording != NULL ? replay_main(input, output, recording, speed, clock)
                            : actor_main(input, output, clock));
}
