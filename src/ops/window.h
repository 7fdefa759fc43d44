/* Sliding windows: how Conv, ConvTranspose and the pools walk their 1, 2 or 3 spatial axes. */
#ifndef ESPQ_OPS_WINDOW_H
#define ESPQ_OPS_WINDOW_H

#include "graph/operator.h"

#define ESPQ_MAX_SPATIAL 3

typedef struct Window {
    int spatial; /* number of spatial axes; what follows has one entry each */
    int64_t in[ESPQ_MAX_SPATIAL], out[ESPQ_MAX_SPATIAL], kernel[ESPQ_MAX_SPATIAL], stride[ESPQ_MAX_SPATIAL], dilation[ESPQ_MAX_SPATIAL];
    int64_t pad_begin[ESPQ_MAX_SPATIAL], pad_end[ESPQ_MAX_SPATIAL]; /* negative: rows cut off (decomposed ConvTranspose) */
} Window;

/* Read strides, dilations, pads and auto_pad of a node whose input is [batch, channels, spatial…]. `kernel` has one entry a
 * spatial axis. Output sizes as ONNX says; with ceil_mode, a last window that starts behind the data and the leading padding
 * is dropped (as ONNX since opset 22 and PyTorch always did). Explicit pads win over auto_pad, as in the reference. */
bool window_resolve(const Node *node, const Shape *input, const int64_t *kernel, Window *window, Error *error);
/* The same for ConvTranspose: output_shape, output_padding and auto_pad decide pads and output sizes. */
bool window_resolve_transposed(const Node *node, const Shape *input, const int64_t *kernel, Window *window, Error *error);

/* Write what auto_pad came to into the attribute pads, as the reference's run does (QUANT §10.3): SAME_* disappears, VALID stays. */
bool window_settle(Graph *graph, Node *node, const Window *window, Error *error);

/* The output's shape: batch and channels as given. */
Shape window_output(int64_t batch, int64_t channels, const Window *window);

/* Move the axes so that there are always three: leading ones of size 1. */
void window_three_axes(Window *window);

#endif
