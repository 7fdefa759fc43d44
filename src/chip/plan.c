/* Making a plan: order, shapes as the modules compute them, prepared modules, what is undefined. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "chip/plan.h"

static const int64_t most_bytes = INT64_C(1) << 26; /* of a tensor: more memory than any of the chips has */

/* ---- values ---- */

static int by_address(const void *a, const void *b)
{
    const uintptr_t *left = a, *right = b;
    return left[0] < right[0] ? -1 : left[0] > right[0];
}

static bool find_values(ChipPlan *plan, Error *error)
{
    const Graph *graph = plan->graph;
    size_t count = (size_t)graph->value_count;
    plan->value_count = graph->value_count;
    plan->values = arena_new(&plan->arena, count * sizeof *plan->values + 1);
    plan->sorted = arena_new(&plan->arena, count * sizeof *plan->sorted + 1);
    uintptr_t *pairs = memory_new_array(count + 1, 2 * sizeof *pairs);
    bool ok = plan->values && plan->sorted && pairs;
    for (size_t i = 0; ok && i < count; i++) {
        const Value *value = graph->values[i];
        plan->values[i] = (PlanValue){.value = value, .shape = {.rank = -1}, .input = -1, .wanted = -1, .first = -1, .last = -1};
        pairs[2 * i] = (uintptr_t)value;
        pairs[2 * i + 1] = i;
    }
    if (ok && count) qsort(pairs, count, 2 * sizeof *pairs, by_address);
    for (size_t i = 0; ok && i < count; i++)
        plan->sorted[i] = (int)pairs[2 * i + 1];
    memory_free(pairs);
    return ok || fail_memory(error, count * sizeof *plan->values);
}

int plan_value(const ChipPlan *plan, const Value *value)
{
    int low = 0, high = plan->value_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        uintptr_t at = (uintptr_t)plan->values[plan->sorted[middle]].value;
        if (at == (uintptr_t)value) return plan->sorted[middle];
        if (at < (uintptr_t)value)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static bool set_shape(PlanValue *value, const Shape *shape, const char *where, Error *error)
{
    int64_t bytes = (int64_t)dtype_bytes(value->dtype);
    char text[160];
    if (shape->rank < 0 || shape->rank > ESPQ_MAX_RANK)
        return fail(error, where, NULL, "nothing computes the shape of '%s'", value->value->name);
    for (int i = 0; i < shape->rank; i++) {
        int64_t size = shape->dims[i];
        if (size < 1 || size > most_bytes || bytes > most_bytes / size)
            return fail(error, where, "no chip has memory for it, or nothing is in it: the model or its inputs are wrong",
                        "'%s' has the shape %s", value->value->name, shape_text(shape, text));
        bytes *= size;
    }
    value->shape = *shape;
    value->bytes = (size_t)bytes;
    return true;
}

static bool describe(PlanValue *value, const char *where, Error *error)
{
    const Value *from = value->value;
    if (from->constant) {
        value->dtype = from->constant->dtype;
        value->shape = from->constant->shape;
        value->bytes = tensor_bytes(from->constant);
        return true;
    }
    if (!from->device) return fail(error, where, "lower the graph, or load a .espdl file", "nothing says how '%s' is stored", from->name);
    value->dtype = from->device->dtype;
    if (value->dtype == DTYPE_NONE) return fail(error, where, "export the model again", "'%s' has no element type", from->name);
    return true;
}

static bool find_inputs(ChipPlan *plan, Error *error)
{
    for (int i = 0; i < plan->graph->input_count; i++) {
        PlanValue *value = &plan->values[plan_value(plan, plan->graph->inputs[i])];
        if (value->value->constant) continue; /* a parameter that is listed among the inputs */
        value->input = i;
        if (!describe(value, value->value->name, error)) return false;
        if (!set_shape(value, &value->value->device->shape, value->value->name, error)) return false;
    }
    return true;
}

static bool find_wanted(ChipPlan *plan, Error *error)
{
    const ChipOptions *options = &plan->options;
    Value *const *wanted = options->wanted ? options->wanted : plan->graph->outputs;
    plan->wanted_count = options->wanted ? options->wanted_count : plan->graph->output_count;
    plan->wanted = arena_new(&plan->arena, (size_t)plan->wanted_count * sizeof *plan->wanted + 1);
    if (!plan->wanted) return fail_memory(error, (size_t)plan->wanted_count * sizeof *plan->wanted);
    for (int i = 0; i < plan->wanted_count; i++) {
        plan->wanted[i] = plan_value(plan, wanted[i]);
        PlanValue *value = plan->wanted[i] < 0 ? NULL : &plan->values[plan->wanted[i]];
        if (!value) return fail(error, wanted[i]->name, NULL, "the tensor is not of this graph");
        if (value->wanted < 0) value->wanted = i;
    }
    return true;
}

/* ---- order ---- */

/* Is the graph's own list in an order in which it can run? That of a file is, and is the runtime's (CHIP §3.1). */
static bool list_is_order(const Graph *graph)
{
    Map made = {0};
    bool ordered = true;
    for (int i = 0; ordered && i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; ordered && k < node->input_count; k++) {
            const Value *value = node->inputs[k];
            ordered = !value || !value->producer || map_has(&made, value->name);
        }
        for (int k = 0; ordered && k < node->output_count; k++)
            ordered = !node->outputs[k] || map_set(&made, node->outputs[k]->name, (void *)(uintptr_t)1);
    }
    map_free(&made);
    return ordered;
}

