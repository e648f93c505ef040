/* EinsumDense: an equation over the input and a kernel. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/einsum.h"
#include "engine/keras/layers/quantised.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>
#include <string.h>

static int axis_of(const struct labels *labels, int label)
{
    for (int i = 0; i < labels->rank; i++) {
        if (labels->list[i] == label)
            return i;
    }
    return -1;
}

/* What the kernel's axes are: shared with the input and summed, or new; and whether there is one
 * that input, kernel and result have in common. */
struct roles {
    struct labels left, summed, right; /* left: of the input alone, in the result's order */
    bool shared, in_order;             /* in_order: the kernel is (summed..., right...) */
};

static struct roles sort_roles(const struct einsum *e)
{
    const struct labels *x = &e->operands[0], *kernel = &e->operands[1];
    struct roles roles = {.in_order = true};
    for (int i = 0; i < kernel->rank; i++) {
        int label = kernel->list[i];
        bool summed = axis_of(x, label) >= 0;
        struct labels *list = summed ? &roles.summed : &roles.right;
        list->list[list->rank++] = label;
        roles.shared |= summed == (axis_of(&e->result, label) >= 0);
        roles.in_order &= !summed || roles.right.rank == 0;
    }
    for (int i = 0; i < e->result.rank; i++) {
        if (axis_of(kernel, e->result.list[i]) < 0)
            roles.left.list[roles.left.rank++] = e->result.list[i];
    }
    return roles;
}

/* The kernel's shape: sizes of the input's axes, of the configured output, or as the file has it. */
static struct shape kernel_shape(struct call *call, const struct einsum *e,
                                 const struct shape *input)
{
    const struct labels *kernel = &e->operands[1];
    const json_t *given = json_object_get(call->config, "output_shape");
    struct shape shape = call->layer->weights[call->next_weight].shape;
    if (quantised_packed(call)) /* packed, it has another */
        shape = (struct shape){.rank = kernel->rank};
    for (int i = 0; i < kernel->rank; i++) {
        int axis = axis_of(&e->operands[0], kernel->list[i]);
        int out = axis_of(&e->result, kernel->list[i]);
        const json_t *size = json_is_array(given) ? NULL : given;
        if (out > 0 && json_is_array(given)) /* the batch is left out, and what "..." hides */
            size = json_array_get(given,
                                  json_array_size(given) + (size_t)out - (size_t)e->result.rank);
        if (axis >= 0)
            shape.dims[i] = input->dims[axis];
        else if (json_is_integer(size) && json_integer_value(size) > 0)
            shape.dims[i] = json_integer_value(size);
    }
    return shape;
}

/* The kernel as (summed, right), its axes moved if they lie in another order. */
static const struct constant *kernel_matrix(struct call *call, const struct einsum *e,
                                            const struct roles *roles, const struct shape *shape)
{
    const struct labels *kernel = &e->operands[1];
    struct shape matrix = {.rank = 2, .dims = {1, 1}};
    for (int i = 0; i < kernel->rank; i++)
        matrix.dims[axis_of(&roles->right, kernel->list[i]) >= 0] *= shape->dims[i];
    if (roles->in_order)
        return call_weight(call, "kernel", shape, &matrix);
    float *data;
    const struct model_weight *weight = call_raw_weight(call, "kernel", shape);
    const struct constant *constant =
        weight ? call_constant(call, "kernel matrix", &matrix, &data) : NULL;
    for (int64_t i = 0; constant && data && i < shape_elements(shape); i++) {
        int64_t rest = i, at[2] = {0, 0}, stride[2] = {1, 1};
        int64_t index[TENSOR_RANK_MAX];
        for (int d = shape->rank - 1; d >= 0; d--) {
            index[d] = rest % shape->dims[d];
            rest /= shape->dims[d];
        }
        for (int d = shape->rank - 1; d >= 0; d--) {
            int right = axis_of(&roles->right, kernel->list[d]) >= 0;
            at[right] += index[d] * stride[right];
            stride[right] *= shape->dims[d];
        }
        data[at[0] * matrix.dims[1] + at[1]] = (float)weight_element(weight, (size_t)i);
    }
    return constant;
}

/* Which axes of the result the bias covers, and where it begins; the shape it has in the file. */
static struct shape bias_shape(struct call *call, const struct einsum *e, const struct shape *out,
                               bool *covered, int *first)
{
    const char *axes = config_string(call, "bias_axes", "");
    struct shape shape = {.rank = 0};
    *first = e->result.rank;
    for (int i = e->result.rank - 1; i >= 0; i--) {
        int label = e->result.list[i];
        char letter = (char)(label < 26 ? 'a' + label : 'A' + label - 26);
        covered[i] = label < 52 && strchr(axes, letter) != NULL;
        if (covered[i])
            *first = i;
    }
    for (int i = *first; i < e->result.rank; i++)
        shape.dims[shape.rank++] = covered[i] ? out->dims[i] : 1;
    return shape;
}

