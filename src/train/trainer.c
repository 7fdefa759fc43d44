#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"
#include "quant/quantize.h"
#include "train/trainer_parts.h"

/* ---- what is trained ---- */

static const struct {
    const char *type;
    int first, last;
    TrainedKind kind;
} kinds[] = {
    {"PRelu", 1, 1, TRAINED_SLOPE},
    {"LayerNormalization", 1, 2, TRAINED_NORM},
    {"RMSNormalization", 1, 1, TRAINED_NORM},
    {"InstanceNormalization", 1, 2, TRAINED_NORM},
    {"GroupNormalization", 1, 2, TRAINED_NORM},
    {"BatchNormalization", 1, 2, TRAINED_NORM},
};

/* An Add behind a layer, of one number a channel: the layer's bias. */
static bool is_bias_of_layer(const Node *node, int index)
{
    if (strcmp(node->type, "Add") != 0 || node->input_count != 2) return false;
    const Value *other = node->inputs[1 - index], *bias = node->inputs[index];
    if (!other || !other->producer || !(other->producer->op->flags & OPERATOR_COMPUTING)) return false;
    int wide = 0;
    for (int i = 0; i < bias->shape.rank; i++)
        wide += bias->shape.dims[i] != 1;
    return wide == 1;
}

TrainedKind trained_kind(const Node *node, int index)
{
    if (!node->op || !backward_can_train(node, index)) return TRAINED_NOT;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].type, node->type) == 0) return index >= kinds[i].first && index <= kinds[i].last ? kinds[i].kind : TRAINED_NOT;
    if (node->op->flags & OPERATOR_WEIGHTED) return index == 1 ? TRAINED_WEIGHT : index == 2 ? TRAINED_BIAS : TRAINED_NOT;
    if (node->op->flags & OPERATOR_COMPUTING) return TRAINED_WEIGHT;
    return is_bias_of_layer(node, index) ? TRAINED_BIAS : TRAINED_NOT;
}

/* One that is read elsewhere too stays as it is: the walk would change it for some of its readers only. */
static TrainedKind kind_of_value(const Value *value)
{
    TrainedKind kind = TRAINED_NOT;
    for (int i = 0; i < value->use_count; i++) {
        TrainedKind here = trained_kind(value->uses[i].node, value->uses[i].index);
        if (here == TRAINED_NOT) return TRAINED_NOT;
        if (i == 0) kind = here;
    }
    return kind;
}

static bool collect_constants(Trainer *trainer, Error *error)
{
    const Graph *graph = trainer->graph;
    size_t constants = 0, uses = 0;
    for (int i = 0; i < graph->value_count; i++) {
        if (kind_of_value(graph->values[i]) == TRAINED_NOT) continue;
        constants++;
        uses += (size_t)graph->values[i]->use_count;
    }
    trainer->constants = memory_new_array(constants + 1, sizeof *trainer->constants);
    trainer->uses = memory_new_array(uses + 1, sizeof *trainer->uses);
    if (!trainer->constants || !trainer->uses) return fail_memory(error, uses * sizeof *trainer->uses);
    for (int i = 0; i < graph->value_count; i++) {
        const Value *value = graph->values[i];
        TrainedKind kind = kind_of_value(value);
        if (kind == TRAINED_NOT) continue;
        TrainedConstant *constant = &trainer->constants[trainer->constant_count];
        *constant = (TrainedConstant){i, kind, tensor_count(value->constant), NULL, NULL, trainer->use_count, value->use_count};
        for (int k = 0; k < value->use_count; k++)
            trainer->uses[trainer->use_count++] = (TrainedUse){value->uses[k].node, value->uses[k].index, trainer->constant_count};
        trainer->constant_count++;
        constant->values = memory_new_array((size_t)constant->count + 1, 2 * sizeof(float));
        if (!constant->values) return fail_memory(error, (size_t)constant->count * 2 * sizeof(float));
        constant->sum = constant->values + constant->count;
        memcpy(constant->values, value->constant->data, (size_t)constant->count * sizeof(float));
    }
    return true;
}

static bool is_used(const Trainer *trainer, const Node *node, int index)
{
    for (int i = 0; i < trainer->use_count; i++)
        if (trainer->uses[i].node == node && trainer->uses[i].index == index) return true;
    return false;
}

