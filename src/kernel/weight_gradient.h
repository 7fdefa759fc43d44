/* Gradient of a convolution to its weights. A matrix product over pixels: rows are output channels (dy as it stands), columns are steps of
 * the sum (input channel, row, column), for which x is gathered and turned into panels [pixel][PANEL] for TILE_DEPTH pixels at a time. With
 * one input channel a group there is one column a tap, and vectors run along the pixels instead. A template, after convolution.h. */

#define GRADIENT_ROWS 128 /* most output channels for which a panel of x is made once */

typedef struct WeightGradientTask {
    const ConvF32 *conv;
    const float *x, *dy;
    float *dw;
    int64_t pixels, in_plane, depth, taps;
    int64_t panels, chunks, chunk_rows;
    bool pointwise;
} WeightGradientTask;

/* Columns of x from `at` on, `stride` apart, 0 outside of the image: `length` of them, rounded up to whole vectors. */
static void gather_columns(const ConvF32 *conv, const float *row, int at, int stride, int length, float *to)
{
    int first = at >= 0 ? 0 : (-at + stride - 1) / stride, end = conv->in[1] <= at ? 0 : (conv->in[1] - at + stride - 1) / stride;
    if (stride > 2) {
        for (int n = 0; n < length; n++)
            to[n] = n >= first && n < end ? row[(int64_t)at + (int64_t)n * stride] : 0.0f;
        return;
    }
    for (int n = 0; n < length; n += LANES) {
        int from = first - n < 0 ? 0 : first - n, until = end - n > LANES ? LANES : end - n;
        const float *x = row + at + (int64_t)n * stride;
        if (from == 0 && until == LANES && at + (n + LANES) * stride <= conv->in[1]) {
            v_store(to + n, stride == 1 ? v_load(x) : v_even(v_load(x), v_load(x + LANES)));
        } else if (from >= until) {
            v_store(to + n, v_zero());
        } else if (stride == 1) {
            v_store(to + n, v_load_zero(x, v_mask(lanes_mask(from, until))));
        } else {
            uint32_t mask = spread(lanes_mask(from, until));
            v_store(to + n,
                    v_even(v_load_masked(x, mask & ALL_LANES, v_zero()), v_load_masked(x + LANES, mask >> LANES & ALL_LANES, v_zero())));
        }
    }
}

/* x under one tap for pixels [pixel, pixel + count); writes up to a vector more. */
static void gather_tap(const ConvF32 *conv, const float *plane, int i, int j, int64_t pixel, int64_t count, float *to)
{
    int row = (int)(pixel / conv->out[1]), column = (int)(pixel % conv->out[1]);
    while (count > 0) {
        int length = (int)least(count, conv->out[1] - column), y = row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0];
        if (y < 0 || y >= conv->in[0])
            memset(to, 0, (size_t)length * sizeof *to);
        else
            gather_columns(conv, plane + (int64_t)y * conv->in[1], column * conv->stride[1] - conv->pad[1] + j * conv->dilation[1],
                           conv->stride[1], length, to);
        to += length;
        count -= length;
        row++;
        column = 0;
    }
}

/* Columns [first, first + columns) of x for `count` pixels; lines: room for PANEL lines of TILE_DEPTH. */
static void gradient_panel(const WeightGradientTask *task, const float *x, int64_t first, int64_t columns, int64_t pixel, int64_t count,
                           float *lines, float *panel)
{
    const ConvF32 *conv = task->conv;
    int64_t width = (columns + 7) / 8 * 8, height = (count + 7) / 8 * 8;
    if (task->pointwise && width == columns) {
        const float *from = x + first * task->in_plane + pixel;
        int64_t whole = count / 8 * 8;
        for (int64_t n = 0; n < width; n += 8)
            for (int64_t p = 0; p < whole; p += 8)
                transpose_8x8(from + n * task->in_plane + p, task->in_plane, panel + p * PANEL + n, PANEL);
        for (int64_t n = 0; n < width; n++)
            for (int64_t p = whole; p < count; p++)
                panel[p * PANEL + n] = from[n * task->in_plane + p];
        return;
    }
    for (int64_t n = 0; n < columns; n++) {
        int64_t channel = (first + n) / task->taps, tap = (first + n) % task->taps;
        const float *plane = x + channel * task->in_plane;
        float *line = lines + n * TILE_DEPTH;
        if (task->pointwise)
            memcpy(line, plane + pixel, (size_t)count * sizeof *line);
        else
            gather_tap(conv, plane, (int)(tap / conv->kernel[1]), (int)(tap % conv->kernel[1]), pixel, count, line);
        memset(line + count, 0, (size_t)(height - count) * sizeof *line);
    }
    memset(lines + columns * TILE_DEPTH, 0, (size_t)((width - columns) * TILE_DEPTH) * sizeof *lines);
    for (int64_t n = 0; n < width; n += 8)
        for (int64_t p = 0; p < height; p += 8)
            transpose_8x8(lines + n * TILE_DEPTH + p, TILE_DEPTH, panel + p * PANEL + n, PANEL);
}

