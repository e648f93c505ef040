#define _GNU_SOURCE /* posix_openpt, memmem */
#include "support/stage_terminal.h"

#include "engine/error.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <vterm.h>

#define PATIENCE_S 30
#define ROWS_MOST  128
#define LOOKS_MOST 26

struct stage_terminal {
    int master, slave;
    int rows, cols;
    VTerm *vterm;
    VTermScreen *screen;
    bool alternate, cursor;
    unsigned marks;
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    char *bytes; /* read and not yet shown */
    size_t count, capacity;
};

static int on_property(VTermProp property, VTermValue *value, void *context)
{
    struct stage_terminal *terminal = context;
    if (property == VTERM_PROP_ALTSCREEN)
        terminal->alternate = value->boolean != 0;
    if (property == VTERM_PROP_CURSORVISIBLE)
        terminal->cursor = value->boolean != 0;
    return 1;
}

static void *reader(void *context)
{
    struct stage_terminal *terminal = context;
    char block[65536];
    ssize_t got;
    while ((got = read(terminal->master, block, sizeof block)) > 0) {
        pthread_mutex_lock(&terminal->mutex);
        if (terminal->count + (size_t)got > terminal->capacity) {
            terminal->capacity = 2 * (terminal->count + (size_t)got);
            terminal->bytes = xrealloc(terminal->bytes, terminal->capacity);
        }
        memcpy(terminal->bytes + terminal->count, block, (size_t)got);
        terminal->count += (size_t)got;
        pthread_cond_signal(&terminal->arrived);
        pthread_mutex_unlock(&terminal->mutex);
    }
    return NULL;
}

struct stage_terminal *stage_terminal_new(int rows, int cols)
{
    static const VTermScreenCallbacks callbacks = {.settermprop = on_property};
    struct stage_terminal *terminal = xcalloc(1, sizeof *terminal);
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    char name[64];
    terminal->rows = rows;
    terminal->cols = cols;
    setsid();
    terminal->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal->master < 0 || grantpt(terminal->master) != 0 || unlockpt(terminal->master) != 0 ||
        ptsname_r(terminal->master, name, sizeof name) != 0 ||
        (terminal->slave = open(name, O_RDWR | O_CLOEXEC)) < 0 ||
        ioctl(terminal->slave, TIOCSCTTY, 0) != 0 ||
        ioctl(terminal->master, TIOCSWINSZ, &size) != 0)
        return NULL;
    terminal->vterm = vterm_new(rows, cols);
    vterm_set_utf8(terminal->vterm, 1);
    terminal->screen = vterm_obtain_screen(terminal->vterm);
    terminal->cursor = true;
    vterm_screen_set_callbacks(terminal->screen, &callbacks, terminal);
    vterm_screen_enable_altscreen(terminal->screen, 1);
    vterm_screen_reset(terminal->screen, 1);
    pthread_mutex_init(&terminal->mutex, NULL);
    pthread_cond_init(&terminal->arrived, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the screen's thread */
    pthread_t thread;
    bool ok = pthread_create(&thread, NULL, reader, terminal) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok ? terminal : NULL;
}

bool stage_terminal_type(struct stage_terminal *terminal, const char *bytes, size_t count)
{
    int waiting = 0;
    if (write(terminal->master, bytes, count) != (ssize_t)count)
        return false;
    /* the kernel hands them over in a thread of its own */
    for (int i = 0; i < PATIENCE_S * 1000 && waiting < (int)count; i++) {
        struct pollfd readable = {terminal->slave, POLLIN, 0};
        if (poll(&readable, 1, PATIENCE_S * 1000) <= 0 ||
            ioctl(terminal->slave, FIONREAD, &waiting) != 0)
            return false;
        if (waiting < (int)count)
            usleep(1000);
    }
    return waiting >= (int)count;
}

void stage_terminal_catch_up(struct stage_terminal *terminal)
{
    char mark[32], *found = NULL;
    struct timespec limit;
    int length = snprintf(mark, sizeof mark, "\033]2;mark %u\007", ++terminal->marks);
    if (write(terminal->slave, mark, (size_t)length) != length)
        abort();
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&terminal->mutex);
    while (terminal->count == 0 ||
           (found = memmem(terminal->bytes, terminal->count, mark, (size_t)length)) == NULL)
        if (pthread_cond_timedwait(&terminal->arrived, &terminal->mutex, &limit) != 0)
            abort();
    vterm_input_write(terminal->vterm, terminal->bytes, (size_t)(found - terminal->bytes));
    terminal->count = 0;
    pthread_mutex_unlock(&terminal->mutex);
    vterm_screen_flush_damage(terminal->screen);
}

