#include "analyse/feed.h"

#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"

/* Samples worth one walk: enough for all threads, few enough for the memory. */
#define CHUNK_UNITS 16

bool feed_begin(Feed *feed, Graph *graph, Batches *batches, int steps, bool whole, Error *error)
{
    size_t inputs = (size_t)graph->input_count + 1;
    *feed = (Feed){.graph = graph, .steps = steps, .whole = whole, .traced = 1};
    feed->batch = memory_new_array(inputs, sizeof *feed->batch);
    feed->chunk.inputs = memory_new_array(inputs, sizeof *feed->chunk.inputs);
    feed->chunk.shapes = memory_new_array(inputs, sizeof *feed->chunk.shapes);
    if (!feed->batch || !feed->chunk.inputs || !feed->chunk.shapes) return fail_memory(error, inputs * sizeof(Shape));
    for (int i = graph->input_count - 1; i >= 0; i--)
        if (graph->inputs[i]->shaped && graph->inputs[i]->shape.rank > 0) feed->traced = graph->inputs[i]->shape.dims[0];
    if (feed->traced < 1) feed->traced = 1;
    return batch_walk_begin(&feed->walk, graph, batches, error);
}

/* Batches can be joined and cut when all inputs count the same samples, in whole units. */
static bool can_join(const Feed *feed)
{
    const Graph *graph = feed->graph;
    if (feed->whole || feed->walk.samples % feed->traced) return false;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op && (graph->nodes[i]->op->flags & OPERATOR_SEQUENCE)) return false;
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        if (!input->shaped || input->shape.rank < 1 || input->shape.dims[0] != feed->traced) return false;
        if (feed->batch[i]->shape.dims[0] != feed->walk.samples) return false;
    }
    return true;
}

static void drop_batch(Feed *feed)
{
    for (int i = 0; i < feed->graph->input_count; i++) {
        tensor_release(feed->batch[i]);
        feed->batch[i] = NULL;
    }
    feed->left = feed->taken = 0;
}

static bool read_batch(Feed *feed, Error *error)
{
    if (feed->over) return true;
    if (feed->batch_count > (size_t)feed->steps) {
        feed->over = true;
        return true;
    }
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

/* Put `samples` of the current batch behind those of the chunk. */
static bool append(Feed *feed, int64_t samples, Error *error)
{
    Chunk *chunk = &feed->chunk;
    for (int i = 0; i < feed->graph->input_count; i++) {
        Tensor *batch = feed->batch[i], *before = chunk->inputs[i];
        if (!before && samples == feed->walk.samples) {
            chunk->inputs[i] = tensor_retain(batch);
            continue;
        }
        Shape shape = batch->shape;
        shape.dims[0] = samples + (before ? before->shape.dims[0] : 0);
        Tensor *joined = tensor_new(batch->dtype, &shape, error);
        if (!joined) return false;
        size_t start = before ? tensor_bytes(before) : 0, row = tensor_bytes(batch) / (size_t)batch->shape.dims[0];
        if (before) memcpy(joined->data, before->data, start);
        memcpy(joined->data + start, batch->data + (size_t)feed->taken * row, (size_t)samples * row);
        tensor_release(before);
        chunk->inputs[i] = joined;
    }
    chunk->samples += samples;
    chunk->units += (int)((samples + feed->traced - 1) / feed->traced);
    feed->taken += samples;
    feed->left -= samples;
    if (feed->left == 0) drop_batch(feed);
    return true;
}

static void clear_chunk(Feed *feed)
{
    Chunk *chunk = &feed->chunk;
    for (int i = 0; chunk->inputs && i < feed->graph->input_count; i++) {
        tensor_release(chunk->inputs[i]);
        chunk->inputs[i] = NULL;
    }
    feed->units += chunk->units;
    chunk->first_unit = feed->units;
    chunk->samples = chunk->units = 0;
}

static bool fill(Feed *feed, Error *error)
{
    Chunk *chunk = &feed->chunk;
    while (chunk->units < CHUNK_UNITS) {
        if (!feed->left && !read_batch(feed, error)) return false;
        if (!feed->left) return true;
        if (!feed->joins) return chunk->units ? true : append(feed, feed->left, error);
        int64_t room = (CHUNK_UNITS - chunk->units) * feed->traced;
        if (!append(feed, feed->left < room ? feed->left : room, error)) return false;
    }
    return true;
}

const Chunk *feed_next(Feed *feed, bool *failed, Error *error)
{
    clear_chunk(feed);
    *failed = !fill(feed, error);
    if (*failed || !feed->chunk.units) return NULL;
    for (int i = 0; i < feed->graph->input_count; i++)
        feed->chunk.shapes[i] = feed->chunk.inputs[i]->shape;
    return &feed->chunk;
}

void feed_end(Feed *feed)
{
    clear_chunk(feed);
    if (feed->batch) drop_batch(feed);
    batch_walk_end(&feed->walk);
    memory_free(feed->batch);
    memory_free(feed->chunk.inputs);
    memory_free(feed->chunk.shapes);
    memory_free(feed->batch_units);
    *feed = (Feed){0};
}
