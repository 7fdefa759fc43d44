/* The optimizations of src/optim on small graphs: what a network computes in float stays as it is, and what they promise comes true. */
#include "check.h"
#include "exec_graphs.h"
#include "text_graph.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"
#include "optim/optim.h"
#include "quant/quantize.h"

typedef bool (*Run)(Graph *graph, PassContext *context, Error *error);

/* Positive numbers, so that rounding weights shifts the mean of what is computed from them. */
static Tensor *batch(int number, int64_t samples)
{
    Tensor *tensor = random_tensor(&(Shape){4, {samples, 2, 6, 6}}, 100 + (uint64_t)number);
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = fabsf(tensor_floats(tensor)[i]);
    return tensor;
}

typedef struct Bench {
    Graph *graph, *before;
    Setting *setting;
    PassContext context;
    TestBatches data;
    Error error;
    bool ok;
} Bench;

static const int64_t sizes[] = {1, 1, 1, 1};

static void bench_begin(Bench *bench, const char *text)
{
    memset(bench, 0, sizeof *bench);
    progress_level = 0;
    test_batches(&bench->data, sizes, 4, batch);
    bench->graph = text_graph(text);
    bench->setting = setting_new(SETTING_ESPDL, &bench->error);
    bench->ok = bench->graph && bench->setting && graph_infer(bench->graph, &bench->error);
    bench->before = bench->ok ? graph_copy(bench->graph, &bench->error) : NULL;
    bench->ok = bench->before != NULL;
    bench->context = (PassContext){.setting = bench->setting, .target = target_find("esp32s3"), .bits = 8, .batches = &bench->data.batches};
}

static void bench_end(Bench *bench)
{
    graph_free(bench->graph);
    graph_free(bench->before);
    setting_free(bench->setting);
}

static void bench_set(Bench *bench, const char *path, const char *value)
{
    bench->ok = bench->ok && setting_set(bench->setting, path, value, &bench->error);
}

static bool bench_run(Bench *bench, Run run)
{
    bench->ok = bench->ok && run(bench->graph, &bench->context, &bench->error) && graph_check(bench->graph, &bench->error);
    return bench->ok;
}

/* The largest difference of the outputs in float, as a share of the largest output. */
static double float_difference(const Bench *bench)
{
    Tensor *before[8] = {0}, *after[8] = {0};
    double worst = INFINITY;
    if (text_run(bench->before, before) && text_run(bench->graph, after)) {
        double largest = 0;
        worst = 0;
        for (int i = 0; i < bench->graph->output_count; i++) {
            for (int64_t k = 0; k < tensor_count(before[i]); k++) {
                worst = fmax(worst, fabs((double)tensor_floats(before[i])[k] - (double)tensor_floats(after[i])[k]));
                largest = fmax(largest, fabs((double)tensor_floats(before[i])[k]));
            }
        }
        worst /= largest;
    }
    for (int i = 0; i < 8; i++) {
        tensor_release(before[i]);
        tensor_release(after[i]);
    }
    return worst;
}

static bool weights_changed(const Bench *bench, const char *name)
{
    return !tensor_equal(graph_value(bench->graph, name)->constant, graph_value(bench->before, name)->constant);
}

static float largest(const Value *value)
{
    float most = 0;
    for (int64_t i = 0; i < tensor_count(value->constant); i++)
        most = fmaxf(most, fabsf(tensor_floats(value->constant)[i]));
    return most;
}

/* Names of the constants are w, b …: text_graph calls a constant by what stands behind #. */
#define CHAIN                                                                                                                              \
    "x[1,2,6,6]; a = Conv:first(x, #w[4,2,3,3], #b[4]) pads=[1,1,1,1]; r = Relu(a); "                                                      \
    "p = MaxPool(r) kernel_shape=[2,2] strides=[2,2]; d = Conv:depth(p, #u[4,1,3,3], #c[4]) group=4 pads=[1,1,1,1]; "                      \
    "q = PRelu(d, #slope[4,1,1]); y = Conv:last(q, #v[3,4,1,1], #e[3]); > y"

