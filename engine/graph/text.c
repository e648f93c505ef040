/* A graph as text: one op a line, for tests and `model graph`. */
#include "engine/graph/graph.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_value(FILE *out, const struct graph *graph, int value)
{
    const struct graph_value *v = &graph->values[value];
    fprintf(out, "%%%d:", value);
    for (int i = 0; i < v->shape.rank; i++)
        fprintf(out, "%s%" PRId64, i ? "x" : "", v->shape.dims[i]);
    if (v->shape.rank == 0)
        fprintf(out, "scalar");
}

static void put_list(FILE *out, const char *name, const int64_t *values, int count, int64_t usual)
{
    bool all_usual = true;
    for (int i = 0; i < count; i++)
        all_usual &= values[i] == usual;
    if (all_usual)
        return;
    fprintf(out, " %s=", name);
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%" PRId64, i ? "," : "", values[i]);
}

static void put_pads(FILE *out, const int64_t *before, const int64_t *after, int count)
{
    bool any = false;
    for (int i = 0; i < count; i++)
        any |= before[i] != 0 || after[i] != 0;
    if (!any)
        return;
    fprintf(out, " pad=");
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%" PRId64 ":%" PRId64, i ? "," : "", before[i], after[i]);
}

static void put_unary(FILE *out, const struct op_unary *unary)
{
    fprintf(out, " %s", unary_function_name(unary->function));
    if (unary->alpha != 0 || unary->beta != 0)
        fprintf(out, "(%g,%g)", (double)unary->alpha, (double)unary->beta);
}

static void put_constant(FILE *out, const char *name, const struct constant *constant)
{
    char text[160];
    if (constant)
        fprintf(out, " %s%s", name, shape_format(text, sizeof text, &constant->shape));
}

static void put_parameters(FILE *out, const struct graph *graph, const struct op *op)
{
    int rank = graph->values[op->outputs[0]].shape.rank;
    if (op->input_count > 0)
        rank = graph->values[op->inputs[0]].shape.rank;
    switch (op->kind) {
    case OP_CONV: {
        const struct op_conv *conv = &op->conv;
        put_list(out, "k", conv->kernel, conv->spatial, 0);
        put_list(out, "s", conv->stride, conv->spatial, 1);
        put_list(out, "d", conv->dilation, conv->spatial, 1);
        put_pads(out, conv->pad_before, conv->pad_after, conv->spatial);
        if (conv->groups > 1)
            fprintf(out, " g=%" PRId64, conv->groups);
        fprintf(out, "%s%s", conv->transposed ? " transposed" : "", conv->bias ? " bias" : "");
        break;
    }
    case OP_MATMUL:
        put_constant(out, "w", op->matmul.weights);
        fprintf(out, "%s", op->matmul.bias ? " bias" : "");
        break;
    case OP_POOL:
        fprintf(out, " %s", op->pool.function == POOL_MAX ? "max" : "average");
        put_list(out, "k", op->pool.window, op->pool.spatial, 0);
        put_list(out, "s", op->pool.stride, op->pool.spatial, 1);
        put_pads(out, op->pool.pad_before, op->pool.pad_after, op->pool.spatial);
        break;
    case OP_AFFINE:
        fprintf(out, "%s%s", op->affine.scale ? " scale" : "", op->affine.shift ? " shift" : "");
        break;
    case OP_UNARY:
        put_unary(out, &op->unary);
        break;
    case OP_BINARY:
        fprintf(out, " %s", binary_function_name(op->binary.function));
        put_constant(out, op->binary.swapped ? "constant first " : "constant ",
                     op->binary.constant);
        break;
    case OP_SOFTMAX:
        fprintf(out, " axis=%d%s", op->softmax.axis, op->softmax.log ? " log" : "");
        break;
    case OP_NORMALISE:
        fprintf(out, " axis=%d eps=%g%s%s%s", op->normalise.axis, (double)op->normalise.epsilon,
                op->normalise.rms ? " rms" : "", op->normalise.gamma ? " gamma" : "",
                op->normalise.beta ? " beta" : "");
        break;
    case OP_REDUCE: {
        static const char *const NAMES[] = {"mean", "sum", "max", "min"};
        fprintf(out, " %s axes=", NAMES[op->reduce.function]);
        for (int i = 0, n = 0; i < rank; i++) {
            if (op->reduce.axes[i])
                fprintf(out, "%s%d", n++ ? "," : "", i);
        }
        break;
    }
    case OP_PAD:
        put_pads(out, op->pad.before, op->pad.after, rank);
        if (op->pad.value != 0)
            fprintf(out, " value=%g", (double)op->pad.value);
        break;
    case OP_SLICE:
        put_list(out, "begin", op->slice.begin, rank, 0);
        put_list(out, "step", op->slice.step, rank, 1);
        break;
    case OP_CONCAT:
        fprintf(out, " axis=%d", op->concat.axis);
        break;
    case OP_TRANSPOSE:
        for (int i = 0; i < rank; i++)
            fprintf(out, "%s%d", i ? "," : " ", op->transpose.permutation[i]);
        break;
    case OP_CUMULATE:
        fprintf(out, " %s axis=%d%s%s", op->cumulate.product ? "product" : "sum", op->cumulate.axis,
                op->cumulate.reverse ? " reverse" : "", op->cumulate.exclusive ? " exclusive" : "");
        break;
    case OP_TOP:
        fprintf(out, " %s%" PRId64 "%s", op->top.smallest ? "smallest " : "", op->top.count,
                op->top.indices ? " indices" : "");
        break;
    case OP_ATTENTION: {
        const struct op_attention *attention = &op->attention;
        fprintf(out, " scale=%g%s%s%s", (double)attention->scale,
                attention->causal ? " causal" : "", attention->mask ? " mask" : "",
                attention->bias ? " bias" : "");
        if (attention->window > 0)
            fprintf(out, " window=%" PRId64, attention->window);
        if (attention->soft_cap > 0)
            fprintf(out, " soft_cap=%g", (double)attention->soft_cap);
        break;
    }
    case OP_RESIZE:
        fprintf(out, " %s", op->resize.function == RESIZE_NEAREST ? "nearest" : "bilinear");
        break;
    case OP_SELECT:
        put_constant(out, "true ", op->select.on_true);
        put_constant(out, "false ", op->select.on_false);
        break;
    case OP_GATHER:
        fprintf(out, " axis=%d", op->gather.axis);
        if (op->gather.batch_axes > 0)
            fprintf(out, " batch=%d", op->gather.batch_axes);
        put_constant(out, "data", op->gather.data);
        put_constant(out, "indices", op->gather.indices);
        break;
    case OP_RECURRENT: {
        static const char *const NAMES[] = {"simple", "lstm", "gru"};
        const struct op_recurrent *cell = &op->recurrent;
        fprintf(out, " %s units=%" PRId64, NAMES[cell->cell], cell->units);
        put_unary(out, &cell->activation);
        if (cell->cell != CELL_SIMPLE)
            put_unary(out, &cell->gate);
        fprintf(out, "%s%s%s%s%s%s%s", cell->bias ? " bias" : "",
                cell->reset_after ? " reset_after" : "", cell->backwards ? " backwards" : "",
                cell->sequences ? " sequences" : "", cell->states ? " states" : "",
                cell->has_mask ? " mask" : "", cell->has_state ? " state" : "");
        break;
    }
    default:
        break;
    }
}

