/* What cannot be: all of it in one error, with a cure each (CASES C20). */
#include "simplify/rules.h"

#include <math.h>
#include <stdio.h>

enum { MOST_LINES = 40 };

static void line(Text *lines, int *count, const Node *node, const char *what, const char *cure)
{
    char where[256];
    if (*count < MOST_LINES) text_format(lines, "\n  %s: %s%s%s", node_where(node, where), what, cure && cure[0] ? " — " : "", cure ? cure : "");
    ++*count;
}

/* "cut the model here: outputs = { "a", "b" }": the tensors that the node would have read. */
static void cut_here(const Node *node, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "cut the model here, outputs = {");
    bool any = false;
    for (int i = 0; i < node->input_count && used + 80 < size; i++) {
        const Value *value = node->inputs[i];
        char name[60];
        if (!value || value->constant || !value->producer) continue;
        used += (size_t)snprintf(out + used, size - used, "%s \"%s\"", any ? "," : "", text_escape(name, sizeof name, value->name));
        any = true;
    }
    if (any) snprintf(out + used, size - used, " }, and do it in the application");
    else snprintf(out, size, "take it out of the model and do it in the application");
}

static void unknown_operator(const Node *node, Text *lines, int *count)
{
    char cure[700], what[200];
    size_t used;
    const char *nearest = operator_nearest(node->type);
    if (node->domain && node->domain[0] && strcmp(node->domain, "ai.onnx") != 0) {
        snprintf(what, sizeof what, "operator %.60s of the domain %.60s is not known", node->type, node->domain);
        snprintf(cure, sizeof cure, "register it: espq.operator { type = \"%.60s\", infer = …, run = … }, or ", node->type);
    } else {
        snprintf(what, sizeof what, "no such operator in espq");
        snprintf(cure, sizeof cure, "register it (espq.operator { type = \"%.60s\", infer = …, run = … }), ", node->type);
        if (nearest) {
            used = strlen(cure);
            snprintf(cure + used, sizeof cure - used, "write it as %s if that is what it does, ", nearest);
        }
        used = strlen(cure);
        snprintf(cure + used, sizeof cure - used, "or ");
    }
    used = strlen(cure);
    cut_here(node, cure + used, sizeof cure - used);
    line(lines, count, node, what, cure);
}

/* "[2, 1, 0, 0]" of a flat index. */
static void index_text(const Shape *shape, int64_t flat, char out[160])
{
    Shape index = {.rank = shape->rank};
    for (int i = shape->rank - 1; i >= 0; i--) {
        index.dims[i] = flat % shape->dims[i];
        flat /= shape->dims[i];
    }
    shape_text(&index, out);
}

/* A parameter that is no number spoils every scale. Bounds and fill values may well be infinite. */
static void check_numbers(const Node *node, Text *lines, int *count)
{
    static const char *const may_be_infinite[] = {"Clip", "Max", "Min", "Pad", "Where", "ConstantOfShape", NULL};
    bool infinite = is_one_of(node->type, may_be_infinite);
    for (int i = 0; i < node->input_count; i++) {
        const Tensor *constant = input_constant(node, i);
        if (!tensor_is_float(constant) || !tensor_is_contiguous(constant)) continue;
        const float *numbers = tensor_floats(constant);
        for (int64_t k = 0, elements = tensor_count(constant); k < elements; k++) {
            if (isfinite(numbers[k]) || (infinite && !isnan(numbers[k]))) continue;
            char what[512], index[160], name[200];
            index_text(&constant->shape, k, index);
            snprintf(what, sizeof what, "tensor %s is %s at index %s", text_escape(name, sizeof name, node->inputs[i]->name), isnan(numbers[k]) ? "NaN" : "infinite",
                     index);
            line(lines, count, node, what, "mend the model where it was trained or converted");
            break;
        }
    }
}

/* Weights that change at run time: Conv and its like want a constant. */
static void check_weight(const Node *node, Text *lines, int *count)
{
    const Value *weight = only_input(node, 1);
    if (!(node->op->flags & OPERATOR_WEIGHTED) || !weight || weight->constant) return;
    char what[400], name[200];
    snprintf(what, sizeof what, "its weight %s changes at run time (%s)", text_escape(name, sizeof name, weight->name), weight->producer ? "a node makes it" : "it is a graph input");
    line(lines, count, node, what, "make it an initializer, or a MatMul of two activations where that is what is meant");
}

static void check_module(const Node *node, Text *lines, int *count)
{
    const Value *weight = only_input(node, 1);
    if (!operator_is_built_in(node->op) || is_type(node, "ConvTranspose")) {   /* registered ones are left to the export; the other becomes a Conv */
        check_weight(node, lines, count);
        return;
    }
    if (!node->op->module) {
        char cut[400];
        cut_here(node, cut, sizeof cut);
        line(lines, count, node, "the chip has no such operator", node->op->module_cure ? node->op->module_cure : cut);
        return;
    }
    check_weight(node, lines, count);
    if (is_type(node, "Conv") && weight && weight->shaped && weight->shape.rank > 4)
        line(lines, count, node, "the chip has no 3-D convolution", "use 2-D convolutions on slices, or cut the model before it");
}

void list_unsupported(const Graph *graph, bool exportable, Text *lines, int *count)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!node->op) {
            unknown_operator(node, lines, count);
            continue;
        }
        if (!node->op->run || !node->op->infer) {
            char cut[400];
            cut_here(node, cut, sizeof cut);
            line(lines, count, node, "espq cannot run this operator", node->op->module_cure ? node->op->module_cure : cut);
            continue;
        }
        check_numbers(node, lines, count);
        if (exportable) check_module(node, lines, count);
    }
}

static bool check(const Graph *graph, bool exportable, Error *error)
{
    Text lines = {0};
    int count = 0;
    list_unsupported(graph, exportable, &lines, &count);
    if (count > MOST_LINES) text_format(&lines, "\n  … and %d more", count - MOST_LINES);
    bool ok = count == 0;
    if (lines.failed) fail_memory(error, 0);
    else if (!ok)
        fail(error, graph->source ? graph->source : graph->name, "each line names a way out; `espq ops` lists what is supported", "%d node%s cannot be taken:%s", count,
             count == 1 ? "" : "s", lines.data);
    text_free(&lines);
    return ok;
}

bool check_supported(const Graph *graph, Error *error) { return check(graph, false, error); }
bool check_exportable(const Graph *graph, Error *error) { return check(graph, true, error); }
