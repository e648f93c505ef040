/* Out of memory: refused before anything runs where the forecast says so, and told with everything
 * that helps: what was asked, what is free, what lives at the peak, who else holds memory, and the
 * largest batch that fits. */
#include "engine/session_private.h"

#include "engine/processes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIVE_TOLD    5
#define PROCESSES    64
/* Processes named in the sentence, and the least they hold to be worth it. */
#define HOLDERS      3
#define HOLDER_BYTES (64 << 20)

static char *bytes_text(char *out, size_t size, uint64_t bytes)
{
    if (bytes == UINT64_MAX)
        snprintf(out, size, "?");
    else if (bytes >= UINT64_C(1) << 30)
        snprintf(out, size, "%.2f GiB", (double)bytes / 1073741824);
    else if (bytes >= 1 << 20)
        snprintf(out, size, "%.1f MiB", (double)bytes / 1048576);
    else
        snprintf(out, size, "%.1f KiB", (double)bytes / 1024);
    return out;
}

bool session_out_of_memory(const struct error *error)
{
    return error->code == ERROR_MEMORY || error->code == ERROR_MEMORY_LIMIT;
}

/* ---- before anything runs ---- */

bool session_admit(struct session *session, const struct settings *next, const struct slot *slots,
                   size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct forecast forecast;
        struct memory_room room;
        session_room(&slots[i], slots[i].options.limit_bytes, 0, &room);
        int64_t batch = slots[i].samples;
        if (!session_forecast(session, &slots[i], next, batch, false, &forecast, error))
            return false;
        /* far from the wall a glance is enough */
        bool near = room.limit_bytes != 0 || room.free_bytes == UINT64_MAX ||
                    forecast.fenced_bytes > room.free_bytes / 2;
        if (near) {
            session_forecast_free(&forecast);
            if (!session_forecast(session, &slots[i], next, batch, true, &forecast, error))
                return false;
        }
        enum fit fit = session_fit(&forecast, &room);
        uint64_t needed = forecast.fenced_bytes;
        session_forecast_free(&forecast);
        if (fit == FIT_YES)
            continue;
        char a[32], b[32];
        return error_set(
            error, ERROR_MEMORY_LIMIT, "forecast",
            "refused before running: it needs %s, %s %s (forecast)",
            bytes_text(a, sizeof a, needed),
            bytes_text(b, sizeof b, fit == FIT_PAST_LIMIT ? room.limit_bytes : room.free_bytes),
            fit == FIT_PAST_LIMIT ? "is the limit" : "are free");
    }
    return true;
}

/* ---- who else ---- */

json_t *session_processes_json(const struct slot *slot)
{
    struct device_process list[PROCESSES];
    if (slot->backend->device_processes == NULL)
        return json_null();
    size_t count = slot->backend->device_processes(slot->device, list, PROCESSES);
    json_t *processes = json_array();
    bool found = false;
    for (size_t i = 0; i < count; i++)
        found = found || list[i].pid == (int)getpid();
    /* a list of the largest may leave us out */
    if (!found && slot->backend == &backend_cpu && count > 0 && count < PROCESSES)
        list[count++] = (struct device_process){(int)getpid(), session_resident_bytes()};
    for (size_t i = 0; i < count; i++) {
        char name[64], user[64];
        process_describe(list[i].pid, name, sizeof name, user, sizeof user);
        json_array_append_new(processes, json_pack("{s:i, s:s, s:s, s:o, s:b}", "pid", list[i].pid,
                                                   "name", name, "user", user, "bytes",
                                                   session_bytes_json(list[i].bytes), "ours",
                                                   (int)(list[i].pid == (int)getpid())));
    }
    return processes;
}

/* ---- the report ---- */

/* The largest batch now, and at precisions whose elements are smaller. */
static json_t *fits_json(struct session *session, const struct slot *slot,
                         const struct settings *next, const struct memory_room *room,
                         int64_t members)
{
    static const enum precision lower[] = {PRECISION_FP16, PRECISION_BF16};
    json_t *fits = json_object();
    json_object_set_new(
        fits, precision_name(next->precision),
        json_integer((json_int_t)(members * session_largest_batch(session, slot, next, room))));
    for (size_t i = 0; i < sizeof lower / sizeof *lower; i++) {
        struct settings other = *next;
        struct forecast one;
        other.precision = lower[i];
        bool smaller = next->precision == PRECISION_FP32 || next->precision == PRECISION_TF32;
        if (!smaller || !session_forecast(session, slot, &other, 1, true, &one, NULL))
            continue;
        session_forecast_free(&one);
        json_object_set_new(fits, precision_name(lower[i]),
                            json_integer((json_int_t)(members * session_largest_batch(
                                                                    session, slot, &other, room))));
    }
    return fits;
}

/* The device that has no room, or the first. */
static const struct slot *full_slot(struct session *session, const struct settings *next,
                                    const struct slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct forecast forecast;
        struct memory_room room;
        session_room(&slots[i], slots[i].options.limit_bytes, 0, &room);
        if (!session_forecast(session, &slots[i], next, slots[i].samples, true, &forecast, NULL))
            continue;
        bool full = session_fit(&forecast, &room) != FIT_YES;
        session_forecast_free(&forecast);
        if (full)
            return &slots[i];
    }
    return &slots[0];
}

static void append(char *out, size_t size, const char *text)
{
    size_t used = strlen(out);
    if (used + 1 < size)
        snprintf(out + used, size - used, "%s", text);
}