/* Promise: equalization changes weights and leaves the network's function as it is. */
TEST(optim_equalization_keeps_the_function)
{
    static const char *const levels[] = {"1", "2"}, *const activations[] = {"false", "true"};
    for (int level = 0; level < 2; level++) {
        for (int k = 0; k < 2; k++) {
            Bench bench;
            bench_begin(&bench, CHAIN);
            bench_set(&bench, "equalization_setting.opt_level", levels[level]);
            bench_set(&bench, "equalization_setting.including_act", activations[k]);
            bench_set(&bench, "equalization_setting.including_bias", activations[k]);
            CHECK(bench_run(&bench, pass_equalization), "%s", bench.error.what);
            CHECK(weights_changed(&bench, "w") && weights_changed(&bench, "u") && weights_changed(&bench, "v"), "nothing was done");
            double difference = float_difference(&bench);
            CHECK(difference < 1e-5, "the outputs differ by %g", difference);
            CHECK(bench.graph->notes.data && strstr(bench.graph->notes.data, "2 pairs"), "no note: %s", bench.graph->notes.data);
            bench_end(&bench);
        }
    }
}

/* Promise: groups, transposed convolutions and dense layers keep the function too, whichever order of a group's channels is looked at. */
TEST(optim_equalization_of_all_kinds_of_layers)
{
    static const char *const orders[] = {"false", "true"};
    for (int i = 0; i < 2; i++) {
        Bench bench;
        bench_begin(&bench, "x[1,2,6,6]; a = Conv:one(x, #w[6,2,1,1], #b[6]); r = Relu(a); c = Conv:two(r, #u[6,2,3,3], #k[6]) group=3; "
                            "s = LeakyRelu(c); t = ConvTranspose:three(s, #v[6,2,2,2], #e[4]) group=2; q = Relu(t); "
                            "d = Conv:four(q, #m[2,4,1,1]); f = Flatten(d); g = Gemm:five(f, #n[50,5], #o[5]); h = Relu(g); "
                            "y = Gemm:six(h, #p[3,5]) transB=1; > y");
        bench_set(&bench, "switches.equalize_group_order", orders[i]);
        REQUIRE(bench_run(&bench, pass_equalization), "%s", bench.error.what);
        CHECK(bench.graph->notes.data && strstr(bench.graph->notes.data, "4 pairs"), "%s", bench.graph->notes.data);
        CHECK(float_difference(&bench) < 1e-5, "the outputs differ by %g", float_difference(&bench));
        bench_end(&bench);
    }
}

/* Promise: across an Add all layers that meet are scaled together, so that the sum stays right. */
TEST(optim_equalization_across_add)
{
    Bench bench;
    bench_begin(&bench, "x[1,2,6,6]; a = Conv:one(x, #w[4,2,1,1], #b[4]); c = Conv:two(x, #u[4,2,1,1]); s = Add(a, c); r = Relu(s); "
                        "y = Conv:three(r, #v[3,4,1,1]); z = Conv:four(s, #t[2,4,1,1]); > y, z");
    bench_set(&bench, "equalization_setting.opt_level", "2");
    CHECK(bench_run(&bench, pass_equalization), "%s", bench.error.what);
    CHECK(weights_changed(&bench, "w") && weights_changed(&bench, "u") && weights_changed(&bench, "v") && weights_changed(&bench, "t"),
          "a layer was left out");
    CHECK(float_difference(&bench) < 1e-5, "the outputs differ by %g", float_difference(&bench));
    bench_end(&bench);
}

/* Promise: what cannot be scaled without changing the function is left alone (OPTIM O1 to O3): a constant or the input in the sum, a
 * tensor in between that is an output, another reader. */
TEST(optim_equalization_refuses_what_would_change_the_function)
{
    static const char *const texts[] = {
        "x[1,2,6,6]; a = Conv:one(x, #w[4,2,1,1]); s = Add(a, #k[4,1,1]); y = Conv:two(s, #v[3,4,1,1]); > y",
        "x[1,2,6,6]; a = Conv:one(x, #w[2,2,1,1]); s = Add(a, x); y = Conv:two(s, #v[3,2,1,1]); > y",
        "x[1,2,6,6]; a = Conv:one(x, #w[4,2,1,1]); r = Relu(a); y = Conv:two(r, #v[3,4,1,1]); > y, r",
        "x[1,2,6,6]; a = Conv:one(x, #w[4,2,1,1]); c = Conv:other(x, #u[4,2,1,1]); s = Add(a, c); y = Conv:two(s, #v[3,4,1,1]); "
        "g = Sigmoid(c); > y, g",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        Bench bench;
        bench_begin(&bench, texts[i]);
        bench_set(&bench, "equalization_setting.opt_level", "2");
        CHECK(bench_run(&bench, pass_equalization), "%s", bench.error.what);
        CHECK(!weights_changed(&bench, "w") && !weights_changed(&bench, "v"), "graph %zu was changed", i);
        bench_end(&bench);
    }
}

