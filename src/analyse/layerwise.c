/* Layerwise analysis (QUANT §12.4): one layer quantized at a time, graph outputs compared in full. */
#include "analyse/ledger.h"
#include "base/progress.h"
#include "exec/replay.h"

/* Kept values of three pieces of a usual detector: weights are read once for them; more of them would not make it faster. */
#define DEFAULT_MEMORY ((size_t)80 << 20)

typedef struct Layerwise {
    Ledger ledger;
    Measure measure;
    int first_unit; /* of the chunk at hand */
    int64_t traced; /* samples of a unit */
} Layerwise;

static void compare(void *context, const Replayed *replayed)
{
    Layerwise *layerwise = context;
    int units = (int)((replayed->samples + layerwise->traced - 1) / layerwise->traced);
    int unit = layerwise->first_unit + (int)(replayed->sample / layerwise->traced);
    int64_t rows, count;
    if (replayed->floating->dtype != DTYPE_FLOAT32) return;
    unit_rows(replayed->floating, units, &rows, &count);
    const float *floating = tensor_floats(replayed->floating), *quantized = tensor_floats(replayed->replayed);
    for (int i = 0; i < units; i++) {
        Part *part = ledger_part(&layerwise->ledger, unit + i, replayed->layer, replayed->output);
        int64_t start = i * count * (rows ? rows : 1);
        if (rows)
            part_add_rows(part, layerwise->measure, floating + start, quantized + start, rows, count);
        else
            part_add_stretch(part, floating + start, quantized + start, count);
    }
}

static bool same_shapes(const Graph *graph, const Shape *a, const Shape *b)
{
    for (int i = 0; i < graph->input_count; i++)
        if (!shape_equal(&a[i], &b[i])) return false;
    return true;
}

static bool run_chunks(Layerwise *layerwise, Graph *graph, Feed *feed, const AnalyseOptions *options, Error *error)
{
    ReplayOptions replay_options = {.exact = options->exact,
                                    .layers = layerwise->ledger.nodes,
                                    .layer_count = layerwise->ledger.node_count,
                                    .memory_limit = options->memory_limit ? options->memory_limit : DEFAULT_MEMORY};
    Replay *replay = NULL;
    Shape shapes[64];
    bool failed = false;
    if (graph->input_count > 64)
        return fail(error, graph->name, "cut the graph", "%d inputs are more than the analysis takes", graph->input_count);
    for (const Chunk *chunk; !failed && (chunk = feed_next(feed, &failed, error));) {
        layerwise->first_unit = chunk->first_unit;
        failed = !ledger_grow(&layerwise->ledger, chunk->first_unit + chunk->units, error);
        if (!failed && !(replay && same_shapes(graph, shapes, chunk->shapes))) {
            replay_free(replay);
            for (int i = 0; i < graph->input_count; i++)
                shapes[i] = chunk->shapes[i];
            failed = !(replay = replay_new(graph, &replay_options, shapes, error));
        }
        failed = failed || !replay_run(replay, chunk->inputs, compare, layerwise, error);
        progress_step((int64_t)feed->batch_count);
    }
    replay_free(replay);
    return !failed;
}

bool analyse_layerwise(Graph *graph, Batches *batches, const AnalyseOptions *options, AnalyseTable *table, Error *error)
{
    Layerwise layerwise = {.measure = options->measure};
    Feed feed = {0};
    *table = (AnalyseTable){.measure = options->measure};
    if (!ledger_begin(&layerwise.ledger, graph, graph->output_count, error)) return false;
    bool done = true;
    if (layerwise.ledger.node_count) {
        progress_begin("layerwise error", options->steps + 1);
        done = feed_begin(&feed, graph, batches, options->steps + 1, FEED_UNITS, error);
        layerwise.traced = feed.traced;
        done = done && run_chunks(&layerwise, graph, &feed, options, error) &&
               ledger_table(&layerwise.ledger, &feed, options->measure, table, error);
        progress_end();
        feed_end(&feed);
    }
    ledger_end(&layerwise.ledger);
    return done;
}
