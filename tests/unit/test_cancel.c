/* Ctrl-C at any moment of a load or of a change that plans anew: what was there stays, and works. */
#include "engine/session_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A session that is interrupted at the `cancel_at`-th look that it takes at the flag's setter: the
 * tick, made due at every look. */
struct room {
    struct session *session;
    struct session_ports ports;
    struct worker_hooks hooks;
    struct observer observer;
    const struct graph *graph; /* that the listener knows */
    atomic_bool cancel;
    int ticks, cancel_at; /* 0: never */
    int plans;            /* events of a plan; of none */
    int no_plans;
    bool planned; /* progress spoke of planning */
    uint64_t next_id;
    struct error error;
};

static void on_tick(void *context)
{
    struct room *room = context;
    room->session->tick_ns = 0;
    room->session->progress_ns = 0;
    if (room->cancel_at > 0 && ++room->ticks == room->cancel_at)
        atomic_store(&room->cancel, true);
}

static void on_progress(void *context, uint64_t id, double fraction, const char *text)
{
    struct room *room = context;
    assert_true(id == room->next_id);
    assert_true(!(fraction < 0) && !(fraction > 1));
    room->planned |= strcmp(text, "planning") == 0;
}

static void on_plan_event(void *context, const json_t *plan)
{
    struct room *room = context;
    room->plans += plan != NULL;
    room->no_plans += plan == NULL;
}

static void on_plan(void *context, const char *device, const struct graph *graph,
                    const char *const *impls)
{
    struct room *room = context;
    (void)device;
    (void)impls;
    room->graph = graph;
}

/* Ask; arguments with ' for ". NULL: room->error says why. */
static json_t *ask(struct room *room, const char *verb, const char *arguments)
{
    char *text = xstrdup(arguments);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *parsed = json_loads(text, 0, NULL);
    assert_non_null(parsed);
    room->error = (struct error){0};
    room->session->tick_ns = 0;
    json_t *reply = session_execute(room->session, ++room->next_id, verb, parsed, &room->error);
    session_replied(room->session);
    atomic_store(&room->cancel, false);
    json_decref(parsed);
    free(text);
    return reply;
}

static void expect_ok(struct room *room, const char *verb, const char *arguments)
{
    json_t *reply = ask(room, verb, arguments);
    if (reply == NULL)
        fail_msg("%s %s: %s: %s", verb, arguments, room->error.what, room->error.why);
    json_decref(reply);
}

static struct room *room_new(void)
{
    struct room *room = xcalloc(1, sizeof *room);
    room->observer = (struct observer){.context = room, .plan = on_plan};
    room->hooks =
        (struct worker_hooks){.context = room, .observer = &room->observer, .tick = on_tick};
    room->ports = (struct session_ports){room, on_progress, on_plan_event, &room->cancel};
    room->session = session_new(&room->hooks, &room->ports);
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 2, 'threads': 1}}");
    return room;
}

static void room_free(struct room *room)
{
    session_free(room->session);
    free(room);
}

/* Ask again and again, interrupted one look later each time, until it is done before that. `still`
 * is called after every interruption. Returns how many there were. */
static int interrupt_everywhere(struct room *room, const char *verb, const char *arguments,
                                const char *why, void (*still)(struct room *room))
{
    json_t *reply = NULL;
    int interruptions = 0;
    room->planned = false;
    for (int at = 1; reply == NULL; at += 1 + at / 8) {
        room->cancel_at = at;
        room->ticks = 0;
        reply = ask(room, verb, arguments);
        room->cancel_at = 0;
        if (reply != NULL)
            break;
        assert_int_equal(room->error.code, ERROR_INTERRUPTED);
        assert_non_null(strstr(room->error.why, why));
        interruptions++;
        still(room);
    }
    json_decref(reply);
    return interruptions;
}

static void still_digits(struct room *room)
{
    assert_string_equal(room->session->model_path, "demo:digits");
    assert_int_equal(room->no_plans, 0);
    assert_ptr_equal(room->graph, room->session->graph); /* the listener knows this plan */
    assert_true(room->session->live);
    assert_true(session_step(room->session, &room->error));
    expect_ok(room, "predict", "{'input': 'tests/data/digits/drawn-7.png'}");
}

