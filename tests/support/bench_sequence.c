/* Recurrent layers and attention as graphs by hand: every cell with every option, in sizes that make
 * the CUDA backend take each of its ways (one kernel for all steps, one for each step, a library's
 * product), and attention whose sizes are whole tiles, parts of one, and several. */
#include "support/bench.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Zeros and ones, half of them each, as a value of the graph. */
static int add_mask(struct bench *b, struct shape shape)
{
    struct op *op = bench_op(b, OP_UNARY, bench_input(b, shape), shape);
    op->unary = (struct op_unary){UNARY_CLIP, 0.0f, 1.0f};
    return op->outputs[0];
}

/* Sizes: batch, steps, features, units. Those of more than 256 units have more recurrent weights than
 * a multiprocessor's cache; they stand so that a third of the cases has all of them. */
static const int64_t sizes[][4] = {{1, 1, 1, 1},   {1, 5, 3, 16},  {3, 4, 5, 17},  {1, 2, 6, 257},
                                   {9, 3, 20, 33}, {5, 2, 7, 260}, {9, 2, 9, 258}, {6, 2, 4, 96},
                                   {40, 3, 8, 20}, {3, 3, 16, 264}};
#define SIZES (sizeof sizes / sizeof sizes[0])

static const struct op_unary functions[][2] = {
    {{UNARY_TANH, 0, 0}, {UNARY_SIGMOID, 0, 0}},
    {{UNARY_TANH, 0, 0}, {UNARY_HARD_SIGMOID, 0.2f, 0.5f}},
    {{UNARY_SOFTSIGN, 0, 0}, {UNARY_SIGMOID, 0, 0}},
    {{UNARY_RELU, 0, 0}, {UNARY_HARD_SIGMOID, 1.0f / 6, 0.5f}},
};

struct bench *bench_recurrent(int index, char *name, size_t size)
{
    static const char *const names[] = {"simple", "LSTM", "GRU, reset after", "GRU, reset before"};
    int kind = index % 4;
    const int64_t *s = sizes[(size_t)(index / 4) % SIZES];
    int64_t batch = s[0], steps = s[1], features = s[2], units = s[3];
    struct bench *b = bench_new(batch);
    struct op_recurrent r = {.cell = kind == 0   ? CELL_SIMPLE
                                     : kind == 1 ? CELL_LSTM
                                                 : CELL_GRU,
                             .reset_after = kind == 2,
                             .units = units,
                             .activation = functions[bench_roll(0, 3)][0],
                             .gate = functions[bench_roll(0, 3)][1],
                             .backwards = bench_roll(0, 1),
                             .flipped = bench_roll(0, 1),
                             .sequences = bench_roll(0, 2) > 0,
                             .states = bench_roll(0, 1),
                             .has_mask = bench_roll(0, 1),
                             .has_state = bench_roll(0, 1),
                             .masked = (enum masked_output)bench_roll(0, 2)};
    int64_t columns = recurrent_gates(r.cell) * units;
    float scale = 1.0f / sqrtf((float)units);
    r.kernel = bench_constant(b, D(features, columns), 1.0f / sqrtf((float)features));
    r.recurrent = bench_constant(b, D(units, columns), scale);
    if (bench_roll(0, 3) > 0) {
        r.bias = bench_constant(b, kind == 2 ? D(I(2), columns) : D(columns), 0.5f);
    }
    int x = bench_input(b, D(batch, steps, features)), mask = -1, h = -1, c = -1;
    mask = r.has_mask ? add_mask(b, D(batch, steps)) : -1;
    h = r.has_state ? bench_input(b, D(batch, units)) : -1;
    c = r.has_state && kind == 1 ? bench_input(b, D(batch, units)) : -1;
    struct op *op =
        bench_op(b, OP_RECURRENT, x, r.sequences ? D(batch, steps, units) : D(batch, units));
    for (int i = 0; i < 3; i++) {
        int value = i == 0 ? mask : i == 1 ? h : c;
        if (value >= 0) {
            op->inputs[op->input_count++] = value;
        }
    }
    op->recurrent = r;
    bench_output(b, op->outputs[0]);
    for (int i = 0; r.states && i < (kind == 1 ? 2 : 1); i++) {
        bench_output(b, bench_more(b, op, D(batch, units)));
    }
    snprintf(name, size, "%s %lld x %lld x %lld -> %lld%s%s%s%s%s%s masked %d", names[kind],
             (long long)batch, (long long)steps, (long long)features, (long long)units,
             r.backwards ? " backwards" : "", r.flipped ? " flipped" : "",
             r.sequences ? " sequences" : "", r.states ? " states" : "", r.has_mask ? " mask" : "",
             r.has_state ? " first" : "", (int)r.masked);
    return b;
}

/* Batch, queries, keys, heads, groups of heads, channels of queries and keys, of values. */
static const int64_t attentions[][7] = {
    {1, 1, 1, 1, 1, 1, 1},      {2, 5, 7, 3, 1, 8, 8},     {1, 64, 64, 2, 2, 64, 64},
    {2, 17, 130, 4, 2, 20, 33}, {1, 70, 70, 2, 1, 16, 70}, {3, 1, 200, 4, 4, 40, 24},
    {1, 90, 33, 3, 3, 72, 100}, {2, 33, 65, 2, 2, 64, 64}, {1, 129, 129, 1, 1, 128, 128},
    {4, 16, 16, 2, 2, 32, 32},
};

/* Shape (N or 1, H or 1, T or 1, S or 1), at random. */
static struct shape some_of(const int64_t *s)
{
    return D(bench_roll(0, 1) ? s[0] : 1, bench_roll(0, 1) ? s[3] : 1, bench_roll(0, 1) ? s[1] : 1,
             bench_roll(0, 2) ? s[2] : 1);
}

struct bench *bench_attention(int index, char *name, size_t size)
{
    const int64_t *s = attentions[(size_t)index % (sizeof attentions / sizeof attentions[0])];
    struct bench *b = bench_new(s[0]);
    int q = bench_input(b, D(s[0], s[1], s[3], s[5])),
        k = bench_input(b, D(s[0], s[2], s[4], s[5]));
    int v = bench_input(b, D(s[0], s[2], s[4], s[6]));
    struct op_attention a = {.scale = 2.0f / sqrtf((float)s[5]),
                             .soft_cap = bench_roll(0, 3) == 0 ? 1.5f : 0,
                             .window = bench_roll(0, 3) == 0 ? bench_roll(1, 40) : 0,
                             .causal = bench_roll(0, 2) == 0,
                             .mask = bench_roll(0, 2) == 0,
                             .bias = bench_roll(0, 3) == 0};
    int mask = a.mask ? add_mask(b, some_of(s)) : -1;
    int bias = a.bias ? bench_input(b, some_of(s)) : -1;
    struct op *op = bench_op(b, OP_ATTENTION, q, D(s[0], s[1], s[3], s[6]));
    op->inputs[op->input_count++] = k;
    op->inputs[op->input_count++] = v;
    for (int i = 0; i < 2; i++) {
        int value = i == 0 ? mask : bias;
        if (value >= 0) {
            op->inputs[op->input_count++] = value;
        }
    }
    op->attention = a;
    bench_output(b, op->outputs[0]);
    snprintf(name, size,
             "%lld x %lld of %lld, heads %lld of %lld, %lld -> %lld%s%s%s, window %lld%s",
             (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3], (long long)s[4],
             (long long)s[5], (long long)s[6], a.causal ? " causal" : "", a.mask ? " mask" : "",
             a.bias ? " bias" : "", (long long)a.window, a.soft_cap > 0 ? " cap" : "");
    return b;
}
