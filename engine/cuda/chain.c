/* Elementwise chains, the host's part: axes are merged and operands classified. */
#include "engine/cuda/kernels.h"
#include <string.h>

void chain_begin(struct chain *chain, const struct shape *shape)
{
    memset(chain, 0, sizeof *chain); /* DTYPE_F32 is 0 */
    chain->rank = shape->rank;
    chain->elements = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        chain->dims[i] = shape->dims[i];
        chain->x.strides[i] = chain->elements;
        chain->elements *= shape->dims[i];
    }
}

struct operand chain_operand(const struct chain *chain, const struct shape *shape)
{
    struct operand operand;
    int64_t stride = 1;

    memset(&operand, 0, sizeof operand);
    /* axes are matched from the last one, as NumPy does */
    for (int i = shape->rank - 1, axis = chain->rank - 1; i >= 0 && axis >= 0; i--, axis--) {
        operand.strides[axis] = shape->dims[i] == 1 ? 0 : stride;
        stride *= shape->dims[i];
    }
    return operand;
}

static void each_operand(struct chain *chain, void (*visit)(struct chain *, struct operand *, int),
                         int axis)
{
    visit(chain, &chain->x, axis);
    for (int i = 0; i < 2 && chain->select; i++) {
        visit(chain, &chain->chosen[i], axis);
    }
    for (int i = 0; i < chain->count; i++) {
        if (chain->stages[i].kind == STAGE_BINARY) {
            visit(chain, &chain->stages[i].operand, axis);
        }
    }
}

/* Can axis and axis+1 be one for this operand? */
static bool joins(const struct chain *chain, const struct operand *operand, int axis)
{
    return operand->strides[axis] == operand->strides[axis + 1] * chain->dims[axis + 1];
}

static void drop_axis(struct chain *chain, struct operand *operand, int axis)
{
    /* the axis's stride goes, those behind move up */
    for (int i = axis; i + 1 < chain->rank; i++) {
        operand->strides[i] = operand->strides[i + 1];
    }
}

static bool all_join(const struct chain *chain, int axis)
{
    if (chain->dims[axis] == 1 || joins(chain, &chain->x, axis)) {
        bool good = true;
        for (int i = 0; i < 2 && chain->select && chain->dims[axis] != 1; i++) {
            good = good && joins(chain, &chain->chosen[i], axis);
        }
        for (int i = 0; i < chain->count && chain->dims[axis] != 1; i++) {
            good = good && (chain->stages[i].kind != STAGE_BINARY ||
                            joins(chain, &chain->stages[i].operand, axis));
        }
        return good;
    }
    return false;
}

static void classify(struct chain *chain, struct operand *operand, int unused)
{
    int64_t dense = 1;
    bool linear = true, scalar = true, last = true;
    (void)unused;
    for (int i = chain->rank - 1; i >= 0; i--) {
        int64_t stride = operand->strides[i];
        bool one = chain->dims[i] == 1;
        linear = linear && (one || stride == dense);
        scalar = scalar && (one || stride == 0);
        last = last && (i == chain->rank - 1 ? stride == 1 : one || stride == 0);
        dense *= chain->dims[i];
    }
    operand->mode = scalar   ? OPERAND_SCALAR
                    : linear ? OPERAND_LINEAR
                    : last   ? OPERAND_LAST
                             : OPERAND_STRIDED;
    /* neighbours are one aligned load if they lie side by side, or one value */
    if (operand->mode != OPERAND_SCALAR && chain->rank > 0) {
        int64_t innermost = operand->strides[chain->rank - 1];
        if (innermost != 0 && innermost != 1) {
            chain->vector = 1;
        }
        for (int i = 0; i + 1 < chain->rank && innermost == 1; i++) {
            while (operand->strides[i] % chain->vector != 0) {
                chain->vector = chain->vector == 8 ? 4 : 1;
            }
        }
    }
}

/* Does anything of the chain store two bytes an element? Then 16 bytes are eight of them. */
static bool has_halves(const struct chain *chain)
{
    bool found =
        dtype_bytes((enum dtype)chain->dtype) == 2 || dtype_bytes((enum dtype)chain->x.dtype) == 2;
    for (int i = 0; i < 2 && chain->select; i++) {
        found |= dtype_bytes((enum dtype)chain->chosen[i].dtype) == 2;
    }
    for (int i = 0; i < chain->count; i++) {
        found |= chain->stages[i].kind == STAGE_BINARY &&
                 dtype_bytes((enum dtype)chain->stages[i].operand.dtype) == 2;
    }
    return found;
}

void chain_finish(struct chain *chain)
{
    for (int axis = 0; axis + 1 < chain->rank;) {
        if (!all_join(chain, axis)) {
            axis++;
            continue;
        }
        each_operand(chain, drop_axis, axis);
        chain->dims[axis] *= chain->dims[axis + 1];
        for (int i = axis + 1; i + 1 < chain->rank; i++) {
            chain->dims[i] = chain->dims[i + 1];
        }
        chain->rank--;
    }
    int64_t innermost = chain->rank > 0 ? chain->dims[chain->rank - 1] : 1;
    chain->vector = innermost % 8 == 0 && has_halves(chain) ? 8 : innermost % 4 == 0 ? 4 : 1;
    each_operand(chain, classify, 0);
}

struct chain chain_convert(int64_t elements, enum dtype from, enum dtype to)
{
    struct shape shape = {.rank = 1, .dims = {elements}};
    struct chain chain;
    chain_begin(&chain, &shape);
    chain.x.dtype = from;
    chain.dtype = to;
    chain_finish(&chain);
    return chain;
}
