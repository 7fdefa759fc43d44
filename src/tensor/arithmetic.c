/* Elementwise arithmetic. Operands are brought to the type of the computation and to the result's shape, then one flat loop runs. */
#include "tensor/arithmetic.h"

#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/threads.h"

static bool is_comparison(BinaryKind kind)
{
    return kind >= BINARY_EQUAL;
}

static Dtype promote(Dtype a, Dtype b)
{
    if (a == b) return a;
    bool float_a = dtype_rows[a].is_float, float_b = dtype_rows[b].is_float;
    if (float_a && float_b) return a == DTYPE_FLOAT64 || b == DTYPE_FLOAT64 ? DTYPE_FLOAT64 : DTYPE_FLOAT32;
    if (float_a || float_b) return float_a ? a : b;
    if (a == DTYPE_BOOL) return b;
    if (b == DTYPE_BOOL) return a;
    size_t x = dtype_bytes(a), y = dtype_bytes(b);
    bool signed_a = dtype_rows[a].is_signed, signed_b = dtype_rows[b].is_signed;
    if (signed_a == signed_b) return x >= y ? a : b;
    /* Signed with unsigned: a signed type that holds both. */
    size_t need = signed_a ? (y >= x ? y * 2 : x) : (x >= y ? x * 2 : y);
    return need <= 2 ? DTYPE_INT16 : need <= 4 ? DTYPE_INT32 : DTYPE_INT64;
}

