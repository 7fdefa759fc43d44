#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

static const char *cure_for(int code)
{
    switch (code) {
    case ENOENT: return "check the path";
    case EACCES:
    case EPERM:
    case EROFS: return "check the permissions of the file and its folder, or choose another folder";
    case ENOSPC:
    case EDQUOT: return "free some space, or choose another folder";
    case EISDIR: return "name a file, not a folder";
    case ENOTDIR: return "a part of the path is a file: choose another folder";
    default: return NULL;
    }
}

static bool fail_file(Error *error, const char *path, const char *doing, int code)
{
    return fail_as(error, code == ENOMEM ? ERROR_MEMORY : ERROR_FILE, path, cure_for(code), "cannot %s: %s", doing, strerror(code));
}

bool file_read(const char *path, uint8_t **data, size_t *bytes, Error *error)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return fail_file(error, path, "open the file", errno);
    uint8_t *block = NULL;
    bool ok = false;
    if (fstat(file, &status) != 0)
        fail_file(error, path, "read the file", errno);
    else if (!S_ISREG(status.st_mode))
        fail_as(error, ERROR_FILE, path, "name a file", "this is not a file%s", S_ISDIR(status.st_mode) ? " but a folder" : "");
    else if (!(block = memory_new_aligned((size_t)status.st_size + 1)))
        fail_memory(error, (size_t)status.st_size + 1);
    else {
        size_t done = 0, size = (size_t)status.st_size;
        ssize_t got = 1;
        while (done < size && (got = read(file, block + done, size - done)) > 0)
            done += (size_t)got;
        if (got < 0)
            fail_file(error, path, "read the file", errno);
        else {
            block[done] = 0;
            *data = block;
            *bytes = done;
            ok = true;
        }
    }
    close(file);
    if (!ok) memory_free(block);
    return ok;
}

typedef struct Pending {
    char *path, *temporary;
    char *old; /* a second name of the file that was there, while a set is committed */
    bool has_old, placed;
    struct Pending *next; /* of all temporaries of the process, for the exit handler */
    struct Pending *peer; /* of the set, in order of adding */
} Pending;

struct FileSet {
    Pending *first, *last;
    Pending *open; /* the one that is being written */
    int file;
};

/* Temporaries that exist now; removed at exit() when an error path or a script's os.exit ends the program early. An entry is in the list
 * whole, or not at all, at any time: a signal may come. */
static Pending *volatile pending_all;

void file_remove_temporaries(void)
{
    for (Pending *p = pending_all; p; p = p->next) {
        unlink(p->temporary);
        if (p->has_old) unlink(p->old);
    }
}

/* A number that no other process has now which may write in the same folder, on this machine or on another, whose
 * name is another number but for chance. */
static uint64_t process_mark(void)
{
    static uint64_t machine;
    if (!machine) {
        char name[128] = "";
        if (gethostname(name, sizeof name - 1) != 0) name[0] = 0;
        uint64_t hash = 5381;
        for (const char *c = name; *c; c++)
            hash = hash * 33 + (unsigned char)*c;
        machine = 1 + hash % 100000;
    }
    return machine * 10000000u + (uint64_t)getpid();
}

FileSet *fileset_new(Error *error)
{
    static bool registered;
    if (!registered) registered = atexit(file_remove_temporaries) == 0;
    FileSet *set = memory_new(sizeof *set);
    if (!set) fail_memory(error, sizeof *set);
    return set;
}

static void pending_free(Pending *p)
{
    if (pending_all == p) pending_all = p->next;
    for (Pending *at = pending_all; at; at = at->next)
        if (at->next == p) at->next = p->next;
    memory_free(p->path);
    memory_free(p->temporary);
    memory_free(p->old);
    memory_free(p);
}

static bool write_all(int file, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t put = fault_reached(FAULT_WRITE) ? (errno = ENOSPC, -1) : write(file, data, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        data += put;
        bytes -= (size_t)put;
    }
    return true;
}

static bool syncs = true;

void file_set_durable(bool durable)
{
    syncs = durable;
}

