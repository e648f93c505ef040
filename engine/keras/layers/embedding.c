/* Embeddings, and the layers that say which time steps are real. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/quantised.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>

/* The table of the layer, (input_dim, output_dim). */
static const struct constant *table_of(struct call *call)
{
    int64_t dims[2] = {config_int(call, "input_dim", 1, 1), config_int(call, "output_dim", 1, 1)};
    struct shape shape = shape_of(2, dims);
    if (quantised_mode(call) == QUANTISED_INT4)
        return quantised_rows(call, &shape);
    if (quantised_mode(call) != QUANTISED_INT8)
        return call_weight(call, "embeddings", &shape, NULL);
    /* 8-bit rows, each with a scale: the quotient is what Keras looks up */
    struct shape rows = shape_of(1, dims);
    float *data;
    const struct model_weight *table = call_raw_weight(call, "embeddings", &shape);
    const struct model_weight *scale = call_raw_weight(call, "embeddings_scale", &rows);
    const struct constant *made = scale ? call_constant(call, "embeddings", &shape, &data) : NULL;
    for (int64_t i = 0; made && data && i < dims[0] * dims[1]; i++)
        data[i] = (float)weight_element(table, (size_t)i) /
                  (float)weight_element(scale, (size_t)(i / dims[1]));
    return made;
}

/* Row x[i] of the table for every element of x. */
static bool look_up(struct call *call, const struct constant *table)
{
    int x = call_input(call, 0);
    if (call->low->failed)
        return false;
    if (call_shape(call, x)->rank + 1 > TENSOR_RANK_MAX)
        return call_refuse(call, "its result has too many axes");
    const struct op_gather gather = {.data = table};
    if (!call_return(call, emit_gather(call->low, -1, x, &gather)))
        return false;
    if (config_bool(call, "mask_zero", false))
        call_set_mask(call, 0, mask_not_equal(call, x, 0, false));
    return true;
}

bool lower_embedding(struct call *call)
{
    return look_up(call, table_of(call));
}

/* softcap * tanh(x / softcap) over x times the table, turned round. */
static bool project_back(struct call *call, const struct constant *table,
                         const struct constant *back)
{
    struct lowering *low = call->low;
    int x = call_input(call, 0);
    if (low->failed)
        return false;
    if (!back) { /* (output_dim, input_dim) */
        float *data;
        int64_t rows = table->shape.dims[0], width = table->shape.dims[1];
        struct shape turned = {.rank = 2, .dims = {width, rows}};
        back = call_constant(call, "transposed", &turned, &data);
        for (int64_t i = 0; back && data && i < rows; i++) {
            for (int64_t j = 0; j < width; j++)
                data[j * rows + i] = table->data[i * width + j];
        }
    }
    int y = emit_matmul(low, x, back, NULL);
    double cap = config_number(call, "logit_soft_cap", 0);
    if (cap != 0) {
        y = emit_unary(low, emit_linear(low, y, 1 / cap, 0), UNARY_TANH, 0, 0);
        y = emit_linear(low, y, cap, 0);
    }
    return call_return(call, y);
}

bool lower_reversible_embedding(struct call *call)
{
    const struct constant *table = table_of(call), *back = NULL;
    if (!config_bool(call, "tie_weights", true) && table) {
        int64_t dims[2] = {table->shape.dims[1], table->shape.dims[0]};
        struct shape shape = shape_of(2, dims);
        back = call_weight(call, "reverse_embeddings", &shape, NULL);
    }
    if (call->low->failed)
        return false;
    return call_flag(call, "reverse") ? project_back(call, table, back) : look_up(call, table);
}

/* A time step is real if any of its features differs from mask_value; the others become 0. */
bool lower_masking(struct call *call)
{
    struct lowering *low = call->low;
    int x = call_input(call, 0);
    int rank = call_shape(call, x)->rank;
    if (x < 0 || rank < 2)
        return call_misfit(call, "its input has no features");
    int mask = mask_not_equal(call, x, config_number(call, "mask_value", 0), true);
    struct shape wide = *call_shape(call, x);
    wide.dims[rank - 1] = 1;
    int real = emit_reshape(low, mask_value(low, mask), &wide);
    if (!call_return(call, emit_select(low, real, x, NULL, -1, lowering_number(low, 0, rank))))
        return false;
    call_set_mask(call, 0, mask);
    return true;
}
