/* The setting tree: everything here follows from the table in setting_rows.h. */
#include "quant/setting.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "observe/observer.h"
#include "quant/setting_rows.h"
#include "quant/target.h"

#define ROW_(kind, field, generic, espdl, reference, choices, help)                                                                        \
    {#field, kind, offsetof(Setting, field), generic, espdl, reference, choices, help, NULL, false},
#define UNUSED_(kind, field, generic, espdl, reference, choices, help)                                                                     \
    {#field, kind, offsetof(Setting, field), generic, espdl, reference, choices, help, NULL, true},
#define ROW(...) ROW_(__VA_ARGS__)
#define UNUSED(...) UNUSED_(__VA_ARGS__)
#define SWITCH(name, espdl, reference, row, help)                                                                                          \
    {"switches." #name, SETTING_BOOL, offsetof(Setting, switches.name), espdl, espdl, reference, NULL, help, row, false},

static const SettingRow rows[] = {SETTING_ROWS(ROW, UNUSED, SWITCH)};
enum { ROWS = sizeof rows / sizeof rows[0] };

const SettingRow *setting_row_at(int index)
{
    return index >= 0 && index < ROWS ? &rows[index] : NULL;
}

const SettingRow *setting_row(const char *path)
{
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].path, path) == 0) return &rows[i];
    }
    return NULL;
}

/* The part of a path behind its last point. */
static const char *leaf_of(const char *path)
{
    const char *point = strrchr(path, '.');
    return point ? point + 1 : path;
}

static const SettingRow *find_row(const char *path, Error *error)
{
    const SettingRow *row = setting_row(path);
    if (row) return row;
    size_t length = strlen(path);
    const char *paths[ROWS], *leaves[ROWS];
    for (int i = 0; i < ROWS; i++) {
        paths[i] = rows[i].path;
        leaves[i] = leaf_of(rows[i].path);
        if (length && strncmp(rows[i].path, path, length) == 0 && rows[i].path[length] == '.') {
            fail(error, path, "set one of its fields; `espq settings` lists all", "setting '%s' is a group, not a value", path);
            return NULL;
        }
    }
    int nearest = text_nearest(path, paths, ROWS);
    if (nearest < 0) nearest = text_nearest(leaf_of(path), leaves, ROWS);
    if (nearest < 0)
        fail(error, path, "`espq settings` lists all", "unknown setting '%s'", path);
    else
        fail(error, path, "`espq settings` lists all", "unknown setting '%s' (did you mean '%s'?)", path, rows[nearest].path);
    return NULL;
}

static void *field_of(const Setting *setting, const SettingRow *row)
{
    return (char *)(uintptr_t)setting + row->offset;
}

/* ---- memory of texts ---- */

