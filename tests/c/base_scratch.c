#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/scratch.h"
#include "check.h"

/* Promise: what was put is got back, and room that was dropped is used again, joined with the room beside it. */
TEST(scratch_uses_room_again)
{
    Error error = {0};
    Scratch *scratch = scratch_new(&error);
    char data[4][100], back[200];
    int64_t place[4], both;
    REQUIRE(scratch, "%s", error.what);
    for (int i = 0; i < 4; i++) {
        memset(data[i], 'a' + i, sizeof data[i]);
        REQUIRE(scratch_put(scratch, data[i], sizeof data[i], &place[i], &error), "%s", error.what);
    }
    scratch_drop(scratch, place[1], 100);
    scratch_drop(scratch, place[2], 100);
    memset(back, 'z', sizeof back);
    REQUIRE(scratch_put(scratch, back, sizeof back, &both, &error), "%s", error.what);
    CHECK(both == place[1] && scratch_bytes(scratch) == 400, "room at %d, %d bytes", (int)both, (int)scratch_bytes(scratch));
    for (int i = 0; i < 4; i += 3)
        CHECK(scratch_get(scratch, place[i], back, 100, &error) && !memcmp(back, data[i], 100), "block %d", i);
    scratch_free(scratch);
}

/* Promise: the file has no name, so nothing can stay behind; a folder that is not there and a full disk are said. */
TEST(scratch_has_no_name)
{
    Error error = {0};
    char folder[] = "/tmp/espq-test-XXXXXX", data[100] = {0};
    const char *was = getenv("TMPDIR");
    char *before = was ? strdup(was) : NULL;
    int64_t place;
    REQUIRE(mkdtemp(folder), "no folder");
    setenv("TMPDIR", folder, 1);
    Scratch *scratch = scratch_new(&error);
    CHECK(scratch_put(scratch, data, sizeof data, &place, &error), "%s", error.what);
    DIR *list = opendir(folder);
    int names = 0;
    while (list && readdir(list))
        names++;
    if (list) closedir(list);
    CHECK(names == 2, "%d names beside . and ..", names - 2);
    fault_arm(FAULT_WRITE, FAULT_FROM, 0);
    CHECK(!scratch_put(scratch, data, sizeof data, &place, &error) && error.code == ERROR_FILE, "full disk");
    fault_disarm();
    scratch_free(scratch);
    rmdir(folder);
    scratch = scratch_new(&error);
    error = (Error){0};
    CHECK(!scratch_put(scratch, data, sizeof data, &place, &error) && error.code == ERROR_FILE, "folder that is gone");
    scratch_free(scratch);
    if (before)
        setenv("TMPDIR", before, 1);
    else
        unsetenv("TMPDIR");
    free(before);
}
