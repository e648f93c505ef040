#define _GNU_SOURCE /* signalfd */
#include "commands/command.h"
#include "commands/history.h"
#include "tui/input.h"
#include "tui/lineedit.h"
#include "tui/prompt.h"
#include "tui/tui.h"
#include "tui/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* Three kinds of input: a terminal whose cursor we may move (line editor), a dumb one (it edits the
 * line itself, we only prompt), and anything else (lines without a prompt). */
enum input_kind { INPUT_EDITOR, INPUT_DUMB, INPUT_PIPE };

struct plain {
    struct workbench *workbench;
    struct history *history;
    struct sink *text; /* what prints */
    struct sink sink;  /* hides the line being edited first */
    enum input_kind kind;
    struct termios shell;
    struct input_decoder decoder;
    struct lineedit *editor;
    char *line; /* of INPUT_DUMB and INPUT_PIPE: read, not yet submitted */
    size_t line_bytes;
    bool prompted; /* the prompt is on the screen */
    bool ended;    /* no more input */
    bool wanted;   /* the line must be drawn again */
    int end_signal;
};

static void put(const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t done = write(1, bytes, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        bytes += done;
        count -= (size_t)done;
    }
}

static void hide_prompt(struct plain *plain)
{
    if (!plain->prompted)
        return;
    if (plain->kind == INPUT_EDITOR)
        put("\r\033[K", 4);
    else
        put("\n", 1);
    plain->prompted = false;
}

/* Draw prompt and line on one row, by way of a canvas of one row. */
static void show_prompt(struct plain *plain)
{
    char prompt[160];
    workbench_prompt(plain->workbench, NULL, prompt, sizeof prompt);
    plain->wanted = false;
    plain->prompted = true;
    if (plain->kind == INPUT_DUMB) {
        put(prompt, strlen(prompt));
        return;
    }
    struct winsize size = {0};
    if (ioctl(1, TIOCGWINSZ, &size) < 0 || size.ws_col < 4)
        size.ws_col = 80;
    struct canvas *canvas = canvas_new();
    struct rect row = {0, 0, 1, size.ws_col - 1};
    canvas_reset(canvas, 2, row.cols, SYMBOLS_BRAILLE);
    int cursor = prompt_draw(canvas, row, prompt, plain->editor, false);
    if (prompt_list_draw(canvas, (struct rect){1, 0, 1, row.cols}, plain->editor)) {
        /* the candidates as a line of their own above the prompt, each time they change */
        char *text = canvas_to_text(canvas), *list = strchr(text, '\n') + 1;
        char *whole = xasprintf("\r\033[K%s\r", list);
        put(whole, strlen(whole));
        free(whole);
        free(text);
    }
    canvas_reset(canvas, 1, row.cols, SYMBOLS_BRAILLE);
    cursor = prompt_draw(canvas, row, prompt, plain->editor, false);
    char *text = canvas_to_text(canvas);
    text[strcspn(text, "\n")] = '\0';
    char *whole = cursor > 0 ? xasprintf("\r\033[K%s\r\033[%dC", text, cursor)
                             : xasprintf("\r\033[K%s\r", text);
    put(whole, strlen(whole));
    free(whole);
    free(text);
    canvas_free(canvas);
}

static void sink_line(void *context, enum sink_style style, const char *text)
{
    struct plain *plain = context;
    hide_prompt(plain);
    if (style != SINK_ECHO) /* what was typed stands there already */
        plain->text->line(plain->text->context, style, text);
}

static void sink_result(void *context, const char *command, const json_t *data,
                        const json_t *warnings, const struct error *error)
{
    struct plain *plain = context;
    hide_prompt(plain);
    if (plain->text->result != NULL)
        plain->text->result(plain->text->context, command, data, warnings, error);
}

static void sink_progress(void *context, double fraction, const char *text)
{
    struct plain *plain = context;
    if (plain->text->progress != NULL) {
        hide_prompt(plain);
        plain->text->progress(plain->text->context, fraction, text);
    }
}

static void submit(struct plain *plain, const char *line)
{
    if (line[strspn(line, " \t")] == '\0')
        return;
    struct error error;
    char text[sizeof error.what + sizeof error.why + 16];
    if (!history_add(plain->history, line, &error)) {
        snprintf(text, sizeof text, "note: %s: %s", error.what, error.why);
        sink_line(plain, SINK_WARNING, text);
    }
    lineedit_history_add(plain->editor, line);
    command_submit(plain->workbench, line);
}

static void on_key(void *context, const struct input *key)
{
    struct plain *plain = context;
    plain->wanted = true;
    switch (lineedit_key(plain->editor, key)) {
    case LINEEDIT_ACCEPT: {
        show_prompt(plain);
        put("\r\n", 2);
        plain->prompted = false;
        char *text = lineedit_take(plain->editor), *rest = text, *line;
        while ((line = strsep(&rest, "\n")) != NULL)
            submit(plain, line);
        free(text);
        break;
    }
    case LINEEDIT_END:
        plain->ended = true;
        break;
    case LINEEDIT_COMPLETE:
        if (!prompt_complete(plain->editor, plain->workbench))
            put("\a", 1);
        break;
    case LINEEDIT_BELL:
        put("\a", 1);
        break;
    case LINEEDIT_IGNORED:
    case LINEEDIT_CHANGED:
        break;
    }
}

