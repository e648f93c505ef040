#include "engine/graph/constant.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct entry {
    struct constant constant; /* first, so that addresses stay with the entry */
    char *key;
    struct entry *next;
};

struct scaled {
    struct constant_origin origin; /* first, so that the constant's origin is this */
    struct constant_pool *pool;
    const struct constant *from;
    int64_t channels, inner;
    double scale[];
};

#define BUCKETS 1024
/* Touching large memory in pages of 4 KiB takes longer than filling it. */
#define HUGE    ((size_t)2 << 20)

struct constant_pool {
    struct entry *buckets[BUCKETS];
    uint64_t owned_bytes;
    float *spare; /* what was released last, for the next that is made: its pages are there */
    size_t spare_bytes;
};

struct constant_pool *constant_pool_new(void)
{
    return xcalloc(1, sizeof(struct constant_pool));
}

void constant_pool_free(struct constant_pool *pool)
{
    if (!pool)
        return;
    free(pool->spare);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = pool->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            if (entry->constant.owned)
                free((void *)(uintptr_t)entry->constant.data);
            free(entry->constant.origin);
            free(entry->key);
            free(entry);
        }
    }
    free(pool);
}

void constant_pool_trim(struct constant_pool *pool)
{
    free(pool->spare);
    pool->spare = NULL;
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

static float *data_new(const struct constant *constant, struct error *error)
{
    size_t bytes = (size_t)constant->bytes;
    void *data; /* of any size, which aligned_alloc does not promise */
    if (posix_memalign(&data, bytes >= HUGE ? HUGE : 64, (bytes + 64) & ~(size_t)63) != 0) {
        error_set(error, ERROR_MEMORY, "weights", "no memory for %zu bytes of constants", bytes);
        return NULL;
    }
    /* whole ones only: nothing beyond the data becomes resident */
    if (bytes >= HUGE)
        madvise(data, bytes & ~(HUGE - 1), MADV_HUGEPAGE);
    return data;
}

const struct constant *constant_new(struct constant_pool *pool, const char *key,
                                    const struct shape *shape, float **data, struct error *error)
{
    struct constant wanted = {.bytes = (uint64_t)shape_elements(shape) * sizeof(float)};
    *data = data_new(&wanted, error);
    if (!*data)
        return NULL;
    struct constant *constant = add(pool, key, shape);
    constant->data = *data;
    constant->owned = true;
    pool->owned_bytes += constant->bytes;
    return constant;
}

/* ---- what can be made again ---- */

/* restrict lets the compiler use vectors */
static void scale_row(const float *restrict from, const double *restrict scale, float *restrict to,
                      int64_t channels)
{
    for (int64_t k = 0; k < channels; k++)
        to[k] = (float)((double)from[k] * scale[k]);
}

static const float *scaled_make(const struct constant *constant, struct error *error)
{
    const struct scaled *scaled = (const struct scaled *)constant->origin;
    const float *source = constant_data(scaled->from, error);
    float *data = source ? data_new(constant, error) : NULL;
    if (!data)
        return NULL;
    int64_t channels = scaled->channels, inner = scaled->inner, length = channels * inner;
    int64_t rows = shape_elements(&constant->shape) / length;
#pragma omp parallel for if (rows * length > 65536)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = source + row * length;
        float *to = data + row * length;
        if (inner == 1) {
            scale_row(from, scaled->scale, to, channels);
            continue;
        }
        for (int64_t i = 0; i < length; i++)
            to[i] = (float)((double)from[i] * scaled->scale[i / inner]);
    }
    constant_release(scaled->from); /* the product of an earlier fold is read no more */
    /* the pool's constants are const for their readers only */
    ((struct constant *)(uintptr_t)constant)->data = data;
    scaled->pool->owned_bytes += constant->bytes;
    return data;
}

