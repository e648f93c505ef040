/* What the collector says: one record frame each. */
#include "profiler/collector_private.h"

#include "engine/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct record_header header(const struct collector *c, enum record_kind kind, int device,
                                   int64_t time_ns)
{
    return (struct record_header){
        .kind = kind,
        .device = device,
        .session = c->session,
        .segment = c->segment,
        .lost = c->lost,
        .time_ns = time_ns,
    };
}

static void send(struct collector *c)
{
    if (c->emit && !c->emit(c->emit_context, c->writer.data, c->writer.bytes))
        c->lost++;
}

void collector_note(struct collector *c, const char *text)
{
    if (!c->emit) {
        free(c->unsent_note);
        c->unsent_note = xstrdup(text);
        return;
    }
    struct record_header head = header(c, RECORD_NOTE, c->device, clock_now_ns());
    record_begin(&c->writer, &head);
    record_put_note(&c->writer, text);
    send(c);
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

void collector_send_memory(struct collector *c, int device, int64_t now_ns)
{
    const struct memory_state *state = &c->memory[device + 1];
    struct record_memory memory = {
        .used = RECORD_UNKNOWN, .total = RECORD_UNKNOWN, .library = RECORD_UNKNOWN};
    _Static_assert(RECORD_MEMORY_CATEGORIES == MEMORY_CATEGORY_COUNT, "the format fixes the count");
    for (int i = 0; i < MEMORY_CATEGORY_COUNT; i++)
        memory.category[i] = state->known & (1u << i) ? state->bytes[i] : RECORD_UNKNOWN;
    if (device == RECORD_CPU) {
        memory.used = resident_anonymous(c);
        memory.total = c->host_bytes;
    } else if (c->trace) {
        memory.library = c->trace->library_bytes(c->trace->context);
    }
    struct record_header head = header(c, RECORD_MEMORY, device, now_ns);
    record_begin(&c->writer, &head);
    record_put_memory(&c->writer, &memory);
    send(c);
    c->memory[device + 1].sent_ns = now_ns;
}

void collector_send_cost(struct collector *c, int64_t now_ns)
{
    struct store_cost cost;
    cost_read(&c->cost, &cost);
    struct record_header head = header(c, RECORD_COST, c->device, now_ns);
    record_begin(&c->writer, &head);
    record_put_cost(&c->writer, &cost);
    send(c);
}

void collector_send_samples(struct collector *c)
{
    if (!c->nvml)
        return;
    struct nvml_sample sample;
    char trouble[256];
    if (nvml_trouble(c->nvml, trouble, sizeof trouble))
        collector_note(c, trouble);
    while (nvml_take(c->nvml, &sample)) {
        struct record_header head = header(c, RECORD_DEVICE, sample.device, sample.time_ns);
        record_begin(&c->writer, &head);
        record_put_device(&c->writer, &sample.values);
        send(c);
    }
}

void collector_close_window(struct collector *c, int64_t now_ns)
{
    if (!window_empty(&c->window)) {
        struct record_header head = header(c, RECORD_WINDOW, c->device, now_ns);
        window_encode(&c->window, &head, c->source, &c->writer);
        send(c);
    }
    window_clear(&c->window, now_ns);
}

void collector_send_trace(struct collector *c, int64_t now_ns, bool final)
{
    struct record_header head = header(c, RECORD_TRACE, c->device, now_ns);
    if (collector_trace_encode(c, &head, now_ns, final))
        send(c);
}
