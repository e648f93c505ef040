/* The client against real worker processes: the built program, and shells that play broken ones.
 * LAYERTOP_BIN names the program (default build/layertop). */
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/stream.h"
#include "tests/support/front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct seen { /* what the handler got */
    int hellos, replies, records, plans, logs, ends;
    bool after_end; /* an event came after ENDED */
    uint64_t last_id, previous_id;
    enum error_code previous_code;
    json_t *reply;
    struct error error; /* of the last reply */
    struct error end;
    char last_log[256];
};

static void on_event(void *context, const struct engine_event *event)
{
    struct seen *seen = context;
    seen->after_end |= seen->ends > 0 && event->kind != ENGINE_EVENT_REPLY;
    switch (event->kind) {
    case ENGINE_EVENT_HELLO:
        seen->hellos++;
        assert_true(json_integer_value(json_object_get(event->json, "pid")) > 0);
        break;
    case ENGINE_EVENT_REPLY:
        seen->replies++;
        seen->previous_id = seen->last_id;
        seen->previous_code = seen->error.code;
        seen->last_id = event->id;
        seen->error = event->error;
        assert_int_equal(event->json == NULL, event->error.code != ERROR_NONE);
        json_decref(seen->reply);
        seen->reply = json_incref(event->json);
        break;
    case ENGINE_EVENT_RECORD:
        seen->records++;
        break;
    case ENGINE_EVENT_PLAN:
        seen->plans++;
        break;
    case ENGINE_EVENT_LOG:
        seen->logs++;
        snprintf(seen->last_log, sizeof seen->last_log, "%s",
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

static void seen_free(struct seen *seen)
{
    json_decref(seen->reply);
    assert_false(seen->after_end);
}

static const char *program(void)
{
    const char *named = getenv("LAYERTOP_BIN");
    return named != NULL ? named : "build/layertop";
}

static struct engine *start(const char *worker_command)
{
    return front_start(program(), worker_command);
}

static void wait_for(struct engine *engine, struct seen *seen, const int *counter, int wanted)
{
    front_wait(engine, on_event, seen, counter, wanted);
}

static json_t *settings(void)
{
    return json_pack("{s:{s:[s], s:i, s:i}}", "settings", "devices", "cpu", "batch", 4, "threads",
                     1);
}

/* A request and its reply. */
static void ask(struct engine *engine, struct seen *seen, const char *verb, json_t *arguments)
{
    int replies = seen->replies;
    uint64_t id = engine_submit(engine, verb, arguments);
    wait_for(engine, seen, &seen->replies, replies + 1);
    assert_true(seen->last_id == id);
}

static struct engine *with_model(struct seen *seen)
{
    struct engine *engine = start(NULL);
    ask(engine, seen, "configure", settings());
    assert_int_equal(seen->error.code, ERROR_NONE);
    ask(engine, seen, "load", json_pack("{s:s}", "path", "share/layertop/demo/digits/digits.h5"));
    if (seen->error.code != ERROR_NONE)
        fail_msg("%s", seen->error.why);
    wait_for(engine, seen, &seen->plans, 1);
    return engine;
}

/* Descriptors this process holds. */
static int open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static bool no_child_is_left(void)
{
    return waitpid(-1, NULL, WNOHANG) < 0;
}

static void a_worker_answers(void **state)
{
    (void)state;
    int before = open_descriptors();
    struct seen seen = {0};
    struct engine *engine = with_model(&seen);
    assert_int_equal(seen.hellos, 1);
    assert_true(engine_alive(engine));
    int pid = engine_pid(engine);
    assert_int_equal(getpgid(pid), pid); /* the terminal's Ctrl-C does not reach it */
    ask(engine, &seen, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0));
    assert_int_equal(json_integer_value(json_object_get(seen.reply, "steps")), 3);
    assert_true(seen.records > 0); /* before the reply */
    ask(engine, &seen, "fly", NULL);
    assert_int_equal(seen.error.code, ERROR_UNKNOWN_COMMAND);
    kill(pid, SIGINT); /* ignored: it waits to be asked */
    ask(engine, &seen, "stop", NULL);
    assert_int_equal(seen.error.code, ERROR_NONE);
    engine_stop(engine);
    assert_true(no_child_is_left());
    assert_int_equal(open_descriptors(), before);
    seen_free(&seen);
}

static void a_worker_that_is_killed_is_told_and_reaped(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = with_model(&seen);
    int replies = seen.replies;
    engine_submit(engine, "run", json_pack("{s:i}", "steps", 10000000));
    engine_submit(engine, "memory", NULL);
    kill(engine_pid(engine), SIGKILL);
    wait_for(engine, &seen, &seen.ends, 1);
    /* both open requests were answered first */
    assert_int_equal(seen.replies, replies + 2);
    assert_int_equal(seen.error.code, ERROR_WORKER);
    assert_string_equal(seen.end.why, "signal 9");
    assert_false(engine_alive(engine));
    assert_int_equal(engine_pid(engine), 0);
    assert_true(no_child_is_left());
    /* and what is asked now is answered too */
    ask(engine, &seen, "memory", NULL);
    assert_int_equal(seen.error.code, ERROR_WORKER);
    assert_int_equal(seen.ends, 1);
    engine_stop(engine);
    seen_free(&seen);
}

static void a_run_is_cancelled_and_overtaken(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = with_model(&seen);
    int replies = seen.replies;
    uint64_t run = engine_submit(engine, "run", json_pack("{s:i}", "steps", 10000000));
    uint64_t queued = engine_submit(engine, "memory", NULL);
    engine_cancel(engine, queued);
    engine_cancel(engine, run);
    /* both replies may come in one dispatch: the order is told by their ids */
    wait_for(engine, &seen, &seen.replies, replies + 2);
    assert_true(seen.previous_id == run);
    assert_true(seen.last_id == queued);
    assert_int_equal(seen.previous_code, ERROR_INTERRUPTED);
    assert_int_equal(seen.error.code, ERROR_INTERRUPTED);
    ask(engine, &seen, "run", json_pack("{s:i, s:i}", "steps", 1, "warmup", 0));
    assert_int_equal(seen.error.code, ERROR_NONE);
    engine_cancel(engine, 4711); /* nobody's */
    ask(engine, &seen, "stop", NULL);
    engine_stop(engine);
    seen_free(&seen);
}

static void live_records_flow_until_stop(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = with_model(&seen);
    ask(engine, &seen, "start", NULL);
    int records = seen.records;
    wait_for(engine, &seen, &seen.records, records + 3);
    ask(engine, &seen, "stop", NULL);
    engine_stop(engine); /* while nothing runs */
    engine = with_model(&seen);
    ask(engine, &seen, "start", NULL);
    engine_stop(engine); /* and in the middle of it */
    assert_true(no_child_is_left());
    seen_free(&seen);
}

static void noise_before_a_remote_worker_is_skipped(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command,
             "head -c 60000 /dev/zero | tr '\\0' 'n'; echo; echo on stderr >&2; %s", program());
    struct seen seen = {0};
    struct engine *engine = start(command);
    wait_for(engine, &seen, &seen.hellos, 1);
    wait_for(engine, &seen, &seen.logs, 1);
    assert_string_equal(seen.last_log, "on stderr");
    ask(engine, &seen, "stop", NULL);
    assert_int_equal(seen.error.code, ERROR_NONE);
    engine_stop(engine);
    seen_free(&seen);
}

/* A worker command that is none: how it ended, and its last words. */
static void expect_end(const char *command, enum error_code code, const char *why)
{
    struct seen seen = {0};
    struct engine *engine = start(command);
    engine_submit(engine, "stop", NULL);
    wait_for(engine, &seen, &seen.ends, 1);
    if (strstr(seen.end.why, why) == NULL || seen.end.code != code)
        fail_msg("'%s' ended with %d: %s", command, seen.end.code, seen.end.why);
    assert_int_equal(seen.replies, 1);
    assert_int_equal(seen.error.code, ERROR_WORKER);
    engine_stop(engine);
    assert_true(no_child_is_left());
    seen_free(&seen);
}

static void what_is_no_worker_says_why(void **state)
{
    (void)state;
    expect_end("echo cannot reach gpu01 >&2; exit 3; :", ERROR_WORKER,
               "exit 3: cannot reach gpu01");
    expect_end("exit 0; :", ERROR_WORKER, "exit 0");
    expect_end("echo usage: something else; exit 2; :", ERROR_WORKER,
               "exit 2: usage: something else");
    expect_end("kill -9 $$; :", ERROR_WORKER, "signal 9");
    expect_end("head -c 70000 /dev/zero; sleep 100; :", ERROR_STREAM, "no layertop worker");
    /* the preamble of version 2 */
    expect_end("printf '\\217LAYERTOP\\r\\n\\032\\002\\0\\0\\0'; sleep 100; :", ERROR_STREAM,
               "version 2");
    expect_end("printf '\\217LAYERTOP\\r\\n\\032\\001\\0\\0\\0garbage that is no frame at all'; "
               "sleep 100; :",
               ERROR_STREAM, "damaged");
}

static void a_program_that_cannot_start_is_an_error(void **state)
{
    (void)state;
    struct engine_options options = {.program = "/nowhere/layertop"};
    struct error error = {0};
    int before = open_descriptors();
    assert_null(engine_start(&options, &error));
    assert_int_equal(error.code, ERROR_WORKER);
    assert_non_null(strstr(error.why, "No such file"));
    assert_int_equal(open_descriptors(), before);
    assert_true(no_child_is_left());
}

/* A worker that does not read: requests wait in the client, and stopping does not hang. */
static void a_worker_that_hangs_is_killed_on_stop(void **state)
{
    (void)state;
    struct engine *engine = start("sleep 100; :");
    char *big = malloc(1 << 20);
    memset(big, 'x', 1 << 20);
    big[(1 << 20) - 1] = '\0';
    for (int i = 0; i < 4; i++)
        engine_submit(engine, "load", json_pack("{s:s}", "path", big));
    free(big);
    assert_true(engine_wants_write(engine));
    int64_t start_ns = clock_now_ns();
    engine_stop(engine);
    assert_true(clock_now_ns() - start_ns < INT64_C(5000000000));
    assert_true(no_child_is_left());
}

static void a_request_too_long_is_refused_here(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct engine *engine = start(NULL);
    size_t bytes = STREAM_FRAME_MAX + 10;
    char *big = malloc(bytes);
    memset(big, 'x', bytes - 1);
    big[bytes - 1] = '\0';
    ask(engine, &seen, "load", json_pack("{s:s}", "path", big));
    free(big);
    assert_int_equal(seen.error.code, ERROR_VALUE);
    ask(engine, &seen, "stop", NULL);
    assert_int_equal(seen.error.code, ERROR_NONE);
    engine_stop(engine);
    seen_free(&seen);
}

/* The worker of a front that was killed goes away by itself. */
static void a_worker_dies_with_its_front(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t front = fork();
    if (front == 0) {
        struct engine *engine = start(NULL);
        int pid = engine_pid(engine);
        if (write(pipe_ends[1], &pid, sizeof pid) < 0)
            _exit(1);
        pause();
        _exit(0);
    }
    int pid = 0;
    assert_int_equal(read(pipe_ends[0], &pid, sizeof pid), (ssize_t)sizeof pid);
    kill(front, SIGKILL);
    waitpid(front, NULL, 0);
    int64_t limit = clock_now_ns() + FRONT_PATIENCE_NS;
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (bool there = true; there;) { /* gone, or a zombie that waits for init */
        FILE *file = fopen(path, "r");
        there =
            file != NULL && fgets(line, sizeof line, file) != NULL && strstr(line, ") Z") == NULL;
        if (file != NULL)
            fclose(file);
        if (clock_now_ns() > limit)
            fail_msg("the worker lives on: %s", line);
        poll(NULL, 0, 5);
    }
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* ---- recording ---- */

static void a_recording_is_the_stream_itself(void **state)
{
    (void)state;
    char folder[] = "/tmp/layertop-test-XXXXXX", path[64], part[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/run", folder);
    snprintf(part, sizeof part, "%s.part", path);
    struct seen seen = {0};
    struct engine *engine = with_model(&seen);
    ask(engine, &seen, "record", json_pack("{s:b}", "off", 1));
    assert_int_equal(seen.error.code, ERROR_COMMAND);
    ask(engine, &seen, "record", json_pack("{s:s}", "path", path));
    assert_string_equal(json_string_value(json_object_get(seen.reply, "path")), part);
    ask(engine, &seen, "record", json_pack("{s:s}", "path", path));
    assert_int_equal(seen.error.code, ERROR_COMMAND);
    ask(engine, &seen, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0));
    ask(engine, &seen, "record", json_pack("{s:b}", "off", 1));
    json_int_t frames = json_integer_value(json_object_get(seen.reply, "frames"));
    json_int_t bytes = json_integer_value(json_object_get(seen.reply, "bytes"));
    /* what exists is not overwritten */
    ask(engine, &seen, "record", json_pack("{s:s}", "path", path));
    assert_int_equal(seen.error.code, ERROR_FILE);
    engine_stop(engine);

    struct stream_decoder decoder;
    struct stream_frame frame;
    stream_decoder_init(&decoder);
    FILE *file = fopen(part, "rb");
    char block[4096];
    size_t got, total = 0;
    while ((got = fread(block, 1, sizeof block, file)) > 0) {
        stream_decoder_feed(&decoder, block, got);
        total += got;
    }
    fclose(file);
    assert_int_equal(total, bytes);
    int count[16] = {0}, all = 0;
    bool model = false;
    while (stream_decoder_next(&decoder, &frame, NULL) == STREAM_FRAME) {
        all++;
        count[frame.type & 15]++;
        if (frame.type == STREAM_JOURNAL) {
            json_t *json = stream_frame_json(&frame);
            model = json_is_object(json_object_get(json, "model")) &&
                    json_is_object(json_object_get(json, "plan"));
            json_decref(json);
        }
    }
    assert_int_equal(all, frames);
    assert_true(model);
    assert_int_equal(count[STREAM_HELLO], 1);
    assert_int_equal(count[STREAM_REQUEST], 1);
    assert_int_equal(count[STREAM_REPLY], 1);
    assert_true(count[STREAM_RECORD] > 0);
    stream_decoder_free(&decoder);
    unlink(part);
    rmdir(folder);
    seen_free(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_answers),
        cmocka_unit_test(a_worker_that_is_killed_is_told_and_reaped),
        cmocka_unit_test(a_run_is_cancelled_and_overtaken),
        cmocka_unit_test(live_records_flow_until_stop),
        cmocka_unit_test(noise_before_a_remote_worker_is_skipped),
        cmocka_unit_test(what_is_no_worker_says_why),
        cmocka_unit_test(a_program_that_cannot_start_is_an_error),
        cmocka_unit_test(a_worker_that_hangs_is_killed_on_stop),
        cmocka_unit_test(a_request_too_long_is_refused_here),
        cmocka_unit_test(a_worker_dies_with_its_front),
        cmocka_unit_test(a_recording_is_the_stream_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
