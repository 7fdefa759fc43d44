#include "text_graph.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "exec/plan.h"

typedef struct Reader {
    Graph *graph;
    const char *at;
    Error error;
    bool failed;
} Reader;

static void blanks(Reader *reader)
{
    while (isspace((unsigned char)*reader->at))
        reader->at++;
}

static bool take(Reader *reader, char wanted)
{
    blanks(reader);
    if (*reader->at != wanted) return false;
    reader->at++;
    return true;
}

static char *word(Reader *reader)
{
    blanks(reader);
    size_t length = strcspn(reader->at, " ,;:=()[]{}#>");
    char *text = arena_text_length(&reader->graph->arena, reader->at, length);
    reader->at += length;
    if (!length) reader->failed = true;
    return text;
}

static int numbers(Reader *reader, char end, double *values, bool *whole)
{
    int count = 0;
    *whole = true;
    while (!take(reader, end) && count < 16 && !reader->failed) {
        char *stop;
        blanks(reader);
        values[count++] = strtod(reader->at, &stop);
        if (stop == reader->at) reader->failed = true;
        if (memchr(reader->at, '.', (size_t)(stop - reader->at))) *whole = false;
        reader->at = stop;
        take(reader, ',');
    }
    return count;
}

static Shape shape_from(Reader *reader)
{
    double values[16];
    bool whole;
    Shape shape = {.rank = numbers(reader, ']', values, &whole)};
    for (int i = 0; i < shape.rank && i < ESPQ_MAX_RANK; i++)
        shape.dims[i] = (int64_t)values[i];
    return shape;
}

/* The seed is the name's: a constant is the same whatever stands beside it. */
static Tensor *normal_tensor(const char *name, const Shape *shape, Error *error)
{
    Random random;
    uint64_t seed = 1;
    for (; *name; name++)
        seed = seed * 31 + (unsigned char)*name;
    random_seed(&random, seed);
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, shape, error);
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = (float)random_normal(&random);
    return tensor;
}

static Value *constant(Reader *reader)
{
    char *name = word(reader);
    double values[16];
    int64_t integers[16];
    bool whole;
    Tensor *tensor = NULL;
    if (graph_value(reader->graph, name)) return graph_value(reader->graph, name);
    if (take(reader, '[')) {
        Shape shape = shape_from(reader);
        tensor = normal_tensor(name, &shape, &reader->error);
        /* variances must be positive: their names begin with v */
        for (int64_t i = 0; name[0] == 'v' && tensor && i < tensor_count(tensor); i++)
            tensor_floats(tensor)[i] = fabsf(tensor_floats(tensor)[i]) + 0.1f;
    } else if (take(reader, '=')) {
        char *stop;
        tensor = tensor_scalar(DTYPE_FLOAT32, strtod(reader->at, &stop), &reader->error);
        reader->at = stop;
    } else if (take(reader, '{')) {
        int count = numbers(reader, '}', values, &whole);
        for (int i = 0; i < count; i++)
            integers[i] = (int64_t)values[i];
        tensor = tensor_from_integers(integers, count, &reader->error);
    }
    Value *value = tensor ? graph_add_constant(reader->graph, name, tensor, &reader->error) : NULL;
    tensor_release(tensor);
    reader->failed = reader->failed || !value;
    return value;
}

static Value *value_named(Reader *reader, const char *name)
{
    Value *value = graph_value(reader->graph, name);
    return value ? value : graph_add_value(reader->graph, name, &reader->error);
}

static void read_attribute(Reader *reader, Node *node)
{
    char *name = word(reader), *stop;
    double values[16];
    int64_t integers[16];
    bool whole;
    if (!take(reader, '=')) reader->failed = true;
    if (reader->failed) return;
    if (take(reader, '[')) {
        int count = numbers(reader, ']', values, &whole);
        for (int i = 0; i < count; i++)
            integers[i] = (int64_t)values[i];
        if (whole) node_set_integers(reader->graph, node, name, integers, count);
        return;
    }
    blanks(reader);
    double number = strtod(reader->at, &stop);
    if (stop == reader->at) {
        node_set_string(reader->graph, node, name, word(reader));
        return;
    }
    if (memchr(reader->at, '.', (size_t)(stop - reader->at)) || memchr(reader->at, 'e', (size_t)(stop - reader->at)))
        node_set_number(reader->graph, node, name, (float)number);
    else
        node_set_integer(reader->graph, node, name, (int64_t)number);
    reader->at = stop;
}

