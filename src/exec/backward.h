/* The training walk: a graph, or a block of it, run forward in simulated mode with everything kept that the way back needs, then
 * backward from gradients at its outputs to gradients of weights, biases, scales and block inputs (OPTIM §7–§9, §13).
 *
 *     Backward *walk = backward_new(graph, &options, shapes, error);         once a block: prepares kernels, makes all memory
 *     for each step:
 *         backward_forward(walk, inputs, outputs, error);                    outputs[i] is lent until the next forward
 *         … loss of outputs, its gradient …
 *         backward_back(walk, gradients, error);                             fills every parameter's and scale's `gradient`
 *         … the optimizer changes parameter->values and scale->log2 in place …
 *     … parameter->values go back to the graph with value_set_constant, scales with slot_set_exponents …
 *     backward_free(walk);
 *
 * A step allocates nothing: weights are quantized and packed anew from parameter->values each time. The graph is read only when the walk
 * is made (or refreshed), so that several walks may stand side by side. Sums over samples and pixels are made in an order of their own
 * (kernel/gradient.h): results are the same bits on any number of threads and every instruction set.
 *
 * Fake quantization on the way back is straight through. Per tensor: nothing passes where the rounded value lies outside of the range.
 * Per channel: the reference's plain quantization lets everything pass, its delegators (TQT, LSQ) mask there as well
 * (options.masks_channels). Ends that are off (OVERLAPPED, FP32, …) pass everything.
 *
 * Only what hangs on a trained parameter, a trained scale, or (with input_gradients) a block input is walked back. */
#ifndef ESPQ_EXEC_BACKWARD_H
#define ESPQ_EXEC_BACKWARD_H

#include "graph/graph.h"

/* A constant float32 input of a node that is trained. */
typedef struct BackwardParameter {
    Node *node; /* set by the caller */
    int index;  /* of the node's inputs; set by the caller */

    Shape shape;
    int64_t count;
    float *values;   /* the walk's own copy of the constant, changed by the optimizer between steps */
    float *gradient; /* of the last backward_back: d loss / d values, or d loss / d replacement where there is one */
    /* NULL: values are fake-quantized as the slot says, and the gradient goes back through that. Otherwise these numbers stand for the
     * quantized weight as they are (AdaRound's soft rounding); the caller's, `count` of them, read in each forward. */
    const float *replacement;
} BackwardParameter;

/* A slot whose scale is trained: this end alone is quantized by it; slots that follow it keep the scale they had when the walk was made
 * (or refreshed), as in the reference (OPTIM §7.1). */
typedef struct BackwardScale {
    Slot *slot; /* set by the caller: quantizes (slot_quantizes), its end lies in the walk; a constant's end is among the parameters */

    int count;       /* 1, or one a channel */
    float *log2;     /* log2 of the scale: starts as the root's exponents, changed by the optimizer between steps */
    float *gradient; /* of the last backward_back: d loss / d log2 (OPTIM §7.2); d loss / d scale is that over scale * ln 2 */
    bool whole;      /* true (at first): the scale is 2^rint(log2); false: 2^log2. The caller's to change */
} BackwardScale;

typedef struct BackwardOptions {
    bool exact;           /* onnx_exact_ops, see Prepare */
    bool floating;        /* all slots off: the walk of the float graph */
    bool masks_channels;  /* clipping stops the gradient per channel, too: TQT and LSQ, not AdaRound and QAT */
    bool input_gradients; /* gradients of the given values, too */
    Value *const *given;  /* block inputs: the values that enter; NULL: the graph inputs */
    int given_count;
    Value *const *wanted; /* block outputs, none of them constant; NULL: the graph outputs */
    int wanted_count;
    BackwardParameter
        *parameters; /* the caller's, live as long as the walk: node and index filled in, the rest is filled by backward_new */
    int parameter_count;
    BackwardScale *scales; /* the same: slot filled in */
    int scale_count;
} BackwardOptions;

typedef struct Backward Backward;

/* May this input be trained: a float32 constant to which its node's operator gives a gradient (not the bounds of Clip, the scales of
 * Resize, …)? Whether the reference trains it is another question (OPTIM §6.4). */
bool backward_can_train(const Node *node, int index);

/* shapes: one an input (given value, or graph input), with any batch size. A batch of another size than the traced one is run at once
 * where every value grows with it along its first axis, and piece by piece where a shape is baked in (the outputs are then those of all
 * pieces, joined). Fails for an operator without gradient on the way, and for what plan_new fails for. */
Backward *backward_new(Graph *graph, const BackwardOptions *options, const Shape *shapes, Error *error);
void backward_free(Backward *walk); /* NULL is fine */

/* Slots' exponents or constants have changed in the graph (not which slots are on, nor shapes). Parameters keep their values, and scales
 * their log2. */
bool backward_refresh(Backward *walk, Error *error);

/* Inputs as plan_run takes them. outputs[i]: of wanted value i, whole batch, lent until the next forward. */
bool backward_forward(Backward *walk, Tensor *const *inputs, const Tensor **outputs, Error *error);

/* Back through the last forward. gradients[i]: d loss / d output i, float32, contiguous, of its shape; NULL: none. Fails only when it is
 * interrupted. May be called again for the same forward. */
bool backward_back(Backward *walk, Tensor *const *gradients, Error *error);
/* With input_gradients: d loss / d given value, lent until the next backward_back. NULL: it is no float, or the loss does not hang on it. */
const Tensor *backward_input_gradient(const Backward *walk, int index);

/* What a parameter was quantized to in the last forward (its values in a floating walk), `count` floats, lent until the next one. */
const float *backward_seen(const Backward *walk, const BackwardParameter *parameter);

size_t backward_bytes(const Backward *walk); /* memory it holds: what a step keeps, gradients and scratch */

#endif
