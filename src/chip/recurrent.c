/* GRU and LSTM (CHIP §2.20): one sequence, gates of 16 bits through tables. X is [steps, 1, inputs] or, layout 1, [1, steps, inputs];
 * weights are [directions][gates * hidden][inputs or hidden], in the order z r n of a GRU and i o f c of an LSTM. */
#include <string.h>

#include "base/memory.h"
#include "chip/arithmetic.h"
#include "chip/ends.h"
#include "chip/gates.h"

enum { X, W, R, B, LENGTHS, FIRST_H, FIRST_C };

typedef struct Recurrent {
    bool cell; /* an LSTM */
    int64_t gates, steps, inputs, hidden;
    int directions;
    bool backward; /* the only direction runs from the last step to the first */
    size_t element;
    int w_shift, r_shift;
    float y_rescale, c_rescale;
    GateTables tables;
} Recurrent;

/* One direction on its way. */
typedef struct Walk {
    const ChipNode *node;
    const Recurrent *recurrent;
    const char *w, *r, *bias; /* bias NULL: none */
    int32_t *x_sums, *h_sums; /* gates * hidden each */
    float *gate;              /* gates * hidden; in float: what the gates are made of */
    char *h;                  /* hidden, in the type of the data */
    int32_t *c;               /* hidden; float in float */
} Walk;

static void recurrent_free(void *state)
{
    Recurrent *recurrent = state;
    if (recurrent) memory_free(recurrent->tables.sigmoid);
    memory_free(recurrent);
}

/* A sum that the runtime stores in 16 bits. */
static int32_t stored(const ChipNode *node, int64_t sum)
{
    return chip_has(node->chip, TRAIT_GATES_WRAP) ? (int16_t)(uint16_t)sum : (int32_t)saturate(sum, 16);
}

static int64_t bias_at(const Walk *walk, int64_t index)
{
    return walk->bias ? ((const int16_t *)(const void *)walk->bias)[index] : 0;
}
static float float_bias_at(const Walk *walk, int64_t index)
{
    return walk->bias ? ((const float *)(const void *)walk->bias)[index] : 0;
}

/* Both products of all gates, without biases. */
static void products(const Walk *walk, const char *x)
{
    const Recurrent *s = walk->recurrent;
    int bits = walk->node->bits;
    for (int64_t i = 0; i < s->gates * s->hidden; i++) {
        const char *w = walk->w + (size_t)(i * s->inputs) * s->element, *r = walk->r + (size_t)(i * s->hidden) * s->element;
        walk->x_sums[i] = (int32_t)gate_product(walk->node->chip, bits, w, x, s->inputs, s->w_shift);
        walk->h_sums[i] = (int32_t)gate_product(walk->node->chip, bits, r, walk->h, s->hidden, s->r_shift);
    }
}

static void gru_step(const Walk *walk, const char *x)
{
    const Recurrent *s = walk->recurrent;
    const ChipNode *node = walk->node;
    int64_t hidden = s->hidden, all = 3 * hidden;
    Rounding rounding = node->chip->rounding;
    float *z = walk->gate, *r = z + hidden;
    products(walk, x);
    for (int64_t i = 0; i < all && walk->bias; i++) {
        walk->x_sums[i] = stored(node, walk->x_sums[i] + bias_at(walk, i));
        walk->h_sums[i] = stored(node, walk->h_sums[i] + bias_at(walk, all + i));
    }
    for (int64_t i = 0; i < 2 * hidden; i++)
        walk->gate[i] = gate_sigmoid(&s->tables, (int64_t)walk->x_sums[i] + walk->h_sums[i]);
    for (int64_t i = 0; i < hidden; i++) {
        float sum = (float)walk->x_sums[2 * hidden + i] + r[i] * (float)walk->h_sums[2 * hidden + i];
        float n = gate_tanh(&s->tables, round_saturate(sum, rounding, 32));
        float value = (1.0f - z[i]) * n * s->y_rescale;
        value += z[i] * (float)read_integer(walk->h, i, node->bits);
        write_integer(walk->h, i, node->bits, round_saturate(value, rounding, node->bits));
    }
}

