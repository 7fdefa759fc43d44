#include "run_operator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"

bool operator_open(OperatorRun *run, const char *type, int outputs)
{
    memset(run, 0, sizeof *run);
    run->exact = true;
    run->output_count = outputs;
    run->graph = graph_new("test", &run->error);
    if (run->graph) run->node = graph_add_node(run->graph, type, "the_node", &run->error);
    if (!run->node || !run->node->op) {
        test_failed(__FILE__, __LINE__, "%s: no such row: %s", type, run->error.what);
        graph_free(run->graph);
        run->graph = NULL;
        return false;
    }
    run->node->opset = 18;
    for (int i = 0; i < outputs; i++) {
        char name[16];
        snprintf(name, sizeof name, "y%d", i);
        node_add_output(run->graph, run->node, graph_add_value(run->graph, name, &run->error), &run->error);
    }
    return true;
}

void operator_input(OperatorRun *run, Tensor *tensor, bool constant)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", run->input_count);
    Value *value = NULL;
    if (tensor && constant) {
        value = graph_add_constant(run->graph, name, tensor, &run->error);
    } else if (tensor) {
        value = graph_add_value(run->graph, name, &run->error);
        value->dtype = tensor->dtype;
        value->shape = tensor->shape;
        value->shaped = true;
        graph_add_input(run->graph, value, &run->error);
    }
    node_add_input(run->graph, run->node, value, &run->error);
    run->inputs[run->input_count++] = tensor;
}

static bool run_once(OperatorRun *run, Tensor **outputs)
{
    Node *node = run->node;
    const Tensor *constants[OPERATOR_ENDS] = {NULL};
    Shape shapes[2 * OPERATOR_ENDS];
    Dtype dtypes[2 * OPERATOR_ENDS] = {DTYPE_NONE};
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const Value *value = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        shapes[i].rank = -1;
        if (!value) continue;
        if (i < node->input_count) constants[i] = value->constant;
        shapes[i] = value->shape;
        dtypes[i] = value->dtype;
    }
    Prepare prepare = {.node = node,
                       .constants = constants,
                       .input_shapes = shapes,
                       .output_shapes = shapes + node->input_count,
                       .input_dtypes = dtypes,
                       .output_dtypes = dtypes + node->input_count,
                       .exact = run->exact,
                       .wide = run->wide,
                       .simulated = run->simulated};
    bool ok = !node->op->prepare || node->op->prepare(&prepare, &run->error);
    char *scratch = ok ? memory_new_aligned(prepare.scratch_bytes + 64) : NULL;
    if (ok) {
        memset(scratch, 0xff, prepare.scratch_bytes + 64);
        for (int i = 0; i < node->output_count; i++) {
            outputs[i] = tensor_new(node->outputs[i]->dtype, &node->outputs[i]->shape, &run->error);
            if (!outputs[i]) {
                test_failed(__FILE__, __LINE__, "%s: output %d: %s", node->type, i, run->error.what);
                return false;
            }
            memset(outputs[i]->data, 0xff, tensor_bytes(outputs[i]));
        }
        Run execution = {.node = node, .inputs = run->inputs, .outputs = outputs, .state = prepare.state, .scratch = scratch};
        node->op->run(&execution);
        for (int i = 0; i < 64; i++) {
            if (scratch[prepare.scratch_bytes + (size_t)i] != (char)0xff) {
                test_failed(__FILE__, __LINE__, "%s writes behind its scratch memory", node->type);
                break;
            }
        }
    }
    if (prepare.state && node->op->release)
        node->op->release(prepare.state);
    else if (prepare.state)
        memory_free(prepare.state);
    memory_free(scratch);
    return ok;
}

bool operator_run(OperatorRun *run)
{
    Tensor *again[OPERATOR_ENDS] = {NULL};
    if (!run->node->op->infer(run->graph, run->node, &run->error)) return false;
    int threads = threads_count();
    threads_set_count(1);
    bool ok = run_once(run, run->outputs);
    threads_set_count(3);
    ok = ok && run_once(run, again);
    threads_set_count(threads);
    for (int i = 0; ok && i < run->output_count; i++) {
        if (memcmp(run->outputs[i]->data, again[i]->data, tensor_bytes(again[i])) != 0)
            test_failed(__FILE__, __LINE__, "%s: output %d differs with another number of threads", run->node->type, i);
    }
    for (int i = 0; i < run->output_count; i++)
        tensor_release(again[i]);
    return ok;
}

void operator_close(OperatorRun *run)
{
    for (int i = 0; i < OPERATOR_ENDS; i++) {
        tensor_release(run->inputs[i]);
        tensor_release(run->outputs[i]);
    }
    graph_free(run->graph);
    memset(run, 0, sizeof *run);
}

Tensor *test_tensor(int rank, const int64_t *dims)
{
    Error error = {0};
    Shape shape = shape_of(rank, dims);
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, &shape, &error);
    if (!tensor) abort();
    return tensor;
}

Tensor *test_random(Random *random, int rank, const int64_t *dims)
{
    Tensor *tensor = test_tensor(rank, dims);
    for (int64_t i = 0; i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = (float)random_normal(random);
    return tensor;
}

Tensor *test_values(int rank, const int64_t *dims, const float *values)
{
    Tensor *tensor = test_tensor(rank, dims);
    memcpy(tensor->data, values, tensor_bytes(tensor));
    return tensor;
}

Tensor *test_integers(int count, const int64_t *values)
{
    Error error = {0};
    Tensor *tensor = tensor_from_integers(values, count, &error);
    if (!tensor) abort();
    return tensor;
}

bool test_close(double a, double b, double tolerance)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return a == b;
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}
