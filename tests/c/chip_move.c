/* What only moves data in the integer executor, against loops written from CHIP §2.19 and EXPORT §8. */
#include "base/random.h"
#include "chip_node.h"

static int draw(Random *random, int least, int most)
{
    return least + (int)(random_next(random) % (uint32_t)(most - least + 1));
}

static Shape random_dims(Random *random, int rank)
{
    Shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++)
        shape.dims[i] = draw(random, 1, 5);
    return shape;
}

/* Number i of a tensor whose elements count up: a place is its own value, at any width. */
static void count_up(void *data, int64_t count, size_t bytes)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t value = i * 7 + 1;
        memcpy((char *)data + (size_t)i * bytes, &value, bytes);
    }
}

static const Dtype dtypes[] = {DTYPE_INT8, DTYPE_INT16, DTYPE_FLOAT32, DTYPE_INT64};

/* The place in `shape` of element `flat`, along each axis. */
static void place_of(const Shape *shape, int64_t flat, int64_t place[ESPQ_MAX_RANK])
{
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        place[axis] = flat % shape->dims[axis];
        flat /= shape->dims[axis];
    }
}
static int64_t flat_of(const Shape *shape, const int64_t *place)
{
    int64_t flat = 0;
    for (int axis = 0; axis < shape->rank; axis++)
        flat = flat * shape->dims[axis] + place[axis];
    return flat;
}

static char x_room[8 * 3200];

/* Each result element is the source element that `source` names; negative: zeros. */
static void check_places(ChipBench *bench, const char *what, int64_t (*source)(const void *, const Shape *, const int64_t *),
                         const void *context)
{
    const Shape *out = &bench->node.outputs[0].shape;
    size_t bytes = dtype_bytes(bench->node.outputs[0].dtype);
    int64_t wrong = 0, place[ESPQ_MAX_RANK];
    static const char zeros[8];
    for (int64_t i = 0; i < shape_count(out); i++) {
        place_of(out, i, place);
        int64_t from = source(context, &bench->node.inputs[0].shape, place);
        wrong += memcmp((char *)bench->outputs[0] + (size_t)i * bytes, from < 0 ? zeros : x_room + (size_t)from * bytes, bytes) != 0;
    }
    char text[160];
    CHECK(wrong == 0, "%s to %s: %lld differ", what, shape_text(out, text), (long long)wrong);
}

static int64_t transposed(const void *context, const Shape *in, const int64_t *place)
{
    const int64_t *perm = context;
    int64_t at[ESPQ_MAX_RANK];
    for (int axis = 0; axis < in->rank; axis++)
        at[perm[axis]] = place[axis];
    return flat_of(in, at);
}

