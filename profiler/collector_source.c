/* Which source times the ops (CUPTI, device events or the host clock), and which steps go without, so
 * that what observing costs can be told. */
#include "profiler/collector_private.h"

#include "engine/clock.h"
#include "profiler/cupti.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const profile_names[] = {"auto", "cupti", "events", "clock", "off"};

static bool profile_parse(const char *text, enum profile_setting *out)
{
    for (size_t i = 0; text && i < sizeof profile_names / sizeof profile_names[0]; i++) {
        if (strcmp(text, profile_names[i]) == 0) {
            *out = (enum profile_setting)i;
            return true;
        }
    }
    return false;
}

static bool wants_cupti(enum profile_setting profile)
{
    return profile == PROFILE_AUTO || profile == PROFILE_CUPTI;
}

/* Open CUPTI. Where there is no NVIDIA driver at all, auto does not even look for it. */
static bool open_trace(struct collector *c, struct error *error)
{
    if (c->trace)
        return true;
    struct error why = {.code = ERROR_NONE};
    c->trace = cupti_open(c->cupti_api, c->raw_path[0] ? c->raw_path : NULL, &why);
    if (c->trace)
        return true;
    c->trace_failed = true;
    snprintf(c->trace_why, sizeof c->trace_why, "%s", why.why);
    if (error)
        *error = why;
    return false;
}

static bool configure_profile(struct collector *c, const json_t *value, bool *restart,
                              struct error *error)
{
    enum profile_setting wanted;
    if (!profile_parse(json_string_value(value), &wanted)) {
        error_set(error, ERROR_VALUE, "set profile",
                  "the value must be auto, cupti, events, clock "
                  "or off");
        return error_hint(error, "set profile auto");
    }
    bool change = wants_cupti(wanted) != (c->trace != NULL);
    if (change && c->gpu_touched && (c->trace || !c->trace_failed)) {
        /* CUPTI must be there before the GPU context is, and cannot leave while it lives */
        *restart = true;
        c->profile = wanted;
        return true;
    }
    if (wants_cupti(wanted)) {
        struct error why = {.code = ERROR_NONE};
        bool opened = open_trace(c, &why);
        bool driver = c->cupti_api || cupti_driver_present();
        /* on a machine without a GPU the setting is kept: it means the GPUs of another one */
        if (!opened && wanted == PROFILE_CUPTI && driver) {
            if (error)
                *error = why;
            return false;
        }
        if (!opened && (driver || wanted == PROFILE_CUPTI)) {
            char *text =
                xasprintf("CUPTI is not used, layers are timed with CUDA events: %s", why.why);
            collector_note(c, text);
            free(text);
        }
    } else if (c->trace) {
        c->hooks.flush(c);
        collector_close_trace(c);
    }
    c->hooks.flush(c); /* what was timed so far keeps its source's name */
    c->profile = wanted;
    collector_choose(c);
    return true;
}

static bool configure_raw(struct collector *c, const json_t *value, bool *restart,
                          struct error *error)
{
    const char *path = json_string_value(value);
    *restart = false;
    if (value && !json_is_null(value) && !path)
        return error_set(error, ERROR_VALUE, "set raw", "the value must be a file name or null");
    if (path && strlen(path) >= sizeof c->raw_path)
        return error_set(error, ERROR_VALUE, "set raw", "the file name is too long");
    snprintf(c->raw_path, sizeof c->raw_path, "%s", path ? path : "");
    if (!c->trace || !c->trace->raw)
        return true;
    if (!path)
        c->hooks.flush(c); /* what ran so far belongs to the file */
    return c->trace->raw(c->trace->context, path, error);
}

bool collector_configure(void *context, const char *key, const json_t *value, bool *restart,
                         struct error *error)
{
    struct collector *c = context;
    *restart = false;
    if (strcmp(key, "profile") == 0)
        return configure_profile(c, value, restart, error);
    if (strcmp(key, "raw") == 0)
        return configure_raw(c, value, restart, error);
    return error_set(error, ERROR_UNKNOWN_COMMAND, key, "the profiler has no such setting");
}

