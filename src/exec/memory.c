/* Places in the arena: what is alive at the same time lies apart, everything else shares. */
#include <stdlib.h>

#include "base/memory.h"
#include "exec/program.h"

typedef struct Block {
    int first, last; /* steps in which it is alive */
    size_t bytes, *offset;
    int order; /* ties are broken by the order of making */
} Block;

typedef struct Blocks {
    Block *items;
    size_t count, capacity;
} Blocks;

static size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static bool add_block(Blocks *blocks, int first, int last, size_t bytes, size_t *offset, Error *error)
{
    Block *items = memory_grow(blocks->items, blocks->count, &blocks->capacity, sizeof *items);
    if (!items) return fail_memory(error, blocks->count * sizeof *items);
    blocks->items = items;
    items[blocks->count] = (Block){first, last, round_up(bytes), offset, (int)blocks->count};
    blocks->count++;
    return true;
}

static int larger_first(const void *a, const void *b)
{
    const Block *left = a, *right = b;
    if (left->bytes != right->bytes) return left->bytes < right->bytes ? 1 : -1;
    return left->order - right->order;
}

static int lower_first(const void *a, const void *b)
{
    const Block *const *left = a, *const *right = b;
    size_t from = *(*left)->offset, to = *(*right)->offset;
    return from < to ? -1 : from > to;
}

/* Largest first, each at the lowest place that is free while it is alive. */
static bool place_blocks(Blocks *blocks, size_t *total, Error *error)
{
    *total = 0;
    if (!blocks->count) return true;
    qsort(blocks->items, blocks->count, sizeof *blocks->items, larger_first);
    Block **alive = memory_new_array(blocks->count, sizeof *alive);
    if (!alive) return fail_memory(error, blocks->count * sizeof *alive);
    for (size_t i = 0; i < blocks->count; i++) {
        Block *block = &blocks->items[i];
        size_t count = 0, offset = 0;
        for (size_t k = 0; k < i; k++)
            if (blocks->items[k].first <= block->last && block->first <= blocks->items[k].last) alive[count++] = &blocks->items[k];
        qsort(alive, count, sizeof *alive, lower_first);
        for (size_t k = 0; k < count; k++) {
            if (offset + block->bytes <= *alive[k]->offset) break;
            size_t end = *alive[k]->offset + alive[k]->bytes;
            if (end > offset) offset = end;
        }
        *block->offset = offset;
        if (offset + block->bytes > *total) *total = offset + block->bytes;
    }
    memory_free(alive);
    return true;
}

static size_t arena_share(const Program *program, const ProgramValue *value)
{
    return value->bytes * (size_t)(value->batched ? program->arena_pieces : 1);
}

static bool add_copies(Program *program, int index, Blocks *blocks, Error *error)
{
    ProgramStep *step = &program->steps[index];
    for (int i = 0; i < step->node->input_count + step->node->output_count; i++) {
        ProgramEnd *end = i < step->node->input_count ? &step->inputs[i] : &step->outputs[i - step->node->input_count];
        if (!end->copies) continue;
        if (!add_block(blocks, index, index, arena_share(program, &program->values[end->value]), &end->offset, error)) return false;
    }
    return true;
}

static void find_lives(Program *program)
{
    for (int i = 0; i < program->value_count; i++)
        program->values[i].first = program->values[i].last = -1;
    for (int i = 0; i < program->step_count; i++) {
        const ProgramStep *step = &program->steps[i];
        for (int k = 0; k < step->node->input_count; k++)
            if (step->inputs[k].value >= 0) program->values[step->inputs[k].value].last = i;
        for (int k = 0; k < step->node->output_count; k++) {
            if (step->outputs[k].value < 0) continue;
            ProgramValue *value = &program->values[step->outputs[k].value];
            value->first = i;
            value->last = i;
        }
    }
    for (int i = 0; i < program->value_count; i++) {
        ProgramValue *value = &program->values[i];
        if (value->held > value->last) value->last = value->held;
        if (value->wanted) value->last = program->step_count;
    }
}

/* May the step write its output where its input lies? Nobody else needs the input any more, and no watcher will be shown it. */
static bool takes_over(const Program *program, int index)
{
    const ProgramStep *step = &program->steps[index];
    const Node *node = step->node;
    if (!(node->op->flags & OPERATOR_IN_PLACE) || !node->input_count || step->inputs[0].value < 0 || step->outputs[0].value < 0)
        return false;
    const ProgramValue *from = &program->values[step->inputs[0].value], *to = &program->values[step->outputs[0].value];
    if (from->constant || from->outside || to->outside || from->first < 0 || from->last != index) return false;
    for (int i = 0; i < node->input_count; i++)
        if (step->inputs[i].watched) return false;
    return from->bytes == to->bytes && from->dtype == to->dtype && from->batched == to->batched;
}

static void find_homes(Program *program)
{
    for (int i = 0; i < program->value_count; i++) {
        program->values[i].home = i;
        program->values[i].until = program->values[i].last;
    }
    for (int i = 0; i < program->step_count; i++) {
        if (!takes_over(program, i)) continue;
        const ProgramStep *step = &program->steps[i];
        ProgramValue *to = &program->values[step->outputs[0].value];
        to->home = program->values[step->inputs[0].value].home;
        program->values[to->home].until = to->last;
    }
}

bool program_place(Program *program, Error *error)
{
    Blocks blocks = {0};
    bool done = true;
    find_lives(program);
    find_homes(program);
    for (int i = 0; i < program->value_count && done; i++) {
        ProgramValue *value = &program->values[i];
        if (value->first < 0 || value->outside || value->constant || value->home != i) continue;
        done = add_block(&blocks, value->first, value->until, arena_share(program, value), &value->offset, error);
    }
    for (int i = 0; i < program->step_count && done; i++)
        done = add_copies(program, i, &blocks, error);
    done = done && place_blocks(&blocks, &program->arena_bytes, error);
    for (int i = 0; i < program->value_count && done; i++)
        program->values[i].offset = program->values[program->values[i].home].offset;
    memory_free(blocks.items);
    return done;
}