/* Promise: channels split in two give the same outputs with more channels, PRelu's slopes too, and smaller weights. */
TEST(optim_channel_split_keeps_the_function)
{
    Bench bench;
    bench_begin(&bench,
                "x[1,2,6,6]; a = Conv:first(x, #w[4,2,3,3], #b[4]); q = PRelu(a, #slope[4,1,1]); y = Conv:last(q, #v[3,4,2,2], #e[3]); "
                "> y");
    bench_set(&bench, "channel_split_setting.value_threshold", "0.9");
    bench_set(&bench, "channel_split_setting.iterations", "2");
    CHECK(bench_run(&bench, pass_channel_split), "%s", bench.error.what);
    int64_t channels = graph_value(bench.graph, "w")->shape.dims[0];
    CHECK(channels > 4 && graph_value(bench.graph, "b")->shape.dims[0] == channels &&
              graph_value(bench.graph, "slope")->shape.dims[0] == channels && graph_value(bench.graph, "v")->shape.dims[1] == channels,
          "channels are %lld", (long long)channels);
    CHECK(largest(graph_value(bench.graph, "v")) < largest(graph_value(bench.before, "v")), "no weight became smaller");
    CHECK(float_difference(&bench) < 1e-5, "the outputs differ by %g", float_difference(&bench));
    bench_end(&bench);
}

/* Promise: a layer split in two adds up to itself for all kinds of layers; the new nodes have the reference's names, and the random shares
 * are the same every time. */
TEST(optim_weight_split_keeps_the_function)
{
    static const char *const methods[] = {"balance", "random"};
    for (int i = 0; i < 2; i++) {
        Bench bench, again;
        Bench *both[] = {&bench, &again};
        for (int k = 0; k < 2; k++) {
            bench_begin(both[k], "x[1,2,6,6]; a = Conv:one(x, #w[4,2,3,3], #b[4]); c = ConvTranspose:two(a, #u[4,2,2,2]); f = Flatten(c); "
                                 "g = Gemm:three(f, #v[50,5], #e[5]); y = MatMul:four(g, #m[5,3]); > y");
            bench_set(both[k], "weight_split_setting.method", methods[i]);
            bench_set(both[k], "weight_split_setting.value_threshold", "0.8");
            bench_set(both[k], "weight_split_setting.interested_layers", "[\"one\", \"two\", \"three\", \"four\"]");
            CHECK(bench_run(both[k], pass_weight_split), "%s", both[k]->error.what);
        }
        CHECK(bench.graph->node_count == bench.before->node_count + 8, "%d nodes", bench.graph->node_count);
        const Node *copy = graph_node(bench.graph, "PPQ_Operation_0"), *sum = graph_node(bench.graph, "PPQ_Operation_1");
        CHECK(copy && strcmp(copy->type, "Conv") == 0 && copy->input_count == 2, "the copy is missing, or has a bias");
        CHECK(sum && strcmp(sum->type, "Add") == 0 && strcmp(sum->outputs[0]->name, "a") == 0, "the sum is missing");
        CHECK(float_difference(&bench) < 1e-5, "the outputs differ by %g", float_difference(&bench));
        if (copy) {
            const Node *other = graph_node(again.graph, "PPQ_Operation_0");
            CHECK(tensor_equal(copy->inputs[1]->constant, other->inputs[1]->constant), "the shares differ from run to run");
        }
        bench_end(&bench);
        bench_end(&again);
    }
}

/* Promise: with the switch, the threshold of weight split is a share of each channel's largest weight: every channel is halved, the small
 * ones too, and the sum is what it was (O21). */
