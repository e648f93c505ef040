/* From the hardware to cuInit(): is there a driver, and may this process use it? */
#include "engine/visible.h"
#include "profiler/doctor/rules.h"

#include <stdio.h>
#include <string.h>

static bool in_container(const struct probes *probes)
{
    return *probes->host.container && strcmp(probes->host.container, "none") != 0;
}

/* The line that starts a container of this kind with its GPUs. */
static void hint_container(const struct probes *probes, struct doctor_finding *finding)
{
    const char *kind = probes->host.container;
    if (strcmp(kind, "podman") == 0)
        doctor_hint(finding, "podman run --device nvidia.com/gpu=all ...");
    else if (strcmp(kind, "kubernetes") == 0)
        doctor_hint(finding, "resources: {limits: {nvidia.com/gpu: 1}} in the pod's container");
    else
        doctor_hint(finding, "docker run --gpus all ...");
}

void doctor_check_module(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_driver *driver = &probes->driver;
    if (probes->host.wsl == ANSWER_YES) {
        doctor_say(finding, DOCTOR_INFO, "WSL: the driver of Windows serves, none is loaded here");
    } else if (driver->module_loaded == ANSWER_YES) {
        doctor_say(finding, DOCTOR_OK, "NVIDIA's kernel module %s is loaded",
                   *driver->module_version ? driver->module_version : "(unknown version)");
    } else if (driver->module_loaded == ANSWER_UNKNOWN) {
        return;
    } else if (driver->pci_gpus == 0) {
        doctor_say(finding, DOCTOR_FAIL,
                   "this machine shows no NVIDIA GPU on its PCI bus, and no driver is loaded");
        doctor_hint(finding, "devices cpu");
    } else if (driver->nouveau_loaded == ANSWER_YES) {
        doctor_say(finding, DOCTOR_FAIL,
                   "the nouveau driver holds the GPU, which cannot compute with CUDA: NVIDIA's "
                   "kernel module is not loaded");
        doctor_hint(finding, "echo blacklist nouveau | sudo tee /etc/modprobe.d/nouveau.conf; sudo "
                             "update-initramfs -u; sudo reboot");
    } else if (in_container(probes)) {
        doctor_say(finding, DOCTOR_FAIL,
                   "NVIDIA's kernel module is not loaded on the host of this container (%s)",
                   probes->host.container);
        doctor_hint(finding, "sudo modprobe nvidia    (on the host)");
    } else {
        doctor_say(
            finding, DOCTOR_FAIL,
            "NVIDIA's kernel module is not loaded: /proc/driver/nvidia/version is not there");
        doctor_hint(finding, "sudo modprobe nvidia");
    }
}

void doctor_check_mismatch(const struct probes *probes, struct doctor_finding *finding)
{
    const char *module = probes->driver.module_version, *library = probes->nvml.version;
    if (probes->nvml.init_code == 18) {
        doctor_say(finding, DOCTOR_FAIL,
                   "NVML answers 18: the loaded kernel module (%s) and the driver's libraries are "
                   "of different versions; the driver was updated, and a reboot is pending",
                   *module ? module : "version unknown");
        doctor_hint(finding, "sudo reboot");
    } else if (*module && *library && strcmp(module, library) != 0) {
        doctor_say(
            finding, DOCTOR_FAIL,
            "the kernel module is %s, the driver's libraries are %s: a reboot is pending, or "
            "this container brings libraries of its own",
            module, library);
        doctor_hint(finding, "sudo reboot");
    } else if (*library) {
        doctor_say(finding, DOCTOR_OK, "both are %s", library);
    } else if (probes->nvml.found == ANSWER_NO) {
        doctor_say(finding, DOCTOR_UNKNOWN, "libnvidia-ml.so.1 is not there to ask");
    }
}

