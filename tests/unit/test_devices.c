/* The session with a second device: a fake GPU module (tests/tools/fake_gpu.c), built here. */
#include "engine/clock.h"
#include "engine/pipeline.h"
#include "engine/session_private.h"
#include "tests/support/fake_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct listener {
    struct worker_hooks hooks;
    struct session_ports ports;
    struct observer observer;
    atomic_bool cancel;
    char device[16]; /* whose steps come now */
    int steps_cpu, steps_gpu, switches, rests;
    bool resting;
    int segment_steps[2]; /* of the run under way: on the CPU, on the GPU */
    uint32_t segment, segments[2];
    json_t *plan;
};

static void on_plan(void *context, const char *device, const struct graph *graph,
                    const char *const *impls)
{
    struct listener *listener = context;
    (void)impls;
    if (graph == NULL)
        return;
    snprintf(listener->device, sizeof listener->device, "%s", device);
    listener->switches++;
}

static void on_rest(void *context, bool resting)
{
    struct listener *listener = context;
    listener->rests += resting;
    listener->resting = resting;
}

static void on_segment(void *context, uint32_t segment)
{
    struct listener *listener = context;
    listener->segment = segment;
}

static void on_step_end(void *context, uint64_t step, int64_t end_ns)
{
    struct listener *listener = context;
    (void)step;
    (void)end_ns;
    bool gpu = strcmp(listener->device, "gpu:0") == 0;
    listener->steps_cpu += !gpu;
    listener->steps_gpu += gpu;
    if (listener->segment != 0) {
        listener->segment_steps[gpu]++;
        listener->segments[gpu] = listener->segment;
    }
}

static void on_progress(void *context, uint64_t id, double fraction, const char *text)
{
    (void)context;
    (void)id;
    (void)fraction;
    (void)text;
}

static void on_plan_event(void *context, const json_t *plan)
{
    struct listener *listener = context;
    json_decref(listener->plan);
    listener->plan = plan != NULL ? json_deep_copy(plan) : NULL;
}

static struct session *session_with(struct listener *listener, const char *settings)
{
    *listener = (struct listener){0};
    listener->observer = (struct observer){
        .context = listener, .plan = on_plan, .segment = on_segment, .step_end = on_step_end};
    listener->hooks = (struct worker_hooks){.context = listener, .observer = &listener->observer};
    listener->ports =
        (struct session_ports){listener, on_progress, on_plan_event, &listener->cancel};
    struct session *session = session_new(&listener->hooks, &listener->ports);
    struct error error = {0};
    json_t *arguments = json_loads(settings, 0, NULL);
    json_t *reply = session_execute(session, 1, "configure", arguments, &error);
    if (reply == NULL)
        fail_msg("configure: %s: %s", error.what, error.why);
    json_decref(reply);
    json_decref(arguments);
    return session;
}

static json_t *ask(struct session *session, const char *verb, json_t *arguments,
                   struct error *error)
{
    static uint64_t id = 100;
    *error = (struct error){0};
    json_t *reply = session_execute(session, id++, verb, arguments, error);
    session_replied(session);
    json_decref(arguments);
    return reply;
}

static json_t *load(struct session *session, struct error *error)
{
    return ask(session, "load", json_pack("{s:s}", "path", "share/layertop/demo/digits/digits.h5"),
               error);
}

static json_t *set(struct session *session, const char *key, json_t *value, struct error *error)
{
    return ask(session, "set", json_pack("{s:s, s:o}", "key", key, "value", value), error);
}

static void finish(struct session *session, struct listener *listener)
{
    session_free(session);
    assert_null(listener->plan);
}

static void auto_takes_the_gpu(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session =
        session_with(&listener, "{\"settings\": {\"batch\": 4, \"threads\": 1}}");
    json_decref(load(session, &error));
    assert_string_equal(json_string_value(json_object_get(listener.plan, "device")), "gpu:0");
    json_t *reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0), &error);
    assert_string_equal(json_string_value(json_object_get(reply, "device")), "gpu:0");
    const json_t *memory = json_object_get(reply, "memory");
    /* from outside: what the device's used memory grew by, without the context */
    assert_int_equal(json_integer_value(json_object_get(memory, "planned_bytes")),
                     json_integer_value(json_object_get(memory, "measured_bytes")));
    assert_int_equal(json_integer_value(json_object_get(memory, "context_bytes")), 1 << 20);
    json_decref(reply);
    finish(session, &listener);
}