/* Roots that calibration set: what follows them follows. Exponents given by hand stay. */
static bool trains_scale(const Trainer *trainer, const Node *node, Slot *slot)
{
    if (slot->state != SLOT_ACTIVATED || slot_root(slot) != slot || slot->overridden || !slot_quantizes(slot)) return false;
    const Value *value = slot->is_output ? node->outputs[slot->index] : node->inputs[slot->index];
    if (!value || value->dtype != DTYPE_FLOAT32) return false;
    return slot->is_output || !value->constant || is_used(trainer, node, slot->index);
}

static int end_count(const Node *node)
{
    return node->quantized ? node->input_count + node->output_count : 0;
}

static Slot *end_slot(const Node *node, int end)
{
    return end < node->input_count ? node->input_slots[end] : node->output_slots[end - node->input_count];
}

static bool collect_scales(Trainer *trainer, Error *error)
{
    const Graph *graph = trainer->graph;
    size_t count = 0;
    for (int i = 0; i < graph->node_count; i++)
        count += (size_t)end_count(graph->nodes[i]);
    trainer->scales = memory_new_array(count + 1, sizeof *trainer->scales);
    if (!trainer->scales) return fail_memory(error, count * sizeof *trainer->scales);
    for (int i = 0; i < graph->node_count && trainer->options.parts & TRAIN_SCALES; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; k < end_count(node); k++) {
            Slot *slot = end_slot(node, k);
            if (!trains_scale(trainer, node, slot)) continue;
            TrainedScale *scale = &trainer->scales[trainer->scale_count++];
            *scale = (TrainedScale){.slot = slot, .count = slot_exponent_count(slot)};
            scale->log2 = memory_new_array((size_t)scale->count, 2 * sizeof(float));
            if (!scale->log2) return fail_memory(error, (size_t)scale->count * 2 * sizeof(float));
            scale->sum = scale->log2 + scale->count;
            for (int c = 0; c < scale->count; c++)
                scale->log2[c] = (float)slot_exponent(slot, c);
        }
    }
    return true;
}

/* ---- the optimizer's view ---- */

static bool make_optimizer(Trainer *trainer, Error *error)
{
    const TrainerOptions *options = &trainer->options;
    int constants = trainer_moves_constants(trainer) ? trainer->constant_count : 0, count = constants + trainer->scale_count;
    if (count == 0)
        return fail(error, trainer->graph->name, "weights need a Conv, Gemm or MatMul with constant weights, scales a calibrated graph",
                    "there is nothing to train in this graph");
    OptimizerGroup *groups = memory_new_array((size_t)count, sizeof *groups);
    trainer->group_values = memory_new_array((size_t)count, sizeof *trainer->group_values);
    trainer->group_gradients = memory_new_array((size_t)count, sizeof *trainer->group_gradients);
    if (!groups || !trainer->group_values || !trainer->group_gradients) {
        memory_free(groups);
        return fail_memory(error, (size_t)count * sizeof *groups);
    }
    for (int i = 0; i < constants; i++) {
        const TrainedConstant *constant = &trainer->constants[i];
        bool weight = constant->kind == TRAINED_WEIGHT;
        groups[i] = (OptimizerGroup){constant->count, weight ? 1 : options->bias_rate, weight};
        trainer->group_values[i] = constant->values;
    }
    for (int i = 0; i < trainer->scale_count; i++) {
        groups[constants + i] = (OptimizerGroup){trainer->scales[i].count, options->scale_rate, false};
        trainer->group_values[constants + i] = trainer->scales[i].log2;
    }
    trainer->group_count = count;
    trainer->optimizer = optimizer_new(&options->optimizer, groups, count, error);
    memory_free(groups);
    return trainer->optimizer != NULL;
}

/* Biases and bounds follow the steps that they count in. What there is to note was noted when the graph was quantized. */
static bool settle_passive(const Trainer *trainer, Graph *graph, Error *error)
{
    const Pass *pass = quantization_passes;
    while (pass->name && strcmp(pass->name, "passive") != 0)
        pass++;
    if (!pass->name || (pass->when && !pass->when(trainer->setting))) return true;
    PassContext context = {.setting = trainer->setting};
    size_t said = graph->notes.length;
    bool settled = pass->run(graph, &context, error);
    if (graph->notes.data) graph->notes.data[graph->notes.length = said] = '\0';
    return settled;
}

