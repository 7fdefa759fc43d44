#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "random_tensors.h"

static void place_of(const Shape *shape, int64_t flat, int64_t *place)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        place[i] = flat % shape->dims[i];
        flat /= shape->dims[i];
    }
}

static int64_t flat_of(const Shape *shape, const int64_t *place)
{
    int64_t flat = 0;
    for (int i = 0; i < shape->rank; i++)
        flat = flat * shape->dims[i] + place[i];
    return flat;
}

/* Promise: Transpose moves every element to its permuted place, for any permutation and also for planes large enough for tiles and threads. */
TEST(transpose_any_order)
{
    Random random;
    random_seed(&random, 1);
    for (int round = 0; round < 200; round++) {
        Shape shape = random_shape(&random, 6);
        if (round % 20 == 0) shape = (Shape){.rank = 3, .dims = {3, 150, 131}};
        int64_t perm[ESPQ_MAX_RANK];
        for (int i = 0; i < shape.rank; i++)
            perm[i] = i;
        for (int i = shape.rank - 1; i > 0; i--) {
            int k = (int)(random_next(&random) % (uint32_t)(i + 1));
            int64_t swap = perm[i];
            perm[i] = perm[k];
            perm[k] = swap;
        }
        OperatorRun run;
        REQUIRE(operator_open(&run, "Transpose", 1), "no row");
        operator_input(&run, random_shaped(&random, &shape), false);
        node_set_integers(run.graph, run.node, "perm", perm, shape.rank);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        const Tensor *y = run.outputs[0];
        for (int64_t i = 0; i < tensor_count(y); i++) {
            int64_t to[ESPQ_MAX_RANK], from[ESPQ_MAX_RANK];
            place_of(&y->shape, i, to);
            for (int k = 0; k < shape.rank; k++)
                from[perm[k]] = to[k];
            if (tensor_floats(y)[i] == tensor_floats(run.inputs[0])[flat_of(&shape, from)]) continue;
            CHECK(false, "round %d element %lld", round, (long long)i);
            break;
        }
        operator_close(&run);
    }
}

/* Promise: what Split cuts Concat joins again, on any axis, with uneven sizes given as input or as attribute. */
TEST(split_and_concat)
{
    Random random;
    random_seed(&random, 2);
    for (int round = 0; round < 100; round++) {
        Shape shape = random_shape(&random, 5);
        int axis = (int)(random_next(&random) % (uint32_t)shape.rank), named = round % 2 ? axis : axis - shape.rank;
        shape.dims[axis] = 7;
        OperatorRun split, concat;
        REQUIRE(operator_open(&split, "Split", 3), "no row");
        REQUIRE(operator_open(&concat, "Concat", 1), "no row");
        operator_input(&split, random_shaped(&random, &shape), false);
        if (round % 3 == 0) {
            node_set_integers(split.graph, split.node, "split", (int64_t[]){3, 0, 4}, 3);
        } else {
            operator_constant(&split, integer_tensor(1, 4, 2));
        }
        node_set_integer(split.graph, split.node, "axis", named);
        node_set_integer(concat.graph, concat.node, "axis", named);
        REQUIRE(operator_run(&split), "%s", split.error.what);
        for (int i = 0; i < 3; i++)
            operator_input(&concat, tensor_retain(split.outputs[i]), false);
        REQUIRE(operator_run(&concat), "%s", concat.error.what);
        CHECK(tensor_equal(concat.outputs[0], split.inputs[0]), "round %d", round);
        CHECK(split.outputs[0]->shape.dims[axis] == (round % 3 == 0 ? 3 : 1), "size of the first part");
        operator_close(&split);
        operator_close(&concat);
    }
}

/* Promise: Split without sizes makes equal parts, with num_outputs the last may be smaller, and else an odd axis is refused. */
TEST(split_equally)
{
    for (int form = 0; form < 3; form++) {
        Random random;
        random_seed(&random, 2);
        OperatorRun run;
        REQUIRE(operator_open(&run, "Split", 3), "no row");
        operator_input(&run, form == 0 ? random_tensor(&random, 6, 2) : random_tensor(&random, 7, 2), false);
        if (form == 1) node_set_integer(run.graph, run.node, "num_outputs", 3);
        bool ok = operator_run(&run);
        CHECK(ok == (form != 2), "form %d: %s", form, run.error.what);
        if (ok) CHECK(run.outputs[2]->shape.dims[0] == (form == 0 ? 2 : 1), "form %d: the last part", form);
        operator_close(&run);
    }
}

