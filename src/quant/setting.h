/* The setting tree: one table of rows (path, type, defaults, choices, help) and one struct. Names and defaults are the
 * reference's (QUANT §14); `switches` decide where the reference is wrong. `espq settings` prints the table. */
#ifndef ESPQ_QUANT_SETTING_H
#define ESPQ_QUANT_SETTING_H

#include "base/json.h"
#include "graph/graph.h"

typedef struct SettingList { /* texts */
    char **items;
    int count, capacity;
} SettingList;

typedef struct DispatchEntry {
    char *pattern; /* operator name, or a pattern with * */
    int platform;  /* id, see quant/target.h */
} DispatchEntry;

typedef struct ConfigEntry { /* quant_config_modify_setting.custom_config: scale of output 0 */
    char *name;
    double scale;
} ConfigEntry;

typedef struct LayerSplitSetting { /* equalization_setting, channel_split_setting */
    int64_t opt_level, iterations;
    double value_threshold;
    bool including_bias;
    double bias_multiplier;
    bool including_act;
    double act_multiplier;
    SettingList interested_layers;
} LayerSplitSetting;

typedef struct TrainSetting { /* lsq, tqt, blockwise */
    SettingList interested_layers;
    double lr;
    char *collecting_device;
    int64_t steps;
    bool is_scale_trainable;
    double gamma, int_lambda, scale_lr; /* scale_lr: 0: lr */
    int64_t block_size;
} TrainSetting;

typedef struct Setting {
    char *dispatcher;
    DispatchEntry *dispatching_table;
    int dispatching_count, dispatching_capacity;
    struct {
        bool format_constant_op, fuse_conv_bn, fuse_swish, format_paramters, format_cast, delete_isolate;
    } graph_format_setting;
    bool fusion;
    struct {
        bool remove_useless_quantization, fuse_activation, fuse_passive_op, align_quantization;
        char *align_avgpooling_to, *align_elementwise_to, *align_concat_to, *align_resize_to;
        bool force_alignment_overlap;
    } fusion_setting;
    bool quantize_activation;
    struct {
        char *calib_algorithm;
    } quantize_activation_setting; /* NULL: the quantizer's default, percentile */
    bool quant_config_modify;
    struct {
        ConfigEntry *custom_config;
        int count, capacity;
    } quant_config_modify_setting;
    bool quantize_parameter;
    struct {
        char *calib_algorithm; /* NULL: minmax per channel, percentile else */
        bool quantize_passive_parameter;
        char *clip_visiblity, *pad_visiblity;
        bool baking_parameter;
    } quantize_parameter_setting;
    bool ssd_equalization;
    struct {
        int64_t opt_level;
        double channel_ratio, loss_threshold;
        bool layer_norm;
        int64_t iteration;
    } ssd_setting;
    bool equalization, channel_split;
    LayerSplitSetting equalization_setting, channel_split_setting;
    bool weight_split;
    struct {
        SettingList interested_layers;
        double value_threshold;
        char *method;
    } weight_split_setting;
    bool matrix_factorization;
    struct {
        SettingList interested_layers;
        char *method;
    } matrix_factorization_setting;
    bool convtranspose_decomposition;
    bool bias_correct;
    struct {
        SettingList interested_layers;
        int64_t block_size, steps;
        char *collecting_device;
    } bias_correct_setting;
    bool lsq_optimization, tqt_optimization, blockwise_reconstruction;
    TrainSetting lsq_optimization_setting, tqt_optimization_setting, blockwise_reconstruction_setting;
    bool recover;
    struct {
        double budget, bits16_budget;
        int64_t seed;
    } recover_setting;
    int64_t block_memory;              /* MB */
    int64_t block_batches, block_seed; /* batches: 0: all */
    int64_t keep_best;                 /* steps; 0: the last state is judged */
    double block_holdout;
    bool extension;
    char *version, *signature;
    struct {
        /* QUANT §15 */
        bool align_respect_width, align_large_exact, mse_fixed, keep_output_names, onnx_exact_ops, convtranspose_exact, link_passive_inputs,
            dead_channels_follow;
        /* OPTIM §16 */
        bool equalize_group_order, equalize_live_activations, tqt_live_passive, adaround_reference, weight_split_relative;
        /* EXPORT §15 */
        bool requantize_inputs, requantize_exact, exact_shapes, split_sizes, write_defaults, ceil_mode_pads, unary_as_lut, lut16_only_used,
            split_groups, reference_order, dynamic_width_requantize;
        /* espq's own rewrites: dense layers, LayerNormalization, Gelu, shared weights, Transpose round trips, … (simplify) */
        bool extra_rewrites;
        bool no_negative_shifts; /* CHIP C4 */
    } switches;
} Setting;

typedef enum {
    SETTING_BOOL,
    SETTING_INTEGER,
    SETTING_NUMBER,
    SETTING_TEXT,
    SETTING_TEXT_OR_NIL,
    SETTING_LIST,
    SETTING_DISPATCH,
    SETTING_CONFIG
} SettingKind;

typedef struct SettingRow {
    const char *path; /* "fusion_setting.align_elementwise_to" */
    SettingKind kind;
    size_t offset;                           /* into Setting */
    const char *generic, *espdl, *reference; /* defaults as text; "nil" for none. espdl: espq.setting.espdl(); reference: …reference() */
    const char *choices;                     /* by '|'; NULL: any */
    const char *help;
    const char *row; /* for switches: the row of the specification, "EXPORT E22" */
    bool unused;     /* accepted with a note: has no effect (QUANT D26) */
} SettingRow;

typedef enum { SETTING_GENERIC, SETTING_ESPDL, SETTING_REFERENCE } SettingBase;

const SettingRow *setting_row_at(int index); /* NULL behind the last */
const SettingRow *setting_row(const char *path);
Setting *setting_new(SettingBase base, Error *error);
void setting_free(Setting *setting);
Setting *setting_copy(const Setting *setting, Error *error);
/* One value as text ("true", "1e-05", "kl", "nil"). Unknown paths and values fail with the nearest known one. */
bool setting_set(Setting *setting, const char *path, const char *value, Error *error);
bool setting_get(const Setting *setting, const char *path, Text *value, Error *error);
/* Lists, tables and configurations are read and written as JSON: ["a", "b"], {"name": 552}, {"name": 0.25}; "" is empty. */
bool setting_list_add(Setting *setting, const char *path, const char *item, Error *error);
bool setting_dispatch_add(Setting *setting, const char *pattern, int platform, Error *error);
bool setting_config_add(Setting *setting, const char *name, double scale, Error *error);
bool setting_clear(Setting *setting, const char *path, Error *error); /* empties a list, table or configuration */
/* Does the value at this row's path differ from the given base's default? */
bool setting_differs(const Setting *setting, const SettingRow *row, SettingBase base);
/* Bytes that a pass which goes by blocks may keep values in (exec/cache.h). */
size_t setting_block_memory(const Setting *setting);
/* One note in the graph for each setting that was changed and has no effect. */
void setting_note_unused(const Setting *setting, Graph *graph);

#endif
