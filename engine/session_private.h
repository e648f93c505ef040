/* What the files session*.c share; nobody else includes this. Engine thread only. */
#ifndef LAYERTOP_ENGINE_SESSION_PRIVATE_H
#define LAYERTOP_ENGINE_SESSION_PRIVATE_H

#include "engine/backend.h"
#include "engine/cpu/layout.h"
#include "engine/image.h"
#include "engine/npy.h"
#include "engine/session.h"

#define SESSION_SLOTS_MAX 16 /* devices at once */
#define DEVICE_ID_BYTES   64 /* "cpu", "gpu:0" or a UUID */
#define BATCH_MAX         65536

/* Values of the engine's settings; a plain value, copied as a whole so that a refused change costs
 * nothing. */
struct settings {
    char devices[SESSION_SLOTS_MAX][DEVICE_ID_BYTES]; /* as named, canonical spelling */
    size_t device_count;                              /* 0: auto */
    int64_t batch;
    enum precision precision;
    bool fusion, graph, growth;
    bool autotune, channels_first; /* GPUs: measure other engines; `layout nchw` */
    bool pageable;                 /* GPUs: `host_memory pageable` */
    uint64_t limit_bytes;          /* 0: none */
    double limit_share;            /* 0..1 of total memory, 0: none */
    int logical_count;             /* devices that each named one becomes; 0: none */
    uint64_t logical_bytes;        /* the fence of each */
    bool fallback;                 /* ops that a GPU lacks run on the CPU */
    bool concurrent;               /* compared devices also run at once */
    int threads;                   /* 0: auto */
    int slice;                     /* samples; 0: auto, -1: off */
    double prune;                  /* this share of each kernel is zero; 0: none */
    bool prune_structured;         /* two of every four along the inputs; then prune is 0.5 */
    uint64_t seed;
    char input[1024];    /* "" is random */
    char preprocess[16]; /* "" is auto */
    enum image_filter interpolation;
    enum { PIPELINE_OFF, PIPELINE_SERIAL, PIPELINE_OVERLAP } pipeline;
    bool batched;                      /* `mapping batch` */
    int parallel_calls;                /* threads of the pipeline */
    bool preprocess_on_gpu;            /* it only decodes */
    int picture_width, picture_height; /* of made-up pictures */
    char labels[1024];                 /* "" is none */
};

void settings_init(struct settings *settings);
/* Check one value and store it in *settings; on failure nothing is changed. ERROR_VALUE, or
 * ERROR_UNKNOWN_COMMAND for a key that the engine does not have. */
bool settings_set(struct settings *settings, const char *key, const json_t *value,
                  struct error *error);
/* "cpu", "gpu:N" or "GPU-..." out of `0`, `gpu:0`, `/GPU:0`, `cpu:0` ...; false if it is none. */
bool settings_device(const char *text, char out[DEVICE_ID_BYTES]);

/* One open device with its current plan. */
struct slot {
    char id[DEVICE_ID_BYTES]; /* "cpu" or "gpu:N" */
    const struct backend *backend;
    struct device *device;
    struct device_options options;
    int64_t first, samples; /* the rows of each batch that run here */
    struct graph *part;     /* the graph of this share; NULL: the session's */
    struct memory_tap *tap; /* of a logical device, else NULL */
    struct plan *plan;
};

/* Between a logical device and the listener. */
struct memory_tap {
    struct session *session;
    char device[DEVICE_ID_BYTES]; /* "cpu", "gpu:0": the one it is part of */
    struct observer observer;
    uint64_t bytes[MEMORY_CATEGORY_COUNT];
    struct memory_tap *next;
};

struct answers; /* session_agree.c */

struct session {
    const struct worker_hooks *hooks;
    const struct session_ports *ports;
    struct settings settings;

