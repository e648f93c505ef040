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

void collector_send_memory(struct collector *c, int device, int64_t now_ns)
{
    struct record_memory memory;
    collector_read_memory(c, device, &memory);
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
        collector_sample_memory(c, &sample);
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
