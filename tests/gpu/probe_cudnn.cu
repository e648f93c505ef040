/* What cuDNN says of this GPU: its DEVICEPROP description, as JSON on standard output. Given to cuDNN
 * on a machine without a GPU, it makes its heuristics choose engines as they would here.
 * Exit code 0, or 1 with the reason on standard error. */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include <cstdio>
#include <vector>

extern "C" {
#include "engine/cuda/libraries.h"
}

static const struct libraries *libraries;

static bool good(cudnnStatus_t status, const char *call)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return true;
    char last[512] = "";
    libraries->cudnn.cudnnGetLastErrorString(last, sizeof last);
    fprintf(stderr, "%s: %s: %s\n", call, libraries->cudnn.cudnnGetErrorString(status), last);
    return false;
}

#define GOOD(call) good(libraries->cudnn.call, #call)

/* A finalised description: of the handle's device, or of a JSON text (to try this without a GPU). */
static bool describe(const char *json, size_t length, cudnnBackendDescriptor_t *out)
{
    cudnnHandle_t handle = NULL;
    if (!GOOD(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, out)))
        return false;
    if (json != NULL) {
        return GOOD(cudnnBackendSetAttribute(*out, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                             CUDNN_TYPE_CHAR, (int64_t)length, json)) &&
               GOOD(cudnnBackendFinalize(*out));
    }
    cudaError_t status = cudaFree(NULL);
    if (status != cudaSuccess) {
        fprintf(stderr, "cudaFree: %s\n", cudaGetErrorString(status));
        return false;
    }
    /* the handle stays open: the description may hold on to it */
    return GOOD(cudnnCreate(&handle)) &&
           GOOD(cudnnBackendSetAttribute(*out, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                         &handle)) &&
           GOOD(cudnnBackendFinalize(*out));
}

int main(int count, char **arguments)
{
    struct error error = {};
    libraries = libraries_open(&error);
    if (libraries == NULL) {
        fprintf(stderr, "%s: %s\n", error.what, error.why);
        return 1;
    }
    fprintf(stderr, "cuDNN %zu at %s, cuBLASLt %zu at %s\n", libraries->cudnn_version,
            libraries->cudnn_path, libraries->cublaslt_version, libraries->cublaslt_path);
    std::vector<char> json;
    if (count > 1) { /* a file instead of a device */
        FILE *file = fopen(arguments[1], "r");
        int c;
        while (file != NULL && (c = fgetc(file)) != EOF)
            json.push_back((char)c);
        json.push_back('\0');
    }
    cudnnBackendDescriptor_t properties = NULL;
    int64_t size = 0, got = 0;
    if (!describe(json.empty() ? NULL : json.data(), json.size(), &properties) ||
        !GOOD(cudnnBackendGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                       CUDNN_TYPE_CHAR, 0, &size, NULL)))
        return 1;
    std::vector<char> text((size_t)size + 1, '\0');
    if (!GOOD(cudnnBackendGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                       CUDNN_TYPE_CHAR, size, &got, text.data())))
        return 1;
    printf("%s\n", text.data());
    return 0;
}
