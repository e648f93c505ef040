#include "engine/cpu/quantise.h"
#include "engine/calibration.h"
#include "engine/cpu/cpu.h"

#include <math.h>
#include <stdlib.h>

bool int8_computes(const struct op *op)
{
    return (op->kind == OP_CONV && !op->conv.transposed) ||
           (op->kind == OP_MATMUL && op->matmul.weights != NULL);
}

bool int8_carries(const struct op *op)
{
    if (op->post_count > 0)
        return false;
    return op->kind == OP_POOL || (op->kind == OP_PAD && op->pad.value == 0) ||
           op->kind == OP_CONCAT || op->kind == OP_SLICE ||
           (op->kind == OP_RESIZE && op->resize.function == RESIZE_NEAREST);
}

/* ---- which values are bytes ---- */

struct quantiser {
    struct device *device;
    const struct graph *graph;
    const struct value_range *ranges;
    struct quantised *out;
    int *group; /* per value: another of its group, or itself */
    bool changed;
};

static int storage_of(const struct quantiser *q, int value)
{
    return graph_storage(q->graph, value);
}

static void unstore(struct quantiser *q, int value)
{
    bool *stored = &q->out->stored[storage_of(q, value)];
    q->changed |= *stored;
    *stored = false;
}

static void refuse_op(struct quantiser *q, int op)
{
    q->changed |= q->out->ops[op];
    q->out->ops[op] = false;
}

static bool is_stored(const struct quantiser *q, int value)
{
    return q->out->stored[storage_of(q, value)];
}

/* Everything that might be: later steps only take away. */
static void hope(struct quantiser *q)
{
    const struct graph *graph = q->graph;
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        q->out->ops[i] = int8_computes(op) || int8_carries(op);
        for (size_t j = 0; j < op->output_count; j++)
            q->out->stored[op->outputs[j]] = q->out->ops[i];
    }
    for (size_t i = 0; i < graph->value_count; i++) {
        int storage = storage_of(q, (int)i);
        if (!q->ranges[storage].seen || graph->values[storage].exact)
            q->out->stored[storage] = false;
        if ((int)i != storage)
            q->out->stored[i] = false; /* asked of the storage */
    }
    for (size_t i = 0; i < graph->output_count; i++)
        q->out->stored[storage_of(q, graph->outputs[i])] = false;
}

/* Only as the first post: then what lies in the output is the operand, whatever the backend. */
static bool adds_bytes(const struct quantiser *q, const struct op *op, size_t post)
{
    return post == 0 && op->posts[0].binary == BINARY_ADD && is_stored(q, op->outputs[0]) &&
           shape_equal(&q->graph->values[op->posts[0].value].shape,
                       &q->graph->values[op->outputs[0]].shape);
}

/* Take away what one op does not read or write. */
static void settle_op(struct quantiser *q, int index)
{
    const struct op *op = &q->graph->ops[index];
    bool computes = q->out->ops[index] && int8_computes(op);
    if (computes && q->out->forms[op->inputs[0]].type == dnnl_data_type_undef) {
        refuse_op(q, index);
        computes = false;
    }
    if (q->out->ops[index] && !computes) { /* moves bytes: all of them or none */
        bool all = is_stored(q, op->outputs[0]);
        for (size_t i = 0; i < op->input_count; i++)
            all &= is_stored(q, op->inputs[i]);
        if (!all)
            refuse_op(q, index);
    }
    for (size_t i = 0; i < op->input_count && op->kind != OP_RESHAPE; i++) {
        if (!q->out->ops[index])
            unstore(q, op->inputs[i]);
    }
    for (size_t i = 0; i < op->post_count; i++) {
        if (op->posts[i].kind == POST_BINARY && !(computes && adds_bytes(q, op, i)))
            unstore(q, op->posts[i].value);
    }
    for (size_t i = 0; i < op->output_count && op->kind != OP_RESHAPE; i++) {
        if (!q->out->ops[index])
            unstore(q, op->outputs[i]);
    }
}

static void settle(struct quantiser *q)
{
    bool any = false;
    do {
        q->changed = false;
        for (size_t i = 0; i < q->graph->op_count; i++)
            settle_op(q, (int)i);
        any |= q->changed;
    } while (q->changed);
    q->changed = any;
}

