/* Steps: one, many with exact numbers (`run`), and live ones between requests. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include "engine/session_private.h"

#include "engine/clock.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define SLICE_NS      500000000 /* devices take turns of at least this */
#define STEPS_MAX     10000000
/* Warm-up that nobody has counted: at least this many steps, and at least this long, but not much
 * longer than the last bound for slow models. */
#define WARM_STEPS    3
#define WARM_NS       250000000
#define WARM_LIMIT_NS INT64_C(5000000000)
/* Steady: the medians of the last and of the previous 20 steps differ by at most 3 %. Shorter runs
 * compare their halves; fewer than 8 steps say nothing. */
#define STEADY_WINDOW 20
#define STEADY_MIN    8
#define STEADY_SHARE  0.03

bool session_one_step(struct session *session, const struct slot *slot, int64_t *wall_ns,
                      struct error *error)
{
    const struct observer *observer = session->hooks->observer;
    struct step_context step = {
        .observer = &session->tap, .step = ++session->step, .cancel = session->ports->cancel};
    int64_t start_ns = clock_now_ns();
    if (observer != NULL && observer->step_begin != NULL)
        observer->step_begin(observer->context, step.step, start_ns);
    session_listen(session);
    bool done = slot->backend->plan_run(slot->plan, &step, error);
    /* a test's own stretch of the step that no interval explains */
    if (session->test_sleep_ms > 0)
        poll(NULL, 0, session->test_sleep_ms);
    int64_t end_ns = clock_now_ns();
    if (done && observer != NULL && observer->step_end != NULL)
        observer->step_end(observer->context, step.step, end_ns);
    if (wall_ns != NULL)
        *wall_ns = end_ns - start_ns;
    return done;
}

static void set_segment(struct session *session, uint32_t segment)
{
    const struct observer *observer = session->hooks->observer;
    if (observer != NULL && observer->segment != NULL)
        observer->segment(observer->context, segment);
}

/* ---- run ---- */

struct measurement { /* of one device */
    uint32_t segment;
    int64_t *wall_ns;
    size_t count;
    size_t preempted; /* steps in which the engine thread lost its processor to another */
    int64_t total_ns; /* of the back-to-back slices, what lies between their steps included */
};

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `p` in 0..1 of sorted values, between neighbours linearly (as numpy.percentile does). */
static double percentile_ms(const int64_t *sorted, size_t count, double p)
{
    double at = p * (double)(count - 1);
    size_t low = (size_t)at;
    double next = (double)sorted[low + 1 < count ? low + 1 : low];
    return ((double)sorted[low] + (at - (double)low) * (next - (double)sorted[low])) / 1e6;
}

static double median_of_ms(const int64_t *values, size_t count)
{
    int64_t *sorted = xmalloc(count * sizeof *sorted);
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_ns);
    double median = percentile_ms(sorted, count, 0.5);
    free(sorted);
    return median;
}

static json_t *steady_json(const struct measurement *m)
{
    if (m->count < STEADY_MIN)
        return json_null();
    size_t window = m->count / 2 < STEADY_WINDOW ? m->count / 2 : STEADY_WINDOW;
    double last = median_of_ms(m->wall_ns + m->count - window, window);
    double previous = median_of_ms(m->wall_ns + m->count - 2 * window, window);
    return json_boolean(fabs(last - previous) <= STEADY_SHARE * previous);
}

/* The reply's keys for one device. Sorts the walls. */
static json_t *measurement_json(struct session *session, const struct slot *slot,
                                const struct measurement *m, size_t warmup)
{
    json_t *steady = steady_json(m);
    double sum = 0;
    for (size_t i = 0; i < m->count; i++)
        sum += (double)m->wall_ns[i];
    qsort(m->wall_ns, m->count, sizeof *m->wall_ns, compare_ns);
    double samples = (double)m->count * (double)session->graph->batch;
    return json_pack(
        "{s:I, s:s, s:I, s:s, s:I, s:I, s:o, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:I, s:o}",
        "segment", (json_int_t)m->segment, "device", slot->id, "batch",
        (json_int_t)session->graph->batch, "precision", precision_name(session->settings.precision),
        "steps", (json_int_t)m->count, "warmup", (json_int_t)warmup, "steady", steady, "wall_ms",
        "median", percentile_ms(m->wall_ns, m->count, 0.5), "p95",
        percentile_ms(m->wall_ns, m->count, 0.95), "p90", percentile_ms(m->wall_ns, m->count, 0.9),
        "min", (double)m->wall_ns[0] / 1e6, "mean", sum / (double)m->count / 1e6,
        "throughput_per_s", samples / ((double)m->total_ns / 1e9), "preempted_steps",
        (json_int_t)m->preempted, "memory", session_memory_json(session, slot));
}

/* Steps before the measured ones. `wanted` < 0: as many as it sees fit. */
static bool warm_up(struct session *session, const struct slot *slot, int64_t wanted, size_t *count,
                    struct error *error)
{
    int64_t start_ns = clock_now_ns();
    for (*count = 0;; ++*count) {
        int64_t spent_ns = clock_now_ns() - start_ns;
        if (wanted >= 0 && (int64_t)*count >= wanted)
            return true;
        if (wanted < 0 && *count > 0 &&
            ((*count >= WARM_STEPS && spent_ns >= WARM_NS) || spent_ns >= WARM_LIMIT_NS))
            return true;
        if (!session_one_step(session, slot, NULL, error))
            return false;
        session_breathe(session, NAN, "warming up");
    }
}

/* How often this thread was taken off its processor while it wanted to run (a fraction of a
 * microsecond to ask). */
