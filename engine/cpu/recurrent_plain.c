/* Recurrent kernels for any processor. */
#pragma GCC optimize("O3")
#define RECURRENT_SET  plain
#define RECURRENT_WIDE 1
#include "engine/cpu/recurrent_kernel.h"
