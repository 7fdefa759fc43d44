/* The quantization passes (QUANT §4–§8), rows for the road in its order. */
#ifndef ESPQ_QUANT_QUANTIZE_H
#define ESPQ_QUANT_QUANTIZE_H

#include "graph/pass.h"
#include "quant/setting.h"
#include "quant/target.h"

/* dispatch: node->platform by setting.dispatcher and table (names, patterns; an unknown name fails with the nearest). */
bool pass_dispatch(Graph *graph, PassContext *context, Error *error);
/* convtranspose: ConvTranspose → InsertZeros + Conv (QUANT §2.9). */
bool pass_convtranspose(Graph *graph, PassContext *context, Error *error);
/* slots: quantized nodes get their slots (QUANT §4.3). */
bool pass_slots(Graph *graph, PassContext *context, Error *error);
bool pass_fuse(Graph *graph, PassContext *context, Error *error);       /* §6.1 */
bool pass_join(Graph *graph, PassContext *context, Error *error);       /* §6.2 */
bool pass_parameters(Graph *graph, PassContext *context, Error *error); /* §7.1 */
bool pass_calibrate(Graph *graph, PassContext *context, Error *error);  /* §8.1 */
bool pass_modify(Graph *graph, PassContext *context, Error *error);     /* §8.9 */
bool pass_align(Graph *graph, PassContext *context, Error *error);      /* §6.3 */
bool pass_passive(Graph *graph, PassContext *context, Error *error);    /* §7.2 */
/* The same again without notes, after scales have changed. */
bool passive_follow(Graph *graph, const Setting *setting, Error *error);
bool pass_baking(Graph *graph, PassContext *context, Error *error); /* §7.3 */
extern const Pass quantization_passes[];                            /* ends with a NULL name; dispatch … baking */

/* Integers of a constant by its slot (QUANT §7.4): int8, int16, int32 or int64 by slot->bits; wide: computed in float64.
 * *saturated counts the elements that did not fit. */
Tensor *quantize_constant(const Tensor *constant, Slot *slot, bool wide, int64_t *saturated, Error *error);

/* "Network Snapshot" (QUANT §1.2) as text, for verbose. */
void quantize_snapshot(const Graph *graph, Text *text);

#endif