/* The product as one matrix product whose matrix is the kernel; -1 on failure. The bias goes into
 * it if it covers just the kernel's own axes; *biased says so (true before: leave it out). */
static int matrix_product(struct call *call, const struct einsum *e, const struct roles *roles,
                          int x, const struct shape *kernel, bool *biased)
{
    struct shape input = *call_shape(call, x), out = {.rank = 0}, flat = {.rank = 0};
    struct labels order = roles->left, made = roles->left;
    int64_t depth = 1, width = 1;
    for (int i = 0; i < roles->left.rank; i++) {
        int axis = axis_of(&e->operands[0], roles->left.list[i]);
        if (axis < 0)
            return call_misfit(call, "the result of its equation has a label of its own"), -1;
        flat.dims[flat.rank++] = out.dims[out.rank++] = input.dims[axis];
    }
    for (int i = 0; i < roles->summed.rank; i++) {
        order.list[order.rank++] = roles->summed.list[i];
        depth *= input.dims[axis_of(&e->operands[0], roles->summed.list[i])];
    }
    for (int i = 0; i < roles->right.rank; i++) {
        int64_t size = kernel->dims[axis_of(&e->operands[1], roles->right.list[i])];
        made.list[made.rank++] = roles->right.list[i];
        out.dims[out.rank++] = size;
        width *= size;
    }
    const struct constant *matrix = kernel_matrix(call, e, roles, kernel), *bias = NULL;
    struct shape result = {.rank = e->result.rank}, row = shape_of(1, &width);
    bool covered[TENSOR_RANK_MAX] = {false}, whole = true;
    for (int i = 0; i < e->result.rank; i++)
        result.dims[i] = out.dims[axis_of(&made, e->result.list[i])];
    if (!*biased) {
        int first;
        struct shape stored = bias_shape(call, e, &result, covered, &first);
        for (int i = 0; i < e->result.rank; i++)
            whole &= covered[i] == (i >= roles->left.rank) && e->result.list[i] == made.list[i];
        if (whole)
            bias = call_weight(call, "bias", &stored, &row);
        *biased = whole;
    }
    flat.dims[flat.rank++] = depth;
    struct labelled source = {.value = x, .labels = e->operands[0]};
    int y = emit_reshape(call->low, einsum_arrange(call, source, &order), &flat);
    y = emit_reshape(call->low, emit_matmul(call->low, y, matrix, bias), &out);
    return einsum_arrange(call, (struct labelled){.value = y, .labels = made}, &e->result);
}

static int add_bias(struct call *call, const struct einsum *e, int y)
{
    bool covered[TENSOR_RANK_MAX] = {false};
    int first;
    if (y < 0)
        return -1;
    struct shape stored = bias_shape(call, e, call_shape(call, y), covered, &first);
    struct shape wide = {.rank = e->result.rank};
    for (int i = 0; i < wide.rank; i++)
        wide.dims[i] = i < first ? 1 : stored.dims[i - first];
    const struct constant *bias = call_weight(call, "bias", &stored, &wide);
    return emit_binary_constant(call->low, BINARY_ADD, y, bias, false);
}

/* The input's scale, (input with 1 for what is summed), along the result's axes. */
static int align_scale(struct call *call, const struct einsum *e, const struct roles *roles,
                       int scale)
{
    const struct labels *x = &e->operands[0];
    struct shape shape = *call_shape(call, scale), kept = {.rank = 0},
                 wide = {.rank = e->result.rank};
    struct labelled rest = {.labels = {.rank = 0}};
    for (int i = 0; i < x->rank; i++) {
        if (axis_of(&roles->left, x->list[i]) < 0)
            continue;
        rest.labels.list[rest.labels.rank++] = x->list[i];
        kept.dims[kept.rank++] = shape.dims[i];
    }
    for (int i = 0; i < wide.rank; i++) {
        int axis = axis_of(x, e->result.list[i]);
        wide.dims[i] = axis >= 0 ? shape.dims[axis] : 1;
    }
    rest.value = emit_reshape(call->low, scale, &kept);
    return emit_reshape(call->low, einsum_arrange(call, rest, &roles->left), &wide);
}

