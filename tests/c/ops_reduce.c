#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "random_tensors.h"

static double begin_with(const char *type)
{
    return strstr(type, "Prod") ? 1 : strstr(type, "Max") ? -INFINITY : strstr(type, "Min") ? INFINITY : 0;
}

static double join(const char *type, double sum, double v)
{
    if (strstr(type, "Prod")) return sum * v;
    if (strstr(type, "Max")) return fmax(sum, v);
    if (strstr(type, "Min")) return fmin(sum, v);
    if (strstr(type, "L1")) return sum + fabs(v);
    if (strstr(type, "L2") || strstr(type, "Square")) return sum + v * v;
    return sum + (strstr(type, "Exp") ? exp(v) : v);
}

static double finish(const char *type, double sum, int64_t count)
{
    if (strstr(type, "Mean")) return sum / (double)count;
    if (strstr(type, "L2")) return sqrt(sum);
    return strstr(type, "Log") ? log(sum) : sum;
}

/* Promise: each reduction over any set of axes, kept or not, gives what a plain loop gives, to the last places of float32. */
TEST(ten_reductions)
{
    static const char *const types[] = {"ReduceL1",   "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                                        "ReduceMean", "ReduceMin", "ReduceProd",   "ReduceSum",       "ReduceSumSquare"};
    Random random;
    random_seed(&random, 1);
    for (int round = 0; round < 600; round++) {
        const char *type = types[round % 10];
        Shape shape = random_shape(&random, 6), out = {0};
        if (round % 50 < 10) shape = (Shape){.rank = 3, .dims = {2, 300, 190}}; /* columns in threads */
        int64_t axes[ESPQ_MAX_RANK];
        int count = 0;
        uint32_t chosen = random_next(&random);
        bool keep = round % 3 != 0, reduced[ESPQ_MAX_RANK] = {false}, none = round % 7 == 0;
        for (int i = 0; i < shape.rank; i++) {
            if (!none && (chosen >> i & 1)) axes[count++] = i % 2 ? i : i - shape.rank;
            reduced[i] = chosen >> i & 1;
        }
        if (count == 0) memset(reduced, 1, sizeof reduced);
        OperatorRun run;
        REQUIRE(operator_open(&run, type, 1), "no row");
        operator_input(&run, random_shaped(&random, &shape), false);
        if (strstr(type, "LogSum")) {
            for (int64_t i = 0; i < tensor_count(run.inputs[0]); i++)
                tensor_floats(run.inputs[0])[i] = fabsf(tensor_floats(run.inputs[0])[i]) + 0.1f;
        }
        if (count && round % 2) node_set_integers(run.graph, run.node, "axes", axes, count);
        if (count && round % 2 == 0) operator_constant(&run, tensor_from_integers(axes, count, &run.error));
        node_set_integer(run.graph, run.node, "keepdims", keep);
        REQUIRE(operator_run(&run), "%s: %s", type, run.error.what);
        for (int i = 0; i < shape.rank; i++) {
            if (!reduced[i] || keep) out.dims[out.rank++] = reduced[i] ? 1 : shape.dims[i];
        }
        const Tensor *x = run.inputs[0], *y = run.outputs[0];
        REQUIRE(shape_equal(&out, &y->shape), "%s: wrong shape in round %d", type, round);
        int64_t outputs = tensor_count(y), inputs = tensor_count(x) / outputs;
        double *sums = memory_new_array((size_t)outputs, sizeof *sums);
        for (int64_t i = 0; i < outputs; i++)
            sums[i] = begin_with(type);
        for (int64_t i = 0; i < tensor_count(x); i++) {
            int64_t rest = i, to = 0, stride = 1;
            for (int axis = shape.rank - 1; axis >= 0; axis--) {
                if (!reduced[axis]) {
                    to += rest % shape.dims[axis] * stride;
                    stride *= shape.dims[axis];
                }
                rest /= shape.dims[axis];
            }
            sums[to] = join(type, sums[to], (double)tensor_floats(x)[i]);
        }
        for (int64_t i = 0; i < outputs; i++) {
            double wanted = finish(type, sums[i], inputs), got = (double)tensor_floats(y)[i];
            if (fabs(got - wanted) <= 2e-7 * fmax(1, fabs(wanted))) continue;
            CHECK(false, "%s, round %d, element %lld: %.9g, wanted %.9g", type, round, (long long)i, got, wanted);
            break;
        }
        memory_free(sums);
        operator_close(&run);
    }
}

/* Promise: integers are reduced as integers, exactly (shape arithmetic multiplies dimensions so). */
TEST(integer_reductions)
{
    static const struct {
        const char *type;
        int64_t wanted;
    } rows[] = {{"ReduceProd", 3 * 5 * -2}, {"ReduceSum", 6}, {"ReduceMax", 5}, {"ReduceMin", -2}, {"ReduceMean", 2}, {"ReduceL1", 10}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, rows[i].type, 1), "no row");
        operator_input(&run, integer_tensor(3, 5, -2), false);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        CHECK(run.outputs[0]->dtype == DTYPE_INT64 && tensor_get_integer(run.outputs[0], 0) == rows[i].wanted, "%s is %lld", rows[i].type,
              (long long)tensor_get_integer(run.outputs[0], 0));
        operator_close(&run);
    }
}

