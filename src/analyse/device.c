#include "analyse/device.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "chip/arithmetic.h"
#include "chip/cost.h"
#include "exec/plan.h"
#include "lower/device.h"

enum { ALL_INT16 = 65536 };

static int exponent_of(const Value *value)
{
    return value && value->device && value->device->exponent_count ? value->device->exponents[0] : 0;
}

static bool in_list(const char *type, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(type, *list) == 0) return true;
    return false;
}

/* The shift of a node's products, the smallest over the channels of a weight (CHIP §1.5). */
static void find_shift(const Node *node, DeviceRow *row)
{
    static const char *const products[] = {"Conv", "Gemm", "MatMul", "Mul", NULL};
    if (!in_list(node->type, products) || strcmp(row->width, "F32") == 0 || node->input_count < 2 || !node->inputs[1]) return;
    const DeviceValue *factor = node->inputs[1]->device;
    int largest = exponent_of(node->inputs[1]);
    for (int i = 0; factor && i < factor->exponent_count; i++)
        if (factor->exponents[i] > largest) largest = factor->exponents[i];
    row->shifts = true;
    row->shift = exponent_of(node->outputs[0]) - exponent_of(node->inputs[0]) - largest;
}

/* As many samples of the value as hold all int16 values. */
static Shape shape_of_all(const Value *value)
{
    Shape shape = value->shape;
    int64_t rest = shape_count(&shape);
    if (shape.rank && shape.dims[0] > 0) rest /= shape.dims[0];
    if (!shape.rank || rest < 1) return shape;
    shape.dims[0] = (ALL_INT16 + rest - 1) / rest;
    return shape;
}

/* The function of the user's node at all int16 values, NULL where it cannot be had; *fine is false when memory ended. */
static Tensor *function_values(Graph *graph, const Node *node, int exponent, bool *fine, Error *error)
{
    Value *input = node->inputs[0], *output = node->outputs[0];
    Shape shape = shape_of_all(input);
    int64_t count = shape_count(&shape);
    *fine = true;
    if (!input->shaped || count < ALL_INT16) return NULL;
    Tensor *x = tensor_new_unset(DTYPE_FLOAT32, &shape, error), *y = NULL;
    *fine = x;
    if (!x) return NULL;
    for (int64_t i = 0; i < count; i++)
        tensor_floats(x)[i] = ldexpf((float)(i % ALL_INT16 - ALL_INT16 / 2), exponent);
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = true, .wanted = &output, .wanted_count = 1, .given = &input, .given_count = 1};
    Error why = {0};
    Plan *plan = plan_new(graph, &options, &shape, &why);
    bool made = plan && plan_run(plan, &x, &y, &why) && y->dtype == DTYPE_FLOAT32 && tensor_count(y) == count;
    plan_free(plan);
    tensor_release(x);
    if (made) return y;
    tensor_release(y);
    *fine = why.code != ERROR_MEMORY && why.code != ERROR_INTERRUPTED;
    if (!*fine) *error = why;
    return NULL;
}

static void judge(const Tensor *table, const Tensor *exact, int exponent, Rounding rounding, DeviceRow *row)
{
    int bits = 0;
    while ((ALL_INT16 >> bits) + (bits ? 1 : 0) > row->entries)
        bits++;
    double sum = 0;
    for (int i = 0; i < ALL_INT16; i++) {
        int64_t entry = tensor_get_integer(table, shift_and_round(i, bits, rounding, 32));
        double wanted = (double)round_saturate(ldexpf(tensor_floats(exact)[i], -exponent), rounding, 16);
        double apart = fabs((double)entry - wanted);
        sum += apart;
        if (apart > row->table_largest) row->table_largest = apart;
    }
    row->table_mean = sum / ALL_INT16;
    row->judged = true;
}

static bool find_table(const Graph *device, Graph *graph, const Node *node, Rounding rounding, DeviceRow *row, Error *error)
{
    const char *name = node_string(node, "lut", NULL);
    const Value *table = name ? graph_value(device, name) : NULL;
    if (!table || !table->constant) return true;
    row->entries = tensor_count(table->constant);
    const Node *origin = graph_node(graph, node->name);
    bool known = table->constant->dtype == DTYPE_INT16 && row->entries <= ALL_INT16 && origin && origin->input_count && origin->inputs[0] &&
                 !origin->inputs[0]->constant && origin->output_count == 1;
    if (!known) return true;
    bool fine;
    Tensor *exact = function_values(graph, origin, exponent_of(node->inputs[0]), &fine, error);
    if (exact) judge(table->constant, exact, exponent_of(node->outputs[0]), rounding, row);
    tensor_release(exact);
    return fine;
}

static OnChip where_computed(const Node *node, const DeviceRow *row)
{
    static const char *const integers[] = {"Conv",    "Gemm",    "MatMul",    "QuantizeLinear", "DequantizeLinear", "Reshape",
                                           "Flatten", "Squeeze", "Unsqueeze", "Identity",       "ReduceSum",        NULL};
    if (in_list(node->type, integers) && strcmp(row->width, "F32") != 0) return ON_CHIP_INTEGERS;
    if (strcmp(row->width, "F32") == 0) return ON_CHIP_FLOATS;
    return cost_in_integers(node) ? ON_CHIP_INTEGERS : ON_CHIP_INSIDE;
}

bool analyse_device(const Graph *device, Graph *graph, const Chip *chip, DeviceTable *table, Error *error)
{
    *table = (DeviceTable){0};
    table->rows = memory_new_array((size_t)device->node_count + 1, sizeof *table->rows);
    if (!table->rows) return fail_memory(error, (size_t)device->node_count * sizeof *table->rows);
    for (int i = 0; i < device->node_count; i++) {
        const Node *node = device->nodes[i];
        DeviceRow *row = &table->rows[table->count++];
        *row = (DeviceRow){.node = node->name, .type = node->type, .width = node_string(node, "quant_type", "F32")};
        row->computes = where_computed(node, row);
        find_shift(node, row);
        if (!find_table(device, graph, node, chip->rounding, row, error)) return false;
    }
    return true;
}

void device_table_free(DeviceTable *table)
{
    memory_free(table->rows);
    *table = (DeviceTable){0};
}
