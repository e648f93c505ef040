#define _GNU_SOURCE /* pipe2 */
#include "engine/log_pipe.h"

#include "engine/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024

struct log_pipe {
    int read_end;
    int original; /* standard error as it was */
    char line[LINE_BYTES];
    size_t length;
};

/* For the signal handler only: descriptors of the one log pipe, -1 if there is none. */
static volatile int drain_from = -1, drain_to = -1;

/* Move what libraries printed last to the original standard error. Only read and write: this runs
 * in a signal handler. */
static void drain(void)
{
    char block[1024];
    ssize_t got;
    int from = drain_from, to = drain_to;
    drain_from = -1;
    while (from >= 0 && (got = read(from, block, sizeof block)) > 0) {
        if (write(to, block, (size_t)got) < 0)
            break;
    }
}

/* The I/O thread may have taken the last line off the pipe a moment ago: let it be sent. */
static void drain_patiently(void)
{
    if (drain_from < 0)
        return;
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    drain();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void catch_deaths(void)
{
    /* a sanitizer reports by itself, and its report must not be cut short */
}
#else
/* SA_RESETHAND has put the default action back: the same signal ends the process on return. */
static void drain_and_die(int number)
{
    int failure = errno;
    drain_patiently();
    errno = failure;
    raise(number);
}

static void catch_deaths(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = drain_and_die,
                               .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}
#endif

struct log_pipe *log_pipe_new(void)
{
    struct log_pipe *log = xcalloc(1, sizeof *log);
    int ends[2];
    log->read_end = -1;
    log->original = fcntl(2, F_DUPFD_CLOEXEC, 64);
    if (log->original < 0)
        log->original = fcntl(2, F_DUPFD_CLOEXEC, 3);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0) {
        dup2(nothing, 0);
        close(nothing);
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        dup2(2, 1);
        return log;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    log->read_end = ends[0];
    drain_from = log->read_end;
    drain_to = log->original;
    static bool registered;
    if (!registered) {
        registered = true;
        atexit(drain_patiently);
        catch_deaths();
    }
    return log;
}

void log_pipe_free(struct log_pipe *log)
{
    fflush(stdout);
    drain();
    if (log->original >= 0) {
        dup2(log->original, 1);
        dup2(log->original, 2);
        close(log->original);
    }
    if (log->read_end >= 0)
        close(log->read_end);
    free(log);
}

int log_pipe_fd(const struct log_pipe *log)
{
    return log->read_end;
}

void log_pipe_read(struct log_pipe *log, log_line *line, void *context)
{
    char block[4096];
    ssize_t got = log->read_end < 0 ? 0 : read(log->read_end, block, sizeof block);
    for (ssize_t i = 0; i < got; i++) {
        if (block[i] != '\n' && block[i] != '\0')
            log->line[log->length++] = block[i];
        if ((block[i] == '\n' && log->length > 0) || log->length == sizeof log->line - 1) {
            log->line[log->length] = '\0';
            log->length = 0;
            line(context, log->line);
        }
    }
}

void log_pipe_last_words(const struct log_pipe *log, const char *text)
{
    char *line = xasprintf("layertop worker: %s\n", text);
    ssize_t ignored = write(log->original, line, strlen(line));
    (void)ignored;
    free(line);
}
