/* Steps: one, many with exact numbers (`run`), and live ones between requests. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/host_load.h"

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
/* Steps with inputs that stay on the device last so long at most. */
#define RESIDENT_NS   INT64_C(1000000000)
/* Kernels are measured in pauses of this length, at most so often while steps are shown live; the
 * warm-up of a run spends no more than the last on it. */
#define TUNE_PAUSE_NS 10000000
#define TUNE_EVERY_NS 100000000
#define TUNE_WARM_NS  INT64_C(2000000000)

bool session_one_step(struct session *session, const struct slot *observed, int64_t *wall_ns,
                      struct error *error)
{
    int64_t walls[SESSION_SLOTS_MAX];
    size_t at = (size_t)(observed - session->slots), first, members;
    session_group(session->slots, session->slot_count, at, &first, &members);
    bool done = session_group_step(session, first, members, at, walls, error);
    if (wall_ns != NULL)
        *wall_ns = session->group_ns;
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
    size_t preempted;      /* steps in which the engine thread lost its processor to another */
    int64_t waited_ns;     /* the worst thread of each slice for a processor; -1: not known */
    int64_t faults;        /* pages that came from disk */
    int64_t first_ns;      /* the first measured step */
    int64_t total_ns;      /* of the back-to-back slices, what lies between their steps included */
    size_t resident_steps; /* with inputs that stay on the device, and their time */
    int64_t resident_ns;
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

static json_t *per_second(double samples, int64_t total_ns)
{
    return total_ns > 0 ? json_real(samples / ((double)total_ns / 1e9)) : json_null();
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
                                const struct measurement *m, int64_t samples_a_step, size_t warmup)
{
    json_t *steady = steady_json(m);
    double sum = 0, steps = (double)m->count;
    for (size_t i = 0; i < m->count; i++)
        sum += (double)m->wall_ns[i];
    qsort(m->wall_ns, m->count, sizeof *m->wall_ns, compare_ns);
    double samples = (double)m->count * (double)samples_a_step;
    return json_pack(
        "{s:I, s:s, s:I, s:s, s:I, s:I, s:o, s:{s:f, s:f, s:f, s:f, s:f, s:f}, s:o, s:o, s:I, s:o, "
        "s:f, s:f, s:o}",
        "segment", (json_int_t)m->segment, "device", slot->id, "batch", (json_int_t)samples_a_step,
        "precision", precision_name(session->settings.precision), "steps", (json_int_t)m->count,
        "warmup", (json_int_t)warmup, "steady", steady, "wall_ms", "median",
        percentile_ms(m->wall_ns, m->count, 0.5), "p95", percentile_ms(m->wall_ns, m->count, 0.95),
        "p90", percentile_ms(m->wall_ns, m->count, 0.9), "p99",
        percentile_ms(m->wall_ns, m->count, 0.99), "min", (double)m->wall_ns[0] / 1e6, "mean",
        sum / (double)m->count / 1e6, "throughput_per_s", per_second(samples, m->total_ns),
        "throughput_resident_per_s",
        per_second((double)m->resident_steps * (double)samples_a_step, m->resident_ns),
        "preempted_steps", (json_int_t)m->preempted, "waited_ms",
        m->waited_ns >= 0 ? json_real((double)m->waited_ns / steps / 1e6) : json_null(), "first_ms",
        (double)m->first_ns / 1e6, "faults", (double)m->faults / steps, "memory",
        session_memory_json(session, slot));
}

/* Give the devices that step together a pause to measure kernels in; true while that goes on. */
static bool tune(struct session *session, const struct slot *slot)
{
    size_t first, members;
    bool more = false;
    session_group(session->slots, session->slot_count, (size_t)(slot - session->slots), &first,
                  &members);
    for (size_t i = first; i < first + members; i++) {
        const struct slot *one = &session->slots[i];
        if (one->backend->plan_tune == NULL)
            continue;
        phases_begin(&session->phases, PHASE_TUNE);
        more |= one->backend->plan_tune(one->plan, TUNE_PAUSE_NS);
        phases_end(&session->phases);
    }
    return more;
}

/* Steps before the measured ones. `wanted` < 0: as many as it sees fit. */
static bool warm_up(struct session *session, const struct slot *slot, int64_t wanted, size_t *count,
                    struct error *error)
{
    int64_t start_ns = clock_now_ns();
    bool tuning = session->settings.autotune;
    size_t enough = WARM_STEPS;
    for (*count = 0;; ++*count) {
        int64_t spent_ns = clock_now_ns() - start_ns;
        if (wanted >= 0 && (int64_t)*count >= wanted)
            return true;
        if (wanted < 0 && *count > 0 &&
            ((*count >= enough && spent_ns >= WARM_NS && !tuning) || spent_ns >= WARM_LIMIT_NS))
            return true;
        if (!session_one_step(session, slot, NULL, error))
            return false;
        if (wanted < 0 && tuning) {
            tuning = tune(session, slot) && spent_ns < TUNE_WARM_NS;
            /* what was replaced is captured anew */
            enough = tuning ? *count + 1 + WARM_STEPS : enough;
        }
        session_breathe(session, NAN, tuning ? "measuring kernels" : "warming up");
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

/* The group of a run's measured steps: its slots, their measurements, and the group's own walls. */
struct team {
    size_t first, members;
    struct measurement *slots; /* of all slots of the session */
    struct measurement whole;
};

/* Whose layers are timed in step `step` of `steps`: each member in its part of the run. */
static size_t observed_at(const struct team *team, size_t step, size_t steps)
{
    return team->first + step * team->members / steps;
}

static void add_step(const struct session *session, struct team *team, const int64_t *walls,
                     bool preempted)
{
    for (size_t i = team->first; i < team->first + team->members; i++) {
        struct measurement *m = &team->slots[i];
        m->first_ns = m->count == 0 ? walls[i] : m->first_ns;
        m->wall_ns[m->count++] = walls[i];
        m->preempted += preempted;
    }
    team->whole.first_ns = team->whole.count == 0 ? session->group_ns : team->whole.first_ns;
    team->whole.wall_ns[team->whole.count++] = session->group_ns;
    team->whole.preempted += preempted;
}

static void add_load(struct measurement *m, int64_t waited_ns, int64_t faults)
{
    m->waited_ns = m->waited_ns < 0 || waited_ns < 0 ? -1 : m->waited_ns + waited_ns;
    m->faults += faults;
}

/* What else went on on the machine during a slice. */
static void add_loads(struct team *team, const struct host_load *before)
{
    struct host_load after;
    host_load_read(&after);
    int64_t waited_ns = host_load_waited_ns(before, &after), faults = after.faults - before->faults;
    add_load(&team->whole, waited_ns, faults);
    for (size_t i = team->first; i < team->first + team->members; i++)
        add_load(&team->slots[i], waited_ns, faults);
}

/* Measured steps of one group until its number is full or its turn is over. */
static bool run_slice(struct session *session, struct team *team, size_t steps, bool turns,
                      size_t done_elsewhere, size_t all, struct error *error)
{
    struct host_load load;
    host_load_read(&load);
    int64_t start_ns = clock_now_ns(), now_ns = start_ns, walls[SESSION_SLOTS_MAX];
    long switches = involuntary_switches();
    size_t observed = SIZE_MAX;
    while (team->whole.count < steps && !(turns && now_ns - start_ns >= SLICE_NS)) {
        size_t next = observed_at(team, team->whole.count, steps);
        if (next != observed) {
            observed = next;
            session_observe(session, &session->slots[observed]);
            set_segment(session, team->slots[observed].segment);
        }
        if (!session_group_step(session, team->first, team->members, observed, walls, error))
            return false;
        long switches_now = involuntary_switches();
        add_step(session, team, walls, switches_now != switches);
        switches = switches_now;
        now_ns = clock_now_ns();
        size_t done = team->whole.count;
        if (done < steps && now_ns - session->tick_ns >= 100000000) {
            char text[64];
            snprintf(text, sizeof text, "step %zu of %zu", done + done_elsewhere, all);
            session_breathe(session, (double)(done + done_elsewhere) / (double)all, text);
        }
    }
    add_loads(team, &load);
    team->whole.total_ns += now_ns - start_ns;
    for (size_t i = team->first; i < team->first + team->members; i++)
        team->slots[i].total_ns += now_ns - start_ns;
    return true;
}

static bool measure(struct session *session, struct team *teams, size_t count, size_t steps,
                    int64_t wanted_warmup, size_t *warmup, struct error *error)
{
    size_t all = steps * count;
    for (size_t i = 0; i < count; i++) {
        const struct slot *first = &session->slots[teams[i].first];
        session_observe(session, first);
        set_segment(session, 0);
        if (!warm_up(session, first, wanted_warmup, &warmup[i], error))
            return false;
    }
    session_reset_pipeline(session);
    for (size_t done = 0; done < all;) {
        done = 0;
        for (size_t i = 0; i < count; i++) {
            size_t elsewhere = 0;
            for (size_t j = 0; j < count; j++)
                elsewhere += j != i ? teams[j].whole.count : 0;
            if (!run_slice(session, &teams[i], steps, count > 1, elsewhere, all, error))
                return false;
            done += teams[i].whole.count;
        }
    }
    return true;
}

/* ---- inputs that stay on the device ---- */

/* One device's steps without copies. No room for them is no failure: the number is not known. */
static bool repeat(struct session *session, const struct slot *slot, struct measurement *m,
                   struct error *error)
{
    double fit = (double)RESIDENT_NS / 1e6 / median_of_ms(m->wall_ns, m->count);
    size_t steps = fit >= (double)m->count ? m->count : fit >= 1 ? (size_t)fit : 1;
    int64_t total_ns;
    if (slot->backend->plan_repeat == NULL && session->pipeline != NULL)
        return true; /* no step goes without preparing its input */
    if (slot->backend->plan_repeat == NULL) {
        m->resident_steps = m->count;
        m->resident_ns = m->total_ns;
        return true;
    }
    struct error why = {0};
    if (slot->backend->plan_repeat(slot->plan, steps, session->ports->cancel, &total_ns, &why)) {
        m->resident_steps = steps;
        m->resident_ns = total_ns;
        return true;
    }
    if (session_out_of_memory(&why)) {
        session_note(session, "throughput with resident inputs is not known: %s", why.why);
        return true;
    }
    if (error != NULL)
        *error = why;
    return false;
}

static bool repeat_all(struct session *session, struct measurement *slots, struct error *error)
{
    const struct worker_hooks *hooks = session->hooks;
    bool good = true;
    if (hooks->rest != NULL)
        hooks->rest(hooks->context, true);
    for (size_t i = 0; good && i < session->slot_count; i++) {
        session_breathe(session, (double)NAN, "inputs resident");
        good = repeat(session, &session->slots[i], &slots[i], error);
    }
    if (hooks->rest != NULL)
        hooks->rest(hooks->context, false);
    return good;
}

static void explain_stop(const struct measurement *m, size_t steps, struct error *error)
{
    if (error->code == ERROR_INTERRUPTED)
        error_set(error, ERROR_INTERRUPTED, "run", "stopped after %zu of %zu steps", m->count,
                  steps);
}

/* What several devices did together: whole batches, by the walls of whole steps. */
static json_t *split_json(struct session *session, const struct team *team)
{
    const struct slot *first = &session->slots[team->first];
    json_t *json = measurement_json(session, first, &team->whole, session->settings.batch, 0);
    static const char *const keys[] = {"segment", "device",          "warmup",
                                       "memory",  "preempted_steps", "throughput_resident_per_s"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_del(json, keys[i]);
    json_object_set_new(json, "devices", json_integer((json_int_t)team->members));
    return json;
}

/* The first device's numbers, and with several those of each. */
static json_t *run_json(struct session *session, const struct team *teams, size_t count,
                        const size_t *warmed)
{
    json_t *devices = json_array(), *split = NULL;
    for (size_t t = 0; t < count; t++) {
        for (size_t i = teams[t].first; i < teams[t].first + teams[t].members; i++)
            json_array_append_new(devices,
                                  measurement_json(session, &session->slots[i], &teams[t].slots[i],
                                                   session->slots[i].samples, warmed[t]));
        if (teams[t].members > 1 && split == NULL)
            split = split_json(session, &teams[t]);
    }
    json_t *reply = json_deep_copy(json_array_get(devices, 0));
    if (session->slot_count > 1)
        json_object_set(reply, "per_device", devices);
    if (split != NULL)
        json_object_set_new(reply, "split", split);
    if (session->pipeline != NULL)
        json_object_set_new(reply, "pipeline", session_pipeline_json(session));
    json_decref(devices);
    return reply;
}

/* Room for the times of every slot's steps and every group's. */
static bool make_room(struct session *session, struct measurement *slots, struct team *teams,
                      size_t count, size_t steps, struct error *error)
{
    bool memory = true;
    for (size_t i = 0; i < session->slot_count; i++) {
        /* a device's own segment, so that its layers are not mixed with another's */
        slots[i].segment = (uint32_t)session->request + ((uint32_t)i << 24);
        slots[i].wall_ns = malloc(steps * sizeof *slots[i].wall_ns);
        memory = memory && slots[i].wall_ns != NULL;
    }
    for (size_t i = 0; i < count; i++) {
        teams[i].whole.wall_ns = malloc(steps * sizeof *teams[i].whole.wall_ns);
        memory = memory && teams[i].whole.wall_ns != NULL;
    }
    return memory ||
           error_set(error, ERROR_MEMORY, "run", "no memory for the times of %zu steps", steps);
}

/* With `compare concurrent`: the same steps once more, both groups at once. */
static bool add_race(struct session *session, const struct team *teams, size_t count, size_t steps,
                     json_t *reply, struct error *error)
{
    double alone_ms[2];
    json_t *raced[2];
    if (!session->settings.concurrent || count != 2)
        return true;
    for (size_t i = 0; i < 2; i++)
        alone_ms[i] = median_of_ms(teams[i].whole.wall_ns, teams[i].whole.count);
    if (session->hooks->rest != NULL)
        session->hooks->rest(session->hooks->context, true);
    bool good = session_race(session, steps, alone_ms, raced, error);
    if (session->hooks->rest != NULL)
        session->hooks->rest(session->hooks->context, false);
    if (!good)
        return false;
    const json_t *devices = json_object_get(reply, "per_device");
    for (size_t i = 0; i < 2; i++) {
        for (size_t j = teams[i].first; j < teams[i].first + teams[i].members; j++)
            json_object_set(json_array_get(devices, j), "concurrent", raced[i]);
        json_decref(raced[i]);
    }
    json_object_set(reply, "concurrent", json_object_get(json_array_get(devices, 0), "concurrent"));
    return true;
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
    struct measurement slots[SESSION_SLOTS_MAX] = {0};
    struct team teams[SESSION_SLOTS_MAX] = {0};
    size_t warmed[SESSION_SLOTS_MAX] = {0}, count = 0;
    for (size_t i = 0; i < session->slot_count; i += teams[count++].members) {
        teams[count].slots = slots;
        session_group(session->slots, session->slot_count, i, &teams[count].first,
                      &teams[count].members);
    }
    if (session->hooks->weigh != NULL)
        session->hooks->weigh(session->hooks->context,
                              json_is_true(json_object_get(arguments, "cost")));
    bool done = make_room(session, slots, teams, count, (size_t)steps, error) &&
                measure(session, teams, count, (size_t)steps, warmup, warmed, error);
    if (session->hooks->weigh != NULL)
        session->hooks->weigh(session->hooks->context, false);
    set_segment(session, 0);
    if (session->hooks->flush != NULL)
        session->hooks->flush(session->hooks->context);
    done = done && repeat_all(session, slots, error);
    session->slice_start_ns = clock_now_ns();
    json_t *reply = done ? run_json(session, teams, count, warmed) : NULL;
    if (done && !add_race(session, teams, count, (size_t)steps, reply, error)) {
        json_decref(reply);
        reply = NULL;
        done = false;
    }
    if (!done)
        explain_stop(&teams[0].whole, (size_t)steps, error);
    for (size_t i = 0; i < session->slot_count; i++) {
        free(slots[i].wall_ns);
        free(teams[i].whole.wall_ns);
    }
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
    if (session_one_step(session, slot, NULL, error)) {
        if (session->settings.autotune && now_ns - session->tuned_ns >= TUNE_EVERY_NS) {
            tune(session, slot);
            session->tuned_ns = clock_now_ns();
        }
        return true;
    }
    session->live = false;
    set_segment(session, 0); /* closes what the step left open */
    return false;
}
