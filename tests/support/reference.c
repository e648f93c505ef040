#include "tests/support/reference.h"
#include "engine/error.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RANK TENSOR_RANK_MAX

/* What the loops need of one op: shapes and data. */
struct ref {
    const struct graph *graph;
    const struct op *op;
    double **values;
    const struct shape *x, *y; /* first input, output */
    const double *in;
    double *out;
};

/* Split a flat index into one per axis; join them again. */
static void split(int64_t flat, const struct shape *shape, int64_t *index)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        index[i] = flat % shape->dims[i];
        flat /= shape->dims[i];
    }
}

static int64_t join(const int64_t *index, const struct shape *shape)
{
    int64_t flat = 0;
    for (int i = 0; i < shape->rank; i++)
        flat = flat * shape->dims[i] + index[i];
    return flat;
}

/* The element of a broadcast operand that belongs to an index of the result. */
static int64_t broadcast_at(const int64_t *index, const struct shape *shape)
{
    int64_t flat = 0;
    for (int i = 0; i < shape->rank; i++)
        flat = flat * shape->dims[i] + (shape->dims[i] == 1 ? 0 : index[i]);
    return flat;
}

double reference_unary(const struct op_unary *unary, double x)
{
    double a = (double)unary->alpha, b = (double)unary->beta;
    double sigmoid = 1 / (1 + exp(-x)), softplus = x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    switch (unary->function) {
    case UNARY_RELU:
        x = x > 0 ? x : a * x;
        return b > 0 ? fmin(x, b) : x;
    case UNARY_SIGMOID:
        return sigmoid;
    case UNARY_TANH:
        return tanh(x);
    case UNARY_SILU:
        return x * sigmoid;
    case UNARY_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case UNARY_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UNARY_ELU:
        return x > 0 ? x : a * expm1(x);
    case UNARY_SELU:
        return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x));
    case UNARY_SOFTPLUS:
        return softplus;
    case UNARY_SOFTSIGN:
        return x / (1 + fabs(x));
    case UNARY_EXP:
        return exp(x);
    case UNARY_LOG:
        return log(x);
    case UNARY_SQRT:
        return sqrt(x);
    case UNARY_RSQRT:
        return 1 / sqrt(x);
    case UNARY_SQUARE:
        return x * x;
    case UNARY_ABS:
        return fabs(x);
    case UNARY_NEGATIVE:
        return -x;
    case UNARY_HARD_SIGMOID:
        return fmin(fmax(a * x + b, 0), 1);
    case UNARY_HARD_SILU:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    case UNARY_MISH:
        return x * tanh(softplus);
    case UNARY_CLIP:
        return fmin(fmax(x, a), b);
    case UNARY_LINEAR:
        return a * x + b;
    case UNARY_THRESHOLD:
        return x > a ? x : b;
    case UNARY_FLOOR:
        return floor(x);
    case UNARY_CEIL:
        return ceil(x);
    case UNARY_ROUND:
        return rint(x);
    case UNARY_TRUNCATE:
        return trunc(x);
    case UNARY_SIGN:
        return (double)((x > 0) - (x < 0));
    case UNARY_SIN:
        return sin(x);
    case UNARY_COS:
        return cos(x);
    case UNARY_TAN:
        return tan(x);
    case UNARY_ASIN:
        return asin(x);
    case UNARY_ACOS:
        return acos(x);
    case UNARY_ATAN:
        return atan(x);
    case UNARY_SINH:
        return sinh(x);
    case UNARY_COSH:
        return cosh(x);
    case UNARY_ASINH:
        return asinh(x);
    case UNARY_ACOSH:
        return acosh(x);
    case UNARY_ATANH:
        return atanh(x);
    case UNARY_EXPM1:
        return expm1(x);
    case UNARY_LOG1P:
        return log1p(x);
    case UNARY_ERF:
        return erf(x);
    default:
        return x;
    }
}

