#include "tests/support/tiny.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

float tiny_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (float)(1 << 23) - 1;
}

struct names {
    char name[256][64];
    int count;
};

static void die(const char *line)
{
    fprintf(stderr, "tiny model: cannot read: %s\n", line);
    abort();
}

static int find(const struct names *names, const char *name)
{
    for (int i = 0; i < names->count; i++) {
        if (strcmp(names->name[i], name) == 0)
            return i;
    }
    return -1;
}

static struct shape parse_shape(const char *text)
{
    struct shape shape = {.rank = 0};
    if (strcmp(text, "scalar") == 0)
        return shape;
    for (char *end; *text; text = *end ? end + 1 : end)
        shape.dims[shape.rank++] = strtoll(text, &end, 10);
    return shape;
}

static void add_weight(struct model_layer *layer, const char *name, const char *shape,
                       uint64_t *state)
{
    layer->weights = xrealloc(layer->weights, (layer->weight_count + 1) * sizeof *layer->weights);
    struct model_weight *weight = &layer->weights[layer->weight_count++];
    *weight = (struct model_weight){.name = xstrdup(name), .dtype = DTYPE_F32};
    weight->shape = parse_shape(shape);
    size_t count = (size_t)shape_elements(&weight->shape);
    weight->bytes = count * sizeof(float);
    float *data = xmalloc(weight->bytes + 1);
    bool positive = strstr(name, "variance") != NULL;
    for (size_t i = 0; i < count; i++) {
        float value = tiny_random(state);
        data[i] = positive ? 1.25F + value : value;
    }
    weight->data = data;
    layer->parameters += count;
}

/* The weights' memory hangs on the model's storage. */
struct tiny_storage {
    struct model_storage base;
    void **blocks;
    size_t count;
};

static void release_blocks(struct model_storage *base)
{
    struct tiny_storage *storage = (struct tiny_storage *)base;
    for (size_t i = 0; i < storage->count; i++)
        free(storage->blocks[i]);
    free(storage->blocks);
    free(storage);
}

static json_t *argument(const char *text, const struct names *names, struct model_node *node)
{
    int from = find(names, text);
    if (from >= 0) {
        node->inputs = xrealloc(node->inputs, (node->input_count + 1) * sizeof *node->inputs);
        node->inputs[node->input_count] = (struct model_ref){.node = from};
        return json_pack("{s:i}", "tensor", (int)node->input_count++);
    }
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    if (value || text[0] != '[')
        return value ? value : (die(text), NULL);
    value = json_array(); /* a list of names and numbers */
    char list[1024], *save = NULL;
    snprintf(list, sizeof list, "%s", text + 1);
    list[strcspn(list, "]")] = '\0';
    for (char *one = strtok_r(list, ", ", &save); one; one = strtok_r(NULL, ", ", &save))
        json_array_append_new(value, argument(one, names, node));
    return value;
}

/* `key=VALUE` goes to the keywords, the rest to the positions. */
static void add_argument(const char *text, const struct names *names, struct model_node *node)
{
    const char *equals = strchr(text, '=');
    if (!equals || strchr("[{\"", text[0])) {
        json_array_append_new(node->args, argument(text, names, node));
        return;
    }
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    json_object_set_new(node->kwargs, key, argument(equals + 1, names, node));
}

/* ARGUMENTS up to the closing parenthesis; commas inside brackets do not separate. */
static const char *arguments(const char *at, const struct names *names, struct model_node *node)
{
    char word[1024];
    size_t used = 0;
    int depth = 0;
    node->args = json_array();
    node->kwargs = json_object();
    for (; *at && !(*at == ')' && depth == 0); at++) {
        depth += (*at == '[' || *at == '{') - (*at == ']' || *at == '}');
        if (*at != ',' || depth > 0) {
            if (used > 0 || *at != ' ')
                word[used++] = *at == '\'' ? '"' : *at;
            continue;
        }
        word[used] = '\0';
        add_argument(word, names, node);
        used = 0;
    }
    word[used] = '\0';
    if (used > 0)
        add_argument(word, names, node);
    return at + 1;
}

