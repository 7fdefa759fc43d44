/* The only door to files. Files appear whole or not at all: written beside the target, synced, checked, renamed. */
#ifndef ESPQ_BASE_FILE_H
#define ESPQ_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Read a whole file; *data is freed by the caller with memory_free. Has one NUL more than *bytes. */
bool file_read(const char *path, uint8_t **data, size_t *bytes, Error *error);

/* Several files that appear together: add each, then commit; free removes what was not committed. A commit that fails takes back what
 * it had renamed. Temporary names are "<path>.tmp-<n>" (and "<path>.old-<n>" while a set is committed), n made of the process's number and
 * of the machine's name, as a folder may belong to many machines; they are also removed when the program ends early. */
typedef struct FileSet FileSet;
FileSet *fileset_new(Error *error);
bool fileset_add(FileSet *set, const char *path, const void *data, size_t bytes, Error *error); /* writes and syncs the temporary */
/* The same piece by piece: begin, put as often as there is something, end; one file of a set at a time. What fails takes the file back. */
bool fileset_begin(FileSet *set, const char *path, Error *error);
bool fileset_put(FileSet *set, const void *data, size_t bytes, Error *error);
bool fileset_end(FileSet *set, Error *error);
const char *fileset_temporary(const FileSet *set, const char *path); /* where it lies until commit */
bool fileset_commit(FileSet *set, Error *error);
void fileset_free(FileSet *set);
void file_remove_temporaries(void); /* safe in a signal handler that ends the program */

bool file_write(const char *path, const void *data, size_t bytes, Error *error); /* one file, whole or not at all */
/* false: files are no longer synced (they still appear whole to every process, and survive its end, but not a loss of power). For work that
 * writes very many and can make them again. True at the start. */
void file_set_durable(bool durable);
/* Add to the end of a file, all or nothing: what a failed write left is cut off again. *offset: where it begins; NULL: not asked for. */
bool file_append(const char *path, const void *data, size_t bytes, int64_t *offset, Error *error);
/* All that was written so far on the file system of this folder is on the disk for good, whatever file_set_durable says: one wait for many
 * files. */
bool file_sync_around(const char *folder, Error *error);
bool file_rename(const char *from, const char *to, Error *error); /* a file or a folder, within a file system */
bool file_exists(const char *path);
bool file_same(const char *a, const char *b); /* the same file, links followed */
/* Could a file be written here? Asks the folder, or the nearest one above it that exists; makes nothing. For refusing before long work. */
bool file_check_writable(const char *path, Error *error);
bool file_make_folder_of(const char *path, Error *error); /* makes the missing folders above path */

#endif
