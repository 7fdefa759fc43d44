#include "optim/pull.h"

#include "optim/layers.h"

void pull_to_start(const BackwardParameter *parameters, int count, double pull)
{
    for (int i = 0; i < count; i++) {
        const BackwardParameter *parameter = &parameters[i];
        if (parameter->index != 1) continue;
        const float *start = tensor_floats(parameter->node->inputs[1]->constant);
        double slope = root_mean_square(parameter->gradient, parameter->count), size = root_mean_square(start, parameter->count);
        float factor = (float)(pull * slope / size);
        for (int64_t k = 0; k < parameter->count; k++)
            parameter->gradient[k] += factor * (parameter->values[k] - start[k]);
    }
}
