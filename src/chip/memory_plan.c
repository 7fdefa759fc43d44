/* The runtime's planner: life times and in-place links first, then one walk over the steps with a best-fit list of free chunks. Its order of
 * lists and its stable sort decide where ties go, so they are kept. */
#include "chip/memory_plan.h"

#include <string.h>

#include "base/memory.h"
#include "chip/module.h"
#include "lower/device.h"

enum { ALIGNMENT = 16, FOREVER = -1, NOBODY = -1 };

static const int64_t most_bytes = INT64_C(1) << 40;

static int64_t round_up(int64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- life times (CHIP §3.2) ---- */

/* What the runtime keeps of a tensor while it looks at the nodes. */
typedef struct Life {
    int begin, end;
    int leader;       /* whose memory it uses */
    int dirty, clean; /* the last follower that overwrites it, and the last that is a view of it */
    bool output;      /* of the graph */
} Life;

typedef struct Planner {
    const MemoryPlanOptions *options;
    MemoryPlan *plan;
    Node *const *order;
    int count;
    Life *lives;
    Map indices; /* value's name → index + 1 */
    size_t tensor_capacity, life_capacity;
    Error *error;
} Planner;

static int index_of(const Planner *planner, const Value *value)
{
    return (int)(intptr_t)map_get(&planner->indices, value->name) - 1;
}

static bool bytes_of(Planner *planner, const Value *value, int64_t *bytes)
{
    const Shape *shape = planner->options->shape ? planner->options->shape(planner->options->context, value) : NULL;
    if (!shape && value->device) shape = &value->device->shape;
    if (!shape && value->shaped) shape = &value->shape;
    Dtype dtype = value->device ? value->device->dtype : value->dtype;
    if (!shape || dtype == DTYPE_NONE)
        return fail(planner->error, value->name, "export the model again", "the %s of this tensor is not known", shape ? "type" : "shape");
    *bytes = (int64_t)dtype_bytes(dtype);
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0 || (shape->dims[i] && *bytes > most_bytes / shape->dims[i]))
            return fail(planner->error, value->name, "export the model again with fixed sizes", "this tensor has an impossible size");
        *bytes *= shape->dims[i];
    }
    return true;
}

/* Numbers a value at its first appearance. */
static bool meet(Planner *planner, const Graph *device, const Value *value)
{
    MemoryPlan *plan = planner->plan;
    if (index_of(planner, value) >= 0) return true;
    int64_t bytes;
    if (!bytes_of(planner, value, &bytes)) return false;
    MemoryTensor *tensors = memory_grow(plan->tensors, (size_t)plan->count, &planner->tensor_capacity, sizeof *tensors);
    if (!tensors) return fail_memory(planner->error, sizeof *tensors);
    plan->tensors = tensors;
    Life *lives = memory_grow(planner->lives, (size_t)plan->count, &planner->life_capacity, sizeof *lives);
    if (!lives) return fail_memory(planner->error, sizeof *lives);
    planner->lives = lives;
    tensors[plan->count] = (MemoryTensor){.value = value, .bytes = bytes};
    lives[plan->count] = (Life){.begin = value_is_input(device, value) ? 0 : NOBODY,
                                .end = FOREVER,
                                .leader = NOBODY,
                                .dirty = NOBODY,
                                .clean = NOBODY,
                                .output = value_is_output(device, value)};
    if (!map_set(&planner->indices, value->name, (void *)(intptr_t)(plan->count + 1))) return fail_memory(planner->error, sizeof *lives);
    plan->count++;
    return true;
}

static bool is_variable(const Value *value)
{
    return value && !value->constant;
}

static bool number(Planner *planner, const Graph *device)
{
    for (int i = 0; i < planner->count; i++) {
        const Node *node = planner->order[i];
        for (int k = 0; k < node->input_count; k++) {
            if (is_variable(node->inputs[k]) && !meet(planner, device, node->inputs[k])) return false;
        }
        for (int k = 0; k < node->output_count; k++) {
            if (node->outputs[k] && !meet(planner, device, node->outputs[k])) return false;
        }
    }
    return true;
}

