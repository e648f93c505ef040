/* The facts that `advise` judges, out of what the front knows: settings, plan, store, the last `run`
 * and `sweep`, what --try measured, and the worker's answers. */
#ifndef LAYERTOP_COMMANDS_ADVISE_FACTS_H
#define LAYERTOP_COMMANDS_ADVISE_FACTS_H

#include "commands/workbench.h"
#include "profiler/advise/facts.h"

/* Of the last `run` with the present plan, or of what runs or plays live. `devices`, `memory` and
 * `sparsity` are the replies of those names, NULL where there are none. Free with advise_facts_free(). */
struct advise_facts *advise_facts_collect(struct workbench *workbench, const json_t *devices,
                                          const json_t *memory, const json_t *sparsity);

#endif
