#define _GNU_SOURCE /* sched_getaffinity */
/* Workers that misbehave: this program is its own worker (`test_worker --worker`), whose hooks
 * print, flood, hang and crash when they are configured to. */
#include "engine/clock.h"
#include "engine/cpu/cpu.h"
#include "engine/engine.h"
#include "engine/stream.h"
#include "engine/worker.h"
#include "tests/support/front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the worker ---- */

static bool (*emit)(void *emit_context, const void *data, size_t bytes);
static void *emit_context;
static int ticks;

static void attach(void *context, bool (*function)(void *, const void *, size_t),
                   void *function_context)
{
    (void)context;
    emit = function;
    emit_context = function_context;
}

static void tick(void *context)
{
    (void)context;
    ticks++;
}

/* 32 MiB of records at once: far more than may wait. */
static void flood(struct error *error)
{
    static char record[64 << 10];
    int sent = 0, dropped = 0;
    for (int i = 0; i < 512; i++) {
        if (emit(emit_context, record, sizeof record))
            sent++;
        else
            dropped++;
    }
    error_set(error, ERROR_CUPTI, "flood", "%d sent %d dropped", sent, dropped);
}

static bool configure(void *context, const char *key, const json_t *value, bool *restart,
                      struct error *error)
{
    (void)context;
    (void)key;
    (void)restart;
    const char *how = json_string_value(value);
    if (how == NULL)
        return true;
    if (strcmp(how, "print") == 0) {
        printf("on stdout\nand \x1b[2Jagain\n");
        fflush(stdout);
        fprintf(stderr, "on stderr\n");
    } else if (strcmp(how, "crash") == 0) {
        fprintf(stderr, "corrupted size vs. prev_size\n");
        raise(SIGSEGV);
    } else if (strcmp(how, "abort") == 0) {
        fprintf(stderr, "terminate called without a reason\n");
        abort();
    } else if (strcmp(how, "exit") == 0) {
        fprintf(stderr, "license server not reached\n");
        exit(7);
    } else if (strcmp(how, "hang") == 0) {
        pause();
    } else if (strcmp(how, "flood") == 0) {
        flood(error);
        return false;
    } else if (strcmp(how, "ticks") == 0) {
        return error_set(error, ERROR_CUPTI, "ticks", "%d", ticks);
    } else if (strcmp(how, "stdin") == 0) {
        return error_set(error, ERROR_CUPTI, "stdin", "%d", getchar());
    }
    return true;
}

static const struct worker_hooks hooks = {.attach = attach, .configure = configure, .tick = tick};

/* ---- the front ---- */

struct seen {
    int replies, records, logs, ends;
    char log[1024];
    struct error error, end;
};

static void on_event(void *context, const struct engine_event *event)
{
    struct seen *seen = context;
    size_t used = strlen(seen->log);
    switch (event->kind) {
    case ENGINE_EVENT_REPLY:
        seen->replies++;
        seen->error = event->error;
        break;
    case ENGINE_EVENT_RECORD:
        seen->records++;
        break;
    case ENGINE_EVENT_LOG:
        seen->logs++;
        snprintf(seen->log + used, sizeof seen->log - used, "%s|",
                 json_string_value(json_object_get(event->json, "text")));
        break;
    case ENGINE_EVENT_ENDED:
        seen->ends++;
        seen->end = event->error;
        break;
    default:
        break;
    }
}

static struct engine *start(void)
{
    return front_start("/proc/self/exe", NULL);
}

static void wait_for(struct engine *engine, struct seen *seen, const int *counter, int wanted)
{
    front_wait(engine, on_event, seen, counter, wanted);
}

static void misbehave(struct engine *engine, const char *how)
{
    engine_submit(engine, "set", json_pack("{s:s, s:s}", "key", "raw", "value", how));
}

