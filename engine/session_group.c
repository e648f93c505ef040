/* Devices that share the batches: which rows run where, and one step of all of them.
 *
 * The slots of a group lie side by side; a session has one group, or two that are compared: the CPU
 * and the GPUs. A group of several devices computes every batch together, each device its share of
 * the rows; the outputs are joined in order.
 */
#include "engine/session_private.h"

#include "engine/clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool session_is_cpu(const char *id)
{
    return strncmp(id, "cpu", 3) == 0;
}

int64_t session_share(int64_t batch, size_t members, size_t index)
{
    return batch / (int64_t)members + ((int64_t)index < batch % (int64_t)members);
}

void session_group(const struct slot *slots, size_t count, size_t slot, size_t *first,
                   size_t *members)
{
    bool cpu = session_is_cpu(slots[slot].id);
    *first = slot;
    while (*first > 0 && session_is_cpu(slots[*first - 1].id) == cpu)
        --*first;
    *members = 0;
    while (*first + *members < count && session_is_cpu(slots[*first + *members].id) == cpu)
        ++*members;
}

void session_shares(struct slot *slots, size_t count, int64_t batch)
{
    for (size_t i = 0; i < count; i++) {
        size_t first, members;
        session_group(slots, count, i, &first, &members);
        slots[i].samples = session_share(batch, members, i - first);
        slots[i].first = i == first ? 0 : slots[i - 1].first + slots[i - 1].samples;
    }
}

bool session_split(struct session *session, const struct settings *next, const struct graph *whole,
                   struct slot *slots, size_t count, struct error *error)
{
    session_shares(slots, count, next->batch);
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &slots[i];
        size_t first, members;
        session_group(slots, count, i, &first, &members);
        if (members == 1)
            continue;
        if (whole->mixes_samples) {
            error_set(error, ERROR_UNSUPPORTED, "several devices",
                      "the model mixes the samples of a batch: %zu devices cannot share it",
                      members);
            return error_hint(error, "devices %.8s", slots[first].id);
        }
        if (slot->samples == 0) {
            error_set(error, ERROR_VALUE, "several devices",
                      "a batch of %lld is too small for %zu devices", (long long)next->batch,
                      members);
            return error_hint(error, "batch %zu", members);
        }
        struct graph_options options = {.batch = slot->samples, .fusion = next->fusion};
        slot->part = graph_lower(session->model, &options, session->pool, error);
        if (slot->part == NULL)
            return false;
    }
    return true;
}

const struct graph *session_slot_graph(const struct session *session, const struct slot *slot)
{
    return slot->part != NULL ? slot->part : session->graph;
}

/* ---- a step ---- */

/* Queue a device's share; where a backend cannot queue, run it. */
static bool launch(const struct slot *slot, const struct step_context *step, struct error *error)
{
    return slot->backend->plan_launch != NULL ? slot->backend->plan_launch(slot->plan, step, error)
                                              : slot->backend->plan_run(slot->plan, step, error);
}

static bool wait_for(const struct slot *slot, const struct step_context *step, struct error *error)
{
    return slot->backend->plan_launch == NULL || slot->backend->plan_wait(slot->plan, step, error);
}

bool session_group_step(struct session *session, size_t first, size_t members, size_t observed,
                        int64_t *wall_ns, struct error *error)
{
    const struct observer *observer = session->hooks->observer;
    struct step_context step = {.step = ++session->step, .cancel = session->ports->cancel};
    struct error failed = {0};
    size_t launched = 0;
    bool good = true;
    int64_t start_ns = clock_now_ns();
    if (observer != NULL && observer->step_begin != NULL)
        observer->step_begin(observer->context, step.step, start_ns);
    session_listen(session);
    bool fed = session->pipeline != NULL && !session->predicting;
    if (fed)
        good = session_feed(session, first, members, &failed);
    step.fed = fed && session_feeds_gpu(session);
    for (; good && launched < members; launched++) {
        const struct slot *slot = &session->slots[first + launched];
        bool listened = first + launched == observed;
        int64_t begin_ns = clock_now_ns();
        step.observer = listened ? &session->tap : NULL;
        good = launch(slot, &step, &failed);
        int64_t launched_ns = clock_now_ns();
        wall_ns[first + launched] = launched_ns - begin_ns;
        if (!listened && session->tap.interval != NULL)
            session->tap.interval(session->tap.context,
                                  slot->backend->plan_launch != NULL ? INTERVAL_LAUNCH
                                                                     : INTERVAL_KERNEL,
                                  -1, 0, begin_ns, launched_ns);
    }
    if (good && step.fed) /* while the device works */
        session_feed_ahead(session);
    for (size_t i = 0; i < launched; i++) {
        const struct slot *slot = &session->slots[first + i];
        struct error later = {0};
        step.observer = first + i == observed ? &session->tap : NULL;
        /* also after a failure: nothing may still run when the caller goes on */
        if (slot->backend->plan_launch == NULL)
            continue;
        if (!wait_for(slot, &step, good ? &failed : &later))
            good = false;
        if (later.code == ERROR_LOST) /* a library's failure was only its echo */
            failed = later;
        wall_ns[first + i] = clock_now_ns() - start_ns;
    }
    /* a test's own stretch of the step that no interval explains */
    if (session->test_sleep_ms > 0)
        poll(NULL, 0, session->test_sleep_ms);
    if (good && fed)
        session_fed(session, start_ns);
    int64_t end_ns = clock_now_ns();
    if (good && observer != NULL && observer->step_end != NULL)
        observer->step_end(observer->context, step.step, end_ns);
    if (members == 1)
        wall_ns[first] = end_ns - start_ns;
    session->group_ns = end_ns - start_ns;
    if (!good && error != NULL)
        *error = failed;
    return good;
}

/* ---- memory of logical devices ---- */

/* Two logical devices of one card tell of the card: what the listener hears is their sum. */
static void tap_memory(void *context, const char *device, enum memory_category category,
                       uint64_t bytes_now)
{
    struct memory_tap *tap = context;
    struct session *session = tap->session;
    const struct observer *observer = &session->tap;
    uint64_t sum = 0;
    tap->bytes[category] = bytes_now;
    for (const struct memory_tap *other = session->taps; other != NULL; other = other->next)
        sum += strcmp(other->device, tap->device) == 0 ? other->bytes[category] : 0;
    if (observer->memory != NULL)
        observer->memory(observer->context, device, category, sum);
}

struct memory_tap *memory_tap_new(struct session *session, const char *id)
{
    struct memory_tap *tap = xcalloc(1, sizeof *tap);
    tap->session = session;
    snprintf(tap->device, sizeof tap->device, "%.*s", (int)strcspn(id, "."), id);
    tap->observer = (struct observer){.context = tap, .memory = tap_memory};
    tap->next = session->taps;
    session->taps = tap;
    return tap;
}

void memory_tap_free(struct memory_tap *tap)
{
    if (tap == NULL)
        return;
    for (int i = 0; i < MEMORY_CATEGORY_COUNT; i++) {
        if (tap->bytes[i] != 0)
            tap_memory(tap, tap->device, (enum memory_category)i, 0);
    }
    for (struct memory_tap **at = &tap->session->taps; *at != NULL; at = &(*at)->next) {
        if (*at == tap) {
            *at = tap->next;
            break;
        }
    }
    free(tap);
}
