/* The reference's optimizations (OPTIM): passes that change weights and biases so that less is lost by quantization. Rows for the road.
 * A layer is a Conv, ConvTranspose or Gemm. Each pass says in one note of the graph what it did; layers that a setting names and that
 * are not in the graph are an error. */
#ifndef ESPQ_OPTIM_OPTIM_H
#define ESPQ_OPTIM_OPTIM_H

#include "graph/pass.h"
#include "quant/setting.h"

/* Fails for a layer that a pass behind the calibration is to work on and that is not there: before the data are walked for nothing. */
bool optim_check_layers(const Graph *graph, const Setting *setting, Error *error);

bool pass_weight_split(Graph *graph, PassContext *context, Error *error);     /* §3; before the graph has slots */
bool pass_channel_split(Graph *graph, PassContext *context, Error *error);    /* §2; before the graph has slots */
bool pass_equalization(Graph *graph, PassContext *context, Error *error);     /* §1; before the graph has slots */
bool pass_ssd_equalization(Graph *graph, PassContext *context, Error *error); /* §4; on slots that still wait */
bool pass_bias_correct(Graph *graph, PassContext *context, Error *error);     /* §5; on a quantized graph */
/* Training, block by block, on a quantized graph. A block that is no better afterwards stays as it was; a pass that fails leaves the whole
 * graph as it was. */
bool pass_lsq(Graph *graph, PassContext *context, Error *error);       /* §8 */
bool pass_tqt(Graph *graph, PassContext *context, Error *error);       /* §7 */
bool pass_blockwise(Graph *graph, PassContext *context, Error *error); /* §9 */
bool pass_recover(Graph *graph, PassContext *context, Error *error);   /* §17; on a quantized graph */

#endif
