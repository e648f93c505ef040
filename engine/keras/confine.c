#define _GNU_SOURCE /* close_range */
#include "engine/keras/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* No honest model's description is larger. */
#define REPLY_BYTES_MAX (256u << 20)
/* Between two looks at whether the answer is still wanted. */
#define LOOK_MS         20

/* --- the child ------------------------------------------------------------------------------ */

static void close_between(int first, int last)
{
    if (first > last || close_range((unsigned)first, (unsigned)last, 0) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX); /* a kernel before 5.9 */
    for (int fd = first; fd <= last && fd < (most > 0 ? most : 65536); fd++)
        close(fd);
}

/* Handlers of the parent (a terminal to restore, a log to write) must not run here. */
static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        signal(i, i == SIGINT || i == SIGTSTP ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static uint64_t mapped_bytes(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    return n > 0 ? strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void limit(__rlimit_resource_t resource, uint64_t value)
{
    struct rlimit now, wanted = {value, value};
    if (getrlimit(resource, &now) == 0 && now.rlim_max < value)
        wanted.rlim_cur = wanted.rlim_max = now.rlim_max;
    setrlimit(resource, &wanted);
}

static void limit_resources(const struct confine_limits *limits)
{
    uint64_t mapped = mapped_bytes();
    if (mapped > 0)
        limit(RLIMIT_AS, mapped + limits->memory_bytes);
    limit(RLIMIT_FSIZE, limits->file_bytes);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 0);
    limit(RLIMIT_NPROC, 0);
    limit(RLIMIT_CPU, (uint64_t)(limits->cpu_ns / 1000000000 + 2));
    struct itimerval timer = {
        .it_value = {limits->cpu_ns / 1000000000, limits->cpu_ns % 1000000000 / 1000}};
    setitimer(ITIMER_PROF, &timer, NULL); /* finer than RLIMIT_CPU */
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Memory, the two descriptors it holds, and an end. Anything else fails as if forbidden. */
static bool filter_system_calls(void)
{
    static const int allowed[] = {
        SCMP_SYS(read),
        SCMP_SYS(write),
        SCMP_SYS(writev),
        SCMP_SYS(ftruncate),
        SCMP_SYS(ftruncate64),
        SCMP_SYS(lseek),
        SCMP_SYS(close),
        SCMP_SYS(mmap),
        SCMP_SYS(mmap2),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(mprotect),
        SCMP_SYS(madvise),
        SCMP_SYS(brk),
        SCMP_SYS(futex),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(sigaltstack),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(tgkill),
        SCMP_SYS(getrandom),
        SCMP_SYS(sched_yield),
        SCMP_SYS(restart_syscall),
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    bool ok = filter != NULL;
    for (size_t i = 0; ok && i < sizeof allowed / sizeof *allowed; i++) {
        int call = allowed[i];
        /* a call that this architecture does not have has a negative number: leave it out */
        ok = call < 0 || seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0) == 0;
    }
    ok = ok && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return ok;
}

static void write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        size -= (size_t)n;
    }
}

static _Noreturn void child_run(json_t *(*work)(void *data, bool filtered), void *data,
                                const struct confine_limits *limits, int answer)
{
    reset_signals();
    int low = answer, high = answer;
    if (limits->keep >= 0) {
        low = answer < limits->keep ? answer : limits->keep;
        high = answer < limits->keep ? limits->keep : answer;
    }
    limit_resources(limits);
    close_between(0, low - 1);
    close_between(low + 1, high - 1);
    close_between(high + 1, INT32_MAX);
    bool filtered = filter_system_calls();
    json_t *reply = work(data, filtered);
    char *text = json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL)
        _exit(1);
    write_all(answer, text, strlen(text));
    _exit(0);
}

/* --- the parent ----------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

struct reply {
    char *text;
    size_t size, capacity;
    bool late, large, cancelled;
};

/* Read until the child closes its end, or until it is too late or too much, or nobody wants it. */
static void reply_read(int fd, const struct confine_limits *limits, struct reply *reply)
{
    int64_t end = now_ns() + limits->wall_ns, most_ms = limits->cancel != NULL ? LOOK_MS : 60000;
    for (;;) {
        int64_t left_ms = (end - now_ns()) / 1000000;
        struct pollfd ready = {fd, POLLIN, 0};
        int n = left_ms > 0 ? poll(&ready, 1, (int)(left_ms < most_ms ? left_ms : most_ms)) : 0;
        reply->cancelled = limits->cancel != NULL && atomic_load(limits->cancel);
        if (reply->cancelled)
            return;
        if (left_ms <= 0) {
            reply->late = true;
            return;
        }
        if (n <= 0)
            continue;
        if (reply->size == reply->capacity) {
            reply->large = reply->capacity >= REPLY_BYTES_MAX;
            if (reply->large)
                return;
            reply->capacity = reply->capacity ? 2 * reply->capacity : 1u << 16;
            reply->text = xrealloc(reply->text, reply->capacity);
        }
        ssize_t got = read(fd, reply->text + reply->size, reply->capacity - reply->size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        reply->size += (size_t)got;
    }
}

static bool ended_badly(int status, const struct reply *reply, const struct confine_limits *limits,
                        struct error *error)
{
    double cpu_s = (double)limits->cpu_ns / 1e9;
    if (reply->cancelled)
        return error_set(error, ERROR_INTERRUPTED, limits->name, "stopped while it was read");
    if (reply->late || reply->large)
        return error_set(error, ERROR_MODEL_BROKEN, limits->name,
                         reply->late ? "reading it took longer than %.0f s"
                                     : "its description is larger than any model's",
                         (double)limits->wall_ns / 1e9);
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (number == SIGPROF || number == SIGXCPU)
        return error_set(error, ERROR_MODEL_BROKEN, limits->name,
                         "reading it took more than %.1f s of processor time; it is damaged or "
                         "made to do harm",
                         cpu_s);
    if (number == SIGXFSZ)
        return error_set(error, ERROR_MODEL_REFUSED, limits->name,
                         "it unpacks to more data than is read at most");
    if (number == SIGABRT)
        return error_set(error, ERROR_MODEL_BROKEN, limits->name,
                         "reading it needs more memory than any model does, or a library gave up "
                         "on it; it is damaged or made to do harm");
    if (number != 0)
        return error_set(error, ERROR_MODEL_BROKEN, limits->name,
                         "the reader crashed on it (signal %d, in a confined process); it is "
                         "damaged or made to do harm",
                         number);
    return error_set(error, ERROR_MODEL_BROKEN, limits->name, "the reader gave no answer (exit %d)",
                     WEXITSTATUS(status));
}

json_t *confine_run(json_t *(*work)(void *data, bool filtered), void *data,
                    const struct confine_limits *limits, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        error_set(error, ERROR_COMMAND, limits->name, "no pipe to the reader: %s", strerror(errno));
        return NULL;
    }
    pid_t child = fork();
    if (child == 0)
        child_run(work, data, limits, ends[1]);
    int cause = errno;
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        error_set(error, ERROR_COMMAND, limits->name, "no process for the reader: %s",
                  strerror(cause));
        return NULL;
    }
    struct reply reply = {0};
    reply_read(ends[0], limits, &reply);
    close(ends[0]);
    bool unfinished = reply.late || reply.large || reply.cancelled;
    if (unfinished)
        kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    json_t *json = NULL;
    if (!unfinished && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        json = json_loadb(reply.text != NULL ? reply.text : "", reply.size, 0, NULL);
    free(reply.text);
    if (json == NULL)
        ended_badly(status, &reply, limits, error);
    return json;
}
