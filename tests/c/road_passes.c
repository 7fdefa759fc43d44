/* The road: the list of passes, its order, and what it refuses. */
#include "check.h"

#include <string.h>

#include "road/road.h"

/* Promise: the names and their order are the ones that dump --after, espq.pass and espq.apply promise. */
TEST(passes_stand_in_their_order)
{
    static const char *const names[] = {"load",          "simplify",      "dispatch",
                                        "weight_split",  "channel_split", "equalization",
                                        "convtranspose", "slots",         "ssd_equalization",
                                        "fuse",          "join",          "parameters",
                                        "calibrate",     "modify",        "align",
                                        "passive",       "bias_correct",  "lsq",
                                        "tqt",           "blockwise",     "recover",
                                        "baking",        "lower",         "export"};
    int count = sizeof names / sizeof names[0];
    for (int i = 0; i < count; i++) {
        const Pass *pass = road_pass_at(i);
        REQUIRE(pass, "the list ends before %s", names[i]);
        CHECK(strcmp(pass->name, names[i]) == 0, "row %d is %s, not %s", i, pass->name, names[i]);
        CHECK(pass->help && *pass->help, "%s has no help", pass->name);
        CHECK(pass->run || i < 2 || pass->when || strcmp(pass->name, "lower") == 0 || strcmp(pass->name, "export") == 0, "%s does nothing",
              pass->name);
    }
    CHECK(!road_pass_at(count), "there is a row more: %s", road_pass_at(count)->name);
    CHECK(!road_pass("no_such_pass"), "a pass that is none was found");
}

static bool do_nothing(Graph *graph, PassContext *context, Error *error)
{
    (void)graph;
    (void)context;
    (void)error;
    return true;
}

/* Promise: a pass of a script is refused behind a name that is none, behind the road's last steps, and under a name that is taken. */
TEST(passes_are_inserted_where_they_can_run)
{
    Error error = {0};
    Pass pass = {.name = "test_pass", .help = "a test", .run = do_nothing};
    CHECK(!road_insert(&pass, "calibrat", NULL, &error), "inserted behind a pass that is none");
    CHECK(strstr(error.what, "calibrate"), "the nearest name is missing: %s", error.what);
    CHECK(!road_insert(&pass, "lower", NULL, &error), "inserted behind lower");
    pass.name = "align";
    CHECK(!road_insert(&pass, "calibrate", NULL, &error), "a name that is taken was accepted");
    CHECK(!road_pass("test_pass"), "a refused pass is in the list");
}

static bool stop_at_once(void *context, const Pass *pass, Graph *graph, bool *stop, Error *error)
{
    (void)graph;
    (void)error;
    *stop = strcmp(pass->name, context) == 0;
    return true;
}

static Setting *make_setting(Error *error)
{
    return setting_new(SETTING_ESPDL, error);
}

/* x → Relu → y */
static Graph *relu_graph(Error *error)
{
    Graph *graph = graph_new("relu", error);
    if (!graph) return NULL;
    Shape shape = {2, {1, 4}};
    Value *x = graph_add_value(graph, "x", error), *y = graph_add_value(graph, "y", error);
    Node *node = graph_add_node(graph, "Relu", "relu", error);
    if (x && y && node && graph_add_input(graph, x, error) && node_add_input(graph, node, x, error) &&
        node_add_output(graph, node, y, error) && graph_add_output(graph, y, error)) {
        x->dtype = DTYPE_FLOAT32;
        x->shaped = true;
        x->shape = shape;
        return graph;
    }
    graph_free(graph);
    return NULL;
}

/* Promise: the road stops behind the pass it is told to, and refuses passes that cannot stand alone where they are asked for. */
TEST(road_stops_and_refuses)
{
    Error error = {0};
    Setting *setting = make_setting(&error);
    Graph *graph = relu_graph(&error);
    REQUIRE(setting && graph, "%s", error.what);
    RoadOptions options = {
        .setting = setting, .target = target_find("esp32p4"), .bits = 8, .check = true, .after = stop_at_once, .after_context = "slots"};
    CHECK(road_simplify(graph, &options, &error), "%s", error.what);
    CHECK(road_quantize(graph, &options, &error), "%s", error.what);
    CHECK(graph->nodes[0]->quantized, "no slots were made");
    CHECK(graph->nodes[0]->input_slots[0]->state == SLOT_INITIAL, "the road went on behind slots");
    CHECK(!road_quantize(graph, &options, &error), "a quantized graph was quantized again");
    graph_free(graph);

    graph = relu_graph(&error);
    REQUIRE(graph, "%s", error.what);
    CHECK(road_simplify(graph, &options, &error), "%s", error.what);
    CHECK(!road_apply(graph, "lower", &options, &error), "lower was applied alone");
    CHECK(!road_apply(graph, "fuse", &options, &error), "a pass ran on a graph without slots");
    graph_free(graph);
    setting_free(setting);
}
