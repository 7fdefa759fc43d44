/* The pass `slots`: every quantized node gets its slots (QUANT §4.3). What is special about an operator comes from its row. */
#include "graph/operator.h"
#include "quant/given.h"
#include "quant/quantize.h"
#include "quant/slots.h"

static void start_slot(Slot *slot, const Value *value, bool floats_always, const Platform *platform, const Target *target)
{
    slot_set_width(slot, platform->bits);
    slot->rounding = target->rounding; /* the target's, whatever the node's own platform is (QUANT §4.2) */
    slot->observer = "percentile";
    slot->bins = slot->is_parameter ? 0 : (int64_t)32 << (platform->bits - 1);
    bool floats = !value || floats_always || (value->dtype != DTYPE_FLOAT32 && value->dtype != DTYPE_NONE);
    slot->state = floats ? SLOT_FP32 : SLOT_INITIAL;
}

static void start_weights(Node *node, const Platform *platform)
{
    if (!(node->op->flags & OPERATOR_WEIGHTED) || node->input_count < 2) return;
    Slot *weight = node->input_slots[1];
    if (platform->per_channel && weight->is_parameter &&
        weight->state == SLOT_INITIAL) { /* one made at run time has no channels of its own (QUANT D25) */
        weight->per_channel = true;
        weight->channel_axis = 0;
        weight->observer = "minmax";
    }
    if (node->input_count < 3) return;
    Slot *bias = node->input_slots[node->input_count - 1];
    slot_wait(bias, platform->bias_bits);
    bias->per_channel = weight->per_channel && bias->state != SLOT_FP32;
    bias->channel_axis = 0;
}

/* Said before the data are walked: the file is written, but the chip has no function for it. */
static void note_missing_width(Graph *graph, const Node *node, const Target *target)
{
    unsigned have = node->op->module, want = node->platform->bits == 8 ? MODULE_S8 : MODULE_S16;
    if (!have || (have & want) || !(have & (MODULE_S8 | MODULE_S16))) return;
    int other = node->platform->bits == 8 ? 16 : 8;
    graph_note(graph,
               "%s: the chip has no %s of %d bits: give it and its neighbours %d bits, "
               "setting.dispatching_table:append(\"%s\", espq.platform(\"%s\", %d)); the file is written as asked",
               node->name, node->type, node->platform->bits, other, node->name, target->name, other);
}

static bool start_node(Graph *graph, Node *node, const Target *target, Error *error)
{
    const Platform *platform = node->platform;
    if (!node_make_slots(graph, node, error)) return false;
    node->wide = platform->wide;
    for (int i = 0; i < node->input_count; i++)
        start_slot(node->input_slots[i], node->inputs[i], i < 32 && (node->op->float_inputs >> i & 1), platform, target);
    for (int i = 0; i < node->output_count; i++) {
        start_slot(node->output_slots[i], node->outputs[i], i < 32 && (node->op->float_outputs >> i & 1), platform, target);
    }
    start_weights(node, platform);
    note_missing_width(graph, node, target);
    return !node->op->slots || node->op->slots(graph, node, error);
}

bool pass_slots(Graph *graph, PassContext *context, Error *error)
{
    const Platform *main_platform = target_platform(context->target, context->bits, context->hi_precision);
    if (!main_platform)
        return fail(error, context->target->name, "use 8 or 16", "no platform of target %s has %d bits", context->target->name,
                    context->bits);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        /* Nodes that passes made behind `dispatch` without saying where they run. */
        if (!node->platform || node->platform == &platform_unspecified) {
            node->platform = node->op && (node->op->flags & OPERATOR_QUANTIZABLE) ? main_platform : &platform_float;
        }
        if (node->platform->quantizes && node->op && !start_node(graph, node, context->target, error)) return false;
    }
    return given_apply(graph, error);
}
