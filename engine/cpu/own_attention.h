/* What the two ways to attend share: own_attention.c, in float32 with kernels for each instruction
 * set, and own_attention_amx.c, in bfloat16 with tiles. Private to them. */
#ifndef LAYERTOP_ENGINE_CPU_OWN_ATTENTION_H
#define LAYERTOP_ENGINE_CPU_OWN_ATTENTION_H

#include "engine/cpu/own.h"

/* The score of a pair that may not meet; finite, so that a query without any key has equal ones. */
#define ATTENTION_MASKED (-1e30F)

/* A mask or bias: its elements and how far each index of (n, h, t, s) moves in it. */
struct attention_extra {
    const char *data; /* NULL: there is none */
    int64_t strides[4];
};

/* One call, with the dims of op_attention. */
struct attention_job {
    const struct op_attention *op;
    const char *q, *k, *v;
    char *y;
    int64_t N, T, S, H, G, D, V;
    struct attention_extra mask, bias;
    size_t element_bytes;
    bool whole_rows; /* every query has a key of its own: others need not be looked at */
    bool amx;        /* own_attention_amx.c runs it */
    const struct attention_kernels *kernels; /* else, and in these blocks of keys: */
    int64_t block;
};

/* Do scores of query t against keys in front of `end` need attention_adjust()? */
bool attention_adjusts(const struct attention_job *job, int64_t t, int64_t end);
/* Cap, bias and mask of the scores of query t against the keys from `first` on. */
void attention_adjust(const struct attention_job *job, float *x, int64_t n, int64_t h, int64_t t,
                      int64_t first, int64_t count);
/* Which keys the queries t .. t + rows may look at. */
void attention_key_range(const struct attention_job *job, int64_t t, int64_t rows, int64_t *first,
                         int64_t *end);
/* Is it worth a second thread? */
bool attention_large(const struct attention_job *job);

/* What own_attention.c computes with: own_attention_kernel.h, once for each instruction set. Matrices
 * are cut into panels of so many columns: rows of a panel lie `stride` apart, which is a multiple of
 * the lanes and at least its columns. */
struct attention_kernels {
    int64_t lanes, panel;
    /* Keys (count, depth), rows `pitch` apart, as a panel (depth, stride): zeros where no key is. */
    void (*pack_keys)(const float *keys, int64_t pitch, int64_t count, int64_t depth, float *panel,
                      int64_t stride);
    /* out(rows, columns) = a(rows, depth) panel(depth, columns), or is added to. Columns are filled
     * up to whole vectors. */
    void (*product)(const float *a, int64_t a_pitch, int64_t rows, int64_t depth,
                    const float *panel, int64_t stride, int64_t columns, bool adds, float *out,
                    int64_t out_pitch);
    /* The largest of a row, ATTENTION_MASKED at least; what fills the row up to whole vectors is
     * set to -infinity. */
    float (*maximum)(float *x, int64_t count);
    /* x = e^(x - most) of a row that maximum() has filled up; the sum. */
    float (*exponentials)(float *x, int64_t count, float most);
    void (*scale)(const float *x, float *y, int64_t count, float factor);
};

extern const struct attention_kernels attention_kernels_plain;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ATTENTION_X86 1
extern const struct attention_kernels attention_kernels_avx2, attention_kernels_avx512;
#endif

/* own_attention_amx.c: the scratch of one thread, and the call, with that of all threads. */
size_t attention_amx_bytes(const struct attention_job *job);
void attention_amx_run(const struct attention_job *job, void *scratch);

#endif