static void lstm_step(const Walk *walk, const char *x)
{
    const Recurrent *s = walk->recurrent;
    const ChipNode *node = walk->node;
    int64_t hidden = s->hidden, all = 4 * hidden;
    Rounding rounding = node->chip->rounding;
    const int32_t *sums = walk->x_sums;
    products(walk, x);
    for (int64_t i = 0; i < all; i++)
        walk->x_sums[i] = stored(node, (int64_t)walk->x_sums[i] + walk->h_sums[i] + bias_at(walk, i) + bias_at(walk, all + i));
    for (int64_t i = 0; i < hidden; i++) {
        float in = gate_sigmoid(&s->tables, sums[i]), out = gate_sigmoid(&s->tables, sums[hidden + i]);
        float forget = gate_sigmoid(&s->tables, sums[2 * hidden + i]), candidate = gate_tanh(&s->tables, sums[3 * hidden + i]);
        float c = forget * (float)walk->c[i] + in * candidate * s->c_rescale;
        walk->c[i] = stored(node, round_saturate(c, rounding, 32));
        float h = out * gate_tanh(&s->tables, walk->c[i]) * s->y_rescale;
        write_integer(walk->h, i, node->bits, round_saturate(h, rounding, node->bits));
    }
}

static float float_product(const char *weights, const char *values, int64_t length)
{
    const float *w = (const float *)(const void *)weights, *x = (const float *)(const void *)values;
    float sum = 0;
    for (int64_t i = 0; i < length; i++)
        sum += w[i] * x[i];
    return sum;
}

/* What gate i gets from the input and from the state, each with its bias. */
static void float_sums(const Walk *walk, const char *x, int64_t i, float *from_x, float *from_h)
{
    const Recurrent *s = walk->recurrent;
    *from_x = float_product(walk->w + (size_t)(i * s->inputs) * s->element, x, s->inputs) + float_bias_at(walk, i);
    *from_h =
        float_product(walk->r + (size_t)(i * s->hidden) * s->element, walk->h, s->hidden) + float_bias_at(walk, s->gates * s->hidden + i);
}

static void gru_step_float(const Walk *walk, const char *x)
{
    int64_t hidden = walk->recurrent->hidden;
    float *z = walk->gate, *r = z + hidden, *n = r + hidden, *h = (float *)(void *)walk->h, from_x, from_h;
    for (int64_t i = 0; i < 3 * hidden; i++) {
        float_sums(walk, x, i, &from_x, &from_h);
        if (i < 2 * hidden)
            walk->gate[i] = chip_sigmoid(from_x + from_h);
        else
            n[i - 2 * hidden] = chip_tanh(from_x + r[i - 2 * hidden] * from_h);
    }
    for (int64_t i = 0; i < hidden; i++)
        h[i] = (1.0f - z[i]) * n[i] + z[i] * h[i];
}

static void lstm_step_float(const Walk *walk, const char *x)
{
    int64_t hidden = walk->recurrent->hidden, all = 4 * hidden;
    float *gate = walk->gate, *h = (float *)(void *)walk->h, *c = (float *)(void *)walk->c;
    for (int64_t i = 0; i < all; i++) {
        const Recurrent *s = walk->recurrent;
        float from_x = float_product(walk->w + (size_t)(i * s->inputs) * s->element, x, s->inputs);
        float from_h = float_product(walk->r + (size_t)(i * hidden) * s->element, walk->h, hidden);
        gate[i] = from_x + (float_bias_at(walk, i) + from_h + float_bias_at(walk, all + i));
    }
    for (int64_t i = 0; i < hidden; i++) {
        float in = chip_sigmoid(gate[i]), out = chip_sigmoid(gate[hidden + i]), forget = chip_sigmoid(gate[2 * hidden + i]);
        c[i] = forget * c[i] + in * chip_tanh(gate[3 * hidden + i]);
        h[i] = out * chip_tanh(c[i]);
    }
}

/* Starting values of a direction, zeros without them. The cell state lies in int32 (or float) while the walk lasts. */
static void start(const Walk *walk, const ChipRun *run, int direction)
{
    const Recurrent *s = walk->recurrent;
    size_t hidden = (size_t)s->hidden, at = (size_t)direction * hidden;
    memset(walk->h, 0, hidden * s->element);
    memset(walk->c, 0, hidden * sizeof *walk->c);
    if (has_input(walk->node, FIRST_H)) memcpy(walk->h, (const char *)run->inputs[FIRST_H] + at * s->element, hidden * s->element);
    if (!s->cell || !has_input(walk->node, FIRST_C)) return;
    if (walk->node->bits == 32) {
        memcpy(walk->c, (const float *)run->inputs[FIRST_C] + at, hidden * sizeof(float));
        return;
    }
    for (size_t i = 0; i < hidden; i++)
        walk->c[i] = ((const int16_t *)run->inputs[FIRST_C])[at + i];
}

