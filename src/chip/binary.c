/* Arithmetic and comparisons of two tensors (CHIP §2.6 to §2.8, §2.10, §2.11). Axes on which both shapes behave alike are merged, as
 * the runtime does; what is left of the last one is a row, and its length decides which arithmetic Mul uses. */
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "chip/rows.h"
#include "chip/types.h"
#include "kernel/lookup.h"

#define MERGED_AXES 4

typedef struct Binary Binary;
typedef void (*BinaryRow)(const Binary *binary, const void *a, const void *b, void *out, int64_t length);

struct Binary {
    BinaryRow row;
    int axes;                                           /* merged, 1 … MERGED_AXES; the last one is the row */
    int64_t dims[MERGED_AXES];                          /* of the output */
    int64_t a_steps[MERGED_AXES], b_steps[MERGED_AXES]; /* in elements; 0: that operand has one element there */
    int in_bytes, out_bytes;                            /* of an element */
    Rounding rounding;
    int shift;                         /* Mul: e_out - e_a - e_b */
    float scale;                       /* Mul, Div: 2^(e_a + e_b - e_out), 2^(e_a - e_b - e_out) */
    float a_scale, b_scale, out_scale; /* 2^e_a, 2^e_b, 2^-e_out */
    int table_of;                      /* Div of 8 bits by way of a table: 1: the dividend varies, 2: the divisor; 0: no table */
    bool table_made;                   /* the one element is a constant */
    int8_t table[256];
};

/* ---- rows ---- */

/* One function a type and an operation: `expression` makes OUT from T x and T y. Operands may have one element (step 0). */
#define BINARY_BLOCK(name, T, OUT, expression)                                                                                             \
    ROW_INLINE void name##_block(const Binary *binary, const T *a, int a_step, const T *b, int b_step, OUT *out, int length)               \
    {                                                                                                                                      \
        (void)binary;                                                                                                                      \
        OUT result[ROW_BLOCK];                                                                                                             \
        for (int i = 0; i < length; i++) {                                                                                                 \
            const T x = a[i * a_step], y = b[i * b_step];                                                                                  \
            result[i] = (OUT)(expression);                                                                                                 \
        }                                                                                                                                  \
        memcpy(out, result, (size_t)length * sizeof *out);                                                                                 \
    }

