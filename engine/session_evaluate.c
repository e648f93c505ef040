/* evaluate: the present plan against float32 on real inputs, and against labels.
 *
 * Rows that the calibration of an int8 plan saw are left out, by what they hold: on them every figure
 * would flatter. The reference is an fp32 plan on the CPU, of the weights as they were loaded. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/convert.h"
#include "engine/demo.h"
#include "engine/input.h"
#include "engine/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MOST  1000000
#define BATCH_MOST 32

/* One of the two plans. */
struct subject {
    struct slot slot; /* a copy; the plan is ours, and the device if it says so */
    struct graph *graph;
    struct constant_pool *pool; /* of the weights as loaded; NULL: the session's */
    bool own_device;
    int logits;        /* the value that goes into the last softmax, -1 if there is none */
    float *logit_rows; /* of the batch */
    bool logits_seen;
};

struct evaluation {
    struct session *session;
    struct input *input;
    struct npy_file *label_file;
    const struct npy_array *labels;
    struct subject plan, reference;
    size_t rows, measured, skipped;
    size_t classes; /* of the first output; 0: it has none */
    size_t agree, right, reference_right;
    struct difference outputs, logits;
    bool all_logits;
};

/* ---- plans ---- */

static int logits_of(const struct graph *graph)
{
    int value = graph_storage(graph, graph->outputs[0]), producer = graph->values[value].producer;
    if (producer < 0 || graph->ops[producer].kind != OP_SOFTMAX ||
        graph->ops[producer].softmax.log || graph->ops[producer].post_count > 0)
        return -1;
    return graph_storage(graph, graph->ops[producer].inputs[0]);
}

static void on_value(void *context, int value, const float *data, size_t elements)
{
    struct subject *subject = context;
    if (value != subject->logits)
        return;
    memcpy(subject->logit_rows, data, elements * sizeof *data);
    subject->logits_seen = true;
}

static bool subject_new(struct session *session, struct subject *subject, int64_t batch,
                        enum precision precision, struct error *error)
{
    const struct settings *settings = &session->settings;
    struct graph_options lowering = {.batch = batch, .fusion = settings->fusion};
    struct plan_options options = {
        .precision = precision, .slice = -1, .channels_first = settings->channels_first};
    struct constant_pool *pool = subject->pool != NULL ? subject->pool : session->pool;
    subject->graph = graph_lower(session->model, &lowering, pool, error);
    if (subject->graph == NULL)
        return false;
    if (precision == PRECISION_INT8)
        session_give_ranges(session, settings->fusion, &options);
    subject->slot.part = NULL;
    subject->slot.first = 0;
    subject->slot.samples = batch;
    subject->slot.plan = NULL;
    subject->logits = logits_of(subject->graph);
    if (subject->logits >= 0)
        subject->logit_rows =
            xcalloc((size_t)shape_elements(&subject->graph->values[subject->logits].shape) + 1,
                    sizeof *subject->logit_rows);
    subject->slot.plan =
        subject->slot.backend->plan_new(subject->slot.device, subject->graph, &options, error);
    return subject->slot.plan != NULL;
}

static void subject_free(struct subject *subject)
{
    if (subject->slot.plan != NULL)
        subject->slot.backend->plan_free(subject->slot.plan);
    if (subject->own_device && subject->slot.device != NULL)
        subject->slot.backend->device_close(subject->slot.device);
    if (subject->graph != NULL)
        graph_free(subject->graph);
    if (subject->pool != NULL)
        constant_pool_free(subject->pool);
    free(subject->logit_rows);
}

static bool make_reference(struct evaluation *e, int64_t batch, struct error *error)
{
    struct session *session = e->session;
    static const struct observer nobody = {0};
    struct device_options options = {.threads = session->settings.threads, .growth = true};
    struct subject *reference = &e->reference;
    reference->slot = (struct slot){.id = "cpu", .backend = &backend_cpu};
    reference->own_device = true;
    reference->slot.device = backend_cpu.device_open(&options, &nobody, error);
    if (reference->slot.device == NULL)
        return false;
    if (session->pruned == NULL)
        return subject_new(session, reference, batch, PRECISION_FP32, error);
    /* constants of their own, made of the weights as they were loaded */
    reference->pool = constant_pool_new();
    session_use_pruned(session->pruned, false);
    bool good = subject_new(session, reference, batch, PRECISION_FP32, error);
    session_use_pruned(session->pruned, true);
    return good;
}

