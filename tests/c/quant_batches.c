/* Calibration and how its data are cut. */
#include <math.h>
#include <string.h>

#include "base/progress.h"
#include "base/threads.h"
#include "check.h"
#include "exec_graphs.h"
#include "graph/operator.h"
#include "quant/quantize.h"

static int64_t bad_sample; /* -1: none; else one whose numbers are so large that the first convolution overflows */

/* The same eleven samples, however they are cut into batches of 1, of 4 and 3, or of 11. */
static Tensor *cut(int batch, int64_t samples)
{
    Error error = {0};
    Shape all = net_shape(11), shape = net_shape(samples);
    int64_t first = samples == 4 ? batch * 4 : samples == 3 ? 8 : samples == 11 ? 0 : batch;
    Tensor *tensor = random_tensor(&all, 5);
    for (int64_t i = 0; bad_sample >= 0 && i < 50; i++)
        tensor_floats(tensor)[bad_sample * 50 + i] = 3e38f;
    Tensor *part = tensor_from_data(DTYPE_FLOAT32, &shape, tensor_floats(tensor) + first * 50, &error);
    tensor_release(tensor);
    return part;
}

static bool quantize(Graph *graph, const int64_t *sizes, int count, const char *method, Error *error)
{
    TestBatches data;
    Setting *setting = setting_new(SETTING_ESPDL, error);
    test_batches(&data, sizes, count, cut);
    PassContext context = {.setting = setting, .target = target_find("esp32p4"), .bits = 8, .batches = &data.batches};
    bool done = setting && setting_set(setting, "quantize_activation_setting.calib_algorithm", method, error);
    for (const Pass *pass = quantization_passes; done && pass->name; pass++)
        if (!pass->when || pass->when(setting)) done = pass->run(graph, &context, error);
    setting_free(setting);
    return done;
}

static const int64_t ones[11] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, fours[3] = {4, 4, 3}, eleven[1] = {11};

/* Promise: kl, mse and minmax choose the same exponents however the samples are cut into batches, with any number of threads. */
TEST(exponents_do_not_depend_on_the_cut)
{
    static const struct {
        const int64_t *sizes;
        int count, threads;
    } cuts[] = {{eleven, 1, 1}, {ones, 11, 1}, {ones, 11, 2}, {ones, 11, 3}, {fours, 3, 2}};
    static const char *const methods[] = {"kl", "mse", "minmax"};
    int threads = threads_count(), level = progress_level;
    progress_level = 0;
    bad_sample = -1;
    for (int method = 0; method < 3; method++) {
        Text first = {0};
        for (int i = 0; i < 5; i++) {
            Error error = {0};
            Graph *graph = make_net(1, true);
            Text text = {0};
            threads_set_count(cuts[i].threads);
            CHECK(quantize(graph, cuts[i].sizes, cuts[i].count, methods[method], &error), "%s", error.what);
            graph_print(graph, &text);
            if (i == 0)
                first = text;
            else {
                CHECK(strcmp(first.data, text.data) == 0, "%s, cut %d:\n%s%s", methods[method], i, first.data, text.data);
                text_free(&text);
            }
            graph_free(graph);
        }
        text_free(&first);
    }
    threads_set_count(threads);
    progress_level = level;
}

/* Promise: a batch that overflows is named, and always the first one, although several threads look at the data. */
TEST(overflow_names_its_batch)
{
    int level = progress_level;
    progress_level = 0;
    bad_sample = 5;
    for (int i = 0; i < 4; i++) {
        Error error = {0};
        Graph *graph = make_net(1, true);
        CHECK(!quantize(graph, ones, 11, "kl", &error), "an infinite activation is taken");
        CHECK(strstr(error.what, "infinite") && strstr(error.what, "calibration batch 5"), "%s", error.what);
        graph_free(graph);
    }
    progress_level = level;
}
