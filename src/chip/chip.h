/* A device graph in integers, as the ESP-DL runtime computes it on a chip, bit for bit (CHIP). A device graph comes from lower_graph, or
 * from a .espdl file (espdl/device.h); each node is run by the module (module.h) that the runtime has for its type. */
#ifndef ESPQ_CHIP_CHIP_H
#define ESPQ_CHIP_CHIP_H

#include "chip/traits.h"
#include "graph/graph.h"
#include "quant/target.h"

/* What of a chip and a runtime the arithmetic depends on. */
typedef struct Chip {
    const Target *target;
    Rounding rounding;
    int vector_bytes; /* of a vector register: 16 (16 int8 or 8 int16 lanes); 0: everything is plain C code */
    int lane_bits[2]; /* accumulators of vector lanes, for int8 and int16: they saturate at each product (CHIP §1.4) */
    int scalar_bits;  /* accumulator of the output channels that fill no vector */
    uint64_t traits;  /* bit i: trait i is in force (traits.h) */
} Chip;

/* version: of the runtime, "3.3.0"; NULL: the newest known. mended: without the runtime's defects, as its authors meant it. */
bool chip_init(Chip *chip, const Target *target, const char *version, bool mended, Error *error);
void chip_set(Chip *chip, ChipTrait trait, bool on); /* one trait by itself, for what a user asks by name */
unsigned chip_family(const Target *target);          /* FAMILY_PLAIN, FAMILY_S3 or FAMILY_P4 */
static inline bool chip_has(const Chip *chip, ChipTrait trait)
{
    return chip->traits >> trait & 1;
}

typedef struct ChipPlan ChipPlan;

/* What the products of one node did to its accumulators. */
typedef struct Headroom {
    double largest;           /* of |sum| over all partial sums, in the order of the chip, against `limit` */
    double limit;             /* 2^(bits-1) of the narrowest accumulator used */
    int64_t saturated, count; /* outputs of which a partial sum left the accumulator; outputs seen */
    int64_t clipped;          /* outputs cut to the range of the result */
} Headroom;

/* One tensor on the way. Its memory is the plan's; it is read before anything overwrites it. */
typedef struct ChipSeen {
    const Node *node; /* NULL: a graph input */
    int output;       /* of the node; or which graph input */
    const Value *value;
    const Tensor *tensor;  /* raw integers (or floats) in the layout of the file */
    int64_t sample;        /* of the batch */
    const char *undefined; /* why the chip's result is undefined here, NULL: it is not */
} ChipSeen;

typedef struct ChipOptions {
    const Chip *chip;
    Value *const *wanted; /* NULL: the graph outputs */
    int wanted_count;
    bool (*watch)(void *context, const ChipSeen *seen, Error *error); /* NULL: nobody watches; else samples run in order, one at a time */
    void *watch_context;
    bool headroom; /* follow the accumulators of every node, in order: slow (chip_plan_headroom) */
    /* The ends as a user of the float graph knows them: inputs and outputs in the original layout (DeviceValue.perm), outputs that have
     * an exponent as float32. */
    bool original;
} ChipOptions;

/* Prepares every node: shapes are computed as the modules do (recorded ones may be wrong: chip_plan_shape tells), constants are packed for
 * the kernels. Fails for types without a module, attributes or shapes that a module refuses: where the chip would crash, this says so. */
ChipPlan *chip_plan_new(Graph *device, const ChipOptions *options, Error *error);
void chip_plan_free(ChipPlan *plan); /* NULL is fine */

/* inputs: one a graph input, in the stored layout, raw integers of the input's type, or floats, which are converted as the runtime
 * assigns them (CHIP §2.18). Any number of samples along axis 0 (a whole multiple of the graph's own first dimension).
 * outputs[i] gets a new reference to wanted value i; several samples are joined along its first axis. State (StreamingCache, tables frozen at the first run) is kept from run to run. */
bool chip_plan_run(ChipPlan *plan, Tensor *const *inputs, Tensor **outputs, Error *error);
void chip_plan_reset(ChipPlan *plan); /* state as after loading */

const Shape *chip_plan_shape(const ChipPlan *plan, const Value *value);     /* as computed; NULL for a value no node writes or reads */
const Headroom *chip_plan_headroom(const ChipPlan *plan, const Node *node); /* of all runs so far; NULL: sums cannot leave them there */
const char *chip_plan_undefined(const ChipPlan *plan, const Value *value);  /* why its contents are undefined on the chip, NULL */

#endif
