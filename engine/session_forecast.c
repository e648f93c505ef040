/* What a batch would need on a device, and the largest that fits. Computed: nothing is taken. */
#include "engine/session_private.h"

#include "engine/cpu/quantise.h"
#include "engine/host_op.h"

#include <math.h>
#include <string.h>

/* ---- one batch ---- */

/* What the plan that is there holds beside its arena: it stands for what the backend cannot tell. */
static void carry_over(const struct session *session, const struct slot *slot,
                       struct plan_memory *out)
{
    struct plan_memory present = {0};
    for (size_t i = 0; i < session->slot_count; i++) {
        const struct slot *other = &session->slots[i];
        if (other->device == slot->device && other->plan != NULL)
            other->backend->plan_memory(other->plan, &present);
    }
    out->weights_bytes = present.weights_bytes;
    out->workspace_bytes = present.workspace_bytes;
}

/* The memory planner's view: the arena and the peak. */
static bool forecast_arena(struct forecast *out, const struct slot *slot,
                           const struct settings *settings, const struct plan_options *options,
                           struct error *error)
{
    bool half = settings->precision == PRECISION_FP16 || settings->precision == PRECISION_BF16;
    size_t element_bytes = half ? 2 : 4;
    struct layout *layout = &out->layout;
    struct quantised *quantised = NULL;
    if (slot->backend == &backend_cpu && settings->precision == PRECISION_INT8) {
        quantised = quantise_graph(slot->device, out->graph, options, error);
        if (quantised == NULL)
            return false;
    }
    if (slot->backend == &backend_cpu) {
        bool good =
            layout_new(layout, out->graph, element_bytes,
                       quantised != NULL ? quantised->value_bytes : NULL, settings->slice, error);
        quantised_free(quantised);
        if (!good)
            return false;
        out->memory.arena_bytes = layout->arena_bytes;
    } else {
        const struct memory_options memory = {.alignment = 256, .element_bytes = element_bytes};
        layout->memory = memory_plan_new(out->graph, &memory, error);
        if (layout->memory == NULL)
            return false;
        out->memory.arena_bytes = layout->memory->arena_bytes;
    }
    out->planned = layout->slice != NULL ? layout->slice : out->graph;
    out->memory.peak_op = layout->memory->peak_op;
    out->memory.peak_live_bytes = layout->memory->peak_live_bytes;
    out->memory.slice = out->planned->batch;
    return true;
}

bool session_forecast(struct session *session, const struct slot *slot,
                      const struct settings *settings, int64_t batch, bool exact,
                      struct forecast *out, struct error *error)
{
    struct graph_options lowering = {.batch = batch, .fusion = settings->fusion};
    struct plan_options options = {.precision = settings->precision,
                                   .graph = settings->graph,
                                   .host = settings->fallback ? &host_ops : NULL,
                                   .slice = settings->slice,
                                   .autotune = settings->autotune,
                                   .channels_first = settings->channels_first};
    *out = (struct forecast){.precision = settings->precision};
    session_give_ranges(session, settings->fusion, &options);
    out->graph = graph_lower(session->model, &lowering, session->pool, error);
    if (out->graph == NULL || !forecast_arena(out, slot, settings, &options, error)) {
        session_forecast_free(out);
        return false;
    }
    carry_over(session, slot, &out->memory);
    if (exact && slot->backend->plan_forecast != NULL &&
        !slot->backend->plan_forecast(slot->device, out->graph, &options, &out->memory, error)) {
        session_forecast_free(out);
        return false;
    }
    out->fenced_bytes =
        out->memory.weights_bytes + out->memory.arena_bytes + out->memory.workspace_bytes;
    if (out->memory.device_bytes == 0)
        out->memory.device_bytes = out->fenced_bytes;
    return true;
}

void session_forecast_free(struct forecast *forecast)
{
    layout_free(&forecast->layout);
    if (forecast->graph != NULL)
        graph_free(forecast->graph);
    forecast->graph = NULL;
}

/* ---- does it fit ---- */

void session_room(const struct slot *slot, uint64_t limit_bytes, uint64_t headroom_bytes,
                  struct memory_room *out)
{
    struct device_memory memory;
    memset(&memory, 0xff, sizeof memory); /* not known */
    if (slot->device != NULL)
        slot->backend->device_memory(slot->device, &memory, NULL);
    *out = (struct memory_room){.limit_bytes = limit_bytes,
                                .free_bytes = memory.room_bytes,
                                .largest_bytes = memory.largest_bytes,
                                .headroom_bytes = headroom_bytes};
}

