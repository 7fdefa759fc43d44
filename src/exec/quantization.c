#include "exec/quantization.h"

#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "kernel/quantize.h"

/* Pieces of at least so many elements are worth a thread. */
#define QUANTIZE_GRAIN 16384

/* Unlike slot_root this writes nothing, so that several threads may read one graph. */
static const Slot *root_of(const Slot *slot)
{
    while (slot->parent != slot)
        slot = slot->parent;
    return slot;
}

bool quantization_read(Quantization *quantization, const Slot *slot, Dtype dtype, Error *error)
{
    *quantization = (Quantization){0};
    if (!slot || dtype != DTYPE_FLOAT32 || !slot_quantizes(slot)) return true;
    const Slot *root = root_of(slot);
    int count = root->exponent_count;
    *quantization = (Quantization){.on = true,
                                   .count = count,
                                   .exponent = root->exponents[0],
                                   .axis = slot->channel_axis,
                                   .minimum = slot->minimum,
                                   .maximum = slot->maximum,
                                   .rounding = slot->rounding};
    if (count == 1) return true;
    quantization->exponents = memory_new_array((size_t)count, sizeof(int));
    if (!quantization->exponents) return fail_memory(error, (size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        quantization->exponents[i] = root->exponents[i];
    return true;
}

void quantization_clear(Quantization *quantization)
{
    memory_free(quantization->exponents);
    *quantization = (Quantization){0};
}

bool quantization_equal(const Quantization *a, const Quantization *b)
{
    if (a->on != b->on) return false;
    if (!a->on) return true;
    if (a->count != b->count || a->exponent != b->exponent || a->minimum != b->minimum || a->maximum != b->maximum ||
        a->rounding != b->rounding)
        return false;
    return a->count == 1 || (a->axis == b->axis && memcmp(a->exponents, b->exponents, (size_t)a->count * sizeof(int)) == 0);
}

bool quantization_keeps(const Quantization *first, const Quantization *second)
{
    if (!first->on || !second->on || first->count != 1 || second->count != 1) return false;
    int shift = first->exponent - second->exponent;
    /* From 2^23 on x + 0.5 itself rounds, and rounding half up is no longer the identity on integers. */
    if (shift < 0 || shift > 20 || second->maximum >= (1 << 23) || second->minimum <= -(1 << 23)) return false;
    return first->maximum <= second->maximum >> shift && first->minimum >= -((-second->minimum) >> shift);
}

bool quantization_fits(const Quantization *quantization, const Shape *shape)
{
    if (!quantization->on || quantization->count == 1) return true;
    return quantization->axis >= 0 && quantization->axis < shape->rank && shape->dims[quantization->axis] == quantization->count;
}

typedef struct Job {
    const Quantization *quantization;
    const float *x;
    float *y;
    int64_t inner; /* elements of one channel in a row; 0: one exponent for all */
} Job;

static void quantize_range(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Job *job = context;
    const Quantization *q = job->quantization;
    if (job->inner == 0) {
        fake_quantize_f32(job->x + begin, job->y + begin, end - begin, q->exponent, q->minimum, q->maximum, q->rounding);
        return;
    }
    for (int64_t block = begin; block < end; block++) { /* blocks of one channel each */
        int exponent = q->exponents[block % q->count];
        fake_quantize_f32(job->x + block * job->inner, job->y + block * job->inner, job->inner, exponent, q->minimum, q->maximum,
                          q->rounding);
    }
}

void quantization_apply(const Quantization *quantization, const Shape *shape, const float *x, float *y)
{
    Job job = {.quantization = quantization, .x = x, .y = y};
    int64_t count = shape_count(shape);
    if (quantization->count == 1) {
        threads_for(count, QUANTIZE_GRAIN, quantize_range, &job);
        return;
    }
    job.inner = 1;
    for (int i = quantization->axis + 1; i < shape->rank; i++)
        job.inner *= shape->dims[i];
    if (job.inner == 0 || count == 0) return;
    threads_for(count / job.inner, QUANTIZE_GRAIN / job.inner + 1, quantize_range, &job);
}
