#include "optim/blocks.h"

#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "graph/operator.h"

typedef struct Cutter {
    const Graph *graph;
    Node **order;
    Map places; /* name → place in order + 1 */
    int count;
    int *depth, *queue;
    bool *entered, *visited, *below, *above;
} Cutter;

static int place_of(const Cutter *cutter, const Node *node)
{
    return (int)(uintptr_t)map_get(&cutter->places, node->name) - 1;
}

static void cutter_end(Cutter *cutter)
{
    memory_free(cutter->order);
    memory_free(cutter->depth);
    memory_free(cutter->entered);
    map_free(&cutter->places);
}

static bool cutter_begin(Cutter *cutter, const Graph *graph, Error *error)
{
    size_t count = (size_t)graph->node_count + 1;
    *cutter = (Cutter){.graph = graph, .count = graph->node_count};
    if (!graph_sort(graph, &cutter->order, error)) return false;
    cutter->depth = memory_new_array(count * 2, sizeof *cutter->depth);
    cutter->entered = memory_new_array(count * 4, sizeof *cutter->entered);
    bool ok = cutter->depth && cutter->entered;
    for (int i = 0; ok && i < cutter->count; i++)
        ok = map_set(&cutter->places, cutter->order[i]->name, (void *)(uintptr_t)(i + 1));
    if (!ok) return fail_memory(error, count * sizeof *cutter->depth);
    cutter->queue = cutter->depth + count;
    cutter->visited = cutter->entered + count;
    cutter->below = cutter->visited + count;
    cutter->above = cutter->below + count;
    for (int i = 0; i < cutter->count; i++) {
        const Node *node = cutter->order[i];
        for (int k = 0; k < node->input_count; k++) {
            if (!node->inputs[k] || !node->inputs[k]->producer) continue;
            int before = cutter->depth[place_of(cutter, node->inputs[k]->producer)];
            if (before >= cutter->depth[i]) cutter->depth[i] = before + 1;
        }
    }
    return true;
}

/* ---- the next node of a block ---- */

static int producer_edges(const Node *node)
{
    int edges = 0;
    for (int i = 0; i < node->input_count; i++)
        edges += node->inputs[i] && node->inputs[i]->producer;
    return edges;
}

/* The one consumer, if it reads nothing else. */
static int coherent(const Cutter *cutter, const Node *end)
{
    for (int i = 0; i < end->output_count; i++) {
        if (!end->outputs[i] || !end->outputs[i]->use_count) continue;
        const Node *next = end->outputs[i]->uses[0].node;
        int open = 0; /* what is left out counts, as in the reference */
        for (int k = 0; k < next->input_count; k++)
            open += !next->inputs[k] || !next->inputs[k]->constant;
        return producer_edges(next) == 1 && open == 1 ? place_of(cutter, next) : -1;
    }
    return -1;
}

static void enter_consumers(Cutter *cutter, const Node *node, int *length)
{
    for (int i = 0; i < node->output_count; i++) {
        for (int u = 0; node->outputs[i] && u < node->outputs[i]->use_count; u++) {
            int place = place_of(cutter, node->outputs[i]->uses[u].node);
            if (cutter->entered[place]) continue;
            cutter->entered[place] = true;
            cutter->queue[(*length)++] = place;
        }
    }
}

static bool is_fed_inside(const Cutter *cutter, const Node *node)
{
    for (int i = 0; i < node->input_count; i++) {
        const Value *input = node->inputs[i];
        if (input && !input->constant && (!input->producer || !cutter->entered[place_of(cutter, input->producer)])) return false;
    }
    return true;
}

