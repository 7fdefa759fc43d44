/* Simulation and chip, tensor by tensor. For each tensor that the chip makes and the user's graph knows, the part of the graph between it and
 * the nearest such tensors is a block. A block is simulated twice a sample: on the chip's own inputs, which shows what the node adds by
 * itself, and as part of the whole graph. */
#include "analyse/compare.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"
#include "exec/feed.h"
#include "exec/plan.h"

enum { MOST_GIVEN = 16 };

typedef struct Block {
    CompareRow row;
    Value *value;       /* of the user's graph */
    const Node *device; /* the chip's node that makes it; NULL: a graph input */
    const char *undefined;
    Value *given[MOST_GIVEN]; /* what the block reads */
    int given_count;
    bool unknown; /* it reads what the chip does not show */
    Plan *plan;
    Tensor *chip; /* of the sample at hand: what the chip computed, as floats in the user's layout */
} Block;

typedef struct Compare {
    Graph *graph, *device;
    const CompareOptions *options;
    ChipPlan *plan;
    Plan *whole;
    Block *blocks; /* in the order in which the chip makes them */
    int count;
    size_t capacity;
    Value **wanted;
    Tensor **simulated;
    bool prepared;
    int64_t samples;
} Compare;

static Block *find_block(const Compare *compare, const Value *value)
{
    for (int i = 0; i < compare->count; i++)
        if (compare->blocks[i].value == value) return &compare->blocks[i];
    return NULL;
}

/* ---- what the chip shows ---- */

static Value *known_value(const Compare *compare, const Value *seen)
{
    Value *value = graph_value(compare->graph, seen->name);
    if (!value && seen->device && seen->device->replaces) value = graph_value(compare->graph, seen->device->replaces);
    return value && !value->constant ? value : NULL;
}

/* The chip's tensor as floats in the user's layout; *out NULL where its shape is not the user's. */
static bool as_user(const ChipSeen *seen, Tensor **out, Error *error)
{
    const DeviceValue *device = seen->value->device;
    int back[ESPQ_MAX_RANK];
    Tensor stored = *seen->tensor;
    bool turns = device && device->perm_known && device->perm_rank == stored.shape.rank;
    for (int i = 0; turns && i < device->perm_rank; i++)
        back[device->perm[i]] = i;
    Tensor *turned = turns ? tensor_transpose(&stored, back, error) : tensor_copy(&stored, error);
    *out = turned ? tensor_convert(turned, DTYPE_FLOAT32, error) : NULL;
    tensor_release(turned);
    if (!*out) return false;
    bool integers = stored.dtype == DTYPE_INT8 || stored.dtype == DTYPE_INT16;
    float scale = integers && device && device->exponent_count ? ldexpf(1, device->exponents[0]) : 1;
    float *numbers = tensor_floats(*out);
    for (int64_t i = 0, count = tensor_count(*out); i < count && scale != 1; i++)
        numbers[i] *= scale;
    return true;
}

/* The user's node that stands for the chip's: its names live as long as the graph. */
static const char *users_node(const Value *value, const Node *made_by, const Graph *graph, const char **type)
{
    const Node *node = made_by ? graph_node(graph, made_by->name) : NULL;
    if (!node) node = value->producer;
    *type = node ? node->type : "";
    return node ? node->name : value->name;
}

static Block *add_block(Compare *compare, const ChipSeen *seen, Value *value, Error *error)
{
    Block *blocks = memory_grow(compare->blocks, (size_t)compare->count + 1, &compare->capacity, sizeof *blocks);
    if (!blocks) {
        fail_memory(error, ((size_t)compare->count + 1) * sizeof *blocks);
        return NULL;
    }
    compare->blocks = blocks;
    Block *block = &compare->blocks[compare->count++];
    *block = (Block){.value = value, .device = seen->node, .undefined = seen->undefined};
    block->row.node = users_node(value, seen->node, compare->graph, &block->row.type);
    block->row.tensor = value->name;
    const DeviceValue *device = seen->value->device;
    Dtype dtype = seen->tensor->dtype;
    block->row.bits = dtype == DTYPE_INT8 ? 8 : dtype == DTYPE_INT16 ? 16 : 32;
    if (block->row.bits < 32) block->row.step = ldexp(1, device && device->exponent_count ? device->exponents[0] : 0);
    return block;
}