static char *copy_text(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = memory_new(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static bool replace_text(char **field, const char *text, Error *error)
{
    char *copy = text ? copy_text(text) : NULL;
    if (text && !copy) return fail_memory(error, strlen(text) + 1);
    memory_free(*field);
    *field = copy;
    return true;
}

static void clear_list(SettingList *list)
{
    for (int i = 0; i < list->count; i++)
        memory_free(list->items[i]);
    memory_free(list->items);
    *list = (SettingList){0};
}

static void clear_dispatch(Setting *setting)
{
    for (int i = 0; i < setting->dispatching_count; i++)
        memory_free(setting->dispatching_table[i].pattern);
    memory_free(setting->dispatching_table);
    setting->dispatching_table = NULL;
    setting->dispatching_count = setting->dispatching_capacity = 0;
}

static void clear_config(Setting *setting)
{
    for (int i = 0; i < setting->quant_config_modify_setting.count; i++)
        memory_free(setting->quant_config_modify_setting.custom_config[i].name);
    memory_free(setting->quant_config_modify_setting.custom_config);
    memset(&setting->quant_config_modify_setting, 0, sizeof setting->quant_config_modify_setting);
}

static void clear_field(Setting *setting, const SettingRow *row)
{
    switch (row->kind) {
    case SETTING_TEXT:
    case SETTING_TEXT_OR_NIL:
        memory_free(*(char **)field_of(setting, row));
        *(char **)field_of(setting, row) = NULL;
        break;
    case SETTING_LIST: clear_list(field_of(setting, row)); break;
    case SETTING_DISPATCH: clear_dispatch(setting); break;
    case SETTING_CONFIG: clear_config(setting); break;
    case SETTING_BOOL:
    case SETTING_INTEGER:
    case SETTING_NUMBER: break;
    }
}

static bool add_to_list(SettingList *list, const char *item, Error *error)
{
    size_t capacity = (size_t)list->capacity;
    char **items = memory_grow(list->items, (size_t)list->count, &capacity, sizeof *items);
    if (!items) return fail_memory(error, sizeof *items);
    list->items = items;
    list->capacity = (int)capacity;
    char *copy = copy_text(item);
    if (!copy) return fail_memory(error, strlen(item) + 1);
    items[list->count++] = copy;
    return true;
}

bool setting_list_add(Setting *setting, const char *path, const char *item, Error *error)
{
    const SettingRow *row = find_row(path, error);
    if (!row) return false;
    if (row->kind != SETTING_LIST) return fail(error, path, "assign a value instead", "setting '%s' is no list", path);
    return add_to_list(field_of(setting, row), item, error);
}

bool setting_dispatch_add(Setting *setting, const char *pattern, int platform, Error *error)
{
    if (!platform_find(platform)) {
        return fail(error, pattern, "use espq.platform(target, bits), or espq.platform(\"float\")",
                    "dispatching table: unknown platform %d for '%s'", platform, pattern);
    }
    size_t capacity = (size_t)setting->dispatching_capacity;
    DispatchEntry *table = memory_grow(setting->dispatching_table, (size_t)setting->dispatching_count, &capacity, sizeof *table);
    if (!table) return fail_memory(error, sizeof *table);
    setting->dispatching_table = table;
    setting->dispatching_capacity = (int)capacity;
    char *copy = copy_text(pattern);
    if (!copy) return fail_memory(error, strlen(pattern) + 1);
    table[setting->dispatching_count++] = (DispatchEntry){copy, platform};
    return true;
}

bool setting_config_add(Setting *setting, const char *name, double scale, Error *error)
{
    if (!(scale > 0) || isinf(scale))
        return fail(error, name, "give a positive scale, 0.0625 for instance", "custom_config: scale of '%s' must be a positive number",
                    name);
    size_t capacity = (size_t)setting->quant_config_modify_setting.capacity;
    size_t count = (size_t)setting->quant_config_modify_setting.count;
    ConfigEntry *table = memory_grow(setting->quant_config_modify_setting.custom_config, count, &capacity, sizeof *table);
    if (!table) return fail_memory(error, sizeof *table);
    setting->quant_config_modify_setting.custom_config = table;
    setting->quant_config_modify_setting.capacity = (int)capacity;
    char *copy = copy_text(name);
    if (!copy) return fail_memory(error, strlen(name) + 1);
    table[count] = (ConfigEntry){copy, scale};
    setting->quant_config_modify_setting.count++;
    return true;
}

bool setting_clear(Setting *setting, const char *path, Error *error)
{
    const SettingRow *row = find_row(path, error);
    if (!row) return false;
    if (row->kind != SETTING_LIST && row->kind != SETTING_DISPATCH && row->kind != SETTING_CONFIG) {
        return fail(error, path, "assign a value instead", "setting '%s' is no list", path);
    }
    clear_field(setting, row);
    return true;
}

/* ---- values from text ---- */

static bool fail_value(const SettingRow *row, const char *value, const char *wanted, Error *error)
{
    char cure[512];
    snprintf(cure, sizeof cure, "it takes %s; %s", wanted, row->help);
    return fail(error, row->path, cure, "setting '%s' cannot be '%s'", row->path, value);
}

/* One of the words between '|'. */
static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *word = choices; word;) {
        const char *end = strchr(word, '|');
        size_t size = end ? (size_t)(end - word) : strlen(word);
        if (size == length && memcmp(word, value, size) == 0) return true;
        word = end ? end + 1 : NULL;
    }
    return false;
}