    struct model *model; /* NULL: none loaded */
    char *model_path;    /* as asked for */
    struct constant_pool *pool;
    struct calibration *calibration; /* of this model; NULL: none */
    struct pruning *pruned;          /* its weights with zeros; NULL: they are as loaded */
    struct graph *graph;             /* of the current plans */
    struct slot slots[SESSION_SLOTS_MAX];
    size_t slot_count;
    json_t *plan_json; /* NULL if there is no plan */
    double plan_ms;    /* how long making the current plans took */
    bool plan_held;    /* the plan event waits for session_replied() */
    bool plan_waiting; /* and there is one */
    bool told_auto;    /* why `devices auto` is not a GPU was said */
    bool told_labels;  /* that the classes of this model have no names was said */

    struct pipeline *pipeline; /* NULL: inputs are made ready once */
    bool fed_ahead;            /* the next step's pictures were sent to the GPU already */
    bool predicting;           /* the steps of `predict` have inputs of their own */

    bool live;
    size_t live_slot;
    int64_t slice_start_ns;
    const struct slot *observed; /* whose plan the observer was told last */
    uint64_t step;               /* number of the next step */
    struct observer tap;         /* the listener without step_begin/step_end: those are ours */
    int test_sleep_ms;           /* LAYERTOP_TEST_STEP_SLEEP */

    struct phases phases; /* since the process began */
    uint64_t request;     /* id of the request under way */
    int64_t progress_ns, tick_ns;
    int64_t tuned_ns;        /* the last pause in which kernels were measured */
    uint64_t baseline_bytes; /* anonymous resident memory without the model */
    uint64_t before_bytes;   /* the same before the model was read */
    char note[512];          /* for the reply under way, "" if none */
    bool force;              /* the request under way overrules the forecast */
    bool bringing_back;      /* plans that were there before are made again: not to be cancelled */
    struct memory_tap *taps; /* of all open logical devices */
    int64_t group_ns;        /* wall of the last step of a group */
    json_t *proofs;          /* the last of session_do_proof(), NULL: never */
    struct answers *answers; /* kept by `agree`, NULL: none */
    json_t *ceilings;        /* what session_do_ceilings() measured, NULL: nothing yet */
    json_t *oom;             /* the last report of running out of memory, NULL: none */
};

/* Bring the tap up to date: a listener may change what it listens to between steps, and what it does
 * not listen to costs nothing. */
void session_listen(struct session *session);
/* A remark for the reply under way; the first one stays. */
void session_note(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool session_cancelled(const struct session *session);
/* Report progress and tick the listener, each at most every 100 ms. fraction may be NaN. */
void session_breathe(struct session *session, double fraction, const char *text);

/* ---- session_plan.c: devices and plans ---- */

/* Objects of every backend's devices. A backend that cannot be asked becomes a note. */
json_t *session_list_devices(struct session *session);
/* The devices that `settings` stand for, without opening one. */
bool session_resolve(struct session *session, const struct settings *settings,
                     char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES], size_t *count,
                     struct error *error);
/* Make `next` the settings: open what is missing, plan, and swap. On failure the old settings and
 * plans stay. Without a model only the devices are checked. */
bool session_apply(struct session *session, const struct settings *next, struct error *error);
/* A part of it: open devices, lower and plan for `next`. */
bool session_build(struct session *session, const struct settings *next, struct error *error);
/* Free plans and what devices keep for them; devices stay open. */
void session_drop_plans(struct session *session);
void session_close_devices(struct session *session);
/* What times the ops of a device now: "cupti", "events", "clock" or "off". */
const char *session_timing_source(const struct session *session, const char *id);
/* Tell the observer whose steps come next. */
void session_observe(struct session *session, const struct slot *slot);
/* Rebuild plan_json and send it. */
void session_publish_plan(struct session *session);
bool session_has_gpu(const struct session *session);

/* ---- session_model.c: one model for another ---- */

/* Replace the model (takes ownership also on failure); plans are made for the current settings. On
 * failure the model before stays, with its plans made again. */
bool session_adopt(struct session *session, struct model *model, const char *path,
                   struct error *error);
/* Free plans, graph and model; devices stay open. */
void session_drop_model(struct session *session);
/* The present model with other zeros among its weights, and all that is made of them. On failure it
 * is as it was. */
bool session_reweigh(struct session *session, const struct settings *next, struct error *error);

/* ---- session_input.c ---- */

