/* Sweeps over files of tensors. */
#include "sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "tensor/npy.h"

typedef struct Files {
    char folder[64], path[96];
    Tensor *a, *b, *read;
    NpzEntry *entries;
    int count;
} Files;

static bool files_begin(Files *files, const char *name)
{
    Error error = {0};
    memset(files, 0, sizeof *files);
    strcpy(files->folder, "/tmp/espq_sweep_XXXXXX");
    Shape shape = shape_of(2, (int64_t[]){2, 3});
    files->a = tensor_new(DTYPE_FLOAT32, &shape, &error);
    files->b = tensor_from_integers((int64_t[]){1, -2, 3}, 3, &error);
    for (int i = 0; files->a && i < 6; i++)
        tensor_floats(files->a)[i] = (float)i / 3;
    bool ok = files->a && files->b && mkdtemp(files->folder);
    snprintf(files->path, sizeof files->path, "%s/%s", files->folder, name);
    CHECK(ok, "no folder, or %s", error.what);
    return ok;
}

static void files_end(Files *files)
{
    unlink(files->path);
    rmdir(files->folder);
    tensor_release(files->a);
    tensor_release(files->b);
}

static bool write_npy(void *fixture, Error *error)
{
    Files *files = fixture;
    return npy_write(files->path, files->a, error);
}

static bool write_npz(void *fixture, Error *error)
{
    Files *files = fixture;
    char first[] = "first", second[] = "second";
    NpzEntry entries[] = {{first, files->a}, {second, files->b}};
    return npz_write(files->path, entries, 2, error);
}

static bool read_npy(void *fixture, Error *error)
{
    Files *files = fixture;
    files->read = npy_read(files->path, error);
    return files->read != NULL;
}

static bool read_npz(void *fixture, Error *error)
{
    Files *files = fixture;
    return npz_read(files->path, &files->entries, &files->count, error);
}

static uint64_t settle_written(void *fixture, bool ok)
{
    Files *files = fixture;
    CHECK(file_exists(files->path) == ok, "the file is %s", ok ? "not there" : "there after a failure");
    unlink(files->path);
    CHECK(rmdir(files->folder) == 0, "something lies beside the file");
    CHECK(mkdtemp(strcpy(files->folder, "/tmp/espq_sweep_XXXXXX")), "no folder");
    memcpy(files->path, files->folder, strlen(files->folder));
    return ok;
}

static uint64_t settle_read(void *fixture, bool ok)
{
    Files *files = fixture;
    uint64_t digest = 0;
    CHECK(ok || (!files->read && !files->count), "something was read by a failure");
    if (files->read) digest = digest_bytes(digest, files->read->data, tensor_bytes(files->read));
    for (int i = 0; i < files->count; i++) {
        digest = digest_bytes(digest, files->entries[i].name, strlen(files->entries[i].name));
        digest = digest_bytes(digest, files->entries[i].tensor->data, tensor_bytes(files->entries[i].tensor));
    }
    tensor_release(files->read);
    npz_free(files->entries, files->count);
    files->read = NULL;
    files->entries = NULL;
    files->count = 0;
    return digest;
}

/* Promise: whatever fails while .npy and .npz files are written, there is the whole file or none, and nothing leaks. */
TEST(sweep_writing_tensors)
{
    Files files;
    if (!files_begin(&files, "t.npy")) return;
    Sweep npy = {"npy_write", write_npy, settle_written, &files}, npz = {"npz_write", write_npz, settle_written, &files};
    sweep_memory(&npy);
    sweep_files(&npy);
    sweep_memory(&npz);
    sweep_files(&npz);
    files_end(&files);
}

/* Promise: whatever allocation fails while .npy and .npz files are read, the answer is a memory error or the same tensors. */
TEST(sweep_reading_tensors)
{
    Files files;
    Error error = {0};
    if (!files_begin(&files, "t")) return;
    REQUIRE(write_npy(&files, &error), "%s", error.what);
    sweep_memory(&(Sweep){"npy_read", read_npy, settle_read, &files});
    REQUIRE(write_npz(&files, &error), "%s", error.what);
    sweep_memory(&(Sweep){"npz_read", read_npz, settle_read, &files});
    files_end(&files);
}
