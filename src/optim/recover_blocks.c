/* Recovery's training block by block (OPTIM §6, §7): the weights and biases of a few layers at a time learn to give what the float network
 * has at their end, from the quantized values at their beginning. A step walks all blocks once with one unit, a quarter or less of what a
 * step of the whole network costs, and each block is corrected by its own error: the way to the place where training all together begins. */
#include <stdio.h>

#include "base/memory.h"
#include "base/progress.h"
#include "optim/recover.h"
#include "optim/training.h"

#define RATE 3e-4 /* of a parameter's root mean square */
#define PULL 20.0 /* see optim/pull.h */
#define BLOCK_SIZE 4
#define LEAST_STEPS 32
#define MOST_STEPS 1000
#define SHARE 0.15  /* of the budget */
#define COPIES 16   /* of each picture, all but one moved */
#define HOLDOUT 0.1 /* of them: these judge a block */

/* Learned units, and moved copies of them. */
typedef struct MovedTurn {
    const RecoverySamples *samples;
    uint64_t seed;
    Random random;
    int64_t at, copies;
} MovedTurn;

static bool moved_begin(void *context, Error *error)
{
    (void)error;
    MovedTurn *turn = context;
    turn->at = 0;
    random_seed(&turn->random, turn->seed);
    return true;
}

static bool moved_next(void *context, Tensor **inputs, bool *done, Error *error)
{
    MovedTurn *turn = context;
    const RecoverySamples *samples = turn->samples;
    *done = turn->at >= samples->learned * turn->copies;
    if (*done) return true;
    int64_t unit = turn->at % samples->learned;
    if (turn->at++ < samples->learned) return samples_take(samples, unit, 1, inputs, error);
    Shape shape = samples->inputs[0]->shape;
    Mixture mixture = mixture_any(&turn->random, samples, unit);
    shape.dims[0] = samples->unit;
    if (!(inputs[0] = tensor_new_unset(DTYPE_FLOAT32, &shape, error))) return false;
    mixture_fill(&mixture, samples, tensor_floats(inputs[0]));
    return true;
}

/* Measured on two cores with AVX-512: forward and back of all blocks with one unit. */
static double step_seconds(const Recovery *recovery)
{
    return recovery->macs * 1.0e-10 + recovery->graph->node_count * 1e-5;
}

bool recover_blocks(Recovery *recovery, Error *error)
{
    const RecoverySamples *samples = &recovery->samples;
    double steps = recovery->budget * SHARE / step_seconds(recovery);
    TrainSetting train = {.lr = RATE, .steps = steps > MOST_STEPS ? MOST_STEPS : (int64_t)steps, .block_size = BLOCK_SIZE};
    if (!samples->parted || train.steps < LEAST_STEPS) {
        text_format(&recovery->story, "blocks: left out, %s\n",
                    samples->parted ? "the budget is good for few steps only" : "there are too few calibration samples to hold one back");
        return true;
    }
    bool kept, ok = false;
    char step[96];
    Graph *graph = graph_copy(recovery->best, error);
    Setting *setting = graph ? setting_copy(recovery->setting, error) : NULL;
    if (setting) {
        setting->block_batches = setting->keep_best = 0;
        setting->block_holdout = HOLDOUT;
        setting->block_seed = recovery->context->setting->recover_setting.seed + 1;
        MovedTurn turn = {.samples = samples, .seed = (uint64_t)setting->block_seed, .copies = samples_are_pictures(samples) ? COPIES : 1};
        Batches batches = {&turn, samples->graph->input_count, moved_begin, moved_next};
        PassContext context = *recovery->context;
        context.setting = setting;
        context.batches = &batches;
        context.observed = NULL; /* of other graphs and data */
        context.memo = NULL;
        TrainMethod method = {.name = "recover: blocks",
                              .setting_name = "recover_setting",
                              .setting = &train,
                              .all = setting,
                              .relative = true,
                              .pull = PULL,
                              .cosine = true};
        int level = progress_level;
        progress_level = level < 1 ? level : 1;
        ok = train_all_blocks(graph, &context, &method, "recover_setting", error);
        progress_level = level;
    }
    setting_free(setting);
    if (!ok) {
        graph_free(graph);
        return false;
    }
    snprintf(step, sizeof step, "training block by block, %lld steps", (long long)train.steps);
    return recovery_offer(recovery, graph, step, &kept, error);
}
