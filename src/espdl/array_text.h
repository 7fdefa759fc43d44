/* One-dimensional arrays as NumPy prints them: the .info file is read by people who know that form. */
#ifndef ESPQ_ESPDL_ARRAY_TEXT_H
#define ESPQ_ESPDL_ARRAY_TEXT_H

#include "base/text.h"
#include "tensor/dtype.h"

/* "array([ 1, -2], dtype=int8)", lines of at most 75 characters. data need not be aligned. False: memory. */
bool array_text(Text *text, Dtype dtype, const void *data, size_t count);

#endif
