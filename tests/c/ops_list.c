/* What holds for every row of the list. */
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"

#include "run_operator.h"

/* Promise: each row is found by its name, once, and says what it is; one without a module says what to do instead. */
TEST(rows_are_whole)
{
    int count = 0;
    for (const Operator *row; (row = operator_at(count)); count++) {
        CHECK(operator_find(row->name) == row, "%s: found twice, or not at all", row->name);
        CHECK(row->help && row->help[0] && row->help[strlen(row->help) - 1] == '.', "%s: help is one sentence", row->name);
        CHECK(row->infer && row->cost && (row->run || strstr(row->help, "device graph")), "%s: infer, run or cost is missing", row->name);
        CHECK(row->module || row->module_cure, "%s: no module and no cure", row->name);
        CHECK(row->inputs.least <= row->inputs.most && row->outputs.least <= row->outputs.most, "%s: numbers of inputs and outputs",
              row->name);
        CHECK(!(row->scaled_inputs & ~row->float_inputs), "%s: scaled inputs are float inputs too", row->name);
        CHECK(!(row->flags & OPERATOR_WEIGHTED) || row->flags & OPERATOR_COMPUTING, "%s: weighted but not computing", row->name);
        for (int i = 0; row->attributes[i].name; i++) {
            REQUIRE(i < 13, "%s: no end of attributes", row->name);
            const AttributeSpec *spec = &row->attributes[i];
            if (spec->words && spec->text)
                CHECK(strstr(spec->words, spec->text), "%s: default of %s is no known word", row->name, spec->name);
        }
    }
    CHECK(count > 80, "only %d rows", count);
    CHECK(operator_at(-1) == NULL && operator_find("NoSuchOperator") == NULL, "what is not there is NULL");
}

/* Promise: the nearest name helps with a typing error; a registered row is found and gone again. */
TEST(rows_are_found_and_registered)
{
    static const Operator own = {.name = "MyOwnOperator", .help = "Mine."};
    const char *near = operator_nearest("Convv");
    CHECK(near && strcmp(near, "Conv") == 0, "%s", near ? near : "none");
    CHECK(operator_register(&own) && operator_find("MyOwnOperator") == &own, "registered");
    CHECK(!operator_register(&own), "the name is taken");
    operator_unregister("MyOwnOperator");
    CHECK(!operator_find("MyOwnOperator"), "gone");
}

/* Inputs for a row that is tried without knowing it: float32 of a few shapes, integers for ends that are never quantized. */
static void offer(OperatorRun *run, Random *random, int pattern)
{
    static const int64_t shapes[5][4] = {{2, 4, 6, 6}, {2, 4, 6, 1}, {4, 4, 1, 1}, {2, 4, 1, 1}, {6, 6, 1, 1}};
    static const int ranks[5] = {4, 3, 2, 1, 2};
    const Operator *row = run->node->op;
    int inputs = row->inputs.least > 0 ? row->inputs.least : 1;
    for (int i = 0; i < inputs && i < 6; i++) {
        int which = (pattern + (pattern / 5 % 2 ? i : 0)) % 5;
        if (i > 0 && row->float_inputs >> i & 1)
            operator_input(run, test_integers(1, (int64_t[]){pattern % 2}), true);
        else
            operator_input(run, test_random(random, ranks[which], shapes[which]), i > 0 && pattern / 10 % 2);
    }
}

/* Promise: whatever a row is given, it computes its whole output, the same with any number of threads, or refuses with node and cause. */
TEST(rows_compute_or_refuse)
{
    Random random;
    random_seed(&random, 43);
    int computed = 0;
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        bool ran = false;
        if (!row->run) continue; /* lives in device graphs only */
        for (int pattern = 0; pattern < 20; pattern++) {
            OperatorRun run;
            if (!operator_open(&run, row->name, row->outputs.least > 0 ? row->outputs.least : 1)) return;
            offer(&run, &random, pattern);
            bool ok = operator_run(&run);
            ran = ran || ok;
            if (!ok)
                CHECK(run.error.what[0] && strstr(run.error.where, "the_node"), "%s: refused without saying what or where: %s (%s)",
                      row->name, run.error.what, run.error.where);
            for (int k = 0; ok && k < run.output_count; k++) {
                const Value *value = run.node->outputs[k];
                CHECK(value->shaped && value->dtype != DTYPE_NONE, "%s: output %d has no shape or type", row->name, k);
            }
            operator_close(&run);
        }
        computed += ran;
    }
    CHECK(computed > 40, "only %d rows computed anything", computed);
}

