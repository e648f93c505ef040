/* The store: where records become series, tables and a ledger. It lives in the front.
 *
 * Memory is bounded for ever: per layer at most 16 KB, per series one ring and a pyramid of
 * (min, max, sum, count). A value that is not known is NaN in a double and UINT64_MAX in a byte
 * count: a gap in the plot, null in JSON, an en dash on the screen; never 0.
 * Threads: one (the front's). Pointers returned stay valid until the next store_feed/_plan/_model.
 * Times are of the front's clock; records of another host are shifted on arrival.
 */
#ifndef LAYERTOP_PROFILER_STORE_H
#define LAYERTOP_PROFILER_STORE_H

#include "engine/clock.h"
#include "engine/error.h"
#include "profiler/marks.h"
#include <jansson.h>
#include <stdint.h>

/* A distribution of values; NaN members when count is 0. p50 and p95 of layers come from a
 * log-bucket histogram (relative error below 3 %). */
struct summary {
    uint64_t count;
    double mean, min, max, p50, p95, sum;
};

/* One drawn column of a series: what fell into it. count 0 is a gap. */
struct series_cell {
    float min, max, mean;
    uint32_t count;
};

struct series; /* series.h */

/* `columns` cells over [from_ns, to_ns), oldest first; costs O(columns). */
void series_read(const struct series *series, int64_t from_ns, int64_t to_ns, size_t columns,
                 struct series_cell *cells);
/* Distribution over the last `span_ns` before `to_ns` (p95 exact over the ring, NaN beyond it). */
void series_summary(const struct series *series, int64_t span_ns, int64_t to_ns,
                    struct summary *out);
double series_last(const struct series *series); /* NaN if empty */

enum ledger_class {
    LEDGER_KERNEL,
    LEDGER_COPY,
    LEDGER_PROFILER,
    LEDGER_LAUNCH,
    LEDGER_PREPROCESS,
    LEDGER_GAP,
    LEDGER_CLASS_COUNT
};
const char *ledger_class_name(enum ledger_class class);

/* Mean per step, milliseconds. The classes partition the traced interval of a step (each
 * nanosecond in one class, priority in enum order); unexplained = wall - sum, signed. */
struct ledger {
    uint64_t steps;
    double class_ms[LEDGER_CLASS_COUNT];
    double hidden_ms[LEDGER_GAP]; /* of each class, what lies behind one of higher priority
                                     (launches and copies behind kernels): in no sum */
    double unexplained_ms;
    double wall_ms;
};

/* What observing adds to a step, measured in on/off pairs: share of the unobserved step's time,
 * 0.01 is 1 %, with its 95 % confidence interval. It may come out below 0: then it is lost in the
 * noise. NaN while there are too few pairs. */
struct store_cost {
    uint64_t pairs;
    double share, low, high;
};

struct store_layer {                                     /* a Keras layer, in model order */
    const char *name, *class_name, *impl, *output_shape; /* impl "" if unknown */
    const char *label;                 /* "conv1+bn1+relu1" for a head, else the name */
    size_t label_bytes;                /* its length: no screen shows it in more columns */
    int fused_into;                    /* row index of the head, or -1 */
    const char *const *fused;          /* names folded into this head, NULL-terminated */
    uint64_t flops, bytes, parameters; /* per step at the plan's batch */
    double kernels;                    /* kernels or primitives per step, NaN if unknown */
    double time_ms;       /* mean per step over the last second; NaN: fused, free or never run */
    int64_t time_ns;      /* when the newest of it was measured, as store_time_ns(); 0: never */
    double share;         /* of the wall time per step, 0..1, over the same second */
    struct summary total; /* ms per step, since the plan changed or store_reset() */
    const struct series *series; /* time_ms per window */
};

/* Aggregate of one segment (one `run`): exact, not windowed. */
struct store_segment {
    uint32_t segment;
    uint64_t steps;
    struct ledger ledger;
    const char *timing_source;
    size_t layer_count;
    const struct summary *layers; /* ms per step; sum = total */
    const double *kernels;        /* mean kernels per step */
    uint64_t dropped_records;
    struct store_cost cost;
    struct marks marks; /* throttling and other tenants meanwhile */
};

