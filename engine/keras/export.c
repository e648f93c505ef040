/* Which weight of the model is called what in a file for Keras: the architecture is walked as Keras
 * walks it, in the order of its lists of layers. */
#include "engine/keras/export_plan.h"

#include "engine/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* A nested model under way. */
struct place {
    const char *path;     /* of its layers in struct model: "" or "base/" */
    const char *numbered; /* of its container: "layers/functional_1/layers/" */
    bool trainable;
    int depth;
};

static bool refuse(const struct export_plan *plan, const char *layer, const char *why,
                   struct error *error)
{
    char name[128];
    return error_set(error, ERROR_UNSUPPORTED, "export keras", "the layer \"%s\" of %s: %s",
                     text_clean(name, sizeof name, layer), plan->model->name, why);
}

static const struct model_layer *layer_at(const struct model *model, const char *path)
{
    for (size_t i = 0; i < model->layer_count; i++) {
        if (strcmp(model->layers[i].path, path) == 0)
            return &model->layers[i];
    }
    return NULL;
}

/* "conv2d", "conv2d_1" ...: groups are counted by class and container. */
static const char *next_number(struct export_plan *plan, json_t *counters, const char *class_name)
{
    const char *package = strrchr(class_name, '>');
    if (package != NULL)
        class_name = package + 1;
    if (strcmp(class_name, "GroupQueryAttention") == 0)
        class_name = "GroupedQueryAttention"; /* paths go by the Python class */
    const char *snake = variables_snake(&plan->reader, class_name);
    json_int_t n = json_integer_value(json_object_get(counters, snake));
    json_object_set_new(counters, snake, json_integer(n + 1));
    return n == 0 ? snake : reader_print(&plan->reader, "%s_%lld", snake, (long long)n);
}

static struct export_weight *weight_add(struct export_plan *plan)
{
    if (plan->weight_count == plan->weight_capacity) {
        plan->weight_capacity = plan->weight_capacity ? 2 * plan->weight_capacity : 64;
        plan->weights = xrealloc(plan->weights, plan->weight_capacity * sizeof *plan->weights);
    }
    return &plan->weights[plan->weight_count++];
}

/* Names of a group must differ: a wrapper may hold two kernels. */
static const char *legacy_name(struct export_plan *plan, const char *path, const char *layer,
                               const struct variable *variable, size_t first)
{
    struct reader *reader = &plan->reader;
    const char *base =
        strcmp(variable->owner, layer) == 0 || variable->owner[0] == '\0'
            ? reader_print(reader, "%s/%s", path, variable->name)
            : reader_print(reader, "%s/%s/%s", path, variable->owner, variable->name);
    const char *name = base;
    for (int n = 1;; n++) {
        bool taken = false;
        for (size_t i = first; i + 1 < plan->weight_count && !taken; i++)
            taken = strcmp(plan->weights[i].legacy, name) == 0;
        if (!taken)
            return name;
        const char *slash = strrchr(base, '/');
        name = reader_print(reader, "%.*s_%d%s", (int)(slash - base), base, n, slash);
    }
}

static bool place_layer(struct export_plan *plan, const struct place *place, const char *name,
                        const char *numbered, struct error *error)
{
    struct reader *reader = &plan->reader;
    const char *path = reader_print(reader, "%s%s", place->path, name);
    const struct model_layer *layer = layer_at(plan->model, path);
    if (layer == NULL)
        return refuse(plan, path, "it is not in the model that was read", error);
    if (layer->is_op || layer->weight_count == 0)
        return true;
    struct variables list = {0};
    variables_append(reader, &list, layer->class_name, layer->config, "", place->trainable);
    if (list.unknown || list.count != layer->weight_count)
        return refuse(plan, path, "what its variables are in Keras is not known", error);
    bool hidden = strcmp(layer->class_name, "GroupedQueryAttention") == 0;
    bool spectral = strcmp(layer->class_name, "SpectralNormalization") == 0;
    size_t first = plan->weight_count; /* layer names keep others apart */
    for (size_t i = 0; i < list.count; i++) {
        const struct variable *variable = &list.items[i];
        struct export_weight *weight = weight_add(plan);
        *weight =
            (struct export_weight){.weight = &layer->weights[i], .trainable = variable->trainable};
        weight->legacy = legacy_name(plan, path, layer->name, variable, first);
        /* the sublayers of this class are private attributes */
        weight->numbered = reader_print(reader, "%s%s/%s%s", place->numbered, numbered,
                                        hidden ? "_" : "", variable->path);
        if (strncmp(variable->path, "vars/", 5) == 0)
            weight->label = layer->name;
    }
    if (spectral) { /* it also lists the kernel that it wraps, in its archive only */
        struct export_weight *weight = weight_add(plan);
        *weight = (struct export_weight){.weight = &layer->weights[0], .legacy = ""};
        weight->numbered = reader_print(reader, "%s%s/vars/0", place->numbered, numbered);
    }
    return true;
}

static json_t *layers_of(json_t *object)
{
    json_t *config = json_object_get(object, "config");
    return json_is_array(config) ? config : json_object_get(config, "layers");
}

static bool is_sequential(json_t *object)
{
    json_t *config = json_object_get(object, "config");
    return json_is_array(config) || json_object_get(config, "input_layers") == NULL;
}

static bool place_scope(struct export_plan *plan, json_t *object, const struct place *place,
                        struct error *error);

