/* Convolution straight from padded lines (depthwise.h: Band), for kernels of several taps: all input channels of a band of rows are copied
 * once, and a register tile loads each tap at its distance; nothing is gathered tap by tap. Vectors run along the lines, over the gaps
 * between rows, or along single rows where those are nearly whole vectors. A template, after product.h and depthwise.h. */

#define LINES_DEPTH 8192  /* most steps of k */
#define SUMS_FLOATS 16384 /* sums of a panel of positions for a chunk of channels */

typedef struct LinesTask {
    const ConvF32 *conv;
    const float *x, *packed, *bias;
    float *y;
    Band band;
    int64_t depth, channel_floats; /* channel_floats: of a band of one input channel */
    bool row_by_row;
    int32_t distance[LINES_DEPTH]; /* of each step of k */
} LinesTask;

/* Bands whose channels all fit; for several threads some bands each. */
static bool lines_band(const ConvF32 *conv, int64_t pieces, Band *band)
{
    int64_t taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    if (taps == 1 || taps > DEPTHWISE_TAPS || taps * conv->channels_in > LINES_DEPTH || conv->stride[0] > 4 || conv->stride[1] > 4)
        return false;
    band_shape(conv, band);
    int64_t phases = (int64_t)conv->stride[0] * conv->stride[1], most = LINES_FLOATS / conv->channels_in;
    if (phases * phase_floats(band, 1) > most) return false;
    band_rows(conv, band, most);
    if (pieces > band->bands) {
        band->rows = (int)((conv->out[0] + pieces - 1) / pieces);
        band->bands = (conv->out[0] + band->rows - 1) / band->rows;
        band->phase = phase_floats(band, band->rows);
    }
    return true;
}

/* Short bands cost more than gathering: their rows above and below are copied again and again, and their panels are small. So do the
 * phases of a stride where what is gathered serves many channels. */
static bool lines_fit(const ConvF32 *conv)
{
    Band band;
    if (conv->stride[1] > 1 && conv->channels_out >= 48) return false;
    if (!lines_band(conv, 1, &band)) return false;
    return band.bands == 1 || (band.rows >= band.below && band.rows * conv->out[1] >= 2 * PANEL);
}

/* Sums of the positions from `position` on, to the rows of y they belong to. */
static void store_positions(const LinesTask *task, const float *sums, int64_t channels, int64_t position, int64_t count, float *y)
{
    const ConvF32 *conv = task->conv;
    int64_t pixels = (int64_t)conv->out[0] * conv->out[1], width = conv->out[1];
    for (int64_t at = 0; at < count;) {
        int64_t row = (position + at) / task->band.pitch, column = (position + at) % task->band.pitch;
        int64_t length = least(task->band.pitch - column, count - at), inside = least(length, width - column);
        float *to = y + row * width + column;
        for (int64_t channel = 0; channel < channels && inside > 0; channel++) {
            const float *from = sums + channel * PANEL + at;
            int64_t i = 0;
            for (; i + LANES <= inside; i += LANES)
                v_store(to + channel * pixels + i, v_load(from + i));
            if (i < inside) v_store_first(to + channel * pixels + i, (int)(inside - i), v_load(from + i));
        }
        at += length;
    }
}

