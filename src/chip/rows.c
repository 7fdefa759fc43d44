/* Look-up of int8 in a table of 256, the most frequent activation. */
#include "chip/rows.h"

#include "base/threads.h"

typedef struct Lookup {
    const int8_t *table, *x;
    int8_t *y;
} Lookup;

static void look_up(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Lookup *lookup = context;
    const int8_t *table = lookup->table + 128, *x = lookup->x;
    int8_t *y = lookup->y;
    for (int64_t i = begin; i < end; i++)
        y[i] = table[x[i]];
}

void row_lookup(const int8_t *table, const int8_t *x, int8_t *y, int64_t count)
{
    Lookup lookup = {table, x, y};
    threads_for(count, ROW_GRAIN, look_up, &lookup);
}
