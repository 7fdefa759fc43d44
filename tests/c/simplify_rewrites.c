/* Each rewrite on the smallest graph that shows it: what is left, and that the numbers stay. */
#include <string.h>

#include "base/fault.h"
#include "check.h"
#include "text_graph.h"

typedef struct Case {
    const char *text, *types;
    double tolerance;
} Case;

static void check_cases(const Case *cases, size_t count, bool extra)
{
    for (size_t i = 0; i < count; i++) {
        char types[1024];
        Graph *graph = text_simplify(cases[i].text, extra, cases[i].tolerance);
        if (!graph) continue;
        CHECK(strcmp(text_types(graph, types), cases[i].types) == 0, "%s: left are %s, not %s", cases[i].text, types, cases[i].types);
        graph_free(graph);
    }
}

#define CHECK_CASES(cases, extra) check_cases(cases, sizeof cases / sizeof cases[0], extra)

/* Promise: the reference's rewrites (QUANT §2.3) leave exactly its nodes, in reference mode. */
TEST(reference_rewrites_leave_the_reference_nodes)
{
    static const Case cases[] = {
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); > n", "Conv", 1e-5},
        {"x[1,3,6,6]; c = ConvTranspose(x, #w[3,2,2,2], #b[2]) strides=[2,2]; n = BatchNormalization(c, #g[2], #h[2], #m[2], #v[2]); > n",
         "ConvTranspose", 1e-5},
        {"x[1,4,6,6]; c = ConvTranspose(x, #w[4,3,2,2]) group=2; n = BatchNormalization(c, #g[6], #h[6], #m[6], #v[6]); > n",
         "ConvTranspose", 1e-5},
        {"x[2,5]; c = Gemm(x, #w[5,4], #b[4]); n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); > n", "Gemm", 1e-5},
        {"x[2,5]; c = Gemm(x, #w[4,5]) transB=1; n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); > n", "Gemm", 1e-5},
        /* two readers of the convolution: the normalization stays alone and becomes a depthwise one */
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); y = Add(c, n); > y", "Conv Conv Add",
         1e-5},
        {"x[1,3,6]; n = BatchNormalization(x, #g[3], #h[3], #m[3], #v[3]); > n", "Conv", 1e-5},
        {"x[4,3]; n = BatchNormalization(x, #g[3], #h[3], #m[3], #v[3]); > n", "Mul Add", 1e-5},
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); y = Add(c, #b[1,4,1,1]); > y", "Conv", 1e-6},
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); y = Add(#b[1,4,1,1], c); > y", "Conv", 1e-6},
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); y = Add(c, #b[1,1,1,4]); > y", "Conv Add", 0},        /* along the last axis: no bias */
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3], #d[4]); y = Add(c, #b[1,4,1,1]); > y", "Conv Add", 0}, /* D2: the constant keeps its shape */
        {"x[2,5]; c = Gemm(x, #w[5,4]); y = Add(c, #b[4]); > y", "Gemm", 1e-6},
        {"x[1,5]; c = Gemm(x, #w[5,4]); y = Add(c, #b[3,4]); > y", "Gemm Add", 0}, /* the sum has more rows */
        {"x[2,5]; y = Gemm(x, #w[5,4], #b[4]) alpha=0.5 beta=3.0; > y", "Gemm", 1e-6},
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); s = Sigmoid(c); y = Mul(s, c); > y", "Conv Swish", 1e-6},
        {"x[1,3,6,6]; s = Sigmoid(x); y = Mul(x, s); > y", "Sigmoid Mul", 0}, /* not behind a graph input */
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); s = Sigmoid(c); y = Mul(s, c); z = Relu(c); > y, z", "Conv Sigmoid Relu Mul", 0},
        {"x[1,4,8]; p = Pow(x, #two=2); m = ReduceMean(p) axes=[-1]; a = Add(m, #e=0.001); q = Sqrt(a); d = Div(x, q); y = Mul(d, #s[8]); "
         "> y",
         "RMSNormalization", 1e-5},
        {"x[1,4,8]; p = Pow(x, #two=2); m = ReduceMean(p) axes=[2]; a = Add(m, #e=0.001); q = Sqrt(a); r = Reciprocal(q); d = Mul(x, r); y "
         "= Mul(#s[8], d); > y",
         "RMSNormalization", 1e-5},
        /* D20: the power is not 2, the quotient is upside down */
        {"x[1,4,8]; p = Pow(x, #four=4); m = ReduceMean(p) axes=[-1]; a = Add(m, #e=0.001); q = Sqrt(a); d = Div(x, q); y = Mul(d, #s[8]); "
         "> y",
         "Pow ReduceMean Add Sqrt Div Mul", 0},
        {"x[1,4,8]; p = Pow(x, #two=2); m = ReduceMean(p) axes=[-1]; a = Add(m, #e=0.001); q = Sqrt(a); d = Div(q, x); y = Mul(d, #s[8]); "
         "> y",
         "Pow ReduceMean Add Sqrt Div Mul", 0},
        {"x[2,4]; n = ReduceL2(x) axes=[1]; c = Clip(n, #lo=1e-12); s = Expand(c, #sh{2,4}); y = Div(x, s); > y", "LpNormalization", 1e-6},
        {"x[2,4]; n = ReduceL2(x) axes=[1]; c = Clip(n, #lo=0.5); s = Expand(c, #sh{2,4}); y = Div(x, s); > y", "ReduceL2 Clip Expand Div",
         0},
        {"x[2,4]; d = Dropout(x); i = Identity(d); y = Relu(i); > y", "Relu", 0},
        {"x[2,6,4]; s = Shape(x); g = Gather(s, #i{0}); c = Concat(g, #r{-1}) axis=0; y = Reshape(x, c); > y", "Reshape", 0},
    };
    CHECK_CASES(cases, false);
}

