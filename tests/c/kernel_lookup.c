/* Look-up tables of int8. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "check.h"
#include "kernel/lookup.h"

/* Promise: every variant that this processor has takes the entry that the plain definition takes, for every value, at every length and
 * place, in place as well, and writes nothing behind the end. */
TEST(kernel_lookup_variants)
{
    enum { COUNT = 300 };
    Random random;
    random_seed(&random, 5);
    int8_t table[256], x[COUNT + 1], y[COUNT + 1];
    for (int i = 0; i < 256; i++)
        table[i] = (int8_t)(random_next(&random) >> 24);
    int row = 0;
    for (; row < 8; row++) {
        for (int length = 0; length <= COUNT; length++) {
            int begin = length % 3;
            for (int i = 0; i <= COUNT; i++)
                x[i] = (int8_t)(i * 7 + length), y[i] = 99;
            bool in_place = length % 2;
            int8_t *out = in_place ? x : y, before[COUNT + 1];
            memcpy(before, x, sizeof x);
            int count = length < begin ? 0 : length - begin;
            if (!lookup_int8_on(row, table, x + begin, out + begin, count)) goto done;
            for (int i = begin; i < begin + count; i++)
                REQUIRE(out[i] == table[before[i] + 128], "row %d length %d: %d is %d", row, length, before[i], out[i]);
            REQUIRE(out[begin + count] == (in_place ? before[begin + count] : 99), "row %d length %d writes behind the end", row, length);
        }
    }
done:
    CHECK(row > 0, "no variant");
}

/* Promise: the shares of the threads are the whole. */
TEST(kernel_lookup_large)
{
    enum { COUNT = 1000003 };
    int8_t table[256], *x = malloc(COUNT), *y = malloc(COUNT);
    REQUIRE(x && y, "memory");
    for (int i = 0; i < 256; i++)
        table[i] = (int8_t)(255 - i);
    for (int i = 0; i < COUNT; i++)
        x[i] = (int8_t)(i * 31);
    lookup_int8(table, x, y, COUNT);
    int wrong = 0;
    for (int i = 0; i < COUNT; i++)
        wrong += y[i] != table[x[i] + 128];
    CHECK(wrong == 0, "%d elements differ", wrong);
    free(x);
    free(y);
}