static double binary(enum binary_function function, double a, double b)
{
    switch (function) {
    case BINARY_ADD:
        return a + b;
    case BINARY_SUBTRACT:
        return a - b;
    case BINARY_MULTIPLY:
        return a * b;
    case BINARY_DIVIDE:
        return a / b;
    case BINARY_MAXIMUM:
        return fmax(a, b);
    case BINARY_MINIMUM:
        return fmin(a, b);
    case BINARY_EQUAL:
        return a == b;
    case BINARY_NOT_EQUAL:
        return a != b;
    case BINARY_GREATER:
        return a > b;
    case BINARY_GREATER_EQUAL:
        return a >= b;
    case BINARY_LESS:
        return a < b;
    case BINARY_LESS_EQUAL:
        return a <= b;
    case BINARY_FLOOR_DIVIDE:
        return floor(a / b);
    case BINARY_MODULO:
        return a - floor(a / b) * b;
    case BINARY_ATAN2:
        return atan2(a, b);
    default:
        return pow(a, b);
    }
}

/* y(n, o..., k) = bias(k) + sum over taps t and c of x(n, o s + t d - pad, c) w(t, c, k), where c
 * runs over the channels of k's group. Always seen as three spatial axes. */
static void conv(const struct ref *r)
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
                        double weight = p->transposed ? (double)w[(t * K + k) * C + c]
                                                      : (double)w[(t * inner + c) * K + k];
                        y[k] += x[k / per_group * inner + c] * weight;
                    }
            }
}

/* y(m, k) = bias(k) + sum over c of x(m, c) w(c, k); batched if w is a value */
static void matmul(const struct ref *r)
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
static void pool(const struct ref *r)
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
            split(o, r->y, index);
            for (int i = p->spatial - 1; i >= 0; i--) {
                index[i + 1] = index[i + 1] * p->stride[i] + rest % p->window[i] - p->pad_before[i];
                rest /= p->window[i];
                inside &= index[i + 1] >= 0 && index[i + 1] < r->x->dims[i + 1];
            }
            if (!inside)
                continue;
            double x = r->in[join(index, r->x)];
            best = fmax(best, x);
            sum += x;
            count++;
        }
        r->out[o] = p->function == POOL_MAX ? best : sum / count;
    }
}

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
        split(i, r->y, index);
        double u = r->in[broadcast_at(index, r->x)];
        double v = p->constant ? (double)p->constant->data[broadcast_at(index, b)]
                               : r->values[r->op->inputs[1]][broadcast_at(index, b)];
        r->out[i] = p->swapped ? binary(p->function, v, u) : binary(p->function, u, v);
    }
}

/* exp(x - max) / sum, or its logarithm, along one axis */
static void softmax(const struct ref *r)
{
    int axis = r->op->softmax.axis;
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        double most = -INFINITY, sum = 0;
        split(i, r->y, index);
        for (index[axis] = 0; index[axis] < r->x->dims[axis]; index[axis]++)
            most = fmax(most, r->in[join(index, r->x)]);
        for (index[axis] = 0; index[axis] < r->x->dims[axis]; index[axis]++)
            sum += exp(r->in[join(index, r->x)] - most);
        double y = r->in[i] - most - log(sum);
        r->out[i] = r->op->softmax.log ? y : exp(y);
    }
}

static void normalise(const struct ref *r)
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
static void reduce(const struct ref *r)
{
    const struct op_reduce *p = &r->op->reduce;
    int64_t outputs = shape_elements(r->y), inputs = shape_elements(r->x), index[RANK];
    for (int64_t i = 0; i < outputs; i++)
        r->out[i] = p->function == REDUCE_MAX   ? -INFINITY
                    : p->function == REDUCE_MIN ? INFINITY
                                                : 0;
    for (int64_t i = 0; i < inputs; i++) {
        int64_t to = 0;
        split(i, r->x, index);
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

static void pad(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        bool inside = true;
        split(i, r->y, index);
        for (int d = 0; d < r->x->rank; d++) {
            index[d] -= r->op->pad.before[d];
            inside &= index[d] >= 0 && index[d] < r->x->dims[d];
        }
        r->out[i] = inside ? r->in[join(index, r->x)] : (double)r->op->pad.value;
    }
}

static void slice(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        split(i, r->y, index);
        for (int d = 0; d < r->x->rank; d++)
            index[d] = r->op->slice.begin[d] + index[d] * r->op->slice.step[d];
        r->out[i] = r->in[join(index, r->x)];
    }
}

static void concat(const struct ref *r)
{
    int axis = r->op->concat.axis;
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        size_t input = 0;
        split(i, r->y, index);
        const struct shape *x = r->x;
        while (index[axis] >= x->dims[axis]) {
            index[axis] -= x->dims[axis];
            x = &r->graph->values[r->op->inputs[++input]].shape;
        }
        r->out[i] = r->values[r->op->inputs[input]][join(index, x)];
    }
}

