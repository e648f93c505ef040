/* predict: rows of a file through the present plan, outputs into a file, classes by name. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/convert.h"
#include "engine/demo.h"
#include "engine/input.h"
#include "engine/labels.h"
#include "engine/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOP_DEFAULT     3
#define TOP_MANY        5 /* of models with many classes, as ImageNet results are told */
#define MANY_CLASSES    100
#define IMAGENET        1000
#define TOP_MAX         1000
#define PREDICTIONS_MAX 10000 /* rows with classes in one reply */

struct output {
    enum dtype dtype;    /* as Keras has it: integers where those are */
    enum dtype computed; /* as the plan gives it */
    struct shape shape;  /* dims[0]: rows so far */
    size_t row_bytes, row_elements;
    char *data;
};

struct prediction {
    struct session *session;
    struct input *input;
    size_t rows;
    struct output *outputs; /* graph->output_count */
    bool grows;             /* their rows are not known before */
    size_t nans;            /* in the inputs */
};

/* Room for all rows of all outputs. A graph that mixes samples may give other counts of rows than it
 * got; then its outputs grow with each batch. */
static bool allocate_outputs(struct prediction *p, const struct graph *graph, struct error *error)
{
    p->outputs = xcalloc(graph->output_count, sizeof *p->outputs);
    p->grows = graph->mixes_samples;
    for (size_t i = 0; i < graph->output_count; i++) {
        const struct graph_value *value = &graph->values[graph->outputs[i]];
        struct output *output = &p->outputs[i];
        output->dtype = p->session->model->outputs[i].dtype;
        output->computed = session_host_dtype(value->dtype);
        output->shape = value->shape;
        int64_t rows = value->shape.rank > 0 ? value->shape.dims[0] : 0;
        if (rows <= 0 || (!graph->mixes_samples && rows != graph->batch))
            return error_set(error, ERROR_UNSUPPORTED, "predict",
                             "output %s has no row for each sample",
                             p->session->model->outputs[i].name);
        output->row_elements = (size_t)(shape_elements(&value->shape) / rows);
        output->row_bytes = output->row_elements * dtype_bytes(output->dtype);
        output->shape.dims[0] = 0;
        if (p->grows)
            continue;
        output->data = malloc(p->rows * output->row_bytes + 1);
        if (output->data == NULL)
            return error_set(error, ERROR_MEMORY, "predict", "no memory for %zu rows of output",
                             p->rows);
    }
    return true;
}

/* Append what a plan put out for `count` samples. */
static bool take_outputs(struct prediction *p, const struct graph *graph, const struct slot *slot,
                         size_t count, struct error *error)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        struct output *output = &p->outputs[i];
        size_t done = (size_t)output->shape.dims[0] * output->row_bytes;
        size_t rows = count;
        if (p->grows) { /* whatever this graph does: alone, a sample mixes with none */
            rows = (size_t)graph->values[graph->outputs[i]].shape.dims[0];
            char *grown = realloc(output->data, done + rows * output->row_bytes + 1);
            if (grown == NULL)
                return error_set(error, ERROR_MEMORY, "predict", "no memory for the outputs");
            output->data = grown;
        }
        const void *from = slot->backend->plan_output(slot->plan, i);
        if (output->dtype == output->computed)
            memcpy(output->data + done, from, rows * output->row_bytes);
        else
            convert_many(from, output->computed, output->data + done, output->dtype,
                         rows * output->row_elements);
        output->shape.dims[0] += (int64_t)rows;
    }
    return true;
}

/* Samples [first, first + count) through a plan whose batch is at least `count`; the rows behind
 * are copies of the last one, so that nothing unusual is computed. */
static bool give_inputs(struct prediction *p, const struct graph *graph, const struct slot *slot,
                        size_t first, size_t count, struct error *error)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        char *in = slot->backend->plan_input(slot->plan, i);
        size_t row = session_value_bytes(graph, graph->inputs[i]) / (size_t)graph->batch;
        if (!input_read(p->input, i, first, count, in, error))
            return false;
        for (size_t j = count; j < (size_t)graph->batch; j++)
            memcpy(in + j * row, in + (count - 1) * row, row);
    }
    return true;
}

