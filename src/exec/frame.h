/* A frame: the memory in which one thread runs a program, piece by piece. */
#ifndef ESPQ_EXEC_FRAME_H
#define ESPQ_EXEC_FRAME_H

#include "exec/program.h"

typedef struct Frame {
    const Program *program;
    Tensor *tensors; /* one a value: header of the piece at hand */
    Tensor *copies;  /* one an end of a step, for copies; copy_start tells where a step's begin */
    int *copy_start;
    Tensor **pointers; /* inputs and outputs as `run` sees them, from copy_start as well */
    char **bases;      /* one a value: where its first piece lies */
    char *arena;
    bool owns_arena;
    void *scratch;
    Error error; /* of the thread that runs it: large, so not on a stack */
} Frame;

void frame_header(Tensor *tensor, Dtype dtype, const Shape *shape); /* contiguous, no data */

/* arena NULL: the frame has its own. */
bool frame_new(Frame *frame, const Program *program, char *arena, Error *error);
bool frame_refresh(Frame *frame, char *arena, Error *error); /* after program_refresh: other places, more memory */
void frame_free(Frame *frame);

size_t frame_distance(const Program *program, const ProgramValue *value); /* bytes from piece to piece */
void frame_bind(Frame *frame, int value, int piece);                      /* its header shows this piece */
void frame_bind_all(Frame *frame, int piece);
/* Quantize inputs, run, quantize outputs. The ends are bound. */
void frame_run(Frame *frame, const ProgramStep *step, int index, int piece);

#endif
