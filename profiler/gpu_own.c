/* See gpu_own.h. */
#include "profiler/gpu_own.h"

void gpu_own_sample(struct gpu_own *own, bool whole, uint64_t held_bytes, uint64_t explained_bytes)
{
    int64_t rest = (int64_t)held_bytes - (int64_t)explained_bytes;
    if (!own->known || own->whole != whole) /* the two count differently: what grew stays */
        own->level_bytes = rest - (int64_t)own->grown_bytes;
    own->known = true;
    own->whole = whole;
    if (rest < own->level_bytes) /* something was given back, or explained too late */
        own->level_bytes = rest;
    own->grown_bytes = (uint64_t)(rest - own->level_bytes);
}
