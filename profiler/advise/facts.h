/* The facts that `advise` judges: one measured way of running a model, as plain numbers without a
 * verdict.
 *
 * The lists below make the structs and their JSON alike, so that the two cannot drift: a section is
 * an object of the same name, a list an array of such objects. The front fills it out of the store,
 * the plan, the settings and the worker's answers (commands/advise_facts.h); `advise --json` prints
 * it as data.facts, and `advise --from` reads it back. Times are milliseconds a step, memory is
 * bytes, shares are 0..1. What is not known is NaN, FLAG_UNKNOWN or "", and left out of the JSON.
 * Any thread.
 */
#ifndef LAYERTOP_PROFILER_ADVISE_FACTS_H
#define LAYERTOP_PROFILER_ADVISE_FACTS_H

#include "engine/error.h"
#include <jansson.h>

#define ADVISE_FACTS_VERSION 1

enum flag { FLAG_UNKNOWN = -1, FLAG_NO, FLAG_YES };

#define ADVISE_TEXT_BYTES 128

/* As they are typed; threads 0: all cores; slice "auto", "off" or samples; limit_bytes: none is not
 * known. */
#define ADVISE_SETTINGS(X)                                                                         \
    X(TEXT, devices)                                                                               \
    X(NUM, batch)                                                                                  \
    X(TEXT, precision)                                                                             \
    X(FLAG, fusion)                                                                                \
    X(FLAG, graph)                                                                                 \
    X(FLAG, autotune)                                                                              \
    X(FLAG, growth)                                                                                \
    X(TEXT, layout)                                                                                \
    X(TEXT, profile)                                                                               \
    X(NUM, threads)                                                                                \
    X(TEXT, slice)                                                                                 \
    X(NUM, limit_bytes)                                                                            \
    X(TEXT, fallback)                                                                              \
    X(TEXT, input)

/* Where it ran. kind: "cpu" or "gpu"; isa: what oneDNN found ("AVX512 AMX"); cores: physical ones
 * that may be used; host_cores: those of the CPU, whichever device computes; capability: 90 for 9.0; gpus_usable: on this machine; roof_*: what the device
 * can do at most (roof.h). */
#define ADVISE_DEVICE(X)                                                                           \
    X(TEXT, id)                                                                                    \
    X(TEXT, kind)                                                                                  \
    X(TEXT, name)                                                                                  \
    X(TEXT, isa)                                                                                   \
    X(NUM, cores)                                                                                  \
    X(NUM, host_cores)                                                                             \
    X(NUM, capability)                                                                             \
    X(NUM, multiprocessors)                                                                        \
    X(NUM, gpus_usable)                                                                            \
    X(NUM, roof_fp32)                                                                              \
    X(NUM, roof_tf32)                                                                              \
    X(NUM, roof_fp16)                                                                              \
    X(NUM, roof_bf16)                                                                              \
    X(NUM, roof_bytes)

/* The model and its plan. input_elements, output_elements: of one sample; input_type: of the first
 * input; slice: samples that run together, where fewer than the batch. */
#define ADVISE_PLAN(X)                                                                             \
    X(TEXT, model)                                                                                 \
    X(NUM, parameters)                                                                             \
    X(NUM, input_elements)                                                                         \
    X(NUM, output_elements)                                                                        \
    X(TEXT, input_type)                                                                            \
    X(NUM, flops)                                                                                  \
    X(NUM, bytes)                                                                                  \
    X(NUM, slice)                                                                                  \
    X(NUM, load_ms)                                                                                \
    X(NUM, plan_ms)

/* The steps that were measured. source: what timed the layers ("cupti", "events", "clock", "off");
 * live: of a running model's last second, not of a `run`; first_ms: the first measured step;
 * preempted_steps: the engine's thread lost its processor; waited_ms: a step's worst thread waited
 * for a processor; faults: pages a step that came from disk; cost_*: what observing adds, as a share
 * of the step without it, with its 95 % interval; lost: records; slo_ms: what a step may take; predicted_rows: of the last `predict`. */
