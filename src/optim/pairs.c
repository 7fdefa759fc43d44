#include "optim/pairs.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/cancel.h"
#include "base/map.h"
#include "base/memory.h"
#include "exec/feed.h"
#include "optim/run.h"

enum { REFERENCE_BATCHES = 18 };

static bool is_relay(const Node *node, int64_t level)
{
    static const char *const types[] = {"Relu",      "MaxPool",  "GlobalMaxPool", "PRelu", "AveragePool", "GlobalAveragePool",
                                        "LeakyRelu", "Identity", "Add",           "Sub"};
    int count = level >= 2 ? 10 : 8;
    for (int i = 0; i < count; i++)
        if (strcmp(node->type, types[i]) == 0) return true;
    return false;
}

/* ---- walking ---- */

typedef enum { BEFORE = 1, BEHIND = 2, RELAY = 4, PASSED = 8, VISITED = 16 } Mark; /* PASSED: its outputs, or inputs, were followed */

typedef struct Walk {
    Graph *graph;
    Map places; /* name → place + 1 */
    unsigned char *marks, *followed;
    int *stack;
    int64_t level;
} Walk;

static int place_of(const Walk *walk, const Node *node)
{
    return (int)(uintptr_t)map_get(&walk->places, node->name) - 1;
}

static void walk_end(Walk *walk)
{
    map_free(&walk->places);
    memory_free(walk->marks);
    memory_free(walk->followed);
    memory_free(walk->stack);
}

static bool walk_begin(Walk *walk, Graph *graph, int64_t level, Error *error)
{
    size_t count = (size_t)graph->node_count + 1;
    *walk = (Walk){.graph = graph, .level = level};
    walk->marks = memory_new_array(count, 1);
    walk->followed = memory_new_array(count, 1);
    walk->stack = memory_new_array(count * 2, sizeof *walk->stack);
    bool ok = walk->marks && walk->followed && walk->stack;
    for (int i = 0; ok && i < graph->node_count; i++)
        ok = map_set(&walk->places, graph->nodes[i]->name, (void *)(uintptr_t)(i + 1));
    if (ok) return true;
    walk_end(walk);
    return fail_memory(error, count * sizeof *walk->stack);
}

/* Reaches a neighbour: an end gets its mark, a relay is followed further, each once a direction. */
static void reach(Walk *walk, const Node *node, Mark end, int *top)
{
    int place = place_of(walk, node);
    if (!is_relay(node, walk->level)) {
        walk->marks[place] |= (unsigned char)end;
    } else if (!(walk->followed[place] & end)) {
        walk->followed[place] |= (unsigned char)end;
        walk->marks[place] |= RELAY;
        walk->stack[(*top)++] = place;
    }
}

static void follow(Walk *walk, const Node *node, Mark end, int *top)
{
    if (end == BEHIND) {
        for (int i = 0; i < node->output_count; i++)
            for (int u = 0; node->outputs[i] && u < node->outputs[i]->use_count; u++)
                reach(walk, node->outputs[i]->uses[u].node, end, top);
    } else {
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] && node->inputs[i]->producer) reach(walk, node->inputs[i]->producer, end, top);
    }
}

/* From every node with mark `from`, over relays to their ends; also from relays that the other direction found (the closure). */
static void spread(Walk *walk, Mark from, Mark end)
{
    int top = 0;
    for (int i = 0; i < walk->graph->node_count; i++) {
        if (walk->marks[i] & from) follow(walk, walk->graph->nodes[i], end, &top);
        if (walk->marks[i] & RELAY) reach(walk, walk->graph->nodes[i], end, &top);
        while (top) {
            int place = walk->stack[--top];
            follow(walk, walk->graph->nodes[place], end, &top);
        }
    }
}

static int count_marks(const Walk *walk, unsigned marks)
{
    int count = 0;
    for (int i = 0; i < walk->graph->node_count; i++)
        count += (walk->marks[i] & marks) != 0;
    return count;
}

/* Layers before and behind `start`, closed: everything that reads or writes the tensors in between is a member. */
static void find_members(Walk *walk, int start)
{
    for (int i = 0; i < walk->graph->node_count; i++) {
        walk->marks[i] &= VISITED;
        walk->followed[i] = 0;
    }
    walk->marks[start] |= BEFORE;
    for (int before = -1, now = 0; before != now;) {
        before = now;
        spread(walk, BEFORE, BEHIND);
        spread(walk, BEHIND, BEFORE);
        now = count_marks(walk, BEFORE) + count_marks(walk, BEHIND) + count_marks(walk, RELAY);
    }
}

/* ---- judging ---- */

static bool all_layers(const Walk *walk)
{
    for (int i = 0; i < walk->graph->node_count; i++)
        if ((walk->marks[i] & (BEFORE | BEHIND)) && !is_layer(walk->graph->nodes[i])) return false;
    return true;
}

