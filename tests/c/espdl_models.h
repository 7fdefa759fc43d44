/* Small .espdl models made by hand. */
#ifndef ESPQ_TESTS_ESPDL_MODELS_H
#define ESPQ_TESTS_ESPDL_MODELS_H

#include "espdl/model.h"

/* x int8 [1,2,2,2] -> Conv 1x1 (3 channels) -> Sigmoid with a table -> y, on esp32p4: nothing is wrong with it. Test values,
 * metadata, one attribute of every kind (on the Sigmoid) and an empty tensor when `full`. */
EspdlModel *small_model(bool full);
bool write_small(bool full, uint8_t **bytes, size_t *count);
/* All fields as text, to compare models. */
bool same_models(const EspdlModel *a, const EspdlModel *b);

#endif
