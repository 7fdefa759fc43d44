/* Seeded random numbers (PCG32): the same on every machine. */
#ifndef ESPQ_BASE_RANDOM_H
#define ESPQ_BASE_RANDOM_H

#include <stdint.h>

typedef struct Random {
    uint64_t state, sequence;
} Random;

void random_seed(Random *random, uint64_t seed);
uint32_t random_next(Random *random);
double random_uniform(Random *random);            /* [0, 1), 53 bits */
double random_normal(Random *random);             /* mean 0, deviation 1 (Box–Muller on espq's own log, sqrt, cos) */
void random_skip(Random *random, uint64_t draws); /* as so many calls of random_next */

#define ESPQ_NORMAL_DRAWS 4 /* of random_next in a random_normal */

#endif
