/* A Python environment: why a framework in it does not see the GPU. */
#include "profiler/doctor/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_framework(const struct probe_framework *framework)
{
    return strcmp(framework->name, "keras") != 0; /* which computes with another one */
}

static const struct probe_framework *find_framework(const struct probes *probes, const char *name)
{
    for (size_t i = 0; i < probes->frameworks_count; i++)
        if (strcmp(probes->frameworks[i].name, name) == 0)
            return &probes->frameworks[i];
    return NULL;
}

static const struct probe_package *find_package(const struct probes *probes, const char *name)
{
    for (size_t i = 0; i < probes->packages_count; i++)
        if (strcmp(probes->packages[i].name, name) == 0)
            return &probes->packages[i];
    return NULL;
}

static int major_of(const char *version)
{
    return *version >= '0' && *version <= '9' ? atoi(version) : -1;
}

static int minor_of(const char *version)
{
    const char *dot = strchr(version, '.');
    return dot ? atoi(dot + 1) : 0;
}

void doctor_check_frameworks(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->frameworks_count; i++) {
        const struct probe_framework *framework = &probes->frameworks[i];
        if (is_framework(framework))
            doctor_raise(finding, DOCTOR_OK);
        if (*framework->cuda)
            doctor_add(finding, "%s %s for CUDA %s", framework->package, framework->version,
                       framework->cuda);
        else
            doctor_add(finding, "%s %s", framework->package, framework->version);
    }
    if (finding->state == DOCTOR_OK)
        return;
    doctor_say(finding, DOCTOR_FAIL, "there is neither TensorFlow nor PyTorch nor JAX in %s",
               probes->python.prefix);
    doctor_hint(finding, "%s/bin/python -m pip install 'tensorflow[and-cuda]'",
                probes->python.prefix);
}

static void hint_gpu_build(const struct probes *probes, const struct probe_framework *framework,
                           struct doctor_finding *finding)
{
    const char *prefix = probes->python.prefix;
    if (strcmp(framework->name, "torch") == 0)
        doctor_hint(finding,
                    "%s/bin/python -m pip install --force-reinstall torch --index-url "
                    "https://download.pytorch.org/whl/cu128",
                    prefix);
    else if (strcmp(framework->name, "jax") == 0)
        doctor_hint(finding, "%s/bin/python -m pip install -U 'jax[cuda12]'", prefix);
    else if (strcmp(framework->package, "tensorflow") != 0)
        doctor_hint(finding,
                    "%s/bin/python -m pip uninstall -y %s; %s/bin/python -m pip install "
                    "'tensorflow[and-cuda]'",
                    prefix, framework->package, prefix);
    else
        doctor_hint(finding,
                    "%s/bin/python -m pip install --force-reinstall 'tensorflow[and-cuda]'",
                    prefix);
}

void doctor_check_cpu_build(const struct probes *probes, struct doctor_finding *finding)
{
    size_t gpu = 0;
    for (size_t i = 0; i < probes->frameworks_count; i++) {
        const struct probe_framework *framework = &probes->frameworks[i];
        if (!is_framework(framework) || framework->cuda_build == ANSWER_UNKNOWN)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (framework->cuda_build == ANSWER_YES) {
            gpu++;
            continue;
        }
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding,
                   "%s %s is a build for the CPU alone (%s): no driver and no setting makes "
                   "it see a GPU",
                   framework->package, framework->version,
                   *framework->evidence ? framework->evidence : "it holds no CUDA code");
        hint_gpu_build(probes, framework, finding);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
    else if (finding->state == DOCTOR_WARN && gpu == 0)
        doctor_raise(finding, DOCTOR_FAIL);
}

void doctor_check_install(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->packages_count; i++) {
        const struct probe_package *package = &probes->packages[i];
        if (package->missing_files == PROBE_NO_INT)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (package->missing_files == 0)
            continue;
        doctor_raise(finding, DOCTOR_FAIL);
        doctor_add(finding,
                   "%s %s lacks %lld of its files (%s ...): another package or a broken "
                   "download removed them",
                   package->name, package->version, (long long)package->missing_files,
                   package->missing);
        doctor_hint(finding, "%s/bin/python -m pip install --force-reinstall --no-deps %s==%s",
                    probes->python.prefix, package->name, package->version);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "no library of a RECORD is missing");
}