void stage_terminal_resize(struct stage_terminal *terminal, int rows, int cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    stage_terminal_catch_up(terminal);
    terminal->rows = rows;
    terminal->cols = cols;
    vterm_set_size(terminal->vterm, rows, cols);
    if (ioctl(terminal->master, TIOCSWINSZ, &size) != 0)
        abort();
}

void stage_terminal_size(const struct stage_terminal *terminal, int *rows, int *cols)
{
    *rows = terminal->rows;
    *cols = terminal->cols;
}

/* ---- the screen as text ---- */

static bool cell_at(const struct stage_terminal *terminal, int row, int col, VTermScreenCell *cell)
{
    return vterm_screen_get_cell(terminal->screen, (VTermPos){.row = row, .col = col}, cell) != 0;
}

static size_t put_utf8(char *out, uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(leads[more] | point >> (6 * more));
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(0x80 | (point >> (6 * (more - i)) & 0x3f));
    return more + 1;
}

/* A row without the blanks at its end; to be freed. */
static char *row_text(const struct stage_terminal *terminal, int row)
{
    char *text = xcalloc((size_t)terminal->cols * VTERM_MAX_CHARS_PER_CELL * 4 + 1, 1);
    size_t used = 0, end = 0;
    VTermScreenCell cell;
    for (int col = 0; col<terminal->cols; col += cell.width> 1 ? cell.width : 1) {
        if (!cell_at(terminal, row, col, &cell))
            break;
        if (cell.chars[0] == 0)
            cell.chars[0] = ' ';
        for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i] != 0; i++)
            used += put_utf8(text + used, cell.chars[i]);
        end = cell.chars[0] == ' ' ? end : used;
    }
    text[end] = '\0';
    return text;
}

bool stage_terminal_holds(struct stage_terminal *terminal, const char *wanted)
{
    bool found = false;
    stage_terminal_catch_up(terminal);
    for (int row = 0; row < terminal->rows && !found; row++) {
        char *text = row_text(terminal, row);
        found = strstr(text, wanted) != NULL;
        free(text);
    }
    return found;
}

/* How a cell looks, in words; "" if it is plain. */
static void describe(const VTermScreenCell *cell, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s%s", cell->attrs.bold ? " bold" : "",
             cell->attrs.reverse ? " reverse" : "", cell->attrs.underline ? " underline" : "",
             cell->attrs.italic ? " italic" : "");
    size_t used = strlen(out);
    if (VTERM_COLOR_IS_INDEXED(&cell->fg) && !VTERM_COLOR_IS_DEFAULT_FG(&cell->fg))
        used += (size_t)snprintf(out + used, size - used, " color %d", cell->fg.indexed.idx);
    if (VTERM_COLOR_IS_INDEXED(&cell->bg) && !VTERM_COLOR_IS_DEFAULT_BG(&cell->bg))
        snprintf(out + used, size - used, " on %d", cell->bg.indexed.idx);
}

static void put_looks(const struct stage_terminal *terminal, FILE *out)
{
    char known[LOOKS_MOST][64], look[64];
    int count = 0;
    VTermScreenCell cell;
    fprintf(out, "--- looks\n");
    for (int row = 0; row < terminal->rows; row++) {
        char *line = xcalloc((size_t)terminal->cols + 1, 1);
        int end = 0;
        for (int col = 0; col < terminal->cols; col++) {
            line[col] = ' ';
            if (!cell_at(terminal, row, col, &cell))
                continue;
            describe(&cell, look, sizeof look);
            bool blank = (cell.chars[0] == 0 || cell.chars[0] == ' ') && !cell.attrs.reverse;
            if (look[0] == '\0' || blank)
                continue;
            int at = 0;
            while (at < count && strcmp(known[at], look) != 0)
                at++;
            if (at == count && count < LOOKS_MOST)
                memcpy(known[count++], look, sizeof look);
            line[col] = (char)('a' + at);
            end = col + 1;
        }
        fprintf(out, "%.*s\n", end, line);
        free(line);
    }
    for (int i = 0; i < count; i++)
        fprintf(out, "%c:%s\n", 'a' + i, known[i]);
}

void stage_terminal_text(struct stage_terminal *terminal, FILE *out, bool looks)
{
    VTermPos cursor;
    stage_terminal_catch_up(terminal);
    vterm_state_get_cursorpos(vterm_obtain_state(terminal->vterm), &cursor);
    if (terminal->cursor)
        fprintf(out, "cursor at column %d of row %d\n", cursor.col, cursor.row);
    else
        fprintf(out, "no cursor\n");
    for (int row = 0; row < terminal->rows; row++) {
        char *text = row_text(terminal, row);
        fprintf(out, "%s\n", text);
        free(text);
    }
    if (looks)
        put_looks(terminal, out);
}

bool stage_terminal_restored(struct stage_terminal *terminal)
{
    stage_terminal_catch_up(terminal);
    return !terminal->alternate && terminal->cursor;
}
