/* The collector's own state, shared by collector.c (observer, windows), collector_send.c
 * (records) and collector_source.c (which source of timing is used, and what is said when it is not
 * the one asked for). */
#ifndef LAYERTOP_PROFILER_COLLECTOR_PRIVATE_H
#define LAYERTOP_PROFILER_COLLECTOR_PRIVATE_H

#include "profiler/collector.h"
#include "profiler/collector_window.h"
#include "profiler/cost.h"
#include "profiler/gpu_join.h"
#include "profiler/gpu_own.h"
#include "profiler/nvml.h"
#include "profiler/trace_table.h"

#include <fcntl.h>
#include <stdio.h>

#define COLLECTOR_DEVICES 65                /* the CPU and gpu:0..63 */
#define BACK_TO_BACK_NS   INT64_C(50000000) /* a longer pause between steps is not their time */

enum profile_setting { PROFILE_AUTO, PROFILE_CUPTI, PROFILE_EVENTS, PROFILE_CLOCK, PROFILE_OFF };

/* One layer in the present step. */
struct step_layer {
    int64_t duration_ns;
    uint64_t kernels;
    bool touched, timed, kernels_known;
    bool committed; /* already counted as a step in the window */
};

struct memory_state {
    uint64_t bytes[MEMORY_CATEGORY_COUNT];
    unsigned known;     /* 1 << category */
    int64_t sent_ns;    /* 0: a change waits to be sent */
    int64_t changed_ns; /* when one of them last changed */
    int64_t sample_ns;  /* NVML's last one of the device */
    struct gpu_own own; /* GPU: what CUPTI takes */
};

struct collector {
    struct observer observer;
    struct worker_hooks hooks;
    bool (*emit)(void *context, const void *data, size_t bytes);
    void *emit_context;
    uint32_t session, lost;
    struct record_writer writer;
    struct window window;

    enum profile_setting profile;
    enum timing_source source; /* of the present plan */
    bool gpu_touched;          /* a GPU context may exist: CUPTI can no longer come or go */
    char raw_path[512];
    bool trace_failed;    /* CUPTI was wanted and could not be had */
    char trace_why[1024]; /* and why */
    bool events_failed;   /* device events told nothing of several steps */
    unsigned eventless;   /* such steps in a row */
    bool device_timed;    /* the present step told of device times */
    /* stand-ins for the libraries, for tests; NULL: the real ones */
    const struct cupti_api *cupti_api;
    const struct nvml_api *nvml_api;
    char *unsent_note; /* said before the stream was attached */

    int device;
    bool plan_device_known;
    uint32_t segment;
    uint64_t batch;
    size_t op_count;
    int *op_layer; /* per op: model layer or -1 */
    int *last_op;  /* per layer */

    /* the present step */
    bool in_step, step_open_to_events, joining;
    uint64_t step;
    int64_t step_start_ns, last_end_ns;
    int newest_op;
    bool in_slices; /* steps of this plan run ops again: no layer is whole before its step is */
    struct step_layer *step_layers;
    uint32_t *touched;
    size_t touched_count;
    struct ledger_interval *intervals;
    size_t interval_count, interval_capacity, intervals_lost;
    struct cost cost; /* of observing: some steps go without, see collector_begin_step() */
    bool cost_asked;  /* a `run` that wants to know it */
    int64_t begun_ns; /* the last step's begin, 0: nothing lies directly before the next one */
    uint64_t step_kernels, plan_kernels; /* launched by the step; by the last one that told */
    struct gpu_burst burst;              /* how graphs are traced */
    bool trace_off;                      /* CUPTI leaves steps alone */
    bool apart;                          /* the next step that is joined follows such ones */
    unsigned plan_steps;
    bool burst_seen;       /* kernels of a replayed graph came since the plan or segment began */
    int64_t device_end_ns; /* of the last step that was joined */
    int64_t joined_end_ns; /* likewise, on the host */

