#include <string.h>

#include "analyse/analyse.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "check.h"
#include "exec/cache.h"
#include "exec/memo.h"
#include "exec/names.h"
#include "exec_graphs.h"

enum { BATCHES = 3 };
static const int64_t sizes[BATCHES] = {2, 3, 1};

static Tensor *tensor_of(int64_t count)
{
    Error error = {0};
    return tensor_new(DTYPE_FLOAT32, &(Shape){.rank = 1, .dims = {count}}, &error);
}

static Name named(const char *text)
{
    Name name = {""};
    snprintf(name.hex, sizeof name.hex, "%s", text);
    return name;
}

static bool knows(Memo *memo, const char *text)
{
    Name name = named(text);
    Tensor *found = memo_find(memo, &name);
    tensor_release(found);
    return found != NULL;
}

/* Promise: a memo holds no more than its limit, gives up what was not asked for the longest, and keeps nothing that has no name. */
TEST(memo_gives_up_the_least_recently_used)
{
    Error error = {0};
    Memo *memo = memo_new(11000, &error);
    Tensor *tensor = tensor_of(1000), *large = tensor_of(4000);
    REQUIRE(memo && tensor && large, "%s", error.what);
    Name first = named("first"), second = named("second"), third = named("third"), none = {""};
    memo_keep(memo, &first, tensor);
    memo_keep(memo, &second, tensor);
    CHECK(knows(memo, "first"), "the first is gone");
    memo_keep(memo, &third, tensor);
    CHECK(knows(memo, "first") && !knows(memo, "second") && knows(memo, "third"), "the wrong one is gone");
    memo_keep(memo, &second, large);
    memo_keep(memo, &none, tensor);
    CHECK(!knows(memo, "second") && !knows(memo, "") && knows(memo, "first"), "what is too large or nameless is kept");
    memo_free(memo);
    tensor_release(tensor);
    tensor_release(large);
}

static void set_constant(Graph *graph, const char *node, int input, uint64_t seed)
{
    Value *value = graph_node(graph, node)->inputs[input];
    Tensor *tensor = random_tensor(&value->shape, seed);
    value_set_constant(graph, value, tensor);
    tensor_release(tensor);
}

static bool same_name(Graph *a, Graph *b, ExecMode mode, const char *value)
{
    Error error = {0};
    Names names[2];
    Name batch = named("batch"), found[2] = {{""}, {" "}};
    bool made = names_make(&names[0], a, mode, true, &error) & names_make(&names[1], b, mode, true, &error);
    CHECK(made, "%s", error.what);
    for (int i = 0; made && i < 2; i++)
        found[i] = names_of(&names[i], graph_value(i ? b : a, value), &batch);
    names_free(&names[0]);
    names_free(&names[1]);
    CHECK(!made || (found[0].hex[0] && found[1].hex[0]), "%s has no name", value);
    return strcmp(found[0].hex, found[1].hex) == 0;
}

/* conv2's weights with an exponent for each channel, the last one as given. */
static void set_channels(Graph *graph, int last)
{
    Node *node = graph_node(graph, "conv2");
    int exponents[16], count = (int)node->inputs[1]->shape.dims[0];
    REQUIRE(count > 1 && count <= 16, "%d channels", count);
    for (int i = 0; i < count; i++)
        exponents[i] = i == count - 1 ? last : -7;
    node->input_slots[1]->channel_axis = 0;
    CHECK(slot_set_exponents(graph, node->input_slots[1], exponents, count), "no memory");
}

/* Promise: what lies in front of a change has its name in both graphs, what lies behind it another; exponents, those of single channels as
 * well, change simulated names only. */
TEST(names_differ_behind_what_differs)
{
    Graph *a = make_net(1, true), *b = make_net(1, true);
    quantize_net(a);
    quantize_net(b);
    CHECK(same_name(a, b, EXEC_FLOAT, "y") && same_name(a, b, EXEC_SIMULATED, "y"), "equal graphs have two names");
    set_constant(b, "conv2", 1, 99);
    for (int mode = 0; mode < 2; mode++)
        CHECK(same_name(a, b, (ExecMode)mode, "r") && !same_name(a, b, (ExecMode)mode, "c2") && !same_name(a, b, (ExecMode)mode, "y"),
              "a weight, mode %d", mode);
    graph_free(b);
    b = make_net(1, true);
    quantize_net(b);
    graph_node(b, "conv2")->output_slots[0]->exponents[0]--;
    CHECK(same_name(a, b, EXEC_FLOAT, "y"), "an exponent in float");
    CHECK(same_name(a, b, EXEC_SIMULATED, "r") && !same_name(a, b, EXEC_SIMULATED, "c2"), "an exponent in simulation");
    graph_free(b);
    b = make_net(1, true);
    quantize_net(b);
    set_channels(a, -7);
    set_channels(b, -6);
    CHECK(same_name(a, b, EXEC_FLOAT, "y"), "a channel's exponent in float");
    CHECK(same_name(a, b, EXEC_SIMULATED, "r") && !same_name(a, b, EXEC_SIMULATED, "c2"), "a channel's exponent in simulation");
    graph_free(b);
    graph_free(a);
}

