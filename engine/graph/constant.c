#include "engine/graph/constant.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct constant constant; /* first, so that addresses stay with the entry */
    char *key;
    struct entry *next;
};

#define BUCKETS 1024

struct constant_pool {
    struct entry *buckets[BUCKETS];
    uint64_t owned_bytes;
};

struct constant_pool *constant_pool_new(void)
{
    return xcalloc(1, sizeof(struct constant_pool));
}

void constant_pool_free(struct constant_pool *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = pool->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            if (entry->constant.owned)
                free((void *)(uintptr_t)entry->constant.data);
            free(entry->key);
            free(entry);
        }
    }
    free(pool);
}

uint64_t constant_pool_bytes(const struct constant_pool *pool)
{
    return pool->owned_bytes;
}

/* FNV-1a */
static size_t bucket_of(const char *key)
{
    uint64_t hash = 14695981039346656037u;
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 1099511628211u;
    return hash % BUCKETS;
}

const struct constant *constant_find(const struct constant_pool *pool, const char *key)
{
    for (const struct entry *entry = pool->buckets[bucket_of(key)]; entry; entry = entry->next) {
        if (strcmp(entry->key, key) == 0)
            return &entry->constant;
    }
    return NULL;
}

static struct constant *add(struct constant_pool *pool, const char *key, const struct shape *shape)
{
    struct entry *entry = xcalloc(1, sizeof *entry);
    size_t bucket = bucket_of(key);
    entry->key = xstrdup(key);
    entry->next = pool->buckets[bucket];
    entry->constant.shape = *shape;
    entry->constant.bytes = (uint64_t)shape_elements(shape) * sizeof(float);
    pool->buckets[bucket] = entry;
    return &entry->constant;
}

const struct constant *constant_new(struct constant_pool *pool, const char *key,
                                    const struct shape *shape, float **data, struct error *error)
{
    size_t bytes = (size_t)shape_elements(shape) * sizeof(float);
    *data = aligned_alloc(64, (bytes + 64) & ~(size_t)63);
    if (!*data) {
        error_set(error, ERROR_MEMORY, "weights", "no memory for %zu bytes of constants", bytes);
        return NULL;
    }
    struct constant *constant = add(pool, key, shape);
    constant->data = *data;
    constant->owned = true;
    pool->owned_bytes += bytes;
    return constant;
}

/* IEEE half to double */
static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    double fraction = bits & 1023;
    double value;
    if (exponent == 31)
        value = fraction != 0 ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(fraction + 1024, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

static double bfloat16_value(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return (double)value;
}

double weight_element(const struct model_weight *weight, size_t index)
{
    const unsigned char *at = (const unsigned char *)weight->data;
    at += index * dtype_bytes(weight->dtype);
#define READ(type)                                                                                 \
    type value;                                                                                    \
    memcpy(&value, at, sizeof value);                                                              \
    return (double)value
    switch (weight->dtype) {
    case DTYPE_F32: {
        READ(float);
    }
    case DTYPE_F64: {
        READ(double);
    }
    case DTYPE_F16: {
        uint16_t bits;
        memcpy(&bits, at, sizeof bits);
        return half_value(bits);
    }
    case DTYPE_BF16: {
        uint16_t bits;
        memcpy(&bits, at, sizeof bits);
        return bfloat16_value(bits);
    }
    case DTYPE_I8: {
        READ(int8_t);
    }
    case DTYPE_U8:
    case DTYPE_BOOL: {
        READ(uint8_t);
    }
    case DTYPE_I16: {
        READ(int16_t);
    }
    case DTYPE_U16: {
        READ(uint16_t);
    }
    case DTYPE_I32: {
        READ(int32_t);
    }
    case DTYPE_I64: {
        READ(int64_t);
    }
    default:
        return 0;
    }
#undef READ
}

const struct constant *constant_from_weight(struct constant_pool *pool, const char *key,
                                            const struct shape *shape,
                                            const struct model_weight *weight, struct error *error)
{
    const struct constant *found = constant_find(pool, key);
    if (found)
        return found;
    if (weight->dtype == DTYPE_F32 && (uintptr_t)weight->data % sizeof(float) == 0) {
        struct constant *constant = add(pool, key, shape);
        constant->data = (const float *)weight->data;
        return constant;
    }
    float *data;
    const struct constant *constant = constant_new(pool, key, shape, &data, error);
    if (!constant)
        return NULL;
    if (weight->dtype == DTYPE_F32) { /* a zip member may start at any byte */
        memcpy(data, weight->data, (size_t)constant->bytes);
        return constant;
    }
    size_t count = (size_t)shape_elements(shape);
    for (size_t i = 0; i < count; i++)
        data[i] = (float)weight_element(weight, i);
    return constant;
}
