/* StreamingCache: the last frames of the run before stand in front of those of this run (CHIP §2.19). */
#include <string.h>

#include "chip/ends.h"

static bool read_axis(const ChipNode *node, int *axis, int64_t *kept, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    *kept = node_integer(node->node, "window_size", 1) - 1;
    if (*kept < 0 || *kept > 1 << 20) return refuse(node, error, "export the model again", "window_size %lld", (long long)*kept + 1);
    return needs_axis(node, node_integer(node->node, "frame_axis", 1), node->inputs[0].shape.rank, axis, error);
}

static bool streaming_infer(ChipNode *node, Error *error)
{
    int axis;
    int64_t kept;
    if (!read_axis(node, &axis, &kept, error)) return false;
    node->outputs[0].shape = node->inputs[0].shape;
    node->outputs[0].shape.dims[axis] += kept;
    return true;
}

static bool streaming_prepare(ChipNode *node, Error *error)
{
    if (!needs_same_type(node, 0, 0, error)) return false;
    node->memory_bytes = end_bytes(&node->outputs[0]) - end_bytes(&node->inputs[0]);
    return true;
}

/* As one row of bytes, whatever the axes in front of the frames are. */
static void streaming_run(const ChipRun *run)
{
    size_t in = end_bytes(&run->node->inputs[0]), kept = run->node->memory_bytes;
    char *y = run->outputs[0];
    memcpy(y + kept, run->inputs[0], in);
    if (!kept) return; /* a window of one frame */
    memcpy(y, run->memory, kept);
    memcpy(run->memory, y + in, kept);
}

const ChipModule chip_streaming_modules[] = {
    {.type = "StreamingCache", .infer = streaming_infer, .prepare = streaming_prepare, .run = streaming_run},
    {0},
};