static void read_node(Reader *reader, char **outputs, int output_count)
{
    char *type = word(reader), *name = NULL;
    if (take(reader, ':')) name = word(reader);
    if (!take(reader, '(')) reader->failed = true;
    if (reader->failed) return;
    if (!name) name = arena_format(&reader->graph->arena, "%s_%s", type, outputs[0]);
    Node *node = graph_add_node(reader->graph, type, name, &reader->error);
    if (!node) {
        reader->failed = true;
        return;
    }
    node->domain = "";
    node->opset = reader->graph->opset;
    while (!reader->failed && !take(reader, ')')) {
        if (take(reader, '#')) {
            node_add_input(reader->graph, node, constant(reader), &reader->error);
        } else {
            char *input = word(reader);
            node_add_input(reader->graph, node, strcmp(input, "_") == 0 ? NULL : value_named(reader, input), &reader->error);
        }
        take(reader, ',');
    }
    for (int i = 0; i < output_count; i++)
        node_add_output(reader->graph, node, strcmp(outputs[i], "_") == 0 ? NULL : value_named(reader, outputs[i]), &reader->error);
    blanks(reader);
    while (!reader->failed && *reader->at && *reader->at != ';') {
        read_attribute(reader, node);
        blanks(reader);
    }
}

static void read_statement(Reader *reader)
{
    char *names[8];
    int count = 0;
    bool are_outputs = take(reader, '>');
    do
        names[count++] = word(reader);
    while (count < 8 && !reader->failed && take(reader, ','));
    for (int i = 0; are_outputs && i < count; i++)
        graph_add_output(reader->graph, value_named(reader, names[i]), &reader->error);
    if (are_outputs || reader->failed) return;
    if (take(reader, '[')) {
        Value *value = value_named(reader, names[0]);
        value->shape = shape_from(reader);
        value->shaped = true;
        value->dtype = DTYPE_FLOAT32;
        graph_add_input(reader->graph, value, &reader->error);
    } else if (take(reader, '=')) {
        read_node(reader, names, count);
    } else {
        reader->failed = true;
    }
}

Graph *text_graph(const char *text)
{
    Reader reader = {.at = text};
    reader.graph = graph_new("test", &reader.error);
    if (strncmp(text, "opset ", 6) == 0) reader.graph->opset = (int)strtol(text + 6, NULL, 10), reader.at = strchr(text, ';') + 1;
    do
        read_statement(&reader);
    while (!reader.failed && take(&reader, ';'));
    bool ok = !reader.failed && reader.error.code == ERROR_NONE && *reader.at == '\0' && graph_check(reader.graph, &reader.error);
    CHECK(ok, "text graph: %s %s at \"%.40s\"", reader.error.where, reader.error.what, reader.at);
    if (ok) return reader.graph;
    graph_free(reader.graph);
    return NULL;
}

const char *text_types(const Graph *graph, char out[1024])
{
    Node **order = NULL;
    Error error = {0};
    size_t used = 0;
    out[0] = '\0';
    if (!graph_sort(graph, &order, &error)) return "a cycle";
    for (int i = 0; i < graph->node_count; i++)
        used += (size_t)snprintf(out + used, 1024 - used, "%s%s", i ? " " : "", order[i]->type);
    memory_free(order);
    return out;
}

bool text_run(Graph *graph, Tensor *outputs[8])
{
    Error error = {0};
    Shape shapes[8];
    Tensor *inputs[8] = {0};
    for (int i = 0; i < graph->input_count; i++) {
        shapes[i] = graph->inputs[i]->shape;
        inputs[i] = normal_tensor(graph->inputs[i]->name, &shapes[i], &error);
    }
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = true};
    bool ok = graph_infer(graph, &error);
    Plan *plan = ok ? plan_new(graph, &options, shapes, &error) : NULL;
    ok = plan && plan_run(plan, inputs, outputs, &error);
    CHECK(ok, "run: %s: %s", error.where, error.what);
    plan_free(plan);
    for (int i = 0; i < graph->input_count; i++)
        tensor_release(inputs[i]);
    return ok;
}

static void compare(const char *text, const Tensor *a, const Tensor *b, double tolerance)
{
    double largest = 0, difference = 0;
    CHECK(tensor_count(a) == tensor_count(b), "%s: other shape", text);
    if (tensor_count(a) != tensor_count(b)) return;
    for (int64_t i = 0; i < tensor_count(a); i++) {
        largest = fmax(largest, fabs(tensor_get(a, i)));
        difference = fmax(difference, fabs(tensor_get(a, i) - tensor_get(b, i)));
    }
    CHECK(difference <= tolerance * largest, "%s: values differ by %g of %g", text, difference, largest);
}

Graph *text_simplify(const char *text, bool extra, double tolerance)
{
    Error error = {0};
    SimplifyOptions options = {.extra_rewrites = extra, .exact = true, .split_groups = extra};
    Graph *before = text_graph(text), *after = before ? graph_copy(before, &error) : NULL;
    Tensor *expected[8] = {0}, *found[8] = {0};
    bool ok = after && simplify_graph(after, &options, &error) && graph_check(after, &error);
    CHECK(ok, "%s: %s: %s", text, error.where, error.what);
    int folded = 0; /* rows want shapes as constants, whatever else is rewritten */
    ok = ok && simplify_fold(before, &options, &folded, &error);
    if (ok && text_run(before, expected) && text_run(after, found))
        for (int i = 0; i < before->output_count; i++)
            compare(text, expected[i], found[i], tolerance);
    for (int i = 0; i < 8; i++) {
        tensor_release(expected[i]);
        tensor_release(found[i]);
    }
    graph_free(before);
    if (ok) return after;
    graph_free(after);
    return NULL;
}
