/* The probe record: everything that `doctor` judges, as plain facts without a verdict.
 *
 * The lists below make the structs and their JSON alike, so that the two cannot drift: a section is
 * an object of the same name, a list an array of such objects. The worker collects most of it
 * (engine/probe/probe.h), the front adds its terminal; `doctor --json` prints the record as
 * data.probes, and `doctor --from` reads it back. What is not known is null or left out. Plain
 * values: copy and compare them as you like; any thread.
 */
#ifndef LAYERTOP_PROFILER_DOCTOR_PROBES_H
#define LAYERTOP_PROFILER_DOCTOR_PROBES_H

#include "engine/error.h"
#include <jansson.h>
#include <stdint.h>

#define PROBES_VERSION 1

/* A member that is not known: */
#define PROBE_NO_INT INT64_MIN                              /* INT; REAL: NAN; TEXT, LONG: "" */
enum answer { ANSWER_UNKNOWN = -1, ANSWER_NO, ANSWER_YES }; /* BOOL */

#define PROBE_TEXT_BYTES 128
#define PROBE_LONG_BYTES 768

/* The machine and what a process may use of it. container: "none", "docker", "podman", "kubernetes",
 * "lxc", "container" (another one). cpus_quota: of cgroup cpu.max, in CPUs; 0 if there is none.
 * folder_system: of the working folder ("nfs", "lustre" ...), lock_error: what flock() answered there
 * ("" it locks), hdf5_locking: HDF5_USE_FILE_LOCKING. host, user and home are there for the
 * redaction of reports. */
#define PROBE_HOST(X)                                                                              \
    X(TEXT, host)                                                                                  \
    X(TEXT, user)                                                                                  \
    X(TEXT, home)                                                                                  \
    X(TEXT, system)                                                                                \
    X(TEXT, kernel)                                                                                \
    X(BOOL, wsl)                                                                                   \
    X(TEXT, container)                                                                             \
    X(INT, cpus_online)                                                                            \
    X(INT, cpus_allowed)                                                                           \
    X(REAL, cpus_quota)                                                                            \
    X(TEXT, clock_source)                                                                          \
    X(INT, clock_step_ns)                                                                          \
    X(TEXT, folder_system)                                                                         \
    X(BOOL, folder_locks)                                                                          \
    X(TEXT, lock_error)                                                                            \
    X(TEXT, hdf5_locking)

/* Of the front, not of the worker. */
#define PROBE_TERMINAL(X)                                                                          \
    X(BOOL, present)                                                                               \
    X(TEXT, type)                                                                                  \
    X(BOOL, utf8)                                                                                  \
    X(INT, rows)                                                                                   \
    X(INT, columns)

/* The kernel's side. pci_gpus: display controllers of vendor 10de in /sys/bus/pci; module_loaded:
 * /proc/driver/nvidia/version is there; admin_only_profiling: RmProfilingAdminOnly. */
#define PROBE_DRIVER(X)                                                                            \
    X(INT, pci_gpus)                                                                               \
    X(BOOL, module_loaded)                                                                         \
    X(TEXT, module_version)                                                                        \
    X(BOOL, uvm_loaded)                                                                            \
    X(BOOL, nouveau_loaded)                                                                        \
    X(BOOL, admin_only_profiling)

/* A device node. state: "ok" or errno's name of open(): ENOENT, EACCES, EPERM, EIO ...; mode: the
 * permission bits; group: the name of its group. */
#define PROBE_NODE(X)                                                                              \
    X(TEXT, path)                                                                                  \
    X(TEXT, state)                                                                                 \
    X(INT, mode)                                                                                   \
    X(TEXT, group)

/* libcuda.so.1: where the linker found it, what cuInit() answered, cuDriverGetVersion() (13000). */
#define PROBE_CUDA(X)                                                                              \
    X(BOOL, found)                                                                                 \
    X(LONG, path)                                                                                  \
    X(LONG, why)                                                                                   \
    X(INT, init_code)                                                                              \
    X(INT, version)                                                                                \
    X(INT, devices)

/* libnvidia-ml.so.1: what nvmlInit() answered, the driver's version. */
#define PROBE_NVML(X)                                                                              \
    X(BOOL, found)                                                                                 \
    X(INT, init_code)                                                                              \
    X(TEXT, version)

/* As the worker was started. visible: CUDA_VISIBLE_DEVICES; device_order: CUDA_DEVICE_ORDER. */
#define PROBE_ENVIRONMENT(X)                                                                       \
    X(BOOL, visible_set)                                                                           \
    X(LONG, visible)                                                                               \
    X(TEXT, device_order)                                                                          \
    X(LONG, library_path)                                                                          \
    X(TEXT, container_devices)

/* layertop-cuda.so. cuda_version: of the toolkit it was built with (13000); architectures: machine
 * code in it ("75,90"); ptx: the architecture of its PTX (90). */
#define PROBE_GPU_PART(X)                                                                          \
    X(BOOL, found)                                                                                 \
    X(LONG, why)                                                                                   \
    X(INT, cuda_version)                                                                           \
    X(TEXT, architectures)                                                                         \
    X(INT, ptx)

