/* Parts of a graph as bytes of a name: two parts that add the same bytes behave alike. */
#ifndef ESPQ_GRAPH_CONTENTS_H
#define ESPQ_GRAPH_CONTENTS_H

#include "base/sha1.h"
#include "graph/graph.h"

void contents_add_text(Sha1 *sha1, const char *text); /* NULL is another text than "" */
void contents_add_integer(Sha1 *sha1, int64_t value);
bool contents_add_tensor(Sha1 *sha1, Tensor *tensor, Error *error); /* dtype, shape, elements; NULL is none */
bool contents_add_attribute(Sha1 *sha1, const Attribute *attribute, Error *error);

#endif
