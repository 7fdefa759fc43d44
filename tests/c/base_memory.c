#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"

/* Promise: a large block that was freed serves again, for smaller ones too where others would have to go, and is nobody else's meanwhile. */
TEST(large_blocks_serve_again)
{
    enum { MEGABYTE = 1 << 20, LARGE = 64 * MEGABYTE };
    char *first = memory_new_aligned(LARGE), *second = memory_new_aligned(LARGE);
    REQUIRE(first && second && first != second, "no memory");
    memset(first, 1, LARGE);
    memset(second, 2, LARGE);
    memory_free(first);
    char *again = memory_new_aligned(LARGE), *third = memory_new_aligned(LARGE);
    REQUIRE(again && third, "no memory");
    CHECK(again != second && third != second && again != third, "a block has two owners");
    CHECK((uintptr_t)again % 64 == 0, "it is not aligned");
    memset(again, 3, LARGE);
    memset(third, 4, LARGE);
    CHECK(second[0] == 2 && second[LARGE - 1] == 2, "a block in use was given out");
    char *moved = memory_resize(again, LARGE / 2);
    REQUIRE(moved, "no memory");
    CHECK(moved[0] == 3 && moved[LARGE / 2 - 1] == 3, "a resized block lost what was in it");
    memory_free(moved);
    memory_free(second);
    memory_free(third);
}