/* The same with 8-bit weights: kernel, bias, and a scale that fits the result's axes. */
static bool einsum_int8(struct call *call, const struct einsum *e, const struct roles *roles, int x,
                        const struct shape *kernel)
{
    bool axes[TENSOR_RANK_MAX] = {false}, apart = true;
    const struct labels *labels = &e->operands[0];
    const struct model_layer *layer = call->layer;
    const struct shape *stored = &layer->weights[layer->weight_count - 1].shape;
    bool biased = json_is_string(json_object_get(call->config, "bias_axes"));
    int scale, rank = e->result.rank;
    for (int i = 0; i < labels->rank; i++)
        axes[i] = axis_of(&roles->left, labels->list[i]) < 0;
    for (int i = 0; i < labels->rank; i++) /* summed without a part of the kernel in it */
        apart &= !axes[i] || axis_of(&roles->summed, labels->list[i]) >= 0;
    if (roles->shared || roles->left.rank == 0 || roles->summed.rank == 0 || !apart ||
        stored->rank != rank)
        return call_refuse(call, "an equation like '%.60s' with 8-bit weights is not supported",
                           config_string(call, "equation", ""));
    int y = quantised_input(call, x, axes, &scale);
    if (y < 0)
        return false;
    bool later = true;
    y = matrix_product(call, e, roles, y, kernel, &later);
    size_t bias_at = call->next_weight;
    if (y < 0)
        return false;
    if (scale >= 0)
        scale = align_scale(call, e, roles, scale);
    for (int i = 0; i < rank; i++) {
        if (stored->dims[i] != 1 && stored->dims[i] != call_shape(call, y)->dims[i])
            return call_misfit(call, "the scale of its kernel does not fit its result");
    }
    call->next_weight = layer->weight_count - 1;
    y = quantised_result(call, y, scale, stored, NULL);
    call->next_weight = bias_at;
    if (biased)
        y = add_bias(call, e, y);
    call_skip_weights(call);
    return call_return(call, lower_own_activation(call, y));
}

/* The same with a kernel of 4-bit integers, which becomes a value of the graph. */
static bool einsum_narrow(struct call *call, const struct einsum *e, const struct roles *roles,
                          int x, const struct shape *kernel)
{
    bool axes[TENSOR_RANK_MAX] = {false}, keep[EINSUM_LABELS] = {false};
    bool covered[TENSOR_RANK_MAX] = {false};
    const struct labels *labels = &e->operands[0];
    int scale, first;
    for (int i = 0; i < labels->rank; i++)
        axes[i] = axis_of(&roles->left, labels->list[i]) < 0;
    for (int i = 0; i < e->result.rank; i++)
        keep[e->result.list[i]] = true;
    x = quantised_operand(call, x, axes, &scale);
    struct labelled a = {.value = x, .labels = e->operands[0]}, b = {.labels = e->operands[1]};
    b.value = emit_constant(call->low, quantised_kernel(call, kernel));
    int y = einsum_arrange(call, einsum_product(call, a, b, keep), &e->result);
    if (scale >= 0)
        y = emit_binary(call->low, BINARY_DIVIDE, y, align_scale(call, e, roles, scale));
    if (y < 0)
        return false;
    if (json_is_string(json_object_get(call->config, "bias_axes"))) {
        struct shape stored = bias_shape(call, e, call_shape(call, y), covered, &first);
        struct shape wide = {.rank = e->result.rank};
        for (int i = 0; i < wide.rank; i++)
            wide.dims[i] = i < first ? 1 : stored.dims[i - first];
        const struct constant *bias = quantised_bias(call, &stored, &wide);
        y = bias ? emit_binary_constant(call->low, BINARY_ADD, y, bias, false) : -1;
    }
    call_skip_weights(call);
    return call_return(call, lower_own_activation(call, y));
}

/* How many axes an equation gives the kernel. */
static int kernel_rank(const char *equation)
{
    const char *comma = strchr(equation, ',');
    int rank = 0;
    for (comma = comma ? comma + 1 : ""; *comma != '\0' && *comma != '-'; comma++)
        rank += *comma != ' ';
    return rank;
}

bool lower_einsum_dense(struct call *call)
{
    int x = call_input(call, 0);
    const char *equation = config_string(call, "equation", "");
    struct einsum e;
    if (x < 0 || call->layer->weight_count == 0)
        return call_misfit(call, "it has no kernel");
    const struct shape *have = &call->layer->weights[0].shape;
    bool packed = quantised_packed(call);
    const int ranks[2] = {call_shape(call, x)->rank, packed ? kernel_rank(equation) : have->rank};
    if (!einsum_parse(call, equation, ranks, 2, &e))
        return false;
    struct roles roles = sort_roles(&e);
    struct shape kernel = kernel_shape(call, &e, call_shape(call, x));
    if (quantised_mode(call) == QUANTISED_INT8)
        return einsum_int8(call, &e, &roles, x, &kernel);
    if (quantised_mode(call) != QUANTISED_NONE)
        return einsum_narrow(call, &e, &roles, x, &kernel);
    bool biased = !json_is_string(json_object_get(call->config, "bias_axes"));
    int y;
    if (roles.shared || roles.left.rank == 0 || roles.summed.rank == 0) {
        bool keep[EINSUM_LABELS] = {false};
        for (int i = 0; i < e.result.rank; i++)
            keep[e.result.list[i]] = true;
        struct labelled a = {.value = x, .labels = e.operands[0]}, b = {.labels = e.operands[1]};
        b.value = emit_constant(call->low, call_weight(call, "kernel", &kernel, NULL));
        y = einsum_arrange(call, einsum_product(call, a, b, keep), &e.result);
    } else {
        y = matrix_product(call, &e, &roles, x, &kernel, &biased);
    }
    if (!biased)
        y = add_bias(call, &e, y);
    return call_return(call, lower_own_activation(call, y));
}
