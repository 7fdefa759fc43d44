/* Graph inputs: what the file says of their shapes, symbolic dimensions fixed by the caller. A dimension that is nowhere fixed is an
 * error that says what to write; no guess is made (CASES C01). */
#include "onnx/read.h"

#include <string.h>

#include "base/memory.h"

typedef struct Symbols {
    Map sizes; /* symbol → &size, from inputs whose shape was given */
} Symbols;

static const Onnx__TensorShapeProto *declared_shape(const Onnx__ValueInfoProto *info)
{
    return info->type && info->type->tensor_type ? info->type->tensor_type->shape : NULL;
}

static bool is_fixed(const Onnx__TensorShapeDimension *dim)
{
    return dim->has_dim_value && dim->dim_value > 0;
}

static const char *symbol_of(const Onnx__TensorShapeDimension *dim)
{
    return dim->dim_param && dim->dim_param[0] ? dim->dim_param : "?";
}

static void describe(const Onnx__TensorShapeProto *shape, Text *text)
{
    text_add(text, "[");
    for (size_t i = 0; i < shape->n_dim; i++) {
        if (i) text_add(text, ", ");
        if (is_fixed(shape->dim[i]))
            text_format(text, "%lld", (long long)shape->dim[i]->dim_value);
        else
            text_format(text, "%.60s", symbol_of(shape->dim[i]));
    }
    text_add(text, "]");
}

static const Shape *given_shape(const OnnxOptions *options, const char *name, int position)
{
    int unnamed = 0;
    for (int i = 0; options && i < options->input_shape_count; i++) {
        const InputShape *given = &options->input_shapes[i];
        if (given->name ? strcmp(given->name, name) == 0 : unnamed++ == position) return &given->shape;
    }
    return NULL;
}

/* Take a given shape: it may fix symbols, it must not contradict what the model says. */
static bool take_given(Reading *reading, Value *value, const Onnx__TensorShapeProto *declared, const Shape *given, Symbols *symbols,
                       Error *error)
{
    char shown[160];
    int64_t count = 1;
    for (int i = 0; i < given->rank; i++) {
        if (given->dims[i] < 1 || given->dims[i] > ONNX_MOST_ELEMENTS / count)
            return fail(error, value->name, "give sizes from 1 up", "input_shape %s cannot be", shape_text(given, shown));
        count *= given->dims[i];
    }
    bool fits = !declared || declared->n_dim == (size_t)given->rank;
    for (int i = 0; fits && declared && i < given->rank; i++) {
        const Onnx__TensorShapeDimension *dim = declared->dim[i];
        if (is_fixed(dim)) {
            fits = dim->dim_value == given->dims[i];
        } else if (dim->dim_param && dim->dim_param[0]) {
            int64_t *known = map_get(&symbols->sizes, dim->dim_param);
            if (known && *known != given->dims[i])
                return fail(error, value->name, "give equal sizes for equal symbols",
                            "input_shape %s: the dimension %s is %lld in another input", shape_text(given, shown), dim->dim_param,
                            (long long)*known);
            int64_t *size = arena_copy(&reading->graph->arena, &given->dims[i], sizeof *size);
            if (!size || !map_set(&symbols->sizes, dim->dim_param, size)) return fail_memory(error, sizeof *size);
        }
    }
    if (fits) {
        value->shape = *given;
        value->shaped = true;
        return true;
    }
    Text text = {0};
    describe(declared, &text);
    fail(error, value->name, "give a shape that agrees where the model has numbers, or export the model for the other size",
         "input_shape %s contradicts the model, which says %s", shape_text(given, shown), text.failed ? "otherwise" : text.data);
    text_free(&text);
    return false;
}

/* Shape as declared, with symbols that other inputs fixed. Leaves `shaped` false when a dimension stays open. */
static bool take_declared(Value *value, const Onnx__TensorShapeProto *declared, const Symbols *symbols)
{
    Shape shape = {.rank = (int)declared->n_dim};
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++) {
        const Onnx__TensorShapeDimension *dim = declared->dim[i];
        const int64_t *known = dim->dim_param && dim->dim_param[0] ? map_get(&symbols->sizes, dim->dim_param) : NULL;
        if (!is_fixed(dim) && !known) return true;
        shape.dims[i] = is_fixed(dim) ? dim->dim_value : *known;
        if (shape.dims[i] > ONNX_MOST_ELEMENTS / count) return false;
        count *= shape.dims[i];
    }
    value->shape = shape;
    value->shaped = true;
    return true;
}

/* "x: dimension 0 (N) of [N, 3, 12, 12] is open" and what to write for it. */
static void say_open(const Value *value, const Onnx__TensorShapeProto *declared, Text *what, Text *write)
{
    text_format(what, "%sinput %.200s: ", what->length ? "; " : "", value->name);
    text_format(write, "%s[\"%.200s\"] = {", write->length ? ", " : "", value->name);
    if (!declared) {
        text_add(what, "no shape at all");
        text_add(write, "…");
    }
    bool first = true;
    for (size_t i = 0; declared && i < declared->n_dim; i++) {
        const Onnx__TensorShapeDimension *dim = declared->dim[i];
        if (i) text_add(write, ", ");
        if (is_fixed(dim)) {
            text_format(write, "%lld", (long long)dim->dim_value);
            continue;
        }
        text_format(what, "%sdimension %zu (%.60s)", first ? "" : ", ", i, symbol_of(dim));
        first = false;
        if (i == 0)
            text_add(write, "1");
        else
            text_format(write, "<%.60s>", symbol_of(dim));
    }
    if (declared) {
        text_add(what, " of ");
        describe(declared, what);
    }
    text_add(write, "}");
}