/* Where all branches that leave `end` meet; -1: nowhere, or something outside reads or feeds them. */
static int meeting(Cutter *cutter, int end)
{
    int length = 0;
    memset(cutter->entered, 0, (size_t)cutter->count * sizeof *cutter->entered);
    cutter->entered[end] = true;
    enter_consumers(cutter, cutter->order[end], &length);
    while (length) {
        int shallowest = 0;
        for (int i = 1; i < length; i++)
            if (cutter->depth[cutter->queue[i]] < cutter->depth[cutter->queue[shallowest]]) shallowest = i;
        int place = cutter->queue[shallowest];
        const Node *node = cutter->order[place];
        memmove(cutter->queue + shallowest, cutter->queue + shallowest + 1, (size_t)(length - shallowest - 1) * sizeof *cutter->queue);
        length--;
        if (!is_fed_inside(cutter, node)) return -1;
        if (length == 0 && producer_edges(node) > 1) return place;
        if (node_consumer_count(node) == 0) return -1;
        enter_consumers(cutter, node, &length);
    }
    return -1;
}

/* ---- blocks ---- */

static bool add_block(Cutter *cutter, Block *block, int first, int last, Error *error)
{
    size_t bytes = (size_t)cutter->count * sizeof *cutter->below;
    memset(cutter->below, 0, bytes);
    memset(cutter->above, 0, bytes);
    cutter->below[first] = cutter->above[last] = true;
    for (int i = first + 1; i <= last; i++) {
        const Node *node = cutter->order[i];
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k] && node->inputs[k]->producer && cutter->below[place_of(cutter, node->inputs[k]->producer)])
                cutter->below[i] = true;
    }
    for (int i = last; i > first; i--) {
        const Node *node = cutter->order[i];
        for (int k = 0; cutter->above[i] && k < node->input_count; k++)
            if (node->inputs[k] && node->inputs[k]->producer) cutter->above[place_of(cutter, node->inputs[k]->producer)] = true;
    }
    *block = (Block){.first = cutter->order[first], .last = cutter->order[last]};
    block->nodes = memory_new_array((size_t)(last - first) + 1, sizeof *block->nodes);
    if (!block->nodes) return fail_memory(error, (size_t)(last - first) * sizeof *block->nodes);
    for (int i = first; i <= last; i++) {
        if (!cutter->below[i] || !cutter->above[i]) continue;
        block->nodes[block->node_count++] = cutter->order[i];
        cutter->visited[i] = true;
    }
    return true;
}

static int last_of(Cutter *cutter, int first, int64_t size)
{
    int end = first;
    for (;;) {
        const Node *node = cutter->order[end];
        int next = node_consumer_count(node) <= 1 ? coherent(cutter, node) : meeting(cutter, end);
        if (next < 0 || cutter->visited[next] || cutter->depth[next] - cutter->depth[first] > size) return end;
        end = next;
    }
}

bool blocks_find(Blocks *blocks, const Graph *graph, int64_t size, Error *error)
{
    Cutter cutter;
    *blocks = (Blocks){0};
    blocks->items = memory_new_array((size_t)graph->node_count + 1, sizeof *blocks->items);
    if (!blocks->items) return fail_memory(error, (size_t)graph->node_count * sizeof *blocks->items);
    bool ok = cutter_begin(&cutter, graph, error);
    for (int i = 0; ok && i < cutter.count; i++) {
        const Node *node = cutter.order[i];
        if (cutter.visited[i] || !node->quantized || !node->op || !(node->op->flags & OPERATOR_COMPUTING)) continue;
        ok = add_block(&cutter, &blocks->items[blocks->count++], i, last_of(&cutter, i, size), error);
    }
    cutter_end(&cutter);
    return ok;
}

void blocks_keep(Blocks *blocks, Node *const *nodes, int count)
{
    int kept = 0;
    for (int i = 0; i < blocks->count; i++) {
        Block *block = &blocks->items[i];
        bool wanted = false;
        for (int k = 0; k < block->node_count; k++)
            for (int n = 0; n < count; n++)
                wanted = wanted || block->nodes[k] == nodes[n];
        if (wanted)
            blocks->items[kept++] = *block;
        else
            memory_free(block->nodes);
    }
    blocks->count = kept;
}

void blocks_free(Blocks *blocks)
{
    for (int i = 0; i < blocks->count; i++)
        memory_free(blocks->items[i].nodes);
    memory_free(blocks->items);
    *blocks = (Blocks){0};
}
