#include "tests/support/reference.h"
#include "engine/error.h"
#include "tests/support/reference_ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double channel(const struct constant *constant, int64_t c, double missing)
{
    if (!constant)
        return missing;
    return (double)constant->data[shape_elements(&constant->shape) == 1 ? 0 : c];
}

static void affine(const struct ref *r)
{
    int64_t C = r->y->dims[r->y->rank - 1];
    for (int64_t i = 0; i < shape_elements(r->y); i++)
        r->out[i] = r->in[i] * channel(r->op->affine.scale, i % C, 1) +
                    channel(r->op->affine.shift, i % C, 0);
}

static void unary(const struct ref *r)
{
    for (int64_t i = 0; i < shape_elements(r->y); i++)
        r->out[i] = reference_unary(&r->op->unary, r->in[i]);
}

static void binary_op(const struct ref *r)
{
    const struct op_binary *p = &r->op->binary;
    const struct shape *b =
        p->constant ? &p->constant->shape : &r->graph->values[r->op->inputs[1]].shape;
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        double u = r->in[reference_broadcast_at(index, r->x)];
        double v = p->constant ? (double)p->constant->data[reference_broadcast_at(index, b)]
                               : r->values[r->op->inputs[1]][reference_broadcast_at(index, b)];
        r->out[i] =
            p->swapped ? reference_binary(p->function, v, u) : reference_binary(p->function, u, v);
    }
}

static void pad(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        bool inside = true;
        reference_split(i, r->y, index);
        for (int d = 0; d < r->x->rank; d++) {
            index[d] -= r->op->pad.before[d];
            inside &= index[d] >= 0 && index[d] < r->x->dims[d];
        }
        r->out[i] = inside ? r->in[reference_join(index, r->x)] : (double)r->op->pad.value;
    }
}

static void slice(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        for (int d = 0; d < r->x->rank; d++)
            index[d] = r->op->slice.begin[d] + index[d] * r->op->slice.step[d];
        r->out[i] = r->in[reference_join(index, r->x)];
    }
}

static void concat(const struct ref *r)
{
    int axis = r->op->concat.axis;
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        size_t input = 0;
        reference_split(i, r->y, index);
        const struct shape *x = r->x;
        while (index[axis] >= x->dims[axis]) {
            index[axis] -= x->dims[axis];
            x = &r->graph->values[r->op->inputs[++input]].shape;
        }
        r->out[i] = r->values[r->op->inputs[input]][reference_join(index, x)];
    }
}

static void transpose(const struct ref *r)
{
    int64_t index[RANK], from[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        for (int d = 0; d < r->y->rank; d++)
            from[r->op->transpose.permutation[d]] = index[d];
        r->out[i] = r->in[reference_join(from, r->x)];
    }
}

/* half-pixel centres: output cell o looks at (o + 1/2) in / out - 1/2 */
static void resize(const struct ref *r)
{
    int64_t index[RANK], at[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        double sum = 0;
        for (int corner = 0; corner < 4; corner++) {
            double weight = 1;
            memcpy(at, index, sizeof at);
            for (int axis = 1; axis <= 2; axis++) {
                int64_t n = r->x->dims[axis];
                double centre = ((double)index[axis] + 0.5) * (double)n / (double)r->y->dims[axis];
                if (r->op->resize.function == RESIZE_NEAREST) {
                    at[axis] = (int64_t)floor(centre);
                    weight *= 0.5;
                    continue;
                }
                double place = fmin(fmax(centre - 0.5, 0), (double)(n - 1));
                double share = place - floor(place);
                bool second = corner >> (axis - 1) & 1;
                at[axis] = (int64_t)floor(place) + (second && share > 0);
                weight *= second ? share : 1 - share;
            }
            sum += weight * r->in[reference_join(at, r->x)];
        }
        r->out[i] = sum;
    }
}

/* the element of a constant, or of the next input that is none, for an index of the result */
static double operand_at(const struct ref *r, const struct constant *constant, size_t *input,
                         const int64_t *index)
{
    if (constant)
        return (double)constant->data[reference_broadcast_at(index, &constant->shape)];
    int value = r->op->inputs[(*input)++];
    return r->values[value][reference_broadcast_at(index, &r->graph->values[value].shape)];
}

static void select_op(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        size_t input = 0;
        reference_split(i, r->y, index);
        bool condition = operand_at(r, NULL, &input, index) != 0;
        double a = operand_at(r, r->op->select.on_true, &input, index);
        double b = operand_at(r, r->op->select.on_false, &input, index);
        r->out[i] = condition ? a : b;
    }
}

