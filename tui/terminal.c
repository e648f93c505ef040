#define _GNU_SOURCE /* pipe2 */
#include "tui/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <ncurses.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

struct terminal {
    int fd;
    FILE *input, *output;
    SCREEN *screen;
    int noise, saved[2]; /* read end of the pipe; descriptors 1 and 2 as they were */
    bool utf8, sync, mouse, asked_sync;
    struct canvas *shown; /* what the terminal shows */
    bool valid;           /* is that so? */
    int rows, cols;
    char theme[16];
    bool color;
    attr_t attributes[STYLE_COUNT];
    short pairs[STYLE_COUNT];
};

/* Everything that may be on, off: alternate screen, mouse, paste brackets, synchronized output,
 * hidden cursor, colours. Sent as it stands from the crash handler. */
static const char reset_sequence[] =
    "\033[?2026l\033[?2004l\033[?1006l\033[?1000l\033[0m\033[?1049l\033[?25h\r";

/* What the crash handler may touch. A signal handler has no other way to get at it. */
static struct {
    volatile sig_atomic_t active;
    int fd, saved_stderr;
    struct termios shell;
    struct sigaction before[NSIG];
} crash;

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

static void write_all(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t done = write(fd, bytes, count);
        if (done < 0 && errno == EAGAIN) {
            struct pollfd out = {fd, POLLOUT, 0};
            if (poll(&out, 1, 1000) <= 0)
                return;
            continue;
        }
        if (done <= 0)
            return;
        bytes += done;
        count -= (size_t)done;
    }
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    static const char words[] = "layertop: crashed, the terminal was put back; please report with "
                                "the output of layertop --version: signal ";
    if (crash.active) {
        crash.active = 0;
        write_all(crash.fd, reset_sequence, sizeof reset_sequence - 1);
        tcsetattr(crash.fd, TCSANOW, &crash.shell);
        dup2(crash.saved_stderr, 2); /* a sanitizer's report must not end in our pipe */
        write_all(2, words, sizeof words - 1);
        char digits[4] = {(char)('0' + number / 10), (char)('0' + number % 10), '\n', '\0'};
        write_all(2, digits, 3);
    }
    /* whoever was here before us comes next: the fault happens again, or abort() goes on */
    sigaction(number, &crash.before[number], NULL);
    if (info->si_code <= 0)
        raise(number);
}

static void crash_guard(struct terminal *terminal, bool on)
{
    for (size_t i = 0; i < sizeof crash_signals / sizeof crash_signals[0]; i++) {
        int number = crash_signals[i];
        if (on) {
            struct sigaction action = {.sa_sigaction = on_crash,
                                       .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
            sigemptyset(&action.sa_mask);
            sigaction(number, &action, &crash.before[number]);
        } else {
            sigaction(number, &crash.before[number], NULL);
        }
    }
    crash.fd = terminal->fd;
    crash.saved_stderr = terminal->saved[1];
    crash.active = on;
}

/* Point 1 and 2 at a pipe. Its write end does not block: noise that nobody has read yet is lost
 * rather than that one thread waits for itself. */
static bool catch_noise(struct terminal *terminal, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_set(error, ERROR_COMMAND, "screen", "pipe: %s", strerror(errno));
    fflush(stdout);
    fflush(stderr);
    terminal->saved[0] = fcntl(1, F_DUPFD_CLOEXEC, 3);
    terminal->saved[1] = fcntl(2, F_DUPFD_CLOEXEC, 3);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[1]);
    terminal->noise = ends[0];
    return true;
}

static void release_noise(struct terminal *terminal)
{
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        if (terminal->saved[i] >= 0) {
            dup2(terminal->saved[i], i + 1);
            close(terminal->saved[i]);
        } else {
            close(i + 1);
        }
    }
    close(terminal->noise);
}

/* Terminals that print what they do not know instead of ignoring it are not asked. */
static bool may_ask(void)
{
    const char *name = getenv("TERM");
    return name != NULL && strncmp(name, "linux", 5) != 0 && strncmp(name, "vt", 2) != 0;
}

static void send_modes(struct terminal *terminal, bool on)
{
    const char *paste = on ? "\033[?2004h" : "\033[?2004l";
    write_all(terminal->fd, paste, strlen(paste));
    if (terminal->mouse) {
        const char *mouse = on ? "\033[?1000h\033[?1006h" : "\033[?1006l\033[?1000l";
        write_all(terminal->fd, mouse, strlen(mouse));
    }
    if (on && !terminal->asked_sync && may_ask()) {
        terminal->asked_sync = true;
        write_all(terminal->fd, "\033[?2026$p", 9);
    }
}