static int sync_file(int file)
{
    if (fault_reached(FAULT_SYNC)) {
        errno = EIO;
        return -1;
    }
    return syncs ? fsync(file) : 0;
}

bool fileset_begin(FileSet *set, const char *path, Error *error)
{
    size_t length = strlen(path);
    Pending *p = memory_new(sizeof *p);
    if (p) {
        p->path = memory_new(length + 1);
        p->temporary = memory_new(length + 32);
        p->old = memory_new(length + 32);
    }
    if (!p || !p->path || !p->temporary || !p->old) {
        if (p) pending_free(p);
        return fail_memory(error, length);
    }
    memcpy(p->path, path, length + 1);
    snprintf(p->temporary, length + 32, "%s.tmp-%" PRIu64, path, process_mark());
    snprintf(p->old, length + 32, "%s.old-%" PRIu64, path, process_mark());
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        pending_free(p);
        return fail_as(error, ERROR_FILE, path, "choose another name", "there is something of this name that is not a file");
    }
    p->next = pending_all;
    pending_all = p;
    int file = open(p->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        int code = errno;
        pending_free(p);
        return fail_file(error, path, "write the file", code);
    }
    set->open = p;
    set->file = file;
    return true;
}

/* The file at hand is given up. */
static void drop_open(FileSet *set)
{
    if (!set->open) return;
    if (set->file >= 0) close(set->file);
    unlink(set->open->temporary);
    pending_free(set->open);
    set->open = NULL;
}

static bool fail_open(FileSet *set, int code, Error *error)
{
    fail_file(error, set->open->path, "write the file", code);
    drop_open(set);
    return false;
}

bool fileset_put(FileSet *set, const void *data, size_t bytes, Error *error)
{
    return write_all(set->file, data, bytes) || fail_open(set, errno, error);
}

bool fileset_end(FileSet *set, Error *error)
{
    if (sync_file(set->file) != 0) return fail_open(set, errno, error);
    int file = set->file;
    set->file = -1;
    if (close(file) != 0) return fail_open(set, errno, error);
    if (set->last)
        set->last->peer = set->open;
    else
        set->first = set->open;
    set->last = set->open;
    set->open = NULL;
    return true;
}

bool fileset_add(FileSet *set, const char *path, const void *data, size_t bytes, Error *error)
{
    return fileset_begin(set, path, error) && fileset_put(set, data, bytes, error) && fileset_end(set, error);
}

const char *fileset_temporary(const FileSet *set, const char *path)
{
    for (const Pending *p = set->first; p; p = p->peer)
        if (strcmp(p->path, path) == 0) return p->temporary;
    return NULL;
}

/* The name appears on the disk for good once its folder is synced; a system that cannot sync folders is not an error. */
static void sync_folder_of(const char *path)
{
    char folder[4096];
    if (!syncs) return;
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0;
    else
        snprintf(folder, sizeof folder, ".");
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    fsync(file);
    close(file);
}

static bool place(Pending *p)
{
    if (fault_reached(FAULT_RENAME)) {
        errno = EIO;
        return false;
    }
    p->placed = rename(p->temporary, p->path) == 0;
    return p->placed;
}

/* Back to what was there before. Where a file system knows no second names, a file that was replaced stays the new one. */
static void take_back(FileSet *set, bool *existed)
{
    int i = 0;
    for (Pending *p = set->first; p; p = p->peer, i++) {
        if (p->placed && p->has_old)
            rename(p->old, p->path);
        else if (p->placed && !existed[i])
            unlink(p->path);
        else if (p->has_old)
            unlink(p->old);
        p->has_old = p->placed = false;
    }
}

