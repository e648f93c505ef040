#include "engine/cuda/conv.h"
#include "engine/cuda/check.h"
#include "engine/cuda/device.h"
#include <stdlib.h>
#include <string.h>

/* unique ids of the tensors in a graph */
enum { UID_X = 1, UID_W, UID_Y, UID_BIAS, UID_Z, UID_VIRTUAL };

#define PARTS_MAX   32
#define CONFIGS_MAX 128

/* Descriptors being made. The first failure is kept and makes everything after it do nothing. */
struct builder {
    const struct libraries *libraries;
    struct error *error;
    bool good;
    cudnnBackendDescriptor_t parts[PARTS_MAX];
    size_t count;
};

static bool step(struct builder *b, cudnnStatus_t status, const char *call)
{
    b->good = b->good && cudnn_check(b->libraries, status, call, "convolution", b->error);
    return b->good;
}

static cudnnBackendDescriptor_t make(struct builder *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t descriptor = NULL;
    if (b->good && b->count < PARTS_MAX &&
        step(b, b->libraries->cudnn.cudnnBackendCreateDescriptor(type, &descriptor),
             "cudnnBackendCreateDescriptor")) {
        b->parts[b->count++] = descriptor;
    }
    return descriptor;
}

static void set(struct builder *b, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                const void *values)
{
    if (b->good) {
        step(b, b->libraries->cudnn.cudnnBackendSetAttribute(descriptor, name, type, count, values),
             "cudnnBackendSetAttribute");
    }
}

static void set_part(struct builder *b, cudnnBackendDescriptor_t descriptor,
                     cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part)
{
    set(b, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static void finish(struct builder *b, cudnnBackendDescriptor_t descriptor)
{
    if (b->good) {
        step(b, b->libraries->cudnn.cudnnBackendFinalize(descriptor), "cudnnBackendFinalize");
    }
}

static void destroy(struct builder *b, size_t keep)
{
    while (b->count > keep) {
        b->libraries->cudnn.cudnnBackendDestroyDescriptor(b->parts[--b->count]);
    }
}

/* A float tensor. dims are N, C, spatial...; channels lie innermost. */
static cudnnBackendDescriptor_t tensor(struct builder *b, int64_t uid, int rank,
                                       const int64_t *dims, bool is_virtual)
{
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int64_t strides[5], alignment = 16;

    strides[1] = 1;
    int64_t stride = dims[1];
    for (int i = rank - 1; i >= 2; i--) {
        strides[i] = stride;
        stride *= dims[i];
    }
    strides[0] = stride;
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, rank, dims);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, rank, strides);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual) {
        set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    }
    finish(b, d);
    return d;
}

