#include <math.h>
#include <string.h>

#include "analyse/measure.h"
#include "analyse/moments.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "check.h"
#include "exec_graphs.h"

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * (fabs(b) + 1e-12);
}

/* Promise: sample positions are the reference's generator (QUANT §12.1): 10086, then 2161066129 and 1352096680. */
TEST(sample_positions_follow_the_generator)
{
    uint32_t seed = ESPQ_SAMPLE_SEED;
    CHECK(seed % 1000 == 86, "first");
    seed = next_seed(seed);
    CHECK(seed == 2161066129u, "second is %u", seed);
    CHECK(next_seed(seed) == (uint32_t)((214013ull * 2161066129ull + 2531011ull) % 4294967296ull), "third");
}

/* Promise: measures are those of QUANT §12.2, rows averaged and batches weighted by their first axis. */
TEST(measures_average_rows_and_weigh_batches)
{
    const float floating[4] = {1, 2, 3, 4}, quantized[4] = {1, 2.5f, 3, 3};
    double snr[2] = {0.25 / (5 + 1e-7), 1 / (25 + 1e-7)};
    double cosine[2] = {6 / (sqrt(5) * sqrt(7.25)), 21 / (5 * sqrt(18))}, mse[2] = {0.125, 0.5};
    double *expected[3] = {snr, cosine, mse};
    for (int measure = 0; measure < 3; measure++) {
        Part parts[2] = {0};
        Recorder recorder = {0};
        part_add_rows(&parts[0], (Measure)measure, floating, quantized, 2, 2); /* a batch of two rows */
        part_add_rows(&parts[1], (Measure)measure, floating, quantized, 1, 2); /* a batch of one row */
        recorder_update(&recorder, (Measure)measure, &parts[0], 1, 1);
        recorder_update(&recorder, (Measure)measure, &parts[1], 1, 1);
        double both = ((expected[measure][0] + expected[measure][1]) / 2 * 2 + expected[measure][0]) / 3;
        CHECK(near(recorder_value(&recorder, (Measure)measure), both, 1e-12), "measure %d: %.12g, not %.12g", measure, recorder.value,
              both);
        Part one = {0};
        Recorder alone = {0};
        part_add_stretch(&one, floating, quantized, 2); /* one axis, in two stretches: one row */
        part_add_stretch(&one, floating + 2, quantized + 2, 2);
        recorder_update(&alone, (Measure)measure, &one, 1, 1);
        double whole[3] = {1.25 / (30 + 1e-7), 27 / sqrt(30 * 25.25), 1.25 / 4};
        CHECK(near(alone.value, whole[measure], 1e-12), "one axis, measure %d: %.12g", measure, alone.value);
    }
}

/* Promise: moments are unbiased deviation, skewness and kurtosis of QUANT §12.6, and a histogram of 32 bins between the ends. */
TEST(moments_of_known_numbers)
{
    Moments moments;
    const float x[4] = {0, 1, 2, 5};
    moments_of(x, 4, &moments);
    double deviation = sqrt(14.0 / 3), skewness = (-8 - 1 + 27) / 4.0 / pow(deviation, 3),
           kurtosis = (16 + 1 + 81) / 4.0 / pow(deviation, 4) - 3;
    CHECK(near(moments.mean, 2, 1e-12) && near(moments.deviation, deviation, 1e-12), "mean, deviation");
    CHECK(near(moments.skewness, skewness, 1e-12) && near(moments.kurtosis, kurtosis, 1e-12), "skewness, kurtosis");
    CHECK(moments.minimum == 0 && moments.maximum == 5, "ends");
    CHECK(moments.histogram[0] == 1 && moments.histogram[6] == 1 && moments.histogram[12] == 1 && moments.histogram[31] == 1, "histogram");
    moments_of((const float[]){3, 3, 3}, 3, &moments);
    CHECK(isnan(moments.skewness) && moments.deviation == 0 && moments.histogram[16] == 3, "equal numbers");
}

