/* Inside of the room: the rows as the driver sees them. */
#ifndef ESPQ_ROAD_PASSES_H
#define ESPQ_ROAD_PASSES_H

#include "road/road.h"

typedef struct RoadRow {
    Pass pass;
    void *lua; /* of a script's pass, comes back as context->lua */
} RoadRow;

bool road_rows(const RoadRow **list, size_t *count, Error *error);
bool road_fail_unknown(const char *name, Error *error); /* names the nearest pass; false */

#endif
