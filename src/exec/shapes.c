/* Which nodes a program needs, the shape of everything, and how a batch is cut into pieces. Shapes are inferred on a private copy
 * of the graph: the graph's own shapes are those of its traced batch and stay, also while other threads make plans. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "exec/program.h"

/* What a step reads and writes should stay in a core's cache. */
#define PIECE_BYTES (2 << 20)
/* Results of so few elements are computed when the program is made (shape arithmetic that was not folded). */
#define FOLDED_COUNT 64

int program_value(const Program *program, const Value *value)
{
    int low = 0, high = program->value_count - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (program->index[middle].key == value) return program->index[middle].index;
        if ((uintptr_t)program->index[middle].key < (uintptr_t)value)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

/* ---- needed nodes ---- */

typedef struct Mark {
    const Program *program;
    Node **order; /* of execution */
    bool *needed; /* one an entry of order */
    bool *wanted; /* one a value: somebody reads it */
} Mark;

static bool is_given(const Program *program, const Value *value)
{
    for (int i = 0; i < program->given_count; i++)
        if (program->given[i] == value) return true;
    return false;
}

static bool watches(const Program *program, const Node *node, bool is_output, int index)
{
    const Watcher *watcher = program->options.watcher;
    if (!watcher) return false;
    return !watcher->wants || watcher->wants(watcher->context, node, is_output, index);
}

static bool watches_any(const Program *program, const Node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && watches(program, node, false, i)) return true;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && watches(program, node, true, i)) return true;
    return false;
}

/* Backwards through the order of execution: a node is needed when a needed value is its output. */
static bool mark_needed(Mark *mark, Error *error)
{
    const Program *program = mark->program;
    for (int i = 0; i < program->wanted_count; i++)
        mark->wanted[program_value(program, program->wanted[i])] = true;
    for (int i = program->graph->node_count - 1; i >= 0; i--) {
        Node *node = mark->order[i];
        bool needed = watches_any(program, node);
        for (int k = 0; k < node->output_count && !needed; k++)
            needed = node->outputs[k] && mark->wanted[program_value(program, node->outputs[k])] && !is_given(program, node->outputs[k]);
        if (!needed) continue;
        mark->needed[i] = true;
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k]) mark->wanted[program_value(program, node->inputs[k])] = true;
    }
    for (int i = 0; i < program->value_count; i++) {
        const Value *value = program->graph->values[i];
        if (mark->wanted[i] && !value->producer && !value->constant && !is_given(program, value))
            return fail(error, value->name, "give it a value", "input %s is needed and is not given", value->name);
    }
    return true;
}

static bool make_steps(Program *program, const Mark *mark, Error *error)
{
    const Graph *graph = program->graph;
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        count += mark->needed[i];
    program->steps = memory_new_array((size_t)count + 1, sizeof *program->steps);
    if (!program->steps) return fail_memory(error, (size_t)count * sizeof *program->steps);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = mark->order[i];
        char where[256];
        if (!mark->needed[i]) continue;
        if (!node->op || !node->op->infer || !node->op->run)
            return fail(error, node_where(node, where), "espq ops lists what can run", "operator %s cannot run", node->type);
        ProgramStep *step = &program->steps[program->step_count++];
        step->node = node;
        while (graph->nodes[step->place] != node)
            step->place++;
        if (node->op && !operator_is_built_in(node->op)) program->one_thread = true;
    }
    return true;
}

bool program_find_steps(Program *program, Error *error)
{
    Graph *graph = program->graph;
    Mark mark = {.program = program};
    mark.needed = memory_new_array((size_t)graph->node_count + 1, sizeof(bool));
    mark.wanted = memory_new_array((size_t)graph->value_count + 1, sizeof(bool));
    bool done = mark.needed && mark.wanted ? graph_sort(graph, &mark.order, error) : fail_memory(error, (size_t)graph->node_count);
    done = done && mark_needed(&mark, error) && make_steps(program, &mark, error);
    memory_free(mark.order);
    memory_free(mark.needed);
    memory_free(mark.wanted);
    return done;
}

/* ---- shapes ---- */

typedef struct Table { /* one entry a value of the graph */
    Shape *shapes;
    Dtype *dtypes;
    Tensor **constants;
} Table;