static void scaled_release(const struct constant *constant)
{
    const struct scaled *scaled = (const struct scaled *)constant->origin;
    if (!constant->data)
        return;
    free((void *)(uintptr_t)constant->data);
    ((struct constant *)(uintptr_t)constant)->data = NULL;
    scaled->pool->owned_bytes -= constant->bytes;
}

const struct constant *constant_scaled(struct constant_pool *pool, const char *key,
                                       const struct constant *from, const double *scale,
                                       int64_t channels, int64_t inner, struct error *error)
{
    struct scaled *scaled = xcalloc(1, sizeof *scaled + (size_t)channels * sizeof *scale);
    *scaled = (struct scaled){.origin = {scaled_make, scaled_release, false},
                              .pool = pool,
                              .from = from,
                              .channels = channels,
                              .inner = inner};
    memcpy(scaled->scale, scale, (size_t)channels * sizeof *scale);
    struct constant *constant = add(pool, key, &from->shape);
    constant->owned = true;
    constant->origin = &scaled->origin;
    return scaled_make(constant, error) ? constant : NULL;
}

/* ---- the model's own ---- */

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

/* From so many bytes on, data that are not where a float may lie are copied for who reads them alone. */
#define LARGE_BYTES ((size_t)1 << 20)

struct misaligned {
    struct constant_origin origin; /* first, so that the constant's origin is this */
    struct constant_pool *pool;
    const void *from;
};

static const float *misaligned_make(const struct constant *constant, struct error *error)
{
    const struct misaligned *source = (const struct misaligned *)constant->origin;
    struct constant_pool *pool = source->pool;
    size_t bytes = (size_t)constant->bytes;
    bool fits = pool->spare && pool->spare_bytes == bytes;
    float *data = fits ? pool->spare : data_new(constant, error);
    if (!data)
        return NULL;
    if (fits)
        pool->spare = NULL;
#pragma omp parallel for
    for (size_t at = 0; at < bytes; at += LARGE_BYTES)
        memcpy((char *)data + at, (const char *)source->from + at,
               bytes - at < LARGE_BYTES ? bytes - at : LARGE_BYTES);
    /* the pool's constants are const for their readers only */
    ((struct constant *)(uintptr_t)constant)->data = data;
    pool->owned_bytes += bytes;
    return data;
}

static void misaligned_release(const struct constant *constant)
{
    const struct misaligned *source = (const struct misaligned *)constant->origin;
    struct constant_pool *pool = source->pool;
    if (!constant->data)
        return;
    free(pool->spare);
    pool->spare = (float *)(uintptr_t)constant->data;
    pool->spare_bytes = (size_t)constant->bytes;
    ((struct constant *)(uintptr_t)constant)->data = NULL;
    pool->owned_bytes -= constant->bytes;
}

/* A large float32 weight that begins at an odd byte: three in four of those in a .keras do, which is
 * a zip. Its data are made when they are read first. */
static const struct constant *constant_misaligned(struct constant_pool *pool, const char *key,
                                                  const struct shape *shape, const void *from)
{
    struct misaligned *source = xcalloc(1, sizeof *source);
    *source = (struct misaligned){
        .origin = {misaligned_make, misaligned_release, false}, .pool = pool, .from = from};
    struct constant *constant = add(pool, key, shape);
    constant->owned = true;
    constant->origin = &source->origin;
    return constant;
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
    if (weight->dtype == DTYPE_F32 && weight->bytes >= LARGE_BYTES)
        return constant_misaligned(pool, key, shape, weight->data);
    float *data;
    const struct constant *constant = constant_new(pool, key, shape, &data, error);
    if (!constant)
        return NULL;
    if (weight->dtype == DTYPE_F32) {
        memcpy(data, weight->data, (size_t)constant->bytes);
        return constant;
    }
    size_t count = (size_t)shape_elements(shape);
    for (size_t i = 0; i < count; i++)
        data[i] = (float)weight_element(weight, i);
    return constant;
}
