/* The loader's rules, one after another (EXPORT §17.6): container, graph, parameters, nodes, test values. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "espdl/verifier.h"

void found(Verifier *verifier, FindingLevel level, const char *rule, const char *where, const char *format, ...)
{
    Findings *findings = verifier->findings;
    Finding *rows = memory_grow(findings->rows, (size_t)findings->count, &findings->capacity, sizeof *rows);
    if (!rows) {
        findings->failed = true;
        return;
    }
    findings->rows = rows;
    Finding *finding = &rows[findings->count++];
    *finding = (Finding){.level = level, .rule = rule};
    text_escape(finding->where, sizeof finding->where, where);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
    char raw[sizeof finding->text];
    memcpy(raw, finding->text, sizeof raw);
    text_escape(finding->text, sizeof finding->text, raw);
}

void findings_free(Findings *findings)
{
    memory_free(findings->rows);
    *findings = (Findings){0};
}

Known *known(const Verifier *verifier, const char *name)
{
    return *name ? map_get(&verifier->names, name) : NULL;
}

int64_t sane_exponent(int64_t exponent)
{
    const int64_t bound = 1000000;
    return exponent < -bound ? -bound : exponent > bound ? bound : exponent;
}

int64_t known_exponent(const Known *end)
{
    if (end->constant) return end->constant->exponent_count ? sane_exponent(end->constant->exponents[0]) : 0;
    return end->value && end->value->exponent_count ? sane_exponent(end->value->exponents[0]) : 0;
}

int known_exponent_count(const Known *end)
{
    return end->constant ? end->constant->exponent_count : end->value ? end->value->exponent_count : 0;
}

const Attribute *verifier_attribute(const EspdlNode *node, const char *name, AttributeKind kind)
{
    for (int i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, name) == 0) return node->attributes[i].kind == kind ? &node->attributes[i] : NULL;
    }
    return NULL;
}

int64_t constant_count(const EspdlTensor *tensor)
{
    size_t bytes = espdl_element_bytes(tensor->data_type);
    return bytes ? (int64_t)(tensor->data_bytes / bytes) : 0;
}

int64_t constant_number(const EspdlTensor *tensor, int64_t index)
{
    Dtype dtype = dtype_from_onnx(tensor->data_type);
    const char *at = (const char *)tensor->data + (size_t)index * dtype_bytes(dtype);
    uint64_t bits = 0;
    memcpy(&bits, at, dtype_bytes(dtype));
    switch (dtype) {
    case DTYPE_INT8: return (int8_t)bits;
    case DTYPE_INT16: return (int16_t)bits;
    case DTYPE_INT32: return (int32_t)bits;
    default: return (int64_t)bits;
    }
}

static void verify_container(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    if (!model->file) return;
    size_t header = strcmp(model->container, "EDL1") == 0 ? 12 : 16;
    if (header == 12)
        found(verifier, FINDING_WARNING, "17.1", "file",
              "container EDL1: all parameters are copied to RAM; EDL2 lets the chip use them in place");
    if (model->header_length != model->file_bytes - header)
        found(verifier, FINDING_ERROR, "17.1", "file", "the header says that %zu bytes follow, there are %zu", model->header_length,
              model->file_bytes - header);
}

/* Memory for what is known of a name; a name that is met again is the same thing. */
static Known *learn(Verifier *verifier, const char *name)
{
    Known *end = map_get(&verifier->names, name);
    if (end) return end;
    end = arena_new(&verifier->arena, sizeof *end);
    if (!end || !map_set(&verifier->names, name, end)) return NULL;
    end->producer = end->reader = -1;
    end->shape.rank = -1;
    return end;
}

static Shape shape_from(const int64_t *dims, int rank)
{
    return rank > ESPQ_MAX_RANK ? (Shape){.rank = -1} : shape_of(rank, dims);
}

static bool learn_values(Verifier *verifier, const EspdlValue *values, int count)
{
    for (int i = 0; i < count; i++) {
        Known *end = learn(verifier, values[i].name);
        if (!end) return false;
        if (!end->value) {
            end->value = &values[i];
            if (values[i].shaped) end->shape = shape_from(values[i].dims, values[i].rank);
        }
    }
    return true;
}

