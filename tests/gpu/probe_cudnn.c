/* What cuDNN says of this GPU: its DEVICEPROP description, as JSON on standard output. Given to cuDNN
 * on a machine without a GPU, it makes its heuristics choose engines as they would here.
 * Exit code 0, or 1 with the reason on standard error. */
#include "engine/cuda/libraries.h"

#include <stdio.h>
#include <stdlib.h>

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
    /* makes the context too; it stays open: the description may hold on to it */
    return GOOD(cudnnCreate(&handle)) &&
           GOOD(cudnnBackendSetAttribute(*out, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1,
                                         &handle)) &&
           GOOD(cudnnBackendFinalize(*out));
}

int main(int count, char **arguments)
{
    static char json[16384]; /* of a file instead of a device */
    struct error error = {0};
    libraries = libraries_open(&error);
    if (libraries == NULL) {
        fprintf(stderr, "%s: %s\n", error.what, error.why);
        return 1;
    }
    fprintf(stderr, "cuDNN %zu at %s, cuBLASLt %zu at %s\n", libraries->cudnn_version,
            libraries->cudnn_path, libraries->cublaslt_version, libraries->cublaslt_path);
    FILE *file = count > 1 ? fopen(arguments[1], "r") : NULL;
    size_t length = file != NULL ? fread(json, 1, sizeof json - 1, file) : 0;
    cudnnBackendDescriptor_t properties = NULL;
    int64_t size = 0, got = 0;
    if (!describe(length > 0 ? json : NULL, length + 1, &properties) ||
        !GOOD(cudnnBackendGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                       CUDNN_TYPE_CHAR, 0, &size, NULL)))
        return 1;
    char *text = calloc(1, (size_t)size + 1);
    if (!GOOD(cudnnBackendGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                       CUDNN_TYPE_CHAR, size, &got, text)))
        return 1;
    printf("%s\n", text);
    free(text);
    return 0;
}