static void free_table(Table *table, int count)
{
    for (int i = 0; table->constants && i < count; i++)
        tensor_release(table->constants[i]);
    memory_free(table->shapes);
    memory_free(table->dtypes);
    memory_free(table->constants);
    *table = (Table){0};
}

static bool new_table(Table *table, int count, Error *error)
{
    table->shapes = memory_new_array((size_t)count + 1, sizeof(Shape));
    table->dtypes = memory_new_array((size_t)count + 1, sizeof(Dtype));
    table->constants = memory_new_array((size_t)count + 1, sizeof(Tensor *));
    if (table->shapes && table->dtypes && table->constants) return true;
    return fail_memory(error, (size_t)count * sizeof(Shape));
}

/* Can the node's results be known now? Shapes of tensors are; small results of known values are. Quantized nodes run: what they
 * make depends on slots that may still change. */
static bool known_now(const Node *node)
{
    if (node->quantized || !operator_is_built_in(node->op) || (node->op->flags & OPERATOR_RANDOM)) return false;
    bool small = true;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && shape_count(&node->outputs[i]->shape) > FOLDED_COUNT) small = false;
    if (node->op->flags & OPERATOR_SHAPE_ONLY) return true;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant) return false;
    return small;
}

/* A shape-only node looks at no element: a tensor of that shape over no memory of its own would do, zeros are simplest. */
static bool compute_now(Graph *copy, Node *node, bool exact, Error *error)
{
    Tensor *inputs[64] = {0}, *outputs[64] = {0};
    if (node->input_count > 64 || node->output_count > 64) return true;
    bool done = true;
    for (int i = 0; i < node->input_count && done; i++) {
        Value *value = node->inputs[i];
        if (!value) continue;
        inputs[i] = value->constant ? tensor_retain(value->constant) : tensor_new(value->dtype, &value->shape, error);
        done = inputs[i] != NULL;
    }
    done = done && exec_node_exact(node, inputs, outputs, exact, error);
    for (int i = 0; i < node->output_count && done; i++)
        if (node->outputs[i] && !value_set_constant(copy, node->outputs[i], outputs[i])) done = fail_memory(error, sizeof(Tensor));
    for (int i = 0; i < 64; i++) {
        tensor_release(inputs[i]);
        tensor_release(outputs[i]);
    }
    return done;
}

static bool infer_on(Program *program, Graph *copy, const Shape *shapes, Table *table, Error *error)
{
    for (int i = 0; i < program->given_count; i++) {
        Value *value = copy->values[program_value(program, program->given[i])];
        value->shape = shapes[i];
        value->shaped = true;
    }
    for (int i = 0; i < program->step_count; i++) {
        Node *node = copy->nodes[program->steps[i].place]; /* a copy keeps the order */
        if (!node->op->infer(copy, node, error)) return false;
        if (known_now(node) && !compute_now(copy, node, program->options.exact, error)) return false;
    }
    for (int i = 0; i < program->value_count; i++) {
        const Value *value = copy->values[i];
        table->shapes[i] = value->shape;
        table->dtypes[i] = value->dtype;
        table->constants[i] = value->constant ? tensor_retain(value->constant) : NULL;
        if (!value->shaped) table->shapes[i].rank = -1;
    }
    return true;
}

static bool infer_table(Program *program, const Shape *shapes, Table *table, Error *error)
{
    if (!new_table(table, program->value_count, error)) return false;
    Graph *copy = graph_copy(program->graph, error);
    if (!copy) return false;
    bool done = infer_on(program, copy, shapes, table, error);
    graph_free(copy);
    return done;
}

/* ---- pieces ---- */

/* Which values hang on the inputs that carry the samples. */
static bool *find_batched(const Program *program, const bool *batched_inputs, const Table *table, Error *error)
{
    bool *batched = memory_new_array((size_t)program->value_count + 1, sizeof(bool));
    if (!batched) {
        fail_memory(error, (size_t)program->value_count);
        return NULL;
    }
    for (int i = 0; i < program->given_count; i++)
        if (batched_inputs[i]) batched[program_value(program, program->given[i])] = true;
    for (int i = 0; i < program->step_count; i++) {
        const Node *node = program->steps[i].node;
        bool any = false;
        for (int k = 0; k < node->input_count && !any; k++)
            any = node->inputs[k] && batched[program_value(program, node->inputs[k])];
        for (int k = 0; k < node->output_count && any; k++) {
            int output = node->outputs[k] ? program_value(program, node->outputs[k]) : -1;
            if (output >= 0 && !table->constants[output]) batched[output] = true;
        }
    }
    return batched;
}

