#include <math.h>
#include <string.h>

#include "check.h"
#include "chip/cost.h"
#include "espdl/device.h"
#include "espdl/pack.h"
#include "espdl_models.h"

static bool estimate(const EspdlModel *model, const char *target, CostReport *report)
{
    Error error = {0};
    Graph *device = espdl_device(model, &error);
    bool fine = device && cost_estimate(device, NULL, 0, target_find(target), 0, report, &error);
    CHECK(fine, "%s: %s", error.where, error.what);
    if (fine) { /* nodes are the graph's, which goes now */
        for (int i = 0; i < report->count; i++)
            report->nodes[i].node = NULL;
    }
    graph_free(device);
    return fine;
}

/* Promise: products and bytes are counted as the shapes say: 2 x 2 pixels, 2 channels in, 3 out; a chip without figures has no time. */
TEST(products_and_bytes_are_counted)
{
    EspdlModel *model = small_model(false);
    CostReport report;
    REQUIRE(model && estimate(model, "esp32p4", &report), "no report");
    /* Conv reads 8 and writes 12 bytes, the Sigmoid reads and writes 12 */
    CHECK(report.macs == 24 && report.nodes[0].macs == 24 && report.nodes[1].macs == 0, "%lld products", (long long)report.macs);
    CHECK(report.nodes[0].moved_bytes == 20 && report.nodes[1].moved_bytes == 24, "%lld and %lld bytes",
          (long long)report.nodes[0].moved_bytes, (long long)report.nodes[1].moved_bytes);
    CHECK(report.nodes[1].parameter_bytes == 256, "the table has %lld bytes", (long long)report.nodes[1].parameter_bytes);
    CHECK(report.timed && report.milliseconds > 0 && report.nodes[0].unaligned, "time");
    cost_free(&report);
    REQUIRE(estimate(model, "esp32c3", &report), "no report");
    CHECK(!report.timed && report.nodes[0].microseconds < 0 && report.macs == 24, "a time without figures");
    cost_free(&report);
    espdl_model_free(model);
}

/* Promise: on the published latencies the estimate is as good as the header says: within 45 % on esp32s3, 18 % on these of esp32p4. */
TEST(estimates_are_near_published_latencies)
{
    const CostPublished *known;
    int seen = 0;
    for (int i = 0; (known = cost_published_at(i)); i++) {
        char data[256];
        snprintf(data, sizeof data, "data/%s", known->file);
        const char *path = test_shared(data);
        if (!path) continue;
        Error error = {0};
        EspdlModel *model = espdl_load_model(path, NULL, &error);
        CostReport report;
        if (!model || !estimate(model, known->target, &report)) {
            espdl_model_free(model);
            continue;
        }
        double wrong = fabs(report.milliseconds / known->milliseconds - 1);
        CHECK(wrong <= (strcmp(known->target, "esp32s3") == 0 ? 0.45 : 0.18), "%s on %s: %.1f ms, published %.1f", known->model,
              known->target, report.milliseconds, known->milliseconds);
        seen++;
        cost_free(&report);
        espdl_model_free(model);
    }
    if (!seen) test_skip("the models with published latencies are not in ../shared/data/espdl");
}
