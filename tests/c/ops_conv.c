/* Conv, ConvTranspose, InsertZeros against loops in float64. */
#include <math.h>
#include <string.h>

#include "run_operator.h"

typedef struct ConvCase {
    int spatial;
    int64_t batch, group, in, out; /* channels a group */
    int64_t size[2], kernel[2], stride[2], dilation[2], pads[4];
    bool bias, constant, wide;
} ConvCase;

static double element(const Tensor *tensor, const int64_t *at)
{
    int64_t flat = 0;
    for (int i = 0; i < tensor->shape.rank; i++) {
        if (at[i] < 0 || at[i] >= tensor->shape.dims[i]) return 0;
        flat = flat * tensor->shape.dims[i] + at[i];
    }
    return tensor_floats(tensor)[flat];
}

static void check_conv(Random *random, const ConvCase *c)
{
    OperatorRun run;
    if (!operator_open(&run, "Conv", 1)) return;
    int s = c->spatial;
    int64_t x_dims[4] = {c->batch, c->group * c->in, c->size[0], c->size[1]},
            w_dims[4] = {c->group * c->out, c->in, c->kernel[0], c->kernel[1]};
    operator_input(&run, test_random(random, 2 + s, x_dims), false);
    operator_input(&run, test_random(random, 2 + s, w_dims), c->constant);
    if (c->bias) operator_input(&run, test_random(random, 1, w_dims), true);
    int64_t pads[4];
    for (int i = 0; i < s; i++) {
        pads[i] = c->pads[i];
        pads[i + s] = c->pads[i + 2];
    }
    node_set_integer(run.graph, run.node, "group", c->group);
    node_set_integers(run.graph, run.node, "strides", c->stride, s);
    node_set_integers(run.graph, run.node, "dilations", c->dilation, s);
    node_set_integers(run.graph, run.node, "pads", pads, 2 * s);
    run.wide = c->wide;
    CHECK(operator_run(&run), "conv: %s", run.error.what);
    const Tensor *y = run.outputs[0], *x = run.inputs[0], *w = run.inputs[1];
    for (int64_t flat = 0; y && flat < tensor_count(y); flat++) {
        int64_t at[4], rest = flat;
        for (int i = s + 1; i >= 0; i--) {
            at[i] = rest % y->shape.dims[i];
            rest /= y->shape.dims[i];
        }
        double sum = c->bias ? tensor_floats(run.inputs[2])[at[1]] : 0;
        for (int64_t ic = 0; ic < c->in; ic++) {
            for (int64_t ky = 0; ky < (s == 2 ? c->kernel[1] : 1); ky++) {
                for (int64_t kx = 0; kx < c->kernel[0]; kx++) {
                    int64_t from[4] = {at[0], at[1] / c->out * c->in + ic, at[2] * c->stride[0] - c->pads[0] + kx * c->dilation[0],
                                       s == 2 ? at[3] * c->stride[1] - c->pads[1] + ky * c->dilation[1] : 0};
                    int64_t weight[4] = {at[1], ic, kx, ky};
                    sum += element(x, from) * element(w, weight);
                }
            }
        }
        CHECK(test_close(tensor_floats(y)[flat], sum, 2e-5), "conv element %lld: %g, wanted %g", (long long)flat,
              (double)tensor_floats(y)[flat], sum);
    }
    operator_close(&run);
}

/* Promise: convolutions of any shape, 1-D and 2-D, with constant and run-time weights, equal the definition. */
TEST(conv_equals_its_definition)
{
    Random random;
    random_seed(&random, 7);
    for (int i = 0; i < 120; i++) {
        ConvCase c = {.spatial = 1 + (int)(random_next(&random) % 2),
                      .batch = 1 + random_next(&random) % 3,
                      .group = 1 + random_next(&random) % 3,
                      .in = 1 + random_next(&random) % 5,
                      .out = 1 + random_next(&random) % 5};
        for (int k = 0; k < 2; k++) {
            c.kernel[k] = 1 + random_next(&random) % 4;
            c.stride[k] = 1 + random_next(&random) % 3;
            c.dilation[k] = 1 + random_next(&random) % 2;
            c.size[k] = (c.kernel[k] - 1) * c.dilation[k] + 1 + random_next(&random) % 8;
            c.pads[k] = random_next(&random) % 3;
            c.pads[k + 2] = random_next(&random) % 3;
        }
        if (i % 10 == 0) { /* cut off before, as a decomposed ConvTranspose asks for */
            c.pads[0] = -1;
            c.pads[3] = -1;
            c.size[0] += 2;
            c.size[1] += 2;
        }
        c.bias = random_next(&random) % 2;
        c.constant = random_next(&random) % 2;
        c.wide = i % 7 == 0;
        check_conv(&random, &c);
    }
}

static bool padded_conv(OperatorRun *run, const char *auto_pad, int64_t size, int64_t kernel, int64_t stride)
{
    if (!operator_open(run, "Conv", 1)) return false;
    operator_input(run, test_tensor(DIMS(1, 1, size)), false);
    operator_input(run, test_tensor(DIMS(1, 1, kernel)), true);
    node_set_string(run->graph, run->node, "auto_pad", auto_pad);
    node_set_integers(run->graph, run->node, "strides", &stride, 1);
    return operator_run(run);
}

