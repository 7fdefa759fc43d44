#include "base/fault.h"
#include "base/memory.h"
#include "check.h"
#include "graph/graph.h"

#include <string.h>

/* a → n0 → b → n1 → c, and n2 reads b twice */
static Graph *small(Error *error)
{
    Graph *graph = graph_new("small", error);
    const char *const names[] = {"a", "b", "c", "d"};
    Value *values[4];
    if (!graph) return NULL;
    for (int i = 0; i < 4; i++)
        if (!(values[i] = graph_add_value(graph, names[i], error))) goto failed;
    Node *n0 = graph_add_node(graph, "Relu", "n0", error), *n1 = n0 ? graph_add_node(graph, "Relu", "n1", error) : NULL;
    Node *n2 = n1 ? graph_add_node(graph, "Add", "n2", error) : NULL;
    if (!n2 || !node_add_input(graph, n0, values[0], error) || !node_add_output(graph, n0, values[1], error) ||
        !node_add_input(graph, n1, values[1], error) || !node_add_output(graph, n1, values[2], error) ||
        !node_add_input(graph, n2, values[1], error) || !node_add_input(graph, n2, values[1], error) ||
        !node_add_output(graph, n2, values[3], error) || !graph_add_input(graph, values[0], error) ||
        !graph_add_output(graph, values[2], error) || !graph_add_output(graph, values[3], error))
        goto failed;
    return graph;
failed:
    graph_free(graph);
    return NULL;
}

/* Promise: links are true in both directions after every edit. */
TEST(edits_keep_links_true)
{
    Error error = {0};
    Graph *graph = small(&error);
    REQUIRE(graph && graph_check(graph, &error), "%s", error.what);
    Node *n1 = graph_node(graph, "n1"), *n2 = graph_node(graph, "n2");
    Value *b = graph_value(graph, "b");
    Node *made = graph_add_node(graph, "Sigmoid", NULL, &error);
    Value *fresh = graph_add_value(graph, NULL, &error);
    CHECK(strcmp(made->name, "PPQ_Operation_0") == 0 && strcmp(fresh->name, "PPQ_Variable_0") == 0, "generated names");
    CHECK(graph_insert_before_use(graph, made, b, (Use){n2, 1}, fresh, &error) && graph_check(graph, &error), "%s", error.what);
    CHECK(n2->inputs[0] == b && n2->inputs[1] == fresh && b->use_count == 3, "one edge went through the new node");
    node_remove_input(graph, n2, 0);
    CHECK(n2->input_count == 1 && n2->inputs[0] == fresh && graph_check(graph, &error), "%s", error.what);
    CHECK(node_insert_input(graph, n2, 0, b, &error) && graph_check(graph, &error), "%s", error.what);
    CHECK(value_replace_uses(graph, b, graph_value(graph, "a"), &error) && b->use_count == 0 && graph_check(graph, &error), "%s",
          error.what);
    graph_remove_node(graph, n1);
    CHECK(n1->removed && !graph_node(graph, "n1") && graph_check(graph, &error), "%s", error.what);
    graph_remove_unused(graph);
    CHECK(!graph_value(graph, "b") && graph_check(graph, &error), "what nobody reads is gone: %s", error.what);
    graph_free(graph);
}

/* Promise: equal names are refused, and a removed name is free again. */
TEST(names_are_unique)
{
    Error error = {0};
    Graph *graph = small(&error);
    REQUIRE(graph, "%s", error.what);
    CHECK(!graph_add_node(graph, "Relu", "n0", &error) && !graph_add_value(graph, "a", &error), "an equal name");
    graph_remove_node(graph, graph_node(graph, "n1"));
    CHECK(graph_add_node(graph, "Relu", "n1", &error) != NULL, "%s", error.what);
    CHECK(graph_rename_value(graph, graph_value(graph, "c"), "e", &error) && graph_value(graph, "e") && !graph_value(graph, "c"),
          "renamed");
    graph_free(graph);
}

