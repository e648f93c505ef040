/* What the two ways to attend share: own_attention.c, in float32 with oneDNN's products, and
 * own_attention_amx.c, in bfloat16 with tiles. Private to them. */
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

/* own_attention_amx.c: the scratch of one thread, and the call, with that of all threads. */
size_t attention_amx_bytes(const struct attention_job *job);
void attention_amx_run(const struct attention_job *job, void *scratch);

#endif
