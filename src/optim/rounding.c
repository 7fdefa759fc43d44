#include "optim/rounding.h"

#include <math.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernel/update.h"

#define GRAIN 16384 /* elements a thread takes at least */

bool soft_rounding_begin(SoftRounding *rounding, Slot *slot, const Tensor *weight, Error *error)
{
    int64_t count = tensor_count(weight);
    *rounding = (SoftRounding){.slot = slot, .count = count, .outer = 1, .inner = count, .channels = slot_exponent_count(slot)};
    rounding->floors = memory_new_array((size_t)count * 4 + 1, sizeof(float));
    if (!rounding->floors) return fail_memory(error, (size_t)count * 4 * sizeof(float));
    rounding->v = rounding->floors + count;
    rounding->seen = rounding->v + count;
    rounding->gradient = rounding->seen + count;
    if (rounding->channels > 1) {
        rounding->inner = 1;
        for (int i = 0; i < weight->shape.rank; i++) {
            if (i < slot_root(slot)->channel_axis) rounding->outer *= weight->shape.dims[i];
            if (i > slot_root(slot)->channel_axis) rounding->inner *= weight->shape.dims[i];
        }
    }
    for (int64_t i = 0; i < count; i++) {
        int channel = (int)(i / rounding->inner % rounding->channels);
        float scaled = ldexpf(tensor_floats(weight)[i], -slot_exponent(slot, channel));
        rounding->floors[i] = floorf(scaled);
        rounding->v[i] = -(float)espq_log(1.2 / ((double)(scaled - rounding->floors[i]) + 0.1) - 1);
    }
    return true;
}

void soft_rounding_end(SoftRounding *rounding)
{
    memory_free(rounding->floors);
    *rounding = (SoftRounding){0};
}

typedef struct RoundingTask {
    const SoftRounding *rounding;
    const float *to_seen; /* NULL: forward */
    float pull;
    int power;
} RoundingTask;

static void rounding_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const RoundingTask *task = context;
    const SoftRounding *rounding = task->rounding;
    const Slot *slot = slot_root(rounding->slot);
    for (int64_t at = begin; at < end;) {
        int64_t next = (at / rounding->inner + 1) * rounding->inner, count = (next < end ? next : end) - at;
        int channel = (int)(at / rounding->inner % rounding->channels);
        SoftRoundF32 round = {.scale = ldexpf(1.0f, slot_exponent(rounding->slot, channel)),
                              .minimum = (float)slot->minimum,
                              .maximum = (float)slot->maximum,
                              .pull = task->pull,
                              .power = task->power};
        if (task->to_seen)
            soft_round_gradient_f32(&round, rounding->floors + at, rounding->v + at, task->to_seen + at, rounding->gradient + at, count);
        else
            soft_round_f32(&round, rounding->floors + at, rounding->v + at, rounding->seen + at, count);
        at += count;
    }
}

void soft_rounding_see(SoftRounding *rounding)
{
    RoundingTask task = {.rounding = rounding};
    threads_for(rounding->count, GRAIN, rounding_body, &task);
}

void soft_rounding_back(SoftRounding *rounding, const float *to_seen, float pull, int power)
{
    RoundingTask task = {rounding, to_seen, pull, power};
    threads_for(rounding->count, GRAIN, rounding_body, &task);
}

void soft_rounding_harden(SoftRounding *rounding)
{
    const Slot *slot = slot_root(rounding->slot);
    for (int64_t i = 0; i < rounding->count; i++) {
        int channel = (int)(i / rounding->inner % rounding->channels);
        float whole = rounding->floors[i] + (rounding->v[i] >= 0 ? 1.0f : 0.0f);
        whole = fminf(fmaxf(whole, (float)slot->minimum), (float)slot->maximum);
        rounding->seen[i] = ldexpf(whole, slot_exponent(rounding->slot, channel));
    }
}
