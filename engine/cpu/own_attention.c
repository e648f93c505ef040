/* Scaled dot product attention, block by block: the scores of some queries against some keys live
 * in a tile that fits the second-level cache, and the softmax is corrected as the keys go by
 * (Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867). */
#include "engine/cpu/own_attention.h"
#include "engine/cpu/dnnl_compat.h"
#include "engine/cpu/own.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Queries and keys of a tile: 128 KiB of float32. */
#define QUERIES 64
#define KEYS    512
#define MASKED  ATTENTION_MASKED

/* What one thread works with. */
struct room {
    float *tile; /* (QUERIES, KEYS) */
    float *q, *k, *v, *y;
    float most[QUERIES], sum[QUERIES];
};

/* ---- rows of scores ---- */

/* e^x for x <= 0: 2^n times a polynomial on +-ln(2)/2 (the one of Moshier's Cephes library, 2 ulp). */
static inline __attribute__((always_inline)) float exp_negative(float x)
{
    float clipped = x < -87.0F ? -87.0F : x;
    float n = (clipped * 1.44269504F + 12582912.0F) - 12582912.0F; /* to nearest */
    float r = (clipped - n * 0.693359375F) + n * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0F ? 0 : p * power;
}

OWN_WIDE_VECTOR static float row_maximum(const float *x, int64_t count)
{
    float most[OWN_LANES];
    int64_t i = 0;
    for (int lane = 0; lane < OWN_LANES; lane++)
        most[lane] = MASKED;
    for (; i + OWN_LANES <= count; i += OWN_LANES) {
        for (int lane = 0; lane < OWN_LANES; lane++)
            most[lane] = x[i + lane] > most[lane] ? x[i + lane] : most[lane];
    }
    for (; i < count; i++)
        most[0] = x[i] > most[0] ? x[i] : most[0];
    for (int lane = 1; lane < OWN_LANES; lane++)
        most[0] = most[lane] > most[0] ? most[lane] : most[0];
    return most[0];
}

/* x = e^(x - most); returns the sum. */
OWN_WIDE_VECTOR static float row_exp(float *x, int64_t count, float most)
{
    float sum[OWN_LANES] = {0};
    int64_t i = 0;
    for (; i + OWN_LANES <= count; i += OWN_LANES) {
        for (int lane = 0; lane < OWN_LANES; lane++) {
            float e = exp_negative(x[i + lane] - most);
            x[i + lane] = e;
            sum[lane] += e;
        }
    }
    for (; i < count; i++) {
        x[i] = exp_negative(x[i] - most);
        sum[0] += x[i];
    }
    for (int lane = 1; lane < OWN_LANES; lane++)
        sum[0] += sum[lane];
    return sum[0];
}

OWN_WIDE_VECTOR static void row_scale(float *x, int64_t count, float factor)
{
    for (int64_t i = 0; i < count; i++)
        x[i] *= factor;
}

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

/* ---- blocks ---- */

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

/* The scores of a tile become weights; what was summed before is scaled to the new maxima. */
static void weigh(const struct attention_job *job, struct room *room, float *y, int64_t pitch,
                  int64_t n, int64_t h, int64_t t, int64_t rows, int64_t first, int64_t keys,
                  bool again)
{
    for (int64_t i = 0; i < rows; i++) {
        float *x = room->tile + i * KEYS;
        if (attention_adjusts(job, t + i, first + keys))
            attention_adjust(job, x, n, h, t + i, first, keys);
        float most = row_maximum(x, keys);
        if (again && room->most[i] > most)
            most = room->most[i];
        float sum = row_exp(x, keys, most);
        if (again) {
            float factor = exp_negative(room->most[i] - most);
            room->sum[i] = room->sum[i] * factor + sum;
            if (factor != 1)
                row_scale(y + i * pitch, job->V, factor);
        } else {
            room->sum[i] = sum;
        }
        room->most[i] = most;
    }
}

/* One head's queries t .. t + rows. */
static void attend(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                   int64_t t, int64_t rows)
{
    int64_t g = h * job->G / job->H, q_pitch = job->H * job->D, first, end;
    bool narrow = job->element_bytes != sizeof(float);
    char *out = job->y + (size_t)(((n * job->T + t) * job->H + h) * job->V) * job->element_bytes;
    float *y = narrow ? room->y : (float *)(void *)out;
    int64_t y_pitch = narrow ? job->V : job->H * job->V;
    const float *q = rows_of(job, element(job, job->q, ((n * job->T + t) * job->H + h) * job->D),
                             rows, job->D, &q_pitch, room->q);
    attention_key_range(job, t, rows, &first, &end);
    for (int64_t s = first; s < end; s += KEYS) {
        int64_t keys = end - s < KEYS ? end - s : KEYS, row = (n * job->S + s) * job->G + g;
        int64_t k_pitch = job->G * job->D, v_pitch = job->G * job->V;
        const float *k =
            rows_of(job, element(job, job->k, row * job->D), keys, job->D, &k_pitch, room->k);
        dnn_sgemm(true, rows, keys, job->D, job->op->scale, q, q_pitch, k, k_pitch, 0, room->tile,
                  KEYS);
        weigh(job, room, y, y_pitch, n, h, t, rows, s, keys, s > first);
        const float *v =
            rows_of(job, element(job, job->v, row * job->V), keys, job->V, &v_pitch, room->v);
        dnn_sgemm(false, rows, job->V, keys, 1, room->tile, KEYS, v, v_pitch, s > first ? 1 : 0, y,
                  y_pitch);
    }
    for (int64_t i = 0; i < rows; i++) {
        row_scale(y + i * y_pitch, job->V, 1 / room->sum[i]);
        if (narrow)
            own_narrow_row(y + i * y_pitch, (uint16_t *)(void *)out + i * job->H * job->V, job->V);
    }
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
    return job;
}

static size_t room_floats(const struct attention_job *job)
{
    size_t floats = QUERIES * KEYS;
    if (job->element_bytes != sizeof(float))
        floats += (size_t)(QUERIES + KEYS) * (size_t)(job->D + job->V);
    return (floats + 15) / 16 * 16;
}

size_t own_attention_scratch(const struct own_call *call, int threads)
{
    struct attention_job job = job_of(call);
    if (job.amx)
        return (size_t)threads * attention_amx_bytes(&job);
    return (size_t)threads * room_floats(&job) * sizeof(float);
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
        float *base = (float *)call->scratch + (size_t)omp_get_thread_num() * room_floats(&job);
        struct room room = {.tile = base, .q = base + QUERIES * KEYS};
        room.k = room.q + QUERIES * job.D;
        room.v = room.k + KEYS * job.D;
        room.y = room.v + KEYS * job.V;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks; task++) {
            int64_t head = task / blocks, t = task % blocks * QUERIES;
            attend(&job, &room, head / job.H, head % job.H, t,
                   job.T - t < QUERIES ? job.T - t : QUERIES);
        }
    }
}