#define ADVISE_RUN(X)                                                                              \
    X(NUM, steps)                                                                                  \
    X(NUM, warmup)                                                                                 \
    X(FLAG, live)                                                                                  \
    X(FLAG, steady)                                                                                \
    X(NUM, wall_ms)                                                                                \
    X(NUM, mean_ms)                                                                                \
    X(NUM, min_ms)                                                                                 \
    X(NUM, p95_ms)                                                                                 \
    X(NUM, p99_ms)                                                                                 \
    X(NUM, first_ms)                                                                               \
    X(NUM, throughput_per_s)                                                                       \
    X(NUM, resident_per_s)                                                                         \
    X(NUM, preempted_steps)                                                                        \
    X(NUM, waited_ms)                                                                              \
    X(NUM, faults)                                                                                 \
    X(TEXT, source)                                                                                \
    X(NUM, cost_share)                                                                             \
    X(NUM, cost_low)                                                                               \
    X(NUM, cost_high)                                                                              \
    X(NUM, lost)                                                                                   \
    X(NUM, observed_ms)                                                                            \
    X(NUM, slo_ms)                                                                                 \
    X(NUM, predicted_rows)

/* The input pipeline, where steps make their own input (engine/pipeline.h). mode "serial" or
 * "overlap"; mapping "picture" or "batch"; processors: that its threads may use; a step's: prepare_ms
 * from a batch's begin to its end, and decode_ms, resize_ms and scale_ms, sums over its threads. */
#define ADVISE_PIPELINE(X)                                                                         \
    X(TEXT, mode)                                                                                  \
    X(TEXT, mapping)                                                                               \
    X(NUM, parallel_calls)                                                                         \
    X(NUM, processors)                                                                             \
    X(TEXT, preprocess)                                                                            \
    X(NUM, prepare_ms)                                                                             \
    X(NUM, decode_ms)                                                                              \
    X(NUM, resize_ms)                                                                              \
    X(NUM, scale_ms)

/* Means of the traced steps (ledger.h). */
#define ADVISE_LEDGER(X)                                                                           \
    X(NUM, steps)                                                                                  \
    X(NUM, wall_ms)                                                                                \
    X(NUM, kernel_ms)                                                                              \
    X(NUM, copy_ms)                                                                                \
    X(NUM, profiler_ms)                                                                            \
    X(NUM, launch_ms)                                                                              \
    X(NUM, preprocess_ms)                                                                          \
    X(NUM, gap_ms)                                                                                 \
    X(NUM, unexplained_ms)                                                                         \
    X(NUM, hidden_copy_ms)                                                                         \
    X(NUM, hidden_launch_ms)                                                                       \
    X(NUM, hidden_preprocess_ms)

/* Of the device; others_bytes: neither free nor ours. */
#define ADVISE_MEMORY(X)                                                                           \
    X(NUM, total_bytes)                                                                            \
    X(NUM, free_bytes)                                                                             \
    X(NUM, ours_bytes)                                                                             \
    X(NUM, weights_bytes)                                                                          \
    X(NUM, arena_bytes)                                                                            \
    X(NUM, workspace_bytes)                                                                        \
    X(NUM, idle_bytes)                                                                             \
    X(NUM, others_bytes)                                                                           \
    X(NUM, planned_bytes)                                                                          \
    X(TEXT, peak_layer)

/* What NVML's samples said meanwhile. clock_top_mhz: the highest clock that was seen. */
#define ADVISE_MARKS(X)                                                                            \
    X(FLAG, throttled)                                                                             \
    X(TEXT, reasons)                                                                               \
    X(NUM, tenants)                                                                                \
    X(NUM, clock_mhz)                                                                              \
    X(NUM, clock_top_mhz)                                                                          \
    X(NUM, temperature_c)

