/* What the workbench does when a worker asks to be replaced, refuses, or dies: held against a worker
 * that only plays one. It is this very program, started with --worker; every request it gets goes
 * to a file, with the number of the process that got it. */
#include "commands/workbench_private.h"
#include "engine/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <poll.h>

/* ---- the worker ---- */

static void note(const char *verb, const json_t *arguments)
{
    FILE *file = fopen(getenv("FAKE_LOG"), "a");
    char *dump = NULL;
    const json_t *shown = json_object_get(json_object_get(arguments, "settings"), "devices");
    if (strcmp(verb, "set") == 0)
        shown = json_object_get(arguments, "value");
    if (strcmp(verb, "load") == 0)
        shown = json_object_get(arguments, "path");
    if (shown)
        dump = json_dumps(shown, JSON_ENCODE_ANY | JSON_COMPACT);
    fprintf(file, "%s%s%s; ", verb, dump ? " " : "", dump ? dump : "");
    free(dump);
    fclose(file);
}

static void flush(struct stream_buffer *out)
{
    while (stream_buffer_bytes(out) > 0) {
        ssize_t written = write(1, out->data + out->start, stream_buffer_bytes(out));
        if (written <= 0)
            _exit(9);
        stream_buffer_consume(out, (size_t)written);
    }
}

/* Data of the reply, or NULL and *error. */
static json_t *answer(const char *verb, const json_t *arguments, struct error *error)
{
    if (strcmp(verb, "configure") == 0) {
        json_t *devices = json_object_get(json_object_get(arguments, "settings"), "devices");
        const char *first = json_string_value(json_array_get(devices, 0));
        if (first && strcmp(first, "gpu:9") == 0) {
            error_set(error, ERROR_DEVICE, "gpu:9", "there is no such GPU");
            return NULL;
        }
        return json_pack("{s:[s]}", "devices", "gpu:0");
    }
    if (strcmp(verb, "set") == 0) {
        bool devices = strcmp(json_string_value(json_object_get(arguments, "key")), "devices") == 0;
        int batch = (int)json_integer_value(json_object_get(arguments, "value"));
        if (batch == 14) {
            fprintf(stderr, "last words\n");
            _exit(5);
        }
        if (batch == 13) {
            error_set(error, ERROR_MEMORY, "set batch", "there is no memory for 13");
            return NULL;
        }
        return json_pack("{s:b, s:f, s:b}", "replanned", !devices, "cost_ms", 1.0, "restart",
                         (int)devices);
    }
    if (strcmp(verb, "load") == 0) {
        if (!strstr(json_string_value(json_object_get(arguments, "path")), "good")) {
            error_set(error, ERROR_MODEL_FILE, "load", "it is bad");
            return NULL;
        }
        return json_pack("{s:s, s:s, s:f, s:[{s:s, s:s, s:s, s:i}]}", "name", "fake", "format",
                         "demo", "load_ms", 1.0, "layers", "name", "a", "path", "a", "class",
                         "Dense", "parameters", 1);
    }
    return json_object();
}

static void serve(const struct stream_frame *frame, struct stream_buffer *out)
{
    struct error error = {0};
    json_t *request = stream_frame_json(frame);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    const json_t *arguments = json_object_get(request, "arguments");
    /* the names for the header are asked for beside everything else; what hangs, by the tests */
    if (strcmp(verb, "devices") != 0 && strcmp(verb, "hang") != 0)
        note(verb, arguments);
    if (strcmp(verb, "hang") == 0) {
        json_decref(request);
        return;
    }
    json_t *data = answer(verb, arguments, &error);
    if (!data)
        data = stream_error_json(&error);
    stream_put_json(out, error.code ? STREAM_FAILURE : STREAM_REPLY, frame->id, data);
    if (strcmp(verb, "load") == 0 && !error.code) {
        json_t *plan = json_pack("{s:s, s:i, s:s, s:[{s:s, s:s}]}", "device", "gpu:0", "batch", 32,
                                 "timing_source", "clock", "layers", "name", "a", "class", "Dense");
        stream_put_json(out, STREAM_PLAN, 0, plan);
        json_decref(plan);
    }
    json_decref(data);
    json_decref(request);
}

static int play_worker(void)
{
    struct stream_buffer out = {0};
    struct stream_decoder in;
    uint8_t block[4096];
    ssize_t got;
    stream_decoder_init(&in);
    stream_put_preamble(&out);
    json_t *hello = json_pack("{s:s, s:i, s:i, s:s}", "version", "test", "stream", STREAM_VERSION,
                              "pid", (int)getpid(), "host", "here");
    stream_put_json(&out, STREAM_HELLO, 0, hello);
    json_decref(hello);
    flush(&out);
    while ((got = read(0, block, sizeof block)) > 0) {
        struct stream_frame frame;
        stream_decoder_feed(&in, block, (size_t)got);
        while (stream_decoder_next(&in, &frame, NULL) == STREAM_FRAME)
            if (frame.type == STREAM_REQUEST)
                serve(&frame, &out);
        flush(&out);
    }
    stream_decoder_free(&in);
    stream_buffer_free(&out);
    return 0;
}

