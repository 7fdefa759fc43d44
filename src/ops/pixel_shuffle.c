/* DepthToSpace and SpaceToDepth: blocks of channels become squares of pixels, and back. */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"

typedef struct ShuffleState {
    int64_t channels, height, width, block; /* channels, height and width of the side with the pixels, one image */
    bool channel_first; /* the deep side's channel is c * block² + square (CRD, and the chip's SpaceToDepth) or square * channels + c */
    bool to_space;
} ShuffleState;

static bool block_of(const Node *node, const Shape *x, int64_t *block, Error *error)
{
    *block = node_integer(node, "blocksize", 0);
    if (!require_rank(node, x, 4, 4, "input", error)) return false;
    if (*block >= 1 && *block <= 4096) return true;
    return fail_node(error, node, "repair the model", "blocksize is %lld", (long long)*block);
}

static bool to_space_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x;
    int64_t block;
    char text[160];
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !block_of(node, &x, &block, error)) return false;
    if (x.dims[1] % (block * block) != 0)
        return fail_node(error, node, "channels must be a multiple of blocksize²", "input %s and blocksize %lld do not fit",
                         shape_text(&x, text), (long long)block);
    const char *mode = node_string(node, "mode", "DCR");
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return fail_node(error, node, "known are DCR and CRD", "mode is \"%s\"", mode);
    Shape out = {.rank = 4, .dims = {x.dims[0], x.dims[1] / (block * block), x.dims[2] * block, x.dims[3] * block}};
    set_output(node, 0, node->inputs[0]->dtype, &out);
    return true;
}

static bool to_depth_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x;
    int64_t block;
    char text[160];
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !block_of(node, &x, &block, error)) return false;
    if (x.dims[2] % block != 0 || x.dims[3] % block != 0)
        return fail_node(error, node, "height and width must be multiples of blocksize", "input %s and blocksize %lld do not fit",
                         shape_text(&x, text), (long long)block);
    Shape out = {.rank = 4, .dims = {x.dims[0], x.dims[1] * block * block, x.dims[2] / block, x.dims[3] / block}};
    set_output(node, 0, node->inputs[0]->dtype, &out);
    return true;
}

static bool shuffle_prepare(Prepare *prepare, const Shape *pixels, bool to_space, bool channel_first, Error *error)
{
    ShuffleState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    *state = (ShuffleState){pixels->dims[1], pixels->dims[2], pixels->dims[3], node_integer(prepare->node, "blocksize", 1),
                            channel_first,   to_space};
    return true;
}

static bool to_space_prepare(Prepare *prepare, Error *error)
{
    return shuffle_prepare(prepare, &prepare->output_shapes[0], true, strcmp(node_string(prepare->node, "mode", "DCR"), "CRD") == 0, error);
}

static bool to_depth_prepare(Prepare *prepare, Error *error)
{
    return shuffle_prepare(prepare, &prepare->input_shapes[0], false,
                           follows_chip(prepare) || strcmp(node_string(prepare->node, "mode", "DCR"), "CRD") == 0, error);
}

typedef struct ShuffleTask {
    const ShuffleState *state;
    const float *x;
    float *y;
} ShuffleTask;

/* One row of pixels: element (channel, y, x) belongs to (deep channel, y / block, x / block). */
static void shuffle_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ShuffleTask *task = context;
    const ShuffleState *state = task->state;
    int64_t block = state->block, deep_width = state->width / block, deep_plane = state->height / block * deep_width,
            deep_image = state->channels * block * block * deep_plane;
    for (int64_t item = begin; item < end; item++) {
        int64_t y = item % state->height, channel = item / state->height % state->channels, image = item / state->height / state->channels;
        int64_t pixel = item * state->width, base = image * deep_image + y / block * deep_width;
        for (int64_t x = 0; x < state->width; x++) {
            int64_t square = y % block * block + x % block;
            int64_t depth = state->channel_first ? channel * block * block + square : square * state->channels + channel;
            int64_t deep = base + depth * deep_plane + x / block;
            if (state->to_space)
                task->y[pixel + x] = task->x[deep];
            else
                task->y[deep] = task->x[pixel + x];
        }
    }
}

static void shuffle_run(const Run *run)
{
    const ShuffleState *state = run->state;
    ShuffleTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->outputs[0])};
    int64_t images = run->inputs[0]->shape.dims[0];
    if (state->width > 0) threads_for(images * state->channels * state->height, 1 + OPS_GRAIN / state->width, shuffle_part, &task);
}

const Operator op_depth_to_space = {
    .name = "DepthToSpace",
    .help = "Blocks of channels become squares of pixels.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{.name = "blocksize", .kind = ATTRIBUTE_INT, .required = true},
                   {.name = "mode", .kind = ATTRIBUTE_STRING, .text = "DCR", .words = "DCR|CRD"}},
    .infer = to_space_infer,
    .prepare = to_space_prepare,
    .run = shuffle_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_CONV,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_space_to_depth = {
    .name = "SpaceToDepth",
    .help = "Squares of pixels become channels; the chip's order of them is not ONNX's.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    /* mode is espq's own (simplify, depth_order): CRD is the chip's order. */
    .attributes = {{.name = "blocksize", .kind = ATTRIBUTE_INT, .required = true},
                   {.name = "mode", .kind = ATTRIBUTE_STRING, .text = "DCR", .words = "DCR|CRD"}},
    .infer = to_depth_infer,
    .prepare = to_depth_prepare,
    .run = shuffle_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_CONV,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
