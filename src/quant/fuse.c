/* Which ends share a slot: the passes `fuse` (QUANT §6.1) and `join` (§6.2). Whether a tensor is a graph output plays no part in it. */
#include "graph/operator.h"
#include "quant/quantize.h"
#include "quant/slots.h"

static bool has_flag(const Node *node, unsigned flag)
{
    return node->op && (node->op->flags & flag);
}

/* The node that feeds `node` alone, when it feeds nothing else; NULL otherwise. */
static Node *exclusive_producer(const Node *node)
{
    Node *producer = NULL;
    for (int i = 0; i < node->input_count; i++) {
        Node *other = node->inputs[i] ? node->inputs[i]->producer : NULL;
        if (other && producer) return NULL;
        if (other) producer = other;
    }
    return producer && node_consumer_count(producer) == 1 && node->inputs[0] && node->inputs[0]->producer == producer ? producer : NULL;
}

static void share_with_activation(Node *producer, Node *activation)
{
    Slot *owner = activation->output_slots[0];
    slot_dominate(producer->output_slots[activation->inputs[0]->producer_index], owner);
    slot_dominate(activation->input_slots[0], owner);
}

/* §6.1 a: Conv, Gemm … followed by Relu or Clip. */
static void fuse_activations(Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *activation = graph->nodes[i];
        if (!has_flag(activation, OPERATOR_CLAMP) || !activation->quantized) continue;
        Node *producer = exclusive_producer(activation);
        if (!producer || !has_flag(producer, OPERATOR_COMPUTING) || !producer->quantized) continue;
        if (producer->platform != activation->platform && producer->output_slots[0]->state != SLOT_FP32) {
            graph_note(graph,
                       "%s and its activation %s are dispatched to different platforms (%s, %s): fusing them in the simulation takes the "
                       "wider one",
                       producer->name, activation->name, producer->platform->name, activation->platform->name);
            continue;
        }
        share_with_activation(producer, activation);
    }
}

/* §6.1 b: what only moves numbers keeps the slot of its input. On a graph input the two stay apart (QUANT D23), unless they are linked. */
static void fuse_passive(Graph *graph, bool link_inputs)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!has_flag(node, OPERATOR_PASSIVE) || !node->quantized || node->input_count < 1 || !node->inputs[0]) continue;
        const Node *producer = node->inputs[0]->producer;
        bool linked = producer ? producer->platform == node->platform : link_inputs && !node->inputs[0]->constant;
        if (!linked || node->input_slots[0]->state == SLOT_FP32) continue;
        for (int o = 0; o < node->output_count; o++) {
            if (node->output_slots[o]->state != SLOT_FP32) slot_dominate(node->output_slots[o], node->input_slots[0]);
        }
    }
}

/* Where widths differ, a Relu behind a Conv-like node takes the wider one: the chip runs both as one operator. */
static void widen_activation(const Node *producer, Node *activation)
{
    Slot *output = activation->output_slots[0];
    int bits = producer->output_slots[0]->bits;
    if (producer->platform == activation->platform || !has_flag(producer, OPERATOR_COMPUTING) || !producer->op->fuses_relu) return;
    if (activation->op->inputs.most != 1 || output->bits >= bits) return; /* Relu, not Clip */
    activation->platform = producer->platform;
    slot_set_width(output, bits);
    output->bins = (int64_t)32 << (bits - 1);
}

/* §6.1 c: Relu and Clip behind any node; here platforms are not compared. */
static void fuse_clamps(Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *activation = graph->nodes[i];
        if (!has_flag(activation, OPERATOR_CLAMP) || !activation->quantized) continue;
        Node *producer = exclusive_producer(activation);
        if (!producer || !producer->quantized) continue;
        widen_activation(producer, activation);
        share_with_activation(producer, activation);
    }
}

bool pass_fuse(Graph *graph, PassContext *context, Error *error)
{
    (void)error;
    if (context->setting->fusion_setting.fuse_activation) fuse_activations(graph);
    if (context->setting->fusion_setting.fuse_passive_op) fuse_passive(graph, context->setting->switches.link_passive_inputs);
    fuse_clamps(graph);
    return true;
}

/* The consumer end of an edge takes the producer's slot. An operator that reads a tensor twice has one of its ends joined
 * (QUANT §6.2: the first position is taken for both edges). */
bool pass_join(Graph *graph, PassContext *context, Error *error)
{
    (void)context, (void)error;
    for (int i = 0; i < graph->value_count; i++) {
        const Value *value = graph->values[i];
        const Node *producer = value->producer;
        if (!producer || !producer->quantized) continue;
        Slot *output = producer->output_slots[value->producer_index];
        if (output->state == SLOT_FP32) continue;
        for (int u = 0; u < value->use_count; u++) {
            const Node *consumer = value->uses[u].node;
            if (!consumer->quantized || consumer->platform != producer->platform) continue;
            Slot *input = consumer->input_slots[value_use_index(value, consumer)];
            if (input->state == SLOT_INITIAL && slot_same_scheme(input, output)) slot_dominate(input, output);
        }
    }
    return true;
}
