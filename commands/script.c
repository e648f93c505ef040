#include "commands/script.h"

#include "commands/command.h"
#include "engine/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECOND_SIGINT_NS INT64_C(1000000000)
#define LINE_BYTES_MAX   (1u << 20)

/* A handler can reach nothing but globals. */
static int signal_wake = -1;
static volatile sig_atomic_t signal_interrupts, signal_terminate;

static void on_signal(int number)
{
    int saved = errno;
    uint64_t one = 1;
    if (number == SIGINT)
        signal_interrupts++;
    else
        signal_terminate = number;
    ssize_t ignored = write(signal_wake, &one, sizeof one);
    (void)ignored;
    errno = saved;
}

struct reader {
    char *text;
    size_t used;
    bool end; /* of this piece */
};

/* Take the first whole line, or at the end of the piece what is left. NULL: read more first. */
static char *take_line(struct reader *reader)
{
    char *newline = reader->used ? memchr(reader->text, '\n', reader->used) : NULL;
    if (!newline && !(reader->end && reader->used > 0) && reader->used < LINE_BYTES_MAX)
        return NULL;
    size_t length = newline ? (size_t)(newline - reader->text) : reader->used;
    size_t taken = newline ? length + 1 : length;
    char *line = xmalloc(length + 1);
    memcpy(line, reader->text, length);
    line[length] = '\0';
    reader->used -= taken;
    memmove(reader->text, reader->text + taken, reader->used);
    return line;
}

static void read_more(struct reader *reader, int fd)
{
    reader->text = xrealloc(reader->text, reader->used + 4096);
    ssize_t got = read(fd, reader->text + reader->used, 4096);
    if (got > 0)
        reader->used += (size_t)got;
    else if (got == 0 || (errno != EINTR && errno != EAGAIN))
        reader->end = true;
}

/* Submit the next line there is. Returns false if there is none, or none yet: *waiting_fd is then
 * the descriptor to wait for, or -1 at the very end. */
static bool submit_next(struct workbench *workbench, const struct script_piece *pieces,
                        size_t count, size_t *next, struct reader *reader, int *waiting_fd)
{
    *waiting_fd = -1;
    while (*next < count) {
        const struct script_piece *piece = &pieces[*next];
        if (piece->line) {
            (*next)++;
            command_submit(workbench, piece->line);
            return true;
        }
        char *line = take_line(reader);
        if (line) {
            command_submit(workbench, line);
            free(line);
            return true;
        }
        if (!reader->end) {
            *waiting_fd = piece->fd;
            return false;
        }
        (*next)++;
        reader->end = false;
    }
    return false;
}

static int loop(struct workbench *workbench, const struct script_piece *pieces, size_t count,
                struct reader *reader)
{
    size_t next = 0;
    int seen_interrupts = 0;
    int64_t last_interrupt_ns = 0;
    for (;;) {
        int script_fd = -1;
        workbench_dispatch(workbench);
        if (workbench_quitting(workbench))
            return workbench_exit_code(workbench);
        if (!command_busy(workbench) &&
            submit_next(workbench, pieces, count, &next, reader, &script_fd))
            continue;
        if (!command_busy(workbench) && script_fd < 0)
            return workbench_exit_code(workbench);
        if (ferror(stdout))
            return 1; /* nobody reads what this is for */
        struct pollfd polled[3] = {
            {.fd = signal_wake, .events = POLLIN},
            {.fd = workbench_fd(workbench),
             .events = (short)(POLLIN | (workbench_wants_write(workbench) ? POLLOUT : 0))},
            {.fd = script_fd, .events = POLLIN},
        };
        if (poll(polled, 3, workbench_timeout_ms(workbench)) < 0 && errno != EINTR)
            return 1;
        if (polled[2].revents)
            read_more(reader, script_fd);
        uint64_t ignored;
        while (read(signal_wake, &ignored, sizeof ignored) > 0)
            continue;
        if (signal_terminate)
            return 128 + signal_terminate;
        if (signal_interrupts > seen_interrupts) {
            int64_t now = clock_now_ns();
            bool again = signal_interrupts > seen_interrupts + 1 ||
                         (last_interrupt_ns && now - last_interrupt_ns < SECOND_SIGINT_NS);
            seen_interrupts = signal_interrupts;
            last_interrupt_ns = now;
            if (again || !command_cancel(workbench))
                return 130;
        }
    }
}

int script_run(struct workbench *workbench, const struct script_piece *pieces, size_t count)
{
    struct sigaction action = {.sa_handler = on_signal}, old_int, old_term;
    struct reader reader = {0};
    signal_interrupts = signal_terminate = 0;
    signal_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigaction(SIGINT, &action, &old_int);
    sigaction(SIGTERM, &action, &old_term);
    int code = loop(workbench, pieces, count, &reader);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    close(signal_wake);
    signal_wake = -1;
    free(reader.text);
    return code;
}