void collector_close_trace(struct collector *c)
{
    gpu_join_free(c->join);
    c->join = NULL;
    if (c->trace)
        c->trace->close(c->trace->context);
    c->trace = NULL;
    c->losses = (struct gpu_losses){.dropped = 0};
    c->unmatched = 0;
}

#define EVENTLESS_STEPS 3

void collector_check_events(struct collector *c)
{
    c->eventless = c->device_timed || c->step_kernels == 0 ? 0 : c->eventless + 1;
    c->device_timed = false;
    if (c->eventless < EVENTLESS_STEPS)
        return;
    c->events_failed = true;
    collector_note(c, "CUDA events told nothing of the last steps, so layers are timed by the "
                      "host's clock, which waits after each op");
    collector_choose(c);
}

void collector_check_trace(struct collector *c)
{
    char why[512];
    if (!c->trace || c->trace->alive(c->trace->context, why, sizeof why))
        return;
    c->trace_failed = true;
    collector_close_trace(c);
    collector_choose(c);
    char *text = xasprintf("CUPTI stopped, layers are timed with CUDA events from now on: %s", why);
    collector_note(c, text);
    free(text);
}

/* A plan's first steps load kernels and capture its graph: they are observed */
#define STEPS_TO_SETTLE 10
#define SWITCH_LIMIT_NS INT64_C(200000000)
#define COST_WATCHED_CUPTI                                                                         \
    199 /* turning CUPTI off and on takes milliseconds: once in five seconds */

/* Events that were recorded stay in the steps: what they time cannot be left out for some. */
static bool can_go_unwatched(const struct collector *c)
{
    bool cupti = c->source == TIMING_CUPTI && c->trace->detail && c->plan_steps > STEPS_TO_SETTLE;
    return (c->source == TIMING_CLOCK || cupti) && c->plan_device_known;
}

/* CUPTI goes off or comes back; false: not now. */
static bool switch_trace(struct collector *c, bool off)
{
    enum gpu_detail wanted = off ? GPU_DETAIL_OFF : c->burst.detail;
    if (off == c->trace_off)
        return true;
    if (!c->trace || !c->trace->detail(c->trace->context, wanted, SWITCH_LIMIT_NS))
        return false;
    c->trace_off = off;
    return true;
}

void collector_rest(struct collector *c, bool resting)
{
    if (c->source == TIMING_CUPTI)
        (void)switch_trace(c, resting);
}

void collector_restart_cost(struct collector *c)
{
    (void)switch_trace(c, false);
    unsigned watched = c->source == TIMING_CUPTI ? COST_WATCHED_CUPTI : COST_WATCHED;
    cost_reset(&c->cost, c->cost_asked ? COST_WATCHED_PAIR : watched);
    c->begun_ns = 0;
}

int64_t collector_begin_step(struct collector *c, int64_t start_ns)
{
    c->plan_steps++;
    if (!can_go_unwatched(c))
        return start_ns;
    bool unwatched = c->cost.unwatched;
    bool follows = c->begun_ns && start_ns - c->last_end_ns < BACK_TO_BACK_NS;
    if (cost_step(&c->cost, follows ? start_ns - c->begun_ns : -1))
        collector_send_cost(c, start_ns);
    if (c->source == TIMING_CUPTI && c->cost.unwatched != c->trace_off) {
        /* the switch is neither the step's time nor the one's before */
        int64_t begin_ns = clock_now_ns();
        bool switched = switch_trace(c, c->cost.unwatched);
        start_ns += clock_now_ns() - begin_ns;
        if (!switched)
            collector_restart_cost(c);
    }
    c->begun_ns = start_ns;
    if (c->cost.unwatched != unwatched)
        collector_choose_callbacks(c, false);
    return start_ns;
}
