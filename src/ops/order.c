/* Rows that compare or add along one axis: ArgMax ArgMin TopK CumSum. They stay float; the runtime has none of them. */
#include <string.h>

#include "base/threads.h"
#include "ops/elementwise.h"
#include "ops/rows.h"

static double element_at(const Tensor *tensor, int64_t place)
{
    double value;
    load_doubles(tensor, place, 1, 1, &value);
    return value;
}

/* ---- ArgMax, ArgMin ---- */

static bool arg_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape, to = {0};
    int axis;
    if (!input_shape(node, 0, &shape, error) || !normalize_axis(node, node_integer(node, "axis", 0), shape.rank, &axis, error))
        return false;
    if (shape.dims[axis] == 0) return fail_node(error, node, "check the model's shapes", "axis %d has no elements", axis);
    bool keep = node_integer(node, "keepdims", 1) != 0;
    for (int i = 0; i < shape.rank; i++) {
        if (i != axis || keep) to.dims[to.rank++] = i == axis ? 1 : shape.dims[i];
    }
    set_output(node, 0, DTYPE_INT64, &to);
    return true;
}

static int axis_of(const Node *node, int rank, int64_t otherwise)
{
    int64_t axis = node_integer(node, "axis", otherwise);
    return (int)(axis < 0 ? axis + rank : axis);
}

typedef struct Arg {
    const Tensor *x;
    int64_t *y;
    AxisView view;
    bool smallest, last;
} Arg;

/* The first of the largest (or the last, select_last_index); NaN is larger and smaller than everything. */
static void arg_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Arg *arg = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i / arg->view.inner * arg->view.length * arg->view.inner + i % arg->view.inner, best = 0;
        double most = element_at(arg->x, first);
        for (int64_t k = 1; k < arg->view.length && most == most; k++) {
            double v = element_at(arg->x, first + k * arg->view.inner);
            bool better = v != v || (arg->smallest ? v < most : v > most) || (arg->last && v == most);
            if (!better) continue;
            best = k;
            most = v;
        }
        arg->y[i] = best;
    }
}

static void arg_run(const Run *run, bool smallest)
{
    const Tensor *x = run->inputs[0];
    Arg arg = {x, (int64_t *)(void *)run->outputs[0]->data, axis_view(&x->shape, axis_of(run->node, x->shape.rank, 0)), smallest,
               node_integer(run->node, "select_last_index", 0) != 0};
    int64_t count = tensor_count(run->outputs[0]);
    if (count > 0) threads_for(count, OPS_GRAIN / arg.view.length + 1, arg_part, &arg);
}

static void arg_max_run(const Run *run)
{
    arg_run(run, false);
}
static void arg_min_run(const Run *run)
{
    arg_run(run, true);
}

/* ---- TopK ---- */

static bool top_k_count(const Node *node, int64_t length, int64_t *k, Error *error)
{
    int count;
    if (!input_integers(node, 1, k, 1, &count, error)) return false;
    if (count < 1) *k = node_integer(node, "k", -1);
    if (*k >= 0 && *k <= length) return true;
    return fail_node(error, node, "K is a number up to the size of the axis", "K is %lld, the axis has %lld elements", (long long)*k,
                     (long long)length);
}

static bool top_k_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    int axis;
    int64_t k;
    if (!input_shape(node, 0, &shape, error) || !normalize_axis(node, node_integer(node, "axis", -1), shape.rank, &axis, error))
        return false;
    if (!top_k_count(node, shape.dims[axis], &k, error)) return false;
    shape.dims[axis] = k;
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    set_output(node, 1, DTYPE_INT64, &shape);
    return true;
}

static bool top_k_prepare(Prepare *prepare, Error *error)
{
    const Shape *shape = &prepare->input_shapes[0];
    int64_t k;
    if (!top_k_count(prepare->node, shape->dims[axis_of(prepare->node, shape->rank, -1)], &k, error)) return false;
    prepare->scratch_bytes = (size_t)(k + 1) * sizeof(int64_t);
    return true;
}

typedef struct Ranking {
    const Tensor *x;
    int64_t first, step; /* of the elements ranked */
    bool smallest;
} Ranking;

/* Before the other in the result? Of equal ones the lower index; NaN counts as largest. */
static bool ranks_before(const Ranking *ranking, int64_t a, int64_t b)
{
    double p = element_at(ranking->x, ranking->first + a * ranking->step), q = element_at(ranking->x, ranking->first + b * ranking->step);
    bool p_nan = p != p, q_nan = q != q;
    if (p == q || (p_nan && q_nan)) return a < b;
    bool larger = p_nan || (!q_nan && p > q);
    return larger != ranking->smallest;
}

/* A heap with the last-ranking on top; `count` members, sift from `at` down. */
static void sift_down(const Ranking *ranking, int64_t *heap, int64_t count, int64_t at)
{
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && ranks_before(ranking, heap[child], heap[child + 1])) child++;
        if (!ranks_before(ranking, heap[at], heap[child])) return;
        int64_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void rank_first(const Ranking *ranking, int64_t length, int64_t k, int64_t *heap)
{
    for (int64_t i = 0; i < k; i++)
        heap[i] = i;
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        sift_down(ranking, heap, k, i);
    for (int64_t i = k; i < length; i++) {
        if (!ranks_before(ranking, i, heap[0])) continue;
        heap[0] = i;
        sift_down(ranking, heap, k, 0);
    }
    for (int64_t rest = k - 1; rest > 0; rest--) { /* the last-ranking goes to the end */
        int64_t swap = heap[0];
        heap[0] = heap[rest];
        heap[rest] = swap;
        sift_down(ranking, heap, rest, 0);
    }
}

