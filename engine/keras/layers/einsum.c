/* Equations become transposes, reshapes and one matrix product a pair of operands. */
#include "engine/keras/layers/einsum.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ELLIPSIS 52 /* labels of the axes under "...", counted from the right */

/* ---- the equation ---- */

static int label_of(char letter)
{
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a';
    return letter >= 'A' && letter <= 'Z' ? 26 + letter - 'A' : -1;
}

/* One term up to a comma, an arrow or the end. `rank` is the operand's, or minus the number of axes
 * under "..." for the result. */
static bool read_term(struct call *call, const char **at, int rank, struct labels *out)
{
    const char *end = *at + strcspn(*at, ",-");
    int letters = 0, seen = 0;
    for (const char *c = *at; c < end; c++)
        letters += label_of(*c) >= 0;
    int hidden = rank < 0 ? -rank - 1 : rank - letters;
    *out = (struct labels){.rank = 0};
    for (const char *c = *at; c < end; c++) {
        int label = label_of(*c);
        bool dots = strncmp(c, "...", 3) == 0;
        if (*c == ' ')
            continue;
        if ((label < 0 && !dots) || hidden < 0 || seen > 1 ||
            out->rank + (dots ? hidden : 1) > TENSOR_RANK_MAX)
            return call_misfit(call, "its equation makes no sense for an operand of rank %d", rank);
        if (!dots) {
            out->list[out->rank++] = label;
            continue;
        }
        for (int i = 0; i < hidden; i++)
            out->list[out->rank++] = ELLIPSIS + hidden - 1 - i;
        seen++;
        c += 2;
    }
    if (rank >= 0 && out->rank != rank)
        return call_misfit(call, "its equation names %d axes of an operand of rank %d", out->rank,
                           rank);
    *at = end;
    return true;
}

/* What an equation without an arrow gives: "..." first, then what appears once. */
static void implicit_result(const struct einsum *e, int hidden, struct labels *out)
{
    int seen[EINSUM_LABELS] = {0};
    static const char order[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    *out = (struct labels){.rank = 0};
    for (size_t i = 0; i < e->count; i++) {
        for (int d = 0; d < e->operands[i].rank; d++)
            seen[e->operands[i].list[d]]++;
    }
    for (int i = hidden - 1; i >= 0 && out->rank < TENSOR_RANK_MAX; i--)
        out->list[out->rank++] = ELLIPSIS + i;
    for (const char *c = order; *c != '\0' && out->rank < TENSOR_RANK_MAX; c++) {
        int label = label_of(*c);
        if (label >= 0 && seen[label] == 1)
            out->list[out->rank++] = label;
    }
}

bool einsum_parse(struct call *call, const char *equation, const int *ranks, size_t count,
                  struct einsum *out)
{
    const char *at = equation;
    int hidden = 0;
    *out = (struct einsum){.count = count};
    if (count < 1 || count > EINSUM_OPERANDS)
        return call_refuse(call, "an equation over %zu operands is not supported", count);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && *at++ != ',')
            return call_misfit(call, "its equation has fewer operands than the call");
        if (!read_term(call, &at, ranks[i], &out->operands[i]))
            return false;
        for (int d = 0; d < out->operands[i].rank; d++) {
            int under = out->operands[i].list[d] - ELLIPSIS + 1;
            hidden = under > hidden ? under : hidden;
        }
    }
    if (*at == '\0') {
        implicit_result(out, hidden, &out->result);
        return true;
    }
    if (strncmp(at, "->", 2) != 0)
        return call_misfit(call, "its equation has more operands than the call");
    at += 2;
    if (!read_term(call, &at, -1 - hidden, &out->result) || *at != '\0')
        return call_misfit(call, "the result of its equation makes no sense");
    return true;
}

/* ---- operands ---- */

static int64_t dim_of(const struct call *call, const struct labelled *x, int axis)
{
    return call_shape(call, x->value)->dims[axis];
}

static int axis_of(const struct labels *labels, int label)
{
    for (int i = 0; i < labels->rank; i++) {
        if (labels->list[i] == label)
            return i;
    }
    return -1;
}

static void drop_axis(struct labels *labels, int axis)
{
    memmove(labels->list + axis, labels->list + axis + 1,
            (size_t)(labels->rank - axis - 1) * sizeof *labels->list);
    labels->rank--;
}

/* Take an axis of one cell away. */
static void squeeze(struct call *call, struct labelled *x, int axis)
{
    struct shape shape = *call_shape(call, x->value);
    memmove(shape.dims + axis, shape.dims + axis + 1,
            (size_t)(shape.rank - axis - 1) * sizeof *shape.dims);
    shape.rank--;
    x->value = emit_reshape(call->low, x->value, &shape);
    drop_axis(&x->labels, axis);
}

