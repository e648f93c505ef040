/* ceilings: what a device can do at most, measured by what every backend can run: one Dense layer.
 * With many samples it is a matrix product, whose arithmetic bounds it; with one sample each weight is
 * read once, and memory bounds it. On the CPU also by loops that do nothing else. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/cpu/ceilings.h"
#include "engine/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UNITS_LEAST  512
#define UNITS_MOST   8192
#define UNITS_CPU    2048              /* more of them is no faster there */
#define ENOUGH_NS    INT64_C(20000000) /* a step that takes so long shows what there is */
#define STEPS        6
#define MEMORY_BYTES (UINT64_C(256) << 20) /* more than the caches of most processors hold */

struct dense {
    struct model_storage storage;
    float *kernel;
};

static void release_dense(struct model_storage *storage)
{
    struct dense *dense = (struct dense *)storage;
    free(dense->kernel);
    free(dense);
}

/* Dense(units) on `units` inputs, with random weights. NULL: no memory. */
static struct model *dense_model(int64_t units)
{
    size_t count = (size_t)units * (size_t)units;
    float *kernel = malloc(count * sizeof *kernel);
    if (kernel == NULL)
        return NULL;
    struct random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < count;
         i++) /* a row repeats: making it must not take longer than using it */
        kernel[i] = i < 65536 ? random_float(&random) - 0.5F : kernel[i - 65536];
    struct dense *dense = xcalloc(1, sizeof *dense);
    *dense = (struct dense){{release_dense}, kernel};
    struct model *model = xcalloc(1, sizeof *model);
    model->storage = &dense->storage;
    model->name = xstrdup("ceiling");
    model->layer_count = model->node_count = 2;
    model->layers = xcalloc(2, sizeof *model->layers);
    model->nodes = xcalloc(2, sizeof *model->nodes);
    static const char *const names[] = {"input", "dense"}, *const classes[] = {"InputLayer",
                                                                               "Dense"};
    for (int i = 0; i < 2; i++) {
        model->layers[i] = (struct model_layer){.name = xstrdup(names[i]),
                                                .path = xstrdup(names[i]),
                                                .class_name = xstrdup(classes[i])};
        model->nodes[i] = (struct model_node){.layer = i, .kwargs = json_object()};
    }
    struct model_layer *layer = &model->layers[1];
    model->layers[0].config = json_object();
    layer->config = json_pack("{s:I, s:s, s:b}", "units", (json_int_t)units, "activation", "linear",
                              "use_bias", 0);
    layer->weights = xcalloc(1, sizeof *layer->weights);
    layer->weight_count = 1;
    layer->parameters = count;
    layer->weights[0] = (struct model_weight){.name = xstrdup("kernel"),
                                              .dtype = DTYPE_F32,
                                              .shape = {.rank = 2, .dims = {units, units}},
                                              .data = kernel,
                                              .bytes = count * sizeof *kernel};
    model->nodes[0].args = json_array();
    model->nodes[1].args = json_pack("[{s:i}]", "tensor", 0);
    model->nodes[1].inputs = xcalloc(1, sizeof *model->nodes[1].inputs);
    model->nodes[1].input_count = 1;
    model->input_count = model->output_count = 1;
    model->inputs = xcalloc(1, sizeof *model->inputs);
    model->outputs = xcalloc(1, sizeof *model->outputs);
    model->inputs[0] = (struct model_port){.name = xstrdup("input"),
                                           .shape = {.rank = 2, .dims = {DIM_UNKNOWN, units}},
                                           .dtype = DTYPE_F32};
    model->outputs[0] = (struct model_port){.name = xstrdup("dense"), .tensor = {.node = 1}};
    return model;
}

/* The shortest step of a plan, without copies where the backend can leave them out. */
static bool shortest_step(struct session *session, const struct slot *slot, struct plan *plan,
                          int64_t *best_ns, struct error *error)
{
    const struct backend *backend = slot->backend;
    struct step_context step = {.cancel = session->ports->cancel};
    *best_ns = INT64_MAX;
    for (int i = 0; i < STEPS; i++) {
        int64_t took_ns = 0, start_ns = clock_now_ns();
        bool good = backend->plan_repeat != NULL
                        ? backend->plan_repeat(plan, 1, session->ports->cancel, &took_ns, error)
                        : backend->plan_run(plan, &step, error);
        if (!good)
            return false;
        if (backend->plan_repeat == NULL)
            took_ns = clock_now_ns() - start_ns;
        if (i > 0 && took_ns < *best_ns) /* the first one warms up */
            *best_ns = took_ns;
        session_breathe(session, NAN, "measuring what the device can do");
        if (i > 0 && took_ns > 10 * ENOUGH_NS)
            break;
    }
    return true;
}

/* The shortest step of Dense(units) with `batch` samples. */
static bool dense_step(struct session *session, const struct slot *slot, enum precision precision,
                       int64_t units, int64_t batch, int64_t *best_ns, struct error *error)
{
    struct graph_options lowering = {.batch = batch, .fusion = true};
    struct plan_options options = {.precision = precision, .slice = -1};
    struct model *model = dense_model(units);
    if (model == NULL)
        return error_set(error, ERROR_MEMORY, "ceilings", "no memory for a matrix");
    struct constant_pool *pool = constant_pool_new();
    struct graph *graph = graph_lower(model, &lowering, pool, error);
    struct plan *plan =
        graph != NULL ? slot->backend->plan_new(slot->device, graph, &options, error) : NULL;
    bool good = plan != NULL;
    if (good) {
        float *in = slot->backend->plan_input(plan, 0);
        for (int64_t i = 0; i < batch * units; i++)
            in[i] = (float)(i % 251) / 251;
        good = shortest_step(session, slot, plan, best_ns, error);
        slot->backend->plan_free(plan);
    }
    slot->backend->device_forget(slot->device);
    if (graph != NULL)
        graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    return good;
}

