/* TensorFlow, PyTorch, JAX and Keras: which build, for which CUDA, and what that build looks for. */
#include "engine/probe/elf.h"
#include "engine/probe/python.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOURCE_BYTES (256u << 10)

/* A file of the packages, in the first folder that has it. Returns out, or NULL. */
static const char *find_file(const struct environment *environment, const char *below, char *out,
                             size_t size)
{
    for (size_t i = 0; i < environment->count; i++) {
        snprintf(out, size, "%s/%s", environment->folders[i], below);
        if (access(out, F_OK) == 0)
            return out;
    }
    return NULL;
}

/* The value behind a quoted key ("'cuda_version', '12.5.1'") or a name ("cuda: Optional[str] =
 * '12.6'"), as text: quoted text without its quotes, a list as it stands, or a word. */
static bool find_value(const char *source, const char *key, char *out, size_t size)
{
    size_t length = strlen(key);
    *out = '\0';
    for (const char *at = strstr(source, key); at != NULL; at = strstr(at + 1, key)) {
        bool quoted = at > source && (at[-1] == '\'' || at[-1] == '"') && at[length] == at[-1];
        bool starts = at == source || at[-1] == '\n';
        const char *value = at + length + quoted;
        if (!quoted && !starts)
            continue;
        if (quoted) {
            value += strspn(value, " \t,:");
        } else {
            value += strcspn(value, "=\n");
            if (*value != '=')
                continue;
            value += 1 + strspn(value + 1, " \t");
        }
        const char *end = ",)]}\n";
        if (*value == '\'' || *value == '"')
            end = *value == '"' ? "\"\n" : "'\n", value++;
        else if (*value == '[')
            end = "]\n";
        char *copy = xasprintf("%.*s", (int)strcspn(value, end), value);
        text_clean(out, size, copy);
        free(copy);
        return true;
    }
    return false;
}

/* "['sm_60', 'compute_90'" -> "sm_60,compute_90" */
static void plain_list(char *text)
{
    char *out = text;
    for (const char *at = text; *at != '\0'; at++)
        if (isalnum((unsigned char)*at) || *at == '_' || *at == ',' || *at == '.')
            *out++ = *at;
    *out = '\0';
}

/* What a CUDA of this major version is called by those who open it at run time. */
static const struct {
    int major;
    const char *sonames[8];
} toolkits[] = {
    {10,
     {"libcudart.so.10.1", "libcublas.so.10", "libcufft.so.10", "libcusolver.so.10",
      "libcusparse.so.10", NULL}},
    {11,
     {"libcudart.so.11.0", "libcublas.so.11", "libcublasLt.so.11", "libcufft.so.10",
      "libcusolver.so.11", "libcusparse.so.11", NULL}},
    {12,
     {"libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11",
      "libcusolver.so.11", "libcusparse.so.12", NULL}},
    {13,
     {"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcufft.so.12",
      "libcusolver.so.12", "libcusparse.so.12", NULL}},
};

static void add_need(json_t *needs, const struct environment *environment, const json_t *packages,
                     const char *framework, const char *soname, const char *user,
                     const struct elf_needs *asks)
{
    size_t index;
    json_t *other;
    if (json_array_size(needs) >= 96)
        return;
    json_array_foreach(needs, index, other)
    {
        if (strcmp(json_string_value(json_object_get(other, "framework")), framework) == 0 &&
            strcmp(json_string_value(json_object_get(other, "soname")), soname) == 0)
            return;
    }
    json_t *need = json_object();
    probe_set_text(need, "framework", framework);
    probe_set_text(need, "soname", soname);
    python_find_library(need, environment, packages, soname, user, asks);
    json_array_append_new(needs, need);
}

