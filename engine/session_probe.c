/* `probe` of engine.h: facts for `doctor`. What only an engine can say is whether a device computes:
 * small models of one matmul and one convolution run on it and, plainly, on the CPU. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/cuda_module.h"
#include "engine/demo.h"
#include "engine/probe/probe.h"
#include "engine/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SMOKE_BATCH  8
#define SMOKE_SEED   20240607
#define LOAD_TIME_NS INT64_C(1000000000) /* long enough for clocks and links to change */
#define LOAD_BATCH   256
#define DEVICES_MAX  16

/* The two models, by what each is made of. */
static const struct {
    const char *test, *path;
} tests[] = {{"matmul", "demo:dense"}, {"convolution", "demo:cnn"}};

/* A model on one device. */
struct trial {
    const struct backend *backend;
    struct constant_pool *pool;
    struct graph *graph;
    struct plan *plan;
};

static void trial_free(struct trial *trial)
{
    if (trial->plan != NULL)
        trial->backend->plan_free(trial->plan);
    if (trial->graph != NULL)
        graph_free(trial->graph);
    if (trial->pool != NULL)
        constant_pool_free(trial->pool);
    *trial = (struct trial){0};
}

static bool trial_open(struct trial *trial, const struct backend *backend, struct device *device,
                       const struct model *model, int64_t batch, bool fusion, struct error *error)
{
    struct graph_options lowering = {.batch = batch, .fusion = fusion};
    struct plan_options options = {.precision = PRECISION_FP32, .slice = -1};
    trial->backend = backend;
    trial->pool = constant_pool_new();
    trial->graph = graph_lower(model, &lowering, trial->pool, error);
    if (trial->graph == NULL)
        return false;
    trial->plan = backend->plan_new(device, trial->graph, &options, error);
    if (trial->plan == NULL)
        return false;
    for (size_t i = 0; i < trial->graph->input_count; i++) {
        float *values = backend->plan_input(trial->plan, i);
        size_t count = session_value_bytes(trial->graph, trial->graph->inputs[i]) / sizeof(float);
        struct random random;
        random_seed(&random, SMOKE_SEED + i);
        for (size_t k = 0; k < count; k++)
            values[k] = random_float(&random);
    }
    return true;
}

/* The largest difference of the first outputs over the largest value; infinite if one is not finite. */
static double compare(const struct trial *a, const struct trial *b)
{
    const float *x = a->backend->plan_output(a->plan, 0);
    const float *y = b->backend->plan_output(b->plan, 0);
    size_t count = session_value_bytes(a->graph, a->graph->outputs[0]) / sizeof(float);
    double apart = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i]))
            return (double)INFINITY;
        apart = fmax(apart, fabs((double)x[i] - (double)y[i]));
        largest = fmax(largest, fabs((double)y[i]));
    }
    return apart / (largest > 0 ? largest : 1);
}

static json_t *smoke_new(const char *device, const char *test, bool ran, const struct error *error)
{
    json_t *smoke = json_pack("{s:s, s:s, s:b}", "device", device, "test", test, "ran", (int)ran);
    if (!ran)
        probe_set_text(smoke, "why", error->why);
    return smoke;
}

/* One model on one device, against the plain CPU's answer. */
static json_t *smoke_test(struct session *session, const char *id, const char *test,
                          const struct backend *backend, struct device *device,
                          const struct model *model, const struct trial *plain)
{
    struct trial trial = {0};
    struct error error = {0};
    struct step_context step = {.cancel = session->ports->cancel};
    int64_t start_ns = 0;
    bool ran = trial_open(&trial, backend, device, model, SMOKE_BATCH, true, &error) &&
               backend->plan_run(trial.plan, &step, &error); /* the first time loads code */
    if (ran) {
        start_ns = clock_now_ns();
        ran = backend->plan_run(trial.plan, &step, &error);
    }
    double time_ms = (double)(clock_now_ns() - start_ns) / 1e6;
    json_t *smoke = smoke_new(id, test, ran, &error);
    if (ran) {
        double apart = compare(&trial, plain);
        json_object_set_new(smoke, "time_ms", json_real(time_ms));
        if (isfinite(apart)) {
            json_object_set_new(smoke, "error", json_real(apart));
        } else {
            json_object_set_new(smoke, "ran", json_false());
            probe_set_text(smoke, "why", "its output holds numbers that are not finite");
        }
    }
    trial_free(&trial);
    return smoke;
}

/* Compute for a second, and look at clocks and link meanwhile. */
static void load_device(struct session *session, const struct backend *backend,
                        struct device *device, const struct model *model, json_t *gpu, int index)
{
    struct trial trial = {0};
    struct error error = {0};
    struct step_context step = {.cancel = session->ports->cancel};
    int64_t start_ns = clock_now_ns(), looked_ns = start_ns;
    bool good = trial_open(&trial, backend, device, model, LOAD_BATCH, true, &error);
    while (good && clock_now_ns() - start_ns < LOAD_TIME_NS && !session_cancelled(session)) {
        good = backend->plan_run(trial.plan, &step, &error);
        if (good && clock_now_ns() - looked_ns > LOAD_TIME_NS / 10) {
            looked_ns = clock_now_ns();
            probe_gpu_load(gpu, index);
            session_breathe(session, NAN, "computing for a second");
        }
    }
    trial_free(&trial);
}

/* The object of "gpus" with this index. */
static json_t *gpu_of(const json_t *record, int index)
{
    size_t position;
    json_t *gpu;
    json_array_foreach(json_object_get(record, "gpus"), position, gpu)
    {
        if (json_integer_value(json_object_get(gpu, "index")) == index)
            return gpu;
    }
    return NULL;
}

