/* Rows that leave the elements in their order: Reshape Flatten Squeeze Unsqueeze Identity Dropout. All run as one copy. */
#include <string.h>

#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* Reshape and what it may be told: 0 copies the input's dimension (unless allowzero), -1 is what remains. A shape that cannot be is
 * refused with the input's shape and the asked one; nothing is guessed about batches (exec walks sample by sample instead). */
static bool reshape_target(const Node *node, const Shape *from, const Shape *asked, Shape *to, Error *error)
{
    char a[160], b[160];
    bool allow_zero = node_integer(node, "allowzero", 0) != 0;
    int64_t known = 1;
    int unknown = -1;
    *to = *asked;
    for (int i = 0; i < asked->rank; i++) {
        int64_t dim = asked->dims[i];
        if (dim == -1) {
            if (unknown >= 0) {
                return fail_node(error, node, "leave one -1 at most", "input %s cannot become %s: two dimensions are -1",
                                 shape_text(from, a), shape_text(asked, b));
            }
            unknown = i;
            continue;
        }
        if (dim == 0 && !allow_zero) {
            if (i >= from->rank) {
                return fail_node(error, node, "0 copies a dimension of the input at the same place",
                                 "input %s cannot become %s: it has no dimension %d to copy", shape_text(from, a), shape_text(asked, b), i);
            }
            dim = to->dims[i] = from->dims[i];
        }
        if (dim < 0 || __builtin_mul_overflow(known, dim, &known)) {
            return fail_node(error, node, "sizes are -1, 0 or more", "input %s cannot become %s", shape_text(from, a),
                             shape_text(asked, b));
        }
    }
    int64_t count = shape_count(from);
    if (unknown >= 0) {
        if (known == 0 || count % known != 0) {
            return fail_node(error, node, "the asked shape must have as many elements as the input",
                             "input %s (%lld elements) cannot become %s: -1 would be no whole number", shape_text(from, a),
                             (long long)count, shape_text(asked, b));
        }
        to->dims[unknown] = count / known;
    } else if (known != count) {
        return fail_node(error, node, "the asked shape must have as many elements as the input; give the batch as 0 or -1 if it may vary",
                         "input %s (%lld elements) cannot become %s (%lld elements)", shape_text(from, a), (long long)count,
                         shape_text(asked, b), (long long)known);
    }
    return true;
}

static bool reshape_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, asked, to;
    int count;
    if (!input_shape(node, 0, &from, error) || !input_integers(node, 1, asked.dims, ESPQ_MAX_RANK, &count, error)) return false;
    if (count < 0) count = node_integers(node, "shape", asked.dims, ESPQ_MAX_RANK);
    if (count < 0 || count > ESPQ_MAX_RANK) {
        return fail_node(error, node, "give the shape as input 1, at most 8 dimensions", "the shape is missing or too long");
    }
    asked.rank = count;
    if (!reshape_target(node, &from, &asked, &to, error)) return false;
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static bool flatten_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, to = {.rank = 2, .dims = {1, 1}};
    if (!input_shape(node, 0, &from, error)) return false;
    int64_t axis = node_integer(node, "axis", 1);
    if (axis < -from.rank || axis > from.rank) {
        return fail_node(error, node, "an axis counts from 0, or from the end with -1", "axis %lld is outside of rank %d", (long long)axis,
                         from.rank);
    }
    if (axis < 0) axis += from.rank;
    for (int i = 0; i < from.rank; i++)
        to.dims[i >= axis] *= from.dims[i];
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static bool squeeze_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, to = {0};
    int axes[ESPQ_MAX_RANK], count;
    bool gone[ESPQ_MAX_RANK] = {false};
    if (!input_shape(node, 0, &from, error) || !input_or_attribute_axes(node, 1, from.rank, axes, &count, error)) return false;
    for (int i = 0; i < count; i++) {
        if (from.dims[axes[i]] != 1) {
            char text[160];
            return fail_node(error, node, "only dimensions of size 1 can be taken away", "axis %d of input %s is not 1", axes[i],
                             shape_text(&from, text));
        }
        gone[axes[i]] = true;
    }
    for (int i = 0; i < from.rank; i++) {
        if (count < 0 ? from.dims[i] != 1 : !gone[i]) to.dims[to.rank++] = from.dims[i];
    }
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static bool unsqueeze_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, to;
    int64_t given[ESPQ_MAX_RANK];
    int axes[ESPQ_MAX_RANK], count;
    bool added[ESPQ_MAX_RANK] = {false};
    if (!input_shape(node, 0, &from, error) || !input_integers(node, 1, given, ESPQ_MAX_RANK, &count, error)) return false;
    if (count < 0) count = node_integers(node, "axes", given, ESPQ_MAX_RANK);
    if (count < 0) return fail_node(error, node, "give the axes as input 1 or as attribute", "axes are missing");
    if (from.rank + count > ESPQ_MAX_RANK) {
        return fail_node(error, node, "leave dimensions of size 1 out", "the result would have rank %d, at most %d is possible",
                         from.rank + count, ESPQ_MAX_RANK);
    }
    to.rank = from.rank + count;
    for (int i = 0; i < count; i++) {
        if (!normalize_axis(node, given[i], to.rank, &axes[i], error)) return false; /* axes count in the result */
        if (added[axes[i]]) return fail_node(error, node, "name each axis once", "axis %d is named twice", axes[i]);
        added[axes[i]] = true;
    }
    for (int i = 0, k = 0; i < to.rank; i++)
        to.dims[i] = added[i] ? 1 : from.dims[k++];
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

