#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int entries_in(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir) closedir(dir);
    return count;
}

/* Promise: files of a set appear together or not at all, whatever write, sync or rename fails; nothing else is left behind. */
TEST(files_appear_whole_or_not_at_all)
{
    char folder[] = "/tmp/espq_test_XXXXXX", first[64], second[64];
    REQUIRE(mkdtemp(folder), "no temporary folder");
    snprintf(first, sizeof first, "%s/a", folder);
    snprintf(second, sizeof second, "%s/b", folder);
    for (int kind = FAULT_WRITE; kind <= FAULT_SYNC; kind++)
        for (int n = 0; n < 2; n++) {
            Error error = {0};
            long blocks = fault_blocks();
            fault_arm((FaultKind)kind, FAULT_FROM, n);
            FileSet *set = fileset_new(&error);
            bool ok =
                fileset_add(set, first, "one", 3, &error) && fileset_add(set, second, "two", 3, &error) && fileset_commit(set, &error);
            fileset_free(set);
            CHECK(fault_disarm() && !ok, "fault %d at %d was not reported", kind, n);
            CHECK(error.code == ERROR_FILE && error.where[0] && error.cure[0] + 1, "the error says where");
            CHECK(entries_in(folder) == 0, "something is left in the folder");
            CHECK(fault_blocks() == blocks, "a leak");
        }
    Error error = {0};
    uint8_t *data = NULL;
    size_t bytes = 0;
    CHECK(file_write(first, "new", 3, &error), "%s", error.what);
    fault_arm(FAULT_RENAME, FAULT_FROM, 0);
    CHECK(!file_write(first, "newer", 5, &error), "a failed rename is an error");
    fault_disarm();
    CHECK(file_read(first, &data, &bytes, &error) && bytes == 3 && memcmp(data, "new", 3) == 0, "the old file stays whole");
    CHECK(entries_in(folder) == 1, "the temporary is gone");
    memory_free(data);
    unlink(first);
    rmdir(folder);
}

/* Promise: when one of several renames fails, the files are what they were before, and nothing else is left behind. */
TEST(a_failed_rename_is_taken_back)
{
    char folder[] = "/tmp/espq_test_XXXXXX", first[64], second[64];
    REQUIRE(mkdtemp(folder), "no temporary folder");
    snprintf(first, sizeof first, "%s/a", folder);
    snprintf(second, sizeof second, "%s/b", folder);
    Error error = {0};
    for (int existed = 0; existed < 2; existed++) {
        if (existed) CHECK(file_write(first, "old", 3, &error), "%s", error.what);
        fault_arm(FAULT_RENAME, FAULT_FROM, 1);
        FileSet *set = fileset_new(&error);
        bool ok = fileset_add(set, first, "newer", 5, &error) && fileset_add(set, second, "two", 3, &error) && fileset_commit(set, &error);
        fault_disarm();
        fileset_free(set);
        CHECK(!ok && !file_exists(second) && entries_in(folder) == existed, "%d files", entries_in(folder));
    }
    uint8_t *data = NULL;
    size_t bytes = 0;
    CHECK(file_read(first, &data, &bytes, &error) && bytes == 3 && memcmp(data, "old", 3) == 0, "the old file is not back");
    memory_free(data);
    unlink(first);
    rmdir(folder);
}

/* Promise: a file that is written piece by piece appears whole, or the old one stays, whichever write, sync or rename fails. */
TEST(a_file_in_pieces_is_whole_or_not_there)
{
    char folder[] = "/tmp/espq_test_XXXXXX", path[64];
    REQUIRE(mkdtemp(folder), "no temporary folder");
    snprintf(path, sizeof path, "%s/a", folder);
    Error error = {0};
    CHECK(file_write(path, "old", 3, &error), "%s", error.what);
    static const FaultKind kinds[] = {FAULT_WRITE, FAULT_SYNC, FAULT_RENAME};
    int failed = 0;
    for (int kind = 0; kind < 3; kind++)
        for (long n = 0, reached = 1; reached; n++) {
            fault_arm(kinds[kind], FAULT_ONCE, n);
            FileSet *set = fileset_new(&error);
            bool ok = fileset_begin(set, path, &error) && fileset_put(set, "one ", 4, &error) && fileset_put(set, "two", 3, &error) &&
                      fileset_end(set, &error) && fileset_commit(set, &error);
            reached = fault_disarm();
            fileset_free(set);
            uint8_t *data = NULL;
            size_t bytes = 0;
            CHECK(ok != (bool)reached && entries_in(folder) == 1, "kind %d, %ld", kind, n);
            CHECK(file_read(path, &data, &bytes, &error) && strcmp((char *)data, ok ? "one two" : "old") == 0, "kind %d, %ld", kind, n);
            memory_free(data);
            failed += !ok;
            CHECK(file_write(path, "old", 3, &error), "%s", error.what);
        }
    CHECK(failed == 4, "%d faults", failed);
    unlink(path);
    rmdir(folder);
}

/* Promise: a file that cannot be read says which, why, and what to do. */
TEST(unreadable_files_say_why)
{
    Error error = {0};
    uint8_t *data;
    size_t bytes;
    CHECK(!file_read("/nonexistent/model.onnx", &data, &bytes, &error), "a missing file");
    CHECK(strstr(error.where, "model.onnx") && strstr(error.what, "No such file") && error.cure[0], "%s / %s", error.what, error.cure);
    CHECK(!file_read("/tmp", &data, &bytes, &error) && strstr(error.what, "folder"), "%s", error.what);
}

/* Promise: a place where nothing can be written is named before any work, and a folder that is still missing is none. */
TEST(places_that_cannot_be_written_are_named)
{
    Error error = {0};
    CHECK(file_check_writable("missing/deeper/model.espdl", &error), "%s", error.what);
    CHECK(file_check_writable("model.espdl", &error), "%s", error.what);
    CHECK(!file_check_writable("/etc/hostname/model.espdl", &error) && strstr(error.where, "hostname") && error.cure[0], "%s", error.what);
}