/* Fill the inputs of all plans: from `settings.input`, or random and the same on every device. */
bool session_fill_inputs(struct session *session, const struct settings *settings,
                         const struct graph *graph, const struct slot *slots, size_t count,
                         struct error *error);
/* The same with the rows of a file from `row` on. */
bool session_fill_inputs_from(struct session *session, const struct settings *settings,
                              const struct graph *graph, const struct slot *slots, size_t count,
                              size_t row, struct error *error);
/* dtype of input or output values in a plan's host buffers: float32, or an integer dtype. */
enum dtype session_host_dtype(enum dtype dtype);
/* Bytes of a value's host buffer. */
size_t session_value_bytes(const struct graph *graph, int value);
/* Open data for the model's inputs. */
struct input;
struct input *session_open_input(const struct session *session, const struct settings *settings,
                                 const struct graph *graph, const char *path, struct error *error);
/* How pictures are scaled before the model gets them: "none", "tf", "caffe", "torch". *source (may
 * be NULL) becomes why: "setting", "recipe" (the demo model's), "model" (it scales by itself, or
 * takes no colours), "name" (the name of a Keras application) or "unknown". */
const char *session_preprocess(const struct session *session, const struct settings *settings,
                               const char **source);

/* ---- session_pipeline.c ---- */

struct pipeline;
/* Make `next` the settings, with the pipeline that they ask for; on failure everything stays. The
 * plans stay. */
bool session_set_pipeline(struct session *session, const struct settings *next,
                          struct error *error);
/* Does the pipeline only decode, and a GPU resizes and scales (`preprocess_on gpu`)? */
bool session_feeds_gpu(const struct session *session);
/* Then, between a step's launch and its end: send the next step's pictures if they are ready. */
void session_feed_ahead(struct session *session);
/* Forget the times of batches until now. */
void session_reset_pipeline(struct session *session);
/* After the plans or the input changed: the present one stays if it serves them too. A model that
 * takes no pictures has none, which becomes a note. */
void session_renew_pipeline(struct session *session);
void session_drop_pipeline(struct session *session);
/* Inside a step: the next batch for the slots first..first+members-1. */
bool session_feed(struct session *session, size_t first, size_t members, struct error *error);
/* The same in a step that nobody listens to, on any thread, one at a time. */
bool session_feed_unseen(struct session *session, size_t first, size_t members,
                         struct error *error);
/* At the end of the step that began at start_ns: tell what was prepared behind it. */
void session_fed(struct session *session, int64_t start_ns);
/* `pipeline` of `run` in engine.h. */
json_t *session_pipeline_json(struct session *session);

/* ---- session_memory.c ---- */

/* Weights, computed constants in host memory, arena and workspace of a slot's plan. */
uint64_t session_planned_bytes(const struct session *session, const struct slot *slot);

/* Bytes of anonymous resident memory of this process (RssAnon), UINT64_MAX if unknown. */
uint64_t session_resident_bytes(void);
/* A model was read, which took the process from before_bytes to `read_bytes`, and the one before
 * was dropped: what remains without the new one is the baseline. (oneDNN, for one, keeps kernels
 * of the old model in its cache.) */
void session_rebase(struct session *session, uint64_t read_bytes);
/* {planned_bytes, measured_bytes, context_bytes} of one slot. */
json_t *session_memory_json(struct session *session, const struct slot *slot);
json_t *session_do_memory(struct session *session, const json_t *arguments, struct error *error);
json_t *session_do_trim(struct session *session, const json_t *arguments, struct error *error);
json_t *session_do_plan(struct session *session, const json_t *arguments, struct error *error);
#define LIVE_MAX 16
/* {peak_layer, peak_live_bytes, live: [{layer, shape, dtype, bytes}]}, the largest first, as many as
 * `most`. */
struct forecast;
json_t *session_peak_json(const struct forecast *forecast, size_t most);
/* A byte count as JSON: null for UINT64_MAX. */
json_t *session_bytes_json(uint64_t bytes);

/* ---- session_forecast.c ---- */

