/* Attention in bfloat16 with AMX, block by block as in own_attention.c: products of 32 rows by 32
 * columns in four tiles, and between the two products a softmax that writes its weights as bfloat16.
 *
 * The second operand of a tile product wants two rows of it side by side: keys are transposed, values
 * interleaved, once for all the queries of a head where its keys fit one block. */
#include "engine/cpu/own_attention.h"
#include "engine/cpu/own_tile.h"
#include <math.h>
#include <omp.h>
#include <string.h>

#ifdef OWN_AVX512
#define QUERIES 32
#define KEYS    512
#define PITCH   (KEYS + 32) /* rows that begin in different sets of the first-level cache */
#define TILE    OWN_TILE
#define WIDE    (2 * TILE)
#define CELLS   (TILE * WIDE) /* bfloat16 values of a tile */

/* What one thread works with. */
struct room {
    float *scores;     /* (QUERIES, PITCH) */
    uint16_t *weights; /* (QUERIES, PITCH) */
    uint16_t *q;       /* (QUERIES, depth) */
    uint16_t *k, *v;   /* tiles: (KEYS / TILE, depth / WIDE); (KEYS / WIDE, columns / TILE) */
    float *y;          /* (QUERIES, columns) */
    float most[QUERIES], sum[QUERIES];
    int64_t depth, columns; /* D and V in whole tiles */
    int64_t packed,
        packed_first; /* n G + g and the first key of what lies in k and v; -1: nothing */
};

static int64_t whole(int64_t count)
{
    return (count + WIDE - 1) / WIDE * WIDE;
}

size_t attention_amx_bytes(const struct attention_job *job)
{
    int64_t depth = whole(job->D), columns = whole(job->V);
    return (size_t)(QUERIES * (PITCH + columns)) * sizeof(float) +
           (size_t)(QUERIES * (PITCH + depth) + KEYS * (depth + columns)) * sizeof(uint16_t);
}

static struct room room_of(const struct attention_job *job, char *scratch)
{
    struct room room = {.depth = whole(job->D), .columns = whole(job->V), .packed = -1};
    room.scores = (float *)(void *)scratch;
    room.y = room.scores + QUERIES * PITCH;
    room.weights = (uint16_t *)(void *)(room.y + QUERIES * room.columns);
    room.q = room.weights + QUERIES * PITCH;
    room.k = room.q + QUERIES * room.depth;
    room.v = room.k + KEYS * room.depth;
    return room;
}

/* ---- operands ---- */

/* 32 values of a row of `width`, zeros behind it; of a row that is not there, zeros. */
OWN_INLINE __m512i load_row(const uint16_t *row, bool there, int64_t at, int64_t width)
{
    return there && at < width ? _mm512_maskz_loadu_epi16(own_mask32(width - at), row + at)
                               : _mm512_setzero_si512();
}

/* Keys first .. first + keys of (n, g): a tile holds, for two channels after the other, 16 keys. */
OWN_BF16 static void pack_keys(const struct attention_job *job, struct room *room,
                               const uint16_t *from, int64_t keys)
{
    int64_t pitch = job->G * job->D;
    for (int64_t key = 0; key < whole(keys); key += TILE) {
        for (int64_t at = 0; at < room->depth; at += WIDE) {
            __m512i rows[TILE];
            for (int64_t i = 0; i < TILE; i++)
                rows[i] = load_row(from + (key + i) * pitch, key + i < keys, at, job->D);
            own_transpose16(rows);
            uint16_t *to = room->k + (key / TILE * (room->depth / WIDE) + at / WIDE) * CELLS;
            for (int64_t i = 0; i < TILE; i++)
                _mm512_storeu_si512(to + i * WIDE, rows[i]);
        }
    }
}

/* Their values: a tile holds, for two keys after the other, 16 channels. */
OWN_BF16 static void pack_values(const struct attention_job *job, struct room *room,
                                 const uint16_t *from, int64_t keys)
{
    int64_t pitch = job->G * job->V;
    for (int64_t key = 0; key < whole(keys); key += 2) {
        uint16_t *to = room->v + key / WIDE * (room->columns / TILE) * CELLS + key % WIDE * TILE;
        for (int64_t at = 0; at < room->columns; at += WIDE) {
            __m512i even = load_row(from + key * pitch, key < keys, at, job->V);
            __m512i odd = load_row(from + (key + 1) * pitch, key + 1 < keys, at, job->V);
            _mm512_storeu_si512(to + at / TILE * CELLS, own_interleave_low(even, odd));
            _mm512_storeu_si512(to + (at / TILE + 1) * CELLS, own_interleave_high(even, odd));
        }
    }
}

