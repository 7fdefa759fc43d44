#include "chip/ends.h"

bool needs(const ChipNode *node, int inputs, int outputs, Error *error)
{
    for (int i = 0; i < inputs; i++) {
        if (!has_input(node, i))
            return refuse(node, error, "export the model again; the runtime reads this input without asking", "input %d is missing", i);
    }
    for (int i = 0; i < outputs; i++) {
        if (!has_output(node, i))
            return refuse(node, error, "export the model again; the runtime writes this output without asking", "output %d is missing", i);
    }
    return true;
}

bool needs_kernel_type(const ChipNode *node, const ChipEnd *end, const char *name, Error *error)
{
    Dtype wanted = kernel_type(node);
    if (end->dtype == wanted) return true;
    return refuse(node, error, "put a RequantizeLinear between them, or give the neighbours one width",
                  "%s is %s where the kernels read %s: the chip would misread its memory", name, dtype_name(end->dtype),
                  dtype_name(wanted));
}

bool needs_same_type(const ChipNode *node, int input, int output, Error *error)
{
    Dtype from = node->inputs[input].dtype, to = node->outputs[output].dtype;
    if (from == to) return true;
    return refuse(node, error, "put a RequantizeLinear in front of it, or give both ends one width",
                  "input %d is %s, output %d is %s: the chip would misread its memory", input, dtype_name(from), output, dtype_name(to));
}

bool needs_numbers(const ChipNode *node, int input, int64_t *numbers, int capacity, int *count, Error *error)
{
    if (!has_input(node, input) || !node->inputs[input].constant)
        return refuse(node, error, "make it a constant: the runtime reads it once, when it loads the model", "input %d is no constant",
                      input);
    const Tensor *tensor = node->inputs[input].constant;
    if (tensor->dtype != DTYPE_INT64 && tensor->dtype != DTYPE_INT32)
        return refuse(node, error, "store it as int64", "input %d holds %s, not int64", input, dtype_name(tensor->dtype));
    int64_t n = tensor_count(tensor);
    if (n > capacity)
        return refuse(node, error, "export the model again", "input %d has %lld numbers, at most %d are meant", input, (long long)n,
                      capacity);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = tensor_get_integer(tensor, i);
    *count = (int)n;
    return true;
}

bool needs_axis(const ChipNode *node, int64_t axis, int rank, int *out, Error *error)
{
    if (axis < -rank || axis >= rank)
        return refuse(node, error, "export the model again", "axis %lld of a tensor with %d axes", (long long)axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return true;
}
