/* The words of backend.h. */
#include "engine/backend.h"
#include <string.h>

static const char *const PRECISIONS[PRECISION_COUNT] = {
    [PRECISION_FP32] = "fp32", [PRECISION_TF32] = "tf32", [PRECISION_FP16] = "fp16",
    [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8",
};

const char *precision_name(enum precision precision)
{
    return (unsigned)precision < PRECISION_COUNT ? PRECISIONS[precision] : "?";
}

bool precision_parse(const char *name, enum precision *precision)
{
    for (int i = 0; i < PRECISION_COUNT; i++) {
        if (strcmp(PRECISIONS[i], name) == 0) {
            *precision = (enum precision)i;
            return true;
        }
    }
    return false;
}
