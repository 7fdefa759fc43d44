/* Comparisons, logic, choice: Equal … LessOrEqual, And Or Xor Not, Where, IsNaN IsInf. */
#include <math.h>
#include <string.h>

#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* y[i] = 0 or 1 */
typedef struct CompareKernel {
    void (*floats)(const float *a, const float *b, uint8_t *y, int64_t count, int64_t step_a, int64_t step_b);
    void (*doubles)(const double *a, const double *b, uint8_t *y, int64_t count, int64_t step_a, int64_t step_b);
    void (*integers)(const int64_t *a, const int64_t *b, uint8_t *y, int64_t count, int64_t step_a, int64_t step_b);
} CompareKernel;

#define COMPARE(name, type, expression)                                                                                                    \
    static void name(const type *a, const type *b, uint8_t *y, int64_t count, int64_t step_a, int64_t step_b)                              \
    {                                                                                                                                      \
        for (int64_t i = 0; i < count; i++) {                                                                                              \
            const type p = a[i * step_a], q = b[i * step_b];                                                                               \
            y[i] = (expression);                                                                                                           \
        }                                                                                                                                  \
    }
#define COMPARISON(stem, expression)                                                                                                       \
    COMPARE(stem##_floats, float, expression)                                                                                              \
    COMPARE(stem##_doubles, double, expression)                                                                                            \
    COMPARE(stem##_integers, int64_t, expression)                                                                                          \
    static const CompareKernel stem##_kernel = {stem##_floats, stem##_doubles, stem##_integers};

COMPARISON(equal, p == q)
COMPARISON(greater, p > q)
COMPARISON(greater_or_equal, p >= q)
COMPARISON(less, p < q)
COMPARISON(less_or_equal, p <= q)
COMPARISON(and, p != 0 && q != 0)
COMPARISON(or, p != 0 || q != 0)
COMPARISON(xor, (p != 0) != (q != 0))

typedef struct Compare {
    const CompareKernel *kernel;
    const Tensor *a, *b;
    uint8_t *y;
} Compare;

#define COMPARE_PIECE(type, column, own, load)                                                                                             \
    do {                                                                                                                                   \
        if (compare->a->dtype == own && compare->b->dtype == own) {                                                                        \
            compare->kernel->column((const type *)(const void *)compare->a->data + offsets[0],                                             \
                                    (const type *)(const void *)compare->b->data + offsets[1], compare->y + at, count, steps[0],           \
                                    steps[1]);                                                                                             \
            break;                                                                                                                         \
        }                                                                                                                                  \
        type a[ELEMENT_BLOCK], b[ELEMENT_BLOCK];                                                                                           \
        for (int64_t done = 0; done < count; done += ELEMENT_BLOCK) {                                                                      \
            int64_t part = count - done < ELEMENT_BLOCK ? count - done : ELEMENT_BLOCK;                                                    \
            load(compare->a, offsets[0] + done * steps[0], steps[0], part, a);                                                             \
            load(compare->b, offsets[1] + done * steps[1], steps[1], part, b);                                                             \
            compare->kernel->column(a, b, compare->y + at + done, part, 1, 1);                                                             \
        }                                                                                                                                  \
    } while (0)

static void compare_piece(void *context, const int64_t *offsets, const int64_t *steps, int64_t at, int64_t count)
{
    const Compare *compare = context;
    switch (numbers_of(compare->a->dtype)) {
    case NUMBERS_FLOAT: COMPARE_PIECE(float, floats, DTYPE_FLOAT32, load_floats); break;
    case NUMBERS_DOUBLE: COMPARE_PIECE(double, doubles, DTYPE_FLOAT64, load_doubles); break;
    case NUMBERS_INTEGER: COMPARE_PIECE(int64_t, integers, DTYPE_INT64, load_integers); break;
    }
}

static void compare_run(const Run *run, const CompareKernel *kernel)
{
    const Tensor *a = run->inputs[0], *b = run->inputs[1];
    Tensor *y = run->outputs[0];
    Broadcast broadcast;
    broadcast_make(&broadcast, &y->shape, (const Shape *const[]){&a->shape, &b->shape}, 2);
    Compare compare = {kernel, a, b, (uint8_t *)y->data};
    broadcast_run(&broadcast, compare_piece, &compare);
}

static void equal_run(const Run *run)
{
    compare_run(run, &equal_kernel);
}
static void greater_run(const Run *run)
{
    compare_run(run, &greater_kernel);
}
static void greater_or_equal_run(const Run *run)
{
    compare_run(run, &greater_or_equal_kernel);
}
static void less_run(const Run *run)
{
    compare_run(run, &less_kernel);
}
static void less_or_equal_run(const Run *run)
{
    compare_run(run, &less_or_equal_kernel);
}
static void and_run(const Run *run)
{
    compare_run(run, &and_kernel);
}
static void or_run(const Run *run)
{
    compare_run(run, &or_kernel);
}
static void xor_run(const Run *run)
{
    compare_run(run, &xor_kernel);
}

/* ---- Where: elements are moved as they are, whatever their dtype ---- */

typedef struct Choice {
    const uint8_t *condition;
    const char *yes, *no;
    char *y;
    size_t bytes;
} Choice;

#define CHOOSE(type)                                                                                                                       \
    do {                                                                                                                                   \
        const type *yes = (const type *)(const void *)choice->yes + offsets[1];                                                            \
        const type *no = (const type *)(const void *)choice->no + offsets[2];                                                              \
        type *y = (type *)(void *)choice->y + at;                                                                                          \
        for (int64_t i = 0; i < count; i++)                                                                                                \
            y[i] = condition[i * steps[0]] ? yes[i * steps[1]] : no[i * steps[2]];                                                         \
    } while (0)

static void choose_piece(void *context, const int64_t *offsets, const int64_t *steps, int64_t at, int64_t count)
{
    const Choice *choice = context;
    const uint8_t *condition = choice->condition + offsets[0];
    switch (choice->bytes) {
    case 1: CHOOSE(uint8_t); break;
    case 2: CHOOSE(uint16_t); break;
    case 4: CHOOSE(uint32_t); break;
    case 8: CHOOSE(uint64_t); break;
    }
}

static void where_run(const Run *run)
{
    const Tensor *condition = run->inputs[0], *yes = run->inputs[1], *no = run->inputs[2];
    Tensor *y = run->outputs[0];
    Broadcast broadcast;
    broadcast_make(&broadcast, &y->shape, (const Shape *const[]){&condition->shape, &yes->shape, &no->shape}, 3);
    Choice choice = {(const uint8_t *)condition->data, yes->data, no->data, y->data, dtype_bytes(y->dtype)};
    broadcast_run(&broadcast, choose_piece, &choice);
}

static bool where_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape condition, yes, no, together;
    if (!input_shape(node, 0, &condition, error) || !input_shape(node, 1, &yes, error) || !input_shape(node, 2, &no, error)) return false;
    char a[160], b[160], c[160];
    if (!shape_broadcast(&condition, &yes, &together) || !shape_broadcast(&together, &no, &together)) {
        return fail_node(error, node, "right-aligned dimensions must be equal or 1", "shapes %s, %s and %s do not broadcast",
                         shape_text(&condition, a), shape_text(&yes, b), shape_text(&no, c));
    }
    Dtype type = node->inputs[0]->dtype, first = node->inputs[1]->dtype, second = node->inputs[2]->dtype;
    if (type != DTYPE_BOOL && type != DTYPE_NONE) {
        return fail_node(error, node, "compare it with 0, or put a Cast to bool before it", "the condition is %s, wanted is bool",
                         dtype_name(type));
    }
    if (first != second && first != DTYPE_NONE && second != DTYPE_NONE) {
        return fail_node(error, node, "put a Cast before one of them", "the choices are %s and %s; both must be of one type",
                         dtype_name(first), dtype_name(second));
    }
    set_output(node, 0, first != DTYPE_NONE ? first : second, &together);
    return true;
}

/* ---- one operand ---- */

static bool infer_same_shape_bool(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    set_output(node, 0, DTYPE_BOOL, &shape);
    return true;
}

ELEMENT(not_element, v == 0)
static int64_t not_integer(int64_t x)
{
    return x == 0;
}
static const UnaryKernel not_kernel = {NULL, not_element, not_integer};
COLUMNS(not, "", 0, "", 0)

ELEMENT(is_nan_element, v != v)
static const UnaryKernel is_nan_kernel = {NULL, is_nan_element, NULL};
static void is_nan_run(const Run *run)
{
    unary_run(&is_nan_kernel, run, 0, 0);
}

/* first: +inf counts, second: -inf counts */
ELEMENT(is_inf_element, (first != 0 && v == INFINITY) || (second != 0 && v == -INFINITY))
static const UnaryKernel is_inf_kernel = {NULL, is_inf_element, NULL};
static void is_inf_run(const Run *run)
{
    unary_run(&is_inf_kernel, run, (double)node_integer(run->node, "detect_positive", 1),
              (double)node_integer(run->node, "detect_negative", 1));
}

/* ---- rows ---- */

#define COMPARISON_ROW                                                                                                                     \
    .inputs = {2, 2}, .outputs = {1, 1}, .infer = infer_broadcast_bool, .flags = OPERATOR_QUANTIZABLE, .float_outputs = 1,                 \
    .align = ALIGN_LOGICAL, .layout = LAYOUT_ADD, .module = MODULE_S8 | MODULE_S16, .cost = cost_elementwise
#define LOGIC_ROW                                                                                                                          \
    .inputs = {2, 2}, .outputs = {1, 1}, .infer = infer_broadcast_bool, .float_outputs = 1, .layout = LAYOUT_ADD, .cost = cost_elementwise
#define LOGIC_CURE .module_cure = "cut the model before it (outputs) and do it in the application"

const Operator op_equal = {.name = "Equal", .help = "a = b, broadcasting; bool.", COMPARISON_ROW, .run = equal_run};
const Operator op_greater = {.name = "Greater", .help = "a > b, broadcasting; bool.", COMPARISON_ROW, .run = greater_run};
const Operator op_greater_or_equal = {
    .name = "GreaterOrEqual",
    .help = "a >= b, broadcasting; bool.",
    COMPARISON_ROW,
    .run = greater_or_equal_run,
};
const Operator op_less = {.name = "Less", .help = "a < b, broadcasting; bool.", COMPARISON_ROW, .run = less_run};
const Operator op_less_or_equal = {.name = "LessOrEqual", .help = "a <= b, broadcasting; bool.", COMPARISON_ROW, .run = less_or_equal_run};
const Operator op_and = {.name = "And", .help = "True where both are, broadcasting.", LOGIC_ROW, .run = and_run, LOGIC_CURE};
const Operator op_or = {.name = "Or", .help = "True where one or both are, broadcasting.", LOGIC_ROW, .run = or_run, LOGIC_CURE};
const Operator op_xor = {.name = "Xor", .help = "True where one of two is, broadcasting.", LOGIC_ROW, .run = xor_run, LOGIC_CURE};

const Operator op_not = {
    .name = "Not",
    .help = "True for false.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = infer_same_shape_bool,
    .run = not_run,
    .layout = LAYOUT_PASSIVE,
    .table = not_table,
    .cost = cost_elementwise,
    LOGIC_CURE,
};

const Operator op_where = {
    .name = "Where",
    .help = "x where the condition holds, else y; broadcasting.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .infer = where_infer,
    .run = where_run,
    .gradient = gradient_where,
    .gradient_scratch = gradient_broadcast_scratch,
    .float_inputs = 1 << 1 | 1 << 2,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "write it as x * mask + y * (1 - mask), or cut the model before it",
};

const Operator op_is_nan = {
    .name = "IsNaN",
    .help = "True where it is not a number.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = infer_same_shape_bool,
    .run = is_nan_run,
    .layout = LAYOUT_PASSIVE,
    .cost = cost_elementwise,
    .module_cure = "leave it out: integers have no NaN",
};

const Operator op_is_inf = {
    .name = "IsInf",
    .help = "True where it is infinite.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"detect_negative", ATTRIBUTE_INT, .number = 1}, {"detect_positive", ATTRIBUTE_INT, .number = 1}},
    .infer = infer_same_shape_bool,
    .run = is_inf_run,
    .layout = LAYOUT_PASSIVE,
    .cost = cost_elementwise,
    .module_cure = "leave it out: integers have no infinity",
};