/* Take the next whole line out of what was read; the last one may lack its newline. */
static bool next_line(struct plain *plain)
{
    char *end = memchr(plain->line, '\n', plain->line_bytes);
    if (end == NULL && !(plain->ended && plain->line_bytes > 0))
        return false;
    size_t length = end != NULL ? (size_t)(end - plain->line) : plain->line_bytes;
    char *line = xmalloc(length + 1);
    memcpy(line, plain->line, length);
    line[length] = '\0';
    size_t used = length + (end != NULL);
    plain->line_bytes -= used;
    memmove(plain->line, plain->line + used, plain->line_bytes);
    plain->prompted = false; /* the terminal has echoed the newline */
    plain->wanted = true;
    submit(plain, line);
    free(line);
    return true;
}

static void read_input(struct plain *plain)
{
    char bytes[4096];
    ssize_t count = read(0, bytes, sizeof bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count <= 0) {
        plain->ended = true;
    } else if (plain->kind == INPUT_EDITOR) {
        input_feed(&plain->decoder, bytes, (size_t)count, on_key, plain);
    } else {
        plain->line = xrealloc(plain->line, plain->line_bytes + (size_t)count);
        memcpy(plain->line + plain->line_bytes, bytes, (size_t)count);
        plain->line_bytes += (size_t)count;
    }
}

static void raw_mode(struct plain *plain, bool on)
{
    if (plain->kind != INPUT_EDITOR)
        return;
    struct termios raw = plain->shell;
    if (on) { /* signals stay: Ctrl-C and Ctrl-Z must work while a command runs */
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
        raw.c_lflag |= NOFLSH; /* else Ctrl-C may throw our answer to it away */
        raw.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
    }
    tcsetattr(0, TCSADRAIN, &raw);
    put(on ? "\033[?2004h" : "\033[?2004l", 8);
}

static void on_signals(struct plain *plain, int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        plain->wanted = true;
        if (info.ssi_signo == SIGCONT) {
            raw_mode(plain, true);
        } else if (info.ssi_signo == SIGINT) {
            if (!command_cancel(plain->workbench)) {
                free(lineedit_take(plain->editor));
                hide_prompt(plain);
                if (plain->kind == INPUT_PIPE)
                    plain->end_signal = SIGINT;
            }
        } else if (info.ssi_signo != SIGWINCH) {
            plain->end_signal = (int)info.ssi_signo;
        }
    }
}

static void loop(struct plain *plain, int signals)
{
    while (plain->end_signal == 0 && !workbench_quitting(plain->workbench)) {
        bool busy = command_busy(plain->workbench);
        if (!busy && plain->kind != INPUT_EDITOR && next_line(plain))
            busy = true;
        if (!busy && plain->ended)
            return;
        if (!busy && plain->kind != INPUT_PIPE && (!plain->prompted || plain->wanted))
            show_prompt(plain);
        short worker = POLLIN;
        if (workbench_wants_write(plain->workbench))
            worker |= POLLOUT;
        struct pollfd fds[] = {
            /* one line at a time: what comes meanwhile waits in its pipe or terminal */
            {busy || plain->ended ? -1 : 0, POLLIN, 0},
            {signals, POLLIN, 0},
            {workbench_fd(plain->workbench), worker, 0},
        };
        int timeout = workbench_timeout_ms(plain->workbench);
        bool pending = input_pending(&plain->decoder);
        if (pending && (timeout < 0 || timeout > 25))
            timeout = 25;
        int ready = poll(fds, 3, timeout);
        if (ready < 0 && errno != EINTR)
            return;
        if (ready > 0 && fds[1].revents != 0)
            on_signals(plain, signals);
        if (ready > 0 && fds[0].revents != 0)
            read_input(plain);
        else if (pending && ready == 0)
            input_flush(&plain->decoder, on_key, plain);
        workbench_dispatch(plain->workbench);
    }
}

int plain_run(struct workbench *workbench, const struct tui_options *options)
{
    const char *name = getenv("TERM");
    bool dumb = name == NULL || name[0] == '\0' || strcmp(name, "dumb") == 0;
    struct plain plain = {
        .workbench = workbench,
        .history = workbench_history(workbench),
        .text = sink_text_new(),
        .kind = !isatty(0)           ? INPUT_PIPE
                : dumb || !isatty(1) ? INPUT_DUMB
                                     : INPUT_EDITOR,
        .editor = lineedit_new(),
        .line = xmalloc(1),
    };
    plain.sink = (struct sink){
        .context = &plain, .line = sink_line, .result = sink_result, .progress = sink_progress};
    workbench_set_sink(workbench, &plain.sink);
    for (size_t i = 0; i < history_count(plain.history); i++)
        lineedit_history_add(plain.editor, history_at(plain.history, i));
    if (plain.kind == INPUT_EDITOR)
        tcgetattr(0, &plain.shell);
    raw_mode(&plain, true);

    sigset_t mask, before;
    sigemptyset(&mask);
    static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++)
        sigaddset(&mask, handled[i]);
    sigprocmask(SIG_BLOCK, &mask, &before);
    int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    for (size_t i = 0; i < options->command_count; i++)
        command_submit(workbench, options->commands[i]);
    if (options->then)
        command_submit_if_well(workbench, options->then);
    loop(&plain, signals);

    hide_prompt(&plain);
    raw_mode(&plain, false);
    workbench_set_sink(workbench, NULL);
    close(signals);
    struct timespec none = {0, 0};
    while (sigtimedwait(&mask, NULL, &none) > 0)
        ;
    sigprocmask(SIG_SETMASK, &before, NULL);
    sink_free(plain.text);
    lineedit_free(plain.editor);
    free(plain.line);
    return plain.end_signal != 0 ? 128 + plain.end_signal : workbench_exit_code(workbench);
}
