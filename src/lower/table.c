/* Look-up tables: one operator, all its inputs, as the chip will find them (EXPORT §7). */
#include <math.h>

#include "base/rounding.h"
#include "lower/lower.h"

enum { MOST_PARAMETERS = 4 };

typedef struct TableShape { /* codes first, first + step … */
    int64_t first, step, count;
} TableShape;

static TableShape table_shape(int bits, int64_t step16)
{
    if (bits == 8) return (TableShape){-128, 1, 256};
    return (TableShape){-32768, step16, (65535 + step16 + step16 - 1) / step16};
}

/* The further inputs as the chip knows them: their integers times their scale. NAN where one is left out. */
static int read_parameters(const Node *node, double *parameters)
{
    int count = 0;
    for (int i = 1; i < node->input_count && count < MOST_PARAMETERS; i++) {
        const Value *value = node->inputs[i];
        parameters[count] = NAN;
        if (value && value->constant && tensor_count(value->constant) == 1)
            parameters[count] = tensor_get(value->constant, 0) * (value->device->exponents ? ldexp(1, value->device->exponents[0]) : 1);
        count++;
    }
    return count;
}

/* One entry. The reference evaluates in float32: x and y are rounded to it. */
static int64_t entry(const Node *node, const Slot *slot, int64_t code, int input_exponent, int output_exponent, const double *parameters,
                     int count)
{
    float x = (float)code * ldexpf(1, input_exponent);
    float y = (float)node->op->table(node, (double)x, parameters, count);
    if (isnan(y)) return 0;
    float rounded = round_float(y / ldexpf(1, output_exponent), slot->rounding);
    return rounded <= (float)slot->minimum ? slot->minimum : rounded >= (float)slot->maximum ? slot->maximum : (int64_t)rounded;
}

/* Make the table of a node, name it in the attribute `lut`. */
static bool attach(Lowering *lowering, Node *node, Slot *output, int input_exponent, int output_exponent, Error *error)
{
    Graph *graph = lowering->graph;
    int bits = node->platform->bits;
    TableShape table = table_shape(bits, lowering->options->int16_lut_step);
    Shape shape = {1, {table.count}};
    Tensor *tensor = tensor_new(bits == 8 ? DTYPE_INT8 : DTYPE_INT16, &shape, error);
    const char *name = arena_format(&graph->arena, "%s_lut_%d", node->type, lowering->tables);
    int *exponent = arena_copy(&graph->arena, &output_exponent, sizeof output_exponent);
    if (!tensor || !name || !exponent || !node_set_string(graph, node, "lut", name)) {
        tensor_release(tensor);
        return fail_memory(error, (size_t)table.count);
    }
    double parameters[MOST_PARAMETERS];
    int count = read_parameters(node, parameters);
    for (int64_t k = 0; k < table.count; k++) {
        int64_t value = entry(node, output, table.first + k * table.step, input_exponent, output_exponent, parameters, count);
        tensor_set(tensor, k, (double)value);
    }
    Value *value = graph_add_constant(graph, name, tensor, error);
    tensor_release(tensor);
    if (!value || !lower_give_device(lowering, value, error)) return false;
    value->device->layout = NULL;
    value->device->table = true;
    value->device->exponents = exponent;
    value->device->exponent_count = 1;
    lowering->tables++;
    return true;
}

/* One number in, one out: alone, or with parameters that are one number each. */
static bool element_by_element(const Node *node)
{
    if (node_is(node, "Clip")) return true;
    if (node_is(node, "PRelu")) {
        const Value *slope = node->input_count > 1 ? node->inputs[1] : NULL;
        return slope && slope->constant && tensor_count(slope->constant) == 1;
    }
    return node->input_count == 1 && node->output_count <= 1;
}

