/* GRU and LSTM. In float by ONNX's definition; where a quantized node is simulated, as the reference emulates the chip
 * (QUANT §10.4): products and cell states in 16 bits at exponent -9. Gate order z r h (GRU), i o f c (LSTM). */
#include "ops/recurrent.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/math.h"
#include "base/memory.h"
#include "ops/common.h"
#include "ops/rows.h"
#include "quant/slots.h"

enum { INPUT_X, INPUT_W, INPUT_R, INPUT_B, INPUT_LENGTHS, INPUT_H, INPUT_C, INPUT_PEEPHOLES };

static bool wants(const Node *node, int index, const char *name, int rank, const int64_t *dims, Error *error)
{
    Shape shape, wanted = shape_of(rank, dims);
    char a[160], b[160];
    if (!has_input(node, index)) return true;
    if (!input_shape(node, index, &shape, error) || !require_float32(node, index, error)) return false;
    if (shape_equal(&shape, &wanted)) return true;
    return fail_node(error, node, "check hidden_size, direction and layout", "input %d (%s) has shape %s, wanted is %s", index, name,
                     shape_text(&shape, a), shape_text(&wanted, b));
}

/* Sizes from the shapes of X and R. */
static bool read_sizes(const Node *node, const Shape *x, const Shape *r, Recurrent *recurrent, Error *error)
{
    const char *direction = node_string(node, "direction", "forward");
    if (!require_rank(node, x, 3, 3, "input", error) || !require_rank(node, r, 3, 3, "recurrence weight", error)) return false;
    recurrent->gates = strcmp(node->type, "LSTM") == 0 ? 4 : 3;
    recurrent->batch_first = node_integer(node, "layout", 0) == 1;
    recurrent->steps = x->dims[recurrent->batch_first ? 1 : 0];
    recurrent->batch = x->dims[recurrent->batch_first ? 0 : 1];
    recurrent->inputs = x->dims[2];
    recurrent->hidden = r->dims[2];
    recurrent->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    recurrent->backward = strcmp(direction, "reverse") == 0;
    if (recurrent->directions == 1 && !recurrent->backward && strcmp(direction, "forward") != 0)
        return fail_node(error, node, "known are forward, reverse, bidirectional", "direction is \"%s\"", direction);
    int64_t hidden = node_integer(node, "hidden_size", recurrent->hidden);
    if (hidden != recurrent->hidden)
        return fail_node(error, node, "repair the model", "hidden_size is %lld, the weights say %lld", (long long)hidden,
                         (long long)recurrent->hidden);
    return true;
}

/* Activations other than the default ones have no counterpart on the chip. */
static bool check_activations(const Node *node, const Recurrent *recurrent, Error *error)
{
    static const char *const usual[2][3] = {{"sigmoid", "tanh", NULL}, {"sigmoid", "tanh", "tanh"}};
    const Attribute *attribute = node_attribute(node, "activations");
    int each = recurrent->gates == 4 ? 3 : 2;
    if (!attribute || attribute->kind != ATTRIBUTE_STRINGS || attribute->count == 0) return true;
    for (int i = 0; i < attribute->count; i++) {
        if (strcasecmp(attribute->strings[i], usual[recurrent->gates == 4][i % each]) != 0)
            return fail_node(error, node, "use the default activations (Sigmoid, Tanh)",
                             "activation %d is %s: only the default ones are supported", i, attribute->strings[i]);
    }
    return true;
}

/* Lengths are accepted when they say nothing: every sequence is whole. */
static bool check_lengths(const Node *node, const Recurrent *recurrent, Error *error)
{
    int64_t lengths[256];
    int count;
    if (!has_input(node, INPUT_LENGTHS)) return true;
    if (!input_integers(node, INPUT_LENGTHS, lengths, 256, &count, error)) return false;
    for (int i = 0; i < count; i++) {
        if (lengths[i] != recurrent->steps)
            return fail_node(error, node, "give whole sequences, without sequence_lens",
                             "sequence_lens asks for %lld of %lld steps: the chip walks all", (long long)lengths[i],
                             (long long)recurrent->steps);
    }
    return true;
}