static bool passes_scale(const Walk *walk, const Node *node)
{
    const Graph *graph = walk->graph;
    int place = place_of(walk, node);
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && value_is_output(graph, node->outputs[i])) return false; /* O2 */
    if (walk->marks[place] & BEFORE) return true;
    bool slope = strcmp(node->type, "PRelu") == 0; /* the same for every scale above 0 */
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i] || node->inputs[i]->producer || (slope && i > 0 && node->inputs[i]->constant)) continue;
        return false; /* O1 */
    }
    return true;
}

/* Would scaling the channels in between leave the network's function as it is? Reads the members' layers. */
static bool can_scale(const Walk *walk, Pairs *pairs, int64_t *channels)
{
    *channels = 0;
    for (int i = 0; i < pairs->node_count; i++) {
        Node *node = walk->graph->nodes[i];
        unsigned char marks = walk->marks[i];
        if ((marks & (BEFORE | RELAY)) && !passes_scale(walk, node)) return false;
        if (!(marks & (BEFORE | BEHIND))) continue;
        Layer *layer = &pairs->layers[i];
        if (!layer->node && !layer_read(layer, node)) {
            layer->node = NULL;
            return false;
        }
        int64_t up = layer_channels(layer, true), down = layer_channels(layer, false);
        if (!*channels) *channels = marks & BEFORE ? up : down;
        if (((marks & BEFORE) && up != *channels) || ((marks & BEHIND) && down != *channels)) return false;
    }
    return true;
}

static bool list_marked(const Walk *walk, Mark mark, int **list, int *count, Error *error)
{
    *count = 0;
    *list = memory_new_array((size_t)count_marks(walk, mark) + 1, sizeof **list);
    if (!*list) return fail_memory(error, sizeof **list);
    for (int i = 0; i < walk->graph->node_count; i++)
        if (walk->marks[i] & mark) (*list)[(*count)++] = i;
    return true;
}

static bool add_pair(Pairs *pairs, const Walk *walk, int64_t channels, Error *error)
{
    Pair *grown = memory_grow(pairs->items, (size_t)pairs->count, &pairs->capacity, sizeof *grown);
    if (!grown) return fail_memory(error, sizeof *grown);
    pairs->items = grown;
    Pair *pair = &grown[pairs->count++];
    *pair = (Pair){.channels = channels};
    bool ok = list_marked(walk, BEFORE, &pair->up, &pair->up_count, error) &&
              list_marked(walk, BEHIND, &pair->down, &pair->down_count, error) &&
              list_marked(walk, RELAY, &pair->relays, &pair->relay_count, error);
    for (int i = 0; ok && i < pairs->node_count; i++)
        if (walk->marks[i] & (BEFORE | BEHIND)) ok = layer_own(pairs->graph, &pairs->layers[i], error);
    return ok;
}

static bool find_from(Pairs *pairs, Walk *walk, int start, Error *error)
{
    int64_t channels;
    if ((walk->marks[start] & VISITED) || !is_layer(pairs->graph->nodes[start])) return true;
    find_members(walk, start);
    for (int i = 0; i < pairs->node_count; i++)
        if (walk->marks[i] & BEFORE) walk->marks[i] |= VISITED;
    if (!count_marks(walk, BEHIND) || !all_layers(walk)) return true;
    if (can_scale(walk, pairs, &channels)) return add_pair(pairs, walk, channels, error);
    pairs->refused++;
    return true;
}

bool pairs_find(Pairs *pairs, Graph *graph, const LayerSplitSetting *setting, const char *setting_name, Error *error)
{
    Walk walk;
    Node **named;
    int named_count;
    size_t nodes = (size_t)graph->node_count + 1;
    *pairs = (Pairs){.graph = graph, .node_count = graph->node_count};
    if (!layers_named(graph, &setting->interested_layers, setting_name, &named, &named_count, error)) return false;
    if (!walk_begin(&walk, graph, setting->opt_level, error)) {
        memory_free(named);
        return false;
    }
    pairs->layers = memory_new_array(nodes, sizeof *pairs->layers);
    pairs->activations = memory_new_array(nodes, sizeof *pairs->activations);
    pairs->candidates = memory_new_array(nodes, sizeof *pairs->candidates);
    bool ok = (pairs->layers && pairs->activations && pairs->candidates) || fail_memory(error, nodes * sizeof *pairs->layers);
    bool all = setting->interested_layers.count == 0;
    int count = all ? graph->node_count : named_count;
    for (int i = 0; ok && i < count; i++) {
        int place = all ? i : place_of(&walk, named[i]);
        pairs->candidates[place] = is_layer(graph->nodes[place]);
        ok = find_from(pairs, &walk, place, error);
    }
    memory_free(named);
    walk_end(&walk);
    return ok;
}

