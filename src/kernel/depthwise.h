/* Depthwise convolution (one input channel a group). A band of a plane is copied, padding included, into `stride x stride` phases (rows
 * and columns modulo the stride) with one pitch, so that each tap of the kernel is a constant distance: output p = row * pitch + column is
 * the sum over taps of weight * band[distance + p], computed for long lines whatever the width of the image. The zeros behind a row are
 * those before the next. A template, after tile.h. */

#define BAND_FLOATS 6144   /* of x that a band may take: it stays in the first cache */
#define LINES_FLOATS 65536 /* the most, when one row of outputs needs more */
#define DEPTHWISE_TAPS 256

typedef struct Band {
    int rows, bands;      /* output rows of a band */
    int below, behind;    /* rows and columns of a phase that taps reach beyond the outputs */
    int64_t pitch, phase; /* floats of a row, of a phase */
} Band;

static int ceil_div(int a, int b) /* b > 0 */
{
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

static int64_t phase_floats(const Band *band, int rows)
{
    return ((rows + band->below) * band->pitch + 2 * band->behind + 2 * LANES + 15) / 16 * 16;
}

/* Everything but the rows. */
static void band_shape(const ConvF32 *conv, Band *band)
{
    int stride = conv->stride[1], overlap = INT32_MAX;
    band->below = (conv->kernel[0] - 1) * conv->dilation[0] / conv->stride[0];
    band->behind = (conv->kernel[1] - 1) * conv->dilation[1] / stride;
    int used = conv->out[1] + band->behind;
    for (int phase = 0; phase < stride; phase++) {
        int first = ceil_div(conv->pad[1] - phase, stride), end = ceil_div(conv->pad[1] + conv->in[1] - phase, stride);
        int before = first < 0 ? 0 : first, after = used > end ? used - end : 0;
        int zeros = before < after ? before : after;
        overlap = zeros < overlap ? zeros : overlap;
    }
    band->pitch = used - overlap > conv->out[1] ? used - overlap : conv->out[1];
}

/* The rows of a band: so few that all its phases have at most `most` floats, when one row has. */
static void band_rows(const ConvF32 *conv, Band *band, int64_t most)
{
    int phases = conv->stride[0] * conv->stride[1];
    band->rows = conv->out[0];
    while (band->rows > 1 && phases * phase_floats(band, band->rows) > most)
        band->rows = (band->rows + 1) / 2;
    band->bands = (conv->out[0] + band->rows - 1) / band->rows;
    band->rows = (conv->out[0] + band->bands - 1) / band->bands;
    band->phase = phase_floats(band, band->rows);
}

static bool band_make(const ConvF32 *conv, Band *band)
{
    if (conv->kernel[0] * conv->kernel[1] > DEPTHWISE_TAPS || conv->stride[0] > 8 || conv->stride[1] > 8) return false;
    band_shape(conv, band);
    band_rows(conv, band, BAND_FLOATS);
    return conv->stride[0] * conv->stride[1] * band->phase <= LINES_FLOATS;
}

/* Where the taps are, relative to the place of the output in the first phase. */
static void band_distances(const ConvF32 *conv, const Band *band, int32_t *distance)
{
    for (int i = 0; i < conv->kernel[0]; i++) {
        for (int j = 0; j < conv->kernel[1]; j++) {
            int row = i * conv->dilation[0], column = j * conv->dilation[1];
            int64_t phase = row % conv->stride[0] * conv->stride[1] + column % conv->stride[1];
            *distance++ = (int32_t)(phase * band->phase + row / conv->stride[0] * band->pitch + column / conv->stride[1]);
        }
    }
}

/* One row of x into its phases: column c goes to phase (c + pad) % stride at (c + pad) / stride. */
static void split_row(const ConvF32 *conv, const Band *band, const float *x, float *to)
{
    int width = conv->in[1], stride = conv->stride[1], pad = conv->pad[1];
    int limit = (conv->out[1] + band->behind) * stride - pad; /* columns from here on are read by no tap */
    if (limit < width) width = limit;
    if (width <= 0) return;
    if (stride == 1) { /* whole vectors: zeros behind the end, where only zeros and the next row come */
        int column = 0;
        for (; column + LANES <= width; column += LANES)
            v_store(to + pad + column, v_load(x + column));
        if (column < width) v_store(to + pad + column, v_load_masked(x + column, (1u << (width - column)) - 1, v_zero()));
        return;
    }
    int column = 0;
    if (stride == 2) {
        float *even = to + (pad % 2) * band->phase + pad / 2, *odd = to + (1 - pad % 2) * band->phase + (pad + 1) / 2;
        for (; column + 2 * LANES <= width; column += 2 * LANES) {
            Floats low = v_load(x + column), high = v_load(x + column + LANES);
            v_store(even + column / 2, v_even(low, high));
            v_store(odd + column / 2, v_odd(low, high));
        }
        if (column < width) {
            int rest = width - column;
            uint32_t mask = (uint32_t)((1ull << rest) - 1), low_mask = rest >= LANES ? (uint32_t)((1ull << LANES) - 1) : mask;
            Floats low = v_load_masked(x + column, low_mask, v_zero());
            Floats high = rest > LANES ? v_load_masked(x + column + LANES, mask >> LANES, v_zero()) : v_zero();
            v_store(even + column / 2, v_even(low, high));
            v_store(odd + column / 2, v_odd(low, high));
        }
        return;
    }
    for (; column < width; column++)
        to[(column + pad) % stride * band->phase + (column + pad) / stride] = x[column];
}

/* `vectors` (a constant) vectors of a line. */
static inline __attribute__((always_inline)) void line_block(const int vectors, int taps, const int32_t *distance, const float *weights,
                                                             Floats start, const float *band, float *line)
{
    Floats sum[LINE_VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        sum[v] = start;
    for (int t = 0; t < taps; t++) {
        const float *from = band + distance[t];
        Floats weight = v_all(weights[t]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[v] = v_fma(weight, v_load(from + v * LANES), sum[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        v_store(line + v * LANES, sum[v]);
}

/* `count` vectors. */
static void line_run(int64_t count, int taps, const int32_t *distance, const float *weights, float bias, const float *band, float *line)
{
    Floats start = v_all(bias);
    for (; count >= LINE_VECTORS; count -= LINE_VECTORS, band += LINE_VECTORS * LANES, line += LINE_VECTORS * LANES)
        line_block(LINE_VECTORS, taps, distance, weights, start, band, line);
    if (count >= 4) {
        line_block(4, taps, distance, weights, start, band, line);
        count -= 4;
        band += 4 * LANES;
        line += 4 * LANES;
    }
    if (count >= 2) {
        line_block(2, taps, distance, weights, start, band, line);
        count -= 2;
        band += 2 * LANES;
        line += 2 * LANES;
    }
    if (count) line_block(1, taps, distance, weights, start, band, line);
}

typedef struct DepthwiseTask {
    const ConvF32 *conv;
    const float *x, *weights, *bias;
    float *y;
    Band band;
    int32_t distance[DEPTHWISE_TAPS];
} DepthwiseTask;

/* The rows of x that band `index` needs, into `band`, which has zeros elsewhere. */
static void fill_band(const ConvF32 *conv, const Band *shape, const float *x, int index, float *band)
{
    int columns = conv->stride[1];
    for (int phase = 0; phase < conv->stride[0]; phase++) {
        for (int r = 0; r < shape->rows + shape->below; r++) {
            int row = (index * shape->rows + r) * conv->stride[0] + phase - conv->pad[0];
            if (row < 0) continue;
            if (row >= conv->in[0]) break;
            split_row(conv, shape, x + (int64_t)row * conv->in[1], band + phase * columns * shape->phase + r * shape->pitch);
        }
    }
}

/* Lines to rows of y. Whole vectors, whose ends the next row writes again; not for the last rows, behind which others write. */
static void store_lines(const Band *shape, int rows, int width, const float *lines, float *y)
{
    int64_t size = (int64_t)rows * width;
    for (int r = 0; r < rows; r++, lines += shape->pitch) {
        int64_t at = (int64_t)r * width, end = at + width;
        const float *from = lines;
        for (; at < end && at + LANES <= size; at += LANES, from += LANES)
            v_store(y + at, v_load(from));
        if (at < end) v_store_first(y + at, (int)(end - at), v_load(from));
    }
}

/* Several small planes at a time: all are split before the first line is computed, since a load right behind the stores that it
 * covers would wait for them to reach the cache. */
static void depthwise_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const DepthwiseTask *task = context;
    const ConvF32 *conv = task->conv;
    const Band *shape = &task->band;
    _Alignas(64) float bands[LINES_FLOATS];
    _Alignas(64) float lines[LINES_FLOATS];
    int64_t planes = (int64_t)conv->batch * conv->groups, band_floats = conv->stride[0] * conv->stride[1] * shape->phase;
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    int64_t together = BAND_FLOATS / (band_floats * conv->channels_out);
    int taps = conv->kernel[0] * conv->kernel[1], filled = -1;
    if (together < 1) together = 1;
    for (int64_t i = begin, count; i < end; i += count) {
        int index = (int)(i / planes), first = index * shape->rows, rows = (int)least(shape->rows, conv->out[0] - first);
        count = least(least(together, end - i), planes - i % planes);
        int64_t plane = i % planes, length = vectors_of((rows - 1) * shape->pitch + conv->out[1]);
        bool clear = filled != index;
        for (int64_t p = 0; p < count; p++) {
            if (clear) memset(bands + p * band_floats, 0, (size_t)band_floats * sizeof *bands);
            fill_band(conv, shape, task->x + (plane + p) * in_plane, index, bands + p * band_floats);
        }
        filled = count == together ? index : -1; /* all bands have their zeros */
        for (int64_t n = 0; n < conv->channels_out; n++) {
            for (int64_t p = 0; p < count; p++) {
                int64_t channel = (plane + p) % conv->groups * conv->channels_out + n;
                line_run(length, taps, task->distance, task->weights + channel * taps, task->bias ? task->bias[channel] : 0.0f,
                         bands + p * band_floats, lines + p * shape->phase);
            }
            for (int64_t p = 0; p < count; p++)
                store_lines(shape, rows, conv->out[1], lines + p * shape->phase,
                            task->y + ((plane + p) * conv->channels_out + n) * out_plane + (int64_t)first * conv->out[1]);
        }
    }
}

/* 3 x 3, stride 1 or 2 both ways: by strips (depthwise3.h), a piece being `rows` rows of a plane. */
static bool by_strips(const ConvF32 *conv)
{
    return conv->kernel[0] == 3 && conv->kernel[1] == 3 && conv->dilation[0] == 1 && conv->dilation[1] == 1 &&
           conv->stride[0] == conv->stride[1] && conv->stride[0] <= 2;
}

#define STRIP_FLOATS 4096 /* outputs of planes whose strips are done side by side */

static void strips_of_pieces(const StripsTask *task, int64_t begin, int64_t end)
{
    int width = task->conv->out[1];
    for (int column = (width - 1) / LANES * LANES; column >= 0; column -= LANES) {
        int count = (int)least(LANES, width - column);
#if LANES > 8
        if (count <= NARROW_LANES) {
            n_strip_pieces(task, begin, end, column, count);
            continue;
        }
#endif
        v_strip_pieces(task, begin, end, column, count);
    }
}

static void strips_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const StripsTask *task = context;
    int64_t together = STRIP_FLOATS / ((int64_t)task->rows * task->conv->out[1]) + 1;
    for (int64_t i = begin; i < end; i += together)
        strips_of_pieces(task, i, least(i + together, end));
}

static void depthwise_strips(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y, double work)
{
    StripsTask task = {.conv = conv, .x = x, .weights = weights, .bias = bias, .y = y};
    int64_t planes = (int64_t)conv->batch * conv->groups * conv->channels_out, bands = (4 * (int64_t)threads_count() + planes - 1) / planes;
    bands = least(bands, (conv->out[0] + 7) / 8);
    task.rows = (int)((conv->out[0] + bands - 1) / bands);
    task.bands = (conv->out[0] + task.rows - 1) / task.rows;
    threads_for(planes * task.bands, grain_of(planes * task.bands, work), strips_body, &task);
}

static bool depthwise_fits(const ConvF32 *conv)
{
    Band band;
    return by_strips(conv) || band_make(conv, &band);
}

static void depthwise_run(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y)
{
    double work = (double)conv->batch * conv->groups * conv->channels_out * conv->out[0] * conv->out[1] * conv->kernel[0] * conv->kernel[1];
    if (by_strips(conv)) {
        depthwise_strips(conv, x, weights, bias, y, work);
        return;
    }
    DepthwiseTask task = {.conv = conv, .x = x, .weights = weights, .bias = bias, .y = y};
    band_make(conv, &task.band);
    band_distances(conv, &task.band, task.distance);
    int64_t pieces = (int64_t)conv->batch * conv->groups * task.band.bands;
    threads_for(pieces, grain_of(pieces, work), depthwise_body, &task);
}