/* Values that are not numbers among the samples that a plan was given. */
static size_t count_nans(const struct graph *graph, const struct slot *slot, size_t samples)
{
    size_t nans = 0;
    for (size_t i = 0; i < graph->input_count; i++) {
        if (session_host_dtype(graph->values[graph->inputs[i]].dtype) != DTYPE_F32)
            continue;
        const float *values = slot->backend->plan_input(slot->plan, i);
        size_t row =
            session_value_bytes(graph, graph->inputs[i]) / sizeof *values / (size_t)graph->batch;
        for (size_t k = 0; k < samples * row; k++)
            nans += isnan(values[k]) ? 1 : 0;
    }
    return nans;
}

/* A batch by the devices that share it, each its rows; one without rows repeats the last. */
static bool predict_batch(struct prediction *p, size_t first, size_t count, struct error *error)
{
    struct session *session = p->session;
    size_t start, members;
    session_group(session->slots, session->slot_count, 0, &start, &members);
    size_t rows[SESSION_SLOTS_MAX];
    for (size_t i = 0; i < members; i++) {
        const struct slot *slot = &session->slots[i];
        size_t from = (size_t)slot->first, samples = (size_t)slot->samples;
        rows[i] = count <= from ? 0 : count - from < samples ? count - from : samples;
        if (!give_inputs(p, session_slot_graph(session, slot), slot,
                         rows[i] > 0 ? first + from : first + count - 1, rows[i] > 0 ? rows[i] : 1,
                         error))
            return false;
        p->nans += count_nans(session_slot_graph(session, slot), slot, rows[i]);
    }
    if (!session_one_step(session, &session->slots[0], NULL, error))
        return false;
    for (size_t i = 0; i < members; i++) {
        const struct slot *slot = &session->slots[i];
        if (rows[i] > 0 &&
            !take_outputs(p, session_slot_graph(session, slot), slot, rows[i], error))
            return false;
    }
    return true;
}

/* The last rows of a graph that mixes samples, at their exact number. */
static bool predict_exact(struct prediction *p, size_t first, size_t count, struct error *error)
{
    struct session *session = p->session;
    struct slot slot = session->slots[0];
    struct graph_options options = {.batch = (int64_t)count, .fusion = session->settings.fusion};
    struct plan_options plan = {.precision = session->settings.precision};
    struct graph *graph = graph_lower(session->model, &options, session->pool, error);
    if (graph == NULL)
        return false;
    session_give_ranges(session, options.fusion, &plan);
    slot.plan = slot.backend->plan_new(slot.device, graph, &plan, error);
    constant_pool_trim(session->pool);
    struct step_context step = {.cancel = session->ports->cancel};
    bool good = slot.plan != NULL && give_inputs(p, graph, &slot, first, count, error);
    if (good)
        p->nans += count_nans(graph, &slot, count);
    good = good && slot.backend->plan_run(slot.plan, &step, error) &&
           take_outputs(p, graph, &slot, count, error);
    if (slot.plan != NULL)
        slot.backend->plan_free(slot.plan);
    graph_free(graph);
    return good;
}

static bool predict_rows(struct prediction *p, struct error *error)
{
    struct session *session = p->session;
    const struct graph *graph = session->graph;
    size_t batch = (size_t)graph->batch;
    for (size_t first = 0; first < p->rows; first += batch) {
        size_t count = p->rows - first < batch ? p->rows - first : batch;
        bool good = count < batch && graph->mixes_samples ? predict_exact(p, first, count, error)
                                                          : predict_batch(p, first, count, error);
        if (!good && error->code == ERROR_INTERRUPTED) /* within a step */
            count = 0;
        else if (!good)
            return false;
        if (!good || session_cancelled(session))
            return error_set(error, ERROR_INTERRUPTED, "predict", "stopped after %zu of %zu rows",
                             first + count, p->rows);
        char text[64];
        snprintf(text, sizeof text, "row %zu of %zu", first + count, p->rows);
        session_breathe(session, (double)(first + count) / (double)p->rows, text);
    }
    return true;
}

/* ---- what comes out ---- */

