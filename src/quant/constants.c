/* Constants by their slots: integers (QUANT §7.4), and rounded values (§7.3 baking). */
#include <string.h>

#include "base/memory.h"
#include "kernel/quantize.h"
#include "quant/quantize.h"

/* A constant as rows of one channel: outer runs of `inner` elements, `channels` apart. */
typedef struct Channels {
    int64_t outer, channels, inner;
} Channels;

static bool channels_of(const Tensor *constant, Slot *slot, Channels *channels, Error *error)
{
    int count = slot_exponent_count(slot);
    *channels = (Channels){1, 1, tensor_count(constant)};
    if (count == 0) return fail_as(error, ERROR_INTERNAL, NULL, NULL, "a constant has no exponent yet");
    if (count == 1) return true;
    int axis = slot_root(slot)->channel_axis;
    if (axis < 0 || axis >= constant->shape.rank || constant->shape.dims[axis] != count) {
        return fail_as(error, ERROR_INTERNAL, NULL, NULL, "a constant has %d exponents that do not fit its axis %d", count, axis);
    }
    *channels = (Channels){1, count, 1};
    for (int i = 0; i < axis; i++)
        channels->outer *= constant->shape.dims[i];
    for (int i = axis + 1; i < constant->shape.rank; i++)
        channels->inner *= constant->shape.dims[i];
    return true;
}

static void gather(const float *x, const Channels *channels, int64_t channel, float *row)
{
    for (int64_t o = 0; o < channels->outer; o++) {
        memcpy(row + o * channels->inner, x + (o * channels->channels + channel) * channels->inner, (size_t)channels->inner * sizeof *row);
    }
}

static void scatter(char *out, const Channels *channels, int64_t channel, const char *row, size_t item)
{
    size_t run = (size_t)channels->inner * item;
    for (int64_t o = 0; o < channels->outer; o++)
        memcpy(out + (size_t)(o * channels->channels + channel) * run, row + (size_t)o * run, run);
}

static Dtype integer_dtype(int bits)
{
    return bits <= 8 ? DTYPE_INT8 : bits <= 16 ? DTYPE_INT16 : bits <= 32 ? DTYPE_INT32 : DTYPE_INT64;
}

Tensor *quantize_constant(const Tensor *constant, Slot *slot, bool wide, int64_t *saturated, Error *error)
{
    Channels channels;
    *saturated = 0;
    if (constant->dtype != DTYPE_FLOAT32) {
        fail_as(error, ERROR_INTERNAL, NULL, NULL, "a constant of type %s cannot be quantized", dtype_name(constant->dtype));
        return NULL;
    }
    if (!channels_of(constant, slot, &channels, error)) return NULL;
    Tensor *integers = tensor_new(integer_dtype(slot->bits), &constant->shape, error);
    if (!integers) return NULL;
    size_t item = dtype_bytes(integers->dtype);
    int64_t each = channels.outer * channels.inner;
    if (channels.channels == 1) {
        *saturated = quantize_f32(tensor_floats(constant), integers->data, (int)item, each, slot_exponent(slot, 0), slot->minimum,
                                  slot->maximum, slot->rounding, wide);
        return integers;
    }
    size_t even = (size_t)(each + each % 2), bytes = even * sizeof(float) + (size_t)each * item; /* even: int64 behind it is aligned */
    float *row = memory_new(bytes);
    if (!row) {
        tensor_release(integers);
        fail_memory(error, bytes);
        return NULL;
    }
    char *quantized = (char *)(row + even);
    for (int64_t c = 0; c < channels.channels; c++) {
        gather(tensor_floats(constant), &channels, c, row);
        *saturated +=
            quantize_f32(row, quantized, (int)item, each, slot_exponent(slot, (int)c), slot->minimum, slot->maximum, slot->rounding, wide);
        scatter(integers->data, &channels, c, quantized, item);
    }
    memory_free(row);
    return integers;
}

static Tensor *rounded_constant(const Tensor *constant, Slot *slot, Error *error)
{
    Channels channels;
    if (!channels_of(constant, slot, &channels, error)) return NULL;
    Tensor *rounded = tensor_copy(constant, error);
    int64_t each = channels.outer * channels.inner;
    float *row = rounded ? memory_new((size_t)each * sizeof *row) : NULL;
    if (!row) {
        if (rounded) fail_memory(error, (size_t)each * sizeof *row);
        tensor_release(rounded);
        return NULL;
    }
    for (int64_t c = 0; c < channels.channels; c++) {
        gather(tensor_floats(constant), &channels, c, row);
        fake_quantize_f32(row, row, each, slot_exponent(slot, (int)c), slot->minimum, slot->maximum, slot->rounding);
        scatter(rounded->data, &channels, c, (const char *)row, sizeof *row);
    }
    memory_free(row);
    return rounded;
}

/* A shared constant is rounded for each reader on its own: their exponents may differ. */
static bool bake_input(Graph *graph, Node *node, int index, Error *error)
{
    Slot *slot = node->input_slots[index];
    Value *value = node->inputs[index];
    Tensor *rounded = rounded_constant(value->constant, slot, error);
    if (!rounded) return false;
    Tensor *exact = tensor_retain(value->unbaked ? value->unbaked : value->constant); /* a corrected bias: as it was before */
    bool ok;
    if (node->inputs[index]->use_count > 1) {
        Value *own = graph_add_constant(graph, NULL, rounded, error);
        ok = own && node_set_input(graph, node, index, own, error);
    } else {
        ok = value_set_constant(graph, node->inputs[index], rounded) || fail_memory(error, sizeof(Value));
    }
    tensor_release(rounded);
    if (ok)
        node->inputs[index]->unbaked = exact;
    else
        tensor_release(exact);
    if (ok) slot->state = slot->state == SLOT_PASSIVE ? SLOT_PASSIVE_BAKED : SLOT_BAKED;
    return ok;
}

bool pass_baking(Graph *graph, PassContext *context, Error *error)
{
    (void)context;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++) {
            const Value *value = node->inputs[k];
            if (!value || !value->constant || !slot_quantizes(node->input_slots[k]) || value->constant->dtype != DTYPE_FLOAT32) continue;
            if (!bake_input(graph, node, k, error)) return false;
        }
    }
    return true;
}