#define BINARY_ROW(name, T, OUT, expression)                                                                                               \
    BINARY_BLOCK(name, T, OUT, expression)                                                                                                 \
    static void name(const Binary *binary, const void *a_data, const void *b_data, void *out_data, int64_t count)                          \
    {                                                                                                                                      \
        const T *a = a_data, *b = b_data;                                                                                                  \
        OUT *out = out_data;                                                                                                               \
        int a_step = (int)binary->a_steps[binary->axes - 1], b_step = (int)binary->b_steps[binary->axes - 1];                              \
        const T a_only = *a, b_only = *b;                                                                                                  \
        if (a_step && b_step)                                                                                                              \
            ROW_EACH(count, begin, length, name##_block(binary, a + begin, 1, b + begin, 1, out + begin, length));                         \
        else if (a_step)                                                                                                                   \
            ROW_EACH(count, begin, length, name##_block(binary, a + begin, 1, &b_only, 0, out + begin, length));                           \
        else if (b_step)                                                                                                                   \
            ROW_EACH(count, begin, length, name##_block(binary, &a_only, 0, b + begin, 1, out + begin, length));                           \
        else                                                                                                                               \
            ROW_EACH(count, begin, length, name##_block(binary, &a_only, 0, &b_only, 0, out + begin, length));                             \
    }

/* 16 bits hold every sum of int8, so that a vector holds twice as many. */
ROW_INLINE int8_t saturated8(int16_t sum)
{
    sum = sum > 127 ? 127 : sum;
    sum = sum < -128 ? -128 : sum;
    return (int8_t)sum;
}

/* In lanes of 16 bits: where the sign bit of `crossed` is set, the result left the type, on the side of x. */
ROW_INLINE int16_t saturated16(int16_t x, int16_t result, int16_t crossed)
{
    int16_t mask = (int16_t)(crossed >> 15), rail = (int16_t)((x >> 15) ^ 0x7FFF);
    return (int16_t)((result & ~mask) | (rail & mask));
}
ROW_INLINE int16_t sum16(int16_t x, int16_t y)
{
    int16_t sum = (int16_t)(uint16_t)((uint16_t)x + (uint16_t)y);
    return saturated16(x, sum, (int16_t)((x ^ sum) & (y ^ sum)));
}
ROW_INLINE int16_t difference16(int16_t x, int16_t y)
{
    int16_t difference = (int16_t)(uint16_t)((uint16_t)x - (uint16_t)y);
    return saturated16(x, difference, (int16_t)((x ^ difference) & (x ^ y)));
}

BINARY_ROW(add_int8, int8_t, int8_t, saturated8((int16_t)(x + y)))
BINARY_ROW(add_int16, int16_t, int16_t, sum16(x, y))
BINARY_ROW(add_float, float, float, x + y)
BINARY_ROW(sub_int8, int8_t, int8_t, saturated8((int16_t)(x - y)))
BINARY_ROW(sub_int16, int16_t, int16_t, difference16(x, y))
BINARY_ROW(sub_float, float, float, x - y)
BINARY_ROW(mul_float, float, float, x *y)

BINARY_ROW(equal_int8, int8_t, uint8_t, x == y)
BINARY_ROW(equal_int16, int16_t, uint8_t, x == y)
BINARY_ROW(greater_int8, int8_t, uint8_t, x > y)
BINARY_ROW(greater_int16, int16_t, uint8_t, x > y)
BINARY_ROW(greater_or_equal_int8, int8_t, uint8_t, x >= y)
BINARY_ROW(greater_or_equal_int16, int16_t, uint8_t, x >= y)
BINARY_ROW(less_int8, int8_t, uint8_t, x < y)
BINARY_ROW(less_int16, int16_t, uint8_t, x < y)
BINARY_ROW(less_or_equal_int8, int8_t, uint8_t, x <= y)
BINARY_ROW(less_or_equal_int16, int16_t, uint8_t, x <= y)

/* The lane's shift, and the float product of plain C, which int16 feels: it has 24 bits. A float factor made first from the one element of
 * a row gives the same value (a power of two apart). */
BINARY_ROW(mul_up_int8, int8_t, int8_t, row_saturate(row_shift(x *y, binary->shift, ROUND_HALF_UP), 8))
BINARY_ROW(mul_even_int8, int8_t, int8_t, row_saturate(row_shift(x *y, binary->shift, ROUND_HALF_EVEN), 8))
BINARY_ROW(mul_up_int16, int16_t, int16_t, row_saturate(row_shift(x *y, binary->shift, ROUND_HALF_UP), 16))
BINARY_ROW(mul_even_int16, int16_t, int16_t, row_saturate(row_shift(x *y, binary->shift, ROUND_HALF_EVEN), 16))
BINARY_ROW(mul_scaled_up_int8, int8_t, int8_t, row_round((float)(x *y) * binary->scale, ROUND_HALF_UP, 8))
BINARY_ROW(mul_scaled_even_int8, int8_t, int8_t, row_round((float)(x *y) * binary->scale, ROUND_HALF_EVEN, 8))
BINARY_ROW(mul_scaled_up_int16, int16_t, int16_t, row_round((float)(x *y) * binary->scale, ROUND_HALF_UP, 16))
BINARY_ROW(mul_scaled_even_int16, int16_t, int16_t, row_round((float)(x *y) * binary->scale, ROUND_HALF_EVEN, 16))
BINARY_ROW(mul_far_int8, int8_t, int8_t, shift_and_round(x *y, binary->shift, binary->rounding, 8))
BINARY_ROW(mul_far_int16, int16_t, int16_t, saturate(shift_and_round(x *y, binary->shift, binary->rounding, 16), 16))
BINARY_ROW(zero_int8, int8_t, int8_t, (x & y) * 0)
BINARY_ROW(zero_int16, int16_t, int16_t, (x & y) * 0)

ROW_INLINE float power(float x, float y)
{
    return (float)espq_pow((double)x, (double)y);
}
ROW_INLINE float remainder_of(float x, float y)
{
    return y != 0.0f ? fmodf(x, y) : 0.0f;
}
#define SCALED(function) function((float)x * binary->a_scale, (float)y * binary->b_scale) * binary->out_scale
BINARY_ROW(pow_int8, int8_t, int8_t, round_saturate(SCALED(power), binary->rounding, 8))
BINARY_ROW(pow_int16, int16_t, int16_t, round_saturate(SCALED(power), binary->rounding, 16))
BINARY_ROW(pow_float, float, float, power(x, y))
BINARY_ROW(mod_int8, int8_t, int8_t, round_saturate(SCALED(remainder_of), binary->rounding, 8))
BINARY_ROW(mod_int16, int16_t, int16_t, round_saturate(SCALED(remainder_of), binary->rounding, 16))
BINARY_ROW(mod_float, float, float, remainder_of(x, y))

/* ---- Div ---- */

typedef enum { DIV_EACH, DIV_BY_ONE, DIV_OF_ONE } DivForm; /* which operand has one element in the row; the others' order of operations */

/* Rows of int8 ask for the dividend first, those of int16 and float for the divisor; the two forms round at other places. */
static DivForm div_form(const Binary *binary)
{
    bool a_only = !binary->a_steps[binary->axes - 1], b_only = !binary->b_steps[binary->axes - 1];
    if (a_only && b_only) return binary->in_bytes == 1 ? DIV_OF_ONE : DIV_BY_ONE;
    return a_only ? DIV_OF_ONE : b_only ? DIV_BY_ONE : DIV_EACH;
}

static int64_t quotient(const Binary *binary, DivForm form, int64_t x, int64_t y)
{
    int bits = 8 * binary->in_bytes;
    if (x == 0) return 0;
    if (y == 0) return saturate(x > 0 ? INT32_MAX : INT32_MIN, bits);
    float value;
    if (form == DIV_BY_ONE) {
        float factor = binary->scale / (float)y;
        value = (float)x * factor;
    } else {
        float dividend = (float)x * binary->scale;
        value = dividend / (float)y;
    }
    return round_saturate(value, binary->rounding, bits);
}

static void div_int(const Binary *binary, const void *a, const void *b, void *out, int64_t count)
{
    DivForm form = div_form(binary);
    int bits = 8 * binary->in_bytes;
    int64_t a_step = binary->a_steps[binary->axes - 1], b_step = binary->b_steps[binary->axes - 1];
    for (int64_t i = 0; i < count; i++)
        write_integer(out, i, bits, quotient(binary, form, read_integer(a, i * a_step, bits), read_integer(b, i * b_step, bits)));
}

static void div_float(const Binary *binary, const void *a_data, const void *b_data, void *out_data, int64_t count)
{
    const float *a = a_data, *b = b_data;
    float *out = out_data;
    int64_t a_step = binary->a_steps[binary->axes - 1], b_step = binary->b_steps[binary->axes - 1];
    if (div_form(binary) == DIV_BY_ONE) {
        const float factor = (float)(1.0 / (double)*b);
        for (int64_t i = 0; i < count; i++)
            out[i] = a[i * a_step] * factor;
        return;
    }
    for (int64_t i = 0; i < count; i++)
        out[i] = a[i * a_step] / b[i * b_step];
}

/* The table of the runtime, with its entry for 0: of a dividend the infinity of its sign (which 0 has not), of a divisor 0. */
static void make_div_table(const Binary *binary, const int8_t *a, const int8_t *b, int8_t *table)
{
    for (int i = -128; i < 128; i++) {
        float value;
        if (binary->table_of == 2) {
            float dividend = (float)*a * binary->scale;
            value = i ? dividend / (float)i : dividend > 0 ? INFINITY : -INFINITY;
        } else {
            float factor = binary->scale / (float)*b;
            value = i ? (float)i * factor : 0.0f;
        }
        table[i + 128] = (int8_t)round_saturate(value, binary->rounding, 8);
    }
}

/* ---- walking ---- */

typedef struct Walk {
    const Binary *binary;
    const char *a, *b;
    char *out;
} Walk;

static void walk_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const Binary *binary = walk->binary;
    int64_t length = binary->dims[binary->axes - 1];
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, a = 0, b = 0;
        for (int axis = binary->axes - 2; axis >= 0; axis--) {
            int64_t at = rest % binary->dims[axis];
            rest /= binary->dims[axis];
            a += at * binary->a_steps[axis];
            b += at * binary->b_steps[axis];
        }
        binary->row(binary, walk->a + a * binary->in_bytes, walk->b + b * binary->in_bytes, walk->out + row * length * binary->out_bytes,
                    length);
    }
}

static void walk_elements(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const Binary *binary = walk->binary;
    binary->row(binary, walk->a + begin * binary->a_steps[0] * binary->in_bytes, walk->b + begin * binary->b_steps[0] * binary->in_bytes,
                walk->out + begin * binary->out_bytes, end - begin);
}

static void binary_run(const ChipRun *run)
{
    const Binary *binary = run->node->state;
    Walk walk = {binary, run->inputs[0], run->inputs[1], run->outputs[0]};
    int64_t length = binary->dims[binary->axes - 1], rows = 1;
    for (int axis = 0; axis < binary->axes - 1; axis++)
        rows *= binary->dims[axis];
    if (rows * length == 0) return;
    if (binary->axes == 1)
        threads_for(length, ROW_GRAIN, walk_elements, &walk);
    else
        threads_for(rows, (ROW_GRAIN + length - 1) / length, walk_rows, &walk);
}

/* memory: a byte that says that the table is made, then the table. */
static void div_run(const ChipRun *run)
{
    const Binary *binary = run->node->state;
    if (!binary->table_of) {
        binary_run(run);
        return;
    }
    int8_t *made = run->memory, own[256];
    const int8_t *table = binary->table;
    if (!binary->table_made) {
        bool kept = run->node->memory_bytes > 0;
        if (!kept || !made[0]) make_div_table(binary, run->inputs[0], run->inputs[1], kept ? made + 1 : own);
        table = kept ? made + 1 : own;
        if (kept) made[0] = 1;
    }
    lookup_int8(table, run->inputs[binary->table_of - 1], run->outputs[0], end_count(&run->node->outputs[0]));
}

/* ---- preparation ---- */

/* Neighbours merge when both have the same length on each, or one operand has length 1 on both; lengths of 1 merge with anything. */
static bool merge(const ChipNode *node, Binary *binary, Error *error)
{
    const Shape *a = &node->inputs[0].shape, *b = &node->inputs[1].shape, *out = &node->outputs[0].shape;
    int64_t a_dims[ESPQ_MAX_RANK], b_dims[ESPQ_MAX_RANK];
    int axes = 0;
    for (int axis = 0; axis < out->rank; axis++) {
        int a_axis = axis - (out->rank - a->rank), b_axis = axis - (out->rank - b->rank);
        int64_t m = a_axis < 0 ? 1 : a->dims[a_axis], n = b_axis < 0 ? 1 : b->dims[b_axis];
        if (m == 1 && n == 1) continue;
        bool joins = axes && ((m == n && a_dims[axes - 1] == b_dims[axes - 1]) || (m == 1 && a_dims[axes - 1] == 1) ||
                              (n == 1 && b_dims[axes - 1] == 1));
        if (!joins) {
            a_dims[axes] = b_dims[axes] = 1;
            axes++;
        }
        a_dims[axes - 1] *= m;
        b_dims[axes - 1] *= n;
    }
    if (axes == 0) a_dims[axes] = b_dims[axes] = 1, axes = 1;
    if (axes > MERGED_AXES) {
        char a_text[160], b_text[160];
        return refuse(node, error, "reshape the operands so that fewer axes take turns in broadcasting",
                      "shapes %s and %s need %d loops after merging; the chip has %d", shape_text(a, a_text), shape_text(b, b_text), axes,
                      MERGED_AXES);
    }
    binary->axes = axes;
    int64_t a_step = 1, b_step = 1;
    for (int axis = axes - 1; axis >= 0; axis--) {
        binary->dims[axis] = a_dims[axis] == 1 ? b_dims[axis] : a_dims[axis];
        binary->a_steps[axis] = a_dims[axis] == 1 ? 0 : a_step;
        binary->b_steps[axis] = b_dims[axis] == 1 ? 0 : b_step;
        a_step *= a_dims[axis];
        b_step *= b_dims[axis];
    }
    return true;
}

static bool binary_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 2, 1, error)) return false;
    const Shape *a = &node->inputs[0].shape, *b = &node->inputs[1].shape;
    char a_text[160], b_text[160];
    if (!shape_broadcast(a, b, &node->outputs[0].shape))
        return refuse(node, error, "dimensions must be equal or 1", "shapes %s and %s do not broadcast", shape_text(a, a_text),
                      shape_text(b, b_text));
    return true;
}