/* Promise: Slice cuts as NumPy does: negative and far bounds, negative steps, axes in any order, given as inputs or as attributes. */
TEST(slice_as_numpy)
{
    static const struct {
        int64_t start, end, step, count, first;
    } rows[] = {
        /* of an axis of 5 */
        {1, 4, 1, 3, 1},  {-3, 100, 1, 3, 2},    {0, -1, 2, 2, 0}, {-1, INT64_MIN, -1, 5, 4},
        {3, 0, -2, 2, 3}, {100, -100, -1, 5, 4}, {4, 2, 1, 0, 0},  {0, INT64_MAX, 3, 2, 0},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (int attributes = 0; attributes < 2; attributes++) {
            Random random;
            random_seed(&random, r);
            OperatorRun run;
            REQUIRE(operator_open(&run, "Slice", 1), "no row");
            operator_input(&run, random_tensor(&random, 3, 5, 2), false);
            if (attributes && rows[r].step != 1) {
                operator_close(&run);
                continue;
            }
            if (attributes) {
                node_set_integers(run.graph, run.node, "starts", (int64_t[]){0, rows[r].start}, 2);
                node_set_integers(run.graph, run.node, "ends", (int64_t[]){2, rows[r].end}, 2);
                node_set_integers(run.graph, run.node, "axes", (int64_t[]){0, 1}, 2);
            } else {
                operator_constant(&run, integer_tensor(rows[r].start, 0));
                operator_constant(&run, integer_tensor(rows[r].end, 2));
                operator_constant(&run, integer_tensor(-2, 0));
                operator_constant(&run, integer_tensor(rows[r].step, 1));
            }
            REQUIRE(operator_run(&run), "%s", run.error.what);
            const Tensor *y = run.outputs[0];
            REQUIRE(y->shape.dims[0] == 2 && y->shape.dims[1] == rows[r].count && y->shape.dims[2] == 2, "row %zu: shape", r);
            for (int64_t i = 0; i < tensor_count(y); i++) {
                int64_t at[3];
                place_of(&y->shape, i, at);
                at[1] = rows[r].first + at[1] * rows[r].step;
                CHECK(tensor_floats(y)[i] == tensor_floats(run.inputs[0])[flat_of(&run.inputs[0]->shape, at)], "row %zu element %lld", r,
                      (long long)i);
            }
            operator_close(&run);
        }
    }
}

/* Promise: Pad takes each element from where its mode says; negative numbers cut, and the axes input leaves the others alone. */
TEST(pad_modes)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    Random random;
    random_seed(&random, 4);
    for (int round = 0; round < 200; round++) {
        const char *mode = modes[round % 4];
        int64_t dims[4] = {1 + random_next(&random) % 3, 3 + random_next(&random) % 5, 3 + random_next(&random) % 5,
                           3 + random_next(&random) % 5};
        int64_t before[4] = {0}, after[4] = {0};
        bool by_axes = round % 3 == 0;
        for (int i = 1; i < 4; i++) {
            before[i] = (int64_t)(random_next(&random) % 4) - 1;
            after[i] = (int64_t)(random_next(&random) % 4) - 1;
        }
        if (by_axes) before[1] = after[1] = 0;
        OperatorRun run;
        REQUIRE(operator_open(&run, "Pad", 1), "no row");
        operator_input(&run, random_tensor(&random, dims[0], dims[1], dims[2], dims[3]), false);
        operator_constant(&run, by_axes
                                    ? integer_tensor(before[3], before[2], after[3], after[2])
                                    : integer_tensor(before[0], before[1], before[2], before[3], after[0], after[1], after[2], after[3]));
        operator_constant(&run, float_scalar(7));
        if (by_axes) operator_constant(&run, integer_tensor(-1, 2));
        node_set_string(run.graph, run.node, "mode", mode);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        const Tensor *y = run.outputs[0];
        for (int64_t i = 0; i < tensor_count(y); i++) {
            int64_t at[4];
            bool outside = false;
            place_of(&y->shape, i, at);
            for (int k = 0; k < 4; k++) {
                at[k] -= before[k];
                if (at[k] >= 0 && at[k] < dims[k]) continue;
                outside = true;
                if (round % 4 == 1) at[k] = at[k] < 0 ? -at[k] : 2 * dims[k] - 2 - at[k];
                if (round % 4 == 2) at[k] = at[k] < 0 ? 0 : dims[k] - 1;
                if (round % 4 == 3) at[k] = (at[k] + dims[k]) % dims[k];
            }
            float wanted = outside && round % 4 == 0 ? 7 : tensor_floats(run.inputs[0])[flat_of(&run.inputs[0]->shape, at)];
            if (tensor_floats(y)[i] == wanted) continue;
            CHECK(false, "%s, round %d, element %lld", mode, round, (long long)i);
            break;
        }
        operator_close(&run);
    }
}

