#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"

/* Promise: a large block that was freed serves again (but where the address sanitizer watches), and has one owner at a time. */
TEST(large_blocks_serve_again)
{
    enum { MEGABYTE = 1 << 20, LARGE = 62 * MEGABYTE }; /* no other test's size */
    char *first = memory_new_aligned(LARGE), *second = memory_new_aligned(LARGE);
    REQUIRE(first && second && first != second, "no memory");
    memset(first, 1, LARGE);
    memset(second, 2, LARGE);
    memory_free(first);
    char *again = memory_new_aligned(LARGE), *third = memory_new_aligned(LARGE);
    REQUIRE(again && third, "no memory");
#if !defined __SANITIZE_ADDRESS__ && !defined __has_feature /* clang does not say so as plainly */
    CHECK(again == first, "a new block was made");
#endif
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
