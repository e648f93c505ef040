/* From CUPTI's activity buffers to events of steps (gpu_trace.h).
 *
 * Records are unordered within a buffer, and the external correlation and the kernel of one launch
 * may come in different buffers and flushes. They are joined by correlation id. A kernel without a
 * correlation waits for two flushes, then goes on untagged: it was launched outside of steps, or
 * its correlation was lost, which its time will tell.
 * Correlations are remembered for the last CUPTI_CORRELATIONS ids, since kernels of a long queue
 * come long after their launches. Kernels of a CUDA graph share one correlation id; their op comes
 * from the graph node they were captured as, and their step from their time.
 *
 * Allocations that are not ours: our allocator tells of each change of a region; an allocation
 * record of about that size (at most 2 MiB more, for rounding) within a second of it is ours, every
 * other one is a library's until its address is released. What libraries allocate from pools is
 * counted as the pools' own sizes.
 *
 * Threads: buffers, flushes and events on the decoder's thread; nodes and `ours` from any thread.
 */
#ifndef LAYERTOP_PROFILER_CUPTI_DECODE_H
#define LAYERTOP_PROFILER_CUPTI_DECODE_H

#include "profiler/cupti_api.h"
#include "profiler/gpu_trace.h"

#define CUPTI_CORRELATIONS (1u << 17)

struct cupti_decoder;

/* next_record: cuptiActivityGetNextRecord, the real one or a mock's. owns_pointers: records are
 * fresh from CUPTI 13, so memory they hand over must be freed. */
struct cupti_decoder *cupti_decoder_new(__typeof__(cuptiActivityGetNextRecord) *next_record,
                                        bool owns_pointers);
void cupti_decoder_free(struct cupti_decoder *decoder);

/* Overhead records of this thread (gettid) count as the profiler's time in a step. */
void cupti_decoder_thread(struct cupti_decoder *decoder, uint32_t thread);

/* Decode the valid bytes of a buffer; false if it holds something that is no record (what came
 * before is used, the rest is counted as one dropped record). */
bool cupti_decoder_buffer(struct cupti_decoder *decoder, uint8_t *buffer, size_t valid);
/* A flush has ended: what has waited for two of them waits no longer. */
void cupti_decoder_flushed(struct cupti_decoder *decoder);
/* The events that are ready; *count of them. They stay valid until the next call that decodes;
 * cupti_decoder_clear() takes them out. */
const struct gpu_event *cupti_decoder_events(const struct cupti_decoder *decoder, size_t *count);
void cupti_decoder_clear(struct cupti_decoder *decoder);
void cupti_decoder_drops(struct cupti_decoder *decoder, uint64_t records);
void cupti_decoder_losses(const struct cupti_decoder *decoder, struct gpu_losses *out);
/* Kernels and copies that went on untagged. */
uint64_t cupti_decoder_untagged(const struct cupti_decoder *decoder);
/* External correlation records seen. */
uint64_t cupti_decoder_linked(const struct cupti_decoder *decoder);

/* The kernel that an event's `detail` names; any thread. */
bool cupti_decoder_kernel(struct cupti_decoder *decoder, uint32_t number, struct gpu_kernel *out);

/* A graph node was captured while `op` was being launched; was cloned from another (which keeps
 * its op); is going away. */
void cupti_decoder_node(struct cupti_decoder *decoder, uint64_t node, int op);
void cupti_decoder_node_cloned(struct cupti_decoder *decoder, uint64_t node, uint64_t original);
void cupti_decoder_node_gone(struct cupti_decoder *decoder, uint64_t node);

/* Our allocator holds `bytes` more (or less) since now. */
void cupti_decoder_ours(struct cupti_decoder *decoder, int64_t bytes, int64_t now_ns);
uint64_t cupti_decoder_library_bytes(const struct cupti_decoder *decoder);

#endif