static long involuntary_switches(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

/* Measured steps of one device until its number is full or its turn is over. */
static bool run_slice(struct session *session, const struct slot *slot, struct measurement *m,
                      size_t steps, bool turns, size_t done_elsewhere, size_t all,
                      struct error *error)
{
    int64_t start_ns = clock_now_ns(), now_ns = start_ns;
    long switches = involuntary_switches();
    set_segment(session, m->segment);
    while (m->count < steps && !(turns && now_ns - start_ns >= SLICE_NS)) {
        int64_t wall_ns;
        if (!session_one_step(session, slot, &wall_ns, error))
            return false;
        m->wall_ns[m->count++] = wall_ns;
        long switches_now = involuntary_switches();
        m->preempted += switches_now != switches;
        switches = switches_now;
        now_ns = clock_now_ns();
        if (m->count < steps && now_ns - session->tick_ns >= 100000000) {
            char text[64];
            snprintf(text, sizeof text, "step %zu of %zu", m->count + done_elsewhere, all);
            session_breathe(session, (double)(m->count + done_elsewhere) / (double)all, text);
        }
    }
    m->total_ns += now_ns - start_ns;
    return true;
}

static bool measure(struct session *session, struct measurement *measurements, size_t steps,
                    int64_t wanted_warmup, size_t *warmup, struct error *error)
{
    size_t count = session->slot_count, all = steps * count;
    for (size_t i = 0; i < count; i++) {
        session_observe(session, &session->slots[i]);
        set_segment(session, 0);
        if (!warm_up(session, &session->slots[i], wanted_warmup, &warmup[i], error))
            return false;
    }
    for (size_t done = 0; done < all;) {
        done = 0;
        for (size_t i = 0; i < count; i++) {
            struct measurement *m = &measurements[i];
            size_t elsewhere = 0;
            for (size_t j = 0; j < count; j++)
                elsewhere += j != i ? measurements[j].count : 0;
            session_observe(session, &session->slots[i]);
            if (!run_slice(session, &session->slots[i], m, steps, count > 1, elsewhere, all, error))
                return false;
            done += m->count;
        }
    }
    return true;
}

static void explain_stop(const struct measurement *m, size_t steps, struct error *error)
{
    if (error->code == ERROR_INTERRUPTED)
        error_set(error, ERROR_INTERRUPTED, "run", "stopped after %zu of %zu steps", m->count,
                  steps);
}

json_t *session_do_run(struct session *session, const json_t *arguments, struct error *error)
{
    const json_t *wanted = json_object_get(arguments, "steps");
    const json_t *warm = json_object_get(arguments, "warmup");
    int64_t steps = wanted == NULL ? 1 : json_integer_value(wanted);
    int64_t warmup = json_is_integer(warm) ? json_integer_value(warm) : -1;
    if (steps < 1 || steps > STEPS_MAX || (json_is_integer(warm) && warmup < 0)) {
        error_set(error, ERROR_VALUE, "run", "steps are 1..%d, warm-up steps 0 or more", STEPS_MAX);
        return NULL;
    }
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "run", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    struct measurement measurements[SESSION_SLOTS_MAX] = {0};
    size_t warmed[SESSION_SLOTS_MAX] = {0};
    bool memory = true;
    for (size_t i = 0; i < session->slot_count; i++) {
        /* a device's own segment, so that its layers are not mixed with another's */
        measurements[i].segment = (uint32_t)session->request + ((uint32_t)i << 24);
        measurements[i].wall_ns = malloc((size_t)steps * sizeof *measurements[i].wall_ns);
        memory = memory && measurements[i].wall_ns != NULL;
    }
    bool done = false;
    if (session->hooks->weigh != NULL)
        session->hooks->weigh(session->hooks->context,
                              json_is_true(json_object_get(arguments, "cost")));
    if (!memory)
        error_set(error, ERROR_MEMORY, "run", "no memory for the times of %lld steps",
                  (long long)steps);
    else
        done = measure(session, measurements, (size_t)steps, warmup, warmed, error);
    if (session->hooks->weigh != NULL)
        session->hooks->weigh(session->hooks->context, false);
    set_segment(session, 0);
    if (session->hooks->flush != NULL)
        session->hooks->flush(session->hooks->context);
    session->slice_start_ns = clock_now_ns();
    json_t *reply = NULL;
    if (done) {
        json_t *devices = json_array();
        for (size_t i = 0; i < session->slot_count; i++)
            json_array_append_new(devices, measurement_json(session, &session->slots[i],
                                                            &measurements[i], warmed[i]));
        reply = json_deep_copy(json_array_get(devices, 0));
        if (session->slot_count > 1)
            json_object_set(reply, "per_device", devices);
        json_decref(devices);
    } else {
        explain_stop(&measurements[0], (size_t)steps, error);
    }
    for (size_t i = 0; i < session->slot_count; i++)
        free(measurements[i].wall_ns);
    return reply;
}

/* ---- live ---- */

bool session_live(const struct session *session)
{
    return session->live;
}

bool session_step(struct session *session, struct error *error)
{
    int64_t now_ns = clock_now_ns();
    if (session->slot_count > 1 && now_ns - session->slice_start_ns >= SLICE_NS) {
        session->live_slot = (session->live_slot + 1) % session->slot_count;
        session->slice_start_ns = now_ns;
    }
    const struct slot *slot = &session->slots[session->live_slot];
    session_observe(session, slot);
    if (session_one_step(session, slot, NULL, error))
        return true;
    session->live = false;
    set_segment(session, 0); /* closes what the step left open */
    return false;
}
