/* Elementwise steps of the training walk, block by block: a block goes through the operator and the quantization while it is in the first
 * cache. On the way back its raw output is made again from what the step read, which costs less than to have kept it. */
#include "base/threads.h"
#include "exec/backward_walk.h"
#include "exec/frame.h"
#include "kernel/gradient.h"
#include "kernel/quantize.h"

#define BLOCK 4096 /* a block of the sum that a scale's gradient is (kernel/gradient.h) */
#define GRAIN 4    /* blocks a thread takes at least */
#define GROUP 256  /* blocks whose sums wait on the stack until they are added in order */
#define MOST_INPUTS 3

bool blocks_fit(const Backward *walk, const WalkStep *step)
{
    const ProgramStep *program = step->program;
    const Node *node = program->node;
    if (!(node->op->flags & OPERATOR_ELEMENTWISE) || node->input_count > MOST_INPUTS || node->output_count != 1) return false;
    if (program->inputs[0].value < 0 || program->outputs[0].value < 0 || program->constants[0]) return false;
    const ProgramValue *x = &walk->program->values[program->inputs[0].value], *y = &walk->program->values[program->outputs[0].value];
    const Quantization *quantization = &program->outputs[0].quantization;
    return quantization->on && quantization->count == 1 && x->dtype == DTYPE_FLOAT32 && y->dtype == DTYPE_FLOAT32 &&
           shape_count(&x->shape) == shape_count(&y->shape);
}

typedef struct BlocksTask {
    const WalkStep *step;
    const Quantization *quantization;
    int64_t count, first; /* first: block of the group */
    bool trained;
    float scale;
    float *to;    /* forward: what is seen; back: the input's gradient */
    double *sums; /* one a block of the group */
} BlocksTask;

/* Headers for one block. */
typedef struct Ends {
    Tensor x, y, dy, dx;
    Tensor *inputs[MOST_INPUTS], *outputs[1], *output_gradients[1], *input_gradients[MOST_INPUTS];
} Ends;

static void part(Tensor *tensor, int64_t count, float *data)
{
    Shape shape = {.rank = 1, .dims = {count}};
    frame_header(tensor, DTYPE_FLOAT32, &shape);
    tensor->data = (char *)data;
}

static void run_part(const BlocksTask *task, Ends *ends, int64_t at, int64_t count, float *y)
{
    const ProgramStep *program = task->step->program;
    for (int i = 0; i < program->node->input_count; i++)
        ends->inputs[i] = task->step->seen_inputs[i];
    part(&ends->x, count, tensor_floats(ends->inputs[0]) + at);
    part(&ends->y, count, y);
    ends->inputs[0] = &ends->x;
    ends->outputs[0] = &ends->y;
    Run run = {.node = program->node, .inputs = ends->inputs, .outputs = ends->outputs, .state = program->prepare.state};
    program->node->op->run(&run);
}

static void run_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const BlocksTask *task = context;
    const Quantization *quantization = task->quantization;
    _Alignas(64) float y[BLOCK];
    Ends ends;
    for (int64_t block = begin; block < end; block++) {
        int64_t at = block * BLOCK, count = task->count - at < BLOCK ? task->count - at : BLOCK;
        run_part(task, &ends, at, count, y);
        if (task->trained)
            fake_quantize_scale_f32(y, task->to + at, count, task->scale, quantization->minimum, quantization->maximum,
                                    quantization->rounding);
        else
            fake_quantize_f32(y, task->to + at, count, quantization->exponent, quantization->minimum, quantization->maximum,
                              quantization->rounding);
    }
}

static BlocksTask make_task(const Backward *walk, const WalkStep *step, float *to)
{
    const ProgramEnd *end = &step->program->outputs[0];
    int scale = step->outputs[0].scale;
    return (BlocksTask){.step = step,
                        .quantization = &end->quantization,
                        .count = tensor_count(&step->outputs[0].seen),
                        .trained = scale >= 0,
                        .scale = walk_scale(walk, &end->quantization, scale, 0),
                        .to = to};
}

void blocks_run(const Backward *walk, const WalkStep *step, float *to)
{
    BlocksTask task = make_task(walk, step, to);
    threads_for((task.count + BLOCK - 1) / BLOCK, GRAIN, run_body, &task);
}

static void back_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const BlocksTask *task = context;
    const ProgramStep *program = task->step->program;
    const Quantization *quantization = task->quantization;
    _Alignas(64) float y[BLOCK], masked[BLOCK];
    Ends ends;
    for (int64_t block = begin; block < end; block++) {
        int64_t at = (task->first + block) * BLOCK, count = task->count - at < BLOCK ? task->count - at : BLOCK;
        const float *dy = tensor_floats(task->step->output_gradients[0]) + at;
        run_part(task, &ends, at, count, y);
        task->sums[block] = fake_quantize_gradient_f32(y, dy, masked, count, task->scale, quantization->minimum, quantization->maximum,
                                                       quantization->rounding);
        if (!task->to) continue;
        for (int i = 0; i < program->node->input_count; i++)
            ends.input_gradients[i] = NULL;
        part(&ends.dy, count, masked);
        part(&ends.dx, count, task->to + at);
        ends.output_gradients[0] = &ends.dy;
        ends.input_gradients[0] = &ends.dx;
        Gradient gradient = {.node = program->node,
                             .inputs = ends.inputs,
                             .outputs = ends.outputs,
                             .output_gradients = ends.output_gradients,
                             .input_gradients = ends.input_gradients,
                             .state = program->prepare.state};
        program->node->op->gradient(&gradient);
    }
}

void blocks_back(Backward *walk, const WalkStep *step)
{
    int scale = step->outputs[0].scale;
    double sums[GROUP], sum = 0.0;
    BlocksTask task = make_task(walk, step, step->inputs[0].wants ? tensor_floats(step->input_gradients[0]) : NULL);
    int64_t blocks = (task.count + BLOCK - 1) / BLOCK;
    task.sums = sums;
    for (; task.first < blocks; task.first += GROUP) {
        int64_t count = blocks - task.first < GROUP ? blocks - task.first : GROUP;
        threads_for(count, GRAIN, back_body, &task);
        for (int64_t i = 0; i < count; i++)
            sum += sums[i];
    }
    if (scale >= 0) walk->options.scales[scale].gradient[0] += (float)(sum * (double)task.scale * LN2);
}
