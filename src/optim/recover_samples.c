/* Calibration data for recovery: read once, a part held back, with the float network's answers. */
#include <string.h>

#include "base/cancel.h"
#include "base/math.h"
#include "base/memory.h"
#include "kernel/quantize.h"
#include "optim/recover.h"

#define MOST_BYTES ((int64_t)256 << 20)
#define MOST_UNITS 256
#define CHUNK 8

/* ---- reading ---- */

typedef struct Reading {
    Tensor **batches; /* input by input, batch after batch */
    size_t count, capacity;
    int64_t samples, bytes;
} Reading;

static bool read_batch(Reading *reading, BatchWalk *walk, int inputs, bool *done, Error *error)
{
    for (int i = 0; i < inputs; i++) {
        Tensor **grown = memory_grow(reading->batches, reading->count + (size_t)i, &reading->capacity, sizeof *grown);
        if (!grown) return fail_memory(error, sizeof *grown);
        reading->batches = grown;
        grown[reading->count + (size_t)i] = NULL;
    }
    if (!batch_walk_next(walk, reading->batches + reading->count, done, error)) return false;
    if (*done) return true;
    for (int i = 0; i < inputs; i++)
        reading->bytes += (int64_t)tensor_bytes(reading->batches[reading->count + (size_t)i]);
    reading->samples += walk->samples;
    reading->count += (size_t)inputs;
    return true;
}

static bool read_all(Reading *reading, Graph *graph, const PassContext *context, int64_t unit, Error *error)
{
    BatchWalk walk;
    bool done = false, ok = batch_walk_begin(&walk, graph, context->batches, error);
    while (ok && !done && reading->samples < MOST_UNITS * unit && reading->bytes < MOST_BYTES)
        ok = cancel_check(error) && read_batch(reading, &walk, graph->input_count, &done, error);
    batch_walk_end(&walk);
    return ok;
}

/* Every fourth unit stands behind those that are learned from. */
static int64_t place_of_unit(const RecoverySamples *samples, int64_t unit)
{
    if (!samples->parted) return unit;
    return unit % 4 == 3 ? samples->learned + unit / 4 : unit - unit / 4;
}

static bool join_input(RecoverySamples *samples, const Reading *reading, int input, Error *error)
{
    int inputs = samples->graph->input_count;
    const Tensor *first = reading->batches[input];
    Shape shape = first->shape;
    shape.dims[0] = samples->units * samples->unit;
    Tensor *all = samples->inputs[input] = tensor_new(first->dtype, &shape, error);
    if (!all) return false;
    size_t bytes = tensor_bytes(all) / (size_t)shape.dims[0];
    int64_t sample = 0;
    for (size_t at = (size_t)input; at < reading->count; at += (size_t)inputs) {
        Tensor *batch = tensor_contiguous(reading->batches[at], error);
        if (!batch) return false;
        for (int64_t k = 0; k < batch->shape.dims[0] && sample < shape.dims[0]; k++, sample++) {
            int64_t place = place_of_unit(samples, sample / samples->unit) * samples->unit + sample % samples->unit;
            memcpy(all->data + (size_t)place * bytes, batch->data + (size_t)k * bytes, bytes);
        }
        tensor_release(batch);
    }
    return true;
}

static bool same_sizes(const Reading *reading, int inputs)
{
    for (size_t at = (size_t)inputs; at < reading->count; at++) {
        Shape shape = reading->batches[at]->shape;
        const Shape *first = &reading->batches[at % (size_t)inputs]->shape;
        if (shape.rank) shape.dims[0] = first->dims[0];
        if (!shape_equal(&shape, first)) return false;
    }
    return true;
}

static int64_t traced_samples(const Graph *graph)
{
    const Value *input = graph->input_count ? graph->inputs[0] : NULL;
    return input && input->shaped && input->shape.rank && input->shape.dims[0] > 0 ? input->shape.dims[0] : 1;
}

