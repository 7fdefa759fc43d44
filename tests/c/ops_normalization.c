/* Softmax and the normalizations against loops in float64. */
#include <math.h>
#include <string.h>

#include "run_operator.h"

typedef struct Group {
    int64_t outer, length, inner; /* the tensor [3, 4, 5, 70] seen along what is normalized together */
} Group;

static const int64_t dims[4] = {3, 4, 5, 70};

static void check_softmax(const char *type, int64_t axis, bool exact, int opset, Group group)
{
    Random random;
    random_seed(&random, 17);
    OperatorRun run;
    if (!operator_open(&run, type, 1)) return;
    operator_input(&run, test_random(&random, 4, dims), false);
    if (axis != 99) node_set_integer(run.graph, run.node, "axis", axis);
    run.node->opset = opset;
    run.exact = exact;
    CHECK(operator_run(&run), "%s", run.error.what);
    for (int64_t line = 0; run.outputs[0] && line < group.outer * group.inner; line++) {
        int64_t at = line / group.inner * group.length * group.inner + line % group.inner;
        const float *x = tensor_floats(run.inputs[0]) + at, *y = tensor_floats(run.outputs[0]) + at;
        double sum = 0;
        for (int64_t i = 0; i < group.length; i++)
            sum += exp(x[i * group.inner]);
        for (int64_t i = 0; i < group.length; i++) {
            double wanted = exp(x[i * group.inner]) / sum;
            if (strcmp(type, "LogSoftmax") == 0) wanted = log(wanted);
            CHECK(test_close(y[i * group.inner], wanted, 1e-6), "%s axis %lld: %g, wanted %g", type, (long long)axis,
                  (double)y[i * group.inner], wanted);
        }
    }
    operator_close(&run);
}

/* Promise: Softmax and LogSoftmax normalize along the axis, on the last one and across strides; by default along the last. */
TEST(softmax_equals_its_definition)
{
    const Group last = {60, 70, 1}, channels = {3, 4, 350}, rows = {12, 5, 70};
    const char *types[2] = {"Softmax", "LogSoftmax"};
    for (int i = 0; i < 2; i++) {
        check_softmax(types[i], -1, true, 13, last);
        check_softmax(types[i], 99, true, 13, last);
        check_softmax(types[i], 1, true, 13, channels);
        check_softmax(types[i], -2, true, 18, rows);
        check_softmax(types[i], 2, false, 18, rows);
    }
}

/* Promise: before opset 13 the axis means "flatten from here", by default from axis 1; the reference takes it as one axis. */
TEST(softmax_of_old_opsets_flattens)
{
    check_softmax("Softmax", 1, true, 11, (Group){3, 1400, 1});
    check_softmax("Softmax", 99, true, 11, (Group){3, 1400, 1});
    check_softmax("Softmax", 2, true, 11, (Group){12, 350, 1});
    check_softmax("Softmax", 99, false, 11, (Group){3, 4, 350});
}

/* Promise: large inputs do not overflow, and a row of -inf but one is a certain answer. */
TEST(softmax_is_safe_with_large_inputs)
{
    OperatorRun run;
    if (!operator_open(&run, "Softmax", 1)) return;
    operator_input(&run, test_values(DIMS(2, 2), FLOATS(1000, 1000, -INFINITY, 5)), false);
    CHECK(operator_run(&run), "%s", run.error.what);
    static const float wanted[4] = {0.5f, 0.5f, 0, 1};
    CHECK(run.outputs[0] && memcmp(run.outputs[0]->data, wanted, sizeof wanted) == 0, "overflow");
    operator_close(&run);
}

/* Normalized over the last `behind` axes; scale of the given shape. */
static void check_layer(const char *type, int behind, int scale_rank, const int64_t *scale_dims, bool bias)
{
    bool centered = strcmp(type, "LayerNormalization") == 0;
    Random random;
    random_seed(&random, 19);
    OperatorRun run;
    if (!operator_open(&run, type, 1)) return;
    operator_input(&run, test_random(&random, 4, dims), false);
    operator_input(&run, test_random(&random, scale_rank, scale_dims), true);
    if (bias) operator_input(&run, test_random(&random, scale_rank, scale_dims), true);
    node_set_integer(run.graph, run.node, "axis", -behind);
    node_set_number(run.graph, run.node, "epsilon", 1e-3f);
    CHECK(operator_run(&run), "%s: %s", type, run.error.what);
    int64_t length = 1;
    for (int i = 4 - behind; i < 4; i++)
        length *= dims[i];
    for (int64_t row = 0; run.outputs[0] && row < 4200 / length; row++) {
        const float *x = tensor_floats(run.inputs[0]) + row * length, *y = tensor_floats(run.outputs[0]) + row * length;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < length; i++)
            mean += x[i] / (double)length;
        if (!centered) mean = 0;
        for (int64_t i = 0; i < length; i++)
            square += (x[i] - mean) * (x[i] - mean) / (double)length;
        for (int64_t i = 0; i < length; i++) {
            int64_t at = 0, rest = i; /* of scale: broadcast, right-aligned */
            int64_t step = 1;
            for (int k = 0; k < scale_rank; k++) {
                int64_t index = rest % dims[3 - k], own = scale_dims[scale_rank - 1 - k];
                rest /= dims[3 - k];
                at += own > 1 ? index * step : 0;
                step *= own;
            }
            double wanted = (x[i] - mean) / sqrt(square + (double)1e-3f) * tensor_floats(run.inputs[1])[at] +
                            (bias ? tensor_floats(run.inputs[2])[at] : 0);
            CHECK(test_close(y[i], wanted, 1e-6), "%s over %d axes: %g, wanted %g", type, behind, (double)y[i], wanted);
        }
    }
    operator_close(&run);
}

