#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "kernel/update.h"

#define PIECE 16384 /* elements a thread takes at a time */

typedef struct Piece {
    int group;
    int64_t first, count;
} Piece;

struct Optimizer {
    OptimizerOptions options;
    OptimizerGroup *groups;
    float **memories; /* one a group */
    float *floats;    /* of them all */
    Piece *pieces;
    int count, piece_count;
    int64_t steps;
};

static const OptimizerRow rows[] = {
    {"adam", "Adam; decay is added to the gradient", 2},
    {"adamw", "Adam; decay is taken off the values", 2},
    {"sgd", "plain gradients, with momentum where that is set", 1},
};

#define ROWS ((int)(sizeof rows / sizeof *rows))

const OptimizerRow *optimizer_row_at(int index)
{
    return index >= 0 && index < ROWS ? &rows[index] : NULL;
}

const OptimizerRow *optimizer_find(const char *name, Error *error)
{
    const char *names[ROWS];
    for (int i = 0; i < ROWS; i++) {
        names[i] = rows[i].name;
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    }
    int nearest = text_nearest(name, names, ROWS);
    fail(error, name, "adam, adamw or sgd", "there is no optimizer '%s' (did you mean '%s'?)", name, names[nearest < 0 ? 0 : nearest]);
    return NULL;
}

OptimizerOptions optimizer_defaults(const OptimizerRow *row)
{
    bool decoupled = strcmp(row->name, "adamw") == 0;
    return (OptimizerOptions){.row = row, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .decay = decoupled ? 0.01 : 0};
}

static bool make_arrays(Optimizer *optimizer, const OptimizerGroup *groups, int count, Error *error)
{
    int64_t floats = 0, pieces = 0;
    for (int i = 0; i < count; i++) {
        floats += groups[i].count * optimizer->options.row->memories;
        pieces += (groups[i].count + PIECE - 1) / PIECE;
    }
    optimizer->groups = memory_new_array((size_t)count + 1, sizeof *optimizer->groups);
    optimizer->memories = memory_new_array((size_t)count + 1, sizeof *optimizer->memories);
    optimizer->pieces = memory_new_array((size_t)pieces + 1, sizeof *optimizer->pieces);
    optimizer->floats = memory_new_array((size_t)floats + 1, sizeof *optimizer->floats);
    if (!optimizer->groups || !optimizer->memories || !optimizer->pieces || !optimizer->floats)
        return fail_memory(error, (size_t)floats * sizeof *optimizer->floats);
    float *memory = optimizer->floats;
    for (int i = 0; i < count; i++) {
        optimizer->groups[i] = groups[i];
        optimizer->memories[i] = memory;
        memory += groups[i].count * optimizer->options.row->memories;
        for (int64_t first = 0; first < groups[i].count; first += PIECE) {
            int64_t rest = groups[i].count - first;
            optimizer->pieces[optimizer->piece_count++] = (Piece){i, first, rest < PIECE ? rest : PIECE};
        }
    }
    optimizer->count = count;
    return true;
}

Optimizer *optimizer_new(const OptimizerOptions *options, const OptimizerGroup *groups, int count, Error *error)
{
    Optimizer *optimizer = memory_new(sizeof *optimizer);
    if (!optimizer) {
        fail_memory(error, sizeof *optimizer);
        return NULL;
    }
    optimizer->options = *options;
    if (make_arrays(optimizer, groups, count, error)) return optimizer;
    optimizer_free(optimizer);
    return NULL;
}

void optimizer_free(Optimizer *optimizer)
{
    if (!optimizer) return;
    memory_free(optimizer->groups);
    memory_free(optimizer->memories);
    memory_free(optimizer->pieces);
    memory_free(optimizer->floats);
    memory_free(optimizer);
}

typedef struct StepTask {
    const Optimizer *optimizer;
    double rate, correction1, root2;
    float *const *values;
    const float *const *gradients;
} StepTask;

static void adam_piece(const StepTask *task, const Piece *piece)
{
    const OptimizerOptions *options = &task->optimizer->options;
    const OptimizerGroup *group = &task->optimizer->groups[piece->group];
    double rate = task->rate * group->rate, decay = group->decays ? options->decay : 0;
    bool decoupled = options->row == &rows[1];
    float *memory = task->optimizer->memories[piece->group];
    AdamF32 adam = {.step = (float)(rate / task->correction1),
                    .inverse_root = (float)(1 / task->root2),
                    .rest1 = (float)(1 - options->beta1),
                    .keep2 = (float)options->beta2,
                    .rest2 = (float)(1 - options->beta2),
                    .epsilon = (float)options->epsilon,
                    .shrink = decoupled ? (float)(1 - rate * decay) : 1.0f,
                    .decay = decoupled ? 0.0f : (float)decay};
    adam_f32(&adam, task->values[piece->group] + piece->first, memory + piece->first, memory + group->count + piece->first,
             task->gradients[piece->group] + piece->first, piece->count);
}

static void momentum_piece(const StepTask *task, const Piece *piece)
{
    const OptimizerOptions *options = &task->optimizer->options;
    const OptimizerGroup *group = &task->optimizer->groups[piece->group];
    MomentumF32 momentum = {.rate = (float)(task->rate * group->rate),
                            .keep = (float)options->momentum,
                            .decay = group->decays ? (float)options->decay : 0.0f,
                            .nesterov = options->nesterov};
    float *memory = options->momentum != 0 ? task->optimizer->memories[piece->group] + piece->first : NULL;
    momentum_f32(&momentum, task->values[piece->group] + piece->first, memory, task->gradients[piece->group] + piece->first, piece->count);
}

static void step_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const StepTask *task = context;
    for (int64_t i = begin; i < end; i++) {
        const Piece *piece = &task->optimizer->pieces[i];
        if (task->optimizer->options.row->memories == 2)
            adam_piece(task, piece);
        else
            momentum_piece(task, piece);
    }
}

void optimizer_step(Optimizer *optimizer, double rate, float *const *values, const float *const *gradients)
{
    double t = (double)++optimizer->steps;
    StepTask task = {.optimizer = optimizer, .rate = rate, .values = values, .gradients = gradients};
    task.correction1 = 1 - espq_pow(optimizer->options.beta1, t);
    task.root2 = sqrt(1 - espq_pow(optimizer->options.beta2, t));
    threads_for(optimizer->piece_count, 1, step_body, &task);
}

int64_t optimizer_steps(const Optimizer *optimizer)
{
    return optimizer->steps;
}

void optimizer_set_steps(Optimizer *optimizer, int64_t steps)
{
    optimizer->steps = steps;
}

float *optimizer_memory(Optimizer *optimizer, int group, int64_t *count)
{
    *count = optimizer->groups[group].count * optimizer->options.row->memories;
    return optimizer->memories[group];
}