/* A piece of work: a panel of columns for some output channels. */
typedef struct WeightGradientRoom {
    _Alignas(64) float lines[PANEL * TILE_DEPTH + LANES];
    _Alignas(64) float panel[PANEL * TILE_DEPTH];
    _Alignas(64) float sums[GRADIENT_ROWS * PANEL];
    _Alignas(64) float totals[GRADIENT_ROWS * PANEL];
} WeightGradientRoom;

static void add_rows(float *totals, const float *sums, int64_t rows, int vectors)
{
    for (int64_t r = 0; r < rows; r++, totals += PANEL, sums += PANEL)
        for (int v = 0; v < vectors; v++)
            v_store(totals + v * LANES, v_add(v_load(totals + v * LANES), v_load(sums + v * LANES)));
}

static void weight_gradient_piece(const WeightGradientTask *task, int64_t group, int64_t panel_index, int64_t row, int64_t rows,
                                  WeightGradientRoom *room)
{
    const ConvF32 *conv = task->conv;
    int64_t first = panel_index * PANEL, columns = least(PANEL, task->depth - first), channel = group * conv->channels_out + row;
    int64_t together = task->pixels < GRADIENT_BLOCK ? GRADIENT_BLOCK / task->pixels : 1; /* images that share a block */
    int vectors = vectors_of(columns);
    for (int64_t image = 0; image < conv->batch; image++) {
        const float *x = task->x + (image * conv->groups + group) * conv->channels_in * task->in_plane;
        const float *dy = task->dy + (image * conv->groups * conv->channels_out + channel) * task->pixels;
        for (int64_t block = 0; block < task->pixels; block += GRADIENT_BLOCK) {
            int64_t end = least(block + GRADIENT_BLOCK, task->pixels);
            bool fresh = image < together && block == 0; /* the first block of all */
            TileCall call = {.start = image % together ? START_SUM : START_COLUMNS,
                             .bias = no_bias,
                             .a_row = task->pixels,
                             .b = room->panel,
                             .b_step = PANEL,
                             .c_row = PANEL};
            for (int64_t pixel = block; pixel < end; pixel += TILE_DEPTH) {
                call.depth = least(TILE_DEPTH, end - pixel);
                gradient_panel(task, x, first, columns, pixel, call.depth, room->lines, room->panel);
                for (int64_t r = 0; r < rows; r += TILE_ROWS) {
                    call.a = dy + r * task->pixels + pixel;
                    call.c = (fresh ? room->totals : room->sums) + r * PANEL;
                    tiles_rows[least(TILE_ROWS, rows - r) - 1][vectors - 1](&call);
                }
                call.start = START_SUM;
            }
            if (!fresh && (image % together == together - 1 || image == conv->batch - 1)) add_rows(room->totals, room->sums, rows, vectors);
        }
    }
    for (int64_t r = 0; r < rows; r++)
        memcpy(task->dw + (channel + r) * task->depth + first, room->totals + r * PANEL, (size_t)columns * sizeof(float));
}