/* cuBLASLt, cuDNN, CUPTI as we find them; built_major: the major version that we were built for. */
#define PROBE_LIBRARY(X)                                                                           \
    X(TEXT, name)                                                                                  \
    X(BOOL, found)                                                                                 \
    X(LONG, path)                                                                                  \
    X(LONG, why)                                                                                   \
    X(INT, major)                                                                                  \
    X(TEXT, version)                                                                               \
    X(INT, built_major)

/* code: of CUPTI's own attempt to trace, 0 if it does. */
#define PROBE_TRACING(X)                                                                           \
    X(BOOL, tried)                                                                                 \
    X(INT, code)                                                                                   \
    X(LONG, why)

/* A GPU by NVML. index: nvidia-smi's; architecture: 90 for compute capability 9.0; compute_mode: 0
 * default, 2 prohibited, 3 exclusive; cpus_shared: CPUs near the GPU that we may use; load_*: while
 * the smoke test computed for a second (throttle: NVML's clock event reasons). */
#define PROBE_GPU(X)                                                                               \
    X(INT, index)                                                                                  \
    X(TEXT, name)                                                                                  \
    X(TEXT, uuid)                                                                                  \
    X(TEXT, pci)                                                                                   \
    X(INT, architecture)                                                                           \
    X(INT, total_bytes)                                                                            \
    X(INT, used_bytes)                                                                             \
    X(INT, free_bytes)                                                                             \
    X(INT, compute_mode)                                                                           \
    X(INT, mig_mode)                                                                               \
    X(INT, mig_instances)                                                                          \
    X(BOOL, persistence)                                                                           \
    X(BOOL, display)                                                                               \
    X(INT, ecc_uncorrected)                                                                        \
    X(BOOL, remap_pending)                                                                         \
    X(BOOL, remap_failed)                                                                          \
    X(BOOL, virtual_gpu)                                                                           \
    X(BOOL, confidential)                                                                          \
    X(INT, numa_node)                                                                              \
    X(INT, cpus_shared)                                                                            \
    X(INT, clock_max_mhz)                                                                          \
    X(INT, pcie_generation_max)                                                                    \
    X(INT, pcie_width_max)                                                                         \
    X(BOOL, loaded)                                                                                \
    X(INT, load_clock_mhz)                                                                         \
    X(INT, load_throttle)                                                                          \
    X(INT, load_pcie_generation)                                                                   \
    X(INT, load_pcie_width)

/* Who holds memory on a GPU. */
#define PROBE_HOLDER(X)                                                                            \
    X(INT, gpu)                                                                                    \
    X(INT, pid)                                                                                    \
    X(TEXT, name)                                                                                  \
    X(TEXT, user)                                                                                  \
    X(INT, bytes)                                                                                  \
    X(BOOL, ours)

/* What was computed, against plain fp32 on the CPU. test: "kernel", "matmul", "convolution"; error:
 * the largest difference over the largest value; why: what failed. */
#define PROBE_SMOKE(X)                                                                             \
    X(TEXT, device)                                                                                \
    X(TEXT, test)                                                                                  \
    X(BOOL, ran)                                                                                   \
    X(REAL, error)                                                                                 \
    X(REAL, time_ms)                                                                               \
    X(LONG, why)

/* A Python environment, read and not run. keras_backend_from: "KERAS_BACKEND", a file, "default". */
#define PROBE_PYTHON(X)                                                                            \
    X(LONG, prefix)                                                                                \
    X(TEXT, version)                                                                               \
    X(LONG, packages_folder)                                                                       \
    X(INT, package_count)                                                                          \
    X(BOOL, system_packages)                                                                       \
    X(TEXT, keras_backend)                                                                         \
    X(LONG, keras_backend_from)

/* tensorflow, torch, jax, keras. package: the distribution that brings it; cuda, cudnn: what it was
 * built for ("12.5.1", "9.3"); evidence: where that stands; architectures: "sm_60,sm_80,compute_90". */
#define PROBE_FRAMEWORK(X)                                                                         \
    X(TEXT, name)                                                                                  \
    X(TEXT, package)                                                                               \
    X(TEXT, version)                                                                               \
    X(BOOL, cuda_build)                                                                            \
    X(TEXT, cuda)                                                                                  \
    X(TEXT, cudnn)                                                                                 \
    X(LONG, architectures)                                                                         \
    X(LONG, evidence)

/* A CUDA library that a framework needs. how: "rpath", "LD_LIBRARY_PATH", "conda", "wheel", "system"; for one
 * that is not found, path may name a copy that no search path reaches. package_version: of the wheel
 * it lies in. shadows: a copy that is found earlier than the wheel's. */
#define PROBE_NEED(X)                                                                              \
    X(TEXT, framework)                                                                             \
    X(TEXT, soname)                                                                                \
    X(BOOL, found)                                                                                 \
    X(TEXT, how)                                                                                   \
    X(LONG, path)                                                                                  \
    X(TEXT, package_version)                                                                       \
    X(BOOL, shadows)

