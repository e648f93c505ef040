/* Scaled dot product attention, block by block: the scores of some queries against some keys live
 * in a tile that fits the second-level cache, and the softmax is corrected as the keys go by
 * (Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867). */
#include "engine/cpu/own_attention.h"
#include <math.h>
#include <omp.h>
#include <string.h>

/* Queries and keys of a tile, which makes 150 KiB of float32. */
#define QUERIES 72
#define KEYS    512
/* Keys whose values are multiplied at a time: a panel of so many stays in the first-level cache. */
#define DEPTH   128
#define MASKED  ATTENTION_MASKED

/* What one thread works with. */
struct room {
    float *tile;  /* (QUERIES, pitch): scores, then weights */
    float *q, *y; /* (QUERIES, D), scaled; (QUERIES, columns) */
    float *k, *v; /* in panels: (D, block), (block, columns) */
    float *wide;  /* rows of bfloat16 as float32 */
    float most[QUERIES], sum[QUERIES];
    int64_t pitch, columns; /* columns: V in whole vectors */
    int64_t packed,         /* n G + g and the first key of what lies in k and v; -1: nothing */
        packed_first;
};

static int64_t whole(int64_t count, int64_t of)
{
    return (count + of - 1) / of * of;
}

static int64_t at_most(int64_t count, int64_t most)
{
    return count < most ? count : most;
}

static const struct attention_kernels *kernels_of_machine(void)
{
#ifdef ATTENTION_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return &attention_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &attention_kernels_avx2;
#endif
    return &attention_kernels_plain;
}

/* ---- rows of scores ---- */

static float extra_at(const struct attention_job *job, const struct attention_extra *extra,
                      int64_t offset)
{
    float wide;
    if (job->element_bytes == sizeof(float))
        return ((const float *)(const void *)extra->data)[offset];
    own_widen_row((const uint16_t *)(const void *)extra->data + offset, &wide, 1);
    return wide;
}

static int64_t extra_row(const struct attention_extra *extra, int64_t n, int64_t h, int64_t t)
{
    return n * extra->strides[0] + h * extra->strides[1] + t * extra->strides[2];
}

void attention_adjust(const struct attention_job *job, float *x, int64_t n, int64_t h, int64_t t,
                      int64_t first, int64_t count)
{
    const struct op_attention *op = job->op;
    for (int64_t i = 0; op->soft_cap > 0 && i < count; i++)
        x[i] = op->soft_cap * tanhf(x[i] / op->soft_cap);
    int64_t bias = extra_row(&job->bias, n, h, t), mask = extra_row(&job->mask, n, h, t);
    for (int64_t i = 0; job->bias.data && i < count; i++)
        x[i] += extra_at(job, &job->bias, bias + (first + i) * job->bias.strides[3]);
    for (int64_t i = 0; job->mask.data && i < count; i++) {
        if (extra_at(job, &job->mask, mask + (first + i) * job->mask.strides[3]) == 0)
            x[i] = MASKED;
    }
    int64_t begin = op->window > 0 ? t - op->window + 1 : 0;
    int64_t end = op->window > 0 ? t + op->window : job->S;
    end = op->causal && t + 1 < end ? t + 1 : end;
    for (int64_t i = 0; i < count && first + i < begin; i++)
        x[i] = MASKED;
    for (int64_t i = end > first ? end - first : 0; i < count; i++)
        x[i] = MASKED;
}

bool attention_adjusts(const struct attention_job *job, int64_t t, int64_t end)
{
    const struct op_attention *op = job->op;
    return job->mask.data || job->bias.data || op->soft_cap > 0 || op->window > 0 ||
           (op->causal && end > t + 1);
}

bool attention_large(const struct attention_job *job)
{
    return job->N * job->H * job->T * job->S * (job->D + job->V) > 16 * OWN_PARALLEL;
}

void attention_key_range(const struct attention_job *job, int64_t t, int64_t rows, int64_t *first,
                         int64_t *end)
{
    const struct op_attention *op = job->op;
    *first = 0;
    *end = job->S;
    if (!job->whole_rows)
        return;
    if (op->window > 0) {
        *first = t - op->window + 1 > 0 ? t - op->window + 1 : 0;
        *end = t + rows - 1 + op->window < *end ? t + rows - 1 + op->window : *end;
    }
    if (op->causal && t + rows < *end)
        *end = t + rows;
}

/* ---- operands ---- */

static const char *element(const struct attention_job *job, const char *data, int64_t index)
{
    return data + (size_t)index * job->element_bytes;
}

/* Rows of a head as float32: where they lie, or widened into `wide`. *pitch is their distance. */
static const float *rows_of(const struct attention_job *job, const char *from, int64_t rows,
                            int64_t width, int64_t *pitch, float *wide)
{
    if (job->element_bytes == sizeof(float))
        return (const float *)(const void *)from;
    for (int64_t i = 0; i < rows; i++)
        own_widen_row((const uint16_t *)(const void *)element(job, from, i * *pitch),
                      wide + i * width, width);
    *pitch = width;
    return wide;
}