/* A label that stands twice means the diagonal: every (n + 1)th cell of the two axes joined. */
static void take_diagonal(struct call *call, struct labelled *x, int first, int second)
{
    struct shape shape = *call_shape(call, x->value);
    int64_t n = shape.dims[first];
    int permutation[TENSOR_RANK_MAX], rank = 0;
    if (shape.dims[second] != n) {
        call_misfit(call, "a label stands for axes of %lld and %lld cells", (long long)n,
                    (long long)shape.dims[second]);
        return;
    }
    for (int i = 0; i < shape.rank; i++) {
        if (i != first && i != second)
            permutation[rank++] = i;
    }
    permutation[rank] = first;
    permutation[rank + 1] = second;
    struct shape joined = {.rank = rank + 1};
    struct op_slice slice = {.begin = {0}};
    struct labels labels = {.rank = rank + 1};
    for (int i = 0; i < rank; i++) {
        joined.dims[i] = slice.size[i] = shape.dims[permutation[i]];
        slice.step[i] = 1;
        labels.list[i] = x->labels.list[permutation[i]];
    }
    labels.list[rank] = x->labels.list[first];
    joined.dims[rank] = n * n;
    slice.size[rank] = n;
    slice.step[rank] = n + 1;
    int y = emit_transpose(call->low, x->value, permutation);
    x->value = emit_slice(call->low, emit_reshape(call->low, y, &joined), &slice);
    x->labels = labels;
}

static void take_diagonals(struct call *call, struct labelled *x)
{
    for (int i = 0; i < x->labels.rank && !call->low->failed; i++) {
        for (int j = i + 1; j < x->labels.rank; j++) {
            if (x->labels.list[i] == x->labels.list[j]) {
                take_diagonal(call, x, i, j);
                i = -1;
                break;
            }
        }
    }
}

/* Sum the axes whose labels nobody wants. */
static void sum_out(struct call *call, struct labelled *x, const bool *keep)
{
    bool axes[TENSOR_RANK_MAX] = {false}, any = false;
    struct labels left = {.rank = 0};
    for (int i = 0; i < x->labels.rank; i++) {
        axes[i] = !keep[x->labels.list[i]];
        any |= axes[i];
        if (!axes[i])
            left.list[left.rank++] = x->labels.list[i];
    }
    if (any)
        x->value = emit_reduce(call->low, x->value, REDUCE_SUM, axes, false);
    x->labels = left;
}

/* The axes in this order. */
static int ordered(struct call *call, const struct labelled *x, const struct labels *order)
{
    int permutation[TENSOR_RANK_MAX];
    for (int i = 0; i < order->rank; i++)
        permutation[i] = axis_of(&x->labels, order->list[i]);
    return emit_transpose(call->low, x->value, permutation);
}

/* ---- the product ---- */

/* The labels of two operands, sorted by what happens to them. */
struct parts {
    struct labels batch, left, right, summed;
    int64_t sizes[EINSUM_LABELS];
};

static bool push(struct labels *list, int label)
{
    if (list->rank == TENSOR_RANK_MAX)
        return false;
    list->list[list->rank++] = label;
    return true;
}

static bool sort_labels(struct call *call, const struct labelled *a, const struct labelled *b,
                        const bool *keep, struct parts *p)
{
    bool fits = true;
    for (int i = 0; i < a->labels.rank; i++) {
        int label = a->labels.list[i], other = axis_of(&b->labels, label);
        p->sizes[label] = dim_of(call, a, i);
        if (other >= 0 && dim_of(call, b, other) != p->sizes[label])
            return call_misfit(call, "a label stands for axes of %lld and %lld cells",
                               (long long)p->sizes[label], (long long)dim_of(call, b, other));
        fits &= push(other < 0 ? &p->left : keep[label] ? &p->batch : &p->summed, label);
    }
    for (int i = 0; i < b->labels.rank; i++) {
        int label = b->labels.list[i];
        p->sizes[label] = dim_of(call, b, i);
        if (axis_of(&a->labels, label) < 0)
            fits &= push(&p->right, label);
    }
    if (!fits || p->batch.rank + p->left.rank + p->right.rank > TENSOR_RANK_MAX)
        return call_refuse(call, "its result has too many axes");
    return true;
}

static struct labels joined_labels(const struct labels *a, const struct labels *b,
                                   const struct labels *c)
{
    struct labels out = {.rank = 0};
    const struct labels *all[3] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        for (int d = 0; all[i] && d < all[i]->rank; d++)
            out.list[out.rank++] = all[i]->list[d];
    }
    return out;
}

static int64_t cells(const struct parts *p, const struct labels *labels)
{
    int64_t count = 1;
    for (int i = 0; i < labels->rank; i++)
        count *= p->sizes[labels->list[i]];
    return count;
}

/* (batch, rows, columns) of an operand whose axes lie in that order */
static int as_matrices(struct call *call, const struct parts *p, int value,
                       const struct labels *rows, const struct labels *columns)
{
    struct shape shape = {.rank = 3,
                          .dims = {cells(p, &p->batch), cells(p, rows), cells(p, columns)}};
    return emit_reshape(call->low, value, &shape);
}

/* Nothing is summed: both operands spread out over the result's axes. */
static int spread(struct call *call, const struct parts *p, const struct labelled *x,
                  const struct labels *result)
{
    struct labels own = {.rank = 0};
    struct shape shape = {.rank = result->rank};
    for (int i = 0; i < result->rank; i++) {
        bool has = axis_of(&x->labels, result->list[i]) >= 0;
        shape.dims[i] = has ? p->sizes[result->list[i]] : 1;
        if (has)
            push(&own, result->list[i]);
    }
    return emit_reshape(call->low, ordered(call, x, &own), &shape);
}