static bool see(void *context, const ChipSeen *seen, Error *error)
{
    Compare *compare = context;
    Value *value = known_value(compare, seen->value);
    Dtype dtype = seen->tensor->dtype;
    if (!value || (dtype != DTYPE_INT8 && dtype != DTYPE_INT16 && dtype != DTYPE_FLOAT32)) return true;
    Block *block = find_block(compare, value);
    if (!block && (compare->prepared || !(block = add_block(compare, seen, value, error)))) return compare->prepared;
    tensor_release(block->chip);
    block->chip = NULL;
    return as_user(seen, &block->chip, error);
}

/* ---- blocks ---- */

static bool reads(const Block *block, const Value *value)
{
    for (int i = 0; i < block->given_count; i++)
        if (block->given[i] == value) return true;
    return false;
}

/* Walks back from the node to what the chip showed. */
static void collect(const Compare *compare, Block *block, const Node *node, int depth)
{
    for (int i = 0; i < node->input_count && !block->unknown; i++) {
        Value *value = node->inputs[i];
        if (!value || value->constant || reads(block, value)) continue;
        const Block *from = find_block(compare, value);
        if (from && from->chip && block->given_count < MOST_GIVEN)
            block->given[block->given_count++] = value;
        else if (!from && value->producer && depth < 64)
            collect(compare, block, value->producer, depth + 1);
        else
            block->unknown = true;
    }
}

static const char *cause_of(const Compare *compare, const Block *block)
{
    const Chip *chip = compare->options->chip;
    const Node *node = block->device;
    if (block->undefined) return block->undefined;
    const char *type = node->type, *width = node_string(node, "quant_type", "F32");
    bool sums = strcmp(type, "Conv") == 0 || strcmp(type, "Gemm") == 0 || strcmp(type, "MatMul") == 0;
    bool wide = strcmp(width, "S16") == 0;
    if (block->row.headroom.saturated) return "sums leave the accumulators (C1)";
    if (sums && !wide && chip_has(chip, TRAIT_LANES_SATURATE)) return "sums or biases that leave the 20 bits of the accumulators (C1, C2)";
    if (sums && wide) return "16 bits: the simulation's float32 rounds sums that the chip keeps whole (C33)";
    if (node_attribute(node, "lut")) return wide ? "a table of 16 bits: the chip takes the nearest entry (C12)" : "a table";
    if (strcmp(type, "PRelu") == 0 && (chip_has(chip, TRAIT_PRELU_FLOOR) || chip_has(chip, TRAIT_PRELU_POSITIVE_RAW)))
        return "PRelu's kernels do not round everywhere, and take the last stored axis for channels (C23, C36)";
    if (strcmp(type, "AveragePool") == 0 && chip_has(chip, TRAIT_POOL_COUNTS_PADDING)) return "the chip divides by the whole window (C19)";
    if (strcmp(type, "Mul") == 0 && wide) return "16 bits: products do not fit a float32 (C25)";
    if (strcmp(width, "F32") == 0) return "computed in floats on the chip, in its order";
    return "rounded at other places than in the simulation";
}