static void pack_queries(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                         int64_t t, int64_t rows)
{
    int64_t pitch = job->H * job->D;
    const float *from = rows_of(job, element(job, job->q, ((n * job->T + t) * job->H + h) * job->D),
                                rows, job->D, &pitch, room->wide);
    for (int64_t i = 0; i < rows; i++)
        job->kernels->scale(from + i * pitch, room->q + i * job->D, job->D, job->op->scale);
}

/* Keys and values first .. first + keys of (n, g), once for all queries where one block holds all. */
static void pack(const struct attention_job *job, struct room *room, int64_t n, int64_t g,
                 int64_t first, int64_t keys)
{
    const struct attention_kernels *kernels = job->kernels;
    int64_t row = (n * job->S + first) * job->G + g, panel = kernels->panel;
    int64_t k_pitch = job->G * job->D, v_pitch = job->G * job->V;
    if (room->packed == n * job->G + g && room->packed_first == first)
        return;
    const float *k =
        rows_of(job, element(job, job->k, row * job->D), keys, job->D, &k_pitch, room->wide);
    for (int64_t key = 0; key < keys; key += panel) {
        int64_t count = at_most(keys - key, panel);
        kernels->pack_keys(k + key * k_pitch, k_pitch, count, job->D, room->k + key * job->D,
                           whole(count, kernels->lanes));
    }
    const float *v =
        rows_of(job, element(job, job->v, row * job->V), keys, job->V, &v_pitch, room->wide);
    for (int64_t at = 0; at < room->columns; at += panel) {
        int64_t stride = at_most(room->columns - at, panel), count = at_most(job->V - at, panel);
        float *to = room->v + at * keys;
        for (int64_t key = 0; key < keys; key++, to += stride) {
            memcpy(to, v + key * v_pitch + at, (size_t)count * sizeof *to);
            memset(to + count, 0, (size_t)(stride - count) * sizeof *to);
        }
    }
    room->packed = n * job->G + g;
    room->packed_first = first;
}

/* ---- blocks ---- */

/* The scores of a tile become weights; what was summed before is scaled to the new maxima. */
static void weigh(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                  int64_t t, int64_t rows, int64_t first, int64_t keys, bool again)
{
    const struct attention_kernels *kernels = job->kernels;
    for (int64_t i = 0; i < rows; i++) {
        float *x = room->tile + i * room->pitch;
        if (attention_adjusts(job, t + i, first + keys))
            attention_adjust(job, x, n, h, t + i, first, keys);
        float most = kernels->maximum(x, keys);
        if (again && room->most[i] > most)
            most = room->most[i];
        float sum = kernels->exponentials(x, keys, most);
        if (again) {
            float factor = expf(room->most[i] - most), *y = room->y + i * room->columns;
            sum += room->sum[i] * factor;
            if (factor != 1)
                kernels->scale(y, y, room->columns, factor);
        }
        room->sum[i] = sum;
        room->most[i] = most;
    }
}

/* tile(rows, keys) = q k: the keys from..end of the `packed` ones, from a panel's first on. */
static void score(const struct attention_job *job, struct room *room, int64_t rows, int64_t packed,
                  int64_t from, int64_t end)
{
    const struct attention_kernels *kernels = job->kernels;
    for (int64_t key = from; key < end; key += kernels->panel)
        kernels->product(room->q, job->D, rows, job->D, room->k + key * job->D,
                         whole(at_most(packed - key, kernels->panel), kernels->lanes),
                         at_most(end - key, kernels->panel), false, room->tile + key - from,
                         room->pitch);
}

/* y(rows, columns) [+]= tile v, with the keys as in score(). */
static void combine(const struct attention_job *job, struct room *room, int64_t rows,
                    int64_t packed, int64_t from, int64_t end, bool again)
{
    const struct attention_kernels *kernels = job->kernels;
    int64_t parts = (end - from + DEPTH - 1) / DEPTH;
    for (int64_t at = 0; at < room->columns; at += kernels->panel) {
        int64_t stride = at_most(room->columns - at, kernels->panel);
        for (int64_t i = 0; i < parts; i++) {
            int64_t key = from + (end - from) * i / parts;
            int64_t next = from + (end - from) * (i + 1) / parts;
            kernels->product(room->tile + key - from, room->pitch, rows, next - key,
                             room->v + at * packed + key * stride, stride, stride, again || i > 0,
                             room->y + at, room->columns);
        }
    }
}

static void put_out(const struct attention_job *job, const struct room *room, int64_t n, int64_t h,
                    int64_t t, int64_t rows)
{
    char *out = job->y + (size_t)(((n * job->T + t) * job->H + h) * job->V) * job->element_bytes;
    for (int64_t i = 0; i < rows; i++, out += (size_t)(job->H * job->V) * job->element_bytes) {
        float *y = room->y + i * room->columns;
        bool narrow = job->element_bytes != sizeof(float);
        job->kernels->scale(y, narrow ? y : (float *)(void *)out, job->V, 1 / room->sum[i]);
        if (narrow)
            own_narrow_row(y, (uint16_t *)(void *)out, job->V);
    }
}

