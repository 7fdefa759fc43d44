#include "chip/cost.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "chip/module.h"
#include "lower/device.h"

/* ---- the figures, a row a chip ---- */

typedef struct CostRow {
    const char *target;
    double megahertz;
    double node;              /* cycles of any node that does work */
    double product;           /* of a vector of products, channels in whole vectors */
    double product_unaligned; /* of one otherwise */
    double tap;               /* of a vector of a depthwise convolution, one tap */
    double vector;            /* of finishing and storing a vector of outputs */
    double refetch;           /* of a weight byte that the cache has lost */
    double cache[2];          /* weights of up to the first size stay in the cache, those beyond the second are all lost */
    double element;           /* of an element that is moved, added, or looked up */
    double float_element;     /* of one that is computed in float */
} CostRow;

/* Least squares of the logarithms, no coefficient below zero, near-equal models (dog, hand, pose v2) at a third of the weight. What was tried and
 * made no difference: cycles a byte moved, half the time for layers that AUTO mode puts on two cores. */
static const CostRow rows[] = {
    {"esp32s3", 240, 20691, 2.451, 3.744, 9.876, 62.09, 4.725, {64 * 1024, 96 * 1024}, 4.345, 16.10},
    {"esp32p4", 360, 12459, 2.396, 4.192, 8.494, 13.28, 1.545, {192 * 1024, 256 * 1024}, 1.961, 7.296},
};

static const CostPublished published[] = {
    {"mobilenetv2_s8_v1 (one core)", "224x224x3", "esp32s3", 1309.5, "espdl/p4_imagenet_mobilenetv2_s8.espdl"},
    {"mobilenetv2_s8_v1 (one core)", "224x224x3", "esp32p4", 326.6, "espdl/p4_imagenet_mobilenetv2_s8.espdl"},
    {"espdet_pico_224_224_face", "224x224x3", "esp32s3", 131.6, "espdl/p4_espdet_pico_224_face.espdl"},
    {"espdet_pico_224_224_face", "224x224x3", "esp32p4", 49.6, "espdl/p4_espdet_pico_224_face.espdl"},
    {"msr_s8_v1", "120x160x3", "esp32s3", 33.1, "espdl/s3_human_face_msr_s8.espdl"},
    {"msr_s8_v1", "120x160x3", "esp32p4", 13.1, "espdl/p4_human_face_msr_s8.espdl"},
    {"pico_s8_v1 (pedestrian)", "224x224x3", "esp32s3", 118.3, "espdl/s3_pedestrian_pico_s8.espdl"},
    {"pico_s8_v1 (pedestrian)", "224x224x3", "esp32p4", 55.6, "espdl/p4_pedestrian_pico_s8.espdl"},
    {"yolo11n_320_s8_v1", "320x320x3", "esp32s3", 6161.8, "espdl/s3_coco_yolo11n_320_s8.espdl"},
    {"yolo11n_320_s8_v1", "320x320x3", "esp32p4", 550.1, "espdl/s3_coco_yolo11n_320_s8.espdl"},
    {"pp_ocr_v6_rec_s16", "48x320x3", "esp32p4", 383.3, "espdl/p4_ppocr_rec_s16.espdl"},
};

const CostPublished *cost_published_at(int index)
{
    return index >= 0 && (size_t)index < sizeof published / sizeof published[0] ? &published[index] : NULL;
}

static const CostRow *row_of(const Target *target)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].target, target->name) == 0) return &rows[i];
    }
    return NULL;
}

const char *cost_about(const Target *target)
{
    const CostRow *row = row_of(target);
    if (!row) return "no time: nothing is published for this chip's kernels (estimates exist for esp32s3 and esp32p4)";
    return strcmp(row->target, "esp32s3") == 0 ? "time is an estimate for 240 MHz, one core: off by 18 % on average (45 % at most) on the "
                                                 "22 published models it was fitted to, by 30 % (63 %) on "
                                                 "kinds of models left out of the fit"
                                               : "time is an estimate for 360 MHz, one core: off by 11 % on average (43 % at most) on the "
                                                 "28 published models it was fitted to, by 17 % (62 %) on "
                                                 "kinds of models left out of the fit";
}

/* ---- a node ---- */

typedef struct Estimator {
    const CostRow *row; /* NULL: no times */
    const ChipPlan *plan;
    int lanes[2]; /* of a vector, for 8 and 16 bits */
} Estimator;

static const Shape *shape_in(const void *context, const Value *value)
{
    return context ? chip_plan_shape(context, value) : NULL;
}

static Shape shape_of_value(const Estimator *estimator, const Value *value)
{
    if (value->constant) return value->constant->shape;
    const Shape *shape = shape_in(estimator->plan, value);
    if (!shape) shape = value->device ? &value->device->shape : &value->shape;
    return *shape;
}

static Dtype type_of(const Value *value)
{
    return value->constant ? value->constant->dtype : value->device ? value->device->dtype : value->dtype;
}

