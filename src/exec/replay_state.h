/* Inside of the replay: what replay.c lays out once and replay_run.c walks. */
#ifndef ESPQ_EXEC_REPLAY_STATE_H
#define ESPQ_EXEC_REPLAY_STATE_H

#include "exec/frame.h"
#include "exec/replay.h"
#include "exec/sums.h"

/* Memory in which one thread replays: its own values behind a layer, kept ones elsewhere. */
typedef struct Stage {
    Tensor *tensors; /* one a value: header of the piece at hand */
    bool *changed;   /* one a value: differs from the kept one, lies in the arena */
    int first_piece; /* of those that are replayed together */
    Tensor **ends;   /* inputs and outputs of the step at hand */
    Tensor *copies;  /* headers of quantized inputs */
    char *arena;
    void *scratch;
} Stage;

struct Replay {
    Program *program; /* in float, of all samples */
    Node **layers;
    int layer_count;
    int *layer_steps;       /* index of the step, -1: its outputs reach nothing that is wanted */
    ProgramStep *simulated; /* one a layer: its step with slots on */
    size_t scratch_bytes;   /* of all steps, simulated ones as well */
    bool *kept;             /* one a value: a replay reads it */
    size_t *kept_offset;    /* in the kept memory, times the pieces of a group */
    size_t kept_bytes;      /* of one piece */
    char *memory;           /* kept values of a group of pieces */
    int group;              /* pieces kept at a time */
    int together;           /* pieces replayed side by side, so that weights are read once for all of them */
    size_t *offsets;        /* one a value: where a replay writes it in a stage's arena */
    size_t arena_bytes, copies_offset, sums_offset;
    Sums sums;
    int widest; /* most ends of a step */
    Stage *stages;
    int stage_count;
    Frame *frames; /* of the float walk */
    int frame_count;
};

/* Memory of quantized inputs and values begins at whole cache lines. */
static inline size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* replay.c */
/* What one step writes is changed from then on. */
void replay_mark_outputs(const ProgramStep *step, bool *changed);
/* Is a step behind the layer run again? */
bool replay_reaches(const Replay *replay, int index, const bool *changed);
/* Memory of each thread that may take part. */
bool replay_make_stages(Replay *replay, Error *error);

#endif
