/* What our convolutions do to their sums, and which of them may run here. */
#include "engine/cpu/dnnl_compat.h"
#include "engine/cpu/own.h"
#include <math.h>

bool own_tail_of(const struct op *op, struct own_tail *tail, int *value)
{
    *tail = (struct own_tail){.function = UNARY_IDENTITY, .most = INFINITY};
    *value = -1;
    size_t at = 0;
    if (at < op->post_count && op->posts[at].kind == POST_BINARY) {
        if (op->posts[at].binary != BINARY_ADD)
            return false;
        *value = op->posts[at++].value;
    }
    if (at == op->post_count)
        return true;
    const struct op_unary *unary = &op->posts[at].unary;
    if (op->posts[at].kind != POST_UNARY || at + 1 != op->post_count)
        return false;
    tail->function = unary->function;
    if (unary->function == UNARY_RELU) {
        tail->most = unary->beta > 0 ? unary->beta : INFINITY;
        return unary->alpha == 0;
    }
    return unary->function == UNARY_SILU || unary->function == UNARY_SIGMOID ||
           unary->function == UNARY_HARD_SILU || unary->function == UNARY_GELU_ERF ||
           unary->function == UNARY_GELU_TANH;
}

bool own_has_avx512(void)
{
#ifdef OWN_AVX512
    return dnn_has_avx512();
#else
    return false;
#endif
}

bool own_has_avx512_bf16(void)
{
#ifdef OWN_AVX512
    return dnn_has_bf16();
#else
    return false;
#endif
}

bool own_has_amx_bf16(void)
{
#ifdef OWN_AVX512
    return dnn_has_amx();
#else
    return false;
#endif
}