static int64_t bytes_of(const Estimator *estimator, const Value *value)
{
    Shape shape = shape_of_value(estimator, value);
    return shape_count(&shape) * (int64_t)dtype_bytes(type_of(value));
}

/* A count that may be absurd in a damaged file. */
static int64_t whole_number(double count)
{
    return count < 4e18 ? (int64_t)count : INT64_C(4000000000000000000);
}

static double round_up(int64_t count, int step)
{
    return (double)((count + step - 1) / step);
}

/* Conv, Gemm, MatMul: pixels times output channels times products. */
static void cost_product(const Estimator *estimator, const Node *node, CostNode *cost)
{
    const Value *x = node->inputs[0], *weights = node->inputs[1], *y = node->outputs[0];
    Shape in = shape_of_value(estimator, x), out = shape_of_value(estimator, y), filter = shape_of_value(estimator, weights);
    int64_t channels = in.rank ? in.dims[in.rank - 1] : 1, made = out.rank ? out.dims[out.rank - 1] : 1;
    if (channels < 1 || made < 1) return;
    bool depthwise = strcmp(node->type, "Conv") == 0 && node_integer(node, "group", 1) != 1;
    int64_t pixels = shape_count(&out) / made, products = channels, batch = 1, weight_bytes = bytes_of(estimator, weights);
    if (strcmp(node->type, "Conv") == 0) products = shape_count(&filter) / made;
    if (!weights->constant) { /* each slice has a matrix of its own */
        for (int i = 0; i + 2 < out.rank; i++)
            batch *= out.dims[i];
        weight_bytes /= batch > 0 ? batch : 1;
    }
    cost->macs = whole_number((double)pixels * (double)made * (double)products);
    int lanes = estimator->lanes[dtype_bytes(type_of(x)) > 1];
    cost->unaligned = !depthwise && lanes > 1 && (channels % lanes != 0 || made % lanes != 0);
    const CostRow *row = estimator->row;
    if (!row) return;
    double cycles, whole = (double)(made / lanes), rest = (double)(made % lanes);
    if (depthwise)
        cycles = (double)pixels * round_up(made, lanes) * ((double)products * row->tap + row->vector);
    else if (!cost->unaligned)
        cycles = (double)pixels * whole * ((double)products * row->product + row->vector);
    else { /* the channels behind the last whole vector are summed one by one, a vector of products at a time; measured as four vectors each */
        double scalar = (double)(products / channels) * round_up(channels, lanes) * 4;
        cycles = (double)pixels * ((whole * (double)products + rest * scalar) * row->product_unaligned + (whole + rest) * row->vector);
    }
    double lost = ((double)weight_bytes - row->cache[0]) / (row->cache[1] - row->cache[0]);
    if (!depthwise && lost > 0 && pixels > batch)
        cost->refetched_bytes = whole_number((double)(pixels - batch) * (double)weight_bytes * (lost > 1 ? 1 : lost));
    cycles += (double)cost->refetched_bytes * row->refetch;
    cost->microseconds += cycles / row->megahertz;
}

/* GRU, LSTM: every step multiplies with all weights; the gates go through float tables. */
static void cost_recurrent(const Estimator *estimator, const Node *node, CostNode *cost)
{
    if (node->input_count < 3 || !node->inputs[1] || !node->inputs[2]) return;
    Shape x = shape_of_value(estimator, node->inputs[0]), w = shape_of_value(estimator, node->inputs[1]),
          r = shape_of_value(estimator, node->inputs[2]);
    if (x.rank < 2 || w.rank < 3) return;
    int64_t steps = x.dims[node_integer(node, "layout", 0) ? 1 : 0];
    cost->macs = whole_number((double)steps * (double)(shape_count(&w) + shape_count(&r)));
    if (!estimator->row) return;
    int lanes = estimator->lanes[dtype_bytes(type_of(node->inputs[0])) > 1];
    double gates = (double)steps * (double)w.dims[0] * (double)w.dims[1];
    cost->microseconds += ((double)cost->macs / lanes * estimator->row->product_unaligned + gates * estimator->row->float_element) /
                          estimator->row->megahertz;
}

bool cost_in_integers(const Node *node)
{
    static const char *const types[] = {"Add",
                                        "Sub",
                                        "Mul",
                                        "Neg",
                                        "Equal",
                                        "Greater",
                                        "GreaterOrEqual",
                                        "Less",
                                        "LessOrEqual",
                                        "Relu",
                                        "PRelu",
                                        "Clip",
                                        "LUT",
                                        "MaxPool",
                                        "Resize",
                                        "Concat",
                                        "Split",
                                        "Slice",
                                        "Pad",
                                        "Gather",
                                        "ScatterND",
                                        "Transpose",
                                        "ReverseSequence",
                                        "DepthToSpace",
                                        "SpaceToDepth",
                                        "StreamingCache",
                                        "InsertZeros",
                                        "RequantizeLinear",
                                        "ReduceMax",
                                        "ReduceMin"};
    if (node_attribute(node, "lut")) return true;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(node->type, types[i]) == 0) return true;
    }
    return false;
}

