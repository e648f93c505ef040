/* The key of a plan's measurements: a graph's fingerprint, the precision and the machine. */
#include "engine/cuda/plan_cache.h"
#include <inttypes.h>
#include <stdio.h>

static uint64_t add(uint64_t hash, int64_t number)
{
    return plan_hash(hash, &number, sizeof number);
}

static uint64_t add_shape(uint64_t hash, const struct shape *shape)
{
    hash = add(hash, shape->rank);
    return plan_hash(hash, shape->dims, (size_t)shape->rank * sizeof shape->dims[0]);
}

static uint64_t add_conv(uint64_t hash, const struct op_conv *conv)
{
    hash = add(add(add(hash, conv->spatial), conv->groups), conv->transposed);
    for (int i = 0; i < conv->spatial; i++) {
        hash = add(add(hash, conv->kernel[i]), conv->stride[i]);
        hash = add(add(hash, conv->dilation[i]), conv->pad_before[i]);
        hash = add(hash, conv->pad_after[i]);
    }
    return add(hash, conv->bias != NULL);
}

static uint64_t add_post(uint64_t hash, const struct graph *graph, const struct post *post)
{
    hash = add(hash, post->kind);
    if (post->kind == POST_UNARY) {
        hash = add(hash, post->unary.function);
        hash = plan_hash(hash, &post->unary.alpha, sizeof post->unary.alpha);
        return plan_hash(hash, &post->unary.beta, sizeof post->unary.beta);
    }
    return add_shape(add(hash, post->binary), &graph->values[post->value].shape);
}

uint64_t plan_graph_hash(const struct graph *graph)
{
    uint64_t hash = PLAN_HASH_START;
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        hash = add(hash, op->kind);
        for (size_t j = 0; j < op->input_count; j++) {
            hash = add_shape(add(hash, op->inputs[j]), &graph->values[op->inputs[j]].shape);
        }
        hash = add_shape(hash, &graph->values[op->outputs[0]].shape);
        if (op->kind == OP_CONV) {
            hash = add_conv(hash, &op->conv);
        } else if (op->kind == OP_MATMUL) {
            hash = add(add(hash, op->matmul.weights != NULL), op->matmul.bias != NULL);
        }
        for (size_t j = 0; j < op->post_count; j++) {
            hash = add_post(hash, graph, &op->posts[j]);
        }
    }
    return hash;
}

void plan_cache_name(struct plan_cache *cache, const struct graph *graph,
                     const struct plan_key *key)
{
    snprintf(cache->key, sizeof cache->key,
             "graph %016" PRIx64 " batch %lld %s %s sm %d.%d x%d cudnn %zu cublaslt %zu",
             plan_graph_hash(graph), (long long)graph->batch, key->precision, key->layout,
             key->compute_major, key->compute_minor, key->multiprocessors, key->cudnn_version,
             key->cublaslt_version);
}
