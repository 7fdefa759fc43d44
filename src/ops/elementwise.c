#include "ops/elementwise.h"

#include <math.h>
#include <string.h>

#include "base/threads.h"

/* ---- the walk ---- */

void broadcast_make(Broadcast *broadcast, const Shape *to, const Shape *const *shapes, int operands)
{
    int64_t strides[BROADCAST_OPERANDS][ESPQ_MAX_RANK];
    for (int k = 0; k < operands; k++)
        broadcast_strides(shapes[k], to, strides[k]);
    memset(broadcast, 0, sizeof *broadcast);
    broadcast->operands = operands;
    broadcast->count = shape_count(to);
    for (int axis = 0; axis < to->rank; axis++) {
        if (to->dims[axis] == 1) continue;
        int last = broadcast->rank - 1;
        bool merges = last >= 0;
        for (int k = 0; k < operands && merges; k++)
            merges = broadcast->strides[k][last] == strides[k][axis] * to->dims[axis];
        if (merges) {
            broadcast->dims[last] *= to->dims[axis];
        } else {
            last = broadcast->rank++;
            broadcast->dims[last] = to->dims[axis];
        }
        for (int k = 0; k < operands; k++)
            broadcast->strides[k][last] = strides[k][axis];
    }
    if (broadcast->rank == 0) {
        broadcast->rank = 1;
        broadcast->dims[0] = 1;
    }
}

typedef struct Walk {
    const Broadcast *broadcast;
    BroadcastPiece piece;
    void *context;
} Walk;

static void walk_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const Broadcast *broadcast = walk->broadcast;
    int inner = broadcast->rank - 1;
    int64_t index[ESPQ_MAX_RANK], offsets[BROADCAST_OPERANDS] = {0}, steps[BROADCAST_OPERANDS] = {0}, starts[BROADCAST_OPERANDS];
    int64_t rest = begin;
    for (int axis = inner; axis >= 0; axis--) {
        index[axis] = rest % broadcast->dims[axis];
        rest /= broadcast->dims[axis];
    }
    for (int k = 0; k < broadcast->operands; k++) {
        steps[k] = broadcast->strides[k][inner];
        for (int axis = 0; axis < inner; axis++)
            offsets[k] += index[axis] * broadcast->strides[k][axis];
    }
    for (int64_t at = begin; at < end;) {
        int64_t count = broadcast->dims[inner] - index[inner];
        if (count > end - at) count = end - at;
        for (int k = 0; k < broadcast->operands; k++)
            starts[k] = offsets[k] + index[inner] * steps[k];
        walk->piece(walk->context, starts, steps, at, count);
        at += count;
        index[inner] = 0;
        for (int axis = inner - 1; axis >= 0; axis--) {
            bool wraps = ++index[axis] == broadcast->dims[axis];
            int64_t back = wraps ? broadcast->dims[axis] - 1 : 0;
            for (int k = 0; k < broadcast->operands; k++) {
                offsets[k] += wraps ? -back * broadcast->strides[k][axis] : broadcast->strides[k][axis];
            }
            if (!wraps) break;
            index[axis] = 0;
        }
    }
}

void broadcast_run(const Broadcast *broadcast, BroadcastPiece piece, void *context)
{
    Walk walk = {broadcast, piece, context};
    if (broadcast->count > 0) threads_for(broadcast->count, OPS_GRAIN, walk_part, &walk);
}

void broadcast_run_in_order(const Broadcast *broadcast, BroadcastPiece piece, void *context)
{
    Walk walk = {broadcast, piece, context};
    walk_part(&walk, 0, broadcast->count, 0);
}

/* ---- elements of every dtype ---- */

Numbers numbers_of(Dtype dtype)
{
    if (dtype == DTYPE_FLOAT64) return NUMBERS_DOUBLE;
    return dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT16 ? NUMBERS_FLOAT : NUMBERS_INTEGER;
}