typedef struct BinaryKind {
    const char *type;
    BinaryRow rows[3]; /* int8, int16, float32; NULL: the runtime does nothing there */
    bool compares;
} BinaryKind;

static const BinaryKind kinds[] = {
    {"Add", {add_int8, add_int16, add_float}, false},
    {"Sub", {sub_int8, sub_int16, sub_float}, false},
    {"Mul", {mul_up_int8, mul_up_int16, mul_float}, false},
    {"Div", {div_int, div_int, div_float}, false},
    {"Pow", {pow_int8, pow_int16, pow_float}, false},
    {"Mod", {mod_int8, mod_int16, mod_float}, false},
    {"Equal", {equal_int8, equal_int16, NULL}, true},
    {"Greater", {greater_int8, greater_int16, NULL}, true},
    {"GreaterOrEqual", {greater_or_equal_int8, greater_or_equal_int16, NULL}, true},
    {"Less", {less_int8, less_int16, NULL}, true},
    {"LessOrEqual", {less_or_equal_int8, less_or_equal_int16, NULL}, true},
};

static const BinaryKind *kind_of(const char *type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].type, type) == 0) return &kinds[i];
    }
    return NULL;
}

static bool binary_prepare(ChipNode *node, Error *error)
{
    const BinaryKind *kind = kind_of(node->module->type);
    Dtype dtype = node_dtype(node);
    if (!needs_dtype(node, &node->inputs[0], dtype, error) || !needs_dtype(node, &node->inputs[1], dtype, error) ||
        !needs_dtype(node, &node->outputs[0], kind->compares ? DTYPE_BOOL : dtype, error))
        return false;
    int width = node->bits == 8 ? 0 : node->bits == 16 ? 1 : 2;
    if (!kind->rows[width])
        return refuse(node, error, "quantize the comparison to 8 or 16 bits", "the chip does not compare float32: its module does nothing");
    Binary *binary = memory_new(sizeof *binary);
    if (!binary) return fail_memory(error, sizeof *binary);
    node->state = binary;
    int a = node->inputs[0].exponent, b = node->inputs[1].exponent, out = node->outputs[0].exponent;
    binary->row = kind->rows[width];
    binary->rounding = node->chip->rounding;
    binary->in_bytes = (int)dtype_bytes(dtype);
    binary->out_bytes = (int)dtype_bytes(node->outputs[0].dtype);
    binary->shift = out - a - b;
    binary->a_scale = scale_of(a);
    binary->b_scale = scale_of(b);
    binary->out_scale = scale_of(-out);
    return merge(node, binary, error);
}

