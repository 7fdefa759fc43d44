/* Small graphs from a line of text, for tests of rewrites.
 *
 *   x[1,3,8,8]; c = Conv:conv1(x, #w[4,3,3,3], #b[4]) pads=[1,1,1,1]; y = Relu(c); > y
 *
 * name[sizes]             a graph input, float32
 * out, … = Type:name(…)   a node; without :name its name is Type_out; attributes follow: k=1, k=0.5, k=[1,2], k=word
 * #w[4,3]  #k=0.5  #i{1,2}   constants: seeded normal numbers, a scalar, int64; made at their first mention
 * _                       an input left out
 * > y, z                  the graph's outputs */
#ifndef ESPQ_TESTS_TEXT_GRAPH_H
#define ESPQ_TESTS_TEXT_GRAPH_H

#include "graph/graph.h"
#include "simplify/simplify.h"

Graph *text_graph(const char *text); /* NULL after noting a failure */
/* "Conv Relu": types in order of execution. */
const char *text_types(const Graph *graph, char out[1024]);
/* Outputs on seeded inputs, in float; at most 8. False after noting a failure. */
bool text_run(Graph *graph, Tensor *outputs[8]);
/* Simplify a copy of the graph; its outputs must agree with the original's within `tolerance` times the largest value. Returns the copy. */
Graph *text_simplify(const char *text, bool extra, double tolerance);

#endif