static void auto_falls_back_with_a_note(void **state)
{
    (void)state;
    setenv("FAKE_GPU_BROKEN", "1", 1);
    struct listener listener;
    struct error error;
    struct session *session =
        session_with(&listener, "{\"settings\": {\"batch\": 4, \"threads\": 1}}");
    json_t *reply = load(session, &error);
    const char *said = json_string_value(json_object_get(reply, "note"));
    assert_non_null(said);
    assert_non_null(strstr(said, "the driver is too old"));
    assert_string_equal(json_string_value(json_object_get(listener.plan, "device")), "cpu");
    json_decref(reply);
    /* by name it is an error, and the CPU's plan stays */
    assert_null(set(session, "devices", json_pack("[s]", "gpu:0"), &error));
    assert_int_equal(error.code, ERROR_CUDA);
    assert_string_equal(json_string_value(json_object_get(listener.plan, "device")), "cpu");
    unsetenv("FAKE_GPU_BROKEN");
    finish(session, &listener);
}

static void devices_are_named_in_many_ways(void **state)
{
    (void)state;
    const char *names[] = {"gpu:0", "0", "/GPU:0", "GPU-fa4e0000", "GPU-fa4e0"};
    struct listener listener;
    struct error error;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct session *session = session_with(&listener, "{\"settings\": {\"threads\": 1}}");
        json_decref(set(session, "devices", json_pack("[s]", names[i]), &error));
        json_decref(load(session, &error));
        assert_string_equal(json_string_value(json_object_get(listener.plan, "device")), "gpu:0");
        finish(session, &listener);
    }
    struct session *session = session_with(&listener, "{\"settings\": {\"devices\": [\"cpu\"]}}");
    assert_null(set(session, "devices", json_pack("[s]", "gpu:7"), &error));
    assert_int_equal(error.code, ERROR_DEVICE);
    setenv("CUDA_VISIBLE_DEVICES", "0", 1);
    assert_null(set(session, "devices", json_pack("[s]", "gpu:7"), &error));
    assert_non_null(strstr(error.why, "CUDA_VISIBLE_DEVICES=0"));
    unsetenv("CUDA_VISIBLE_DEVICES");
    assert_null(set(session, "devices", json_pack("[s]", "gpu:1"), &error));
    assert_int_equal(error.code, ERROR_DEVICE);
    assert_non_null(strstr(error.why, "exclusive"));
    finish(session, &listener);
}

static void a_context_is_only_left_by_a_new_process(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"gpu:0\"], \"batch\": 4, \"threads\": 1}}");
    json_decref(load(session, &error));
    const struct {
        const char *key;
        json_t *value;
    } changes[] = {{"growth", json_false()},
                   {"limit", json_integer(1 << 25)},
                   {"limit", json_string("50%")},
                   {"devices", json_pack("[s]", "cpu")}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        json_t *reply = set(session, changes[i].key, changes[i].value, &error);
        assert_true(json_is_true(json_object_get(reply, "restart")));
        assert_true(json_is_false(json_object_get(reply, "replanned")));
        json_decref(reply);
    }
    /* what the new process would refuse is refused now */
    assert_null(set(session, "limit", json_integer(1000), &error));
    assert_int_equal(error.code, ERROR_MEMORY_LIMIT);
    assert_null(set(session, "devices", json_pack("[s]", "gpu:1"), &error));
    /* batch and precision need no new context; a batch too large leaves the old plan */
    json_t *reply = set(session, "batch", json_integer(8), &error);
    assert_true(json_is_false(json_object_get(reply, "restart")));
    json_decref(reply);
    assert_null(set(session, "batch", json_integer(65536), &error));
    assert_int_equal(error.code, ERROR_MEMORY_LIMIT); /* by the forecast */
    assert_null(ask(session, "set",
                    json_pack("{s:s, s:i, s:b}", "key", "batch", "value", 65536, "force", 1),
                    &error));
    assert_int_equal(error.code, ERROR_MEMORY); /* by the device */
    assert_non_null(strstr(error.why, "the fake GPU is full"));
    assert_int_equal(json_integer_value(json_object_get(listener.plan, "batch")), 8);
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 1), &error));
    assert_int_equal(error.code, ERROR_NONE);
    finish(session, &listener);
}

