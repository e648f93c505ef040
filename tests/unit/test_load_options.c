/* What `load` can be told about a model: where to end, and what a custom class is. */
#include "engine/graph/constant.h"
#include "engine/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA "tests/data/keras/"

static struct model *load(const char *path, const char *outputs, const char *map,
                          const char *weights, struct error *error)
{
    struct model_options options = {.weights = weights};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    options.unconfined = true;
#endif
    json_t *names = outputs ? json_loads(outputs, 0, NULL) : NULL;
    json_t *classes = map ? json_loads(map, 0, NULL) : NULL;
    options.outputs = names;
    options.map = classes;
    memset(error, 0, sizeof *error);
    struct model *model = model_load(path, &options, error);
    json_decref(names);
    json_decref(classes);
    return model;
}

static bool lowers(const struct model *model, struct error *error)
{
    struct constant_pool *pool = constant_pool_new();
    struct graph *graph = graph_lower(model, &(struct graph_options){2, true}, pool, error);
    bool ok = graph != NULL;
    if (graph)
        graph_free(graph);
    constant_pool_free(pool);
    return ok;
}

static void ends_where_asked(void **state)
{
    (void)state;
    struct error error;
    struct model *whole = load(DATA "nested_frozen.keras", NULL, NULL, NULL, &error);
    assert_non_null(whole);
    /* the path of a layer of the nested model, and not the last */
    const char *path = NULL;
    for (size_t i = 0; i < whole->layer_count && !path; i++) {
        if (strchr(whole->layers[i].path, '/') && whole->layers[i].weight_count > 0)
            path = whole->layers[i].path;
    }
    assert_non_null(path);
    char list[256];
    snprintf(list, sizeof list, "[\"%s\"]", path);
    struct model *part = load(DATA "nested_frozen.keras", list, NULL, NULL, &error);
    assert_non_null(part);
    assert_int_equal(part->output_count, 1);
    assert_string_equal(part->outputs[0].name, path);
    assert_true(part->layer_count < whole->layer_count);
    assert_true(part->parameters < whole->parameters);
    assert_string_equal(part->layers[part->nodes[part->outputs[0].tensor.node].layer].path, path);
    assert_null(part->architecture);
    assert_true(lowers(part, &error));
    model_free(part);
    model_free(whole);
}

