/* Test inputs and outputs in device form (EXPORT §12). */
#include <string.h>

#include "lower/lower.h"
#include "quant/quantize.h"

/* The value of this name, or the one that took its place at the graph's end. */
static const Value *find(const Graph *device, const char *name)
{
    const Value *value = graph_value(device, name);
    for (int i = 0; !value && i < device->output_count; i++) {
        const char *replaced = device->outputs[i]->device->replaces;
        if (replaced && strcmp(replaced, name) == 0) value = device->outputs[i];
    }
    return value;
}

Tensor *lower_test_value(const Graph *device, const TestValue *test, int *exponent, bool *gone, Error *error)
{
    const Value *value = find(device, test->name);
    const DeviceValue *described = value ? value->device : NULL;
    *gone = !value;
    *exponent = 0;
    if (!value) return NULL;
    Shape shape = test->tensor->shape;
    if (shape.rank == 0) shape = (Shape){1, {1}};
    Tensor *ordered = tensor_view(test->tensor, &shape, error);
    if (ordered && described->perm_known && described->perm_rank == shape.rank && !perm_is_identity(described->perm, shape.rank)) {
        Tensor *turned = tensor_transpose(ordered, described->perm, error);
        tensor_release(ordered);
        ordered = turned;
    }
    if (!ordered || !described->slot || described->dtype == DTYPE_FLOAT32) return ordered;
    int64_t saturated;
    Tensor *floats = tensor_convert(ordered, DTYPE_FLOAT32, error);
    Tensor *integers = floats ? quantize_constant(floats, described->slot, false, &saturated, error) : NULL;
    tensor_release(floats);
    tensor_release(ordered);
    *exponent = described->exponents[0];
    return integers;
}

const char *lower_test_name(const Graph *device, const char *name)
{
    const Value *value = find(device, name);
    return value ? value->name : NULL;
}
