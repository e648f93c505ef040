/* What the steps compute on: seeded random data, or rows of a file. */
#include "engine/session_private.h"

#include "engine/convert.h"
#include "engine/input.h"
#include "engine/random.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum dtype session_host_dtype(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F64:
    case DTYPE_F16:
    case DTYPE_BF16:
        return DTYPE_F32;
    default:
        return dtype;
    }
}

size_t session_value_bytes(const struct graph *graph, int value)
{
    const struct graph_value *v = &graph->values[value];
    int64_t elements = shape_elements(&v->shape);
    return elements < 0 ? 0 : (size_t)elements * dtype_bytes(session_host_dtype(v->dtype));
}

/* Integers that stay inside every table they may index: the smallest `input_dim` (Embedding) or
 * `num_tokens` (CategoryEncoding) among the layers that read this input, 0 if none has one. */
static uint32_t integer_bound(const struct model *model, size_t port)
{
    static const char *const keys[] = {"input_dim", "num_tokens", NULL};
    struct model_ref tensor = model->inputs[port].tensor;
    json_int_t bound = 0;
    for (size_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        for (size_t j = 0; j < node->input_count; j++) {
            if (node->inputs[j].node != tensor.node || node->inputs[j].output != tensor.output)
                continue;
            const json_t *config = model->layers[node->layer].config;
            for (const char *const *key = keys; *key != NULL; key++) {
                json_int_t value = json_integer_value(json_object_get(config, *key));
                if (value > 0 && (bound == 0 || value < bound))
                    bound = value;
            }
        }
    }
    return bound > INT32_MAX ? INT32_MAX : (uint32_t)bound;
}

/* Two values a number: a batch of 256 pictures is filled in a few tens of milliseconds. */
static void fill_floats(struct random *random, float *out, int64_t count)
{
    int64_t i = 0;
    for (; i + 1 < count; i += 2) {
        uint64_t bits = random_next(random);
        out[i] = (float)(bits >> 40) * 0x1p-24f;
        out[i + 1] = (float)(bits & 0xffffff) * 0x1p-24f;
    }
    if (i < count)
        out[i] = random_float(random);
}

static void fill_random(const struct model *model, const struct graph *graph, size_t port,
                        uint64_t seed, void *out)
{
    const struct graph_value *value = &graph->values[graph->inputs[port]];
    int64_t elements = shape_elements(&value->shape);
    enum dtype dtype = session_host_dtype(value->dtype);
    struct random random;
    random_seed(&random, seed + port);
    /* token ids may come through an input of any type */
    uint32_t bound = dtype == DTYPE_BOOL ? 2 : integer_bound(model, port);
    if (dtype == DTYPE_F32 && bound == 0) {
        fill_floats(&random, out, elements);
        return;
    }
    /* values stay inside the type's own range as well */
    bound = bound == 0 ? 256 : bound;
    if (bound > 127 && dtype_bytes(dtype) == 1)
        bound = dtype != DTYPE_U8 ? 127 : bound < 256 ? bound : 256;
    if (bound > INT16_MAX && dtype_bytes(dtype) == 2)
        bound = INT16_MAX;
    for (int64_t i = 0; i < elements; i++)
        convert_write((char *)out + (size_t)i * dtype_bytes(dtype), dtype,
                      (double)random_below(&random, bound));
}

/* `batch` rows of a file into one input, from `start` on; a short file begins again. */
static bool fill_rows(struct input *input, const struct graph *graph, size_t port, size_t start,
                      void *out, struct error *error)
{
    const struct graph_value *value = &graph->values[graph->inputs[port]];
    size_t batch = (size_t)value->shape.dims[0], rows = input_rows(input);
    size_t row_bytes = session_value_bytes(graph, graph->inputs[port]) / batch;
    for (size_t row = 0; row < batch;) {
        size_t first = (start + row) % rows, count = rows - first;
        if (count > batch - row)
            count = batch - row;
        if (!input_read(input, port, first, count, (char *)out + row * row_bytes, error))
            return false;
        row += count;
    }
    return true;
}

