/* From a .espdl file to a device graph (lower/device.h), whoever wrote it; and which chip it is for. */
#ifndef ESPQ_ESPDL_DEVICE_H
#define ESPQ_ESPDL_DEVICE_H

#include "espdl/model.h"
#include "lower/device.h"

#define ESPDL_TARGET_KEY "espq.target" /* of the metadata: which chip the file was exported for */

/* Nodes, values and parameters in the file's order; node->op is NULL for types that ONNX does not have. Constants are copies, so that the
 * model may go. Fails for what the runtime's loader refuses: names that are missing or twice, tensors that nothing describes or makes. */
Graph *espdl_device(const EspdlModel *model, Error *error);

/* One line a node: types, shapes, exponents, layouts, attributes. sorted: put the nodes in order of execution first (a lowered graph). */
bool espdl_device_text(const Graph *device, bool sorted, Text *text, Error *error);

/* The chip that a file is for: what its metadata say, else what its layouts and exponents tell; `why` (of at least 200 characters) says how it
 * was found out. Weights in rows of plain channels: c. Packed weights with an exponent a channel: esp32p4. Packed ones with one exponent may be for
 * esp32s3, or for esp32p4 by an exporter from before the runtime 3.3.1: *sure is false, the answer esp32s3. Nothing packed: *sure is false, the
 * answer esp32p4. */
const Target *espdl_target(const EspdlModel *model, bool *sure, char why[200]);

#endif
