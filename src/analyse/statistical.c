/* Statistical analysis (QUANT §12.6): moments of all ends of quantized nodes, in float, quantized, and of the difference. */
#include <string.h>

#include "analyse/measure.h"
#include "analyse/moments.h"
#include "base/memory.h"
#include "base/progress.h"
#include "exec/feed.h"
#include "exec/plan.h"
#include "graph/operator.h"

#define SAMPLED 1024 /* positions of an end in a batch */

typedef struct End {
    Node *node;
    bool is_output;
    int index;
    float *samples[2]; /* float, quantized: SAMPLED a batch */
    int batches[2];
    size_t capacity[2]; /* in batches */
} End;

typedef struct Statistical {
    End *ends;
    int end_count;
    int half; /* 0: float, 1: quantized */
    Plan *plans[2];
    Shape *shapes;
    Watcher watcher;
} Statistical;

static bool is_watched(const Node *node)
{
    return node->quantized && node->op && !(node->op->flags & OPERATOR_PASSIVE);
}

static bool wants(void *context, const Node *node, bool is_output, int index)
{
    (void)context;
    (void)is_output;
    (void)index;
    return is_watched(node);
}

static bool list_ends(Statistical *statistical, const Graph *graph, Error *error)
{
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (is_watched(graph->nodes[i])) count += graph->nodes[i]->input_count + graph->nodes[i]->output_count;
    statistical->ends = memory_new_array((size_t)count + 1, sizeof *statistical->ends);
    if (!statistical->ends) return fail_memory(error, (size_t)count * sizeof *statistical->ends);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; is_watched(node) && k < node->input_count + node->output_count; k++) {
            bool is_output = k >= node->input_count;
            if (is_output ? !node->outputs[k - node->input_count] : !node->inputs[k]) continue;
            statistical->ends[statistical->end_count++] =
                (End){.node = node, .is_output = is_output, .index = is_output ? k - node->input_count : k};
        }
    }
    return true;
}

static End *find_end(Statistical *statistical, const Watched *watched)
{
    for (int i = 0; i < statistical->end_count; i++) {
        End *end = &statistical->ends[i];
        if (end->node == watched->node && end->is_output == watched->is_output && end->index == watched->index) return end;
    }
    return NULL;
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    Statistical *statistical = context;
    End *end = find_end(statistical, watched);
    int half = statistical->half;
    int64_t count = tensor_count(watched->seen);
    if (!end || watched->seen->dtype != DTYPE_FLOAT32 || count == 0) return true;
    float *samples = memory_grow(end->samples[half], (size_t)end->batches[half], &end->capacity[half], SAMPLED * sizeof *samples);
    if (!samples) return fail_memory(error, SAMPLED * sizeof *samples);
    end->samples[half] = samples;
    samples += (size_t)end->batches[half]++ * SAMPLED;
    uint32_t seed = ESPQ_SAMPLE_SEED;
    for (int i = 0; i < SAMPLED; i++, seed = next_seed(seed))
        samples[i] = tensor_floats(watched->seen)[seed % (uint64_t)count];
    return true;
}

/* ---- batches ---- */

static void free_plans(Statistical *statistical)
{
    plan_free(statistical->plans[0]);
    plan_free(statistical->plans[1]);
    statistical->plans[0] = statistical->plans[1] = NULL;
}

static bool make_plans(Statistical *statistical, Graph *graph, const Chunk *chunk, bool exact, Error *error)
{
    bool same = statistical->plans[0] && statistical->plans[1];
    for (int i = 0; i < graph->input_count && same; i++)
        same = shape_equal(&statistical->shapes[i], &chunk->shapes[i]);
    if (same) return true;
    free_plans(statistical);
    memcpy(statistical->shapes, chunk->shapes, (size_t)graph->input_count * sizeof *statistical->shapes);
    Value *nothing = NULL; /* only what is watched is needed */
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = exact, .wanted = &nothing, .wanted_count = 0, .watcher = &statistical->watcher};
    if (!(statistical->plans[0] = plan_new(graph, &options, chunk->shapes, error))) return false;
    options.mode = EXEC_SIMULATED;
    return (statistical->plans[1] = plan_new(graph, &options, chunk->shapes, error)) != NULL;
}