static bool recurrent_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x, r;
    Recurrent s = {0};
    if (!input_shape(node, INPUT_X, &x, error) || !input_shape(node, INPUT_R, &r, error) || !has_input(node, INPUT_W)) {
        return has_input(node, INPUT_W) ? false : fail_node(error, node, "repair the model", "input 1 (W) is missing");
    }
    if (!require_float32(node, INPUT_X, error) || !read_sizes(node, &x, &r, &s, error)) return false;
    const int64_t state[3] = {s.batch_first ? s.batch : s.directions, s.batch_first ? s.directions : s.batch, s.hidden};
    if (!wants(node, INPUT_W, "W", 3, (const int64_t[]){s.directions, s.gates * s.hidden, s.inputs}, error) ||
        !wants(node, INPUT_R, "R", 3, (const int64_t[]){s.directions, s.gates * s.hidden, s.hidden}, error) ||
        !wants(node, INPUT_B, "B", 2, (const int64_t[]){s.directions, 2 * s.gates * s.hidden}, error) ||
        !wants(node, INPUT_H, "initial_h", 3, state, error))
        return false;
    if (s.gates == 4 && !wants(node, INPUT_C, "initial_c", 3, state, error)) return false;
    if (has_input(node, INPUT_PEEPHOLES))
        return fail_node(error, node, "train without peepholes", "input 7 (P) is given: peepholes are not supported, the chip has none");
    if (node_integer(node, "input_forget", 0) != 0)
        return fail_node(error, node, "train without it", "input_forget is on: the chip has none");
    if (!check_activations(node, &s, error) || !check_lengths(node, &s, error)) return false;
    Shape y = {.rank = 4, .dims = {s.steps, s.directions, s.batch, s.hidden}}, last = shape_of(3, state);
    if (s.batch_first) y = (Shape){.rank = 4, .dims = {s.batch, s.steps, s.directions, s.hidden}};
    set_output(node, 0, DTYPE_FLOAT32, &y);
    for (int i = 1; i < s.gates - 1; i++)
        set_output(node, i, DTYPE_FLOAT32, &last);
    return true;
}

/* What the chip cannot do is refused where it would be simulated; the reference's run walks "reverse" forward (QUANT §10.4). */
static bool check_simulated(const Prepare *prepare, Recurrent *state, Error *error)
{
    const Node *node = prepare->node;
    if (!state->simulated) return true;
    if (state->gates == 3 && !state->linear_before_reset)
        return fail_node(error, node, "export it with linear_before_reset = 1 (PyTorch does), or dispatch it to float",
                         "linear_before_reset is 0: the chip has only 1");
    if (state->clip > 0)
        return fail_node(error, node, "train without clip, or dispatch it to float", "clip is %g: the chip has none", (double)state->clip);
    if (state->backward && prepare->exact)
        return fail_node(error, node, "reverse the sequence before and after it (Slice with step -1), or dispatch it to float",
                         "direction is \"reverse\": the chip walks forward or both ways");
    state->backward = false;
    return true;
}

static bool pack_weights(const Recurrent *state, const Tensor *constant, int64_t inputs, float **packed, Error *error)
{
    int64_t rows = state->gates * state->hidden;
    size_t bytes = recurrent_packed_bytes(state, inputs);
    *packed = memory_new_aligned(bytes * (size_t)state->directions);
    if (!*packed) return fail_memory(error, bytes * (size_t)state->directions);
    for (int64_t d = 0; d < state->directions; d++) {
        matmul_f32_pack(inputs, rows, tensor_floats(constant) + d * rows * inputs, 1, inputs, *packed + (size_t)d * bytes / sizeof(float));
    }
    return true;
}