/* ---- the front ---- */

static char log_path[] = "/tmp/layertop-restart-XXXXXX";

struct bench {
    struct sink sink;
    char text[16384];
    struct workbench *workbench;
};

static void keep_line(void *context, enum sink_style style, const char *text)
{
    struct bench *bench = context;
    size_t used = strlen(bench->text);
    (void)style;
    snprintf(bench->text + used, sizeof bench->text - used, "%s\n", text);
}

static struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct workbench_options options = {.program = "/proc/self/exe", .interactive = true};
    bench->sink = (struct sink){.context = bench, .line = keep_line};
    bench->workbench = workbench_new(&options, NULL);
    workbench_set_sink(bench->workbench, &bench->sink);
    assert_int_equal(truncate(log_path, 0), 0);
    return bench;
}

static void bench_free(struct bench *bench)
{
    workbench_free(bench->workbench);
    free(bench);
}

/* Run a line and return what workers were asked for since the last time, one line a process. */
static void say(struct bench *bench, const char *line, const char *expected)
{
    char log[4096] = "";
    assert_int_equal(truncate(log_path, 0), 0);
    command_submit(bench->workbench, line);
    for (int i = 0; i < 1000 && command_busy(bench->workbench); i++) {
        struct pollfd polled = {.fd = workbench_fd(bench->workbench), .events = POLLIN};
        int timeout = workbench_timeout_ms(bench->workbench);
        poll(&polled, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout);
        workbench_dispatch(bench->workbench);
    }
    assert_false(command_busy(bench->workbench));
    FILE *file = fopen(log_path, "r");
    log[fread(log, 1, sizeof log - 1, file)] = '\0';
    fclose(file);
    if (strcmp(log, expected) != 0)
        fail_msg("'%s' asked for '%s', not '%s'\n%s", line, log, expected, bench->text);
}

static const char *devices_of(struct bench *bench)
{
    const json_t *value = workbench_setting(bench->workbench, "devices");
    const char *first = json_string_value(json_array_get(value, 0));
    return first ? first : json_string_value(value);
}

static void the_first_request_starts_a_worker(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "echo a", "");
    say(bench, "load good", "configure \"auto\"; load \"good\"; ");
    assert_non_null(workbench_model(bench->workbench));
    assert_non_null(workbench_plan(bench->workbench)); /* load waits for it */
    say(bench, "batch 64", "set 64; ");
    say(bench, "start", "start; ");
    assert_int_equal(workbench_state(bench->workbench), STATE_LIVE);
    bench_free(bench);
}

static void a_setting_may_take_a_new_worker(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "load good; start", "configure \"auto\"; load \"good\"; start; ");
    say(bench, "devices 1", "set [\"gpu:1\"]; configure [\"gpu:1\"]; load \"good\"; start; ");
    assert_string_equal(devices_of(bench), "gpu:1");
    assert_non_null(strstr(bench->text, "new context 0."));
    assert_int_equal(workbench_state(bench->workbench), STATE_LIVE);
    say(bench, "stop; batch 8", "stop; set 8; ");
    assert_int_equal(workbench_state(bench->workbench), STATE_IDLE);
    bench_free(bench);
}

static void a_new_worker_that_refuses_keeps_the_old_value(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "load good; start; devices 1",
        "configure \"auto\"; load \"good\"; start; set [\"gpu:1\"]; configure [\"gpu:1\"]; load "
        "\"good\"; start; ");
    bench->text[0] = '\0';
    command_submit(bench->workbench, "devices 9");
    say(bench, "sleep 300ms",
        "set [\"gpu:9\"]; configure [\"gpu:9\"]; load \"good\"; start; configure [\"gpu:1\"]; load "
        "\"good\"; start; ");
    assert_string_equal(devices_of(bench), "gpu:1");
    assert_non_null(strstr(bench->text, "error[E031]: gpu:9: there is no such GPU"));
    assert_int_equal(workbench_state(bench->workbench), STATE_LIVE);
    say(bench, "mem", "memory; ");
    bench_free(bench);
}

static void without_a_worker_a_value_is_checked_by_configure(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "devices 9", "configure [\"gpu:9\"]; ");
    assert_string_equal(devices_of(bench), "auto");
    assert_non_null(strstr(bench->text, "error[E031]"));
    assert_null(strstr(bench->text, "worker ended"));
    say(bench, "devices 1", "configure [\"gpu:1\"]; ");
    assert_string_equal(devices_of(bench), "gpu:1");
    assert_null(strstr(bench->text, "new context")); /* nothing was lost */
    say(bench, "batch 13; batch 7", "set 13; oom; set 7; ");
    assert_int_equal(json_integer_value(workbench_setting(bench->workbench, "batch")), 7);
    bench_free(bench);
}

