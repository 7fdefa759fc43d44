#include <math.h>
#include <string.h>

#include "check.h"
#include "exec_graphs.h"

static Shape asked_shape;
static int asked_case;

enum { GOOD, SHAPED, NOT_A_NUMBER, ZERO, SAME, BYTES, DOUBLE, OUTLIER };

static Tensor *make_case(int batch, int64_t samples)
{
    Error error = {0};
    Shape shape = net_shape(samples);
    if (asked_case == SHAPED) return random_tensor(&asked_shape, 1);
    if (asked_case == BYTES) return tensor_new(DTYPE_UINT8, &shape, &error);
    Tensor *tensor = random_tensor(&shape, asked_case == SAME ? 1 : 1 + (uint64_t)batch);
    if (asked_case == NOT_A_NUMBER && batch == 1) tensor_floats(tensor)[50 + 25 + 7] = NAN;
    if (asked_case == ZERO) memset(tensor->data, 0, tensor_bytes(tensor));
    if (asked_case == OUTLIER && batch == 2) tensor_floats(tensor)[60] = 300;
    if (asked_case != DOUBLE) return tensor;
    Tensor *converted = tensor_convert(tensor, DTYPE_FLOAT64, &error);
    tensor_release(tensor);
    return converted;
}

static Error said;
static const int64_t sizes[] = {4, 4, 3};

/* Walks three batches; false with the message in `said`. */
static bool walk(Graph *graph, int which, int batches)
{
    TestBatches data;
    BatchWalk walk;
    bool fine = true, done = false;
    said = (Error){0};
    asked_case = which;
    test_batches(&data, sizes, batches, make_case);
    if (!batch_walk_begin(&walk, graph, &data.batches, &said)) return false;
    while (fine && !done) {
        Tensor *input = NULL;
        fine = batch_walk_next(&walk, &input, &done, &said);
        CHECK(!input || input->dtype == DTYPE_FLOAT32, "the walk leaves a %s", input ? dtype_name(input->dtype) : "");
        tensor_release(input);
    }
    if (fine) batch_walk_note(&walk, graph);
    batch_walk_end(&walk);
    return fine;
}

static bool says(const char *what)
{
    return strstr(said.what, what) || strstr(said.cure, what);
}

/* Promise: data that do not fit are refused with the place and a cure, before anything is computed from them (C21). */
TEST(batches_that_do_not_fit_are_refused)
{
    Graph *graph = make_net(1, false);
    CHECK(walk(graph, GOOD, 3), "%s", said.what);
    CHECK(walk(graph, DOUBLE, 3), "%s", said.what);
    CHECK(!walk(graph, GOOD, 0) && says("no samples"), "%s", said.what);
    CHECK(!walk(graph, NOT_A_NUMBER, 3) && says("sample 5 of input x is NaN at index [1, 1, 2]"), "%s", said.what);
    CHECK(!walk(graph, BYTES, 3) && says("uint8") && says("mean"), "%s", said.what);
    asked_shape = shape_of(3, (int64_t[]){16, 5, 10});
    CHECK(!walk(graph, SHAPED, 3) && says("rank 3") && says("reshape them to [16, 2, 5, 5]"), "%s", said.what);
    asked_shape = shape_of(4, (int64_t[]){16, 5, 5, 2});
    CHECK(!walk(graph, SHAPED, 3) && says("channel axis seems to be last"), "%s", said.what);
    asked_shape = shape_of(4, (int64_t[]){16, 2, 5, 6});
    CHECK(!walk(graph, SHAPED, 3) && says("[16, 2, 5, 6]") && says("[1, 2, 5, 5]"), "%s", said.what);
    asked_shape = shape_of(4, (int64_t[]){0, 2, 5, 5});
    CHECK(!walk(graph, SHAPED, 3) && says("empty"), "%s", said.what);
    CHECK(graph->notes.length == 0, "good data are noted: %s", graph->notes.data);
    graph_free(graph);
}

/* Promise: data that fit but look wrong are noted: all zero, all equal, one sample, an outlier. */
TEST(odd_batches_are_noted)
{
    static const struct {
        int which, batches;
        const char *note;
    } cases[] = {
        {ZERO, 3, "all calibration values of input x are zero"},
        {OUTLIER, 3, "sample 9 of input x reaches 300"},
    };
    for (int i = 0; i < 2; i++) {
        Graph *graph = make_net(1, false);
        CHECK(walk(graph, cases[i].which, cases[i].batches), "%s", said.what);
        CHECK(graph->notes.data && strstr(graph->notes.data, cases[i].note), "no '%s' in: %s", cases[i].note,
              graph->notes.data ? graph->notes.data : "");
        graph_free(graph);
    }
}
