/* The quantization passes as rows, and the summary of what they did. */
#include "quant/quantize.h"

static bool when_decomposition(const Setting *setting)
{
    return setting->convtranspose_decomposition;
}
static bool when_fusion(const Setting *setting)
{
    return setting->fusion;
}
static bool when_join(const Setting *setting)
{
    return setting->fusion && setting->fusion_setting.remove_useless_quantization;
}
static bool when_parameters(const Setting *setting)
{
    return setting->quantize_parameter;
}
static bool when_activations(const Setting *setting)
{
    return setting->quantize_activation;
}
static bool when_modify(const Setting *setting)
{
    return setting->quantize_activation && setting->quant_config_modify;
}
static bool when_alignment(const Setting *setting)
{
    return setting->fusion && setting->fusion_setting.align_quantization;
}
static bool when_passive(const Setting *setting)
{
    return setting->quantize_parameter && setting->quantize_parameter_setting.quantize_passive_parameter;
}
static bool when_baking(const Setting *setting)
{
    return setting->quantize_parameter && setting->quantize_parameter_setting.baking_parameter;
}

const Pass quantization_passes[] = {
    {"dispatch", "choose which operators are quantized, and for which width", "dispatcher, dispatching_table", NULL, pass_dispatch, false},
    {"convtranspose", "ConvTranspose becomes InsertZeros and Conv", "convtranspose_decomposition", when_decomposition, pass_convtranspose,
     false},
    {"slots", "give every end of a quantized operator its slot", NULL, NULL, pass_slots, false},
    {"fuse", "let an activation share the slot of what feeds it", "fusion", when_fusion, pass_fuse, true},
    {"join", "let both ends of an edge share a slot", "fusion, fusion_setting.remove_useless_quantization", when_join, pass_join, true},
    {"parameters", "choose exponents of weights", "quantize_parameter", when_parameters, pass_parameters, true},
    {"calibrate", "choose exponents of activations from the data, one walk or two", "quantize_activation", when_activations, pass_calibrate,
     true},
    {"modify", "set output scales by hand", "quant_config_modify", when_modify, pass_modify, true},
    {"align", "make the inputs of Add, Concat, Resize and the like agree", "fusion, fusion_setting.align_quantization", when_alignment,
     pass_align, true},
    {"passive", "exponents of biases, Clip bounds and Pad values",
     "quantize_parameter, quantize_parameter_setting.quantize_passive_parameter", when_passive, pass_passive, true},
    {"baking", "write rounded values into the weights", "quantize_parameter, quantize_parameter_setting.baking_parameter", when_baking,
     pass_baking, true},
    {0},
};

void quantize_snapshot(const Graph *graph, Text *text)
{
    int quantized_nodes = 0, slots = 0, quantized_values = 0, states[SLOT_FP32 + 1] = {0};
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!node->quantized) continue;
        quantized_nodes++;
        slots += node->input_count + node->output_count;
        for (int k = 0; k < node->input_count; k++)
            states[node->input_slots[k]->state]++;
        for (int k = 0; k < node->output_count; k++)
            states[node->output_slots[k]->state]++;
    }
    for (int i = 0; i < graph->value_count; i++) {
        const Value *value = graph->values[i];
        bool quantized = value->producer && value->producer->quantized;
        for (int u = 0; !quantized && u < value->use_count; u++)
            quantized = value->uses[u].node->quantized;
        quantized_values += quantized;
    }
    text_format(text, "--------- Network Snapshot ---------\nNum of Op:                    [%d]\nNum of Quantized Op:          [%d]\n",
                graph->node_count, quantized_nodes);
    text_format(text, "Num of Variable:              [%d]\nNum of Quantized Var:         [%d]\n", graph->value_count, quantized_values);
    text_format(text, "------- Quantization Snapshot ------\nNum of Quant Config:          [%d]\n", slots);
    for (int s = 0; s <= SLOT_FP32; s++) {
        if (states[s]) text_format(text, "%-30s[%d]\n", slot_state_name((SlotState)s), states[s]);
    }
}
