/* Convolutions and products by weights in float32 with AVX-512: (pixels, taps C) x (taps C, K), where
 * a row of the left matrix is found, tap by tap, through a table of pointers into the input.
 *
 * What this gains over a library's kernel is the order of reading: weights lie as they are read, and
 * while one part of them is multiplied from the first-level cache, the next one is fetched into the
 * second, line by line between the multiplications. Networks at batch 1 wait for weights otherwise. */
#include "engine/cpu/own.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#define LANES   16
#define ROWS    6 /* of a tile: with 4 vectors each that is 24 sums */
#define VECTORS 4
#define PANEL   (VECTORS * LANES)

/* Of weights that are multiplied at a time; a panel of so many stays in the first-level cache. */
#define DEPTH          192
/* Pixels of a block, in and out: of a second-level cache of 1 to 2 MiB. */
#define BLOCK_BYTES    (512 << 10)
/* Where it is faster than oneDNN's kernels: parts are filled, and the weights waited for rather than
 * the pixels. */
#define CHANNELS_LEAST 16
#define UNITS_LEAST    16
#define PIXELS_LEAST   32
#define PIXELS_MOST    5000
#define WEIGHTS_LEAST  (192 << 10)

static int64_t round_up(int64_t value, int64_t step)
{
    return (value + step - 1) / step * step;
}

static int64_t taps_of(const struct op_conv *conv)
{
    int64_t taps = 1;
    for (int i = 0; i < conv->spatial; i++)
        taps *= conv->kernel[i];
    return taps;
}

/* Pixels of a block: their input and one panel of their output. */
static int64_t block_rows(int64_t channels)
{
    return round_up(BLOCK_BYTES / ((channels + PANEL) * (int64_t)sizeof(float)), ROWS);
}

/* One thread's table of rows, and a row of zeros. */
static int64_t room_bytes(int64_t taps, int64_t channels)
{
    int64_t table = taps * block_rows(channels) * (int64_t)sizeof(const float *);
    return round_up(table + channels * (int64_t)sizeof(float), 64);
}

static size_t scratch_bytes(const struct op_conv *conv, const struct shape *in,
                            const struct shape *out, int threads)
{
    (void)out;
    return (size_t)(threads * room_bytes(taps_of(conv), in->dims[in->rank - 1]));
}

static size_t packed_bytes(const struct op_conv *conv, const struct shape *in,
                           const struct shape *out)
{
    int64_t channels = in->dims[in->rank - 1], units = out->dims[out->rank - 1];
    int64_t depth = channels * taps_of(conv), columns = round_up(units, LANES);
    int64_t pixels = shape_elements(out) / units;
    if (!own_has_avx512() || conv->transposed || conv->groups != 1 || channels < CHANNELS_LEAST ||
        channels % 2 != 0 || units < UNITS_LEAST || pixels < PIXELS_LEAST || pixels > PIXELS_MOST ||
        depth * units * (int64_t)sizeof(float) < WEIGHTS_LEAST)
        return 0;
    return (size_t)(columns * (1 + depth)) * sizeof(float);
}

/* The bias; then, panel by panel, each channel of each tap with the panel's units side by side. */
static void pack(const struct op_conv *conv, const float *weights, const float *bias, void *to)
{
    const struct shape *shape = &conv->weights->shape;
    int64_t units = shape->dims[shape->rank - 1], depth = shape_elements(shape) / units;
    int64_t columns = round_up(units, LANES);
    float *sums = to, *panels = sums + columns;
    for (int64_t k = 0; k < columns; k++)
        sums[k] = bias && k < units ? bias[k] : 0;
#pragma omp parallel for
    for (int64_t panel = 0; panel < columns; panel += PANEL) {
        int64_t width = columns - panel < PANEL ? columns - panel : PANEL;
        int64_t there = units - panel < width ? units - panel : width;
        float *out = panels + panel * depth;
        for (int64_t c = 0; c < depth; c++, out += width) {
            memcpy(out, weights + c * units + panel, (size_t)there * sizeof *out);
            memset(out + there, 0, (size_t)(width - there) * sizeof *out);
        }
    }
}

