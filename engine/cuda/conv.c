#include "engine/cuda/check.h"
#include "engine/cuda/conv_private.h"
#include <string.h>

/* unique ids of the tensors in a graph */
enum { UID_X = 1, UID_W, UID_Y, UID_BIAS, UID_Z, UID_VIRTUAL };

bool conv_step(struct conv_builder *b, cudnnStatus_t status, const char *call)
{
    b->good = b->good && cudnn_check(b->libraries, status, call, "convolution", b->error);
    return b->good;
}

cudnnBackendDescriptor_t conv_make(struct conv_builder *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t descriptor = NULL;
    if (b->good && b->count < CONV_PARTS_MAX &&
        conv_step(b, b->libraries->cudnn.cudnnBackendCreateDescriptor(type, &descriptor),
                  "cudnnBackendCreateDescriptor")) {
        b->parts[b->count++] = descriptor;
    }
    return descriptor;
}

void conv_set(struct conv_builder *b, cudnnBackendDescriptor_t descriptor,
              cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void *values)
{
    if (b->good) {
        conv_step(
            b, b->libraries->cudnn.cudnnBackendSetAttribute(descriptor, name, type, count, values),
            "cudnnBackendSetAttribute");
    }
}

void conv_set_part(struct conv_builder *b, cudnnBackendDescriptor_t descriptor,
                   cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part)
{
    conv_set(b, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

void conv_finish(struct conv_builder *b, cudnnBackendDescriptor_t descriptor)
{
    if (b->good) {
        conv_step(b, b->libraries->cudnn.cudnnBackendFinalize(descriptor), "cudnnBackendFinalize");
    }
}

void conv_destroy(struct conv_builder *b, size_t keep)
{
    while (b->count > keep) {
        b->libraries->cudnn.cudnnBackendDestroyDescriptor(b->parts[--b->count]);
    }
}

static cudnnDataType_t data_type(enum dtype dtype)
{
    return dtype == DTYPE_F16    ? CUDNN_DATA_HALF
           : dtype == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16
                                 : CUDNN_DATA_FLOAT;
}

/* A tensor of the problem's type and layout. dims are N, C, spatial...; what is virtual is kept in
 * float32. */
static cudnnBackendDescriptor_t tensor(struct conv_builder *b, const struct conv_problem *problem,
                                       int64_t uid, int rank, const int64_t *dims, bool is_virtual)
{
    cudnnBackendDescriptor_t d = conv_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnDataType_t type = is_virtual ? CUDNN_DATA_FLOAT : data_type(problem->dtype);
    int64_t strides[5], alignment = 16, stride = 1;

    if (!problem->channels_first) {
        strides[1] = 1;
        stride = dims[1];
    }
    for (int i = rank - 1; i >= 2; i--) {
        strides[i] = stride;
        stride *= dims[i];
    }
    if (problem->channels_first) {
        strides[1] = stride;
        stride *= dims[1];
    }
    strides[0] = stride;
    conv_set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    conv_set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, rank, dims);
    conv_set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, rank, strides);
    conv_set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    conv_set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual) {
        conv_set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    }
    conv_finish(b, d);
    return d;
}

/* y = pointwise(x[, other]) */
static cudnnBackendDescriptor_t pointwise(struct conv_builder *b, cudnnPointwiseMode_t mode,
                                          cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t other,
                                          cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t kind = conv_make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    conv_set(b, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    conv_set(b, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    conv_finish(b, kind);
    cudnnBackendDescriptor_t op = conv_make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other != NULL) {
        conv_set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    }
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    conv_finish(b, op);
    return op;
}

/* Padding behind that the geometry needs; what the last window does not reach is left away. */
static int64_t pad_after(const struct kernel_conv *shape, int axis)
{
    int64_t from = shape->transposed ? shape->out[axis] : shape->in[axis];
    int64_t to = shape->transposed ? shape->in[axis] : shape->out[axis];
    int64_t extent = (shape->kernel[axis] - 1) * shape->dilation[axis] + 1;
    int64_t after = (to - 1) * shape->stride[axis] + extent - from - shape->pad[axis];
    return after > 0 ? after : 0;
}

static cudnnBackendDescriptor_t convolution(struct conv_builder *b,
                                            const struct conv_problem *problem,
                                            cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y)
{
    const struct kernel_conv *s = &problem->shape;
    cudnnBackendDescriptor_t kind = conv_make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    float alpha = 1.0f, beta = 0.0f;
    int first = problem->spatial == 3 ? 0 : 1;
    int64_t axes = 3 - first, after[3];

    for (int i = first; i < 3; i++) {
        after[i] = pad_after(s, i);
    }
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, axes, s->pad + first);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, axes, after + first);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, axes,
             s->dilation + first);
    conv_set(b, kind, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, axes,
             s->stride + first);
    conv_finish(b, kind);
    if (s->transposed) { /* the data gradient of the convolution that maps y to x */
        cudnnBackendDescriptor_t op =
            conv_make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, kind);
        conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, x);
        conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w);
        conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, y);
        conv_set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1,
                 &alpha);
        conv_set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
        conv_finish(b, op);
        return op;
    }
    cudnnBackendDescriptor_t op =
        conv_make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, kind);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    conv_set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    conv_set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha);
    conv_set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
    conv_finish(b, op);
    return op;
}