/* Dropout in a trained net hands its input on; the mask, when somebody asks for it, is all true. */
static bool dropout_infer(Graph *graph, Node *node, Error *error)
{
    if (!infer_same_shape(graph, node, error)) return false;
    set_output(node, 1, DTYPE_BOOL, &node->inputs[0]->shape);
    return true;
}

static void dropout_run(const Run *run)
{
    run_copy(run);
    if (run->node->output_count > 1 && run->outputs[1]) memset(run->outputs[1]->data, 1, (size_t)tensor_count(run->outputs[1]));
}

#define IN_PLACE_ROW                                                                                                                       \
    .run = run_copy, .gradient = gradient_copy, .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE | OPERATOR_IN_PLACE,                      \
    .layout = LAYOUT_OTHER, .module = MODULE_ALL, .cost = cost_elementwise

const Operator op_reshape = {
    .name = "Reshape",
    .help = "The same elements in another shape.",
    .inputs = {1, 2},
    .outputs = {1, 1},
    .attributes = {{"allowzero", ATTRIBUTE_INT, .number = 0}, {"shape", ATTRIBUTE_INTS}},
    .infer = reshape_infer,
    IN_PLACE_ROW,
    .float_inputs = 1 << 1,
};

const Operator op_flatten = {
    .name = "Flatten",
    .help = "Two dimensions: those before axis, those from it on.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 1}},
    .infer = flatten_infer,
    IN_PLACE_ROW,
};

const Operator op_squeeze = {
    .name = "Squeeze",
    .help = "Dimensions of size 1 taken away.",
    .inputs = {1, 2},
    .outputs = {1, 1},
    .attributes = {{"axes", ATTRIBUTE_INTS}},
    .infer = squeeze_infer,
    IN_PLACE_ROW,
    .float_inputs = 1 << 1,
    .becomes_input = "axes",
};

const Operator op_unsqueeze = {
    .name = "Unsqueeze",
    .help = "Dimensions of size 1 put in.",
    .inputs = {1, 2},
    .outputs = {1, 1},
    .attributes = {{"axes", ATTRIBUTE_INTS}},
    .infer = unsqueeze_infer,
    IN_PLACE_ROW,
    .float_inputs = 1 << 1,
    .becomes_input = "axes",
};

static double identity_table(const Node *node, double x, const double *parameters, int parameter_count)
{
    (void)node, (void)parameters, (void)parameter_count;
    return x;
}

const Operator op_identity = {
    .name = "Identity",
    .help = "Its input.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = infer_same_shape,
    .run = run_copy,
    .gradient = gradient_copy,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .layout = LAYOUT_PASSIVE,
    .table = identity_table,
    .swaps_transpose = true,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

/* Not in QUANT §4.4: the reference cannot run it; it is removed when loading. */
const Operator op_dropout = {
    .name = "Dropout",
    .help = "Its input (of use in training only).",
    .inputs = {1, 3},
    .outputs = {1, 2},
    .infer = dropout_infer,
    .run = dropout_run,
    .gradient = gradient_copy,
    .gradient_fixed = 1u << 1 | 1u << 2,
    .flags = OPERATOR_PASSIVE,
    .layout = LAYOUT_PASSIVE,
    .cost = cost_elementwise,
    .module_cure = "export the model in inference mode",
};