static void weight_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const WeightGradientTask *task = context;
    WeightGradientRoom room;
    memset(room.panel, 0, sizeof room.panel); /* columns that no step of the sum fills are computed with and thrown away */
    for (int64_t i = begin; i < end; i++) {
        int64_t chunk = i % task->chunks, panel = i / task->chunks % task->panels, group = i / task->chunks / task->panels;
        int64_t row = chunk * task->chunk_rows;
        weight_gradient_piece(task, group, panel, row, least(task->chunk_rows, task->conv->channels_out - row), &room);
    }
}

/* ---- one input channel a group ---- */

#define TAP_VECTORS (GRADIENT_LANES / LANES) /* of the lanes of one tap */

typedef struct DepthwiseGradientTask {
    const ConvF32 *conv;
    const float *x, *dy;
    float *dw;
    Band band;
    int32_t distance[DEPTHWISE_TAPS];
} DepthwiseGradientTask;

/* Sums of `taps` taps (a constant) over the rows of a band. */
static inline __attribute__((always_inline)) void tap_sums(const int taps, const DepthwiseGradientTask *task, const int32_t *distance,
                                                           const float *band, const float *dy, int rows, float *sums)
{
    int width = task->conv->out[1], whole = width / GRADIENT_LANES * GRADIENT_LANES;
    Floats sum[9][TAP_VECTORS];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
#pragma GCC unroll 2
        for (int v = 0; v < TAP_VECTORS; v++)
            sum[t][v] = v_zero();
    for (int column = 0; column < width; column += GRADIENT_LANES) {
        const float *dy_row = dy + column, *band_row = band + column;
        for (int r = 0; r < rows; r++, dy_row += width, band_row += task->band.pitch) {
            Floats right[TAP_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < TAP_VECTORS; v++) {
                int64_t rest = width - column - v * LANES;
                right[v] = column < whole ? v_load(dy_row + v * LANES)
                           : rest <= 0    ? v_zero()
                                          : v_load_masked(dy_row + v * LANES, (uint32_t)((1ull << least(rest, LANES)) - 1), v_zero());
            }
#pragma GCC unroll 9
            for (int t = 0; t < taps; t++)
#pragma GCC unroll 2
                for (int v = 0; v < TAP_VECTORS; v++)
                    sum[t][v] = v_fma(right[v], v_load(band_row + distance[t] + v * LANES), sum[t][v]);
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
        sums[t] = v_sum_lanes(sum[t]);
}

static void all_taps(const DepthwiseGradientTask *task, const float *band, const float *dy, int rows, float *sums)
{
    int taps = task->conv->kernel[0] * task->conv->kernel[1];
    const int32_t *distance = task->distance;
    while (taps > 0) {
        int done = taps >= 9 && TAP_VECTORS == 1 ? 9 : taps >= 5 ? 5 : taps >= 3 ? 3 : 1;
        if (done == 9)
            tap_sums(9, task, distance, band, dy, rows, sums);
        else if (done == 5)
            tap_sums(5, task, distance, band, dy, rows, sums);
        else if (done == 3)
            tap_sums(3, task, distance, band, dy, rows, sums);
        else
            tap_sums(1, task, distance, band, dy, rows, sums);
        taps -= done;
        distance += done;
        sums += done;
    }
}

static void depthwise_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const DepthwiseGradientTask *task = context;
    const ConvF32 *conv = task->conv;
    const Band *shape = &task->band;
    int taps = conv->kernel[0] * conv->kernel[1];
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    int64_t channels = (int64_t)conv->groups * conv->channels_out, floats = conv->stride[0] * conv->stride[1] * shape->phase;
    _Alignas(64) float band[LINES_FLOATS + GRADIENT_LANES];
    float sums[DEPTHWISE_TAPS];
    int filled = -1;
    for (int64_t group = begin; group < end; group++) {
        float *dw = task->dw + group * conv->channels_out * taps;
        for (int64_t image = 0; image < conv->batch; image++) {
            for (int index = 0; index < shape->bands; index++) {
                int first = index * shape->rows, rows = (int)least(shape->rows, conv->out[0] - first);
                if (filled != index) memset(band, 0, (size_t)(floats + GRADIENT_LANES) * sizeof *band);
                filled = index;
                fill_band(conv, shape, task->x + (image * conv->groups + group) * in_plane, index, band);
                for (int n = 0; n < conv->channels_out; n++) {
                    int64_t channel = group * conv->channels_out + n;
                    all_taps(task, band, task->dy + (image * channels + channel) * out_plane + (int64_t)first * conv->out[1], rows, sums);
                    for (int t = 0; t < taps; t++) {
                        dw[n * taps + t] = image == 0 && index == 0 ? sums[t] : dw[n * taps + t] + sums[t];
                    }
                }
            }
        }
    }
}

/* ---- 3 x 3, stride 1 or 2: straight from x, as the forward kernel (depthwise3.h) reads it ---- */

#define GRADIENT_STRIPS 64 /* most strips of a row */

typedef struct StripGradientTask {
    const ConvF32 *conv;
    const float *x, *dy;
    float *dw;
    int rows, bands, strips;
    v_Strip strip[GRADIENT_STRIPS];
} StripGradientTask;

static inline Floats strip_gradient_row(const v_Strip *strip, const float *dy, int row)
{
    dy += (int64_t)row * strip->out_width;
    return strip->count == LANES ? v_load(dy) : v_load_masked(dy, (1u << strip->count) - 1, v_zero());
}

/* The sums of the nine taps over rows [first, end) of a strip go on; dy: of the strip's first column in row 0. */
static inline __attribute__((always_inline)) void strip_sums(const v_Strip *strip, const float *x, const float *dy, int first, int end,
                                                             const int stride, const bool masked, float *lanes)
{
    Floats sum[9], rows[3][3];
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        sum[t] = v_load(lanes + t * GRADIENT_LANES);
    int row = first * stride - strip->pad;
    v_row(strip, x, row++, stride, masked, rows[0]);
    if (stride == 1) v_row(strip, x, row++, stride, masked, rows[1]);
    for (int r = first; r < end; r++) {
        Floats given = strip_gradient_row(strip, dy, r);
        if (stride == 2) v_row(strip, x, row++, stride, masked, rows[1]);
        v_row(strip, x, row++, stride, masked, rows[2]);
#pragma GCC unroll 9
        for (int t = 0; t < 9; t++)
            sum[t] = v_fma(given, rows[t / 3][t % 3], sum[t]);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) {
            rows[0][j] = rows[stride == 1 ? 1 : 2][j];
            rows[1][j] = rows[2][j];
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        v_store(lanes + t * GRADIENT_LANES, sum[t]);
}

/* One block of one plane, to sums. */
static void strip_block(const StripGradientTask *task, const float *x, const float *dy, int first, int end, float *sums)
{
    _Alignas(64) float lanes[9 * GRADIENT_LANES] = {0};
    for (int s = 0; s < task->strips; s++) {
        const v_Strip *strip = &task->strip[s];
        float *own = lanes + s * LANES % GRADIENT_LANES;
        if (strip->stride == 1 && strip->masked)
            strip_sums(strip, x, dy + (int64_t)s * LANES, first, end, 1, true, own);
        else if (strip->stride == 1)
            strip_sums(strip, x, dy + (int64_t)s * LANES, first, end, 1, false, own);
        else if (strip->masked)
            strip_sums(strip, x, dy + (int64_t)s * LANES, first, end, 2, true, own);
        else
            strip_sums(strip, x, dy + (int64_t)s * LANES, first, end, 2, false, own);
    }
    for (int t = 0; t < 9; t++) {
        Floats vectors[TAP_VECTORS];
        for (int v = 0; v < TAP_VECTORS; v++)
            vectors[v] = v_load(lanes + t * GRADIENT_LANES + v * LANES);
        sums[t] = v_sum_lanes(vectors);
    }
}

static void strip_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const StripGradientTask *task = context;
    const ConvF32 *conv = task->conv;
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    int64_t channels = (int64_t)conv->groups * conv->channels_out;
    float sums[9];
    for (int64_t channel = begin; channel < end; channel++) {
        float *dw = task->dw + channel * 9;
        for (int64_t image = 0; image < conv->batch; image++) {
            const float *x = task->x + (image * conv->groups + channel / conv->channels_out) * in_plane;
            const float *dy = task->dy + (image * channels + channel) * out_plane;
            for (int band = 0; band < task->bands; band++) {
                strip_block(task, x, dy, band * task->rows, (int)least((band + 1) * task->rows, conv->out[0]), sums);
                for (int t = 0; t < 9; t++)
                    dw[t] = image == 0 && band == 0 ? sums[t] : dw[t] + sums[t];
            }
        }
    }
}

static int rows_of_block(const ConvF32 *conv)
{
    return (int)least(conv->out[0], conv->out[1] < GRADIENT_BLOCK ? GRADIENT_BLOCK / conv->out[1] : 1);
}

static bool strip_gradient(const ConvF32 *conv, const float *x, const float *dy, float *dw, double work)
{
    StripGradientTask task = {.conv = conv, .x = x, .dy = dy, .dw = dw, .rows = rows_of_block(conv)};
    task.strips = vectors_of(conv->out[1]);
    task.bands = (conv->out[0] + task.rows - 1) / task.rows;
    if (!by_strips(conv) || task.strips > GRADIENT_STRIPS) return false;
    for (int s = 0; s < task.strips; s++)
        task.strip[s] = v_strip_make(conv, s * LANES, (int)least(LANES, conv->out[1] - s * LANES));
    int64_t channels = (int64_t)conv->groups * conv->channels_out;
    threads_for(channels, grain_of(channels, work), strip_gradient_body, &task);
    return true;
}

/* Bands are the blocks of the definition. False: one does not fit. */
static bool depthwise_gradient(const ConvF32 *conv, const float *x, const float *dy, float *dw, double work)
{
    DepthwiseGradientTask task = {.conv = conv, .x = x, .dy = dy, .dw = dw};
    if (conv->kernel[0] * conv->kernel[1] > DEPTHWISE_TAPS || conv->stride[0] > 8 || conv->stride[1] > 8) return false;
    band_shape(conv, &task.band);
    task.band.rows = rows_of_block(conv);
    task.band.bands = (conv->out[0] + task.band.rows - 1) / task.band.rows;
    task.band.phase = phase_floats(&task.band, task.band.rows) + GRADIENT_LANES;
    if (conv->stride[0] * conv->stride[1] * task.band.phase > LINES_FLOATS) return false;
    band_distances(conv, &task.band, task.distance);
    threads_for(conv->groups, grain_of(conv->groups, work), depthwise_gradient_body, &task);
    return true;
}

static void weight_gradient_run(const ConvF32 *conv, const float *x, const float *dy, float *dw)
{
    WeightGradientTask task = {.conv = conv, .x = x, .dy = dy, .dw = dw, .pointwise = conv_is_pointwise(conv)};
    task.pixels = (int64_t)conv->out[0] * conv->out[1];
    task.in_plane = (int64_t)conv->in[0] * conv->in[1];
    task.taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    task.depth = conv_depth(conv);
    double work = (double)conv->batch * conv->groups * conv->channels_out * (double)task.pixels * (double)task.depth;
    if (conv->batch == 0 || task.pixels == 0) {
        memset(dw, 0, (size_t)(conv->groups * conv->channels_out * task.depth) * sizeof *dw);
        return;
    }
    if (conv->channels_in == 1) {
        if (!strip_gradient(conv, x, dy, dw, work) && !depthwise_gradient(conv, x, dy, dw, work))
            conv_f32_weight_gradient_reference(conv, x, dy, dw);
        return;
    }
    task.panels = panels_of(task.depth);
    int64_t pieces = conv->groups * task.panels, wanted = work < SMALL_WORK ? 1 : (4 * (int64_t)threads_count() + pieces - 1) / pieces;
    task.chunk_rows = ((conv->channels_out + wanted - 1) / wanted + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    task.chunk_rows = least(task.chunk_rows, GRADIENT_ROWS);
    task.chunks = (conv->channels_out + task.chunk_rows - 1) / task.chunk_rows;
    pieces *= task.chunks;
    threads_for(pieces, grain_of(pieces, work), weight_gradient_body, &task);
}
