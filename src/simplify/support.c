/* What cannot be: all of it in one error, with a cure each (CASES C20). */
#include "simplify/rules.h"

#include <math.h>
#include <stdio.h>

enum { MOST_LINES = 40 };

static void line(Text *lines, int *count, const Node *node, const char *what, const char *cure)
{
    char where[256];
    if (*count < MOST_LINES)
        text_format(lines, "\n  %s: %s%s%s", node_where(node, where), what, cure && cure[0] ? " — " : "", cure ? cure : "");
    ++*count;
}

/* "cut the model here, outputs = { "a", "b" }": the tensors that the node would have read. */
static void cut_here(const Graph *graph, const Node *node, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "cut the model here, outputs = {");
    bool any = false, inside = false;
    for (int i = 0; i < node->input_count && used + 100 < size; i++) {
        const Value *value = node->inputs[i];
        char name[60];
        if (!value || value->constant) continue;
        used += (size_t)snprintf(out + used, size - used, "%s \"%s\"", any ? "," : "", text_escape(name, sizeof name, value->name));
        any = true;
        inside = inside || !value_is_input(graph, value);
    }
    if (inside)
        snprintf(out + used, size - used, " }, and do it in the application");
    else
        snprintf(out, size, "take it out of the model and do it in the application: it reads only the model's inputs");
}

/* Operators of ONNX that have no row, where something better than cutting is known. */
static const struct {
    const char *type, *cure;
} cures[] = {
    {"RNN", "train it with GRU or LSTM instead"},          {"Sinh", "write it with Exp: (exp(x) - exp(-x)) / 2"},
    {"Cosh", "write it with Exp: (exp(x) + exp(-x)) / 2"}, {"Einsum", "write it with MatMul, Transpose, Mul and ReduceSum"},
    {"MaxUnpool", "use Resize or ConvTranspose instead"},  {"NonMaxSuppression", "it belongs behind the model: cut it off"},
    {"QLinearConv", "start from the float model"},         {"QLinearMatMul", "start from the float model"},
    {"QLinearAdd", "start from the float model"},          {"ConvInteger", "start from the float model"},
    {"MatMulInteger", "start from the float model"},       {"DynamicQuantizeLinear", "start from the float model"},
};

static void unknown_operator(const Graph *graph, const Node *node, Text *lines, int *count)
{
    char cure[800], what[200], cut[400];
    const char *known = NULL, *nearest = graph->source ? NULL : operator_nearest(node->type); /* files are not misspelled, scripts are */
    bool foreign = node->domain && node->domain[0] && strcmp(node->domain, "ai.onnx") != 0;
    for (size_t i = 0; !foreign && i < sizeof cures / sizeof cures[0]; i++)
        if (strcmp(cures[i].type, node->type) == 0) known = cures[i].cure;
    cut_here(graph, node, cut, sizeof cut);
    snprintf(what, sizeof what, "operator %.60s%s%.60s is not known", node->type, foreign ? " of the domain " : "",
             foreign ? node->domain : "");
    if (known)
        snprintf(cure, sizeof cure, "%s, or %s", known, cut);
    else if (nearest)
        snprintf(cure, sizeof cure, "perhaps meant: %s; or register it: espq.operator { type = \"%.60s\", infer = …, run = … }", nearest,
                 node->type);
    else
        snprintf(cure, sizeof cure, "register it: espq.operator { type = \"%.60s\", infer = …, run = … }, or %s", node->type, cut);
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
            snprintf(what, sizeof what, "tensor %s is %s at index %s", text_escape(name, sizeof name, node->inputs[i]->name),
                     isnan(numbers[k]) ? "NaN" : "infinite", index);
            line(lines, count, node, what, "mend the model where it was trained or converted");
            break;
        }
    }
}