/* Promise: where the reference would pad otherwise than ONNX says, its mode refuses instead of giving another shape. */
TEST(pad_as_the_reference)
{
    for (int batch = 0; batch < 2; batch++) {
        Random random;
        random_seed(&random, 4);
        OperatorRun run;
        REQUIRE(operator_open(&run, "Pad", 1), "no row");
        run.exact = false;
        operator_input(&run, random_tensor(&random, 3, 3, 3, 3), false);
        operator_constant(&run, integer_tensor(batch, 0, 1, 1, batch, 0, 1, 1));
        node_set_string(run.graph, run.node, "mode", "reflect");
        CHECK(operator_run(&run) == !batch, "batch padded by %d: %s", batch, run.error.what);
        operator_close(&run);
    }
}

/* Promise: Expand and Tile repeat elements as NumPy's broadcast_to and tile. */
TEST(expand_and_tile)
{
    Random random;
    random_seed(&random, 6);
    OperatorRun run;
    REQUIRE(operator_open(&run, "Expand", 1), "no row");
    operator_input(&run, random_tensor(&random, 3, 1), false);
    operator_constant(&run, integer_tensor(2, 1, 4));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    for (int i = 0; i < 24; i++)
        CHECK(tensor_floats(run.outputs[0])[i] == tensor_floats(run.inputs[0])[i / 4 % 3], "Expand element %d", i);
    operator_close(&run);

    REQUIRE(operator_open(&run, "Tile", 1), "no row");
    operator_input(&run, random_tensor(&random, 2, 3), false);
    operator_constant(&run, integer_tensor(3, 2));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    for (int i = 0; i < 36; i++)
        CHECK(tensor_floats(run.outputs[0])[i] == tensor_floats(run.inputs[0])[i / 6 % 2 * 3 + i % 3], "Tile element %d", i);
    operator_close(&run);
}

/* Promise: Gather takes entries of any axis by indices of any rank, negative ones from the end; an index outside is refused. */
TEST(gather_entries)
{
    Random random;
    random_seed(&random, 7);
    for (int axis = 0; axis < 3; axis++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, "Gather", 1), "no row");
        operator_input(&run, random_tensor(&random, 3, 4, 5), false);
        operator_constant(&run, integer_tensor(2, -1, 0));
        node_set_integer(run.graph, run.node, "axis", axis - (axis == 2 ? 3 : 0));
        REQUIRE(operator_run(&run), "%s", run.error.what);
        const Tensor *y = run.outputs[0];
        int64_t dim = run.inputs[0]->shape.dims[axis], index[3] = {2, dim - 1, 0};
        for (int64_t i = 0; i < tensor_count(y); i++) {
            int64_t at[3];
            place_of(&y->shape, i, at);
            at[axis] = index[at[axis]];
            CHECK(tensor_floats(y)[i] == tensor_floats(run.inputs[0])[flat_of(&run.inputs[0]->shape, at)], "axis %d element %lld", axis,
                  (long long)i);
        }
        operator_close(&run);
    }
    OperatorRun run;
    REQUIRE(operator_open(&run, "Gather", 1), "no row");
    operator_input(&run, random_tensor(&random, 3, 4), false);
    operator_constant(&run, integer_tensor(3));
    CHECK(!operator_run(&run) && strstr(run.error.what, "3"), "index 3 of 3 was taken: %s", run.error.what);
    operator_close(&run);
}