static void pack(const struct attention_job *job, struct room *room, int64_t n, int64_t g,
                 int64_t first, int64_t keys)
{
    if (room->packed == n * job->G + g && room->packed_first == first)
        return;
    int64_t row = (n * job->S + first) * job->G + g;
    pack_keys(job, room, (const uint16_t *)(const void *)job->k + row * job->D, keys);
    pack_values(job, room, (const uint16_t *)(const void *)job->v + row * job->V, keys);
    room->packed = n * job->G + g;
    room->packed_first = first;
}

OWN_BF16 static void pack_queries(const struct attention_job *job, struct room *room,
                                  const uint16_t *from, int64_t rows)
{
    for (int64_t i = 0; i < QUERIES; i++) {
        for (int64_t at = 0; at < room->depth; at += WIDE)
            _mm512_storeu_si512(room->q + i * room->depth + at,
                                load_row(from + i * job->H * job->D, i < rows, at, job->D));
    }
}

/* ---- products ---- */

/* sums(32, 32) [+]= a(32, depth) b: `a` has rows of a_pitch, step by step 32 channels; the two tiles
 * of b for one step lie `b_right` apart, those of the next step b_next. */
OWN_AMX static void multiply(const uint16_t *a, int64_t a_pitch, const uint16_t *b, int64_t b_right,
                             int64_t b_next, int64_t steps, bool lower, bool adds, float *sums,
                             int64_t pitch)
{
    int64_t bytes = a_pitch * 2, row = pitch * (int64_t)sizeof(float);
    if (adds) {
        _tile_loadd(0, sums, row);
        _tile_loadd(1, sums + TILE, row);
        _tile_loadd(2, sums + TILE * pitch, row);
        _tile_loadd(3, sums + TILE * pitch + TILE, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < steps; i++, a += WIDE, b += b_next) {
        _tile_loadd(4, a, bytes);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b + b_right, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (!lower)
            continue;
        _tile_loadd(5, a + TILE * a_pitch, bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, row);
    _tile_stored(1, sums + TILE, row);
    if (!lower)
        return;
    _tile_stored(2, sums + TILE * pitch, row);
    _tile_stored(3, sums + TILE * pitch + TILE, row);
}

/* ---- softmax ---- */

/* x = scale x; the largest of them. */
OWN_BF16 static float scale_row(float *x, int64_t count, float scale)
{
    __m512 most = _mm512_set1_ps(ATTENTION_MASKED);
    for (int64_t i = 0; i < count; i += TILE) {
        __mmask16 mask = own_mask16(count - i);
        __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_set1_ps(scale));
        most = _mm512_mask_max_ps(most, mask, most, scaled);
        _mm512_mask_storeu_ps(x + i, mask, scaled);
    }
    return _mm512_reduce_max_ps(most);
}

/* weights = e^(x - most), with zeros up to whole tiles; their sum. */
OWN_BF16 static float exp_row(const float *x, int64_t count, float most, uint16_t *weights)
{
    const __m512 ratio = _mm512_set1_ps(1.44269504F), centre = _mm512_set1_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < whole(count); i += TILE) {
        __mmask16 mask = i < count ? own_mask16(count - i) : 0;
        __m512 apart = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), centre);
        __m512 e = _mm512_maskz_mov_ps(mask, own_exp2_16(_mm512_mul_ps(apart, ratio)));
        sum = _mm512_add_ps(sum, e);
        _mm256_storeu_si256((__m256i *)(void *)(weights + i), (__m256i)_mm512_cvtneps_pbh(e));
    }
    return _mm512_reduce_add_ps(sum);
}

OWN_BF16 static void scale_result(float *y, int64_t count, float factor)
{
    for (int64_t i = 0; i < count; i += TILE)
        _mm512_storeu_ps(y + i, _mm512_mul_ps(_mm512_loadu_ps(y + i), _mm512_set1_ps(factor)));
}