/* Promise: the table is the reference's, character by character (QUANT §12.5): largest first, equal values in reverse order. */
TEST(table_is_the_references)
{
    AnalyseRow rows[] = {{"conv2", "Conv", 0.00035}, {"fc", "Gemm", 0.03425}, {"a long name", "Conv", 0.00035}};
    AnalyseTable table = {MEASURE_SNR, 3, rows};
    Text text = {0};
    analyse_print(&table, &text);
    const char *expected = "Layer        | NOISE:SIGNAL POWER RATIO \n"
                           "fc:          | ████████████████████ | 3.425%\n"
                           "a long name: |                      | 0.035%\n"
                           "conv2:       |                      | 0.035%\n";
    CHECK(text.data && strcmp(text.data, expected) == 0, "got:\n%s", text.data);
    text_free(&text);
    table.measure = MEASURE_MSE;
    table.count = 1;
    analyse_print(&table, &text);
    CHECK(text.data && strcmp(text.data, "Layer  | MSE LOSS(UNSCALED) \nconv2: |                      | 0.0003\n") == 0, "got:\n%s",
          text.data);
    text_free(&text);
}

/* Promise: an unknown measure is refused and the nearest known one is named. */
TEST(unknown_measure_is_refused)
{
    Error error = {0};
    Measure measure;
    CHECK(measure_from_name("Cosine", &measure, &error) && measure == MEASURE_COSINE, "case matters");
    CHECK(!measure_from_name("cosin", &measure, &error) && strstr(error.what, "did you mean 'cosine'"), "%s", error.what);
}

/* ---- whole analyses on the small net ---- */

/* The same eleven samples, however they are cut into batches. */
static Tensor *slice(int batch, int64_t samples)
{
    Error error = {0};
    Shape all = net_shape(11), shape = net_shape(samples);
    int64_t first = samples == 4 ? batch * 4 : samples == 3 ? 8 : samples == 11 ? 0 : batch;
    Tensor *tensor = random_tensor(&all, 5);
    Tensor *part = tensor ? tensor_from_data(DTYPE_FLOAT32, &shape, tensor_floats(tensor) + first * 50, &error) : NULL;
    tensor_release(tensor);
    return part;
}

static const int64_t ones[11] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, fours[3] = {4, 4, 3}, eleven[1] = {11};

static double plain_ratio(const Tensor *floating, const Tensor *quantized, int64_t row)
{
    double noise = 0, power = 0;
    int64_t count = tensor_count(floating) / floating->shape.dims[0];
    for (int64_t i = row * count; i < (row + 1) * count; i++) {
        double apart = tensor_floats(quantized)[i] - tensor_floats(floating)[i];
        noise += apart * apart;
        power += (double)tensor_floats(floating)[i] * tensor_floats(floating)[i];
    }
    return noise / (power + 1e-7);
}

static bool only(void *context, const Node *node)
{
    return node == context;
}

static Tensor *run_only(Graph *graph, Node *node, ExecMode mode, Tensor *input)
{
    Error error = {0};
    PlanOptions options = {.mode = mode, .exact = true, .quantizes = only, .quantizes_context = node};
    Tensor *output = NULL;
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    if (plan) plan_run(plan, &input, &output, &error);
    plan_free(plan);
    return output;
}

/* Promise: layerwise figures are those of whole runs with one layer quantized, and do not depend on how samples are cut into batches
 * nor on the number of threads. */
TEST(layerwise_equals_whole_runs)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    Tensor *all = slice(0, 11), *floating = run_net(graph, EXEC_FLOAT, all);
    static const struct {
        const int64_t *sizes;
        int count, threads;
    } cuts[] = {{ones, 11, 1}, {fours, 3, 2}, {eleven, 1, 3}};
    int threads = threads_count();
    for (int cut = 0; cut < 3; cut++) {
        TestBatches data;
        AnalyseTable table;
        AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 10, .exact = true};
        threads_set_count(cuts[cut].threads);
        test_batches(&data, cuts[cut].sizes, cuts[cut].count, slice);
        REQUIRE(analyse_layerwise(graph, &data.batches, &options, &table, &error), "%s", error.what);
        REQUIRE(table.count == 3, "%d rows", table.count);
        for (int i = 0; i < 3; i++) {
            Tensor *quantized = run_only(graph, graph_node(graph, table.rows[i].name), EXEC_SIMULATED, all);
            double mean = 0;
            for (int64_t row = 0; row < 11; row++)
                mean += plain_ratio(floating, quantized, row) / 11;
            CHECK(near(table.rows[i].value, mean, 1e-6), "%s: %.9g, not %.9g", table.rows[i].name, table.rows[i].value, mean);
            tensor_release(quantized);
        }
        analyse_table_free(&table);
    }
    threads_set_count(threads);
    tensor_release(all);
    tensor_release(floating);
    graph_free(graph);
}

