/* Inside of the training walk: what backward.c lays out once and backward_run.c walks. */
#ifndef ESPQ_EXEC_BACKWARD_WALK_H
#define ESPQ_EXEC_BACKWARD_WALK_H

#include "exec/backward.h"
#include "exec/program.h"

#define LN2 0.69314718055994530942

/* Numbers of a piece, the pieces one behind the other. Places are offsets until the walk's memory is made. */
typedef struct Place {
    char *base;
    size_t offset, apart; /* apart: from piece to piece; 0: all pieces share one */
    bool used;
} Place;

typedef struct WalkEnd {
    Place copy;      /* input: quantized; output: before it was quantized */
    int parameter;   /* -1: none */
    int scale;       /* of its own that is trained, -1: none */
    bool wants;      /* input: a gradient goes back through it */
    Tensor seen;     /* input: as run sees it; output: as run leaves it */
    Tensor gradient; /* header of its gradient */
    size_t spare;    /* input: where its gradient is made when the value's has been begun, in the spare memory */
} WalkEnd;

typedef struct WalkStep {
    ProgramStep *program;
    WalkEnd *inputs, *outputs;
    Tensor **seen_inputs, **left_outputs, **output_gradients, **input_gradients; /* pointers for Run and Gradient */
    bool back;                                                                   /* something before or in it is trained */
    int ahead;      /* of a whole batch: its last unit; whatever it reads must stand for all of them */
    bool in_blocks; /* elementwise, and quantized by one scale: done block by block (backward_blocks.c), the raw output is not kept */
} WalkStep;

typedef struct WalkValue {
    Place place;              /* as its readers find it; given values: in the caller's tensor */
    Place gradient;           /* of the piece at hand */
    int room;                 /* of the gradient, -1: none */
    bool needs;               /* something it hangs on is trained */
    int begun;                /* units whose gradient was begun in this walk */
    int segment;              /* the only one that reads and writes it, unit by unit; -1: there are others */
    const Quantization *made; /* how its producer left it; NULL: unknown */
    bool made_trained;
} WalkValue;

typedef struct WalkParameter {
    Place values, seen, gradient;
    const struct WalkStep *step; /* that reads it; NULL: none between given and wanted values */
    bool written;                /* its gradient, in this walk back */
} WalkParameter;

/* Steps [first, end) of the order of execution. */
typedef struct WalkSegment {
    int first, end;
    bool by_unit; /* one unit after the other goes through all of them, while its numbers are in the cache; else the batch through each */
} WalkSegment;

struct Backward {
    BackwardOptions options;
    Program *program;
    WalkStep *steps;
    Program *unit_program; /* of the traced size; NULL: no segment goes by units */
    WalkStep *unit_steps;
    int units;
    WalkSegment *segments;
    int segment_count;
    WalkValue *values;
    WalkParameter *parameters;
    char *memory;
    size_t bytes;
    Place scratch, spare; /* scratch: of run and gradient; spare: gradients made beside others */
    Tensor **inputs;      /* of the last forward */
    Tensor *outputs;      /* headers of the wanted values */
    Tensor *input_gradients;
    Place *input_places;
    double *sums;          /* of scales, one a channel, in the walk back */
    float *channel_scales; /* of the end that is quantized */
    float **scale_memory;
};

/* backward_run.c: the scale of an end, as it is now. */
float walk_scale(const Backward *walk, const Quantization *quantization, int scale, int channel);

/* backward_blocks.c: what the step reads goes through the operator and the quantization of its output, and the output's gradient back
 * through both; NULL input gradient: only the scale's is wanted. */
bool blocks_fit(const Backward *walk, const WalkStep *step);
void blocks_run(const Backward *walk, const WalkStep *step, float *to);
void blocks_back(Backward *walk, const WalkStep *step);

#endif