static void put_op(FILE *out, const struct graph *graph, const struct op *op)
{
    const struct model_layer *layers = graph->model->layers;
    char name[200];
    for (size_t i = 0; i < op->output_count; i++) {
        fprintf(out, "%s", i ? ", " : "");
        put_value(out, graph, op->outputs[i]);
    }
    fprintf(out, " = %s(", op_kind_name(op->kind));
    for (size_t i = 0; i < op->input_count; i++)
        fprintf(out, "%s%%%d", i ? ", " : "", op->inputs[i]);
    fprintf(out, ")");
    put_parameters(out, graph, op);
    for (size_t i = 0; i < op->post_count; i++) {
        fprintf(out, " |");
        if (op->posts[i].kind == POST_UNARY)
            put_unary(out, &op->posts[i].unary);
        else
            fprintf(out, " %s %%%d", binary_function_name(op->posts[i].binary), op->posts[i].value);
    }
    fprintf(out, "  # %s", text_clean(name, sizeof name, layers[op->layer].path));
    for (size_t i = 0; i < op->fused_count; i++)
        fprintf(out, "+%s", text_clean(name, sizeof name, layers[op->fused[i]].path));
    fprintf(out, "\n");
}

char *graph_to_text(const struct graph *graph)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return xstrdup("");
    for (size_t i = 0; i < graph->input_count; i++) {
        fprintf(out, "input ");
        put_value(out, graph, graph->inputs[i]);
        fprintf(out, "\n");
    }
    for (size_t i = 0; i < graph->op_count; i++)
        put_op(out, graph, &graph->ops[i]);
    for (size_t i = 0; i < graph->output_count; i++) {
        fprintf(out, "output ");
        put_value(out, graph, graph->outputs[i]);
        fprintf(out, "\n");
    }
    fclose(out);
    return text;
}
