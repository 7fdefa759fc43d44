#include "slopes.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"

#define STEP (1.0 / 128)

bool slope_prepare(Slope *slope, OperatorRun *run)
{
    Node *node = run->node;
    *slope = (Slope){.run = run};
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const Value *value = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        slope->shapes[i].rank = -1;
        if (!value) continue;
        slope->shapes[i] = value->shape;
        slope->dtypes[i] = value->dtype;
        if (i < node->input_count && value->dtype != DTYPE_FLOAT32) slope->constants[i] = value->constant;
    }
    slope->prepare = (Prepare){.node = node,
                               .constants = slope->constants,
                               .input_shapes = slope->shapes,
                               .output_shapes = slope->shapes + node->input_count,
                               .input_dtypes = slope->dtypes,
                               .output_dtypes = slope->dtypes + node->input_count,
                               .exact = run->exact};
    if (node->op->prepare && !node->op->prepare(&slope->prepare, &run->error)) return false;
    slope->scratch = memory_new_aligned(slope->prepare.scratch_bytes + 64);
    return slope->scratch != NULL;
}

static void slope_run(const Slope *slope)
{
    const Node *node = slope->run->node;
    Run run = {.node = node,
               .inputs = slope->run->inputs,
               .outputs = slope->run->outputs,
               .state = slope->prepare.state,
               .scratch = slope->scratch};
    node->op->run(&run);
}

static double loss(const Slope *slope)
{
    double sum = 0;
    slope_run(slope);
    for (int i = 0; i < slope->run->output_count; i++)
        for (int64_t k = 0; slope->dy[i] && k < tensor_count(slope->dy[i]); k++)
            sum += (double)tensor_floats(slope->dy[i])[k] * (double)tensor_floats(slope->run->outputs[i])[k];
    return sum;
}

bool slope_gradient(const Slope *slope, Tensor *const *dx, int threads)
{
    const Node *node = slope->run->node;
    size_t bytes = node->op->gradient_scratch ? node->op->gradient_scratch(&slope->prepare) : 0;
    if (bytes == SIZE_MAX) return false;
    char *scratch = memory_new_aligned(bytes + 64);
    memset(scratch, 0xff, bytes + 64);
    Gradient gradient = {.node = node,
                         .inputs = slope->run->inputs,
                         .outputs = slope->run->outputs,
                         .output_gradients = slope->dy,
                         .input_gradients = dx,
                         .state = slope->prepare.state,
                         .scratch = scratch};
    for (int i = 0; i < node->input_count; i++)
        if (dx[i]) memset(dx[i]->data, 0xff, tensor_bytes(dx[i]));
    int before = threads_count();
    threads_set_count(threads);
    node->op->gradient(&gradient);
    threads_set_count(before);
    for (size_t i = bytes; i < bytes + 64; i++)
        if (scratch[i] != (char)0xff) {
            test_failed(__FILE__, __LINE__, "%s writes behind its scratch memory", node->type);
            break;
        }
    memory_free(scratch);
    return true;
}

static void compare(const Slope *slope, int input, double tolerance)
{
    float *x = tensor_floats(slope->run->inputs[input]);
    const float *dx = tensor_floats(slope->dx[input]);
    int64_t count = tensor_count(slope->run->inputs[input]), step = count / 40 + 1;
    double size = 0;
    for (int64_t i = 0; i < count; i++)
        size = fmax(size, fabs((double)dx[i]));
    for (int64_t i = 0; i < count; i += step) {
        float kept = x[i];
        x[i] = kept + (float)STEP;
        double above = loss(slope);
        x[i] = kept - (float)STEP;
        double below = loss(slope), expected = (above - below) / (2 * STEP);
        x[i] = kept;
        if (!(fabs(expected - (double)dx[i]) <= tolerance * (1 + size))) {
            char text[160];
            test_failed(__FILE__, __LINE__, "%s: input %d %s, element %d: %g, differences say %g", slope->run->node->type, input,
                        shape_text(&slope->run->inputs[input]->shape, text), (int)i, (double)dx[i], expected);
            return;
        }
    }
    slope_run(slope);
}

static const Operator *checked[256]; /* so that no row with a gradient is forgotten */
static int checked_count;

bool slopes_checked(const Operator *row)
{
    for (int i = 0; i < checked_count; i++)
        if (checked[i] == row) return true;
    return false;
}

int slopes_checked_rows(void)
{
    return checked_count;
}

void check_slopes(OperatorRun *run, Random *random, unsigned inputs, double tolerance)
{
    Slope slope;
    Node *node = run->node;
    if (!slopes_checked(node->op) && checked_count < 256) checked[checked_count++] = node->op;
    if (!operator_run(run) || !node->op->gradient || !slope_prepare(&slope, run)) {
        test_failed(__FILE__, __LINE__, "%s: %s", node->type, run->error.what);
        return;
    }
    for (int i = 0; i < node->output_count; i++)
        if (run->outputs[i]->dtype == DTYPE_FLOAT32) slope.dy[i] = random_shaped(random, &run->outputs[i]->shape);
    for (int i = 0; i < node->input_count; i++) {
        if (!run->inputs[i] || !(inputs >> i & 1)) continue;
        slope.dx[i] = test_tensor(run->inputs[i]->shape.rank, run->inputs[i]->shape.dims);
        slope.again[i] = test_tensor(run->inputs[i]->shape.rank, run->inputs[i]->shape.dims);
    }
    bool done = slope_gradient(&slope, slope.dx, 1) && slope_gradient(&slope, slope.again, 3);
    CHECK(done, "%s: no gradient with these attributes", node->type);
    for (int i = 0; done && i < node->input_count; i++) {
        if (!slope.dx[i]) continue;
        CHECK(tensor_equal(slope.dx[i], slope.again[i]), "%s: gradient of input %d differs with another number of threads", node->type, i);
        compare(&slope, i, tolerance);
    }
    for (int i = 0; i < OPERATOR_ENDS; i++) {
        tensor_release(slope.dy[i]);
        tensor_release(slope.dx[i]);
        tensor_release(slope.again[i]);
    }
    if (slope.prepare.state) {
        if (node->op->release)
            node->op->release(slope.prepare.state);
        else
            memory_free(slope.prepare.state);
    }
    memory_free(slope.scratch);
    operator_close(run);
}