/* One node's trouble in words; the worst comes first, because it is said first. */
static void judge_node(const struct probes *probes, const struct probe_node *node,
                       struct doctor_finding *finding)
{
    bool uvm = strstr(node->path, "uvm") != NULL;
    if (strcmp(node->state, "ok") == 0) {
        doctor_raise(finding, DOCTOR_OK);
        return;
    }
    doctor_raise(finding, DOCTOR_FAIL);
    if (strcmp(node->state, "ENOENT") == 0) {
        doctor_add(finding, "%s is not there", node->path);
        if (in_container(probes))
            hint_container(probes, finding);
        else
            doctor_hint(finding, "sudo nvidia-modprobe -u -c 0");
    } else if (strcmp(node->state, "EACCES") == 0) {
        doctor_add(finding, "%s may not be opened (mode %03o, group %s)", node->path,
                   (unsigned)(node->mode > 0 ? node->mode & 0777 : 0),
                   *node->group ? node->group : "unknown");
        if (*node->group && strcmp(node->group, "root") != 0)
            doctor_hint(finding, "sudo usermod -aG %s $USER, then log in again", node->group);
        else
            doctor_hint(finding, "sudo chmod 666 %s", node->path);
    } else if (strcmp(node->state, "EPERM") == 0) {
        doctor_add(finding, "%s is there, but open() is not permitted (mode %03o): %s", node->path,
                   (unsigned)(node->mode > 0 ? node->mode & 0777 : 0),
                   in_container(probes) ? "the container's cgroup denies the device"
                                        : "a cgroup or a security module denies the device");
        if (in_container(probes))
            doctor_hint(finding, "docker restart CONTAINER    (a reload of systemd took its device "
                                 "rules away)");
        else
            doctor_hint(finding, "systemctl show --property=DevicePolicy,DeviceAllow UNIT");
    } else if (uvm) {
        doctor_add(finding, "%s answers %s: stale after a suspend or an update", node->path,
                   node->state);
        doctor_hint(finding, "sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm");
    } else {
        doctor_add(finding, "%s answers %s", node->path, node->state);
        doctor_hint(finding, "sudo nvidia-smi -r    (or a reboot)");
    }
}

void doctor_check_nodes(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->nodes_count; i++)
        judge_node(probes, &probes->nodes[i], finding);
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "all %zu can be opened", probes->nodes_count);
}

void doctor_check_libcuda(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_cuda *cuda = &probes->cuda;
    if (cuda->found == ANSWER_UNKNOWN)
        return;
    if (cuda->found == ANSWER_NO) {
        doctor_say(finding, DOCTOR_FAIL,
                   "the linker finds no libcuda.so.1: the driver's libraries are not %s%s%s",
                   in_container(probes) ? "in this container" : "installed", *cuda->why ? ": " : "",
                   cuda->why);
        if (in_container(probes))
            doctor_hint(finding, "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all ...");
        else
            doctor_hint(finding, "sudo apt-get install libcuda1 libnvidia-ml1");
    } else if (strstr(cuda->path, "/stubs/")) {
        doctor_say(finding, DOCTOR_FAIL,
                   "%s is the toolkit's stub: programs link with it, and it drives no GPU",
                   cuda->path);
        doctor_hint(finding, "unset LD_LIBRARY_PATH    (or take its .../stubs entry out)");
    } else if (strstr(cuda->path, "/compat/") || strstr(cuda->path, "-compat-")) {
        doctor_say(finding, DOCTOR_WARN,
                   "%s is of a forward compatibility package: it works with data centre GPUs "
                   "and drivers that it names, elsewhere cuInit answers 803 or 804",
                   cuda->path);
        doctor_hint(finding, "sudo apt-get remove 'cuda-compat-*'");
    } else if (strstr(cuda->path, "/wsl/")) {
        doctor_say(finding, DOCTOR_INFO, "%s, WSL's door to the driver of Windows", cuda->path);
    } else {
        doctor_say(finding, DOCTOR_OK, "%s", cuda->path);
    }
}

void doctor_check_visible(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_environment *environment = &probes->environment;
    const char *uuids[VISIBLE_MAX];
    struct visible visible;
    char sentence[512];
    if (environment->visible_set == ANSWER_UNKNOWN)
        return;
    if (environment->visible_set == ANSWER_NO) {
        doctor_say(finding, DOCTOR_OK, "not set: every GPU is visible");
        return;
    }
    size_t count = probes->gpus_count < VISIBLE_MAX ? probes->gpus_count : VISIBLE_MAX;
    for (size_t i = 0; i < count; i++)
        uuids[i] = probes->gpus[i].uuid;
    visible_parse(&visible, environment->visible, uuids, count);
    visible_describe(sentence, sizeof sentence, &visible, environment->visible);
    if (visible.count == 0) {
        doctor_say(finding, DOCTOR_FAIL, "%s",
                   *sentence ? sentence : "CUDA_VISIBLE_DEVICES hides every GPU");
        doctor_hint(finding, "unset CUDA_VISIBLE_DEVICES");
    } else if (visible.bad_token > 0) {
        doctor_say(finding, DOCTOR_WARN, "%s", sentence);
        doctor_hint(finding, "unset CUDA_VISIBLE_DEVICES");
    } else if (count > 0 && visible.count < count) {
        doctor_say(finding, DOCTOR_INFO, "CUDA_VISIBLE_DEVICES=%s shows %zu of %zu GPUs",
                   environment->visible, visible.count, count);
    } else {
        doctor_say(finding, DOCTOR_OK, "CUDA_VISIBLE_DEVICES=%s hides none", environment->visible);
    }
}