static bool make_plans(struct evaluation *e, struct error *error)
{
    struct session *session = e->session;
    int64_t batch = e->rows < BATCH_MOST ? (int64_t)e->rows : BATCH_MOST;
    e->plan.slot = session->slots[0];
    e->plan.slot.plan = NULL;
    return subject_new(session, &e->plan, batch, session->settings.precision, error) &&
           make_reference(e, batch, error);
}

/* ---- rows ---- */

/* Rows from `first` on into the plan until its batch is full; those that the calibration saw are left
 * out. Returns where to go on; *kept has the numbers of the rows that were taken. */
static size_t give_rows(struct evaluation *e, size_t first, size_t *kept, size_t *count,
                        struct error *error)
{
    const struct graph *graph = e->plan.graph;
    const struct slot *slot = &e->plan.slot, *other = &e->reference.slot;
    size_t batch = (size_t)graph->batch;
    bool int8 = e->session->settings.precision == PRECISION_INT8;
    *count = 0;
    for (; first < e->rows && *count < batch; first++) {
        uint64_t hash = 0;
        for (size_t i = 0; i < graph->input_count; i++) {
            size_t row = session_value_bytes(graph, graph->inputs[i]) / batch;
            char *in = (char *)slot->backend->plan_input(slot->plan, i) + *count * row;
            if (!input_read(e->input, i, first, 1, in, error))
                return SIZE_MAX;
            hash = session_row_hash(hash, in, row);
        }
        if (int8 && session_calibrated_on(e->session, hash))
            e->skipped++;
        else
            kept[(*count)++] = first;
    }
    for (size_t i = 0; i<graph->input_count && * count> 0; i++) {
        size_t row = session_value_bytes(graph, graph->inputs[i]) / batch;
        char *in = slot->backend->plan_input(slot->plan, i);
        for (size_t j = *count; j < batch; j++)
            memcpy(in + j * row, in, row);
        memcpy(other->backend->plan_input(other->plan, i), in, batch * row);
    }
    return first;
}

void session_compare(struct difference *difference, const float *a, const float *reference,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double apart = fabs((double)a[i] - (double)reference[i]);
        double size = fabs((double)reference[i]);
        if (a[i] == reference[i] || (isnan(a[i]) && isnan(reference[i])))
            apart = 0; /* of infinities too */
        if (!isfinite(apart)) {
            difference->broken++;
            continue;
        }
        size = isfinite(size) ? size : 0;
        difference->most = apart > difference->most ? apart : difference->most;
        difference->largest = size > difference->largest ? size : difference->largest;
        difference->sum += apart;
        difference->count++;
    }
}