#ifdef OWN_AVX512
#include <immintrin.h>

#define ISA    "avx512f,avx512bw,avx512vl,avx512dq,fma"
#define WIDE   __attribute__((target(ISA)))
#define INLINE static inline __attribute__((always_inline, target(ISA)))

struct axis {
    int64_t in, out, kernel, stride, dilation, pad;
};

/* The product of a call, and where its arrays lie. */
struct product {
    const float *x, *weights, *bias;
    float *y;
    struct axis axes[SPATIAL_MAX]; /* the last ones are there; a product by weights has none */
    int64_t pixels, channels, units, taps;
    const struct own_tail *tail;
};

/* Some channels of one tap, or some whole taps: the weights that are multiplied at a time. */
struct part {
    int64_t tap, taps, channel, depth;
};

/* A tile's rows of the result by a panel's units, and what they are made of. */
struct tile {
    const float *const *rows; /* of the part's first tap */
    int64_t table;            /* pointers from one tap's to the next one's */
    struct part part;
    const float *weights;
    const char *ahead; /* what to fetch meanwhile, and how far to go every two channels */
    int64_t step;
    const float *bias; /* NULL: there are sums in y */
    const float *addend;
    float *y;
    int64_t units;  /* from one row of y to the next */
    __mmask16 last; /* lanes of the last vector */
    bool cut;       /* the result, to 0 .. most */
    float most;
};

/* ---- functions, to a few ulp of the largest ---- */

/* e^x: 2^n times a polynomial on +-ln(2)/2 (the one of Moshier's Cephes library, 2 ulp). */
INLINE __m512 exponential(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4F), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4F);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1F));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* Past +-100 the exponential leaves the numbers of float32, and its argument the polynomial. */
INLINE __m512 sigmoid(__m512 x)
{
    __m512 within = _mm512_max_ps(_mm512_set1_ps(-100), _mm512_min_ps(_mm512_set1_ps(100), x));
    __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), within));
    return _mm512_div_ps(_mm512_set1_ps(1), _mm512_add_ps(_mm512_set1_ps(1), e));
}

/* x Phi(x): the error function by Abramowitz and Stegun, 7.1.26, which is off by 1.5e-7. */
INLINE __m512 gelu_erf(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1);
    __m512 u = _mm512_min_ps(_mm512_set1_ps(10), _mm512_abs_ps(x));
    u = _mm512_mul_ps(u, _mm512_set1_ps(0.70710678F));
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(u, _mm512_set1_ps(0.3275911F), one));
    __m512 p = _mm512_set1_ps(1.061405429F);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027F));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741F));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736F));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592F));
    p = _mm512_mul_ps(_mm512_mul_ps(p, t),
                      exponential(_mm512_fnmadd_ps(u, u, _mm512_setzero_ps())));
    /* p = 1 - erf(u): half of x times it is what x is short of, or all there is of a negative one */
    __m512 part = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.5F)), p);
    __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
    return _mm512_mask_mov_ps(_mm512_sub_ps(x, part), negative, part);
}

INLINE __m512 gelu_tanh(__m512 x)
{
    __m512 p = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.0713548163F),
                               _mm512_set1_ps(1.59576912F));
    return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(x, p)));
}

INLINE __m512 hard_silu(__m512 x)
{
    __m512 gate = _mm512_fmadd_ps(x, _mm512_set1_ps(1.0F / 6), _mm512_set1_ps(0.5F));
    gate = _mm512_min_ps(_mm512_set1_ps(1), _mm512_max_ps(_mm512_setzero_ps(), gate));
    return _mm512_mul_ps(x, gate);
}