/* Exponents end at 30 on the chip: what a parameter can reach at all. */
static void check_reach(const Node *node, int bits, Text *lines, int *count)
{
    double reach = ldexp(1, 30 + bits - 1);
    for (int i = 1; (node->op->flags & OPERATOR_WEIGHTED) && i < node->input_count; i++) {
        const Tensor *constant = input_constant(node, i);
        if (!tensor_is_float(constant) || !tensor_is_contiguous(constant)) continue;
        double largest = 0;
        for (int64_t k = 0, elements = tensor_count(constant); k < elements; k++)
            if (fabs((double)tensor_floats(constant)[k]) > largest) largest = fabs((double)tensor_floats(constant)[k]);
        if (largest < reach || !isfinite(largest)) continue;
        char what[400], name[200];
        snprintf(what, sizeof what, "tensor %s reaches %g, the chip's largest exponent of 30 only %g",
                 text_escape(name, sizeof name, node->inputs[i]->name), largest, reach);
        line(lines, count, node, what, "mend the model, or scale the weights down and what follows up");
    }
}

/* The runtime finds tensors by name: an input cannot be an output too. */
static void check_outputs(const Graph *graph, Text *lines, int *count)
{
    for (int i = 0; i < graph->output_count; i++) {
        char name[200];
        if (!value_is_input(graph, graph->outputs[i])) continue;
        text_format(lines,
                    "\n  output %s: it is an input of the model, handed out again — take it from the outputs (outputs = { … }): the "
                    "application has it already",
                    text_escape(name, sizeof name, graph->outputs[i]->name));
        ++*count;
    }
}

/* Weights that change at run time: Conv and its like want a constant. */
static void check_weight(const Node *node, Text *lines, int *count)
{
    const Value *weight = only_input(node, 1);
    if (!(node->op->flags & OPERATOR_WEIGHTED) || !weight || weight->constant) return;
    char what[400], name[200];
    snprintf(what, sizeof what, "its weight %s changes at run time (%s)", text_escape(name, sizeof name, weight->name),
             weight->producer ? "a node makes it" : "it is a graph input");
    line(lines, count, node, what, "make it an initializer, or a MatMul of two activations where that is what is meant");
}

/* What only `prepare` knows (modes, axes, sizes that a row does not take) is heard before any data are read. Rows that pack weights are
 * left out: what they refuse they refuse in `infer`. */
static void rehearse(const Node *node, bool exact, Text *lines, int *count)
{
    if (!node->op->prepare || node->op->pack != PACK_NONE || !inputs_shaped(node)) return;
    size_t ends = (size_t)(node->input_count + node->output_count);
    const Tensor **constants = memory_new_array(ends + 1, sizeof *constants);
    Shape *shapes = memory_new_array(ends + 1, sizeof *shapes);
    Dtype *dtypes = memory_new_array(ends + 1, sizeof *dtypes);
    bool ready = constants && shapes && dtypes; /* without memory there is no rehearsal; the run itself will say so */
    for (size_t i = 0; ready && i < ends; i++) {
        const Value *value = i < (size_t)node->input_count ? node->inputs[i] : node->outputs[i - (size_t)node->input_count];
        shapes[i].rank = -1;
        if (!value) continue;
        ready = value->shaped;
        constants[i] = value->constant;
        shapes[i] = value->shape;
        dtypes[i] = value->dtype;
    }
    Prepare prepare = {.node = node,
                       .constants = constants,
                       .input_shapes = shapes,
                       .output_shapes = shapes + node->input_count,
                       .input_dtypes = dtypes,
                       .output_dtypes = dtypes + node->input_count,
                       .exact = exact,
                       .simulated = exact && (node->op->flags & OPERATOR_QUANTIZABLE)};
    Error error = {0};
    if (ready && !node->op->prepare(&prepare, &error) && error.code == ERROR_INPUT) line(lines, count, node, error.what, error.cure);
    if (ready && prepare.state) {
        if (node->op->release)
            node->op->release(prepare.state);
        else
            memory_free(prepare.state);
    }
    memory_free(constants);
    memory_free(shapes);
    memory_free(dtypes);
}