static uint64_t less(uint64_t bytes, uint64_t headroom)
{
    return bytes == UINT64_MAX ? bytes : bytes > headroom ? bytes - headroom : 0;
}

enum fit session_fit(const struct forecast *forecast, const struct memory_room *room)
{
    if (room->limit_bytes != 0 &&
        forecast->fenced_bytes > less(room->limit_bytes, room->headroom_bytes))
        return FIT_PAST_LIMIT;
    if (forecast->memory.device_bytes > less(room->free_bytes, room->headroom_bytes))
        return FIT_PAST_MEMORY;
    return FIT_YES;
}

/* ---- the largest batch ---- */

#define KNOWN_MAX 128

/* A search: the device, what limits it, and the arenas computed so far. */
struct search {
    struct session *session;
    const struct slot *slot;
    const struct settings *settings;
    const struct memory_room *room;
    uint64_t beside_bytes; /* weights and workspace, of the last exact forecast */
    struct {
        int64_t batch;
        uint64_t arena_bytes;
    } known[KNOWN_MAX];
    size_t known_count;
};

/* The arena of a batch; UINT64_MAX if the planner refuses it. */
static uint64_t arena_of(struct search *search, int64_t batch)
{
    for (size_t i = 0; i < search->known_count; i++) {
        if (search->known[i].batch == batch)
            return search->known[i].arena_bytes;
    }
    struct forecast forecast;
    uint64_t bytes = UINT64_MAX;
    if (session_forecast(search->session, search->slot, search->settings, batch, false, &forecast,
                         NULL)) {
        bytes = forecast.memory.arena_bytes;
        session_forecast_free(&forecast);
    }
    if (search->known_count < KNOWN_MAX) {
        search->known[search->known_count].batch = batch;
        search->known[search->known_count++].arena_bytes = bytes;
    }
    session_breathe(search->session, (double)NAN, "looking for the largest batch");
    return bytes;
}

/* What the arena may be, as far as is known. */
static uint64_t budget(const struct search *search)
{
    const struct memory_room *room = search->room;
    uint64_t most = less(room->free_bytes, room->headroom_bytes);
    uint64_t fence = less(room->limit_bytes, room->headroom_bytes);
    if (room->limit_bytes != 0 && fence < most)
        most = fence;
    return most == UINT64_MAX            ? most
           : most > search->beside_bytes ? most - search->beside_bytes
                                         : 0;
}

/* The largest batch in `low`..`high` whose arena is within the budget, by the planner alone; `low`
 * if there is none. Arenas grow about linearly, but for steps where the CPU begins to slice: so from
 * above by powers of two, then by interpolation between a batch that fits and one that does not. */
static int64_t largest_arena(struct search *search, int64_t low, int64_t high)
{
    uint64_t most = budget(search);
    int64_t fits = high, refused = high + 1;
    while (fits > low && arena_of(search, fits) > most) {
        refused = fits;
        int64_t power = 1;
        while (power * 2 < fits)
            power *= 2;
        fits = power > low ? power : low;
    }
    for (int round = 0; refused - fits > 1; round++) {
        int64_t middle = fits + (refused - fits) / 2;
        uint64_t a = fits > 0 ? arena_of(search, fits) : 0, b = arena_of(search, refused);
        if (round % 3 != 2 && b != UINT64_MAX && b > a && most >= a)
            middle =
                fits + (int64_t)((double)(refused - fits) * (double)(most - a) / (double)(b - a));
        middle = middle <= fits ? fits + 1 : middle >= refused ? refused - 1 : middle;
        if (arena_of(search, middle) <= most)
            fits = middle;
        else
            refused = middle;
    }
    return fits;
}

/* Exactly: does the batch fit? Learns what lies beside its arena. */
static bool fits_exactly(struct search *search, int64_t batch)
{
    struct forecast forecast;
    if (!session_forecast(search->session, search->slot, search->settings, batch, true, &forecast,
                          NULL))
        return false;
    search->beside_bytes = forecast.memory.device_bytes - forecast.memory.arena_bytes;
    bool fits = session_fit(&forecast, search->room) == FIT_YES;
    session_forecast_free(&forecast);
    return fits;
}

