/* One step of a plan: copies, launches or a replayed CUDA graph, and what the observer hears. */
#ifndef LAYERTOP_ENGINE_CUDA_RUN_H
#define LAYERTOP_ENGINE_CUDA_RUN_H

#include "engine/cuda/plan.h"

/* Drop a captured graph, if there is one. */
void replay_free(struct plan *plan);
/* What a step's `run` writes. */
void *step_target(const struct plan *plan, const struct step *step);

#endif