/* A link passes the time on to the root, and every tensor on the way keeps what the root has then. */
static void touch(Life *lives, int index, int time)
{
    int root = index;
    while (lives[root].leader != NOBODY)
        root = lives[root].leader;
    if (time == FOREVER || time > lives[root].end) lives[root].end = time;
    for (; index != root; index = lives[index].leader)
        lives[index].end = lives[root].end;
}

static void drop_dirty_follower(Life *lives, int index)
{
    if (lives[index].dirty == NOBODY) return;
    lives[lives[index].dirty].leader = NOBODY;
    lives[index].dirty = NOBODY;
}

/* The first input, in order, in whose memory the output fits and which is no result of the graph. */
static int host_of(const Planner *planner, const Node *node, int output)
{
    for (int k = 0; k < node->input_count; k++) {
        if (!is_variable(node->inputs[k])) continue;
        int input = index_of(planner, node->inputs[k]);
        if (planner->plan->tensors[input].bytes >= planner->plan->tensors[output].bytes && !planner->lives[input].output) return input;
    }
    return NOBODY;
}

static void live(Planner *planner, int step)
{
    const Node *node = planner->order[step];
    Life *lives = planner->lives;
    for (int k = 0; k < node->input_count; k++) {
        if (!is_variable(node->inputs[k])) continue;
        int input = index_of(planner, node->inputs[k]);
        drop_dirty_follower(lives, input); /* the input is needed again, so nobody may have overwritten it */
        if (!lives[input].output) touch(lives, input, step + 1);
    }
    for (int k = 0; k < node->output_count; k++) {
        if (node->outputs[k]) lives[index_of(planner, node->outputs[k])].begin = step;
    }
    const ChipModule *module = chip_module_find(node->type);
    if (!module || module->in_place == IN_PLACE_NONE || node->output_count != 1 || !node->outputs[0]) return;
    int output = index_of(planner, node->outputs[0]), host = host_of(planner, node, output);
    if (host == NOBODY || host == output) return;
    drop_dirty_follower(lives, host);
    touch(lives, host, FOREVER); /* the output has no end yet, and the runtime hands that on */
    if (module->in_place == IN_PLACE_UNCHANGED) {
        lives[output].leader = host;
        lives[host].clean = output;
    } else if (lives[host].clean == NOBODY) {
        lives[output].leader = host;
        lives[host].dirty = output;
    }
}

/* ---- places (CHIP §3.3) ---- */

typedef struct Chunk {
    int64_t size;
    int owner; /* index of a tensor; NOBODY: free */
    int next, previous;
    bool lost; /* neither owned nor in the list of free ones */
} Chunk;

typedef struct Pool {
    Chunk *chunks; /* linked by address */
    int count, first, last;
    size_t chunk_capacity, free_capacity;
    int *free; /* by size; equals in the order in which they came */
    int free_count;
    int *chunk_of; /* tensor → chunk */
} Pool;

static int new_chunk(Pool *pool, int64_t size, int owner, int behind)
{
    Chunk *chunks = memory_grow(pool->chunks, (size_t)pool->count, &pool->chunk_capacity, sizeof *chunks);
    if (!chunks) return NOBODY;
    pool->chunks = chunks;
    int made = pool->count++, next = behind == NOBODY ? pool->first : chunks[behind].next;
    chunks[made] = (Chunk){.size = size, .owner = owner, .next = next, .previous = behind};
    *(behind == NOBODY ? &pool->first : &chunks[behind].next) = made;
    *(next == NOBODY ? &pool->last : &chunks[next].previous) = made;
    return made;
}

static bool list_free(Pool *pool, int chunk)
{
    int *list = memory_grow(pool->free, (size_t)pool->free_count, &pool->free_capacity, sizeof *list);
    if (!list) return false;
    pool->free = list;
    int at = pool->free_count++;
    for (; at > 0 && pool->chunks[list[at - 1]].size > pool->chunks[chunk].size; at--)
        list[at] = list[at - 1];
    list[at] = chunk;
    return true;
}

static void unlist_free(Pool *pool, int chunk)
{
    int at = 0;
    while (at < pool->free_count && pool->free[at] != chunk)
        at++;
    if (at == pool->free_count) return;
    memmove(pool->free + at, pool->free + at + 1, (size_t)(pool->free_count - at - 1) * sizeof *pool->free);
    pool->free_count--;
}

