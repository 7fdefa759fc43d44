/* Inside of the room: how a Conv or a pool slides over its image, from attributes strides, dilations and pads as the runtime reads them. */
#ifndef ESPQ_CHIP_WINDOW_H
#define ESPQ_CHIP_WINDOW_H

#include "chip/module.h"

/* Index 0: rows, 1: columns; an image of rank 3 has one row. */
typedef struct Window {
    int samples, channels;
    int in[2], out[2], kernel[2], stride[2], dilation[2], pad[2]; /* pad: in front */
} Window;

/* Input 0 is [N, H, W, C] or [N, W, C]; kernel has an entry a spatial axis. Strides and dilations that the file leaves out count as 1. */
bool window_read(const ChipNode *node, const int64_t *kernel, bool dilated, Window *window, Error *error);
Shape window_shape(const ChipNode *node, const Window *window, int64_t channels); /* of the output */

#endif
