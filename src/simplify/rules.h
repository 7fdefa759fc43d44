/* What the files of this room share: the rows' functions and a few helpers. */
#ifndef ESPQ_SIMPLIFY_RULES_H
#define ESPQ_SIMPLIFY_RULES_H

#include <string.h>

#include "base/memory.h"
#include "exec/plan.h"
#include "graph/operator.h"
#include "graph/pattern.h"
#include "simplify/simplify.h"

typedef bool RewriteFunction(Graph *graph, const SimplifyOptions *options, int *changes, Error *error);

/* ---- the rows ---- */
RewriteFunction rewrite_constants, rewrite_names, rewrite_no_ops, rewrite_softmax_axes, rewrite_gemm_factors, rewrite_split_parameters,
    rewrite_bias_add, rewrite_batch_norm, rewrite_isolated_batch_norm, rewrite_swish, rewrite_rms_norm, rewrite_lp_norm, rewrite_slice,
    rewrite_clip, rewrite_pad, rewrite_resize, rewrite_split_sizes, rewrite_identity;
RewriteFunction rewrite_layer_norm, rewrite_gelu, rewrite_any_swish, rewrite_bounds, rewrite_pixel_shuffle, rewrite_depth_order,
    rewrite_global_pool, rewrite_matmul_add, rewrite_gemm_transpose, rewrite_gemm_bias, rewrite_flatten, rewrite_transposes, rewrite_groups,
    rewrite_bias_sum, rewrite_spelling, rewrite_einsum, rewrite_given_scales, rewrite_quantize_pairs, rewrite_sums;

/* ---- helpers ---- */

static inline bool is_type(const Node *node, const char *type)
{
    return node && strcmp(node->type, type) == 0;
}
bool is_one_of(const char *type, const char *const *types); /* types ends with NULL */

/* The nodes as they stand now, for loops that add and remove; freed with memory_free. Ask node->removed in the loop. */
Node **nodes_now(const Graph *graph, Error *error);

Tensor *input_constant(const Node *node, int index); /* NULL: absent or no constant */
Value *only_input(const Node *node, int index);      /* NULL when there is no such input */
/* Output 0 has one consumer edge and is no graph output: the consumer, else NULL. */
Node *only_consumer(const Graph *graph, const Node *node);
/* The one float of a constant with one element; false otherwise. */
bool scalar_of(const Tensor *constant, double *out);
bool tensor_is_float(const Tensor *tensor);
/* A list of integers given as input `index` or attribute `name`; count, or -1. */
int integers_of(const Node *node, int index, const char *name, int64_t *out, int capacity);

/* A new constant input at the end; name NULL: generated (PPQ_Variable_k); a taken name gets _1, _2 … Takes over the tensor's reference. */
bool add_constant_input(Graph *graph, Node *node, const char *name, Tensor *constant, Error *error);
Value *add_named_constant(Graph *graph, const char *name, Tensor *constant, Error *error);
/* A constant input replaced by another tensor; other uses of the old one keep theirs. Takes over the tensor's reference. */
bool replace_constant(Graph *graph, Node *node, int index, Tensor *tensor, Error *error);
/* A new node behind all others; a taken name gets _1, _2 … Opset 18, as the reference's created operations (QUANT §2.2). */
Node *add_node(Graph *graph, const char *type, const char *name, Error *error);
/* Change what a node is, in place. */
void set_type(Node *node, const char *type);
/* Remove a value nobody reads, makes or shows. */
void drop_if_free(Graph *graph, Value *value);
/* Remove a node and the values that only it knew. */
void drop_node(Graph *graph, Node *node);
/* Remove a node and let its consumers read its input 0. A graph output moves to the input in its place in the list, under the input's
 * name or (keep_output_names) its own. *removed is false, and nothing changed, where the input cannot stand for the output. */
bool bypass_node(Graph *graph, Node *node, const SimplifyOptions *options, bool *removed, Error *error);

/* Infer every value's shape; all nodes that cannot be are named in one error, unknown operators among them. */
bool infer_all(Graph *graph, Error *error);
bool inputs_shaped(const Node *node);
/* Lines about nodes that cannot run and, with bits not 0, that the chip cannot take at that width. */
void list_unsupported(const Graph *graph, int bits, Text *lines, int *count);

#endif
