#define _GNU_SOURCE /* pipe2 */
#include "tui/terminal.h"
#include "tui/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
/* last: its macros have common names */
#include <curses.h>
#include <term.h>

struct terminal {
    int fd, out;         /* keys without waiting; output that waits */
    int noise, saved[2]; /* read end of the pipe; descriptors 1 and 2 as they were */
    bool utf8, sync, mouse, asked_sync;
    bool wraps_at_once;   /* a character in the last cell would scroll the screen */
    struct canvas *shown; /* what the terminal shows */
    bool valid;           /* is that so? */
    bool cursor_shown;
    int rows, cols, colors;
    char theme[16];
    bool color;
    struct look looks[STYLE_COUNT];
    /* a frame is collected here and written at once */
    char *frame;
    size_t frame_bytes, frame_capacity;
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

static void put_bytes(struct terminal *terminal, const char *bytes, size_t count)
{
    if (terminal->frame_bytes + count > terminal->frame_capacity) {
        terminal->frame_capacity = (terminal->frame_bytes + count) * 2;
        terminal->frame = xrealloc(terminal->frame, terminal->frame_capacity);
    }
    memcpy(terminal->frame + terminal->frame_bytes, bytes, count);
    terminal->frame_bytes += count;
}

/* Put a capability, without the delays that terminals on serial lines once needed. */
static void put_string(struct terminal *terminal, const char *text)
{
    if (text == NULL || text == (const char *)-1)
        return;
    for (const char *delay; (delay = strstr(text, "$<")) != NULL; text = delay) {
        put_bytes(terminal, text, (size_t)(delay - text));
        delay += strcspn(delay, ">");
        delay += *delay == '>';
    }
    put_bytes(terminal, text, strlen(text));
}

static void flush_frame(struct terminal *terminal)
{
    write_all(terminal->out, terminal->frame, terminal->frame_bytes);
    terminal->frame_bytes = 0;
}

static void enter_screen(struct terminal *terminal)
{
    struct termios raw = crash.shell;
    raw.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INLCR | IGNCR | ISTRIP | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ECHONL | IEXTEN | ISIG);
    raw.c_oflag &= ~(tcflag_t)OPOST;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(terminal->fd, TCSADRAIN, &raw);
    put_string(terminal, enter_ca_mode);
    flush_frame(terminal);
    send_modes(terminal, true);
    terminal->cursor_shown = true;
    terminal->valid = false;
}

static void leave_screen(struct terminal *terminal)
{
    send_modes(terminal, false);
    put_string(terminal, exit_attribute_mode);
    put_string(terminal, tparm(cursor_address, (long)terminal->rows - 1, 0L));
    put_string(terminal, exit_ca_mode);
    /* last: some terminals bring a hidden cursor back with the screen of before */
    put_string(terminal, cursor_normal);
    put_bytes(terminal, "\r", 1);
    flush_frame(terminal);
    tcsetattr(terminal->fd, TCSADRAIN, &crash.shell);
}

struct terminal *terminal_open(struct error *error)
{
    const char *name = getenv("TERM");
    if (!terminal_possible()) {
        error_set(error, ERROR_UNSUPPORTED, "screen",
                  "no terminal at /dev/tty, or one of a kind ('%s') that cannot move its cursor",
                  name != NULL ? name : "");
        error_hint(error, "layertop --plain");
        return NULL;
    }
    struct terminal *terminal = xcalloc(1, sizeof *terminal);
    /* two openings: keys are read without waiting, a frame is written in one piece and waits */
    terminal->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    terminal->out = open("/dev/tty", O_WRONLY | O_CLOEXEC | O_NOCTTY);
    int status;
    bool ok = terminal->fd >= 0 && terminal->out >= 0 &&
              setupterm(name, terminal->out, &status) == OK &&
              tcgetattr(terminal->fd, &crash.shell) == 0;
    if (!ok)
        error_set(error, ERROR_UNSUPPORTED, "screen", "/dev/tty: %s", strerror(errno));
    if (!ok || !catch_noise(terminal, error)) {
        close(terminal->fd);
        close(terminal->out);
        free(terminal);
        return NULL;
    }
    setlocale(LC_CTYPE, "");
    terminal->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    terminal->shown = canvas_new();
    terminal->color = true;
    terminal->colors = tigetnum("colors");
    terminal->wraps_at_once = auto_right_margin && !eat_newline_glitch;
    crash_guard(terminal, true);
    enter_screen(terminal);
    terminal_set_theme(terminal, "default", true);
    terminal_size(terminal, &terminal->rows, &terminal->cols);
    return terminal;
}

