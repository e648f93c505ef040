/* Depthwise convolution in bfloat16, channels last, with AVX-512.
 *
 * A block of 32 channels is one register of input, taken apart into even and odd channels in
 * float32. A row of up to 7 output pixels of a block is summed in registers: every input pixel is
 * loaded once for each row of the kernel, and used for up to kernel-width sums. Seven, because the
 * images of the usual networks are 7, 14, 28, 56 and 112 wide. */
#include "engine/cpu/own_avx512.h"
#include <omp.h>
#include <string.h>

#define BLOCK    32   /* channels */
#define GROUP    8    /* blocks for which the pixels under a row of output are found once */
#define POINTERS 2048 /* of those pixels, most */
#define PIXELS   7    /* of output at a time: sums, cells and inputs just fit into 32 registers */

static size_t packed_bytes(const struct op_conv *conv, const struct shape *in,
                           const struct shape *out)
{
    int64_t channels = in->dims[in->rank - 1], width = conv->kernel[1];
    if (!own_has_avx512_bf16() || conv->spatial != 2 || conv->transposed || channels < BLOCK / 2 ||
        conv->groups != channels || out->dims[3] != channels || conv->dilation[0] != 1 ||
        conv->dilation[1] != 1 || (width != 3 && width != 5 && width != 7) || conv->stride[1] > 2)
        return 0;
    int64_t span = (out->dims[2] - 1) * conv->stride[1] + width;
    if (conv->kernel[0] * span > POINTERS)
        return 0;
    int64_t blocks = (channels + BLOCK - 1) / BLOCK;
    return (size_t)(blocks * (conv->kernel[0] * width + 1) * BLOCK) * sizeof(float) +
           (size_t)(blocks * BLOCK) * sizeof(uint16_t);
}

/* By block of channels: bias, then the kernel's cells; of each the even channels, then the odd. At
 * the end a pixel of zeros, which lies beside every image. */
static void pack(const struct op_conv *conv, const float *weights, const float *bias, void *to)
{
    int64_t channels = conv->groups, cells = conv->kernel[0] * conv->kernel[1];
    float *out = to;
    for (int64_t block = 0; block < channels; block += BLOCK) {
        for (int64_t cell = -1; cell < cells; cell++) {
            const float *row = cell < 0 ? bias : weights + cell * channels;
            for (int64_t i = 0; i < BLOCK; i++) {
                int64_t channel = block + i % 16 * 2 + i / 16;
                *out++ = row && channel < channels ? row[channel] : 0;
            }
        }
    }
    memset(out, 0, (size_t)((channels + BLOCK - 1) / BLOCK * BLOCK) * sizeof(uint16_t));
}

#ifdef OWN_AVX512

/* One row of output pixels of one block of channels. */
struct row {
    const uint16_t *const
        *pixels; /* [kernel row][span]: what lies under the output, at channel 0 */
    int64_t span;
    int64_t first, end; /* the rows of the kernel that are inside the image */
    int64_t channel, channels;
    const float *cells, *bias;
    const struct own_tail *tail;
    uint32_t mask; /* of the block's channels */
    int64_t out;   /* element of output and addend: the first pixel, channel 0 */
    uint16_t *y;
};

/* Sums in even and odd channels of `count` pixels from `x` on, finished and stored. */
OWN_INLINE void finish_as(const struct row *row, int64_t x, int count, const __m512 *sums,
                          enum unary_function function)
{
    const __m512 most = _mm512_set1_ps(row->tail->most);
    const uint16_t *addend = row->tail->addend;
    for (int p = 0; p < count; p++) {
        int64_t at = row->out + (x + p) * row->channels + row->channel;
        __m512 even = sums[2 * p], odd = sums[2 * p + 1];
        if (addend) {
            __m512i more = _mm512_maskz_loadu_epi16(row->mask, addend + at);
            even = _mm512_add_ps(even, own_even16(more));
            odd = _mm512_add_ps(odd, own_odd16(more));
        }
        __m512i both = own_narrow_even_odd(own_activate16(function, most, even),
                                           own_activate16(function, most, odd));
        _mm512_mask_storeu_epi16(row->y + at, row->mask, both);
    }
}

OWN_BF16 static void finish(const struct row *row, int64_t x, int count, const __m512 *sums){
#define FINISH(function) finish_as(row, x, count, sums, function)
    OWN_EACH_FUNCTION(row->tail->function, FINISH)
#undef FINISH
}