static json_t *config_of(const char **at)
{
    while (**at == ' ')
        ++*at;
    if (**at != '{')
        return json_object();
    char text[1024];
    size_t used = 0;
    int depth = 0;
    do {
        depth += (**at == '{') - (**at == '}');
        text[used++] = **at == '\'' ? '"' : **at;
        ++*at;
    } while (depth > 0 && **at);
    text[used] = '\0';
    json_t *config = json_loads(text, 0, NULL);
    if (!config)
        die(text);
    return config;
}

static void read_layer(struct model *model, struct names *names, const char *line, uint64_t *state)
{
    char name[64], class_name[64];
    int length = 0;
    if (sscanf(line, " %63[^ =] = %63[^( \n]%n", name, class_name, &length) != 2)
        die(line);
    const char *at = line + length;
    struct model_node node = {.layer = (int)model->layer_count};
    bool again = class_name[0] == '@';
    if (again)
        node.layer = model->nodes[find(names, class_name + 1)].layer;
    struct model_layer layer = {0};
    if (strcmp(class_name, "Input") == 0) {
        struct shape dims = parse_shape(at + 1), shape = {.rank = dims.rank + 1};
        shape.dims[0] = DIM_UNKNOWN;
        for (int i = 0; i < dims.rank; i++)
            shape.dims[i + 1] = dims.dims[i];
        model->inputs = xrealloc(model->inputs, (model->input_count + 1) * sizeof *model->inputs);
        model->inputs[model->input_count++] =
            (struct model_port){.name = xstrdup(name),
                                .tensor = {.node = (int)model->node_count},
                                .shape = shape,
                                .dtype = DTYPE_F32};
        snprintf(class_name, sizeof class_name, "InputLayer");
        node.args = json_array();
        node.kwargs = json_object();
    } else {
        at = arguments(at + 1, names, &node);
        layer.config = config_of(&at);
        char weight[64], shape[64];
        while (sscanf(at, " %63s %63s%n", weight, shape, &length) == 2) {
            add_weight(&layer, weight, shape, state);
            at += length;
        }
    }
    if (!again) {
        layer.name = xstrdup(name);
        layer.path = xstrdup(name);
        layer.class_name = xstrdup(class_name);
        layer.is_op = strncmp(class_name, "ops.", 4) == 0;
        if (!layer.config)
            layer.config = json_object();
        model->layers = xrealloc(model->layers, (model->layer_count + 1) * sizeof *model->layers);
        model->layers[model->layer_count++] = layer;
    } else {
        json_decref(layer.config);
    }
    model->nodes = xrealloc(model->nodes, (model->node_count + 1) * sizeof *model->nodes);
    model->nodes[model->node_count++] = node;
    snprintf(names->name[names->count++], sizeof names->name[0], "%s", name);
}

struct model *tiny_model(const char *text)
{
    struct model *model = xcalloc(1, sizeof *model);
    struct names *names = xcalloc(1, sizeof *names);
    uint64_t state = 42;
    model->name = xstrdup("tiny");
    for (const char *end; *text; text = *end ? end + 1 : end) {
        char line[1024], name[64];
        end = text + strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(end - text), text);
        if (line[strspn(line, " ")] == '\0')
            continue;
        if (sscanf(line, " out %63s", name) == 1 && !strchr(line, '=')) {
            int node = find(names, name);
            if (node < 0)
                die(line);
            model->outputs =
                xrealloc(model->outputs, (model->output_count + 1) * sizeof *model->outputs);
            model->outputs[model->output_count++] =
                (struct model_port){.name = xstrdup(name), .tensor = {.node = node}};
            continue;
        }
        read_layer(model, names, line, &state);
    }
    free(names);
    struct tiny_storage *storage = xcalloc(1, sizeof *storage);
    storage->base.release = release_blocks;
    for (size_t i = 0; i < model->layer_count; i++) {
        for (size_t j = 0; j < model->layers[i].weight_count; j++) {
            storage->blocks =
                xrealloc(storage->blocks, (storage->count + 1) * sizeof *storage->blocks);
            storage->blocks[storage->count++] = (void *)(uintptr_t)model->layers[i].weights[j].data;
        }
    }
    model->storage = &storage->base;
    return model;
}