/* Promise: Transpose puts every element where its permutation says, of any rank and type. */
TEST(chip_transpose_is_the_plain_loop)
{
    Random random;
    random_seed(&random, 1);
    for (int turn = 0; turn < 60; turn++) {
        Shape shape = random_dims(&random, draw(&random, 1, 5));
        int64_t perm[ESPQ_MAX_RANK], given[ESPQ_MAX_RANK];
        for (int i = 0; i < shape.rank; i++) {
            int other = draw(&random, 0, i);
            perm[i] = perm[other];
            perm[other] = i;
        }
        for (int i = 0; i < shape.rank; i++)
            given[i] = draw(&random, 0, 3) ? perm[i] : perm[i] - shape.rank;
        Dtype dtype = dtypes[turn % 4];
        count_up(x_room, shape_count(&shape), dtype_bytes(dtype));
        ChipBench bench;
        bench_start(&bench, "c", "Transpose", 8);
        bench_integers(&bench, "perm", shape.rank, given);
        bench_input(&bench, dtype, 0, x_room, shape.rank, shape.dims);
        bench_output(&bench, dtype, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        check_places(&bench, "Transpose", transposed, perm);
        bench_end(&bench);
    }
}

typedef struct Cuts {
    int64_t start[ESPQ_MAX_RANK], step[ESPQ_MAX_RANK];
} Cuts;

static int64_t sliced(const void *context, const Shape *in, const int64_t *place)
{
    const Cuts *cuts = context;
    int64_t at[ESPQ_MAX_RANK];
    for (int axis = 0; axis < in->rank; axis++)
        at[axis] = cuts->start[axis] + place[axis] * cuts->step[axis];
    return flat_of(in, at);
}

/* Promise: Slice takes elements from start to end by step, backwards too, with ends beyond the axis and counted from its end. */
TEST(chip_slice_is_the_plain_loop)
{
    Random random;
    random_seed(&random, 2);
    for (int turn = 0; turn < 80; turn++) {
        Shape shape = random_dims(&random, draw(&random, 1, 4)), wanted = shape;
        int64_t starts[4], ends[4], steps[4], axes[4];
        Cuts cuts;
        for (int i = 0; i < shape.rank; i++) {
            int64_t length = shape.dims[i], first = draw(&random, 0, (int)length - 1), last = draw(&random, (int)first, (int)length - 1);
            int64_t step = draw(&random, 1, 3);
            bool backwards = draw(&random, 0, 1);
            axes[i] = draw(&random, 0, 1) ? i : i - shape.rank;
            cuts.start[i] = backwards ? last : first;
            cuts.step[i] = backwards ? -step : step;
            wanted.dims[i] = (last - first) / step + 1;
            starts[i] = draw(&random, 0, 1) ? cuts.start[i] : cuts.start[i] - length;
            steps[i] = cuts.step[i];
            if (backwards)
                ends[i] = first == 0 ? INT64_MIN : first - 1;
            else
                ends[i] = last == length - 1 ? INT64_MAX : last + 1;
        }
        Dtype dtype = dtypes[turn % 4];
        count_up(x_room, shape_count(&shape), dtype_bytes(dtype));
        ChipBench bench;
        bench_start(&bench, "esp32p4", "Slice", 8);
        bench_input(&bench, dtype, 0, x_room, shape.rank, shape.dims);
        bench_constant(&bench, DTYPE_INT64, 0, starts, DIMS(shape.rank));
        bench_constant(&bench, DTYPE_INT64, 0, ends, DIMS(shape.rank));
        bench_constant(&bench, DTYPE_INT64, 0, axes, DIMS(shape.rank));
        bench_constant(&bench, DTYPE_INT64, 0, steps, DIMS(shape.rank));
        bench_output(&bench, dtype, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        char text[160];
        REQUIRE(shape_equal(&bench.node.outputs[0].shape, &wanted), "%s", shape_text(&bench.node.outputs[0].shape, text));
        check_places(&bench, "Slice", sliced, &cuts);
        bench_end(&bench);
    }
}

typedef struct Pads {
    int mode; /* 0 constant, 1 edge, 2 reflect */
    int64_t begin[ESPQ_MAX_RANK];
} Pads;

static int64_t padded(const void *context, const Shape *in, const int64_t *place)
{
    const Pads *pads = context;
    int64_t at[ESPQ_MAX_RANK];
    for (int axis = 0; axis < in->rank; axis++) {
        int64_t i = place[axis] - pads->begin[axis], last = in->dims[axis] - 1;
        if (pads->mode == 0 && (i < 0 || i > last)) return -1;
        if (pads->mode == 1) i = i < 0 ? 0 : i > last ? last : i;
        if (pads->mode == 2) i = i < 0 ? -i : i > last ? 2 * last - i : i;
        at[axis] = i;
    }
    return flat_of(in, at);
}

/* Promise: Pad puts constants, edges or reflections around, along every axis. */
TEST(chip_pad_is_the_plain_loop)
{
    static const char *const modes[] = {"constant", "edge", "reflect"};
    Random random;
    random_seed(&random, 3);
    for (int turn = 0; turn < 60; turn++) {
        Shape shape = random_dims(&random, draw(&random, 1, 4));
        Pads pads = {.mode = turn % 3};
        int64_t given[2 * ESPQ_MAX_RANK];
        for (int i = 0; i < shape.rank; i++) {
            int most = pads.mode == 2 ? (int)shape.dims[i] - 1 : 3;
            given[i] = pads.begin[i] = draw(&random, 0, most);
            given[shape.rank + i] = draw(&random, 0, most);
        }
        Dtype dtype = dtypes[turn % 4];
        count_up(x_room, shape_count(&shape), dtype_bytes(dtype));
        ChipBench bench;
        bench_start(&bench, "esp32s3", "Pad", 8);
        bench_string(&bench, "mode", modes[pads.mode]);
        bench_input(&bench, dtype, 0, x_room, shape.rank, shape.dims);
        bench_constant(&bench, DTYPE_INT64, 0, given, DIMS(2 * shape.rank));
        bench_output(&bench, dtype, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        check_places(&bench, modes[pads.mode], padded, &pads);
        bench_end(&bench);
    }
}

/* Promise: Concat joins along its axis what Split cut along it. */
TEST(chip_concat_joins_what_split_cut)
{
    Random random;
    random_seed(&random, 4);
    for (int turn = 0; turn < 40; turn++) {
        Shape shape = random_dims(&random, draw(&random, 1, 4));
        int axis = draw(&random, 0, shape.rank - 1);
        int64_t sizes[3] = {draw(&random, 1, 3), draw(&random, 1, 3), draw(&random, 1, 3)};
        shape.dims[axis] = sizes[0] + sizes[1] + sizes[2];
        Dtype dtype = dtypes[turn % 4];
        size_t bytes = (size_t)shape_count(&shape) * dtype_bytes(dtype);
        count_up(x_room, shape_count(&shape), dtype_bytes(dtype));
        ChipBench split, concat;
        bench_start(&split, "c", "Split", 8);
        bench_integer(&split, "axis", axis - (turn & 1 ? shape.rank : 0));
        bench_input(&split, dtype, 0, x_room, shape.rank, shape.dims);
        bench_constant(&split, DTYPE_INT64, 0, sizes, DIMS(3));
        for (int i = 0; i < 3; i++)
            bench_output(&split, dtype, 0);
        REQUIRE(bench_run(&split), "%s", split.error.what);
        bench_start(&concat, "c", "Concat", 8);
        bench_integer(&concat, "axis", axis);
        for (int i = 0; i < 3; i++) {
            const Shape *piece = &split.node.outputs[i].shape;
            CHECK(piece->dims[axis] == sizes[i], "piece %d", i);
            bench_input(&concat, dtype, 0, split.outputs[i], piece->rank, piece->dims);
        }
        bench_output(&concat, dtype, 0);
        REQUIRE(bench_run(&concat), "%s", concat.error.what);
        CHECK(shape_equal(&concat.node.outputs[0].shape, &shape) && memcmp(concat.outputs[0], x_room, bytes) == 0, "axis %d", axis);
        /* The first piece holds the first elements of every row along the axis. */
        int64_t inner = 1;
        for (int i = axis + 1; i < shape.rank; i++)
            inner *= shape.dims[i];
        CHECK(memcmp(split.outputs[0], x_room, (size_t)(sizes[0] * inner) * dtype_bytes(dtype)) == 0, "first piece");
        bench_end(&concat);
        bench_end(&split);
    }
}

/* Promise: Split without sizes takes num_outputs for the size of a piece, as the chip does, and is refused where that does not fit. */
TEST(chip_split_by_count)
{
    static const int8_t x[6] = {1, 2, 3, 4, 5, 6};
    for (int mended = 0; mended < 2; mended++) {
        ChipBench bench;
        bench_start_as(&bench, "c", "Split", 8, mended);
        bench_integer(&bench, "num_outputs", 3);
        bench_input(&bench, DTYPE_INT8, 0, x, DIMS(6));
        for (int i = 0; i < 3; i++)
            bench_output(&bench, DTYPE_INT8, 0);
        bool ran = bench_run(&bench);
        CHECK(ran == (mended != 0), "%s", bench.error.what);
        CHECK(ran ? ((int8_t *)bench.outputs[2])[1] == 6 : strstr(bench.error.what, "C15") != NULL, "%s", bench.error.what);
        bench_end(&bench);
    }
}

static void space_run(ChipBench *bench, const char *type, const char *mode, bool mended, const int8_t *x, int64_t h, int64_t w, int64_t c)
{
    bench_start_as(bench, "c", type, 8, mended);
    bench_integer(bench, "blocksize", 2);
    if (mode) bench_string(bench, "mode", mode);
    bench_input(bench, DTYPE_INT8, 0, x, DIMS(1, h, w, c));
    bench_output(bench, DTYPE_INT8, 0);
    if (!bench_run(bench)) test_failed(__FILE__, __LINE__, "%s", bench->error.what);
}

/* Promise: depth and space change places in the runtime's order of channels, or in ONNX's without defects; where the chip writes to wrong
 * places espq says so. */
TEST(chip_depth_and_space)
{
    static const int8_t x[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    /* one pixel of 8 channels to 2 x 2 pixels of 2 */
    static const int8_t crd[8] = {0, 4, 1, 5, 2, 6, 3, 7}, dcr[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    ChipBench bench;
    space_run(&bench, "DepthToSpace", "CRD", false, x, 1, 1, 8);
    CHECK(memcmp(bench.outputs[0], crd, 8) == 0, "CRD");
    bench_end(&bench);
    space_run(&bench, "DepthToSpace", NULL, false, x, 1, 1, 8);
    CHECK(memcmp(bench.outputs[0], dcr, 8) == 0 && !bench.node.undefined, "DCR, as many channels as the blocksize");
    bench_end(&bench);
    space_run(&bench, "DepthToSpace", "DCR", false, x, 1, 1, 4);
    CHECK(bench.node.undefined && strstr(bench.node.undefined, "C17"), "DCR to one channel");
    bench_end(&bench);
    /* 2 x 2 pixels of 2 channels to one of 8 */
    static const int8_t unshuffled[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    space_run(&bench, "SpaceToDepth", NULL, false, x, 2, 2, 2);
    CHECK(memcmp(bench.outputs[0], unshuffled, 8) == 0, "the runtime's order");
    bench_end(&bench);
    space_run(&bench, "SpaceToDepth", NULL, true, x, 2, 2, 2);
    CHECK(memcmp(bench.outputs[0], x, 8) == 0, "ONNX's order");
    bench_end(&bench);
}

/* Promise: ReverseSequence turns the first `length` steps of each sequence round. */
TEST(chip_reverse_sequence)
{
    static const int8_t x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; /* 3 steps of 2 sequences of 2 */
    static const int8_t wanted[12] = {8, 9, 6, 7, 4, 5, 2, 3, 0, 1, 10, 11};
    static const int64_t lengths[2] = {3, 2};
    ChipBench bench;
    bench_start(&bench, "c", "ReverseSequence", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(3, 2, 2));
    bench_constant(&bench, DTYPE_INT64, 0, lengths, DIMS(2));
    bench_output(&bench, DTYPE_INT8, 0);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    CHECK(memcmp(bench.outputs[0], wanted, 12) == 0, "wrong order");
    bench_end(&bench);
}

/* Promise: Gather picks slices along its axis; a scalar index takes the axis away. */
TEST(chip_gather)
{
    static const int8_t x[6] = {0, 1, 2, 3, 4, 5};
    static const int64_t indices[3] = {1, 0, 1};
    static const int8_t wanted[6] = {1, 0, 1, 3, 2, 3};
    ChipBench bench;
    bench_start(&bench, "c", "Gather", 8);
    bench_integer(&bench, "axis", 1);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 2));
    bench_constant(&bench, DTYPE_INT64, 0, indices, DIMS(3));
    bench_output(&bench, DTYPE_INT8, 0);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    CHECK(bench.node.outputs[0].shape.dims[1] == 3 && memcmp(bench.outputs[0], wanted, 6) == 0, "wrong elements");
    bench_end(&bench);
    bench_start(&bench, "c", "Gather", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(3, 2));
    bench_constant(&bench, DTYPE_INT64, 0, indices, 0, NULL);
    bench_output(&bench, DTYPE_INT8, 0);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    CHECK(bench.node.outputs[0].shape.rank == 1 && ((int8_t *)bench.outputs[0])[1] == 3, "scalar index");
    bench_end(&bench);
}

/* Promise: ScatterND writes, adds, multiplies (raw integers, saturated), keeps the larger or the smaller. */
TEST(chip_scatter_nd)
{
    static const int8_t x[4] = {100, 2, 3, 4}, updates[2] = {50, -2};
    static const int64_t indices[2] = {0, 2};
    static const struct {
        const char *reduction;
        int8_t first, third;
    } rows[] = {{"none", 50, -2}, {"add", 127, 1}, {"mul", 127, -6}, {"max", 100, 3}, {"min", 50, -2}};
    for (int i = 0; i < 5; i++) {
        ChipBench bench;
        bench_start(&bench, "esp32s3", "ScatterND", 8);
        bench_string(&bench, "reduction", rows[i].reduction);
        bench_input(&bench, DTYPE_INT8, 0, x, DIMS(4));
        bench_constant(&bench, DTYPE_INT64, 0, indices, DIMS(2, 1));
        bench_input(&bench, DTYPE_INT8, 0, updates, DIMS(2));
        bench_output(&bench, DTYPE_INT8, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(y[0] == rows[i].first && y[1] == 2 && y[2] == rows[i].third && y[3] == 4, "%s: %d %d", rows[i].reduction, y[0], y[2]);
        bench_end(&bench);
    }
}

/* Promise: StreamingCache puts the last window - 1 frames of the runs before in front, zeros at first. */
TEST(chip_streaming_cache)
{
    int8_t x[4] = {1, 2, 3, 4}; /* 2 frames of 2 */
    static const int8_t first[8] = {0, 0, 0, 0, 1, 2, 3, 4}, second[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    ChipBench bench;
    bench_start(&bench, "c", "StreamingCache", 8);
    bench_integer(&bench, "window_size", 3);
    bench_integer(&bench, "frame_axis", 1);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(1, 2, 2));
    bench_output(&bench, DTYPE_INT8, 0);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    CHECK(bench.node.outputs[0].shape.dims[1] == 4 && memcmp(bench.outputs[0], first, 8) == 0, "first run");
    for (int i = 0; i < 4; i++)
        x[i] = (int8_t)(x[i] + 4);
    bench_again(&bench);
    CHECK(memcmp(bench.outputs[0], second, 8) == 0, "second run");
    bench_end(&bench);
}

/* Promise: views have the shapes that the runtime computes, and convert where exponents differ. */
TEST(chip_views)
{
    static const int8_t x[12] = {2, 6, -2, -6};
    static const struct {
        const char *type;
        int parameters, rank;
        int64_t given[3], wanted[4];
    } rows[] = {
        {"Reshape", 2, 2, {0, -1}, {1, 12}},    {"Reshape", 3, 3, {3, 2, 2}, {3, 2, 2}}, {"Flatten", 0, 2, {0}, {1, 12}},
        {"Squeeze", 1, 3, {-2}, {1, 3, 4}},     {"Squeeze", 0, 2, {0}, {3, 4}},          {"Identity", 0, 4, {0}, {1, 3, 1, 4}},
        {"Unsqueeze", 1, 4, {0}, {1, 1, 3, 4}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool wider = strcmp(rows[i].type, "Unsqueeze") == 0;
        ChipBench bench;
        bench_start(&bench, "esp32p4", rows[i].type, 8);
        bench_input(&bench, DTYPE_INT8, -7, x, wider ? 3 : 4, wider ? (int64_t[]){1, 3, 4} : (int64_t[]){1, 3, 1, 4});
        if (rows[i].parameters) bench_constant(&bench, DTYPE_INT64, 0, rows[i].given, DIMS(rows[i].parameters));
        bench_output(&bench, DTYPE_INT8, -5);
        REQUIRE(bench_run(&bench), "%s: %s", rows[i].type, bench.error.what);
        Shape wanted = shape_of(rows[i].rank, rows[i].wanted);
        char text[160];
        CHECK(shape_equal(&bench.node.outputs[0].shape, &wanted), "%s: %s", rows[i].type, shape_text(&bench.node.outputs[0].shape, text));
        const int8_t *y = bench.outputs[0];
        CHECK(y[0] == 0 && y[1] == 2 && y[2] == 0 && y[3] == -2, "%s: %d %d %d %d", rows[i].type, y[0], y[1], y[2], y[3]); /* CHIP §7 */
        bench_end(&bench);
    }
}

/* Promise: what the chip would misread is refused, with the node named and a cure. */
TEST(chip_move_refusals)
{
    static const int8_t x[6] = {0};
    static const int64_t far[1] = {-100}, end[1] = {1}, pads[4] = {0, 2, 0, 0}, shape[2] = {4, 2};
    ChipBench bench;
    bench_start(&bench, "c", "Slice", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 3));
    bench_constant(&bench, DTYPE_INT64, 0, far, DIMS(1));
    bench_constant(&bench, DTYPE_INT64, 0, end, DIMS(1));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.where, "Slice node") && bench.error.cure[0], "Slice: %s", bench.error.what);
    bench_end(&bench);
    bench_start(&bench, "c", "Pad", 8);
    bench_string(&bench, "mode", "reflect");
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(3, 2));
    bench_constant(&bench, DTYPE_INT64, 0, pads, DIMS(4));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && bench.error.cure[0], "Pad: %s", bench.error.what);
    bench_end(&bench);
    bench_start(&bench, "c", "Reshape", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(3, 2));
    bench_constant(&bench, DTYPE_INT64, 0, shape, DIMS(2));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && bench.error.cure[0], "Reshape: %s", bench.error.what);
    bench_end(&bench);
    bench_start(&bench, "c", "Concat", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(3, 2));
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 3));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && bench.error.cure[0], "Concat: %s", bench.error.what);
    bench_end(&bench);
}