/* `columns` positions from `position` on, all channels; y: the first row of the band, sums: of a chunk of channels. */
static void lines_panel(const LinesTask *task, int64_t group, const float *lines, int64_t position, int64_t columns, float *y, float *sums)
{
    const ConvF32 *conv = task->conv;
    int64_t tiles = (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS, pixels = (int64_t)conv->out[0] * conv->out[1];
    int64_t taps = (int64_t)conv->kernel[0] * conv->kernel[1], block = taps > TILE_DEPTH ? taps : TILE_DEPTH / taps * taps;
    int64_t chunk = SUMS_FLOATS / PANEL / TILE_ROWS;
    const float *weights = task->packed + group * tiles * task->depth * TILE_ROWS;
    bool direct = task->row_by_row && columns % LANES == 0;
    int64_t place = position / task->band.pitch * conv->out[1] + position % task->band.pitch;
    for (int64_t first = 0; first < tiles; first += chunk) {
        int64_t end = least(first + chunk, tiles), channel = group * conv->channels_out + first * TILE_ROWS;
        float *to = y + channel * pixels;
        TileCall call = {.start = START_ROWS, .b = lines + position, .c_row = direct ? pixels : PANEL};
        for (int64_t k = 0; k < task->depth; k += block) {
            call.depth = least(block, task->depth - k);
            call.b_at = task->distance + k;
            for (int64_t t = first; t < end; t++) {
                int rows = (int)least(TILE_ROWS, conv->channels_out - t * TILE_ROWS);
                call.a = weights + (t * task->depth + k) * TILE_ROWS;
                call.next = t + 1 < tiles ? call.a + task->depth * TILE_ROWS : call.a;
                call.c = direct ? to + (t - first) * TILE_ROWS * pixels + place : sums + (t - first) * TILE_ROWS * PANEL;
                call.bias = task->bias ? task->bias + group * conv->channels_out + t * TILE_ROWS : no_bias;
                tiles_spread[rows - 1][vectors_of(columns) - 1](&call);
            }
            call.start = START_SUM;
        }
        if (!direct) store_positions(task, sums, least(end * TILE_ROWS, conv->channels_out) - first * TILE_ROWS, position, columns, to);
    }
}

/* A run of positions, cut into panels of nearly equal size. */
static void lines_run(const LinesTask *task, int64_t group, const float *lines, int64_t position, int64_t count, float *y, float *sums)
{
    int64_t vectors = vectors_of(count), panels = (vectors + TILE_VECTORS - 1) / TILE_VECTORS;
    for (int64_t panel = 0; panel < panels; panel++) {
        int64_t from = vectors * panel / panels * LANES, to = least(count, vectors * (panel + 1) / panels * LANES);
        lines_panel(task, group, lines, position + from, to - from, y, sums);
    }
}

static void lines_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const LinesTask *task = context;
    const ConvF32 *conv = task->conv;
    const Band *band = &task->band;
    _Alignas(64) float lines[LINES_FLOATS];
    _Alignas(64) float sums[SUMS_FLOATS];
    int64_t planes = (int64_t)conv->batch * conv->groups, in_plane = (int64_t)conv->in[0] * conv->in[1];
    int64_t pixels = (int64_t)conv->out[0] * conv->out[1];
    int filled = -1;
    for (int64_t i = begin; i < end; i++) {
        int index = (int)(i / planes), first = index * band->rows, rows = (int)least(band->rows, conv->out[0] - first);
        int64_t plane = i % planes, image = plane / conv->groups, group = plane % conv->groups;
        if (filled != index) memset(lines, 0, (size_t)(task->channel_floats * conv->channels_in) * sizeof *lines);
        filled = index;
        for (int64_t c = 0; c < conv->channels_in; c++)
            fill_band(conv, band, task->x + (plane * conv->channels_in + c) * in_plane, index, lines + c * task->channel_floats);
        float *y = task->y + image * conv->groups * conv->channels_out * pixels + (int64_t)first * conv->out[1];
        if (task->row_by_row) {
            for (int r = 0; r < rows; r++)
                lines_run(task, group, lines, r * band->pitch, conv->out[1], y, sums);
        } else {
            lines_run(task, group, lines, 0, (rows - 1) * band->pitch + conv->out[1], y, sums);
        }
    }
}

static void conv_lines(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y, double work)
{
    LinesTask task;
    task.conv = conv;
    task.x = x;
    task.packed = packed;
    task.bias = bias;
    task.y = y;
    int64_t planes = (int64_t)conv->batch * conv->groups, threads = work < SMALL_WORK ? 1 : threads_count();
    int64_t pieces = (2 * threads + planes - 1) / planes;
    band_shape(conv, &task.band);
    if (pieces > 1 && conv->out[0] < 2 * pieces * task.band.below)
        pieces = (threads + planes - 1) / planes; /* rows copied twice would tell */
    lines_band(conv, threads > 1 ? pieces : 1, &task.band);
    task.depth = (int64_t)conv->channels_in * conv->kernel[0] * conv->kernel[1];
    task.channel_floats = conv->stride[0] * conv->stride[1] * task.band.phase;
    int64_t width = conv->out[1], taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    task.row_by_row = vectors_of(width) * LANES <= task.band.pitch + task.band.pitch / 32;
    band_distances(conv, &task.band, task.distance);
    for (int64_t k = taps; k < task.depth; k++)
        task.distance[k] = task.distance[k - taps] + (int32_t)task.channel_floats;
    threads_for(planes * task.band.bands, grain_of(planes * task.band.bands, work), lines_body, &task);
}
