/* The rows of the setting tree, and settings as the engine takes them. The tree users see is lua/espq/setting.lua. */
#include "bind/setting.h"
#include "bind/fields.h"

#include <string.h>

static const char *const kind_names[] = {"boolean", "integer", "number", "text", "text or nil", "list", "dispatch", "config"};

Setting *check_setting(lua_State *L, int index)
{
    return check_box(L, index, SETTING_TYPE, "a setting");
}

static int setting_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, SETTING_TYPE);
    Setting *setting = box->object;
    box->object = NULL;
    setting_free(setting);
    return 0;
}

static int setting_rows(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; setting_row_at(i); i++) {
        const SettingRow *row = setting_row_at(i);
        lua_createtable(L, 0, 8);
        set_text(L, "path", row->path);
        set_text(L, "kind", kind_names[row->kind]);
        set_text(L, "generic", row->generic);
        set_text(L, "espdl", row->espdl);
        set_text(L, "reference", row->reference);
        set_text(L, "choices", row->choices);
        set_text(L, "help", row->help);
        set_text(L, "row", row->row);
        lua_pushboolean(L, row->unused);
        lua_setfield(L, -2, "unused");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int setting_make(lua_State *L)
{
    Error error;
    error_begin(&error);
    Box *box = push_box(L, SETTING_TYPE);
    box->object = setting_new(SETTING_ESPDL, &error);
    if (!box->object) return raise_error(L, &error);
    return 1;
}

static int setting_done(lua_State *L, bool done, const Error *error)
{
    return done ? 0 : raise_error(L, error);
}

static int setting_set_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    return setting_done(L, setting_set(check_setting(L, 1), check_text(L, 2, "a path"), check_text(L, 3, "a text"), &error), &error);
}

static int setting_list_add_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    return setting_done(L, setting_list_add(check_setting(L, 1), check_text(L, 2, "a path"), check_text(L, 3, "a text"), &error), &error);
}

static int setting_dispatch_add_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    return setting_done(
        L, setting_dispatch_add(check_setting(L, 1), check_text(L, 2, "a name"), (int)check_integer(L, 3, "a platform's number"), &error),
        &error);
}

static int setting_config_add_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    return setting_done(L, setting_config_add(check_setting(L, 1), check_text(L, 2, "a name"), check_number(L, 3, "a scale"), &error),
                        &error);
}

void open_setting(lua_State *L)
{
    static const luaL_Reg functions[] = {{"rows", setting_rows},
                                         {"make", setting_make},
                                         {"set", setting_set_lua},
                                         {"list_add", setting_list_add_lua},
                                         {"dispatch_add", setting_dispatch_add_lua},
                                         {"config_add", setting_config_add_lua},
                                         {NULL, NULL}};
    make_type(L, SETTING_TYPE, NULL, NULL, setting_release);
    luaL_newlib(L, functions);
}
