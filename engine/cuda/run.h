/* One step of a plan: copies, launches or a replayed CUDA graph, and what the observer hears. */
#ifndef LAYERTOP_ENGINE_CUDA_RUN_H
#define LAYERTOP_ENGINE_CUDA_RUN_H

#include "engine/cuda/plan.h"

/* Drop a captured graph, if there is one. */
void replay_free(struct plan *plan);
/* Queue the launches of one step, by the best way there is now: no copies, no wait. */
bool run_launch(struct plan *plan, const struct step_context *context, struct error *error);
/* Queue one input's way from the host to where the plan wants it. */
bool run_copy_in(struct plan *plan, struct port *port, struct error *error);
/* What a step's `run` writes. */
void *step_target(const struct plan *plan, const struct step *step);

#endif
