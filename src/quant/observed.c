#include "quant/observed.h"

#include "base/memory.h"

int observed_method(const Observed *observed, const ObserverRow *row)
{
    for (int m = 0; m < observed->method_count; m++)
        if (observed->rows[m] == row) return m;
    return -1;
}

Observed *observed_new(const char *const *methods, int count, Error *error)
{
    Observed *observed = memory_new(sizeof *observed);
    if (!observed) {
        fail_memory(error, sizeof *observed);
        return NULL;
    }
    for (int i = 0; i < count && observed->method_count < OBSERVED_METHODS; i++) {
        const ObserverRow *row = observer_row(methods[i]);
        if (row && row->parallel && !row->refused && observed_method(observed, row) < 0) observed->rows[observed->method_count++] = row;
    }
    return observed;
}

void observed_free(Observed *observed)
{
    if (!observed) return;
    memory_free(observed->exponents);
    memory_free(observed->seen);
    memory_free(observed);
}