/* What a batch would need on one device. */
struct forecast {
    struct graph *graph;
    const struct graph *planned; /* what the planner looked at: a slice of it, on the CPU */
    struct layout layout;        /* .memory is the planner's */
    struct plan_memory memory;
    enum precision precision;
    uint64_t fenced_bytes; /* weights, arena and workspace: what a limit counts */
};

/* `exact` asks the backend for weights and workspace; else they are carried over from the device's
 * present plan. Errors: of graph_lower() and backend.plan_forecast(). */
bool session_forecast(struct session *session, const struct slot *slot,
                      const struct settings *settings, int64_t batch, bool exact,
                      struct forecast *out, struct error *error);
void session_forecast_free(struct forecast *forecast);

/* What a plan may fill on a device now (bytes; UINT64_MAX: not known; limit 0: none). */
struct memory_room {
    uint64_t limit_bytes, free_bytes, largest_bytes;
    uint64_t headroom_bytes; /* of it, to be left alone */
};
void session_room(const struct slot *slot, uint64_t limit_bytes, uint64_t headroom_bytes,
                  struct memory_room *out);
enum fit { FIT_YES, FIT_PAST_LIMIT, FIT_PAST_MEMORY };
enum fit session_fit(const struct forecast *forecast, const struct memory_room *room);
/* `largest` of engine.h. */
json_t *session_do_largest(struct session *session, const json_t *arguments, struct error *error);
/* The batch that fits and whose successor does not; 0 if not even one sample fits, BATCH_MAX if
 * everything does. */
int64_t session_largest_batch(struct session *session, const struct slot *slot,
                              const struct settings *settings, const struct memory_room *room);

/* ---- session_group.c ---- */

/* Is the id the CPU's ("cpu", "cpu.1")? */
bool session_is_cpu(const char *id);
/* Rows of a batch that member `index` of `members` gets: as even as can be, the first get more. */
int64_t session_share(int64_t batch, size_t members, size_t index);
/* The group of a slot: its first slot and how many there are. */
void session_group(const struct slot *slots, size_t count, size_t slot, size_t *first,
                   size_t *members);
/* Say which rows of a batch run on each slot. */
void session_shares(struct slot *slots, size_t count, int64_t batch);
/* The same, and lower the graph of every share. On failure the parts made so far stay in the slots.
 * Errors: ERROR_UNSUPPORTED for a model that mixes samples, ERROR_VALUE for too small a batch. */
bool session_split(struct session *session, const struct settings *next, const struct graph *whole,
                   struct slot *slots, size_t count, struct error *error);
/* The graph that a slot's plan was made of. */
const struct graph *session_slot_graph(const struct session *session, const struct slot *slot);
/* One step of slots first..first+members-1; the listener hears of `observed`, one of them. Fills
 * wall_ns of these slots: from the step's begin to their own end, or where a backend cannot queue
 * the time of their own run. */
bool session_group_step(struct session *session, size_t first, size_t members, size_t observed,
                        int64_t *wall_ns, struct error *error);
/* Both groups at once for `steps` steps each: out[0] and out[1] become {wall_ms: {median},
 * throughput_per_s, slowdown}, against their medians `alone_ms`. */
bool session_race(struct session *session, size_t steps, const double *alone_ms, json_t **out,
                  struct error *error);
struct memory_tap *memory_tap_new(struct session *session, const char *id);
void memory_tap_free(struct memory_tap *tap);

/* ---- session_nosync.c ---- */

/* `nosync` of engine.h. */
json_t *session_do_nosync(struct session *session, const json_t *arguments, struct error *error);

/* ---- session_ceilings.c ---- */

/* `ceilings` of engine.h. */
json_t *session_do_ceilings(struct session *session, const json_t *arguments, struct error *error);

/* ---- session_agree.c ---- */

/* `agree` of engine.h. */
json_t *session_do_agree(struct session *session, const json_t *arguments, struct error *error);
void session_free_answers(struct answers *answers);
/* How far numbers lie from a reference's. */
struct difference {
    double most, sum, largest; /* of the reference's own */
    uint64_t count, broken; /* numbers, and those that are in no other figure: finite in one of both
                                  only, or unlike infinities */
};
void session_compare(struct difference *difference, const float *a, const float *reference,
                     size_t count);