/* Which product: the vector's, or C's through float32. */
static bool mul_prepare(ChipNode *node, Error *error)
{
    if (!binary_prepare(node, error)) return false;
    Binary *binary = node->state;
    if (node->bits == 32) return true;
    bool wide = node->bits == 16, up = binary->rounding == ROUND_HALF_UP;
    binary->scale = scale_of(-binary->shift);
    bool vectors = binary->dims[binary->axes - 1] * binary->in_bytes >= node->chip->vector_bytes && node->chip->vector_bytes;
    if (!vectors && chip_has(node->chip, TRAIT_MUL_FLOAT)) {
        binary->row = wide ? up ? mul_scaled_up_int16 : mul_scaled_even_int16 : up ? mul_scaled_up_int8 : mul_scaled_even_int8;
    } else if (binary->shift >= 0 && binary->shift <= 30) {
        binary->row = wide ? up ? mul_up_int16 : mul_even_int16 : up ? mul_up_int8 : mul_even_int8;
    } else if (binary->shift < 0 && vectors && chip_has(node->chip, TRAIT_NO_NEGATIVE_SHIFT)) {
        binary->row = wide ? zero_int16 : zero_int8;
        if (!up) node->undefined = "C4: Mul with an output finer than its products shifts by a negative count";
    } else {
        binary->row = wide ? mul_far_int16 : mul_far_int8;
    }
    return true;
}