cudnnBackendDescriptor_t conv_operations(struct conv_builder *b, const struct conv_target *target,
                                         const struct conv_problem *problem)
{
    const struct kernel_conv *s = &problem->shape;
    int first = problem->spatial == 3 ? 0 : 1, rank = 5 - first;
    int64_t xd[5] = {s->batch, s->in_channels}, yd[5] = {s->batch, s->out_channels};
    int64_t wd[5] = {s->out_channels, s->in_channels / s->groups};
    int64_t bd[5] = {1, s->out_channels, 1, 1, 1};
    cudnnBackendDescriptor_t ops[4];
    int64_t count = 0, uid = UID_VIRTUAL;

    if (s->transposed) {
        wd[0] = s->in_channels;
        wd[1] = s->out_channels / s->groups;
    }
    for (int i = first; i < 3; i++) {
        xd[2 + i - first] = s->in[i];
        yd[2 + i - first] = s->out[i];
        wd[2 + i - first] = s->kernel[i];
    }
    cudnnBackendDescriptor_t x = tensor(b, problem, UID_X, rank, xd, false);
    cudnnBackendDescriptor_t w = tensor(b, problem, UID_W, rank, wd, false);
    cudnnBackendDescriptor_t y = tensor(b, problem, UID_Y, rank, yd, false);
    int stages = problem->sum + problem->bias + problem->relu;
    cudnnBackendDescriptor_t now = stages > 0 ? tensor(b, problem, uid++, rank, yd, true) : y;
    ops[count++] = convolution(b, problem, x, w, now);
    if (problem->sum) {
        cudnnBackendDescriptor_t z = tensor(b, problem, UID_Z, rank, yd, false);
        cudnnBackendDescriptor_t next =
            --stages > 0 ? tensor(b, problem, uid++, rank, yd, true) : y;
        ops[count++] = pointwise(b, CUDNN_POINTWISE_ADD, now, z, next);
        now = next;
    }
    if (problem->bias) {
        cudnnBackendDescriptor_t bias = tensor(b, problem, UID_BIAS, rank, bd, false);
        cudnnBackendDescriptor_t next =
            --stages > 0 ? tensor(b, problem, uid++, rank, yd, true) : y;
        ops[count++] = pointwise(b, CUDNN_POINTWISE_ADD, now, bias, next);
        now = next;
    }
    if (problem->relu) {
        ops[count++] = pointwise(b, CUDNN_POINTWISE_RELU_FWD, now, NULL, y);
    }
    cudnnBackendDescriptor_t graph = conv_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    conv_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
    if (target->handle != NULL) {
        conv_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    }
    conv_finish(b, graph);
    return graph;
}

cudnnBackendDescriptor_t conv_pack_new(const struct libraries *libraries, const void *x,
                                       const void *weights, const void *y, const void *bias,
                                       const void *z, void *workspace, struct error *error)
{
    struct conv_builder b = {.libraries = libraries, .error = error, .good = true};
    cudnnBackendDescriptor_t pack = conv_make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    const void *pointers[5] = {x, weights, y};
    int64_t ids[5] = {UID_X, UID_W, UID_Y}, count = 3;

    if (bias != NULL) {
        pointers[count] = bias;
        ids[count++] = UID_BIAS;
    }
    if (z != NULL) {
        pointers[count] = z;
        ids[count++] = UID_Z;
    }
    conv_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    conv_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    conv_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    conv_finish(&b, pack);
    if (!b.good) {
        conv_destroy(&b, 0);
        return NULL;
    }
    return pack;
}

cudnnBackendDescriptor_t conv_properties_new(const struct libraries *libraries, const char *json,
                                             struct error *error)
{
    struct conv_builder b = {.libraries = libraries, .error = error, .good = true};
    cudnnBackendDescriptor_t properties = conv_make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    conv_set(&b, properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
             (int64_t)strlen(json) + 1, json);
    conv_finish(&b, properties);
    if (!b.good) {
        conv_destroy(&b, 0);
        return NULL;
    }
    return properties;
}
