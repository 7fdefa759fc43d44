/* The device graph: what a .espdl file says. lower/ makes it from a quantized graph (a copy; the user's graph stays as it was):
 * constants are the integers of the file, packed; each value carries its device description. EXPORT §2–§8, §11. */
#ifndef ESPQ_LOWER_DEVICE_H
#define ESPQ_LOWER_DEVICE_H

#include "graph/graph.h"
#include "quant/setting.h"
#include "quant/target.h"

typedef struct DeviceValue {
    bool perm_known;
    int perm_rank;
    int perm[ESPQ_MAX_RANK]; /* stored axis i is original axis perm[i] (EXPORT §4.1) */
    bool typed;              /* bound to a slot (EXPORT §5.2) */
    Dtype dtype;
    Shape shape; /* as stored (permuted) */
    int exponent_count;
    int *exponents;       /* in the graph's arena; {0} where nothing was bound */
    Slot *slot;           /* the first exportable end that names the value, NULL */
    const char *layout;   /* "(N/16)HWC16", "UNK"; NULL: no doc_string (tables) */
    bool table;           /* a look-up table: a constant that no node reads, named by an attribute */
    const char *replaces; /* name of the graph output whose place this value took, NULL (EXPORT §4.8, §4.9) */
} DeviceValue;

typedef struct TestValue { /* a test input or output, in the user's (original) layout and numbers */
    const char *name;
    Tensor *tensor; /* float32 (or the float graph's dtype) */
} TestValue;

typedef struct LowerOptions {
    const Setting *setting;
    const Target *target;
    int64_t int16_lut_step; /* 256 */
} LowerOptions;

/* A new graph in which every value has `device`. The rows of the lowering steps are in lower.c. Warnings go to graph->notes of the result. */
Graph *lower_graph(const Graph *graph, const LowerOptions *options, Error *error);

/* Test value in device form: permuted by the value's perm, integers where it is bound (EXPORT §12). NULL and no error (*gone = true)
 * when the value vanished. */
Tensor *lower_test_value(const Graph *device, const TestValue *value, int *exponent, bool *gone, Error *error);
/* The name under which it is written: its own, or that of the value which took its place at the graph's end. NULL when it vanished. */
const char *lower_test_name(const Graph *device, const char *name);

#endif
