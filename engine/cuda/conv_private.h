/* Between conv.c (descriptors), conv_search.c (engines) and nobody else. */
#ifndef LAYERTOP_ENGINE_CUDA_CONV_PRIVATE_H
#define LAYERTOP_ENGINE_CUDA_CONV_PRIVATE_H

#include "engine/cuda/conv.h"

#define CONV_PARTS_MAX 48

/* Descriptors being made. The first failure is kept and makes everything after it do nothing. */
struct conv_builder {
    const struct libraries *libraries;
    struct error *error;
    bool good;
    cudnnBackendDescriptor_t parts[CONV_PARTS_MAX];
    size_t count;
};

bool conv_step(struct conv_builder *b, cudnnStatus_t status, const char *call);
/* A new descriptor, destroyed by conv_destroy(). */
cudnnBackendDescriptor_t conv_make(struct conv_builder *b, cudnnBackendDescriptorType_t type);
void conv_set(struct conv_builder *b, cudnnBackendDescriptor_t descriptor,
              cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
              const void *values);
void conv_set_part(struct conv_builder *b, cudnnBackendDescriptor_t descriptor,
                   cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t part);
void conv_finish(struct conv_builder *b, cudnnBackendDescriptor_t descriptor);
/* Destroy all but the first `keep`. */
void conv_destroy(struct conv_builder *b, size_t keep);

/* The operation graph of a problem. */
cudnnBackendDescriptor_t conv_operations(struct conv_builder *b, const struct conv_target *target,
                                         const struct conv_problem *problem);

#endif
