/* Inside of the trainer: what trainer.c collects, trainer_run.c walks and checkpoint.c writes. */
#ifndef ESPQ_TRAIN_TRAINER_PARTS_H
#define ESPQ_TRAIN_TRAINER_PARTS_H

#include "train/trainer.h"

#define TRAINER_WALKS 2 /* of whole pieces, and of the rest of a batch */

typedef struct TrainedConstant {
    int value; /* of the graph's values */
    TrainedKind kind;
    int64_t count;
    float *values, *sum;      /* sum: of gradients over its uses and the pieces of a batch */
    int first_use, use_count; /* among the uses, one behind the other */
} TrainedConstant;

typedef struct TrainedUse {
    Node *node;
    int index, constant;
} TrainedUse;

typedef struct TrainedScale {
    Slot *slot;
    int count;
    float *log2, *sum;
} TrainedScale;

typedef struct TrainerWalk {
    Backward *walk;  /* NULL: free */
    Shape *shapes;   /* of its inputs */
    int piece;       /* of the batch, of its last forward; -1: none */
    int64_t version; /* of the values it has */
    int64_t used;    /* counts: the one used longest ago makes room */
    BackwardParameter *parameters;
    BackwardScale *scales;
} TrainerWalk;

struct Trainer {
    Graph *graph; /* a copy; its constants stay, its exponents follow trained scales */
    TrainerOptions options;
    char *identity;
    Setting *setting;
    Value **wanted;
    int wanted_count;
    TrainedConstant *constants;
    int constant_count;
    TrainedUse *uses;
    int use_count;
    TrainedScale *scales;
    int scale_count;
    Optimizer *optimizer;
    int group_count;
    float **group_values; /* of the constants, where they are trained, then of the scales */
    const float **group_gradients;
    TrainerWalk walks[TRAINER_WALKS];
    int64_t version, clock;
    size_t fixed_bytes, unit_bytes; /* of a walk: of any, and of `unit` samples; unit_bytes 0: not measured */
    int64_t unit;                   /* samples of the traced batch */
    Tensor **inputs;                /* of the last forward; NULL: no forward waits for its way back */
    int64_t samples, piece;
    int piece_count;
    bool diverged; /* in the last way back */
};

static inline bool trainer_moves_constants(const Trainer *trainer)
{
    return trainer->options.parts & TRAIN_WEIGHTS;
}

/* Writes trained scales into slots of `graph`, a copy of the trainer's or that itself, and lets biases follow. *changed: one moved. */
bool trainer_follow(const Trainer *trainer, Graph *graph, bool *changed, Error *error);
void trainer_forget(Trainer *trainer); /* the batch of the last forward */
void trainer_walk_free(TrainerWalk *walk);

#endif