static void top_k_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    int axis = axis_of(run->node, x->shape.rank, -1);
    Tensor *values = run->outputs[0], *indices = run->node->output_count > 1 ? run->outputs[1] : NULL;
    AxisView view = axis_view(&x->shape, axis);
    const Tensor *shaped = values ? values : indices;
    if (!shaped || tensor_count(shaped) == 0) return;
    int64_t k = shaped->shape.dims[axis], *heap = run->scratch;
    size_t bytes = dtype_bytes(x->dtype);
    for (int64_t i = 0; i < view.outer * view.inner; i++) {
        int64_t outer = i / view.inner, inner = i % view.inner;
        Ranking ranking = {x, outer * view.length * view.inner + inner, view.inner, node_integer(run->node, "largest", 1) == 0};
        rank_first(&ranking, view.length, k, heap);
        for (int64_t n = 0; n < k; n++) {
            int64_t to = (outer * k + n) * view.inner + inner, from = ranking.first + heap[n] * view.inner;
            if (values) memcpy(values->data + (size_t)to * bytes, x->data + (size_t)from * bytes, bytes);
            if (indices) ((int64_t *)(void *)indices->data)[to] = heap[n];
        }
    }
}

/* ---- CumSum ---- */

static bool cum_sum_infer(Graph *graph, Node *node, Error *error)
{
    Shape shape;
    int64_t given;
    int axis, count;
    if (!input_shape(node, 0, &shape, error) || !input_integers(node, 1, &given, 1, &count, error)) return false;
    if (count != 1) return fail_node(error, node, "give the axis as input 1", "the axis is missing");
    return normalize_axis(node, given, shape.rank, &axis, error) && infer_same_shape(graph, node, error);
}

static void cum_sum_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t axis = tensor_get_integer(run->inputs[1], 0);
    AxisView view = axis_view(&x->shape, (int)(axis < 0 ? axis + x->shape.rank : axis));
    bool exclusive = node_integer(run->node, "exclusive", 0) != 0, reverse = node_integer(run->node, "reverse", 0) != 0;
    bool integers = numbers_of(x->dtype) == NUMBERS_INTEGER;
    for (int64_t i = 0; i < view.outer * view.inner; i++) {
        int64_t first = i / view.inner * view.length * view.inner + i % view.inner, total = 0;
        double sum = 0;
        for (int64_t k = 0; k < view.length; k++) {
            int64_t place = first + (reverse ? view.length - 1 - k : k) * view.inner, integer = 0;
            double v = 0;
            if (integers) {
                load_integers(x, place, 1, 1, &integer);
            } else {
                load_doubles(x, place, 1, 1, &v);
            }
            int64_t total_before = total;
            double sum_before = sum;
            total = (int64_t)((uint64_t)total + (uint64_t)integer);
            sum += v;
            if (integers) {
                store_integers(y, place, 1, exclusive ? &total_before : &total);
            } else {
                store_doubles(y, place, 1, exclusive ? &sum_before : &sum);
            }
        }
    }
}

/* ---- rows ---- */

#define ARG_ROW                                                                                                                            \
    .inputs = {1, 1}, .outputs = {1, 1},                                                                                                   \
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 0},                                                                                   \
                   {"keepdims", ATTRIBUTE_INT, .number = 1},                                                                               \
                   {"select_last_index", ATTRIBUTE_INT, .number = 0}},                                                                     \
    .infer = arg_infer, .layout = LAYOUT_OTHER, .cost = cost_elementwise,                                                                  \
    .module_cure = "cut the model before it (outputs): the application finds the index in the output"

const Operator op_arg_max = {.name = "ArgMax", .help = "Index of the largest.", ARG_ROW, .run = arg_max_run};
const Operator op_arg_min = {.name = "ArgMin", .help = "Index of the smallest.", ARG_ROW, .run = arg_min_run};

const Operator op_top_k = {
    .name = "TopK",
    .help = "The k largest or smallest, with their indices.",
    .inputs = {1, 2},
    .outputs = {1, 2},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = -1},
                   {"largest", ATTRIBUTE_INT, .number = 1},
                   {"sorted", ATTRIBUTE_INT, .number = 1},
                   {"k", ATTRIBUTE_INT}},
    .infer = top_k_infer,
    .prepare = top_k_prepare,
    .run = top_k_run,
    .float_inputs = 1 << 1,
    .float_outputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "cut the model before it (outputs) and sort in the application",
};

const Operator op_cum_sum = {
    .name = "CumSum",
    .help = "Running sum along an axis.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"exclusive", ATTRIBUTE_INT, .number = 0}, {"reverse", ATTRIBUTE_INT, .number = 0}},
    .infer = cum_sum_infer,
    .run = cum_sum_run,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "write it as MatMul with a triangle of ones",
};