/* What the first axis of the batched values is to the nodes that read them. */
typedef enum { AXIS_SAMPLES, AXIS_WORKED_ALONG, AXIS_TIME } FirstAxis;

static FirstAxis first_axis(const Program *program, const bool *batched, const Table *table)
{
    FirstAxis found = AXIS_SAMPLES;
    for (int i = 0; i < program->step_count; i++) {
        const Node *node = program->steps[i].node;
        int first = node->input_count && node->inputs[0] ? program_value(program, node->inputs[0]) : -1;
        if (first < 0 || !batched[first]) continue;
        if (node->op->flags & OPERATOR_SEQUENCE) return AXIS_TIME;
        int64_t axis = node_integer(node, "axis", -1);
        if (node_attribute(node, "axis") && (axis < 0 ? axis + table->shapes[first].rank : axis) == 0) found = AXIS_WORKED_ALONG;
    }
    return found;
}

/* Does every batched value grow with the batch along its first axis, and nothing else? */
static bool grows(const Program *program, const bool *batched, const Table *traced, int64_t traced_batch, const Table *asked, int64_t batch)
{
    for (int i = 0; i < program->value_count; i++) {
        const Shape *a = &traced->shapes[i], *b = &asked->shapes[i];
        if (!batched[i]) continue;
        if (a->rank != b->rank || a->rank < 1 || a->dims[0] * batch != b->dims[0] * traced_batch) return false;
        for (int k = 1; k < a->rank; k++)
            if (a->dims[k] != b->dims[k]) return false;
    }
    return true;
}

/* Bytes that the widest step reads and writes for one sample. */
static int64_t widest_step(const Program *program, const bool *batched, const Table *table, int64_t batch)
{
    int64_t widest = 1;
    for (int i = 0; i < program->step_count; i++) {
        const Node *node = program->steps[i].node;
        int64_t bytes = 0;
        for (int k = 0; k < node->input_count + node->output_count; k++) {
            const Value *value = k < node->input_count ? node->inputs[k] : node->outputs[k - node->input_count];
            int index = value ? program_value(program, value) : -1;
            if (index >= 0 && batched[index]) bytes += shape_count(&table->shapes[index]) * (int64_t)dtype_bytes(table->dtypes[index]);
        }
        if (bytes / batch > widest) widest = bytes / batch;
    }
    return widest;
}

/* The largest divisor of the batch that keeps a step in the cache and leaves two pieces a thread. */
static int64_t choose_piece(int64_t batch, int64_t bytes)
{
    int64_t threads = threads_count(), best = 1;
    for (int64_t piece = 1; piece <= batch && piece * bytes <= PIECE_BYTES; piece++) {
        if (batch % piece) continue;
        if (batch >= 2 * threads && batch / piece < 2 * threads) break;
        best = piece;
    }
    return best;
}

static bool take_table(Program *program, Table *table, bool *batched, const bool *batched_inputs, Error *error)
{
    for (int i = 0; i < program->value_count; i++) {
        ProgramValue *value = &program->values[i];
        value->shape = table->shapes[i];
        value->dtype = table->dtypes[i];
        value->constant = table->constants[i];
        table->constants[i] = NULL;
        value->batched = batched && batched[i];
    }
    for (int i = 0; i < program->given_count; i++) {
        ProgramValue *value = &program->values[program_value(program, program->given[i])];
        program->input_shapes[i] = value->shape;
        if (value->shape.rank < 0) return fail_as(error, ERROR_INTERNAL, value->value->name, NULL, "shape of an input is not known");
        value->batched = batched_inputs && batched_inputs[i];
    }
    return true;
}

/* The batch as it is: one piece. Everything that hangs on an input counts as batched (it makes no difference). */
static bool one_piece(Program *program, const Shape *shapes, Error *error)
{
    Table table = {0};
    for (int i = 0; i < program->given_count; i++) {
        const Value *value = program->given[i];
        char asked[160], traced[160];
        if (value->shaped && value->shape.rank != shapes[i].rank)
            return fail(error, value->name, "give a tensor of the graph's shape (any number of samples along the first axis)",
                        "shape %s does not fit %s of the graph", shape_text(&shapes[i], asked), shape_text(&value->shape, traced));
    }
    program->pieces = 1;
    program->piece = 1;
    for (int i = program->given_count - 1; i >= 0; i--)
        if (shapes[i].rank > 0) program->piece = shapes[i].dims[0];
    program->samples = program->piece;
    bool done = infer_table(program, shapes, &table, error) && take_table(program, &table, NULL, NULL, error);
    free_table(&table, program->value_count);
    return done;
}