static void cost_elements(const Estimator *estimator, const Node *node, CostNode *cost)
{
    int64_t made = 0, read = 0;
    int width = 1;
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        Shape shape = shape_of_value(estimator, node->outputs[i]);
        if (shape_count(&shape) > made) made = shape_count(&shape);
        width = dtype_bytes(type_of(node->outputs[i])) > 1 ? 2 : 1;
    }
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i] || node->inputs[i]->constant) continue;
        Shape shape = shape_of_value(estimator, node->inputs[i]);
        if (shape_count(&shape) > read) read = shape_count(&shape);
    }
    if (!estimator->row) return;
    double cycles = cost_in_integers(node) ? (double)(made * width) * estimator->row->element
                                         : (double)(made > read ? made : read) * estimator->row->float_element;
    cost->microseconds += cycles / estimator->row->megahertz;
}

static void cost_node(const Estimator *estimator, const Node *node, CostNode *cost)
{
    *cost = (CostNode){.node = node, .microseconds = estimator->row ? estimator->row->node / estimator->row->megahertz : -1};
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        if (value) *(value->constant ? &cost->parameter_bytes : &cost->moved_bytes) += bytes_of(estimator, value);
    }
    for (int i = 0; i < node->output_count; i++) {
        if (node->outputs[i]) cost->moved_bytes += bytes_of(estimator, node->outputs[i]);
    }
    const ChipModule *module = chip_module_find(node->type);
    bool product = strcmp(node->type, "Conv") == 0 || strcmp(node->type, "Gemm") == 0 || strcmp(node->type, "MatMul") == 0;
    if (product && node->input_count >= 2 && node->output_count >= 1 && node->inputs[0] && node->inputs[1] && node->outputs[0])
        cost_product(estimator, node, cost);
    else if (strcmp(node->type, "GRU") == 0 || strcmp(node->type, "LSTM") == 0)
        cost_recurrent(estimator, node, cost);
    else if (module && module->in_place == IN_PLACE_UNCHANGED) { /* a view: nothing is done */
        cost->moved_bytes = 0;
        if (estimator->row) cost->microseconds = 0;
    } else
        cost_elements(estimator, node, cost);
}

/* ---- the graph ---- */

static const Value *table_of(const Graph *device, const Node *node)
{
    const char *name = node_string(node, "lut", NULL);
    const Value *value = name ? graph_value(device, name) : NULL;
    return value && value->constant ? value : NULL;
}

bool cost_estimate(Graph *device, Node *const *order, int count, const Target *target, int64_t max_internal_bytes, CostReport *report,
                   Error *error)
{
    memset(report, 0, sizeof *report);
    Chip chip;
    Error refusal = {0};
    if (!chip_init(&chip, target, NULL, false, error)) return false;
    ChipPlan *plan = chip_plan_new(device, &(ChipOptions){.chip = &chip}, &refusal);
    if (!plan && refusal.code == ERROR_MEMORY) {
        *error = refusal;
        return false;
    }
    report->computed = plan != NULL;
    if (!plan) snprintf(report->refusal, sizeof report->refusal, "%.90s: %.100s", refusal.where, refusal.what);
    if (!order) {
        order = device->nodes;
        count = device->node_count;
    }
    MemoryPlanOptions options = {
        .order = order, .count = count, .max_internal_bytes = max_internal_bytes, .shape = shape_in, .context = plan};
    bool fine = memory_plan(device, &options, &report->memory, error);
    report->nodes = fine ? memory_new_array((size_t)count + 1, sizeof *report->nodes) : NULL;
    if (fine && !report->nodes) fine = fail_memory(error, (size_t)count * sizeof *report->nodes);
    Estimator estimator = {.row = row_of(target), .plan = plan};
    for (int wide = 0; wide < 2; wide++)
        estimator.lanes[wide] = chip.vector_bytes ? chip.vector_bytes >> wide : 1;
    report->timed = estimator.row != NULL;
    for (int i = 0; fine && i < count; i++) {
        CostNode *cost = &report->nodes[report->count++];
        cost_node(&estimator, order[i], cost);
        const Value *table = table_of(device, order[i]);
        if (table) cost->parameter_bytes += bytes_of(&estimator, table);
        report->macs = whole_number((double)report->macs + (double)cost->macs);
        report->moved_bytes += cost->moved_bytes;
        report->refetched_bytes = whole_number((double)report->refetched_bytes + (double)cost->refetched_bytes);
        if (report->timed) report->milliseconds += cost->microseconds / 1000;
    }
    for (int i = 0; fine && i < device->value_count; i++) {
        if (device->values[i]->constant) report->parameter_bytes += bytes_of(&estimator, device->values[i]);
    }
    chip_plan_free(plan);
    if (!fine) cost_free(report);
    return fine;
}

void cost_free(CostReport *report)
{
    memory_free(report->nodes);
    memory_plan_free(&report->memory);
    memset(report, 0, sizeof *report);
}
