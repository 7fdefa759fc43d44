/* GRU and LSTM against a plain walk in float64, and the emulation of the chip's steps. */
#include <math.h>
#include <string.h>

#include "run_operator.h"

enum { STEPS = 5, BATCH = 2, INPUTS = 3, HIDDEN = 4 };

typedef struct Variant {
    const char *type, *direction;
    bool layout, bias, initial, before_reset, constant, wide;
} Variant;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gate(const OperatorRun *run, int gates, int d, int g, int j, const double *x, const double *h, bool recurrence_only)
{
    const float *w = tensor_floats(run->inputs[1]) + ((d * gates + g) * HIDDEN + j) * INPUTS;
    const float *r = tensor_floats(run->inputs[2]) + ((d * gates + g) * HIDDEN + j) * HIDDEN;
    const float *b = run->inputs[3] ? tensor_floats(run->inputs[3]) + d * 2 * gates * HIDDEN : NULL;
    double sum = b ? b[(gates + g) * HIDDEN + j] : 0;
    for (int k = 0; k < HIDDEN; k++)
        sum += r[k] * h[k];
    if (recurrence_only) return sum;
    if (b) sum += b[g * HIDDEN + j];
    for (int k = 0; k < INPUTS; k++)
        sum += w[k] * x[k];
    return sum;
}

static int64_t sequence_at(const Variant *v, int64_t t, int64_t n)
{
    return v->layout ? n * STEPS + t : t * BATCH + n;
}

static void check_walk(const Variant *v, const OperatorRun *run, int directions, int d, int n)
{
    int gates = strcmp(v->type, "LSTM") == 0 ? 4 : 3;
    bool backward = d == 1 || strcmp(v->direction, "reverse") == 0;
    int64_t state = (v->layout ? n * directions + d : d * BATCH + n) * HIDDEN;
    double h[HIDDEN] = {0}, c[HIDDEN] = {0};
    for (int j = 0; j < HIDDEN && v->initial; j++) {
        h[j] = tensor_floats(run->inputs[5])[state + j];
        if (gates == 4) c[j] = tensor_floats(run->inputs[6])[state + j];
    }
    for (int step = 0; step < STEPS; step++) {
        int t = backward ? STEPS - 1 - step : step;
        double x[INPUTS], next[HIDDEN], reset[HIDDEN];
        for (int k = 0; k < INPUTS; k++)
            x[k] = tensor_floats(run->inputs[0])[sequence_at(v, t, n) * INPUTS + k];
        for (int j = 0; j < HIDDEN; j++)
            reset[j] = gates == 3 ? sigmoid(gate(run, gates, d, 1, j, x, h, false)) * h[j] : 0;
        for (int j = 0; j < HIDDEN; j++) {
            if (gates == 4) {
                double in = sigmoid(gate(run, 4, d, 0, j, x, h, false)), out = sigmoid(gate(run, 4, d, 1, j, x, h, false));
                c[j] = sigmoid(gate(run, 4, d, 2, j, x, h, false)) * c[j] + in * tanh(gate(run, 4, d, 3, j, x, h, false));
                next[j] = out * tanh(c[j]);
                continue;
            }
            double z = sigmoid(gate(run, 3, d, 0, j, x, h, false)), candidate;
            if (v->before_reset) {
                double recurrence = gate(run, 3, d, 2, j, x, h, true);
                candidate = gate(run, 3, d, 2, j, x, h, false) - recurrence + sigmoid(gate(run, 3, d, 1, j, x, h, false)) * recurrence;
            } else {
                candidate = gate(run, 3, d, 2, j, x, reset, false);
            }
            next[j] = (1 - z) * tanh(candidate) + z * h[j];
        }
        memcpy(h, next, sizeof h);
        int64_t at = (v->layout ? (n * STEPS + t) * directions + d : (t * directions + d) * BATCH + n) * HIDDEN;
        for (int j = 0; j < HIDDEN; j++)
            CHECK(test_close(tensor_floats(run->outputs[0])[at + j], h[j], 2e-6), "%s %s step %d: %g, wanted %g", v->type, v->direction, t,
                  (double)tensor_floats(run->outputs[0])[at + j], h[j]);
    }
    for (int j = 0; j < HIDDEN; j++) {
        CHECK(test_close(tensor_floats(run->outputs[1])[state + j], h[j], 2e-6), "%s %s: last h", v->type, v->direction);
        if (gates == 4) CHECK(test_close(tensor_floats(run->outputs[2])[state + j], c[j], 2e-6), "%s %s: last c", v->type, v->direction);
    }
}