/* A distribution that matters here: frameworks and NVIDIA's wheels. missing_files: in RECORD and not
 * on disk. */
#define PROBE_PACKAGE(X)                                                                           \
    X(TEXT, name)                                                                                  \
    X(TEXT, version)                                                                               \
    X(INT, missing_files)                                                                          \
    X(LONG, missing)

/* A running process. gpu_files: its descriptors on /dev/nvidia[0-9]*; gpu_bytes: by NVML. */
#define PROBE_PROCESS(X)                                                                           \
    X(INT, pid)                                                                                    \
    X(TEXT, name)                                                                                  \
    X(TEXT, user)                                                                                  \
    X(BOOL, maps_read)                                                                             \
    X(BOOL, files_read)                                                                            \
    X(TEXT, why)                                                                                   \
    X(INT, gpu_files)                                                                              \
    X(INT, gpu_bytes)                                                                              \
    X(BOOL, environment_read)                                                                      \
    X(BOOL, visible_set)                                                                           \
    X(LONG, visible)

/* A CUDA library in the process's address space. library: "libcudnn"; version: "9" or "9.19.0". */
#define PROBE_MAPPED(X)                                                                            \
    X(TEXT, library)                                                                               \
    X(TEXT, version)                                                                               \
    X(LONG, path)                                                                                  \
    X(BOOL, deleted)

#define PROBE_MEMBER_BOOL(name)  int name;
#define PROBE_MEMBER_INT(name)   int64_t name;
#define PROBE_MEMBER_REAL(name)  double name;
#define PROBE_MEMBER_TEXT(name)  char name[PROBE_TEXT_BYTES];
#define PROBE_MEMBER_LONG(name)  char name[PROBE_LONG_BYTES];
#define PROBE_MEMBER(type, name) PROBE_MEMBER_##type(name)

/* kind, struct, section's name */
#define PROBE_SECTIONS(X)                                                                          \
    X(PROBE_HOST, host)                                                                            \
    X(PROBE_TERMINAL, terminal)                                                                    \
    X(PROBE_DRIVER, driver)                                                                        \
    X(PROBE_CUDA, cuda)                                                                            \
    X(PROBE_NVML, nvml)                                                                            \
    X(PROBE_ENVIRONMENT, environment)                                                              \
    X(PROBE_GPU_PART, gpu_part)                                                                    \
    X(PROBE_TRACING, tracing)                                                                      \
    X(PROBE_PYTHON, python)                                                                        \
    X(PROBE_PROCESS, process)

/* members, struct, list's name, how many at most */
#define PROBE_LISTS(X)                                                                             \
    X(PROBE_NODE, node, nodes, 40)                                                                 \
    X(PROBE_LIBRARY, library, libraries, 8)                                                        \
    X(PROBE_GPU, gpu, gpus, 16)                                                                    \
    X(PROBE_HOLDER, holder, holders, 128)                                                          \
    X(PROBE_SMOKE, smoke, smokes, 64)                                                              \
    X(PROBE_FRAMEWORK, framework, frameworks, 8)                                                   \
    X(PROBE_NEED, need, needs, 96)                                                                 \
    X(PROBE_PACKAGE, package, packages, 64)                                                        \
    X(PROBE_MAPPED, mapped, mapped, 64)

#define PROBE_SECTION_STRUCT(members, name)                                                        \
    struct probe_##name {                                                                          \
        members(PROBE_MEMBER)                                                                      \
    };
PROBE_SECTIONS(PROBE_SECTION_STRUCT)
#undef PROBE_SECTION_STRUCT

#define PROBE_LIST_STRUCT(members, one, name, most)                                                \
    struct probe_##one {                                                                           \
        members(PROBE_MEMBER)                                                                      \
    };
PROBE_LISTS(PROBE_LIST_STRUCT)
#undef PROBE_LIST_STRUCT

struct probes {
#define PROBE_SECTION_FIELD(members, name) struct probe_##name name;
    PROBE_SECTIONS(PROBE_SECTION_FIELD)
#undef PROBE_SECTION_FIELD
#define PROBE_LIST_FIELD(members, one, name, most)                                                 \
    struct probe_##one name[most];                                                                 \
    size_t name##_count;
    PROBE_LISTS(PROBE_LIST_FIELD)
#undef PROBE_LIST_FIELD
};

/* A record in which nothing is known. Caller frees with free(): it is too big for a stack. */
struct probes *probes_new(void);

/* Read a record: an object of the sections above, or one that holds it as "probes" or
 * "data.probes" (a line of `doctor --json`). Unknown members are passed over; a member of another
 * type, or a list that is too long, is ERROR_INPUT and named ("gpus[2].free_bytes"). Text is cleaned
 * of control characters. NULL on failure. */
struct probes *probes_from_json(const json_t *json, struct error *error);

/* The record as JSON: what is not known is left out, as are sections of which nothing is known. New
 * reference. */
json_t *probes_to_json(const struct probes *probes);

#endif
