/* The Lua files of lua/espq inside the program, made by scripts/embed. */
#ifndef ESPQ_BIND_EMBEDDED_H
#define ESPQ_BIND_EMBEDDED_H

#include <stddef.h>

typedef struct EmbeddedFile {
    const char *module; /* "espq.data" */
    const char *chunk;  /* "@espq/data.lua": where messages say they come from */
    const unsigned char *text;
    size_t length;
} EmbeddedFile;

extern const EmbeddedFile embedded_files[]; /* ends with a NULL module */

#endif
