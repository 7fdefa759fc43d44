/* One node on given tensors: constant folding, and what a plan can know before it runs. The node runs in a graph of its own, so
 * that neither shapes nor links of the graph it belongs to are touched. */
#include "base/memory.h"
#include "exec/plan.h"
#include "graph/operator.h"

typedef struct Single {
    Graph *graph;
    Node *node;
    Prepare prepare;
    const Tensor **constants;
    Shape *shapes;
    Dtype *dtypes;
    void *scratch;
} Single;

static bool copy_ends(Single *single, const Node *node, Tensor *const *inputs, Error *error)
{
    Graph *graph = single->graph;
    for (int i = 0; i < node->input_count; i++) {
        Value *value = NULL;
        if (node->inputs[i]) {
            if (!inputs[i]) return fail_as(error, ERROR_INTERNAL, node->name, NULL, "input %d is not known", i);
            value = graph_add_constant(graph, NULL, inputs[i], error);
            if (!value) return false;
        }
        if (!node_add_input(graph, single->node, value, error)) return false;
    }
    for (int i = 0; i < node->output_count; i++) {
        Value *value = NULL;
        if (node->outputs[i] && !(value = graph_add_value(graph, NULL, error))) return false;
        if (!node_add_output(graph, single->node, value, error)) return false;
    }
    return true;
}

static bool make_single(Single *single, const Node *node, Tensor *const *inputs, Error *error)
{
    char where[256];
    if (!node->op || !node->op->infer || !node->op->run)
        return fail(error, node_where(node, where), "espq ops lists what espq can run", "operator %s cannot run", node->type);
    if (!(single->graph = graph_new("node", error))) return false;
    single->graph->opset = node->opset;
    single->node = graph_add_node(single->graph, node->type, node->name, error);
    if (!single->node) return false;
    single->node->op = node->op;
    single->node->domain = node->domain;
    single->node->opset = node->opset;
    if (!node_copy_attributes(single->graph, single->node, node)) return fail_memory(error, sizeof(Attribute));
    return copy_ends(single, node, inputs, error) && node->op->infer(single->graph, single->node, error);
}

static bool prepare_single(Single *single, bool exact, Error *error)
{
    Node *node = single->node;
    int ends = node->input_count + node->output_count;
    single->constants = memory_new_array((size_t)node->input_count + 1, sizeof *single->constants);
    single->shapes = memory_new_array((size_t)ends + 1, sizeof *single->shapes);
    single->dtypes = memory_new_array((size_t)ends + 1, sizeof *single->dtypes);
    if (!single->constants || !single->shapes || !single->dtypes) return fail_memory(error, (size_t)ends * sizeof(Shape));
    for (int i = 0; i < ends; i++) {
        const Value *value = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        single->shapes[i].rank = -1;
        if (!value) continue;
        if (i < node->input_count) single->constants[i] = value->constant;
        single->shapes[i] = value->shape;
        single->dtypes[i] = value->dtype;
    }
    single->prepare = (Prepare){.node = node,
                                .constants = single->constants,
                                .input_shapes = single->shapes,
                                .output_shapes = single->shapes + node->input_count,
                                .input_dtypes = single->dtypes,
                                .output_dtypes = single->dtypes + node->input_count,
                                .exact = exact};
    if (node->op->prepare && !node->op->prepare(&single->prepare, error)) return false;
    if (single->prepare.scratch_bytes && !(single->scratch = memory_new_aligned(single->prepare.scratch_bytes)))
        return fail_memory(error, single->prepare.scratch_bytes);
    return true;
}

static void free_single(Single *single)
{
    if (single->prepare.state) { /* also when prepare failed half-way */
        if (single->node->op->release)
            single->node->op->release(single->prepare.state);
        else
            memory_free(single->prepare.state);
    }
    memory_free(single->constants);
    memory_free(single->shapes);
    memory_free(single->dtypes);
    memory_free(single->scratch);
    graph_free(single->graph);
}

static bool run_single(Single *single, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    Node *node = single->node;
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (value && !(outputs[i] = tensor_new(value->dtype, &value->shape, error))) return false;
    }
    Run run = {.node = node, .inputs = inputs, .outputs = outputs, .state = single->prepare.state, .scratch = single->scratch};
    node->op->run(&run);
    return true;
}

bool exec_node_exact(Node *node, Tensor *const *inputs, Tensor **outputs, bool exact, Error *error)
{
    Single single = {0};
    for (int i = 0; i < node->output_count; i++)
        outputs[i] = NULL;
    bool done =
        make_single(&single, node, inputs, error) && prepare_single(&single, exact, error) && run_single(&single, inputs, outputs, error);
    free_single(&single);
    for (int i = 0; i < node->output_count && !done; i++) {
        tensor_release(outputs[i]);
        outputs[i] = NULL;
    }
    return done;
}

bool exec_node(Graph *graph, Node *node, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    (void)graph; /* the node knows all that is needed; the graph stays as it is */
    return exec_node_exact(node, inputs, outputs, true, error);
}
