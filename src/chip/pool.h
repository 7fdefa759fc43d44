/* Inside of the room: what pool.c and resize.c share. */
#ifndef ESPQ_CHIP_POOL_H
#define ESPQ_CHIP_POOL_H

#include "chip/module.h"

bool resize_infer(ChipNode *node, Error *error);
bool resize_prepare(ChipNode *node, Error *error);
void resize_run(const ChipRun *run);

#endif