static void settings_of_gpus_are_stored_on_the_cpu(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session =
        session_with(&listener, "{\"settings\": {\"devices\": [\"cpu\"], \"threads\": 1}}");
    json_decref(load(session, &error));
    json_t *reply = set(session, "growth", json_false(), &error);
    assert_true(json_is_false(json_object_get(reply, "restart")));
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")), "GPU"));
    json_decref(reply);
    assert_false(session->settings.growth);
    reply = set(session, "autotune", json_string("off"), &error);
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")), "GPU"));
    json_decref(reply);
    reply = set(session, "layout", json_string("nchw"), &error);
    assert_true(json_is_false(json_object_get(reply, "replanned")));
    json_decref(reply);
    assert_true(session->settings.channels_first && !session->settings.autotune);
    assert_null(set(session, "layout", json_string("chwn"), &error));
    assert_int_equal(error.code, ERROR_VALUE);
    /* from the CPU to a GPU no process has to go */
    reply = set(session, "devices", json_pack("[s]", "gpu:0"), &error);
    assert_true(json_is_true(json_object_get(reply, "replanned")));
    json_decref(reply);
    assert_false(session->slots[0].options.growth);
    finish(session, &listener);
}

/* How often the fake GPU was given time to measure. */
static int pauses(const struct session *session)
{
    const struct slot *slot = &session->slots[0];
    struct error error = {0};
    assert_true(session_one_step((struct session *)(uintptr_t)session, slot, NULL, &error));
    const float *out = slot->backend->plan_output(slot->plan, 0);
    return (int)(out[0] / 1e6f);
}

static void kernels_are_measured_in_pauses(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"0\"], \"batch\": 2, \"threads\": 1}}");
    json_decref(load(session, &error));
    assert_int_equal(pauses(session), 0); /* the first numbers wait for nothing */
    json_decref(ask(session, "run", json_pack("{s:i, s:i}", "steps", 2, "warmup", 1), &error));
    assert_int_equal(pauses(session), 0); /* so many warm-up steps and nothing else */
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 2), &error));
    assert_int_equal(pauses(session), 3);
    /* off: what was replaced goes with its plan */
    json_decref(set(session, "autotune", json_false(), &error));
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 2), &error));
    assert_int_equal(pauses(session), 3);
    /* live: a pause now and then */
    json_decref(set(session, "autotune", json_true(), &error));
    json_decref(ask(session, "start", NULL, &error));
    int64_t limit_ns = clock_now_ns() + INT64_C(10000000000), start_ns = clock_now_ns();
    while (pauses(session) < 6 && clock_now_ns() < limit_ns)
        assert_true(session_step(session, &error));
    assert_int_equal(pauses(session), 6);
    assert_true(clock_now_ns() - start_ns >= 200000000);
    json_decref(ask(session, "stop", NULL, &error));
    finish(session, &listener);
}

static void two_devices_take_turns(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 2, \"threads\": 1}}");
    json_decref(load(session, &error));
    assert_int_equal(error.code, ERROR_NONE);
    /* they compute on the same data */
    const struct slot *slots = session->slots;
    assert_memory_equal(slots[0].backend->plan_input(slots[0].plan, 0),
                        slots[1].backend->plan_input(slots[1].plan, 0), 2 * 784 * sizeof(float));
    json_t *reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 700, "warmup", 1), &error);
    const json_t *both = json_object_get(reply, "per_device");
    assert_int_equal(json_array_size(both), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *one = json_array_get(both, i);
        assert_string_equal(json_string_value(json_object_get(one, "device")),
                            i == 0 ? "cpu" : "gpu:0");
        assert_int_equal(json_integer_value(json_object_get(one, "steps")), 700);
        assert_int_equal(json_integer_value(json_object_get(one, "segment")), listener.segments[i]);
        assert_int_equal(listener.segment_steps[i], 700);
    }
    assert_string_equal(json_string_value(json_object_get(reply, "device")), "cpu");
    assert_true(listener.segments[0] != listener.segments[1]);
    /* 700 steps of a millisecond are more than one slice of half a second */
    assert_true(listener.switches >= 4);
    json_decref(reply);

    json_decref(ask(session, "start", NULL, &error));
    listener.steps_cpu = listener.steps_gpu = 0;
    int64_t limit_ns = clock_now_ns() + INT64_C(20000000000);
    while ((listener.steps_cpu == 0 || listener.steps_gpu == 0) && clock_now_ns() < limit_ns)
        assert_true(session_step(session, &error));
    assert_true(listener.steps_cpu > 0 && listener.steps_gpu > 0);
    json_decref(ask(session, "stop", NULL, &error));
    /* a batch that the GPU cannot hold is refused for both */
    assert_null(set(session, "batch", json_integer(1024), &error));
    assert_int_equal(json_integer_value(json_object_get(listener.plan, "batch")), 2);
    json_decref(ask(session, "run", json_pack("{s:i, s:i}", "steps", 1, "warmup", 0), &error));
    assert_int_equal(error.code, ERROR_NONE);
    finish(session, &listener);
}

