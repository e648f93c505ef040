/* Encoding and bounds-checked decoding of the trace frame: see record_trace.h. */
#include "profiler/record_trace.h"

#include "profiler/record_bytes.h"

#include <math.h>

#define FIXED_BYTES    (4 + 4 + 4 + 8 + 4 + 8 * 3 + 4 + 4 * (ROOF_CLASSES + 1) + 4 * 3)
#define COPY_BYTES     (4 + 8 * 3)
#define OVERHEAD_BYTES (4 + 8 * 2)
#define KERNEL_BYTES   (4 * 2 + 8 * 4 + 4 * 9 + 8 * 2 + 2)

void record_put_trace(struct record_writer *writer, const struct record_trace *trace)
{
    put(writer, trace->timing, 1);
    put(writer, trace->bursts, 1);
    put(writer, 0, 2);
    put(writer, trace->steps, 4);
    put(writer, trace->graphs, 4);
    put(writer, (uint64_t)trace->graph_ns, 8);
    put_float(writer, trace->burst_cost);
    put(writer, trace->dropped, 8);
    put(writer, trace->unmatched, 8);
    put(writer, trace->untimed, 8);
    put(writer, trace->roof.source, 1);
    put(writer, 0, 3);
    for (int i = 0; i < ROOF_CLASSES; i++)
        put_float(writer, (float)trace->roof.flops_per_s[i]);
    put_float(writer, (float)trace->roof.bytes_per_s);
    put(writer, trace->copy_count, 4);
    put(writer, trace->overhead_count, 4);
    put(writer, trace->kernel_count, 4);
}

void record_put_copy(struct record_writer *writer, const struct record_copy *copy)
{
    put(writer, copy->detail & 0xffffff, 4);
    put(writer, copy->count, 8);
    put(writer, copy->bytes, 8);
    put(writer, (uint64_t)copy->sum_ns, 8);
}

void record_put_overhead(struct record_writer *writer, const struct record_overhead *overhead)
{
    put(writer, overhead->kind, 4);
    put(writer, overhead->count, 8);
    put(writer, (uint64_t)overhead->sum_ns, 8);
}

void record_put_kernel(struct record_writer *writer, const struct record_kernel *kernel)
{
    const struct gpu_kernel *shape = &kernel->kernel;
    put(writer, (uint64_t)kernel->layer, 4);
    put(writer, (uint64_t)kernel->op, 4);
    put(writer, kernel->count, 8);
    put(writer, (uint64_t)kernel->sum_ns, 8);
    put(writer, (uint64_t)kernel->min_ns, 8);
    put(writer, (uint64_t)kernel->max_ns, 8);
    for (int i = 0; i < 3; i++)
        put(writer, shape->grid[i], 4);
    for (int i = 0; i < 3; i++)
        put(writer, shape->block[i], 4);
    put(writer, shape->registers, 4);
    put(writer, shape->shared_static_bytes, 4);
    put(writer, shape->shared_dynamic_bytes, 4);
    put(writer, kernel->flops, 8);
    put(writer, kernel->bytes, 8);
    const char *name = shape->name ? shape->name : "";
    size_t length = strnlen(name, RECORD_NAME_MAX);
    put(writer, length, 2);
    memcpy(reserve(writer, length), name, length);
}

static bool broken(struct error *error, const char *why)
{
    return error_set(error, ERROR_STREAM, "record", "%s", why);
}

static bool count_sane(uint64_t count)
{
    return count < UINT64_C(1) << 53;
}