/* The wheel that brings a library: "libcudnn.so.9" for CUDA 12 is in nvidia-cudnn-cu12. */
static void wheel_of(const char *soname, const char *cuda, char *out, size_t size)
{
    static const struct {
        const char *begin, *wheel;
    } rows[] = {
        {"libcudnn", "cudnn"},           {"libcublas", "cublas"},
        {"libcudart", "cuda-runtime"},   {"libcufft", "cufft"},
        {"libcurand", "curand"},         {"libcusolver", "cusolver"},
        {"libcusparseLt", "cusparselt"}, {"libcusparse", "cusparse"},
        {"libnvrtc", "cuda-nvrtc"},      {"libcupti", "cuda-cupti"},
        {"libnvJitLink", "nvjitlink"},   {"libnccl", "nccl"},
    };
    int major = major_of(cuda);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strncmp(soname, rows[i].begin, strlen(rows[i].begin)) == 0) {
            /* since CUDA 13 the wheels of the toolkit carry no suffix */
            bool plain = major >= 13 && strcmp(rows[i].wheel, "cudnn") != 0 &&
                         strcmp(rows[i].wheel, "nccl") != 0 &&
                         strcmp(rows[i].wheel, "cusparselt") != 0;
            if (plain)
                snprintf(out, size, "nvidia-%s", rows[i].wheel);
            else
                snprintf(out, size, "nvidia-%s-cu%d", rows[i].wheel, major > 0 ? major : 12);
            return;
        }
    }
    *out = '\0';
}

static void hint_need(const struct probes *probes, const struct probe_need *need,
                      struct doctor_finding *finding)
{
    const struct probe_framework *framework = find_framework(probes, need->framework);
    char wheel[64], folder[PROBE_LONG_BYTES];
    if (*need->path) { /* a copy lies where nobody looks */
        snprintf(folder, sizeof folder, "%s", need->path);
        char *slash = strrchr(folder, '/');
        if (slash)
            *slash = '\0';
        doctor_hint(finding, "export LD_LIBRARY_PATH=%.200s", folder);
        return;
    }
    wheel_of(need->soname, framework ? framework->cuda : "", wheel, sizeof wheel);
    if (framework && strcmp(framework->name, "tensorflow") == 0)
        doctor_hint(finding, "%s/bin/python -m pip install 'tensorflow[and-cuda]==%s'",
                    probes->python.prefix, framework->version);
    else if (*wheel)
        doctor_hint(finding, "%s/bin/python -m pip install %s", probes->python.prefix, wheel);
}

/* All that one framework needs and nobody has, in one sentence. */
static void say_missing(const struct probes *probes, const char *framework,
                        struct doctor_finding *finding)
{
    char names[512] = "";
    const struct probe_need *first = NULL;
    for (size_t i = 0; i < probes->needs_count; i++) {
        const struct probe_need *need = &probes->needs[i];
        size_t used = strlen(names);
        if (need->found != ANSWER_NO || *need->path || strcmp(need->framework, framework) != 0)
            continue;
        first = first ? first : need;
        snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", need->soname);
    }
    if (!first)
        return;
    doctor_add(finding, "%s needs %s, which no search path leads to, and no copy was found",
               framework, names);
    hint_need(probes, first, finding);
}

void doctor_check_needs(const struct probes *probes, struct doctor_finding *finding)
{
    size_t found = 0;
    for (size_t i = 0; i < probes->needs_count; i++) {
        const struct probe_need *need = &probes->needs[i];
        if (need->found == ANSWER_UNKNOWN)
            continue;
        doctor_raise(finding, need->found == ANSWER_YES ? DOCTOR_OK : DOCTOR_FAIL);
        found += need->found == ANSWER_YES;
        if (need->found == ANSWER_YES || !*need->path)
            continue;
        doctor_add(finding,
                   "%s needs %s, which lies at %s, where neither its search path nor the "
                   "linker's leads",
                   need->framework, need->soname, need->path);
        hint_need(probes, need, finding);
    }
    for (size_t i = 0; i < probes->frameworks_count; i++)
        say_missing(probes, probes->frameworks[i].name, finding);
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "all %zu", found);
}

