/* See store_trace.h. */
#include "profiler/store_trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void trace_free(struct store_trace *trace, char *names)
{
    free(trace->kernels);
    free(trace->copies);
    free(trace->overheads);
    free(names);
}

void trace_slots_clear(struct trace_slots *slots)
{
    for (size_t i = 0; i < STORE_TRACES; i++) {
        if (slots->slots[i].used)
            trace_free(&slots->slots[i].trace, slots->slots[i].names);
        slots->slots[i].used = false;
    }
}

/* CUPTI's kinds of memory and of copies, as its activity API numbers them */
static const char *memory_name(uint32_t kind)
{
    static const char *const names[] = {"?",     "pageable", "pinned",        "device",
                                        "array", "managed",  "device static", "managed static"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

static void copy_describe(uint32_t detail, struct store_copy *out)
{
    static const char *const names[] = {"?",
                                        "host to device",
                                        "device to host",
                                        "host to array",
                                        "array to host",
                                        "array to array",
                                        "array to device",
                                        "device to array",
                                        "device to device",
                                        "host to host",
                                        "device to another device"};
    uint32_t kind = detail & 255, from = detail >> 8 & 255, to = detail >> 16 & 255;
    out->pageable = from == 1 || to == 1;
    if (kind == GPU_COPY_SET) {
        snprintf(out->kind, sizeof out->kind, "set %s", memory_name(to));
        return;
    }
    bool host = kind == 1 || kind == 2 || kind == 9;
    uint32_t side = kind == 2 ? to : from;
    snprintf(out->kind, sizeof out->kind, "%s%s%s%s",
             kind < sizeof names / sizeof names[0] ? names[kind] : "?", host ? " (" : "",
             host ? memory_name(side) : "", host ? ")" : "");
}

/* CUPTI's kinds of overhead: the lower half of the numbers is older than the upper one */
static const char *overhead_name(uint32_t kind)
{
    static const char *const names[] = {"?",
                                        "flushing buffers",
                                        "instrumenting kernels",
                                        "making resources",
                                        "loading modules",
                                        "loading kernels lazily",
                                        "launch queue full",
                                        "asking for buffers",
                                        "starting unified memory tracing"};
    if (kind == 1)
        return "compiling in the driver";
    uint32_t row = kind >> 16;
    return row < sizeof names / sizeof names[0] ? names[row] : "?";
}

static bool read_copies(struct record_reader *reader, struct store_trace *trace,
                        struct error *error)
{
    double steps = trace->steps;
    for (size_t i = 0; i < trace->copy_count; i++) {
        struct record_copy copy;
        if (!record_get_copy(reader, &copy, error))
            return false;
        struct store_copy *out = &trace->copies[i];
        copy_describe(copy.detail, out);
        out->per_step = (double)copy.count / steps;
        out->bytes_per_step = (double)copy.bytes / steps;
        out->step_ms = (double)copy.sum_ns / steps * 1e-6;
    }
    for (size_t i = 0; i < trace->overhead_count; i++) {
        struct record_overhead overhead;
        if (!record_get_overhead(reader, &overhead, error))
            return false;
        trace->overheads[i] = (struct store_overhead){.kind = overhead_name(overhead.kind),
                                                      .count = overhead.count,
                                                      .total_ms = (double)overhead.sum_ns * 1e-6};
    }
    return true;
}

static bool read_kernels(struct record_reader *reader, struct store_trace *trace, char *names,
                         size_t layer_count, struct error *error)
{
    double steps = trace->steps;
    for (size_t i = 0; i < trace->kernel_count; i++, names += RECORD_NAME_MAX + 1) {
        struct record_kernel kernel;
        if (!record_get_kernel(reader, &kernel, error))
            return false;
        if (kernel.layer >= 0 && (size_t)kernel.layer >= layer_count)
            return error_set(error, ERROR_STREAM, "record", "names layer %d of %zu", kernel.layer,
                             layer_count);
        char raw[RECORD_NAME_MAX + 1];
        size_t length = kernel.name_bytes < RECORD_NAME_MAX ? kernel.name_bytes : RECORD_NAME_MAX;
        memcpy(raw, kernel.kernel.name, length);
        raw[length] = '\0';
        text_clean(names, RECORD_NAME_MAX + 1, raw);
        struct store_kernel *out = &trace->kernels[i];
        *out = (struct store_kernel){
            .layer = kernel.layer,
            .op = kernel.op,
            .name = names,
            .launched = kernel.kernel.block[0] > 0,
            .shape = kernel.kernel,
            .per_step = (double)kernel.count / steps,
            .mean_ms =
                kernel.count ? (double)kernel.sum_ns / (double)kernel.count * 1e-6 : (double)NAN,
            .min_ms = (double)kernel.min_ns * 1e-6,
            .max_ms = (double)kernel.max_ns * 1e-6,
            .step_ms = (double)kernel.sum_ns / steps * 1e-6,
            .flops = kernel.flops,
            .bytes = kernel.bytes,
            .flops_per_s = (double)NAN,
            .bytes_per_s = (double)NAN,
        };
        out->shape.name = names;
    }
    return true;
}

/* An op's work is not known kernel by kernel: its rates stand on its longest one */
static void add_rates(struct store_trace *trace)
{
    for (size_t i = 0; i < trace->kernel_count; i++) {
        struct store_kernel *row = &trace->kernels[i];
        double sum_ms = 0;
        bool longest = true;
        for (size_t k = 0; row->op >= 0 && k < trace->kernel_count; k++) {
            const struct store_kernel *other = &trace->kernels[k];
            if (other->op != row->op)
                continue;
            sum_ms += other->step_ms;
            longest = longest &&
                      (other->step_ms < row->step_ms || (other->step_ms <= row->step_ms && k >= i));
        }
        if (row->op < 0 || !longest || !(sum_ms > 0))
            continue;
        if (row->flops != RECORD_UNKNOWN)
            row->flops_per_s = (double)row->flops / sum_ms * 1e3;
        if (row->bytes != RECORD_UNKNOWN)
            row->bytes_per_s = (double)row->bytes / sum_ms * 1e3;
    }
}

bool trace_slots_feed(struct trace_slots *slots, struct record_reader *reader, int device,
                      int64_t time_ns, size_t layer_count, struct error *error)
{
    struct record_trace head;
    if (!record_get_trace(reader, &head, error))
        return false;
    struct store_trace trace = {
        .time_ns = time_ns,
        .timing_source = timing_source_name(head.timing),
        .bursts = head.bursts,
        .steps = head.steps,
        .graphs = head.graphs,
        .graph_ms = head.graphs ? (double)head.graph_ns / head.graphs * 1e-6 : (double)NAN,
        .burst_cost = (double)head.burst_cost,
        .dropped = head.dropped,
        .unmatched = head.unmatched,
        .untimed = head.untimed,
        .roof = head.roof,
        .kernel_count = head.kernel_count,
        .copy_count = head.copy_count,
        .overhead_count = head.overhead_count,
        .kernels = xcalloc((size_t)head.kernel_count + 1, sizeof *trace.kernels),
        .copies = xcalloc((size_t)head.copy_count + 1, sizeof *trace.copies),
        .overheads = xcalloc((size_t)head.overhead_count + 1, sizeof *trace.overheads),
    };
    char *names = xcalloc((size_t)head.kernel_count + 1, RECORD_NAME_MAX + 1);
    if (!read_copies(reader, &trace, error) ||
        !read_kernels(reader, &trace, names, layer_count, error)) {
        trace_free(&trace, names);
        return false;
    }
    add_rates(&trace);
    size_t slot = 0;
    for (size_t i = STORE_TRACES; i-- > 0;) {
        if (!slots->slots[i].used)
            slot = i;
    }
    for (size_t i = 0; i < STORE_TRACES; i++) {
        if (slots->slots[i].used && slots->slots[i].device == device)
            slot = i;
    }
    if (slots->slots[slot].used)
        trace_free(&slots->slots[slot].trace, slots->slots[slot].names);
    slots->slots[slot].used = true;
    slots->slots[slot].device = device;
    slots->slots[slot].trace = trace;
    slots->slots[slot].names = names;
    return true;
}

const struct store_trace *trace_slots_get(const struct trace_slots *slots, int device)
{
    for (size_t i = 0; i < STORE_TRACES; i++) {
        if (slots->slots[i].used && slots->slots[i].device == device)
            return &slots->slots[i].trace;
    }
    return NULL;
}
