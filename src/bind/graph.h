/* Graphs in Lua: one holder a graph, shared by the handles of its nodes, values and slots, which keep it alive. */
#ifndef ESPQ_BIND_GRAPH_H
#define ESPQ_BIND_GRAPH_H

#include "bind/box.h"
#include "graph/graph.h"

#define GRAPH_TYPE "espq.graph"
#define NODE_TYPE "espq.node"
#define VALUE_TYPE "espq.value"
#define SLOT_TYPE "espq.slot"

typedef struct GraphHolder {
    Graph *graph;
    Graph **retired; /* graphs that a failed change left behind: their nodes' handles say that they are removed */
    size_t retired_count, retired_capacity;
    uint64_t revision; /* grows with every change: plans made before are out of date */
} GraphHolder;

/* A box with an empty holder in it; the engine's graph goes into holder->graph afterwards. User value 1: the handles made so far (weak),
 * user value 2: what Lua knows about the graph (setting, target, …). */
GraphHolder *push_graph(lua_State *L);
GraphHolder *check_graph(lua_State *L, int index);
void push_current_graph(lua_State *L, const Graph *graph); /* the box whose graph it is now; raises when there is none */
void push_node(lua_State *L, int graph, Node *node);       /* graph: the stack index of the graph's box; nil for NULL */
void push_value(lua_State *L, int graph, Value *value);
void push_slot(lua_State *L, int graph, Slot *slot);
void push_slots(lua_State *L, int graph, Slot *const *slots, int count);
void push_values(lua_State *L, int graph, Value *const *values, int count);
Node *check_node(lua_State *L, int index, const Graph *graph); /* graph NULL: any; raises when the node was removed or is another graph's */
Value *check_value(lua_State *L, int index, const Graph *graph); /* a handle or a name */
void open_handles(lua_State *L);
void set_attribute(lua_State *L, Graph *graph, Node *node, const char *name, int index); /* from the Lua value at index */
void push_attribute(lua_State *L, const Attribute *attribute);

/* Before an edit that can fail half-way: restore puts the copy in place and marks everything of the damaged graph as removed. */
bool holder_restore(GraphHolder *holder, Graph *copy, Error *error);

#endif