TEST(optim_weight_split_by_channel)
{
    for (int i = 0; i < 2; i++) {
        Bench bench;
        bench_begin(&bench, "x[1,2,6,6]; a = Conv:one(x, #w[4,2,3,3], #b[4]); f = Flatten(a); y = Gemm:two(f, #v[64,3], #e[3]); > y");
        REQUIRE(bench.ok, "%s", bench.error.what);
        float *weight = tensor_floats(graph_value(bench.graph, "w")->constant);
        for (int k = 0; k < 72; k++)
            weight[k] = (float)(k % 18 + 1) / 18 * (k < 18 ? 0.01f : 1.0f);
        bench_set(&bench, "switches.weight_split_relative", i ? "true" : "false");
        bench_set(&bench, "weight_split_setting.value_threshold", "0.5");
        bench_set(&bench, "weight_split_setting.interested_layers", "[\"one\", \"two\"]");
        CHECK(bench_run(&bench, pass_weight_split), "%s", bench.error.what);
        const Node *copy = graph_node(bench.graph, "PPQ_Operation_0");
        const float *rest = tensor_floats(graph_node(bench.graph, "one")->inputs[1]->constant);
        REQUIRE(copy, "nothing was split");
        CHECK((rest[17] < 0.006f) == (i == 1) && rest[35] == 0.5f, "channel 0 reaches %g, channel 1 %g", (double)rest[17],
              (double)rest[35]);
        CHECK(rest[0] == 0.01f / 18 && rest[17] + tensor_floats(copy->inputs[1]->constant)[17] == 0.01f, "the sum is another");
        bench_end(&bench);
    }
}

