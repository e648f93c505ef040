/* .npy and .npz, as headers in memory and as files. */
#include "tests/fuzz/fuzz.h"

#include "engine/npy.h"

#include <unistd.h>

static void look_at(const struct npy_array *array)
{
    volatile unsigned char last;
    fuzz_must(array->shape.rank >= 0 && array->shape.rank <= TENSOR_RANK_MAX);
    uint64_t bytes = (uint64_t)shape_elements(&array->shape) * dtype_bytes(array->dtype);
    fuzz_must(array->bytes == bytes);
    if (array->bytes > 0)
        last = ((const unsigned char *)array->data)[array->bytes - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy_array array = {0};
    struct error error = {0};
    if (npy_parse(data, size, "fuzz", &array, &error))
        look_at(&array);
    else
        fuzz_must(error.code != ERROR_NONE);
    char path[32];
    int fd = fuzz_file(data, size, path);
    error = (struct error){0};
    struct npy_file *file = npy_open(path, &error);
    if (file == NULL) {
        fuzz_must(error.code != ERROR_NONE);
    } else {
        for (size_t i = 0; i < npy_count(file); i++)
            look_at(npy_at(file, i));
        npy_close(file);
    }
    close(fd);
    return 0;
}
