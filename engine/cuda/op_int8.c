/* Convolutions and dense layers of bytes, as steps of three kernels: ours quantises the float32 that
 * the op reads into rows, cuBLASLt multiplies them into int32, and ours makes float32 of the sums, with
 * the bias and the posts in its registers. A large result is made in parts, so that rows and sums
 * stay in the GPU's cache between the three. */
#include "engine/calibration.h"
#include "engine/cuda/check.h"
#include "engine/cuda/int8.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

#define PART_BYTES                                                                                 \
    (16 << 20) /* of rows and sums: a third of an H200's cache; x and y pass there too */
/* Rows are filled up to a multiple of this: cuBLASLt's int8 kernels refuse some small counts
 * (pytorch/pytorch, torch._int_mm: more than 16). */
#define ROWS_EACH 32

struct int8_data {
    struct step_product product;
    struct kernel_quantise quantise;
    struct kernel_dequantise dequantise;
    struct int8_layout layout;
    const struct upload *weights;
    int64_t part_rows;
    uint64_t rows_bytes; /* of a part, in front of its sums */
};

static void free_int8(struct plan *plan, struct step *step)
{
    (void)plan;
    free(step->data);
}

static bool run_part(struct plan *plan, struct step *step, int64_t first, float *target,
                     struct error *error)
{
    const struct int8_data *data = step->data;
    const struct step_product *product = &data->product;
    const struct matmul_entry *entry = product->entry;
    struct device *device = plan->device;
    char *rows = step_workspace(plan, step), *weights = data->weights->address;
    int32_t *sums = (int32_t *)(void *)(rows + data->rows_bytes);
    int64_t left = data->quantise.rows - first;
    const int32_t alpha = 1, beta = 0;

    return CUDA_OK(kernel_quantise(&data->quantise, first, data->part_rows,
                                   plan_address(plan, step->op->inputs[0]), rows, device->stream),
                   step->layer, error) &&
           CUBLASLT_OK(device->libraries,
                       cublasLtMatmul(device->cublaslt, entry->product, &alpha, weights, entry->a,
                                      rows, entry->b, &beta, sums, entry->d, sums, entry->d,
                                      product_algorithm(product), rows + product->beside_bytes,
                                      product_workspace(plan, product), device->stream),
                       step->layer, error) &&
           CUDA_OK(kernel_dequantise(&data->dequantise, first,
                                     left < data->part_rows ? left : data->part_rows, sums,
                                     (const float *)(void *)(weights + data->layout.steps_at),
                                     (const int32_t *)(void *)(weights + data->layout.sums_at),
                                     target, &step->chains[0].chain, device->stream),
                   step->layer, error);
}

static bool run_int8(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct int8_data *data = step->data;
    step_chain_resolve(plan, &step->chains[0], NULL);
    for (int64_t first = 0; first < data->quantise.rows; first += data->part_rows) {
        if (!run_part(plan, step, first, target, error)) {
            return false;
        }
    }
    return true;
}

/* The op's weights and bias if it can be a product of bytes, else NULL. */
static const struct constant *find_weights(const struct op *op, const struct constant **bias)
{
    if (op->kind == OP_MATMUL) {
        *bias = op->matmul.bias;
        return op->matmul.weights;
    }
    bool plain = op->kind == OP_CONV && !op->conv.transposed && op->conv.groups <= 1;
    *bias = plain ? op->conv.bias : NULL;
    return plain ? op->conv.weights : NULL;
}

/* How far the value reaches, as steps; false if that was never seen. */
static bool choose_step_size(const struct plan *plan, int value, struct int8_data *data)
{
    const struct value_range *range = &plan->options.ranges[graph_storage(plan->graph, value)];
    bool positive = range->least >= 0;
    float step = range->bound > 0 ? range->bound / (positive ? 255.0f : 127.0f) : 1.0f;

    data->quantise.positive = positive;
    data->quantise.inverse = 1 / step;
    data->dequantise.step = step;
    data->dequantise.shift = positive ? 128 : 0;
    return range->seen;
}

