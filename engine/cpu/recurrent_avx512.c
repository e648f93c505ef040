/* Recurrent kernels for processors with AVX512. */
#include "engine/cpu/recurrent.h"
#ifdef RECURRENT_X86
#pragma GCC optimize("O3")
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma")
#define RECURRENT_SET  avx512
#define RECURRENT_WIDE 4
#include "engine/cpu/recurrent_kernel.h"
#endif
