/* The walk of GRU and LSTM along the sequence. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "kernel/quantize.h"
#include "ops/recurrent.h"
#include "quant/slots.h"

/* One direction's walk. */
typedef struct Walk {
    const Recurrent *recurrent;
    const Slot *output;        /* slot of Y (or Y_h): rounding, and the exponent of h when it is active */
    const float *w, *r, *bias; /* of this direction; bias NULL: none */
    const float *w_packed, *r_packed;
    float *x_gates, *h_gates, *h, *c, *reset;
    float *y; /* NULL: not wanted */
    bool backward;
    int64_t direction;
} Walk;

size_t recurrent_packed_bytes(const Recurrent *recurrent, int64_t inputs)
{
    return (matmul_f32_packed_bytes(inputs, recurrent->gates * recurrent->hidden) + 63) / 64 * 64;
}

/* out[row][gate] = sum over k of a[row][k] * weights[gate][k] */
static void product(const Recurrent *recurrent, const float *a, int64_t rows, int64_t k, const float *weights, const float *packed,
                    float *out)
{
    int64_t gates = recurrent->gates * recurrent->hidden;
    if (!recurrent->wide) {
        MatmulF32 matmul = {.m = rows, .n = gates, .k = k, .lda = k, .ldb = gates, .ldc = gates};
        matmul_f32_packed(&matmul, a, packed, NULL, out);
        return;
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t gate = 0; gate < gates; gate++) {
            double sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += (double)weights[gate * k + i] * a[row * k + i];
            out[row * gates + gate] = (float)sum;
        }
    }
}

/* Sixteen bits at the gates' exponent, where the chip is simulated. */
static void gate_steps(const Walk *walk, float *values, int64_t count)
{
    if (!walk->recurrent->simulated) return;
    int64_t limit = (int64_t)1 << (ESPQ_RECURRENT_BITS - 1);
    Rounding rounding = walk->output ? walk->output->rounding : ROUND_HALF_EVEN;
    fake_quantize_f32(values, values, count, ESPQ_RECURRENT_EXPONENT, -limit, limit - 1, rounding);
}

/* h in the steps of Y, once Y has an exponent. */
static void output_steps(const Walk *walk, float *values, int64_t count)
{
    const Slot *slot = walk->output, *root = slot;
    if (!walk->recurrent->simulated || !slot || !slot_quantizes(slot)) return;
    while (root->parent != root)
        root = root->parent; /* slot_root shortens the path, and several plans may run at once */
    fake_quantize_f32(values, values, count, root->exponents[0], slot->minimum, slot->maximum, slot->rounding);
}

static float clipped(const Recurrent *recurrent, float value)
{
    if (!(recurrent->clip > 0)) return value;
    return value > recurrent->clip ? recurrent->clip : value < -recurrent->clip ? -recurrent->clip : value;
}

static float bias_of(const Walk *walk, int64_t gate, int64_t j, bool of_recurrence)
{
    const Recurrent *s = walk->recurrent;
    return walk->bias ? walk->bias[((of_recurrence ? s->gates : 0) + gate) * s->hidden + j] : 0.0f;
}

/* Input of gate `gate`: both products, then both biases. */
static float gate_input(const Walk *walk, const float *x, const float *h, int64_t gate, int64_t j)
{
    int64_t at = gate * walk->recurrent->hidden + j;
    float biases = bias_of(walk, gate, j, false) + bias_of(walk, gate, j, true);
    return clipped(walk->recurrent, x[at] + h[at] + biases);
}

/* GRU's candidate when the reset gate comes before the product (linear_before_reset = 0). */
static float reset_product(const Walk *walk, const float *reset, int64_t j)
{
    int64_t hidden = walk->recurrent->hidden;
    const float *weights = walk->r + (2 * hidden + j) * hidden;
    float sum = 0;
    for (int64_t k = 0; k < hidden; k++)
        sum = fmaf(weights[k], reset[k], sum);
    return sum;
}