static bool find_order(ChipPlan *plan, Node ***order, Error *error)
{
    const Graph *graph = plan->graph;
    *order = NULL;
    if (!list_is_order(graph)) return graph_sort(graph, order, error);
    *order = memory_new_array((size_t)graph->node_count + 1, sizeof **order);
    if (!*order) return fail_memory(error, (size_t)graph->node_count * sizeof **order);
    if (graph->node_count) memcpy(*order, graph->nodes, (size_t)graph->node_count * sizeof **order);
    return true;
}

/* ---- steps ---- */

static bool fill_end(ChipPlan *plan, ChipEnd *end, int *place, const Value *value, const char *where, Error *error)
{
    *place = value ? plan_value(plan, value) : -1;
    if (!value) {
        *end = (ChipEnd){.shape = {.rank = -1}};
        return true;
    }
    PlanValue *known = &plan->values[*place];
    if (known->dtype == DTYPE_NONE && !describe(known, where, error)) return false;
    static const int nothing[1] = {0};
    const struct DeviceValue *device = value->device;
    bool exponents = device && device->exponent_count > 0;
    *end = (ChipEnd){.value = value,
                     .constant = value->constant,
                     .dtype = known->dtype,
                     .shape = known->shape,
                     .exponent = exponents ? device->exponents[0] : 0,
                     .exponent_count = exponents ? device->exponent_count : 1,
                     .exponents = exponents ? device->exponents : nothing,
                     .layout = device ? device->layout : NULL};
    return true;
}

static bool find_bits(ChipNode *node, const char *where, Error *error)
{
    const char *type = node_string(node->node, "quant_type", "");
    node->bits = strcmp(type, "S8") == 0 ? 8 : strcmp(type, "S16") == 0 ? 16 : strcmp(type, "F32") == 0 ? 32 : 0;
    if (node->bits) return true;
    return fail(error, where, "export the model again", "attribute quant_type is '%s'; S8, S16 and F32 are known", type);
}

static bool find_table(const ChipPlan *plan, ChipNode *node, const char *where, Error *error)
{
    const char *name = node_string(node->node, "lut", NULL);
    if (!name) return true;
    const Value *value = graph_value(plan->graph, name);
    if (!value || !value->constant) return fail(error, where, "export the model again", "its table '%s' is not in the model", name);
    node->table = value->constant;
    return true;
}

