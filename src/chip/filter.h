/* Inside of the room: weights from the order of the file (EXPORT §6) to that of the kernels. */
#ifndef ESPQ_CHIP_FILTER_H
#define ESPQ_CHIP_FILTER_H

#include "chip/module.h"

typedef struct Filter {
    int64_t outputs, inputs, taps; /* inputs: of one group */
    int bytes;                     /* of an element */
    int lanes;                     /* output channels that lie side by side; 0: plain C order */
    int64_t groups;                /* more than one: stored as for depthwise */
} Filter;

/* How the chip reads the weights of this node: lanes of a vector register. Refuses a layout that the file names and the chip does not read. */
bool filter_lanes(const ChipNode *node, int *lanes, Error *error);

size_t filter_bytes(const Filter *filter, bool depthwise); /* of the plain weights */

/* [outputs][taps][inputs of all groups], zeros between groups; depthwise: [taps][outputs]. */
void filter_unpack(const Filter *filter, bool depthwise, const void *file, void *plain);

#endif
