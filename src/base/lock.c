#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static bool fail_held(const char *path, int file, Error *error)
{
    char holder[160];
    ssize_t count = read(file, holder, sizeof holder - 1);
    holder[count > 0 ? count : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    return fail_as(error, ERROR_FILE, path, "wait until it ends, stop it, or choose another run_dir",
                   "another search holds this folder%s%s", *holder ? ": " : "", holder);
}

bool lock_take(Lock *lock, const char *path, const char *holder, Error *error)
{
    lock->file = -1;
    lock->held = false;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        return fail_as(error, ERROR_FILE, path, "check the permissions of the folder, or choose another one", "cannot lock the folder: %s",
                       strerror(errno));
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        lock->held = errno == EWOULDBLOCK;
        if (lock->held)
            fail_held(path, file, error);
        else
            fail_as(error, ERROR_FILE, path, "choose a folder on another file system", "cannot lock the folder: %s", strerror(errno));
        close(file);
        return false;
    }
    size_t length = strlen(holder);
    if (ftruncate(file, 0) != 0 || pwrite(file, holder, length, 0) != (ssize_t)length) {
        fail_as(error, ERROR_FILE, path, "free some space, or choose another folder", "cannot write the lock: %s", strerror(errno));
        close(file);
        return false;
    }
    lock->file = file;
    return true;
}

void lock_release(Lock *lock)
{
    if (lock->file < 0) return;
    if (ftruncate(lock->file, 0) != 0) errno = 0; /* what it says does not matter any more */
    close(lock->file);
    lock->file = -1;
}

void lock_forget(Lock *lock)
{
    if (lock->file >= 0) close(lock->file);
    lock->file = -1;
}
