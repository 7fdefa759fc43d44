/* Fuzz target: whatever bytes come as a .npy or .npz file, reading ends in tensors or in an error; no crash, no leak, no memory beyond
 * what the bytes can ask for. `make fuzz` builds and runs it. */
#include <stdlib.h>

#include "tensor/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    NpzEntry *entries = NULL;
    int count = 0;
    Tensor *tensor = npy_parse(data, size, "fuzz", &error);
    if (!tensor && npz_parse(data, size, "fuzz", &entries, &count, &error)) npz_free(entries, count);
    tensor_release(tensor);
    return 0;
}