static bool prepare(Compare *compare, Tensor *const *inputs, Error *error)
{
    int count = compare->count;
    compare->wanted = memory_new_array((size_t)count + 1, sizeof *compare->wanted);
    compare->simulated = memory_new_array((size_t)count + 1, sizeof *compare->simulated);
    Shape *shapes = memory_new_array((size_t)compare->graph->input_count + 1, sizeof *shapes);
    bool fine = compare->wanted && compare->simulated && shapes;
    if (!fine) fail_memory(error, (size_t)count * sizeof *compare->wanted);
    for (int i = 0; fine && i < count; i++)
        compare->wanted[i] = compare->blocks[i].value;
    for (int i = 0; fine && i < compare->graph->input_count; i++)
        shapes[i] = inputs[i]->shape;
    PlanOptions options = {.mode = EXEC_SIMULATED, .exact = compare->options->exact, .wanted = compare->wanted, .wanted_count = count};
    if (!compare->options->alone) fine = fine && (compare->whole = plan_new(compare->graph, &options, shapes, error));
    memory_free(shapes);
    for (int i = 0; fine && i < count; i++) {
        Block *block = &compare->blocks[i];
        Shape given[MOST_GIVEN];
        Value *wanted[1] = {block->value};
        block->unknown = !block->value->producer;
        if (!block->unknown) collect(compare, block, block->value->producer, 0);
        if (block->unknown || !block->given_count) continue;
        for (int k = 0; k < block->given_count; k++)
            given[k] = find_block(compare, block->given[k])->chip->shape;
        options.wanted = wanted;
        options.wanted_count = 1;
        options.given = block->given;
        options.given_count = block->given_count;
        fine = (block->plan = plan_new(compare->graph, &options, given, error));
    }
    compare->prepared = fine;
    return fine;
}

/* ---- figures ---- */

static void add_parting(Parting *parting, const Tensor *simulated, const Tensor *chip, double step)
{
    const float *a = tensor_floats(simulated), *b = tensor_floats(chip);
    for (int64_t i = 0, count = tensor_count(chip); i < count; i++) {
        if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))) continue;
        double apart = fabs((double)a[i] - b[i]);
        if (step > 0) apart /= step;
        if (step > 0 ? apart <= 0.5 : apart <= 1e-6 * fmax(fabs((double)a[i]), fabs((double)b[i]))) continue;
        parting->differing++;
        if (isnan(apart)) apart = INFINITY;
        parting->sum += apart;
        if (apart > parting->largest) parting->largest = apart;
    }
}

static bool comparable(const Tensor *simulated, const Tensor *chip)
{
    return simulated && simulated->dtype == DTYPE_FLOAT32 && tensor_count(simulated) == tensor_count(chip);
}

static bool judge_sample(Compare *compare, Tensor *const *inputs, Error *error)
{
    if (compare->whole && !plan_run(compare->whole, inputs, compare->simulated, error)) return false;
    bool fine = true;
    for (int i = 0; fine && i < compare->count; i++) {
        Block *block = &compare->blocks[i];
        if (!block->chip) continue;
        block->row.count += tensor_count(block->chip);
        if (comparable(compare->simulated[i], block->chip)) {
            block->row.followed = true;
            add_parting(&block->row.together, compare->simulated[i], block->chip, block->row.step);
        }
        if (!block->plan) continue;
        Tensor *given[MOST_GIVEN], *made = NULL;
        for (int k = 0; k < block->given_count; k++)
            given[k] = find_block(compare, block->given[k])->chip;
        fine = plan_run(block->plan, given, &made, error);
        if (fine && comparable(made, block->chip)) {
            block->row.isolated = true;
            add_parting(&block->row.alone, made, block->chip, block->row.step);
        }
        tensor_release(made);
    }
    for (int i = 0; i < compare->count; i++) {
        tensor_release(compare->simulated[i]);
        compare->simulated[i] = NULL;
    }
    return fine;
}

/* ---- samples ---- */

/* Sample `index` of a batch: `first` entries along axis 0. */
static Tensor *take_sample(Tensor *batch, int64_t first, int64_t index, Error *error)
{
    if (!batch->shape.rank || batch->shape.dims[0] == first) return tensor_contiguous(batch, error);
    Shape shape = batch->shape;
    shape.dims[0] = first;
    Tensor *view = tensor_view_strided(batch, &shape, batch->strides, index * first * batch->strides[0], error);
    Tensor *sample = view ? tensor_contiguous(view, error) : NULL;
    tensor_release(view);
    return sample;
}

