/* Parameter analysis (QUANT §12.7): range, spread and mean of every parameter of more than one element. */
#include <math.h>

#include "analyse/analyse.h"
#include "base/memory.h"

static void measure_parameter(const Tensor *constant, ParameterRow *row)
{
    int64_t count = tensor_count(constant);
    double low = INFINITY, high = -INFINITY, sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = tensor_get(constant, i);
        sum += x;
        if (x < low) low = x;
        if (x > high) high = x;
    }
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        double apart = tensor_get(constant, i) - mean;
        squares += apart * apart;
    }
    row->range = high - low;
    row->deviation = sqrt(squares / (double)(count - 1));
    row->mean_abs = fabs(mean);
}

bool analyse_parameters(const Graph *graph, ParameterTable *table, Error *error)
{
    size_t capacity = 0;
    *table = (ParameterTable){0};
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++) {
            const Value *value = node->inputs[k];
            if (!value || !value->constant || tensor_count(value->constant) <= 1) continue;
            ParameterRow *rows = memory_grow(table->rows, (size_t)table->count, &capacity, sizeof *rows);
            if (!rows) {
                parameter_table_free(table);
                return fail_memory(error, sizeof *rows);
            }
            table->rows = rows;
            rows[table->count] = (ParameterRow){.variable = value->name, .node = node->name};
            measure_parameter(value->constant, &rows[table->count++]);
        }
    }
    return true;
}

void parameter_table_free(ParameterTable *table)
{
    memory_free(table->rows);
    *table = (ParameterTable){0};
}
