#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "tensor/npy.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The bytes of a .npy file with this header text and data. */
static size_t make_npy(uint8_t *out, const char *header, const void *data, size_t bytes)
{
    size_t length = strlen(header);
    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = (uint8_t)length;
    out[9] = (uint8_t)(length >> 8);
    memcpy(out + 10, header, length);
    memcpy(out + 10 + length, data, bytes);
    return 10 + length + bytes;
}

/* Promise: column order and big-endian files come out in rows and this machine's order. */
TEST(npy_column_order_and_big_endian_are_read)
{
    uint8_t file[256];
    Error error = {0};
    const float columns[6] = {1, 4, 2, 5, 3, 6};
    size_t count = make_npy(file, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", columns, sizeof columns);
    Tensor *t = npy_parse(file, count, "test", &error);
    REQUIRE(t, "%s", error.what);
    for (int i = 0; i < 6; i++)
        CHECK(tensor_floats(t)[i] == (float)(i + 1), "element %d is %g", i, (double)tensor_floats(t)[i]);
    tensor_release(t);
    const uint8_t big[4] = {0x3f, 0x80, 0, 0};
    count = make_npy(file, "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }\n", big, sizeof big);
    t = npy_parse(file, count, "test", &error);
    REQUIRE(t, "%s", error.what);
    CHECK(tensor_floats(t)[0] == 1.0f, "%g", (double)tensor_floats(t)[0]);
    tensor_release(t);
}

/* Promise: a damaged .npy file is refused: cut at every length, with an absurd shape, with a type that is not known. */
TEST(npy_damage_is_refused)
{
    uint8_t file[512];
    Error error = {0};
    const float data[4] = {1, 2, 3, 4};
    size_t count = make_npy(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n", data, sizeof data);
    long blocks = fault_blocks();
    for (size_t n = 0; n < count; n++)
        CHECK(!npy_parse(file, n, "test", &error), "cut at %zu", n);
    const char *const headers[] = {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3, 9223372036854775807), }\n",
                                   "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807, "
                                   "9223372036854775807, 9223372036854775807, 9223372036854775807, 9223372036854775807, "
                                   "9223372036854775807, 9223372036854775807), }\n",
                                   "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }\n",
                                   "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n",
                                   "{'descr': '<f4', 'shape': (1,), }\n",
                                   "{'fortran_order': False, 'shape': (1,), 'descr': '",
                                   "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n",
                                   "{'descr': '<f4', 'fortran_order': False, 'shape': (1, }\n"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        count = make_npy(file, headers[i], data, sizeof data);
        CHECK(!npy_parse(file, count, "test", &error) && error.what[0] && error.cure + 1, "%s", headers[i]);
    }
    CHECK(fault_blocks() == blocks, "a leak");
}

/* Promise: what is written to .npz comes back, names and bits. */
TEST(npz_round_trip)
{
    char path[] = "/tmp/espq_npz_XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0, "no temporary file");
    close(file);
    Error error = {0};
    const float x[3] = {1.5f, -2, 0x1p-30f};
    const int64_t y[2] = {-1, INT64_MAX};
    Tensor *a = tensor_from_data(DTYPE_FLOAT32, &(Shape){2, {3, 1}}, x, &error),
           *b = tensor_from_data(DTYPE_INT64, &(Shape){1, {2}}, y, &error);
    NpzEntry entries[] = {{"x", a}, {"labels/y", b}}, *read;
    int count;
    REQUIRE(npz_write(path, entries, 2, &error) && npz_read(path, &read, &count, &error), "%s", error.what);
    CHECK(count == 2 && strcmp(read[0].name, "x") == 0 && strcmp(read[1].name, "labels/y") == 0, "names");
    CHECK(count == 2 && tensor_equal(read[0].tensor, a) && tensor_equal(read[1].tensor, b), "contents");
    npz_free(read, count);
    tensor_release(a);
    tensor_release(b);
    unlink(path);
}
