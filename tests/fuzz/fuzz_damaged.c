/* Damaged .h5 and .keras files through the confined child, as users load them. The HDF5 library is
 * known to crash and to hang on what is damaged; the promise is that only the child does. So this
 * target sees no coverage of what the child runs, and stands on its seeds. */
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SECONDS_MAX 2 /* of the processor; the child itself stops at 0.9 */

static double child_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    struct error error = {0};
    int fd = fuzz_file(data, size, path);
    double start = child_seconds();
    struct model *model = model_load(path, NULL, &error);
    fuzz_must(child_seconds() - start < SECONDS_MAX);
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