/* session_evaluate.c: the class of a row of outputs: the largest of several, or whether one passes a
 * half; the true class of a row of labels (a number, or the largest of `classes`), SIZE_MAX if it is
 * none. */
size_t session_class_of(const float *row, size_t classes);
size_t session_true_class(const struct npy_array *labels, size_t row, size_t classes);
/* A file of true classes for so many rows of data, a number or `classes` numbers each. NULL on failure:
 * ERROR_FILE, ERROR_INPUT. */
struct npy_file *session_open_truth(const char *path, size_t rows, size_t classes,
                                    const struct npy_array **labels, struct error *error);

/* ---- session_proof.c ---- */

/* `proof` of engine.h. */
json_t *session_do_proof(struct session *session, const json_t *arguments, struct error *error);
/* ---- session_probe.c ---- */

/* `probe` of engine.h. */
json_t *session_do_probe(struct session *session, const json_t *arguments, struct error *error);

/* The last proof of a device ("cpu", "gpu:0"), null if there is none. New reference. */
json_t *session_proof_of(const struct session *session, const char *id);

/* ---- session_oom.c ---- */

/* Is the error ERROR_MEMORY or ERROR_MEMORY_LIMIT? */
bool session_out_of_memory(const struct error *error);
/* Do plans of `next` fit on these devices, by the forecast? Else ERROR_MEMORY_LIMIT. */
bool session_admit(struct session *session, const struct settings *next, const struct slot *slots,
                   size_t count, struct error *error);
/* Make session->oom, and *error the sentence of it: what was asked, free, and would fit. */
void session_tell_oom(struct session *session, const struct settings *next,
                      const struct slot *slots, size_t count, struct error *error);
json_t *session_do_oom(struct session *session, const json_t *arguments, struct error *error);
/* [{pid, name, user, bytes, ours}] of a slot's device; null if nobody knows. */
json_t *session_processes_json(const struct slot *slot);

/* ---- session_run.c, session_predict.c, session_export.c ---- */

/* One step of the whole group that slot `observed` is of; *wall_ns (may be NULL) from input ready to
 * output on the host. The listener hears of that slot's ops. */
bool session_one_step(struct session *session, const struct slot *observed, int64_t *wall_ns,
                      struct error *error);
json_t *session_do_run(struct session *session, const json_t *arguments, struct error *error);
json_t *session_do_predict(struct session *session, const json_t *arguments, struct error *error);
/* ---- session_calibrate.c ---- */

/* `calibrate` of engine.h. */
json_t *session_do_calibrate(struct session *session, const json_t *arguments, struct error *error);
void session_forget_calibration(struct calibration *calibration); /* NULL is allowed */
/* The ranges for plans of graphs with or without fusion, if there are any. */
void session_give_ranges(const struct session *session, bool fusion, struct plan_options *options);
/* Is all known that this precision wants? Errors with a hint: int8 wants a calibration. */
bool session_check_precision(const struct session *session, const struct settings *settings,
                             struct error *error);
/* Rows are known by what they hold: begin with 0, go on with every input. */
uint64_t session_row_hash(uint64_t hash, const void *data, size_t bytes);
bool session_calibrated_on(const struct session *session, uint64_t hash);

/* ---- session_evaluate.c, session_prune.c ---- */

json_t *session_do_evaluate(struct session *session, const json_t *arguments, struct error *error);
json_t *session_do_sparsity(struct session *session, const json_t *arguments, struct error *error);
/* Put pruned copies in the place of a model's kernels, as the settings say; *out is NULL if they
 * say no. On failure (ERROR_MEMORY) the model is as it was. */
bool session_prune(struct model *model, const struct settings *settings, struct pruning **out,
                   struct error *error);
/* Let the model have its pruned weights or those of the file; NULL is allowed. */
void session_use_pruned(const struct pruning *pruning, bool pruned);
/* The copies; the model must have its own weights, or be gone. */
void session_prune_free(struct pruning *pruning);

json_t *session_do_export(struct session *session, const json_t *arguments, struct error *error);

#endif