/* ---- their steps ---- */

static int root(const struct quantiser *q, int value)
{
    while (q->group[value] != value)
        value = q->group[value];
    return value;
}

/* What an op only moves keeps its step: such values are of one group. */
static void make_groups(struct quantiser *q)
{
    for (size_t i = 0; i < q->graph->value_count; i++)
        q->group[i] = storage_of(q, (int)i);
    for (size_t i = 0; i < q->graph->op_count; i++) {
        const struct op *op = &q->graph->ops[i];
        if (!q->out->ops[i] || int8_computes(op))
            continue;
        for (size_t j = 0; j < op->input_count; j++)
            q->group[root(q, op->inputs[j])] = root(q, op->outputs[0]);
    }
}

static void make_forms(struct quantiser *q)
{
    size_t count = q->graph->value_count;
    struct value_range *whole = xcalloc(count + 1, sizeof *whole);
    for (size_t i = 0; i < count; i++) {
        const struct value_range *range = &q->ranges[storage_of(q, (int)i)];
        struct value_range *group = &whole[root(q, (int)i)];
        group->seen |= range->seen;
        group->least = fminf(group->least, range->least);
        group->bound = fmaxf(group->bound, range->bound);
    }
    for (size_t i = 0; i < count; i++) {
        const struct value_range *group = &whole[root(q, (int)i)];
        bool positive = group->least >= 0;
        float steps = positive ? 255 : 127;
        q->out->forms[i] = (struct value_form){.type = !group->seen ? dnnl_data_type_undef
                                                       : positive   ? dnnl_u8
                                                                    : dnnl_s8,
                                               .step = group->bound > 0 ? group->bound / steps : 1};
    }
    free(whole);
}

/* Ask oneDNN about everything that is left; what it has not is taken away. */
static void try_ops(struct quantiser *q)
{
    for (size_t i = 0; i < q->graph->op_count; i++) {
        const struct op *op = &q->graph->ops[i];
        if (!q->out->ops[i] || int8_can_run(q->device, q->graph, (int)i, q->out))
            continue;
        if (int8_computes(op) && is_stored(q, op->outputs[0]))
            unstore(q, op->outputs[0]); /* perhaps with a float32 result */
        else
            refuse_op(q, (int)i);
    }
}

static bool check_ranges(const struct graph *graph, const struct plan_options *options,
                         struct error *error)
{
    if (options->ranges && options->range_count == graph->value_count)
        return true;
    error_set(error, ERROR_VALUE, "precision int8",
              "the ranges of this model's values are not known yet");
    return error_hint(error, "calibrate FILE");
}

struct quantised *quantise_graph(struct device *device, const struct graph *graph,
                                 const struct plan_options *options, struct error *error)
{
    if (!check_ranges(graph, options, error))
        return NULL;
    struct quantised *out = xcalloc(1, sizeof *out);
    struct quantiser q = {.device = device, .graph = graph, .ranges = options->ranges, .out = out};
    size_t values = graph->value_count + 1;
    out->forms = xcalloc(values, sizeof *out->forms);
    out->stored = xcalloc(values, sizeof *out->stored);
    out->ops = xcalloc(graph->op_count + 1, sizeof *out->ops);
    out->value_bytes = xcalloc(values, sizeof *out->value_bytes);
    q.group = xcalloc(values, sizeof *q.group);
    hope(&q);
    make_groups(&q);
    make_forms(&q);
    do {
        settle(&q);
        make_groups(&q);
        make_forms(&q);
        q.changed = false;
        try_ops(&q);
    } while (q.changed);
    for (size_t i = 0; i < graph->value_count; i++) {
        out->stored[i] = is_stored(&q, (int)i);
        out->value_bytes[i] = out->stored[i] ? 1 : sizeof(float);
    }
    free(q.group);
    return out;
}

void quantised_free(struct quantised *quantised)
{
    if (!quantised)
        return;
    free(quantised->forms);
    free(quantised->stored);
    free(quantised->ops);
    free(quantised->value_bytes);
    free(quantised);
}