static void transpose(const struct ref *r)
{
    int64_t index[RANK], from[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        split(i, r->y, index);
        for (int d = 0; d < r->y->rank; d++)
            from[r->op->transpose.permutation[d]] = index[d];
        r->out[i] = r->in[join(from, r->x)];
    }
}

/* half-pixel centres: output cell o looks at (o + 1/2) in / out - 1/2 */
static void resize(const struct ref *r)
{
    int64_t index[RANK], at[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        split(i, r->y, index);
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
            sum += weight * r->in[join(at, r->x)];
        }
        r->out[i] = sum;
    }
}

/* the element of a constant, or of the next input that is none, for an index of the result */
static double operand_at(const struct ref *r, const struct constant *constant, size_t *input,
                         const int64_t *index)
{
    if (constant)
        return (double)constant->data[broadcast_at(index, &constant->shape)];
    int value = r->op->inputs[(*input)++];
    return r->values[value][broadcast_at(index, &r->graph->values[value].shape)];
}

static void select_op(const struct ref *r)
{
    int64_t index[RANK];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        size_t input = 0;
        split(i, r->y, index);
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
        split(i, r->y, index);
        for (int d = 0; d < p->batch_axes; d++)
            at[d] = index[d];
        for (int d = p->batch_axes; d < ids->rank; d++)
            at[d] = index[p->axis + d - p->batch_axes];
        int64_t id = join(at, ids);
        id = p->indices ? (int64_t)p->indices->data[id] : (int64_t)r->values[index_value][id];
        for (int d = 0; d < data->rank; d++)
            from[d] = d < p->axis    ? index[d]
                      : d == p->axis ? (id < 0 ? id + data->dims[d] : id)
                                     : index[d + ids->rank - p->batch_axes - 1];
        r->out[i] = p->data ? (double)p->data->data[join(from, data)] : r->in[join(from, data)];
    }
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
static void recurrent(const struct ref *r)
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

static void copy(const struct ref *r)
{
    memcpy(r->out, r->in, (size_t)shape_elements(r->y) * sizeof *r->out);
}

static void constant(const struct ref *r)
{
    for (int64_t i = 0; i < shape_elements(r->y); i++)
        r->out[i] = (double)r->op->constant.data->data[i];
}

static void cumulate(const struct ref *r)
{
    const struct op_cumulate *op = &r->op->cumulate;
    int64_t index[RANK], n = r->y->dims[op->axis];
    for (int64_t i = 0; i < shape_elements(r->y); i++) {
        split(i, r->y, index);
        int64_t own = index[op->axis];
        double value = op->product;
        for (int64_t j = 0; j < n; j++) {
            index[op->axis] = j;
            double x = r->in[join(index, r->x)];
            bool before = op->reverse ? j > own : j < own;
            if (before || (j == own && !op->exclusive))
                value = op->product ? value * x : value + x;
        }
        r->out[i] = value;
    }
}

/* element i goes to the place that its number of betters gives */
static void top(const struct ref *r)
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
    return r->values[r->op->inputs[input]][broadcast_at(nhts, shape)];
}

static void attention(const struct ref *r)
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

static void (*const REFERENCES[OP_KIND_COUNT])(const struct ref *) = {
    [OP_CONV] = conv,           [OP_MATMUL] = matmul,
    [OP_POOL] = pool,           [OP_AFFINE] = affine,
    [OP_UNARY] = unary,         [OP_BINARY] = binary_op,
    [OP_SOFTMAX] = softmax,     [OP_NORMALISE] = normalise,
    [OP_REDUCE] = reduce,       [OP_PAD] = pad,
    [OP_SLICE] = slice,         [OP_CONCAT] = concat,
    [OP_TRANSPOSE] = transpose, [OP_RESHAPE] = copy,
    [OP_RESIZE] = resize,       [OP_CONSTANT] = constant,
    [OP_SELECT] = select_op,    [OP_GATHER] = gather,
    [OP_RECURRENT] = recurrent, [OP_ATTENTION] = attention,
    [OP_CUMULATE] = cumulate,   [OP_TOP] = top,
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
                split(k, r.y, index);
                r.out[k] =
                    post->kind == POST_UNARY
                        ? reference_unary(&post->unary, r.out[k])
                        : binary(post->binary, r.out[k],
                                 values[post->value]
                                       [broadcast_at(index, &graph->values[post->value].shape)]);
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