/* y = f(y) where a tile has just been written. */
WIDE static void apply(enum unary_function function, float *y, int64_t units, int64_t rows,
                       int64_t width)
{
#define EACH(f)                                                                                    \
    for (int64_t i = 0; i < rows; i++) {                                                           \
        for (int64_t at = 0; at < width; at += LANES) {                                            \
            __mmask16 mask =                                                                       \
                width - at < LANES ? (__mmask16)((1 << (width - at)) - 1) : (__mmask16)0xffff;     \
            __m512 x = _mm512_maskz_loadu_ps(mask, y + i * units + at);                            \
            _mm512_mask_storeu_ps(y + i * units + at, mask, f);                                    \
        }                                                                                          \
    }
    switch (function) {
    case UNARY_SILU:
        EACH(_mm512_mul_ps(x, sigmoid(x)))
        break;
    case UNARY_SIGMOID:
        EACH(sigmoid(x))
        break;
    case UNARY_GELU_ERF:
        EACH(gelu_erf(x))
        break;
    case UNARY_GELU_TANH:
        EACH(gelu_tanh(x))
        break;
    case UNARY_HARD_SILU:
        EACH(hard_silu(x))
        break;
    default:
        break;
    }
#undef EACH
}

/* ---- tiles ---- */

/* The lanes of vector v. */
#define LANES_OF(v) ((v) + 1 == vectors ? t->last : (__mmask16)0xffff)

#define EACH_SUM(statement)                                                                        \
    do {                                                                                           \
        _Pragma("GCC unroll 6") for (int i = 0; i < count; i++)                                    \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) statement;                   \
        }                                                                                          \
    } while (0)

INLINE void tile_of(const struct tile *t, const int count, const int vectors)
{
    __m512 sum[ROWS][VECTORS];
    const float *weights = t->weights;
    const char *ahead = t->ahead;
    const float *before = t->bias ? t->addend : t->y;
    if (t->bias) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            __m512 bias = _mm512_loadu_ps(t->bias + v * LANES);
#pragma GCC unroll 6
            for (int i = 0; i < count; i++)
                sum[i][v] = bias;
        }
    } else {
        EACH_SUM(sum[i][v] = _mm512_setzero_ps());
    }
    if (before)
        EACH_SUM(
            sum[i][v] = _mm512_add_ps(
                sum[i][v], _mm512_maskz_loadu_ps(LANES_OF(v), before + i * t->units + v * LANES)));
    for (int64_t tap = 0; tap < t->part.taps; tap++) {
        const float *row[ROWS];
#pragma GCC unroll 6
        for (int i = 0; i < count; i++)
            row[i] = t->rows[tap * t->table + i] + t->part.channel;
        for (int64_t k = 0; k < t->part.depth; k += 2, ahead += t->step) {
            __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++, weights += vectors * LANES) {
                __m512 b[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    b[v] = _mm512_loadu_ps(weights + v * LANES);
#pragma GCC unroll 6
                for (int i = 0; i < count; i++) {
                    __m512 a = _mm512_set1_ps(row[i][k + half]);
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        sum[i][v] = _mm512_fmadd_ps(a, b[v], sum[i][v]);
                }
            }
        }
    }
    if (t->cut) {
        const __m512 least = _mm512_setzero_ps(), most = _mm512_set1_ps(t->most);
        /* in this order no numbers stay so */
        EACH_SUM(sum[i][v] = _mm512_min_ps(most, _mm512_max_ps(least, sum[i][v])));
    }
    EACH_SUM(_mm512_mask_storeu_ps(t->y + i * t->units + v * LANES, LANES_OF(v), sum[i][v]));
}

#define ROWS_OF(n)                                                                                 \
    case n:                                                                                        \
        tile_of(t, n, vectors);                                                                    \
        break

INLINE void tile_rows(const struct tile *t, int64_t count, const int vectors)
{
    switch (count) {
        ROWS_OF(1);
        ROWS_OF(2);
        ROWS_OF(3);
        ROWS_OF(4);
        ROWS_OF(5);
    default:
        tile_of(t, ROWS, vectors);
        break;
    }
}

WIDE static void run_tile(const struct tile *t, int64_t count, int vectors)
{
    switch (vectors) {
    case 1:
        tile_rows(t, count, 1);
        break;
    case 2:
        tile_rows(t, count, 2);
        break;
    case 3:
        tile_rows(t, count, 3);
        break;
    default:
        tile_rows(t, count, VECTORS);
        break;
    }
}

/* ---- blocks ---- */

