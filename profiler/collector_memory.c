/* Memory: what the engine's allocator tells, and what libraries and CUPTI hold besides. */
#include "profiler/collector_private.h"

#include "engine/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OFTEN_NS INT64_C(10000000)  /* no sooner again; what is skipped goes with the next window */
#define QUIET_NS INT64_C(300000000) /* a sample is older than what was told so long before it */

int collector_device(const char *name)
{
    if (strncmp(name, "gpu:", 4) == 0) {
        long number = strtol(name + 4, NULL, 10);
        if (number >= 0 && number < COLLECTOR_DEVICES - 1)
            return (int)number;
    }
    return RECORD_CPU;
}

void collector_on_memory(void *context, const char *device, enum memory_category category,
                         uint64_t bytes_now)
{
    struct collector *c = context;
    int index = collector_device(device);
    struct memory_state *state = &c->memory[index + 1];
    if (index != RECORD_CPU) {
        c->gpu_touched = true;
        if (c->trace && category != MEMORY_CONTEXT && category != MEMORY_IDLE)
            c->trace->ours(c->trace->context, (int64_t)(bytes_now - state->bytes[category]));
    }
    int64_t now_ns = clock_now_ns();
    if (!(state->known & 1u << category) || state->bytes[category] != bytes_now)
        state->changed_ns = now_ns;
    state->known |= 1u << category;
    state->bytes[category] = bytes_now;
    if (now_ns - state->sent_ns > OFTEN_NS)
        collector_send_memory(c, index, now_ns);
    else
        state->sent_ns = 0;
}

static uint64_t library_bytes(const struct collector *c)
{
    return c->trace ? c->trace->library_bytes(c->trace->context) : RECORD_UNKNOWN;
}

/* Of CUPTI's buffers, the part that was measured with the context; RECORD_UNKNOWN: it does not say */
static uint64_t told_bytes(const struct collector *c)
{
    if (!c->trace)
        return 0;
    return c->trace->own_bytes ? c->trace->own_bytes(c->trace->context) : RECORD_UNKNOWN;
}

static uint64_t cupti_bytes(const struct collector *c, const struct memory_state *state)
{
    uint64_t told = told_bytes(c);
    if (told == RECORD_UNKNOWN && state->own.grown_bytes == 0)
        return RECORD_UNKNOWN;
    return (told == RECORD_UNKNOWN ? 0 : told) + state->own.grown_bytes;
}

static uint64_t without(uint64_t bytes, uint64_t part)
{
    return bytes != RECORD_UNKNOWN && part != RECORD_UNKNOWN && bytes >= part ? bytes - part
                                                                              : bytes;
}

/* Anonymous resident bytes of this process: resident minus file-backed and shared pages */
static uint64_t resident_anonymous(struct collector *c)
{
    char text[128];
    ssize_t length = pread(c->statm_fd, text, sizeof text - 1, 0);
    if (length <= 0)
        return RECORD_UNKNOWN;
    text[length] = '\0';
    unsigned long long size, resident, shared;
    if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3 || shared > resident)
        return RECORD_UNKNOWN;
    return (uint64_t)(resident - shared) * c->page_bytes;
}

void collector_read_memory(struct collector *c, int device, struct record_memory *out)
{
    const struct memory_state *state = &c->memory[device + 1];
    *out = (struct record_memory){.used = RECORD_UNKNOWN,
                                  .total = RECORD_UNKNOWN,
                                  .library = RECORD_UNKNOWN,
                                  .cupti = RECORD_UNKNOWN};
    _Static_assert(RECORD_MEMORY_CATEGORIES == MEMORY_CATEGORY_COUNT, "the format fixes the count");
    for (int i = 0; i < MEMORY_CATEGORY_COUNT; i++)
        out->category[i] = state->known & (1u << i) ? state->bytes[i] : RECORD_UNKNOWN;
    if (device == RECORD_CPU) {
        out->used = resident_anonymous(c);
        out->total = c->host_bytes;
        return;
    }
    out->library = library_bytes(c);
    out->cupti = cupti_bytes(c, state);
    out->category[MEMORY_CONTEXT] = without(out->category[MEMORY_CONTEXT], told_bytes(c));
}

void collector_sample_memory(struct collector *c, const struct nvml_sample *sample)
{
    if (sample->device < 0 || sample->device >= COLLECTOR_DEVICES - 1)
        return;
    struct memory_state *state = &c->memory[sample->device + 1];
    const struct record_device *values = &sample->values;
    int64_t before_ns = state->sample_ns;
    state->sample_ns = sample->time_ns;
    /* what is under way while no step ends (a plan is made) may not have been told yet */
    bool steps = before_ns && c->device == sample->device && c->last_end_ns > before_ns;
    bool quiet = sample->time_ns - state->changed_ns > QUIET_NS;
    /* the driver may know us by another pid; then we are who is there, if nobody else is */
    bool whole = values->ours == RECORD_UNKNOWN;
    uint64_t held = !whole ? values->ours : values->tenants == 0 ? values->used : RECORD_UNKNOWN;
    if (!c->trace || !steps || !quiet || held == RECORD_UNKNOWN ||
        !(state->known & 1u << MEMORY_CONTEXT))
        return;
    uint64_t explained = library_bytes(c) == RECORD_UNKNOWN ? 0 : library_bytes(c);
    for (int i = 0; i < MEMORY_CATEGORY_COUNT; i++)
        explained += state->known & (1u << i) ? state->bytes[i] : 0;
    gpu_own_sample(&state->own, whole, held, explained);
}

void collector_tell_memory(void *context, const char *device, json_t *answer)
{
    struct collector *c = context;
    int index = collector_device(device);
    if (index == RECORD_CPU)
        return;
    uint64_t library = library_bytes(c), cupti = cupti_bytes(c, &c->memory[index + 1]);
    const json_t *measured = json_object_get(answer, "context_bytes");
    if (json_is_integer(measured)) {
        uint64_t rest = without((uint64_t)json_integer_value(measured), told_bytes(c));
        json_object_set_new(answer, "context_bytes",
                            json_integer((json_int_t)without(rest, library)));
    }
    if (library != RECORD_UNKNOWN)
        json_object_set_new(answer, "library_bytes", json_integer((json_int_t)library));
    if (cupti != RECORD_UNKNOWN)
        json_object_set_new(answer, "cupti_bytes", json_integer((json_int_t)cupti));
}