static void gru_step(const Walk *walk, const float *x_gates)
{
    const Recurrent *s = walk->recurrent;
    int64_t hidden = s->hidden;
    for (int64_t n = 0; n < s->batch; n++) {
        const float *x = x_gates + n * s->gates * hidden, *r = walk->h_gates + n * s->gates * hidden;
        float *h = walk->h + n * hidden, *update = walk->c + n * hidden, *candidate = walk->reset + n * hidden;
        for (int64_t j = 0; j < hidden; j++) {
            float reset = espq_sigmoidf(gate_input(walk, x, r, 1, j));
            update[j] = espq_sigmoidf(gate_input(walk, x, r, 0, j));
            if (s->linear_before_reset)
                candidate[j] = (x[2 * hidden + j] + bias_of(walk, 2, j, false)) + reset * (r[2 * hidden + j] + bias_of(walk, 2, j, true));
            else
                candidate[j] = reset * h[j];
        }
        if (!s->linear_before_reset) {
            /* The r gates' place is free by now and takes the sums, which need all of reset * h. */
            float *sums = walk->h_gates + n * s->gates * hidden;
            for (int64_t j = 0; j < hidden; j++)
                sums[j] =
                    (x[2 * hidden + j] + bias_of(walk, 2, j, false)) + (reset_product(walk, candidate, j) + bias_of(walk, 2, j, true));
            memcpy(candidate, sums, (size_t)hidden * sizeof *candidate);
        }
        gate_steps(walk, candidate, hidden);
        for (int64_t j = 0; j < hidden; j++)
            h[j] = (1.0f - update[j]) * espq_tanhf(clipped(s, candidate[j])) + update[j] * h[j];
    }
}

/* Gates i o f c. */
static void lstm_step(const Walk *walk, const float *x_gates)
{
    const Recurrent *s = walk->recurrent;
    int64_t hidden = s->hidden;
    for (int64_t n = 0; n < s->batch; n++) {
        const float *x = x_gates + n * s->gates * hidden, *r = walk->h_gates + n * s->gates * hidden;
        float *h = walk->h + n * hidden, *c = walk->c + n * hidden, *out = walk->reset + n * hidden;
        for (int64_t j = 0; j < hidden; j++) {
            float in = espq_sigmoidf(gate_input(walk, x, r, 0, j)), forget = espq_sigmoidf(gate_input(walk, x, r, 2, j));
            out[j] = espq_sigmoidf(gate_input(walk, x, r, 1, j));
            c[j] = forget * c[j] + in * espq_tanhf(gate_input(walk, x, r, 3, j));
        }
        gate_steps(walk, c, hidden);
        for (int64_t j = 0; j < hidden; j++)
            h[j] = out[j] * espq_tanhf(c[j]);
    }
}

/* x_gates of one step, brought together when the batch comes first. */
static const float *step_gates(const Walk *walk, int64_t step, float *room)
{
    const Recurrent *s = walk->recurrent;
    int64_t row = s->gates * s->hidden;
    if (!s->batch_first) return walk->x_gates + step * s->batch * row;
    for (int64_t n = 0; n < s->batch; n++)
        memcpy(room + n * row, walk->x_gates + (n * s->steps + step) * row, (size_t)row * sizeof *room);
    return room;
}

static void walk_sequence(const Walk *walk, const float *x, float *room)
{
    const Recurrent *s = walk->recurrent;
    int64_t row = s->gates * s->hidden;
    product(s, x, s->steps * s->batch, s->inputs, walk->w, walk->w_packed, walk->x_gates);
    gate_steps(walk, walk->x_gates, s->steps * s->batch * row);
    for (int64_t t = 0; t < s->steps; t++) {
        int64_t step = walk->backward ? s->steps - 1 - t : t;
        product(s, walk->h, s->batch, s->hidden, walk->r, walk->r_packed, walk->h_gates);
        gate_steps(walk, walk->h_gates, s->batch * row);
        const float *gates = step_gates(walk, step, room);
        if (s->gates == 3)
            gru_step(walk, gates);
        else
            lstm_step(walk, gates);
        output_steps(walk, walk->h, s->batch * s->hidden);
        for (int64_t n = 0; walk->y && n < s->batch; n++) {
            int64_t at = s->batch_first ? (n * s->steps + step) * s->directions + walk->direction
                                        : (step * s->directions + walk->direction) * s->batch + n;
            memcpy(walk->y + at * s->hidden, walk->h + n * s->hidden, (size_t)s->hidden * sizeof(float));
        }
    }
}

