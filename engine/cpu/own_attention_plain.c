/* Attention in float32 for any processor. */
#pragma GCC optimize("O3")
#define ATTENTION_SET     plain
#define ATTENTION_LANES   4
#define ATTENTION_VECTORS 2
#include "engine/cpu/own_attention_kernel.h"
