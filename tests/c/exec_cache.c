#include <string.h>

#include "base/cancel.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/threads.h"
#include "check.h"
#include "exec/cache.h"
#include "exec_graphs.h"

enum { BATCHES = 3 };
static const int64_t sizes[BATCHES] = {1, 1, 1}, mixed[BATCHES] = {1, 3, 2};

/* x -> conv1 -> relu -> conv2 -> add (with the relu) -> reshape -> gemm, in three stops, the last behind the branch. */
typedef struct Net {
    Graph *graph;
    Value *floating[3], *simulated[3];
    CacheStop stops[3];
    TestBatches data;
} Net;

static void net_begin(Net *net, const int64_t *batches)
{
    static const char *const floating[] = {"c1", "c2", "y"}, *const simulated[] = {"x", "r", "s"};
    net->graph = make_net(1, true);
    quantize_net(net->graph);
    for (int i = 0; i < 3; i++) {
        net->floating[i] = graph_value(net->graph, floating[i]);
        net->simulated[i] = graph_value(net->graph, simulated[i]);
        net->stops[i] = (CacheStop){&net->floating[i], 1, &net->simulated[i], 1};
    }
    test_batches(&net->data, batches, BATCHES, net_batch);
}

static Tensor *whole_run(Graph *graph, ExecMode mode, Value *value, Tensor *input)
{
    Error error = {0};
    Tensor *output = NULL;
    PlanOptions options = {.mode = mode, .exact = true, .wanted = &value, .wanted_count = 1};
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    if (plan) plan_run(plan, &input, &output, &error);
    CHECK(output, "%s", error.what);
    plan_free(plan);
    return output;
}

static void check_row(const Net *net, Cache *cache, int stop, int64_t batch)
{
    Error error = {0};
    Tensor *seen[2], *input = net_batch((int)batch, net->data.sizes[batch]);
    REQUIRE(cache_row(cache, batch, &seen[0], &seen[1], &error), "%s", error.what);
    for (int mode = 0; mode < 2; mode++) {
        Tensor *expected = whole_run(net->graph, (ExecMode)mode, mode ? net->simulated[stop] : net->floating[stop], input);
        CHECK(expected && tensor_equal(expected, seen[mode]), "stop %d, batch %d, mode %d differs", stop, (int)batch, mode);
        tensor_release(expected);
        tensor_release(seen[mode]);
    }
    tensor_release(input);
}

/* Promise: rows are what whole runs give, bit by bit, from memory, from the file, going forward and back, with any batch sizes. */
TEST(cache_gives_what_whole_runs_give)
{
    for (int i = 0; i < 6; i++) {
        Error error = {0};
        Net net;
        net_begin(&net, i % 2 ? mixed : sizes);
        size_t limit = i < 2 ? 0 : i < 4 ? 1 : 700;
        CacheOptions options = {.exact = true, .memory_limit = limit, .stops = net.stops, .stop_count = 3};
        Cache *cache = cache_new(net.graph, &net.data.batches, &options, &error);
        REQUIRE(cache && cache_batch_count(cache) == BATCHES, "%s", error.what);
        static const int path[] = {0, 1, 2, 0, 2};
        for (int k = 0; k < 5; k++) {
            REQUIRE(cache_go(cache, path[k], &error), "%s", error.what);
            for (int64_t batch = BATCHES - 1; batch >= 0; batch--)
                check_row(&net, cache, path[k], batch);
        }
        CHECK((cache_spilled_bytes(cache) > 0) == (limit > 0), "%d bytes lie in the file", (int)cache_spilled_bytes(cache));
        cache_free(cache);
        graph_free(net.graph);
    }
}

/* Promise: a stop begins at the values of the stop before: what changed above them is not seen unless it is said. */
TEST(cache_goes_on_from_the_stop_before)
{
    Error error = {0};
    Net net;
    net_begin(&net, sizes);
    Node *first = graph_node(net.graph, "conv1");
    CacheOptions options = {.exact = true, .stops = net.stops, .stop_count = 3};
    Cache *cache = cache_new(net.graph, &net.data.batches, &options, &error);
    Tensor *input = net_batch(0, 1), *before = whole_run(net.graph, EXEC_SIMULATED, net.simulated[2], input), *seen[2];
    REQUIRE(cache && cache_go(cache, 1, &error), "%s", error.what);
    Tensor *weight = random_tensor(&first->inputs[1]->shape, 77);
    value_set_constant(net.graph, first->inputs[1], weight);
    REQUIRE(cache_go(cache, 2, &error) && cache_row(cache, 0, &seen[0], &seen[1], &error), "%s", error.what);
    CHECK(tensor_equal(seen[1], before), "it began above the stop before");
    tensor_release(seen[0]);
    tensor_release(seen[1]);
    cache_changed(cache, EXEC_FLOAT, &first, 1);
    cache_changed(cache, EXEC_SIMULATED, &first, 1);
    REQUIRE(cache_go(cache, 2, &error), "%s", error.what);
    check_row(&net, cache, 2, 0);
    cache_free(cache);
    tensor_release(weight);
    tensor_release(before);
    tensor_release(input);
    graph_free(net.graph);
}

static bool walk_stops(Net *net, Error *error)
{
    CacheOptions options = {.exact = true, .memory_limit = 700, .stops = net->stops, .stop_count = 3};
    Cache *cache = cache_new(net->graph, &net->data.batches, &options, error);
    bool ok = cache != NULL;
    for (int stop = 0; ok && stop < 3; stop++) {
        Tensor *seen[2];
        ok = cache_go(cache, stop, error);
        for (int64_t batch = 0; ok && batch < BATCHES; batch++) {
            if (!(ok = cache_row(cache, batch, &seen[0], &seen[1], error))) break;
            tensor_release(seen[0]);
            tensor_release(seen[1]);
        }
    }
    cache_free(cache);
    return ok;
}

/* Promise: whatever allocation or write fails, and whenever it is interrupted, that is the error, and nothing leaks. */
TEST(cache_survives_failures)
{
    static const FaultKind kinds[] = {FAULT_ALLOCATION, FAULT_WRITE, FAULT_INTERRUPT};
    static const ErrorCode codes[] = {ERROR_MEMORY, ERROR_FILE, ERROR_INTERRUPTED};
    Net net;
    net_begin(&net, sizes);
    int threads = threads_count();
    threads_set_count(1);
    for (int kind = 0; kind < 3; kind++) {
        for (long n = 0;; n++) {
            Error error = {0};
            long before = fault_blocks();
            fault_arm(kinds[kind], FAULT_FROM, n);
            bool ok = walk_stops(&net, &error), reached = fault_disarm();
            cancel_clear();
            CHECK(ok || error.code == codes[kind], "fault %d of kind %d: %s", (int)n, kind, error.what);
            CHECK(fault_blocks() == before, "fault %d of kind %d: leak of %ld", (int)n, kind, fault_blocks() - before);
            if (!reached) {
                CHECK(ok && n > 0, "kind %d is never reached", kind);
                break;
            }
            REQUIRE(n < 20000, "never succeeds");
        }
    }
    threads_set_count(threads);
    graph_free(net.graph);
}