/* Initial and last states are [directions, batch, hidden], or [batch, directions, hidden] when the batch comes first. */
static int64_t state_at(const Recurrent *s, int64_t direction, int64_t n)
{
    return (s->batch_first ? n * s->directions + direction : direction * s->batch + n) * s->hidden;
}

static void load_state(const Recurrent *s, const Tensor *tensor, int64_t direction, float *to)
{
    memset(to, 0, (size_t)(s->batch * s->hidden) * sizeof *to);
    for (int64_t n = 0; tensor && n < s->batch; n++)
        memcpy(to + n * s->hidden, tensor_floats(tensor) + state_at(s, direction, n), (size_t)s->hidden * sizeof *to);
}

static void store_state(const Recurrent *s, const float *from, int64_t direction, Tensor *tensor)
{
    for (int64_t n = 0; tensor && n < s->batch; n++)
        memcpy(tensor_floats(tensor) + state_at(s, direction, n), from + n * s->hidden, (size_t)s->hidden * sizeof *from);
}

static const Tensor *optional(const Run *run, int index)
{
    return index < run->node->input_count ? run->inputs[index] : NULL;
}

static const float *packed_weights(const Recurrent *s, const float *packed, const float *weights, int64_t inputs, int64_t direction,
                                   char *scratch)
{
    size_t bytes = recurrent_packed_bytes(s, inputs);
    if (packed) return packed + (size_t)direction * bytes / sizeof(float);
    float *made = (float *)(void *)scratch;
    matmul_f32_pack(inputs, s->gates * s->hidden, weights, 1, inputs, made);
    return made;
}

void recurrent_run(const Run *run)
{
    const Recurrent *s = run->state;
    const Node *node = run->node;
    char *scratch = run->scratch;
    int64_t rows = s->gates * s->hidden;
    const Tensor *bias = optional(run, 3);
    Tensor *outputs[3] = {NULL, NULL, NULL};
    for (int i = 0; i < node->output_count && i < 3; i++)
        outputs[i] = run->outputs[i];
    for (int64_t d = 0; d < s->directions; d++) {
        Walk walk = {.recurrent = s, .direction = d, .backward = s->backward || d == 1};
        /* h counts in the steps of Y, or of Y_h where the sequence is not wanted. */
        if (s->simulated && node->output_count > 0) walk.output = node->output_slots[node->outputs[0] || node->output_count < 2 ? 0 : 1];
        walk.w = tensor_floats(run->inputs[1]) + d * rows * s->inputs;
        walk.r = tensor_floats(run->inputs[2]) + d * rows * s->hidden;
        walk.bias = bias ? tensor_floats(bias) + d * 2 * rows : NULL;
        if (!s->wide) {
            walk.w_packed = packed_weights(s, s->w, walk.w, s->inputs, d, scratch + s->w_packed_at);
            walk.r_packed = packed_weights(s, s->r, walk.r, s->hidden, d, scratch + s->r_packed_at);
        }
        walk.x_gates = (float *)(void *)(scratch + s->x_at);
        walk.h_gates = (float *)(void *)(scratch + s->r_at);
        walk.h = (float *)(void *)(scratch + s->cell_at[0]);
        walk.c = (float *)(void *)(scratch + s->cell_at[1]);
        walk.reset = (float *)(void *)(scratch + s->cell_at[2]);
        walk.y = outputs[0] ? tensor_floats(outputs[0]) : NULL;
        load_state(s, optional(run, 5), d, walk.h);
        if (s->gates == 4) load_state(s, optional(run, 6), d, walk.c);
        walk_sequence(&walk, tensor_floats(run->inputs[0]), (float *)(void *)(scratch + s->room_at));
        store_state(s, walk.h, d, outputs[1]);
        if (s->gates == 4) store_state(s, walk.c, d, outputs[2]);
    }
}
