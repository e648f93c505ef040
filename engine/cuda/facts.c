/* The module's second door: what it was built for and which libraries it finds, for `doctor`. */
#include "engine/cuda/libraries.h"
#include "engine/cuda_module.h"
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last architecture of the list carries PTX as well, see mk/cuda.mk. */
static int ptx_architecture(void)
{
    const char *last = strrchr(LAYERTOP_CUDA_ARCHS, ',');
    return atoi(last != NULL ? last + 1 : LAYERTOP_CUDA_ARCHS);
}

/* One library; the one that `error` is about was not found. */
static json_t *describe(const char *name, const char *path, int version, int scale, int built,
                        const struct error *error)
{
    char text[32];
    json_t *library =
        json_pack("{s:s, s:b, s:i}", "name", name, "found", path[0] != '\0', "built_major", built);
    if (path[0] != '\0') {
        /* 91900 -> 9.19.0, 130100 -> 13.1.0 */
        snprintf(text, sizeof text, "%d.%d.%d", version / scale, version % scale / 100,
                 version % 100);
        json_object_set_new(library, "path", json_string(path));
        json_object_set_new(library, "version", json_string(text));
        json_object_set_new(library, "major", json_integer(version / scale));
    } else if (strcmp(error->what, name) == 0) {
        json_object_set_new(library, "why", json_string(error->why));
    }
    return library;
}

__attribute__((visibility("default"))) cuda_module_facts_entry layertop_cuda_facts;

json_t *layertop_cuda_facts(void)
{
    struct error error = {0};
    json_t *list = json_array();
    libraries_open(&error);
    const struct libraries *found = libraries_found();
    json_array_append_new(list,
                          describe("cuBLASLt", found->cublaslt_path, (int)found->cublaslt_version,
                                   10000, CUBLAS_VER_MAJOR, &error));
    json_array_append_new(list, describe("cuDNN", found->cudnn_path, (int)found->cudnn_version,
                                         10000, CUDNN_MAJOR, &error));
    return json_pack("{s:{s:i, s:s, s:i}, s:o}", "gpu_part", "cuda_version", CUDART_VERSION,
                     "architectures", LAYERTOP_CUDA_ARCHS, "ptx", ptx_architecture(), "libraries",
                     list);
}
