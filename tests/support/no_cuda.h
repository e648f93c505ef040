/* main() of a test program that has nothing to test where CUDA's headers are not installed. */
#ifndef LAYERTOP_TESTS_SUPPORT_NO_CUDA_H
#define LAYERTOP_TESTS_SUPPORT_NO_CUDA_H

/* Run one test, test_cuda_parts, that skips itself (tests/ALLOWED_SKIPS); returns main()'s value. */
int no_cuda_main(void);

#endif