static bool samples_join(RecoverySamples *samples, const Reading *reading, Error *error)
{
    int inputs = samples->graph->input_count;
    const char *source = samples->graph->source;
    bool scalars = inputs == 0;
    for (int i = 0; i < inputs; i++)
        scalars = scalars || reading->batches[i]->shape.rank == 0;
    if (scalars || !same_sizes(reading, inputs))
        return fail(error, source, "give batches of one size", "recovery needs samples of one size along the first axis");
    if (reading->samples < samples->unit) samples->unit = reading->samples;
    samples->units = reading->samples / samples->unit;
    samples->parted = samples->units >= 4;
    samples->learned = samples->parted ? samples->units - samples->units / 4 : samples->units;
    samples->inputs = memory_new_array((size_t)inputs, sizeof *samples->inputs);
    if (!samples->inputs) return fail_memory(error, (size_t)inputs * sizeof *samples->inputs);
    for (int i = 0; i < inputs; i++)
        if (!join_input(samples, reading, i, error)) return false;
    return true;
}

/* ---- answers ---- */

bool samples_take(const RecoverySamples *samples, int64_t first, int64_t count, Tensor **inputs, Error *error)
{
    for (int i = 0; i < samples->graph->input_count; i++) {
        Tensor *all = samples->inputs[i];
        Shape shape = all->shape;
        shape.dims[0] = count * samples->unit;
        inputs[i] = tensor_view_strided(all, &shape, all->strides, first * samples->unit * all->strides[0], error);
        if (inputs[i]) continue;
        while (i-- > 0)
            tensor_release(inputs[i]);
        return false;
    }
    return true;
}

/* Chunks never reach across from what is learned from to what is held back. */
static void chunk_range(const RecoverySamples *samples, int64_t chunk, int64_t *first, int64_t *count)
{
    int64_t before = (samples->learned + samples->chunk - 1) / samples->chunk;
    bool held = chunk >= before;
    int64_t end = held ? samples->units : samples->learned;
    *first = held ? samples->learned + (chunk - before) * samples->chunk : chunk * samples->chunk;
    *count = end - *first < samples->chunk ? end - *first : samples->chunk;
}

static bool run_chunk(const RecoverySamples *samples, Runner *runner, int64_t chunk, Tensor **outputs, Error *error)
{
    int64_t first, count;
    int inputs = samples->graph->input_count;
    chunk_range(samples, chunk, &first, &count);
    Tensor **taken = memory_new_array((size_t)inputs, sizeof *taken);
    if (!taken) return fail_memory(error, (size_t)inputs * sizeof *taken);
    bool ok = cancel_check(error) && samples_take(samples, first, count, taken, error);
    bool held = ok;
    ok = ok && runner_run(runner, taken, outputs, error);
    for (int i = 0; held && i < inputs; i++)
        tensor_release(taken[i]);
    memory_free(taken);
    return ok;
}

static bool wanted_values(const RecoverySamples *samples, const Graph *graph, Value ***wanted, Error *error)
{
    *wanted = memory_new_array((size_t)samples->output_count + 1, sizeof **wanted);
    if (!*wanted) return fail_memory(error, (size_t)samples->output_count * sizeof **wanted);
    for (int i = 0; i < samples->output_count; i++)
        (*wanted)[i] = graph->outputs[samples->outputs[i]];
    return true;
}

static bool samples_answer(RecoverySamples *samples, bool exact, Error *error)
{
    Graph *graph = samples->graph;
    int64_t held = samples->units - samples->learned;
    samples->chunk = samples->units < CHUNK ? samples->units : CHUNK;
    samples->chunks = (samples->learned + samples->chunk - 1) / samples->chunk + (held + samples->chunk - 1) / samples->chunk;
    samples->outputs = memory_new_array((size_t)graph->output_count + 1, sizeof *samples->outputs);
    if (!samples->outputs) return fail_memory(error, (size_t)graph->output_count * sizeof *samples->outputs);
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i]->dtype == DTYPE_FLOAT32 && !graph->outputs[i]->constant && graph->outputs[i]->producer)
            samples->outputs[samples->output_count++] = i;
    samples->answers = memory_new_array((size_t)samples->chunks * (size_t)samples->output_count + 1, sizeof *samples->answers);
    if (!samples->answers) return fail_memory(error, (size_t)samples->chunks * sizeof *samples->answers);
    Value **wanted;
    if (!wanted_values(samples, graph, &wanted, error)) return false;
    Runner runner = {.graph = graph,
                     .options = {.mode = EXEC_FLOAT, .exact = exact, .wanted = wanted, .wanted_count = samples->output_count}};
    bool ok = true;
    for (int64_t c = 0; ok && samples->output_count && c < samples->chunks; c++)
        ok = run_chunk(samples, &runner, c, samples->answers + c * samples->output_count, error);
    runner_end(&runner);
    memory_free(wanted);
    return ok;
}

