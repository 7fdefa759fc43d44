/* Short words for tensors in tests of rows: random shapes, one-line constants. */
#ifndef ESPQ_TESTS_RANDOM_TENSORS_H
#define ESPQ_TESTS_RANDOM_TENSORS_H

#include "run_operator.h"

#define random_tensor(random, ...) test_random(random, DIMS(__VA_ARGS__))
#define integer_tensor(...) test_integers((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
#define operator_constant(run, tensor) operator_input(run, tensor, true)

static inline Tensor *float_scalar(float value)
{
    return test_values(0, NULL, &value);
}
static inline Tensor *random_shaped(Random *random, const Shape *shape)
{
    return test_random(random, shape->rank, shape->dims);
}

/* A random shape of 1 to `most` dimensions of 1 to 6. */
static inline Shape random_shape(Random *random, int most)
{
    Shape shape = {.rank = 1 + (int)(random_next(random) % (uint32_t)most)};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = 1 + random_next(random) % 6;
    return shape;
}

#endif