#define LOAD_CASE(dtype, type, convert)                                                                                                    \
    case dtype: {                                                                                                                          \
        const type *from = (const type *)(const void *)tensor->data + begin;                                                               \
        for (int64_t i = 0; i < count; i++)                                                                                                \
            out[i] = convert(from[i * step]);                                                                                              \
        break;                                                                                                                             \
    }
#define LOAD_ANY(as, from_float, from_half)                                                                                                \
    switch (tensor->dtype) {                                                                                                               \
        LOAD_CASE(DTYPE_FLOAT32, float, from_float)                                                                                        \
        LOAD_CASE(DTYPE_FLOAT64, double, from_float)                                                                                       \
        LOAD_CASE(DTYPE_FLOAT16, uint16_t, from_half)                                                                                      \
        LOAD_CASE(DTYPE_INT8, int8_t, (as))                                                                                                \
        LOAD_CASE(DTYPE_UINT8, uint8_t, (as))                                                                                              \
        LOAD_CASE(DTYPE_INT16, int16_t, (as))                                                                                              \
        LOAD_CASE(DTYPE_UINT16, uint16_t, (as))                                                                                            \
        LOAD_CASE(DTYPE_INT32, int32_t, (as))                                                                                              \
        LOAD_CASE(DTYPE_UINT32, uint32_t, (as))                                                                                            \
        LOAD_CASE(DTYPE_INT64, int64_t, (as))                                                                                              \
        LOAD_CASE(DTYPE_UINT64, uint64_t, (as))                                                                                            \
        LOAD_CASE(DTYPE_BOOL, uint8_t, (as))                                                                                               \
    case DTYPE_NONE:                                                                                                                       \
    case DTYPE_COUNT: break;                                                                                                               \
    }

/* What lies outside of int64 saturates; NaN is 0 (as tensor_convert). */
static int64_t integer_from(double x)
{
    if (!(x == x)) return 0;
    if (x >= 0x1p63) return INT64_MAX;
    if (x <= -0x1p63) return INT64_MIN;
    return (int64_t)x;
}

static int64_t integer_from_half(uint16_t half)
{
    return integer_from(half_to_float(half));
}

void load_floats(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, float *out)
{
    LOAD_ANY(float, (float), half_to_float)
}

void load_doubles(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, double *out)
{
    LOAD_ANY(double, (double), (double)half_to_float)
}

void load_integers(const Tensor *tensor, int64_t begin, int64_t step, int64_t count, int64_t *out)
{
    LOAD_ANY(int64_t, integer_from, integer_from_half)
}

static uint64_t natural_from(double x)
{
    return !(x > 0) ? 0 : x >= 0x1p64 ? UINT64_MAX : (uint64_t)x;
}

static double between(double x, double least, double most)
{
    return !(x == x) ? 0 : x < least ? least : x > most ? most : x;
}

#define STORE_CASE(dtype, type, expression)                                                                                                \
    case dtype:                                                                                                                            \
        for (int64_t i = 0; i < count; i++)                                                                                                \
            ((type *)(void *)tensor->data)[begin + i] = (expression);                                                                      \
        break;

void store_doubles(const Tensor *tensor, int64_t begin, int64_t count, const double *values)
{
    switch (tensor->dtype) {
        STORE_CASE(DTYPE_FLOAT32, float, (float)values[i])
        STORE_CASE(DTYPE_FLOAT64, double, values[i])
        STORE_CASE(DTYPE_FLOAT16, uint16_t, float_to_half((float)values[i]))
        STORE_CASE(DTYPE_INT8, int8_t, (int8_t)between(values[i], INT8_MIN, INT8_MAX))
        STORE_CASE(DTYPE_UINT8, uint8_t, (uint8_t)between(values[i], 0, UINT8_MAX))
        STORE_CASE(DTYPE_INT16, int16_t, (int16_t)between(values[i], INT16_MIN, INT16_MAX))
        STORE_CASE(DTYPE_UINT16, uint16_t, (uint16_t)between(values[i], 0, UINT16_MAX))
        STORE_CASE(DTYPE_INT32, int32_t, (int32_t)between(values[i], INT32_MIN, INT32_MAX))
        STORE_CASE(DTYPE_UINT32, uint32_t, (uint32_t)between(values[i], 0, UINT32_MAX))
        STORE_CASE(DTYPE_INT64, int64_t, integer_from(values[i]))
        STORE_CASE(DTYPE_UINT64, uint64_t, natural_from(values[i]))
        STORE_CASE(DTYPE_BOOL, uint8_t, values[i] != 0)
    case DTYPE_NONE:
    case DTYPE_COUNT: break;
    }
}

