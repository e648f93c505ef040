/* 1x1 convolution in bfloat16 as a matrix product with AMX: (pixels, C) x (C, K).
 *
 * A block of 32 pixels by 32 channels of output is summed in four tiles. The tiles go through a
 * buffer in the first-level cache, from where rows are finished (bias, addend, function) and
 * written as bfloat16. In networks of expanding and projecting convolutions the function costs more
 * than the products: that is what this kernel is for. */
#include "engine/cpu/own_tile.h"
#include <omp.h>
#include <string.h>

#define TILE 16 /* rows, and columns of float32 */
#define WIDE 32 /* two tiles; and the most channels that one product sums */

/* Of a second-level cache of 1 to 2 MiB. */
#define WEIGHTS_BYTES (1 << 20)
#define PIXELS_BYTES  (512 << 10)

/* Channels that one tile product sums: an even divisor of C, and not much less than 32. */
static int64_t depth_of(int64_t channels)
{
    for (int64_t parts = (channels + WIDE - 1) / WIDE; channels / parts >= TILE; parts++) {
        if (channels % (2 * parts) == 0)
            return channels / parts;
    }
    return 0;
}

static int64_t round_up(int64_t value, int64_t step)
{
    return (value + step - 1) / step * step;
}

/* Weights that do not stay in the second-level cache beside everything else. */
static bool heavy(int64_t channels, int64_t units)
{
    return channels * units * (int64_t)sizeof(uint16_t) >= WEIGHTS_BYTES;
}

static bool strided(const struct op_conv *conv)
{
    bool any = false;
    for (int i = 0; i < conv->spatial; i++)
        any |= conv->stride[i] != 1;
    return any;
}

/* The pixels that a stride leaves over, side by side. */
static size_t scratch_bytes(const struct op_conv *conv, const struct shape *in,
                            const struct shape *out, int threads)
{
    (void)threads;
    int64_t pixels = shape_elements(out) / out->dims[out->rank - 1];
    return strided(conv) ? (size_t)(pixels * in->dims[in->rank - 1]) * sizeof(uint16_t) : 0;
}

static size_t packed_bytes(const struct op_conv *conv, const struct shape *in,
                           const struct shape *out)
{
    int64_t channels = in->dims[in->rank - 1], units = out->dims[out->rank - 1];
    if (!own_has_amx_bf16() || conv->transposed || conv->groups != 1 || depth_of(channels) == 0 ||
        (strided(conv) && (conv->spatial != 2 || !heavy(channels, units))))
        return 0;
    for (int i = 0; i < conv->spatial; i++) {
        if (conv->kernel[i] != 1 || conv->pad_before[i] != 0 || conv->pad_after[i] != 0)
            return 0;
    }
    int64_t columns = round_up(units, WIDE);
    return (size_t)(columns * channels) * sizeof(uint16_t) + (size_t)columns * sizeof(float);
}

/* The bias in float32; then for every 16 columns, every two channels, every column: the two. */
static void pack(const struct op_conv *conv, const float *weights, const float *bias, void *to)
{
    const struct shape *shape = &conv->weights->shape;
    int64_t channels = shape->dims[shape->rank - 2], units = shape->dims[shape->rank - 1];
    int64_t columns = round_up(units, WIDE);
    float *sums = to;
    for (int64_t k = 0; k < columns; k++)
        sums[k] = bias && k < units ? bias[k] : 0;
    uint16_t *out = (uint16_t *)(sums + columns);
    for (int64_t block = 0; block < columns; block += TILE) {
        for (int64_t c = 0; c < channels; c += 2) {
            float pairs[2 * TILE];
            for (int64_t i = 0; i < 2 * TILE; i++) {
                int64_t k = block + i / 2;
                pairs[i] = k < units ? weights[(c + i % 2) * units + k] : 0;
            }
            own_narrow_row(pairs, out, 2 * TILE);
            out += 2 * TILE;
        }
    }
}

