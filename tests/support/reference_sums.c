/* Ops that sum, compare or carry along: every result is made of many elements. */
#include "engine/error.h"
#include "tests/support/reference_ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* y(n, o..., k) = bias(k) + sum over taps t and c of x(n, o s + t d - pad, c) w(t, c, k), where c
 * runs over the channels of k's group. Always seen as three spatial axes. */
void reference_conv(const struct ref *r)
{
    const struct op_conv *p = &r->op->conv;
    int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1};
    int64_t dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};
    for (int i = 0; i < p->spatial; i++) {
        in[i] = r->x->dims[i + 1];
        out[i] = r->y->dims[i + 1];
        kernel[i] = p->kernel[i];
        stride[i] = p->stride[i];
        dilation[i] = p->dilation[i];
        pad[i] = p->pad_before[i];
    }
    int64_t batch = r->x->dims[0], C = r->x->dims[r->x->rank - 1], K = r->y->dims[r->y->rank - 1];
    int64_t inner = C / p->groups, per_group = K / p->groups;
    const float *w = constant_data(p->weights, NULL);
    for (int64_t i = 0; i < shape_elements(r->y); i++)
        r->out[i] = p->bias ? (double)p->bias->data[i % K] : 0;
    int64_t taps = kernel[0] * kernel[1] * kernel[2];
    int64_t cells = p->transposed ? in[0] * in[1] * in[2] : out[0] * out[1] * out[2];
    for (int64_t n = 0; n < batch; n++)
        for (int64_t cell = 0; cell < cells; cell++)
            for (int64_t t = 0; t < taps; t++) {
                const int64_t *grid = p->transposed ? in : out, *other = p->transposed ? out : in;
                int64_t at[3] = {cell / (grid[1] * grid[2]), cell / grid[2] % grid[1],
                                 cell % grid[2]};
                int64_t tap[3] = {t / (kernel[1] * kernel[2]), t / kernel[2] % kernel[1],
                                  t % kernel[2]};
                int64_t to[3];
                bool inside = true;
                for (int i = 0; i < 3; i++) {
                    to[i] = at[i] * stride[i] + tap[i] * dilation[i] - pad[i];
                    inside &= to[i] >= 0 && to[i] < other[i];
                }
                if (!inside)
                    continue;
                int64_t far = (to[0] * other[1] + to[1]) * other[2] + to[2];
                int64_t x_cell = p->transposed ? cell : far, y_cell = p->transposed ? far : cell;
                const double *x = r->in + (n * in[0] * in[1] * in[2] + x_cell) * C;
                double *y = r->out + (n * out[0] * out[1] * out[2] + y_cell) * K;
                for (int64_t k = 0; k < K; k++)
                    for (int64_t c = 0; c < inner; c++) {
                        double weight = p->transposed ? (double)w[(t * K + k) * inner + c]
                                                      : (double)w[(t * inner + c) * K + k];
                        y[k] += x[k / per_group * inner + c] * weight;
                    }
            }
}

/* y(m, k) = bias(k) + sum over c of x(m, c) w(c, k); batched if w is a value */
void reference_matmul(const struct ref *r)
{
    const struct op_matmul *p = &r->op->matmul;
    int64_t C = r->x->dims[r->x->rank - 1], K = r->y->dims[r->y->rank - 1];
    int64_t rows = shape_elements(r->y) / K;
    int64_t per_matrix = p->weights ? rows : r->y->dims[r->y->rank - 2];
    for (int64_t m = 0; m < rows; m++)
        for (int64_t k = 0; k < K; k++) {
            double sum = p->bias ? (double)p->bias->data[k] : 0;
            for (int64_t c = 0; c < C; c++) {
                double w = p->weights
                               ? (double)constant_data(p->weights, NULL)[c * K + k]
                               : r->values[r->op->inputs[1]][m / per_matrix * C * K + c * K + k];
                sum += r->in[m * C + c] * w;
            }
            r->out[m * K + k] = sum;
        }
}

/* over the real cells of each window */
void reference_pool(const struct ref *r)
{
    const struct op_pool *p = &r->op->pool;
    int64_t index[RANK], window = 1;
    for (int i = 0; i < p->spatial; i++)
        window *= p->window[i];
    for (int64_t o = 0; o < shape_elements(r->y); o++) {
        double best = -INFINITY, sum = 0;
        int count = 0;
        for (int64_t t = 0; t < window; t++) {
            int64_t rest = t;
            bool inside = true;
            reference_split(o, r->y, index);
            for (int i = p->spatial - 1; i >= 0; i--) {
                index[i + 1] = index[i + 1] * p->stride[i] + rest % p->window[i] - p->pad_before[i];
                rest /= p->window[i];
                inside &= index[i + 1] >= 0 && index[i + 1] < r->x->dims[i + 1];
            }
            if (!inside)
                continue;
            double x = r->in[reference_join(index, r->x)];
            best = fmax(best, x);
            sum += x;
            count++;
        }
        r->out[o] = p->function == POOL_MAX ? best : sum / count;
    }
}