/* A product is a convolution of one tap. */
static void describe_rows(const struct plan *plan, const struct op *op, struct int8_data *data)
{
    const struct shape *x = plan_shape(plan, op->inputs[0]);
    const struct op_conv product = {.spatial = 0};
    const struct op_conv *conv = op->kind == OP_CONV ? &op->conv : &product;
    struct kernel_quantise *quantise = &data->quantise;

    conv_geometry(&quantise->conv, conv, x, plan_shape(plan, op->outputs[0]));
    if (op->kind == OP_MATMUL) {
        quantise->conv.batch = shape_elements(x) / x->dims[x->rank - 1];
    }
    const int64_t *out = quantise->conv.out;
    quantise->rows = quantise->conv.batch * out[0] * out[1] * out[2];
    quantise->depth = data->layout.depth;
    quantise->pitch = data->layout.pitch;
    data->dequantise.units = data->layout.units;
    data->dequantise.wide = data->layout.wide;
}

/* How many rows are made at a time, and what that needs. */
static void choose_parts(struct int8_data *data)
{
    int64_t each = data->layout.pitch + data->layout.wide * (int64_t)sizeof(int32_t);
    int64_t most = PART_BYTES / each / ROWS_EACH * ROWS_EACH, rows = data->quantise.rows;
    most = most > 0 ? most : ROWS_EACH;
    int64_t parts = (rows + most - 1) / most, share = (rows + parts - 1) / parts;
    data->part_rows = (share + ROWS_EACH - 1) / ROWS_EACH * ROWS_EACH;
    /* ROWS_EACH of them with multiples of 32 and 16 * 4 bytes: both are aligned */
    data->rows_bytes = (uint64_t)(data->part_rows * data->layout.pitch);
    data->product.beside_bytes =
        data->rows_bytes +
        (uint64_t)(data->part_rows * data->layout.wide) * (uint64_t)sizeof(int32_t);
}

static void finish_step(struct plan *plan, struct step *step, struct int8_data *data,
                        const struct constant *bias)
{
    int64_t parts = (data->quantise.rows + data->part_rows - 1) / data->part_rows;

    step->data = data;
    step->free_data = free_int8;
    step->impl = "cublaslt";
    step->bytes = true;
    step->tuning = &product_tuning;
    step->workspace_bytes = data->product.beside_bytes + data->product.entry->workspace_bytes;
    step_chain_begin(plan, step, -1);
    if (bias != NULL) {
        struct source source = {.value = -1, .upload = upload_plain(plan->device, bias)};
        step_chain_binary(plan, step, BINARY_ADD, false, source, &bias->shape);
    }
    /* a post's operand is read by the thread that writes the same element: overlap is no harm, so
     * `run` is set only after the posts */
    step_posts(plan, step, 0);
    step->first_chain_inside = true;
    step->kernels += (uint32_t)(3 * parts - 1); /* the first chain is inside the last of three */
    step->run = run_int8;
}

bool step_int8(struct plan *plan, struct step *step, bool *taken, struct error *error)
{
    const struct op *op = step->op;
    const struct constant *bias = NULL, *weights = find_weights(op, &bias);
    struct matmul_problem problem;

    *taken = false;
    if (weights == NULL || plan->storage[op->inputs[0]] != DTYPE_F32 ||
        plan->storage[op->outputs[0]] != DTYPE_F32) {
        return true;
    }
    struct int8_data *data = xcalloc(1, sizeof *data);
    data->layout = int8_layout_of(&weights->shape);
    bool good = choose_step_size(plan, op->inputs[0], data) && data->layout.depth > 0 &&
                data->layout.depth <= INT8_DEPTH_MAX;
    if (good) {
        describe_rows(plan, op, data);
        good = data->quantise.rows > 0;
    }
    if (!good) {
        free(data);
        return true;
    }
    choose_parts(data);
    memset(&problem, 0, sizeof problem);
    problem.rows = data->part_rows;
    problem.inner = data->layout.pitch;
    problem.units = data->layout.wide;
    problem.batch = 1;
    problem.dtype = DTYPE_I8;
    data->product.entry = plan_matmul_entry(plan, &problem, error);
    if (data->product.entry == NULL || !data->product.entry->usable) {
        good = data->product.entry != NULL;
        free(data);
        return good;
    }
    data->weights = upload_want(plan->device, weights,
                                (struct upload_kind){.form = FORM_INT8, .dtype = DTYPE_I8});
    finish_step(plan, step, data, bias);
    *taken = true;
    return true;
}
