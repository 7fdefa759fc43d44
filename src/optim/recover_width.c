/* A share of the multiplications at 16 bits (OPTIM §17.6): the layers whose quantization alone costs most at the outputs, first. */
#include <stdio.h>
#include <stdlib.h>

#include "analyse/analyse.h"
#include "base/memory.h"
#include "base/progress.h"
#include "graph/operator.h"
#include "optim/recover.h"
#include "quant/target.h"

#define JUDGED_UNITS 9 /* batches the layers are ranked by */

static double macs_of(const Node *node)
{
    Cost cost = {0};
    if (node->op && node->op->cost) node->op->cost(node, &cost);
    return (double)cost.macs;
}

static bool can_widen(const Node *node)
{
    return node->quantized && node->op && (node->op->module & MODULE_S16) && node->platform && node->platform->bits == 8;
}

/* What only bends or moves a layer's result goes along with it: between two widths it would be rounded to the narrow one. */
static void widen_behind(Node *node, const Platform *platform)
{
    while (node->output_count == 1 && node->outputs[0]->use_count == 1) {
        node = node->outputs[0]->uses[0].node;
        int inputs = 0;
        for (int i = 0; i < node->input_count; i++)
            inputs += node->inputs[i] && !node->inputs[i]->constant;
        if (inputs != 1 || macs_of(node) > 0 || !can_widen(node)) return;
        node->platform = platform;
    }
}

static int by_value(const void *a, const void *b)
{
    const AnalyseRow *x = *(const AnalyseRow *const *)a, *y = *(const AnalyseRow *const *)b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return x < y ? -1 : x > y;
}

/* How many layers were widened. */
static int widen(Graph *graph, const Recovery *recovery, const AnalyseRow **order, int count, double *used)
{
    const Platform *platform = target_platform(recovery->context->target, 16, false);
    double most = recovery->context->setting->recover_setting.bits16_budget * recovery->macs;
    int widened = 0;
    for (int i = 0; platform && i < count; i++) {
        Node *node = graph_node(graph, order[i]->name);
        if (!node || !can_widen(node) || order[i]->value <= 0 || *used + macs_of(node) > most) continue;
        *used += macs_of(node);
        node->platform = platform;
        widen_behind(node, platform);
        widened++;
    }
    return widened;
}

static bool rank_layers(const Recovery *recovery, Graph *graph, AnalyseTable *table, Error *error)
{
    SampleTurn turn = {&recovery->samples, 0};
    Batches batches = samples_batches(&turn);
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = JUDGED_UNITS - 1, .exact = recovery->exact};
    int level = progress_level;
    progress_level = 0;
    bool ok = analyse_layerwise(graph, &batches, &options, table, error);
    progress_level = level;
    return ok;
}

bool recovery_wants_width(const Recovery *recovery)
{
    return recovery->context->setting->recover_setting.bits16_budget > 0 && recovery->context->bits == 8;
}

bool recover_width(Recovery *recovery, Error *error)
{
    double share = recovery->context->setting->recover_setting.bits16_budget, used = 0;
    AnalyseTable table = {0};
    char step[120];
    bool kept;
    Graph *graph = graph_copy(recovery->best, error);
    const AnalyseRow **order = NULL;
    bool ok = graph && rank_layers(recovery, graph, &table, error);
    if (ok && !(order = memory_new_array((size_t)table.count + 1, sizeof *order))) ok = fail_memory(error, sizeof *order);
    for (int i = 0; ok && i < table.count; i++)
        order[i] = &table.rows[i];
    if (ok) {
        qsort(order, (size_t)table.count, sizeof *order, by_value);
        int widened = widen(graph, recovery, order, table.count, &used);
        snprintf(step, sizeof step, "%d layers at 16 bits, %.1f %% of the products", widened, 100 * used / recovery->macs);
        ok = !widened || recover_walk_again(recovery, graph, recovery->setting, error);
        if (ok && widened) {
            ok = recovery_offer(recovery, graph, step, &kept, error);
            graph = NULL;
        } else if (ok) {
            text_format(&recovery->story, "16 bits: no layer fits into %.3g of the products\n", share);
        }
    }
    memory_free(order);
    analyse_table_free(&table);
    graph_free(graph);
    return ok;
}