static void what_libraries_print_becomes_log_lines(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    misbehave(engine, "print");
    wait_for(engine, &seen, &seen.logs, 3);
    assert_string_equal(seen.log, "on stdout|and \\x1b[2Jagain|on stderr|");
    /* and what they would read is not the stream */
    misbehave(engine, "stdin");
    wait_for(engine, &seen, &seen.replies, 2);
    assert_string_equal(seen.error.why, "-1");
    engine_stop(engine);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* (a sanitizer adds words and another code) */
static void last_words_survive_the_death(void **state)
{
    (void)state;
    static const struct {
        const char *how, *why;
    } deaths[] = {
        {"crash", "signal 11: corrupted size vs. prev_size"},
        {"abort", "signal 6: terminate called without a reason"},
        {"exit", "exit 7: license server not reached"},
    };
    for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++) {
        struct seen seen = {0};
        struct engine *engine = start();
        misbehave(engine, deaths[i].how);
        wait_for(engine, &seen, &seen.ends, 1);
        assert_string_equal(seen.end.why, deaths[i].why);
        assert_int_equal(seen.replies, 1);
        assert_int_equal(seen.error.code, ERROR_WORKER);
        engine_stop(engine);
    }
}
#endif

static void records_are_dropped_and_replies_are_not(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    misbehave(engine, "flood");
    poll(NULL, 0, 500); /* nobody reads while the flood comes */
    wait_for(engine, &seen, &seen.replies, 1);
    int sent = 0, dropped = 0;
    assert_int_equal(sscanf(seen.error.why, "%d sent %d dropped", &sent, &dropped), 2);
    assert_true(dropped > 0);
    assert_int_equal(sent + dropped, 512);
    assert_int_equal(seen.records, sent); /* those that were taken arrive, before the reply */
    misbehave(engine, "flood");           /* and it goes on */
    wait_for(engine, &seen, &seen.replies, 2);
    engine_stop(engine);
}

static void a_worker_that_hangs_can_be_left(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    misbehave(engine, "hang");
    misbehave(engine, "print");
    engine_cancel(engine, 2);
    poll(NULL, 0, 50);
    engine_dispatch(engine, on_event, &seen);
    int64_t start_ns = clock_now_ns();
    engine_stop(engine);
    assert_true(clock_now_ns() - start_ns < INT64_C(5000000000));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* Raw buffers are the worker's part of a recording: it is told when they begin and end, and a
 * recording that it refuses does not go on. */
static void a_raw_recording_has_two_ends(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    char path[64], part[80];
    snprintf(path, sizeof path, "/tmp/layertop-test-%d", (int)getpid());
    snprintf(part, sizeof part, "%s.part", path);
    engine_submit(engine, "record", json_pack("{s:s, s:s}", "path", path, "raw", "print"));
    wait_for(engine, &seen, &seen.replies, 1);
    assert_int_equal(seen.error.code, ERROR_NONE);
    assert_int_equal(access(part, F_OK), 0);
    engine_submit(engine, "record", json_pack("{s:b}", "off", 1));
    wait_for(engine, &seen, &seen.replies, 2);
    assert_int_equal(seen.error.code, ERROR_NONE);
    unlink(part);
    engine_submit(engine, "record", json_pack("{s:s, s:s}", "path", path, "raw", "ticks"));
    wait_for(engine, &seen, &seen.replies, 3);
    assert_int_equal(seen.error.code, ERROR_CUPTI);
    engine_submit(engine, "record", json_pack("{s:b}", "off", 1));
    wait_for(engine, &seen, &seen.replies, 4);
    assert_int_equal(seen.error.code, ERROR_COMMAND);
    unlink(part);
    /* a recording outlives its worker, and can still be ended */
    engine_submit(engine, "record", json_pack("{s:s}", "path", path));
    kill(engine_pid(engine), SIGKILL);
    wait_for(engine, &seen, &seen.ends, 1);
    engine_submit(engine, "record", json_pack("{s:b}", "off", 1));
    wait_for(engine, &seen, &seen.replies, 6);
    assert_int_equal(seen.error.code, ERROR_NONE);
    unlink(part);
    engine_stop(engine);
}

/* An idle worker with no device open sleeps: no ticks, no processor time. */
static void an_idle_worker_does_not_wake(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    engine_submit(engine, "configure", json_pack("{s:{s:[s]}}", "settings", "devices", "cpu"));
    wait_for(engine, &seen, &seen.replies, 1);
    char path[64], line[256];
    unsigned long switches[2] = {0};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%d/status", engine_pid(engine));
        FILE *file = fopen(path, "r");
        while (fgets(line, sizeof line, file) != NULL)
            sscanf(line, "voluntary_ctxt_switches: %lu", &switches[i]);
        fclose(file);
        if (i == 0)
            poll(NULL, 0, 600);
    }
    assert_true(switches[1] - switches[0] <= 2);
    misbehave(engine, "ticks");
    wait_for(engine, &seen, &seen.replies, 2);
    assert_string_equal(seen.error.why, "0");
    engine_stop(engine);
}