struct input *session_open_input(const struct session *session, const struct settings *settings,
                                 const struct graph *graph, const char *path, struct error *error)
{
    struct input_port *ports = xcalloc(graph->input_count, sizeof *ports);
    for (size_t i = 0; i < graph->input_count; i++) {
        const struct graph_value *value = &graph->values[graph->inputs[i]];
        ports[i].name = session->model->inputs[i].name;
        ports[i].row = shape_of(value->shape.rank - 1, value->shape.dims + 1);
        ports[i].dtype = session_host_dtype(value->dtype);
    }
    struct input *input =
        input_open(path, ports, graph->input_count, session_preprocess(session, settings, NULL),
                   settings->interpolation, error);
    free(ports);
    return input;
}

bool session_fill_inputs(struct session *session, const struct settings *settings,
                         const struct graph *graph, const struct slot *slots, size_t count,
                         struct error *error)
{
    return session_fill_inputs_from(session, settings, graph, slots, count, 0, error);
}

bool session_fill_inputs_from(struct session *session, const struct settings *settings,
                              const struct graph *graph, const struct slot *slots, size_t count,
                              size_t row, struct error *error)
{
    struct input *input = NULL;
    if (settings->input[0] != '\0') {
        input = session_open_input(session, settings, graph, settings->input, error);
        if (input == NULL)
            return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < graph->input_count; i++) {
        bool split = slots[0].part != NULL; /* then no device holds the whole batch */
        size_t bytes = session_value_bytes(graph, graph->inputs[i]);
        size_t row_bytes = bytes / (size_t)graph->batch;
        void *whole = split ? malloc(bytes + 1) : slots[0].backend->plan_input(slots[0].plan, i);
        if (whole == NULL)
            good = error_set(error, ERROR_MEMORY, "input", "no memory for a batch of it");
        else if (input != NULL)
            good = fill_rows(input, graph, i, row, whole, error);
        else
            fill_random(session->model, graph, i, settings->seed, whole);
        for (size_t j = split ? 0 : 1; good && j < count; j++)
            memcpy(slots[j].backend->plan_input(slots[j].plan, i),
                   (const char *)whole + (size_t)slots[j].first * row_bytes,
                   (size_t)slots[j].samples * row_bytes);
        if (split)
            free(whole);
    }
    if (input != NULL)
        input_free(input);
    return good;
}

/* Does the model scale pictures by itself, or take none with colours? */
static bool needs_no_scaling(const struct model *model)
{
    const struct shape *shape = &model->inputs[0].shape;
    if (model->input_count != 1 || shape->rank != 4 || shape->dims[3] != 3)
        return true;
    for (size_t i = 0; i < model->layer_count; i++) {
        const char *class = model->layers[i].class_name;
        if (strcmp(class, "Rescaling") == 0 || strcmp(class, "Normalization") == 0)
            return true;
    }
    return false;
}

/* The preprocess_input of keras.applications by the names that it gives its models: "vgg16",
 * "mobilenetv2_1.00_224". */
static const char *family_preprocess(const char *name)
{
    static const char *const families[][2] = {
        {"vgg16", "caffe"},       {"vgg19", "caffe"},       {"resnet50", "caffe"},
        {"resnet101", "caffe"},   {"resnet152", "caffe"},   {"resnet50v2", "tf"},
        {"resnet101v2", "tf"},    {"resnet152v2", "tf"},    {"inception", "tf"},
        {"xception", "tf"},       {"mobilenet", "tf"},      {"mobilenetv2", "tf"},
        {"nasnet", "tf"},         {"densenet121", "torch"}, {"densenet169", "torch"},
        {"densenet201", "torch"},
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        size_t length = strlen(families[i][0]);
        if (strncasecmp(name, families[i][0], length) == 0 &&
            (name[length] == '\0' || name[length] == '_'))
            return families[i][1];
    }
    return NULL;
}

const char *session_preprocess(const struct session *session, const struct settings *settings,
                               const char **source)
{
    const struct model *model = session->model;
    const char *family = family_preprocess(model->name), *why = "unknown", *mode = "none";
    if (settings->preprocess[0] != '\0') {
        why = "setting";
        mode = settings->preprocess;
    } else if (model->preprocess[0] != '\0') {
        why = "recipe";
        mode = model->preprocess;
    } else if (needs_no_scaling(model)) {
        why = "model";
    } else if (family != NULL) {
        why = "name";
        mode = family;
    }
    if (source != NULL)
        *source = why;
    return mode;
}