/* Promise: what opsets before 18 write as attributes becomes the inputs of QUANT §2.3-11 to 14, and means the same. */
TEST(old_forms_become_inputs)
{
    static const Case cases[] = {
        {"opset 9; x[1,3,6,6]; y = Slice(x) starts=[1,2] ends=[5,-1] axes=[2,3]; > y", "Slice", 0},
        {"opset 9; x[3,6]; y = Slice(x) starts=[1,2] ends=[3,4]; > y", "Slice", 0},
        {"opset 9; x[3,6]; y = Clip(x) min=-0.5; > y", "Clip", 0},
        {"opset 9; x[1,1,4,4]; y = Pad(x) mode=constant pads=[0,0,1,0,0,0,0,2] value=1.5; > y", "Pad", 0},
        {"opset 9; x[1,1,4,4]; y = Pad(x) mode=reflect pads=[0,0,1,0,0,0,0,2]; > y", "Pad", 0},
        {"opset 11; x[1,3,4]; y = Softmax(x) axis=2; > y", "Softmax", 0},
    };
    CHECK_CASES(cases, false);
}

/* Promise: Softmax of opset 11 sums over everything from its axis on, in every mode. */
TEST(old_softmax_flattens_from_its_axis)
{
    Error error = {0};
    SimplifyOptions options = {.exact = true};
    Graph *graph = text_graph("opset 11; x[1,2,3]; y = Softmax(x) axis=1; > y");
    Tensor *outputs[8] = {0};
    REQUIRE(graph && simplify_graph(graph, &options, &error), "%s", error.what);
    if (text_run(graph, outputs)) {
        double sum = 0;
        for (int64_t i = 0; i < tensor_count(outputs[0]); i++)
            sum += tensor_get(outputs[0], i);
        CHECK(sum > 0.9999 && sum < 1.0001, "six probabilities sum to %g", sum);
    }
    tensor_release(outputs[0]);
    graph_free(graph);
}

