/* The frame of kind RECORD_TRACE: what ran in the steps since the plan or the segment began, kernel
 * by kernel. Each frame is whole and takes the place of the one before.
 *
 *   u8  timing · u8 bursts (1: replayed graphs are traced by node now and then) · u16 0
 *   u32 steps      whose every kernel was recorded
 *   u32 graphs     launches that were recorded as a whole · i64 graph_ns in all
 *   f32 burst_cost share of time, NaN: not known
 *   u64 dropped · u64 unmatched · u64 untimed
 *   u8  roof (enum roof_source) · u8 0 · u16 0
 *   f32 roof_flops[ROOF_CLASSES], per second · f32 roof_bytes, per second (NaN: not known)
 *   u32 copy_count · u32 overhead_count · u32 kernel_count
 *   copies:    u8 kind · u8 from · u8 to (CUPTI's) · u8 0 · u64 count · u64 bytes · i64 ns
 *   overheads: u32 kind (CUPTI's) · u64 count · i64 ns
 *   kernels:   i32 layer · i32 op · u64 count · i64 sum_ns · i64 min_ns · i64 max_ns
 *     u32 grid[3] · u32 block[3] (0: no such shape) · u32 registers · u32 shared_static
 *     u32 shared_dynamic · u64 flops · u64 bytes (of the whole op in one step; UINT64_MAX: not
 *     known) · u16 length · name, UTF-8
 *
 * Pure; one thread at a time.
 */
#ifndef LAYERTOP_PROFILER_RECORD_TRACE_H
#define LAYERTOP_PROFILER_RECORD_TRACE_H

#include "profiler/gpu_trace.h"
#include "profiler/records.h"
#include "profiler/roof.h"

#define RECORD_NAME_MAX 480 /* bytes of a kernel's name that travel */

struct record_trace {
    enum timing_source timing;
    bool bursts;
    uint32_t steps, graphs;
    int64_t graph_ns;
    float burst_cost;
    uint64_t dropped, unmatched, untimed;
    struct roof roof;
    uint32_t copy_count, overhead_count, kernel_count;
};

struct record_copy {
    uint32_t detail; /* gpu_copy_detail() */
    uint64_t count, bytes;
    int64_t sum_ns;
};

struct record_overhead {
    uint32_t kind;
    uint64_t count;
    int64_t sum_ns;
};

struct record_kernel {
    int layer, op; /* -1: none */
    uint64_t count;
    int64_t sum_ns, min_ns, max_ns;
    struct gpu_kernel kernel; /* name "" if not known; when read it points into the frame */
    size_t name_bytes;        /* read only: the name has no NUL there */
    uint64_t flops, bytes;
};

/* After record_begin(): the fixed part, then exactly as many of each as it says, in this order. */
void record_put_trace(struct record_writer *writer, const struct record_trace *trace);
void record_put_copy(struct record_writer *writer, const struct record_copy *copy);
void record_put_overhead(struct record_writer *writer, const struct record_overhead *overhead);
void record_put_kernel(struct record_writer *writer, const struct record_kernel *kernel);

/* false with ERROR_STREAM when the frame is cut or holds what cannot be. */
bool record_get_trace(struct record_reader *reader, struct record_trace *trace,
                      struct error *error);
bool record_get_copy(struct record_reader *reader, struct record_copy *copy, struct error *error);
bool record_get_overhead(struct record_reader *reader, struct record_overhead *overhead,
                         struct error *error);
bool record_get_kernel(struct record_reader *reader, struct record_kernel *kernel,
                       struct error *error);

#endif