void store_floats(const Tensor *tensor, int64_t begin, int64_t count, const float *values)
{
    if (tensor->dtype == DTYPE_FLOAT32) {
        memcpy(tensor_floats(tensor) + begin, values, (size_t)count * sizeof *values);
        return;
    }
    double wide[ELEMENT_BLOCK];
    for (int64_t done = 0; done < count; done += ELEMENT_BLOCK) {
        int64_t part = count - done < ELEMENT_BLOCK ? count - done : ELEMENT_BLOCK;
        for (int64_t i = 0; i < part; i++)
            wide[i] = values[done + i];
        store_doubles(tensor, begin + done, part, wide);
    }
}

void store_integers(const Tensor *tensor, int64_t begin, int64_t count, const int64_t *values)
{
    switch (tensor->dtype) {
        STORE_CASE(DTYPE_FLOAT32, float, (float)values[i])
        STORE_CASE(DTYPE_FLOAT64, double, (double)values[i])
        STORE_CASE(DTYPE_FLOAT16, uint16_t, float_to_half((float)values[i]))
        STORE_CASE(DTYPE_INT8, int8_t, (int8_t)values[i])
        STORE_CASE(DTYPE_UINT8, uint8_t, (uint8_t)values[i])
        STORE_CASE(DTYPE_INT16, int16_t, (int16_t)values[i])
        STORE_CASE(DTYPE_UINT16, uint16_t, (uint16_t)values[i])
        STORE_CASE(DTYPE_INT32, int32_t, (int32_t)values[i])
        STORE_CASE(DTYPE_UINT32, uint32_t, (uint32_t)values[i])
        STORE_CASE(DTYPE_INT64, int64_t, values[i])
        STORE_CASE(DTYPE_UINT64, uint64_t, (uint64_t)values[i])
        STORE_CASE(DTYPE_BOOL, uint8_t, values[i] != 0)
    case DTYPE_NONE:
    case DTYPE_COUNT: break;
    }
}

/* ---- two operands ---- */

typedef struct Binary {
    const BinaryKernel *kernel;
    const Tensor *a, *b;
    Tensor *y;
    Numbers numbers;
    bool in_place; /* all three are of the numbers' own dtype: no conversion */
} Binary;

#define BINARY_PIECE(type, column, load, store)                                                                                            \
    do {                                                                                                                                   \
        if (binary->in_place) {                                                                                                            \
            binary->kernel->column((const type *)(const void *)binary->a->data + offsets[0],                                               \
                                   (const type *)(const void *)binary->b->data + offsets[1], (type *)(void *)binary->y->data + at, count,  \
                                   steps[0], steps[1]);                                                                                    \
            break;                                                                                                                         \
        }                                                                                                                                  \
        type a[ELEMENT_BLOCK], b[ELEMENT_BLOCK];                                                                                           \
        for (int64_t done = 0; done < count; done += ELEMENT_BLOCK) {                                                                      \
            int64_t part = count - done < ELEMENT_BLOCK ? count - done : ELEMENT_BLOCK;                                                    \
            load(binary->a, offsets[0] + done * steps[0], steps[0], part, a);                                                              \
            load(binary->b, offsets[1] + done * steps[1], steps[1], part, b);                                                              \
            binary->kernel->column(a, b, a, part, 1, 1);                                                                                   \
            store(binary->y, at + done, part, a);                                                                                          \
        }                                                                                                                                  \
    } while (0)