/* Inputs that stay on the device: the fake GPU then takes half the time. On the CPU nothing is copied,
 * and it is the same number. */
static void resident_inputs_have_a_throughput(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 3, \"threads\": 1}}");
    listener.hooks.rest = on_rest;
    json_decref(load(session, &error));
    json_t *reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 30, "warmup", 1), &error);
    const json_t *both = json_object_get(reply, "per_device");
    const json_t *cpu = json_array_get(both, 0), *gpu = json_array_get(both, 1);
    assert_true(json_equal(json_object_get(cpu, "throughput_resident_per_s"),
                           json_object_get(cpu, "throughput_per_s")));
    double rate = json_number_value(json_object_get(gpu, "throughput_resident_per_s"));
    assert_true(rate > 5999 && rate < 6001);
    assert_true(json_number_value(json_object_get(gpu, "throughput_per_s")) < 3000);
    assert_int_equal(listener.rests, 1); /* the profiler was off, and is on again */
    assert_false(listener.resting);
    /* none of these steps is one of the segment's */
    assert_int_equal(listener.segment_steps[1], 30);
    json_decref(reply);
    setenv("FAKE_GPU_NO_ROOM", "1", 1);
    reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 2, "warmup", 0), &error);
    unsetenv("FAKE_GPU_NO_ROOM");
    assert_int_equal(error.code, ERROR_NONE);
    gpu = json_array_get(json_object_get(reply, "per_device"), 1);
    assert_true(json_is_null(json_object_get(gpu, "throughput_resident_per_s")));
    assert_true(json_number_value(json_object_get(gpu, "throughput_per_s")) > 0);
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")), "no room"));
    json_decref(reply);
    finish(session, &listener);
}

static void gpus_share_the_batches(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"0\", \"2\"], \"batch\": 5, \"threads\": 1}}");
    json_decref(load(session, &error));
    assert_int_equal(error.code, ERROR_NONE);
    assert_int_equal(session->slot_count, 2);
    assert_int_equal(session->slots[0].samples, 3);
    assert_int_equal(session->slots[1].first, 3);
    assert_int_equal(session->slots[1].samples, 2);
    json_t *reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 40, "warmup", 1), &error);
    const json_t *each = json_object_get(reply, "per_device");
    const json_t *split = json_object_get(reply, "split");
    assert_int_equal(json_array_size(each), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(each, 1), "device")),
                        "gpu:2");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(each, 0), "batch")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(each, 1), "batch")), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(each, 1), "steps")), 40);
    assert_int_equal(json_integer_value(json_object_get(split, "batch")), 5);
    /* both are queued before one is waited for: a millisecond each, and not two together */
    double wall = json_number_value(json_object_get(json_object_get(split, "wall_ms"), "min"));
    assert_true(wall >= 1 && wall < 1.9);
    /* the listener hears of each for its part of the steps */
    assert_string_equal(listener.device, "gpu:2");
    assert_int_equal(listener.segment_steps[0], 20); /* "not gpu:0" */
    assert_int_equal(listener.segment_steps[1], 20);
    json_decref(reply);
    /* too few samples to share are refused, and the plan stays */
    assert_null(set(session, "batch", json_integer(1), &error));
    assert_int_equal(error.code, ERROR_VALUE);
    assert_string_equal(error.hint, "batch 2");
    assert_int_equal(json_integer_value(json_object_get(listener.plan, "batch")), 5);
    finish(session, &listener);
}

