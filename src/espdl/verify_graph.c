/* Names, links and descriptions (EXPORT §17.2), and the rules of parameters (§17.3). */
#include <string.h>

#include "base/memory.h"
#include "espdl/verifier.h"

static const char *const quant_types = "S8, S16 or F32";

/* Nodes in an order in which they can run: each behind what it waits for. Goes down iteratively; a node met on the way to itself is
 * in a cycle. */
static bool find_cycle(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    size_t count = (size_t)model->node_count;
    enum { NEW, OPEN, DONE };
    char *state = memory_new(count + 1);
    int *stack = memory_new_array(count + 1, sizeof *stack), *next = memory_new_array(count + 1, sizeof *next);
    bool ok = state && stack && next, reported = false;
    for (int start = 0; ok && !reported && start < model->node_count; start++) {
        int depth = 0;
        if (state[start] != NEW) continue;
        stack[depth++] = start;
        state[start] = OPEN;
        while (depth && !reported) {
            const EspdlNode *node = &model->nodes[stack[depth - 1]];
            if (next[stack[depth - 1]] == node->input_count) {
                state[stack[--depth]] = DONE;
                continue;
            }
            const Known *end = known(verifier, node->inputs[next[stack[depth - 1]]++]);
            int producer = end ? end->producer : -1;
            if (producer < 0 || state[producer] == DONE) continue;
            if (state[producer] == OPEN) {
                found(verifier, FINDING_ERROR, "17.2", node->name, "the nodes form a cycle");
                reported = true;
            } else {
                state[producer] = OPEN;
                stack[depth++] = producer;
            }
        }
    }
    memory_free(state);
    memory_free(stack);
    memory_free(next);
    return ok;
}

static void verify_names(Verifier *verifier, const EspdlNode *node)
{
    if (!*node->name) found(verifier, FINDING_ERROR, "17.2", node->type, "a node without a name: the loader keeps nodes by their names");
    const Attribute *type = verifier_attribute(node, "quant_type", ATTRIBUTE_STRING);
    if (!type || (strcmp(type->string, "S8") != 0 && strcmp(type->string, "S16") != 0 && strcmp(type->string, "F32") != 0))
        found(verifier, FINDING_ERROR, "17.2", node->name, "quant_type is %s, %s is wanted", type ? type->string : "missing", quant_types);
    for (int i = 0; i < node->input_count; i++) {
        const Known *end = known(verifier, node->inputs[i]);
        if (*node->inputs[i] && (!end || (!end->constant && !end->input && end->producer < 0)))
            found(verifier, FINDING_ERROR, "17.2", node->name, "input %d, %s, is made by nothing", i, node->inputs[i]);
    }
}

/* What memory is planned with. */
static void verify_description(Verifier *verifier, const char *name)
{
    const Known *end = known(verifier, name);
    const EspdlValue *value = end ? end->value : NULL;
    if (!value) {
        found(verifier, FINDING_ERROR, "17.2", name, "not described in value_info");
        return;
    }
    bool sized = value->shaped;
    for (int i = 0; i < value->rank; i++)
        sized = sized && value->dims[i] > 0;
    if (!sized || !espdl_element_bytes(value->elem_type)) found(verifier, FINDING_ERROR, "17.2", name, "its type or shape is not known");
    if (!value->exponent_count) found(verifier, FINDING_ERROR, "17.2", name, "it has no exponent");
    for (int i = 0; i < value->exponent_count; i++) {
        if (value->exponents[i] < -30 || value->exponents[i] > 30)
            found(verifier, FINDING_ERROR, "17.2", name, "exponent %lld: the chip's scales end at -30 and 30",
                  (long long)value->exponents[i]);
    }
}

