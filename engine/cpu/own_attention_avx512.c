/* Attention in float32 for processors with AVX512. */
#include "engine/cpu/own_attention.h"
#ifdef ATTENTION_X86
#pragma GCC optimize("O3")
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma")
#define ATTENTION_SET     avx512
#define ATTENTION_LANES   16
#define ATTENTION_VECTORS 4
#include "engine/cpu/own_attention_kernel.h"
#endif