static bool refuse_open(Reading *reading, Text *what, Text *write, Error *error)
{
    Text cure = {0};
    text_format(&cure, "say input_shape = { %s }", write->data ? write->data : "");
    bool failed = what->failed || write->failed || cure.failed;
    if (failed)
        fail_memory(error, 0);
    else
        fail(error, reading->shown, cure.data, "sizes are not fixed: %s", what->data);
    text_free(&cure);
    return false;
}

/* The value and dtype of one graph input; NULL value when it cannot be one (noted). */
static bool make_input(Reading *reading, const Onnx__ValueInfoProto *info, Value **out, Error *error)
{
    Graph *graph = reading->graph;
    const char *name = info->name ? info->name : "";
    *out = NULL;
    if (!name[0]) {
        reading_problem(reading, "a graph input has no name");
        return true;
    }
    if (!onnx_is_utf8(name, strlen(name))) return fail(error, reading->shown, "rename the tensor", "a graph input's name is not UTF-8");
    Value *value = graph_value(graph, name);
    if (value && (value->producer || value_is_input(graph, value))) {
        reading_problem(reading, "graph input %.200s is %s", name, value->producer ? "also written by a node" : "listed twice");
        return true;
    }
    if (!info->type || !info->type->tensor_type) {
        reading_problem(reading, "graph input %.200s is no tensor (sequence, map, optional or sparse)", name);
        return true;
    }
    int type = info->type->tensor_type->elem_type;
    Dtype dtype = type == ONNX_BFLOAT16 ? DTYPE_FLOAT16 : dtype_from_onnx(type);
    if (dtype == DTYPE_NONE) {
        reading_problem(reading, "graph input %.200s holds elements that are %s", name, onnx_dtype_label(type));
        return true;
    }
    const Onnx__TensorShapeProto *declared = declared_shape(info);
    if (declared && declared->n_dim > ESPQ_MAX_RANK) {
        reading_problem(reading, "graph input %.200s has %zu dimensions; %d are the most", name, declared->n_dim, ESPQ_MAX_RANK);
        return true;
    }
    if (!value) value = graph_add_value(graph, name, error);
    if (!value) return false;
    if (dtype == DTYPE_FLOAT16 || dtype == DTYPE_FLOAT64) {
        graph_note(graph, "input %s is %s in the model; it is taken as float32", name, onnx_dtype_label(type));
        dtype = DTYPE_FLOAT32;
    }
    value->dtype = dtype;
    *out = value;
    return graph_add_input(graph, value, error);
}

static bool check_given_names(const Reading *reading, const OnnxOptions *options, Error *error)
{
    int unnamed = 0;
    for (int i = 0; options && i < options->input_shape_count; i++) {
        const char *name = options->input_shapes[i].name;
        if (!name) {
            unnamed++;
            continue;
        }
        const Value *value = graph_value(reading->graph, name);
        if (value && value_is_input(reading->graph, value)) continue;
        const char *names[64];
        int count = reading->graph->input_count < 64 ? reading->graph->input_count : 64;
        for (int k = 0; k < count; k++)
            names[k] = reading->graph->inputs[k]->name;
        int nearest = text_nearest(name, names, count);
        return fail(error, name, "use the names of the model's inputs", "input_shape names an input that the model has not; %s %s",
                    nearest >= 0 ? "perhaps meant:" : "its first input is", count == 0 ? "none" : names[nearest >= 0 ? nearest : 0]);
    }
    if (unnamed > reading->graph->input_count)
        return fail(error, reading->shown, "give one shape for each input", "input_shape has %d shapes, the model has %d inputs", unnamed,
                    reading->graph->input_count);
    return true;
}

bool onnx_read_inputs(Reading *reading, const OnnxOptions *options, Error *error)
{
    const Onnx__GraphProto *proto = reading->model->graph;
    Symbols symbols = {0};
    Text what = {0}, write = {0};
    const Onnx__ValueInfoProto **infos = memory_new_array(proto->n_input + 1, sizeof *infos);
    if (!infos) return fail_memory(error, proto->n_input * sizeof *infos);
    bool ok = true;
    int count = 0;
    for (size_t i = 0; i < proto->n_input && ok; i++) {
        Value *value = NULL;
        /* IR 3 lists initializers among the inputs: they are defaults there, constants here. */
        if (proto->input[i]->name && map_has(&reading->initializers, proto->input[i]->name)) continue;
        ok = make_input(reading, proto->input[i], &value, error);
        if (ok && value) infos[count++] = proto->input[i];
    }
    Graph *graph = reading->graph;
    if (ok && reading->problem_count == 0) ok = check_given_names(reading, options, error);
    for (int i = 0; i < count && ok; i++) {
        const Shape *given = given_shape(options, graph->inputs[i]->name, i);
        if (given) ok = take_given(reading, graph->inputs[i], declared_shape(infos[i]), given, &symbols, error);
    }
    for (int i = 0; i < count && ok; i++) {
        Value *value = graph->inputs[i];
        const Onnx__TensorShapeProto *declared = declared_shape(infos[i]);
        if (value->shaped) continue;
        if (declared && !take_declared(value, declared, &symbols))
            reading_problem(reading, "graph input %.200s: its shape is absurdly large", value->name);
        else if (!value->shaped)
            say_open(value, declared, &what, &write);
    }
    if (ok && what.length && reading->problem_count == 0) ok = refuse_open(reading, &what, &write, error);
    text_free(&what);
    text_free(&write);
    map_free(&symbols.sizes);
    memory_free(infos);
    return ok;
}