void doctor_check_cudnn_version(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->needs_count; i++) {
        const struct probe_need *need = &probes->needs[i];
        const struct probe_framework *framework = find_framework(probes, need->framework);
        if (strncmp(need->soname, "libcudnn.so", 11) != 0 || need->found != ANSWER_YES ||
            !*need->package_version || !framework || major_of(framework->cudnn) < 0)
            continue;
        const char *has = need->package_version, *wants = framework->cudnn;
        doctor_raise(finding, DOCTOR_OK);
        /* "9" alone names no minor version */
        if (major_of(has) == major_of(wants) &&
            (!strchr(wants, '.') || minor_of(has) >= minor_of(wants)))
            continue;
        doctor_raise(finding, DOCTOR_FAIL);
        doctor_add(finding,
                   "%s %s was built for cuDNN %s and finds %s: its first convolution fails",
                   framework->package, framework->version, wants, has);
        doctor_hint(finding, "%s/bin/python -m pip install 'nvidia-cudnn-cu%d>=%s'",
                    probes->python.prefix,
                    major_of(framework->cuda) > 0 ? major_of(framework->cuda) : 12, wants);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
}

void doctor_check_python_driver(const struct probes *probes, struct doctor_finding *finding)
{
    int64_t driver = probes->cuda.version;
    if (driver == PROBE_NO_INT || driver <= 0)
        return;
    for (size_t i = 0; i < probes->frameworks_count; i++) {
        const struct probe_framework *framework = &probes->frameworks[i];
        int major = major_of(framework->cuda);
        if (major < 0)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (driver / 1000 >= major)
            continue;
        doctor_raise(finding, DOCTOR_FAIL);
        doctor_add(finding, "%s %s is built for CUDA %s, and the driver knows CUDA up to %lld.%lld",
                   framework->package, framework->version, framework->cuda,
                   (long long)(driver / 1000), (long long)(driver % 1000 / 10));
        doctor_hint(finding, "sudo apt-get install --only-upgrade nvidia-driver; sudo reboot");
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "the driver knows CUDA up to %lld.%lld",
                   (long long)(driver / 1000), (long long)(driver % 1000 / 10));
}

/* What a list "sm_60,sm_80,compute_90" has for an architecture: 2 machine code, 1 PTX, 0 nothing. */
static int code_for(const char *list, int64_t architecture)
{
    int best = 0;
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const char *digits = strpbrk(at, "0123456789");
        long one = digits ? strtol(digits, NULL, 10) : -1;
        if (one < 0)
            continue;
        if (strncmp(at, "sm_", 3) == 0 && one / 10 == architecture / 10 &&
            one % 10 <= architecture % 10)
            return 2;
        if (strncmp(at, "compute_", 8) == 0 && one <= architecture)
            best = 1;
    }
    return best;
}

void doctor_check_python_architectures(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->frameworks_count; i++) {
        const struct probe_framework *framework = &probes->frameworks[i];
        for (size_t k = 0; k < probes->gpus_count && *framework->architectures; k++) {
            const struct probe_gpu *gpu = &probes->gpus[k];
            if (gpu->architecture == PROBE_NO_INT)
                continue;
            int code = code_for(framework->architectures, gpu->architecture);
            doctor_raise(finding, DOCTOR_OK);
            if (code == 2)
                continue;
            doctor_raise(finding, code == 1 ? DOCTOR_WARN : DOCTOR_FAIL);
            doctor_add(finding, "%s %s holds %s and gpu:%lld is sm_%lld: %s", framework->package,
                       framework->version, framework->architectures, (long long)gpu->index,
                       (long long)gpu->architecture,
                       code == 1 ? "the driver compiles its kernels at the first start, for minutes"
                                 : "no kernel of it runs there");
            if (code == 1)
                doctor_hint(finding, "export CUDA_CACHE_MAXSIZE=4294967296    (so that it is done "
                                     "once)");
            else
                doctor_hint(finding, "%s/bin/python -m pip install -U %s", probes->python.prefix,
                            framework->package);
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
}

/* nvidia-cublas-cu12 -> 12; -1 for a name without a suffix. */
static int wheel_major(const char *name)
{
    const char *suffix = strstr(name, "-cu");
    for (const char *next = suffix; next; next = strstr(next + 1, "-cu"))
        suffix = next;
    return suffix && suffix[3] >= '0' && suffix[3] <= '9' ? atoi(suffix + 3) : -1;
}

void doctor_check_mixed(const struct probes *probes, struct doctor_finding *finding)
{
    static const char *const rivals[][2] = {{"tensorflow", "tensorflow-cpu"},
                                            {"tensorflow", "tensorflow-gpu"},
                                            {"tensorflow", "tf-nightly"},
                                            {"tensorflow-cpu", "tensorflow-gpu"},
                                            {"keras", "keras-nightly"}};
    if (probes->packages_count == 0)
        return;
    doctor_raise(finding, DOCTOR_OK);
    for (size_t i = 0; i < sizeof rivals / sizeof *rivals; i++) {
        if (!find_package(probes, rivals[i][0]) || !find_package(probes, rivals[i][1]))
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding, "%s and %s write the same files: the later one has won", rivals[i][0],
                   rivals[i][1]);
        doctor_hint(
            finding, "%s/bin/python -m pip uninstall -y %s %s; %s/bin/python -m pip install %s",
            probes->python.prefix, rivals[i][0], rivals[i][1], probes->python.prefix, rivals[i][0]);
    }
    for (size_t i = 0; i < probes->packages_count; i++) {
        const char *name = probes->packages[i].name;
        int major = wheel_major(name);
        for (size_t k = i + 1; k < probes->packages_count && major > 0; k++) {
            const char *other = probes->packages[k].name;
            int second = wheel_major(other);
            size_t stem = (size_t)(strstr(name, "-cu") - name);
            /* of the same library: both unpack into one folder */
            if (second < 0 || second == major || strncmp(name, other, stem + 3) != 0 ||
                strncmp(name, "nvidia-", 7) != 0)
                continue;
            doctor_raise(finding, DOCTOR_WARN);
            doctor_add(finding, "%s and %s are both installed", name, other);
            doctor_hint(finding, "%s/bin/python -m pip uninstall -y %s", probes->python.prefix,
                        major < second ? name : other);
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
}

void doctor_check_shadowed(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->needs_count; i++) {
        const struct probe_need *need = &probes->needs[i];
        if (need->found != ANSWER_YES)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (need->shadows != ANSWER_YES)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding, "%s gets %s from %s (%s) and not from its own wheel", need->framework,
                   need->soname, need->path, need->how);
        doctor_hint(finding, "unset LD_LIBRARY_PATH");
    }
    if (finding->state == DOCTOR_OK ||
        (finding->state == DOCTOR_UNKNOWN && *probes->python.prefix && probes->needs_count == 0))
        doctor_say(finding, DOCTOR_OK, "yes");
}

