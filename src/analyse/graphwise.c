/* Graphwise analysis (QUANT §12.3): outputs of computing nodes, sampled, in float and with all quantization on. */
#include <stdatomic.h>
#include <string.h>

#include "analyse/float_samples.h"
#include "analyse/ledger.h"
#include "analyse/recalled.h"
#include "base/memory.h"
#include "base/progress.h"
#include "exec/plan.h"

#define SAMPLED 4096 /* positions of a row */

typedef struct Graphwise {
    Ledger ledger;
    Measure measure;
    int64_t traced;        /* samples of a unit */
    int first_unit, units; /* of the chunk at hand */
    float **sampled;       /* [unit of the chunk][node]: float values at the positions, rows one behind the other */
    bool quantized;        /* second half: compare */
    Plan *plans[2];        /* float, simulated; for chunks of `shapes` */
    Watcher watcher;
    Shape *shapes;
    FloatSamples *kept; /* of the last analysis with this key, NULL */
    const char *key;
    bool reuses, collects;   /* collects: `kept` gets this analysis' samples, from its first chunk on */
    int chunk;               /* number of the chunk at hand */
    atomic_size_t new_bytes; /* sampled in this chunk */
    Recalled recalled;       /* figures of the chunk at hand that are known, and where its simulated run begins */
} Graphwise;

static int find_node(const Ledger *ledger, const Node *node)
{
    for (int i = 0; i < ledger->node_count; i++)
        if (ledger->nodes[i] == node) return i;
    return -1;
}

static bool wants(void *context, const Node *node, bool is_output, int index)
{
    const Graphwise *graphwise = context;
    return is_output && index == 0 && find_node(&graphwise->ledger, node) >= 0;
}

static bool wants_unknown(void *context, const Node *node, bool is_output, int index)
{
    const Graphwise *graphwise = context;
    int place = is_output && index == 0 ? find_node(&graphwise->ledger, node) : -1;
    return place >= 0 && !recalled_knows(&graphwise->recalled, place);
}

static void sample_row(const float *row, int64_t count, float *out)
{
    uint32_t seed = ESPQ_SAMPLE_SEED;
    for (int i = 0; i < SAMPLED; i++, seed = next_seed(seed))
        out[i] = row[seed % (uint64_t)count];
}

/* One unit of one node: remember its samples, or compare them with those remembered. Different nodes and units are seen by
 * different threads. */
static bool take_unit(Graphwise *graphwise, int node, int unit, const float *data, int64_t rows, int64_t count, Error *error)
{
    float **kept = &graphwise->sampled[(size_t)unit * (size_t)graphwise->ledger.node_count + (size_t)node];
    float row[SAMPLED];
    if (!graphwise->quantized) {
        memory_free(*kept);
        if (!(*kept = memory_new_array((size_t)rows, sizeof row))) return fail_memory(error, (size_t)rows * sizeof row);
        atomic_fetch_add(&graphwise->new_bytes, (size_t)rows * sizeof row);
        for (int64_t i = 0; i < rows; i++)
            sample_row(data + i * count, count, *kept + i * SAMPLED);
        return true;
    }
    Part *part = ledger_part(&graphwise->ledger, graphwise->first_unit + unit, node, 0);
    for (int64_t i = 0; i < rows && *kept; i++) {
        sample_row(data + i * count, count, row);
        part_add_rows(part, graphwise->measure, *kept + i * SAMPLED, row, 1, SAMPLED);
    }
    return true;
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    Graphwise *graphwise = context;
    int node = find_node(&graphwise->ledger, watched->node);
    int units = (int)((watched->samples + graphwise->traced - 1) / graphwise->traced), first = (int)(watched->sample / graphwise->traced);
    int64_t rows, count;
    if (watched->seen->dtype != DTYPE_FLOAT32) return true;
    if (units < 1 || first + units > graphwise->units) units = graphwise->units - first;
    unit_rows(watched->seen, units, &rows, &count);
    if (!rows) rows = 1;
    if (!count) return true;
    for (int i = 0; i < units; i++)
        if (!take_unit(graphwise, node, first + i, tensor_floats(watched->seen) + i * rows * count, rows, count, error)) return false;
    return true;
}

/* ---- chunks ---- */

static void free_plans(Graphwise *graphwise)
{
    plan_free(graphwise->plans[0]);
    plan_free(graphwise->plans[1]);
    graphwise->plans[0] = graphwise->plans[1] = NULL;
}

static bool make_plans(Graphwise *graphwise, Graph *graph, const Chunk *chunk, bool exact, Error *error)
{
    bool floats = !graphwise->reuses, simulates = !graphwise->recalled.memo;
    bool same = (!floats || graphwise->plans[0]) && (!simulates || graphwise->plans[1]);
    for (int i = 0; i < graph->input_count && same; i++)
        same = shape_equal(&graphwise->shapes[i], &chunk->shapes[i]);
    if (same) return true;
    free_plans(graphwise);
    memcpy(graphwise->shapes, chunk->shapes, (size_t)graph->input_count * sizeof *graphwise->shapes);
    Value *nothing = NULL; /* only what is watched is needed */
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = exact, .wanted = &nothing, .wanted_count = 0, .watcher = &graphwise->watcher};
    if (floats && !(graphwise->plans[0] = plan_new(graph, &options, chunk->shapes, error))) return false;
    options.mode = EXEC_SIMULATED;
    return !simulates || (graphwise->plans[1] = plan_new(graph, &options, chunk->shapes, error)) != NULL;
}

static void free_sampled(Graphwise *graphwise)
{
    size_t count = (size_t)graphwise->units * (size_t)graphwise->ledger.node_count;
    for (size_t i = 0; graphwise->sampled && i < count; i++)
        memory_free(graphwise->sampled[i]);
    memory_free(graphwise->sampled);
    graphwise->sampled = NULL;
}