bool samples_read(RecoverySamples *samples, Graph *graph, const PassContext *context, Error *error)
{
    Reading reading = {0};
    *samples = (RecoverySamples){.graph = graph, .unit = traced_samples(graph)};
    bool ok = read_all(&reading, graph, context, samples->unit, error) && samples_join(samples, &reading, error);
    for (size_t i = 0; i < reading.count; i++)
        tensor_release(reading.batches[i]);
    memory_free(reading.batches);
    return ok && samples_answer(samples, context->setting->switches.onnx_exact_ops, error);
}

void samples_free(RecoverySamples *samples)
{
    for (int i = 0; samples->inputs && i < samples->graph->input_count; i++)
        tensor_release(samples->inputs[i]);
    for (int64_t i = 0; samples->answers && i < samples->chunks * samples->output_count; i++)
        tensor_release(samples->answers[i]);
    memory_free(samples->inputs);
    memory_free(samples->answers);
    memory_free(samples->outputs);
    *samples = (RecoverySamples){0};
}

/* ---- judging ---- */

typedef struct Sums {
    double noise, logarithm;
} Sums;

/* Adds noise : signal of one output, unit by unit. */
static void add_noise(Sums *sums, const Tensor *seen, const Tensor *exact, int64_t units)
{
    int64_t count = tensor_count(exact) / units;
    for (int64_t u = 0; u < units; u++) {
        double noise, power;
        noise_power_f32(tensor_floats(seen) + u * count, tensor_floats(exact) + u * count, count, &noise, &power);
        double share = noise / (power > NOISE_LEAST_POWER ? power : NOISE_LEAST_POWER);
        sums->noise += share;
        sums->logarithm += espq_log(share > NOISE_LEAST_POWER ? share : NOISE_LEAST_POWER); /* not finite: comes out as such in noise */
    }
}

bool samples_judge(const RecoverySamples *samples, Graph *graph, bool exact, Noise *noise, Error *error)
{
    Value **wanted;
    Sums learned = {0}, held = {0};
    Tensor **outputs = memory_new_array((size_t)samples->output_count + 1, sizeof *outputs);
    if (!outputs) return fail_memory(error, (size_t)samples->output_count * sizeof *outputs);
    bool ok = wanted_values(samples, graph, &wanted, error);
    PlanOptions options = {.mode = EXEC_SIMULATED, .exact = exact, .wanted = wanted, .wanted_count = samples->output_count};
    Runner runner = {.graph = graph, .options = options};
    for (int64_t c = 0; ok && c < samples->chunks; c++) {
        int64_t first, count;
        chunk_range(samples, c, &first, &count);
        ok = run_chunk(samples, &runner, c, outputs, error);
        for (int i = 0; ok && i < samples->output_count; i++) {
            add_noise(first < samples->learned ? &learned : &held, outputs[i], samples->answers[c * samples->output_count + i], count);
            tensor_release(outputs[i]);
        }
    }
    runner_end(&runner);
    memory_free(wanted);
    memory_free(outputs);
    double learned_count = (double)(samples->learned * samples->output_count);
    double held_count = (double)((samples->units - samples->learned) * samples->output_count);
    if (!samples->parted) {
        held = learned;
        held_count = learned_count;
    }
    *noise = (Noise){learned.noise / learned_count, held.noise / held_count, espq_exp(learned.logarithm / learned_count),
                     espq_exp(held.logarithm / held_count)};
    return ok;
}

/* ---- as batches ---- */

static bool turn_begin(void *context, Error *error)
{
    (void)error;
    ((SampleTurn *)context)->unit = 0;
    return true;
}

static bool turn_next(void *context, Tensor **inputs, bool *done, Error *error)
{
    SampleTurn *turn = context;
    *done = turn->unit >= turn->samples->units;
    return *done || samples_take(turn->samples, turn->unit++, 1, inputs, error);
}

Batches samples_batches(SampleTurn *turn)
{
    return (Batches){turn, turn->samples->graph->input_count, turn_begin, turn_next};
}
