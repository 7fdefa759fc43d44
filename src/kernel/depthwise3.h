/* Depthwise convolution with a 3 x 3 kernel, stride 1 or 2, straight from x: a strip of columns is walked downwards, each row of x is read
 * once (at its three shifts) for all outputs it has a part in. A template by vector width: D(name) and D_LANES choose the vectors.
 * A full store may reach beyond a strip's end into the next row, which is written later: strips go from right to left, rows downwards. */

typedef struct D(Strip) {
    const ConvF32 *conv;
    const float *x;
    D(Floats) weight[9], bias;
    D(Mask) mask[4];     /* stride 1: of the three shifts; 2: of the two halves, of the same two floats further */
    int column;          /* of x, of the first lane's first tap */
} D(Strip);

static inline __attribute__((always_inline)) void D(row_stride1)(const D(Strip) *strip, int row, bool masked, D(Floats) shift[3])
{
    if (row < 0 || row >= strip->conv->in[0]) {
        shift[0] = shift[1] = shift[2] = D(zero)();
        return;
    }
    const float *x = strip->x + (int64_t)row * strip->conv->in[1] + strip->column;
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) shift[j] = masked ? D(load_zero)(x + j, strip->mask[j]) : D(load)(x + j);
}

static inline __attribute__((always_inline)) void D(row_stride2)(const D(Strip) *strip, int row, bool masked, D(Floats) shift[3])
{
    if (row < 0 || row >= strip->conv->in[0]) {
        shift[0] = shift[1] = shift[2] = D(zero)();
        return;
    }
    const float *x = strip->x + (int64_t)row * strip->conv->in[1] + strip->column;
    D(Floats) low = masked ? D(load_zero)(x, strip->mask[0]) : D(load)(x);
    D(Floats) high = masked ? D(load_zero)(x + D_LANES, strip->mask[1]) : D(load)(x + D_LANES);
    shift[0] = D(even)(low, high);
    shift[1] = D(odd)(low, high);
    low = masked ? D(load_zero)(x + 2, strip->mask[2]) : D(load)(x + 2);
    high = masked ? D(load_zero)(x + 2 + D_LANES, strip->mask[3]) : D(load)(x + 2 + D_LANES);
    shift[2] = D(even)(low, high);
}

/* sum + the three taps of kernel row i */
static inline __attribute__((always_inline)) D(Floats) D(taps)(const D(Strip) *strip, int i, const D(Floats) shift[3], D(Floats) sum)
{
    sum = D(fma)(strip->weight[3 * i], shift[0], sum);
    sum = D(fma)(strip->weight[3 * i + 1], shift[1], sum);
    return D(fma)(strip->weight[3 * i + 2], shift[2], sum);
}

static inline __attribute__((always_inline)) void D(put)(float *y, int count, bool whole, D(Floats) sum)
{
    if (whole) D(store)(y, sum);
    else D(store_first)(y, count, sum);
}

/* Output rows [first, end) of `count` columns; `room`: floats from y[0] on that may be written. */
static inline __attribute__((always_inline)) void D(walk_stride1)(const D(Strip) *given, bool masked, int first, int end, int count, float *y,
                                                                  int64_t room)
{
    const D(Strip) strip = *given;
    const int pad = strip.conv->pad[0];
    const int64_t width = strip.conv->out[1];
    D(Floats) shift[3], top = strip.bias, middle, bottom;
    D(row_stride1)(&strip, first - pad, masked, shift);
    middle = D(taps)(&strip, 0, shift, strip.bias);
    D(row_stride1)(&strip, first - pad + 1, masked, shift);
    top = D(taps)(&strip, 1, shift, middle);
    middle = D(taps)(&strip, 0, shift, strip.bias);
    for (int r = first; r < end; r++, y += width, room -= width) {
        D(row_stride1)(&strip, r - pad + 2, masked, shift);
        bottom = D(taps)(&strip, 2, shift, top);
        top = D(taps)(&strip, 1, shift, middle);
        middle = D(taps)(&strip, 0, shift, strip.bias);
        D(put)(y, count, count == D_LANES || room >= D_LANES, bottom);
    }
}

static inline __attribute__((always_inline)) void D(walk_stride2)(const D(Strip) *given, bool masked, int first, int end, int count, float *y,
                                                                  int64_t room)
{
    const D(Strip) strip = *given;
    const int pad = strip.conv->pad[0];
    const int64_t width = strip.conv->out[1];
    D(Floats) shift[3];
    D(row_stride2)(&strip, 2 * first - pad, masked, shift);
    for (int r = first; r < end; r++, y += width, room -= width) {
        D(Floats) sum = D(taps)(&strip, 0, shift, strip.bias);
        D(row_stride2)(&strip, 2 * r - pad + 1, masked, shift);
        sum = D(taps)(&strip, 1, shift, sum);
        D(row_stride2)(&strip, 2 * r - pad + 2, masked, shift);   /* kept: row 0 of the next */
        sum = D(taps)(&strip, 2, shift, sum);
        D(put)(y, count, count == D_LANES || room >= D_LANES, sum);
    }
}

/* Of a run of D_LANES floats of a row of x from `column` on: those inside. */
static inline uint32_t D(inside)(int column, int width)
{
    int from = column < 0 ? -column : 0, to = width - column;
    if (to > D_LANES) to = D_LANES;
    return from >= to ? 0 : (uint32_t)(((1ull << to) - 1) & ~((1ull << from) - 1));
}

static void D(strip3)(const ConvF32 *conv, const float *x, const float *weights, float bias, int first, int end, int column, int count, float *y,
                      int64_t room)
{
    D(Strip) strip = {.conv = conv, .x = x, .bias = D(all)(bias), .column = column * conv->stride[1] - conv->pad[1]};
    for (int t = 0; t < 9; t++) strip.weight[t] = D(all)(weights[t]);
    const int near[4] = {0, 1, 2, 0}, far[4] = {0, D_LANES, 2, D_LANES + 2}, masks = conv->stride[1] == 1 ? 3 : 4;
    bool masked = false;
    for (int m = 0; m < masks; m++) {
        uint32_t mask = D(inside)(strip.column + (masks == 3 ? near[m] : far[m]), conv->in[1]);
        masked |= mask != (uint32_t)((1ull << D_LANES) - 1);
        strip.mask[m] = D(mask)(mask);
    }
    if (masks == 3 && masked) D(walk_stride1)(&strip, true, first, end, count, y, room);
    else if (masks == 3) D(walk_stride1)(&strip, false, first, end, count, y, room);
    else if (masked) D(walk_stride2)(&strip, true, first, end, count, y, room);
    else D(walk_stride2)(&strip, false, first, end, count, y, room);
}
