#define _GNU_SOURCE
#include "support/vt.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pty.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vterm.h>

struct vt {
    int master;
    pid_t pid;
    bool ended;
    int status;
    VTerm *vterm;
    VTermScreen *screen;
    bool alternate, cursor;
    uint64_t bytes, escapes;
    char *text;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int on_property(VTermProp property, VTermValue *value, void *context)
{
    struct vt *vt = context;
    if (property == VTERM_PROP_ALTSCREEN)
        vt->alternate = value->boolean != 0;
    if (property == VTERM_PROP_CURSORVISIBLE)
        vt->cursor = value->boolean != 0;
    return 1;
}

struct vt *vt_start(int rows, int cols, const char *const argv[], const char *const environment[])
{
    static const VTermScreenCallbacks callbacks = {.settermprop = on_property};
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    struct vt *vt = calloc(1, sizeof *vt);
    vt->pid = forkpty(&vt->master, NULL, NULL, &size);
    if (vt->pid < 0) {
        free(vt);
        return NULL;
    }
    if (vt->pid == 0) {
        setenv("TERM", "xterm-256color", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        unsetenv("NO_COLOR");
        for (int i = 0; environment != NULL && environment[i] != NULL; i++)
            putenv(strdup(environment[i]));
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    fcntl(vt->master, F_SETFD, FD_CLOEXEC);
    fcntl(vt->master, F_SETFL, O_NONBLOCK);
    vt->vterm = vterm_new(rows, cols);
    vterm_set_utf8(vt->vterm, 1);
    vt->screen = vterm_obtain_screen(vt->vterm);
    vt->cursor = true;
    vterm_screen_set_callbacks(vt->screen, &callbacks, vt);
    vterm_screen_enable_altscreen(vt->screen, 1);
    vterm_screen_reset(vt->screen, 1);
    return vt;
}

void vt_free(struct vt *vt)
{
    if (vt == NULL)
        return;
    if (!vt->ended) {
        kill(vt->pid, SIGKILL);
        waitpid(vt->pid, NULL, 0);
    }
    if (vt->master >= 0)
        close(vt->master);
    vterm_free(vt->vterm);
    free(vt->text);
    free(vt);
}

pid_t vt_pid(const struct vt *vt)
{
    return vt->pid;
}

pid_t vt_child(const struct vt *vt, int index)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)vt->pid, (int)vt->pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) == NULL)
        line[0] = '\0';
    fclose(file);
    char *rest = line, *word;
    for (int i = 0; (word = strsep(&rest, " ")) != NULL && *word != '\0'; i++) {
        if (i == index)
            return (pid_t)atoi(word);
    }
    return 0;
}

void vt_type(struct vt *vt, const char *keys)
{
    size_t left = strlen(keys);
    while (left > 0) {
        ssize_t done = write(vt->master, keys, left);
        if (done < 0) { /* the program does not read: let it breathe */
            vt_pump(vt, 10);
            continue;
        }
        keys += done;
        left -= (size_t)done;
    }
}

void vt_resize(struct vt *vt, int rows, int cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    vterm_set_size(vt->vterm, rows, cols);
    ioctl(vt->master, TIOCSWINSZ, &size);
}

void vt_hang_up(struct vt *vt)
{
    close(vt->master);
    vt->master = -1;
}

/* Read once, waiting at most so long; false when nothing came. */
static bool read_some(struct vt *vt, int milliseconds)
{
    char bytes[16384], reply[256];
    struct pollfd in = {vt->master, POLLIN, 0};
    if (vt->master < 0 || poll(&in, 1, milliseconds) <= 0)
        return false;
    ssize_t count = read(vt->master, bytes, sizeof bytes);
    if (count <= 0) {
        if (count == 0 || errno == EIO) { /* the other end is closed: do not spin */
            struct timespec pause = {0, 5000000};
            nanosleep(&pause, NULL);
        }
        return false;
    }
    vt->bytes += (uint64_t)count;
    for (ssize_t i = 0; i < count; i++)
        vt->escapes += bytes[i] == '\033';
    vterm_input_write(vt->vterm, bytes, (size_t)count);
    /* a terminal answers some questions */
    size_t length = vterm_output_read(vt->vterm, reply, sizeof reply);
    if (length > 0 && write(vt->master, reply, length) < 0)
        return true;
    return true;
}

