/* What this machine's processors can do at most, measured: multiply-adds in registers and reads of
 * memory, with nothing else in between. Any thread, while nobody else computes. */
#ifndef LAYERTOP_ENGINE_CPU_CEILINGS_H
#define LAYERTOP_ENGINE_CPU_CEILINGS_H

#include <stddef.h>
#include <stdint.h>

/* How many threads a device of so many has: 0 is all physical cores that are allowed. */
int ceiling_threads(int wanted);
/* FLOP/s of float32 multiply-adds in the widest registers, two FLOPs each, by so many threads
 * together; the best of some rounds, 0.1 s in all. */
double ceiling_multiply_adds(int threads);
/* Bytes a second that so many threads read together from `bytes` of memory, each its own part, once
 * it is there: the best of some rounds. 0 if there is no such memory to be had. */
double ceiling_read(int threads, uint64_t bytes);
/* Bytes of a core's own (second level) cache; 0: not known. */
uint64_t ceiling_cache_bytes(void);

#endif
