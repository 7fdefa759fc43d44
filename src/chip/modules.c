/* The runtime's modules, by type. */
#include <string.h>

#include "chip/module.h"

static const ChipModule *const families[] = {
    chip_conv_modules,      chip_pool_modules,
    chip_binary_modules,    chip_unary_modules,
    chip_convert_modules,   chip_softmax_modules,
    chip_norm_modules,      chip_reduce_modules,
    chip_move_modules,      chip_gather_modules,
    chip_view_modules,      chip_recurrent_modules,
    chip_streaming_modules, NULL,
};

const ChipModule *chip_module_at(int index)
{
    for (int family = 0; families[family]; family++) {
        for (const ChipModule *module = families[family]; module->type; module++) {
            if (index-- == 0) return module;
        }
    }
    return NULL;
}

const ChipModule *chip_module_find(const char *type)
{
    const ChipModule *module;
    for (int i = 0; (module = chip_module_at(i)); i++) {
        if (strcmp(module->type, type) == 0) return module;
    }
    return NULL;
}
