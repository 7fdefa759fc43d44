/* The .native file: a graph as it stands, with slots, constants and notes, to go on with in another process. Equal graphs give equal bytes.
 *
 *   "ESPQGRAF", uint32 version, uint32 0, uint64 bytes of the body, the body, 20 bytes of its checksum (SHA-1 over lanes, base/sha1.h)
 *
 * All numbers are little-endian; texts have their length before them; nodes, values and slots refer to one another by position. */
#ifndef ESPQ_ROAD_NATIVE_H
#define ESPQ_ROAD_NATIVE_H

#include "base/text.h"
#include "graph/graph.h"

#define NATIVE_MAGIC "ESPQGRAF"
enum { NATIVE_VERSION = 1, NATIVE_HEAD = 24, NATIVE_CHECKSUM = 40 /* hexadecimal */, NATIVE_NO_TEXT = -1 };

/* `about`: a text of the caller's that comes back with the graph; NULL is "". notes: with those for the user? A search leaves them out: they
 * tell by which way a graph came about. Device data of a lowered graph are not kept. */
bool native_bytes(const Graph *graph, const char *about, bool notes, Text *bytes, Error *error);
bool native_save(const Graph *graph, const char *about, bool notes, const char *path, Error *error);

/* Sizes and references are checked before anything is made of them, and the graph is checked as a whole; `name` is for messages. What follows
 * the about text is freed by the caller (text_free). */
Graph *native_parse(const void *bytes, size_t count, const char *name, Text *about, Error *error);
Graph *native_load(const char *path, Text *about, Error *error);

#endif
