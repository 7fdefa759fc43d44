/* Rows by ONNX type: the built-in ones of rows.h, and behind them those that were registered (Lua operators). */
#include "base/memory.h"
#include "base/text.h"
#include "graph/operator.h"
#include "ops/rows.h"

#include <string.h>

#define OPERATOR_ADDRESS(row) &row,
static const Operator *const built_in[] = {OPERATOR_ROWS(OPERATOR_ADDRESS) NULL};
enum { BUILT_IN = sizeof built_in / sizeof built_in[0] - 1 };

static const Operator **registered;
static size_t registered_count, registered_capacity;

const Operator *operator_at(int index)
{
    if (index < 0) return NULL;
    if (index < BUILT_IN) return built_in[index];
    size_t behind = (size_t)index - BUILT_IN;
    return behind < registered_count ? registered[behind] : NULL;
}

const Operator *operator_find(const char *type)
{
    for (int i = 0;; i++) {
        const Operator *row = operator_at(i);
        if (!row || strcmp(row->name, type) == 0) return row;
    }
}

const char *operator_nearest(const char *type)
{
    int count = BUILT_IN + (int)registered_count;
    const char **names = memory_new_array((size_t)count, sizeof *names);
    if (!names) return NULL;
    for (int i = 0; i < count; i++)
        names[i] = operator_at(i)->name;
    int nearest = text_nearest(type, names, count);
    memory_free(names);
    return nearest < 0 ? NULL : operator_at(nearest)->name;
}

bool operator_is_built_in(const Operator *row)
{
    for (int i = 0; i < BUILT_IN; i++)
        if (built_in[i] == row) return true;
    return false;
}

bool operator_register(const Operator *row)
{
    if (operator_find(row->name)) return false;
    const Operator **grown = memory_grow(registered, registered_count, &registered_capacity, sizeof *registered);
    if (!grown) return false;
    registered = grown;
    registered[registered_count++] = row;
    return true;
}

void operator_unregister(const char *type)
{
    for (size_t i = 0; i < registered_count; i++) {
        if (strcmp(registered[i]->name, type) != 0) continue;
        memmove(registered + i, registered + i + 1, (registered_count - i - 1) * sizeof *registered);
        registered_count--;
        break;
    }
    if (registered_count) return;
    memory_free(registered);
    registered = NULL;
    registered_capacity = 0;
}
