#include "base/json.h"
#include "base/map.h"
#include "base/text.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

/* Promise: a misspelt name finds the name that was meant, and a strange one finds none. */
TEST(nearest_name_is_the_one_that_was_meant)
{
    const char *const names[] = {"calib_steps", "calib_dataloader", "equalization", "esp32p4", "esp32s3"};
    const struct {
        const char *wanted;
        int index;
    } cases[] = {{"calib_step", 0}, {"equalisation", 2}, {"esp32-p4", 3}, {"ESP32S3", 4}, {"calib_setps", 0}, {"frobnicate", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(text_nearest(cases[i].wanted, names, 5) == cases[i].index, "%s", cases[i].wanted);
}

/* Promise: the text of a number reads back as the same number, in the fewest digits. */
TEST(numbers_are_shortest_that_read_back)
{
    char out[32];
    const struct {
        float value;
        const char *text;
    } cases[] = {{0.1f, "0.1"}, {1.0f, "1"}, {1e-5f, "1e-05"}, {16777216.0f, "16777216"}, {0x1p-26f, "1.4901161e-08"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text_from_float(out, cases[i].value);
        CHECK(strcmp(out, cases[i].text) == 0, "%s instead of %s", out, cases[i].text);
        CHECK(strtof(out, NULL) == cases[i].value, "%s does not read back", out);
    }
}

/* Promise: a pattern with stars and question marks matches what a shell's would. */
TEST(patterns_match_names)
{
    CHECK(text_matches("/model.23/*", "/model.23/cv2/conv"), "a trailing star");
    CHECK(text_matches("*conv*", "a/conv1/b"), "stars on both sides");
    CHECK(text_matches("Conv_?", "Conv_7"), "a question mark");
    CHECK(!text_matches("Conv_?", "Conv_71"), "a question mark is one letter");
    CHECK(text_matches("*a*b*c", "xaxbxc"), "several stars");
    CHECK(!text_matches("a*b", "ab1"), "the end counts");
}

/* Promise: control characters of a name never reach a terminal, and a long text is cut at the size of the buffer. */
TEST(escaped_text_is_printable_and_fits)
{
    char out[16];
    CHECK(strcmp(text_escape(out, sizeof out, "a\n\x1b[b"), "a\\n\\x1b[b") == 0, "%s", out);
    text_escape(out, sizeof out, "a long text that does not fit");
    CHECK(strlen(out) < sizeof out && strstr(out, "\xe2\x80\xa6"), "%s", out);
}

/* Promise: what the writer makes is JSON, with integers and floats kept apart. */
TEST(json_keeps_integers_and_floats_apart)
{
    Json json = {0};
    json_begin_object(&json);
    json_key(&json, "a\"b\n");
    json_integer(&json, -7);
    json_key(&json, "list");
    json_begin_array(&json);
    json_number(&json, 1);
    json_number(&json, 0.1);
    json_null(&json);
    json_end_array(&json);
    json_key(&json, "empty");
    json_begin_array(&json);
    json_end_array(&json);
    json_end_object(&json);
    CHECK(strcmp(json.text.data, "{\"a\\\"b\\n\":-7,\"list\":[1.0,0.1,null],\"empty\":[]}") == 0, "%s", json.text.data);
    text_free(&json.text);
}

/* Promise: a map finds every key after many insertions and removals. */
TEST(map_finds_what_was_set)
{
    static char keys[2000][8];
    Map map = {0};
    for (int i = 0; i < 2000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        REQUIRE(map_set(&map, keys[i], keys[i]), "memory");
    }
    for (int i = 0; i < 2000; i += 2)
        map_remove(&map, keys[i]);
    for (int i = 0; i < 2000; i++)
        CHECK(map_get(&map, keys[i]) == (i % 2 ? keys[i] : NULL), "%s", keys[i]);
    for (int i = 0; i < 2000; i += 2)
        map_set(&map, keys[i], keys[0]);
    CHECK(map_get(&map, "k4") == keys[0] && !map_has(&map, "k2000"), "set again");
    map_free(&map);
}