enum store_series {
    SERIES_STEP_MS,        /* wall of a step */
    SERIES_THROUGHPUT_CPU, /* samples/s */
    SERIES_THROUGHPUT_GPU, /* samples/s, all GPUs */
    SERIES_MEMORY_WEIGHTS, /* bytes on the device in use; with a CPU plan host memory */
    SERIES_MEMORY_ACTIVATIONS,
    SERIES_MEMORY_WORKSPACE,
    SERIES_MEMORY_IDLE,
    SERIES_MEMORY_OTHER,   /* used minus the four above: where what it is made of is not known */
    SERIES_MEMORY_CONTEXT, /* CUDA context, modules, library handles, without SERIES_LIBRARY_ALLOC
                              and SERIES_MEMORY_CUPTI */
    SERIES_MEMORY_CUPTI,   /* device memory that CUPTI takes to trace (gpu_own.h) */
    SERIES_MEMORY_FOREIGN, /* other processes */
    SERIES_MEMORY_FREE,    /* total minus used */
    SERIES_MEMORY_USED,    /* device: used in all; CPU: RssAnon of the worker */
    SERIES_MEMORY_TOTAL,
    SERIES_LIBRARY_ALLOC, /* allocations that are not ours (CUPTI memory records) */
    SERIES_GPU_CLOCK_MHZ,
    SERIES_GPU_TEMPERATURE_C,
    SERIES_GPU_POWER_W,
    SERIES_GPU_UTIL, /* NVML's "some kernel was running", 0..1 */
    SERIES_COUNT
};
const char *store_series_name(enum store_series series);

struct store;
struct store *store_new(void);
void store_free(struct store *store);
/* The front's clock, borrowed; clock_system unless this is called. */
void store_set_clock(struct store *store, const struct clock *clock);

/* Inputs, in stream order. `model` is a load reply (or NULL on unload), `plan` a plan event. */
void store_model(struct store *store, const json_t *model);
void store_plan(struct store *store, const json_t *plan);
bool store_feed(struct store *store, const void *record, size_t bytes, struct error *error);
/* The worker ended: series get a gap, numbers stay. */
void store_ended(struct store *store);
void store_reset(struct store *store);

size_t store_layer_count(const struct store *store);
/* Fill *out for layer `index`. */
void store_layer(const struct store *store, size_t index, struct store_layer *out);
/* Fill out[0 .. store_layer_count()), all but the quantiles of their totals, which take longest and
 * are NaN here: for a frame, which shows a few of a thousand layers. */
void store_layers(const struct store *store, struct store_layer *out);
const struct series *store_series_get(const struct store *store, enum store_series which);
/* Ledger over the last second of live steps. steps is 0 if there were none. */
void store_ledger(const struct store *store, struct ledger *out);
/* The observer's cost as last measured on the present plan, live or in a `run`. */
void store_cost(const struct store *store, struct store_cost *out);
/* Wall per step (ms) since the plan changed or store_reset(). */
void store_wall(const struct store *store, struct summary *out);
/* NULL if no record of that segment arrived; the last 16 segments are kept. */
const struct store_segment *store_segment_get(const struct store *store, uint32_t segment);
/* The newest segment that records told of, 0 if none did: of a recording, whose runs nobody here asked
 * for. */
uint32_t store_segment_last(const struct store *store);
/* The same for one device ("cpu", "gpu:N") of a segment that ran on several. */
const struct store_segment *store_segment_on(const struct store *store, uint32_t segment,
                                             const char *device);
/* "cupti", "events", "clock", "off", or "" before the first plan. */
const char *store_timing_source(const struct store *store);
/* Why the source of timing is not the one that was asked for, cleaned for a terminal; "" if
 * nothing was said. */
const char *store_note(const struct store *store);
/* What ran kernel by kernel on a device ("cpu", "gpu:N"; NULL: the plan's), see store_trace.h; NULL
 * if nothing was told. */
struct store_trace;
const struct store_trace *store_trace_get(const struct store *store, const char *device);
/* What the last samples of the GPU in use said; nothing known on the CPU. */
void store_marks(const struct store *store, struct marks *out);
/* Are the plan's layers measured now and then only, and kept between? */
bool store_in_bursts(const struct store *store);
/* Records lost anywhere on the way, since the start. */
uint64_t store_dropped(const struct store *store);
/* Changes whenever something that can be drawn changed. */
uint64_t store_generation(const struct store *store);
/* The same when the present plan came in the place of another; 0: it was the first. */
int64_t store_plan_time_ns(const struct store *store);
/* Time of the newest record, on the front's clock; 0 if none. */
int64_t store_time_ns(const struct store *store);

#endif