/* Everything it reads is constant: its result is a graph output, else it had been folded. */
static bool depends_on_nothing(const Node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant) return false;
    return node->input_count > 0;
}

/* Inference already named it. */
static bool is_named_already(const Node *node)
{
    if (!inputs_shaped(node)) return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && !node->outputs[i]->shaped) return true;
    return false;
}

/* What the chip looks up is known when the file is written: its module has the indices as numbers. */
static void check_indices(const Node *node, Text *lines, int *count)
{
    const Value *indices = is_type(node, "Gather") ? only_input(node, 1) : NULL;
    if (!indices || indices->constant) return;
    char what[400], cure[400], name[200];
    snprintf(what, sizeof what, "its indices %s change at run time: the chip's module takes constant ones",
             text_escape(name, sizeof name, indices->name));
    snprintf(cure, sizeof cure, "look the vectors up in the application and begin the model behind it, cut_inputs = { \"%s\" }",
             text_escape(name, sizeof name, node->outputs[0] ? node->outputs[0]->name : ""));
    line(lines, count, node, what, cure);
}

static void check_module(const Graph *graph, const Node *node, int bits, Text *lines, int *count)
{
    const Value *weight = only_input(node, 1);
    if (!operator_is_built_in(node->op) ||
        is_type(node, "ConvTranspose")) { /* registered ones are left to the export; the other becomes a Conv */
        check_weight(node, lines, count);
        return;
    }
    if (depends_on_nothing(node)) {
        line(lines, count, node, "its result, an output of the graph, depends on no input", "take it from the outputs: outputs = { … }");
        return;
    }
    bool as_table = node->op->table && bits == 8 && node->outputs[0] && node->outputs[0]->dtype == DTYPE_FLOAT32; /* a Not makes booleans */
    if (!node->op->module && !as_table) {
        char cut[400];
        cut_here(graph, node, cut, sizeof cut);
        line(lines, count, node, "the chip has no such operator", node->op->module_cure ? node->op->module_cure : cut);
        return;
    }
    check_weight(node, lines, count);
    check_indices(node, lines, count);
    check_reach(node, bits, lines, count);
    if (is_type(node, "Conv") && weight && weight->shaped && weight->shape.rank > 4)
        line(lines, count, node, "the chip has no 3-D convolution", "use 2-D convolutions on slices, or cut the model before it");
}

void list_unsupported(const Graph *graph, int bits, Text *lines, int *count)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        int before = *count;
        if (!node->op) {
            unknown_operator(graph, node, lines, count);
            continue;
        }
        if (!node->op->run || !node->op->infer) {
            char cut[400];
            cut_here(graph, node, cut, sizeof cut);
            line(lines, count, node, "espq cannot run this operator", node->op->module_cure ? node->op->module_cure : cut);
            continue;
        }
        if (is_named_already(node)) continue;
        check_numbers(node, lines, count);
        if (bits) check_module(graph, node, bits, lines, count);
        if (*count == before) rehearse(node, bits != 0, lines, count);
    }
}

static bool check(const Graph *graph, int bits, Error *error)
{
    Text lines = {0};
    int count = 0;
    list_unsupported(graph, bits, &lines, &count);
    int node_lines = count;
    if (bits) check_outputs(graph, &lines, &count);
    if (count > MOST_LINES) text_format(&lines, "\n  … and %d more", count - MOST_LINES);
    bool ok = count == 0;
    if (lines.failed)
        fail_memory(error, 0);
    else if (!ok)
        fail(error, graph->source ? graph->source : graph->name, "each line names a way out; `espq ops` lists what is supported",
             "%d %s%s cannot be taken:%s", count, count > node_lines ? "part" : "node", count == 1 ? "" : "s", lines.data);
    text_free(&lines);
    return ok;
}

bool check_supported(const Graph *graph, Error *error)
{
    return check(graph, 0, error);
}
bool check_exportable(const Graph *graph, int bits, Error *error)
{
    return check(graph, bits, error);
}