/* Kernels of convolutions and dense layers (engine/prune.h); prune: the setting, "off" or what it set
 * to zero. */
#define ADVISE_WEIGHTS(X)                                                                          \
    X(NUM, count)                                                                                  \
    X(NUM, zero_share)                                                                             \
    X(NUM, two_of_four_share)                                                                      \
    X(TEXT, prune)

/* What `evaluate` found with the present settings, against fp32; of rows that no calibration saw.
 * calibrated: int8 can be set; random: on inputs that say nothing about accuracy. */
#define ADVISE_ACCURACY(X)                                                                         \
    X(FLAG, calibrated)                                                                            \
    X(FLAG, random)                                                                                \
    X(NUM, rows)                                                                                   \
    X(NUM, agreement)                                                                              \
    X(NUM, accuracy)                                                                               \
    X(NUM, reference_accuracy)                                                                     \
    X(NUM, error_max)                                                                              \
    X(NUM, error_largest)

/* t = a + b B over a sweep of batches (commands/batch_fit.h). */
#define ADVISE_FIT(X)                                                                              \
    X(NUM, points)                                                                                 \
    X(NUM, a_ms)                                                                                   \
    X(NUM, b_ms)                                                                                   \
    X(NUM, r2)                                                                                     \
    X(NUM, knee)

/* A Keras layer in the model's order. label: with what was fused into it; ops: "conv+unary", each
 * kind once; op_count: how many there are; time_ms: the mean over the steps, median_ms: the median,
 * which one step that another program held up leaves as it is; channels: last dimension of its output; before: channels
 * of the layer before; elements: of its output; fused: it runs inside another layer. */
#define ADVISE_LAYER(X)                                                                            \
    X(TEXT, name)                                                                                  \
    X(TEXT, label)                                                                                 \
    X(TEXT, class_name)                                                                            \
    X(TEXT, impl)                                                                                  \
    X(TEXT, ops)                                                                                   \
    X(NUM, op_count)                                                                               \
    X(FLAG, fused)                                                                                 \
    X(NUM, time_ms)                                                                                \
    X(NUM, median_ms)                                                                              \
    X(NUM, kernels)                                                                                \
    X(NUM, flops)                                                                                  \
    X(NUM, bytes)                                                                                  \
    X(NUM, parameters)                                                                             \
    X(NUM, channels)                                                                               \
    X(NUM, before)                                                                                 \
    X(NUM, elements)

/* A kernel of a step (store_trace.h); blocks: of its grid. */
#define ADVISE_KERNEL(X)                                                                           \
    X(TEXT, name)                                                                                  \
    X(TEXT, layer)                                                                                 \
    X(NUM, per_step)                                                                               \
    X(NUM, mean_ms)                                                                                \
    X(NUM, time_ms)                                                                                \
    X(NUM, blocks)                                                                                 \
    X(NUM, flops_per_s)                                                                            \
    X(NUM, bytes_per_s)

#define ADVISE_COPY(X)                                                                             \
    X(TEXT, kind)                                                                                  \
    X(FLAG, pageable)                                                                              \
    X(NUM, per_step)                                                                               \
    X(NUM, bytes)                                                                                  \
    X(NUM, time_ms)

/* Another device in the same run, on the same batches. */
#define ADVISE_RIVAL(X)                                                                            \
    X(TEXT, device)                                                                                \
    X(NUM, batch)                                                                                  \
    X(NUM, wall_ms)                                                                                \
    X(NUM, throughput_per_s)

/* A batch of the last sweep. */
#define ADVISE_POINT(X)                                                                            \
    X(NUM, batch)                                                                                  \
    X(NUM, wall_ms)

/* What `advise --try` measured with the present model and settings: the speed with `change` over the
 * speed without, with its 95 % interval; predicted: before. */
