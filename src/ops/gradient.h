/* What gradients of many rows share, and the columns that stand in files of their own (`gradient` of graph/operator.h). */
#ifndef ESPQ_OPS_GRADIENT_H
#define ESPQ_OPS_GRADIENT_H

#include "ops/common.h"

/* Operators whose outputs are copies of input elements and constants (Slice, Gather, Transpose, …): `run` is asked where each element
 * comes from, by running it on the numbers of elements instead of elements. Every float32 input may be asked for. */
size_t gradient_moves_scratch(const Prepare *prepare);
void gradient_moves(const Gradient *gradient);

void gradient_copy(const Gradient *gradient); /* Reshape, Identity, …: output 0 is input 0 */

/* A float tensor of a gradient's tensors, NULL where it is not there. */
static inline float *gradient_floats(Tensor *const *tensors, int index)
{
    return tensors[index] ? tensor_floats(tensors[index]) : NULL;
}
static inline float *gradient_wanted(const Gradient *gradient, int input)
{
    return input < gradient->node->input_count ? gradient_floats(gradient->input_gradients, input) : NULL;
}

/* activation_gradient.c */
void gradient_relu(const Gradient *gradient);
void gradient_clip(const Gradient *gradient);
void gradient_leaky_relu(const Gradient *gradient);
void gradient_elu(const Gradient *gradient);
void gradient_sigmoid(const Gradient *gradient);
void gradient_tanh(const Gradient *gradient);
void gradient_hard_sigmoid(const Gradient *gradient);
void gradient_hard_swish(const Gradient *gradient);
void gradient_swish(const Gradient *gradient);
void gradient_gelu(const Gradient *gradient);
void gradient_softplus(const Gradient *gradient);
void gradient_mish(const Gradient *gradient);
void gradient_selu(const Gradient *gradient);
void gradient_celu(const Gradient *gradient);
void gradient_thresholded_relu(const Gradient *gradient);
void gradient_softsign(const Gradient *gradient);
void gradient_shrink(const Gradient *gradient);
void gradient_abs(const Gradient *gradient);
void gradient_neg(const Gradient *gradient);
void gradient_exp(const Gradient *gradient);
void gradient_log(const Gradient *gradient);
void gradient_sqrt(const Gradient *gradient);
void gradient_reciprocal(const Gradient *gradient);
void gradient_sin(const Gradient *gradient);
void gradient_cos(const Gradient *gradient);
void gradient_tan(const Gradient *gradient);
void gradient_erf(const Gradient *gradient);

/* binary_gradient.c: operands broadcast, sums over broadcast axes in float64, in the order of the output. */
size_t gradient_broadcast_scratch(const Prepare *prepare);
void gradient_add(const Gradient *gradient); /* Add, Sum */
void gradient_sub(const Gradient *gradient);
void gradient_mul(const Gradient *gradient);
void gradient_div(const Gradient *gradient);
void gradient_pow(const Gradient *gradient);
void gradient_extreme(const Gradient *gradient); /* Max, Min: equal shares to those that are equal to the result */
void gradient_mean(const Gradient *gradient);
void gradient_where(const Gradient *gradient);
/* slope: its shape as the operator broadcasts it. */
void gradient_prelu_slope(const Gradient *gradient, const Shape *slope);

#endif