static void a_load_that_is_stopped_leaves_the_model_before(void **state)
{
    (void)state;
    struct room *room = room_new();
    expect_ok(room, "load", "{'path': 'demo:digits'}");
    expect_ok(room, "start", "{}");
    int plans = room->plans;
    int times = interrupt_everywhere(room, "load", "{'path': 'demo:cnn'}",
                                     "stopped; digits stays loaded", still_digits);
    assert_true(times >= 5); /* while it is read, while memory is taken, between ops */
    assert_true(room->planned);
    assert_int_equal(room->plans, plans + 1);
    assert_string_equal(room->session->model_path, "demo:cnn");
    assert_true(room->session->live);
    expect_ok(room, "run", "{'steps': 2, 'warmup': 0}");
    room_free(room);
}

static void still_empty(struct room *room)
{
    assert_null(room->session->model);
    assert_null(room->session->plan_json);
    assert_int_equal(room->plans, 0);
}

static void a_first_load_that_is_stopped_leaves_nothing(void **state)
{
    (void)state;
    struct room *room = room_new();
    int times = interrupt_everywhere(room, "load", "{'path': 'demo:digits'}",
                                     "stopped; no model is loaded", still_empty);
    assert_true(times >= 5);
    expect_ok(room, "run", "{'steps': 2, 'warmup': 0}");
    room_free(room);
}

static void still_two(struct room *room)
{
    const json_t *plan = room->session->plan_json;
    assert_int_equal(room->session->settings.batch, 2);
    assert_int_equal(json_integer_value(json_object_get(plan, "batch")), 2);
    assert_true(room->session->settings.fusion);
    still_digits(room);
}

static void a_change_that_is_stopped_leaves_the_value_before(void **state)
{
    (void)state;
    struct room *room = room_new();
    expect_ok(room, "load", "{'path': 'demo:digits'}");
    expect_ok(room, "start", "{}");
    assert_true(interrupt_everywhere(room, "set", "{'key': 'fusion', 'value': false}",
                                     "the value before stays", still_two) >= 3);
    expect_ok(room, "set", "{'key': 'fusion', 'value': true}");
    assert_true(interrupt_everywhere(room, "set", "{'key': 'batch', 'value': 5}",
                                     "the value before stays", still_two) >= 3);
    assert_int_equal(room->session->settings.batch, 5);
    room_free(room);
}

/* Where two plans do not fit side by side, the old one has gone when the interrupt comes: it is made
 * again, and that is not interrupted. */
static void a_plan_that_was_given_up_comes_back(void **state)
{
    (void)state;
    struct room *room = room_new();
    expect_ok(room, "load", "{'path': 'demo:digits'}");
    expect_ok(room, "start", "{}");
    uint64_t planned = session_planned_bytes(room->session, &room->session->slots[0]);
    char limit[96]; /* enough for either, not for both */
    snprintf(limit, sizeof limit, "{'key': 'limit', 'value': %llu}",
             (unsigned long long)(planned + planned / 2));
    expect_ok(room, "set", limit);
    assert_true(interrupt_everywhere(room, "set", "{'key': 'batch', 'value': 3}",
                                     "the value before stays", still_two) >= 3);
    assert_int_equal(room->session->settings.batch, 3);
    room_free(room);
}

/* A model that does not fit is no reason to lose the one that does. */
static void a_model_that_does_not_fit_leaves_the_one_before(void **state)
{
    (void)state;
    struct room *room = room_new();
    expect_ok(room, "load", "{'path': 'demo:digits'}");
    expect_ok(room, "start", "{}");
    expect_ok(room, "set", "{'key': 'limit', 'value': 8388608}");
    assert_null(ask(room, "load", "{'path': 'demo:dense4096'}"));
    assert_int_equal(room->error.code, ERROR_MEMORY_LIMIT);
    still_digits(room);
    room_free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_that_is_stopped_leaves_the_model_before),
        cmocka_unit_test(a_first_load_that_is_stopped_leaves_nothing),
        cmocka_unit_test(a_change_that_is_stopped_leaves_the_value_before),
        cmocka_unit_test(a_plan_that_was_given_up_comes_back),
        cmocka_unit_test(a_model_that_does_not_fit_leaves_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
