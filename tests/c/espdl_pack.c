#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "espdl/pack.h"
#include "espdl/sha256.h"
#include "espdl_models.h"

/* Promise: the digest is that of FIPS 180-4 (its own examples), also where the padding needs a second block. */
TEST(sha256_is_that_of_the_standard)
{
    static const struct {
        const char *text;
        uint8_t start[4];
    } rows[] = {{"", {0xe3, 0xb0, 0xc4, 0x42}},
                {"abc", {0xba, 0x78, 0x16, 0xbf}},
                {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", {0x24, 0x8d, 0x6a, 0x61}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t digest[32];
        sha256((const uint8_t *)rows[i].text, strlen(rows[i].text), digest);
        CHECK(memcmp(digest, rows[i].start, 4) == 0, "'%s'", rows[i].text);
    }
}

typedef struct Two {
    char folder[32], paths[2][64];
    bool made;
} Two;

static Two two_files(void)
{
    Two two = {.folder = "/tmp/espq_test_XXXXXX"};
    Error error = {0};
    two.made = mkdtemp(two.folder) != NULL;
    for (int i = 0; two.made && i < 2; i++) {
        uint8_t *bytes = NULL;
        size_t count = 0;
        snprintf(two.paths[i], sizeof two.paths[i], "%s/%s.espdl", two.folder, i ? "alpha" : "beta");
        two.made = write_small(i, &bytes, &count) && file_write(two.paths[i], bytes, count, &error);
        memory_free(bytes);
    }
    return two;
}

static void remove_two(const Two *two)
{
    unlink(two->paths[0]);
    unlink(two->paths[1]);
    rmdir(two->folder);
}

/* Promise: what was packed comes out again, each model by its name, in the order of names, from both kinds of package. */
TEST(packages_hold_what_was_packed)
{
    Two two = two_files();
    REQUIRE(two.made, "no files");
    const char *paths[] = {two.paths[0], two.paths[1]};
    long before = fault_blocks();
    for (int newest = 0; newest < 2; newest++) {
        Error error = {0};
        uint8_t *bytes = NULL;
        size_t count = 0;
        REQUIRE(espdl_pack_write(paths, 2, newest ? "PDL3" : "PDL2", &bytes, &count, &error), "%s", error.what);
        EspdlPack *pack = espdl_pack_parse(bytes, count, "pack", &error);
        memory_free(bytes);
        REQUIRE(pack, "%s", error.what);
        CHECK(pack->count == 2 && espdl_pack_find(pack, "alpha") == 0 && espdl_pack_find(pack, "beta.espdl") == 1, "names or order");
        for (int i = 0; i < 2; i++) {
            CHECK(pack->entries[i].offset % 16 == 0, "model %d at %zu", i, pack->entries[i].offset);
            EspdlModel *packed = espdl_pack_model(pack, i, &error), *plain = espdl_load_model(paths[1 - i], NULL, &error);
            CHECK(packed && plain && same_models(packed, plain), "model %d differs: %s", i, error.what);
            espdl_model_free(packed);
            espdl_model_free(plain);
        }
        espdl_pack_free(pack);
    }
    CHECK(fault_blocks() == before, "blocks leak");
    remove_two(&two);
}

/* Promise: a package cut anywhere, or with any byte of its head changed, is refused with words or read without harm. */
TEST(damaged_packages_do_no_harm)
{
    Two two = two_files();
    REQUIRE(two.made, "no files");
    const char *paths[] = {two.paths[0], two.paths[1]};
    for (int newest = 0; newest < 2; newest++) {
        Error error = {0};
        uint8_t *bytes = NULL;
        size_t count = 0;
        REQUIRE(espdl_pack_write(paths, 2, newest ? "PDL3" : "PDL2", &bytes, &count, &error), "%s", error.what);
        long before = fault_blocks();
        for (size_t at = 0; at < count; at += at < 160 ? 1 : 97) {
            for (int how = 0; how < 3; how++) { /* 0: cut, 1 and 2: a changed byte */
                uint8_t *copy = memory_new(count);
                memcpy(copy, bytes, count);
                copy[at] ^= how == 1 ? 1 : how == 2 ? 0x80 : 0;
                Error said = {0};
                EspdlPack *pack = espdl_pack_parse(copy, how ? count : at, "pack", &said);
                CHECK(pack || *said.what, "refused without a word");
                CHECK(!pack || !newest || (!how && at < 4) || (how && at < 4), "byte %zu of a PDL3: not noticed", at);
                for (int i = 0; pack && i < pack->count; i++)
                    espdl_model_free(espdl_pack_model(pack, i, &said));
                espdl_pack_free(pack);
                memory_free(copy);
            }
        }
        CHECK(fault_blocks() == before, "blocks leak");
        memory_free(bytes);
    }
    remove_two(&two);
}