static void both_at_once_show_their_interference(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 2, \"threads\": 1, "
                   "\"compare\": \"concurrent\"}}");
    json_decref(load(session, &error));
    json_t *reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 30, "warmup", 1), &error);
    assert_int_equal(error.code, ERROR_NONE);
    const json_t *both = json_object_get(reply, "per_device");
    for (size_t i = 0; i < 2; i++) {
        const json_t *race = json_object_get(json_array_get(both, i), "concurrent");
        assert_true(json_number_value(json_object_get(race, "slowdown")) > 0.1);
        assert_true(json_number_value(json_object_get(race, "throughput_per_s")) > 0);
    }
    json_decref(reply);
    json_decref(set(session, "compare", json_string("turns"), &error));
    reply = ask(session, "run", json_pack("{s:i, s:i}", "steps", 2, "warmup", 0), &error);
    assert_null(json_object_get(reply, "concurrent"));
    json_decref(reply);
    finish(session, &listener);
}

static void both_at_once_are_fed_with_pictures(void **state)
{
    (void)state;
    struct listener listener;
    struct error error = {0};
    struct session *session = session_with(
        &listener,
        "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 2, \"threads\": 1, "
        "\"compare\": \"concurrent\", \"pipeline\": \"serial\", \"picture\": \"40x40\"}}");
    json_decref(load(session, &error));
    assert_int_equal(error.code, ERROR_NONE);
    json_decref(ask(session, "run", json_pack("{s:i, s:i}", "steps", 20, "warmup", 1), &error));
    assert_int_equal(error.code, ERROR_NONE);
    /* of two devices: the steps of each alone, and those of both at once */
    assert_true(pipeline_times(session->pipeline, false).batches >= 2 * 20 + 2 * 20);
    finish(session, &listener);
}

static void a_card_can_be_several_fenced_ones(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"0\"], \"batch\": 6, \"threads\": 1, "
                   "\"logical\": {\"count\": 3, \"bytes\": 1000000}}}");
    json_decref(load(session, &error));
    assert_int_equal(error.code, ERROR_NONE);
    assert_int_equal(session->slot_count, 3);
    assert_string_equal(session->slots[2].id, "gpu:0.2");
    assert_int_equal(session->slots[2].options.index, 0);
    assert_int_equal(session->slots[2].options.limit_bytes, 1000000);
    assert_null(set(session, "batch", json_integer(300), &error));
    assert_int_equal(error.code, ERROR_MEMORY_LIMIT);
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 1), &error));
    assert_int_equal(error.code, ERROR_NONE);
    /* as with the other devices, a GPU's context is left by a new process only */
    json_t *reply = set(session, "logical", json_null(), &error);
    assert_true(json_is_true(json_object_get(reply, "restart")));
    json_decref(reply);
    finish(session, &listener);
}

/* An op that the GPU lacks is an error that names it, or runs on the CPU and says so. */
static void what_a_gpu_lacks_runs_on_the_cpu_when_asked(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    setenv("FAKE_GPU_LACKS", "softmax", 1);
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"0\"], \"batch\": 2, \"threads\": 1}}");
    assert_null(load(session, &error));
    assert_int_equal(error.code, ERROR_BACKEND_OP);
    finish(session, &listener);

    session = session_with(&listener, "{\"settings\": {\"devices\": [\"0\"], \"batch\": 2, "
                                      "\"threads\": 1, \"fallback\": \"cpu\"}}");
    json_t *reply = load(session, &error);
    assert_non_null(reply);
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")),
                           "1 op of gpu:0 runs on the CPU: predictions"));
    json_decref(reply);
    const json_t *layers = json_object_get(listener.plan, "layers");
    const char *impl = json_string_value(
        json_object_get(json_array_get(layers, json_array_size(layers) - 1), "impl"));
    assert_non_null(strstr(impl, "cpu"));
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 1), &error));
    assert_int_equal(error.code, ERROR_NONE);
    /* softmax of what the fake computes, ten times the same: a tenth each */
    const struct slot *slot = &session->slots[0];
    const float *out = slot->backend->plan_output(slot->plan, 0);
    for (int i = 0; i < 20; i++)
        assert_true(out[i] > 0.0999f && out[i] < 0.1001f);
    unsetenv("FAKE_GPU_LACKS");
    finish(session, &listener);
}

