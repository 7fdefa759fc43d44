/* Inside of the room: recovery, espq's own way back to the float network's answers (OPTIM §17). It works on copies of the quantized graph;
 * each step offers a changed copy, and only what is nearer to the float network on the samples held back becomes the best so far. The
 * user's graph takes over the best at the very end, so that whatever fails or is interrupted before leaves it as it was. */
#ifndef ESPQ_OPTIM_RECOVER_H
#define ESPQ_OPTIM_RECOVER_H

#include "base/random.h"
#include "exec/batches.h"
#include "graph/pass.h"
#include "optim/run.h"
#include "quant/setting.h"

/* Samples are counted in units: as many as the graph was traced with. Those for learning come first, every fourth is held back behind
 * them. With fewer than four units all of them serve for both, and nothing is trained. */
typedef struct RecoverySamples {
    Graph *graph;    /* whose inputs they are */
    Tensor **inputs; /* one a graph input: all samples */
    int64_t unit, units, learned;
    bool parted; /* some are held back */
    int64_t chunk, chunks;
    Tensor **answers; /* of the float network: one a chunk and judged output */
    int *outputs;     /* places of the judged outputs: float ones */
    int output_count;
} RecoverySamples;

#define NOISE_LEAST_POWER 1e-12 /* an output that is all zero is judged by its error alone */

typedef struct Noise {
    double learned, held; /* noise : signal of the outputs, mean over units and outputs */
    /* The same as geometric means: of the typical sample. A single sample of little signal can make a mean of few what it likes. */
    double typical_learned, typical_held;
} Noise;

typedef struct Recovery {
    Graph *graph; /* the user's */
    const PassContext *context;
    Setting *setting; /* of the best so far: a calibration method may have been chosen */
    bool exact;
    RecoverySamples samples;
    Graph *best;
    Noise plain, noise; /* of the plain road, and of the best */
    double macs;        /* of one unit */
    double budget;      /* seconds on two cores: what steps are planned for, by what they cost */
    double began;       /* the clock at the beginning */
    Random random;
    Text story;     /* what each step bought, a line each */
    bool retouched; /* exponents or weights were set by hand or training before: roads walked again would lose that */
} Recovery;

/* recover_samples.c */
bool samples_read(RecoverySamples *samples, Graph *graph, const PassContext *context, Error *error); /* and the answers */
void samples_free(RecoverySamples *samples);
/* Inputs of units [first, first + count): views, released by the caller. */
bool samples_take(const RecoverySamples *samples, int64_t first, int64_t count, Tensor **inputs, Error *error);
bool samples_judge(const RecoverySamples *samples, Graph *graph, bool exact, Noise *noise, Error *error);
/* Batches of one unit each, for passes that calibrate. */
typedef struct SampleTurn {
    const RecoverySamples *samples;
    int64_t unit;
} SampleTurn;
Batches samples_batches(SampleTurn *turn); /* the turn lives as long as the batches */

/* recover_pictures.c */
typedef struct Motion {
    bool mirrored;
    double zoom, top, left, gain;
} Motion;

/* How a picture is moved, and the rectangle in which another one covers it. */
typedef struct Mixture {
    Motion motion, other_motion;
    int64_t unit, other; /* other < 0: none */
    int64_t top, left, bottom, right;
} Mixture;

bool samples_are_pictures(const RecoverySamples *samples);
Mixture mixture_any(Random *random, const RecoverySamples *samples, int64_t unit);
/* A unit of pictures made so; `to` has room for it. */
void mixture_fill(const Mixture *mixture, const RecoverySamples *samples, float *to);

/* recover_roads.c: the quantization passes walked again on copies, otherwise scaled and calibrated. */
bool recover_choose_road(Recovery *recovery, Error *error);
/* All of a copy of the graph quantized anew: its weights as float runs read them, its nodes for the platforms they have. */
bool recover_walk_again(const Recovery *recovery, Graph *graph, const Setting *setting, Error *error);

/* recover_width.c: a share of the products at 16 bits. */
bool recover_width(Recovery *recovery, Error *error);
bool recovery_wants_width(const Recovery *recovery);

/* recover_rounding.c: weights rounded so that the errors of a sum cancel (§17.1). */
bool recover_rounding(Recovery *recovery, Error *error);
/* One row after the other of `rows` x `columns` weights, quantized at 2^exponents (one a row, or one for all) between minimum and maximum.
 * moments: sum of x x' over the columns' numbers x, columns x columns, of which the upper half counts; used up. damping: added to its
 * diagonal, in means of it. Weights stay as they are where there is no such factor (numbers that are not finite). */
bool round_by_moments(double *moments, int64_t columns, int64_t rows, double damping, float *weights, const int *exponents,
                      int exponent_count, int64_t minimum, int64_t maximum, Error *error);

/* recover_biases.c: the mean error of each layer, into its bias (§17.2). */
bool recover_biases(Recovery *recovery, Error *error);

/* recover_alone.c: each exponent by itself beside the float network (§17.3). */
bool recover_alone(Recovery *recovery, Error *error);

/* recover_exponents.c: single exponents judged at the output, with all others in place (§17.3). */
bool recover_exponents(Recovery *recovery, Error *error);
/* The chip shifts products to the right only: how many outputs are finer than what they are made of? */
int recovery_fine_outputs(const Graph *graph);

/* recover_blocks.c: the constants of one block after the other, trained towards its own float outputs (§7). */
bool recover_blocks(Recovery *recovery, Error *error);

/* recover_training.c: weights and biases trained towards the float network's answers (§17.7). */
bool recover_training(Recovery *recovery, Error *error);

/* recover.c. The candidate becomes the best when the samples held back are nearer to the float network, in the mean or the typical one,
 * the mean of all is so, too, and the mean over those held back is below the plain road's; else it is freed. It is taken in any case. */
bool recovery_offer(Recovery *recovery, Graph *candidate, const char *step, bool *kept, Error *error);
double noise_over_all(const RecoverySamples *samples, const Noise *noise); /* sum over units; for comparing */
/* Until the clock ends the work: a plan that was too hopeful. What came out then depends on the machine, and the story says so. */
double recovery_seconds_left(const Recovery *recovery);
/* Was it a fault that only means "not this step"? Interrupts, memory and the user's own faults are none. */
bool recovery_may_skip(const Error *error);
/* `constant` in place of the value's; what float runs read stays as it was. */
void recovery_set_constant(Value *value, Tensor *constant);

#endif