/* `count` output pixels from `x` on. All but `row` and `x` are constants where this is inlined. */
OWN_INLINE
    void convolve(const struct row *row, int64_t x, int width, int stride, int count, bool whole)
{
    __m512 even[PIXELS], odd[PIXELS], even_cell[7], odd_cell[7], sums[2 * PIXELS];
#pragma GCC unroll 8
    for (int p = 0; p < count; p++) {
        even[p] = _mm512_loadu_ps(row->bias);
        odd[p] = _mm512_loadu_ps(row->bias + 16);
    }
    for (int64_t ky = row->first; ky < row->end; ky++) {
        const uint16_t *const *pixels = row->pixels + ky * row->span + x * stride;
        const float *cells = row->cells + ky * width * BLOCK;
#pragma GCC unroll 8
        for (int kx = 0; kx < width; kx++) {
            even_cell[kx] = _mm512_loadu_ps(cells + kx * BLOCK);
            odd_cell[kx] = _mm512_loadu_ps(cells + kx * BLOCK + 16);
        }
#pragma GCC unroll 32
        for (int i = 0; i < (count - 1) * stride + width; i++) {
            const uint16_t *from = pixels[i] + row->channel;
            __m512i both =
                whole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16(row->mask, from);
            __m512 even_in = own_even16(both), odd_in = own_odd16(both);
#pragma GCC unroll 8
            for (int p = 0; p < count; p++) {
                int kx = i - p * stride;
                if (kx >= 0 && kx < width) {
                    even[p] = _mm512_fmadd_ps(even_in, even_cell[kx], even[p]);
                    odd[p] = _mm512_fmadd_ps(odd_in, odd_cell[kx], odd[p]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < count; p++) {
        sums[2 * p] = even[p];
        sums[2 * p + 1] = odd[p];
    }
    finish(row, x, count, sums);
}

/* A whole row: as many pixels at a time as there are registers, then two, then one. */
OWN_INLINE void convolve_row(const struct row *row, int64_t pixels, int width, int stride,
                             int count, bool whole)
{
    int64_t x = 0;
    for (; x + count <= pixels; x += count)
        convolve(row, x, width, stride, count, whole);
    for (; x + 2 <= pixels; x += 2)
        convolve(row, x, width, stride, 2, whole);
    for (; x < pixels; x++)
        convolve(row, x, width, stride, 1, whole);
}

#define ROW_FUNCTION(name, width, stride, count)                                                   \
    OWN_BF16 static void name(const struct row *row, int64_t pixels)                               \
    {                                                                                              \
        if (row->mask == UINT32_MAX)                                                               \
            convolve_row(row, pixels, width, stride, count, true);                                 \
        else                                                                                       \
            convolve_row(row, pixels, width, stride, count, false);                                \
    }
ROW_FUNCTION(row_3_1, 3, 1, PIXELS)
ROW_FUNCTION(row_3_2, 3, 2, PIXELS)
ROW_FUNCTION(row_5_1, 5, 1, PIXELS)
ROW_FUNCTION(row_5_2, 5, 2, PIXELS)
ROW_FUNCTION(row_7_1, 7, 1, PIXELS)
ROW_FUNCTION(row_7_2, 7, 2, PIXELS)

typedef void row_function(const struct row *row, int64_t pixels);

static row_function *row_function_of(const struct op_conv *conv)
{
    static row_function *const all[3][2] = {
        {row_3_1, row_3_2}, {row_5_1, row_5_2}, {row_7_1, row_7_2}};
    return all[(conv->kernel[1] - 3) / 2][conv->stride[1] - 1];
}

/* Where the input under output row `oy` of a sample lies; zeros beside the image. */
static void find_pixels(const struct own_call *call, int64_t sample, int64_t oy,
                        const uint16_t **pixels, struct row *row, const uint16_t *zeros)
{
    const struct op_conv *conv = &call->op->conv;
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    int64_t height = in->dims[1], width = in->dims[2], channels = in->dims[3];
    int64_t top = oy * conv->stride[0] - conv->pad_before[0], left = -conv->pad_before[1];
    const uint16_t *image = (const uint16_t *)call->inputs[0] + sample * height * width * channels;
    row->first = top < 0 ? -top : 0;
    row->end = height - top < conv->kernel[0] ? height - top : conv->kernel[0];
    for (int64_t ky = row->first; ky < row->end; ky++) {
        const uint16_t *line = image + (top + ky) * width * channels;
        for (int64_t i = 0; i < row->span; i++) {
            int64_t x = left + i;
            pixels[ky * row->span + i] = x >= 0 && x < width ? line + x * channels : zeros;
        }
    }
}

/* Items are (sample, group of blocks, output row), the last one counting fastest. */
static void run_items(const struct own_call *call, int64_t first, int64_t end,
                      const uint16_t *zeros)
{
    const struct op_conv *conv = &call->op->conv;
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t height = out->dims[1], width = out->dims[2], channels = out->dims[3];
    int64_t blocks = (channels + BLOCK - 1) / BLOCK, groups = (blocks + GROUP - 1) / GROUP;
    int64_t cells = conv->kernel[0] * conv->kernel[1];
    const uint16_t *pixels[POINTERS];
    struct row row = {.pixels = pixels,
                      .span = (width - 1) * conv->stride[1] + conv->kernel[1],
                      .channels = channels,
                      .tail = &call->tail,
                      .y = call->output};
    row_function *function = row_function_of(conv);
    for (int64_t item = first; item < end; item++) {
        int64_t oy = item % height, group = item / height % groups, sample = item / height / groups;
        find_pixels(call, sample, oy, pixels, &row, zeros);
        row.out = (sample * height + oy) * width * channels;
        for (int64_t b = group * GROUP; b < blocks && b < (group + 1) * GROUP; b++) {
            row.channel = b * BLOCK;
            row.bias = (const float *)call->packed + b * (cells + 1) * BLOCK;
            row.cells = row.bias + BLOCK;
            row.mask = own_mask32(channels - row.channel);
            function(&row, width);
        }
    }
}

static void run(const struct own_call *call)
{
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t blocks = (out->dims[3] + BLOCK - 1) / BLOCK, groups = (blocks + GROUP - 1) / GROUP;
    int64_t items = out->dims[0] * groups * out->dims[1];
    const uint16_t *zeros =
        (const uint16_t *)call->packed +
        blocks * (call->op->conv.kernel[0] * call->op->conv.kernel[1] + 1) * BLOCK * 2;
#pragma omp parallel
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        run_items(call, items * thread / threads, items * (thread + 1) / threads, zeros);
    }
}
#else
static void run(const struct own_call *call)
{
    (void)call; /* packed_bytes() says 0 */
}
#endif

const struct own_conv own_depthwise = {sizeof(uint16_t), packed_bytes, pack, run, NULL};
