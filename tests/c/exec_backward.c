/* The training walk: gradients of a whole small net against differences, fake quantization against its formulas, pieces, threads,
 * instruction sets, and memory that ends. */
#include "exec/backward.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "exec_graphs.h"
#include "kernel/float32.h"
#include "sweep.h"

#define PARAMETERS 6

typedef struct Trained {
    Graph *graph;
    BackwardParameter parameters[PARAMETERS];
    BackwardScale scales[4];
    BackwardOptions options;
    Backward *walk;
    Tensor *x, *gradient;
    const Tensor *y;
    Error error;
} Trained;

/* Every float constant of the net. */
static void list_parameters(Trained *trained)
{
    for (int i = 0; i < trained->graph->node_count; i++)
        for (int k = 0; k < trained->graph->nodes[i]->input_count; k++)
            if (backward_can_train(trained->graph->nodes[i], k) && trained->options.parameter_count < PARAMETERS)
                trained->parameters[trained->options.parameter_count++] = (BackwardParameter){.node = trained->graph->nodes[i], .index = k};
    trained->options.parameters = trained->parameters;
}

/* graph is taken over. */
static bool make_trained(Trained *trained, Graph *graph, int64_t batch)
{
    Shape shape = net_shape(batch);
    trained->graph = graph;
    trained->x = random_tensor(&shape, 9);
    if (!trained->options.parameters) list_parameters(trained);
    trained->walk = backward_new(graph, &trained->options, &shape, &trained->error);
    if (!trained->walk || !backward_forward(trained->walk, &trained->x, &trained->y, &trained->error)) return false;
    trained->gradient = random_tensor(&trained->y->shape, 10);
    return backward_back(trained->walk, &trained->gradient, &trained->error);
}

static void free_trained(Trained *trained)
{
    backward_free(trained->walk);
    tensor_release(trained->x);
    tensor_release(trained->gradient);
    graph_free(trained->graph);
}

static double loss(Trained *trained)
{
    double sum = 0;
    if (!backward_forward(trained->walk, &trained->x, &trained->y, &trained->error)) return NAN;
    for (int64_t i = 0; i < tensor_count(trained->y); i++)
        sum += (double)tensor_floats(trained->y)[i] * (double)tensor_floats(trained->gradient)[i];
    return sum;
}

static void compare(Trained *trained, const char *name, float *x, const float *gradient, int64_t count)
{
    const double step = 1.0 / 4096;
    for (int64_t i = 0; i < count; i += 1 + count / 20) {
        float kept = x[i], expected = gradient[i];
        x[i] = kept + (float)step;
        double above = loss(trained);
        x[i] = kept - (float)step;
        double slope = (above - loss(trained)) / (2 * step);
        x[i] = kept;
        CHECK(fabs(slope - (double)expected) <= 1e-2 * (1 + fabs(slope)), "%s[%d]: %g, differences say %g", name, (int)i, (double)expected,
              slope);
    }
}

/* Promise: a float walk gives the gradients of all weights, biases and inputs of a net with a branch, also of a batch that is walked at
 * once or piece by piece. */
TEST(backward_walk_gives_the_gradients_of_a_net)
{
    for (int kind = 0; kind < 4; kind++) {
        Trained trained = {.options = {.floating = true, .input_gradients = true}};
        bool made = make_trained(&trained, make_net(1, kind % 2), kind < 2 ? 1 : 3);
        CHECK(made, "%s", trained.error.what);
        if (made) {
            CHECK(trained.options.parameter_count == (kind % 2 ? 6 : 4), "%d parameters", trained.options.parameter_count);
            for (int i = 0; i < trained.options.parameter_count; i++)
                compare(&trained, trained.parameters[i].node->name, trained.parameters[i].values, trained.parameters[i].gradient,
                        trained.parameters[i].count);
            const Tensor *dx = backward_input_gradient(trained.walk, 0);
            CHECK(dx && tensor_count(dx) == tensor_count(trained.x), "input gradient");
            if (dx) compare(&trained, "x", tensor_floats(trained.x), tensor_floats(dx), tensor_count(dx));
        }
        free_trained(&trained);
    }
}

/* x [1,2,160,160] -> Conv -> Relu -> Conv of stride 2 -> (Conv of stride 5 -> Relu -> ConvTranspose of stride 5) -> Add with what went in
 * -> Conv. Of 10 samples the beginning and the Add are too large for the cache and go sample by sample, the rest does not. */
