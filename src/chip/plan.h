/* Inside of the room: a plan as its files see it. plan.c makes the steps, place.c puts values in memory, run.c runs, plan_ends.c takes inputs in
 * and gives outputs out. */
#ifndef ESPQ_CHIP_PLAN_H
#define ESPQ_CHIP_PLAN_H

#include <stdatomic.h>

#include "base/arena.h"
#include "chip/module.h"
#include "lower/device.h"

typedef struct PlanValue {
    const Value *value;
    Dtype dtype;
    Shape shape; /* as computed, stored layout; rank -1: no step that runs has to do with it */
    size_t bytes;
    int input;       /* which graph input it is, -1 */
    int wanted;      /* the first wanted place it has, -1 */
    int first, last; /* steps between which its memory is its own */
    size_t offset;
    const char *undefined;
} PlanValue;

typedef struct PlanStep {
    ChipNode node;
    int *values;   /* one an end, inputs first; -1: left out. One more: what lies in front of input 0, for nodes that reach there */
    int end_count; /* with that one */
    int first_end; /* where its ends begin among those of all steps */
    size_t memory_offset;
    Headroom headroom; /* where options.headroom asks for it */
    bool prepared, needed;
} PlanStep;

/* The memory in which one thread runs samples. */
typedef struct ChipFrame {
    char *arena;
    void *scratch, *turning; /* turning: one input on its way into the stored layout */
    void **ends;             /* one an end of all steps */
} ChipFrame;

/* An end whose address changes from sample to sample. */
typedef struct PlanPatch {
    int end, value;
} PlanPatch;

struct ChipPlan {
    Chip chip;
    Graph *graph;
    ChipOptions options;
    Arena arena;       /* of the plan's small things */
    PlanValue *values; /* graph->values, the same order */
    int *sorted;       /* their positions, by address */
    int value_count;
    Node **order; /* of execution */
    PlanStep *steps;
    int step_count, end_count;
    int *wanted; /* positions of values */
    int wanted_count;
    PlanPatch *patches;
    int patch_count;
    size_t arena_bytes, scratch_bytes, turning_bytes, memory_bytes;
    char *memory;  /* kept from run to run */
    bool in_order; /* samples run one after another: state, or somebody watches */
    ChipFrame *frames;
    int frame_count;
};

int plan_value(const ChipPlan *plan, const Value *value); /* position, -1 for NULL and strangers */
bool plan_place(ChipPlan *plan, Error *error);
/* before.c: the position of the value that lies in the bytes in front of the step's input 0 when the step runs, -1: none does. */
bool plan_before(ChipPlan *plan, int step, int *value, Error *error);
void frames_free(ChipPlan *plan);

/* One input or output at the user's side: its shape there for one sample. */
Shape end_shape(const ChipPlan *plan, const PlanValue *value);
bool end_turns(const ChipPlan *plan, const PlanValue *value); /* another layout there */

/* A run in the making. */
typedef struct PlanRun {
    ChipPlan *plan;
    Tensor **inputs;  /* contiguous, owned; one a graph input */
    Tensor **results; /* one a wanted value; owned */
    int64_t samples;
    atomic_bool stopped;
} PlanRun;

bool ends_take(PlanRun *run, Tensor *const *inputs, Error *error); /* checks, makes contiguous, counts samples */
bool ends_make(PlanRun *run, Error *error);                        /* memory for the results */
void ends_release(PlanRun *run);
/* Where the sample's graph input lies in the stored layout and type; conversions go into the frame. */
void *ends_input(const PlanRun *run, const ChipFrame *frame, const PlanValue *value, int64_t sample);
void *ends_direct(const PlanRun *run, const PlanValue *value,
                  int64_t sample); /* where a step writes a wanted value at once; NULL: to the frame */
void ends_give(const PlanRun *run, int wanted, int64_t sample, const void *from); /* a wanted value that a step did not write there */

#endif