void terminal_close(struct terminal *terminal, bool gone)
{
    if (!gone)
        leave_screen(terminal);
    crash_guard(terminal, false);
    release_noise(terminal);
    del_curterm(cur_term);
    close(terminal->fd);
    close(terminal->out);
    canvas_free(terminal->shown);
    free(terminal->frame);
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
    for (int i = 0; i < STYLE_COUNT; i++)
        terminal->looks[i] = theme_look(theme, (enum style)i, color ? terminal->colors : 0);
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

/* How a cell looks. A chosen row is of one colour, or it would be a patchwork. */
static struct look cell_look(const struct terminal *terminal, const struct canvas_cell *cell)
{
    struct look look = terminal->looks[cell->style];
    look.flags |=
        (cell->flags & CELL_REVERSE ? LOOK_REVERSE : 0) | (cell->flags & CELL_BOLD ? LOOK_BOLD : 0);
    if (cell->flags & CELL_REVERSE)
        look.color = -1;
    return look;
}

static void put_look(struct terminal *terminal, struct look look, struct look *now)
{
    if (look.color == now->color && look.flags == now->flags)
        return;
    if (now->flags & ~look.flags || (look.color < 0 && now->color >= 0) || now->color == -2) {
        put_string(terminal, exit_attribute_mode);
        *now = (struct look){-1, 0};
    }
    unsigned more = look.flags & ~now->flags;
    if (more & LOOK_BOLD)
        put_string(terminal, enter_bold_mode);
    if (more & LOOK_DIM)
        put_string(terminal, enter_dim_mode);
    if (more & LOOK_REVERSE)
        put_string(terminal, enter_reverse_mode);
    if (more & LOOK_UNDERLINE)
        put_string(terminal, enter_underline_mode);
    if (look.color >= 0 && look.color != now->color && set_a_foreground != NULL)
        put_string(terminal, tparm(set_a_foreground, (long)look.color));
    *now = look;
}

static void put_character(struct terminal *terminal, uint32_t point)
{
    char bytes[4];
    if (!terminal->utf8 && point > 0x7e)
        point = '?';
    put_bytes(terminal, bytes, utf8_encode(point, bytes));
}

/* Bring the terminal from `shown` to `canvas`, cell by cell. */
static void put_changes(struct terminal *terminal, const struct canvas *canvas)
{
    struct canvas *shown = terminal->shown;
    struct look now = {-2, 0}; /* not known */
    int cursor_row = -1, cursor_col = -1;
    for (int row = 0; row < canvas->rows; row++) {
        for (int col = 0; col < canvas->cols; col++) {
            size_t at = (size_t)row * (size_t)canvas->cols + (size_t)col;
            const struct canvas_cell *cell = &canvas->cells[at];
            struct canvas_cell *before = &shown->cells[at];
            if (cell->point == before->point && cell->mark == before->mark &&
                cell->style == before->style && cell->flags == before->flags)
                continue;
            *before = *cell;
            if (cell->point == 0 ||
                (terminal->wraps_at_once && row == canvas->rows - 1 && col == canvas->cols - 1))
                continue;
            if (cursor_row != row || cursor_col != col)
                put_string(terminal, tparm(cursor_address, (long)row, (long)col));
            put_look(terminal, cell_look(terminal, cell), &now);
            put_character(terminal, cell->point);
            if (cell->mark != 0 && terminal->utf8)
                put_character(terminal, cell->mark);
            /* terminals differ in what is wide: there, and at the margin, address anew */
            bool plain = cell->mark == 0 && utf8_width(cell->point) == 1 && col + 1 < canvas->cols;
            cursor_row = plain ? row : -1;
            cursor_col = col + 1;
        }
    }
    if (now.color != -2)
        put_string(terminal, exit_attribute_mode);
}

bool terminal_show(struct terminal *terminal, const struct canvas *canvas, int y, int x)
{
    struct pollfd out = {terminal->out, POLLOUT, 0};
    if (poll(&out, 1, 0) <= 0)
        return false; /* stopped by Ctrl-S, or a slow line: never wait for it */
    struct canvas *shown = terminal->shown;
    if (terminal->sync)
        put_string(terminal, "\033[?2026h");
    size_t nothing = terminal->frame_bytes;
    if (!terminal->valid || shown->rows != canvas->rows || shown->cols != canvas->cols) {
        canvas_reset(shown, canvas->rows, canvas->cols, canvas->symbols);
        put_string(terminal, exit_attribute_mode);
        put_string(terminal, clear_screen);
        terminal->valid = true;
    }
    put_changes(terminal, canvas);
    if (terminal->cursor_shown != (y >= 0))
        put_string(terminal, y >= 0 ? cursor_normal : cursor_invisible);
    if (y >= 0)
        put_string(terminal, tparm(cursor_address, (long)y, (long)x));
    terminal->cursor_shown = y >= 0;
    if (terminal->frame_bytes == nothing) {
        terminal->frame_bytes = 0;
        return true;
    }
    if (terminal->sync)
        put_string(terminal, "\033[?2026l");
    flush_frame(terminal);
    return true;
}

void terminal_suspend(struct terminal *terminal)
{
    crash.active = 0;
    leave_screen(terminal);
}

void terminal_resume(struct terminal *terminal)
{
    enter_screen(terminal);
    crash.active = 1;
}

void terminal_bell(struct terminal *terminal)
{
    write_all(terminal->fd, "\a", 1);
}