/* y = pointwise(x[, other]) */
static cudnnBackendDescriptor_t pointwise(struct builder *b, cudnnPointwiseMode_t mode,
                                          cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t other,
                                          cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t kind = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    set(b, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    finish(b, kind);
    cudnnBackendDescriptor_t op = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other != NULL) {
        set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    }
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    finish(b, op);
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

static cudnnBackendDescriptor_t convolution(struct builder *b, const struct conv_problem *problem,
                                            cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                                            cudnnBackendDescriptor_t y)
{
    const struct kernel_conv *s = &problem->shape;
    cudnnBackendDescriptor_t kind = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    float alpha = 1.0f, beta = 0.0f;
    int first = problem->spatial == 3 ? 0 : 1;
    int64_t axes = 3 - first, after[3];

    for (int i = first; i < 3; i++) {
        after[i] = pad_after(s, i);
    }
    set(b, kind, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, axes, s->pad + first);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, axes, after + first);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, axes, s->dilation + first);
    set(b, kind, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, axes, s->stride + first);
    finish(b, kind);
    if (s->transposed) { /* the data gradient of the convolution that maps y to x */
        cudnnBackendDescriptor_t op =
            make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, kind);
        set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, x);
        set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w);
        set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, y);
        set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha);
        set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
        finish(b, op);
        return op;
    }
    cudnnBackendDescriptor_t op = make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, kind);
    set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_part(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(b, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
    finish(b, op);
    return op;
}

/* The operation graph of a problem. */
static cudnnBackendDescriptor_t operations(struct builder *b, const struct conv_target *target,
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
    cudnnBackendDescriptor_t x = tensor(b, UID_X, rank, xd, false);
    cudnnBackendDescriptor_t w = tensor(b, UID_W, rank, wd, false);
    cudnnBackendDescriptor_t y = tensor(b, UID_Y, rank, yd, false);
    int stages = problem->sum + problem->bias + problem->relu;
    cudnnBackendDescriptor_t now = stages > 0 ? tensor(b, uid++, rank, yd, true) : y;
    ops[count++] = convolution(b, problem, x, w, now);
    if (problem->sum) {
        cudnnBackendDescriptor_t z = tensor(b, UID_Z, rank, yd, false);
        cudnnBackendDescriptor_t next = --stages > 0 ? tensor(b, uid++, rank, yd, true) : y;
        ops[count++] = pointwise(b, CUDNN_POINTWISE_ADD, now, z, next);
        now = next;
    }
    if (problem->bias) {
        cudnnBackendDescriptor_t bias = tensor(b, UID_BIAS, rank, bd, false);
        cudnnBackendDescriptor_t next = --stages > 0 ? tensor(b, uid++, rank, yd, true) : y;
        ops[count++] = pointwise(b, CUDNN_POINTWISE_ADD, now, bias, next);
        now = next;
    }
    if (problem->relu) {
        ops[count++] = pointwise(b, CUDNN_POINTWISE_RELU_FWD, now, NULL, y);
    }
    cudnnBackendDescriptor_t graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
    if (target->handle != NULL) {
        set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    }
    finish(b, graph);
    return graph;
}

/* What a configuration's engine is, from its notes. */
struct traits {
    int64_t index;
    bool runtime_compiled, inexact, tensor_core;
};

static bool read_traits(struct builder *b, cudnnBackendDescriptor_t config, struct traits *out)
{
    const struct libraries *l = b->libraries;
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0, notes_count = 0, behaviour_count = 0;

    memset(out, 0, sizeof *out);
    if (l->cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) !=
        CUDNN_STATUS_SUCCESS) {
        return false;
    }
    bool good =
        l->cudnn.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                          &engine) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                                          1, &count, &out->index) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(
            engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
            CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &notes_count, notes) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                          CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT,
                                          &behaviour_count, behaviour) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; good && i < notes_count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
            out->tensor_core = true;
            break;
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_FFT:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
            out->inexact = true;
            break;
        default:
            break;
        }
    }
    for (int64_t i = 0; good && i < behaviour_count && i < CUDNN_BEHAVIOR_NOTE_TYPE_COUNT; i++) {
        out->runtime_compiled |= behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    }
    l->cudnn.cudnnBackendDestroyDescriptor(engine);
    return good;
}

/* Finalise a plan of this configuration; NULL if the engine does not take it after all. */
static struct conv_engine *try_config(struct builder *b, const struct conv_target *target,
                                      cudnnBackendDescriptor_t config, const struct traits *traits,
                                      uint64_t workspace_cap)
{
    struct builder attempt = {.libraries = b->libraries, .error = b->error, .good = true};
    cudnnBackendDescriptor_t plan = make(&attempt, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t workspace = 0, count = 0;

    set_part(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (target->handle != NULL) {
        set(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
            &target->handle);
    } else {
        set_part(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target->properties);
    }
    finish(&attempt, plan);
    if (attempt.good) {
        step(&attempt,
             b->libraries->cudnn.cudnnBackendGetAttribute(plan,
                                                          CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                          CUDNN_TYPE_INT64, 1, &count, &workspace),
             "cudnnBackendGetAttribute");
    }
    if (!attempt.good || workspace < 0 || (uint64_t)workspace > workspace_cap) {
        if (attempt.good) {
            error_set(b->error, ERROR_CUDA, "convolution",
                      "engine %lld wants %.0f MiB of workspace", (long long)traits->index,
                      (double)workspace / 1048576);
        }
        destroy(&attempt, 0);
        return NULL;
    }
    struct conv_engine *engine = xcalloc(1, sizeof *engine);
    engine->plan = plan;
    engine->workspace_bytes = (uint64_t)workspace;
    engine->index = traits->index;
    engine->runtime_compiled = traits->runtime_compiled;
    return engine;
}

/* Try the configurations of one heuristic mode in their order. */
static struct conv_engine *try_mode(struct builder *b, const struct conv_target *target,
                                    const struct conv_problem *problem,
                                    cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                                    bool runtime_compiled, uint64_t workspace_cap)
{
    const struct libraries *l = b->libraries;
    struct builder h = {.libraries = l, .error = b->error, .good = true};
    cudnnBackendDescriptor_t heuristic = make(&h, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    cudnnBackendDescriptor_t configs[CONFIGS_MAX];
    int64_t offered = 0, count = 0, made = 0;
    struct conv_engine *engine = NULL;

    set_part(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (target->handle == NULL) {
        set_part(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target->properties);
    }
    finish(&h, heuristic);
    if (h.good) {
        step(&h,
             l->cudnn.cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &offered, NULL),
             "cudnnBackendGetAttribute");
    }
    offered = offered < CONFIGS_MAX ? offered : CONFIGS_MAX;
    while (h.good && made < offered &&
           step(&h,
                l->cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                                      &configs[made]),
                "cudnnBackendCreateDescriptor")) {
        made++;
    }
    if (h.good && made > 0) {
        step(&h,
             l->cudnn.cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &count,
                                               configs),
             "cudnnBackendGetAttribute");
    }
    int64_t kept = -1;
    for (int64_t i = 0; h.good && i < count && i < made && engine == NULL; i++) {
        struct traits traits;
        if (!read_traits(b, configs[i], &traits) || traits.runtime_compiled != runtime_compiled ||
            (!problem->tf32 && (traits.tensor_core || traits.inexact))) {
            continue;
        }
        engine = try_config(b, target, configs[i], &traits, workspace_cap);
        kept = engine != NULL ? i : -1;
    }
    for (int64_t i = 0; i < made; i++) {
        if (i != kept) {
            l->cudnn.cudnnBackendDestroyDescriptor(configs[i]);
        }
    }
    if (engine != NULL) {
        engine->parts = xcalloc(PARTS_MAX + 1, sizeof *engine->parts);
        engine->parts[engine->part_count++] = configs[kept];
    }
    destroy(&h, 0);
    return engine;
}

struct conv_engine *conv_engine_find(const struct libraries *libraries,
                                     const struct conv_target *target,
                                     const struct conv_problem *problem, struct error *error)
{
    static const struct {
        cudnnBackendHeurMode_t mode;
        bool runtime_compiled;
        uint64_t workspace_cap;
    } passes[] = {
        {CUDNN_HEUR_MODE_A, false, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_FALLBACK, false, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_A, true, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_A, false, UINT64_MAX},
        {CUDNN_HEUR_MODE_FALLBACK, true, UINT64_MAX},
    };
    struct error unused;
    struct builder b = {
        .libraries = libraries, .error = error != NULL ? error : &unused, .good = true};
    struct conv_engine *engine = NULL;

    error_set(b.error, ERROR_CUDA, "convolution", "cuDNN offers no engine for it");
    cudnnBackendDescriptor_t graph = operations(&b, target, problem);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0] && b.good && engine == NULL; i++) {
        engine = try_mode(&b, target, problem, graph, passes[i].mode, passes[i].runtime_compiled,
                          passes[i].workspace_cap);
    }
    if (engine == NULL) {
        destroy(&b, 0);
        return NULL;
    }
    memcpy(engine->parts + engine->part_count, b.parts, b.count * sizeof b.parts[0]);
    engine->part_count += b.count;
    return engine;
}