/* NVIDIA's libraries but those of the driver, which other facts are about. */
static bool is_cuda_library(const char *soname)
{
    static const char *const begins[] = {"libcu", "libnv", "libnccl"};
    if (strncmp(soname, "libcuda.so", 10) == 0 || strncmp(soname, "libnvidia-ml", 12) == 0 ||
        strncmp(soname, "libcurl", 7) == 0)
        return false;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(soname, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* What a library of the framework is linked with. */
static void add_linked(json_t *needs, const struct environment *environment, const json_t *packages,
                       const char *framework, const char *below)
{
    char path[PATH_MAX + 256];
    struct elf_needs asks;
    if (find_file(environment, below, path, sizeof path) == NULL || !elf_read(path, &asks, NULL))
        return;
    for (size_t i = 0; i < asks.needed_count; i++)
        if (is_cuda_library(asks.needed[i]))
            add_need(needs, environment, packages, framework, asks.needed[i], path, &asks);
    elf_needs_free(&asks);
}

/* What it opens by name at run time: the toolkit's libraries and cuDNN. `below` has the search path. */
static void add_opened(json_t *needs, const struct environment *environment, const json_t *packages,
                       const char *framework, const char *below, const char *cuda,
                       const char *cudnn)
{
    char path[PATH_MAX + 256], soname[64];
    struct elf_needs asks;
    int major = atoi(cuda), second = atoi(cudnn);
    bool reads = below != NULL && find_file(environment, below, path, sizeof path) != NULL &&
                 elf_read(path, &asks, NULL);
    const char *user = reads ? path : NULL;
    const struct elf_needs *known = reads ? &asks : NULL;
    for (size_t i = 0; i < sizeof toolkits / sizeof *toolkits; i++)
        for (const char *const *name = toolkits[i].sonames; toolkits[i].major == major && *name;
             name++)
            add_need(needs, environment, packages, framework, *name, user, known);
    if (second == 0)
        second = major >= 13 ? 9 : 0;
    if (second > 0) {
        snprintf(soname, sizeof soname, "libcudnn.so.%d", second);
        add_need(needs, environment, packages, framework, soname, user, known);
    }
    if (reads)
        elf_needs_free(&asks);
}

static json_t *describe(const char *name, const char *package, const char *version)
{
    json_t *framework = json_object();
    probe_set_text(framework, "name", name);
    probe_set_text(framework, "package", package);
    probe_set_text(framework, "version", version);
    return framework;
}

/* The first of these packages that is installed. */
static const char *first_of(const json_t *packages, const char *const *names)
{
    for (; *names != NULL; names++)
        if (python_package_version(packages, *names) != NULL)
            return *names;
    return NULL;
}

static void tensorflow(json_t *frameworks, json_t *needs, const struct environment *environment,
                       const json_t *packages)
{
    static const char *const names[] = {
        "tensorflow-cpu",   "tensorflow-gpu",   "tf-nightly-cpu", "tf-nightly",
        "tensorflow-intel", "intel-tensorflow", "tensorflow",     NULL};
    char path[PATH_MAX + 256], built[32], cuda[64] = "", cudnn[64] = "", list[512] = "";
    const char *package = first_of(packages, names);
    /* with both installed, the plain name is what was asked for */
    if (python_package_version(packages, "tensorflow") != NULL)
        package = "tensorflow";
    if (package == NULL)
        return;
    json_t *framework = describe("tensorflow", package, python_package_version(packages, package));
    static const char below[] = "tensorflow/python/platform/build_info.py";
    char *source = find_file(environment, below, path, sizeof path) != NULL
                       ? probe_read(path, SOURCE_BYTES)
                       : NULL;
    if (source != NULL && find_value(source, "is_cuda_build", built, sizeof built)) {
        bool gpu = strncmp(built, "True", 4) == 0;
        json_object_set_new(framework, "cuda_build", json_boolean(gpu));
        find_value(source, "cuda_version", cuda, sizeof cuda);
        find_value(source, "cudnn_version", cudnn, sizeof cudnn);
        find_value(source, "cuda_compute_capabilities", list, sizeof list);
        plain_list(list);
        if (gpu) {
            probe_set_text(framework, "cuda", cuda);
            probe_set_text(framework, "cudnn", cudnn);
            probe_set_text(framework, "architectures", list);
        }
        probe_set_text(framework, "evidence",
                       gpu ? "build_info.py: is_cuda_build is True"
                           : "build_info.py: is_cuda_build is False");
        if (gpu)
            add_opened(needs, environment, packages, "tensorflow",
                       "tensorflow/libtensorflow_cc.so.2", cuda, cudnn);
    } else if (strstr(package, "-cpu") != NULL || strstr(package, "intel") != NULL) {
        json_object_set_new(framework, "cuda_build", json_false());
        probe_set_text(framework, "evidence", "the name of the package says so");
    }
    free(source);
    json_array_append_new(frameworks, framework);
}

static void torch(json_t *frameworks, json_t *needs, const struct environment *environment,
                  const json_t *packages, const json_t *requires)
{
    char path[PATH_MAX + 256], cuda[64] = "";
    const char *version = python_package_version(packages, "torch");
    if (version == NULL)
        return;
    json_t *framework = describe("torch", "torch", version), *value;
    char *source = find_file(environment, "torch/version.py", path, sizeof path) != NULL
                       ? probe_read(path, SOURCE_BYTES)
                       : NULL;
    bool library = find_file(environment, "torch/lib/libtorch_cuda.so", path, sizeof path) != NULL;
    if (source != NULL && find_value(source, "cuda", cuda, sizeof cuda)) {
        bool gpu = strncmp(cuda, "None", 4) != 0;
        json_object_set_new(framework, "cuda_build", json_boolean(gpu));
        if (gpu)
            probe_set_text(framework, "cuda", cuda);
        probe_set_text(framework, "evidence",
                       gpu ? "torch/version.py names a CUDA" : "torch/version.py: cuda is None");
    } else if (library || strstr(version, "+cpu") != NULL) {
        json_object_set_new(framework, "cuda_build", json_boolean(library));
        probe_set_text(framework, "evidence",
                       library ? "torch/lib/libtorch_cuda.so is there"
                               : "the version ends in +cpu");
    }
    free(source);
    const char *name;
    json_object_foreach(json_object_get(requires, "torch"), name, value)
    {
        if (strncmp(name, "nvidia-cudnn-", 13) == 0)
            probe_set_text(framework, "cudnn", json_string_value(value));
    }
    if (json_is_true(json_object_get(framework, "cuda_build"))) {
        add_linked(needs, environment, packages, "torch", "torch/lib/libtorch_cuda.so");
        add_linked(needs, environment, packages, "torch", "torch/lib/libc10_cuda.so");
    }
    json_array_append_new(frameworks, framework);
}

static void jax(json_t *frameworks, json_t *needs, const struct environment *environment,
                const json_t *packages)
{
    const char *version = python_package_version(packages, "jax");
    const char *library = python_package_version(packages, "jaxlib");
    static const char *const plugins[] = {"jax-cuda13-plugin", "jax-cuda13-pjrt",
                                          "jax-cuda12-plugin", "jax-cuda12-pjrt",
                                          "jax-cuda11-plugin", NULL};
    const char *plugin = first_of(packages, plugins);
    char evidence[160], cuda[8], below[64];
    if (version == NULL && library == NULL)
        return;
    json_t *framework =
        describe("jax", version != NULL ? "jax" : "jaxlib", version != NULL ? version : library);
    const char *local = library != NULL ? strstr(library, "+cuda") : NULL;
    bool gpu = plugin != NULL || local != NULL;
    json_object_set_new(framework, "cuda_build", json_boolean(gpu));
    if (gpu) {
        snprintf(cuda, sizeof cuda, "%.2s", plugin != NULL ? plugin + 8 : local + 5);
        snprintf(evidence, sizeof evidence, "%s is installed",
                 plugin != NULL ? plugin : "a jaxlib with CUDA in its version");
        probe_set_text(framework, "cuda", cuda);
        snprintf(below, sizeof below, "jax_plugins/xla_cuda%s/xla_cuda_plugin.so", cuda);
        add_linked(needs, environment, packages, "jax", below);
        add_opened(needs, environment, packages, "jax", below, cuda, atoi(cuda) >= 12 ? "9" : "8");
    } else {
        snprintf(evidence, sizeof evidence, "there is no jax-cuda12-plugin or jax-cuda13-plugin");
    }
    probe_set_text(framework, "evidence", evidence);
    json_array_append_new(frameworks, framework);
}

void python_frameworks(json_t *record, const struct environment *environment,
                       const json_t *packages, const json_t *requires)
{
    static const char *const keras[] = {"keras", "keras-nightly", "tf-keras", NULL};
    json_t *frameworks = json_array(), *needs = json_array();
    tensorflow(frameworks, needs, environment, packages);
    torch(frameworks, needs, environment, packages, requires);
    jax(frameworks, needs, environment, packages);
    const char *package = first_of(packages, keras);
    if (package != NULL)
        json_array_append_new(
            frameworks, describe("keras", package, python_package_version(packages, package)));
    json_object_set_new(record, "frameworks", frameworks);
    json_object_set_new(record, "needs", needs);
}
