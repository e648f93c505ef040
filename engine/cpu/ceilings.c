#define _GNU_SOURCE /* MADV_HUGEPAGE */
#include "engine/cpu/ceilings.h"

#include "engine/clock.h"
#include "engine/cpu/cpu.h"

#include <omp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __x86_64__ && !defined CEILINGS_PLAIN
#include <immintrin.h>
#define CEILINGS_X86 1
#endif

#define CHAINS      16 /* sums at once: two units, each with four of them under way, and spare */
#define STEPS       (1 << 18)
#define ROUNDS      8
#define READ_ROUNDS 6
#define PARTS       256                  /* of the memory that is read */
#define PASS_BYTES  (UINT64_C(64) << 20) /* that a round reads at least */

int ceiling_threads(int wanted)
{
    return wanted > 0 ? wanted : machine_physical_cores();
}

/* ---- multiply-adds ---- */

/* `STEPS` times CHAINS independent a = a m + c; returns lanes. The sums stay within 0..2. */
#ifdef CEILINGS_X86

__attribute__((target("avx512f"))) static int chains_avx512(float *out)
{
    __m512 m = _mm512_set1_ps(0.5F), c = _mm512_set1_ps(0.75F), sum[CHAINS];
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm512_set1_ps((float)k / CHAINS);
    for (int i = 0; i < STEPS; i++) {
#pragma GCC unroll 16
        for (int k = 0; k < CHAINS; k++)
            sum[k] = _mm512_fmadd_ps(sum[k], m, c);
    }
    for (int k = 1; k < CHAINS; k++)
        sum[0] = _mm512_add_ps(sum[0], sum[k]);
    *out = _mm512_reduce_add_ps(sum[0]);
    return 16;
}

__attribute__((target("avx2,fma"))) static int chains_avx2(float *out)
{
    enum { FEWER = 12 }; /* of 16 registers, some hold m and c */
    __m256 m = _mm256_set1_ps(0.5F), c = _mm256_set1_ps(0.75F), sum[FEWER];
    for (int k = 0; k < FEWER; k++)
        sum[k] = _mm256_set1_ps((float)k / FEWER);
    for (int i = 0; i < STEPS / FEWER * CHAINS; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < FEWER; k++)
            sum[k] = _mm256_fmadd_ps(sum[k], m, c);
    }
    for (int k = 1; k < FEWER; k++)
        sum[0] = _mm256_add_ps(sum[0], sum[k]);
    *out = _mm256_cvtss_f32(sum[0]);
    return 8;
}

#endif

static int chains_plain(float *out)
{
    typedef float lanes __attribute__((vector_size(16)));
    lanes m = {0.5F, 0.5F, 0.5F, 0.5F}, c = {0.75F, 0.75F, 0.75F, 0.75F}, sum[CHAINS / 2];
    for (int k = 0; k < CHAINS / 2; k++)
        sum[k] = c * (float)k / CHAINS;
    for (int i = 0; i < 2 * STEPS; i++) {
#pragma GCC unroll 8
        for (int k = 0; k < CHAINS / 2; k++)
            sum[k] = sum[k] * m + c;
    }
    for (int k = 1; k < CHAINS / 2; k++)
        sum[0] += sum[k];
    *out = sum[0][0];
    return 4;
}

typedef int chains(float *out);

static chains *widest(void)
{
#ifdef CEILINGS_X86
    if (__builtin_cpu_supports("avx512f"))
        return chains_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return chains_avx2;
#endif
    return chains_plain;
}

double ceiling_multiply_adds(int threads)
{
    chains *run = widest();
    double best = 0;
    float all = 0;
    int lanes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start_ns = clock_now_ns();
#pragma omp parallel num_threads(threads) reduction(+ : all) reduction(max : lanes)
        {
            float sum;
            lanes = run(&sum);
            all += sum;
        }
        double took = (double)(clock_now_ns() - start_ns);
        double flops = 2.0 * STEPS * CHAINS * lanes * threads;
        if (took > 0 && flops / took * 1e9 > best)
            best = flops / took * 1e9;
    }
    return all == 1 ? 0 : best; /* the sum is needed, so that it is made */
}

/* ---- reads ---- */

static uint64_t sum_plain(const uint64_t *words, size_t count)
{
    uint64_t sums[8] = {0}, all = 0;
    for (size_t i = 0; i + 8 <= count; i += 8)
        for (int lane = 0; lane < 8; lane++)
            sums[lane] += words[i + (size_t)lane];
    for (int lane = 0; lane < 8; lane++)
        all += sums[lane];
    return all;
}

#ifdef CEILINGS_X86
__attribute__((target("avx2"))) static uint64_t sum_avx2(const uint64_t *words, size_t count)
{
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                       _mm256_setzero_si256()};
    for (size_t i = 0; i + 16 <= count; i += 16) {
#pragma GCC unroll 4
        for (size_t k = 0; k < 4; k++)
            sums[k] = _mm256_add_epi64(
                sums[k], _mm256_loadu_si256((const __m256i *)(const void *)(words + i + 4 * k)));
    }
    uint64_t lanes[4];
    sums[0] =
        _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    _mm256_storeu_si256((__m256i *)(void *)lanes, sums[0]);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
#endif

typedef uint64_t summer(const uint64_t *words, size_t count);

static summer *best_summer(void)
{
#ifdef CEILINGS_X86
    if (__builtin_cpu_supports("avx2"))
        return sum_avx2;
#endif
    return sum_plain;
}

/* Each thread makes the parts that it reads: on its own side of a machine with several memories. */
double ceiling_read(int threads, uint64_t bytes)
{
    size_t each = (size_t)(bytes / PARTS / sizeof(uint64_t)) & ~(size_t)15;
    size_t held = each * PARTS * sizeof(uint64_t);
    int passes = held >= PASS_BYTES || held == 0 ? 1 : (int)(PASS_BYTES / held);
    summer *sum = best_summer();
    uint64_t *words =
        mmap(NULL, held + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (words == MAP_FAILED)
        return 0;
    madvise(words, held, MADV_HUGEPAGE);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < PARTS; part++)
        memset(words + (size_t)part * each, part, each * sizeof *words);
    double best = 0;
    uint64_t all = 0;
    for (int round = 0; round < READ_ROUNDS; round++) {
        int64_t start_ns = clock_now_ns();
#pragma omp parallel num_threads(threads) reduction(+ : all)
        for (int pass = 0; pass < passes; pass++) {
#pragma omp for schedule(static) nowait
            for (int part = 0; part < PARTS; part++)
                all += sum(words + (size_t)part * each, each);
        }
        double took = (double)(clock_now_ns() - start_ns);
        double rate = took > 0 ? (double)held * passes / took * 1e9 : 0;
        best = rate > best ? rate : best;
    }
    munmap(words, held + 1);
    return all == 1 ? 0 : best; /* the sum is needed, so that it is made */
}

uint64_t ceiling_cache_bytes(void)
{
    long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return bytes > 0 ? (uint64_t)bytes : 0;
}