/* One entry of a list of layers. */
static bool place_child(struct export_plan *plan, const struct place *place, json_t *child,
                        const char *name, const char *numbered, struct error *error)
{
    struct reader *reader = &plan->reader;
    if (!config_is_model(child))
        return place_layer(plan, place, name, numbered, error);
    const struct place inner = {
        .path = reader_print(reader, "%s%s/", place->path, name),
        .numbered = reader_print(reader, "%s%s/layers/", place->numbered, numbered),
        .trainable = place->trainable,
        .depth = place->depth + 1,
    };
    return place_scope(plan, child, &inner, error);
}

static bool place_scope(struct export_plan *plan, json_t *object, const struct place *place,
                        struct error *error)
{
    json_t *config = json_object_get(object, "config"), *layers = layers_of(object), *child;
    struct place here = *place;
    here.trainable =
        here.trainable && (json_is_array(config) || json_truth(config, "trainable", true));
    if (here.depth > KERAS_NESTING_MAX)
        return refuse(plan, here.path, "models are nested too deep", error);
    json_t *counters = json_object();
    bool good = true;
    size_t i;
    if (here.depth == 0)
        plan->groups = xcalloc(json_array_size(layers) + 1, sizeof *plan->groups);
    json_array_foreach(layers, i, child)
    {
        const char *class_name = json_text(child, "class_name", "");
        const char *name =
            json_text(child, "name", json_text(json_object_get(child, "config"), "name", NULL));
        if (name == NULL) /* as the reader names them */
            name = reader_print(&plan->reader, "%s_%zu", variables_snake(&plan->reader, class_name),
                                i + 1);
        if (config_is_op(&plan->reader, child) ||
            (strcmp(class_name, "InputLayer") == 0 && is_sequential(object)))
            continue;
        const char *numbered = next_number(plan, counters, class_name);
        size_t first = plan->weight_count;
        if (strcmp(class_name, "InputLayer") != 0)
            good = place_child(plan, &here, child, name, numbered, error);
        if (!good)
            break;
        if (here.depth == 0)
            plan->groups[plan->group_count++] = (struct export_group){
                reader_print(&plan->reader, "%s", name), first, plan->weight_count - first};
    }
    json_decref(counters);
    return good;
}

const char *export_version(const struct export_plan *plan)
{
    const char *version = plan->model->keras_version;
    return version[0] != '\0' ? version : plan->major >= 3 ? "3.0.0" : "2.0.0";
}

char *export_architecture(const struct export_plan *plan, bool archive)
{
    json_t *object = json_copy(plan->model->architecture);
    json_object_del(object, "compile_config"); /* optimizer, loss and metrics are not kept */
    if (archive && json_object_get(object, "module") == NULL) {
        /* what came from HDF5 has no modules; within a model Keras then goes by class names */
        const char *class_name = json_text(object, "class_name", "");
        bool sequential = strcmp(class_name, "Sequential") == 0;
        json_object_set_new(object, "module",
                            json_string(sequential ? "keras" : "keras.src.models.functional"));
        json_object_set_new(object, "registered_name",
                            sequential ? json_null() : json_string(class_name));
    }
    char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(object);
    return text;
}

/* Does the model's own tree say what it was written by? */
static int major_of(const struct model *model)
{
    for (size_t i = 0; i < model->layer_count; i++) {
        json_t *major = json_object_get(model->layers[i].config, "_keras_major");
        if (json_is_integer(major))
            return (int)json_integer_value(major);
    }
    return model->keras_version[0] == '3' ? 3 : 2;
}

static bool ends_with(const char *path, const char *ending)
{
    size_t length = strlen(path), tail = strlen(ending);
    return length > tail && strcasecmp(path + length - tail, ending) == 0;
}

/* May a file be made here? Libraries do not tell why not. */
static bool touch(const char *path, const char *temporary, struct error *error)
{
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor < 0)
        return output_file_fail(path, errno, error);
    close(descriptor);
    return true;
}

static bool write_whole(struct export_plan *plan, const char *path, bool archive,
                        struct error *error)
{
    struct output_file file;
    if (!output_file_begin(&file, path, error))
        return false;
    bool good = touch(path, file.temporary, error);
    if (good && archive) {
        char *weights = xasprintf("%s.h5", file.temporary);
        good = touch(path, weights, error) && export_h5(plan, weights, true, error) &&
               export_zip(plan, file.temporary, weights, error);
        unlink(weights);
        free(weights);
    } else if (good) {
        good = export_h5(plan, file.temporary, false, error);
    }
    if (!good && error != NULL && error->code == ERROR_FILE)
        snprintf(error->what, sizeof error->what, "%s", path);
    return output_file_end(&file, good, error);
}

bool keras_export(const struct model *model, const char *path, keras_export_progress *progress,
                  void *context, struct error *error)
{
    struct export_plan plan = {.model = model, .progress = progress, .context = context};
    bool archive = ends_with(path, ".keras");
    plan.major = plan.reader.major = major_of(model);
    if (!archive && !ends_with(path, ".h5") && !ends_with(path, ".hdf5")) {
        error_set(error, ERROR_VALUE, path, "the name must end with .keras or .h5");
        return error_hint(error, "export keras model.keras");
    }
    if (model->architecture == NULL)
        return error_set(
            error, ERROR_UNSUPPORTED, "export keras",
            "the architecture of %s was not kept: it is very large, or the model was cut by "
            "`load --outputs`",
            model->name);
    if (archive && plan.major < 3) {
        error_set(error, ERROR_UNSUPPORTED, path,
                  ".keras is the format of Keras 3, and this model was written by %s",
                  model->writer);
        return error_hint(error, "export keras model.h5");
    }
    const struct place top = {.path = "", .numbered = "layers/", .trainable = true};
    bool good = place_scope(&plan, model->architecture, &top, error) &&
                write_whole(&plan, path, archive, error);
    free(plan.weights);
    free(plan.groups);
    reader_release(&plan.reader);
    return good;
}
