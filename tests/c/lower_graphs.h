/* Quantized graphs made by hand, and a look at what lowering makes of them. */
#ifndef ESPQ_TESTS_LOWER_GRAPHS_H
#define ESPQ_TESTS_LOWER_GRAPHS_H

#include "exec_graphs.h"
#include "lower/device.h"

Value *make_numbers(Graph *graph, const char *name, const Shape *shape, float (*number)(const int64_t *at)); /* float32 constant */
void make_output(Graph *graph, const char *name);

/* Shapes, then a slot for every end: activations at exponent -5, parameters at -7, biases (input 2 of products) at -12 with the
 * platform's bias width; integer constants stay float ends. */
void quantize_graph(Graph *graph, const char *target, int bits);
/* Input `end` of a node, or output -1 - end. */
void set_end(Graph *graph, const char *node, int end, int exponent);
void set_float(Graph *graph, const char *node); /* no slots, no platform */

/* The device graph, made with the default setting or the reference's; NULL after a failed test. */
Graph *lower_with(Graph *graph, const char *target, bool reference);
int64_t device_integer(const Graph *device, const char *value, int64_t index);
int count_type(const Graph *device, const char *type);
Node *first_of(const Graph *device, const char *type);
const char *stored_shape(const Graph *device, const char *value); /* "1x6x6x8"; a static buffer */

#endif
