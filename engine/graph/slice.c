#include "engine/graph/slice.h"
#include "engine/graph/op_rules.h"
#include <stdlib.h>
#include <string.h>

static void *copy_of(const void *from, size_t count, size_t size)
{
    void *copy = xcalloc(count + 1, size);
    if (count > 0)
        memcpy(copy, from, count * size);
    return copy;
}

/* Does the op take every row of axis 0 by itself? `mixes_samples` was found by the same questions
 * while the graph was emitted; they are asked again because fusion may have rewritten ops. */
static bool keeps_rows_apart(const struct graph *graph, const struct op *op)
{
    const struct shape *out = &graph->values[op->outputs[0]].shape;
    switch (op->kind) {
    case OP_MATMUL:
        return op->matmul.weights || out->rank > 2;
    case OP_AFFINE:
        return out->rank > 1;
    case OP_BINARY:
        return !op->binary.constant || op->binary.constant->shape.rank < out->rank ||
               op->binary.constant->shape.dims[0] == 1;
    case OP_SOFTMAX:
        return op->softmax.axis > 0;
    case OP_NORMALISE:
        return op->normalise.axis > 0;
    case OP_REDUCE:
        return !op->reduce.axes[0];
    case OP_PAD:
        return op->pad.before[0] == 0 && op->pad.after[0] == 0;
    case OP_SLICE:
        return op->slice.begin[0] == 0 && op->slice.step[0] == 1 &&
               op->slice.size[0] == graph->values[op->inputs[0]].shape.dims[0];
    case OP_CONCAT:
        return op->concat.axis > 0;
    case OP_SELECT:
        return (!op->select.on_true || op->select.on_true->shape.dims[0] == 1) &&
               (!op->select.on_false || op->select.on_false->shape.dims[0] == 1);
    case OP_GATHER:
        return op->gather.data      ? op->gather.axis == 0 && !op->gather.indices
               : op->gather.indices ? op->gather.axis > 0
                                    : op->gather.batch_axes > 0;
    case OP_TRANSPOSE:
        return op->transpose.permutation[0] == 0;
    case OP_CUMULATE:
        return op->cumulate.axis > 0;
    case OP_TOP:
        return out->rank > 1;
    case OP_CONSTANT: /* it has no axis of the batch to cut */
        return false;
    default:
        return true;
    }
}

static bool may_slice(const struct graph *graph)
{
    bool good = !graph->mixes_samples;
    for (size_t i = 0; good && i < graph->value_count; i++) {
        const struct shape *shape = &graph->values[i].shape;
        good = shape->rank > 0 && shape->dims[0] % graph->batch == 0;
    }
    for (size_t i = 0; good && i < graph->op_count; i++)
        good = keeps_rows_apart(graph, &graph->ops[i]);
    return good;
}

struct graph *graph_slice(const struct graph *graph, int64_t batch)
{
    if (batch < 1 || batch > graph->batch || !may_slice(graph))
        return NULL;
    struct graph *slice = xmalloc(sizeof *slice);
    *slice = *graph;
    slice->batch = batch;
    slice->layer_shapes = NULL;
    slice->values = copy_of(graph->values, graph->value_count, sizeof *slice->values);
    slice->ops = copy_of(graph->ops, graph->op_count, sizeof *slice->ops);
    slice->inputs = copy_of(graph->inputs, graph->input_count, sizeof *slice->inputs);
    slice->outputs = copy_of(graph->outputs, graph->output_count, sizeof *slice->outputs);
    for (size_t i = 0; i < slice->value_count; i++) {
        int64_t *rows = &slice->values[i].shape.dims[0];
        *rows = *rows / graph->batch * batch;
    }
    for (size_t i = 0; i < slice->op_count; i++) {
        struct op *op = &slice->ops[i];
        op->inputs = copy_of(op->inputs, op->input_count, sizeof *op->inputs);
        op->posts = copy_of(op->posts, op->post_count, sizeof *op->posts);
        op->fused = copy_of(op->fused, op->fused_count, sizeof *op->fused);
        if (op->kind == OP_SLICE)
            op->slice.size[0] = slice->values[op->inputs[0]].shape.dims[0];
        op->flops = op_flops(slice, op);
        op->bytes = op_bytes(slice, op);
    }
    return slice;
}