/* Rows of all stops, one net after the other: the second differs from the first in conv2's weights. */
static void walk(const char *what, Memo *memo, uint64_t seed)
{
    static const char *const floating[] = {"c1", "c2", "y"}, *const simulated[] = {"x", "r", "s"};
    Error error = {0};
    Graph *graph = make_net(1, true);
    TestBatches data;
    CacheStop stops[3];
    Value *values[2][3];
    quantize_net(graph);
    set_constant(graph, "conv2", 1, seed);
    for (int i = 0; i < 3; i++) {
        values[0][i] = graph_value(graph, floating[i]);
        values[1][i] = graph_value(graph, simulated[i]);
        stops[i] = (CacheStop){&values[0][i], 1, &values[1][i], 1};
    }
    test_batches(&data, sizes, BATCHES, net_batch);
    CacheOptions options = {.exact = true, .stops = stops, .stop_count = 3, .memo = memo};
    Cache *cache = cache_new(graph, &data.batches, &options, &error);
    REQUIRE(cache, "%s: %s", what, error.what);
    for (int stop = 0; stop < 3; stop++) {
        REQUIRE(cache_go(cache, stop, &error), "%s", error.what);
        for (int64_t batch = 0; batch < BATCHES; batch++) {
            Tensor *seen[2], *input = net_batch((int)batch, sizes[batch]);
            REQUIRE(cache_row(cache, batch, &seen[0], &seen[1], &error), "%s", error.what);
            for (int mode = 0; mode < 2; mode++) {
                Tensor *expected = NULL;
                PlanOptions plan_options = {.mode = (ExecMode)mode, .exact = true, .wanted = &values[mode][stop], .wanted_count = 1};
                Plan *plan = plan_new(graph, &plan_options, &input->shape, &error);
                REQUIRE(plan && plan_run(plan, &input, &expected, &error), "%s", error.what);
                CHECK(tensor_equal(expected, seen[mode]), "%s: stop %d, batch %d, mode %d", what, stop, (int)batch, mode);
                tensor_release(expected);
                tensor_release(seen[mode]);
                plan_free(plan);
            }
            tensor_release(input);
        }
    }
    cache_free(cache);
    graph_free(graph);
}

/* Promise: rows that begin at what another graph's walk left are those of whole runs, bit by bit. */
TEST(cache_with_a_memo_gives_what_whole_runs_give)
{
    Error error = {0};
    Memo *memo = memo_new(1 << 20, &error);
    REQUIRE(memo, "%s", error.what);
    walk("first", memo, 5);
    walk("again", memo, 5);
    walk("another weight", memo, 6);
    walk("the first once more", memo, 5);
    memo_free(memo);
}

static bool same_table(const AnalyseTable *a, const AnalyseTable *b)
{
    bool same = a->count == b->count && a->count > 0;
    for (int i = 0; same && i < a->count; i++)
        same = strcmp(a->rows[i].name, b->rows[i].name) == 0 && a->rows[i].value == b->rows[i].value;
    return same;
}

static bool analyse(Graph *graph, Memo *memo, AnalyseTable *table, Error *error)
{
    TestBatches data;
    test_batches(&data, sizes, BATCHES, net_batch);
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 8, .exact = true, .memo = memo};
    return analyse_graphwise(graph, &data.batches, &options, table, error);
}

/* How often an analysis looks for Ctrl-C, which it does before each node that it runs. */
static long count_looks(Graph *graph, Memo *memo)
{
    for (long n = 0;; n++) {
        Error error = {0};
        AnalyseTable table = {0};
        fault_arm(FAULT_INTERRUPT, FAULT_ONCE, n);
        bool done = analyse(graph, memo, &table, &error), hit = fault_disarm();
        analyse_table_free(&table);
        CHECK(done != hit, "look %ld: %s", n, error.what);
        if (!hit) return n;
    }
}

