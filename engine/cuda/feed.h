/* Pictures as bytes, copied to the device, resized and scaled there into a plan's first input.
 *
 * Device memory for them is taken beside the regions (cudaMalloc): another plan's steps write over the
 * arena, and a batch that is copied ahead has to outlive them. It counts as activations. With `ahead`
 * there are two of all buffers, and a stream of its own for the copies. Engine thread.
 */
#ifndef LAYERTOP_ENGINE_CUDA_FEED_H
#define LAYERTOP_ENGINE_CUDA_FEED_H

#include "engine/cuda/plan.h"

bool plan_feed(struct plan *plan, const struct picture_feed *feed, struct error *error);
void *plan_feed_room(struct plan *plan);
bool plan_feed_send(struct plan *plan, struct error *error);
struct picture_times plan_feed_times(struct plan *plan, bool reset);

/* Bytes of the device that it holds. */
uint64_t feed_device_bytes(const struct plan *plan);
/* Queue what makes the batch that was sent last the values at `to`. */
bool feed_launch(struct plan *plan, float *to, struct error *error);
/* After a fed step has ended: read the clocks. */
void feed_finish(struct plan *plan);

#endif