/* A nested model is no layer, and its name says where to end all the same. */
static void ends_at_a_nested_model(void **state)
{
    (void)state;
    struct error error;
    struct model *whole = load(DATA "nested_frozen.keras", NULL, NULL, NULL, &error);
    struct model *part = load(DATA "nested_frozen.keras", "[\"base\"]", NULL, NULL, &error);
    assert_non_null(part);
    assert_int_equal(part->output_count, 1);
    assert_string_equal(part->outputs[0].name, "base");
    const struct model_node *end = &part->nodes[part->outputs[0].tensor.node];
    assert_int_equal(strncmp(part->layers[end->layer].path, "base/", 5), 0);
    assert_true(part->layer_count < whole->layer_count);
    assert_true(lowers(part, &error));
    model_free(part);
    model_free(whole);
    assert_null(load(DATA "nested_frozen.keras", "[\"bas\"]", NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_MODEL_LAYERS);
}

/* An architecture alone is a whole model where no layer has parameters, and no other one is. */
static void weightless_needs_no_weights(void **state)
{
    (void)state;
    static const char *const text =
        "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":\"s\","
        "\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":"
        "[null,8,8,3]}},{\"class_name\":\"%s\",\"config\":{\"name\":\"a\",\"trainable\":true%s}}]}"
        "}";
    char path[] = "/tmp/layertop-architecture-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct error error;
    dprintf(fd, text, "ReLU", "");
    struct model *model = load(path, NULL, NULL, NULL, &error);
    assert_non_null(model);
    assert_int_equal(model->parameters, 0);
    assert_true(lowers(model, &error));
    model_free(model);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    dprintf(fd, text, "Dense", ",\"units\":4");
    assert_null(load(path, NULL, NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_MODEL_WEIGHTS);
    assert_non_null(strstr(error.why, "\"a\""));
    assert_non_null(strstr(error.hint, "--weights"));
    close(fd);
    unlink(path);
}

/* A layer inside a wrapper is what a file says, and a file may say nothing. */
static void wrapped_layer_without_class(void **state)
{
    (void)state;
    static const char text[] =
        "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":\"s\","
        "\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":"
        "[null,5,4]}},{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"t\",\"trainable\":"
        "true,\"layer\":{\"class_name\":\"Sequential\",\"config\":{\"name\":\"i\",\"layers\":["
        "{\"config\":{\"name\":\"a\",\"trainable\":true}}]}}}}]}}";
    char path[] = "/tmp/layertop-wrapped-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    struct error error;
    struct model *model = load(path, NULL, NULL, NULL, &error);
    assert_non_null(model);
    assert_false(lowers(model, &error));
    assert_int_equal(error.code, ERROR_MODEL_SHAPE);
    assert_non_null(strstr(error.why, "no class"));
    model_free(model);
    close(fd);
    unlink(path);
}

/* Integers that we cannot read are refused by the name of what made them. */
static void other_quantisations(void **state)
{
    (void)state;
    static const char *const modes[] = {"int3", "ternary", "int2"};
    static const char *const text =
        "{\"class_name\":\"Sequential\",\"keras_version\":\"3.12.0\",\"config\":{\"name\":\"s\","
        "\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":"
        "[null,8]}},{\"class_name\":\"Dense\",\"config\":{\"name\":\"a\",\"trainable\":true,"
        "\"units\":4,\"dtype\":{\"class_name\":\"QuantizedDTypePolicy\",\"config\":{\"mode\":\"%"
        "s\","
        "\"source_name\":\"float32\"}}}}]}}";
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char path[] = "/tmp/layertop-quantised-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        dprintf(fd, text, modes[i]);
        struct error error;
        assert_null(load(path, NULL, NULL, NULL, &error));
        assert_int_equal(error.code, ERROR_MODEL_LAYERS);
        assert_non_null(strstr(error.why, modes[i]));
        close(fd);
        unlink(path);
    }
}

/* Inputs that nothing needs any more need not be given. */
static void drops_inputs(void **state)
{
    (void)state;
    struct error error;
    struct model *whole = load(DATA "shared_layer.keras", NULL, NULL, NULL, &error);
    assert_non_null(whole);
    assert_true(whole->input_count >= 2);
    char list[256];
    snprintf(list, sizeof list, "[\"%s\"]", whole->inputs[0].name);
    struct model *part = load(DATA "shared_layer.keras", list, NULL, NULL, &error);
    assert_non_null(part);
    assert_int_equal(part->input_count, 1);
    assert_string_equal(part->inputs[0].name, whole->inputs[0].name);
    assert_int_equal(part->layer_count, 1);
    model_free(part);
    model_free(whole);
    assert_null(load(DATA "shared_layer.keras", "[\"nobody\"]", NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_MODEL_LAYERS);
    assert_non_null(strstr(error.why, "nobody"));
}

/* Write the architecture of tf215_nested with its Dense layers called otherwise. */
static char *custom_architecture(void)
{
    static char path[] = "/tmp/layertop-map-XXXXXX";
    FILE *in = fopen(DATA "tf215_nested.json", "r");
    assert_non_null(in);
    int fd = mkstemp(path);
    FILE *out = fdopen(fd, "w");
    assert_non_null(out);
    char text[16384];
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    const char *at = text, *found, *word = "\"class_name\": \"Dense\"";
    int count = 0;
    while ((found = strstr(at, word)) != NULL) {
        fprintf(out, "%.*s\"class_name\": \"Mine>MyDense\"", (int)(found - at), at);
        at = found + strlen(word);
        count++;
    }
    fputs(at, out);
    assert_true(count > 0);
    fclose(in);
    fclose(out);
    return path;
}

static void custom_class(void **state)
{
    (void)state;
    struct error error;
    char *path = custom_architecture();
    const char *weights = DATA "tf215_nested.h5";
    struct model *model = load(path, NULL, NULL, weights, &error);
    assert_non_null(model); /* a model may hold what cannot run */
    assert_false(lowers(model, &error));
    assert_int_equal(error.code, ERROR_MODEL_LAYERS);
    assert_non_null(strstr(error.hint, "--map MyDense="));
    model_free(model);
    model = load(path, NULL, "{\"MyDense\": \"Dense\"}", weights, &error);
    if (!model)
        fail_msg("%s: %s", error.what, error.why);
    assert_true(lowers(model, &error));
    model_free(model);
    unlink(path);
}

/* A mapping that says nothing about this model, or nothing that can be, is a slip of the pen. */
static void map_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *map, *why;
    } slips[] = {{"{\"Nobody\": \"Dense\"}", "no layer of the class \"Nobody\""},
                 {"{\"Dense\": \"Nope\"}", "\"Nope\" is no layer"},
                 {"{\"Dense\": \"ops.Add\"}", "\"ops.Add\" is no layer"},
                 {"{\"Nobody\": \"Nope\"}", "\"Nope\" is no layer"}};
    struct error error;
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        assert_null(load(DATA "shared_layer.keras", NULL, slips[i].map, NULL, &error));
        assert_int_equal(error.code, ERROR_VALUE);
        assert_non_null(strstr(error.why, slips[i].why));
        assert_non_null(strstr(error.hint, "load "));
    }
    struct model *model =
        load(DATA "shared_layer.keras", NULL, "{\"Dense\": \"Dense\"}", NULL, &error);
    assert_non_null(model); /* useless, and true */
    model_free(model);
}

/* Two sets of weights for one model: neither is taken in silence */
static void weights_twice(void **state)
{
    (void)state;
    struct error error;
    const char *weights = DATA "tf215_nested.h5";
    assert_null(load(weights, NULL, NULL, weights, &error));
    assert_int_equal(error.code, ERROR_MODEL_WEIGHTS);
    assert_non_null(strstr(error.why, "--weights goes with an architecture"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_at_a_nested_model),
        cmocka_unit_test(ends_where_asked),
        cmocka_unit_test(weightless_needs_no_weights),
        cmocka_unit_test(other_quantisations),
        cmocka_unit_test(wrapped_layer_without_class),
        cmocka_unit_test(drops_inputs),
        cmocka_unit_test(custom_class),
        cmocka_unit_test(weights_twice),
        cmocka_unit_test(map_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