#ifdef OWN_AVX512
/* The product of a call, and where its arrays lie. */
struct product {
    const uint16_t *x, *weights;
    const float *bias;
    uint16_t *y;
    int64_t pixels, channels, units, depth;
    const struct own_tail *tail;
};

/* Tiles 0..3 are sums, 4 and 5 pixels, 6 and 7 weights. */
OWN_AMX static void configure(int64_t pixels, int64_t depth)
{
    struct own_tile_config config = {.palette = 1};
    uint8_t upper = (uint8_t)(pixels < TILE ? pixels : TILE);
    uint8_t lower = (uint8_t)(pixels > TILE ? pixels - TILE : 1);
    const uint8_t rows[8] = {
        upper, upper, lower, lower, upper, lower, (uint8_t)(depth / 2), (uint8_t)(depth / 2)};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = rows[i];
        config.row_bytes[i] = i == 4 || i == 5 ? (uint16_t)(depth * 2) : 64;
    }
    own_tile_load(&config);
}

/* sums[32][32] of the block; which of the tiles there are is constant where this is inlined. */
OWN_AMX_INLINE void multiply(const struct product *p, const uint16_t *x, const uint16_t *weights,
                             bool lower, bool right, float *sums)
{
    int64_t row_bytes = p->channels * 2, next = p->channels * TILE;
    _tile_zero(0);
    if (right)
        _tile_zero(1);
    if (lower)
        _tile_zero(2);
    if (lower && right)
        _tile_zero(3);
    for (int64_t c = 0; c < p->channels; c += p->depth) {
        _tile_loadd(4, x + c, row_bytes);
        _tile_loadd(6, weights + c * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (right) {
            _tile_loadd(7, weights + next + c * TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (lower) {
            _tile_loadd(5, x + next + c, row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            if (right)
                _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, WIDE * sizeof(float));
    if (right)
        _tile_stored(1, sums + TILE, WIDE * sizeof(float));
    if (lower)
        _tile_stored(2, sums + TILE * WIDE, WIDE * sizeof(float));
    if (lower && right)
        _tile_stored(3, sums + TILE * WIDE + TILE, WIDE * sizeof(float));
}

OWN_INLINE void finish_as(const struct product *p, int64_t pixel, int64_t rows, int64_t unit,
                          const float *sums, enum unary_function function, bool adds)
{
    const __m512 most = _mm512_set1_ps(p->tail->most);
    const __m512 low_bias = _mm512_loadu_ps(p->bias + unit);
    const __m512 high_bias = _mm512_loadu_ps(p->bias + unit + TILE);
    const uint32_t mask = own_mask32(p->units - unit);
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = (pixel + row) * p->units + unit;
        __m512 low = _mm512_add_ps(_mm512_loadu_ps(sums + row * WIDE), low_bias);
        __m512 high = _mm512_add_ps(_mm512_loadu_ps(sums + row * WIDE + TILE), high_bias);
        if (adds) {
            __m512i more = _mm512_maskz_loadu_epi16(mask, (const uint16_t *)p->tail->addend + at);
            low = _mm512_add_ps(low, own_widen16(_mm512_castsi512_si256(more)));
            high = _mm512_add_ps(high, own_widen16(_mm512_extracti64x4_epi64(more, 1)));
        }
        low = own_activate16(function, most, low);
        high = own_activate16(function, most, high);
        _mm512_mask_storeu_epi16(p->y + at, mask, own_narrow_halves(low, high));
    }
}

OWN_BF16 static void finish(const struct product *p, int64_t pixel, int64_t rows, int64_t unit,
                            const float *sums)
{
#define FINISH(function)                                                                           \
    do {                                                                                           \
        if (p->tail->addend)                                                                       \
            finish_as(p, pixel, rows, unit, sums, function, true);                                 \
        else                                                                                       \
            finish_as(p, pixel, rows, unit, sums, function, false);                                \
    } while (0)
    OWN_EACH_FUNCTION(p->tail->function, FINISH)
#undef FINISH
}

/* Blocks of pixels that are multiplied with a block of units one after another. Where the weights
 * do not stay in the cache, these pixels do instead. */
static int64_t group_of(const struct product *p)
{
    int64_t block_bytes = WIDE * p->channels * (int64_t)sizeof(uint16_t);
    if (!heavy(p->channels, p->units))
        return 1;
    return block_bytes < PIXELS_BYTES ? PIXELS_BYTES / block_bytes : 1;
}

/* Items are (group of blocks of pixels, block of units, block of pixels), the last one counting
 * fastest. */
OWN_AMX static void run_items(const struct product *p, int64_t first, int64_t end)
{
    _Alignas(64) float sums[WIDE * WIDE];
    struct own_tile_config before;
    int64_t across = (p->units + WIDE - 1) / WIDE, down = (p->pixels + WIDE - 1) / WIDE;
    int64_t group = group_of(p), configured = 0;
    own_tile_save(&before);
    for (int64_t item = first; item < end; item++) {
        int64_t begin = item / (group * across) * group;
        int64_t size = down - begin < group ? down - begin : group;
        int64_t within = item % (group * across);
        int64_t pixel = (begin + within % size) * WIDE, unit = within / size * WIDE;
        int64_t rows = p->pixels - pixel < WIDE ? p->pixels - pixel : WIDE;
        const uint16_t *x = p->x + pixel * p->channels, *weights = p->weights + unit * p->channels;
        bool right = p->units - unit > TILE;
        if (rows != configured)
            configure(rows, p->depth);
        configured = rows;
        if (rows > TILE && right)
            multiply(p, x, weights, true, true, sums);
        else if (rows > TILE)
            multiply(p, x, weights, true, false, sums);
        else if (right)
            multiply(p, x, weights, false, true, sums);
        else
            multiply(p, x, weights, false, false, sums);
        finish(p, pixel, rows, unit, sums);
    }
    own_tile_restore(&before);
}

/* Copy the pixels that count into the scratch. */
static void gather(const struct own_call *call, const struct shape *in, const struct shape *out)
{
    const struct op_conv *conv = &call->op->conv;
    int64_t width = out->dims[2], channels = in->dims[3], rows = out->dims[0] * out->dims[1];
    size_t bytes = (size_t)channels * sizeof(uint16_t);
#pragma omp parallel for if (rows * width * channels > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t line = row / out->dims[1] * in->dims[1] + row % out->dims[1] * conv->stride[0];
        const uint16_t *from = (const uint16_t *)call->inputs[0] + line * in->dims[2] * channels;
        uint16_t *to = (uint16_t *)call->scratch + row * width * channels;
        for (int64_t x = 0; x < width; x++)
            memcpy(to + x * channels, from + x * conv->stride[1] * channels, bytes);
    }
}

static void run(const struct own_call *call)
{
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t units = out->dims[out->rank - 1], channels = in->dims[in->rank - 1];
    const float *bias = call->packed;
    struct product product = {.x = call->inputs[0],
                              .weights = (const uint16_t *)(bias + round_up(units, WIDE)),
                              .bias = bias,
                              .y = call->output,
                              .pixels = shape_elements(out) / units,
                              .channels = channels,
                              .units = units,
                              .depth = depth_of(channels),
                              .tail = &call->tail};
    if (call->op->kind == OP_CONV && strided(&call->op->conv)) {
        gather(call, in, out);
        product.x = call->scratch;
    }
    int64_t items = (product.pixels + WIDE - 1) / WIDE * ((units + WIDE - 1) / WIDE);
#pragma omp parallel if (items > 1)
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        run_items(&product, items * thread / threads, items * (thread + 1) / threads);
    }
}
#else
static void run(const struct own_call *call)
{
    (void)call; /* packed_bytes() says 0 */
}
#endif

const struct own_conv own_pointwise = {sizeof(uint16_t), packed_bytes, pack, run, scratch_bytes};
