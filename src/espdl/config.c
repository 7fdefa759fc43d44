/* The .json beside a .espdl: the slot of every end, as it stands after lowering (QUANT §13). Nothing reads it back; it is for
 * people and for comparing. The labels `hash` and `dominator` are the slots' numbers, so that the same run gives the same text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/memory.h"
#include "espdl/export.h"

typedef struct Ends { /* of one node: inputs, then outputs */
    const Node *node;
    int count;
} Ends;

static Ends ends_of(const Node *node)
{
    return (Ends){node, node->quantized ? node->input_count + node->output_count : 0};
}

static const Value *end_value(const Ends *ends, int i)
{
    const Node *node = ends->node;
    return i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
}

static Slot *end_slot(const Ends *ends, int i)
{
    const Node *node = ends->node;
    return i < node->input_count ? node->input_slots[i] : node->output_slots[i - node->input_count];
}

/* Two ends of a node on one value have one entry, the last one's; ends that lowering made without a slot have none. */
static bool listed(const Ends *ends, int i)
{
    if (end_slot(ends, i)->bits == 0) return false;
    for (int k = i + 1; k < ends->count; k++) {
        if (end_value(ends, k) == end_value(ends, i) && end_slot(ends, k)->bits) return false;
    }
    return true;
}

static void write_policy(Json *json, const Slot *slot)
{
    const struct {
        const char *name;
        bool value;
    } rows[] = {{"PER_TENSOR", !slot->per_channel},
                {"PER_CHANNEL", slot->per_channel},
                {"LINEAR", true},
                {"FLOATING", false},
                {"SYMMETRICAL", true},
                {"ASYMMETRICAL", false},
                {"POWER_OF_2", true},
                {"DYNAMIC", false}};
    json_begin_object(json);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_key(json, rows[i].name);
        json_boolean(json, rows[i].value);
    }
    json_end_object(json);
}

static void write_slot(Json *json, Slot *slot)
{
    json_begin_object(json);
    json_key(json, "bit_width");
    json_integer(json, slot->bits);
    json_key(json, "policy");
    write_policy(json, slot);
    json_key(json, "state");
    /* The reference's exporter makes baked ends active again before it writes. */
    json_string(json, slot_state_name(slot->state == SLOT_BAKED           ? SLOT_ACTIVATED
                                      : slot->state == SLOT_PASSIVE_BAKED ? SLOT_PASSIVE
                                                                          : slot->state));
    json_key(json, "quant_min");
    json_integer(json, slot->minimum);
    json_key(json, "quant_max");
    json_integer(json, slot->maximum);
    json_key(json, "hash");
    json_integer(json, slot->id);
    json_key(json, "dominator");
    json_integer(json, slot_root(slot)->id);
    json_end_object(json);
}

static void write_numbers(Json *json, const Slot *root, bool scale)
{
    if (root->per_channel) json_begin_array(json);
    for (int i = 0; i < root->exponent_count; i++)
        json_number(json, scale ? ldexp(1, root->exponents[i]) : 0);
    if (root->per_channel) json_end_array(json);
}

static int by_id(const void *a, const void *b)
{
    const Slot *x = *(Slot *const *)a, *y = *(Slot *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Scales of all roots, each once. */
static bool write_values(Json *json, const Graph *device)
{
    size_t count = 0, made = 0;
    for (int i = 0; i < device->node_count; i++)
        count += (size_t)ends_of(device->nodes[i]).count;
    Slot **roots = memory_new_array(count + 1, sizeof *roots);
    if (!roots) return false;
    for (int i = 0; i < device->node_count; i++) {
        Ends ends = ends_of(device->nodes[i]);
        for (int k = 0; k < ends.count; k++)
            roots[made++] = slot_root(end_slot(&ends, k));
    }
    if (made) qsort(roots, made, sizeof *roots, by_id);
    json_begin_object(json);
    for (size_t i = 0; i < made; i++) {
        char label[24];
        if (roots[i]->state == SLOT_FP32 || !roots[i]->exponent_count || (i && roots[i]->id == roots[i - 1]->id)) continue;
        snprintf(label, sizeof label, "%u", roots[i]->id);
        json_key(json, label);
        json_begin_object(json);
        json_key(json, "scale");
        write_numbers(json, roots[i], true);
        json_key(json, "zero_point");
        write_numbers(json, roots[i], false);
        json_end_object(json);
    }
    json_end_object(json);
    memory_free(roots);
    return true;
}

bool espdl_config_json(const Graph *device, Text *text, Error *error)
{
    Json json = {.indent = 4};
    json_begin_object(&json);
    json_key(&json, "configs");
    json_begin_object(&json);
    for (int i = 0; i < device->node_count; i++) {
        Ends ends = ends_of(device->nodes[i]);
        if (!device->nodes[i]->quantized) continue;
        json_key(&json, device->nodes[i]->name);
        json_begin_object(&json);
        for (int k = 0; k < ends.count; k++) {
            const Value *value = end_value(&ends, k);
            if (!listed(&ends, k)) continue;
            json_key(&json, value ? value->name : "");
            write_slot(&json, end_slot(&ends, k));
        }
        json_end_object(&json);
    }
    json_end_object(&json);
    json_key(&json, "dispatchings");
    json_begin_object(&json);
    for (int i = 0; i < device->node_count; i++) {
        const Node *node = device->nodes[i];
        if (!node->quantized) continue;
        json_key(&json, node->name);
        json_string(&json, node->platform ? node->platform->name : platform_unspecified.name);
    }
    json_end_object(&json);
    json_key(&json, "values");
    bool ok = write_values(&json, device);
    json_end_object(&json);
    if (ok && !json.text.failed) text_add_bytes(text, json.text.data, json.text.length);
    ok = ok && !json.text.failed && !text->failed;
    size_t length = json.text.length;
    text_free(&json.text);
    return ok || fail_memory(error, length);
}