static void finish(const Walk *walk, const ChipRun *run, int direction)
{
    const Recurrent *s = walk->recurrent;
    size_t hidden = (size_t)s->hidden, at = (size_t)direction * hidden;
    if (run->outputs[1]) memcpy((char *)run->outputs[1] + at * s->element, walk->h, hidden * s->element);
    if (!s->cell || !run->outputs[2]) return;
    if (walk->node->bits == 32) {
        memcpy((float *)run->outputs[2] + at, walk->c, hidden * sizeof(float));
        return;
    }
    for (size_t i = 0; i < hidden; i++)
        ((int16_t *)run->outputs[2])[at + i] = (int16_t)walk->c[i];
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t gates_bytes(const Recurrent *s)
{
    return whole_lines((size_t)(s->gates * s->hidden) * sizeof(int32_t));
}

static void recurrent_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Recurrent *s = node->state;
    void (*step)(const Walk *, const char *) = s->cell ? lstm_step : gru_step;
    if (node->bits == 32) step = s->cell ? lstm_step_float : gru_step_float;
    char *scratch = run->scratch;
    size_t all = (size_t)(s->gates * s->hidden), row = (size_t)s->inputs * s->element, state = (size_t)s->hidden * s->element;
    for (int direction = 0; direction < s->directions; direction++) {
        size_t bias_element = node->bits == 32 ? sizeof(float) : sizeof(int16_t), d = (size_t)direction;
        Walk walk = {.node = node,
                     .recurrent = s,
                     .w = (const char *)run->inputs[W] + d * all * row,
                     .r = (const char *)run->inputs[R] + d * all * state,
                     .bias = has_input(node, B) ? (const char *)run->inputs[B] + d * 2 * all * bias_element : NULL,
                     .x_sums = (int32_t *)(void *)scratch,
                     .h_sums = (int32_t *)(void *)(scratch + gates_bytes(s)),
                     .gate = (float *)(void *)(scratch + 2 * gates_bytes(s)),
                     .c = (int32_t *)(void *)(scratch + 3 * gates_bytes(s)),
                     .h = scratch + 4 * gates_bytes(s)};
        start(&walk, run, direction);
        for (int64_t t = 0; t < s->steps; t++) {
            size_t at = (size_t)(direction == 1 || s->backward ? s->steps - 1 - t : t);
            step(&walk, (const char *)run->inputs[X] + at * row);
            if (run->outputs[0]) memcpy((char *)run->outputs[0] + (at * (size_t)s->directions + d) * state, walk.h, state);
        }
        finish(&walk, run, direction);
    }
}

/* ---- what both ask for ---- */

static bool read_shape(const ChipNode *node, bool cell, Recurrent *s, Error *error)
{
    if (!needs(node, 3, 0, error)) return false;
    const Shape *x = &node->inputs[X].shape, *w = &node->inputs[W].shape, *r = &node->inputs[R].shape;
    const char *direction = node_string(node->node, "direction", "forward");
    bool batch_first = node_integer(node->node, "layout", 0) != 0;
    s->cell = cell;
    s->gates = cell ? 4 : 3;
    s->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    s->backward = strcmp(direction, "reverse") == 0 && !chip_has(node->chip, TRAIT_REVERSE_FORWARD);
    s->hidden = node_integer(node->node, "hidden_size", 0);
    if (x->rank != 3 || x->dims[batch_first ? 0 : 1] != 1) {
        char text[160];
        return refuse(node, error, "run one sequence at a time", "X is %s: the runtime computes a batch of one", shape_text(x, text));
    }
    s->steps = x->dims[batch_first ? 1 : 0];
    s->inputs = x->dims[2];
    Shape wanted_w = {3, {s->directions, s->gates * s->hidden, s->inputs}},
          wanted_r = {3, {s->directions, s->gates * s->hidden, s->hidden}};
    if (s->hidden >= 1 && s->hidden < 1 << 20 && shape_equal(w, &wanted_w) && shape_equal(r, &wanted_r)) return true;
    char w_text[160], r_text[160];
    return refuse(node, error, "export the model again", "W is %s and R is %s for hidden_size %lld", shape_text(w, w_text),
                  shape_text(r, r_text), (long long)s->hidden);
}

static bool infer(ChipNode *node, bool cell, Error *error)
{
    Recurrent s = {0};
    if (!read_shape(node, cell, &s, error)) return false;
    if (node->output_count > 0) node->outputs[0].shape = (Shape){4, {s.steps, s.directions, 1, s.hidden}};
    for (int i = 1; i < node->output_count && i < 3; i++)
        node->outputs[i].shape = (Shape){3, {s.directions, 1, s.hidden}};
    return true;
}

