/* The trainer of a quantized graph (OPTIM §14): weights, biases, slopes, norms and scales change by gradients that a loss outside gives,
 * with fake quantization in place.
 *
 *     Trainer *trainer = trainer_new(graph, &options, error);
 *     for each batch:
 *         trainer_forward(trainer, inputs, outputs, error);        whole batch, new references
 *         … loss of outputs, its gradients …
 *         trainer_back(trainer, gradients, error);                 one step of the optimizer
 *     trainer_apply(trainer, graph, error);                        the graph has what was learnt
 *     trainer_free(trainer);
 *
 * It works on a copy: the graph given stays as it is until trainer_apply. A step that fails, or is interrupted, changes nothing. The same
 * batches give the same bytes on any number of threads and every instruction set; a memory limit that splits batches into pieces changes
 * the order of sums, and so the last bits, in the same way everywhere. */
#ifndef ESPQ_TRAIN_TRAINER_H
#define ESPQ_TRAIN_TRAINER_H

#include "exec/backward.h"
#include "quant/setting.h"
#include "train/optimizer.h"
#include "train/schedule.h"

typedef enum { TRAIN_WEIGHTS = 1, TRAIN_SCALES = 2 } TrainerParts; /* WEIGHTS: all constants that are trained */

typedef enum { TRAINED_NOT, TRAINED_WEIGHT, TRAINED_BIAS, TRAINED_SLOPE, TRAINED_NORM } TrainedKind;

/* What training makes of this input of a node: only weights, biases, slopes of PRelu, and factors and offsets of normalizations. */
TrainedKind trained_kind(const Node *node, int index);

typedef struct TrainerOptions {
    bool exact; /* onnx_exact_ops, see Prepare */
    const Setting *setting;
    OptimizerOptions optimizer; /* decay: of weights only */
    Schedule schedule;
    unsigned parts;               /* TrainerParts */
    double bias_rate, scale_rate; /* of biases, slopes and norms; of scales: times the rate of the step */
    size_t memory_limit;          /* bytes a walk may hold; larger batches go through in pieces. 0: any */
    const char *const *outputs;   /* names of the tensors that losses see; NULL: the graph's outputs */
    int output_count;
    const char *identity; /* names the graph in checkpoints */
} TrainerOptions;

typedef struct Trainer Trainer;

/* Fails for a graph that is not quantized or whose weights are baked, where nothing can be trained, and for unknown outputs. */
Trainer *trainer_new(const Graph *graph, const TrainerOptions *options, Error *error);
void trainer_free(Trainer *trainer); /* NULL is fine */

int trainer_output_count(const Trainer *trainer);
const char *trainer_output_name(const Trainer *trainer, int index);

/* inputs: in the graph's order, contiguous, of its types. outputs[i]: a new reference, the whole batch's. */
bool trainer_forward(Trainer *trainer, Tensor *const *inputs, Tensor **outputs, Error *error);
/* gradients[i]: d loss / d output i of the last forward, float32, contiguous, of its shape; NULL: none. Makes a step, once a forward. */
bool trainer_back(Trainer *trainer, Tensor *const *gradients, Error *error);

bool trainer_diverged(const Trainer *trainer); /* the last trainer_back failed for a gradient that is not finite */

int64_t trainer_steps(const Trainer *trainer);
double trainer_rate(const Trainer *trainer);                                   /* of the next step */
int64_t trainer_count(const Trainer *trainer, TrainedKind kind, int *tensors); /* numbers that are trained; TRAINED_NOT: scales */
int64_t trainer_piece(const Trainer *trainer, int64_t samples);                /* samples that went through at once in the last forward */

/* Puts what was learnt into a graph of the same structure: the one the trainer was made from, or a copy of it. Exponents of biases are derived
 * anew: input times weight. */
bool trainer_apply(const Trainer *trainer, Graph *graph, Error *error);

/* A checkpoint holds all that the next steps depend on, and a note of the caller's. Written whole or not at all. */
bool trainer_save(Trainer *trainer, const char *path, const char *note, size_t note_length, Error *error);
/* Fails, and changes nothing, for a file that is cut, damaged, or of another graph or other options. *note: freed by the caller. */
bool trainer_load(Trainer *trainer, const char *path, char **note, size_t *note_length, Error *error);

#endif
