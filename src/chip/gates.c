#include "chip/gates.h"

#include "base/math.h"
#include "base/memory.h"
#include "chip/arithmetic.h"

float chip_sigmoid(float x)
{
    return (float)(1.0 / (1.0 + (double)espq_expf(-x)));
}

float chip_tanh(float x)
{
    return 2.0f * chip_sigmoid(2.0f * x) - 1.0f;
}

bool gate_tables_make(GateTables *tables, int exponent, Error *error)
{
    float step = scale_of(exponent);
    tables->sigmoid_last = (int)(6.3f / step) + 1; /* where the runtime takes the functions for flat */
    tables->tanh_last = (int)(3.5f / step) + 1;
    size_t count = (size_t)tables->sigmoid_last + (size_t)tables->tanh_last + 2;
    tables->sigmoid = memory_new_array(count, sizeof(float));
    if (!tables->sigmoid) return fail_memory(error, count * sizeof(float));
    tables->tanh = tables->sigmoid + tables->sigmoid_last + 1;
    for (int i = 0; i <= tables->sigmoid_last; i++)
        tables->sigmoid[i] = chip_sigmoid((float)i * step);
    for (int i = 0; i <= tables->tanh_last; i++)
        tables->tanh[i] = chip_tanh((float)i * step);
    return true;
}

float gate_sigmoid(const GateTables *tables, int64_t index)
{
    int64_t at = index < 0 ? -index : index;
    float value = tables->sigmoid[at < tables->sigmoid_last ? at : tables->sigmoid_last];
    return index < 0 ? 1.0f - value : value;
}

float gate_tanh(const GateTables *tables, int64_t index)
{
    int64_t at = index < 0 ? -index : index;
    float value = tables->tanh[at < tables->tanh_last ? at : tables->tanh_last];
    return index < 0 ? -value : value;
}

enum { BLOCK = 32 }; /* a constant number of products, of which the compiler makes vectors */

static int64_t sum_bytes(const int8_t *w, const int8_t *x, int64_t length)
{
    int32_t sum = 0;
    int64_t i = 0;
    for (; i + BLOCK <= length; i += BLOCK) {
        for (int k = 0; k < BLOCK; k++)
            sum += w[i + k] * x[i + k];
    }
    for (; i < length; i++)
        sum += w[i] * x[i];
    return sum;
}

static int64_t sum_words(const int16_t *w, const int16_t *x, int64_t length)
{
    int64_t sum = 0, i = 0;
    for (; i + BLOCK <= length; i += BLOCK) {
        for (int k = 0; k < BLOCK; k++)
            sum += w[i + k] * x[i + k];
    }
    for (; i < length; i++)
        sum += w[i] * x[i];
    return sum;
}

static int64_t sum_of(int bits, const void *w, const void *x, int64_t begin, int64_t length)
{
    if (bits == 8) return sum_bytes((const int8_t *)w + begin, (const int8_t *)x + begin, length);
    return sum_words((const int16_t *)w + begin, (const int16_t *)x + begin, length);
}

int64_t gate_product(const Chip *chip, int bits, const void *w, const void *x, int64_t length, int shift)
{
    int64_t lanes = chip->vector_bytes * 8 / bits;
    if (!lanes || length % lanes || shift < 0) {
        float sum = (float)sum_of(bits, w, x, 0, length);
        return round_saturate(sum * scale_of(-shift), chip->rounding, 16);
    }
    int64_t sum = 0, step = lanes; /* saturates after each register of products, where that many can fill it */
    if (length <= INT64_C(1) << (chip->scalar_bits - 1 - 2 * (bits - 1) - 1)) step = length;
    for (int64_t begin = 0; begin < length; begin += step)
        sum = saturate(sum + sum_of(bits, w, x, begin, step), chip->scalar_bits);
    return saturate(shift_and_round(sum, shift, chip->rounding, 16), 16);
}