/* Use the float half of an earlier analysis, or make room for this one's. */
static bool begin_samples(Graphwise *graphwise, const Chunk *chunk, Error *error)
{
    int nodes = graphwise->ledger.node_count;
    if (graphwise->kept) graphwise->sampled = float_samples_find(graphwise->kept, graphwise->key, graphwise->chunk, chunk->units, nodes);
    graphwise->reuses = graphwise->sampled != NULL;
    if (graphwise->reuses) return true;
    if (graphwise->kept && graphwise->chunk == 0) {
        if (!float_samples_begin(graphwise->kept, graphwise->key, error)) return false;
        graphwise->collects = true;
    }
    graphwise->sampled = memory_new_array((size_t)chunk->units * (size_t)nodes + 1, sizeof *graphwise->sampled);
    return graphwise->sampled ? true : fail_memory(error, (size_t)chunk->units * sizeof *graphwise->sampled);
}

static void end_samples(Graphwise *graphwise, bool done)
{
    bool given = graphwise->reuses;
    if (!given && done && graphwise->collects)
        given = float_samples_keep(graphwise->kept, graphwise->chunk, graphwise->units, graphwise->ledger.node_count, graphwise->sampled,
                                   atomic_load(&graphwise->new_bytes));
    if (given)
        graphwise->sampled = NULL;
    else
        free_sampled(graphwise);
}

/* The nodes whose figures are not known, from the values that are. */
static bool run_unknown(Graphwise *graphwise, Graph *graph, const Chunk *chunk, bool exact, Error *error)
{
    Recalled *recalled = &graphwise->recalled;
    Watcher watcher = graphwise->watcher;
    watcher.wants = wants_unknown;
    PlanOptions options = {.mode = EXEC_SIMULATED,
                           .exact = exact,
                           .given = recalled->given,
                           .given_count = recalled->given_count,
                           .wanted = recalled->noted,
                           .wanted_count = recalled->noted_count,
                           .watcher = &watcher};
    Plan *plan = plan_new(graph, &options, recalled->shapes, error);
    bool done = plan && plan_run(plan, recalled->tensors, recalled->results, error);
    plan_free(plan);
    if (done) recalled_keep(recalled, &graphwise->ledger, chunk);
    return done;
}

static bool run_halves(Graphwise *graphwise, Graph *graph, const Chunk *chunk, bool exact, Error *error)
{
    Tensor *nothing[1];
    bool done = begin_samples(graphwise, chunk, error) && make_plans(graphwise, graph, chunk, exact, error);
    graphwise->quantized = false;
    if (done && !graphwise->reuses) done = plan_run(graphwise->plans[0], chunk->inputs, nothing, error);
    graphwise->quantized = true;
    if (done && graphwise->recalled.memo)
        done = run_unknown(graphwise, graph, chunk, exact, error);
    else if (done)
        done = plan_run(graphwise->plans[1], chunk->inputs, nothing, error);
    end_samples(graphwise, done);
    return done;
}

static bool run_chunk(Graphwise *graphwise, Graph *graph, const Chunk *chunk, bool exact, Error *error)
{
    graphwise->first_unit = chunk->first_unit;
    graphwise->units = chunk->units;
    atomic_store(&graphwise->new_bytes, 0);
    if (!ledger_grow(&graphwise->ledger, chunk->first_unit + chunk->units, error)) return false;
    recalled_find(&graphwise->recalled, &graphwise->ledger, chunk);
    bool done = graphwise->recalled.all || run_halves(graphwise, graph, chunk, exact, error);
    graphwise->chunk++; /* a chunk that is known has its number, too: samples are kept by it */
    return done;
}

static bool run_chunks(Graphwise *graphwise, Graph *graph, Feed *feed, bool exact, Error *error)
{
    bool failed = false;
    graphwise->traced = feed->traced;
    graphwise->watcher = (Watcher){.context = graphwise, .wants = wants, .watch = watch, .seen_only = true, .by_piece = true};
    graphwise->shapes = memory_new_array((size_t)graph->input_count + 1, sizeof *graphwise->shapes);
    if (!graphwise->shapes) return fail_memory(error, sizeof *graphwise->shapes);
    for (const Chunk *chunk; !failed && (chunk = feed_next(feed, &failed, error));) {
        failed = !run_chunk(graphwise, graph, chunk, exact, error);
        progress_step((int64_t)feed->batch_count);
    }
    free_plans(graphwise);
    memory_free(graphwise->shapes);
    return !failed;
}

bool analyse_graphwise(Graph *graph, Batches *batches, const AnalyseOptions *options, AnalyseTable *table, Error *error)
{
    Graphwise graphwise = {.measure = options->measure, .kept = options->samples, .key = options->samples_key};
    Feed feed = {0};
    *table = (AnalyseTable){.measure = options->measure};
    if (!ledger_begin(&graphwise.ledger, graph, 1, error)) return false;
    bool done = true;
    if (graphwise.ledger.node_count) {
        progress_begin("graphwise error", options->steps + 1);
        /* Passes keep values by batches. */
        FeedMode mode = options->memo ? FEED_BATCHES : FEED_UNITS;
        done = recalled_begin(&graphwise.recalled, graph, options, error) &&
               feed_begin(&feed, graph, batches, options->steps + 1, mode, error) &&
               run_chunks(&graphwise, graph, &feed, options->exact, error) &&
               ledger_table(&graphwise.ledger, &feed, options->measure, table, error);
        if (graphwise.collects && done) float_samples_end(graphwise.kept, graphwise.chunk);
        progress_end();
        feed_end(&feed);
        recalled_end(&graphwise.recalled);
    }
    ledger_end(&graphwise.ledger);
    return done;
}