static bool write_outputs(const struct prediction *p, const char *path, struct error *error)
{
    size_t count = p->session->graph->output_count;
    struct npy_array *arrays = xcalloc(count, sizeof *arrays);
    char(*names)[32] = xcalloc(count, sizeof *names);
    for (size_t i = 0; i < count; i++) {
        const struct output *output = &p->outputs[i];
        snprintf(names[i], sizeof names[i], "arr_%zu", i);
        arrays[i] = (struct npy_array){.name = names[i],
                                       .dtype = output->dtype,
                                       .shape = output->shape,
                                       .data = output->data,
                                       .bytes = (size_t)output->shape.dims[0] * output->row_bytes};
    }
    bool good = npy_write(path, arrays, count, error);
    free(names);
    free(arrays);
    return good;
}

static json_t *outputs_json(const struct prediction *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->session->graph->output_count; i++) {
        const struct output *output = &p->outputs[i];
        json_t *dims = json_array();
        for (int d = 0; d < output->shape.rank; d++)
            json_array_append_new(dims, json_integer((json_int_t)output->shape.dims[d]));
        json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "name",
                                              p->session->model->outputs[i].name, "shape", dims,
                                              "dtype", dtype_name(output->dtype)));
    }
    return list;
}

/* Is a row a distribution over classes? */
static bool is_distribution(const float *row, size_t classes)
{
    double sum = 0;
    for (size_t i = 0; i < classes; i++) {
        if (!(row[i] >= 0))
            return false;
        sum += (double)row[i];
    }
    return fabs(sum - 1) < 0.02; /* half precision and 1000 classes stay within it */
}

static json_t *top_of_row(const float *row, size_t classes, size_t top, const struct labels *labels)
{
    json_t *list = json_array();
    bool *taken = xcalloc(classes, sizeof *taken);
    for (size_t k = 0; k < top && k < classes; k++) {
        size_t best = classes;
        for (size_t i = 0; i < classes; i++) {
            if (!taken[i] && (best == classes || row[i] > row[best]))
                best = i;
        }
        taken[best] = true;
        json_t *item =
            json_pack("{s:I, s:f}", "class", (json_int_t)best, "probability", (double)row[best]);
        if (best < labels->count && labels->names[best][0] != '\0')
            json_object_set_new(item, "label", json_string(labels->names[best]));
        json_array_append_new(list, item);
    }
    free(taken);
    return list;
}

/* Is every row of the first output a distribution over classes? Returns how many, 0 if not. */
static size_t count_classes(const struct prediction *p, size_t shown)
{
    const struct output *output = &p->outputs[0];
    if (output->shape.rank != 2 || output->dtype != DTYPE_F32 || output->shape.dims[1] < 2 ||
        (size_t)output->shape.dims[0] != p->rows)
        return 0;
    size_t classes = (size_t)output->shape.dims[1];
    const float *row = (const float *)(const void *)output->data;
    for (size_t i = 0; i < shown; i++) {
        if (!is_distribution(row + i * classes, classes))
            return 0;
    }
    return classes;
}

/* The user's names of the classes, else the demo model's own. Never fails: names are a help. */
static void find_labels(struct session *session, size_t classes, struct labels *labels)
{
    struct error error;
    char *own = demo_labels_path(session->model_path);
    const char *file = session->settings.labels[0] != '\0' ? session->settings.labels : own;
    *labels = (struct labels){0};
    if (file != NULL && !labels_read(file, labels, &error)) {
        session_note(session, "classes have no names: %s: %s", error.what, error.why);
    } else if (file != NULL && labels->count != classes) {
        session_note(session, "%s names %zu classes, the model has %zu", file, labels->count,
                     classes);
    } else if (file == NULL && classes == IMAGENET && !session->told_labels) {
        session->told_labels = true;
        session_note(session,
                     "the 1000 classes have no names; `labels FILE` gives them, one a line");
    }
    free(own);
}

/* Classes of the rows of a classifier, NULL if the model is none. top 0: as many as is usual. */
static json_t *predictions_json(const struct prediction *p, size_t top)
{
    size_t shown = p->rows < PREDICTIONS_MAX ? p->rows : PREDICTIONS_MAX;
    size_t classes = count_classes(p, shown);
    if (classes == 0)
        return NULL;
    if (top == 0)
        top = classes >= MANY_CLASSES ? TOP_MANY : TOP_DEFAULT;
    struct labels labels;
    find_labels(p->session, classes, &labels);
    const float *row = (const float *)(const void *)p->outputs[0].data;
    json_t *list = json_array();
    for (size_t i = 0; i < shown; i++) {
        char source[512]; /* a picture's name, else the row's number */
        if (input_source(p->input, i)[0] != '\0')
            text_clean(source, sizeof source, input_source(p->input, i));
        else
            snprintf(source, sizeof source, "%zu", i);
        json_array_append_new(list,
                              json_pack("{s:s, s:o}", "source", source, "top",
                                        top_of_row(row + i * classes, classes, top, &labels)));
    }
    labels_free(&labels);
    return list;
}