bool record_get_trace(struct record_reader *reader, struct record_trace *trace, struct error *error)
{
    const uint8_t *at = take(reader, FIXED_BYTES);
    if (!at)
        return broken(error, "a trace is cut short");
    *trace = (struct record_trace){
        .timing = at[0],
        .bursts = at[1] != 0,
        .steps = (uint32_t)load(at + 4, 4),
        .graphs = (uint32_t)load(at + 8, 4),
        .graph_ns = (int64_t)load(at + 12, 8),
        .burst_cost = load_float(at + 20),
        .dropped = load(at + 24, 8),
        .unmatched = load(at + 32, 8),
        .untimed = load(at + 40, 8),
        .roof = {.source = at[48]},
    };
    at += 52;
    bool sane = trace->timing < TIMING_COUNT && trace->roof.source < ROOF_SOURCE_COUNT &&
                duration_sane(trace->graph_ns) && trace->graph_ns >= 0 &&
                count_sane(trace->dropped) && count_sane(trace->unmatched) &&
                count_sane(trace->untimed);
    for (int i = 0; i <= ROOF_CLASSES; i++, at += 4) {
        double value = (double)load_float(at);
        sane = sane && (isnan(value) || (value >= 0 && value < 1e30));
        *(i < ROOF_CLASSES ? &trace->roof.flops_per_s[i] : &trace->roof.bytes_per_s) = value;
    }
    trace->copy_count = (uint32_t)load(at, 4);
    trace->overhead_count = (uint32_t)load(at + 4, 4);
    trace->kernel_count = (uint32_t)load(at + 8, 4);
    if (!sane)
        return broken(error, "a trace holds what cannot be");
    uint64_t least = (uint64_t)trace->copy_count * COPY_BYTES +
                     (uint64_t)trace->overhead_count * OVERHEAD_BYTES +
                     (uint64_t)trace->kernel_count * KERNEL_BYTES;
    return least <= reader->bytes - reader->at || broken(error, "a trace is cut short");
}

bool record_get_copy(struct record_reader *reader, struct record_copy *copy, struct error *error)
{
    const uint8_t *at = take(reader, COPY_BYTES);
    if (!at)
        return broken(error, "a trace is cut short");
    *copy = (struct record_copy){.detail = (uint32_t)load(at, 4),
                                 .count = load(at + 4, 8),
                                 .bytes = load(at + 12, 8),
                                 .sum_ns = (int64_t)load(at + 20, 8)};
    return (count_sane(copy->count) && duration_sane(copy->sum_ns) && copy->sum_ns >= 0) ||
           broken(error, "a trace holds what cannot be");
}

bool record_get_overhead(struct record_reader *reader, struct record_overhead *overhead,
                         struct error *error)
{
    const uint8_t *at = take(reader, OVERHEAD_BYTES);
    if (!at)
        return broken(error, "a trace is cut short");
    *overhead = (struct record_overhead){.kind = (uint32_t)load(at, 4),
                                         .count = load(at + 4, 8),
                                         .sum_ns = (int64_t)load(at + 12, 8)};
    return (count_sane(overhead->count) && duration_sane(overhead->sum_ns) &&
            overhead->sum_ns >= 0) ||
           broken(error, "a trace holds what cannot be");
}

bool record_get_kernel(struct record_reader *reader, struct record_kernel *kernel,
                       struct error *error)
{
    const uint8_t *at = take(reader, KERNEL_BYTES);
    if (!at)
        return broken(error, "a trace is cut short");
    *kernel = (struct record_kernel){
        .layer = (int32_t)load(at, 4),
        .op = (int32_t)load(at + 4, 4),
        .count = load(at + 8, 8),
        .sum_ns = (int64_t)load(at + 16, 8),
        .min_ns = (int64_t)load(at + 24, 8),
        .max_ns = (int64_t)load(at + 32, 8),
        .flops = load(at + 76, 8),
        .bytes = load(at + 84, 8),
        .name_bytes = (size_t)load(at + 92, 2),
    };
    struct gpu_kernel *shape = &kernel->kernel;
    for (size_t i = 0; i < 3; i++) {
        shape->grid[i] = (uint32_t)load(at + 40 + 4 * i, 4);
        shape->block[i] = (uint32_t)load(at + 52 + 4 * i, 4);
    }
    shape->registers = (uint32_t)load(at + 64, 4);
    shape->shared_static_bytes = (uint32_t)load(at + 68, 4);
    shape->shared_dynamic_bytes = (uint32_t)load(at + 72, 4);
    shape->name = (const char *)take(reader, kernel->name_bytes);
    if (!shape->name)
        return broken(error, "a trace is cut short");
    return (kernel->layer >= -1 && kernel->op >= -1 && count_sane(kernel->count) &&
            duration_sane(kernel->sum_ns) && kernel->sum_ns >= 0 && duration_sane(kernel->min_ns) &&
            duration_sane(kernel->max_ns)) ||
           broken(error, "a trace holds what cannot be");
}
