/* Inside of the room: one block in training (OPTIM §6.4 to §9): its constants and scales, walks over it, and its loss against what the
 * float graph gives. */
#ifndef ESPQ_OPTIM_TRAINING_H
#define ESPQ_OPTIM_TRAINING_H

#include "exec/backward.h"
#include "exec/cache.h"
#include "graph/pass.h"
#include "optim/blocks.h"
#include "optim/rounding.h"
#include "quant/setting.h"
#include "train/optimizer.h"

typedef struct TrainMethod {
    const char *name, *setting_name; /* of the pass; "tqt_optimization_setting" */
    const TrainSetting *setting;
    const Setting *all;
    bool scales;   /* exponents are trained, too (TQT, is_scale_trainable) */
    bool rounding; /* the rounding of weights is trained instead of weights (AdaRound) */
    bool biases;   /* with rounding: biases are trained, too */
    bool soft;     /* with rounding: as the reference does it (O11) */
    bool follows;  /* what follows a scale keeps up with it (O19) */
    bool relative; /* rates are shares of a constant's root mean square: nets scaled otherwise learn alike */
    double pull;   /* see optim/pull.h; 0: none */
    bool cosine;   /* the rate falls to nothing along half a cosine */
} TrainMethod;

/* Seconds of all blocks. */
typedef struct TrainTimes {
    double forward, backward, update;
} TrainTimes;

/* All blocks of a graph, as a method has it; the graph is as it was when this fails. interested: name of the setting's list of layers. */
bool train_all_blocks(Graph *graph, PassContext *context, const TrainMethod *method, const char *interested, Error *error);

#define TRAINING_WALKS 2 /* batches of so many shapes have walks standing ready */

typedef struct TrainingWalk {
    Backward *walk; /* NULL: none */
    Shape *shapes;  /* of the given values */
    BackwardParameter *parameters;
    BackwardScale *scales;
    Tensor **gradients; /* one an output */
} TrainingWalk;

typedef struct Training {
    Graph *graph;
    const Block *block;
    const TrainMethod *method;
    Cache *cache;
    TrainTimes *times;
    Value **inputs, **outputs;
    int input_count, output_count;
    BackwardParameter *parameters; /* node and index of what is trained */
    int parameter_count;
    Slot **scales;
    int scale_count;
    const int **starts;     /* one a scale: its exponents as they were */
    SoftRounding *rounding; /* one a parameter, where the method trains rounding; value NULL: this one is trained as it is */
    TrainingWalk walks[TRAINING_WALKS];
    int current, walk_count; /* current: holds the present values */
    Optimizer *optimizer;
    float **values;
    const float **gradients;
    Tensor **rows; /* of the cache: float outputs, then inputs */
    const Tensor **results;
    int64_t learning, judging, first_judge; /* batches trained on, and that judge; the first of those */
    int64_t best_step;                      /* keep_best: the step that the state is of after training_run; else 0 */
} Training;

/* What of the block is trained. Makes no walk yet. */
bool training_begin(Training *training, Graph *graph, const Block *block, const TrainMethod *method, Error *error);
bool training_has_work(const Training *training);
/* Did an exponent of this scale move? */
int training_moved(const Training *training, int scale);
void training_end(Training *training); /* all zero is fine */

/* Mean over the judging batches of the squared error. *finite: it is a number. */
bool training_loss(Training *training, double *loss, Error *error);
/* steps of the optimizer; *finite false: a loss was no number, and it ended there. With keep_best the state is then the best one seen. */
bool training_run(Training *training, bool *finite, Error *error);
/* What was trained, to the graph; *finite false: it is no number, nothing was written. */
bool training_keep(Training *training, bool *finite, Error *error);

#endif
