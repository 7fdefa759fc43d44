/* External data: weights in files beside the model. Hostile locations are the point of this file: absolute ones, those that climb out
 * of the model's folder (also through links), offsets and lengths that do not fit. */
#include "onnx/read.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool parse_count(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    if (!text[0]) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (UINT64_MAX - 9) / 10) return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *out = value;
    return true;
}

/* The model's folder, links resolved, with a slash at its end. */
static bool folder_of(const char *path, char folder[PATH_MAX])
{
    char full[PATH_MAX];
    if (!path || !realpath(path, full)) return false;
    char *slash = strrchr(full, '/');
    if (!slash) return false;
    slash[1] = '\0';
    memcpy(folder, full, strlen(full) + 1);
    return true;
}

static bool read_at(int file, uint64_t offset, size_t bytes, char *out)
{
    while (bytes > 0) {
        ssize_t got = pread(file, out, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        out += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return true;
}

bool onnx_read_external(Reading *reading, const Onnx__TensorProto *proto, const char *what, size_t bytes, void *out, Error *error)
{
    const char *location = NULL, *offset_text = "0", *length_text = NULL;
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const char *key = proto->external_data[i]->key, *value = proto->external_data[i]->value;
        if (!key || !value) continue;
        if (strcmp(key, "location") == 0) location = value;
        if (strcmp(key, "offset") == 0) offset_text = value;
        if (strcmp(key, "length") == 0) length_text = value;
    }
    if (!location || !location[0])
        return fail(error, what, "export the model again with its weights inside, or with a relative location",
                    "%s: its data are said to be in another file, but no file is named", reading->shown);
    uint64_t offset = 0, length = bytes;
    if (!parse_count(offset_text, &offset) || (length_text && !parse_count(length_text, &length)))
        return fail(error, what, "export the model again", "%s: offset or length of its external data is no number", reading->shown);
    if (length != bytes)
        return fail(error, what, "the file is damaged or belongs to another version of the model: export it again",
                    "%s: its external data have %llu bytes, its shape and type need %zu", reading->shown, (unsigned long long)length,
                    bytes);
    const char *cure = "keep the data file in the model's folder and store a location relative to it";
    if (location[0] == '/')
        return fail(error, what, cure, "%s: its data are at the absolute location %s, which is not opened", reading->shown, location);
    char folder[PATH_MAX], joined[PATH_MAX], full[PATH_MAX];
    if (!folder_of(reading->path, folder))
        return fail(error, what, "load the model from a file", "%s: its data are in another file (%s), but the model has no folder",
                    reading->shown, location);
    size_t folder_length = strlen(folder), location_length = strlen(location);
    if (folder_length + location_length >= PATH_MAX)
        return fail(error, what, cure, "%s: the location of its data is too long", reading->shown);
    memcpy(joined, folder, folder_length);
    memcpy(joined + folder_length, location, location_length + 1);
    /* A location that climbs is refused by its text already, so that not even the existence of outside files shows. */
    for (const char *part = location; part; part = strchr(part, '/')) {
        if (part[0] == '/') part++;
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return fail(error, what, cure, "%s: its data are at %s, outside the model's folder, which is not opened", reading->shown,
                        location);
    }
    if (!realpath(joined, full))
        return fail_as(error, ERROR_FILE, what, "put the file there, beside the model, or export the model with its weights inside",
                       "%s: the file with its data is missing: %s (%s)", reading->shown, joined, strerror(errno));
    if (strncmp(full, folder, folder_length) != 0)
        return fail(error, what, cure, "%s: its data are at %s, a link that leads outside the model's folder, which is not opened",
                    reading->shown, location);
    int file = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
        if (file >= 0) close(file);
        return fail_as(error, ERROR_FILE, what, "check the file and its rights", "%s: the file with its data cannot be read: %s",
                       reading->shown, full);
    }
    uint64_t size = (uint64_t)status.st_size;
    if (offset > size || bytes > size - offset) {
        close(file);
        return fail(error, what, "the data file is cut short or belongs to another version of the model: export it again",
                    "%s: its data end at byte %llu of %s, which has only %llu", reading->shown, (unsigned long long)(offset + bytes), full,
                    (unsigned long long)size);
    }
    bool read = !out || read_at(file, offset, bytes, out);
    close(file);
    if (!read)
        return fail_as(error, ERROR_FILE, what, "check the file and its rights", "%s: reading its data from %s failed", reading->shown,
                       full);
    return true;
}