/* One thing that computes: the session's own device where it is open, else one for these tests. */
static void smoke_device(struct session *session, json_t *record, const char *id,
                         const struct backend *backend, struct model *const *models,
                         const struct trial *plain)
{
    struct device_options options = {.growth = true};
    struct observer nobody = {0};
    struct error error = {0};
    struct device *device = NULL;
    json_t *smokes = json_object_get(record, "smokes");
    bool own = true;
    if (strncmp(id, "gpu:", 4) == 0)
        options.index = atoi(id + 4);
    for (size_t i = 0; i < session->slot_count && device == NULL; i++) {
        if (strcmp(session->slots[i].id, id) == 0) {
            device = session->slots[i].device;
            own = false;
        }
    }
    if (device == NULL)
        device = backend->device_open(&options, &nobody, &error); /* a GPU's runs one kernel */
    json_array_append_new(smokes, smoke_new(id, "kernel", device != NULL, &error));
    for (size_t i = 0; device != NULL && i < sizeof tests / sizeof *tests; i++)
        json_array_append_new(
            smokes, smoke_test(session, id, tests[i].test, backend, device, models[i], &plain[i]));
    if (device != NULL && backend != &backend_cpu)
        load_device(session, backend, device, models[1], gpu_of(record, options.index),
                    options.index);
    if (device != NULL && own)
        backend->device_close(device);
}

/* Every usable device computes both models. */
static bool smoke_all(struct session *session, json_t *record, struct error *error)
{
    enum { COUNT = sizeof tests / sizeof *tests };
    struct model *models[COUNT] = {NULL};
    struct trial plain[COUNT] = {{0}};
    struct model_options reading = {.recipe = true};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    reading.unconfined = true; /* the filter does not know the sanitizers' own system calls */
#endif
    struct device_options options = {.growth = true, .threads = 1};
    struct observer nobody = {0};
    struct step_context step = {.cancel = session->ports->cancel};
    struct device *cpu = backend_cpu.device_open(&options, &nobody, error);
    const struct backend *cuda = backend_cuda(NULL);
    bool good = cpu != NULL;
    json_object_set_new(record, "smokes", json_array());
    for (size_t i = 0; good && i < COUNT; i++) {
        char *file = demo_resolve(tests[i].path, error);
        models[i] = file != NULL ? model_load(file, &reading, error) : NULL;
        free(file);
        good = models[i] != NULL &&
               trial_open(&plain[i], &backend_cpu, cpu, models[i], SMOKE_BATCH, false, error) &&
               backend_cpu.plan_run(plain[i].plan, &step, error);
    }
    json_t *list = json_array(), *device;
    size_t index;
    if (good)
        smoke_device(session, record, "cpu", &backend_cpu, models, plain);
    if (good && cuda != NULL)
        cuda->devices(list, NULL);
    json_array_foreach(list, index, device)
    {
        const char *id = json_string_value(json_object_get(device, "id"));
        if (index < DEVICES_MAX && json_is_true(json_object_get(device, "usable")) &&
            !session_cancelled(session)) {
            session_breathe(session, (double)index / (double)json_array_size(list), id);
            smoke_device(session, record, id, cuda, models, plain);
        }
    }
    json_decref(list);
    for (size_t i = 0; i < COUNT; i++) {
        trial_free(&plain[i]);
        if (models[i] != NULL)
            model_free(models[i]);
    }
    if (cpu != NULL)
        backend_cpu.device_close(cpu);
    if (good && session_cancelled(session))
        good = error_set(error, ERROR_INTERRUPTED, "probe", "stopped");
    return good;
}

/* layertop-cuda.so and what it opens. */
static void probe_gpu_part(json_t *record)
{
    struct error error = {0};
    json_t *facts = cuda_module_facts(&error);
    json_t *part = json_object_get(facts, "gpu_part");
    json_t *libraries = json_object_get(facts, "libraries");
    part = part != NULL ? json_incref(part) : json_object();
    json_object_set_new(part, "found", json_boolean(facts != NULL));
    if (facts == NULL)
        probe_set_text(part, "why", error.why);
    json_object_set_new(record, "gpu_part", part);
    json_object_set_new(record, "libraries",
                        libraries != NULL ? json_incref(libraries) : json_array());
    json_decref(facts);
}

json_t *session_do_probe(struct session *session, const json_t *arguments, struct error *error)
{
    const char *file = json_string_value(json_object_get(arguments, "from"));
    const char *python = json_string_value(json_object_get(arguments, "python"));
    const json_t *pid = json_object_get(arguments, "pid");
    if (file != NULL) {
        json_t *read = probe_file(file, error);
        return read != NULL ? json_pack("{s:o}", "probes", read) : NULL;
    }
    json_t *record = json_pack("{s:i}", "version", 1);
    bool good = true;
    probe_machine(record);
    if (python != NULL) {
        good = probe_python(record, python, error);
    } else if (json_is_integer(pid)) {
        json_int_t number = json_integer_value(pid);
        good = probe_process(record, number > 0 && number <= INT32_MAX ? (int)number : -1, error);
    } else {
        probe_gpu_part(record);
        if (json_is_true(json_object_get(arguments, "smoke")))
            good = smoke_all(session, record, error);
        if (good && session->hooks->probe != NULL)
            session->hooks->probe(session->hooks->context, record);
    }
    if (!good) {
        json_decref(record);
        return NULL;
    }
    return json_pack("{s:o}", "probes", record);
}