/* Promise: sizes that no memory holds are refused by every row before anything is computed from them. */
TEST(rows_refuse_impossible_sizes)
{
    static const Shape shapes[] = {{.rank = 4, .dims = {INT64_MAX, INT64_MAX, 3, 3}},
                                   {.rank = 4, .dims = {1, 1, INT64_MAX / 2, 4}},
                                   {.rank = 3, .dims = {1 << 30, 1 << 30, 1 << 30}},
                                   {.rank = 4, .dims = {1, 3, -1, INT64_MIN}}};
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        for (size_t k = 0; row->inputs.least > 0 && k < sizeof shapes / sizeof *shapes; k++) {
            OperatorRun run;
            if (!operator_open(&run, row->name, 1)) return;
            for (int n = 0; n < row->inputs.least && n < 6; n++) {
                operator_input(&run, test_tensor(DIMS(1)), false);
                run.node->inputs[n]->shape = shapes[k];
            }
            node_set_integers(run.graph, run.node, "kernel_shape", INTS(3, 3));
            CHECK(!row->infer(run.graph, run.node, &run.error), "%s takes sizes %zu", row->name, k);
            operator_close(&run);
        }
    }
}

/* Prepare with allocation n failing: the answer is an error and nothing is left. False when the fault was not reached. */
static bool prepare_fails(const OperatorRun *run, long n)
{
    const Node *node = run->node;
    const Tensor *constants[OPERATOR_ENDS] = {NULL};
    Shape shapes[OPERATOR_ENDS + 1] = {{0}};
    for (int i = 0; i < node->input_count; i++) {
        constants[i] = node->inputs[i]->constant;
        shapes[i] = node->inputs[i]->shape;
    }
    Prepare prepare = {
        .node = node, .constants = constants, .input_shapes = shapes, .output_shapes = &node->outputs[0]->shape, .exact = true};
    Error error = {0};
    long blocks = fault_blocks();
    fault_arm(FAULT_ALLOCATION, FAULT_ONCE, n);
    bool ok = node->op->prepare(&prepare, &error), reached = fault_disarm();
    CHECK(ok != reached && (ok || error.code == ERROR_MEMORY), "%s: allocation %ld: %s", node->type, n, error.what);
    if (prepare.state && node->op->release)
        node->op->release(prepare.state);
    else if (prepare.state)
        memory_free(prepare.state);
    CHECK(fault_blocks() == blocks, "%s: leak when allocation %ld fails", node->type, n);
    return reached;
}

/* Promise: whatever allocation fails in prepare, the row says so and leaks nothing. */
TEST(rows_prepare_without_memory)
{
    static const char *const types[] = {"Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "LayerNormalization", "Softmax", "LSTM"};
    Random random;
    random_seed(&random, 47);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        OperatorRun run;
        if (!operator_open(&run, types[i], 1)) return;
        if (strcmp(types[i], "LSTM") == 0) {
            operator_input(&run, test_random(&random, DIMS(5, 1, 3)), false);
            operator_input(&run, test_random(&random, DIMS(1, 16, 3)), true);
            operator_input(&run, test_random(&random, DIMS(1, 16, 4)), true);
        } else {
            bool spatial = strstr(types[i], "Conv") || strstr(types[i], "Pool");
            operator_input(&run, test_random(&random, spatial ? 4 : 2, (int64_t[]){4, 4, 4, 4}), false);
            if (run.node->op->inputs.least > 1) operator_input(&run, test_random(&random, spatial ? 4 : 2, (int64_t[]){4, 4, 3, 3}), true);
        }
        node_set_integers(run.graph, run.node, "kernel_shape", INTS(3, 3));
        if (strcmp(types[i], "LayerNormalization") == 0) node_set_integer(run.graph, run.node, "axis", 0);
        REQUIRE(run.node->op->infer(run.graph, run.node, &run.error), "%s: %s", types[i], run.error.what);
        long n = 0;
        while (prepare_fails(&run, n))
            n++;
        CHECK(n > 0, "%s allocates nothing", types[i]);
        operator_close(&run);
    }
}
