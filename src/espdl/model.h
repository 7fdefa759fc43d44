/* A .espdl file in memory, field by field as the schema has it (EXPORT §10). Everything in one arena. */
#ifndef ESPQ_ESPDL_MODEL_H
#define ESPQ_ESPDL_MODEL_H

#include "base/arena.h"
#include "base/error.h"
#include "base/text.h"
#include "graph/graph.h"

typedef struct EspdlTensor {
    const char *name, *doc; /* NULL: absent */
    int data_type;          /* TensorDataType */
    int rank;
    int64_t *dims;
    int exponent_count;
    int64_t *exponents;
    const void *data; /* data_bytes, not padded; in the arena or in the file's bytes */
    size_t data_bytes;
    size_t stored_bytes; /* bytes of the raw vector in the file it was read from; 0: built, or not stored raw */
} EspdlTensor;

typedef struct EspdlValue {
    const char *name;
    int elem_type;
    bool shaped;
    int rank;
    int64_t *dims;
    int exponent_count;
    int64_t *exponents;
} EspdlValue;

typedef struct EspdlNode {
    const char *name, *type, *domain;
    int input_count, output_count, attribute_count;
    const char **inputs, **outputs;
    Attribute *attributes; /* sorted by name */
} EspdlNode;

typedef struct EspdlPair {
    const char *key, *value;
} EspdlPair;

typedef struct EspdlModel {
    Arena arena;
    int ir_version;
    int64_t model_version;
    const char *graph_name;
    int node_count, initializer_count, input_count, output_count, value_count, test_input_count, test_output_count, metadata_count;
    EspdlNode *nodes;
    EspdlTensor *initializers;
    EspdlValue *inputs, *outputs, *values;
    EspdlTensor *test_inputs, *test_outputs;
    EspdlPair *metadata;
    uint8_t *file;                    /* the bytes read, owned, the FlatBuffer in them 16-byte aligned; NULL for a model that was built */
    size_t file_bytes, header_length; /* bytes of the whole file; bytes that its header says follow */
    char container[8];                /* "EDL1", "EDL2" */
} EspdlModel;

void espdl_model_free(EspdlModel *model);                                                     /* NULL is fine */
bool espdl_write(const EspdlModel *model, uint8_t **bytes, size_t *count, Error *error);      /* the whole file; memory_free */
EspdlModel *espdl_parse(const uint8_t *bytes, size_t count, const char *where, Error *error); /* hostile input is refused, never crashes */
EspdlModel *espdl_load(const char *path, Error *error);
bool espdl_info_text(const EspdlModel *model, Text *text, Error *error); /* the .info (EXPORT §13) */

#endif
