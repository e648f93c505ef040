#include "support/fake_gpu.h"

#include "engine/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char module[64];

int fake_gpu_build(void **state)
{
    (void)state;
    snprintf(module, sizeof module, "/tmp/layertop-fake-gpu-XXXXXX");
    int descriptor = mkstemp(module);
    if (descriptor < 0)
        return -1;
    close(descriptor);
    char *command = xasprintf(
        "${CC:-cc} -std=gnu17 -shared -fPIC -fvisibility=hidden -I. -o %s "
        "tests/tools/fake_gpu.c engine/error.c engine/clock.c engine/tensor.c engine/graph/op.c "
        "-ljansson",
        module);
    int status = system(command);
    free(command);
    setenv("LAYERTOP_CUDA_MODULE", module, 1);
    return status;
}

int fake_gpu_remove(void **state)
{
    (void)state;
    return unlink(module);
}