/* exp(x - max) / sum, or its logarithm, along one axis */
void reference_softmax(const struct ref *r)
{
    int axis = r->op->softmax.axis;
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        double most = -INFINITY, sum = 0;
        reference_split(i, r->y, index);
        for (index[axis] = 0; index[axis] < r->x->dims[axis]; index[axis]++)
            most = fmax(most, r->in[reference_join(index, r->x)]);
        for (index[axis] = 0; index[axis] < r->x->dims[axis]; index[axis]++)
            sum += exp(r->in[reference_join(index, r->x)] - most);
        double y = r->in[i] - most - log(sum);
        r->out[i] = r->op->softmax.log ? y : exp(y);
    }
}

void reference_normalise(const struct ref *r)
{
    const struct op_normalise *p = &r->op->normalise;
    int64_t width = 1;
    for (int i = p->axis; i < r->y->rank; i++)
        width *= r->y->dims[i];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        const double *row = r->in + i / width * width;
        double mean = 0, square = 0;
        for (int64_t j = 0; j < width && !p->rms; j++)
            mean += row[j] / (double)width;
        for (int64_t j = 0; j < width; j++)
            square += (row[j] - mean) * (row[j] - mean) / (double)width;
        double y = (r->in[i] - mean) / sqrt(square + (double)p->epsilon);
        y *= p->gamma ? (double)p->gamma->data[i % width] : 1;
        r->out[i] = y + (p->beta ? (double)p->beta->data[i % width] : 0);
    }
}

/* visit every input element and throw it onto its output element */
void reference_reduce(const struct ref *r)
{
    const struct op_reduce *p = &r->op->reduce;
    int64_t outputs = shape_elements(r->y), inputs = shape_elements(r->x), index[RANK];
    for (int64_t i = 0; i < outputs; i++)
        r->out[i] = p->function == REDUCE_MAX   ? -INFINITY
                    : p->function == REDUCE_MIN ? INFINITY
                                                : 0;
    for (int64_t i = 0; i < inputs; i++) {
        int64_t to = 0;
        reference_split(i, r->x, index);
        for (int d = 0; d < r->x->rank; d++)
            to = p->axes[d] ? to : to * r->x->dims[d] + index[d];
        double *y = &r->out[to], x = r->in[i];
        *y = p->function == REDUCE_MAX   ? fmax(*y, x)
             : p->function == REDUCE_MIN ? fmin(*y, x)
                                         : *y + x;
    }
    for (int64_t i = 0; i < outputs && p->function == REDUCE_MEAN; i++)
        r->out[i] *= (double)outputs / (double)inputs;
}

/* h of the step before in, h of this one out; c likewise. (H) each. */
static void recurrent_step(const struct op_recurrent *p, const double *x, double *h, double *c)
{
    int64_t C = p->kernel->shape.dims[0], H = p->units, columns = H * recurrent_gates(p->cell);
    double *z = xcalloc((size_t)columns, sizeof *z), *u = xcalloc((size_t)columns, sizeof *u);
    double *next = xcalloc((size_t)H, sizeof *next);
    for (int64_t k = 0; k < columns; k++) {
        z[k] = p->bias ? (double)p->bias->data[k] : 0;
        u[k] = p->bias && p->reset_after ? (double)p->bias->data[columns + k] : 0;
        for (int64_t i = 0; i < C; i++)
            z[k] += x[i] * (double)p->kernel->data[i * columns + k];
        for (int64_t i = 0; i < H; i++)
            u[k] += h[i] * (double)p->recurrent->data[i * columns + k];
    }
#define GATE(v) reference_unary(&p->gate, v)
#define ACT(v)  reference_unary(&p->activation, v)
    for (int64_t j = 0; j < H; j++) {
        if (p->cell == CELL_SIMPLE) {
            next[j] = ACT(z[j] + u[j]);
        } else if (p->cell == CELL_LSTM) {
            double i = GATE(z[j] + u[j]), f = GATE(z[H + j] + u[H + j]);
            double o = GATE(z[3 * H + j] + u[3 * H + j]);
            c[j] = f * c[j] + i * ACT(z[2 * H + j] + u[2 * H + j]);
            next[j] = o * ACT(c[j]);
        } else {
            double update = GATE(z[j] + u[j]), candidate = 0;
            if (p->reset_after) {
                candidate = GATE(z[H + j] + u[H + j]) * u[2 * H + j];
            } else {
                for (int64_t i = 0; i < H; i++)
                    candidate += GATE(z[H + i] + u[H + i]) * h[i] *
                                 (double)p->recurrent->data[i * columns + 2 * H + j];
            }
            next[j] = update * h[j] + (1 - update) * ACT(z[2 * H + j] + candidate);
        }
    }
    memcpy(h, next, (size_t)H * sizeof *h);
    free(z);
    free(u);
    free(next);
}