static bool open_recurrent(OperatorRun *run, const Variant *v, Random *random, int directions)
{
    int gates = strcmp(v->type, "LSTM") == 0 ? 4 : 3;
    if (!operator_open(run, v->type, gates - 1)) return false;
    const int64_t state[3] = {v->layout ? BATCH : directions, v->layout ? directions : BATCH, HIDDEN};
    operator_input(run, test_random(random, DIMS(v->layout ? BATCH : STEPS, v->layout ? STEPS : BATCH, INPUTS)), false);
    operator_input(run, test_random(random, DIMS(directions, gates * HIDDEN, INPUTS)), v->constant);
    operator_input(run, test_random(random, DIMS(directions, gates * HIDDEN, HIDDEN)), v->constant);
    operator_input(run, v->bias ? test_random(random, DIMS(directions, 2 * gates * HIDDEN)) : NULL, true);
    operator_input(run, NULL, true);
    operator_input(run, v->initial ? test_random(random, 3, state) : NULL, true);
    if (gates == 4) operator_input(run, v->initial ? test_random(random, 3, state) : NULL, true);
    node_set_string(run->graph, run->node, "direction", v->direction);
    node_set_integer(run->graph, run->node, "layout", v->layout);
    node_set_integer(run->graph, run->node, "linear_before_reset", v->before_reset);
    node_set_integer(run->graph, run->node, "hidden_size", HIDDEN);
    run->wide = v->wide;
    return true;
}

/* Promise: GRU (both forms) and LSTM walk forward, backward and both ways as ONNX defines, in both layouts, whatever is left out. */
TEST(recurrent_equals_its_definition)
{
    static const char *const directions[3] = {"forward", "reverse", "bidirectional"};
    Random random;
    random_seed(&random, 31);
    for (int i = 0; i < 3 * 64; i++) {
        Variant v = {.type = i & 1 ? "LSTM" : "GRU",
                     .direction = directions[i % 3],
                     .layout = i / 3 & 1,
                     .bias = i / 6 & 1,
                     .initial = i / 12 & 1,
                     .before_reset = i / 24 & 1,
                     .constant = i / 48 & 1,
                     .wide = i / 96 & 1};
        int ways = i % 3 == 2 ? 2 : 1;
        OperatorRun run;
        if (!open_recurrent(&run, &v, &random, ways)) return;
        CHECK(operator_run(&run), "%s", run.error.what);
        for (int d = 0; run.outputs[0] && d < ways; d++)
            for (int n = 0; n < BATCH; n++)
                check_walk(&v, &run, ways, d, n);
        operator_close(&run);
    }
}

/* Promise: a simulated LSTM keeps its cell in steps of 2^-9 and h in the steps of its output, once that has an exponent. */
TEST(recurrent_simulation_counts_in_the_chips_steps)
{
    Random random;
    random_seed(&random, 37);
    Variant v = {.type = "LSTM", .direction = "forward", .bias = true, .constant = true};
    OperatorRun run;
    if (!open_recurrent(&run, &v, &random, 1)) return;
    Error error = {0};
    REQUIRE(node_make_slots(run.graph, run.node, &error), "%s", error.what);
    Slot *slot = run.node->output_slots[0];
    *slot =
        (Slot){.state = SLOT_INITIAL, .bits = 8, .minimum = -128, .maximum = 127, .node = slot->node, .is_output = true, .parent = slot};
    slot_set_exponents(run.graph, slot, (int[]){-6}, 1);
    slot->state = SLOT_ACTIVATED;
    run.simulated = true;
    CHECK(operator_run(&run), "%s", run.error.what);
    for (int64_t i = 0; run.outputs[0] && i < tensor_count(run.outputs[0]); i++) {
        float steps = tensor_floats(run.outputs[0])[i] * 64;
        CHECK(steps == rintf(steps), "h %g is no multiple of 2^-6", (double)steps / 64);
    }
    for (int64_t i = 0; run.outputs[2] && i < tensor_count(run.outputs[2]); i++) {
        float steps = tensor_floats(run.outputs[2])[i] * 512;
        CHECK(steps == rintf(steps), "c %g is no multiple of 2^-9", (double)steps / 512);
    }
    operator_close(&run);
}

/* Promise: what the chip cannot do is refused by attribute where it would be simulated, and works in float. */
TEST(recurrent_refuses_what_the_chip_has_not)
{
    static const struct {
        const char *type, *direction, *named;
        bool before_reset;
    } rows[] = {
        {"GRU", "forward", "linear_before_reset", false}, {"GRU", "reverse", "reverse", true}, {"LSTM", "reverse", "reverse", false}};
    Random random;
    random_seed(&random, 41);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Variant v = {.type = rows[i].type, .direction = rows[i].direction, .before_reset = rows[i].before_reset, .constant = true};
        OperatorRun run;
        if (!open_recurrent(&run, &v, &random, 1)) return;
        Error error = {0};
        REQUIRE(node_make_slots(run.graph, run.node, &error), "%s", error.what);
        run.simulated = true;
        CHECK(!operator_run(&run) && strstr(run.error.what, rows[i].named) && run.error.cure[0], "row %zu: %s", i, run.error.what);
        operator_close(&run);
    }
}
