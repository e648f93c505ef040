/* Attention on the CPU: the kernels of every instruction set that this machine has against plain
 * loops. What they make together is held against the reference in test_cpu.c. */
#include "engine/cpu/own_attention.h"
#include "tests/support/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct attention_kernels *kernels_at(int index)
{
    if (index == 0)
        return &attention_kernels_plain;
#ifdef ATTENTION_X86
    if (index == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &attention_kernels_avx2;
    if (index == 2 && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &attention_kernels_avx512;
#endif
    return NULL;
}

static float *random_floats(int64_t count)
{
    float *data = test_malloc((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = bench_float();
    return data;
}

/* Queries (rows, depth) by keys (count, depth): into memory that ends where it may be written. */
static void check_scores(const struct attention_kernels *kernels, int64_t rows, int64_t count,
                         int64_t depth, bool adds)
{
    int64_t stride = (count + kernels->lanes - 1) / kernels->lanes * kernels->lanes;
    int64_t pitch = depth + 3, out_pitch = stride + 1;
    float *q = random_floats(rows * depth), *k = random_floats(count * pitch);
    float *panel = random_floats(depth * stride), *out = random_floats(rows * out_pitch);
    double *want = test_malloc((size_t)(rows * count) * sizeof *want);
    for (int64_t at = 0; at < rows * count; at++) {
        int64_t i = at / count, j = at % count;
        want[at] = adds ? (double)out[i * out_pitch + j] : 0;
        for (int64_t d = 0; d < depth; d++)
            want[at] += (double)q[i * depth + d] * (double)k[j * pitch + d];
    }
    kernels->pack_keys(k, pitch, count, depth, panel, stride);
    for (int64_t d = 0; d < depth; d++) {
        for (int64_t j = 0; j < stride; j++) {
            float key = j < count ? k[j * pitch + d] : 0;
            assert_true(panel[d * stride + j] == key);
        }
    }
    kernels->product(q, depth, rows, depth, panel, stride, count, adds, out, out_pitch);
    for (int64_t at = 0; at < rows * count; at++)
        assert_true(fabs((double)out[at / count * out_pitch + at % count] - want[at]) < 2e-5);
    test_free(want);
    test_free(out);
    test_free(panel);
    test_free(k);
    test_free(q);
}

static void scores_of_every_size(void **state)
{
    (void)state;
    for (int set = 0; set < 3; set++) {
        const struct attention_kernels *kernels = kernels_at(set);
        for (int64_t i = 0; kernels && i < 400; i++)
            check_scores(kernels, 1 + i % 14, bench_roll(1, kernels->panel), bench_roll(1, 70),
                         bench_roll(0, 1));
    }
}

static void weights_of_every_length(void **state)
{
    (void)state;
    for (int set = 0; set < 3; set++) {
        const struct attention_kernels *kernels = kernels_at(set);
        for (int64_t count = 1; kernels && count < 80; count++) {
            float x[96], e[96], most = ATTENTION_MASKED;
            double sum = 0;
            for (int64_t i = 0; i < count; i++) {
                x[i] = i % 7 == 3 ? ATTENTION_MASKED : 50 * bench_float();
                most = fmaxf(most, x[i]);
                e[i] = x[i];
            }
            assert_true(kernels->maximum(e, count) == most);
            float total = kernels->exponentials(e, count, most);
            for (int64_t i = 0; i < count; i++) {
                double want = exp((double)x[i] - (double)most);
                want = x[i] - most < -87 ? 0 : want; /* below, less than what float32 keeps */
                assert_true(fabs((double)e[i] - want) <= 5e-7 * want);
                sum += want;
            }
            assert_true(fabs((double)total - sum) < 1e-6 * sum);
            kernels->scale(e, x, count, 2);
            for (int64_t i = 0; i < count; i++)
                assert_true(x[i] == 2 * e[i]);
        }
    }
}

static void nothing_but_masked_keys_weighs_the_same(void **state)
{
    (void)state;
    for (int set = 0; set < 3; set++) {
        const struct attention_kernels *kernels = kernels_at(set);
        float x[16] = {ATTENTION_MASKED, ATTENTION_MASKED, ATTENTION_MASKED};
        if (!kernels)
            continue;
        float most = kernels->maximum(x, 3);
        assert_true(kernels->exponentials(x, 3, most) == 3);
        assert_true(x[0] == 1 && x[2] == 1 && x[3] == 0);
    }
}

/* What is no number stays visible. */
static void no_number_is_kept(void **state)
{
    (void)state;
    for (int set = 0; set < 3; set++) {
        const struct attention_kernels *kernels = kernels_at(set);
        float x[16] = {1, NAN, 2};
        if (kernels)
            assert_true(isnan(kernels->exponentials(x, 3, kernels->maximum(x, 3))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_of_every_size),
        cmocka_unit_test(weights_of_every_length),
        cmocka_unit_test(nothing_but_masked_keys_weighs_the_same),
        cmocka_unit_test(no_number_is_kept),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
