/* A driver that plays failures: libcuda.so.1 for LD_LIBRARY_PATH, so that the sentences of the GPU
 * part can be read without a GPU. The environment is its script:
 *
 *   FAKE_CUDA_INIT      what cuInit() answers (0)
 *   FAKE_CUDA_VERSION   what cuDriverGetVersion() says (13000)
 *   FAKE_CUDA_COUNT     how many GPUs there are (1)
 *
 * It has nothing else: whatever goes on behind these three finds no such function. Built by the test
 * that uses it: cc -shared -fPIC. */
#include <stdlib.h>

static int scripted(const char *name, int otherwise)
{
    const char *value = getenv(name);
    return value != NULL ? atoi(value) : otherwise;
}

int cuInit(unsigned flags);
int cuDriverGetVersion(int *version);
int cuDeviceGetCount(int *count);

int cuInit(unsigned flags)
{
    (void)flags;
    return scripted("FAKE_CUDA_INIT", 0);
}

int cuDriverGetVersion(int *version)
{
    *version = scripted("FAKE_CUDA_VERSION", 13000);
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = scripted("FAKE_CUDA_COUNT", 1);
    return 0;
}