static bool fail_choice(const SettingRow *row, const char *value, Error *error)
{
    enum { MOST = 16 };
    char words[512];
    const char *names[MOST];
    int count = 0;
    snprintf(words, sizeof words, "%s", row->choices);
    for (char *word = words; word && count < MOST;) {
        char *end = strchr(word, '|');
        if (end) *end = 0;
        names[count++] = word;
        word = end ? end + 1 : NULL;
    }
    int nearest = text_nearest(value, names, count);
    char cure[768];
    size_t used = (size_t)snprintf(cure, sizeof cure, "it takes ");
    for (int i = 0; i < count && used < sizeof cure; i++)
        used += (size_t)snprintf(cure + used, sizeof cure - used, "%s'%s'", i ? ", " : "", names[i]);
    if (nearest < 0) return fail(error, row->path, cure, "setting '%s' cannot be '%s'", row->path, value);
    return fail(error, row->path, cure, "setting '%s' cannot be '%s' (did you mean '%s'?)", row->path, value, names[nearest]);
}

static bool check_observer(const SettingRow *row, const char *value, Error *error)
{
    const ObserverRow *observer = observer_row(value);
    if (observer && observer->refused)
        return fail(error, row->path, "use kl, minmax, percentile, mse or isotone", "method '%s' cannot be used here: %s", value,
                    observer->refused);
    if (observer) return true;
    const char *nearest = observer_nearest(value);
    return fail(error, row->path, "known methods: kl, minmax, percentile, mse, isotone, and those of espq.observer",
                "unknown calibration method '%s'%s%s%s", value, nearest ? " (did you mean '" : "", nearest ? nearest : "",
                nearest ? "'?)" : "");
}

static bool set_text(Setting *setting, const SettingRow *row, const char *value, Error *error)
{
    if (row->kind == SETTING_TEXT_OR_NIL && strcmp(value, "nil") == 0) return replace_text(field_of(setting, row), NULL, error);
    if (row->choices && strcmp(row->choices, "@observer") == 0) {
        if (!check_observer(row, value, error)) return false;
    } else if (row->choices && !is_choice(row->choices, value)) {
        return fail_choice(row, value, error);
    }
    return replace_text(field_of(setting, row), value, error);
}

/* Independent of the locale: cJSON puts the locale's point in before it asks the C library. */
static bool read_number(const char *value, double *number)
{
    const char *end = NULL;
    cJSON *item = cJSON_ParseWithOpts(value, &end, 1);
    bool ok = item && cJSON_IsNumber(item) && isfinite(item->valuedouble);
    if (ok) *number = item->valuedouble;
    cJSON_Delete(item);
    return ok;
}

static bool set_entries(Setting *setting, const SettingRow *row, const cJSON *json, const char *value, Error *error)
{
    bool list = row->kind == SETTING_LIST;
    if (list ? !cJSON_IsArray(json) : !cJSON_IsObject(json)) {
        return fail_value(row, value,
                          list                          ? "a list of names, [\"a\", \"b\"]"
                          : row->kind == SETTING_CONFIG ? "{\"name\": scale}"
                                                        : "{\"name\": platform number}",
                          error);
    }
    clear_field(setting, row);
    for (const cJSON *item = json->child; item; item = item->next) {
        if (list ? !cJSON_IsString(item) : !cJSON_IsNumber(item)) return fail_value(row, value, list ? "names" : "numbers", error);
        bool ok = list                          ? add_to_list(field_of(setting, row), item->valuestring, error)
                  : row->kind == SETTING_CONFIG ? setting_config_add(setting, item->string, item->valuedouble, error)
                                                : setting_dispatch_add(setting, item->string, (int)item->valuedouble, error);
        if (!ok) return false;
    }
    return true;
}

static bool set_row(Setting *setting, const SettingRow *row, const char *value, Error *error)
{
    double number;
    switch (row->kind) {
    case SETTING_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) return fail_value(row, value, "true or false", error);
        *(bool *)field_of(setting, row) = strcmp(value, "true") == 0;
        return true;
    case SETTING_INTEGER:
        if (!read_number(value, &number) || number != floor(number) || fabs(number) > 1e15)
            return fail_value(row, value, "a whole number", error);
        if (row->choices && !is_choice(row->choices, value)) return fail_choice(row, value, error);
        *(int64_t *)field_of(setting, row) = (int64_t)number;
        return true;
    case SETTING_NUMBER:
        if (!read_number(value, &number)) return fail_value(row, value, "a number", error);
        *(double *)field_of(setting, row) = number;
        return true;
    case SETTING_TEXT:
    case SETTING_TEXT_OR_NIL: return set_text(setting, row, value, error);
    case SETTING_LIST:
    case SETTING_DISPATCH:
    case SETTING_CONFIG: break;
    }
    if (!*value || strcmp(value, "nil") == 0) {
        clear_field(setting, row);
        return true;
    }
    cJSON *json = cJSON_ParseWithOpts(value, NULL, 1);
    bool ok = set_entries(setting, row, json, value, error);
    cJSON_Delete(json);
    return ok;
}