static void gather(const struct ref *r)
{
    const struct op_gather *p = &r->op->gather;
    int index_value = p->indices ? -1 : r->op->inputs[p->data ? 0 : 1];
    const struct shape *data = p->data ? &p->data->shape : r->x;
    const struct shape *ids =
        p->indices ? &p->indices->shape : &r->graph->values[index_value].shape;
    int64_t index[RANK], from[RANK], at[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        for (int d = 0; d < p->batch_axes; d++)
            at[d] = index[d];
        for (int d = p->batch_axes; d < ids->rank; d++)
            at[d] = index[p->axis + d - p->batch_axes];
        int64_t id = reference_join(at, ids);
        id = p->indices ? (int64_t)p->indices->data[id] : (int64_t)r->values[index_value][id];
        for (int d = 0; d < data->rank; d++)
            from[d] = d < p->axis    ? index[d]
                      : d == p->axis ? (id < 0 ? id + data->dims[d] : id)
                                     : index[d + ids->rank - p->batch_axes - 1];
        r->out[i] = p->data ? (double)p->data->data[reference_join(from, data)]
                            : r->in[reference_join(from, data)];
    }
}

static void copy(const struct ref *r)
{
    memcpy(r->out, r->in, (size_t)shape_elements(r->y) * sizeof *r->out);
}

static void constant(const struct ref *r)
{
    for (int64_t i = 0; i < shape_elements(r->y); i++)
        r->out[i] = (double)r->op->constant.data->data[i];
}

static void (*const REFERENCES[OP_KIND_COUNT])(const struct ref *) = {
    [OP_CONV] = reference_conv,
    [OP_MATMUL] = reference_matmul,
    [OP_POOL] = reference_pool,
    [OP_AFFINE] = affine,
    [OP_UNARY] = unary,
    [OP_BINARY] = binary_op,
    [OP_SOFTMAX] = reference_softmax,
    [OP_NORMALISE] = reference_normalise,
    [OP_REDUCE] = reference_reduce,
    [OP_PAD] = pad,
    [OP_SLICE] = slice,
    [OP_CONCAT] = concat,
    [OP_TRANSPOSE] = transpose,
    [OP_RESHAPE] = copy,
    [OP_RESIZE] = resize,
    [OP_CONSTANT] = constant,
    [OP_SELECT] = select_op,
    [OP_GATHER] = gather,
    [OP_RECURRENT] = reference_recurrent,
    [OP_ATTENTION] = reference_attention,
    [OP_CUMULATE] = reference_cumulate,
    [OP_TOP] = reference_top,
};

double **reference_run(const struct graph *graph, const float *const *inputs)
{
    double **values = xcalloc(graph->value_count + 1, sizeof *values);
    for (size_t i = 0; i < graph->value_count; i++) {
        size_t count = (size_t)shape_elements(&graph->values[i].shape);
        values[i] = xcalloc(count + 1, sizeof **values);
    }
    for (size_t i = 0; i < graph->input_count; i++) {
        int value = graph->inputs[i];
        for (int64_t j = 0; j < shape_elements(&graph->values[value].shape); j++)
            values[value][j] = (double)inputs[i][j];
    }
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        struct ref r = {.graph = graph,
                        .op = op,
                        .values = values,
                        .y = &graph->values[op->outputs[0]].shape,
                        .out = values[op->outputs[0]]};
        if (op->input_count > 0) {
            r.x = &graph->values[op->inputs[0]].shape;
            r.in = values[op->inputs[0]];
        }
        REFERENCES[op->kind](&r);
        int64_t index[RANK];
        for (size_t j = 0; j < op->post_count; j++) {
            const struct post *post = &op->posts[j];
            for (int64_t k = 0; k < shape_elements(r.y); k++) {
                reference_split(k, r.y, index);
                r.out[k] = post->kind == POST_UNARY
                               ? reference_unary(&post->unary, r.out[k])
                               : reference_binary(post->binary, r.out[k],
                                                  values[post->value][reference_broadcast_at(
                                                      index, &graph->values[post->value].shape)]);
            }
        }
    }
    return values;
}

void reference_free(const struct graph *graph, double **values)
{
    for (size_t i = 0; i < graph->value_count; i++)
        free(values[i]);
    free(values);
}