/* Promise: espq's own rewrites find the spellings of CASES C04 to C15 and keep the numbers. */
TEST(extra_rewrites_find_what_exporters_write)
{
    static const Case cases[] = {
        {"x[2,5]; m = MatMul(x, #w[5,4]); y = Add(#b[4], m); > y", "Gemm", 1e-6},
        {"x[1,2,5]; m = MatMul(x, #w[5,4]); y = Add(m, #b[4]); > y", "MatMul Add", 0},
        {"x[5,2]; y = Gemm(x, #w[5,4], #b=0.25) transA=1 alpha=2.0; > y", "Transpose Gemm", 1e-6},
        {"x[1,3,6,6]; c = Conv(x, #w[4,3,3,3], #d[4]); y = Add(c, #b[1,4,1,1]); > y", "Conv", 1e-6},
        {"x[1,4]; a = Max(x, #lo=0.0); y = Min(a, #hi=6.0); > y", "Clip", 0},
        {"x[1,4]; a = Max(#lo=0.0, x); > a", "Relu", 0},
        {"x[1,4]; a = Relu(x); y = Clip(a, _, #hi=1.0); > y", "Clip", 0},
        {"x[1,4]; y = Min(x, #row[1,4]); > y", "Min", 0},
        {"x[1,6,8]; m = ReduceMean(x) axes=[-1]; d = Sub(x, m); p = Pow(d, #two=2); v = ReduceMean(p) axes=[-1]; a = Add(v, #e=0.001); s = "
         "Sqrt(a); n = Div(d, s); "
         "g = Mul(n, #scale[8]); y = Add(g, #bias[8]); > y",
         "LayerNormalization", 1e-5},
        {"x[1,6,8]; m = ReduceMean(x) axes=[1]; d = Sub(x, m); p = Pow(d, #two=2); v = ReduceMean(p) axes=[1]; a = Add(v, #e=0.001); s = "
         "Sqrt(a); n = Div(d, s); "
         "g = Mul(n, #scale[8]); y = Add(g, #bias[8]); > y",
         "ReduceMean Sub Pow ReduceMean Add Sqrt Div Mul Add", 0}, /* not the last axis */
        {"x[1,8]; r = Div(x, #root=1.41421356); e = Erf(r); a = Add(e, #one=1); p = Mul(x, a); y = Mul(p, #half=0.5); > y", "Gelu", 1e-5},
        {"x[1,8]; r = Mul(x, #inv=0.70710678); e = Erf(r); a = Add(#one=1, e); h = Mul(#half=0.5, x); y = Mul(a, h); > y", "Gelu", 1e-5},
        {"x[1,8]; c = Pow(x, #three=3); k = Mul(c, #cubic=0.044715); s = Add(x, k); t = Mul(s, #c2=0.79788456); h = Tanh(t); a = Add(h, "
         "#one=1); p = Mul(x, a); "
         "y = Mul(p, #half=0.5); > y",
         "Gelu", 1e-5},
        {"x[1,8]; r = Div(x, #root=1.5); e = Erf(r); a = Add(e, #one=1); p = Mul(x, a); y = Mul(p, #half=0.5); > y", "Div Erf Add Mul Mul",
         0},
        {"x[1,3,6,6]; s = Sigmoid(x); y = Mul(x, s); > y", "Swish", 1e-6},
        {"x[1,8,3,2]; r = Reshape(x, #s6{1,2,2,2,3,2}); t = Transpose(r) perm=[0,1,4,2,5,3]; y = Reshape(t, #s4{1,2,6,4}); > y",
         "DepthToSpace", 0},
        {"x[1,8,3,2]; r = Reshape(x, #s6{1,2,2,2,3,2}); t = Transpose(r) perm=[0,3,4,1,5,2]; y = Reshape(t, #s4{1,2,6,4}); > y",
         "DepthToSpace", 0},
        {"x[1,8,3,2]; r = Reshape(x, #s6{1,2,2,2,3,2}); t = Transpose(r) perm=[0,1,5,2,4,3]; y = Reshape(t, #s4{1,2,4,6}); > y",
         "Reshape Transpose Reshape", 0},
        {"x[1,3,6,5]; y = ReduceMean(x) axes=[2,3] keepdims=0; > y", "GlobalAveragePool Flatten", 1e-5},
        {"x[1,3,6,5]; y = ReduceMean(x) axes=[1,2]; > y", "ReduceMean", 0},
        {"x[2,3,4]; y = Reshape(x, #s{0,-1}); > y", "Flatten", 0},
        {"x[2,3,4]; y = Flatten(x) axis=2; > y", "Reshape", 0},
        {"x[2,12]; f = Flatten(x); y = Relu(f); > y", "Relu", 0},
        {"a[2,3]; b[2,3]; c[2,3]; y = Sum(a, b, c); > y", "Add Add", 0},
        {"x[1,4,6,6]; y = Conv(x, #w[6,2,3,3], #b[6]) group=2; > y", "Conv", 1e-6},
        {"x[1,4,6,6]; y = Conv(x, #w[8,1,3,3]) group=4; > y", "Conv", 1e-6},
        {"x[1,4,6,6]; y = Conv(x, #w[4,1,3,3]) group=4; > y", "Conv", 0},
        {"x[1,16,4,4]; y = Conv(x, #w[4,8,1,1], #b[4]) group=2; > y", "Split Conv Conv Concat", 1e-6},
        {"x[1,4,4,4]; y = ConvTranspose(x, #w[4,3,2,2]) group=2; > y", "ConvTranspose", 1e-6},
    };
    CHECK_CASES(cases, true);
}