bool setting_set(Setting *setting, const char *path, const char *value, Error *error)
{
    const SettingRow *row = find_row(path, error);
    return row && set_row(setting, row, value, error);
}

/* ---- text from values ---- */

static void json_texts(const char *const *texts, int count, Text *value)
{
    Json json = {0};
    json_begin_array(&json);
    for (int i = 0; i < count; i++)
        json_string(&json, texts[i]);
    json_end_array(&json);
    if (json.text.data) text_add(value, json.text.data);
    value->failed = value->failed || json.text.failed;
    text_free(&json.text);
}

static void get_entries(const Setting *setting, bool config, Text *value)
{
    Json json = {0};
    json_begin_object(&json);
    for (int i = 0; config && i < setting->quant_config_modify_setting.count; i++) {
        json_key(&json, setting->quant_config_modify_setting.custom_config[i].name);
        json_number(&json, setting->quant_config_modify_setting.custom_config[i].scale);
    }
    for (int i = 0; !config && i < setting->dispatching_count; i++) {
        json_key(&json, setting->dispatching_table[i].pattern);
        json_integer(&json, setting->dispatching_table[i].platform);
    }
    json_end_object(&json);
    if (json.text.data) text_add(value, json.text.data);
    value->failed = value->failed || json.text.failed;
    text_free(&json.text);
}

static void get_row(const Setting *setting, const SettingRow *row, Text *value)
{
    const void *field = field_of(setting, row);
    const char *text;
    char number[32];
    switch (row->kind) {
    case SETTING_BOOL: text_add(value, *(const bool *)field ? "true" : "false"); break;
    case SETTING_INTEGER: text_format(value, "%lld", (long long)*(const int64_t *)field); break;
    case SETTING_NUMBER:
        text_from_double(number, *(const double *)field);
        text_add(value, number);
        break;
    case SETTING_TEXT:
    case SETTING_TEXT_OR_NIL:
        text = *(char *const *)field;
        text_add(value, text ? text : "nil");
        break;
    case SETTING_LIST:
        json_texts((const char *const *)((const SettingList *)field)->items, ((const SettingList *)field)->count, value);
        break;
    case SETTING_DISPATCH: get_entries(setting, false, value); break;
    case SETTING_CONFIG: get_entries(setting, true, value); break;
    }
}

bool setting_get(const Setting *setting, const char *path, Text *value, Error *error)
{
    const SettingRow *row = find_row(path, error);
    if (!row) return false;
    get_row(setting, row, value);
    return value->failed ? fail_memory(error, value->length) : true;
}

/* ---- life ---- */

static const char *default_of(const SettingRow *row, SettingBase base)
{
    return base == SETTING_GENERIC ? row->generic : base == SETTING_ESPDL ? row->espdl : row->reference;
}

Setting *setting_new(SettingBase base, Error *error)
{
    Setting *setting = memory_new(sizeof *setting);
    if (!setting) {
        fail_memory(error, sizeof *setting);
        return NULL;
    }
    for (int i = 0; i < ROWS; i++) {
        if (set_row(setting, &rows[i], default_of(&rows[i], base), error)) continue;
        setting_free(setting);
        return NULL;
    }
    return setting;
}

void setting_free(Setting *setting)
{
    if (!setting) return;
    for (int i = 0; i < ROWS; i++)
        clear_field(setting, &rows[i]);
    memory_free(setting);
}