/* The class of a row of the first output: the largest of several, or whether one passes a half. */
size_t session_class_of(const float *row, size_t classes)
{
    if (classes == 1)
        return row[0] > 0.5F;
    size_t best = 0;
    for (size_t i = 1; i < classes; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

/* The labelled class of a row: a number, or the largest of as many as there are classes. */
size_t session_true_class(const struct npy_array *labels, size_t row, size_t classes)
{
    size_t each = labels->bytes / dtype_bytes(labels->dtype) / (size_t)labels->shape.dims[0];
    const char *at = (const char *)labels->data + row * each * dtype_bytes(labels->dtype);
    size_t best = 0;
    double most = -INFINITY;
    if (each == 1) {
        double class = convert_read(at, labels->dtype);
        return class >= 0 && class < 1e9 ? (size_t) class : SIZE_MAX;
    }
    for (size_t i = 0; i < each && i < classes; i++) {
        double value = convert_read(at + i * dtype_bytes(labels->dtype), labels->dtype);
        if (value > most) {
            most = value;
            best = i;
        }
    }
    return best;
}

static void count_classes(struct evaluation *e, const size_t *kept, size_t count)
{
    const float *rows = e->plan.slot.backend->plan_output(e->plan.slot.plan, 0);
    const float *reference = e->reference.slot.backend->plan_output(e->reference.slot.plan, 0);
    for (size_t i = 0; i < count && e->classes > 0; i++) {
        size_t got = session_class_of(rows + i * e->classes, e->classes);
        size_t want = session_class_of(reference + i * e->classes, e->classes);
        e->agree += got == want;
        if (e->labels == NULL)
            continue;
        size_t label = session_true_class(e->labels, kept[i], e->classes);
        e->right += got == label;
        e->reference_right += want == label;
    }
}

static void take_outputs(struct evaluation *e, const size_t *kept, size_t count)
{
    const struct graph *graph = e->plan.graph;
    for (size_t i = 0; i < graph->output_count; i++) {
        const struct graph_value *value = &graph->values[graph->outputs[i]];
        size_t row = (size_t)(shape_elements(&value->shape) / graph->batch);
        if (session_host_dtype(value->dtype) == DTYPE_F32)
            session_compare(&e->outputs, e->plan.slot.backend->plan_output(e->plan.slot.plan, i),
                            e->reference.slot.backend->plan_output(e->reference.slot.plan, i),
                            count * row);
    }
    if (e->plan.logits_seen && e->reference.logits_seen) {
        const struct shape *shape = &graph->values[e->plan.logits].shape;
        session_compare(&e->logits, e->plan.logit_rows, e->reference.logit_rows,
                        count * (size_t)(shape_elements(shape) / graph->batch));
    }
    count_classes(e, kept, count);
    e->measured += count;
}

static bool run_one(struct session *session, struct subject *subject, struct error *error)
{
    struct step_context step = {
        .cancel = session->ports->cancel, .value = on_value, .context = subject};
    return subject->slot.backend->plan_run(subject->slot.plan, &step, error);
}

static bool run_rows(struct evaluation *e, struct error *error)
{
    struct session *session = e->session;
    size_t kept[BATCH_MOST], count;
    for (size_t first = 0; first < e->rows;) {
        char text[64];
        first = give_rows(e, first, kept, &count, error);
        if (first == SIZE_MAX)
            return false;
        if (count > 0) {
            if (!run_one(session, &e->plan, error) || !run_one(session, &e->reference, error))
                return false;
            take_outputs(e, kept, count);
        }
        snprintf(text, sizeof text, "row %zu of %zu", first, e->rows);
        session_breathe(session, (double)first / (double)e->rows, text);
        if (session_cancelled(session))
            return error_set(error, ERROR_INTERRUPTED, "evaluate", "stopped after %zu of %zu rows",
                             first, e->rows);
    }
    if (e->measured > 0)
        return true;
    error_set(error, ERROR_INPUT, "evaluate",
              "the calibration saw all %zu rows, and figures on them would flatter", e->rows);
    return error_hint(error, "calibrate FILE --rows 100");
}

/* ---- what it is measured on ---- */

/* The data and the labels: as given, else what was held out for the demo model, else the data of
 * `input`. Free both. */
static bool find_data(const struct session *session, const json_t *arguments, char **data,
                      char **labels, struct error *error)
{
    const char *given = json_string_value(json_object_get(arguments, "input"));
    const char *given_labels = json_string_value(json_object_get(arguments, "labels"));
    *data = given != NULL && given[0] != '\0' ? xstrdup(given) : NULL;
    *labels = given_labels != NULL ? xstrdup(given_labels) : NULL;
    if (*data == NULL && *labels == NULL) {
        *data = demo_heldout_path(session->model_path, false);
        *labels = demo_heldout_path(session->model_path, true);
    }
    if (*data == NULL && session->settings.input[0] != '\0')
        *data = xstrdup(session->settings.input);
    if (*data != NULL)
        return true;
    error_set(error, ERROR_INPUT, "evaluate",
              "no data: accuracy is measured on inputs like those that the model will get");
    return error_hint(error, "evaluate FILE.npy LABELS.npy");
}

struct npy_file *session_open_truth(const char *path, size_t rows, size_t classes,
                                    const struct npy_array **labels, struct error *error)
{
    struct npy_file *file = npy_open(path, error);
    size_t each = 0, count = 0;
    if (file == NULL)
        return NULL;
    *labels = npy_at(file, 0);
    if (npy_count(file) == 1 && (*labels)->shape.rank >= 1) {
        count = (size_t)(*labels)->shape.dims[0];
        each = count > 0 ? (*labels)->bytes / dtype_bytes((*labels)->dtype) / count : 0;
    }
    bool numbers = each == 1 || (each == classes && !(*labels)->fortran);
    if (count == rows && numbers)
        return file;
    error_set(error, ERROR_INPUT, path,
              "%zu rows of %zu numbers are no labels for %zu rows of data: a class number each, or "
              "%zu numbers of which the largest says the class",
              count, each, rows, classes);
    error_hint(error, "evaluate FILE.npy LABELS.npy");
    npy_close(file);
    return NULL;
}

/* How many classes the first output tells apart. */
static size_t classes_of(const struct graph *graph)
{
    const struct graph_value *value = &graph->values[graph->outputs[0]];
    if (value->shape.rank != 2 || session_host_dtype(value->dtype) != DTYPE_F32 ||
        value->shape.dims[0] != graph->batch)
        return 0;
    return (size_t)value->shape.dims[1];
}

static json_t *difference_json(const struct difference *difference)
{
    if (difference->count + difference->broken == 0)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:I}", "max", difference->most, "mean",
                     difference->count > 0 ? difference->sum / (double)difference->count : 0.0,
                     "largest", difference->largest, "broken", (json_int_t)difference->broken);
}

