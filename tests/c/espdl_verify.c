#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "espdl/verify.h"
#include "espdl_models.h"

/* One thing broken in the small model, and the rule that must speak. */
typedef struct Breakage {
    const char *what, *rule;
    void (*apply)(EspdlModel *model);
    FindingLevel level;
    const char *target;
} Breakage;

static Attribute *attribute(EspdlModel *model, const char *name)
{
    for (int i = 0; i < model->nodes[0].attribute_count; i++) {
        if (strcmp(model->nodes[0].attributes[i].name, name) == 0) return &model->nodes[0].attributes[i];
    }
    return NULL;
}

static void unknown_type(EspdlModel *model)
{
    model->nodes[1].type = "Erf";
}
static void no_quant_type(EspdlModel *model)
{
    attribute(model, "quant_type")->name = "quant";
}
static void no_strides(EspdlModel *model)
{
    attribute(model, "strides")->name = "strides2";
}
static void odd_group(EspdlModel *model)
{
    attribute(model, "group")->integer = 2;
}
static void equal_names(EspdlModel *model)
{
    model->nodes[1].name = "conv";
}
static void lost_input(EspdlModel *model)
{
    model->nodes[1].inputs[0] = "nothing";
}
static void cycle(EspdlModel *model)
{
    model->nodes[0].inputs[0] = "y";
}
static void lost_output(EspdlModel *model)
{
    model->outputs[0].name = "nothing";
}
static void no_exponent(EspdlModel *model)
{
    model->values[1].exponent_count = 0;
}
static void far_exponent(EspdlModel *model)
{
    model->values[1].exponents[0] = 31;
}
static void negative_shift(EspdlModel *model)
{
    model->values[1].exponents[0] = -13;
}
static void other_type(EspdlModel *model)
{
    model->values[1].elem_type = dtype_rows[DTYPE_INT16].espdl;
}
static void wide_bias(EspdlModel *model)
{
    model->initializers[2].data_type = dtype_rows[DTYPE_FLOAT32].espdl;
}
static void small_table(EspdlModel *model)
{
    model->initializers[0].data_bytes = 255;
}
static void moved_table(EspdlModel *model)
{
    model->initializers[0].exponents[0] = -6;
}
static void no_table(EspdlModel *model)
{
    model->initializers[0].name = "other";
}
static void two_pictures(EspdlModel *model)
{
    model->values[0].dims[0] = 2;
}

static void exponent_list(EspdlModel *model)
{
    model->initializers[1].exponents = arena_copy(&model->arena, (int64_t[]){-7, -8, -9}, 3 * sizeof(int64_t));
    model->initializers[1].exponent_count = 3;
    model->initializers[2].exponents = arena_copy(&model->arena, (int64_t[]){-12, -13, -14}, 3 * sizeof(int64_t));
    model->initializers[2].exponent_count = 3;
}

static const Breakage breakages[] = {
    {"an operator the runtime lacks", "17.2 op_type", unknown_type, FINDING_ERROR, NULL},
    {"no quant_type", "17.2", no_quant_type, FINDING_ERROR, NULL},
    {"no strides", "17.4 Conv", no_strides, FINDING_ERROR, NULL},
    {"a group that is not depthwise", "17.4 Conv", odd_group, FINDING_ERROR, NULL},
    {"two nodes of one name", "17.2", equal_names, FINDING_ERROR, NULL},
    {"an input that nothing makes", "17.2", lost_input, FINDING_ERROR, NULL},
    {"a cycle", "17.2", cycle, FINDING_ERROR, NULL},
    {"an output that nothing makes", "17.2", lost_output, FINDING_ERROR, NULL},
    {"a value without exponent", "17.2", no_exponent, FINDING_ERROR, NULL},
    {"an exponent beyond the chip's scales", "17.2", far_exponent, FINDING_ERROR, NULL},
    {"a shift to the left", "17.4 Conv", negative_shift, FINDING_ERROR, NULL},
    {"an output of another width", "17.4 Conv", other_type, FINDING_ERROR, NULL},
    {"a float bias", "17.4 Conv", wide_bias, FINDING_ERROR, NULL},
    {"a table of 255 entries", "17.3", small_table, FINDING_ERROR, NULL},
    {"a table at another exponent", "17.3", moved_table, FINDING_ERROR, NULL},
    {"a table that is not there", "17.3", no_table, FINDING_ERROR, NULL},
    {"two pictures at once", "17.4 Conv", two_pictures, FINDING_ERROR, NULL},
    {"exponents per channel for another chip", "17.3", exponent_list, FINDING_ERROR, "esp32s3"},
};

/* Promise: nothing is found in a good file, and each broken rule is found under its number. */
TEST(verify_finds_what_is_broken)
{
    for (size_t i = 0; i <= sizeof breakages / sizeof breakages[0]; i++) {
        const Breakage *row = i ? &breakages[i - 1] : NULL;
        Error error = {0};
        Findings findings = {0};
        EspdlModel *model = small_model(false);
        if (row) row->apply(model);
        REQUIRE(espdl_verify(model, row ? row->target : "esp32p4", &findings, &error), "%s", error.what);
        bool found = false;
        for (int k = 0; k < findings.count; k++) {
            if (!row)
                CHECK(false, "a good file: %s %s: %s", findings.rows[k].rule, findings.rows[k].where, findings.rows[k].text);
            else
                found = found || (findings.rows[k].level == row->level && strcmp(findings.rows[k].rule, row->rule) == 0);
        }
        if (row) CHECK(found, "%s is not noticed under %s", row->what, row->rule);
        findings_free(&findings);
        espdl_model_free(model);
    }
}

/* Promise: exponents per channel are right for the chips that have them. */
TEST(verify_allows_exponents_per_channel_where_they_are_read)
{
    Error error = {0};
    Findings findings = {0};
    EspdlModel *model = small_model(false);
    exponent_list(model);
    REQUIRE(espdl_verify(model, "esp32p4", &findings, &error), "%s", error.what);
    CHECK(findings.count == 0, "%s: %s", findings.count ? findings.rows[0].where : "", findings.count ? findings.rows[0].text : "");
    findings_free(&findings);
    espdl_model_free(model);
}