/* Promise: no axes and noop_with_empty_axes hands the input on. */
TEST(reduction_of_nothing)
{
    Random random;
    random_seed(&random, 3);
    OperatorRun run;
    REQUIRE(operator_open(&run, "ReduceSum", 1), "no row");
    operator_input(&run, random_tensor(&random, 2, 3), false);
    node_set_integer(run.graph, run.node, "noop_with_empty_axes", 1);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(tensor_equal(run.outputs[0], run.inputs[0]), "the input was changed");
    operator_close(&run);
}

/* Promise: ArgMax and ArgMin name the first of equals, or the last when asked. */
TEST(arg_of_equals)
{
    const float x[6] = {1, 3, 3, 0, 2, 0};
    static const struct {
        const char *type;
        int last;
        int64_t wanted[2];
    } rows[] = {{"ArgMax", 0, {1, 1}}, {"ArgMax", 1, {2, 1}}, {"ArgMin", 0, {0, 0}}, {"ArgMin", 1, {0, 2}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, rows[i].type, 1), "no row");
        operator_input(&run, tensor_from_data(DTYPE_FLOAT32, &(Shape){.rank = 2, .dims = {2, 3}}, x, &run.error), false);
        node_set_integer(run.graph, run.node, "axis", -1);
        node_set_integer(run.graph, run.node, "keepdims", 0);
        node_set_integer(run.graph, run.node, "select_last_index", rows[i].last);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        CHECK(run.outputs[0]->shape.rank == 1, "keepdims");
        for (int k = 0; k < 2; k++)
            CHECK(tensor_get_integer(run.outputs[0], k) == rows[i].wanted[k], "%s, last %d, row %d", rows[i].type, rows[i].last, k);
        operator_close(&run);
    }
}

/* Promise: TopK ranks by value, equals by index, along any axis, largest or smallest first. */
TEST(top_k_ranks)
{
    Random random;
    random_seed(&random, 8);
    for (int round = 0; round < 60; round++) {
        int64_t k = 1 + random_next(&random) % 9;
        bool smallest = round % 2;
        OperatorRun run;
        REQUIRE(operator_open(&run, "TopK", 2), "no row");
        operator_input(&run, random_tensor(&random, 2, 9, 3), false);
        for (int i = 0; i < 54; i++)
            tensor_floats(run.inputs[0])[i] = rintf(2 * tensor_floats(run.inputs[0])[i]); /* many equals */
        operator_constant(&run, integer_tensor(k));
        node_set_integer(run.graph, run.node, "axis", 1);
        node_set_integer(run.graph, run.node, "largest", !smallest);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        const float *x = tensor_floats(run.inputs[0]), *values = tensor_floats(run.outputs[0]);
        for (int64_t column = 0; column < 6; column++) {
            int64_t outer = column / 3, inner = column % 3;
            for (int64_t n = 0; n < k; n++) {
                int64_t at = (outer * k + n) * 3 + inner, index = tensor_get_integer(run.outputs[1], at), before = 0;
                float v = x[(outer * 9 + index) * 3 + inner];
                for (int64_t i = 0; i < 9; i++) {
                    float other = x[(outer * 9 + i) * 3 + inner];
                    before += (smallest ? other < v : other > v) || (other == v && i < index);
                }
                CHECK(values[at] == v && before == n, "round %d: place %lld holds index %lld of rank %lld", round, (long long)n,
                      (long long)index, (long long)before);
            }
        }
        operator_close(&run);
    }
}

/* Promise: CumSum adds up in either direction, with or without the element itself. */
TEST(cum_sum_directions)
{
    static const int64_t wanted[4][3] = {{1, 3, 6}, {0, 1, 3}, {6, 5, 3}, {5, 3, 0}};
    for (int form = 0; form < 4; form++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, "CumSum", 1), "no row");
        operator_input(&run, integer_tensor(1, 2, 3), false);
        operator_constant(&run, tensor_scalar(DTYPE_INT64, 0, &run.error));
        node_set_integer(run.graph, run.node, "exclusive", form & 1);
        node_set_integer(run.graph, run.node, "reverse", form >> 1);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        for (int i = 0; i < 3; i++)
            CHECK(tensor_get_integer(run.outputs[0], i) == wanted[form][i], "form %d element %d", form, i);
        operator_close(&run);
    }
}
