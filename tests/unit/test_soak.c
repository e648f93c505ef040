/* One front and one worker through two thousand changes of settings and two hundred loads: neither may
 * grow. LAYERTOP_BIN names the binary (default build/layertop). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <signal.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS        2 /* what a sanitizer keeps for itself is resident too: only its own checks */
#define MEMORY_COUNTS 0
#else
#define ROUNDS        20
#define MEMORY_COUNTS 1
#endif
/* The first rounds fill caches: compiled primitives, the history of metrics, the heap's free lists. */
#define WARM_ROUNDS 3
/* A page more here and there is the heap's business; a leak of 300 bytes a change is not. */
#define GROWTH_KIB  512

/* 10 changes and one load; ten of these make a round. */
static const char CYCLE[] = "batch 4\nfusion off\nslice 1\nthreads 1\nlimit 1GiB\n"
                            "load demo:digits\n"
                            "batch 1\nfusion on\nslice auto\nthreads 0\nlimit none\n";

struct pair {
    pid_t front, worker;
    FILE *in, *out;
};

static void say(struct pair *pair, const char *lines)
{
    char line[1024];
    fprintf(pair->in, "%secho said\n", lines);
    fflush(pair->in);
    while (fgets(line, sizeof line, pair->out)) {
        if (strcmp(line, "said\n") == 0)
            return;
        if (strstr(line, "error[") || strstr(line, "worker ended"))
            fail_msg("%s", line);
    }
    fail_msg("the program ended");
}

static struct pair start(void)
{
    const char *program = getenv("LAYERTOP_BIN");
    struct pair pair = {0};
    int in[2], out[2];
    assert_int_equal(pipe(in) | pipe(out), 0);
    pair.front = fork();
    assert_true(pair.front >= 0);
    if (pair.front == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        close(in[0]);
        close(in[1]);
        close(out[0]);
        close(out[1]);
        execl(program ? program : "build/layertop", "layertop", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    pair.in = fdopen(in[1], "w");
    pair.out = fdopen(out[0], "r");
    say(&pair, "devices cpu\nload demo:digits\nstart\n");
    char path[96];
    int worker = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pair.front, (int)pair.front);
    FILE *file = fopen(path, "r");
    if (!file)
        skip(); /* a kernel without CONFIG_PROC_CHILDREN */
    assert_int_equal(fscanf(file, "%d", &worker), 1);
    fclose(file);
    pair.worker = worker;
    return pair;
}

static void end(struct pair *pair)
{
    int status;
    fclose(pair->in);
    char line[1024];
    while (fgets(line, sizeof line, pair->out))
        ;
    fclose(pair->out);
    waitpid(pair->front, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static long anonymous_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file); /* the worker was not replaced */
    while (kib < 0 && fgets(line, sizeof line, file)) {
        if (sscanf(line, "RssAnon: %ld kB", &kib) != 1)
            kib = -1;
    }
    fclose(file);
    assert_true(kib > 0);
    return kib;
}

static void settings_and_loads_leave_nothing_behind(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    struct pair pair = start();
    long front = 0, worker = 0;
    for (int round = 0; round < WARM_ROUNDS + ROUNDS; round++) {
        for (int i = 0; i < 10; i++)
            say(&pair, CYCLE);
        if (round == WARM_ROUNDS - 1) {
            front = anonymous_kib(pair.front);
            worker = anonymous_kib(pair.worker);
        }
    }
    long front_growth = anonymous_kib(pair.front) - front;
    long worker_growth = anonymous_kib(pair.worker) - worker;
    end(&pair);
    if (MEMORY_COUNTS && (front_growth > GROWTH_KIB || worker_growth > GROWTH_KIB))
        fail_msg("front %ld KiB + %ld, worker %ld KiB + %ld", front, front_growth, worker,
                 worker_growth);
    print_message("# front %ld KiB %+ld, worker %ld KiB %+ld\n", front, front_growth, worker,
                  worker_growth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_and_loads_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
