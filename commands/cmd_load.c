#include "commands/complete.h"
#include "commands/format.h"
#include "commands/oom_report.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "engine/demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PLAN_WAIT_NS INT64_C(200000000)

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

struct loading {
    json_t *arguments;
    int64_t loaded_ns; /* when the reply came; 0 before */
};

/* A model is told before its plan, and the next command may want the plan: wait for it a little. */
static void wait_for_plan(struct execution *execution)
{
    const struct loading *loading = execution->state;
    if (loading->loaded_ns &&
        (execution->workbench->plan ||
         workbench_now_ns(execution->workbench) - loading->loaded_ns > PLAN_WAIT_NS))
        execution_done(execution);
}

static void print_loaded(struct execution *execution, const json_t *data)
{
    char parameters[FORMAT_SIZE], bytes[FORMAT_SIZE], took[FORMAT_SIZE], origin[256] = "";
    const char *writer = text(data, "writer"), *format = text(data, "format");
    if (strcmp(format, "demo") != 0)
        snprintf(origin, sizeof origin, ", %s%s%s", format, *writer ? " by " : "", writer);
    execution_print(
        execution, "loaded %s: %zu layers, %s parameters, %s of weights%s, in %s",
        text(data, "name"), json_array_size(json_object_get(data, "layers")),
        format_count(parameters, sizeof parameters, json_get_double(data, "parameters")),
        format_bytes(bytes, sizeof bytes, json_get_double(data, "weight_bytes")), origin,
        format_time_ms(took, sizeof took, json_get_double(data, "load_ms")));
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(data, "ignored"), index, item) if (json_is_string(item))
        execution_print(execution, "  not used: %s", json_string_value(item));
}

/* `load demo:` asks for the names, of which the engine has the files. */
static void listed(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    size_t index;
    json_t *name;
    json_array_foreach(json_object_get(data, "models"), index, name)
        execution_print(execution, "%s", json_string_value(name));
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    execution_done(execution);
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct loading *loading = execution->state;
    if (!data) {
        oom_report_fail(execution, error);
        return;
    }
    workbench_loaded(execution->workbench, data, json_incref(loading->arguments));
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    print_loaded(execution, data);
    loading->loaded_ns = workbench_now_ns(execution->workbench);
    execution->tick = wait_for_plan;
}

static void free_loading(void *state)
{
    struct loading *loading = state;
    json_decref(loading->arguments);
    free(loading);
}

/* "224,224,3" or "none,224,3": -1 stands for an open dimension. */
static json_t *parse_shape(const char *word, struct error *error)
{
    json_t *shape = json_array();
    char *copy = xstrdup(word), *rest = copy, *item;
    bool ok = true;
    while (ok && (item = strsep(&rest, ",x")) != NULL) {
        int64_t dimension = -1;
        if (strcmp(item, "none") != 0)
            ok = parse_integer(item, 1, INT32_MAX, "load --shape", &dimension, error);
        json_array_append_new(shape, json_integer(dimension));
    }
    free(copy);
    if (ok && json_array_size(shape) <= 7)
        return shape;
    if (ok)
        error_set(error, ERROR_VALUE, "load --shape", "'%s' has more than 7 dimensions", word);
    error_hint(error, "load FILE --shape 224,224,3");
    json_decref(shape);
    return NULL;
}

/* "conv5,dense": an array. */
static json_t *split_names(const char *word)
{
    json_t *names = json_array();
    char *copy = xstrdup(word), *rest = copy, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        if (*item != '\0')
            json_array_append_new(names, json_string(item));
    }
    free(copy);
    return names;
}

