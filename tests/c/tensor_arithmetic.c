#include "check.h"
#include "tensor/arithmetic.h"

#include <math.h>
#include <string.h>

static Tensor *floats(int rank, const int64_t *dims, const float *values)
{
    Error error;
    Shape shape = shape_of(rank, dims);
    return tensor_from_data(DTYPE_FLOAT32, &shape, values, &error);
}

/* Promise: broadcasting lines shapes up from the last axis, and refuses what does not fit. */
TEST(binary_broadcasts_as_numpy)
{
    Error error = {0};
    Tensor *a = floats(2, (int64_t[]){2, 1}, (float[]){1, 10}), *b = floats(1, (int64_t[]){3}, (float[]){1, 2, 3}),
           *c = floats(1, (int64_t[]){2}, (float[]){1, 2});
    Tensor *sum = tensor_binary(BINARY_ADD, a, b, &error);
    REQUIRE(sum, "%s", error.what);
    const float wanted[] = {2, 3, 4, 11, 12, 13};
    CHECK(sum->shape.rank == 2 && sum->shape.dims[0] == 2 && sum->shape.dims[1] == 3, "shape");
    CHECK(memcmp(tensor_floats(sum), wanted, sizeof wanted) == 0, "values");
    CHECK(!tensor_binary(BINARY_ADD, b, c, &error) && strstr(error.what, "[3]") && strstr(error.what, "[2]"), "%s", error.what);
    tensor_release(a);
    tensor_release(b);
    tensor_release(c);
    tensor_release(sum);
}

/* Promise: integer arithmetic stays integer, floors towards minus infinity, and division gives float32. */
TEST(integers_divide_as_python)
{
    Error error = {0};
    Tensor *a = tensor_from_integers((int64_t[]){7, -7, 7, -7}, 4, &error), *b = tensor_from_integers((int64_t[]){2, 2, -2, -2}, 4, &error);
    const int64_t quotient[] = {3, -4, -4, 3}, rest[] = {1, 1, -1, -1};
    Tensor *q = tensor_binary(BINARY_FLOOR_DIVIDE, a, b, &error), *r = tensor_binary(BINARY_MODULO, a, b, &error),
           *d = tensor_binary(BINARY_DIVIDE, a, b, &error);
    CHECK(q && memcmp(q->data, quotient, sizeof quotient) == 0, "floor division");
    CHECK(r && memcmp(r->data, rest, sizeof rest) == 0, "remainder");
    CHECK(d && d->dtype == DTYPE_FLOAT32 && tensor_floats(d)[1] == -3.5f, "division");
    tensor_release(a);
    tensor_release(b);
    tensor_release(q);
    tensor_release(r);
    tensor_release(d);
}

/* Promise: views share memory; a copy of a strided view has its elements in order. */
TEST(views_share_and_copies_order)
{
    Error error = {0};
    Tensor *a = tensor_arange(0, 24, 1, DTYPE_FLOAT32, &error), *cube = tensor_view(a, &(Shape){3, {2, 3, 4}}, &error);
    Tensor *slice = tensor_slice(cube, 2, 1, 4, 2, &error), *row = tensor_select(slice, 0, -1, &error), *copy = tensor_copy(row, &error);
    const float wanted[] = {13, 15, 17, 19, 21, 23};
    CHECK(copy && tensor_count(copy) == 6 && memcmp(copy->data, wanted, sizeof wanted) == 0, "elements");
    tensor_floats(a)[13] = -1;
    CHECK(((float *)(void *)row->data)[0] == -1, "a view sees the change");
    int order[] = {2, 0, 1};
    Tensor *turned = tensor_transpose(cube, order, &error);
    CHECK(turned && turned->shape.dims[0] == 4 && tensor_floats(turned)[1] == 4, "transposed");
    Tensor *all[] = {a, cube, slice, row, copy, turned};
    for (int i = 0; i < 6; i++)
        tensor_release(all[i]);
}

/* Promise: reductions over an axis are those of NumPy: positions count from 0, the first of equals wins, NaN wins over all. */
TEST(reductions_along_an_axis)
{
    Error error = {0};
    Tensor *a = floats(2, (int64_t[]){2, 3}, (float[]){1, 5, 5, NAN, 2, 3});
    Tensor *most = tensor_reduce(REDUCE_ARGMAX, a, false, 1, false, &error), *sum = tensor_reduce(REDUCE_SUM, a, false, 0, true, &error);
    CHECK(most && tensor_get(most, 0) == 1 && tensor_get(most, 1) == 0, "argmax");
    CHECK(sum && sum->shape.rank == 2 && tensor_get(sum, 1) == 7 && isnan(tensor_get(sum, 0)), "sum");
    Tensor *values, *places;
    REQUIRE(tensor_topk(a, 2, 1, &values, &places, &error), "%s", error.what);
    CHECK(tensor_get(places, 0) == 1 && tensor_get(places, 1) == 2 && tensor_get(places, 2) == 2, "topk places");
    Tensor *all[] = {a, most, sum, values, places};
    for (int i = 0; i < 5; i++)
        tensor_release(all[i]);
}

/* Promise: every float16 becomes a float and comes back. */
TEST(half_round_trip)
{
    for (int i = 0; i < 65536; i++) {
        float x = half_to_float((uint16_t)i);
        if (x == x) CHECK(float_to_half(x) == i, "%04x became %04x", i, float_to_half(x));
    }
    CHECK(float_to_half(1e6f) == 0x7c00 && float_to_half(65519) == 0x7bff && float_to_half(0x1p-25f) == 0, "edges");
}

/* Promise: matrices multiply, batches broadcast, vectors lose their axis. */
TEST(matmul_shapes)
{
    Error error = {0};
    Tensor *a = tensor_full(&(Shape){3, {2, 3, 4}}, DTYPE_FLOAT32, 1, &error),
           *b = tensor_full(&(Shape){2, {4, 5}}, DTYPE_FLOAT32, 2, &error);
    Tensor *v = tensor_full(&(Shape){1, {4}}, DTYPE_FLOAT32, 3, &error), *c = tensor_matmul(a, b, &error), *d = tensor_matmul(a, v, &error);
    CHECK(c && c->shape.rank == 3 && c->shape.dims[2] == 5 && tensor_get(c, 29) == 8, "batch");
    CHECK(d && d->shape.rank == 2 && tensor_get(d, 5) == 12, "vector");
    CHECK(!tensor_matmul(b, a, &error) && strstr(error.what, "[4, 5]"), "%s", error.what);
    Tensor *all[] = {a, b, v, c, d};
    for (int i = 0; i < 5; i++)
        tensor_release(all[i]);
}

/* Promise: random numbers made by several threads are those of the generator, one after another, and it goes on behind them. */
TEST(random_normals_are_one_stream)
{
    Error error = {0};
    Random whole, parts;
    random_seed(&whole, 7);
    random_seed(&parts, 7);
    Shape shape = shape_of(2, (int64_t[]){3, 5001});
    Tensor *tensor = tensor_random_normal(&shape, DTYPE_FLOAT64, &parts, &error);
    REQUIRE(tensor, "%s", error.what);
    for (int64_t i = 0; i < tensor_count(tensor); i++)
        REQUIRE(tensor_get(tensor, i) == random_normal(&whole), "number %d", (int)i);
    CHECK(random_next(&parts) == random_next(&whole), "what comes next");
    tensor_release(tensor);
}