/* Promise: LayerNormalization and RMSNormalization work over any number of last axes, scale and bias broadcast. */
TEST(layer_normalization_equals_its_definition)
{
    check_layer("LayerNormalization", 1, DIMS(70), true);
    check_layer("LayerNormalization", 1, DIMS(70), false);
    check_layer("LayerNormalization", 2, DIMS(5, 70), true);
    check_layer("LayerNormalization", 2, DIMS(5, 1), true);
    check_layer("LayerNormalization", 3, DIMS(70), false);
    check_layer("LayerNormalization", 1, DIMS(1), true);
    check_layer("LayerNormalization", 2, DIMS(1, 1, 1, 70), true);
    check_layer("RMSNormalization", 1, DIMS(70), false);
    check_layer("RMSNormalization", 2, DIMS(5, 70), false);
}

/* Promise: a scale that does not fit the normalized axes is refused with both shapes. */
TEST(layer_normalization_refuses_a_wrong_scale)
{
    OperatorRun run;
    if (!operator_open(&run, "LayerNormalization", 1)) return;
    operator_input(&run, test_tensor(4, dims), false);
    operator_input(&run, test_tensor(DIMS(5)), true);
    CHECK(!operator_run(&run) && strstr(run.error.what, "[5]") && strstr(run.error.what, "[70]"), "%s", run.error.what);
    operator_close(&run);
}

/* Promise: BatchNormalization uses the given statistics, InstanceNormalization those of each sample's channel. */
TEST(channel_normalizations_equal_their_definition)
{
    Random random;
    random_seed(&random, 23);
    for (int batch = 0; batch < 2; batch++) {
        OperatorRun run;
        if (!operator_open(&run, batch ? "BatchNormalization" : "InstanceNormalization", 1)) return;
        operator_input(&run, test_random(&random, 4, dims), false);
        for (int i = 1; i < (batch ? 5 : 3); i++)
            operator_input(&run, test_random(&random, DIMS(4)), true);
        if (batch)
            for (int i = 0; i < 4; i++)
                tensor_floats(run.inputs[4])[i] = fabsf(tensor_floats(run.inputs[4])[i]);
        CHECK(operator_run(&run), "%s", run.error.what);
        for (int64_t row = 0; run.outputs[0] && row < 12; row++) {
            const float *x = tensor_floats(run.inputs[0]) + row * 350, *y = tensor_floats(run.outputs[0]) + row * 350;
            int64_t channel = row % 4;
            double mean = 0, square = 0;
            for (int i = 0; i < 350; i++)
                mean += x[i] / 350.0;
            for (int i = 0; i < 350; i++)
                square += (x[i] - mean) * (x[i] - mean) / 350;
            if (batch) {
                mean = tensor_floats(run.inputs[3])[channel];
                square = tensor_floats(run.inputs[4])[channel];
            }
            for (int i = 0; i < 350; i++) {
                double wanted =
                    (x[i] - mean) / sqrt(square + 1e-5) * tensor_floats(run.inputs[1])[channel] + tensor_floats(run.inputs[2])[channel];
                CHECK(test_close(y[i], wanted, 2e-6), "%s: %g, wanted %g", run.node->type, (double)y[i], wanted);
            }
        }
        operator_close(&run);
    }
}

/* Promise: LpNormalization divides by the 1- or 2-norm along any axis; zeros stay zeros. */
TEST(lp_normalization_equals_its_definition)
{
    Random random;
    random_seed(&random, 29);
    for (int p = 1; p <= 2; p++) {
        OperatorRun run;
        if (!operator_open(&run, "LpNormalization", 1)) return;
        operator_input(&run, test_random(&random, 4, dims), false);
        for (int i = 0; i < 4; i++)
            tensor_floats(run.inputs[0])[i * 350] = 0; /* line 0 along axis 1 */
        node_set_integer(run.graph, run.node, "axis", 1);
        node_set_integer(run.graph, run.node, "p", p);
        CHECK(operator_run(&run), "%s", run.error.what);
        for (int64_t line = 0; run.outputs[0] && line < 3 * 350; line++) {
            int64_t at = line / 350 * 1400 + line % 350;
            double norm = 0;
            for (int i = 0; i < 4; i++) {
                double value = tensor_floats(run.inputs[0])[at + i * 350];
                norm += p == 1 ? fabs(value) : value * value;
            }
            if (p == 2) norm = sqrt(norm);
            for (int i = 0; i < 4; i++) {
                double wanted = norm == 0 ? 0 : tensor_floats(run.inputs[0])[at + i * 350] / norm;
                CHECK(test_close(tensor_floats(run.outputs[0])[at + i * 350], wanted, 1e-6), "p %d", p);
            }
        }
        operator_close(&run);
    }
}
