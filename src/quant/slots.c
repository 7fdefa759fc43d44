#include "quant/slots.h"

void slot_set_width(Slot *slot, int bits)
{
    slot->bits = bits;
    slot->maximum = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
    slot->minimum = -slot->maximum - 1;
}

void slot_wait(Slot *slot, int bits)
{
    if (slot->state == SLOT_FP32) return;
    slot_set_width(slot, bits);
    slot->state = SLOT_PASSIVE_INIT;
    slot->observer = "minmax";
}

static void set_weight_axis(Node *node, int axis)
{
    if (node->input_count > 1 && node->input_slots[1]->per_channel) node->input_slots[1]->channel_axis = axis;
}

bool slots_gemm(Graph *graph, Node *node, Error *error)
{
    (void)graph, (void)error;
    set_weight_axis(node, node_integer(node, "transB", 0) == 1 ? 0 : 1);
    return true;
}

bool slots_conv_transpose(Graph *graph, Node *node, Error *error)
{
    (void)graph, (void)error;
    set_weight_axis(node, 1);
    return true;
}

/* Biases and cell states live in fixed steps that follow from nothing calibrated. */
static bool recurrent_waits(Node *node, const int *inputs, int count)
{
    for (int i = 0; i < count; i++) {
        if (inputs[i] < node->input_count) slot_wait(node->input_slots[inputs[i]], ESPQ_RECURRENT_BITS);
    }
    if (node->output_count == 3) slot_wait(node->output_slots[2], ESPQ_RECURRENT_BITS);
    return true;
}

bool slots_gru(Graph *graph, Node *node, Error *error)
{
    (void)graph, (void)error;
    static const int inputs[] = {3};
    return recurrent_waits(node, inputs, 1);
}

bool slots_lstm(Graph *graph, Node *node, Error *error)
{
    (void)graph, (void)error;
    static const int inputs[] = {3, 6};
    return recurrent_waits(node, inputs, 2);
}