static bool start_step(ChipPlan *plan, PlanStep *step, const Node *node, Error *error)
{
    char where[256];
    node_where(node, where);
    ChipNode *chip = &step->node;
    size_t ends = (size_t)(node->input_count + node->output_count + 1);
    chip->chip = &plan->chip;
    chip->node = node;
    chip->module = chip_module_find(node->type);
    if (!chip->module)
        return fail(error, where, "the runtime cannot load it; `espq ops` shows which operators it has", "the runtime has no module '%s'",
                    node->type);
    chip->inputs = arena_new(&plan->arena, ends * sizeof *chip->inputs + 1);
    step->values = arena_new(&plan->arena, ends * sizeof *step->values + 1);
    if (!chip->inputs || !step->values) return fail_memory(error, ends * sizeof *chip->inputs);
    chip->outputs = chip->inputs + node->input_count;
    chip->input_count = node->input_count;
    chip->output_count = node->output_count;
    step->first_end = plan->end_count;
    step->end_count = (int)ends;
    step->values[ends - 1] = -1;
    plan->end_count += (int)ends;
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        if (!fill_end(plan, &chip->inputs[i], &step->values[i], value, where, error)) return false;
        if (value && chip->inputs[i].shape.rank < 0)
            return fail(error, where, "export the model again", "nothing makes its input '%s'", value->name);
    }
    for (int i = 0; i < node->output_count; i++) {
        if (!fill_end(plan, &chip->outputs[i], &step->values[node->input_count + i], node->outputs[i], where, error)) return false;
        if (node->outputs[i] && (node->outputs[i]->constant || plan->values[step->values[node->input_count + i]].input >= 0))
            return fail(error, where, "export the model again", "it writes '%s', which is no result", node->outputs[i]->name);
        chip->outputs[i].shape = (Shape){.rank = -1};
    }
    if (!find_bits(chip, where, error) || !find_table(plan, chip, where, error)) return false;
    for (int i = 0; i < node->input_count && chip->module->blind && chip->bits == 8; i++)
        if (!chip->inputs[i].constant && chip->inputs[i].dtype == DTYPE_INT16) chip->inputs[i].dtype = DTYPE_INT8;
    return true;
}

/* The outputs take the shapes that the module computes, and are undefined where it says so or an input is. */
static bool finish_step(ChipPlan *plan, int index, Error *error)
{
    char where[256];
    PlanStep *step = &plan->steps[index];
    ChipNode *chip = &step->node;
    node_where(chip->node, where);
    if (!chip->input_count || !chip->inputs[0].value || !chip->output_count || !chip->outputs[0].value)
        return fail(error, where, "export the model again", "it needs an input and an output");
    if (!chip->module->infer) {
        chip->outputs[0].shape = chip->inputs[0].shape;
    } else if (!chip->module->infer(chip, error)) {
        return false;
    }
    for (int i = 0; i < chip->output_count; i++) {
        int place = step->values[chip->input_count + i];
        if (place >= 0 && !set_shape(&plan->values[place], &chip->outputs[i].shape, where, error)) return false;
    }
    if (chip->module->prepare) {
        step->prepared = true;
        if (!chip->module->prepare(chip, error)) return false;
    }
    int *before = &step->values[step->end_count - 1];
    if (chip->reaches_before && !plan_before(plan, index, before, error)) return false;
    if (*before >= 0 && plan->values[*before].last < index) plan->values[*before].last = index;
    if (chip->reaches_before && *before < 0) chip->undefined = "C16: it reads memory in front of its input, where no tensor lies whole";
    const char *undefined = chip->undefined;
    for (int i = 0; i < chip->input_count && !undefined; i++)
        if (step->values[i] >= 0) undefined = plan->values[step->values[i]].undefined;
    if (!undefined && *before >= 0) undefined = plan->values[*before].undefined;
    for (int i = 0; i < chip->output_count; i++)
        if (step->values[chip->input_count + i] >= 0) plan->values[step->values[chip->input_count + i]].undefined = undefined;
    return true;
}

static bool make_steps(ChipPlan *plan, Error *error)
{
    if (!find_order(plan, &plan->order, error)) return false;
    plan->steps = arena_new(&plan->arena, (size_t)plan->graph->node_count * sizeof *plan->steps + 1);
    bool ok = plan->steps || fail_memory(error, (size_t)plan->graph->node_count * sizeof *plan->steps);
    for (int i = 0; ok && i < plan->graph->node_count; i++) {
        PlanStep *step = &plan->steps[plan->step_count++];
        ok = start_step(plan, step, plan->order[i], error) && finish_step(plan, i, error);
    }
    return ok;
}

