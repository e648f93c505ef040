/* Attention in float32 for processors with AVX2. */
#include "engine/cpu/own_attention.h"
#ifdef ATTENTION_X86
#pragma GCC optimize("O3")
#pragma GCC target("avx2,fma")
#define ATTENTION_SET     avx2
#define ATTENTION_LANES   8
#define ATTENTION_VECTORS 2
#include "engine/cpu/own_attention_kernel.h"
#endif