static Graph *make_large_net(void)
{
    Error error = {0};
    Graph *graph = graph_new("large", &error);
    make_parameter(graph, "wa", &(Shape){4, {4, 2, 3, 3}}, 1);
    make_parameter(graph, "wb", &(Shape){4, {6, 4, 3, 3}}, 2);
    make_parameter(graph, "wc", &(Shape){4, {6, 6, 5, 5}}, 3);
    make_parameter(graph, "we", &(Shape){4, {6, 6, 5, 5}}, 4);
    make_parameter(graph, "wd", &(Shape){4, {2, 6, 1, 1}}, 5);
    make_input(graph, "x", &(Shape){4, {1, 2, 160, 160}});
    Node *node = make_node(graph, "Conv", "a", "x wa", "va");
    node_set_integers(graph, node, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    make_node(graph, "Relu", "relu", "va", "vr");
    node = make_node(graph, "Conv", "b", "vr wb", "vb");
    node_set_integers(graph, node, "strides", (int64_t[]){2, 2}, 2);
    node_set_integers(graph, node, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    node = make_node(graph, "Conv", "c", "vb wc", "vc");
    node_set_integers(graph, node, "strides", (int64_t[]){5, 5}, 2);
    make_node(graph, "Relu", "small", "vc", "vs");
    node = make_node(graph, "ConvTranspose", "e", "vs we", "ve");
    node_set_integers(graph, node, "strides", (int64_t[]){5, 5}, 2);
    make_node(graph, "Add", "add", "ve vb", "vadd");
    make_node(graph, "Conv", "d", "vadd wd", "y");
    graph_add_output(graph, graph_value(graph, "y"), &error);
    CHECK(graph_infer(graph, &error), "%s", error.what);
    return graph;
}

static bool back_large(Backward *walk, Tensor *x, const Tensor **y, Error *error)
{
    if (!backward_forward(walk, &x, y, error)) return false;
    Tensor *gradient = tensor_new(DTYPE_FLOAT32, &y[0]->shape, error);
    int64_t count = gradient ? tensor_count(gradient) : 0, own = count / gradient->shape.dims[0];
    for (int64_t i = 0; i < count; i++)
        tensor_floats(gradient)[i] = (float)((i % own) % 13) / 13 - 0.4f;
    bool done = gradient && backward_back(walk, &gradient, error);
    tensor_release(gradient);
    return done;
}

/* Promise: a batch whose numbers are too large for the cache gives the outputs of its samples, and the sum of their gradients, whatever the
 * number of threads. */
TEST(backward_walk_of_a_large_batch_is_the_sum_of_its_samples)
{
    enum { SAMPLES = 10, WEIGHTS = 5 };
    Error error = {0};
    int threads = threads_count();
    Graph *graph = make_large_net();
    Shape one = {4, {1, 2, 160, 160}}, all = {4, {SAMPLES, 2, 160, 160}};
    BackwardParameter parameters[2][WEIGHTS];
    for (int i = 0, found = 0; i < graph->node_count; i++)
        if (backward_can_train(graph->nodes[i], 1))
            parameters[0][found] = parameters[1][found] = (BackwardParameter){.node = graph->nodes[i], .index = 1}, found++;
    BackwardOptions options = {.floating = true, .input_gradients = true, .parameter_count = WEIGHTS};
    options.parameters = parameters[0];
    Backward *single = backward_new(graph, &options, &one, &error);
    options.parameters = parameters[1];
    Backward *walk = backward_new(graph, &options, &all, &error);
    Tensor *x = random_tensor(&all, 7);
    const Tensor *y = NULL, *part = NULL;
    CHECK(single && walk && back_large(walk, x, &y, &error), "%s", error.what);
    double *sums[WEIGHTS];
    for (int i = 0; i < WEIGHTS; i++)
        sums[i] = memory_new_array((size_t)parameters[0][i].count, sizeof(double));
    for (int64_t k = 0; single && y && k < SAMPLES; k++) {
        Tensor *sample = tensor_from_data(DTYPE_FLOAT32, &one, x->data + k * (int64_t)tensor_bytes(x) / SAMPLES, &error);
        CHECK(back_large(single, sample, &part, &error), "%s", error.what);
        size_t bytes = tensor_bytes(part);
        CHECK(memcmp(part->data, y->data + (size_t)k * bytes, bytes) == 0, "output %d", (int)k);
        const Tensor *dx = backward_input_gradient(walk, 0), *own = backward_input_gradient(single, 0);
        CHECK(memcmp(own->data, dx->data + (size_t)k * tensor_bytes(own), tensor_bytes(own)) == 0, "input gradient %d", (int)k);
        for (int i = 0; i < WEIGHTS; i++)
            for (int64_t n = 0; n < parameters[0][i].count; n++)
                sums[i][n] += (double)parameters[0][i].gradient[n];
        tensor_release(sample);
    }
    for (int i = 0; i < WEIGHTS; i++)
        for (int64_t n = 0; n < parameters[1][i].count; n++)
            CHECK(fabs(sums[i][n] - (double)parameters[1][i].gradient[n]) <= 1e-3 * (1 + fabs(sums[i][n])), "weight %d: %g, %g", i,
                  sums[i][n], (double)parameters[1][i].gradient[n]);
    for (int count = 1; walk && count <= 3; count += 2) {
        float *kept = memory_new_array((size_t)parameters[1][0].count, sizeof *kept);
        memcpy(kept, parameters[1][0].gradient, (size_t)parameters[1][0].count * sizeof *kept);
        threads_set_count(count);
        CHECK(back_large(walk, x, &y, &error), "%s", error.what);
        CHECK(memcmp(kept, parameters[1][0].gradient, (size_t)parameters[1][0].count * sizeof *kept) == 0, "%d threads", count);
        memory_free(kept);
    }
    threads_set_count(threads);
    for (int i = 0; i < WEIGHTS; i++)
        memory_free(sums[i]);
    backward_free(single);
    backward_free(walk);
    tensor_release(x);
    graph_free(graph);
}

/* Promise: forward in simulated mode gives the bits of the plan. */
TEST(backward_walk_runs_forward_like_the_plan)
{
    Trained trained = {0};
    Graph *graph = make_net(2, true);
    quantize_net(graph);
    bool made = make_trained(&trained, graph, 2);
    CHECK(made, "%s", trained.error.what);
    Tensor *expected = made ? run_net(graph, EXEC_SIMULATED, trained.x) : NULL;
    if (expected) CHECK(tensor_equal(expected, trained.y), "differs");
    tensor_release(expected);
    free_trained(&trained);
}

/* ---- one Gemm by hand ---- */

enum { M = 2, K = 3, N = 2 };

typedef struct End {
    double value, inside, slope; /* quantized; 1 where the rounded value lies in the range; d value / d scale */
} End;

static End quantized(double x, int exponent, double low, double high)
{
    double scale = ldexp(1, exponent), u = rint(x / scale), c = fmin(fmax(u, low), high);
    bool inside = u >= low && u <= high;
    return (End){c * scale, inside, inside ? u - x / scale : c};
}

static void near(const char *what, double seen, double expected)
{
    CHECK(fabs(seen - expected) <= 1e-5 * (1 + fabs(expected)), "%s: %g, expected %g", what, seen, expected);
}

static const int exponents[] = {-3, -4, -6, -2}; /* of x, w, b, y */

static Graph *gemm_graph(void)
{
    Error error = {0};
    Graph *graph = graph_new("gemm", &error);
    Shape x = shape_of(2, (int64_t[]){M, K}), w = shape_of(2, (int64_t[]){K, N}), b = shape_of(1, (int64_t[]){N});
    make_input(graph, "x", &x);
    make_parameter(graph, "w", &w, 1);
    make_parameter(graph, "b", &b, 2);
    Node *node = make_node(graph, "Gemm", "gemm", "x w b", "y");
    graph_add_output(graph, graph_value(graph, "y"), &error);
    graph_infer(graph, &error);
    node_make_slots(graph, node, &error);
    for (int i = 0; i < 4; i++) {
        Slot *slot = i < 3 ? node->input_slots[i] : node->output_slots[0];
        slot->state = SLOT_ACTIVATED;
        slot->bits = 4;
        slot->minimum = -8;
        slot->maximum = 7;
        slot->rounding = ROUND_HALF_EVEN;
        slot_set_exponents(graph, slot, &exponents[i], 1);
    }
    return graph;
}

/* Promise: gradients of weights, bias, input and of all four scales are those of OPTIM 7.2, clipped values among them. */
TEST(backward_walk_follows_the_formulas_of_fake_quantization)
{
    Error error = {0};
    Graph *graph = gemm_graph();
    Node *node = graph_node(graph, "gemm");
    BackwardParameter parameters[] = {{.node = node, .index = 1}, {.node = node, .index = 2}};
    BackwardScale scales[] = {
        {.slot = node->input_slots[0]}, {.slot = node->input_slots[1]}, {.slot = node->input_slots[2]}, {.slot = node->output_slots[0]}};
    BackwardOptions options = {.parameters = parameters, .parameter_count = 2, .scales = scales, .scale_count = 4, .input_gradients = true};
    Shape shape = shape_of(2, (int64_t[]){M, K});
    Tensor *x = random_tensor(&shape, 3);
    tensor_floats(x)[0] = 3; /* clipped */
    const Tensor *y = NULL;
    Backward *walk = backward_new(graph, &options, &shape, &error);
    CHECK(walk != NULL, "%s", error.what);
    if (walk) parameters[0].values[1] = 2; /* clipped */
    bool ran = walk && backward_forward(walk, &x, &y, &error);
    Tensor *dy = ran ? random_tensor(&y->shape, 4) : NULL;
    if (ran && backward_back(walk, &dy, &error)) {
        End ex[M][K], ew[K][N], eb[N];
        double dx[M][K] = {{0}}, dw[K][N] = {{0}}, db[N] = {0}, slopes[4] = {0};
        for (int i = 0; i < M * K; i++)
            ex[i / K][i % K] = quantized((double)tensor_floats(x)[i], exponents[0], -8, 7);
        for (int i = 0; i < K * N; i++)
            ew[i / N][i % N] = quantized((double)parameters[0].values[i], exponents[1], -8, 7);
        for (int i = 0; i < N; i++)
            eb[i] = quantized((double)parameters[1].values[i], exponents[2], -8, 7);
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                double sum = eb[n].value, given = (double)tensor_floats(dy)[m * N + n];
                for (int k = 0; k < K; k++)
                    sum += ex[m][k].value * ew[k][n].value;
                End out = quantized(sum, exponents[3], -8, 7);
                near("y", (double)tensor_floats(y)[m * N + n], out.value);
                slopes[3] += given * out.slope;
                db[n] += given * out.inside;
                for (int k = 0; k < K; k++) {
                    dx[m][k] += given * out.inside * ew[k][n].value;
                    dw[k][n] += given * out.inside * ex[m][k].value;
                }
            }
        for (int i = 0; i < M * K; i++) {
            slopes[0] += dx[i / K][i % K] * ex[i / K][i % K].slope;
            near("dx", (double)tensor_floats(backward_input_gradient(walk, 0))[i], dx[i / K][i % K] * ex[i / K][i % K].inside);
        }
        for (int i = 0; i < K * N; i++) {
            slopes[1] += dw[i / N][i % N] * ew[i / N][i % N].slope;
            near("dw", (double)parameters[0].gradient[i], dw[i / N][i % N] * ew[i / N][i % N].inside);
        }
        for (int i = 0; i < N; i++) {
            slopes[2] += db[i] * eb[i].slope;
            near("db", (double)parameters[1].gradient[i], db[i] * eb[i].inside);
        }
        for (int i = 0; i < 4; i++)
            near("log2 of a scale", (double)scales[i].gradient[0], slopes[i] * ldexp(1, exponents[i]) * 0.6931471805599453);
        /* rint(-3.4) is -3: nothing changes; 2^-3.4 is another scale. */
        float before = tensor_floats(y)[0];
        scales[3].log2[0] = -2.4f;
        CHECK(backward_forward(walk, &x, &y, &error) && tensor_floats(y)[0] == before, "a whole log2 is rounded");
        scales[3].whole = false;
        CHECK(backward_forward(walk, &x, &y, &error) && tensor_floats(y)[0] != before, "another scale");
    }
    CHECK(error.code == ERROR_NONE, "%s", error.what);
    backward_free(walk);
    tensor_release(x);
    tensor_release(dy);
    graph_free(graph);
}

/* Promise: a replacement stands for the quantized weight, and gains what that gains. */
TEST(backward_walk_takes_replacements)
{
    Trained trained = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    REQUIRE(make_trained(&trained, graph, 1), "%s", trained.error.what);
    BackwardParameter *weight = &trained.parameters[0];
    float *soft = memory_new_array((size_t)weight->count, sizeof *soft), *before = memory_new_array((size_t)weight->count, sizeof *soft);
    for (int64_t i = 0; i < weight->count; i++)
        weight->values[i] *= 0.5f; /* nothing is clipped */
    loss(&trained);
    backward_back(trained.walk, &trained.gradient, &trained.error);
    memcpy(soft, backward_seen(trained.walk, weight), (size_t)weight->count * sizeof *soft);
    memcpy(before, weight->gradient, (size_t)weight->count * sizeof *soft);
    weight->replacement = soft;
    double same = loss(&trained);
    backward_back(trained.walk, &trained.gradient, &trained.error);
    CHECK(memcmp(before, weight->gradient, (size_t)weight->count * sizeof *soft) == 0, "the gradient is another one");
    soft[0] += 0.5f;
    CHECK(loss(&trained) != same, "the replacement is read");
    memory_free(soft);
    memory_free(before);
    free_trained(&trained);
}

/* Promise: the gradients are the same bits on one and two threads, on every instruction set, and in a second walk. */
TEST(backward_walk_is_repeatable)
{
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    uint64_t digest = 0;
    for (int i = 0; i < 2 * KERNEL_VARIANTS; i++) {
        if (!kernel_variant_available((KernelVariant)(i / 2))) continue;
        kernel_set_variant((KernelVariant)(i / 2));
        threads_set_count(1 + i % 2);
        Trained trained = {.options = {.input_gradients = true, .masks_channels = true}};
        Graph *graph = make_net(1, true);
        quantize_net(graph);
        Node *node = graph_node(graph, "conv1");
        trained.scales[0].slot = node->input_slots[1];
        trained.options.scales = trained.scales;
        trained.options.scale_count = 1;
        uint64_t own = 0;
        if (make_trained(&trained, graph, 9)) {
            backward_forward(trained.walk, &trained.x, &trained.y, &trained.error);
            backward_back(trained.walk, &trained.gradient, &trained.error);
            for (int k = 0; k < trained.options.parameter_count; k++)
                own = digest_bytes(own, trained.parameters[k].gradient, (size_t)trained.parameters[k].count * sizeof(float));
            own = digest_bytes(own, trained.scales[0].gradient, sizeof(float));
            own = digest_bytes(own, backward_input_gradient(trained.walk, 0)->data, tensor_bytes(trained.x));
        }
        if (!digest) digest = own;
        CHECK(own && own == digest, "%s, %d threads: %s", kernel_variant_name((KernelVariant)(i / 2)), 1 + i % 2, trained.error.what);
        free_trained(&trained);
    }
    kernel_set_variant(variant);
    threads_set_count(threads);
}

static bool walk_once(void *fixture, Error *error)
{
    Trained *trained = fixture;
    Shape shape = net_shape(2);
    trained->walk = backward_new(trained->graph, &trained->options, &shape, error);
    return trained->walk && backward_forward(trained->walk, &trained->x, &trained->y, error) &&
           backward_back(trained->walk, &trained->gradient, error);
}

static uint64_t settle(void *fixture, bool ok)
{
    Trained *trained = fixture;
    uint64_t digest = ok ? digest_bytes(0, trained->parameters[0].gradient, (size_t)trained->parameters[0].count * sizeof(float)) : 0;
    backward_free(trained->walk);
    trained->walk = NULL;
    return digest;
}

/* Promise: whatever allocation fails while a walk is made, the answer is an error and nothing leaks. */
TEST(backward_walk_survives_the_end_of_memory)
{
    Shape shape = net_shape(2), out = shape_of(2, (int64_t[]){2, 4});
    Trained trained = {.graph = make_net(1, true), .x = random_tensor(&shape, 5), .gradient = random_tensor(&out, 6)};
    quantize_net(trained.graph);
    list_parameters(&trained);
    Sweep sweep = {"backward", walk_once, settle, &trained};
    sweep_memory(&sweep);
    free_trained(&trained);
}

/* Promise: an operator without a gradient on the way is named; behind what is trained it does not matter. */
TEST(backward_walk_names_what_lets_no_gradient_pass)
{
    Trained trained = {.options = {.floating = true}};
    Graph *graph = make_net(1, false);
    Error error = {0};
    make_node(graph, "Floor", "floor", "s", "f");
    graph->output_count = 0;
    graph_add_output(graph, graph_value(graph, "f"), &error);
    CHECK(graph_infer(graph, &error), "%s", error.what);
    CHECK(!make_trained(&trained, graph, 1) && strstr(trained.error.where, "floor"), "%s %s", trained.error.where, trained.error.what);
    free_trained(&trained);
}

/* Promise: bounds of Clip are no parameters, slopes and weights are. */
TEST(backward_walk_knows_what_can_be_trained)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    Shape scalar = {.rank = 0}, slope = shape_of(1, (int64_t[]){4});
    make_parameter(graph, "least", &scalar, 1);
    make_parameter(graph, "slope", &slope, 2);
    Node *clip = make_node(graph, "Clip", "clip", "y least", "clipped"), *prelu = make_node(graph, "PRelu", "prelu", "y slope", "sloped");
    CHECK(!backward_can_train(clip, 0) && !backward_can_train(clip, 1) && !backward_can_train(clip, 2), "Clip");
    CHECK(backward_can_train(prelu, 1) && backward_can_train(graph_node(graph, "gemm"), 2), "PRelu, Gemm");
    CHECK(error.code == ERROR_NONE, "%s", error.what);
    graph_free(graph);
}