/* Promise: graphwise figures are those of sampled outputs of a float and a simulated run, over steps + 1 batches. */
TEST(graphwise_samples_outputs)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    TestBatches data;
    AnalyseTable table;
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 1, .exact = true};
    test_batches(&data, fours, 3, slice);
    REQUIRE(analyse_graphwise(graph, &data.batches, &options, &table, &error), "%s", error.what);
    REQUIRE(table.count == 3 && strcmp(table.rows[1].name, "conv2") == 0, "rows");
    Tensor *all = slice(0, 11), *made[2] = {0};
    Value *wanted = graph_node(graph, "conv2")->outputs[0];
    for (int mode = 0; mode < 2; mode++) {
        PlanOptions plan_options = {.mode = (ExecMode)mode, .exact = true, .wanted = &wanted, .wanted_count = 1};
        Plan *plan = plan_new(graph, &plan_options, &all->shape, &error);
        REQUIRE(plan && plan_run(plan, &all, &made[mode], &error), "%s", error.what);
        plan_free(plan);
    }
    double mean = 0;
    for (int row = 0; row < 8; row++) { /* two batches of four: steps + 1 */
        double noise = 0, power = 0;
        uint32_t seed = 10086;
        for (int i = 0; i < 4096; i++, seed = next_seed(seed)) {
            float f = tensor_floats(made[0])[row * 75 + seed % 75], q = tensor_floats(made[1])[row * 75 + seed % 75];
            noise += (double)(q - f) * (q - f);
            power += (double)f * f;
        }
        mean += noise / (power + 1e-7) / 8;
    }
    CHECK(near(table.rows[1].value, mean, 1e-6), "%.9g, not %.9g", table.rows[1].value, mean);
    tensor_release(all);
    tensor_release(made[0]);
    tensor_release(made[1]);
    analyse_table_free(&table);
    graph_free(graph);
}

/* Promise: the statistics have a row for each end of float32 of every quantized node that does more than move numbers. */
TEST(statistics_have_a_row_an_end)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    TestBatches data;
    StatisticalTable table;
    AnalyseOptions options = {.steps = 8, .exact = true};
    test_batches(&data, ones, 11, slice);
    REQUIRE(analyse_statistical(graph, &data.batches, &options, &table, &error), "%s", error.what);
    CHECK(table.count == 4 + 2 + 4 + 3 + 4, "%d rows", table.count);
    const StatisticalRow *weight = &table.rows[1];
    CHECK(strcmp(weight->variable, "w1") == 0 && weight->is_parameter && weight->is_input && !weight->is_output, "row 1 is %s",
          weight->variable);
    CHECK(weight->snr > 0 && weight->snr < 1e-3 && weight->noise.maximum <= 1.0 / 256, "noise of weights at 2^-7: %g",
          weight->noise.maximum);
    statistical_table_free(&table);
    graph_free(graph);
}

static bool all_analyses(Graph *graph, Error *error)
{
    static const int64_t two[2] = {1, 1};
    TestBatches data;
    AnalyseTable table = {0};
    StatisticalTable statistics = {0};
    ParameterTable parameters = {0};
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 8, .exact = true};
    test_batches(&data, two, 2, slice);
    bool done = analyse_graphwise(graph, &data.batches, &options, &table, error);
    analyse_table_free(&table);
    done = done && analyse_layerwise(graph, &data.batches, &options, &table, error);
    analyse_table_free(&table);
    done = done && analyse_statistical(graph, &data.batches, &options, &statistics, error);
    statistical_table_free(&statistics);
    done = done && analyse_parameters(graph, &parameters, error);
    parameter_table_free(&parameters);
    return done;
}

/* Promise: whatever allocation fails during an analysis, the answer is an error or a table, and nothing leaks. */
TEST(analyses_survive_failed_allocations)
{
    Error *error = memory_new(sizeof *error);
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    int threads = threads_count(), level = progress_level;
    threads_set_count(1);
    progress_level = 0;
    for (long n = 0;; n++) {
        long before = fault_blocks();
        *error = (Error){0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        bool done = all_analyses(graph, error);
        bool reached = fault_disarm();
        CHECK(done || error->code == ERROR_MEMORY, "allocation %ld: %s", n, error->what);
        CHECK(fault_blocks() == before, "allocation %ld: leak of %ld", n, fault_blocks() - before);
        if (!reached) break;
        REQUIRE(n < 20000, "never succeeds");
    }
    threads_set_count(threads);
    progress_level = level;
    graph_free(graph);
    memory_free(error);
}
