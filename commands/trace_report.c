/* See trace_report.h. */
#include "commands/trace_report.h"

#include "commands/format.h"

#include <math.h>
#include <stdio.h>

/* CUPTI's own time is worth a word above this share of the steps that it was seen in */
#define OVERHEAD_SHARE 0.02

void trace_report_json(json_t *data, const struct store_trace *trace)
{
    if (!trace) {
        json_object_set_new(data, "tracing", json_null());
        return;
    }
    json_t *tracing = json_object(), *copies = json_array(), *overhead = json_array();
    json_object_set_new(tracing, "detail", json_string(trace->bursts ? "bursts" : "every step"));
    json_object_set_new(tracing, "steps", json_integer(trace->steps));
    json_object_set_new(tracing, "graphs", json_integer(trace->graphs));
    json_object_set_new(tracing, "graph_ms", json_number(trace->graph_ms));
    json_object_set_new(tracing, "burst_cost", json_number(trace->burst_cost));
    json_object_set_new(data, "tracing", tracing);
    for (size_t i = 0; i < trace->copy_count; i++) {
        const struct store_copy *copy = &trace->copies[i];
        json_t *row = json_object();
        json_object_set_new(row, "kind", json_string(copy->kind));
        json_object_set_new(row, "pageable", json_boolean(copy->pageable));
        json_object_set_new(row, "per_step", json_number(copy->per_step));
        json_object_set_new(row, "bytes_per_step", json_number(copy->bytes_per_step));
        json_object_set_new(row, "time_ms", json_number(copy->step_ms));
        json_object_set_new(row, "bytes_per_s",
                            json_number(copy->step_ms > 0
                                            ? copy->bytes_per_step / copy->step_ms * 1e3
                                            : (double)NAN));
        json_array_append_new(copies, row);
    }
    for (size_t i = 0; i < trace->overhead_count; i++) {
        const struct store_overhead *one = &trace->overheads[i];
        json_array_append_new(overhead,
                              json_pack("{s:s, s:I, s:f}", "kind", one->kind, "count",
                                        (json_int_t)one->count, "total_ms", one->total_ms));
    }
    json_object_set_new(data, "copies", copies);
    json_object_set_new(data, "overhead", overhead);
    json_object_set_new(data, "lost",
                        json_pack("{s:I, s:I, s:I}", "dropped", (json_int_t)trace->dropped,
                                  "unmatched", (json_int_t)trace->unmatched, "untimed",
                                  (json_int_t)trace->untimed));
}

void trace_report_warn(struct execution *execution, const struct store_trace *trace)
{
    if (!trace)
        return;
    if (trace->dropped)
        execution_warn(execution,
                       "%llu records were dropped: there was no buffer for them, so layer times "
                       "are partial",
                       (unsigned long long)trace->dropped);
    if (trace->untimed)
        execution_warn(execution,
                       "%llu records had no timestamps and count nowhere: CUPTI ran out of device "
                       "buffers; a fresh worker has them again (`set profile off; set profile "
                       "auto`)",
                       (unsigned long long)trace->untimed);
    if (trace->unmatched)
        execution_warn(execution,
                       "%llu kernels could not be given to a layer: they came when their step was "
                       "gone, or nothing says who launched them",
                       (unsigned long long)trace->unmatched);
    for (size_t i = 0; i < trace->copy_count; i++) {
        const struct store_copy *copy = &trace->copies[i];
        char bytes[FORMAT_SIZE];
        if (copy->pageable && copy->bytes_per_step >= 65536)
            execution_warn(execution,
                           "copies of pageable memory, %s a step (%s): pinned memory is copied "
                           "faster and beside kernels",
                           format_bytes(bytes, sizeof bytes, copy->bytes_per_step), copy->kind);
    }
    double took = 0, steps_ms = 0;
    for (size_t i = 0; i < trace->overhead_count; i++)
        took += trace->overheads[i].total_ms;
    for (size_t i = 0; i < trace->kernel_count; i++)
        steps_ms += trace->kernels[i].step_ms * trace->steps;
    if (took > OVERHEAD_SHARE * steps_ms && steps_ms > 0) {
        char text[FORMAT_SIZE], share[FORMAT_SIZE];
        execution_warn(execution,
                       "CUPTI itself took %s on the launching thread, %s of the kernels' time: "
                       "`kernels` says with what",
                       format_time_ms(text, sizeof text, took),
                       format_percent(share, sizeof share, took / steps_ms));
    }
}

void trace_report_text(const struct store_trace *trace, char *out, size_t size)
{
    char share[FORMAT_SIZE];
    int used = snprintf(out, size, "%u step%s kernel by kernel%s", trace->steps,
                        trace->steps == 1 ? "" : "s", trace->bursts ? ", in bursts" : "");
    if (trace->graphs && used > 0 && (size_t)used < size)
        used += snprintf(out + used, size - (size_t)used, ", %u as whole graphs", trace->graphs);
    if (isfinite(trace->burst_cost) && used > 0 && (size_t)used < size)
        snprintf(out + used, size - (size_t)used, "; the bursts cost %s",
                 format_percent(share, sizeof share, trace->burst_cost));
}