/* Promise: Einsum of a matrix product becomes MatMul, with a Transpose where its second operand lies the other way; others are refused. */
TEST(einsum_of_a_matrix_product_becomes_matmul)
{
    static const struct {
        const char *equation, *types;
    } cases[] = {{"bhid,bhjd->bhij", "Transpose MatMul"},
                 {"abij, abjk -> abik", "MatMul"},
                 {"abij,abjk->abki", "Einsum"},
                 {"abij,abij->abij", "Einsum"},
                 {"nonsense", "Einsum"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char types[1024];
        Error error = {0};
        SimplifyOptions options = {.exact = true, .extra_rewrites = true};
        Graph *graph = text_graph("x[1,2,4,4]; k[1,2,4,4]; y = Einsum(x, k); > y");
        REQUIRE(graph && node_set_string(graph, graph->nodes[0], "equation", cases[i].equation), "no graph");
        REQUIRE(simplify_graph(graph, &options, &error), "%s", error.what);
        CHECK(strcmp(text_types(graph, types), cases[i].types) == 0, "%s gives %s", cases[i].equation, types);
        graph_free(graph);
    }
}

/* Promise: Transposes around NHWC meet and vanish, whatever stands between them, and one that is no layout survives. */
TEST(layout_transposes_vanish)
{
    static const Case cases[] = {
        {"x[1,3,5,4]; c = Conv(x, #w[4,3,1,1]); h = Transpose(c) perm=[0,2,3,1]; r = Relu(h); t = Transpose(r) perm=[0,3,1,2]; y = Conv(t, "
         "#u[2,4,1,1]); > y",
         "Conv Relu Conv", 0},
        {"x[1,3,5,4]; c = Conv(x, #w[4,3,1,1]); h = Transpose(c) perm=[0,2,3,1]; a = Mul(h, #s[4]); t = Transpose(a) perm=[0,3,1,2]; y = "
         "Relu(t); > y",
         "Conv Mul Relu", 0},
        {"x[1,3,5,4]; c = Conv(x, #w[4,3,1,1]); d = Conv(x, #u[4,3,1,1]); h = Transpose(c) perm=[0,2,3,1]; i = Transpose(d) "
         "perm=[0,2,3,1]; a = Add(h, i); "
         "k = Concat(a, h) axis=3; t = Transpose(k) perm=[0,3,1,2]; y = Relu(t); > y",
         "Conv Conv Add Concat Relu", 0},
        {"x[1,3,5,4]; c = Conv(x, #w[4,3,1,1]); h = Transpose(c) perm=[0,2,3,1]; m = ReduceMean(h) axes=[1,2] keepdims=0; y = Relu(m); > y",
         "Conv GlobalAveragePool Flatten Relu", 1e-5},
        {"x[1,4,4,4]; h = Transpose(x) perm=[0,2,3,1]; p = Pad(h, #pads{0,1,0,0,0,0,2,0}); t = Transpose(p) perm=[0,3,1,2]; > t", "Pad", 0},
        {"x[1,4,4,4]; h = Transpose(x) perm=[0,2,3,1]; a, b = Split(h) axis=3; r = Add(a, b); t = Transpose(r) perm=[0,3,1,2]; > t",
         "Split Add", 0},
        {"x[1,4,4,4]; t = Transpose(x) perm=[0,1,3,2]; y = Relu(t); > y", "Transpose Relu", 0},
        {"x[1,4,4,4]; t = Transpose(x) perm=[0,2,1,3]; u = Transpose(t) perm=[0,2,1,3]; y = Relu(u); > y", "Relu", 0},
    };
    CHECK_CASES(cases, true);
}

/* Promise: order and number of graph outputs stay; the name is the reference's, or its own with keep_output_names (D16). */
TEST(outputs_keep_their_places)
{
    for (int keep = 0; keep < 2; keep++) {
        Error error = {0};
        SimplifyOptions options = {.exact = true, .keep_output_names = keep};
        Graph *graph = text_graph("x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); i = Identity(c); r = Relu(x); > i, r");
        REQUIRE(graph && simplify_graph(graph, &options, &error), "%s", error.what);
        CHECK(graph->output_count == 2 && strcmp(graph->outputs[0]->name, keep ? "i" : "c") == 0, "first output is %s",
              graph->outputs[0]->name);
        CHECK(strcmp(graph->outputs[1]->name, "r") == 0, "second output is %s", graph->outputs[1]->name);
        graph_free(graph);
    }
}

/* Promise: a parameter read twice becomes two that share memory; names count up as the reference's. */
TEST(shared_parameters_are_split)
{
    Error error = {0};
    SimplifyOptions options = {.exact = true};
    Graph *graph = text_graph("x[1,3,6,6]; a = Conv(x, #w[4,3,3,3]); b = Conv:second(x, #w); y = Add(a, b); > y");
    REQUIRE(graph && simplify_graph(graph, &options, &error), "%s", error.what);
    Value *first = graph_node(graph, "Conv_a")->inputs[1], *second = graph_node(graph, "second")->inputs[1];
    CHECK(first != second && first->constant == second->constant, "still one parameter, or memory was copied");
    CHECK(strcmp(first->name, "PPQ_Variable_0") == 0 && strcmp(second->name, "PPQ_Variable_1") == 0, "names are %s, %s", first->name,
          second->name);
    graph_free(graph);
}

/* Promise: everything that cannot be is in one message, each node with a way out. */
TEST(all_that_is_unsupported_is_named_at_once)
{
    Error error = {0};
    SimplifyOptions options = {.exact = true};
    Graph *graph = text_graph("x[1,3,6,6]; w[4,3,3,3]; c = Conv(x, w); f = Frobnicate(c); g = Twist(f); > g");
    REQUIRE(graph && simplify_graph(graph, &options, &error), "%s", error.what);
    CHECK(!check_exportable(graph, 8, &error), "accepted");
    CHECK(strstr(error.what, "Frobnicate") && strstr(error.what, "Twist") && strstr(error.what, "weight w"), "%s", error.what);
    CHECK(strstr(error.what, "espq.operator"), "no cure: %s", error.what);
    graph_free(graph);
}

/* Promise: a weight that is no number is refused with its index; an infinite bound of a Clip is fine. */
TEST(weights_must_be_numbers)
{
    Error error = {0};
    Graph *graph = text_graph("x[1,2]; c = Clip(x, #lo=-inf, #hi=1.0); y = Gemm(c, #w[2,2]); > y");
    REQUIRE(graph && graph_infer(graph, &error), "%s", error.what);
    CHECK(check_supported(graph, &error), "%s", error.what);
    tensor_floats(graph_value(graph, "w")->constant)[2] = 0.0f / 0.0f * -1.0f;
    CHECK(!check_supported(graph, &error) && strstr(error.what, "NaN at index [1, 0]"), "%s", error.what);
    graph_free(graph);
}

/* Promise: whatever allocation fails during simplification, the answer is a memory error, nothing leaks, and the graph can be freed. */
TEST(simplification_survives_every_failed_allocation)
{
    static const char *const texts[] = {
        "opset 9; x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]); n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); p = Pad(n) "
        "pads=[0,0,1,0,0,0,0,2]; s = Sigmoid(p); y = Mul(s, p); "
        "i = Identity(y); r = Reshape(i, #shape{0,-1}); o = Conv:second(x, #w); z = Clip(o) max=3.0; > r, z",
        "x[1,6,8]; m = ReduceMean(x) axes=[-1]; d = Sub(x, m); p = Pow(d, #two=2); q = ReduceMean(p) axes=[-1]; a = Add(q, #e=0.001); s = "
        "Sqrt(a); n = Div(d, s); "
        "t = Mul(n, #scale[8]); y = Add(t, #bias[8]); k = Shape(y); u = Reshape(y, k); > u",
        "x[1,16,4,4]; c = Conv(x, #w[4,8,1,1], #b[4]) group=2; h = Transpose(c) perm=[0,2,3,1]; r = Max(h, #lo=0.0); k = Concat(r, h) "
        "axis=3; t = Transpose(k) perm=[0,3,1,2]; "
        "f = Flatten(t); g = MatMul(f, #u[128,3]); y = Add(g, #d=0.5); > y",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (int extent = FAULT_ONCE; extent <= FAULT_FROM; extent++) {
            for (long n = 0; n < 4000; n++) {
                long before = fault_blocks();
                Error error = {0};
                SimplifyOptions options = {.extra_rewrites = true, .exact = true, .split_groups = true};
                Graph *graph = text_graph(texts[i]);
                REQUIRE(graph, "no graph");
                fault_arm(FAULT_ALLOCATION, (FaultExtent)extent, n);
                bool ok = simplify_graph(graph, &options, &error);
                bool hit = fault_disarm();
                graph_free(graph);
                CHECK(fault_blocks() == before, "graph %zu, allocation %ld: %ld blocks leak", i, n, fault_blocks() - before);
                CHECK(ok || error.code == ERROR_MEMORY, "graph %zu, allocation %ld: %s", i, n, error.what);
                if (!hit) break;
            }
        }
    }
}