/* ---- life ---- */

static bool check_trainable(const Graph *graph, Error *error)
{
    bool quantized = false;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        quantized = quantized || node->quantized;
        for (int k = 0; k < end_count(node); k++) {
            SlotState state = end_slot(node, k)->state;
            char where[256];
            if (state == SLOT_BAKED || state == SLOT_PASSIVE_BAKED)
                return fail(error, node_where(node, where), "quantize without baking_parameter; the export rounds weights by itself",
                            "baked weights cannot be trained");
        }
    }
    return quantized || fail(error, graph->name, "espq.quantize_graph{ graph = … } first", "the graph is not quantized");
}

static bool take_outputs(Trainer *trainer, Error *error)
{
    const TrainerOptions *options = &trainer->options;
    Graph *graph = trainer->graph;
    int count = options->outputs ? options->output_count : graph->output_count;
    trainer->wanted = memory_new_array((size_t)count + 1, sizeof(Value *));
    if (!trainer->wanted) return fail_memory(error, (size_t)count * sizeof(Value *));
    for (int i = 0; i < count; i++) {
        Value *value = options->outputs ? graph_value(graph, options->outputs[i]) : graph->outputs[i];
        if (!value) return fail(error, options->outputs[i], "`espq dump` prints the names of all tensors", "the graph has no such tensor");
        if (value->constant) return fail(error, value->name, "name a tensor that a node makes", "a constant teaches nothing");
        trainer->wanted[trainer->wanted_count++] = value;
    }
    trainer->options.outputs = NULL; /* the caller's: not looked at again */
    return true;
}

static bool make(Trainer *trainer, const Graph *graph, Error *error)
{
    const char *identity = trainer->options.identity ? trainer->options.identity : "";
    size_t length = strlen(identity) + 1;
    if (!check_trainable(graph, error) || !(trainer->graph = graph_copy(graph, error))) return false;
    if (!(trainer->setting = setting_copy(trainer->options.setting, error))) return false;
    if (!(trainer->identity = memory_new(length))) return fail_memory(error, length);
    memcpy(trainer->identity, identity, length);
    if (!settle_passive(trainer, trainer->graph, error)) return false;
    const Value *first = trainer->graph->input_count ? trainer->graph->inputs[0] : NULL;
    trainer->unit = first && first->shaped && first->shape.rank > 0 && first->shape.dims[0] > 0 ? first->shape.dims[0] : 1;
    return take_outputs(trainer, error) && collect_constants(trainer, error) && collect_scales(trainer, error) &&
           make_optimizer(trainer, error);
}

Trainer *trainer_new(const Graph *graph, const TrainerOptions *options, Error *error)
{
    Trainer *trainer = memory_new(sizeof *trainer);
    if (!trainer) {
        fail_memory(error, sizeof *trainer);
        return NULL;
    }
    trainer->options = *options;
    trainer->version = 1;
    if (make(trainer, graph, error)) return trainer;
    trainer_free(trainer);
    return NULL;
}

void trainer_free(Trainer *trainer)
{
    if (!trainer) return;
    trainer_forget(trainer);
    for (int i = 0; i < TRAINER_WALKS; i++)
        trainer_walk_free(&trainer->walks[i]);
    for (int i = 0; i < trainer->constant_count; i++)
        memory_free(trainer->constants[i].values);
    for (int i = 0; i < trainer->scale_count; i++)
        memory_free(trainer->scales[i].log2);
    optimizer_free(trainer->optimizer);
    memory_free(trainer->group_values);
    memory_free(trainer->group_gradients);
    memory_free(trainer->constants);
    memory_free(trainer->uses);
    memory_free(trainer->scales);
    memory_free(trainer->wanted);
    memory_free(trainer->identity);
    setting_free(trainer->setting);
    graph_free(trainer->graph);
    memory_free(trainer);
}

/* ---- asking ---- */

int trainer_output_count(const Trainer *trainer)
{
    return trainer->wanted_count;
}

const char *trainer_output_name(const Trainer *trainer, int index)
{
    return trainer->wanted[index]->name;
}

bool trainer_diverged(const Trainer *trainer)
{
    return trainer->diverged;
}

