/* Depthwise convolution with a 3 x 3 kernel, stride 1 or 2, straight from x: a strip of columns is walked downwards, each row of x is read
 * once (at its three shifts) for all outputs it has a part in. A template by vector width: D(name) and D_LANES choose the vectors.
 * A full store may reach beyond a strip's end into the next row, which is written later: strips go from right to left, rows downwards. */

#ifndef ESPQ_KERNEL_STRIPS_TASK
#define ESPQ_KERNEL_STRIPS_TASK

/* Pieces of work: `rows` output rows of one output plane, `bands` of them a plane. */
typedef struct StripsTask {
    const ConvF32 *conv;
    const float *x, *weights, *bias;
    float *y;
    int rows;
    int64_t bands;
} StripsTask;

#endif

/* What the planes have in common. */
typedef struct D(Strip) {
    int height, width, pad, out_width, stride;
    int column;      /* of x, of the first lane's first tap */
    int count;       /* output columns */
    bool masked;     /* it reaches beyond a row of x */
    D(Mask) mask[4]; /* stride 1: of the three shifts; 2: of the two halves, of the same two floats further */
} D(Strip);

/* One plane: x, its weights; first … end: output rows; y: the first output; room: floats from there that may be written. */
typedef struct D(Plane) {
    const float *x, *weights;
    float bias;
    int first, end;
    float *y;
    int64_t room;
} D(Plane);

static inline __attribute__((always_inline)) void D(row)(const D(Strip) * strip, const float *plane, int row, const int stride, bool masked,
                                                         D(Floats) shift[3])
{
    if (row < 0 || row >= strip->height) {
        shift[0] = shift[1] = shift[2] = D(zero)();
        return;
    }
    const float *x = plane + (int64_t)row * strip->width + strip->column;
    if (stride == 1) {
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            shift[j] = masked ? D(load_zero)(x + j, strip->mask[j]) : D(load)(x + j);
        return;
    }
    D(Floats) low = masked ? D(load_zero)(x, strip->mask[0]) : D(load)(x);
    D(Floats) high = masked ? D(load_zero)(x + D_LANES, strip->mask[1]) : D(load)(x + D_LANES);
    shift[0] = D(even)(low, high);
    shift[1] = D(odd)(low, high);
    low = masked ? D(load_zero)(x + 2, strip->mask[2]) : D(load)(x + 2);
    high = masked ? D(load_zero)(x + 2 + D_LANES, strip->mask[3]) : D(load)(x + 2 + D_LANES);
    shift[2] = D(even)(low, high);
}

/* sum + the three taps of kernel row i */
static inline __attribute__((always_inline)) D(Floats) D(taps)(const D(Floats) weight[3], const D(Floats) shift[3], D(Floats) sum)
{
    sum = D(fma)(weight[0], shift[0], sum);
    sum = D(fma)(weight[1], shift[1], sum);
    return D(fma)(weight[2], shift[2], sum);
}

static inline __attribute__((always_inline)) void D(put)(float *y, int count, bool whole, D(Floats) sum)
{
    if (whole)
        D(store)(y, sum);
    else
        D(store_first)(y, count, sum);
}

static inline __attribute__((always_inline)) void D(walk)(const D(Strip) * strip, const D(Plane) * plane, const int stride,
                                                          const bool masked)
{
    const int count = strip->count;
    int64_t room = plane->room;
    float *y = plane->y;
    D(Floats) weight[9], shift[3], bias = D(all)(plane->bias);
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        weight[t] = D(all)(plane->weights[t]);
    int row = plane->first * stride - strip->pad;
    D(row)(strip, plane->x, row++, stride, masked, shift);
    if (stride == 2) {
        for (int r = plane->first; r < plane->end; r++, y += strip->out_width, room -= strip->out_width) {
            D(Floats) sum = D(taps)(weight, shift, bias);
            D(row)(strip, plane->x, row++, stride, masked, shift);
            sum = D(taps)(weight + 3, shift, sum);
            D(row)(strip, plane->x, row++, stride, masked, shift); /* kept: it is row 0 of the next */
            sum = D(taps)(weight + 6, shift, sum);
            D(put)(y, count, count == D_LANES || room >= D_LANES, sum);
        }
        return;
    }
    D(Floats) middle = D(taps)(weight, shift, bias), top, bottom; /* sums that wait for two more rows, for one, for none */
    D(row)(strip, plane->x, row++, stride, masked, shift);
    top = D(taps)(weight + 3, shift, middle);
    middle = D(taps)(weight, shift, bias);
    for (int r = plane->first; r < plane->end; r++, y += strip->out_width, room -= strip->out_width) {
        D(row)(strip, plane->x, row++, stride, masked, shift);
        bottom = D(taps)(weight + 6, shift, top);
        top = D(taps)(weight + 3, shift, middle);
        middle = D(taps)(weight, shift, bias);
        D(put)(y, count, count == D_LANES || room >= D_LANES, bottom);
    }
}

/* Of a run of D_LANES floats of a row of x from `column` on: those inside. */
static inline uint32_t D(inside)(int column, int width)
{
    int from = column < 0 ? -column : 0, to = width - column;
    if (to > D_LANES) to = D_LANES;
    return from >= to ? 0 : (uint32_t)(((1ull << to) - 1) & ~((1ull << from) - 1));
}

static D(Strip) D(strip_make)(const ConvF32 *conv, int column, int count)
{
    D(Strip)
    strip = {.height = conv->in[0],
             .width = conv->in[1],
             .pad = conv->pad[0],
             .out_width = conv->out[1],
             .stride = conv->stride[1],
             .column = column * conv->stride[1] - conv->pad[1],
             .count = count};
    const int near[3] = {0, 1, 2}, far[4] = {0, D_LANES, 2, D_LANES + 2}, masks = strip.stride == 1 ? 3 : 4;
    for (int m = 0; m < masks; m++) {
        uint32_t mask = D(inside)(strip.column + (masks == 3 ? near[m] : far[m]), conv->in[1]);
        strip.masked |= mask != (uint32_t)((1ull << D_LANES) - 1);
        strip.mask[m] = D(mask)(mask);
    }
    return strip;
}

/* The strip of `count` output columns from `column` on, in all pieces [begin, end). */
static void D(strip_pieces)(const StripsTask *task, int64_t begin, int64_t end, int column, int count)
{
    const ConvF32 *conv = task->conv;
    const D(Strip) strip = D(strip_make)(conv, column, count);
    int64_t channels = (int64_t)conv->groups * conv->channels_out, in_plane = (int64_t)conv->in[0] * conv->in[1], width = conv->out[1];
    for (int64_t i = begin; i < end; i++) {
        int64_t index = i / task->bands, channel = index % channels;
        int first = (int)(i % task->bands) * task->rows, last = first + task->rows < conv->out[0] ? first + task->rows : conv->out[0];
        const D(Plane) plane = {.x = task->x + index / conv->channels_out * in_plane,
                                .weights = task->weights + channel * 9,
                                .bias = task->bias ? task->bias[channel] : 0.0f,
                                .first = first,
                                .end = last,
                                .y = task->y + (index * conv->out[0] + first) * width + column,
                                .room = (last - first) * width - column};
        if (strip.stride == 1 && strip.masked)
            D(walk)(&strip, &plane, 1, true);
        else if (strip.stride == 1)
            D(walk)(&strip, &plane, 1, false);
        else if (strip.masked)
            D(walk)(&strip, &plane, 2, true);
        else
            D(walk)(&strip, &plane, 2, false);
    }
}
