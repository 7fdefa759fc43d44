#include "base/random.h"

#include <math.h>

#include "base/math.h"

void random_seed(Random *random, uint64_t seed)
{
    random->state = 0;
    random->sequence = seed << 1 | 1;
    random_next(random);
    random->state += 0x853c49e6748fea9bu ^ seed * 0x9e3779b97f4a7c15u;
    random_next(random);
}

/* PCG-XSH-RR 64/32 (O'Neill 2014) */
uint32_t random_next(Random *random)
{
    uint64_t old = random->state;
    random->state = old * 6364136223846793005u + random->sequence;
    uint32_t mixed = (uint32_t)((old >> 18 ^ old) >> 27), turn = (uint32_t)(old >> 59);
    return mixed >> turn | mixed << (-turn & 31);
}

/* Steps x → a x + c, twice as many each time round (Brown 1994). */
void random_skip(Random *random, uint64_t draws)
{
    uint64_t a = 6364136223846793005u, c = random->sequence, factor = 1, sum = 0;
    for (; draws; draws >>= 1) {
        if (draws & 1) {
            factor *= a;
            sum = sum * a + c;
        }
        c *= a + 1;
        a *= a;
    }
    random->state = random->state * factor + sum;
}

double random_uniform(Random *random)
{
    uint64_t high = random_next(random) >> 5, low = random_next(random) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

double random_normal(Random *random)
{
    double u = 1.0 - random_uniform(random), v = random_uniform(random);
    return sqrt(-2.0 * espq_log(u)) * espq_cos(6.283185307179586 * v);
}