static void scale_shapes(const Program *program, const bool *batched_inputs, int64_t piece, Shape *shapes)
{
    for (int i = 0; i < program->given_count; i++) {
        shapes[i] = program->given[i]->shape;
        if (batched_inputs[i]) shapes[i].dims[0] = piece;
    }
}

typedef struct Cut {
    bool *inputs; /* one a given value: it carries the samples */
    Shape *shapes;
    int64_t traced, batch; /* samples */
} Cut;

/* Several pieces: of the traced size, or larger ones of a graph that grows with its batch. */
static bool several_pieces(Program *program, Cut *cut, Error *error)
{
    Table traced = {0}, asked = {0};
    bool *batched = NULL, done = false;
    Error ignored = {0};
    program->samples = cut->batch;
    scale_shapes(program, cut->inputs, cut->traced, cut->shapes);
    if (!infer_table(program, cut->shapes, &traced, error)) goto end;
    if (!(batched = find_batched(program, cut->inputs, &traced, error))) goto end;
    program->piece = cut->traced;
    scale_shapes(program, cut->inputs, cut->batch, cut->shapes);
    if (infer_table(program, cut->shapes, &asked, &ignored)) {
        FirstAxis axis = first_axis(program, batched, &traced);
        if (axis == AXIS_TIME)
            program->piece = cut->batch; /* a longer sequence, as in ONNX */
        else if (axis == AXIS_SAMPLES && grows(program, batched, &traced, cut->traced, &asked, cut->batch)) {
            program->piece =
                program->options.whole_batch ? cut->batch : choose_piece(cut->batch, widest_step(program, batched, &traced, cut->traced));
            program->traced = cut->traced;
        }
    }
    if (ignored.code == ERROR_MEMORY) {
        *error = ignored;
        goto end;
    }
    if (program->piece != cut->traced) {
        free_table(&traced, program->value_count);
        scale_shapes(program, cut->inputs, program->piece, cut->shapes);
        if (!infer_table(program, cut->shapes, &traced, error)) goto end;
    }
    program->pieces = (int)((cut->batch + program->piece - 1) / program->piece);
    done = take_table(program, &traced, batched, cut->inputs, error);
end:
    free_table(&traced, program->value_count);
    free_table(&asked, program->value_count);
    memory_free(batched);
    return done;
}

/* Do the shapes differ from the traced ones by one batch size and nothing else? */
static bool find_cut(const Program *program, const Shape *shapes, Cut *cut)
{
    for (int i = 0; i < program->given_count; i++) {
        const Value *value = program->given[i];
        const Shape *traced = &value->shape, *asked = &shapes[i];
        if (!value->shaped) return false;
        if (shape_equal(traced, asked)) continue;
        if (traced->rank != asked->rank || traced->rank < 1 || traced->dims[0] < 1 || asked->dims[0] < 1) return false;
        if (memcmp(traced->dims + 1, asked->dims + 1, (size_t)(traced->rank - 1) * sizeof *traced->dims) != 0) return false;
        if (cut->traced && (cut->traced != traced->dims[0] || cut->batch != asked->dims[0])) return false;
        cut->traced = traced->dims[0];
        cut->batch = asked->dims[0];
        cut->inputs[i] = true;
    }
    return cut->traced > 0;
}

bool program_find_pieces(Program *program, const Shape *shapes, Error *error)
{
    Cut cut = {0};
    cut.inputs = memory_new_array((size_t)program->given_count + 1, sizeof(bool));
    cut.shapes = memory_new_array((size_t)program->given_count + 1, sizeof(Shape));
    bool done = cut.inputs && cut.shapes ? true : fail_memory(error, (size_t)program->given_count * sizeof(Shape));
    if (done) done = find_cut(program, shapes, &cut) ? several_pieces(program, &cut, error) : one_piece(program, shapes, error);
    memory_free(cut.inputs);
    memory_free(cut.shapes);
    return done;
}
