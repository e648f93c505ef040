/* What the cores of this machine can do at most: float multiply-adds on registers alone, all cores
 * at once, with the widest instructions the processor has.
 *
 * usage: fma_peak [MILLISECONDS]     prints one JSON object:
 *   {"isa": "avx512"|"avx2", "threads": N, "gflops": all cores together}
 * One thread is bound to each processor that this process may use; hyperthreads of one core share
 * its units, so bind the process to one of each. A multiply-add counts as two operations. The
 * number is the sum of each thread's best window (a fraction of a millisecond): what the units can
 * do, not what the scheduler left of them, so that a busy machine flatters no share of it. */
#define _GNU_SOURCE /* sched_getaffinity, pthread_attr_setaffinity_np */
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Two units with a latency of 4 or 5 cycles want at least 10 independent chains. */
#define CHAINS     12 /* of STEP in BURN */
#define LOOPS      40000
#define MS_DEFAULT 300
#define MS_MAX     60000

struct worker {
    pthread_t thread;
    double until_s; /* on the monotonic clock */
    double gflops;  /* of the best window */
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One multiply-add of a chain. The empty assembly keeps the loop in the program; the chains are
 * variables of their own because an array of them would live in memory. */
#define STEP(a, fmadd)                                                                             \
    a = fmadd(a, x, y);                                                                            \
    __asm__ volatile("" : "+v"(a))

#define BURN(name, isa, vector, set1, fmadd)                                                       \
    __attribute__((target(isa))) static void name(void)                                            \
    {                                                                                              \
        vector x = set1(0.999f), y = set1(1e-6f), a = y, b = y, c = y, d = y, e = y, f = y, g = y, \
               h = y, i = y, j = y, k = y, l = y;                                                  \
        for (int loop = 0; loop < LOOPS; loop++) {                                                 \
            STEP(a, fmadd);                                                                        \
            STEP(b, fmadd);                                                                        \
            STEP(c, fmadd);                                                                        \
            STEP(d, fmadd);                                                                        \
            STEP(e, fmadd);                                                                        \
            STEP(f, fmadd);                                                                        \
            STEP(g, fmadd);                                                                        \
            STEP(h, fmadd);                                                                        \
            STEP(i, fmadd);                                                                        \
            STEP(j, fmadd);                                                                        \
            STEP(k, fmadd);                                                                        \
            STEP(l, fmadd);                                                                        \
        }                                                                                          \
    }

BURN(burn_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)
BURN(burn_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") != 0;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    bool wide = has_avx512();
    double work_gflop = 2.0 * CHAINS * LOOPS * (wide ? 16 : 8) * 1e-9;
    for (double start_s = now_s(), end_s; start_s < worker->until_s; start_s = end_s) {
        if (wide)
            burn_avx512();
        else
            burn_avx2();
        end_s = now_s();
        double gflops = work_gflop / (end_s - start_s);
        worker->gflops = gflops > worker->gflops ? gflops : worker->gflops;
    }
    return NULL;
}

static bool start(struct worker *worker, int processor)
{
    pthread_attr_t attributes;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    if (pthread_attr_init(&attributes) != 0)
        return false;
    bool ok = pthread_attr_setaffinity_np(&attributes, sizeof one, &one) == 0 &&
              pthread_create(&worker->thread, &attributes, work, worker) == 0;
    pthread_attr_destroy(&attributes);
    return ok;
}

int main(int argc, char **argv)
{
    static struct worker workers[CPU_SETSIZE];
    char *end = NULL;
    long ms = argc > 1 ? strtol(argv[1], &end, 10) : MS_DEFAULT;
    cpu_set_t allowed;
    int count = 0;
    double gflops = 0;
    if (argc > 2 || ms < 1 || ms > MS_MAX || (end && *end)) {
        fprintf(stderr, "usage: fma_peak [MILLISECONDS]\n");
        return 2;
    }
    if (!has_avx512() && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) {
        fprintf(stderr, "fma_peak: this processor has neither AVX2 with FMA nor AVX-512\n");
        return 1;
    }
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        perror("fma_peak: sched_getaffinity");
        return 1;
    }
    double until_s = now_s() + (double)ms * 1e-3;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &allowed))
            continue;
        workers[count].until_s = until_s;
        if (!start(&workers[count], processor)) {
            fprintf(stderr, "fma_peak: no thread on processor %d\n", processor);
            return 1;
        }
        count++;
    }
    for (int i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        gflops += workers[i].gflops;
    }
    printf("{\"isa\": \"%s\", \"threads\": %d, \"gflops\": %.1f}\n",
           has_avx512() ? "avx512" : "avx2", count, gflops);
    return 0;
}
