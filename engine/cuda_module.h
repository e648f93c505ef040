/* Opens layertop-cuda.so, the GPU part, at run time: one build starts on every machine.
 *
 * backend_cuda() itself is declared in engine/backend.h. The module is looked for beside the
 * executable, in ../lib/layertop and ../lib of it, and one folder up (the programs of the tests);
 * LAYERTOP_CUDA_MODULE names one file and is then the only place. The module opens the driver,
 * cuBLASLt and cuDNN; whatever is missing comes back as one ERROR_GPU (or ERROR_DEVICE when
 * CUDA_VISIBLE_DEVICES hides every GPU).
 *
 * Threads: the engine thread. CUDA_DEVICE_ORDER is set to PCI_BUS_ID before the driver starts, so
 * that CUDA counts as nvidia-smi does.
 */
#ifndef LAYERTOP_ENGINE_CUDA_MODULE_H
#define LAYERTOP_ENGINE_CUDA_MODULE_H

#include "engine/error.h"
#include <jansson.h>

struct backend;

/* What layertop-cuda.so exports: the backend's table once driver and libraries are
 * proven to open, else NULL with *error filled. Creates no context. */
typedef const struct backend *cuda_module_entry(struct error *error);
#define CUDA_MODULE_SYMBOL "layertop_backend_cuda"

/* The second one: facts about the module for `doctor`, which it has also where its libraries are
 * missing: {"gpu_part": {...}, "libraries": [...]} of profiler/doctor/probes.h. New reference. */
typedef json_t *cuda_module_facts_entry(void);
#define CUDA_MODULE_FACTS_SYMBOL "layertop_cuda_facts"

/* Those facts; NULL with ERROR_GPU if there is no module, or one of another version. */
json_t *cuda_module_facts(struct error *error);

/* As backend_cuda(), but tries again at each call and remembers nothing (tests). `file` names the
 * module, or NULL for the usual places. */
const struct backend *cuda_module_open(const char *file, struct error *error);

#endif