/* The fake computes nothing: the proof must say so, and `devices` keep it. */
static void a_proof_is_of_outputs(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session = session_with(
        &listener, "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 2, \"threads\": 1}}");
    assert_null(ask(session, "proof", NULL, &error));
    assert_int_equal(error.code, ERROR_NO_MODEL);
    json_decref(load(session, &error));
    json_t *list = ask(session, "devices", NULL, &error);
    assert_true(json_is_null(
        json_object_get(json_array_get(json_object_get(list, "devices"), 0), "proof")));
    json_decref(list);
    json_t *reply = ask(session, "proof", NULL, &error);
    const json_t *devices = json_object_get(reply, "devices");
    const json_t *cpu = json_array_get(devices, 0), *fake = json_array_get(devices, 1);
    double right = json_number_value(json_object_get(cpu, "error"));
    assert_true(json_is_real(json_object_get(cpu, "error")) && right < 1e-4);
    assert_true(json_integer_value(json_object_get(cpu, "kernels")) >= 9);
    assert_true(json_number_value(json_object_get(fake, "error")) > 0.5);
    json_decref(reply);
    list = ask(session, "devices", NULL, &error);
    const json_t *kept =
        json_object_get(json_array_get(json_object_get(list, "devices"), 0), "proof");
    assert_true(json_number_value(json_object_get(kept, "error")) == right);
    json_decref(list);
    /* the plans that were there run on */
    json_decref(ask(session, "run", json_pack("{s:i}", "steps", 2), &error));
    assert_int_equal(error.code, ERROR_NONE);
    finish(session, &listener);
}

static void memory_tells_who_holds_it(void **state)
{
    (void)state;
    struct listener listener;
    struct error error;
    struct session *session =
        session_with(&listener, "{\"settings\": {\"devices\": [\"cpu\", \"0\"], \"batch\": 2}}");
    json_decref(load(session, &error));
    json_t *reply = ask(session, "memory", NULL, &error);
    const json_t *cpu = json_array_get(json_object_get(reply, "devices"), 0);
    const json_t *fake = json_array_get(json_object_get(reply, "devices"), 1);
    bool ours = false;
    size_t index;
    json_t *process;
    json_array_foreach(json_object_get(cpu, "processes"), index, process)
    {
        bool mine = json_integer_value(json_object_get(process, "pid")) == (json_int_t)getpid();
        assert_true(mine == json_is_true(json_object_get(process, "ours")));
        ours = ours || mine;
        assert_true(json_integer_value(json_object_get(process, "bytes")) > 0);
    }
    assert_true(ours);
    assert_true(json_integer_value(json_object_get(cpu, "others_bytes")) > 0);
    assert_true(json_is_null(json_object_get(fake, "processes"))); /* it cannot tell */
    assert_true(json_is_null(json_object_get(fake, "limit_bytes")));
    json_decref(reply);
    finish(session, &listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_the_gpu),
        cmocka_unit_test(auto_falls_back_with_a_note),
        cmocka_unit_test(devices_are_named_in_many_ways),
        cmocka_unit_test(a_context_is_only_left_by_a_new_process),
        cmocka_unit_test(settings_of_gpus_are_stored_on_the_cpu),
        cmocka_unit_test(kernels_are_measured_in_pauses),
        cmocka_unit_test(two_devices_take_turns),
        cmocka_unit_test(resident_inputs_have_a_throughput),
        cmocka_unit_test(gpus_share_the_batches),
        cmocka_unit_test(both_at_once_show_their_interference),
        cmocka_unit_test(both_at_once_are_fed_with_pictures),
        cmocka_unit_test(a_card_can_be_several_fenced_ones),
        cmocka_unit_test(what_a_gpu_lacks_runs_on_the_cpu_when_asked),
        cmocka_unit_test(a_proof_is_of_outputs),
        cmocka_unit_test(memory_tells_who_holds_it),
    };
    return cmocka_run_group_tests(tests, fake_gpu_build, fake_gpu_remove);
}
