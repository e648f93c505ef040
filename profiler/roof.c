/* See roof.h. */
#include "profiler/roof.h"

#include "engine/backend.h"
#include "engine/clock.h"
#include "engine/cpu/ceilings.h"

#include <math.h>
#include <string.h>

_Static_assert(ROOF_CLASSES == PRECISION_COUNT, "the records fix the count");

const char *roof_source_name(enum roof_source source)
{
    return source == ROOF_DEVICE_PEAK ? "device peak" : "not known";
}

struct roof roof_unknown(void)
{
    struct roof roof = {.source = ROOF_UNKNOWN, .bytes_per_s = (double)NAN};
    for (int i = 0; i < ROOF_CLASSES; i++)
        roof.flops_per_s[i] = (double)NAN;
    return roof;
}

/* Dense multiply-adds of tensor cores, as FLOPs per multiprocessor and clock, by NVIDIA's
 * architecture white papers (V100, T4, A100, GA102, AD102, H100, B200, GB202). */
static const struct {
    unsigned major, minor, cores; /* CUDA cores of one multiprocessor */
    double tf32, half, int8;      /* 0: tensor cores do not take it */
} architectures[] = {
    {7, 0, 64, 0, 1024, 0},        {7, 5, 64, 0, 1024, 2048},       {8, 0, 64, 1024, 2048, 4096},
    {8, 6, 128, 512, 1024, 2048},  {8, 7, 128, 512, 1024, 2048},    {8, 9, 128, 512, 1024, 2048},
    {9, 0, 128, 2048, 4096, 8192}, {10, 0, 128, 4096, 8192, 16384}, {10, 3, 128, 4096, 8192, 16384},
    {12, 0, 128, 512, 1024, 2048}, {12, 1, 128, 512, 1024, 2048},
};

struct roof roof_gpu(const struct gpu_specs *specs)
{
    struct roof roof = roof_unknown();
    double hertz = specs->sm_mhz * 1e6;
    if (specs->memory_mhz && specs->bus_bits) {
        roof.bytes_per_s = specs->memory_mhz * 1e6 * 2 * specs->bus_bits / 8;
        roof.source = ROOF_DEVICE_PEAK;
    }
    if (specs->cores == 0 || specs->sm_mhz == 0)
        return roof;
    roof.source = ROOF_DEVICE_PEAK;
    roof.flops_per_s[PRECISION_FP32] = specs->cores * 2.0 * hertz;
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (architectures[i].major != specs->major || architectures[i].minor != specs->minor)
            continue;
        double clocks = hertz * (specs->cores / architectures[i].cores);
        const double rates[ROOF_CLASSES] = {
            [PRECISION_TF32] = architectures[i].tf32,
            [PRECISION_FP16] = architectures[i].half,
            [PRECISION_BF16] = specs->major >= 8 ? architectures[i].half : 0,
            [PRECISION_INT8] = architectures[i].int8,
        };
        for (int k = 0; k < ROOF_CLASSES; k++)
            if (rates[k] > 0)
                roof.flops_per_s[k] = rates[k] * clocks;
    }
    return roof;
}

/* The value of the first line that begins with `key`, NULL if there is none */
static const char *line_of(const char *cpuinfo, const char *key)
{
    const char *line = strncmp(cpuinfo, key, strlen(key)) == 0 ? cpuinfo : NULL;
    for (const char *at = cpuinfo; !line && (at = strchr(at, '\n'));) {
        at++;
        if (strncmp(at, key, strlen(key)) == 0)
            line = at;
    }
    const char *colon = line ? strchr(line, ':') : NULL;
    return colon ? colon + 1 : NULL;
}

static bool has_flag(const char *flags, const char *flag)
{
    size_t length = strlen(flag), line = strcspn(flags, "\n");
    for (const char *at = flags; (at = strstr(at, flag)) && at < flags + line; at += length) {
        if (at[-1] == ' ' && (at[length] == ' ' || at[length] == '\n' || at[length] == '\0'))
            return true;
    }
    return false;
}

double roof_clock(void)
{
#ifdef __x86_64__
    enum { STEPS = 20000, CLOCKS = 3 }; /* a dependent 64-bit multiply takes three clocks */
    double best = 0;
    for (int round = 0; round < 12; round++) {
        uint64_t value = 3;
        int64_t start_ns = clock_now_ns();
        for (int i = 0; i < STEPS / 10; i++)
            __asm__ volatile("imul %0, %0\n imul %0, %0\n imul %0, %0\n imul %0, %0\n"
                             "imul %0, %0\n imul %0, %0\n imul %0, %0\n imul %0, %0\n"
                             "imul %0, %0\n imul %0, %0\n"
                             : "+r"(value));
        int64_t took_ns = clock_now_ns() - start_ns;
        if (took_ns > 0)
            best = fmax(best, (double)STEPS * CLOCKS / (double)took_ns * 1e9);
    }
    return best;
#else
    return 0;
#endif
}

double roof_memory(int threads)
{
    return ceiling_read(threads, ROOF_READ_BYTES);
}

struct roof roof_cpu(const char *cpuinfo, int threads, double hertz)
{
    struct roof roof = roof_unknown();
    const char *flags = line_of(cpuinfo, "flags");
    if (!flags || hertz <= 0 || threads <= 0)
        return roof;
    /* FLOPs of one core a clock: two units, a multiply and an add each lane */
    double fp32 = has_flag(flags, "avx512f") ? 64 : has_flag(flags, "fma") ? 32 : 8;
    double bf16 = has_flag(flags, "amx_bf16") ? 2048 : has_flag(flags, "avx512_bf16") ? 128 : NAN;
    double int8 = has_flag(flags, "amx_int8") ? 4096 : has_flag(flags, "avx512_vnni") ? 256 : NAN;
    roof.source = ROOF_DEVICE_PEAK;
    roof.flops_per_s[PRECISION_FP32] = fp32 * hertz * threads;
    roof.flops_per_s[PRECISION_BF16] = bf16 * hertz * threads;
    roof.flops_per_s[PRECISION_INT8] = int8 * hertz * threads;
    return roof;
}
