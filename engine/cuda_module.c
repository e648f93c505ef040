#include "engine/cuda_module.h"
#include "engine/backend.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODULE_FILE "layertop-cuda.so"

/* The folder of the running executable, or "." if the kernel does not say. */
static void executable_folder(char *out, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", out, size - 1);
    char *slash = NULL;
    if (length > 0) {
        out[length] = '\0';
        slash = strrchr(out, '/');
    }
    if (slash == NULL) {
        snprintf(out, size, ".");
    } else {
        *slash = '\0';
    }
}

/* Open one candidate. *found tells a file that is there but does not load from one that is not. */
static void *module_try(const char *path, bool *found, char *why, size_t why_size)
{
    *found = access(path, F_OK) == 0;
    if (!*found) {
        return NULL;
    }
    /* RTLD_NOW: a module that lacks a symbol must fail here, with its name, and not mid-step */
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) {
        const char *text = dlerror();
        snprintf(why, why_size, "%s", text != NULL ? text : "dlopen gave no reason");
    }
    return module;
}

static void *module_find(const char *file, struct error *error)
{
    static const char *const places[] = {"", "/../lib/layertop", "/../lib", "/.."};
    char tried[640] = "", why[512] = "", folder[4096], path[4352];
    bool found;

    if (file != NULL) {
        void *module = module_try(file, &found, why, sizeof why);
        if (module == NULL) {
            error_set(error, ERROR_GPU, "GPU part", "LAYERTOP_CUDA_MODULE=%s %s%s", file,
                      found ? "does not load: " : "is not there", why);
            error_hint(error, "unset LAYERTOP_CUDA_MODULE");
        }
        return module;
    }
    executable_folder(folder, sizeof folder);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "%s%s/" MODULE_FILE, folder, places[i]);
        void *module = module_try(path, &found, why, sizeof why);
        if (module != NULL) {
            return module;
        }
        if (found) {
            error_set(error, ERROR_GPU, "GPU part", "%s does not load: %s", path, why);
            return NULL;
        }
        /* what no longer fits is left out */
        size_t used = strlen(tried);
        if (snprintf(tried + used, sizeof tried - used, "%s%s", used > 0 ? ", " : "", path) < 0)
            break;
    }
    error_set(error, ERROR_GPU, "GPU part", MODULE_FILE " was not found (tried %s)", tried);
    error_hint(error, "make CUDA=1, or export LAYERTOP_CUDA_MODULE=/path/to/" MODULE_FILE);
    return NULL;
}

const struct backend *cuda_module_open(const char *file, struct error *error)
{
    /* read by the driver when it starts; without it index 0 is the fastest GPU, not nvidia-smi's */
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    void *module = module_find(file, error);
    if (module == NULL) {
        return NULL;
    }
    cuda_module_entry *entry;
    *(void **)&entry = dlsym(module, CUDA_MODULE_SYMBOL);
    if (entry == NULL) {
        error_set(error, ERROR_GPU, "GPU part",
                  MODULE_FILE " has no " CUDA_MODULE_SYMBOL
                              ": it belongs to another version of layertop");
        error_hint(error, "make");
        return NULL;
    }
    const struct backend *backend = entry(error);
    if (backend != NULL && backend->abi != BACKEND_ABI) {
        error_set(error, ERROR_GPU, "GPU part", MODULE_FILE " has interface %u, layertop has %d",
                  (unsigned)backend->abi, BACKEND_ABI);
        error_hint(error, "make");
        return NULL;
    }
    return backend; /* the module stays open for the life of the process */
}

json_t *cuda_module_facts(struct error *error)
{
    cuda_module_facts_entry *entry;
    void *module = module_find(getenv("LAYERTOP_CUDA_MODULE"), error);
    if (module == NULL) {
        return NULL;
    }
    *(void **)&entry = dlsym(module, CUDA_MODULE_FACTS_SYMBOL);
    if (entry == NULL) {
        error_set(error, ERROR_GPU, "GPU part",
                  MODULE_FILE " has no " CUDA_MODULE_FACTS_SYMBOL
                              ": it belongs to another version of layertop");
        error_hint(error, "make");
        return NULL;
    }
    return entry();
}

const struct backend *backend_cuda(struct error *error)
{
    /* engine thread only; remembered because CUDA reads its environment once per process */
    static bool done;
    static const struct backend *backend;
    static struct error remembered;

    if (!done) {
        done = true;
        backend = cuda_module_open(getenv("LAYERTOP_CUDA_MODULE"), &remembered);
    }
    if (backend == NULL && error != NULL) {
        *error = remembered;
    }
    return backend;
}