/* Promise: SAME_UPPER puts the odd zero behind, SAME_LOWER before, also over one axis, and both become explicit pads. */
TEST(conv_auto_pad_becomes_pads)
{
    static const struct {
        const char *auto_pad;
        int64_t size, kernel, stride, begin, end, out;
    } rows[] = {{"SAME_UPPER", 8, 4, 1, 1, 2, 8}, {"SAME_LOWER", 8, 4, 1, 2, 1, 8}, {"SAME_UPPER", 7, 3, 2, 1, 1, 4},
                {"SAME_UPPER", 8, 3, 2, 0, 1, 4}, {"SAME_LOWER", 8, 3, 2, 1, 0, 4}, {"SAME_UPPER", 8, 1, 2, 0, 0, 4},
                {"VALID", 8, 3, 2, 0, 0, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OperatorRun run;
        int64_t pads[2] = {-1, -1};
        CHECK(padded_conv(&run, rows[i].auto_pad, rows[i].size, rows[i].kernel, rows[i].stride), "row %zu: %s", i, run.error.what);
        if (run.outputs[0])
            CHECK(run.outputs[0]->shape.dims[2] == rows[i].out, "row %zu: %lld outputs", i, (long long)run.outputs[0]->shape.dims[2]);
        CHECK(node_integers(run.node, "pads", pads, 2) == 2 && pads[0] == rows[i].begin && pads[1] == rows[i].end,
              "row %zu: pads %lld %lld", i, (long long)pads[0], (long long)pads[1]);
        CHECK((node_attribute(run.node, "auto_pad") != NULL) == (strcmp(rows[i].auto_pad, "VALID") == 0), "row %zu: auto_pad", i);
        operator_close(&run);
    }
}

/* Promise: what does not fit is refused with the node, its shapes and the attribute. */
TEST(conv_refuses_what_does_not_fit)
{
    OperatorRun run;
    if (!operator_open(&run, "Conv", 1)) return;
    operator_input(&run, test_tensor(DIMS(1, 3, 8, 8)), false);
    operator_input(&run, test_tensor(DIMS(4, 2, 3, 3)), true);
    CHECK(!operator_run(&run), "three channels through weights for two");
    CHECK(strstr(run.error.where, "the_node") && strstr(run.error.what, "[4, 2, 3, 3]") && strstr(run.error.what, "group") &&
              run.error.cure[0],
          "%s: %s", run.error.where, run.error.what);
    operator_close(&run);
    CHECK(!padded_conv(&run, "VALID", 2, 3, 1) && strstr(run.error.what, "does not fit"), "a window larger than the input: %s",
          run.error.what);
    operator_close(&run);
    if (!operator_open(&run, "Conv", 1)) return;
    operator_input(&run, test_tensor(DIMS(1, 1, 4, 4, 4)), false);
    operator_input(&run, test_tensor(DIMS(1, 1, 3, 3, 3)), true);
    CHECK(!operator_run(&run) && strstr(run.error.what, "3-D"), "3-D: %s", run.error.what);
    operator_close(&run);
}

/* Promise: ConvTranspose scatters each input element over the output, which is the definition. */
TEST(conv_transpose_equals_its_definition)
{
    Random random;
    random_seed(&random, 11);
    for (int i = 0; i < 60; i++) {
        int64_t group = 1 + random_next(&random) % 2, in = 1 + random_next(&random) % 3, out = 1 + random_next(&random) % 3,
                batch = 1 + random_next(&random) % 2;
        int64_t size[2], kernel[2], stride[2], dilation[2], pads[4], padding[2], wanted[2];
        for (int k = 0; k < 2; k++) {
            size[k] = 1 + random_next(&random) % 5;
            kernel[k] = 1 + random_next(&random) % 4;
            stride[k] = 1 + random_next(&random) % 3;
            dilation[k] = 1 + random_next(&random) % 2;
            padding[k] = stride[k] > 1 ? random_next(&random) % 2 : 0;
            pads[k] = pads[k + 2] = 0;
            wanted[k] = stride[k] * (size[k] - 1) + padding[k] + (kernel[k] - 1) * dilation[k] + 1;
            if (wanted[k] > 2) pads[k] = 1;
            wanted[k] -= pads[k];
        }
        OperatorRun run;
        if (!operator_open(&run, "ConvTranspose", 1)) return;
        operator_input(&run, test_random(&random, DIMS(batch, group * in, size[0], size[1])), false);
        operator_input(&run, test_random(&random, DIMS(group * in, out, kernel[0], kernel[1])), true);
        operator_input(&run, test_random(&random, DIMS(group * out)), true);
        node_set_integer(run.graph, run.node, "group", group);
        node_set_integers(run.graph, run.node, "strides", stride, 2);
        node_set_integers(run.graph, run.node, "dilations", dilation, 2);
        node_set_integers(run.graph, run.node, "pads", pads, 4);
        node_set_integers(run.graph, run.node, "output_padding", padding, 2);
        run.wide = i % 5 == 0;
        CHECK(operator_run(&run), "%s", run.error.what);
        const Tensor *y = run.outputs[0];
        REQUIRE(y && y->shape.dims[2] == wanted[0] && y->shape.dims[3] == wanted[1], "shape of case %d", i);
        static double sums[100000];
        for (int64_t k = 0; k < tensor_count(y); k++)
            sums[k] = tensor_floats(run.inputs[2])[k / (wanted[0] * wanted[1]) % (group * out)];
        const float *x = tensor_floats(run.inputs[0]), *w = tensor_floats(run.inputs[1]);
        for (int64_t n = 0; n < batch * group * in * size[0] * size[1]; n++) {
            int64_t column = n % size[1], row = n / size[1] % size[0], channel = n / (size[0] * size[1]) % (group * in),
                    image = n / (size[0] * size[1] * group * in);
            for (int64_t o = 0; o < out; o++) {
                for (int64_t ky = 0; ky < kernel[0]; ky++) {
                    for (int64_t kx = 0; kx < kernel[1]; kx++) {
                        int64_t oy = row * stride[0] + ky * dilation[0] - pads[0], ox = column * stride[1] + kx * dilation[1] - pads[1];
                        if (oy < 0 || ox < 0 || oy >= wanted[0] || ox >= wanted[1]) continue;
                        int64_t to = image * group * out + channel / in * out + o;
                        sums[(to * wanted[0] + oy) * wanted[1] + ox] +=
                            (double)x[n] * w[((channel * out + o) * kernel[0] + ky) * kernel[1] + kx];
                    }
                }
            }
        }
        for (int64_t k = 0; k < tensor_count(y); k++)
            CHECK(test_close(tensor_floats(y)[k], sums[k], 2e-5), "case %d element %lld: %g, wanted %g", i, (long long)k,
                  (double)tensor_floats(y)[k], sums[k]);
        operator_close(&run);
    }
}

/* Promise: output_shape and auto_pad become the pads and output_padding that give the same size, which the decomposition reads. */
TEST(conv_transpose_output_shape_becomes_pads)
{
    static const struct {
        const char *auto_pad;
        int64_t shape, pads[2], padding, out; /* shape 0: not given; input 5, kernel 3, stride 2: 11 without pads */
    } rows[] = {{NULL, 10, {1, 0}, 0, 10},        {NULL, 9, {1, 1}, 0, 9},          {NULL, 12, {0, 0}, 1, 12},
                {"SAME_UPPER", 0, {0, 1}, 0, 10}, {"SAME_LOWER", 0, {1, 0}, 0, 10}, {"SAME_UPPER", 10, {0, 1}, 0, 10}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OperatorRun run;
        int64_t pads[2] = {-1, -1}, padding = -1, stride = 2;
        if (!operator_open(&run, "ConvTranspose", 1)) return;
        operator_input(&run, test_tensor(DIMS(1, 1, 5)), false);
        operator_input(&run, test_tensor(DIMS(1, 1, 3)), true);
        node_set_integers(run.graph, run.node, "strides", &stride, 1);
        if (rows[i].auto_pad) node_set_string(run.graph, run.node, "auto_pad", rows[i].auto_pad);
        if (rows[i].shape) node_set_integers(run.graph, run.node, "output_shape", &rows[i].shape, 1);
        CHECK(operator_run(&run), "row %zu: %s", i, run.error.what);
        if (run.outputs[0])
            CHECK(run.outputs[0]->shape.dims[2] == rows[i].out, "row %zu: %lld", i, (long long)run.outputs[0]->shape.dims[2]);
        node_integers(run.node, "pads", pads, 2);
        node_integers(run.node, "output_padding", &padding, 1);
        CHECK(pads[0] == rows[i].pads[0] && pads[1] == rows[i].pads[1] && padding == rows[i].padding,
              "row %zu: pads %lld %lld, output_padding %lld", i, (long long)pads[0], (long long)pads[1], (long long)padding);
        CHECK(!node_attribute(run.node, "output_shape") && !node_attribute(run.node, "auto_pad"), "row %zu: attributes stay", i);
        operator_close(&run);
    }
}

/* Promise: InsertZeros puts stride - 1 zeros between elements and output_padding behind. */
TEST(insert_zeros_spreads)
{
    OperatorRun run;
    if (!operator_open(&run, "InsertZeros", 1)) return;
    operator_input(&run, test_values(DIMS(1, 1, 2, 2), FLOATS(1, 2, 3, 4)), false);
    node_set_integers(run.graph, run.node, "stride", INTS(2, 3));
    node_set_integers(run.graph, run.node, "output_padding", INTS(1, 0));
    CHECK(operator_run(&run), "%s", run.error.what);
    static const float wanted[16] = {1, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 4, 0, 0, 0, 0};
    CHECK(run.outputs[0] && tensor_count(run.outputs[0]) == 16 && memcmp(run.outputs[0]->data, wanted, sizeof wanted) == 0, "wrong places");
    operator_close(&run);
}