/* Axes of one cell against longer ones under "..." (NumPy broadcasts only there). */
static void squeeze_ones(struct call *call, struct labelled *x, const struct labelled *other)
{
    for (int i = x->labels.rank - 1; i >= 0 && !call->low->failed; i--) {
        int there = axis_of(&other->labels, x->labels.list[i]);
        if (x->labels.list[i] >= ELLIPSIS && there >= 0 && dim_of(call, x, i) == 1 &&
            dim_of(call, other, there) > 1)
            squeeze(call, x, i);
    }
}

struct labelled einsum_product(struct call *call, struct labelled a, struct labelled b,
                               const bool *keep)
{
    struct labelled none = {.value = -1};
    bool in_a[EINSUM_LABELS], in_b[EINSUM_LABELS];
    take_diagonals(call, &a);
    take_diagonals(call, &b);
    if (call->low->failed || a.value < 0 || b.value < 0)
        return none;
    squeeze_ones(call, &a, &b);
    squeeze_ones(call, &b, &a);
    for (int i = 0; i < EINSUM_LABELS; i++) {
        in_b[i] = keep[i] || axis_of(&a.labels, i) >= 0;
        in_a[i] = keep[i] || axis_of(&b.labels, i) >= 0;
    }
    sum_out(call, &a, in_a);
    sum_out(call, &b, in_b);
    struct parts p = {.sizes = {0}};
    if (call->low->failed || !sort_labels(call, &a, &b, keep, &p))
        return none;
    struct labelled out = {.labels = joined_labels(&p.batch, &p.left, &p.right)};
    if (p.summed.rank == 0) {
        out.value = emit_binary(call->low, BINARY_MULTIPLY, spread(call, &p, &a, &out.labels),
                                spread(call, &p, &b, &out.labels));
        return out;
    }
    struct labels rows = joined_labels(&p.batch, &p.left, &p.summed);
    struct labels columns = joined_labels(&p.batch, &p.summed, &p.right);
    int x = as_matrices(call, &p, ordered(call, &a, &rows), &p.left, &p.summed);
    int y = as_matrices(call, &p, ordered(call, &b, &columns), &p.summed, &p.right);
    struct shape shape = {.rank = out.labels.rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = p.sizes[out.labels.list[i]];
    out.value = emit_reshape(call->low, emit_matmul_values(call->low, x, y), &shape);
    return out;
}

int einsum_arrange(struct call *call, struct labelled x, const struct labels *result)
{
    bool keep[EINSUM_LABELS] = {false};
    for (int i = 0; i < result->rank; i++)
        keep[result->list[i]] = true;
    take_diagonals(call, &x);
    if (call->low->failed || x.value < 0)
        return -1;
    sum_out(call, &x, keep);
    for (int i = 0; i < result->rank; i++) {
        if (x.labels.rank != result->rank || axis_of(&x.labels, result->list[i]) < 0) {
            call_misfit(call, "the result of its equation has a label that no operand has");
            return -1;
        }
    }
    return ordered(call, &x, result);
}

int lower_einsum(struct call *call, const char *equation, const int *values, size_t count)
{
    struct einsum e;
    int ranks[EINSUM_OPERANDS];
    for (size_t i = 0; i < count && i < EINSUM_OPERANDS; i++)
        ranks[i] = call_shape(call, values[i])->rank;
    if (call->low->failed || !einsum_parse(call, equation, ranks, count, &e))
        return -1;
    struct labelled sum = {.value = values[0], .labels = e.operands[0]};
    for (size_t i = 1; i < count; i++) {
        bool keep[EINSUM_LABELS] = {false};
        for (int d = 0; d < e.result.rank; d++)
            keep[e.result.list[d]] = true;
        for (size_t j = i + 1; j < count; j++) {
            for (int d = 0; d < e.operands[j].rank; d++)
                keep[e.operands[j].list[d]] = true;
        }
        struct labelled next = {.value = values[i], .labels = e.operands[i]};
        sum = einsum_product(call, sum, next, keep);
    }
    return einsum_arrange(call, sum, &e.result);
}

int lower_matmul(struct call *call, int a, int b)
{
    if (call->low->failed || a < 0 || b < 0)
        return -1;
    const struct shape *x = call_shape(call, a), *y = call_shape(call, b);
    bool plain = x->rank == y->rank && x->rank > 2;
    for (int i = 0; plain && i < x->rank - 2; i++)
        plain = x->dims[i] == y->dims[i];
    if (plain)
        return emit_matmul_values(call->low, a, b);
    const int values[2] = {a, b};
    const char *equation = x->rank == 1 && y->rank == 1 ? "j,j->"
                           : x->rank == 1               ? "j,...jk->...k"
                           : y->rank == 1               ? "...ij,j->...i"
                                                        : "...ij,...jk->...ik";
    return lower_einsum(call, equation, values, 2);
}