/* OpenMP binds the engine's thread to a processor. Others would inherit that, and take it away from
 * the steps while the rest of the machine idles. */
static void no_other_thread_sits_on_the_engines_processor(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start();
    engine_submit(engine, "configure", json_pack("{s:{s:[s]}}", "settings", "devices", "cpu"));
    wait_for(engine, &seen, &seen.replies, 1);
    char path[64];
    int others = 0, bound = 0;
    snprintf(path, sizeof path, "/proc/%d/task", engine_pid(engine));
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        cpu_set_t set;
        int thread = atoi(entry->d_name);
        if (thread == 0 || thread == engine_pid(engine))
            continue;
        assert_int_equal(sched_getaffinity(thread, sizeof set, &set), 0);
        bound += CPU_COUNT(&set) < machine_allowed_processors(NULL, 0);
        others++;
    }
    closedir(directory);
    assert_true(others > 0);
#ifdef __SANITIZE_THREAD__
    assert_true(bound <= 1); /* ThreadSanitizer has a thread of its own */
#else
    assert_int_equal(bound, 0);
#endif
    engine_stop(engine);
}

/* Bytes that are no stream, or another version, end the worker with a word about it. */
static void a_front_of_another_version_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *send, *why; /* the pipe stays open, and nobody waits for it to close */
    } fronts[] = {
        {"printf '\\217LAYERTOP\\r\\n\\032\\003\\0\\0\\0'; sleep 5 &", "version 3"},
        {"printf '\\217LAYERTOP\\r\\n\\032\\001\\0\\0\\0GET / HTTP/1.1 and more'; sleep 5 &",
         "damaged"},
    };
    for (size_t i = 0; i < 2; i++) {
        char *command =
            xasprintf("( %s ) | /proc/%d/exe --worker 2>&1 >/dev/null", fronts[i].send, getpid());
        FILE *pipe = popen(command, "r");
        char said[512] = "";
        size_t got = fread(said, 1, sizeof said - 1, pipe);
        said[got] = '\0';
        pclose(pipe);
        if (strstr(said, fronts[i].why) == NULL)
            fail_msg("it said: %s", said);
        free(command);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0) {
        struct rlimit no_core = {0};
        setrlimit(RLIMIT_CORE, &no_core);
        return worker_main(0, 1, &hooks);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_libraries_print_becomes_log_lines),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(last_words_survive_the_death),
#endif
        cmocka_unit_test(records_are_dropped_and_replies_are_not),
        cmocka_unit_test(a_worker_that_hangs_can_be_left),
        cmocka_unit_test(a_raw_recording_has_two_ends),
        cmocka_unit_test(an_idle_worker_does_not_wake),
        cmocka_unit_test(no_other_thread_sits_on_the_engines_processor),
        cmocka_unit_test(a_front_of_another_version_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