static bool recurrent_prepare(Prepare *prepare, Error *error)
{
    const Node *node = prepare->node;
    Recurrent *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    if (!read_sizes(node, &prepare->input_shapes[INPUT_X], &prepare->input_shapes[INPUT_R], state, error)) return false;
    state->simulated = prepare->simulated;
    state->wide = prepare->wide;
    state->linear_before_reset = node_integer(node, "linear_before_reset", 0) != 0;
    state->clip = node_number(node, "clip", 0.0f);
    if (!check_simulated(prepare, state, error)) return false;
    int64_t rows = state->gates * state->hidden, cells = state->batch * state->hidden;
    state->x_at = scratch_add(prepare, (size_t)(state->steps * state->batch * rows) * sizeof(float));
    state->r_at = scratch_add(prepare, (size_t)(state->batch * rows) * sizeof(float));
    if (state->batch_first) state->room_at = scratch_add(prepare, (size_t)(state->batch * rows) * sizeof(float));
    for (int i = 0; i < 3; i++)
        state->cell_at[i] = scratch_add(prepare, (size_t)cells * sizeof(float));
    if (state->wide) return true;
    if (!prepare->constants[INPUT_W])
        state->w_packed_at = scratch_add(prepare, recurrent_packed_bytes(state, state->inputs));
    else if (!pack_weights(state, prepare->constants[INPUT_W], state->inputs, &state->w, error))
        return false;
    if (!prepare->constants[INPUT_R])
        state->r_packed_at = scratch_add(prepare, recurrent_packed_bytes(state, state->hidden));
    else if (!pack_weights(state, prepare->constants[INPUT_R], state->hidden, &state->r, error))
        return false;
    return true;
}

static void recurrent_release(void *pointer)
{
    Recurrent *state = pointer;
    memory_free(state->w);
    memory_free(state->r);
    memory_free(state);
}

static void recurrent_cost(const Node *node, Cost *cost)
{
    const Value *x = input_value(node, INPUT_X);
    cost->parameter_bytes = parameter_bytes(node);
    cost->macs = 0;
    if (!x || !x->shaped || x->shape.rank != 3) return;
    for (int i = INPUT_W; i <= INPUT_R; i++) {
        const Value *weights = input_value(node, i);
        if (weights && weights->shaped) cost->macs += x->shape.dims[0] * x->shape.dims[1] * shape_count(&weights->shape);
    }
}

#define RECURRENT_ATTRIBUTES                                                                                                               \
    {.name = "activation_alpha", .kind = ATTRIBUTE_FLOATS}, {.name = "activation_beta", .kind = ATTRIBUTE_FLOATS},                         \
        {.name = "activations", .kind = ATTRIBUTE_STRINGS}, {.name = "clip", .kind = ATTRIBUTE_FLOAT},                                     \
        {.name = "direction", .kind = ATTRIBUTE_STRING, .text = "forward", .words = "forward|reverse|bidirectional"},                      \
        {.name = "hidden_size", .kind = ATTRIBUTE_INT},                                                                                    \
    {                                                                                                                                      \
        .name = "layout", .kind = ATTRIBUTE_INT                                                                                            \
    }

const Operator op_gru = {
    .name = "GRU",
    .help = "Gated recurrent unit over a sequence, one or both ways.",
    .inputs = {3, 6},
    .outputs = {0, 2},
    .attributes = {RECURRENT_ATTRIBUTES, {.name = "linear_before_reset", .kind = ATTRIBUTE_INT}},
    .infer = recurrent_infer,
    .prepare = recurrent_prepare,
    .release = recurrent_release,
    .run = recurrent_run,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_SEQUENCE,
    .float_inputs = 1u << INPUT_LENGTHS,
    .align = ALIGN_RECURRENT,
    .slots = slots_gru,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = recurrent_cost,
};

const Operator op_lstm = {
    .name = "LSTM",
    .help = "Long short-term memory over a sequence, one or both ways.",
    .inputs = {3, 8},
    .outputs = {0, 3},
    .attributes = {RECURRENT_ATTRIBUTES, {.name = "input_forget", .kind = ATTRIBUTE_INT}},
    .infer = recurrent_infer,
    .prepare = recurrent_prepare,
    .release = recurrent_release,
    .run = recurrent_run,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_COMPUTING | OPERATOR_SEQUENCE,
    .float_inputs = 1u << INPUT_LENGTHS,
    .align = ALIGN_RECURRENT,
    .slots = slots_lstm,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = recurrent_cost,
};
