#include <stdint.h>
#include <string.h>

#include "check.h"
#include "espdl/array_text.h"

static void check_text(Dtype dtype, const void *data, size_t count, const char *expected)
{
    Text text = {0};
    CHECK(array_text(&text, dtype, data, count) && strcmp(text.data, expected) == 0, "got %s, expected %s", text.data, expected);
    text_free(&text);
}

/* Promise: arrays read as NumPy prints them: widths, line breaks, shortest floats, exponents only where the range asks for them. */
TEST(arrays_read_as_in_numpy)
{
    check_text(DTYPE_INT8, (int8_t[]){-128, 5, 0}, 3, "array([-128,    5,    0], dtype=int8)");
    check_text(DTYPE_INT64, (int64_t[]){1, 2}, 2, "array([1, 2])");
    check_text(DTYPE_BOOL, (char[]){1, 0}, 2, "array([ True, False])");
    check_text(DTYPE_FLOAT32, (float[]){2, 0, 0, 0}, 4, "array([2., 0., 0., 0.], dtype=float32)");
    check_text(DTYPE_FLOAT32, (float[]){0.1f, -12.5f}, 2, "array([  0.1, -12.5], dtype=float32)");
    check_text(DTYPE_FLOAT32, (float[]){1e-5f, 1}, 2, "array([1.e-05, 1.e+00], dtype=float32)");
    check_text(DTYPE_FLOAT32, (float[]){0.00012345678f, 0.0002f}, 2, "array([0.00012346, 0.0002    ], dtype=float32)");
    const int8_t zeros[24] = {0};
    check_text(DTYPE_INT8, zeros, 24,
               "array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\n       0, 0], dtype=int8)");
    check_text(DTYPE_INT8, zeros, 20, "array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],\n      dtype=int8)");
}