static bool learn_names(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    if (!learn_values(verifier, model->values, model->value_count) || !learn_values(verifier, model->inputs, model->input_count) ||
        !learn_values(verifier, model->outputs, model->output_count))
        return false;
    for (int i = 0; i < model->input_count; i++) {
        Known *end = known(verifier, model->inputs[i].name);
        if (end) end->input = true;
    }
    for (int i = 0; i < model->initializer_count; i++) {
        const EspdlTensor *tensor = &model->initializers[i];
        Known *end = learn(verifier, tensor->name);
        if (!end) return false;
        if (end->constant) found(verifier, FINDING_ERROR, "17.2", tensor->name, "two initializers have this name");
        end->constant = tensor;
        end->shape = shape_from(tensor->dims, tensor->rank);
    }
    for (int i = 0; i < model->node_count; i++) {
        const EspdlNode *node = &model->nodes[i];
        verifier->streaming = verifier->streaming || strcmp(node->type, "StreamingCache") == 0;
        for (int k = 0; k < node->output_count; k++) {
            Known *end = *node->outputs[k] ? learn(verifier, node->outputs[k]) : NULL;
            if (*node->outputs[k] && !end) return false;
            if (end && (end->producer >= 0 || end->constant || end->input))
                found(verifier, FINDING_ERROR, "17.2", node->outputs[k], "made by node %s and by something else", node->name);
            if (end && end->producer < 0) end->producer = i;
        }
        for (int k = 0; k < node->input_count; k++) {
            Known *end = known(verifier, node->inputs[k]);
            if (!end || end->read) continue;
            end->read = true;
            end->reader = i;
            end->reader_input = k;
        }
        const Attribute *table = verifier_attribute(node, "lut", ATTRIBUTE_STRING);
        Known *end = table ? known(verifier, table->string) : NULL;
        if (end) end->table = true;
    }
    return true;
}

static void verify_tests(Verifier *verifier)
{
    const EspdlModel *model = verifier->model;
    if (!model->test_input_count && !model->test_output_count) return;
    for (int i = 0; i < model->input_count; i++) {
        bool there = false;
        for (int k = 0; k < model->test_input_count; k++)
            there = there || strcmp(model->test_inputs[k].name, model->inputs[i].name) == 0;
        if (!there) found(verifier, FINDING_ERROR, "17.3 self-test", model->inputs[i].name, "no test value for this graph input");
    }
    if (!model->test_output_count) found(verifier, FINDING_ERROR, "17.3 self-test", "graph", "no test output");
    for (int side = 0; side < 2; side++) {
        const EspdlTensor *tests = side ? model->test_outputs : model->test_inputs;
        for (int i = 0; i < (side ? model->test_output_count : model->test_input_count); i++) {
            const Known *end = known(verifier, tests[i].name);
            int64_t exponent = tests[i].exponent_count ? sane_exponent(tests[i].exponents[0]) : 0;
            if (!end || (!end->value && !end->constant))
                found(verifier, FINDING_ERROR, "17.3 self-test", tests[i].name, "a test value for a tensor that the model does not have");
            else if (known_type(end) != tests[i].data_type || known_exponent(end) != exponent)
                found(verifier, FINDING_ERROR, "17.3 self-test", tests[i].name,
                      "the test value has type %d and exponent %lld, the model says %d and %lld", tests[i].data_type, (long long)exponent,
                      known_type(end), (long long)known_exponent(end));
        }
    }
}

bool espdl_verify(const EspdlModel *model, const char *target, Findings *findings, Error *error)
{
    Verifier verifier = {.model = model, .target = target, .findings = findings};
    verify_container(&verifier);
    bool ok = learn_names(&verifier) && verify_graph(&verifier);
    if (ok) {
        verify_tensors(&verifier);
        for (int i = 0; i < model->node_count; i++)
            verify_node(&verifier, i);
        verify_tests(&verifier);
    }
    map_free(&verifier.names);
    arena_free(&verifier.arena);
    return (ok && !findings->failed) || fail_memory(error, sizeof(Finding));
}
