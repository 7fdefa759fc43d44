#include "analyse/ledger.h"

#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"

static bool is_measured(const Node *node)
{
    return node->quantized && node->op && (node->op->flags & OPERATOR_COMPUTING);
}

bool ledger_begin(Ledger *ledger, const Graph *graph, int outputs, Error *error)
{
    *ledger = (Ledger){.outputs = outputs};
    ledger->nodes = memory_new_array((size_t)graph->node_count + 1, sizeof *ledger->nodes);
    if (!ledger->nodes) return fail_memory(error, (size_t)graph->node_count * sizeof *ledger->nodes);
    for (int i = 0; i < graph->node_count; i++)
        if (is_measured(graph->nodes[i])) ledger->nodes[ledger->node_count++] = graph->nodes[i];
    return true;
}

bool ledger_grow(Ledger *ledger, int units, Error *error)
{
    size_t row = (size_t)ledger->node_count * (size_t)ledger->outputs, before = (size_t)ledger->units * row, after = (size_t)units * row;
    Part *parts = memory_resize(ledger->parts, (after + 1) * sizeof *parts);
    if (!parts) return fail_memory(error, after * sizeof *parts);
    memset(parts + before, 0, (after - before + 1) * sizeof *parts);
    ledger->parts = parts;
    ledger->units = units;
    return true;
}

Part *ledger_part(const Ledger *ledger, int unit, int node, int output)
{
    return ledger->parts + ((size_t)unit * (size_t)ledger->node_count + (size_t)node) * (size_t)ledger->outputs + (size_t)output;
}

bool ledger_table(const Ledger *ledger, const Feed *feed, Measure measure, AnalyseTable *table, Error *error)
{
    *table = (AnalyseTable){.measure = measure};
    table->rows = memory_new_array((size_t)ledger->node_count + 1, sizeof *table->rows);
    if (!table->rows) return fail_memory(error, (size_t)ledger->node_count * sizeof *table->rows);
    table->count = ledger->node_count;
    int64_t stride = (int64_t)ledger->node_count * ledger->outputs;
    for (int i = 0; i < ledger->node_count; i++) {
        Recorder recorder = {0};
        int unit = 0;
        for (size_t batch = 0; batch < feed->batch_count; unit += feed->batch_units[batch++])
            for (int output = 0; output < ledger->outputs; output++)
                recorder_update(&recorder, measure, ledger_part(ledger, unit, i, output), feed->batch_units[batch], stride);
        table->rows[i] = (AnalyseRow){ledger->nodes[i]->name, ledger->nodes[i]->type, recorder_value(&recorder, measure)};
    }
    return true;
}

void ledger_end(Ledger *ledger)
{
    memory_free(ledger->nodes);
    memory_free(ledger->parts);
    *ledger = (Ledger){0};
}

void unit_rows(const Tensor *tensor, int units, int64_t *rows, int64_t *count)
{
    int64_t elements = tensor_count(tensor);
    *rows = 0;
    *count = elements / units;
    if (tensor->shape.rank < 2 || tensor->shape.dims[0] % units) return;
    *rows = tensor->shape.dims[0] / units;
    *count = tensor->shape.dims[0] ? elements / tensor->shape.dims[0] : 0;
}

void analyse_table_free(AnalyseTable *table)
{
    memory_free(table->rows);
    *table = (AnalyseTable){0};
}
