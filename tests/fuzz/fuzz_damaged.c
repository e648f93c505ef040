/* Damaged .h5 and .keras files through the confined child, as users load them. The HDF5 library is
 * known to crash and to hang on what is damaged; the promise is that only the child does. So this
 * target sees no coverage of what the child runs, and stands on its seeds. */
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 20 /* the child has 0.9 s of processor time, and the machine may be busy */

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    struct error error = {0};
    int fd = fuzz_file(data, size, path);
    double start = seconds();
    struct model *model = model_load(path, NULL, &error);
    fuzz_must(seconds() - start < SECONDS_MAX);
    fuzz_must(model != NULL || (error_exit_code(error.code) == 3 && error.why[0] != '\0'));
    if (model != NULL) {
        volatile unsigned char last = 0;
        for (size_t i = 0; i < model->layer_count; i++) {
            for (size_t j = 0; j < model->layers[i].weight_count; j++) {
                const struct model_weight *weight = &model->layers[i].weights[j];
                if (weight->bytes > 0)
                    last ^= ((const unsigned char *)weight->data)[weight->bytes - 1];
            }
        }
        (void)last;
    }
    model_free(model);
    close(fd);
    return 0;
}