static json_t *preprocess_json(const struct session *session)
{
    const char *source;
    const char *mode = session_preprocess(session, &session->settings, &source);
    return json_pack("{s:s, s:s}", "mode", mode, "source", source);
}

static bool is_npy_name(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcasecmp(path + length - 4, ".npy") == 0;
}

static json_t *predict(struct prediction *p, const json_t *arguments, struct error *error)
{
    const char *output = json_string_value(json_object_get(arguments, "output"));
    const json_t *wanted = json_object_get(arguments, "top");
    json_int_t top = json_integer_value(wanted); /* 0 if it is not given */
    bool classes = json_is_integer(wanted) ? top > 0 : output == NULL;
    if (top < 0 || top > TOP_MAX) {
        error_set(error, ERROR_VALUE, "predict", "top is 0..%d", TOP_MAX);
        return NULL;
    }
    if (output != NULL && !npy_is_npz_name(output) && p->session->graph->output_count > 1) {
        error_set(error, ERROR_VALUE, output, "the model has %zu outputs, which need an .npz",
                  p->session->graph->output_count);
        return NULL;
    }
    if (output != NULL && !npy_is_npz_name(output) && !is_npy_name(output)) {
        error_set(error, ERROR_VALUE, output, "predictions are written as .npy or .npz");
        error_hint(error, "predict IN OUT.npy");
        return NULL;
    }
    int64_t start_ns = clock_now_ns();
    if (!allocate_outputs(p, p->session->graph, error) || !predict_rows(p, error))
        return NULL;
    if (p->nans > 0) /* oneDNN's ReLU answers 0 to a NaN */
        session_note(p->session,
                     "the input holds %zu %s (NaN): Keras hands them on to the outputs, here an "
                     "activation or a pooling layer may end them",
                     p->nans,
                     p->nans == 1 ? "value that is not a number" : "values that are not numbers");
    if (output != NULL && !write_outputs(p, output, error))
        return NULL;
    json_t *reply =
        json_pack("{s:I, s:f, s:o}", "rows", (json_int_t)p->rows, "predict_ms",
                  (double)(clock_now_ns() - start_ns) / 1e6, "outputs", outputs_json(p));
    if (output != NULL)
        json_object_set_new(reply, "written", json_string(output));
    json_t *predictions = classes ? predictions_json(p, (size_t)top) : NULL;
    if (predictions != NULL)
        json_object_set_new(reply, "predictions", predictions);
    if (input_source(p->input, 0)[0] != '\0')
        json_object_set_new(reply, "preprocess", preprocess_json(p->session));
    return reply;
}

json_t *session_do_predict(struct session *session, const json_t *arguments, struct error *error)
{
    const char *path = json_string_value(json_object_get(arguments, "input"));
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "predict", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (path == NULL || path[0] == '\0') {
        error_set(error, ERROR_VALUE, "predict", "needs a file with data");
        error_hint(error, "predict IN.npy OUT.npy");
        return NULL;
    }
    struct prediction p = {.session = session};
    p.input = session_open_input(session, &session->settings, session->graph, path, error);
    if (p.input == NULL)
        return NULL;
    p.rows = input_rows(p.input);
    session_observe(session, &session->slots[0]);
    session->predicting = true;
    json_t *reply = predict(&p, arguments, error);
    session->predicting = false;
    for (size_t i = 0; p.outputs != NULL && i < session->graph->output_count; i++)
        free(p.outputs[i].data);
    free(p.outputs);
    input_free(p.input);
    /* live steps and runs go on with the data they had */
    struct error refill;
    if (!session_fill_inputs(session, &session->settings, session->graph, session->slots,
                             session->slot_count, &refill))
        session_note(session, "the timing input could not be read again: %s", refill.why);
    return reply;
}
