/* The engine's one interface: what can be asked of it, and what comes back.
 *
 * The real engine sits in a worker process behind session.h; the front holds a client that turns
 * calls into frames and replies back. Whoever holds a `struct engine` cannot tell a worker here, a
 * worker elsewhere (--worker-command) and a recording (--worker --replay FILE) apart.
 *
 * Nothing blocks: a request is submitted, its reply arrives as an event from engine_dispatch().
 * Requests are executed in order, one at a time; a cancel overtakes them. Records ride the same
 * stream as opaque frames that only profiler/ reads and writes.
 *
 * Verbs, their arguments and their replies (JSON; every unit stands in the key):
 *
 *   configure {settings: {KEY: VALUE...}}      all engine settings at once; must be the first
 *                                              request, before any GPU is touched
 *             -> {devices: [ids], note?}
 *   set       {key, value, force?}             -> {replanned: bool, cost_ms, restart: bool, note?}
 *             A refused value is an error and keeps the old one. force: no forecast refuses it; the
 *             memory is really asked for, and the answer is the system's or the driver's. restart: the change needs a fresh
 *             process; the front starts one, configures it and loads the model again.
 *   load      {path, weights?, shape?, map?, outputs?} -> model_describe() + {load_ms, note?}
 *             The PLAN event of the new model follows this reply; for every other verb it precedes
 *             the reply. A load that fails before the new model is complete keeps the old one.
 *   demos     {}                               -> {models: ["demo:digits", ...]}: what `load` knows
 *   unload    {}                               -> {}
 *   plan      {batch?}                         -> the plan (below) without making it current:
 *             a forecast that allocates nothing; with {fits: bool or null, limit_bytes, room_bytes:
 *             what plans may fill, live: as of `memory`}, without timing_source and plan_ms
 *   largest   {headroom_bytes?, headroom_share?} -> {device, devices: N that share a batch,
 *             precision, batch: the present one,
 *             fits, capped: bool, planned_bytes: with `fits` samples, next_bytes: with one more, null
 *             if capped, limit_bytes, room_bytes, headroom_bytes, others: processes besides us}
 *             The largest batch: `fits` does, one more does not, by the planner; nothing is taken. 0:
 *             not even one sample. capped: the batch ends at its own maximum, not at memory.
 *   oom       {}                               -> {device, batch, precision, forecast: bool, cause:
 *             "limit"|"memory", asked_bytes, free_bytes, limit_bytes, largest_block_bytes, message,
 *             layer, live: the five largest, memory: {weights_bytes, arena_bytes,
 *             workspace_bytes}, processes: as of `memory`, fits: {PRECISION: batch}}
 *             The report of the last request that ran out of memory.
 *   devices   {quiet?: no note}                -> {devices: [backend.devices() objects + {proof: the
 *             last of `proof` or null}], note?}
 *   proof     {}                               -> {devices: [{device, model, precision, reference,
 *             kernels, layers, impls: {NAME: ops}, error: largest difference of an output over its
 *             largest value, null if it is none or why? says what failed}]}
 *   agree     {keep: true, labels?} or {}      -> {rows} or {rows, random, source, labels: null or
 *             files, rows_of_calibration: left out, accuracy: {a, b: shares or null} or null,
 *             model: the other's name, why, outputs: [{name, same_class_share, divergence: in nats,
 *             difference_max, difference_mean, difference_rms, rms: of the other's} or, of whole
 *             numbers, {name, same_row_share}]}
 *             The outputs of two models on the same inputs: those of the setting `input`, what was
 *             held out for the demo model that is kept, or random ones. keep those of the present
 *             model; then, with the other loaded, tell how far its own lie apart, output by output
 *             where the shapes are the same. why: they cannot be compared.
 *   ceilings  {again?: bool}                   -> {device, threads: null on a GPU, took_ms, compute:
 *             [{precision, flops_per_s, by: how it was measured}], memory: [{level: "memory" or
 *             "cache": the cores' own, bytes_per_s, by}]}
 *             The most that the first device does, in the precisions that it has: measured at the
 *             first request, within two seconds or so, and kept; again: measured anew.
 *   phases    {}                               -> {read_ms, lower_ms, libraries_ms, context_ms,
 *             modules_ms, compile_ms, upload_ms, allocate_ms, input_ms, tune_ms}
 *             Where the time went that loading and planning took since the process began; each
 *             moment is in one of them (phases.h).
 *   nosync    {steps}                          -> {device, returned_ms: [of each step], wall_ms:
 *             [likewise]}
 *             Steps of the first device by two clocks: until the call came back, its work queued;
 *             and until the output was on the host. ERROR_UNSUPPORTED where a call waits for its
 *             work (CPU).
 *   probe     {smoke?: bool} or {python: PATH} or {pid} or {from: PATH} -> {probes: the record of
 *             profiler/doctor/probes.h}
 *             Facts for `doctor` about the worker's machine, with the worker's paths. smoke: every
 *             device computes for a moment; python and pid leave out what is about layertop; from
 *             reads a record out of a file, and nothing else.
 *   run       {steps, warmup, cost?}           -> {segment, device, batch, precision, steps, warmup,
 *             steady, wall_ms: {median, p90, p95, p99, min, mean}, throughput_per_s,
 *             throughput_resident_per_s, memory: {planned_bytes, measured_bytes, context_bytes}, preempted_steps, waited_ms,
 *             first_ms, faults, per_device?: [the same keys], split?: {devices: N, batch, precision, steps, steady, wall_ms,
 *             throughput_per_s}, pipeline?: {mode: "serial"|"overlap", mapping: "picture"|"batch",
 *             parallel_calls, pictures, preprocess, bytes, per step: prepare_ms, wait_ms, and decode_ms, resize_ms,
 *             scale_ms, which are sums over its threads; preprocess_on: "cpu"|"gpu", and on a GPU of each
 *             batch copied_bytes, copy_ms, and gpu_ms, that the device resizes and scales (resize_ms is then
 *             the copying of decoded bytes)}}
 *             With a pipeline each step makes its own input first, and the wall holds that too;
 *             measured_bytes and, on the CPU, throughput_resident_per_s are null then.
 *             Devices of a kind share each batch: `batch` of each is its share, its wall ends with
 *             its own outputs, and `split` has the whole. Its layers are timed in its part of the
 *             steps: 1/N of them.
 *             Wall: input ready on the host to output on the host, synchronised each step.
 *             throughput_per_s: samples over the time of the N back-to-back steps.
 *             throughput_resident_per_s: the same with inputs that stay on the device, nothing copied
 *             and one wait at the end, in steps of their own (as many, but for a second at most);
 *             where steps copy nothing (CPU) the same number; null if there is no room for it. Records of these
 *             steps carry `segment`, and all of them precede the reply. steady is null below 8
 *             steps; cost: let one step in four pass unobserved, to tell what observing costs;
 *             preempted_steps: in which the engine thread lost its processor to another; waited_ms: of
 *             a step, in which the worst thread waited for a processor (host_load.h), null if not
 *             known; first_ms: the first measured step; faults: pages a step that came from disk.
 *   start     {}                               -> {} steps run live until stop
 *   stop      {}                               -> {}
 *   predict   {input, output?, top?}           -> {rows, predict_ms, outputs: [{name, shape,
 *             dtype}], written?, predictions?: [{source, top: [{class, label?, probability}]}],
 *             preprocess?: {mode, source}}: top defaults to 3 (5 from 100 classes on), with an
 *             output to 0. preprocess, for pictures only: mode is "none", "tf", "caffe", "torch",
 *             "unit" or "per_image",
 *             source says why: "setting", "recipe" (the demo model's), "model" (it scales by
 *             itself or takes no colours), "name" (a Keras application's) or "unknown". A note
 *             tells of inputs that are not numbers. Paths are the worker's. input: .npy .npz .h5:DATASET .png .jpg or a folder of images.
 *   calibrate {input?, rows?, method?, random?: bool} -> {source, random, rows, rows_in_source, method,
 *             values, calibrate_ms}
 *             How far every value of the model reaches on rows of the data, for int8; kept until the
 *             model goes. input absent: that of the settings, else what came with the demo model.
 *   evaluate  {input?, labels?, rows?}         -> {source, labels or null, rows, rows_of_calibration: left
 *             out, device, precision, reference, classes: 0 if the first output has none, agreement,
 *             accuracy, reference_accuracy: shares or null, output_error, logit_error: {max, mean,
 *             largest: of the reference, broken: numbers left out, as only one of both is
 *             finite} or null, evaluate_ms}
 *             The present plan against fp32 on the CPU with the weights as loaded, row by row. labels:
 *             .npy of a class number a row, or one-hot. input absent: what was held out for the demo
 *             model, else that of the settings.
 *   sparsity  {}                               -> {weights, zeros, zero_share, two_of_four_share: of the
 *             groups of four along the inputs, layers: [{name, class, and the same keys}]}
 *             Kernels of convolutions and dense layers, as they are now (setting `prune`).
 *   export    {path}                           -> {path, parameters, bytes, export_ms}
 *             The model as a file of the worker's that Keras reads: .keras or .h5.
 *   memory    {}                               -> {devices: [{device, total_bytes, free_bytes,
 *             used_by_us_bytes, weights_bytes, arena_bytes, workspace_bytes, idle_bytes,
 *             context_bytes: without the next two, library_bytes: allocations that are not ours by
 *             CUPTI's records, cupti_bytes: its own, planned_bytes, limit_bytes, others_bytes: neither free nor ours, processes: [{pid, name, user, bytes, ours}]
 *             or null}], plan?: {peak_layer, peak_live_bytes, live: [{layer, shape, dtype, bytes}]}}
 *             Bytes are null where they are not known.
 *   trim      {}                               -> {freed_bytes}
 *   record    {path, raw?} or {off: true}      -> {path, frames, bytes}
 *             Written by the client: the path is the front's, and is told with the `.part` that
 *             marks the framed stream (journal.h). raw is the worker's file for CUPTI buffers.
 *
 * Values of settings in `configure` and `set`: devices "auto" or an array of "cpu", "gpu:N" and
 * UUIDs as typed ("GPU-8f3a..."); batch, threads (0 = auto) and seed integers; precision, profile
 * and fallback one of their words; growth, fusion, graph and autotune booleans; layout "nhwc" or
 * "nchw"; limit null (none), bytes, or "40%" (of total memory); logical null (none) or {count,
 * bytes}: each device becomes so many fenced ones ("gpu:0.0", "gpu:0.1"); host_memory "pinned" or
 * "pageable"; prune "off", "2:4" or a
 * fraction above 0 and below 1 as a number or text ("0.5", "50%"); compare "turns" or
 * "concurrent"; input "random" or a path of the worker's; preprocess "auto" or a mode;
 * interpolation "antialias", "bilinear" or "nearest"; pipeline "off", "serial" or "overlap";
 * mapping "picture" or "batch"; preprocess_on "cpu" or "gpu"; parallel_calls 1..64; picture "500x375"; labels
 * "none" or a path of the worker's, a class name a line; slice "auto", "off" or samples. `warmup`
 * of `run` absent: the engine warms up until it sees fit.
 *
 * Plan object (event PLAN whenever the current plan changes, also null when it goes away):
 *   {device, devices: [ids], batch, precision, fusion, graph, timing_source: "cupti"|"events"|"clock"|"off",
 *    plan_ms, memory: {weights_bytes, arena_bytes, workspace_bytes, peak_live_bytes, peak_layer,
 *    planned_bytes}, flops, bytes, layers: [graph_describe_layers() objects + {impl, precision?}], slice?}
 *   precision of a layer: "int8", "fp32" or "int8+fp32" in an int8 plan; absent in another.
 *   slice: so many samples run through the whole network together (CPU); absent: the batch.
 *   With several devices it speaks of the first.
 */
