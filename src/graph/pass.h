/* What a pass is: one row. The road (src/road) is a list of rows; Lua's espq.pass adds one of the same type. */
#ifndef ESPQ_GRAPH_PASS_H
#define ESPQ_GRAPH_PASS_H

#include "graph/graph.h"

struct Setting; /* quant/setting.h */
struct Target;  /* quant/target.h */
struct Batches; /* exec/batches.h */

typedef struct PassContext {
    const struct Setting *setting;
    const struct Target *target;
    int bits;
    bool hi_precision;
    struct Batches *batches;   /* calibration data; NULL where there are none */
    struct Observed *observed; /* what an earlier calibration of this graph saw, or room for it; NULL: nobody asks (quant/observed.h) */
    struct Memo *memo;         /* what runs over these data gave before, for this one (exec/memo.h); NULL: nothing is shared */
    void *lua;                 /* a Lua pass's function, known to the binding */
} PassContext;

typedef struct Pass {
    const char *name;                            /* "calibrate": used by dump --after, espq.pass{after=}, espq.apply */
    const char *help;                            /* one line */
    const char *when_text;                       /* the setting that switches it, for `espq passes`; NULL: always */
    bool (*when)(const struct Setting *setting); /* NULL: always */
    bool (*run)(Graph *graph, PassContext *context, Error *error);
    bool after_slots; /* belongs behind `slots`: needs quantized nodes */
} Pass;

#endif