/* Promise: a layer that does not exist is an error that names the nearest, in every pass; a layer that cannot be split is one too. */
TEST(optim_unknown_layers_are_errors)
{
    static const struct {
        Run run;
        const char *path;
    } rows[] = {{pass_equalization, "equalization_setting.interested_layers"},
                {pass_channel_split, "channel_split_setting.interested_layers"},
                {pass_weight_split, "weight_split_setting.interested_layers"},
                {pass_bias_correct, "bias_correct_setting.interested_layers"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Bench bench;
        bench_begin(&bench, CHAIN);
        bench_set(&bench, rows[i].path, "[\"frist\"]");
        CHECK(!bench_run(&bench, rows[i].run), "%s: an unknown layer was accepted", rows[i].path);
        CHECK(strstr(bench.error.what, "'first'") && strstr(bench.error.what, rows[i].path), "%s", bench.error.what);
        bench_end(&bench);
    }
    Bench bench;
    bench_begin(&bench, CHAIN);
    bench_set(&bench, "weight_split_setting.interested_layers", "[\"Relu_r\"]");
    graph_rename_node(bench.graph, graph_value(bench.graph, "r")->producer, "Relu_r", &bench.error);
    CHECK(!bench_run(&bench, pass_weight_split) && strstr(bench.error.what, "only Conv"), "%s", bench.error.what);
    bench_end(&bench);
}

static bool quantize(Bench *bench)
{
    bench_set(bench, "quantize_activation_setting.calib_algorithm", "minmax");
    for (const Pass *pass = quantization_passes; bench->ok && pass->name; pass++)
        if (!pass->when || pass->when(bench->setting)) bench_run(bench, pass->run);
    return bench->ok;
}

/* Mean over the data of what the simulation gives minus what float gives: the largest of any channel of the first output. */
static double mean_error(Graph *graph)
{
    double errors[16] = {0}, worst = 0;
    int64_t channels = 0;
    for (int i = 0; i < 4; i++) {
        Tensor *x = batch(i, 1), *floating = run_net(graph, EXEC_FLOAT, x), *simulated = run_net(graph, EXEC_SIMULATED, x);
        channels = floating->shape.dims[1];
        int64_t inner = tensor_count(floating) / channels;
        for (int64_t k = 0; k < tensor_count(floating); k++)
            errors[k / inner] += ((double)tensor_floats(simulated)[k] - (double)tensor_floats(floating)[k]) / (double)inner / 4;
        tensor_release(x);
        tensor_release(floating);
        tensor_release(simulated);
    }
    for (int64_t c = 0; c < channels; c++)
        worst = fmax(worst, fabs(errors[c]));
    return worst;
}

/* Promise: bias correction takes the mean error out of a layer's output, float runs still see the bias as it was, and a second correction
 * does not make it worse. */
TEST(optim_bias_correction_takes_the_mean_error_out)
{
    Bench bench;
    bench_begin(&bench, "x[1,2,6,6]; y = Conv:only(x, #w[4,2,3,3], #b[4]); > y");
    if (bench.ok) { /* nearly all weights are smaller than half a step and become zero */
        Tensor *weight = graph_value(bench.graph, "w")->constant;
        for (int64_t i = 0; i < tensor_count(weight); i++)
            tensor_floats(weight)[i] = i ? 0.006f : 1.9f;
    }
    REQUIRE(quantize(&bench), "%s", bench.error.what);
    double before = mean_error(bench.graph);
    CHECK(bench_run(&bench, pass_bias_correct), "%s", bench.error.what);
    double after = mean_error(bench.graph);
    CHECK(weights_changed(&bench, "b"), "the bias is as it was: %s", bench.graph->notes.data);
    CHECK(after < before / 3, "mean error %g became %g", before, after);
    CHECK(float_difference(&bench) == 0, "float runs see the corrected bias");
    CHECK(bench_run(&bench, pass_bias_correct) && mean_error(bench.graph) <= after * 1.01, "the second time %g", mean_error(bench.graph));
    CHECK(float_difference(&bench) == 0, "float runs see the corrected bias after the second time");
    bench_end(&bench);
}

/* Promise: block_batches limits the data that bias correction looks at to the first batches: the others may be anything. */
TEST(optim_bias_correction_looks_at_as_many_batches_as_it_may)
{
    Tensor *biases[3];
    for (int i = 0; i < 3; i++) { /* 2 of 4 batches, 2 batches, 4 batches */
        static const char *const limits[] = {"2", "0", "0"};
        Bench bench;
        bench_begin(&bench, "x[1,2,6,6]; y = Conv:only(x, #w[4,2,3,3], #b[4]); > y");
        REQUIRE(quantize(&bench), "%s", bench.error.what);
        bench_set(&bench, "block_batches", limits[i]);
        if (i == 1) test_batches(&bench.data, sizes, 2, batch); /* context.batches points there */
        CHECK(bench_run(&bench, pass_bias_correct), "%s", bench.error.what);
        biases[i] = tensor_retain(graph_value(bench.graph, "b")->constant);
        bench_set(&bench, "block_batches", "-1");
        CHECK(!bench_run(&bench, pass_bias_correct), "-1 batches were accepted");
        bench_end(&bench);
    }
    CHECK(tensor_equal(biases[0], biases[1]), "the limit gives other biases than as many batches");
    CHECK(!tensor_equal(biases[0], biases[2]), "the limit has no effect");
    for (int i = 0; i < 3; i++)
        tensor_release(biases[i]);
}

/* Promise: SSD equalization leaves float outputs as they are and all slots waiting, whether a rule was kept or not. */
TEST(optim_ssd_equalization_keeps_the_function)
{
    Bench bench;
    bench_begin(&bench, CHAIN);
    if (bench.ok) { /* channels that reach unequally far: there is something to gain */
        Tensor *weight = graph_value(bench.graph, "w")->constant;
        for (int64_t i = 0; i < tensor_count(weight); i++)
            tensor_floats(weight)[i] *= 1.0f + 4 * (float)(i / 18);
        graph_free(bench.before);
        bench.before = graph_copy(bench.graph, &bench.error);
    }
    for (const Pass *pass = quantization_passes; bench.ok && pass->name; pass++) {
        bench_run(&bench, pass->run);
        if (strcmp(pass->name, "slots") == 0) break;
    }
    CHECK(bench_run(&bench, pass_ssd_equalization), "%s", bench.error.what);
    CHECK(weights_changed(&bench, "w"), "no rule was kept: %s", bench.graph->notes.data);
    CHECK(float_difference(&bench) < 1e-5, "the outputs differ by %g", float_difference(&bench));
    for (int i = 0; bench.ok && i < bench.graph->node_count; i++) {
        const Node *node = bench.graph->nodes[i];
        for (int k = 0; k < node->input_count; k++)
            CHECK(node->input_slots[k]->exponent_count == 0 && node->input_slots[k]->state != SLOT_ACTIVATED, "%s has an exponent left",
                  node->name);
    }
    bench_set(&bench, "ssd_setting.opt_level", "2");
    CHECK(!bench_run(&bench, pass_ssd_equalization) && strstr(bench.error.what, "level 1"), "level 2: %s", bench.error.what);
    bench_end(&bench);
}
