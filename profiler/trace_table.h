/* What the collector sums up of kernels, copies and CUPTI's own time, for `kernels`: a row for each
 * op and kernel. On the CPU, and where events time the ops, an op is one row that bears the name of
 * its implementation. Private to the collector; engine thread.
 *
 * What is added belongs to the open step and counts when trace_table_step() keeps it. */
#ifndef LAYERTOP_PROFILER_TRACE_TABLE_H
#define LAYERTOP_PROFILER_TRACE_TABLE_H

#include "profiler/record_trace.h"

#include "engine/graph/graph.h"

struct trace_table;
struct trace_table *trace_table_new(void);
void trace_table_free(struct trace_table *table);

/* Another plan: its ops, and what runs each (both may be NULL; the texts are copied). Forgets all. */
void trace_table_plan(struct trace_table *table, const struct graph *graph,
                      const char *const *impls);
/* More exact names of what runs each op of the present plan; NULL members change nothing. */
void trace_table_names(struct trace_table *table, const char *const *names);
/* Forget counts and times. */
void trace_table_clear(struct trace_table *table);

/* number: of the kernel, as in gpu_event.detail; 0 is the op as a whole. */
void trace_table_kernel(struct trace_table *table, int op, uint32_t number, int64_t duration_ns);
void trace_table_copy(struct trace_table *table, uint32_t detail, uint64_t bytes,
                      int64_t duration_ns);
/* Counts at once: it is no part of a step. */
void trace_table_overhead(struct trace_table *table, uint32_t kind, int64_t duration_ns);
/* The step is over; or it was interrupted, or not wholly recorded: then what was added is dropped. */
void trace_table_step(struct trace_table *table, bool keep);

/* Anything new since it was encoded last? */
bool trace_table_changed(const struct trace_table *table);
/* The frame after record_begin(); fills steps and the counts of `head`. `trace` names the kernels, may
 * be NULL. */
void trace_table_encode(struct trace_table *table, struct record_trace *head,
                        const struct gpu_trace *trace, struct record_writer *writer);

#endif
