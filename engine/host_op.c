#include "engine/host_op.h"

#include <stdlib.h>
#include <string.h>

struct host_op {
    struct graph *graph; /* of the one op */
    int *values;         /* of the whole graph, in the order of graph->inputs */
    struct device *device;
    struct plan *plan;
};

static const struct observer nobody;

/* The number of a value in the small graph; added if it is new. */
static int value_in(struct host_op *host, const struct graph *whole, int value)
{
    struct graph *graph = host->graph;
    for (size_t i = 0; i < graph->input_count; i++) {
        if (host->values[i] == value)
            return graph->inputs[i];
    }
    int added = (int)graph->value_count++;
    graph->values[added] = whole->values[value];
    graph->values[added].producer = -1;
    graph->values[added].alias_of = -1;
    host->values[graph->input_count] = value;
    graph->inputs[graph->input_count++] = added;
    return added;
}

static void copy_op(struct host_op *host, const struct graph *whole, const struct op *op)
{
    struct graph *graph = host->graph;
    size_t most = op->input_count + op->post_count + op->output_count + 1;
    host->values = xcalloc(most, sizeof *host->values);
    graph->values = xcalloc(most, sizeof *graph->values);
    graph->inputs = xcalloc(most, sizeof *graph->inputs);
    graph->outputs = xcalloc(op->output_count, sizeof *graph->outputs);
    graph->ops = xcalloc(1, sizeof *graph->ops);
    graph->op_count = 1;
    struct op *copy = &graph->ops[0];
    *copy = *op;
    copy->fused = NULL;
    copy->fused_count = 0;
    copy->inputs = xcalloc(op->input_count + 1, sizeof *copy->inputs);
    for (size_t i = 0; i < op->input_count; i++)
        copy->inputs[i] = value_in(host, whole, op->inputs[i]);
    copy->posts = xcalloc(op->post_count + 1, sizeof *copy->posts);
    for (size_t i = 0; i < op->post_count; i++) {
        copy->posts[i] = op->posts[i];
        if (op->posts[i].kind == POST_BINARY)
            copy->posts[i].value = value_in(host, whole, op->posts[i].value);
    }
    for (size_t i = 0; i < op->output_count; i++) {
        int out = (int)graph->value_count++;
        graph->values[out] = whole->values[op->outputs[i]];
        graph->values[out].producer = 0;
        graph->values[out].alias_of = -1;
        copy->outputs[i] = out;
        graph->outputs[graph->output_count++] = out;
    }
}

static void host_op_close(struct host_op *host)
{
    if (host == NULL)
        return;
    if (host->plan != NULL)
        backend_cpu.plan_free(host->plan);
    if (host->device != NULL)
        backend_cpu.device_close(host->device);
    graph_free(host->graph);
    free(host->values);
    free(host);
}

static struct host_op *host_op_open(const struct graph *whole, int op, struct error *error)
{
    const struct device_options options = {.growth = true};
    const struct plan_options planning = {.precision = PRECISION_FP32, .slice = -1};
    if (whole->ops[op].output_count == 0 || whole->ops[op].kind == OP_RESHAPE) {
        error_set(error, ERROR_UNSUPPORTED, "fallback cpu", "an op that writes nothing");
        return NULL;
    }
    struct host_op *host = xcalloc(1, sizeof *host);
    host->graph = xcalloc(1, sizeof *host->graph);
    host->graph->model = whole->model;
    host->graph->batch = whole->batch;
    host->graph->mixes_samples = true; /* never cut */
    copy_op(host, whole, &whole->ops[op]);
    host->device = backend_cpu.device_open(&options, &nobody, error);
    if (host->device != NULL)
        host->plan = backend_cpu.plan_new(host->device, host->graph, &planning, error);
    if (host->plan != NULL)
        return host;
    host_op_close(host);
    return NULL;
}

static size_t host_op_inputs(const struct host_op *host, const int **values)
{
    *values = host->values;
    return host->graph->input_count;
}

/* Host buffers hold float32 for every real type. */
static enum dtype host_dtype(const struct graph *graph, int value)
{
    enum dtype dtype = graph->values[value].dtype;
    bool real = dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F64;
    return real ? DTYPE_F32 : dtype;
}

static void *host_op_input(struct host_op *host, size_t index, enum dtype *dtype)
{
    *dtype = host_dtype(host->graph, host->graph->inputs[index]);
    return backend_cpu.plan_input(host->plan, index);
}

static bool host_op_run(struct host_op *host, struct error *error)
{
    struct step_context step = {0};
    return backend_cpu.plan_run(host->plan, &step, error);
}

static const void *host_op_output(const struct host_op *host, size_t index, enum dtype *dtype)
{
    *dtype = host_dtype(host->graph, host->graph->outputs[index]);
    return backend_cpu.plan_output(host->plan, index);
}

const struct host_ops host_ops = {
    .open = host_op_open,
    .close = host_op_close,
    .inputs = host_op_inputs,
    .input = host_op_input,
    .run = host_op_run,
    .output = host_op_output,
};
