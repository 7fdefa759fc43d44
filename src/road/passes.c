/* The list of all passes from file to file. Rows without `run` stand for the road's own steps; everything else is a function of a room below. */
#include "road/passes.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "optim/optim.h"

static const Pass own_steps[] = {
    {.name = "load", .help = "read the ONNX file, end opset differences"},
    {.name = "simplify", .help = "the rewrites at load: fold constants, BatchNormalization, bias adds, Swish …"},
    {.name = "lower", .help = "device graph: fuse, requantize, layout, pack, tables"},
    {.name = "export", .help = "write .espdl, .info, .json, read back, verify"},
};

static bool when_weight_split(const Setting *setting)
{
    return setting->weight_split;
}
static bool when_channel_split(const Setting *setting)
{
    return setting->channel_split;
}
static bool when_equalization(const Setting *setting)
{
    return setting->equalization;
}
static bool when_ssd_equalization(const Setting *setting)
{
    return setting->ssd_equalization;
}
static bool when_bias_correct(const Setting *setting)
{
    return setting->bias_correct;
}
static bool when_lsq(const Setting *setting)
{
    return setting->lsq_optimization;
}
static bool when_tqt(const Setting *setting)
{
    return setting->tqt_optimization;
}
static bool when_blockwise(const Setting *setting)
{
    return setting->blockwise_reconstruction;
}

static bool when_recover(const Setting *setting)
{
    return setting->recover;
}

/* The optimizations, in their places. */
static const struct {
    const char *after;
    Pass pass;
} optimizations[] = {
    {"dispatch",
     {.name = "weight_split",
      .help = "split weights that span too wide a range",
      .when_text = "weight_split",
      .when = when_weight_split,
      .run = pass_weight_split}},
    {"weight_split",
     {.name = "channel_split",
      .help = "split channels that span too wide a range",
      .when_text = "channel_split",
      .when = when_channel_split,
      .run = pass_channel_split}},
    {"channel_split",
     {.name = "equalization",
      .help = "even out the ranges of neighbouring layers",
      .when_text = "equalization",
      .when = when_equalization,
      .run = pass_equalization}},
    {"slots",
     {.name = "ssd_equalization",
      .help = "equalization that is kept where it helps",
      .when_text = "ssd_equalization",
      .when = when_ssd_equalization,
      .run = pass_ssd_equalization,
      .after_slots = true}},
    {"passive",
     {.name = "bias_correct",
      .help = "take the mean error out of biases",
      .when_text = "bias_correct",
      .when = when_bias_correct,
      .run = pass_bias_correct,
      .after_slots = true}},
    {"bias_correct",
     {.name = "lsq",
      .help = "train weights and biases, block by block",
      .when_text = "lsq_optimization",
      .when = when_lsq,
      .run = pass_lsq,
      .after_slots = true}},
    {"lsq",
     {.name = "tqt",
      .help = "train weights, biases and exponents, block by block",
      .when_text = "tqt_optimization",
      .when = when_tqt,
      .run = pass_tqt,
      .after_slots = true}},
    {"tqt",
     {.name = "blockwise",
      .help = "train the rounding of weights, block by block",
      .when_text = "blockwise_reconstruction",
      .when = when_blockwise,
      .run = pass_blockwise,
      .after_slots = true}},
    {"blockwise",
     {.name = "recover",
      .help = "espq's own: roads, training and exponents chosen by what the outputs say",
      .when_text = "recover",
      .when = when_recover,
      .run = pass_recover,
      .after_slots = true}},
};

static RoadRow *rows;
static size_t row_count, row_capacity;

static bool add_row(const Pass *pass, size_t position, void *lua, Error *error)
{
    RoadRow *grown = memory_grow(rows, row_count, &row_capacity, sizeof *rows);
    if (!grown) return fail_memory(error, sizeof *rows);
    rows = grown;
    memmove(rows + position + 1, rows + position, (row_count - position) * sizeof *rows);
    rows[position] = (RoadRow){*pass, lua};
    row_count++;
    return true;
}

static bool is_there(const char *name, size_t *position)
{
    for (size_t i = 0; i < row_count; i++) {
        if (strcmp(rows[i].pass.name, name) != 0) continue;
        *position = i;
        return true;
    }
    return false;
}

static bool add_optimizations(Error *error)
{
    size_t position;
    for (size_t i = 0; i < sizeof optimizations / sizeof optimizations[0]; i++) {
        if (is_there(optimizations[i].pass.name, &position)) continue;
        if (is_there(optimizations[i].after, &position) && !add_row(&optimizations[i].pass, position + 1, NULL, error)) return false;
    }
    return true;
}

bool road_rows(const RoadRow **list, size_t *count, Error *error)
{
    if (row_count == 0) {
        bool fine = add_row(&own_steps[0], 0, NULL, error) && add_row(&own_steps[1], 1, NULL, error);
        for (const Pass *pass = quantization_passes; fine && pass->name; pass++)
            fine = add_row(pass, row_count, NULL, error);
        fine = fine && add_optimizations(error) && add_row(&own_steps[2], row_count, NULL, error) &&
               add_row(&own_steps[3], row_count, NULL, error);
        if (!fine) {
            row_count = 0;
            return false;
        }
    }
    *list = rows;
    *count = row_count;
    return true;
}

const Pass *road_pass_at(int index)
{
    const RoadRow *list;
    size_t count;
    Error error;
    if (!road_rows(&list, &count, &error) || index < 0 || (size_t)index >= count) return NULL;
    return &list[index].pass;
}

const Pass *road_pass(const char *name)
{
    const Pass *pass;
    for (int i = 0; (pass = road_pass_at(i)); i++)
        if (strcmp(pass->name, name) == 0) return pass;
    return NULL;
}

bool road_fail_unknown(const char *name, Error *error)
{
    const char *names[256];
    int count = 0;
    for (const Pass *pass; count < 256 && (pass = road_pass_at(count)); count++)
        names[count] = pass->name;
    int nearest = text_nearest(name, names, count);
    if (nearest < 0) return fail(error, NULL, "`espq passes` lists them all", "unknown pass '%s'", name);
    return fail(error, NULL, "`espq passes` lists them all", "unknown pass '%s' (did you mean '%s'?)", name, names[nearest]);
}

/* Behind the row named, and behind what was inserted there before: passes of a script run in the order in which they were made. */
bool road_insert(const Pass *pass, const char *after, void *lua, Error *error)
{
    const RoadRow *list;
    size_t count;
    if (!road_rows(&list, &count, error)) return false;
    if (road_pass(pass->name)) return fail(error, NULL, "give it another name", "there is a pass '%s' already", pass->name);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].pass.name, after) != 0) continue;
        if (strcmp(after, "lower") == 0 || strcmp(after, "export") == 0 || strcmp(after, "load") == 0)
            return fail(error, NULL, "choose a pass from simplify to baking", "a pass cannot stand behind '%s'", after);
        size_t position = i + 1;
        while (position < count && list[position].lua && !list[i].lua)
            position++;
        Pass row = *pass;
        row.after_slots = list[i].pass.after_slots;
        return add_row(&row, position, lua, error);
    }
    return road_fail_unknown(after, error);
}
