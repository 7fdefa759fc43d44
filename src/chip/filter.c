#include "chip/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip/ends.h"

bool filter_lanes(const ChipNode *node, int *lanes, Error *error)
{
    *lanes = node->chip->vector_bytes * 8 / node->bits;
    const char *layout = node->inputs[1].layout;
    if (!layout || !*layout || strcmp(layout, "UNK") == 0) return true;
    bool packed = strncmp(layout, "(N/", 3) == 0;
    if (packed ? *lanes == atoi(layout + 3) : *lanes == 0) return true;
    char wanted[32] = "plain";
    if (*lanes) snprintf(wanted, sizeof wanted, "(N/%d)", *lanes);
    return refuse(node, error, "run it for the target it was exported for, or export it for this one",
                  "weights are packed as %s, %s reads %s", layout, node->chip->target ? node->chip->target->name : "the chip", wanted);
}

size_t filter_bytes(const Filter *filter, bool depthwise)
{
    return (size_t)(filter->outputs * filter->taps * (depthwise ? 1 : filter->inputs * filter->groups)) * (size_t)filter->bytes;
}

typedef struct Places { /* where an element goes in the plain weights: a sum over its output, tap and input */
    int64_t output, tap, input;
    int64_t group_outputs, group; /* each group of outputs is that much further */
} Places;

static inline int64_t place(const Places *places, int64_t output, int64_t tap, int64_t input)
{
    return output * places->output + output / places->group_outputs * places->group + tap * places->tap + input * places->input;
}

/* The file's elements one behind the other: for each, where it goes. */
static inline void walk(const Filter *f, const Places *places, const char *file, char *plain, size_t bytes)
{
    int64_t full = f->lanes ? f->outputs / f->lanes * f->lanes : 0;
#define MOVE(output_, tap_, input_)                                                                                                        \
    do {                                                                                                                                   \
        memcpy(plain + (size_t)place(places, output_, tap_, input_) * bytes, file, bytes);                                                 \
        file += bytes;                                                                                                                     \
    } while (0)
    for (int64_t first = 0; first < full; first += f->lanes)
        for (int64_t tap = 0; tap < f->taps; tap++)
            for (int64_t input = 0; input < f->inputs; input++)
                for (int64_t lane = 0; lane < f->lanes; lane++)
                    MOVE(first + lane, tap, input);
    if (f->groups == 1) {
        for (int64_t output = full; output < f->outputs; output++)
            for (int64_t tap = 0; tap < f->taps; tap++)
                for (int64_t input = 0; input < f->inputs; input++)
                    MOVE(output, tap, input);
    } else if (f->lanes) {
        for (int64_t input = 0; input < f->inputs; input++)
            for (int64_t tap = 0; tap < f->taps; tap++)
                for (int64_t output = full; output < f->outputs; output++)
                    MOVE(output, tap, input);
    } else {
        for (int64_t tap = 0; tap < f->taps; tap++)
            for (int64_t input = 0; input < f->inputs; input++)
                for (int64_t output = 0; output < f->outputs; output++)
                    MOVE(output, tap, input);
    }
#undef MOVE
}

void filter_unpack(const Filter *filter, bool depthwise, const void *file, void *plain)
{
    int64_t inputs = filter->inputs * filter->groups;
    Places places = {.output = filter->taps * inputs, .tap = inputs, .input = 1, .group_outputs = filter->outputs};
    if (depthwise) {
        places = (Places){.output = 1, .tap = filter->outputs, .group_outputs = filter->outputs};
    } else if (filter->groups > 1) {
        places.group_outputs = filter->outputs / filter->groups;
        places.group = filter->inputs;
        memset(plain, 0, filter_bytes(filter, depthwise));
    } else if (!filter->lanes) {
        memcpy(plain, file, filter_bytes(filter, depthwise));
        return;
    }
    if (filter->bytes == 1)
        walk(filter, &places, file, plain, 1);
    else
        walk(filter, &places, file, plain, 2);
}