bool verify_graph(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    Map names = {0};
    bool ok = true;
    for (int i = 0; ok && i < model->node_count; i++) {
        const EspdlNode *node = &model->nodes[i];
        if (*node->name && map_has(&names, node->name)) found(verifier, FINDING_ERROR, "17.2", node->name, "two nodes have this name");
        ok = !*node->name || map_set(&names, node->name, (void *)node);
        verify_names(verifier, node);
        for (int k = 0; k < node->output_count; k++) {
            if (*node->outputs[k]) verify_description(verifier, node->outputs[k]);
        }
    }
    map_free(&names);
    for (int i = 0; i < model->input_count; i++)
        verify_description(verifier, model->inputs[i].name);
    for (int i = 0; i < model->output_count; i++) {
        const Known *end = known(verifier, model->outputs[i].name);
        if (!end || (end->producer < 0 && !end->input && !end->constant))
            found(verifier, FINDING_ERROR, "17.2", model->outputs[i].name, "a graph output that nothing makes");
    }
    if (!model->node_count) found(verifier, FINDING_ERROR, "17.2", "graph", "there are no nodes");
    if (!model->output_count) found(verifier, FINDING_ERROR, "17.2", "graph", "there are no outputs");
    return ok && find_cycle(verifier);
}

/* ---- parameters ---- */

static bool exported_type(int data_type)
{
    switch (dtype_from_onnx(data_type)) {
    case DTYPE_FLOAT32:
    case DTYPE_INT8:
    case DTYPE_INT16:
    case DTYPE_INT32:
    case DTYPE_INT64:
    case DTYPE_BOOL: return true;
    default: return false;
    }
}

/* Output channels of a filter or bias at this input; 0 where a list of exponents has no place. */
static int64_t channels_of(const EspdlNode *node, int input, const EspdlTensor *tensor)
{
    bool conv = strcmp(node->type, "Conv") == 0 || strcmp(node->type, "ConvTranspose") == 0;
    if (!conv && strcmp(node->type, "Gemm") != 0) return 0;
    if (input == 2) return tensor->rank == 1 ? tensor->dims[0] : 0;
    if (input != 1 || tensor->rank < 3) return 0;
    const Attribute *group = verifier_attribute(node, "group", ATTRIBUTE_INT);
    int64_t channels = 0;
    if (strcmp(node->type, "ConvTranspose") == 0)
        return __builtin_mul_overflow(tensor->dims[1], group ? group->integer : 1, &channels) ? 0 : channels;
    return tensor->dims[tensor->rank - (group && group->integer > 1 ? 2 : 1)];
}

static bool knows_channels(const char *target)
{
    return !target || strcmp(target, "esp32p4") == 0 || strcmp(target, "esp32s31") == 0;
}

static void verify_exponents(Verifier *verifier, const EspdlTensor *tensor, const Known *end)
{
    if (tensor->exponent_count == 1) return;
    int64_t channels = end->reader >= 0 ? channels_of(&verifier->model->nodes[end->reader], end->reader_input, tensor) : 0;
    if (tensor->exponent_count != channels)
        found(verifier, FINDING_ERROR, "17.3", tensor->name, "%d exponents, 1%s wanted", tensor->exponent_count,
              channels > 1 ? " or one a channel" : " is");
    else if (!knows_channels(verifier->target))
        found(verifier, FINDING_ERROR, "17.3", tensor->name, "exponents per channel: %s has one for all", verifier->target);
}

static void verify_padding(Verifier *verifier, const EspdlTensor *tensor)
{
    bool clean = tensor->stored_bytes - tensor->data_bytes < 16;
    for (size_t i = tensor->data_bytes; i < tensor->stored_bytes && clean; i++)
        clean = ((const uint8_t *)tensor->data)[i] == 0;
    if (!clean) found(verifier, FINDING_WARNING, "17.3", tensor->name, "more bytes than its shape needs, or padding that is not zero");
    if ((uintptr_t)tensor->data % 16)
        found(verifier, FINDING_WARNING, "17.1", tensor->name,
              "its data does not lie at a multiple of 16 bytes: it is copied, or misread by vector code");
}

void verify_tensors(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    for (int i = 0; i < model->initializer_count; i++) {
        const EspdlTensor *tensor = &model->initializers[i];
        const Known *end = known(verifier, tensor->name);
        if (!end) {
            found(verifier, FINDING_ERROR, "17.3", "initializer", "a parameter without a name");
            continue;
        }
        if (!exported_type(tensor->data_type))
            found(verifier, FINDING_ERROR, "17.3", tensor->name, "type %d, which the runtime does not read", tensor->data_type);
        if (tensor->stored_bytes) verify_padding(verifier, tensor);
        if (tensor->exponent_count != 1) verify_exponents(verifier, tensor, end);
        if (!end->read && !end->table) found(verifier, FINDING_WARNING, "17.3", tensor->name, "no node reads it");
    }
}