#define ADVISE_TRIAL(X)                                                                            \
    X(TEXT, id)                                                                                    \
    X(TEXT, change)                                                                                \
    X(NUM, speedup)                                                                                \
    X(NUM, low)                                                                                    \
    X(NUM, high)                                                                                   \
    X(NUM, predicted)

#define ADVISE_MEMBER_NUM(name)   double name;
#define ADVISE_MEMBER_FLAG(name)  int name;
#define ADVISE_MEMBER_TEXT(name)  char name[ADVISE_TEXT_BYTES];
#define ADVISE_MEMBER(type, name) ADVISE_MEMBER_##type(name)

/* members, name */
#define ADVISE_SECTIONS(X)                                                                         \
    X(ADVISE_SETTINGS, settings)                                                                   \
    X(ADVISE_DEVICE, device)                                                                       \
    X(ADVISE_PLAN, plan)                                                                           \
    X(ADVISE_RUN, run)                                                                             \
    X(ADVISE_PIPELINE, pipeline)                                                                   \
    X(ADVISE_LEDGER, ledger)                                                                       \
    X(ADVISE_MEMORY, memory)                                                                       \
    X(ADVISE_MARKS, marks)                                                                         \
    X(ADVISE_WEIGHTS, weights)                                                                     \
    X(ADVISE_ACCURACY, accuracy)                                                                   \
    X(ADVISE_FIT, fit)

/* members, struct, list */
#define ADVISE_LISTS(X)                                                                            \
    X(ADVISE_LAYER, layer, layers)                                                                 \
    X(ADVISE_KERNEL, kernel, kernels)                                                              \
    X(ADVISE_COPY, copy, copies)                                                                   \
    X(ADVISE_RIVAL, rival, rivals)                                                                 \
    X(ADVISE_POINT, point, points)                                                                 \
    X(ADVISE_TRIAL, trial, trials)

#define ADVISE_SECTION_STRUCT(members, name)                                                       \
    struct advise_##name {                                                                         \
        members(ADVISE_MEMBER)                                                                     \
    };
ADVISE_SECTIONS(ADVISE_SECTION_STRUCT)
#undef ADVISE_SECTION_STRUCT

#define ADVISE_LIST_STRUCT(members, one, name)                                                     \
    struct advise_##one {                                                                          \
        members(ADVISE_MEMBER)                                                                     \
    };
ADVISE_LISTS(ADVISE_LIST_STRUCT)
#undef ADVISE_LIST_STRUCT

struct advise_facts {
#define ADVISE_SECTION_FIELD(members, name) struct advise_##name name;
    ADVISE_SECTIONS(ADVISE_SECTION_FIELD)
#undef ADVISE_SECTION_FIELD
#define ADVISE_LIST_FIELD(members, one, name)                                                      \
    struct advise_##one *name;                                                                     \
    size_t name##_count;
    ADVISE_LISTS(ADVISE_LIST_FIELD)
#undef ADVISE_LIST_FIELD
};

/* A record in which nothing is known. */
struct advise_facts *advise_facts_new(void);
/* NULL is allowed. */
void advise_facts_free(struct advise_facts *facts);

/* One more entry of a list, in which nothing is known; valid until the next. */
#define ADVISE_LIST_ADD(members, one, name)                                                        \
    struct advise_##one *advise_add_##one(struct advise_facts *facts);
ADVISE_LISTS(ADVISE_LIST_ADD)
#undef ADVISE_LIST_ADD

/* Read a record: an object of the sections above, or one that holds it as "facts" or "data.facts" (a
 * line of `advise --json`). Unknown members are passed over; a member of another type is ERROR_INPUT
 * and named ("layers[2].time_ms"). Text is cleaned of control characters. NULL on failure. */
struct advise_facts *advise_facts_from_json(const json_t *json, struct error *error);

/* The record as JSON; what is not known is left out. New reference. */
json_t *advise_facts_to_json(const struct advise_facts *facts);

#endif