void vt_pump(struct vt *vt, int milliseconds)
{
    int64_t end = now_ms() + milliseconds, left;
    while ((left = end - now_ms()) > 0) {
        if (!read_some(vt, (int)left) && vt->master < 0)
            return;
    }
}

const char *vt_text(struct vt *vt)
{
    int rows, cols;
    vterm_get_size(vt->vterm, &rows, &cols);
    size_t capacity = (size_t)rows * ((size_t)cols * 8 + 1) + 1;
    vt->text = realloc(vt->text, capacity);
    char *end = vt->text;
    for (int row = 0; row < rows; row++) {
        VTermRect rect = {row, row + 1, 0, cols};
        size_t left = capacity - (size_t)(end - vt->text) - 2;
        size_t count = vterm_screen_get_text(vt->screen, end, left, rect);
        while (count > 0 && end[count - 1] == ' ')
            count--;
        end += count;
        *end++ = '\n';
    }
    *end = '\0';
    return vt->text;
}

static bool matches(struct vt *vt, const char *expression, regmatch_t groups[2])
{
    regex_t regex;
    if (regcomp(&regex, expression, REG_EXTENDED | REG_NEWLINE) != 0)
        abort();
    bool found = regexec(&regex, vt_text(vt), 2, groups, 0) == 0;
    regfree(&regex);
    return found;
}

static bool wait_for(struct vt *vt, const char *expression, int milliseconds, bool wanted)
{
    int64_t end = now_ms() + milliseconds;
    regmatch_t groups[2];
    do {
        while (read_some(vt, 0))
            ;
        if (matches(vt, expression, groups) == wanted)
            return true;
        read_some(vt, 20);
    } while (now_ms() < end);
    return false;
}

bool vt_wait(struct vt *vt, const char *expression, int milliseconds)
{
    return wait_for(vt, expression, milliseconds, true);
}

bool vt_wait_gone(struct vt *vt, const char *expression, int milliseconds)
{
    return wait_for(vt, expression, milliseconds, false);
}

bool vt_wait_exit(struct vt *vt, int milliseconds, int *status)
{
    int64_t end = now_ms() + milliseconds;
    while (!vt->ended) {
        if (waitpid(vt->pid, &vt->status, WNOHANG) == vt->pid) {
            vt->ended = true;
            while (read_some(vt, 10)) /* its last words */
                ;
            break;
        }
        if (now_ms() >= end)
            return false;
        if (vt->master >= 0) {
            read_some(vt, 10);
        } else {
            struct timespec pause = {0, 10000000};
            nanosleep(&pause, NULL);
        }
    }
    if (status != NULL)
        *status = vt->status;
    return true;
}

double vt_number(struct vt *vt, const char *expression)
{
    regmatch_t groups[2];
    if (!matches(vt, expression, groups) || groups[1].rm_so < 0)
        return NAN;
    return strtod(vt->text + groups[1].rm_so, NULL);
}

bool vt_alternate(const struct vt *vt)
{
    return vt->alternate;
}

bool vt_cursor_visible(const struct vt *vt)
{
    return vt->cursor;
}

uint64_t vt_escapes(const struct vt *vt)
{
    return vt->escapes;
}

uint64_t vt_bytes(const struct vt *vt)
{
    return vt->bytes;
}

bool vt_cursor_at(const struct vt *vt, int *row, int *col)
{
    VTermPos at;
    vterm_state_get_cursorpos(vterm_obtain_state(vt->vterm), &at);
    *row = at.row;
    *col = at.col;
    return vt->cursor;
}

void vt_size(const struct vt *vt, int *rows, int *cols)
{
    vterm_get_size(vt->vterm, rows, cols);
}

struct VTermScreen *vt_screen(const struct vt *vt)
{
    return vt->screen;
}