void doctor_check_jax_plugin(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_package *jaxlib = find_package(probes, "jaxlib");
    if (!jaxlib) {
        if (*probes->python.prefix)
            doctor_say(finding, DOCTOR_OK, "there is no JAX");
        return;
    }
    for (size_t i = 0; i < probes->packages_count; i++) {
        const struct probe_package *package = &probes->packages[i];
        if (strncmp(package->name, "jax-cuda", 8) != 0)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (strcmp(package->version, jaxlib->version) == 0)
            continue;
        doctor_raise(finding, DOCTOR_FAIL);
        doctor_add(finding, "%s is %s and jaxlib is %s: JAX refuses a plugin of another version",
                   package->name, package->version, jaxlib->version);
        doctor_hint(finding, "%s/bin/python -m pip install %s==%s", probes->python.prefix,
                    package->name, jaxlib->version);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "both are %s", jaxlib->version);
    else if (finding->state == DOCTOR_UNKNOWN)
        doctor_say(finding, DOCTOR_OK, "jaxlib %s has no CUDA plugin", jaxlib->version);
}

void doctor_check_keras_backend(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_framework *keras = find_framework(probes, "keras");
    const char *backend = probes->python.keras_backend;
    if (!keras || major_of(keras->version) < 3) {
        if (*probes->python.prefix)
            doctor_say(finding, DOCTOR_OK,
                       keras ? "Keras 2 computes with TensorFlow" : "there is no Keras");
        return;
    }
    if (!*backend)
        return;
    if (strcmp(backend, "numpy") == 0 || strcmp(backend, "openvino") == 0) {
        doctor_say(finding, DOCTOR_WARN, "Keras computes with %s (%s), which uses no NVIDIA GPU",
                   backend, probes->python.keras_backend_from);
        doctor_hint(finding, "export KERAS_BACKEND=tensorflow");
        return;
    }
    const struct probe_framework *framework = find_framework(probes, backend);
    if (framework) {
        doctor_say(finding, DOCTOR_OK, "Keras %s computes with %s %s (%s)", keras->version,
                   framework->package, framework->version, probes->python.keras_backend_from);
        return;
    }
    doctor_say(finding, DOCTOR_FAIL, "Keras is to compute with %s (%s), which is not installed",
               backend, probes->python.keras_backend_from);
    for (size_t i = 0; i < probes->frameworks_count; i++)
        if (is_framework(&probes->frameworks[i]))
            doctor_hint(finding, "export KERAS_BACKEND=%s", probes->frameworks[i].name);
    doctor_hint(finding, "%s/bin/python -m pip install %s", probes->python.prefix, backend);
}