static bool copy_row(Setting *to, const Setting *from, const SettingRow *row, Error *error)
{
    const SettingList *list = field_of(from, row);
    switch (row->kind) {
    case SETTING_BOOL: *(bool *)field_of(to, row) = *(const bool *)field_of(from, row); return true;
    case SETTING_INTEGER: *(int64_t *)field_of(to, row) = *(const int64_t *)field_of(from, row); return true;
    case SETTING_NUMBER: *(double *)field_of(to, row) = *(const double *)field_of(from, row); return true;
    case SETTING_TEXT:
    case SETTING_TEXT_OR_NIL: return replace_text(field_of(to, row), *(char *const *)field_of(from, row), error);
    case SETTING_LIST:
        for (int i = 0; i < list->count; i++) {
            if (!add_to_list(field_of(to, row), list->items[i], error)) return false;
        }
        return true;
    case SETTING_DISPATCH:
        for (int i = 0; i < from->dispatching_count; i++) {
            if (!setting_dispatch_add(to, from->dispatching_table[i].pattern, from->dispatching_table[i].platform, error)) return false;
        }
        return true;
    case SETTING_CONFIG:
        for (int i = 0; i < from->quant_config_modify_setting.count; i++) {
            const ConfigEntry *entry = &from->quant_config_modify_setting.custom_config[i];
            if (!setting_config_add(to, entry->name, entry->scale, error)) return false;
        }
        return true;
    }
    return true;
}

Setting *setting_copy(const Setting *setting, Error *error)
{
    Setting *copy = memory_new(sizeof *copy);
    if (!copy) {
        fail_memory(error, sizeof *copy);
        return NULL;
    }
    for (int i = 0; i < ROWS; i++) {
        if (copy_row(copy, setting, &rows[i], error)) continue;
        setting_free(copy);
        return NULL;
    }
    return copy;
}

/* ---- what has no effect ---- */

bool setting_differs(const Setting *setting, const SettingRow *row, SettingBase base)
{
    const char *wanted = default_of(row, base);
    double number;
    if (row->kind == SETTING_LIST) return ((const SettingList *)field_of(setting, row))->count > 0;
    if (row->kind == SETTING_DISPATCH) return setting->dispatching_count > 0;
    if (row->kind == SETTING_CONFIG) return setting->quant_config_modify_setting.count > 0;
    if (row->kind == SETTING_NUMBER) return !read_number(wanted, &number) || *(const double *)field_of(setting, row) != number;
    Text value = {0};
    get_row(setting, row, &value);
    bool differs = !value.data || strcmp(value.data, wanted) != 0;
    text_free(&value);
    return differs;
}

/* The switch that a row's group belongs to: "equalization" for "equalization_setting.iterations". NULL: none, or it is on. */
static const SettingRow *sleeping_switch(const Setting *setting, const SettingRow *row)
{
    char name[64];
    const char *end = strstr(row->path, "_setting.");
    if (!end || (size_t)(end - row->path) >= sizeof name) return NULL;
    snprintf(name, sizeof name, "%.*s", (int)(end - row->path), row->path);
    const SettingRow *owner = setting_row(strcmp(name, "ssd") == 0 ? "ssd_equalization" : name);
    return owner && owner->kind == SETTING_BOOL && !*(const bool *)field_of(setting, owner) ? owner : NULL;
}

void setting_note_unused(const Setting *setting, Graph *graph)
{
    for (int i = 0; i < ROWS; i++) {
        const SettingRow *row = &rows[i];
        if (!setting_differs(setting, row, SETTING_ESPDL) || !setting_differs(setting, row, SETTING_GENERIC)) continue;
        const SettingRow *owner = sleeping_switch(setting, row);
        if (row->unused)
            graph_note(graph, "setting %s has no effect: %s", row->path, row->help);
        else if (owner)
            graph_note(graph, "setting %s has no effect: %s is false", row->path, owner->path);
    }
    if (setting->lsq_optimization && setting->lsq_optimization_setting.is_scale_trainable) {
        graph_note(graph, "setting lsq_optimization_setting.is_scale_trainable has no effect: exponents are whole numbers here; "
                          "tqt_optimization trains them");
    }
}

size_t setting_block_memory(const Setting *setting)
{
    int64_t most = (int64_t)(SIZE_MAX >> 21);
    int64_t megabytes = setting->block_memory < 0 ? 0 : setting->block_memory > most ? most : setting->block_memory;
    return megabytes ? (size_t)megabytes << 20 : 1; /* 0: all of it in the file */
}
