/* Element by element work: a walk over broadcast operands, and elements of every dtype as one of three kinds of number.
 * Rows of float32, float64 and int64 tensors are worked on where they lie; other dtypes pass through small blocks. */
#ifndef ESPQ_OPS_ELEMENTWISE_H
#define ESPQ_OPS_ELEMENTWISE_H

#include "ops/common.h"

#define BROADCAST_OPERANDS 3
#define ELEMENT_BLOCK 256 /* elements converted at once, on the stack */

/* The index space of an output with the operands' strides in it, adjacent dimensions merged. */
typedef struct Broadcast {
    int rank, operands;
    int64_t count;
    int64_t dims[ESPQ_MAX_RANK];
    int64_t strides[BROADCAST_OPERANDS][ESPQ_MAX_RANK];
} Broadcast;

/* A piece of the innermost dimension: operand i starts at element offsets[i] and goes on by steps[i] (0 or 1); the output at `at`. */
typedef void (*BroadcastPiece)(void *context, const int64_t *offsets, const int64_t *steps, int64_t at, int64_t count);

void broadcast_make(Broadcast *broadcast, const Shape *to, const Shape *const *shapes, int operands);
void broadcast_run(const Broadcast *broadcast, BroadcastPiece piece, void *context);          /* in threads when it is large */
void broadcast_run_in_order(const Broadcast *broadcast, BroadcastPiece piece, void *context); /* on this thread, for sums */

/* In what numbers a dtype is computed: half as float32, integers and bool as int64 (narrower results are cut, as C does). */
typedef enum { NUMBERS_FLOAT, NUMBERS_DOUBLE, NUMBERS_INTEGER } Numbers;
Numbers numbers_of(Dtype dtype);

/* Elements begin … of a contiguous tensor, converted; step 0 reads one element. Storing a float as an integer cuts and saturates,
 * NaN is 0; as a bool: not zero. */
void load_floats(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, float *out);
void load_doubles(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, double *out);
void load_integers(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, int64_t *out);
void store_floats(const Tensor *tensor, int64_t begin, int64_t count, const float *values);
void store_doubles(const Tensor *tensor, int64_t begin, int64_t count, const double *values);
void store_integers(const Tensor *tensor, int64_t begin, int64_t count, const int64_t *values);

/* y[i] = f(a[i * step_a], b[i * step_b]); y may be a or b. A NULL column: not defined for these numbers (infer refuses them). */
typedef struct BinaryKernel {
    void (*floats)(const float *a, const float *b, float *y, int64_t count, int64_t step_a, int64_t step_b);
    void (*doubles)(const double *a, const double *b, double *y, int64_t count, int64_t step_a, int64_t step_b);
    void (*integers)(const int64_t *a, const int64_t *b, int64_t *y, int64_t count, int64_t step_a, int64_t step_b);
} BinaryKernel;
void binary_run(const BinaryKernel *kernel, const Tensor *a, const Tensor *b, Tensor *y); /* y may be a when a has its shape */

/* y = f(x) by an array kernel in float32, by a function of one element elsewhere. `first` and `second` are the operator's
 * attributes (alpha, beta …), read once. */
typedef double (*ElementFunction)(double x, double first, double second);
typedef int64_t (*IntegerFunction)(int64_t x);
typedef struct UnaryKernel {
    void (*floats)(const float *x, float *y, int64_t count, float first, float second); /* NULL: (float)element(x) */
    ElementFunction element;
    IntegerFunction integer; /* NULL: by element */
} UnaryKernel;
void unary_run(const UnaryKernel *kernel, const Run *run, double first, double second);

/* Keeps Prepare.exact for run: state is not NULL when ONNX's own meaning is wanted. Pairs with release_nothing. */
bool prepare_exact(Prepare *prepare, Error *error);
void release_nothing(void *state);

/* Loops of a constant length vectorise without a look at aliasing; what y overlaps does not matter either. */
#define ELEMENT_LANES 16
#define ELEMENT_LOOP(type, y, count, READ, expression)                                                                                     \
    do {                                                                                                                                   \
        int64_t i_ = 0;                                                                                                                    \
        for (; i_ + ELEMENT_LANES <= (count); i_ += ELEMENT_LANES) {                                                                       \
            type t_[ELEMENT_LANES];                                                                                                        \
            for (int k_ = 0; k_ < ELEMENT_LANES; k_++) {                                                                                   \
                READ(i_ + k_);                                                                                                             \
                t_[k_] = (expression);                                                                                                     \
            }                                                                                                                              \
            memcpy((y) + i_, t_, sizeof t_);                                                                                               \
        }                                                                                                                                  \
        for (; i_ < (count); i_++) {                                                                                                       \
            READ(i_);                                                                                                                      \
            (y)[i_] = (expression);                                                                                                        \
        }                                                                                                                                  \
    } while (0)

/* What unary rows are made of: an array kernel, a function of one element (v), and the columns. */
#define READ_X(i) const float v = x[i]
#define FLOAT_KERNEL(name, expression)                                                                                                     \
    static void name(const float *x, float *y, int64_t count, float first, float second)                                                   \
    {                                                                                                                                      \
        (void)first, (void)second;                                                                                                         \
        ELEMENT_LOOP(float, y, count, READ_X, expression);                                                                                 \
    }
#define VECTOR_KERNEL(name, kernel)                                                                                                        \
    static void name(const float *x, float *y, int64_t count, float first, float second)                                                   \
    {                                                                                                                                      \
        (void)first, (void)second;                                                                                                         \
        kernel(x, y, count);                                                                                                               \
    }
#define ELEMENT(name, expression)                                                                                                          \
    static double name(double v, double first, double second)                                                                              \
    {                                                                                                                                      \
        (void)first, (void)second;                                                                                                         \
        return (expression);                                                                                                               \
    }
/* The columns run and table from a kernel and up to two attributes ("" where there is none). */
#define COLUMNS(stem, attribute_1, default_1, attribute_2, default_2)                                                                      \
    static void stem##_run(const Run *run)                                                                                                 \
    {                                                                                                                                      \
        unary_run(&stem##_kernel, run, (double)node_number(run->node, attribute_1, default_1),                                             \
                  (double)node_number(run->node, attribute_2, default_2));                                                                 \
    }                                                                                                                                      \
    static double stem##_table(const Node *node, double x, const double *parameters, int parameter_count)                                  \
    {                                                                                                                                      \
        (void)parameters, (void)parameter_count;                                                                                           \
        return stem##_element(x, (double)node_number(node, attribute_1, default_1), (double)node_number(node, attribute_2, default_2));    \
    }

#endif
