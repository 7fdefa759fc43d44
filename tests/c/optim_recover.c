/* Recovery inside of the engine: interrupted, it leaves the graph as it was. */
#include "check.h"
#include "exec_graphs.h"
#include "text_graph.h"

#include <string.h>

#include "base/cancel.h"
#include "base/progress.h"
#include "optim/optim.h"
#include "quant/quantize.h"
#include "road/road.h"

static const int64_t sizes[] = {1, 1, 1, 1, 1, 1, 1, 1};
static bool (*next_of_data)(void *, Tensor **, bool *, Error *);

static Tensor *batch(int number, int64_t samples)
{
    return random_tensor(&(Shape){4, {samples, 2, 6, 6}}, 100 + (uint64_t)number);
}

/* Ctrl-C at the end of the data: what follows is trials and training. */
static bool next_and_cancel(void *context, Tensor **inputs, bool *done, Error *error)
{
    bool ok = next_of_data(context, inputs, done, error);
    if (ok && *done) cancel_request();
    return ok;
}

/* Promise: Ctrl-C in the middle of recovery fails as interrupted, and the graph is the one that went in. */
TEST(recovery_that_is_interrupted_changes_nothing)
{
    Error error = {0};
    char before[41], after[41];
    TestBatches data;
    progress_level = 0;
    test_batches(&data, sizes, 8, batch);
    Graph *graph = text_graph("x[1,2,6,6]; a = Conv:one(x, #w[6,2,3,3]); r = Relu:relu(a); y = Conv:two(r, #v[3,6,3,3]); > y");
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    REQUIRE(graph && setting, "%s", error.what);
    RoadOptions options = {.setting = setting, .target = target_find("esp32p4"), .bits = 8, .batches = &data.batches};
    REQUIRE(graph_infer(graph, &error) && road_quantize(graph, &options, &error), "%s", error.what);
    REQUIRE(road_digest(graph, before, &error), "%s", error.what);
    next_of_data = data.batches.next;
    data.batches.next = next_and_cancel;
    bool done = road_apply(graph, "recover", &options, &error);
    cancel_clear();
    CHECK(!done && error.code == ERROR_INTERRUPTED, "done %d, code %d", done, (int)error.code);
    CHECK(graph_check(graph, &error), "%s", error.what);
    REQUIRE(road_digest(graph, after, &error), "%s", error.what);
    CHECK(strcmp(before, after) == 0, "the graph has changed");
    data.batches.next = next_of_data;
    CHECK(road_apply(graph, "recover", &options, &error), "%s", error.what);
    REQUIRE(road_digest(graph, after, &error), "%s", error.what);
    CHECK(strcmp(before, after) != 0, "recovery changed nothing");
    graph_free(graph);
    setting_free(setting);
}
