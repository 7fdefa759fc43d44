#include "analyse/recalled.h"

#include <string.h>

#include "base/memory.h"

bool recalled_begin(Recalled *recalled, Graph *graph, const AnalyseOptions *options, Error *error)
{
    size_t values = (size_t)graph->value_count + 1, nodes = (size_t)graph->node_count + 1;
    *recalled = (Recalled){.measure = options->measure};
    if (!options->memo) return true;
    recalled->memo = options->memo;
    recalled->figures = memory_new_array(nodes, sizeof *recalled->figures);
    recalled->known = memory_new_array(nodes, sizeof *recalled->known);
    recalled->given = memory_new_array(values * 2, sizeof *recalled->given);
    recalled->shapes = memory_new_array(values, sizeof *recalled->shapes);
    recalled->tensors = memory_new_array(values * 2, sizeof *recalled->tensors);
    recalled->marked = memory_new_array(values, sizeof *recalled->marked);
    if (!recalled->figures || !recalled->known || !recalled->given || !recalled->shapes || !recalled->tensors || !recalled->marked)
        return fail_memory(error, values * sizeof *recalled->shapes);
    recalled->noted = recalled->given + values;
    recalled->results = recalled->tensors + values;
    return names_make(&recalled->floats, graph, EXEC_FLOAT, options->exact, error) &&
           names_make(&recalled->simulated, graph, EXEC_SIMULATED, options->exact, error);
}

static void release_values(Recalled *recalled)
{
    for (int i = 0; i < recalled->given_count; i++)
        tensor_release(recalled->tensors[i]);
    for (int i = 0; i < recalled->noted_count; i++)
        tensor_release(recalled->results[i]);
    recalled->given_count = recalled->noted_count = 0;
}

void recalled_end(Recalled *recalled)
{
    release_values(recalled);
    names_free(&recalled->floats);
    names_free(&recalled->simulated);
    memory_free(recalled->figures);
    memory_free(recalled->known);
    memory_free(recalled->given);
    memory_free(recalled->shapes);
    memory_free(recalled->tensors);
    memory_free(recalled->marked);
    *recalled = (Recalled){0};
}

bool recalled_knows(const Recalled *recalled, int node)
{
    return recalled->known && recalled->known[node];
}

/* ---- figures ---- */

static Name name_figures(const Recalled *recalled, const Node *node)
{
    static const char *const what[] = {"graphwise snr", "graphwise cosine", "graphwise mse"};
    Name floating = names_of(&recalled->floats, node->outputs[0], &recalled->batch);
    Name simulated = names_of(&recalled->simulated, node->outputs[0], &recalled->batch);
    const Name *parts[] = {&floating, &simulated};
    return name_of_all(what[recalled->measure], parts, 2);
}

static bool recall_figures(Recalled *recalled, const Ledger *ledger, const Chunk *chunk, int node)
{
    Tensor *figures = memo_find(recalled->memo, &recalled->figures[node]);
    bool known = figures && tensor_bytes(figures) == (size_t)chunk->units * sizeof(Part);
    for (int i = 0; known && i < chunk->units; i++)
        memcpy(ledger_part(ledger, chunk->first_unit + i, node, 0), figures->data + (size_t)i * sizeof(Part), sizeof(Part));
    tensor_release(figures);
    return known;
}

static void keep_figures(const Recalled *recalled, const Ledger *ledger, const Chunk *chunk, int node)
{
    Error ignored = {0};
    Shape shape = {.rank = 1, .dims = {(int64_t)((size_t)chunk->units * sizeof(Part))}};
    Tensor *figures = tensor_new_unset(DTYPE_UINT8, &shape, &ignored);
    if (!figures) return;
    for (int i = 0; i < chunk->units; i++)
        memcpy(figures->data + (size_t)i * sizeof(Part), ledger_part(ledger, chunk->first_unit + i, node, 0), sizeof(Part));
    memo_keep(recalled->memo, &recalled->figures[node], figures);
    tensor_release(figures);
}

/* ---- where a run begins ---- */

static int place_of(const Recalled *recalled, const Value *value)
{
    return value_index_of(&recalled->simulated.index, value);
}