/* The scores become weights; what was summed before is scaled to the new maxima. */
static void weigh(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                  int64_t t, int64_t rows, int64_t first, int64_t keys, bool again)
{
    for (int64_t i = 0; i < rows; i++) {
        float *x = room->scores + i * PITCH;
        float most = scale_row(x, keys, job->op->scale);
        if (attention_adjusts(job, t + i, first + keys)) {
            attention_adjust(job, x, n, h, t + i, first, keys);
            most = scale_row(x, keys, 1);
        }
        if (again && room->most[i] > most)
            most = room->most[i];
        float sum = exp_row(x, keys, most, room->weights + i * PITCH);
        if (again) {
            float factor = expf(room->most[i] - most);
            sum += room->sum[i] * factor;
            if (factor != 1)
                scale_result(room->y + i * room->columns, room->columns, factor);
        }
        room->sum[i] = sum;
        room->most[i] = most;
    }
}

OWN_BF16 static void put_out(const struct attention_job *job, const struct room *room, uint16_t *to,
                             int64_t rows)
{
    for (int64_t i = 0; i < rows; i++, to += job->H * job->V) {
        const __m512 factor = _mm512_set1_ps(1 / room->sum[i]);
        const float *y = room->y + i * room->columns;
        for (int64_t at = 0; at < job->V; at += WIDE) {
            __m512 low = _mm512_mul_ps(_mm512_loadu_ps(y + at), factor);
            __m512 high = _mm512_mul_ps(_mm512_loadu_ps(y + at + TILE), factor);
            _mm512_mask_storeu_epi16(to + at, own_mask32(job->V - at),
                                     own_narrow_halves(low, high));
        }
    }
}

/* ---- the op ---- */

/* One head's queries t .. t + rows. */
static void attend(const struct attention_job *job, struct room *room, int64_t n, int64_t h,
                   int64_t t, int64_t rows)
{
    int64_t g = h * job->G / job->H, row = (n * job->T + t) * job->H + h, first, end;
    int64_t deep = room->depth / WIDE, across = room->columns / TILE;
    bool lower = rows > TILE;
    pack_queries(job, room, (const uint16_t *)(const void *)job->q + row * job->D, rows);
    attention_key_range(job, t, rows, &first, &end);
    first = first / KEYS * KEYS; /* the same blocks for all queries: what is too early is masked */
    for (int64_t s = first; s < end; s += KEYS) {
        int64_t keys = job->S - s < KEYS ? job->S - s : KEYS;
        pack(job, room, n, g, s, keys);
        keys = end - s < keys ? end - s : keys;
        for (int64_t key = 0; key < keys; key += WIDE)
            multiply(room->q, room->depth, room->k + key / TILE * deep * CELLS, deep * CELLS, CELLS,
                     deep, lower, false, room->scores + key, PITCH);
        weigh(job, room, n, h, t, rows, s, keys, s > first);
        for (int64_t at = 0; at < across; at += 2)
            multiply(room->weights, PITCH, room->v + at * CELLS, CELLS, across * CELLS,
                     whole(keys) / WIDE, lower, s > first, room->y + at * TILE, room->columns);
    }
    put_out(job, room, (uint16_t *)(void *)job->y + row * job->V, rows);
}

OWN_AMX static void run_tasks(const struct attention_job *job, struct room *room, int64_t task,
                              int64_t end)
{
    int64_t blocks = (job->T + QUERIES - 1) / QUERIES;
    struct own_tile_config before;
    own_tile_save(&before);
    own_tile_whole();
    for (; task < end; task++) {
        int64_t head = task / blocks, t = task % blocks * QUERIES;
        attend(job, room, head / job->H, head % job->H, t,
               job->T - t < QUERIES ? job->T - t : QUERIES);
    }
    own_tile_restore(&before);
}

void attention_amx_run(const struct attention_job *job, void *scratch)
{
    int64_t tasks = job->N * job->H * ((job->T + QUERIES - 1) / QUERIES);
#pragma omp parallel if (attention_large(job))
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        struct room room =
            room_of(job, (char *)scratch + (size_t)thread * attention_amx_bytes(job));
        /* rows of queries that are not there have weights too */
        memset(room.weights, 0, (size_t)(QUERIES * PITCH) * sizeof *room.weights);
        run_tasks(job, &room, tasks * thread / threads, tasks * (thread + 1) / threads);
    }
}
#else
size_t attention_amx_bytes(const struct attention_job *job)
{
    (void)job;
    return 0;
}

void attention_amx_run(const struct attention_job *job, void *scratch)
{
    (void)job, (void)scratch; /* own_has_amx_bf16() says no */
}
#endif
