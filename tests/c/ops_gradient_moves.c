/* The gradient column of rows that move elements, against central differences. */
#include "slopes.h"

static void check_moved(Random *random, OperatorRun *run)
{
    unsigned floats = 0;
    for (int i = 0; i < run->input_count; i++)
        if (run->inputs[i] && run->inputs[i]->dtype == DTYPE_FLOAT32 && run->inputs[i]->shape.rank) floats |= 1u << i;
    check_slopes(run, random, floats, 3e-3);
}

static Tensor *random_sides(Random *random, int rank, const int64_t *least)
{
    int64_t dims[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        dims[i] = least[i] + below(random, 3);
    return test_random(random, rank, dims);
}
#define random_of_least(random, ...) random_sides(random, DIMS(__VA_ARGS__))

/* Whole numbers from 0 to below most, of a shape. */
static Tensor *random_indices(Random *random, const Shape *shape, int most)
{
    Error error;
    Tensor *tensor = tensor_new(DTYPE_INT64, shape, &error);
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_set(tensor, i, below(random, most));
    return tensor;
}

static void check_gathers(Random *random)
{
    OperatorRun run;
    if (operator_open(&run, "Gather", 1)) {
        node_set_integer(run.graph, run.node, "axis", 1);
        operator_input(&run, random_of_least(random, 2, 3, 2), false);
        operator_input(&run, integer_tensor(2, 0, -1, 2), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "GatherElements", 1)) {
        node_set_integer(run.graph, run.node, "axis", 1);
        Tensor *x = random_of_least(random, 2, 3, 2);
        Shape places = x->shape;
        places.dims[1] = 4;
        operator_input(&run, x, false);
        operator_input(&run, random_indices(random, &places, 3), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "GatherND", 1)) {
        operator_input(&run, random_of_least(random, 3, 2, 2), false);
        operator_input(&run, random_indices(random, &(Shape){2, {4, 2}}, 2), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "ScatterND", 1)) {
        Tensor *data = random_of_least(random, 4, 3), *indices = integer_tensor(2, 0);
        indices->shape = (Shape){.rank = 2, .dims = {2, 1}};
        indices->strides[0] = indices->strides[1] = 1;
        int64_t width = data->shape.dims[1];
        operator_input(&run, data, false);
        operator_input(&run, indices, true);
        operator_input(&run, random_tensor(random, 2, width), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "ScatterElements", 1)) { /* each place once: which of two would win is not said */
        operator_input(&run, random_of_least(random, 3, 2), false);
        Tensor *indices = integer_tensor(2, 0, 0, 1);
        indices->shape = (Shape){.rank = 2, .dims = {2, 2}};
        indices->strides[0] = 2;
        indices->strides[1] = 1;
        operator_input(&run, indices, true);
        operator_input(&run, random_tensor(random, 2, 2), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Where", 1)) {
        Error error;
        Tensor *x = random_of_least(random, 2, 2, 3), *condition = tensor_new(DTYPE_BOOL, &x->shape, &error);
        int64_t width = x->shape.dims[2];
        for (int64_t i = 0; condition && i < tensor_count(condition); i++)
            tensor_set(condition, i, below(random, 2));
        operator_input(&run, condition, true);
        operator_input(&run, x, false);
        operator_input(&run, random_tensor(random, width), false);
        check_moved(random, &run);
    }
}

static void check_reorders(Random *random)
{
    OperatorRun run;
    if (operator_open(&run, "Transpose", 1)) {
        node_set_integers(run.graph, run.node, "perm", INTS(2, 0, 1));
        operator_input(&run, random_of_least(random, 2, 3, 4), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "DepthToSpace", 1)) {
        node_set_integer(run.graph, run.node, "blocksize", 2);
        operator_input(&run, random_tensor(random, 1, 4 * (1 + below(random, 3)), 2, 3), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "SpaceToDepth", 1)) {
        node_set_integer(run.graph, run.node, "blocksize", 2);
        operator_input(&run, random_tensor(random, 1, 1 + below(random, 3), 4, 6), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Trilu", 1)) {
        node_set_integer(run.graph, run.node, "upper", below(random, 2));
        operator_input(&run, random_of_least(random, 2, 3, 3), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "ReverseSequence", 1)) {
        operator_input(&run, random_tensor(random, 4, 3, 1 + below(random, 3)), false);
        operator_input(&run, integer_tensor(2, 4, 1), true);
        check_moved(random, &run);
    }
}

static void check_shapes(Random *random)
{
    static const char *const one_input[] = {"Flatten", "Identity", "Dropout"};
    OperatorRun run;
    for (size_t i = 0; i < sizeof one_input / sizeof *one_input; i++)
        if (operator_open(&run, one_input[i], 1)) {
            operator_input(&run, random_of_least(random, 2, 3, 2), false);
            check_moved(random, &run);
        }
    if (operator_open(&run, "Squeeze", 1)) {
        int64_t side = 2 + below(random, 3);
        operator_input(&run, random_tensor(random, 1, side, 1), false);
        operator_input(&run, integer_tensor(2), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Unsqueeze", 1)) {
        operator_input(&run, random_of_least(random, 2, 3), false);
        operator_input(&run, integer_tensor(0, 2), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Reshape", 1)) {
        operator_input(&run, random_tensor(random, 2, 3 * (1 + below(random, 3))), false);
        operator_input(&run, integer_tensor(3, -1), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Expand", 1)) {
        operator_input(&run, random_tensor(random, 3, 1), false);
        operator_input(&run, integer_tensor(2, 3, 1 + below(random, 5)), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Tile", 1)) {
        operator_input(&run, random_of_least(random, 2, 3), false);
        operator_input(&run, integer_tensor(2, 1 + below(random, 3)), true);
        check_moved(random, &run);
    }
}

static void check_parts(Random *random)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    OperatorRun run;
    if (operator_open(&run, "Concat", 1)) {
        int64_t side = 1 + below(random, 4);
        node_set_integer(run.graph, run.node, "axis", 1);
        operator_input(&run, random_tensor(random, 2, 3, side), false);
        operator_input(&run, random_tensor(random, 2, 1, side), false);
        operator_input(&run, random_tensor(random, 2, 1 + below(random, 3), side), false);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Split", 2)) {
        node_set_integer(run.graph, run.node, "axis", -1);
        operator_input(&run, random_tensor(random, 1 + below(random, 3), 3, 5), false);
        operator_input(&run, integer_tensor(2, 3), true);
        check_moved(random, &run);
    }
    if (operator_open(&run, "Slice", 1)) {
        operator_input(&run, random_of_least(random, 4, 6), false);
        operator_input(&run, integer_tensor(3, 1), true);
        operator_input(&run, integer_tensor(0, 6), true);
        operator_input(&run, integer_tensor(0, 1), true);
        operator_input(&run, integer_tensor(-1, 2), true);
        check_moved(random, &run);
    }
    for (int i = 0; i < 4 && operator_open(&run, "Pad", 1); i++) {
        node_set_string(run.graph, run.node, "mode", modes[i]);
        operator_input(&run, random_of_least(random, 3, 4), false);
        operator_input(&run, integer_tensor(1, 2, 0, below(random, 3)), true);
        if (i == 0) operator_input(&run, float_scalar(3), true);
        check_moved(random, &run);
    }
}

/* Promise: what moves elements moves their gradients back, and adds them where an element went to several places. */
TEST(gradients_of_moves)
{
    Random random;
    random_seed(&random, 37);
    for (int i = 0; i < 4; i++) {
        check_gathers(&random);
        check_reorders(&random);
        check_shapes(&random);
        check_parts(&random);
    }
}

/* Promise: Resize gives each element back the shares it was blended with. */
TEST(gradients_of_resizing)
{
    static const char *const modes[] = {"nearest", "linear"};
    static const char *const places[] = {"half_pixel", "align_corners", "asymmetric"};
    Random random;
    random_seed(&random, 38);
    for (int i = 0; i < 12; i++) {
        OperatorRun run;
        if (!operator_open(&run, "Resize", 1)) return;
        const float scales[] = {1, 1, 0.5f + (float)below(&random, 4) / 2, 0.5f + (float)below(&random, 4) / 2};
        node_set_string(run.graph, run.node, "mode", modes[i % 2]);
        node_set_string(run.graph, run.node, "coordinate_transformation_mode", places[i / 2 % 3]);
        operator_input(&run, random_of_least(&random, 1, 2, 3, 4), false);
        operator_input(&run, NULL, false);
        operator_input(&run, test_values(1, (int64_t[]){4}, scales), true);
        check_slopes(&run, &random, 1, 3e-3);
    }
    OperatorRun run;
    if (!operator_open(&run, "Upsample", 1)) return;
    operator_input(&run, random_of_least(&random, 1, 2, 3, 4), false);
    operator_input(&run, test_values(1, (int64_t[]){4}, FLOATS(1, 1, 2, 3)), true);
    check_slopes(&run, &random, 1, 3e-3);
}
