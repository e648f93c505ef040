/* Tests of devices: what they compute against the CPU, and CPU and GPU at once. Rows of test_gpu.c's
 * table. */
#ifndef LAYERTOP_TESTS_SUPPORT_GPU_DEVICES_H
#define LAYERTOP_TESTS_SUPPORT_GPU_DEVICES_H

#include "support/gpu.h"

void gpu_test_compare(const struct context *context, struct outcome *outcome);
void gpu_test_proof(const struct context *context, struct outcome *outcome);

#endif