/* Inside of the graph a batch of another size is told by the first axis: it must have grown there like the graph's inputs. */
static bool grew_alike(const Recalled *recalled, const Value *value, const Tensor *tensor, const Chunk *chunk)
{
    const Graph *graph = recalled->simulated.graph;
    const Shape *shape = &value->shape, *seen = &tensor->shape;
    if (!value->shaped || shape->rank < 1 || seen->rank != shape->rank) return false;
    if (shape_equal(shape, seen)) return false;
    int64_t traced = 0;
    for (int i = 0; i < graph->input_count; i++)
        if (graph->inputs[i]->shaped && graph->inputs[i]->shape.rank > 0) traced = graph->inputs[i]->shape.dims[0];
    return shape->dims[0] == traced && seen->dims[0] == chunk->samples;
}

static void give(Recalled *recalled, Value *value, Tensor *tensor)
{
    recalled->tensors[recalled->given_count] = tensor;
    recalled->shapes[recalled->given_count] = tensor->shape;
    recalled->given[recalled->given_count++] = value;
}

static bool is_unknown(const Recalled *recalled, const Ledger *ledger, const Node *node)
{
    for (int i = 0; i < ledger->node_count; i++)
        if (ledger->nodes[i] == node) return !recalled->known[i];
    return false;
}

/* Does the node have to run? Its outputs that are asked for are taken from the memo where they are all there. */
static bool runs(Recalled *recalled, const Ledger *ledger, const Chunk *chunk, const Node *node, bool inside)
{
    bool asked = is_unknown(recalled, ledger, node), taken = !asked && inside;
    int before = recalled->given_count;
    for (int i = 0; i < node->output_count; i++) {
        Value *output = node->outputs[i];
        if (!output || !recalled->marked[place_of(recalled, output)]) continue;
        asked = true;
        if (!taken) continue;
        Name name = names_of(&recalled->simulated, output, &recalled->batch);
        Tensor *tensor = memo_find(recalled->memo, &name);
        taken = tensor && (chunk_is_traced(chunk, recalled->simulated.graph) || grew_alike(recalled, output, tensor, chunk));
        if (taken)
            give(recalled, output, tensor);
        else
            tensor_release(tensor);
    }
    if (!asked || taken) return false;
    while (recalled->given_count > before)
        tensor_release(recalled->tensors[--recalled->given_count]);
    return true;
}

static void note_outputs(Recalled *recalled, const Node *node)
{
    for (int i = 0; i < node->output_count; i++) {
        Value *output = node->outputs[i];
        if (!output || !recalled->simulated.worth[place_of(recalled, output)]) continue;
        recalled->results[recalled->noted_count] = NULL;
        recalled->noted[recalled->noted_count++] = output;
    }
}

static void find_run(Recalled *recalled, const Ledger *ledger, const Chunk *chunk)
{
    const Graph *graph = recalled->simulated.graph;
    bool inside = chunk_is_traced(chunk, graph) || !graph_has_sequence(graph);
    memset(recalled->marked, 0, (size_t)recalled->simulated.index.count * sizeof *recalled->marked);
    for (int i = recalled->simulated.node_count - 1; i >= 0; i--) {
        const Node *node = recalled->simulated.order[i];
        if (!runs(recalled, ledger, chunk, node, inside)) continue;
        note_outputs(recalled, node);
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k] && !node->inputs[k]->constant) recalled->marked[place_of(recalled, node->inputs[k])] = true;
    }
    for (int i = 0; i < graph->input_count; i++)
        if (recalled->marked[place_of(recalled, graph->inputs[i])]) give(recalled, graph->inputs[i], tensor_retain(chunk->inputs[i]));
}

void recalled_find(Recalled *recalled, const Ledger *ledger, const Chunk *chunk)
{
    if (!recalled->memo) return;
    release_values(recalled);
    recalled->batch = name_of_batch(recalled->simulated.graph, chunk->inputs);
    recalled->all = true;
    for (int i = 0; i < ledger->node_count; i++) {
        recalled->figures[i] = name_figures(recalled, ledger->nodes[i]);
        recalled->known[i] = recall_figures(recalled, ledger, chunk, i);
        recalled->all = recalled->all && recalled->known[i];
    }
    if (!recalled->all) find_run(recalled, ledger, chunk);
}

void recalled_keep(Recalled *recalled, const Ledger *ledger, const Chunk *chunk)
{
    for (int i = 0; i < ledger->node_count; i++)
        if (!recalled->known[i]) keep_figures(recalled, ledger, chunk, i);
    for (int i = 0; i < recalled->noted_count; i++) {
        Name name = names_of(&recalled->simulated, recalled->noted[i], &recalled->batch);
        memo_keep(recalled->memo, &name, recalled->results[i]);
    }
}
