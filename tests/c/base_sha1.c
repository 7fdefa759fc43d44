/* Promise: sha1 gives the digests of FIPS 180-4, however the bytes are cut, because a trial's name must be the reference's. */
#include "base/sha1.h"

#include <string.h>

#include "check.h"

static bool is(const char *text, size_t cut, const char *wanted)
{
    Sha1 sha1;
    char hex[41];
    sha1_begin(&sha1);
    sha1_add(&sha1, text, cut);
    sha1_add(&sha1, text + cut, strlen(text) - cut);
    sha1_end(&sha1, hex);
    return strcmp(hex, wanted) == 0;
}

TEST(base_sha1_gives_the_published_digests)
{
    const char *longer = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK(is("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709"), "nothing");
    CHECK(is("abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d"), "abc");
    for (size_t cut = 0; cut <= strlen(longer); cut++)
        CHECK(is(longer, cut, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"), "56 bytes, cut at %zu", cut);
}

static void name_of(const uint64_t *words, size_t count, char hex[41])
{
    Sha1 sha1;
    sha1_begin(&sha1);
    sha1_add_content(&sha1, words, count * sizeof *words);
    sha1_end(&sha1, hex);
}

/* Promise: numbers that differ in two bits have two names, wherever the bits are: a search takes results of equal names for equal. */
TEST(base_sha1_tells_contents_apart_that_differ_in_two_bits)
{
    uint64_t words[8] = {0};
    char plain[41], changed[41];
    int equal = 0;
    name_of(words, 8, plain);
    for (int first = 0; first < 64; first++)
        for (int second = 0; second < 64; second++) {
            words[0] = 1ull << first;
            words[4] = 1ull << second; /* of the same lane */
            name_of(words, 8, changed);
            equal += strcmp(plain, changed) == 0;
        }
    CHECK(equal == 0, "%d pairs of bits are not seen", equal);
}
