#include "analyse/float_samples.h"

#include <string.h>

#include "base/memory.h"

typedef struct KeptChunk {
    int units, nodes;
    float **sampled;
} KeptChunk;

struct FloatSamples {
    size_t limit, bytes;
    char *key;
    KeptChunk *chunks;
    size_t count, capacity;
    bool complete;
};

FloatSamples *float_samples_new(size_t limit, Error *error)
{
    FloatSamples *samples = memory_new(sizeof *samples);
    if (!samples)
        fail_memory(error, sizeof *samples);
    else
        samples->limit = limit;
    return samples;
}

static void clear(FloatSamples *samples)
{
    for (size_t c = 0; c < samples->count; c++) {
        KeptChunk *chunk = &samples->chunks[c];
        for (int i = 0; i < chunk->units * chunk->nodes; i++)
            memory_free(chunk->sampled[i]);
        memory_free(chunk->sampled);
    }
    samples->count = samples->bytes = 0;
    samples->complete = false;
    memory_free(samples->key);
    samples->key = NULL;
}

void float_samples_free(FloatSamples *samples)
{
    if (!samples) return;
    clear(samples);
    memory_free(samples->chunks);
    memory_free(samples);
}

float **float_samples_find(const FloatSamples *samples, const char *key, int chunk, int units, int nodes)
{
    if (!samples->complete || strcmp(samples->key, key) != 0 || (size_t)chunk >= samples->count) return NULL;
    const KeptChunk *kept = &samples->chunks[chunk];
    return kept->units == units && kept->nodes == nodes ? kept->sampled : NULL;
}

bool float_samples_begin(FloatSamples *samples, const char *key, Error *error)
{
    size_t length = strlen(key) + 1;
    clear(samples);
    samples->key = memory_new(length);
    if (!samples->key) return fail_memory(error, length);
    memcpy(samples->key, key, length);
    return true;
}

bool float_samples_keep(FloatSamples *samples, int chunk, int units, int nodes, float **sampled, size_t bytes)
{
    if (samples->complete || (size_t)chunk != samples->count || samples->bytes + bytes > samples->limit) return false;
    KeptChunk *grown = memory_grow(samples->chunks, samples->count, &samples->capacity, sizeof *grown);
    if (!grown) return false;
    samples->chunks = grown;
    samples->chunks[samples->count++] = (KeptChunk){units, nodes, sampled};
    samples->bytes += bytes;
    return true;
}

void float_samples_end(FloatSamples *samples, int chunks)
{
    samples->complete = samples->key && samples->count == (size_t)chunks;
}
