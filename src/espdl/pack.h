/* Several .espdl files in one partition: the packages PDL1, PDL2 and PDL3 (EXPORT §9.4). A plain .espdl file counts as a package of one. */
#ifndef ESPQ_ESPDL_PACK_H
#define ESPQ_ESPDL_PACK_H

#include "espdl/model.h"

typedef struct EspdlPackEntry {
    const char *name;     /* of the file that was packed: "model.espdl" */
    size_t offset, bytes; /* where its header begins; bytes up to the next one */
} EspdlPackEntry;

typedef struct EspdlPack {
    Arena arena;
    uint8_t *file;
    size_t file_bytes;
    const char *path;
    char container[8];   /* "PDL1" … "PDL3"; "EDL1", "EDL2" of a plain file */
    const char *version; /* of a PDL3 package; NULL: none */
    int count;
    EspdlPackEntry *entries;
} EspdlPack;

EspdlPack *espdl_pack_load(const char *path, Error *error); /* checks offsets, names and (PDL3) the digest; not the models in it */
EspdlPack *espdl_pack_parse(const uint8_t *bytes, size_t count, const char *path, Error *error); /* copies the bytes */
void espdl_pack_free(EspdlPack *pack);                                                           /* NULL is fine */
EspdlModel *espdl_pack_model(const EspdlPack *pack, int index, Error *error);
int espdl_pack_find(const EspdlPack *pack, const char *name); /* with or without ".espdl"; -1 */

/* Any file that holds a model. model NULL: the only one in it; of several, the error lists the names. */
EspdlModel *espdl_load_model(const char *path, const char *model, Error *error);

/* The bytes of a package of these files, sorted by name as the runtime's own tool does; freed by memory_free. format: "PDL2" or "PDL3"
 * (which has a version and a digest; the tool's default); files of the older container EDL1 make a PDL1. */
bool espdl_pack_write(const char *const *paths, int count, const char *format, uint8_t **bytes, size_t *size, Error *error);

#endif