static json_t *share_json(size_t part, size_t all, bool known)
{
    return known && all > 0 ? json_real((double)part / (double)all) : json_null();
}

static json_t *evaluate(struct evaluation *e, const json_t *arguments, const char *data,
                        const char *labels, struct error *error)
{
    struct session *session = e->session;
    const struct graph *graph = session->graph;
    int64_t start_ns = clock_now_ns();
    json_int_t wanted = json_integer_value(json_object_get(arguments, "rows"));
    e->input = session_open_input(session, &session->settings, graph, data, error);
    if (e->input == NULL)
        return NULL;
    e->rows = input_rows(e->input);
    e->classes = classes_of(graph);
    if (labels != NULL) {
        e->label_file = session_open_truth(labels, e->rows, e->classes, &e->labels, error);
        if (e->label_file == NULL)
            return NULL;
    }
    if (wanted > 0 && (size_t)wanted < e->rows)
        e->rows = (size_t)wanted;
    if (!make_plans(e, error) || !run_rows(e, error))
        return NULL;
    bool known = e->classes > 0;
    return json_pack(
        "{s:s, s:o, s:I, s:I, s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:f}", "source", data,
        "labels", labels != NULL ? json_string(labels) : json_null(), "rows",
        (json_int_t)e->measured, "rows_of_calibration", (json_int_t)e->skipped, "device",
        session->slots[0].id, "precision", precision_name(session->settings.precision), "reference",
        session->pruned != NULL ? "cpu, fp32, not pruned" : "cpu, fp32", "classes",
        (json_int_t)e->classes, "agreement", share_json(e->agree, e->measured, known), "accuracy",
        share_json(e->right, e->measured, known && labels != NULL), "reference_accuracy",
        share_json(e->reference_right, e->measured, known && labels != NULL), "output_error",
        difference_json(&e->outputs), "logit_error", difference_json(&e->logits), "evaluate_ms",
        (double)(clock_now_ns() - start_ns) / 1e6);
}

json_t *session_do_evaluate(struct session *session, const json_t *arguments, struct error *error)
{
    char *data = NULL, *labels = NULL;
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "evaluate", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (session->graph->mixes_samples) {
        error_set(error, ERROR_UNSUPPORTED, "evaluate",
                  "the model mixes the samples of a batch: no row has a result of its own");
        error_hint(error, "predict IN.npy OUT.npy");
        return NULL;
    }
    json_t *reply = NULL;
    struct evaluation e = {.session = session};
    if (find_data(session, arguments, &data, &labels, error))
        reply = evaluate(&e, arguments, data, labels, error);
    subject_free(&e.plan);
    subject_free(&e.reference);
    if (e.input != NULL)
        input_free(e.input);
    if (e.label_file != NULL)
        npy_close(e.label_file);
    free(data);
    free(labels);
    return reply;
}
