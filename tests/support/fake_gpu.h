/* The fake GPU (tests/tools/fake_gpu.c), built for the tests of a group and named in
 * LAYERTOP_CUDA_MODULE. */
#ifndef LAYERTOP_TESTS_SUPPORT_FAKE_GPU_H
#define LAYERTOP_TESTS_SUPPORT_FAKE_GPU_H

/* Setup and teardown of a cmocka group. */
int fake_gpu_build(void **state);
int fake_gpu_remove(void **state);

#endif