/* Promise: figures that an earlier graph's analysis left are those of an analysis alone, and what is known is not run again. */
TEST(graphwise_with_a_memo_gives_the_same_figures)
{
    Error error = {0};
    Memo *memo = memo_new(1 << 20, &error);
    int verbose = progress_level;
    progress_level = 0;
    REQUIRE(memo, "%s", error.what);
    for (int baked = 0; baked < 2; baked++) {
        Graph *graph = make_net(1, baked);
        quantize_net(graph);
        for (int change = 0; change < 4; change++) {
            AnalyseTable alone, together;
            if (change) set_constant(graph, change == 2 ? "conv1" : "conv2", 1, (uint64_t)(change == 3 ? 1 : change) + 50);
            REQUIRE(analyse(graph, NULL, &alone, &error) && analyse(graph, memo, &together, &error), "%s", error.what);
            CHECK(same_table(&alone, &together), "baked %d, change %d", baked, change);
            analyse_table_free(&alone);
            analyse_table_free(&together);
        }
        long known = count_looks(graph, memo), alone = count_looks(graph, NULL);
        CHECK(known < alone / 4, "%ld nodes of %ld are run", known, alone);
        graph_free(graph);
    }
    progress_level = verbose;
    memo_free(memo);
}

static bool analyse_some(Graph *graph, int count, Memo *memo, FloatSamples *samples, AnalyseTable *table, Error *error)
{
    static const int64_t pairs[BATCHES] = {2, 2, 2};
    TestBatches data;
    test_batches(&data, pairs, count, net_batch);
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 8, .exact = true, .memo = memo, .samples = samples, .samples_key = "net"};
    return analyse_graphwise(graph, &data.batches, &options, table, error);
}

/* Promise: float samples are kept for the batch they are of, also where a memo knew an earlier batch and nothing was sampled there. */
TEST(samples_beside_a_memo_are_those_of_their_batch)
{
    Error error = {0};
    Memo *memos[] = {memo_new(1 << 20, &error), memo_new(1 << 20, &error), memo_new(1 << 20, &error)};
    FloatSamples *samples = float_samples_new(1 << 20, &error);
    Graph *graph = make_net(1, true);
    AnalyseTable alone, first, table;
    int verbose = progress_level;
    progress_level = 0;
    quantize_net(graph);
    REQUIRE(memos[0] && memos[1] && memos[2] && samples, "%s", error.what);
    REQUIRE(analyse_some(graph, BATCHES, NULL, NULL, &alone, &error), "%s", error.what);
    REQUIRE(analyse_some(graph, 1, memos[0], NULL, &first, &error), "%s", error.what);
    for (int i = 0; i < 3; i++) { /* the first begins behind a batch that its memo knows; the last finds what the second kept */
        REQUIRE(analyse_some(graph, BATCHES, memos[i], samples, &table, &error), "%s", error.what);
        CHECK(same_table(&alone, &table), "analysis %d", i);
        analyse_table_free(&table);
    }
    analyse_table_free(&first);
    analyse_table_free(&alone);
    graph_free(graph);
    float_samples_free(samples);
    for (int i = 0; i < 3; i++)
        memo_free(memos[i]);
    progress_level = verbose;
}

/* Promise: whatever allocation fails, the analysis says so or goes on without the memo, and nothing leaks. */
TEST(graphwise_with_a_memo_survives_failures)
{
    int verbose = progress_level, threads = threads_count();
    progress_level = 0;
    threads_set_count(1);
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    for (long n = 0;; n++) {
        Error error = {0};
        AnalyseTable table = {0};
        long before = fault_blocks();
        Memo *memo = memo_new(1 << 20, &error);
        REQUIRE(memo, "%s", error.what);
        fault_arm(FAULT_ALLOCATION, FAULT_ONCE, n);
        bool done = analyse(graph, memo, &table, &error), hit = fault_disarm();
        analyse_table_free(&table);
        CHECK(done || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        memo_free(memo);
        CHECK(fault_blocks() == before, "allocation %ld leaks", n);
        if (!hit) {
            CHECK(done, "it never succeeds: %s", error.what);
            break;
        }
    }
    graph_free(graph);
    threads_set_count(threads);
    progress_level = verbose;
}