static void tell_holders(const json_t *processes, char *out, size_t size)
{
    size_t index, told = 0;
    const json_t *process;
    char text[256], bytes[32];
    json_array_foreach((json_t *)(uintptr_t)processes, index, process)
    {
        const json_t *held = json_object_get(process, "bytes");
        if (json_is_true(json_object_get(process, "ours")) || told == HOLDERS ||
            json_integer_value(held) < HOLDER_BYTES)
            continue;
        told++;
        snprintf(text, sizeof text, "; %s held by pid %lld (%s, %s)",
                 bytes_text(bytes, sizeof bytes, (uint64_t)json_integer_value(held)),
                 (long long)json_integer_value(json_object_get(process, "pid")),
                 json_string_value(json_object_get(process, "name")),
                 json_string_value(json_object_get(process, "user")));
        append(out, size, text);
    }
}

/* The error as a sentence made of the report; the first cause stays in it. */
static void reword(const json_t *report, int64_t batch, bool forecast, struct error *error)
{
    char why[sizeof error->why], asked[32], room[32], block[32];
    const json_t *value;
    struct error first = *error;
    const char *layer = json_string_value(json_object_get(report, "layer"));
    if (forecast) {
        snprintf(why, sizeof why, "%.300s; most is live at %.200s", first.why, layer);
    } else {
        value = json_object_get(report, "largest_block_bytes");
        uint64_t largest =
            json_is_integer(value) ? (uint64_t)json_integer_value(value) : UINT64_MAX;
        value = json_object_get(report, "free_bytes");
        uint64_t left = json_is_integer(value) ? (uint64_t)json_integer_value(value) : UINT64_MAX;
        value = json_object_get(report, "asked_bytes");
        snprintf(why, sizeof why,
                 "out of memory at '%.200s': asked %s, free %s, largest block %s; %.300s", layer,
                 bytes_text(asked, sizeof asked, (uint64_t)json_integer_value(value)),
                 bytes_text(room, sizeof room, left), bytes_text(block, sizeof block, largest),
                 first.why);
    }
    tell_holders(json_object_get(report, "processes"), why, sizeof why);
    char what[64];
    snprintf(what, sizeof what, "batch %lld", (long long)batch);
    error_set(error, first.code, what, "%s", why);
}

/* What to type: the batch that fits, or else what gives room. */
static void advise(const json_t *report, const struct settings *next, struct error *error)
{
    const json_t *fits = json_object_get(report, "fits"), *value;
    const char *precision, *key;
    json_int_t now = json_integer_value(json_object_get(fits, precision_name(next->precision)));
    if (now > 0) {
        error_hint(error, "batch %lld", (long long)now);
        return;
    }
    precision = NULL;
    json_object_foreach((json_t *)(uintptr_t)fits, key, value)
    {
        if (json_integer_value(value) > 0)
            precision = key;
    }
    if (precision != NULL)
        error_hint(error, "set precision %s", precision);
    else
        error_hint(error, next->limit_bytes != 0 || next->limit_share > 0 ? "limit none" : "mem");
}

void session_tell_oom(struct session *session, const struct settings *next,
                      const struct slot *slots, size_t count, struct error *error)
{
    const struct slot *slot = full_slot(session, next, slots, count);
    bool forecast = strcmp(error->what, "forecast") == 0;
    struct forecast needed;
    struct memory_room room;
    size_t first, members;
    session_group(slots, count, (size_t)(slot - slots), &first, &members);
    session_room(slot, slot->options.limit_bytes, 0, &room);
    if (!session_forecast(session, slot, next, slot->samples, true, &needed, NULL))
        return;
    uint64_t fence = room.limit_bytes != 0 ? room.limit_bytes : UINT64_MAX;
    json_t *peak = session_peak_json(&needed, LIVE_TOLD);
    json_t *report = json_pack(
        "{s:s, s:I, s:s, s:b, s:s, s:I, s:o, s:o, s:o, s:s, s:O, s:O, s:{s:I, s:I, s:I}, s:o, "
        "s:o}",
        "device", slot->id, "batch", (json_int_t)next->batch, "precision",
        precision_name(next->precision), "forecast", (int)forecast, "cause",
        session_fit(&needed, &room) == FIT_PAST_LIMIT ? "limit" : "memory", "asked_bytes",
        (json_int_t)needed.fenced_bytes, "free_bytes",
        session_bytes_json(fence < room.free_bytes ? fence : room.free_bytes), "limit_bytes",
        room.limit_bytes != 0 ? session_bytes_json(room.limit_bytes) : json_null(),
        "largest_block_bytes",
        session_bytes_json(fence < room.largest_bytes ? fence : room.largest_bytes), "message",
        error->why, "layer", json_object_get(peak, "peak_layer"), "live",
        json_object_get(peak, "live"), "memory", "weights_bytes",
        (json_int_t)needed.memory.weights_bytes, "arena_bytes",
        (json_int_t)needed.memory.arena_bytes, "workspace_bytes",
        (json_int_t)needed.memory.workspace_bytes, "processes", session_processes_json(slot),
        "fits", fits_json(session, slot, next, &room, (int64_t)members));
    json_decref(peak);
    session_forecast_free(&needed);
    reword(report, next->batch, forecast, error);
    advise(report, next, error);
    json_decref(session->oom);
    session->oom = report;
}

json_t *session_do_oom(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    if (session->oom != NULL)
        return json_deep_copy(session->oom);
    error_set(error, ERROR_COMMAND, "oom", "nothing ran out of memory so far");
    error_hint(error, "batch max --dry");
    return NULL;
}
