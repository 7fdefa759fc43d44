#include <string.h>

#include "base/fault.h"
#include "check.h"
#include "chip/memory_plan.h"

/* A value of so many int8 in a graph under test. */
static Value *bytes(Graph *graph, const char *name, int64_t count)
{
    Error error = {0};
    Value *value = graph_value(graph, name);
    if (value) return value;
    value = graph_add_value(graph, name, &error);
    value->dtype = DTYPE_INT8;
    value->shaped = true;
    value->shape = shape_of(1, &count);
    return value;
}

/* from: names parted by blanks. */
static void node(Graph *graph, const char *type, const char *name, const char *from, const char *to, int64_t count)
{
    Error error = {0};
    char names[100];
    snprintf(names, sizeof names, "%s", from);
    Node *made = graph_add_node(graph, type, name, &error);
    for (char *rest = names, *one; (one = strtok_r(rest, " ", &rest));)
        node_add_input(graph, made, bytes(graph, one, 0), &error);
    node_add_output(graph, made, bytes(graph, to, count), &error);
}

static const MemoryTensor *tensor(const MemoryPlan *plan, const char *name)
{
    for (int i = 0; i < plan->count; i++) {
        if (strcmp(plan->tensors[i].value->name, name) == 0) return &plan->tensors[i];
    }
    test_failed(__FILE__, __LINE__, "no tensor %s", name);
    return plan->tensors;
}

static Graph *graph_from(int64_t input)
{
    Error error = {0};
    Graph *graph = graph_new("plan", &error);
    graph_add_input(graph, bytes(graph, "x", input), &error);
    return graph;
}

static MemoryPlan plan_of(Graph *graph, const char *output, int64_t internal)
{
    Error error = {0};
    MemoryPlan plan;
    graph_add_output(graph, bytes(graph, output, 0), &error);
    MemoryPlanOptions options = {.max_internal_bytes = internal};
    CHECK(memory_plan(graph, &options, &plan, &error), "%s: %s", error.where, error.what);
    return plan;
}

/* Promise: the worked numbers of CHIP §7: an in-place PRelu, a growing last chunk, the peak. */
TEST(the_planner_gives_the_worked_numbers)
{
    Graph *graph = graph_from(1024);
    node(graph, "Conv", "conv", "x", "a", 12288);
    node(graph, "PRelu", "act", "a", "b", 12288);
    node(graph, "MaxPool", "pool", "b", "c", 3072);
    MemoryPlan plan = plan_of(graph, "c", 0);
    CHECK(tensor(&plan, "a")->offset == 1024 && tensor(&plan, "b")->offset == 1024 && tensor(&plan, "c")->offset == 13312,
          "offsets %lld %lld %lld", (long long)tensor(&plan, "a")->offset, (long long)tensor(&plan, "b")->offset,
          (long long)tensor(&plan, "c")->offset);
    CHECK(tensor(&plan, "b")->leader >= 0 && tensor(&plan, "x")->end == 1 && plan.variable_bytes == 16384,
          "leader %d, x ends %d, peak %lld", tensor(&plan, "b")->leader, tensor(&plan, "x")->end, (long long)plan.variable_bytes);
    memory_plan_free(&plan);
    graph_free(graph);
}

/* Promise: an input that is read again later is not overwritten: the earlier in-place result gets memory of its own. */
TEST(a_later_reader_takes_the_in_place_link_away)
{
    Graph *graph = graph_from(64);
    node(graph, "Conv", "conv", "x", "a", 64);
    node(graph, "Relu", "relu", "a", "r", 64);
    node(graph, "Mul", "mul", "a r", "m", 64);
    MemoryPlan plan = plan_of(graph, "m", 0);
    CHECK(tensor(&plan, "r")->leader == -1 && tensor(&plan, "r")->offset != tensor(&plan, "a")->offset, "r lies in a");
    memory_plan_free(&plan);
    graph_free(graph);
}

/* Promise: a chain of table, view and table shares one block, to the end of the run when its last is a result. */
TEST(chains_share_one_block)
{
    Graph *graph = graph_from(32);
    node(graph, "Conv", "conv", "x", "a", 64);
    node(graph, "Relu", "relu", "a", "r", 64);
    node(graph, "Reshape", "view", "r", "v", 64);
    MemoryPlan plan = plan_of(graph, "v", 0);
    CHECK(tensor(&plan, "v")->leader == tensor(&plan, "r")->leader && tensor(&plan, "v")->end == -1, "leader %d, end %d",
          tensor(&plan, "v")->leader, tensor(&plan, "v")->end);
    CHECK(plan.variable_bytes == 96, "%lld bytes", (long long)plan.variable_bytes);
    memory_plan_free(&plan);
    graph_free(graph);
}

/* Promise: the internal pool is tried first, never grows, and is counted whole; what does not fit goes to PSRAM. */
TEST(the_internal_pool_is_tried_first)
{
    Graph *graph = graph_from(100);
    node(graph, "Conv", "conv", "x", "a", 300);
    node(graph, "Conv", "conv2", "a", "b", 40);
    MemoryPlan plan = plan_of(graph, "b", 256);
    CHECK(tensor(&plan, "x")->internal && !tensor(&plan, "a")->internal && tensor(&plan, "b")->internal, "pools");
    CHECK(tensor(&plan, "b")->offset == 0 && plan.internal_bytes == 256 && plan.variable_bytes == 304, "b at %lld, %lld, %lld",
          (long long)tensor(&plan, "b")->offset, (long long)plan.internal_bytes, (long long)plan.variable_bytes);
    memory_plan_free(&plan);
    graph_free(graph);
}

/* Promise: whatever allocation fails, the planner says so and leaks nothing. */
TEST(a_plan_without_memory_is_an_error)
{
    Graph *graph = graph_from(1024);
    Error error = {0};
    node(graph, "Conv", "conv", "x", "a", 12288);
    node(graph, "PRelu", "act", "a", "b", 12288);
    node(graph, "MaxPool", "pool", "b", "c", 3072);
    graph_add_output(graph, bytes(graph, "c", 0), &error);
    for (long n = 0;; n++) {
        long before = fault_blocks();
        MemoryPlan plan;
        error = (Error){0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        bool fine = memory_plan(graph, &(MemoryPlanOptions){.max_internal_bytes = 2048}, &plan, &error), hit = fault_disarm();
        CHECK(fine || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        if (fine) memory_plan_free(&plan);
        CHECK(fault_blocks() == before, "allocation %ld: a leak", n);
        if (!hit) break;
    }
    graph_free(graph);
}