#ifndef LAYERTOP_ENGINE_ENGINE_H
#define LAYERTOP_ENGINE_ENGINE_H

#include "engine/error.h"
#include <jansson.h>
#include <stdint.h>

enum engine_event_kind {
    ENGINE_EVENT_HELLO,    /* json: {version, stream, pid, host} */
    ENGINE_EVENT_REPLY,    /* id; json = reply data, or NULL and `error` is filled */
    ENGINE_EVENT_PROGRESS, /* id; json: {fraction: 0..1 or null, text}. Of a recording that is played,
                              id 0: {position_s, duration_s} */
    ENGINE_EVENT_PLAN,     /* json: the plan object or null */
    ENGINE_EVENT_RECORD,   /* data, bytes: one record frame of profiler/records.h */
    ENGINE_EVENT_LOG,      /* json: {text}: what libraries printed in the worker, a line each;
                              {text, live: false, error}: a step failed and ended the live run;
                              {text, recording: false}: the recording cannot go on. Then `error` is
                              filled too */
    ENGINE_EVENT_ENDED     /* error.why: "signal 9", "exit 1: last words"; always the last */
};

struct engine_event {
    enum engine_event_kind kind;
    uint64_t id;
    json_t *json; /* borrowed */
    const void *data;
    size_t bytes;
    struct error error;
};

