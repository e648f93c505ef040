#define _GNU_SOURCE /* pipe2, environ */
#include "engine/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* OpenMP reads these when its library is loaded, which is before the worker's main(). Spinning
 * between the primitives of a step is worth it; spinning for longer than those gaps takes the core
 * from the thread that is waited for, as soon as there are more threads than cores. A turn is one
 * pause instruction, about 40 ns. MobileNetV2 bf16 batch 1 on two cores, ms a step, best of
 * interleaved rounds in gaps of other load, and medians with five threads for each core:
 *     turns            0     300    1000    3000    10000   30000   100000
 *     alone          2.8     2.1    2.02    2.03     2.07     2.1     2.00
 *     crowded      19-22   13-17   12-16   10-18    18-19   19-26    22-33
 * Threads that wander between cores make times unsteady. What the user has set stands. */
static const char *const omp_defaults[] = {"GOMP_SPINCOUNT=3000", "OMP_PROC_BIND=close",
                                           "OMP_PLACES=cores", NULL};

/* environ with the defaults appended; the array is freed by the caller, its strings are not. */
static char **worker_environment(void)
{
    size_t count = 0, extra = sizeof omp_defaults / sizeof *omp_defaults;
    while (environ[count] != NULL)
        count++;
    char **list = xcalloc(count + extra + 1, sizeof *list);
    memcpy(list, environ, count * sizeof *list);
    for (const char *const *text = omp_defaults; *text != NULL; text++) {
        char name[32];
        size_t length = strcspn(*text, "=");
        memcpy(name, *text, length);
        name[length] = '\0';
        if (getenv(name) == NULL)
            list[count++] = (char *)(uintptr_t)*text;
    }
    return list;
}

/* Between fork and exec: only calls that are safe there. Never returns. */
_Noreturn static void become_worker(char *const argv[], char *const environment[], pid_t parent,
                                    const int pipes[4][2])
{
    /* dup2 clears close-on-exec; the other ends close by themselves */
    int failure = 0;
    for (int i = 0; i < 3; i++) {
        if (dup2(pipes[i][i == 0 ? 0 : 1], i) < 0)
            failure = errno;
    }
    /* the terminal's Ctrl-C is for the front: it asks, the worker answers */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    if (getppid() != parent) /* it died before the prctl */
        _exit(0);
#ifdef SYS_close_range
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
    if (failure == 0) {
        execve(argv[0], argv, environment);
        failure = errno;
    }
    ssize_t ignored = write(pipes[3][1], &failure, sizeof failure);
    (void)ignored;
    _exit(127);
}

bool spawn_worker(char *const argv[], struct spawned *out, struct error *error)
{
    int pipes[4][2]; /* stdin, stdout, stderr, and why exec failed */
    for (int i = 0; i < 4; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) != 0) {
            error_set(error, ERROR_WORKER, "worker", "no pipe can be made: %s", strerror(errno));
            while (--i >= 0) {
                close(pipes[i][0]);
                close(pipes[i][1]);
            }
            return false;
        }
        /* a front started with a standard stream closed: these numbers are about to be replaced */
        for (int end = 0; end < 2; end++) {
            if (pipes[i][end] > 2)
                continue;
            int moved = fcntl(pipes[i][end], F_DUPFD_CLOEXEC, 3);
            close(pipes[i][end]);
            pipes[i][end] = moved;
        }
    }
    char **environment = worker_environment();
    pid_t parent = getpid();
    pid_t pid = fork();
    int fork_failure = errno;
    if (pid == 0)
        become_worker(argv, environment, parent, (const int(*)[2])pipes);
    free(environment);
    close(pipes[0][0]);
    close(pipes[1][1]);
    close(pipes[2][1]);
    close(pipes[3][1]);
    int failure = pid < 0 ? fork_failure : 0;
    ssize_t got = 0;
    /* ends at once: exec closes the other end */
    while (pid > 0 && (got = read(pipes[3][0], &failure, sizeof failure)) < 0 && errno == EINTR)
        continue;
    close(pipes[3][0]);
    *out = (struct spawned){pid, -1, pipes[0][1], pipes[1][0], pipes[2][0]};
    if (failure != 0) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        close(out->input);
        close(out->output);
        close(out->log);
        return error_set(error, ERROR_WORKER, "worker", "%s cannot be started: %s", argv[0],
                         strerror(failure));
    }
    fcntl(out->input, F_SETFL, O_NONBLOCK);
    fcntl(out->output, F_SETFL, O_NONBLOCK);
    fcntl(out->log, F_SETFL, O_NONBLOCK);
#ifdef SYS_pidfd_open
    out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
    if (out->pidfd >= 0)
        fcntl(out->pidfd, F_SETFD, FD_CLOEXEC);
#endif
    return true;
}