static bool is_free(const Pool *pool, int chunk)
{
    return chunk != NOBODY && pool->chunks[chunk].owner == NOBODY && !pool->chunks[chunk].lost;
}

/* Takes over a free neighbour. */
static void swallow(Pool *pool, int chunk, int neighbour)
{
    Chunk *chunks = pool->chunks, *gone = &chunks[neighbour];
    unlist_free(pool, neighbour);
    chunks[chunk].size += gone->size;
    *(gone->previous == NOBODY ? &pool->first : &chunks[gone->previous].next) = gone->next;
    *(gone->next == NOBODY ? &pool->last : &chunks[gone->next].previous) = gone->previous;
}

static bool release(Pool *pool, int tensor)
{
    int chunk = pool->chunk_of[tensor];
    if (chunk == NOBODY || pool->chunks[chunk].lost) return true;
    pool->chunks[chunk].owner = NOBODY;
    if (is_free(pool, pool->chunks[chunk].next)) swallow(pool, chunk, pool->chunks[chunk].next);
    if (is_free(pool, pool->chunks[chunk].previous)) swallow(pool, chunk, pool->chunks[chunk].previous);
    return list_free(pool, chunk);
}

/* The smallest free chunk that is large enough, split; *found false: there is none. False: memory. */
static bool best_fit(Pool *pool, int tensor, int64_t bytes, bool *found)
{
    int64_t need = round_up(bytes);
    *found = false;
    for (int i = 0; i < pool->free_count; i++) {
        int chunk = pool->free[i];
        if (pool->chunks[chunk].size < bytes) continue;
        unlist_free(pool, chunk);
        *found = true;
        pool->chunk_of[tensor] = chunk;
        if (pool->chunks[chunk].size < need) { /* the tail of an internal pool: the runtime uses it once and loses it */
            pool->chunks[chunk].lost = true;
            return true;
        }
        pool->chunks[chunk].owner = tensor;
        if (pool->chunks[chunk].size == need) return true;
        int rest = new_chunk(pool, pool->chunks[chunk].size - need, NOBODY, chunk);
        if (rest == NOBODY) return false;
        pool->chunks[chunk].size = need;
        return list_free(pool, rest);
    }
    return true;
}

static bool place(Pool *pool, int tensor, int64_t bytes)
{
    bool found;
    if (!best_fit(pool, tensor, bytes, &found)) return false;
    if (found) return true;
    if (is_free(pool, pool->last)) {
        unlist_free(pool, pool->last);
        pool->chunks[pool->last].size = round_up(bytes);
        pool->chunks[pool->last].owner = tensor;
        pool->chunk_of[tensor] = pool->last;
        return true;
    }
    pool->chunk_of[tensor] = new_chunk(pool, round_up(bytes), tensor, pool->last);
    return pool->chunk_of[tensor] != NOBODY;
}

static int64_t offset_of(const Pool *pool, int chunk)
{
    int64_t offset = 0;
    for (chunk = pool->chunks[chunk].previous; chunk != NOBODY; chunk = pool->chunks[chunk].previous)
        offset += pool->chunks[chunk].size;
    return offset;
}

static bool open_pool(Pool *pool, int tensors)
{
    *pool = (Pool){.first = NOBODY, .last = NOBODY, .chunk_of = memory_new_array((size_t)tensors + 1, sizeof *pool->chunk_of)};
    for (int i = 0; pool->chunk_of && i < tensors; i++)
        pool->chunk_of[i] = NOBODY;
    return pool->chunk_of != NULL;
}

static void close_pool(Pool *pool)
{
    memory_free(pool->chunks);
    memory_free(pool->free);
    memory_free(pool->chunk_of);
}

/* The tensors that begin or end at a step, in the order of their numbers: lists by step. */
typedef struct Agenda {
    int *first, *next; /* by step; by tensor */
} Agenda;

static bool agenda(Agenda *list, const Planner *planner, bool begins)
{
    int steps = planner->count, count = planner->plan->count;
    list->first = memory_new_array((size_t)steps + 1, sizeof *list->first);
    list->next = memory_new_array((size_t)count + 1, sizeof *list->next);
    if (!list->first || !list->next) return false;
    for (int i = 0; i < steps; i++)
        list->first[i] = NOBODY;
    for (int i = count - 1; i >= 0; i--) {
        int step = begins ? planner->lives[i].begin : planner->lives[i].end;
        if (planner->lives[i].leader != NOBODY || step < 0 || step >= steps) continue;
        list->next[i] = list->first[step];
        list->first[step] = i;
    }
    return true;
}