typedef void engine_handler(void *context, const struct engine_event *event);

struct engine_options {
    const char *program;        /* this executable's path, to be started with --worker */
    const char *worker_command; /* --worker-command CMD: run `sh -c "CMD --worker"`, or NULL */
    const char *replay;         /* play this recording instead, or NULL */
    double replay_speed;        /* 1 = real time */
    uint64_t last_id;           /* ids of its requests begin after this one */
};

struct engine;

/* Start a worker. Returns at once; HELLO arrives as an event. NULL with ERROR_WORKER if no process
 * can be made. The caller's thread is the only one that may use the handle. */
struct engine *engine_start(const struct engine_options *options, struct error *error);

/* A descriptor to poll for reading (and for writing while engine_wants_write()). */
int engine_fd(const struct engine *engine);
bool engine_wants_write(const struct engine *engine);

/* Queue a request (steals `arguments`, which may be NULL); returns its id, > 0. Requests to a dead
 * engine get an error reply at the next dispatch. */
uint64_t engine_submit(struct engine *engine, const char *verb, json_t *arguments);

/* Ask the request to stop; its reply (ERROR_INTERRUPTED, or success if it was already done) still
 * comes. */
void engine_cancel(struct engine *engine, uint64_t id);

/* Read and write what the descriptor allows without blocking and call `handler` for every event,
 * in order. Every open request gets its reply, an error one if the worker ended. */
void engine_dispatch(struct engine *engine, engine_handler *handler, void *context);

bool engine_alive(const struct engine *engine);
int engine_pid(const struct engine *engine); /* of the local process; 0 once it ended */

/* End the worker (close the stream, wait 200 ms, then SIGKILL), reap it and free the handle. */
void engine_stop(struct engine *engine);

#endif
