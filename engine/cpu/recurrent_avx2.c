/* Recurrent kernels for processors with AVX2. */
#include "engine/cpu/recurrent.h"
#ifdef RECURRENT_X86
#pragma GCC optimize("O3")
#pragma GCC target("avx2,fma")
#define RECURRENT_SET  avx2
#define RECURRENT_WIDE 1
#include "engine/cpu/recurrent_kernel.h"
#endif