/* One head's queries t .. t + rows. */
static void attend(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                   int64_t t, int64_t rows)
{
    int64_t g = h * job->G / job->H, first, end;
    bool again = false;
    pack_queries(job, room, n, h, t, rows);
    attention_key_range(job, t, rows, &first, &end);
    /* blocks begin at the same keys for all queries, and in them what is too early in whole panels */
    for (int64_t s = first / job->block * job->block; s < end; s += job->block, again = true) {
        int64_t packed = at_most(job->S - s, job->block), last = at_most(end - s, packed);
        int64_t from = first > s ? (first - s) / job->kernels->panel * job->kernels->panel : 0;
        pack(job, room, n, g, s, packed);
        score(job, room, rows, packed, from, last);
        weigh(job, room, n, h, t, rows, s + from, last - from, again);
        combine(job, room, rows, packed, from, last, again);
    }
    put_out(job, room, n, h, t, rows);
}

/* ---- the op ---- */

static struct attention_extra extra_of(const struct own_call *call, size_t input)
{
    const struct shape *shape = &call->graph->values[call->op->inputs[input]].shape;
    struct attention_extra extra = {.data = call->inputs[input]};
    int64_t stride = 1;
    for (int i = 3; i >= 0; i--) {
        extra.strides[i] = shape->dims[i] == 1 ? 0 : stride;
        stride *= shape->dims[i];
    }
    return extra;
}

static struct attention_job job_of(const struct own_call *call)
{
    const struct op_attention *op = &call->op->attention;
    const struct shape *q = &call->graph->values[call->op->inputs[0]].shape;
    const struct shape *k = &call->graph->values[call->op->inputs[1]].shape;
    struct attention_job job = {.op = op,
                                .q = call->inputs[0],
                                .k = call->inputs[1],
                                .v = call->inputs[2],
                                .y = call->output,
                                .N = q->dims[0],
                                .T = q->dims[1],
                                .H = q->dims[2],
                                .D = q->dims[3],
                                .S = k->dims[1],
                                .G = k->dims[2],
                                .element_bytes = call->element_bytes};
    job.V = call->graph->values[call->op->outputs[0]].shape.dims[3];
    if (op->mask)
        job.mask = extra_of(call, 3);
    if (op->bias)
        job.bias = extra_of(call, op->mask ? 4 : 3);
    job.whole_rows = !op->mask && (op->window == 0 || job.T <= job.S);
    job.amx = call->element_bytes == sizeof(uint16_t) && own_has_amx_bf16();
    job.kernels = kernels_of_machine();
    job.block = at_most(whole(job.S, job.kernels->panel), KEYS);
    return job;
}

/* Every array begins on a line of the cache; without a base, only where is counted. */
static float *take(float *base, int64_t *at, int64_t rows, int64_t columns)
{
    float *taken = base ? base + *at : NULL;
    *at += whole(rows * columns, 16);
    return taken;
}

/* A thread's room from `base` on; how many floats it takes. */
static int64_t room_of(const struct attention_job *job, float *base, struct room *room)
{
    int64_t at = 0;
    *room = (struct room){
        .columns = whole(job->V, job->kernels->lanes), .pitch = job->block + 16, .packed = -1};
    room->tile = take(base, &at, QUERIES, room->pitch);
    room->q = take(base, &at, QUERIES, job->D);
    room->y = take(base, &at, QUERIES, room->columns);
    room->k = take(base, &at, job->block, job->D);
    room->v = take(base, &at, job->block, room->columns);
    if (job->element_bytes != sizeof(float))
        room->wide = take(base, &at, job->block > QUERIES ? job->block : QUERIES,
                          job->D > job->V ? job->D : job->V);
    return at;
}

size_t own_attention_scratch(const struct own_call *call, int threads)
{
    struct attention_job job = job_of(call);
    if (job.amx)
        return (size_t)threads * attention_amx_bytes(&job);
    struct room room;
    return (size_t)(threads * room_of(&job, NULL, &room)) * sizeof(float);
}

void own_attention(const struct own_call *call)
{
    struct attention_job job = job_of(call);
    if (job.amx) {
        attention_amx_run(&job, call->scratch);
        return;
    }
    int64_t blocks = (job.T + QUERIES - 1) / QUERIES, tasks = job.N * job.H * blocks;
#pragma omp parallel if (attention_large(&job))
    {
        struct room room;
        int64_t floats = room_of(&job, NULL, &room);
        room_of(&job, (float *)call->scratch + omp_get_thread_num() * floats, &room);
        /* whole heads, whose keys are packed once, where there are enough for all threads */
        int64_t chunk = job.N * job.H >= 2 * omp_get_num_threads() ? blocks : 1;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t head = task / blocks, t = task % blocks * QUERIES;
            attend(&job, &room, head / job.H, head % job.H, t, at_most(job.T - t, QUERIES));
        }
    }
}