/* Where a tap of `count` pixels from `first` on lies in the input; `zeros` beside it. */
static void find_rows(const struct product *p, int64_t first, int64_t count, int64_t tap,
                      const float *zeros, const float **rows)
{
    int64_t to[SPATIAL_MAX], from[SPATIAL_MAX], left = first;
    for (int i = SPATIAL_MAX - 1; i >= 0; i--) {
        const struct axis *axis = &p->axes[i];
        to[i] = left % axis->out;
        left /= axis->out;
        from[i] = tap % axis->kernel * axis->dilation - axis->pad + to[i] * axis->stride;
        tap /= axis->kernel;
    }
    for (int64_t row = 0; row < count; row++) { /* `left` counts samples */
        int64_t at = left;
        bool inside = true;
        for (int i = 0; i < SPATIAL_MAX; i++) {
            at = at * p->axes[i].in + from[i];
            inside = inside && from[i] >= 0 && from[i] < p->axes[i].in;
        }
        rows[row] = inside ? p->x + at * p->channels : zeros;
        int i = SPATIAL_MAX - 1;
        for (; i >= 0; i--) {
            from[i] += p->axes[i].stride;
            if (++to[i] < p->axes[i].out)
                break;
            from[i] -= to[i] * p->axes[i].stride;
            to[i] = 0;
        }
        left += i < 0;
    }
}

/* Whole taps where one has few channels; else a tap's channels in even shares. */
static struct part part_of(const struct product *p, int64_t index)
{
    int64_t together = DEPTH / p->channels, shares = (p->channels + DEPTH - 1) / DEPTH;
    if (together > 1) {
        int64_t tap = index * together, left = p->taps - tap;
        return (struct part){tap, left < together ? left : together, 0, p->channels};
    }
    int64_t first = p->channels * (index % shares) / shares & ~(int64_t)1;
    int64_t end = p->channels * (index % shares + 1) / shares & ~(int64_t)1;
    return (struct part){index / shares, 1, first, end - first};
}

static int64_t parts_of(const struct product *p)
{
    int64_t together = DEPTH / p->channels, shares = (p->channels + DEPTH - 1) / DEPTH;
    return together > 1 ? (p->taps + together - 1) / together : p->taps * shares;
}

/* Some pixels by one panel, part by part. `next`: the weights that are wanted then. */
static void run_panel(const struct product *p, const float *const *table, int64_t pitch,
                      int64_t pixel, int64_t rows, int64_t unit, const float *next)
{
    int64_t columns = round_up(p->units, LANES), parts = parts_of(p);
    int64_t width = columns - unit < PANEL ? columns - unit : PANEL;
    int64_t there = p->units - unit < width ? p->units - unit : width;
    const float *weights = p->weights + unit * p->channels * p->taps;
    struct tile t = {
        .table = pitch, .units = p->units, .bias = p->bias + unit, .most = p->tail->most};
    t.last = (__mmask16)(0xffff >> (width - there));
    for (int64_t i = 0; i < parts; i++, t.bias = NULL) {
        bool last = i + 1 == parts;
        t.part = part_of(p, i);
        t.weights = weights;
        weights += t.part.taps * t.part.depth * width;
        /* the next part is about as large as this one */
        int64_t tiles = (rows + ROWS - 1) / ROWS, bytes = width * 8 / tiles;
        const char *ahead = (const char *)(last ? next : weights);
        t.step = !ahead ? 0 : bytes < 64 ? bytes : 64;
        t.cut = last && p->tail->function == UNARY_RELU;
        for (int64_t row = 0; row < rows; row += ROWS) {
            int64_t count = rows - row < ROWS ? rows - row : ROWS;
            t.rows = table + t.part.tap * pitch + row;
            t.ahead = ahead ? ahead : (const char *)t.weights;
            t.y = p->y + (pixel + row) * p->units + unit;
            t.addend = p->tail->addend ? (const float *)p->tail->addend + (t.y - p->y) : NULL;
            run_tile(&t, count, (int)(width / LANES));
            if (last)
                apply(p->tail->function, t.y, p->units, count, there);
            if (ahead)
                ahead += t.part.taps * t.part.depth / 2 * t.step;
        }
    }
}

