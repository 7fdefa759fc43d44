#include "base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

typedef struct Gap { /* room between what is used */
    int64_t place, bytes;
} Gap;

struct Scratch {
    int file; /* -1: not made yet */
    int64_t end;
    Gap *gaps; /* by place, none touches another */
    size_t gap_count, gap_capacity;
};

static const char *folder(void)
{
    const char *named = getenv("TMPDIR");
    return named && *named ? named : "/tmp";
}

static bool fail_scratch(Error *error, const char *doing, int code)
{
    const char *cure = code == ENOSPC || code == EDQUOT || code == EFBIG ? "free some space there, or set TMPDIR to a folder with more"
                                                                         : "set TMPDIR to a folder that can be written to";
    return fail_as(error, ERROR_FILE, folder(), cure, "cannot %s a temporary file: %s", doing, strerror(code));
}

Scratch *scratch_new(Error *error)
{
    Scratch *scratch = memory_new(sizeof *scratch);
    if (scratch)
        scratch->file = -1;
    else
        fail_memory(error, sizeof *scratch);
    return scratch;
}

void scratch_free(Scratch *scratch)
{
    if (!scratch) return;
    if (scratch->file >= 0) close(scratch->file);
    memory_free(scratch->gaps);
    memory_free(scratch);
}

/* Where a file cannot be made without a name, it loses it at once; no signal comes in between. */
static int open_named(void)
{
    char path[4096];
    sigset_t all, before;
    int length = snprintf(path, sizeof path, "%s/espq-XXXXXX", folder());
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int file = mkostemp(path, O_CLOEXEC);
    int code = errno;
    if (file >= 0) unlink(path);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return file;
}

static bool make_file(Scratch *scratch, Error *error)
{
    if (scratch->file >= 0) return true;
#ifdef O_TMPFILE
    scratch->file = open(folder(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
#endif
    if (scratch->file < 0) scratch->file = open_named();
    return scratch->file >= 0 || fail_scratch(error, "make", errno);
}

static bool write_at(int file, const char *data, size_t bytes, int64_t place)
{
    while (bytes) {
        ssize_t put = fault_reached(FAULT_WRITE) ? (errno = ENOSPC, -1) : pwrite(file, data, bytes, (off_t)place);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        data += put;
        place += put;
        bytes -= (size_t)put;
    }
    return true;
}

/* The first gap that is large enough, else the end of the file. */
static int64_t find_room(Scratch *scratch, int64_t bytes)
{
    for (size_t i = 0; i < scratch->gap_count; i++) {
        Gap *gap = &scratch->gaps[i];
        if (gap->bytes < bytes) continue;
        int64_t place = gap->place;
        gap->place += bytes;
        gap->bytes -= bytes;
        if (!gap->bytes) memmove(gap, gap + 1, (--scratch->gap_count - i) * sizeof *gap);
        return place;
    }
    int64_t place = scratch->end;
    scratch->end += bytes;
    return place;
}

bool scratch_put(Scratch *scratch, const void *data, size_t bytes, int64_t *place, Error *error)
{
    if (!make_file(scratch, error)) return false;
    *place = find_room(scratch, (int64_t)bytes);
    if (write_at(scratch->file, data, bytes, *place)) return true;
    int code = errno;
    scratch_drop(scratch, *place, bytes);
    return fail_scratch(error, "write", code);
}

bool scratch_get(const Scratch *scratch, int64_t place, void *data, size_t bytes, Error *error)
{
    char *to = data;
    while (bytes) {
        ssize_t got = pread(scratch->file, to, bytes, (off_t)place);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return fail_scratch(error, "read", got < 0 ? errno : EIO);
        to += got;
        place += got;
        bytes -= (size_t)got;
    }
    return true;
}

void scratch_drop(Scratch *scratch, int64_t place, size_t bytes)
{
    size_t at = 0, count = scratch->gap_count;
    if (!bytes) return;
    while (at < count && scratch->gaps[at].place < place)
        at++;
    Gap *before = at ? &scratch->gaps[at - 1] : NULL, *after = at < count ? &scratch->gaps[at] : NULL;
    int64_t end = place + (int64_t)bytes;
    if (before && before->place + before->bytes == place) {
        before->bytes += (int64_t)bytes;
        if (!after || after->place != end) return;
        before->bytes += after->bytes;
        memmove(after, after + 1, (count - at - 1) * sizeof *after);
        scratch->gap_count--;
    } else if (after && after->place == end) {
        after->place = place;
        after->bytes += (int64_t)bytes;
    } else {
        Gap *gaps = memory_grow(scratch->gaps, count, &scratch->gap_capacity, sizeof *gaps);
        if (!gaps) return; /* room that is not used again */
        scratch->gaps = gaps;
        memmove(gaps + at + 1, gaps + at, (count - at) * sizeof *gaps);
        gaps[at] = (Gap){place, (int64_t)bytes};
        scratch->gap_count++;
    }
}

int64_t scratch_bytes(const Scratch *scratch)
{
    return scratch->end;
}