static void a_dead_worker_is_replaced_by_the_next_command(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "load good; start", "configure \"auto\"; load \"good\"; start; ");
    say(bench, "batch 14", "set 14; ");
    assert_int_equal(workbench_state(bench->workbench), STATE_DEAD);
    assert_non_null(strstr(bench->text, "worker ended: exit 5: last words"));
    assert_non_null(strstr(bench->text, "error[E080]"));
    assert_int_equal(json_integer_value(workbench_setting(bench->workbench, "batch")), 32);
    assert_non_null(workbench_model(bench->workbench)); /* numbers stay */
    say(bench, "mem", "configure \"auto\"; load \"good\"; start; memory; ");
    assert_int_equal(workbench_state(bench->workbench), STATE_LIVE);
    assert_string_equal(workbench_notice(bench->workbench), "");
    assert_non_null(strstr(bench->text, "model loaded again"));
    say(bench, "batch 14; load good", "set 14; configure \"auto\"; load \"good\"; start; ");
    say(bench, "batch 14; unload", "set 14; configure \"auto\"; unload; ");
    bench_free(bench);
}

static void a_model_that_is_gone_is_told_to_whoever_needs_it(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    say(bench, "load bad", "configure \"auto\"; load \"bad\"; ");
    assert_null(workbench_model(bench->workbench));
    say(bench, "run", "");
    assert_non_null(strstr(bench->text, "error[E012]"));
    say(bench, "load good; load bad", "load \"good\"; load \"bad\"; ");
    assert_non_null(workbench_model(bench->workbench)); /* a refused load keeps the old model */
    bench_free(bench);
}

/* What became of a request that no worker answers. */
struct fate {
    int answers;
    struct error error;
};

static void keep_fate(struct workbench *workbench, void *context, const json_t *data,
                      const struct error *error)
{
    struct fate *fate = context;
    (void)workbench;
    assert_null(data);
    fate->answers++;
    fate->error = *error;
}

static void ctrl_c_ends_what_asks_no_worker(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    struct fate fate = {0};
    say(bench, "load good", "configure \"auto\"; load \"good\"; ");
    workbench_request(bench->workbench, "hang", NULL, keep_fate, &fate);
    command_submit(bench->workbench, "sleep 60s");
    workbench_dispatch(bench->workbench);
    assert_true(command_busy(bench->workbench));
    assert_true(command_cancel(bench->workbench));
    workbench_dispatch(bench->workbench);
    assert_false(command_busy(bench->workbench));
    assert_int_equal(fate.answers, 0);
    bench_free(bench);
}

/* The worker of a request is dropped by `line`; then its successor answers others. */
static void drops_nobody(const char *line, const char *expected, const char *why)
{
    struct bench *bench = bench_new();
    struct fate fate = {0};
    say(bench, "load good; start", "configure \"auto\"; load \"good\"; start; ");
    uint64_t asked = workbench_request(bench->workbench, "hang", NULL, keep_fate, &fate);
    say(bench, line, expected);
    assert_int_equal(fate.answers, 1);
    assert_int_equal(fate.error.code, ERROR_WORKER);
    assert_string_equal(fate.error.what, "hang");
    assert_string_equal(fate.error.why, why);
    struct fate other = {0};
    assert_true(workbench_request(bench->workbench, "hang", NULL, keep_fate, &other) > asked);
    say(bench, "stop; mem", "stop; memory; ");
    assert_int_equal(bench->workbench->pending_count, 1);
    assert_true(bench->workbench->pending[0].id > asked);
    assert_int_equal(fate.answers + other.answers, 1);
    bench_free(bench);
}

static void a_dropped_worker_leaves_no_request_without_an_answer(void **state)
{
    (void)state;
    drops_nobody("devices 1", "set [\"gpu:1\"]; configure [\"gpu:1\"]; load \"good\"; start; ",
                 "it was ended for a new one");
}

static void nor_do_recordings_that_begin_and_end(void **state)
{
    char path[] = "/tmp/layertop-XXXXXX-good"; /* the fake worker plays nothing: any file will do */
    char line[64], expected[256];
    (void)state;
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    close(fd);
    snprintf(line, sizeof line, "replay %s; replay off", path);
    snprintf(expected, sizeof expected,
             "configure \"auto\"; load \"%s\"; start; configure \"auto\"; load \"good\"; "
             "start; memory; ",
             path);
    drops_nobody(line, expected, "it was ended for a recording");
    unlink(path);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return play_worker();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_request_starts_a_worker),
        cmocka_unit_test(a_setting_may_take_a_new_worker),
        cmocka_unit_test(a_new_worker_that_refuses_keeps_the_old_value),
        cmocka_unit_test(without_a_worker_a_value_is_checked_by_configure),
        cmocka_unit_test(a_dead_worker_is_replaced_by_the_next_command),
        cmocka_unit_test(a_model_that_is_gone_is_told_to_whoever_needs_it),
        cmocka_unit_test(a_dropped_worker_leaves_no_request_without_an_answer),
        cmocka_unit_test(nor_do_recordings_that_begin_and_end),
        cmocka_unit_test(ctrl_c_ends_what_asks_no_worker),
    };
    int fd = mkstemp(log_path);
    if (fd < 0)
        return 1;
    close(fd);
    setenv("FAKE_LOG", log_path, 1);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(log_path);
    return failures;
}