/* FLOP/s of the best matrix product; 0: the device does not compute in this precision, or has no
 * room. Only an interruption is an error. */
static bool product_rate(struct session *session, const struct slot *slot, enum precision precision,
                         double *rate, struct error *error)
{
    int64_t most = session_is_cpu(slot->id) ? UNITS_CPU : UNITS_MOST;
    *rate = 0;
    for (int64_t units = UNITS_LEAST; units <= most; units *= 2) {
        int64_t best_ns;
        if (!dense_step(session, slot, precision, units, units, &best_ns, error))
            return error->code != ERROR_INTERRUPTED;
        double flops = 2.0 * (double)units * (double)units * (double)units;
        *rate = fmax(*rate, best_ns > 0 ? flops / (double)best_ns * 1e9 : 0);
        if (best_ns >= ENOUGH_NS)
            break;
    }
    return true;
}

static json_t *number(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

static json_t *rate_json(const char *kind, const char *name, const char *unit, double rate,
                         const char *by)
{
    return json_pack("{s:s, s:o, s:s}", kind, name, unit, number(rate), "by", by);
}

static bool add_compute(struct session *session, const struct slot *slot, int threads, json_t *list,
                        struct error *error)
{
    for (int p = 0; p < PRECISION_COUNT; p++) {
        double rate, loop = 0;
        if (!product_rate(session, slot, (enum precision)p, &rate, error))
            return false;
        if (p == PRECISION_FP32 && session_is_cpu(slot->id))
            loop = ceiling_multiply_adds(threads);
        if (fmax(rate, loop) > 0)
            json_array_append_new(
                list, json_pack("{s:s, s:f, s:s}", "precision", precision_name((enum precision)p),
                                "flops_per_s", fmax(rate, loop), "by",
                                loop > rate ? "multiply-adds in registers" : "a matrix product"));
    }
    return true;
}

/* The weights of a matrix of MEMORY_BYTES, read once by one sample. */
static bool vector_rate(struct session *session, const struct slot *slot, double *rate,
                        struct error *error)
{
    int64_t best_ns;
    *rate = 0;
    if (!dense_step(session, slot, PRECISION_FP32, UNITS_MOST, 1, &best_ns, error))
        return error->code != ERROR_INTERRUPTED;
    *rate = best_ns > 0 ? (double)MEMORY_BYTES / (double)best_ns * 1e9 : 0;
    return true;
}

static bool add_memory(struct session *session, const struct slot *slot, int threads, json_t *list,
                       struct error *error)
{
    double rate;
    if (!session_is_cpu(slot->id)) {
        if (!vector_rate(session, slot, &rate, error))
            return false;
        json_array_append_new(
            list, rate_json("level", "memory", "bytes_per_s", rate, "a matrix times a vector"));
        return true;
    }
    json_array_append_new(list, rate_json("level", "memory", "bytes_per_s",
                                          ceiling_read(threads, MEMORY_BYTES), "reading 256 MiB"));
    uint64_t cache = ceiling_cache_bytes() / 2 * (uint64_t)threads; /* half: data are not alone */
    if (cache > 0)
        json_array_append_new(list, rate_json("level", "cache", "bytes_per_s",
                                              ceiling_read(threads, cache),
                                              "reading half the cores' own caches"));
    return true;
}

/* On a device of its own: its memory is given back as a whole, and the session's plans stay. */
static json_t *measure(struct session *session, const struct slot *slot, struct error *error)
{
    static const struct observer nobody;
    struct slot own = *slot;
    int64_t start_ns = clock_now_ns();
    bool cpu = session_is_cpu(slot->id);
    int threads = cpu ? ceiling_threads(slot->options.threads) : 0;
    json_t *compute = json_array(), *memory = json_array();
    own.options.growth = true;
    own.options.phases = NULL;
    own.device = slot->backend->device_open(&own.options, &nobody, error);
    bool good = own.device != NULL && add_compute(session, &own, threads, compute, error) &&
                add_memory(session, &own, threads, memory, error);
    if (own.device != NULL)
        slot->backend->device_close(own.device);
    json_t *reply =
        good ? json_pack("{s:s, s:o, s:O, s:O, s:f}", "device", slot->id, "threads",
                         cpu ? json_integer(threads) : json_null(), "compute", compute, "memory",
                         memory, "took_ms", (double)(clock_now_ns() - start_ns) / 1e6)
             : NULL;
    json_decref(compute);
    json_decref(memory);
    return reply;
}

/* What was measured for this device and these threads before, NULL if it was not. */
static json_t *known(const struct session *session, const struct slot *slot)
{
    size_t index;
    json_t *one;
    json_array_foreach(session->ceilings, index, one)
    {
        const json_t *threads = json_object_get(one, "threads");
        if (strcmp(json_string_value(json_object_get(one, "device")), slot->id) == 0 &&
            (!json_is_integer(threads) ||
             json_integer_value(threads) == ceiling_threads(slot->options.threads)))
            return one;
    }
    return NULL;
}

json_t *session_do_ceilings(struct session *session, const json_t *arguments, struct error *error)
{
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "ceilings", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    const struct slot *slot = &session->slots[0];
    json_t *ceilings = known(session, slot);
    if (ceilings != NULL && !json_is_true(json_object_get(arguments, "again")))
        return json_deep_copy(ceilings);
    json_t *now = measure(session, slot, error);
    if (now == NULL)
        return NULL;
    if (session->ceilings == NULL)
        session->ceilings = json_array();
    if (ceilings != NULL)
        json_object_update(ceilings, now);
    else
        json_array_append(session->ceilings, now);
    return now;
}