    const struct gpu_trace *trace; /* NULL without CUPTI */
    struct gpu_join *join;
    struct gpu_losses losses; /* as told in windows so far */
    uint64_t unmatched;
    struct trace_table *table;  /* kernel by kernel */
    struct record_trace traced; /* graphs and losses of the same time */
    int64_t trace_sent_ns;
    double clock_hz;     /* of the CPU, measured; 0: not yet */
    double memory_per_s; /* bytes that its memory gives, likewise */
    int64_t segment_ns;  /* when the present segment began */
    struct nvml *nvml;

    struct memory_state memory[COLLECTOR_DEVICES]; /* index device + 1 */
    int statm_fd;
    uint64_t page_bytes, host_bytes;
};

/* collector.c */
void collector_on_plan(void *context, const char *device, const struct graph *graph,
                       const char *const *impls);
void collector_on_segment(void *context, uint32_t segment);
/* Choose the source of timing and the observer's callbacks for the present plan and settings. */
void collector_choose(struct collector *collector);
/* The same for the present source. `all`: every one, for whoever copies the observer at the start. */
void collector_choose_callbacks(struct collector *collector, bool all);

/* collector_memory.c */
/* The index of "gpu:N"; RECORD_CPU for all else. */
int collector_device(const char *name);
void collector_on_memory(void *context, const char *device, enum memory_category category,
                         uint64_t bytes_now);
/* What is known of a device's memory now. */
void collector_read_memory(struct collector *collector, int device, struct record_memory *out);
/* What NVML says may tell what CUPTI has taken. */
void collector_sample_memory(struct collector *collector, const struct nvml_sample *sample);
/* The hook `memory`. */
void collector_tell_memory(void *context, const char *device, json_t *answer);

/* collector_send.c */
void collector_note(struct collector *collector, const char *text);
void collector_send_memory(struct collector *collector, int device, int64_t now_ns);
void collector_send_samples(struct collector *collector);
void collector_send_cost(struct collector *collector, int64_t now_ns);
/* What ran kernel by kernel, if it is time (`final`: if there is anything new). */
void collector_send_trace(struct collector *collector, int64_t now_ns, bool final);
/* Send the window if anything is in it, and begin the next one. */
void collector_close_window(struct collector *collector, int64_t now_ns);

/* collector_burst.c: how much CUPTI records of replayed graphs */
/* A step ended and waits to be joined: says how it was traced. */
struct gpu_join_step collector_burst_how(const struct collector *collector);
/* After it: trace the next one otherwise if it is time. */
void collector_burst_step(struct collector *collector, bool replayed, int64_t wall_ns,
                          int64_t end_ns);
/* A step was joined: is CUPTI blind? */
void collector_burst_joined(struct collector *collector, const struct gpu_joined *joined);
/* Another plan, or another segment: nodes are traced from its first step on. */
void collector_burst_begin(struct collector *collector, bool plan);

/* collector_trace.c: what ran kernel by kernel */
/* Of the step that is being joined. */
void collector_trace_event(struct collector *collector, const struct gpu_event *event);
/* Another plan or segment. */
void collector_trace_begin(struct collector *collector);
/* Put the frame into the writer if it is time (`final`: if there is anything new); false: not. */
bool collector_trace_encode(struct collector *collector, const struct record_header *header,
                            int64_t now_ns, bool final);

/* collector_source.c */
bool collector_configure(void *context, const char *key, const json_t *value, bool *restart,
                         struct error *error);
/* After a step that events were to time: if several told nothing, fall back and say so. */
void collector_check_events(struct collector *collector);
/* Has CUPTI given up? Then fall back and say so. */
void collector_check_trace(struct collector *collector);
void collector_close_trace(struct collector *collector);
/* Whole steps run that nobody is told of: CUPTI is off meanwhile. */
void collector_rest(struct collector *collector, bool resting);
/* collector_probe.c: the hook `probe` */
void collector_probe(void *context, json_t *record);
/* Begin to measure what observing costs, on another plan or for another segment. */
void collector_restart_cost(struct collector *collector);
/* A step begins: is it observed? Returns its start, without the time that CUPTI took to go off or on. */
int64_t collector_begin_step(struct collector *collector, int64_t start_ns);
static inline bool collector_unwatched(const struct collector *collector)
{
    return collector->cost.unwatched || collector->trace_off;
}

#endif