void conv_engine_free(const struct libraries *libraries, struct conv_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    libraries->cudnn.cudnnBackendDestroyDescriptor(engine->plan);
    for (size_t i = engine->part_count; i-- > 0;) {
        libraries->cudnn.cudnnBackendDestroyDescriptor(engine->parts[i]);
    }
    free(engine->parts);
    free(engine);
}

/* Found engines, and problems known to have none. */
struct conv_cache {
    struct conv_problem problem;
    struct conv_engine *engine;
    struct conv_cache *next;
};

const struct conv_engine *conv_cache_find(struct device *device, const struct conv_problem *problem)
{
    for (struct conv_cache *entry = device->conv_cache; entry != NULL; entry = entry->next) {
        if (memcmp(&entry->problem, problem, sizeof *problem) == 0) {
            return entry->engine;
        }
    }
    struct conv_target target = {.handle = device->cudnn};
    struct conv_cache *entry = xcalloc(1, sizeof *entry);
    memcpy(&entry->problem, problem, sizeof *problem);
    entry->engine = conv_engine_find(device->libraries, &target, problem, NULL);
    entry->next = device->conv_cache;
    device->conv_cache = entry;
    return entry->engine;
}

void conv_cache_free(struct device *device)
{
    while (device->conv_cache != NULL) {
        struct conv_cache *entry = device->conv_cache;
        device->conv_cache = entry->next;
        conv_engine_free(device->libraries, entry->engine);
        free(entry);
    }
}

cudnnBackendDescriptor_t conv_pack_new(const struct libraries *libraries, const void *x,
                                       const void *weights, const void *y, const void *bias,
                                       const void *z, void *workspace, struct error *error)
{
    struct builder b = {.libraries = libraries, .error = error, .good = true};
    cudnnBackendDescriptor_t pack = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
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
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, pack);
    if (!b.good) {
        destroy(&b, 0);
        return NULL;
    }
    return pack;
}

cudnnBackendDescriptor_t conv_properties_new(const struct libraries *libraries, const char *json,
                                             struct error *error)
{
    struct builder b = {.libraries = libraries, .error = error, .good = true};
    cudnnBackendDescriptor_t properties = make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    set(&b, properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
        (int64_t)strlen(json) + 1, json);
    finish(&b, properties);
    if (!b.good) {
        destroy(&b, 0);
        return NULL;
    }
    return properties;
}