/* Promise: the order of execution is Kahn's with a FIFO from dictionary order, and a cycle is refused by name. */
TEST(order_is_kahn_and_cycles_are_named)
{
    Error error = {0};
    Graph *graph = small(&error);
    Node **order;
    REQUIRE(graph && graph_sort(graph, &order, &error), "%s", error.what);
    CHECK(strcmp(order[0]->name, "n0") == 0 && strcmp(order[1]->name, "n1") == 0 && strcmp(order[2]->name, "n2") == 0, "order");
    memory_free(order);
    node_set_input(graph, graph_node(graph, "n0"), 0, graph_value(graph, "c"), &error);
    CHECK(!graph_sort(graph, &order, &error) && strstr(error.where, "n0") && strstr(error.what, "cycle"), "%s: %s", error.where,
          error.what);
    graph_free(graph);
}

/* Promise: a copy is another graph with the same structure, slots and owners of exponents; changing it leaves the original alone. */
TEST(copies_are_equal_and_apart)
{
    Error error = {0};
    Graph *graph = small(&error);
    REQUIRE(graph, "%s", error.what);
    for (int i = 0; i < graph->node_count; i++)
        REQUIRE(node_make_slots(graph, graph->nodes[i], &error), "%s", error.what);
    Slot *top = graph->nodes[0]->output_slots[0], *below = graph->nodes[1]->input_slots[0];
    top->state = below->state = SLOT_INITIAL;
    CHECK(slot_set_exponents(graph, top, (int[]){-5}, 1) && slot_dominate(below, top), "slots");
    Graph *copy = graph_copy(graph, &error);
    REQUIRE(copy && graph_check(copy, &error), "%s", error.what);
    Text a = {0}, b = {0};
    graph_print(graph, &a);
    graph_print(copy, &b);
    CHECK(strcmp(a.data, b.data) == 0, "%s\n%s", a.data, b.data);
    CHECK(slot_root(copy->nodes[1]->input_slots[0]) == copy->nodes[0]->output_slots[0], "the copy's slot follows the copy's");
    slot_set_exponents(copy, copy->nodes[0]->output_slots[0], (int[]){3}, 1);
    CHECK(slot_exponent(below, 0) == -5, "the original keeps its exponent");
    text_free(&a);
    text_free(&b);
    graph_free(copy);
    graph_free(graph);
}

/* Promise: dominating joins two sets once; a slot cannot dominate itself (QUANT §3). */
TEST(slots_join_as_union_find)
{
    Slot a = {.parent = &a}, b = {.parent = &b}, c = {.parent = &c};
    CHECK(slot_dominate(&a, &b) && a.state == SLOT_OVERLAPPED && slot_root(&a) == &b, "a follows b");
    CHECK(!slot_dominate(&b, &a) && slot_root(&b) == &b, "b cannot follow itself through a");
    CHECK(slot_dominate(&a, &c) && slot_root(&b) == &c && b.state == SLOT_OVERLAPPED, "the whole set follows c");
    Slot free = {.parent = &free};
    CHECK(slot_master(&free, &a) && free.state == SLOT_PASSIVE_INIT && slot_root(&free) == &c, "no exponent yet");
}

/* Promise: whatever allocation fails while a graph is made and copied, the answer is an error and nothing leaks. */
TEST(every_allocation_of_a_graph_may_fail)
{
    for (long n = 0;; n++) {
        Error error = {0};
        long blocks = fault_blocks();
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        Graph *graph = small(&error), *copy = graph ? graph_copy(graph, &error) : NULL;
        bool ok = copy != NULL;
        graph_free(copy);
        graph_free(graph);
        bool hit = fault_disarm();
        CHECK(fault_blocks() == blocks, "a leak when allocation %ld fails", n);
        CHECK(ok || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        if (!hit) {
            CHECK(ok, "never succeeds");
            return;
        }
    }
}
