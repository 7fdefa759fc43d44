/* What the loader and its modules require of a file (EXPORT §17). */
#ifndef ESPQ_ESPDL_VERIFY_H
#define ESPQ_ESPDL_VERIFY_H

#include "espdl/model.h"

typedef enum { FINDING_ERROR, FINDING_WARNING } FindingLevel; /* X and W of EXPORT §17 */

typedef struct Finding {
    FindingLevel level;
    const char *rule; /* "17.4 Conv" */
    char where[200];  /* node or tensor */
    char text[400];   /* value found, value wanted */
} Finding;

typedef struct Findings {
    Finding *rows;
    int count;
    size_t capacity;
    bool failed;
} Findings;

/* Judge a parsed model; target NULL: it only has to fit one family of chips. False only when memory ends. */
bool espdl_verify(const EspdlModel *model, const char *target, Findings *findings, Error *error);
void findings_free(Findings *findings);

#endif