static int64_t first_dimension(const Compare *compare, int input)
{
    const Value *value = compare->graph->inputs[input];
    return value->shaped && value->shape.rank && value->shape.dims[0] > 0 ? value->shape.dims[0] : 1;
}

static bool run_sample(Compare *compare, Tensor *const *inputs, Error *error)
{
    Tensor *nothing[1];
    if (!chip_plan_run(compare->plan, inputs, nothing, error)) return false;
    if (!compare->prepared && !prepare(compare, inputs, error)) return false;
    compare->samples++;
    return judge_sample(compare, inputs, error);
}

static bool run_batch(Compare *compare, const Chunk *chunk, Error *error)
{
    int count = compare->graph->input_count;
    Tensor *sample[64];
    bool fine = count <= 64 || fail(error, NULL, NULL, "%d inputs are more than can be compared", count);
    int64_t most = compare->options->samples ? compare->options->samples - compare->samples : INT64_MAX;
    int64_t samples = count && chunk->inputs[0]->shape.rank ? chunk->inputs[0]->shape.dims[0] / first_dimension(compare, 0) : 1;
    for (int64_t i = 0; fine && i < samples && i < most; i++) {
        int taken = 0;
        for (; fine && taken < count; taken += fine)
            fine = (sample[taken] = take_sample(chunk->inputs[taken], first_dimension(compare, taken), i, error));
        fine = fine && run_sample(compare, sample, error);
        while (taken)
            tensor_release(sample[--taken]);
    }
    return fine;
}

static bool run_all(Compare *compare, Feed *feed, Error *error)
{
    bool failed = false;
    const Chunk *chunk;
    while (!failed && (!compare->options->samples || compare->samples < compare->options->samples) &&
           (chunk = feed_next(feed, &failed, error))) {
        failed = !run_batch(compare, chunk, error);
        progress_step((int64_t)feed->batch_count);
    }
    return !failed;
}

static bool make_table(Compare *compare, CompareTable *table, Error *error)
{
    table->samples = compare->samples;
    table->rows = memory_new_array((size_t)compare->count + 1, sizeof *table->rows);
    if (!table->rows) return fail_memory(error, (size_t)compare->count * sizeof *table->rows);
    for (int i = 0; i < compare->count; i++) {
        Block *block = &compare->blocks[i];
        if (!(block->row.isolated || block->row.followed) || !block->device) continue;
        const Headroom *room = chip_plan_headroom(compare->plan, block->device);
        if (room) block->row.headroom = *room;
        if (block->row.alone.differing || block->undefined) block->row.cause = cause_of(compare, block);
        table->rows[table->count++] = block->row;
    }
    return true;
}

static void finish(Compare *compare)
{
    for (int i = 0; i < compare->count; i++) {
        tensor_release(compare->blocks[i].chip);
        plan_free(compare->blocks[i].plan);
    }
    plan_free(compare->whole);
    chip_plan_free(compare->plan);
    graph_free(compare->device);
    memory_free(compare->blocks);
    memory_free(compare->wanted);
    memory_free(compare->simulated);
}

bool analyse_compare(Graph *graph, Batches *batches, const CompareOptions *options, CompareTable *table, Error *error)
{
    Compare compare = {.graph = graph, .options = options};
    Feed feed = {0};
    *table = (CompareTable){0};
    compare.device = lower_graph(graph, options->lower, error);
    Value *nothing = NULL;
    ChipOptions chip = {.chip = options->chip,
                        .wanted = &nothing,
                        .watch = see,
                        .watch_context = &compare,
                        .headroom = options->headroom,
                        .original = true};
    bool done = compare.device && (compare.plan = chip_plan_new(compare.device, &chip, error));
    progress_begin("simulation and chip", options->batches);
    done = done && feed_begin(&feed, graph, batches, options->batches, FEED_BATCHES, error) && run_all(&compare, &feed, error) &&
           make_table(&compare, table, error);
    progress_end();
    feed_end(&feed);
    finish(&compare);
    return done;
}

void compare_table_free(CompareTable *table)
{
    memory_free(table->rows);
    *table = (CompareTable){0};
}
