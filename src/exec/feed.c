#include "exec/feed.h"

#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"

/* Units worth one walk: enough for all threads, few enough for the memory. */
#define CHUNK_UNITS 16

typedef struct FeedPart {
    Tensor **inputs; /* of the batch, retained */
    int64_t first, samples;
} FeedPart;

bool feed_begin(Feed *feed, Graph *graph, Batches *batches, int64_t most, FeedMode mode, Error *error)
{
    size_t inputs = (size_t)graph->input_count + 1;
    *feed = (Feed){.graph = graph, .most = most, .mode = mode, .traced = 1};
    feed->batch = memory_new_array(inputs, sizeof *feed->batch);
    feed->parts = memory_new_array(CHUNK_UNITS, sizeof *feed->parts);
    feed->chunk.inputs = memory_new_array(inputs, sizeof *feed->chunk.inputs);
    feed->chunk.shapes = memory_new_array(inputs, sizeof *feed->chunk.shapes);
    if (!feed->batch || !feed->parts || !feed->chunk.inputs || !feed->chunk.shapes) return fail_memory(error, inputs * sizeof(Shape));
    for (int i = 0; i < CHUNK_UNITS; i++)
        if (!(feed->parts[i].inputs = memory_new_array(inputs, sizeof(Tensor *)))) return fail_memory(error, inputs * sizeof(Tensor *));
    for (int i = graph->input_count - 1; i >= 0; i--)
        if (graph->inputs[i]->shaped && graph->inputs[i]->shape.rank > 0) feed->traced = graph->inputs[i]->shape.dims[0];
    if (feed->traced < 1) feed->traced = 1;
    return batch_walk_begin(&feed->walk, graph, batches, error);
}

bool chunk_is_traced(const Chunk *chunk, const Graph *graph)
{
    for (int i = 0; i < graph->input_count; i++)
        if (!graph->inputs[i]->shaped || !shape_equal(&graph->inputs[i]->shape, &chunk->shapes[i])) return false;
    return true;
}

bool graph_has_sequence(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op && graph->nodes[i]->op->flags & OPERATOR_SEQUENCE) return true;
    return false;
}

/* Batches can share a chunk when all inputs count the same samples, in whole units. */
static bool can_join(const Feed *feed)
{
    const Graph *graph = feed->graph;
    if (feed->mode == FEED_BATCHES || feed->walk.samples % feed->traced) return false;
    if (feed->mode == FEED_JOINED && feed->walk.samples != feed->traced) return false;
    if (graph_has_sequence(graph)) return false;
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        if (!input->shaped || input->shape.rank < 1 || input->shape.dims[0] != feed->traced) return false;
        if (feed->batch[i]->shape.dims[0] != feed->walk.samples) return false;
    }
    return true;
}

static void release_all(Tensor **tensors, int count)
{
    for (int i = 0; i < count; i++) {
        tensor_release(tensors[i]);
        tensors[i] = NULL;
    }
}

static bool read_batch(Feed *feed, Error *error)
{
    if ((int64_t)feed->batch_count >= feed->most) feed->over = true;
    if (feed->over) return true;
    if (!batch_walk_next(&feed->walk, feed->batch, &feed->over, error)) return false;
    if (feed->over) return true;
    int *units = memory_grow(feed->batch_units, feed->batch_count, &feed->batch_capacity, sizeof *units);
    if (!units) return fail_memory(error, feed->batch_count * sizeof *units);
    feed->batch_units = units;
    units[feed->batch_count++] = (int)((feed->walk.samples + feed->traced - 1) / feed->traced);
    feed->left = feed->walk.samples;
    feed->taken = 0;
    feed->joins = can_join(feed);
    return true;
}

/* The next samples of the current batch go into the chunk. */
static void take(Feed *feed, int64_t samples)
{
    FeedPart *part = &feed->parts[feed->part_count++];
    part->first = feed->taken;
    part->samples = samples;
    for (int i = 0; i < feed->graph->input_count; i++)
        part->inputs[i] = tensor_retain(feed->batch[i]);
    feed->chunk.samples += samples;
    feed->chunk.units += (int)((samples + feed->traced - 1) / feed->traced);
    feed->taken += samples;
    feed->left -= samples;
    if (feed->left == 0) release_all(feed->batch, feed->graph->input_count);
}

static bool fill(Feed *feed, Error *error)
{
    while (feed->chunk.units < CHUNK_UNITS) {
        if (!feed->left && !read_batch(feed, error)) return false;
        if (!feed->left) return true;
        if (!feed->joins) {
            if (!feed->chunk.units) take(feed, feed->left);
            return true;
        }
        int64_t room = (CHUNK_UNITS - feed->chunk.units) * feed->traced;
        take(feed, feed->left < room ? feed->left : room);
    }
    return true;
}

static Tensor *join(const Feed *feed, int input, Error *error)
{
    const Tensor *first = feed->parts[0].inputs[input];
    Shape shape = first->shape;
    if (feed->part_count == 1 && (shape.rank == 0 || feed->parts[0].samples == feed->walk.samples))
        return tensor_retain(feed->parts[0].inputs[input]);
    size_t row = tensor_bytes(first) / (size_t)shape.dims[0];
    shape.dims[0] = feed->chunk.samples;
    Tensor *joined = tensor_new_unset(first->dtype, &shape, error);
    char *to = joined ? joined->data : NULL;
    for (int i = 0; i < feed->part_count && joined; i++) {
        const FeedPart *part = &feed->parts[i];
        memcpy(to, part->inputs[input]->data + (size_t)part->first * row, (size_t)part->samples * row);
        to += (size_t)part->samples * row;
    }
    return joined;
}

static void clear_chunk(Feed *feed)
{
    for (int i = 0; i < feed->part_count; i++)
        release_all(feed->parts[i].inputs, feed->graph->input_count);
    feed->part_count = 0;
    if (feed->chunk.inputs) release_all(feed->chunk.inputs, feed->graph->input_count);
    feed->chunk.first_unit += feed->chunk.units;
    feed->chunk.samples = feed->chunk.units = 0;
}

const Chunk *feed_next(Feed *feed, bool *failed, Error *error)
{
    Chunk *chunk = &feed->chunk;
    clear_chunk(feed);
    *failed = !fill(feed, error);
    for (int i = 0; i < feed->graph->input_count && !*failed && chunk->units; i++) {
        *failed = !(chunk->inputs[i] = join(feed, i, error));
        if (!*failed) chunk->shapes[i] = chunk->inputs[i]->shape;
    }
    chunk->joined = feed->part_count > 1;
    return *failed || !chunk->units ? NULL : chunk;
}

void feed_end(Feed *feed)
{
    if (!feed->graph) return;
    clear_chunk(feed);
    if (feed->batch) release_all(feed->batch, feed->graph->input_count);
    for (int i = 0; feed->parts && i < CHUNK_UNITS; i++)
        memory_free(feed->parts[i].inputs);
    batch_walk_end(&feed->walk);
    memory_free(feed->batch);
    memory_free(feed->parts);
    memory_free(feed->chunk.inputs);
    memory_free(feed->chunk.shapes);
    memory_free(feed->batch_units);
    *feed = (Feed){0};
}