int64_t trainer_steps(const Trainer *trainer)
{
    return optimizer_steps(trainer->optimizer);
}

double trainer_rate(const Trainer *trainer)
{
    return schedule_rate(&trainer->options.schedule, trainer_steps(trainer));
}

int64_t trainer_count(const Trainer *trainer, TrainedKind kind, int *tensors)
{
    int64_t count = 0;
    *tensors = 0;
    for (int i = 0; kind == TRAINED_NOT && i < trainer->scale_count; i++) {
        count += trainer->scales[i].count;
        ++*tensors;
    }
    for (int i = 0; trainer_moves_constants(trainer) && i < trainer->constant_count; i++) {
        if (trainer->constants[i].kind != kind) continue;
        count += trainer->constants[i].count;
        ++*tensors;
    }
    return count;
}

/* ---- into a graph ---- */

static Slot *same_slot(const Trainer *trainer, const Slot *slot, const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        if (trainer->graph->nodes[i] == slot->node)
            return (slot->is_output ? graph->nodes[i]->output_slots : graph->nodes[i]->input_slots)[slot->index];
    return NULL;
}

bool trainer_follow(const Trainer *trainer, Graph *graph, bool *changed, Error *error)
{
    *changed = false;
    for (int i = 0; i < trainer->scale_count; i++) {
        const TrainedScale *scale = &trainer->scales[i];
        Slot *slot = same_slot(trainer, scale->slot, graph);
        bool moved = false;
        for (int c = 0; c < scale->count; c++)
            moved = moved || (int)rintf(scale->log2[c]) != slot_exponent(slot, c);
        if (!moved) continue;
        int *exponents = memory_new_array((size_t)scale->count, sizeof *exponents);
        if (!exponents) return fail_memory(error, (size_t)scale->count * sizeof *exponents);
        for (int c = 0; c < scale->count; c++)
            exponents[c] = (int)rintf(scale->log2[c]);
        bool set = slot_set_exponents(graph, slot, exponents, scale->count) || fail_memory(error, sizeof *exponents);
        memory_free(exponents);
        if (!set) return false;
        *changed = true;
    }
    return !*changed || settle_passive(trainer, graph, error);
}

static bool has_same_structure(const Trainer *trainer, const Graph *graph)
{
    const Graph *own = trainer->graph;
    if (own->node_count != graph->node_count || own->value_count != graph->value_count) return false;
    for (int i = 0; i < own->node_count; i++) {
        const Node *a = own->nodes[i], *b = graph->nodes[i];
        if (strcmp(a->name, b->name) != 0 || end_count(a) != end_count(b)) return false;
    }
    for (int i = 0; i < trainer->constant_count; i++) {
        const Value *a = own->values[trainer->constants[i].value], *b = graph->values[trainer->constants[i].value];
        if (strcmp(a->name, b->name) != 0 || !b->constant || b->constant->dtype != DTYPE_FLOAT32 ||
            !shape_equal(&a->constant->shape, &b->constant->shape))
            return false;
    }
    return true;
}

bool trainer_apply(const Trainer *trainer, Graph *graph, Error *error)
{
    if (!has_same_structure(trainer, graph))
        return fail(error, graph->name, "leave its nodes and tensors as they are while it is trained",
                    "the graph was changed since the trainer was made");
    int count = trainer_moves_constants(trainer) ? trainer->constant_count : 0;
    Tensor **made = memory_new_array((size_t)count + 1, sizeof(Tensor *));
    bool ok = made || fail_memory(error, (size_t)count * sizeof(Tensor *));
    for (int i = 0; ok && i < count; i++) {
        const TrainedConstant *constant = &trainer->constants[i];
        made[i] = tensor_from_data(DTYPE_FLOAT32, &graph->values[constant->value]->constant->shape, constant->values, error);
        ok = made[i] != NULL;
    }
    bool changed;
    ok = ok && trainer_follow(trainer, graph, &changed, error) && (changed || settle_passive(trainer, graph, error));
    for (int i = 0; ok && i < count; i++)
        value_set_constant(graph, graph->values[trainer->constants[i].value], made[i]);
    for (int i = 0; made && i < count; i++)
        tensor_release(made[i]);
    memory_free(made);
    return ok;
}