/* One thread's pixels and panels. */
static void run_share(const struct product *p, void *room, const int64_t pixels[2],
                      const int64_t panels[2])
{
    int64_t all = pixels[1] - pixels[0], most = block_rows(p->channels);
    int64_t blocks = (all + most - 1) / most;
    const float **table = room;
    float *zeros = (float *)(void *)(table + p->taps * most);
    memset(zeros, 0, (size_t)p->channels * sizeof *zeros);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t pixel = pixels[0] + round_up(all * i / blocks, ROWS);
        int64_t end =
            i + 1 < blocks ? pixels[0] + round_up(all * (i + 1) / blocks, ROWS) : pixels[1];
        for (int64_t tap = 0; tap < p->taps; tap++)
            find_rows(p, pixel, end - pixel, tap, zeros, table + tap * most);
        for (int64_t panel = panels[0]; panel < panels[1]; panel++) {
            int64_t then = panel + 1 < panels[1] ? panel + 1 : panels[0];
            const float *next = p->weights + then * PANEL * p->channels * p->taps;
            if (panel + 1 == panels[1] && i + 1 == blocks)
                next = NULL;
            run_panel(p, table, most, pixel, end - pixel, panel * PANEL, next);
        }
    }
}

/* How many shares of the panels: as even as can be, and then with little to read. */
static int64_t columns_of(int64_t pixels, int64_t units, int64_t threads)
{
    int64_t tiles = (pixels + ROWS - 1) / ROWS, panels = (units + PANEL - 1) / PANEL, best = 1;
    int64_t least = INT64_MAX;
    for (int64_t columns = 1; columns <= threads; columns++) {
        if (threads % columns != 0)
            continue;
        int64_t groups = threads / columns;
        int64_t width = (panels + columns - 1) / columns * PANEL;
        int64_t height = (tiles + groups - 1) / groups * ROWS;
        int64_t cost = width * height + 16 * (width + height); /* multiplied; read */
        if (cost < least) {
            least = cost;
            best = columns;
        }
    }
    return best;
}

static void run(const struct own_call *call)
{
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    const struct op_conv *conv = call->op->kind == OP_CONV ? &call->op->conv : NULL;
    struct product p = {.x = call->inputs[0],
                        .bias = call->packed,
                        .y = call->output,
                        .channels = in->dims[in->rank - 1],
                        .units = out->dims[out->rank - 1],
                        .taps = conv ? taps_of(conv) : 1,
                        .tail = &call->tail};
    for (int i = 0; i < SPATIAL_MAX; i++) {
        int from = conv ? i - (SPATIAL_MAX - conv->spatial) : -1;
        p.axes[i] = (struct axis){1, 1, 1, 1, 1, 0};
        if (from >= 0)
            p.axes[i] =
                (struct axis){in->dims[1 + from], out->dims[1 + from],  conv->kernel[from],
                              conv->stride[from], conv->dilation[from], conv->pad_before[from]};
    }
    p.pixels = shape_elements(out) / p.units;
    p.weights = p.bias + round_up(p.units, LANES);
#pragma omp parallel
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t columns = columns_of(p.pixels, p.units, threads), groups = threads / columns;
        int64_t column = thread / groups, group = thread % groups;
        int64_t tiles = (p.pixels + ROWS - 1) / ROWS, panels = (p.units + PANEL - 1) / PANEL;
        const int64_t mine[2] = {panels * column / columns, panels * (column + 1) / columns};
        const int64_t pixels[2] = {tiles * group / groups * ROWS,
                                   group + 1 < groups ? tiles * (group + 1) / groups * ROWS
                                                      : p.pixels};
        char *room = (char *)call->scratch + thread * room_bytes(p.taps, p.channels);
        run_share(&p, room, pixels, mine);
    }
}
#else
static void run(const struct own_call *call)
{
    (void)call; /* packed_bytes() says 0 */
}
#endif

const struct own_conv own_product = {sizeof(float), packed_bytes, pack, run, scratch_bytes};
