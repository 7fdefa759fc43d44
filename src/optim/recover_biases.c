/* Bias correction in closed form (OPTIM §17.2): layer by layer, the mean error of its output at what it sees goes into its bias. No training
 * and no choice, one walk over the data: it takes out what rounding and clipping shift. */
#include "base/memory.h"
#include "base/progress.h"
#include "optim/optim.h"
#include "optim/recover.h"

bool recover_biases(Recovery *recovery, Error *error)
{
    SampleTurn turn = {&recovery->samples, 0};
    Batches batches = samples_batches(&turn);
    Graph *graph = graph_copy(recovery->best, error);
    Setting *setting = graph ? setting_copy(recovery->setting, error) : NULL;
    bool kept, ok = false;
    if (setting) {
        setting->bias_correct_setting.block_size = 1;
        setting->block_batches = recovery->samples.learned;
        setting->block_holdout = 0;
        PassContext context = *recovery->context;
        context.setting = setting;
        context.batches = &batches;
        context.observed = NULL; /* of other graphs and data */
        context.memo = NULL;
        int level = progress_level;
        progress_level = 0;
        ok = pass_bias_correct(graph, &context, error);
        progress_level = level;
    }
    setting_free(setting);
    if (ok) return recovery_offer(recovery, graph, "bias correction", &kept, error);
    graph_free(graph);
    return false;
}