void pairs_free(Pairs *pairs)
{
    for (int i = 0; i < pairs->count; i++) {
        memory_free(pairs->items[i].up);
        memory_free(pairs->items[i].down);
        memory_free(pairs->items[i].relays);
    }
    for (int i = 0; pairs->activations && i < pairs->node_count; i++)
        memory_free(pairs->activations[i]);
    memory_free(pairs->items);
    memory_free(pairs->layers);
    memory_free(pairs->activations);
    memory_free(pairs->candidates);
    *pairs = (Pairs){0};
}

/* ---- activations ---- */

typedef struct Collector {
    Pairs *pairs;
    Map places;
    pthread_mutex_t lock; /* pieces come from several threads; the largest of numbers does not depend on their order */
} Collector;

static int collected_place(const Collector *collector, const Node *node)
{
    return (int)(uintptr_t)map_get(&collector->places, node->name) - 1;
}

static bool wants(void *context, const Node *node, bool is_output, int index)
{
    const Collector *collector = context;
    return is_output && index == 0 && collector->pairs->candidates[collected_place(collector, node)];
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    Collector *collector = context;
    const Tensor *x = watched->raw;
    if (x->dtype != DTYPE_FLOAT32 || x->shape.rank < 2) return true;
    int64_t channels = x->shape.dims[1], samples = x->shape.dims[0], inner = 1;
    for (int i = 2; i < x->shape.rank; i++)
        inner *= x->shape.dims[i];
    bool ok = true;
    pthread_mutex_lock(&collector->lock);
    float **largest = &collector->pairs->activations[collected_place(collector, watched->node)];
    if (!*largest && !(*largest = memory_new_array((size_t)channels + 1, sizeof **largest))) ok = fail_memory(error, sizeof **largest);
    for (int64_t row = 0; ok && row < samples * channels; row++) {
        float *key = &(*largest)[row % channels];
        for (int64_t i = 0; i < inner; i++) {
            float size = fabsf(tensor_floats(x)[row * inner + i]);
            if (size > *key) *key = size;
        }
    }
    pthread_mutex_unlock(&collector->lock);
    return ok;
}

bool pairs_collect_activations(Pairs *pairs, const PassContext *context, Error *error)
{
    Collector collector = {.pairs = pairs};
    Value *nothing = NULL;
    bool ok = true;
    if (!context->batches) return fail(error, pairs->graph->source, "give a dataloader", "including_act needs data");
    for (int i = 0; i < pairs->node_count; i++) {
        memory_free(pairs->activations[i]);
        pairs->activations[i] = NULL;
        ok = ok && map_set(&collector.places, pairs->graph->nodes[i]->name, (void *)(uintptr_t)(i + 1));
    }
    if (!ok) {
        map_free(&collector.places);
        return fail_memory(error, (size_t)pairs->node_count * sizeof(void *));
    }
    pthread_mutex_init(&collector.lock, NULL);
    Watcher watcher = {.context = &collector, .wants = wants, .watch = watch, .by_piece = true};
    Runner runner = {
        .graph = pairs->graph,
        .options = {.mode = EXEC_FLOAT, .exact = context->setting->switches.onnx_exact_ops, .wanted = &nothing, .watcher = &watcher}};
    Feed feed = {0};
    ok = feed_begin(&feed, pairs->graph, context->batches, REFERENCE_BATCHES, FEED_BATCHES, error);
    bool failed = !ok;
    for (const Chunk *chunk; !failed && (chunk = feed_next(&feed, &failed, error));) {
        Tensor *none[1];
        failed = !cancel_check(error) || !runner_run(&runner, chunk->inputs, none, error);
    }
    feed_end(&feed);
    runner_end(&runner);
    pthread_mutex_destroy(&collector.lock);
    map_free(&collector.places);
    return !failed;
}

/* ---- keys ---- */

static void raise_keys(float *keys, const float *x, int64_t count, int64_t channels, float multiplier)
{
    for (int64_t i = 0; i < count; i++) {
        float size = fabsf(x[i] * multiplier);
        if (size > keys[i % channels]) keys[i % channels] = size;
    }
}

void pair_keys(const Pairs *pairs, const Pair *pair, const LayerSplitSetting *setting, bool swapped, float *up, float *down)
{
    int64_t channels = pair->channels;
    memset(up, 0, (size_t)channels * sizeof *up);
    memset(down, 0, (size_t)channels * sizeof *down);
    for (int i = 0; i < pair->up_count; i++) {
        const Layer *layer = &pairs->layers[pair->up[i]];
        const float *activation = pairs->activations[pair->up[i]];
        layer_keys(layer, true, swapped, up);
        if (setting->including_bias && layer->bias)
            raise_keys(up, tensor_floats(layer->bias), tensor_count(layer->bias), channels, (float)setting->bias_multiplier);
        if (setting->including_act && activation) raise_keys(up, activation, channels, channels, (float)setting->act_multiplier);
    }
    for (int i = 0; i < pair->down_count; i++)
        layer_keys(&pairs->layers[pair->down[i]], false, swapped, down);
}