static bool run_batches(Statistical *statistical, Graph *graph, Feed *feed, bool exact, Error *error)
{
    bool failed = false;
    Tensor *nothing[1];
    statistical->watcher = (Watcher){.context = statistical, .wants = wants, .watch = watch, .seen_only = true};
    statistical->shapes = memory_new_array((size_t)graph->input_count + 1, sizeof *statistical->shapes);
    if (!statistical->shapes) return fail_memory(error, sizeof *statistical->shapes);
    for (const Chunk *chunk; !failed && (chunk = feed_next(feed, &failed, error));) {
        failed = !make_plans(statistical, graph, chunk, exact, error);
        for (statistical->half = 0; statistical->half < 2 && !failed; statistical->half++)
            failed = !plan_run(statistical->plans[statistical->half], chunk->inputs, nothing, error);
        progress_step((int64_t)feed->batch_count);
    }
    free_plans(statistical);
    memory_free(statistical->shapes);
    return !failed;
}

/* ---- the table ---- */

static bool is_end_of(const Node *node, bool is_output, const Value *value)
{
    for (int i = 0; i < (is_output ? node->output_count : node->input_count); i++)
        if ((is_output ? node->outputs[i] : node->inputs[i]) == value) return true;
    return false;
}

static bool fill_row(const End *end, StatisticalRow *row, Error *error)
{
    const Node *node = end->node;
    const Value *value = end->is_output ? node->outputs[end->index] : node->inputs[end->index];
    int64_t count = (int64_t)(end->batches[0] < end->batches[1] ? end->batches[0] : end->batches[1]) * SAMPLED;
    float *noise = memory_new_array((size_t)count + 1, sizeof *noise);
    if (!noise) return fail_memory(error, (size_t)count * sizeof *noise);
    for (int64_t i = 0; i < count; i++)
        noise[i] = end->samples[1][i] - end->samples[0][i];
    *row = (StatisticalRow){.name = node->name,
                            .type = node->type,
                            .variable = value->name,
                            .is_parameter = value->constant != NULL,
                            .is_input = is_end_of(node, false, value),
                            .is_output = is_end_of(node, true, value)};
    Part part = {0};
    Recorder recorder = {0};
    part_add_stretch(&part, end->samples[0], end->samples[1], count);
    recorder_update(&recorder, MEASURE_SNR, &part, 1, 1);
    row->snr = recorder.value;
    moments_of(noise, count, &row->noise);
    moments_of(end->samples[1], count, &row->quantized);
    moments_of(end->samples[0], count, &row->floating);
    memory_free(noise);
    return true;
}

static bool make_table(const Statistical *statistical, StatisticalTable *table, Error *error)
{
    table->rows = memory_new_array((size_t)statistical->end_count + 1, sizeof *table->rows);
    if (!table->rows) return fail_memory(error, (size_t)statistical->end_count * sizeof *table->rows);
    for (int i = 0; i < statistical->end_count; i++) {
        const End *end = &statistical->ends[i];
        if (!end->batches[0] || !end->batches[1]) continue;
        if (!fill_row(end, &table->rows[table->count++], error)) {
            statistical_table_free(table);
            return false;
        }
    }
    return true;
}

bool analyse_statistical(Graph *graph, Batches *batches, const AnalyseOptions *options, StatisticalTable *table, Error *error)
{
    Statistical statistical = {0};
    Feed feed = {0};
    *table = (StatisticalTable){0};
    bool done = list_ends(&statistical, graph, error);
    if (done && statistical.end_count) {
        progress_begin("statistics", options->steps + 1);
        done = feed_begin(&feed, graph, batches, options->steps + 1, FEED_BATCHES, error) &&
               run_batches(&statistical, graph, &feed, options->exact, error) && make_table(&statistical, table, error);
        progress_end();
        feed_end(&feed);
    }
    for (int i = 0; i < statistical.end_count; i++) {
        memory_free(statistical.ends[i].samples[0]);
        memory_free(statistical.ends[i].samples[1]);
    }
    memory_free(statistical.ends);
    return done;
}

void statistical_table_free(StatisticalTable *table)
{
    memory_free(table->rows);
    *table = (StatisticalTable){0};
}
