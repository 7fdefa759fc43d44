/* Inside of the room: what the files of the verifier share. */
#ifndef ESPQ_ESPDL_VERIFIER_H
#define ESPQ_ESPDL_VERIFIER_H

#include "base/map.h"
#include "espdl/schema.h"
#include "espdl/verify.h"

/* A name of the model: what is said of it, and where it comes from. */
typedef struct Known {
    const EspdlValue *value; /* its description; NULL for a parameter */
    const EspdlTensor *constant;
    int producer;             /* index of the node that makes it, -1 */
    bool input, read, table;  /* graph input; read by a node; named by an attribute lut */
    int reader, reader_input; /* the first node that reads it, and at which input; -1 */
    Shape shape;              /* as the runtime finds it: descriptions behind a Transpose may be wrong (EXPORT E5); rank -1: not known */
} Known;

typedef struct Verifier {
    const EspdlModel *model;
    const char *target;
    Findings *findings;
    Arena arena;
    bool streaming; /* a StreamingCache is there: descriptions keep the length of the whole sequence (EXPORT §8) */
    Map names;      /* → Known */
} Verifier;

void found(Verifier *verifier, FindingLevel level, const char *rule, const char *where, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
Known *known(const Verifier *verifier, const char *name); /* NULL for the empty name and unknown ones */

static inline int known_type(const Known *end)
{
    return end->constant ? end->constant->data_type : end->value ? end->value->elem_type : 0;
}
int64_t sane_exponent(int64_t exponent);  /* cut to what can be added up; a hostile file may say anything */
int64_t known_exponent(const Known *end); /* the first one; 0 when there is none */
int known_exponent_count(const Known *end);
const Attribute *verifier_attribute(const EspdlNode *node, const char *name, AttributeKind kind); /* NULL: absent or of another kind */
int64_t constant_number(const EspdlTensor *tensor, int64_t index);                                /* of int8 … int64 data */
int64_t constant_count(const EspdlTensor *tensor);

bool verify_graph(Verifier *verifier);           /* 17.2; false: memory */
void verify_tensors(Verifier *verifier);         /* 17.3 */
void verify_node(Verifier *verifier, int index); /* 17.4 */

#endif
