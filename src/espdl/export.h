/* From the device graph to a model in memory, and the .json beside it. */
#ifndef ESPQ_ESPDL_EXPORT_H
#define ESPQ_ESPDL_EXPORT_H

#include "espdl/model.h"
#include "lower/device.h"

typedef struct EspdlTest { /* in device form, see lower_test_value */
    const char *name;
    const Tensor *tensor;
    int exponent;
} EspdlTest;

typedef struct EspdlExtra {
    int64_t model_version;
    const EspdlTest *test_inputs, *test_outputs;
    int test_input_count, test_output_count;
    const char *const *metadata; /* key, value, … */
    int metadata_count;          /* pairs */
    bool reference_order;        /* inputs and outputs in the order of device->values, the reference's (EXPORT §11.1, §11.4) */
} EspdlExtra;

EspdlModel *espdl_from_device(const Graph *device, const EspdlExtra *extra, Error *error); /* EXPORT §11 */
bool espdl_config_json(const Graph *device, Text *text, Error *error);                     /* the .json (QUANT §13) */

#endif