static void binary_piece(void *context, const int64_t *offsets, const int64_t *steps, int64_t at, int64_t count)
{
    const Binary *binary = context;
    switch (binary->numbers) {
    case NUMBERS_FLOAT: BINARY_PIECE(float, floats, load_floats, store_floats); break;
    case NUMBERS_DOUBLE: BINARY_PIECE(double, doubles, load_doubles, store_doubles); break;
    case NUMBERS_INTEGER: BINARY_PIECE(int64_t, integers, load_integers, store_integers); break;
    }
}

void binary_run(const BinaryKernel *kernel, const Tensor *a, const Tensor *b, Tensor *y)
{
    Broadcast broadcast;
    broadcast_make(&broadcast, &y->shape, (const Shape *const[]){&a->shape, &b->shape}, 2);
    Dtype own[] = {DTYPE_FLOAT32, DTYPE_FLOAT64, DTYPE_INT64};
    Numbers numbers = numbers_of(a->dtype);
    bool in_place = a->dtype == own[numbers] && b->dtype == own[numbers] && y->dtype == own[numbers];
    Binary binary = {kernel, a, b, y, numbers, in_place};
    broadcast_run(&broadcast, binary_piece, &binary);
}

/* ---- one operand ---- */

typedef struct Unary {
    const UnaryKernel *kernel;
    const Tensor *x;
    Tensor *y;
    Numbers numbers;
    double first, second;
} Unary;

static void unary_block(const Unary *unary, int64_t begin, int64_t count)
{
    const UnaryKernel *kernel = unary->kernel;
    double wide[ELEMENT_BLOCK];
    int64_t integers[ELEMENT_BLOCK];
    float floats[ELEMENT_BLOCK];
    if (unary->numbers == NUMBERS_FLOAT && kernel->floats) {
        load_floats(unary->x, begin, 1, count, floats);
        kernel->floats(floats, floats, count, (float)unary->first, (float)unary->second);
        store_floats(unary->y, begin, count, floats);
    } else if (unary->numbers == NUMBERS_INTEGER && kernel->integer) {
        load_integers(unary->x, begin, 1, count, integers);
        for (int64_t i = 0; i < count; i++)
            integers[i] = kernel->integer(integers[i]);
        store_integers(unary->y, begin, count, integers);
    } else {
        load_doubles(unary->x, begin, 1, count, wide);
        for (int64_t i = 0; i < count; i++)
            wide[i] = kernel->element(wide[i], unary->first, unary->second);
        store_doubles(unary->y, begin, count, wide);
    }
}

static void unary_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Unary *unary = context;
    if (unary->kernel->floats && unary->x->dtype == DTYPE_FLOAT32 && unary->y->dtype == DTYPE_FLOAT32) {
        unary->kernel->floats(tensor_floats(unary->x) + begin, tensor_floats(unary->y) + begin, end - begin, (float)unary->first,
                              (float)unary->second);
        return;
    }
    for (int64_t i = begin; i < end; i += ELEMENT_BLOCK)
        unary_block(unary, i, end - i < ELEMENT_BLOCK ? end - i : ELEMENT_BLOCK);
}

void unary_run(const UnaryKernel *kernel, const Run *run, double first, double second)
{
    const Tensor *x = run->inputs[0];
    Unary unary = {kernel, x, run->outputs[0], numbers_of(x->dtype), first, second};
    int64_t count = tensor_count(x);
    if (count > 0) threads_for(count, OPS_GRAIN, unary_part, &unary);
}

static char exact_mark;

bool prepare_exact(Prepare *prepare, Error *error)
{
    (void)error;
    prepare->state = prepare->exact ? &exact_mark : NULL;
    return true;
}

void release_nothing(void *state)
{
    (void)state;
}
