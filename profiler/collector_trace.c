/* What ran kernel by kernel goes to the front about once a second, and at the end of each run. */
#include "profiler/collector_private.h"

#include <math.h>
#include <omp.h>
#include <unistd.h>

#define TRACE_PERIOD_NS INT64_C(1000000000)
/* A run that lasted so long can bear that its machine's memory is measured after it */
#define LONG_RUN_NS     INT64_C(2000000000)

static bool memory_due(const struct collector *c, int64_t now_ns, bool final)
{
    return final && c->source == TIMING_CLOCK && c->device == RECORD_CPU && c->segment != 0 &&
           c->memory_per_s <= 0 && now_ns - c->segment_ns >= LONG_RUN_NS;
}

static struct roof cpu_roof(struct collector *c, bool measure)
{
    if (measure)
        c->memory_per_s = roof_memory(omp_get_max_threads());
    if (c->clock_hz <= 0) /* between steps, once in a process */
        c->clock_hz = roof_clock();
    char text[8192]; /* the first processor's lines: the others are like it */
    int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    struct roof roof = roof_cpu(text, omp_get_max_threads(), c->clock_hz);
    if (c->memory_per_s > 0)
        roof.bytes_per_s = c->memory_per_s;
    return roof;
}

static struct roof device_roof(struct collector *c, bool measure)
{
    struct gpu_specs specs;
    if (c->device == RECORD_CPU)
        return cpu_roof(c, measure);
    return c->nvml && nvml_specs(c->nvml, c->device, &specs) ? roof_gpu(&specs) : roof_unknown();
}

void collector_trace_event(struct collector *c, const struct gpu_event *event)
{
    int64_t duration_ns = event->end_ns - event->start_ns;
    switch (event->kind) {
    case GPU_EVENT_KERNEL:
        trace_table_kernel(c->table, event->op, event->detail, duration_ns);
        break;
    case GPU_EVENT_COPY:
        trace_table_copy(c->table, event->detail, event->bytes, duration_ns);
        break;
    case GPU_EVENT_OVERHEAD:
        trace_table_overhead(c->table, event->detail, duration_ns);
        break;
    case GPU_EVENT_GRAPH:
        c->traced.graphs++;
        c->traced.graph_ns += duration_ns;
        break;
    }
}

void collector_trace_begin(struct collector *c)
{
    trace_table_clear(c->table);
    c->traced = (struct record_trace){.timing = c->source};
}

bool collector_trace_encode(struct collector *c, const struct record_header *header, int64_t now_ns,
                            bool final)
{
    bool measure = memory_due(c, now_ns, final);
    bool changed = trace_table_changed(c->table) || measure;
    if (!changed || (!final && now_ns - c->trace_sent_ns < TRACE_PERIOD_NS))
        return false;
    c->trace_sent_ns = now_ns;
    c->traced.timing = c->source;
    c->traced.bursts = c->burst.switch_ns > 0 && !c->burst.held;
    c->traced.burst_cost = (float)gpu_burst_cost(&c->burst);
    c->traced.roof = device_roof(c, measure);
    record_begin(&c->writer, header);
    trace_table_encode(c->table, &c->traced, c->trace, &c->writer);
    return true;
}
