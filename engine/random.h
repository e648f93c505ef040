/* Seeded random numbers, the same on every machine: xoshiro256++ by Blackman and Vigna (2019),
 * seeded by splitmix64 as they advise. Not for secrets. One struct, one thread. */
#ifndef LAYERTOP_ENGINE_RANDOM_H
#define LAYERTOP_ENGINE_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state[4];
};

static inline void random_seed(struct random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        random->state[i] = z ^ (z >> 31);
    }
}

static inline uint64_t random_next(struct random *random)
{
    uint64_t *s = random->state;
    uint64_t sum = s[0] + s[3];
    uint64_t result = ((sum << 23) | (sum >> 41)) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform in [0, 1), a multiple of 2^-24. */
static inline float random_float(struct random *random)
{
    return (float)(random_next(random) >> 40) * 0x1p-24f;
}

/* Uniform in [0, bound), bound > 0; the bias is below bound / 2^32. */
static inline uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)(((random_next(random) >> 32) * bound) >> 32);
}

#endif
