/* A program: what of a plan never changes while it runs. Order, shapes of one piece, quantizations, prepared kernels, places in
 * memory. Frames (frame.h) run it; several frames may run one program at the same time.
 *
 * A piece is so many samples as the graph is run on at once. A batch of the traced size is one piece; another batch size is walked
 * in pieces of the traced size, or of more where every value is seen to grow with the batch along its first axis. */
#ifndef ESPQ_EXEC_PROGRAM_H
#define ESPQ_EXEC_PROGRAM_H

#include "exec/plan.h"
#include "exec/quantization.h"
#include "graph/operator.h"

typedef struct ProgramValue {
    Value *value;
    Dtype dtype;
    Shape shape;      /* of a piece */
    size_t bytes;     /* of a piece */
    Tensor *constant; /* a parameter, or what was computed when the program was made; owned */
    bool needed;      /* written or read by a step, or given */
    bool batched;     /* has the samples of a piece along axis 0 */
    int given;        /* index among the given values, -1 */
    bool wanted;
    bool outside;    /* lies outside the arena (given, wanted, kept) */
    int first, last; /* steps: written, last read */
    int home;        /* the value whose place it takes over (OPERATOR_IN_PLACE), or itself */
    int held;        /* a step that needs it though no input says so; 0: none */
    int until;       /* of a home: last step that needs the place */
    size_t offset;   /* in the arena, in bytes of a piece times the pieces of the arena */
} ProgramValue;

typedef struct ProgramEnd {
    int value; /* index, -1: left out */
    Quantization quantization;
    bool copies; /* input: a quantized copy is made; output: the raw result is kept for the watcher */
    bool watched;
    size_t offset; /* of that copy in the arena */
} ProgramEnd;

typedef struct ProgramStep {
    Node *node;
    int place; /* in graph->nodes */
    ProgramEnd *inputs, *outputs;
    Tensor **constants; /* one an input: as this run sees it, owned; NULL: an activation */
    Tensor **sources;   /* what the constants were made from, owned: a changed constant is another tensor */
    Prepare prepare;    /* its arrays belong to the step */
    bool prepared;
    bool batched;
    bool quantized; /* its slots are on */
} ProgramStep;

typedef struct Program {
    Graph *graph;
    PlanOptions options;
    Shape *input_shapes; /* of a piece */
    Value **given;
    int given_count;
    Value **wanted;
    int wanted_count;
    int *wanted_index;
    ProgramValue *values; /* graph->values, the same order */
    int value_count;
    ProgramStep *steps;
    int step_count;
    int64_t samples; /* of the batch asked for */
    int64_t piece;   /* samples of a piece */
    int64_t traced;  /* one piece: it could as well go in pieces of so many samples; 0: it could not */
    int pieces;
    bool one_thread;  /* a Lua operator: stays on the calling thread */
    int arena_pieces; /* pieces that lie in the arena side by side: 1, or all of them for a watcher */
    size_t arena_bytes, scratch_bytes;
    struct {
        const void *key;
        int index;
    } * index; /* sorted: value → its index */
} Program;

Program *program_new(Graph *graph, const PlanOptions *options, const Shape *shapes, Error *error);
void program_free(Program *program);
bool program_refresh(Program *program, Error *error);
int program_value(const Program *program, const Value *value); /* index */

/* One step made ready under other circumstances than the program's: slots on, for the layer that an analysis looks at. */
bool step_prepare(const Program *program, ProgramStep *step, const ProgramStep *like, bool quantized, Error *error);
void step_clear(ProgramStep *step);

/* shapes.c: which steps are needed, and shapes of everything. */
bool program_find_steps(Program *program, Error *error);
bool program_find_pieces(Program *program, const Shape *shapes, Error *error);

/* memory.c: places in the arena. */
bool program_place(Program *program, Error *error);
bool program_settle(Program *program, Error *error); /* copies and places, after values moved in or out of the arena */
/* Shape of a value over all samples of a walk: pieces joined along the first axis. */
Shape program_whole_shape(const Program *program, const ProgramValue *value, int64_t samples);
/* An input as the frames need it: checked, contiguous, of the graph's type, its last sample repeated to whole pieces. */
Tensor *program_take_input(const Program *program, int index, Tensor *input, Error *error);

#endif