static bool div_prepare(ChipNode *node, Error *error)
{
    if (!binary_prepare(node, error)) return false;
    Binary *binary = node->state;
    if (node->bits == 32) return true;
    binary->scale = scale_of(node->inputs[0].exponent - node->inputs[1].exponent - node->outputs[0].exponent);
    const ChipEnd *a = &node->inputs[0], *b = &node->inputs[1];
    if (node->bits != 8 || (end_count(a) != 1 && end_count(b) != 1)) return true;
    binary->table_of = end_count(a) == 1 ? 2 : 1;
    const ChipEnd *only = binary->table_of == 2 ? a : b;
    if (only->constant) {
        const int8_t *element = (const int8_t *)only->constant->data;
        make_div_table(binary, element, element, binary->table);
        binary->table_made = true;
    } else if (chip_has(node->chip, TRAIT_DIV_TABLE_FROZEN)) {
        node->memory_bytes = 1 + sizeof binary->table;
    }
    return true;
}

#define BINARY(type_, prepare_, place)                                                                                                     \
    {                                                                                                                                      \
        .type = type_, .in_place = place, .blind = true, .infer = binary_infer, .prepare = prepare_, .run = binary_run                     \
    }

const ChipModule chip_binary_modules[] = {
    BINARY("Add", binary_prepare, IN_PLACE_CHANGED),
    BINARY("Sub", binary_prepare, IN_PLACE_NONE),
    BINARY("Mul", mul_prepare, IN_PLACE_NONE),
    {.type = "Div", .in_place = IN_PLACE_NONE, .infer = binary_infer, .prepare = div_prepare, .run = div_run},
    BINARY("Pow", binary_prepare, IN_PLACE_NONE),
    BINARY("Mod", binary_prepare, IN_PLACE_CHANGED),
    BINARY("Equal", binary_prepare, IN_PLACE_CHANGED),
    BINARY("Greater", binary_prepare, IN_PLACE_CHANGED),
    BINARY("GreaterOrEqual", binary_prepare, IN_PLACE_CHANGED),
    BINARY("Less", binary_prepare, IN_PLACE_CHANGED),
    BINARY("LessOrEqual", binary_prepare, IN_PLACE_CHANGED),
    {0},
};