/* Without a watcher and without state only what the wanted values need has to run. */
static void find_needed(ChipPlan *plan)
{
    bool all = plan->options.watch || plan->options.headroom;
    for (int i = 0; i < plan->step_count; i++)
        all = all || plan->steps[i].node.memory_bytes;
    plan->in_order = all;
    for (int i = plan->step_count - 1; i >= 0; i--) {
        PlanStep *step = &plan->steps[i];
        step->needed = all;
        for (int k = 0; k < step->node.output_count && !step->needed; k++) {
            int place = step->values[step->node.input_count + k];
            step->needed = place >= 0 && (plan->values[place].wanted >= 0 || plan->values[place].last >= 0);
        }
        for (int k = 0; k < step->node.input_count && step->needed; k++)
            if (step->values[k] >= 0 && plan->values[step->values[k]].last < i) plan->values[step->values[k]].last = i;
    }
}

static bool check_wanted(const ChipPlan *plan, Error *error)
{
    for (int i = 0; i < plan->wanted_count; i++) {
        const PlanValue *value = &plan->values[plan->wanted[i]];
        if (value->shape.rank < 0 && !value->value->constant)
            return fail(error, value->value->name, "export the model again", "nothing makes this tensor");
    }
    return true;
}

static bool make_memory(ChipPlan *plan, Error *error)
{
    for (int i = 0; i < plan->step_count; i++) {
        PlanStep *step = &plan->steps[i];
        if (step->node.scratch_bytes > plan->scratch_bytes) plan->scratch_bytes = step->node.scratch_bytes;
        step->memory_offset = plan->memory_bytes;
        plan->memory_bytes += (step->node.memory_bytes + 63) & ~(size_t)63;
    }
    if (!plan->memory_bytes) return true;
    plan->memory = memory_new_aligned(plan->memory_bytes);
    if (!plan->memory) return fail_memory(error, plan->memory_bytes);
    chip_plan_reset(plan);
    return true;
}

ChipPlan *chip_plan_new(Graph *device, const ChipOptions *options, Error *error)
{
    ChipPlan *plan = memory_new(sizeof *plan);
    if (!plan) {
        fail_memory(error, sizeof *plan);
        return NULL;
    }
    plan->chip = *options->chip;
    plan->graph = device;
    plan->options = *options;
    plan->options.chip = &plan->chip;
    bool ok = find_values(plan, error) && find_inputs(plan, error) && find_wanted(plan, error) && make_steps(plan, error) &&
              check_wanted(plan, error);
    if (ok) find_needed(plan);
    if (ok && plan_place(plan, error) && make_memory(plan, error)) return plan;
    chip_plan_free(plan);
    return NULL;
}

void chip_plan_free(ChipPlan *plan)
{
    if (!plan) return;
    frames_free(plan);
    for (int i = 0; i < plan->step_count; i++) {
        PlanStep *step = &plan->steps[i];
        if (!step->prepared || !step->node.state) continue;
        if (step->node.module->release)
            step->node.module->release(step->node.state);
        else
            memory_free(step->node.state);
    }
    memory_free(plan->memory);
    memory_free(plan->order);
    arena_free(&plan->arena);
    memory_free(plan);
}

void chip_plan_reset(ChipPlan *plan)
{
    if (plan->memory_bytes) memset(plan->memory, 0, plan->memory_bytes);
}

const Shape *chip_plan_shape(const ChipPlan *plan, const Value *value)
{
    int place = plan_value(plan, value);
    return place < 0 || plan->values[place].shape.rank < 0 ? NULL : &plan->values[place].shape;
}

const Headroom *chip_plan_headroom(const ChipPlan *plan, const Node *node)
{
    for (int i = 0; plan->options.headroom && i < plan->step_count; i++) {
        const PlanStep *step = &plan->steps[i];
        if (step->node.node == node) return step->node.module->headroom ? &step->headroom : NULL;
    }
    return NULL;
}

const char *chip_plan_undefined(const ChipPlan *plan, const Value *value)
{
    int place = plan_value(plan, value);
    return place < 0 ? NULL : plan->values[place].undefined;
}