/* "MyLayer=Dense,Other=ReLU"; several --map add up. */
static void parse_map(const char *word, json_t *arguments, struct error *error)
{
    char *copy = xstrdup(word), *rest = copy, *item;
    json_t *map = json_object_get(arguments, "map");
    if (map == NULL) {
        map = json_object();
        json_object_set_new(arguments, "map", map);
    }
    while (error->code == ERROR_NONE && (item = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(item, '=');
        if (equals == NULL || equals == item || equals[1] == '\0') {
            error_set(error, ERROR_VALUE, "load --map", "'%s' is not CLASS=KERAS_CLASS", item);
            error_hint(error, "load FILE --map MyLayer=Dense");
            break;
        }
        *equals = '\0';
        json_object_set_new(map, item, json_string(equals + 1));
    }
    free(copy);
}

static void run_load(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    json_t *arguments = json_object();
    for (int i = 1; i < argc && error.code == ERROR_NONE; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--weights") == 0 && has_value) {
            json_object_set_new(arguments, "weights", json_string(argv[++i]));
        } else if (strcmp(argv[i], "--shape") == 0 && has_value) {
            json_t *shape = parse_shape(argv[++i], &error);
            if (shape)
                json_object_set_new(arguments, "shape", shape);
        } else if (strcmp(argv[i], "--outputs") == 0 && has_value) {
            json_object_set_new(arguments, "outputs", split_names(argv[++i]));
        } else if (strcmp(argv[i], "--map") == 0 && has_value) {
            parse_map(argv[++i], arguments, &error);
        } else if (strncmp(argv[i], "--", 2) != 0 && !json_object_get(arguments, "path")) {
            json_object_set_new(arguments, "path", json_string(argv[i]));
        } else {
            error_set(&error, ERROR_SYNTAX, "load", "'%s' is not understood: %s", argv[i],
                      command_load.usage);
            error_hint(&error, "help load");
        }
    }
    if (error.code == ERROR_NONE && !json_object_get(arguments, "path")) {
        error_set(&error, ERROR_SYNTAX, "load", "it needs a file: %s", command_load.usage);
        error_hint(&error, "load demo:digits");
    }
    struct loading *loading = xcalloc(1, sizeof *loading);
    loading->arguments = arguments;
    execution->state = loading;
    execution->free_state = free_loading;
    if (error.code != ERROR_NONE)
        execution_fail(execution, &error);
    else if (strcasecmp(text(arguments, "path"), "demo:") == 0)
        execution_request(execution, "demos", NULL, listed);
    else
        execution_request(execution, "load", json_deep_copy(arguments), loaded);
}

static void complete_load(struct command_completion *completion, int argc, char *const *argv)
{
    static const char *const options[] = {"--weights", "--shape", "--outputs", "--map"};
    size_t index;
    json_t *name, *names;
    const char *last = argc > 1 ? argv[argc - 1] : "";
    if (strcmp(last, "--weights") == 0) {
        completion_add_files(completion);
        return;
    }
    if (argc > 1 || strncmp(completion->word, "--", 2) == 0) {
        bool value = strncmp(last, "--", 2) == 0;
        for (size_t i = 0; !value && i < sizeof options / sizeof *options; i++)
            completion_add(completion, options[i]);
        return;
    }
    names = demo_list(NULL);
    json_array_foreach(names, index, name)
    {
        completion_add(completion, json_string_value(name));
    }
    json_decref(names);
    completion_add_files(completion);
}

const struct command command_load = {
    .name = "load",
    .usage = "load FILE|demo:NAME [--weights FILE] [--shape D,D,...] [--outputs LAYER,...] "
             "[--map CLASS=KERAS_CLASS]",
    .summary = "load a Keras model",
    .help =
        "FILE is a .keras or .h5 file or a model folder; its kind is told by its content. A JSON\n"
        "architecture takes its weights from --weights: a file, the .weights.json of shards, or a\n"
        "folder of them. --shape binds open dimensions of the first input, without the batch.\n"
        "--outputs ends the model at the layers named, and leaves out what they do not need. "
        "--map\n"
        "says that a custom class is one of Keras's by another name. `load demo:` lists the "
        "models\n"
        "that are built in.\n"
        "Optimizer, loss and metrics are not needed to predict and are not read.",
    .json = "name file format writer keras_version backend dtype_policy preprocess ignored[] "
            "parameters weight_bytes inputs[]{name shape[] dtype} outputs[]{name shape[] dtype} "
            "layers[]{name path class is_op parameters calls} load_ms",
    .see = WORDS("unload", "model", "predict", "export"),
    .examples = WORDS("load demo:digits", "load model.keras", "load net.h5 --shape 224,224,3",
                      "load net.keras --outputs block5_pool", "load net.keras --map MyDense=Dense"),
    .arguments_min = 1,
    .arguments_max = 15,
    .run = run_load,
    .complete = complete_load,
};