/* one sample and one step after another */
void reference_recurrent(const struct ref *r)
{
    const struct op_recurrent *p = &r->op->recurrent;
    int64_t T = r->x->dims[1], C = r->x->dims[2], H = p->units;
    const double *mask = p->has_mask ? r->values[r->op->inputs[1]] : NULL;
    size_t state = p->has_mask ? 2 : 1;
    double *h = xcalloc((size_t)H, sizeof *h), *c = xcalloc((size_t)H, sizeof *c);
    for (int64_t n = 0; n < r->x->dims[0]; n++) {
        bool started = false;
        for (int64_t j = 0; j < H; j++) {
            h[j] = p->has_state ? r->values[r->op->inputs[state]][n * H + j] : 0;
            c[j] = p->has_state && p->cell == CELL_LSTM
                       ? r->values[r->op->inputs[state + 1]][n * H + j]
                       : 0;
        }
        for (int64_t s = 0; s < T; s++) {
            int64_t t = p->backwards ? T - 1 - s : s, to = p->flipped ? T - 1 - s : s;
            bool real = !mask || mask[n * T + t] != 0;
            if (real)
                recurrent_step(p, r->in + (n * T + t) * C, h, c);
            started |= real;
            bool zero =
                !real && (p->masked == MASKED_ZERO || (p->masked == MASKED_PREVIOUS && !started));
            double *y = r->out + (p->sequences ? (n * T + to) * H : n * H);
            for (int64_t j = 0; j < H; j++)
                y[j] = zero ? 0 : h[j];
        }
        for (int64_t j = 0; p->states && j < H; j++) {
            r->values[r->op->outputs[1]][n * H + j] = h[j];
            if (p->cell == CELL_LSTM)
                r->values[r->op->outputs[2]][n * H + j] = c[j];
        }
    }
    free(h);
    free(c);
}

void reference_cumulate(const struct ref *r)
{
    const struct op_cumulate *op = &r->op->cumulate;
    int64_t index[RANK], n = r->y->dims[op->axis];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        reference_split(i, r->y, index);
        int64_t own = index[op->axis];
        double value = op->product;
        for (int64_t j = 0; j < n; j++) {
            index[op->axis] = j;
            double x = r->in[reference_join(index, r->x)];
            bool before = op->reverse ? j > own : j < own;
            if (before || (j == own && !op->exclusive))
                value = op->product ? value * x : value + x;
        }
        r->out[i] = value;
    }
}

/* element i goes to the place that its number of betters gives */
void reference_top(const struct ref *r)
{
    const struct op_top *op = &r->op->top;
    int64_t n = r->x->dims[r->x->rank - 1];
    for (int64_t row = 0; row < shape_elements(r->x) / n; row++) {
        const double *x = r->in + row * n;
        for (int64_t i = 0; i < n; i++) {
            int64_t place = 0;
            for (int64_t j = 0; j < n; j++)
                place += (op->smallest ? x[j] < x[i] : x[j] > x[i]) || (x[j] == x[i] && j < i);
            if (place < op->count)
                r->out[row * op->count + place] = op->indices ? (double)i : x[i];
        }
    }
}

/* Element [n][h][t][s] of a mask or bias whose axes of one cell stand for all. */
static double attention_at(const struct ref *r, size_t input, const int64_t *nhts)
{
    const struct shape *shape = &r->graph->values[r->op->inputs[input]].shape;
    return r->values[r->op->inputs[input]][reference_broadcast_at(nhts, shape)];
}

void reference_attention(const struct ref *r)
{
    const struct op_attention *op = &r->op->attention;
    const struct shape *k = &r->graph->values[r->op->inputs[1]].shape;
    const struct shape *v = &r->graph->values[r->op->inputs[2]].shape;
    int64_t T = r->x->dims[1], H = r->x->dims[2], D = r->x->dims[3];
    int64_t S = k->dims[1], G = k->dims[2], V = v->dims[3];
    double *scores = xmalloc((size_t)S * sizeof *scores);
    for (int64_t row = 0; row < r->x->dims[0] * H * T; row++) {
        int64_t n = row / (H * T), h = row / T % H, t = row % T, g = h * G / H;
        double most = -INFINITY, sum = 0;
        for (int64_t s = 0; s < S; s++) {
            const int64_t at[RANK] = {n, h, t, s};
            bool real = !(op->causal && s > t) && !(op->window && llabs(t - s) >= op->window);
            double score = 0;
            for (int64_t d = 0; d < D; d++)
                score += r->in[((n * T + t) * H + h) * D + d] *
                         r->values[r->op->inputs[1]][((n * S + s) * G + g) * D + d];
            score *= (double)op->scale;
            if (op->soft_cap > 0)
                score = (double)op->soft_cap * tanh(score / (double)op->soft_cap);
            if (op->bias)
                score += attention_at(r, op->mask ? 4 : 3, at);
            if (op->mask)
                real = real && attention_at(r, 3, at) != 0;
            scores[s] = real ? score : -1e30;
            most = fmax(most, scores[s]);
        }
        for (int64_t s = 0; s < S; s++)
            sum += exp(scores[s] - most);
        for (int64_t c = 0; c < V; c++) {
            double *y = &r->out[((n * T + t) * H + h) * V + c];
            *y = 0;
            for (int64_t s = 0; s < S; s++)
                *y += exp(scores[s] - most) / sum *
                      r->values[r->op->inputs[2]][((n * S + s) * G + g) * V + c];
        }
    }
    free(scores);
}
