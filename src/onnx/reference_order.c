/* The order in which the reference lists a model's tensors: that of a Python set of their names with hash seed 0 (EXPORT §11.4).
 * Names it generates, and the order of several graph inputs or outputs, depend on it; espq's own files do not. */
#include <string.h>

#include "base/memory.h"
#include "onnx/onnx.h"

static uint64_t turn(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = turn(v[1], 13) ^ v[0];
    v[0] = turn(v[0], 32);
    v[2] += v[3];
    v[3] = turn(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = turn(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = turn(v[1], 17) ^ v[2];
    v[2] = turn(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein) with key 0 */
static uint64_t sip_hash(const uint8_t *bytes, size_t count)
{
    uint64_t v[4] = {0x736f6d6570736575u, 0x646f72616e646f6du, 0x6c7967656e657261u, 0x7465646279746573u};
    for (size_t at = 0;; at += 8) {
        size_t left = count - at, take = left < 8 ? left : 8;
        uint64_t word = 0;
        for (size_t i = 0; i < take; i++)
            word |= (uint64_t)bytes[at + i] << 8 * i;
        if (left < 8) word |= (uint64_t)count << 56;
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (left < 8) break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Code point of the UTF-8 sequence at *text, which moves on; a stray byte stands for itself. */
static uint32_t code_point(const uint8_t **text)
{
    const uint8_t *t = *text;
    int more = t[0] >= 0xf0 ? 3 : t[0] >= 0xe0 ? 2 : t[0] >= 0xc0 ? 1 : 0;
    uint32_t code = more == 3 ? t[0] & 7u : more == 2 ? t[0] & 15u : more ? t[0] & 31u : t[0];
    for (int i = 1; i <= more; i++) {
        if ((t[i] & 0xc0) != 0x80) {
            (*text)++;
            return t[0];
        }
        code = code << 6 | (t[i] & 63u);
    }
    *text += more + 1;
    return code;
}

/* Python hashes the text as it stores it: one, two or four bytes a character, whichever the largest character needs. */
static bool hash_of(const char *name, uint64_t *hash)
{
    uint32_t largest = 0;
    size_t count = 0;
    for (const uint8_t *at = (const uint8_t *)name; *at; count++) {
        uint32_t code = code_point(&at);
        if (code > largest) largest = code;
    }
    size_t width = largest < 256 ? 1 : largest < 65536 ? 2 : 4, made = 0;
    uint8_t *bytes = memory_new(count * width + 1);
    if (!bytes) return false;
    for (const uint8_t *at = (const uint8_t *)name; *at;) {
        uint32_t code = code_point(&at);
        for (size_t i = 0; i < width; i++)
            bytes[made++] = (uint8_t)(code >> 8 * i);
    }
    *hash = count ? sip_hash(bytes, count * width) : 0;
    if (*hash == UINT64_MAX) *hash = UINT64_MAX - 1;
    memory_free(bytes);
    return true;
}

typedef struct Slot64 {
    bool taken;
    uint64_t hash;
    Value *value; /* NULL: the empty name of inputs left out */
} Slot64;

typedef struct Set {
    Slot64 *slots;
    size_t size, used;
} Set;

enum { LINEAR_PROBES = 9 };

/* The slot where an entry belongs: the first free one, or the one that holds the same value. */
static Slot64 *find(const Set *set, uint64_t hash, const Value *value)
{
    size_t mask = set->size - 1, i = (size_t)hash & mask;
    for (uint64_t perturb = hash;; i = (i * 5 + 1 + (size_t)perturb) & mask) {
        size_t last = i + LINEAR_PROBES <= mask ? i + LINEAR_PROBES : i;
        for (size_t k = i; k <= last; k++) {
            Slot64 *slot = &set->slots[k];
            if (!slot->taken || (slot->hash == hash && slot->value == value)) return slot;
        }
        perturb >>= 5;
    }
}

static bool add(Set *set, Value *value, Error *error)
{
    uint64_t hash = 0;
    if (value && !hash_of(value->name, &hash)) return fail_memory(error, strlen(value->name));
    Slot64 *slot = find(set, hash, value);
    if (slot->taken) return true;
    *slot = (Slot64){true, hash, value};
    if (++set->used * 5 < (set->size - 1) * 3) return true;
    Set larger = {.size = 8, .used = set->used};
    while (larger.size <= set->used * (set->used > 50000 ? 2 : 4))
        larger.size *= 2;
    if (!(larger.slots = memory_new_array(larger.size, sizeof *larger.slots)))
        return fail_memory(error, larger.size * sizeof *larger.slots);
    for (size_t i = 0; i < set->size; i++) {
        if (set->slots[i].taken) *find(&larger, set->slots[i].hash, set->slots[i].value) = set->slots[i];
    }
    memory_free(set->slots);
    *set = larger;
    return true;
}

bool onnx_reference_order(Graph *graph, Error *error)
{
    Set set = {.size = 8};
    Value **ordered = memory_new_array((size_t)graph->value_count + 1, sizeof *ordered);
    set.slots = memory_new_array(set.size, sizeof *set.slots);
    bool ok = (ordered && set.slots) || fail_memory(error, (size_t)graph->value_count * sizeof *ordered);
    for (int i = 0; ok && i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; ok && k < node->input_count; k++)
            ok = add(&set, node->inputs[k], error);
        for (int k = 0; ok && k < node->output_count; k++)
            ok = add(&set, node->outputs[k], error);
    }
    if (ok) {
        int made = 0;
        for (size_t i = 0; i < set.size; i++) {
            if (set.slots[i].taken && set.slots[i].value) ordered[made++] = set.slots[i].value;
        }
        for (int i = 0; i < graph->value_count; i++) { /* what no node reads or makes stands behind, in the file's order */
            const Value *value = graph->values[i];
            if (!value->producer && !value->use_count) ordered[made++] = graph->values[i];
        }
        memcpy(graph->values, ordered, (size_t)made * sizeof *ordered);
    }
    memory_free(ordered);
    memory_free(set.slots);
    return ok;
}
