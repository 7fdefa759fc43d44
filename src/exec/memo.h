/* What runs gave, for runs to come. A search walks the same data through many graphs that differ in little; what two of them have in
 * common is computed once. Everything is known by a name made of all that it depends on (names.h), so that nothing kept can be wrong
 * for who finds it. Memory is bounded: the least recently used goes. */
#ifndef ESPQ_EXEC_MEMO_H
#define ESPQ_EXEC_MEMO_H

#include "tensor/tensor.h"

typedef struct Name {
    char hex[41]; /* "": nothing is known that could be shared */
} Name;

typedef struct Memo Memo;

Memo *memo_new(size_t limit, Error *error); /* bytes */
void memo_free(Memo *memo);                 /* NULL is fine */
/* The tensor of that name, a new reference; NULL: it is not there. Nobody may write into it. */
Tensor *memo_find(Memo *memo, const Name *name);
/* Where there is no room, no memory or no name, nothing is kept. */
void memo_keep(Memo *memo, const Name *name, Tensor *tensor);
size_t memo_limit(const Memo *memo);

#endif
