/* GPU tests of the profiler and of memory at its wall: rows of test_gpu's table. Each failure says what
 * it would mean. */
#ifndef LAYERTOP_TESTS_SUPPORT_GPU_PROFILER_H
#define LAYERTOP_TESTS_SUPPORT_GPU_PROFILER_H

#include "support/gpu.h"

/* gpu_timing.c: what CUPTI says, against other clocks and against the engine's own count */
void gpu_test_spin(const struct context *context, struct outcome *outcome);
void gpu_test_repeat(const struct context *context, struct outcome *outcome);
void gpu_test_launch(const struct context *context, struct outcome *outcome);
void gpu_test_switch(const struct context *context, struct outcome *outcome);
void gpu_test_bursts(const struct context *context, struct outcome *outcome);
void gpu_test_ledger(const struct context *context, struct outcome *outcome);
void gpu_test_kernel_counts(const struct context *context, struct outcome *outcome);
void gpu_test_million(const struct context *context, struct outcome *outcome);

/* gpu_wall.c: memory up to the wall and past it */
void gpu_test_oom_thousand(const struct context *context, struct outcome *outcome);
void gpu_test_oom_forced(const struct context *context, struct outcome *outcome);
void gpu_test_batch_max(const struct context *context, struct outcome *outcome);
void gpu_test_batch_max_ballast(const struct context *context, struct outcome *outcome);
void gpu_test_logical(const struct context *context, struct outcome *outcome);
void gpu_test_screens(const struct context *context, struct outcome *outcome);

#endif