int64_t session_largest_batch(struct session *session, const struct slot *slot,
                              const struct settings *settings, const struct memory_room *room)
{
    struct search search = {.session = session, .slot = slot, .settings = settings, .room = room};
    int64_t low = 0, high = BATCH_MAX; /* low fits (0 always does), high + 1 does not */
    if (!fits_exactly(&search, 1))
        return 0;
    low = 1;
    /* the workspace depends on the batch: ask exactly around what the planner says, until one fits
     * and its successor does not */
    while (low < high && !session_cancelled(session)) {
        int64_t guess = largest_arena(&search, low, high);
        if (guess > low && !fits_exactly(&search, guess)) {
            high = guess - 1;
            continue;
        }
        low = guess;
        if (low == high || !fits_exactly(&search, low + 1))
            return low;
        low++;
    }
    return low;
}

/* ---- the request ---- */

/* Bytes that a plan of `batch` would hold; null if there can be none. */
static json_t *needed_json(struct session *session, const struct slot *slot, int64_t batch)
{
    struct forecast forecast;
    if (batch < 1 || batch > BATCH_MAX ||
        !session_forecast(session, slot, &session->settings, batch, true, &forecast, NULL))
        return json_null();
    json_t *bytes = session_bytes_json(forecast.fenced_bytes);
    session_forecast_free(&forecast);
    return bytes;
}

/* Bytes to leave alone: as given, or a share of the limit or of the whole device. */
static uint64_t headroom_of(const struct slot *slot, const json_t *arguments)
{
    const json_t *bytes = json_object_get(arguments, "headroom_bytes");
    double share = json_number_value(json_object_get(arguments, "headroom_share"));
    struct device_memory memory;
    memset(&memory, 0xff, sizeof memory);
    slot->backend->device_memory(slot->device, &memory, NULL);
    uint64_t whole =
        slot->options.limit_bytes != 0 ? slot->options.limit_bytes : memory.total_bytes;
    if (json_is_integer(bytes) && json_integer_value(bytes) > 0)
        return (uint64_t)json_integer_value(bytes);
    return share > 0 && share < 1 && whole != UINT64_MAX ? (uint64_t)(share * (double)whole) : 0;
}

static json_t *others_json(const struct slot *slot)
{
    json_t *processes = session_processes_json(slot);
    json_int_t others = 0;
    size_t index;
    json_t *process;
    json_array_foreach(processes, index, process) others +=
        !json_is_true(json_object_get(process, "ours"));
    bool known = json_is_array(processes);
    json_decref(processes);
    return known ? json_integer(others) : json_null();
}

/* The largest batch of which every device fits its share, in every group. */
static int64_t largest_of_all(struct session *session, const json_t *arguments)
{
    int64_t most[SESSION_SLOTS_MAX], largest = BATCH_MAX;
    for (size_t i = 0; i < session->slot_count; i++) {
        const struct slot *slot = &session->slots[i];
        struct memory_room room;
        session_room(slot, slot->options.limit_bytes, headroom_of(slot, arguments), &room);
        most[i] = session_largest_batch(session, slot, &session->settings, &room);
    }
    for (size_t i = 0; i < session->slot_count; i++) {
        size_t first, members;
        session_group(session->slots, session->slot_count, i, &first, &members);
        while (largest > 0 && session_share(largest, members, i - first) > most[i])
            largest--;
    }
    return largest;
}

json_t *session_do_largest(struct session *session, const json_t *arguments, struct error *error)
{
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "batch max", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    const struct slot *slot = &session->slots[0];
    struct memory_room room;
    session_room(slot, slot->options.limit_bytes, headroom_of(slot, arguments), &room);
    int64_t fits = largest_of_all(session, arguments);
    size_t first, members;
    session_group(session->slots, session->slot_count, 0, &first, &members);
    if (session_cancelled(session)) {
        error_set(error, ERROR_INTERRUPTED, "batch max", "stopped");
        return NULL;
    }
    return json_pack("{s:s, s:I, s:s, s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "device",
                     slot->id, "devices", (json_int_t)members, "precision",
                     precision_name(session->settings.precision), "batch",
                     (json_int_t)session->settings.batch, "fits", (json_int_t)fits, "capped",
                     (int)(fits == BATCH_MAX), "planned_bytes",
                     needed_json(session, slot, session_share(fits, members, 0)), "next_bytes",
                     needed_json(session, slot, session_share(fits, members, 0) + 1), "limit_bytes",
                     room.limit_bytes != 0 ? session_bytes_json(room.limit_bytes) : json_null(),
                     "room_bytes", session_bytes_json(room.free_bytes), "headroom_bytes",
                     session_bytes_json(room.headroom_bytes), "others", others_json(slot));
}