/* Promise: in the reference's mode a float Gather with a negative axis hands its input on, or is refused where shapes tell; integers are exact. */
TEST(gather_as_the_reference)
{
    for (int form = 0; form < 3; form++) {
        Random random;
        random_seed(&random, 7);
        OperatorRun run;
        REQUIRE(operator_open(&run, "Gather", 1), "no row");
        run.exact = false;
        operator_input(&run, form == 2 ? integer_tensor(5, 6, 7) : random_tensor(&random, 3), false);
        operator_constant(&run, form == 1 ? integer_tensor(0) : integer_tensor(2, 1, 0));
        node_set_integer(run.graph, run.node, "axis", -1);
        bool ok = operator_run(&run);
        CHECK(ok == (form != 1), "form %d: %s", form, run.error.what);
        if (form == 0) CHECK(tensor_equal(run.outputs[0], run.inputs[0]), "the data were changed");
        if (form == 2) CHECK(tensor_get_integer(run.outputs[0], 0) == 7, "integers are exact");
        operator_close(&run);
    }
}

/* Promise: GatherElements reads what ScatterElements writes; GatherND reads what ScatterND writes; add adds up. */
TEST(scatter_and_gather)
{
    for (int nd = 0; nd < 2; nd++) {
        for (int add = 0; add < 2; add++) {
            Random random;
            random_seed(&random, 9);
            const int64_t by_element[6] = {0, 2, 1, 2, 0, 1}, by_tuple[4] = {1, 2, 0, 1};
            Shape two_by_three = {.rank = 2, .dims = {2, 3}}, two_by_two = {.rank = 2, .dims = {2, 2}};
            Tensor *indices = tensor_from_data(DTYPE_INT64, nd ? &two_by_two : &two_by_three, nd ? by_tuple : by_element, &(Error){0});
            OperatorRun scatter, gather;
            REQUIRE(operator_open(&scatter, nd ? "ScatterND" : "ScatterElements", 1), "no row");
            operator_input(&scatter, random_tensor(&random, 2, 4), false);
            operator_constant(&scatter, tensor_retain(indices));
            operator_input(&scatter, nd ? random_tensor(&random, 2) : random_tensor(&random, 2, 3), false);
            if (!nd) node_set_integer(scatter.graph, scatter.node, "axis", 1);
            if (add) node_set_string(scatter.graph, scatter.node, "reduction", "add");
            REQUIRE(operator_run(&scatter), "%s", scatter.error.what);
            REQUIRE(operator_open(&gather, nd ? "GatherND" : "GatherElements", 1), "no row");
            operator_input(&gather, tensor_retain(scatter.outputs[0]), false);
            operator_constant(&gather, indices);
            if (!nd) node_set_integer(gather.graph, gather.node, "axis", 1);
            REQUIRE(operator_run(&gather), "%s", gather.error.what);
            for (int64_t i = 0; i < tensor_count(gather.outputs[0]); i++) {
                int64_t place = nd ? by_tuple[2 * i] * 4 + by_tuple[2 * i + 1] : i / 3 * 4 + by_element[i];
                float wanted = tensor_floats(scatter.inputs[2])[i] + (add ? tensor_floats(scatter.inputs[0])[place] : 0);
                CHECK(tensor_floats(gather.outputs[0])[i] == wanted, "%s, add %d, element %lld", scatter.node->type, add, (long long)i);
            }
            operator_close(&gather);
            operator_close(&scatter);
        }
    }
}

/* Promise: ReverseSequence turns the first steps of each batch entry around and leaves the rest. */
TEST(reverse_sequence)
{
    Random random;
    random_seed(&random, 9);
    OperatorRun run;
    REQUIRE(operator_open(&run, "ReverseSequence", 1), "no row");
    operator_input(&run, random_tensor(&random, 4, 2, 3), false); /* [time, batch, …] */
    operator_constant(&run, integer_tensor(3, 1));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    for (int i = 0; i < 24; i++) {
        int time = i / 6, batch = i / 3 % 2, length = batch ? 1 : 3, source = time < length ? length - 1 - time : time;
        CHECK(tensor_floats(run.outputs[0])[i] == tensor_floats(run.inputs[0])[source * 6 + batch * 3 + i % 3], "element %d", i);
    }
    operator_close(&run);
}
