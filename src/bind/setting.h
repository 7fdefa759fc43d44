/* A setting as the engine takes it, boxed. */
#ifndef ESPQ_BIND_SETTING_H
#define ESPQ_BIND_SETTING_H

#include "bind/box.h"
#include "quant/setting.h"

#define SETTING_TYPE "espq.setting"

Setting *check_setting(lua_State *L, int index);

#endif