static bool table_of_node(Lowering *lowering, Node *node, Error *error)
{
    if (!node->quantized || !node->op || !node->op->table || !node->platform || !node->outputs[0] || !element_by_element(node)) return true;
    int bits = node->platform->bits;
    bool read16 = node_is(node, "Gelu") || !lower_setting(lowering)->switches.lut16_only_used; /* the others compute at 16 bits (E25) */
    if (bits != 8 && (bits != 16 || lowering->options->int16_lut_step <= 0 || !read16)) return true;
    const DeviceValue *input = node->inputs[0]->device, *output = node->outputs[0]->device;
    if (!output->exponents || output->dtype != (bits == 8 ? DTYPE_INT8 : DTYPE_INT16)) return true;
    return attach(lowering, node, node->output_slots[0], input->exponents ? input->exponents[0] : 0, output->exponents[0], error);
}

bool lower_tables(Lowering *lowering, Error *error)
{
    int64_t step = lowering->options->int16_lut_step;
    if (step > 32768 || (step > 0 && (step & (step - 1))))
        return fail(error, "int16_lut_step", "give 0 (no tables) or a power of two up to 32768", "%lld is no step that the chip can read",
                    (long long)step);
    return lower_walk(lowering, table_of_node, error);
}

/* ---- float unary operators that the chip does not have, between 8-bit tensors, as tables (E24) ---- */

/* The conversion in front of a unary float node, and one of those behind it, if all of them agree. */
static Node *quantized_reader(const Lowering *lowering, const Node *node)
{
    const Value *made = node->outputs[0];
    Node *first = NULL;
    if (value_is_output(lowering->graph, made)) return NULL;
    for (int i = 0; i < made->use_count; i++) {
        Node *reader = made->uses[i].node;
        if (!node_is(reader, "QuantizeLinear") || reader->platform->bits != 8 || reader->outputs[0]->use_count != 1) return NULL;
        if (first && !tensor_equal(first->inputs[1]->constant, reader->inputs[1]->constant)) return NULL;
        first = first ? first : reader;
    }
    return first;
}

static void drop(Graph *graph, Node *node)
{
    Value *made = node->outputs[0], *scale = node->inputs[1], *zero = node->inputs[2];
    graph_remove_node(graph, node);
    graph_remove_value(graph, made);
    graph_remove_value(graph, scale);
    graph_remove_value(graph, zero);
}

static bool unary_table(Lowering *lowering, Node *node, Error *error)
{
    Graph *graph = lowering->graph;
    if (node->quantized && node->op && node->op->table && !node->op->module && element_by_element(node) && node->platform->bits == 8)
        node->type = "LUT";
    if (node->quantized || !node->op || !node->op->table || node->op->module || node->input_count != 1 || node->output_count != 1)
        return true;
    Node *before = node->inputs[0] ? node->inputs[0]->producer : NULL;
    if (!before || !node_is(before, "DequantizeLinear") || before->inputs[2]->dtype != DTYPE_INT8 || !before->inputs[0]->producer)
        return true;
    Node *behind = quantized_reader(lowering, node);
    if (!behind) return true;
    Value *data = before->inputs[0], *result = node->outputs[0];
    Use first = behind->outputs[0]->uses[0];
    const Slot *in = data->producer->output_slots[data->producer_index], *out = first.node->input_slots[first.index];
    if (!node_set_input(graph, node, 0, data, error)) return false;
    if (before->outputs[0]->use_count == 0) drop(graph, before);
    while (result->use_count) {
        Node *reader = result->uses[0].node;
        if (!value_replace_uses(graph, reader->outputs[0], result, error)) return false;
        drop(graph, reader);
    }
    node->platform = first.node->platform;
    if (!node_make_slots(graph, node, error)) return false;
    lower_copy_slot(node->input_slots[0], in);
    lower_copy_slot(node->output_slots[0], out);
    node->type = "LUT";
    result->dtype = DTYPE_INT8;
    return true;
}

bool lower_unary_tables(Lowering *lowering, Error *error)
{
    return !lower_setting(lowering)->switches.unary_as_lut || lower_walk(lowering, unary_table, error);
}