/* The type in which a result is computed: float32, float64 or int64. */
static Dtype computed_in(BinaryKind kind, Dtype result)
{
    if (result == DTYPE_FLOAT64) return DTYPE_FLOAT64;
    if (dtype_rows[result].is_float || kind == BINARY_DIVIDE) return DTYPE_FLOAT32;
    return DTYPE_INT64;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    if (!b) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    int64_t quotient = a / b;
    return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

static int64_t power_integer(int64_t base, int64_t exponent)
{
    uint64_t result = 1, factor = (uint64_t)base;
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    for (; exponent; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return (int64_t)result;
}

static float modulo_f32(float a, float b)
{
    float rest = fmodf(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static double modulo_f64(double a, double b)
{
    double rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

/* clang-format off */
/* One loop a kind; `a` or `b` of one element stays where it is (step 0). */
#define LOOP(expression)                                                    \
    for (int64_t i = 0; i < count; i++) {                                   \
        const CTYPE x = a[i * step_a], y = b[i * step_b];                   \
        out[i] = (expression);                                              \
    }                                                                       \
    break
#define COMPARE(comparison)                                                 \
    for (int64_t i = 0; i < count; i++)                                     \
        truth[i] = a[i * step_a] comparison b[i * step_b];                  \
    break
#define COMPARISONS                                                         \
    case BINARY_EQUAL: COMPARE(==);                                         \
    case BINARY_NOT_EQUAL: COMPARE(!=);                                     \
    case BINARY_LESS: COMPARE(<);                                           \
    case BINARY_LESS_EQUAL: COMPARE(<=);                                    \
    case BINARY_GREATER: COMPARE(>);                                        \
    case BINARY_GREATER_EQUAL: COMPARE(>=)
#define FLOAT_KINDS(suffix, floor_function, power_function)                 \
    case BINARY_ADD: LOOP(x + y);                                           \
    case BINARY_SUBTRACT: LOOP(x - y);                                      \
    case BINARY_MULTIPLY: LOOP(x * y);                                      \
    case BINARY_DIVIDE: LOOP(x / y);                                        \
    case BINARY_FLOOR_DIVIDE: LOOP(floor_function(x / y));                  \
    case BINARY_MODULO: LOOP(modulo_##suffix(x, y));                        \
    case BINARY_POWER: LOOP(power_function);                                \
    case BINARY_MAXIMUM: LOOP(x > y || x != x ? x : y);                     \
    case BINARY_MINIMUM: LOOP(x < y || x != x ? x : y);                     \
        COMPARISONS

#define CTYPE float
static void loop_f32(BinaryKind kind, const float *a, int64_t step_a, const float *b, int64_t step_b, float *out, char *truth, int64_t count)
{
    switch (kind) {
        FLOAT_KINDS(f32, floorf, y == 2 ? x * x : (float)espq_pow((double)x, (double)y));
    }
}
#undef CTYPE
#define CTYPE double
static void loop_f64(BinaryKind kind, const double *a, int64_t step_a, const double *b, int64_t step_b, double *out, char *truth, int64_t count)
{
    switch (kind) {
        FLOAT_KINDS(f64, floor, y == 2 ? x * x : espq_pow(x, y));
    }
}
#undef CTYPE
#define CTYPE int64_t
static void loop_i64(BinaryKind kind, const int64_t *a, int64_t step_a, const int64_t *b, int64_t step_b, int64_t *out, char *truth, int64_t count)
{
    switch (kind) {
    case BINARY_ADD: LOOP((int64_t)((uint64_t)x + (uint64_t)y));
    case BINARY_SUBTRACT: LOOP((int64_t)((uint64_t)x - (uint64_t)y));
    case BINARY_MULTIPLY: LOOP((int64_t)((uint64_t)x * (uint64_t)y));
    case BINARY_DIVIDE: break;   /* computed in float32 */
    case BINARY_FLOOR_DIVIDE: LOOP(floor_divide(x, y));
    case BINARY_MODULO: LOOP(y ? (int64_t)((uint64_t)x - (uint64_t)floor_divide(x, y) * (uint64_t)y) : 0);
    case BINARY_POWER: LOOP(power_integer(x, y));
    case BINARY_MAXIMUM: LOOP(x > y ? x : y);
    case BINARY_MINIMUM: LOOP(x < y ? x : y);
        COMPARISONS;
    }
}
#undef CTYPE

/* clang-format on */

/* In the type of the computation and, unless it is one number, expanded to the shape. */
static Tensor *operand(Tensor *a, Dtype dtype, const Shape *shape, Error *error)
{
    Tensor *converted = tensor_convert(a, dtype, error), *result = NULL;
    if (!converted) return NULL;
    if (tensor_count(converted) == 1 || shape_equal(&converted->shape, shape)) {
        result = tensor_contiguous(converted, error);
    } else {
        int64_t strides[ESPQ_MAX_RANK];
        for (int i = 0; i < shape->rank; i++) {
            int at = i - (shape->rank - converted->shape.rank);
            strides[i] = at < 0 || converted->shape.dims[at] == 1 ? 0 : converted->strides[at];
        }
        Tensor *view = tensor_view_strided(converted, shape, strides, 0, error);
        result = view ? tensor_copy(view, error) : NULL;
        tensor_release(view);
    }
    tensor_release(converted);
    return result;
}

static Tensor *binary_as(BinaryKind kind, Tensor *a, Tensor *b, Dtype result, Error *error)
{
    Shape shape;
    char left[160], right[160];
    if (!shape_broadcast(&a->shape, &b->shape, &shape)) {
        fail(error, NULL, "reshape one of them; sizes must be equal or 1, counted from the last axis",
             "shapes %s and %s do not go together", shape_text(&a->shape, left), shape_text(&b->shape, right));
        return NULL;
    }
    Dtype compute = computed_in(kind, result);
    Tensor *x = operand(a, compute, &shape, error), *y = x ? operand(b, compute, &shape, error) : NULL;
    Tensor *out = y ? tensor_new(is_comparison(kind) ? DTYPE_BOOL : compute, &shape, error) : NULL;
    if (out) {
        int64_t count = tensor_count(out), step_x = tensor_count(x) == 1 ? 0 : 1, step_y = tensor_count(y) == 1 ? 0 : 1;
        if (compute == DTYPE_FLOAT32)
            loop_f32(kind, tensor_floats(x), step_x, tensor_floats(y), step_y, tensor_floats(out), out->data, count);
        else if (compute == DTYPE_FLOAT64)
            loop_f64(kind, (double *)(void *)x->data, step_x, (double *)(void *)y->data, step_y, (double *)(void *)out->data, out->data,
                     count);
        else
            loop_i64(kind, (int64_t *)(void *)x->data, step_x, (int64_t *)(void *)y->data, step_y, (int64_t *)(void *)out->data, out->data,
                     count);
    }
    tensor_release(x);
    tensor_release(y);
    if (out && !is_comparison(kind)) {
        Dtype wanted = kind == BINARY_DIVIDE && !dtype_rows[result].is_float ? DTYPE_FLOAT32 : result == DTYPE_BOOL ? DTYPE_INT64 : result;
        Tensor *converted = tensor_convert(out, wanted, error);
        tensor_release(out);
        out = converted;
    }
    return out;
}

Tensor *tensor_binary(BinaryKind kind, Tensor *a, Tensor *b, Error *error)
{
    return binary_as(kind, a, b, promote(a->dtype, b->dtype), error);
}

Tensor *tensor_binary_number(BinaryKind kind, Tensor *a, double number, bool number_first, Error *error)
{
    Dtype result = a->dtype;
    if (!dtype_rows[result].is_float && (number != floor(number) || fabs(number) > 0x1p62)) result = DTYPE_FLOAT32;
    Tensor *scalar = tensor_scalar(result == DTYPE_FLOAT64 || dtype_rows[result].is_float ? result : DTYPE_INT64, number, error);
    if (!scalar) return NULL;
    Tensor *out = number_first ? binary_as(kind, scalar, a, result, error) : binary_as(kind, a, scalar, result, error);
    tensor_release(scalar);
    return out;
}

static double unary_f64(UnaryKind kind, double x)
{
    switch (kind) {
    case UNARY_NEGATIVE: return -x;
    case UNARY_ABSOLUTE: return fabs(x);
    case UNARY_EXP: return espq_exp(x);
    case UNARY_LOG: return espq_log(x);
    case UNARY_SQRT: return sqrt(x);
    case UNARY_ROUND: return rint(x);
    case UNARY_FLOOR: return floor(x);
    case UNARY_CEIL: return ceil(x);
    case UNARY_SIGMOID: return 1 / (1 + espq_exp(-x));
    case UNARY_TANH: return espq_tanh(x);
    case UNARY_SIN: return espq_sin(x);
    case UNARY_COS: return espq_cos(x);
    }
    return x;
}

Tensor *tensor_unary(UnaryKind kind, Tensor *a, Error *error)
{
    bool keeps = kind == UNARY_NEGATIVE || kind == UNARY_ABSOLUTE || kind == UNARY_ROUND || kind == UNARY_FLOOR || kind == UNARY_CEIL;
    Dtype dtype = keeps || dtype_rows[a->dtype].is_float ? a->dtype : DTYPE_FLOAT32;
    Tensor *x = tensor_contiguous(a, error);
    Tensor *out = x ? tensor_new(dtype, &a->shape, error) : NULL;
    int64_t count = out ? tensor_count(out) : 0;
    if (dtype_rows[dtype].is_integer)
        for (int64_t i = 0; i < count; i++)
            tensor_set(out, i, unary_f64(kind, (double)tensor_get_integer(x, i)));
    else
        for (int64_t i = 0; i < count; i++)
            tensor_set(out, i, unary_f64(kind, tensor_get(x, i)));
    tensor_release(x);
    return out;
}

Tensor *tensor_clamp(Tensor *a, double least, double most, Error *error)
{
    Tensor *out = tensor_copy(a, error);
    for (int64_t i = 0, count = out ? tensor_count(out) : 0; i < count; i++) {
        double x = tensor_get(out, i);
        if (x < least || x > most) tensor_set(out, i, x < least ? least : most);
    }
    return out;
}

Tensor *tensor_where(Tensor *condition, Tensor *a, Tensor *b, Error *error)
{
    Shape shape;
    Dtype dtype = promote(a->dtype, b->dtype);
    if (!shape_broadcast(&a->shape, &b->shape, &shape) || !shape_broadcast(&condition->shape, &shape, &shape)) {
        fail(error, NULL, "reshape them; sizes must be equal or 1, counted from the last axis",
             "the shapes of condition and values do not go together");
        return NULL;
    }
    Tensor *truth = operand(condition, DTYPE_BOOL, &shape, error), *x = truth ? operand(a, dtype, &shape, error) : NULL;
    Tensor *y = x ? operand(b, dtype, &shape, error) : NULL, *out = y ? tensor_new(dtype, &shape, error) : NULL;
    if (out) {
        size_t item = dtype_bytes(dtype);
        int64_t step_t = tensor_count(truth) == 1 ? 0 : 1, step_x = tensor_count(x) == 1 ? 0 : 1, step_y = tensor_count(y) == 1 ? 0 : 1;
        for (int64_t i = 0, count = tensor_count(out); i < count; i++)
            memcpy(out->data + (size_t)i * item,
                   truth->data[i * step_t] ? x->data + (size_t)(i * step_x) * item : y->data + (size_t)(i * step_y) * item, item);
    }
    tensor_release(truth);
    tensor_release(x);
    tensor_release(y);
    return out;
}

Tensor *tensor_full(const Shape *shape, Dtype dtype, double value, Error *error)
{
    Tensor *out = tensor_new(dtype, shape, error);
    int64_t count = out && value != 0 ? tensor_count(out) : 0;
    size_t item = dtype_bytes(dtype), bytes = (size_t)count * item;
    if (count) tensor_set(out, 0, value);
    for (size_t done = item; done < bytes; done *= 2) /* what is there is copied behind itself */
        memcpy(out->data + done, out->data, done < bytes - done ? done : bytes - done);
    return out;
}

Tensor *tensor_arange(double start, double stop, double step, Dtype dtype, Error *error)
{
    double length = step != 0 ? ceil((stop - start) / step) : -1;
    if (!(length >= 0 && length < 0x1p40)) {
        if (step != 0 && length < 0)
            length = 0;
        else {
            fail(error, NULL, NULL, "a range from %g to %g in steps of %g is not possible", start, stop, step);
            return NULL;
        }
    }
    Tensor *out = tensor_new(dtype, &(Shape){1, {(int64_t)length}}, error);
    for (int64_t i = 0, count = out ? tensor_count(out) : 0; i < count; i++)
        tensor_set(out, i, start + (double)i * step);
    return out;
}

typedef struct Normals {
    Tensor *to;
    Random random; /* before the first */
} Normals;

/* Each part begins where the generator would be. */
static void fill_normals(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Normals *normals = context;
    Random random = normals->random;
    random_skip(&random, ESPQ_NORMAL_DRAWS * (uint64_t)begin);
    for (int64_t i = begin; i < end; i++)
        tensor_set(normals->to, i, random_normal(&random));
}

Tensor *tensor_random_normal(const Shape *shape, Dtype dtype, Random *random, Error *error)
{
    Tensor *out = tensor_new(dtype, shape, error);
    if (!out) return NULL;
    Normals normals = {out, *random};
    threads_for(tensor_count(out), 4096, fill_normals, &normals);
    random_skip(random, ESPQ_NORMAL_DRAWS * (uint64_t)tensor_count(out));
    return out;
}

Tensor *tensor_random_uniform(const Shape *shape, Dtype dtype, Random *random, Error *error)
{
    Tensor *out = tensor_new(dtype, shape, error);
    for (int64_t i = 0, count = out ? tensor_count(out) : 0; i < count; i++)
        tensor_set(out, i, random_uniform(random));
    return out;
}

bool tensor_allclose(Tensor *a, Tensor *b, double rtol, double atol)
{
    if (!shape_equal(&a->shape, &b->shape)) return false;
    Error error;
    Tensor *x = tensor_contiguous(a, &error), *y = tensor_contiguous(b, &error);
    bool close = x && y;
    for (int64_t i = 0, count = tensor_count(a); close && i < count; i++) {
        double p = tensor_get(x, i), q = tensor_get(y, i);
        close = p == q || fabs(p - q) <= atol + rtol * fabs(q);
    }
    tensor_release(x);
    tensor_release(y);
    return close;
}
