/* The setting tree: names, defaults, values, and what is said about a wrong one. */
#include "check.h"

#include <string.h>

#include "quant/setting.h"

static const char *value_of(const Setting *setting, const char *path)
{
    static char copy[4096];
    Text text = {0};
    Error error;
    snprintf(copy, sizeof copy, "%s", setting_get(setting, path, &text, &error) && text.data ? text.data : "?");
    text_free(&text);
    return copy;
}

/* The ESP-DL defaults are the reference's, and the generic ones differ where the reference's do. */
TEST(setting_defaults)
{
    Error error = {0};
    Setting *espdl = setting_new(SETTING_ESPDL, &error), *generic = setting_new(SETTING_GENERIC, &error),
            *reference = setting_new(SETTING_REFERENCE, &error);
    REQUIRE(espdl && generic && reference, "%s", error.what);
    CHECK(strcmp(espdl->dispatcher, "allin") == 0 && strcmp(generic->dispatcher, "conservative") == 0, "dispatcher");
    CHECK(strcmp(value_of(espdl, "quantize_activation_setting.calib_algorithm"), "kl") == 0, "calib_algorithm");
    CHECK(strcmp(value_of(generic, "quantize_activation_setting.calib_algorithm"), "nil") == 0, "generic calib_algorithm");
    CHECK(strcmp(value_of(espdl, "fusion_setting.align_elementwise_to"), "Align to Output") == 0, "align_elementwise_to");
    CHECK(strcmp(value_of(espdl, "lsq_optimization_setting.lr"), "1e-05") == 0, "%s", value_of(espdl, "lsq_optimization_setting.lr"));
    CHECK(espdl->switches.onnx_exact_ops && !reference->switches.onnx_exact_ops && espdl->switches.write_defaults &&
              !reference->switches.write_defaults,
          "switches");
    setting_free(espdl);
    setting_free(generic);
    setting_free(reference);
}

/* Every row can be read, written back as it was read, copied, and says what it is for. */
TEST(setting_rows_round_trip)
{
    Error error = {0};
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    REQUIRE(setting, "%s", error.what);
    CHECK(setting_set(setting, "equalization_setting.interested_layers", "[\"a\", \"b \\\"c\\\"\"]", &error), "%s", error.what);
    CHECK(setting_set(setting, "dispatching_table", "{\"/model.23/*\": 552}", &error), "%s", error.what);
    CHECK(setting_set(setting, "quant_config_modify_setting.custom_config", "{\"Conv_0\": 0.25}", &error), "%s", error.what);
    Setting *copy = setting_copy(setting, &error);
    REQUIRE(copy, "%s", error.what);
    for (int i = 0; setting_row_at(i); i++) {
        const SettingRow *row = setting_row_at(i);
        char before[4096];
        snprintf(before, sizeof before, "%s", value_of(setting, row->path));
        CHECK(strcmp(before, value_of(copy, row->path)) == 0, "copy of %s: %s", row->path, before);
        CHECK(setting_set(copy, row->path, before, &error), "%s = %s: %s", row->path, before, error.what);
        CHECK(strcmp(before, value_of(copy, row->path)) == 0, "%s: %s became %s", row->path, before, value_of(copy, row->path));
        CHECK(row->help && *row->help, "%s has no help", row->path);
    }
    CHECK(copy->dispatching_count == 1 && copy->dispatching_table[0].platform == 552, "dispatching_table");
    CHECK(copy->equalization_setting.interested_layers.count == 2 &&
              strcmp(copy->equalization_setting.interested_layers.items[1], "b \"c\"") == 0,
          "list");
    setting_free(copy);
    setting_free(setting);
}

/* An unknown name or value is an error that names the nearest known one. */
TEST(setting_errors_name_the_nearest)
{
    static const char *const wrong[][3] = {
        {"equalisation", "true", "'equalization'"},
        {"fusion_setting.align_elementwise", "None", "'fusion_setting.align_elementwise_to'"},
        {"fusion_setting.align_elementwise_to", "Align to large", "'Align to Large'"},
        {"quantize_activation_setting.calib_algorithm", "kld", "'kl'"},
        {"quantize_activation_setting.calib_algorithm", "floating", "FP8"},
        {"dispatcher", "all_in", "'allin'"},
        {"fusion_setting", "true", "is a group"},
        {"fusion", "yes", "cannot be 'yes'"},
        {"lsq_optimization_setting.steps", "1.5", "cannot be '1.5'"},
        {"fusion_setting.align_resize_to", "Align to Large", "cannot be 'Align to Large'"},
    };
    Error error = {0};
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    REQUIRE(setting, "%s", error.what);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(!setting_set(setting, wrong[i][0], wrong[i][1], &error) && strstr(error.what, wrong[i][2]), "%s = %s: %s", wrong[i][0],
              wrong[i][1], error.what);
    }
    setting_free(setting);
}

/* A setting that was changed and has no effect gives one note. */
TEST(settings_without_effect_are_noted)
{
    Error error = {0};
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    Graph *graph = graph_new("g", &error);
    REQUIRE(setting && graph, "%s", error.what);
    setting_note_unused(setting, graph);
    CHECK(!graph->notes.length, "%s", graph->notes.data);
    CHECK(setting_set(setting, "graph_format_setting.fuse_swish", "false", &error) &&
              setting_set(setting, "equalization_setting.iterations", "3", &error),
          "%s", error.what);
    setting_note_unused(setting, graph);
    REQUIRE(graph->notes.data, "no notes");
    CHECK(strstr(graph->notes.data, "graph_format_setting.fuse_swish") && strstr(graph->notes.data, "equalization is false"), "%s",
          graph->notes.data);
    setting_free(setting);
    graph_free(graph);
}