bool terminal_possible(void)
{
    const char *name = getenv("TERM");
    int status;
    if (name == NULL || name[0] == '\0' || strcmp(name, "dumb") == 0)
        return false;
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return false;
    bool possible = setupterm(name, fd, &status) == OK;
    if (possible) {
        const char *move_cursor = tigetstr("cup");
        possible = move_cursor != NULL && move_cursor != (char *)-1;
        del_curterm(cur_term);
    }
    close(fd);
    return possible;
}

struct terminal *terminal_open(struct error *error)
{
    const char *name = getenv("TERM");
    /* two openings: keys are read without waiting, ncurses writes a frame in one piece and waits */
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int out = fd < 0 ? -1 : open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (out < 0) {
        error_set(error, ERROR_UNSUPPORTED, "screen", "no terminal: /dev/tty: %s", strerror(errno));
        error_hint(error, "layertop --plain");
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct terminal *terminal = xcalloc(1, sizeof *terminal);
    terminal->fd = fd;
    terminal->shown = canvas_new();
    terminal->color = true;
    setlocale(LC_CTYPE, "");
    terminal->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    unsetenv("LINES");
    unsetenv("COLUMNS");
    tcgetattr(fd, &crash.shell);
    terminal->input = fdopen(fcntl(out, F_DUPFD_CLOEXEC, 3), "r");
    terminal->output = fdopen(out, "w");
    terminal->screen = newterm(NULL, terminal->output, terminal->input);
    if (terminal->screen == NULL || tigetstr("cup") == NULL || tigetstr("cup") == (char *)-1) {
        error_set(error, ERROR_UNSUPPORTED, "screen",
                  "a terminal of the kind '%s' cannot move "
                  "its cursor",
                  name != NULL ? name : "unknown");
        error_hint(error, "layertop --plain");
        if (terminal->screen != NULL) {
            endwin();
            delscreen(terminal->screen);
        }
        fclose(terminal->input);
        fclose(terminal->output);
        close(fd);
        canvas_free(terminal->shown);
        free(terminal);
        return NULL;
    }
    if (!catch_noise(terminal, error)) {
        terminal->saved[0] = terminal->saved[1] = -1;
        endwin();
        close(fd);
        free(terminal);
        return NULL;
    }
    /* until the first endwin() ncurses flushes at every move of the cursor: 416 writes a frame */
    endwin();
    refresh();
    raw();
    noecho();
    nonl();
    idlok(stdscr, FALSE);
    typeahead(-1); /* else it looks at our keys and gives up a frame when there are some */
    if (has_colors()) {
        start_color();
        use_default_colors();
    }
    crash_guard(terminal, true);
    send_modes(terminal, true);
    terminal_set_theme(terminal, "default", true);
    terminal_size(terminal, &terminal->rows, &terminal->cols);
    return terminal;
}

static void leave_screen(struct terminal *terminal)
{
    const char *normal = tigetstr("cnorm");
    curs_set(1);
    endwin();
    /* again: some terminals bring a hidden cursor back with the screen of before */
    if (normal != NULL && normal != (char *)-1)
        write_all(terminal->fd, normal, strlen(normal));
    tcsetattr(terminal->fd, TCSANOW, &crash.shell);
}

void terminal_close(struct terminal *terminal, bool gone)
{
    crash_guard(terminal, false);
    if (!gone) {
        send_modes(terminal, false);
        leave_screen(terminal);
    }
    /* delscreen() would write to a terminal that went away */
    if (!gone)
        delscreen(terminal->screen);
    fclose(terminal->input);
    fclose(terminal->output);
    release_noise(terminal);
    close(terminal->fd);
    canvas_free(terminal->shown);
    free(terminal);
}

int terminal_fd(const struct terminal *terminal)
{
    return terminal->fd;
}

int terminal_noise_fd(const struct terminal *terminal)
{
    return terminal->noise;
}

enum symbols terminal_symbols(const struct terminal *terminal)
{
    const char *name = getenv("TERM");
    if (!terminal->utf8)
        return SYMBOLS_ASCII;
    /* the console's font has neither braille nor quadrants */
    return name != NULL && strcmp(name, "linux") == 0 ? SYMBOLS_ASCII : SYMBOLS_BRAILLE;
}

void terminal_size(struct terminal *terminal, int *rows, int *cols)
{
    struct winsize size = {0};
    if (ioctl(terminal->fd, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    *rows = size.ws_row;
    *cols = size.ws_col;
    if (terminal->rows != *rows || terminal->cols != *cols) {
        terminal->rows = *rows;
        terminal->cols = *cols;
        resizeterm(*rows, *cols);
        terminal_redraw(terminal);
    }
}

void terminal_set_theme(struct terminal *terminal, const char *theme, bool color)
{
    const char *no_color = getenv("NO_COLOR");
    color = color && (no_color == NULL || no_color[0] == '\0');
    if (terminal->theme[0] != '\0' && strcmp(theme, terminal->theme) == 0 &&
        color == terminal->color)
        return;
    snprintf(terminal->theme, sizeof terminal->theme, "%s", theme);
    terminal->color = color;
    int colors = color && has_colors() ? COLORS : 0;
    for (int i = 0; i < STYLE_COUNT; i++) {
        struct look look = theme_look(theme, (enum style)i, colors);
        terminal->attributes[i] = (look.flags & LOOK_BOLD ? A_BOLD : 0) |
                                  (look.flags & LOOK_DIM ? A_DIM : 0) |
                                  (look.flags & LOOK_REVERSE ? A_REVERSE : 0) |
                                  (look.flags & LOOK_UNDERLINE ? A_UNDERLINE : 0);
        terminal->pairs[i] = 0;
        if (look.color >= 0 && i + 1 < COLOR_PAIRS &&
            init_extended_pair(i + 1, look.color, -1) == OK)
            terminal->pairs[i] = (short)(i + 1);
    }
    terminal_redraw(terminal);
}

void terminal_set_mouse(struct terminal *terminal, bool on)
{
    if (terminal->mouse == on)
        return;
    const char *mode = on ? "\033[?1000h\033[?1006h" : "\033[?1006l\033[?1000l";
    write_all(terminal->fd, mode, strlen(mode));
    terminal->mouse = on;
}

void terminal_set_sync(struct terminal *terminal, bool known)
{
    terminal->sync = known;
}

void terminal_redraw(struct terminal *terminal)
{
    terminal->valid = false;
}

/* Put one cell into ncurses's picture. */
static void put_cell(const struct terminal *terminal, int y, int x, const struct canvas_cell *cell)
{
    wchar_t text[3] = {(wchar_t)cell->point, (wchar_t)cell->mark, L'\0'};
    if (!terminal->utf8 && cell->point > 0x7e)
        text[0] = L'?', text[1] = L'\0';
    attr_t attributes = terminal->attributes[cell->style] |
                        (cell->flags & CELL_REVERSE ? A_REVERSE : 0) |
                        (cell->flags & CELL_BOLD ? A_BOLD : 0);
    cchar_t out;
    /* a chosen row is of one colour, or it would be a patchwork */
    short pair = cell->flags & CELL_REVERSE ? 0 : terminal->pairs[cell->style];
    if (setcchar(&out, text, attributes, pair, NULL) == OK)
        mvadd_wch(y, x, &out);
}

bool terminal_show(struct terminal *terminal, const struct canvas *canvas, int y, int x)
{
    struct pollfd out = {terminal->fd, POLLOUT, 0};
    if (poll(&out, 1, 0) <= 0)
        return false; /* stopped by Ctrl-S, or a slow line: never wait for it */
    struct canvas *shown = terminal->shown;
    bool whole = !terminal->valid || shown->rows != canvas->rows || shown->cols != canvas->cols;
    if (whole) {
        erase();
        clearok(curscr, TRUE);
        canvas_reset(shown, canvas->rows, canvas->cols, canvas->symbols);
    }
    for (int row = 0; row < canvas->rows; row++) {
        size_t offset = (size_t)row * (size_t)canvas->cols;
        for (int col = 0; col < canvas->cols; col++) {
            const struct canvas_cell *now = &canvas->cells[offset + (size_t)col];
            struct canvas_cell *before = &shown->cells[offset + (size_t)col];
            if (now->point == before->point && now->mark == before->mark &&
                now->style == before->style && now->flags == before->flags)
                continue;
            if (now->point != 0)
                put_cell(terminal, row, col, now);
            *before = *now;
        }
    }
    terminal->valid = true;
    curs_set(y >= 0);
    if (y >= 0)
        move(y, x);
    if (terminal->sync)
        write_all(terminal->fd, "\033[?2026h", 8);
    refresh();
    if (terminal->sync)
        write_all(terminal->fd, "\033[?2026l", 8);
    return true;
}

void terminal_suspend(struct terminal *terminal)
{
    crash.active = 0;
    send_modes(terminal, false);
    leave_screen(terminal);
}

void terminal_resume(struct terminal *terminal)
{
    refresh(); /* puts the modes of before endwin() back */
    raw();
    noecho();
    nonl();
    send_modes(terminal, true);
    crash.active = 1;
    terminal_redraw(terminal);
}

void terminal_bell(struct terminal *terminal)
{
    write_all(terminal->fd, "\a", 1);
}