bool fileset_commit(FileSet *set, Error *error)
{
    int count = 0;
    for (Pending *p = set->first; p; p = p->peer)
        count++;
    bool *existed = memory_new((size_t)count);
    if (!existed) return fail_memory(error, (size_t)count);
    if (count > 1) {
        int i = 0;
        for (Pending *p = set->first; p; p = p->peer, i++) {
            unlink(p->old);
            p->has_old = link(p->path, p->old) == 0;
            existed[i] = p->has_old || errno != ENOENT;
        }
    }
    for (Pending *p = set->first; p; p = p->peer) {
        if (place(p)) continue;
        int code = errno;
        take_back(set, existed);
        memory_free(existed);
        return fail_file(error, p->path, "write the file", code);
    }
    memory_free(existed);
    if (set->first) sync_folder_of(set->first->path);
    while (set->first) {
        Pending *p = set->first;
        if (p->has_old) unlink(p->old);
        set->first = p->peer;
        pending_free(p);
    }
    set->last = NULL;
    return true;
}

void fileset_free(FileSet *set)
{
    if (!set) return;
    drop_open(set);
    for (Pending *p = set->first, *peer; p; p = peer) {
        peer = p->peer;
        unlink(p->temporary);
        pending_free(p);
    }
    memory_free(set);
}

bool file_write(const char *path, const void *data, size_t bytes, Error *error)
{
    FileSet *set = fileset_new(error);
    bool ok = set && fileset_add(set, path, data, bytes, error) && fileset_commit(set, error);
    fileset_free(set);
    return ok;
}

bool file_append(const char *path, const void *data, size_t bytes, int64_t *offset, Error *error)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return fail_file(error, path, "write the file", errno);
    off_t end = lseek(file, 0, SEEK_END);
    bool ok = end >= 0 && write_all(file, data, bytes);
    int code = errno;
    if (!ok && end >= 0 && ftruncate(file, end) != 0) code = errno;
    if (close(file) != 0 && ok) {
        ok = false;
        code = errno;
    }
    if (!ok) return fail_file(error, path, "write the file", code);
    if (offset) *offset = (int64_t)end;
    return true;
}

bool file_sync_around(const char *folder, Error *error)
{
    int file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return fail_file(error, folder, "sync the folder", errno);
#ifdef __linux__
    int done = fault_reached(FAULT_SYNC) ? (errno = EIO, -1) : syncfs(file);
#else
    int done = fault_reached(FAULT_SYNC) ? (errno = EIO, -1) : (sync(), 0);
#endif
    int code = errno;
    close(file);
    return done == 0 || fail_file(error, folder, "sync the folder", code);
}

bool file_rename(const char *from, const char *to, Error *error)
{
    if (fault_reached(FAULT_RENAME)) return fail_file(error, to, "rename to this", EIO);
    return rename(from, to) == 0 || fail_file(error, to, "rename to this", errno);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool file_make_folder_of(const char *path, Error *error)
{
    char folder[4096];
    if (strlen(path) >= sizeof folder)
        return fail_as(error, ERROR_FILE, NULL, "use a shorter path", "the path has more than %zu bytes", sizeof folder - 1);
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        struct stat status;
        if (mkdir(folder, 0777) != 0 && (errno != EEXIST || stat(folder, &status) != 0 || !S_ISDIR(status.st_mode)))
            return fail_file(error, folder, "make the folder", errno == EEXIST ? ENOTDIR : errno);
        *slash = '/';
    }
    return true;
}

bool file_check_writable(const char *path, Error *error)
{
    char folder[4096];
    struct stat status;
    if (strlen(path) + 3 > sizeof folder)
        return fail_as(error, ERROR_FILE, NULL, "use a shorter path", "the path has more than %zu bytes", sizeof folder - 3);
    snprintf(folder, sizeof folder, "%s%s", path[0] == '/' ? "" : "./", path);
    do {
        char *slash = strrchr(folder, '/');
        slash[slash == folder] = 0;
    } while (stat(folder, &status) != 0 && errno == ENOENT && strcmp(folder, "/") != 0);
    if (stat(folder, &status) != 0) return fail_file(error, folder, "write in the folder", errno);
    if (!S_ISDIR(status.st_mode)) return fail_as(error, ERROR_FILE, folder, "choose another folder", "this is a file, not a folder");
    if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) != 0) return fail_file(error, folder, "write in the folder", errno);
    return true;
}