static bool gru_infer(ChipNode *node, Error *error)
{
    return infer(node, false, error);
}
static bool lstm_infer(ChipNode *node, Error *error)
{
    return infer(node, true, error);
}

static bool check_end(const ChipNode *node, const ChipEnd *end, const char *name, Dtype dtype, int64_t count, Error *error)
{
    if (end->dtype == dtype && end_count(end) == count) return true;
    return refuse(node, error, "export the model again", "%s holds %lld of type %s, the kernels read %lld of type %s", name,
                  (long long)end_count(end), dtype_name(end->dtype), (long long)count, dtype_name(dtype));
}

static bool check_ends(const ChipNode *node, const Recurrent *s, Error *error)
{
    Dtype data = kernel_type(node), gate = node->bits == 32 ? DTYPE_FLOAT32 : DTYPE_INT16;
    int64_t states = s->directions * s->hidden;
    for (int i = X; i <= R; i++) {
        static const char *const names[] = {"X", "W", "R"};
        if (!needs_kernel_type(node, &node->inputs[i], names[i], error)) return false;
    }
    if (has_input(node, B) && !check_end(node, &node->inputs[B], "B", gate, 2 * s->gates * states, error)) return false;
    if (has_input(node, FIRST_H) && !check_end(node, &node->inputs[FIRST_H], "initial_h", data, states, error)) return false;
    if (s->cell && has_input(node, FIRST_C) && !check_end(node, &node->inputs[FIRST_C], "initial_c", gate, states, error)) return false;
    for (int i = 0; i < 2; i++) {
        if (has_output(node, i) && !needs_kernel_type(node, &node->outputs[i], i ? "Y_h" : "Y", error)) return false;
    }
    return !s->cell || !has_output(node, 2) || check_end(node, &node->outputs[2], "Y_c", gate, states, error);
}

static bool prepare(ChipNode *node, bool cell, Error *error)
{
    Recurrent *s = memory_new(sizeof *s);
    if (!s) return fail_memory(error, sizeof *s);
    node->state = s;
    int outputs = cell ? 3 : 2;
    if (node->output_count < outputs)
        return refuse(node, error, "export the model again", "%d outputs; the runtime writes %d", node->output_count, outputs);
    if (!read_shape(node, cell, s, error) || !check_ends(node, s, error)) return false;
    s->element = dtype_bytes(kernel_type(node));
    node->scratch_bytes = 4 * gates_bytes(s) + whole_lines((size_t)s->hidden * s->element);
    if (node->bits == 32) return true;
    int exponent = (int)node_integer(node->node, "gate_exponent", -8);
    if (exponent < -16 || exponent > 8)
        return refuse(node, error, "export the model again", "gate_exponent %d: 16 bits hold no gate in such steps", exponent);
    if (cell && has_output(node, 2) && node->outputs[2].exponent != exponent)
        return refuse(node, error, "export the model again", "Y_c has exponent %d, the runtime asserts gate_exponent %d",
                      node->outputs[2].exponent, exponent);
    int h_exponent = node->outputs[has_output(node, 1) ? 1 : 0].exponent;
    s->w_shift = exponent - node->inputs[X].exponent - node->inputs[W].exponent;
    s->r_shift = exponent - h_exponent - node->inputs[R].exponent;
    s->y_rescale = scale_of(-node->outputs[has_output(node, 0) ? 0 : 1].exponent);
    s->c_rescale = scale_of(-exponent);
    return gate_tables_make(&s->tables, exponent, error);
}

static bool gru_prepare(ChipNode *node, Error *error)
{
    if (node_integer(node->node, "linear_before_reset", 0) != 1)
        return refuse(node, error, "export the model with linear_before_reset 1",
                      "linear_before_reset is not 1: the runtime makes no module");
    return prepare(node, false, error);
}

static bool lstm_prepare(ChipNode *node, Error *error)
{
    if (node_integer(node->node, "input_forget", 0) != 0)
        return refuse(node, error, "export the model with input_forget 0", "input_forget is set: the runtime makes no module");
    return prepare(node, true, error);
}

const ChipModule chip_recurrent_modules[] = {
    {.type = "GRU", .infer = gru_infer, .prepare = gru_prepare, .run = recurrent_run, .release = recurrent_free},
    {.type = "LSTM", .infer = lstm_infer, .prepare = lstm_prepare, .run = recurrent_run, .release = recurrent_free},
    {0},
};