/* cuInit()'s answers (cuda.h) and what they come from. */
static const struct {
    int code;
    const char *name, *meaning, *hint;
} answers[] = {
    {3, "CUDA_ERROR_NOT_INITIALIZED", "the driver refuses to start", "sudo reboot"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "the loaded libcuda is the toolkit's stub",
     "unset LD_LIBRARY_PATH"},
    {35, "CUDA_ERROR_INSUFFICIENT_DRIVER",
     "the driver is older than the CUDA in use, or the container has no GPU", "nvidia-smi"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE",
     "every GPU is busy: exclusive mode, a licence of a virtual GPU, or MIG without an instance",
     "nvidia-smi"},
    {100, "CUDA_ERROR_NO_DEVICE", "the driver runs and shows no GPU to this process",
     "nvidia-smi -L"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "the named GPU is none", "unset CUDA_VISIBLE_DEVICES"},
    {304, "CUDA_ERROR_OPERATING_SYSTEM", "a call of the operating system failed",
     "sudo dmesg | grep -i nvrm"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY",
     "the system is not ready: on machines with NVSwitch the fabric manager does not run",
     "sudo systemctl start nvidia-fabricmanager"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "kernel module and libcuda are of different versions: a reboot is pending", "sudo reboot"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
     "a forward compatibility package is installed, which this GPU does not support",
     "sudo apt-get remove 'cuda-compat-*'"},
    {805, "CUDA_ERROR_MPS_CONNECTION_FAILED", "the MPS server cannot be reached",
     "nvidia-cuda-mps-control -d"},
    {999, "CUDA_ERROR_UNKNOWN",
     "mostly /dev/nvidia-uvm is missing, or stale after a suspend, although nvidia-smi works",
     "sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm"},
};

void doctor_check_init(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_cuda *cuda = &probes->cuda;
    if (cuda->init_code == PROBE_NO_INT) {
        if (cuda->found == ANSWER_NO)
            doctor_say(finding, DOCTOR_UNKNOWN, "there is no libcuda.so.1 to ask");
        return;
    }
    if (cuda->init_code == 0 && cuda->devices != 0) {
        doctor_say(finding, DOCTOR_OK, "cuInit succeeds; the driver knows CUDA up to %lld.%lld",
                   (long long)(cuda->version > 0 ? cuda->version / 1000 : 0),
                   (long long)(cuda->version > 0 ? cuda->version % 1000 / 10 : 0));
        return;
    }
    int64_t code = cuda->init_code == 0 ? 100 : cuda->init_code;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (answers[i].code != code)
            continue;
        doctor_say(finding, DOCTOR_FAIL, "cuInit answers %lld (%s): %s", (long long)code,
                   answers[i].name, answers[i].meaning);
        doctor_hint(finding, "%s", answers[i].hint);
        return;
    }
    doctor_say(finding, DOCTOR_FAIL, "cuInit answers %lld", (long long)code);
    doctor_hint(finding, "sudo dmesg | grep -i nvrm");
}

void doctor_check_order(const struct probes *probes, struct doctor_finding *finding)
{
    bool differ = false;
    if (probes->gpus_count == 0)
        return;
    for (size_t i = 1; i < probes->gpus_count; i++)
        differ = differ || strcmp(probes->gpus[i].name, probes->gpus[0].name) != 0;
    if (!differ) {
        doctor_say(finding, DOCTOR_OK, "%s",
                   probes->gpus_count == 1 ? "there is one GPU" : "the GPUs are all alike");
    } else if (strcmp(probes->environment.device_order, "PCI_BUS_ID") == 0) {
        doctor_say(finding, DOCTOR_OK, "CUDA_DEVICE_ORDER=PCI_BUS_ID: CUDA counts as nvidia-smi");
    } else {
        doctor_say(
            finding, DOCTOR_WARN,
            "the GPUs differ (%s, %s ...), and CUDA counts the fastest first where nvidia-smi "
            "counts by PCI bus: index 0 may be another GPU in your framework than here",
            probes->gpus[0].name, probes->gpus[probes->gpus_count - 1].name);
        doctor_hint(finding, "export CUDA_DEVICE_ORDER=PCI_BUS_ID");
    }
}