static bool walk(Planner *planner, Pool *main, Pool *internal, bool two)
{
    MemoryPlan *plan = planner->plan;
    Agenda begins = {0}, ends = {0};
    bool fine = agenda(&begins, planner, true) && agenda(&ends, planner, false);
    int64_t alive = 0;
    for (int step = 0; fine && step < planner->count; step++) {
        for (int i = ends.first[step]; fine && i != NOBODY; i = ends.next[i]) {
            if (planner->lives[i].begin == NOBODY) continue;
            fine = release(plan->tensors[i].internal ? internal : main, i);
            alive -= round_up(plan->tensors[i].bytes);
        }
        for (int i = begins.first[step]; fine && i != NOBODY; i = begins.next[i]) {
            MemoryTensor *tensor = &plan->tensors[i];
            if (two) fine = best_fit(internal, i, tensor->bytes, &tensor->internal);
            if (fine && !tensor->internal) fine = place(main, i, tensor->bytes);
            Pool *pool = tensor->internal ? internal : main;
            if (fine) tensor->offset = offset_of(pool, pool->chunk_of[i]);
            alive += round_up(tensor->bytes);
        }
        if (alive > plan->live_bytes) {
            plan->live_bytes = alive;
            plan->live_step = step;
        }
    }
    memory_free(begins.first);
    memory_free(begins.next);
    memory_free(ends.first);
    memory_free(ends.next);
    return fine || fail_memory(planner->error, (size_t)plan->count * sizeof(Chunk));
}

static bool put(Planner *planner)
{
    MemoryPlan *plan = planner->plan;
    bool two = planner->options->max_internal_bytes > ALIGNMENT;
    Pool main = {0}, internal = {0};
    bool fine = open_pool(&main, plan->count) && open_pool(&internal, plan->count);
    if (fine && two) {
        int whole = new_chunk(&internal, planner->options->max_internal_bytes, NOBODY, NOBODY);
        fine = whole != NOBODY && list_free(&internal, whole);
    }
    fine = fine ? walk(planner, &main, &internal, two) : fail_memory(planner->error, (size_t)plan->count * sizeof(Chunk));
    for (int chunk = fine ? main.first : NOBODY; chunk != NOBODY; chunk = main.chunks[chunk].next)
        plan->variable_bytes += main.chunks[chunk].size;
    if (two) plan->internal_bytes = planner->options->max_internal_bytes;
    close_pool(&main);
    close_pool(&internal);
    return fine;
}

/* What tensors without memory of their own have is their root's. */
static void settle(Planner *planner)
{
    for (int i = 0; i < planner->plan->count; i++) {
        MemoryTensor *tensor = &planner->plan->tensors[i];
        int root = i;
        while (planner->lives[root].leader != NOBODY)
            root = planner->lives[root].leader;
        tensor->leader = root == i ? NOBODY : root;
        tensor->begin = planner->lives[i].begin;
        tensor->end = planner->lives[root].end;
        tensor->offset = planner->plan->tensors[root].offset;
        tensor->internal = planner->plan->tensors[root].internal;
    }
}

bool memory_plan(const Graph *device, const MemoryPlanOptions *options, MemoryPlan *plan, Error *error)
{
    memset(plan, 0, sizeof *plan);
    Planner planner = {.options = options,
                       .plan = plan,
                       .order = options->order ? options->order : device->nodes,
                       .count = options->order ? options->count : device->node_count,
                       .error = error};
    plan->steps = planner.count;
    bool fine = number(&planner, device);
    for (int step = 0; fine && step < planner.count; step++)
        live(&planner, step);
    fine = fine && put(&planner);
    if (fine) settle(&planner);
    memory_free(planner.lives);
    map_free(&planner.indices);
    if (!fine) memory_plan_free(plan);
    return fine;
}

void memory_plan_free(MemoryPlan *plan)
{
    memory_free(plan->tensors);
    memset(plan, 0, sizeof *plan);
}
