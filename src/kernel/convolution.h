/* Convolution by register tiles. Two ways to cut the outputs:
 *   pixels:   vectors run along output pixels, rows of a tile are output channels (weights packed [tile][k][TILE_ROWS]);
 *   channels: vectors run along output channels (weights packed in panels as a matrix), rows are pixels; for images of a few pixels.
 *   lines:    as pixels, but x is copied into padded lines first (lines.h); for kernels of several taps, where a band of all channels fits.
 * k counts input channel, row, column. What a panel needs of x is gathered (im2col) for TILE_DEPTH steps at a time. A template, after
 * product.h and depthwise.h. */

#define ALL_LANES ((uint32_t)((1ull << LANES) - 1))
#define GATHER_TAPS 64 /* larger kernels are gathered element by element */
#define GATHER_ENTRIES 768
#define DIRECT_CHANNELS 64 /* up to so many channels a panel of x is not worth copying */
#define GROUPED_PANELS 8   /* panels of a short sum done side by side: so that longer pieces of each plane of y are written at once */
#define ROWS_FLOATS 65536  /* x of the rows of a block, on the stack */

typedef enum { CONV_PIXELS, CONV_CHANNELS, CONV_MATRIX, CONV_DEPTHWISE, CONV_LINES } ConvAlgorithm;

typedef struct ConvTask {
    const ConvF32 *conv;
    const float *x, *packed, *bias;
    float *y;
    int64_t in_plane, pixels, depth, taps;
    int64_t panels, chunks,
        chunk_tiles;  /* pixels: panels of an image, chunks of channel tiles. channels: panels of channels in all and in a chunk */
    int64_t together; /* pixels: panels of a piece of work */
    int64_t block_rows, blocks; /* channels: rows of a block */
    bool pointwise;
} ConvTask;

/* The same convolution in the form the choices below are made for: one column becomes one row, since vectors run along columns; strides
 * of a single output and dilations of a single tap are 1. The order of weights and of the sum stays. */
static ConvF32 conv_plainest(const ConvF32 *conv)
{
    ConvF32 form = *conv;
    if (conv->in[1] == 1 && conv->out[1] == 1 && conv->kernel[1] == 1 && conv->pad[1] == 0) {
        int *pairs[] = {form.in, form.out, form.kernel, form.stride, form.dilation, form.pad};
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            int swap = pairs[i][0];
            pairs[i][0] = pairs[i][1];
            pairs[i][1] = swap;
        }
    }
    for (int axis = 0; axis < 2; axis++) {
        if (form.out[axis] == 1) form.stride[axis] = 1;
        if (form.kernel[axis] == 1) form.dilation[axis] = 1;
    }
    return form;
}

static bool conv_is_pointwise(const ConvF32 *conv)
{
    return conv->kernel[0] == 1 && conv->kernel[1] == 1 && conv->stride[0] == 1 && conv->stride[1] == 1 && conv->pad[0] == 0 &&
           conv->pad[1] == 0 && conv->in[0] == conv->out[0] && conv->in[1] == conv->out[1];
}

static int64_t conv_depth(const ConvF32 *conv)
{
    return (int64_t)conv->channels_in * conv->kernel[0] * conv->kernel[1];
}

static ConvAlgorithm conv_choose(const ConvF32 *conv)
{
    int64_t pixels = (int64_t)conv->out[0] * conv->out[1], depth = conv_depth(conv);
    bool whole = conv->kernel[0] == conv->in[0] && conv->kernel[1] == conv->in[1] && conv->pad[0] == 0 && conv->pad[1] == 0;
    if (pixels == 1 && whole && conv->channels_out >= LANES) return CONV_MATRIX;
    if (conv->channels_in == 1 && conv->channels_out <= 2 && conv->groups > 1 && depthwise_fits(conv)) return CONV_DEPTHWISE;
    double used = (double)pixels / (double)(vectors_of(pixels) * LANES);
    if (conv->channels_out >= LANES && depth * TILE_ROWS <= ROWS_FLOATS && used < (conv_is_pointwise(conv) ? 0.9 : 0.6))
        return CONV_CHANNELS;
    if (lines_fit(conv)) return CONV_LINES;
    return CONV_PIXELS;
}

static size_t conv_packed_floats(const ConvF32 *given)
{
    const ConvF32 form = conv_plainest(given), *conv = &form;
    int64_t tiles = (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS, depth = conv_depth(conv);
    switch (conv_choose(conv)) {
    case CONV_LINES:
    case CONV_PIXELS: return (size_t)(conv->groups * tiles * depth * TILE_ROWS);
    case CONV_DEPTHWISE: return (size_t)(conv->groups * conv->channels_out * depth);
    default: return (size_t)conv->groups * matmul_packed_floats(depth, conv->channels_out);
    }
}

typedef struct ConvPackTask {
    const ConvF32 *conv;
    const float *weights;
    const WeightSteps *steps;
    float *packed;
    int64_t tiles, depth;
    bool dense; /* steps of the sum lie one behind the other */
} ConvPackTask;

/* Where the weights of each step of the sum are, one after the other. */
typedef struct StepWalk {
    const ConvF32 *conv;
    const WeightSteps *steps;
    const float *plane;
    int i, j;
} StepWalk;

static inline const float *next_step(StepWalk *walk)
{
    const float *at = walk->plane + walk->i * walk->steps->row + walk->j * walk->steps->column;
    if (++walk->j == walk->conv->kernel[1]) {
        walk->j = 0;
        if (++walk->i == walk->conv->kernel[0]) {
            walk->i = 0;
            walk->plane += walk->steps->in;
        }
    }
    return at;
}

/* [tile of output channels][k][TILE_ROWS] */
static void conv_pack_tiles(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvPackTask *task = context;
    const ConvF32 *conv = task->conv;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i % task->tiles * TILE_ROWS, rows = least(TILE_ROWS, conv->channels_out - first), out = task->steps->out;
        const float *from = task->weights + i / task->tiles * task->steps->group + first * out;
        float *to = task->packed + i * task->depth * TILE_ROWS;
        int64_t k = 0;
        if (rows < TILE_ROWS) memset(to, 0, (size_t)(task->depth * TILE_ROWS) * sizeof *to);
        if (task->dense) {
            if (TILE_ROWS == 8 && rows == 8)
                for (; k + 8 <= task->depth; k += 8)
                    transpose_8x8(from + k, out, to + k * TILE_ROWS, TILE_ROWS);
            for (; k < task->depth; k++)
                for (int64_t r = 0; r < rows; r++)
                    to[k * TILE_ROWS + r] = from[k + r * out];
            continue;
        }
        StepWalk walk = {conv, task->steps, from, 0, 0};
        for (; k < task->depth; k++, to += TILE_ROWS) {
            const float *step = next_step(&walk);
            if (out == 1 && rows == TILE_ROWS)
                memcpy(to, step, TILE_ROWS * sizeof *to);
            else
                for (int64_t r = 0; r < rows; r++)
                    to[r] = step[r * out];
        }
    }
}

/* As a matrix [k][output channel], in panels, of a kernel whose steps do not lie at one distance. */
static void conv_pack_panels(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvPackTask *task = context;
    const ConvF32 *conv = task->conv;
    int64_t panels = panels_of(conv->channels_out), out = task->steps->out;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i % panels * PANEL, columns = least(PANEL, conv->channels_out - first);
        const float *from = task->weights + i / panels * task->steps->group + first * out;
        float *to = task->packed + i * task->depth * PANEL;
        if (columns < PANEL) memset(to, 0, (size_t)(task->depth * PANEL) * sizeof *to);
        StepWalk walk = {conv, task->steps, from, 0, 0};
        for (int64_t k = 0; k < task->depth; k++, to += PANEL) {
            const float *step = next_step(&walk);
            for (int64_t j = 0; j < columns; j++)
                to[j] = step[j * out];
        }
    }
}

static uint32_t conv_pack(const ConvF32 *given, const float *weights, const WeightSteps *steps, float *packed)
{
    const ConvF32 form = conv_plainest(given), *conv = &form;
    ConvAlgorithm algorithm = conv_choose(conv);
    int64_t depth = conv_depth(conv), channels = conv->channels_out, taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    /* Weights stand as they were given: rows and columns as before they changed places. */
    ConvPackTask task = {.conv = given, .weights = weights, .steps = steps, .packed = packed, .depth = depth};
    task.dense = (taps == 1 || (steps->column == 1 && steps->row == given->kernel[1])) && (conv->channels_in == 1 || steps->in == taps);
    task.tiles = (channels + TILE_ROWS - 1) / TILE_ROWS;
    if (algorithm == CONV_DEPTHWISE) {
        for (int64_t channel = 0; channel < conv->groups * channels; channel++, packed += depth) {
            StepWalk walk = {given, steps, weights + channel / channels * steps->group + channel % channels * steps->out, 0, 0};
            for (int64_t k = 0; k < depth; k++)
                packed[k] = *next_step(&walk);
        }
    } else if (algorithm == CONV_PIXELS || algorithm == CONV_LINES) {
        threads_for(conv->groups * task.tiles, PACK_GRAIN / (depth * TILE_ROWS + 1) + 1, conv_pack_tiles, &task);
    } else if (task.dense || taps == 1) {
        for (int group = 0; group < conv->groups; group++, packed += matmul_packed_floats(depth, channels))
            matmul_pack(depth, channels, weights + group * steps->group, task.dense ? 1 : steps->in, steps->out, packed);
    } else {
        threads_for(conv->groups * panels_of(channels), PACK_GRAIN / (depth * PANEL + 1) + 1, conv_pack_panels, &task);
    }
    return algorithm;
}

/* How to gather the vectors of a panel for each tap of the kernel: loads of consecutive lanes (consecutive columns of one row of x),
 * relative to the plane of an input channel. The same for all channels. */
typedef struct Gather {
    int vectors, taps;
    uint16_t first[GATHER_TAPS * TILE_VECTORS + 1];
    int32_t offset[GATHER_ENTRIES];
    uint32_t mask[GATHER_ENTRIES]; /* of the floats at `offset` that are read: lanes, or every second for stride 2 */
} Gather;

/* Lanes of a vector whose pixels lie in one output row. */
typedef struct Segment {
    int row, column, lane, lanes;
} Segment;

static int segments_of(const ConvF32 *conv, int64_t pixel, int64_t count, Segment segments[LANES])
{
    int found = 0, row = (int)(pixel / conv->out[1]), column = (int)(pixel % conv->out[1]);
    for (int lane = 0; lane < count;) {
        int lanes = (int)least(count - lane, conv->out[1] - column);
        segments[found++] = (Segment){row, column, lane, lanes};
        lane += lanes;
        row++;
        column = 0;
    }
    return found;
}

static uint32_t lanes_mask(int from, int to)
{
    return (uint32_t)(((1ull << to) - 1) & ~((1ull << from) - 1));
}

static uint32_t spread(uint32_t mask) /* bit i to bit 2 i */
{
    mask = (mask | (mask << 8)) & 0x00FF00FFu;
    mask = (mask | (mask << 4)) & 0x0F0F0F0Fu;
    mask = (mask | (mask << 2)) & 0x33333333u;
    return (mask | (mask << 1)) & 0x55555555u;
}

/* False when there are too many pieces. Strides along columns are 1 or 2. */
static bool gather_make(Gather *gather, const ConvF32 *conv, int64_t pixel, int64_t columns)
{
    Segment segments[TILE_VECTORS][LANES];
    int counts[TILE_VECTORS], stride = conv->stride[1], width = conv->in[1], used = 0, index = 0;
    gather->vectors = vectors_of(columns);
    gather->taps = conv->kernel[0] * conv->kernel[1];
    for (int v = 0; v < gather->vectors; v++)
        counts[v] = segments_of(conv, pixel + v * LANES, least(LANES, columns - v * LANES), segments[v]);
    for (int i = 0; i < conv->kernel[0]; i++) {
        for (int j = 0; j < conv->kernel[1]; j++) {
            for (int v = 0; v < gather->vectors; v++) {
                gather->first[index++] = (uint16_t)used;
                for (int s = 0; s < counts[v]; s++) {
                    const Segment *segment = &segments[v][s];
                    int row = segment->row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0];
                    if (row < 0 || row >= conv->in[0]) continue;
                    int column = segment->column * stride - conv->pad[1] + j * conv->dilation[1]; /* in x, of the first lane */
                    int from = column >= 0 ? 0 : stride == 1 ? -column : (1 - column) / 2;
                    int to = width - column <= 0 ? 0 : stride == 1 ? width - column : (width - column + 1) / 2;
                    if (to > segment->lanes) to = segment->lanes;
                    if (from >= to) continue;
                    if (used == GATHER_ENTRIES) return false;
                    uint32_t mask = lanes_mask(segment->lane + from, segment->lane + to);
                    gather->offset[used] = row * width + column - segment->lane * stride;
                    gather->mask[used++] = stride == 1 ? mask : spread(mask);
                }
            }
        }
    }
    gather->first[index] = (uint16_t)used;
    return true;
}

static void gather_plane(const Gather *gather, const float *plane, float *panel)
{
    int count = gather->taps * gather->vectors, v = 0;
    for (int i = 0; i < count; i++) {
        int entry = gather->first[i], last = gather->first[i + 1];
        Floats value;
        if (last - entry == 1 && gather->mask[entry] == ALL_LANES) {
            value = v_load(plane + gather->offset[entry]);
        } else {
            value = v_zero();
            for (; entry < last; entry++)
                value = v_load_masked(plane + gather->offset[entry], gather->mask[entry], value);
        }
        v_store(panel + v * LANES, value);
        if (++v == gather->vectors) {
            v = 0;
            panel += PANEL;
        }
    }
}

static void gather_plane_stride2(const Gather *gather, const float *plane, float *panel)
{
    int count = gather->taps * gather->vectors, v = 0;
    for (int i = 0; i < count; i++) {
        int entry = gather->first[i], last = gather->first[i + 1];
        Floats value = v_zero();
        if (last - entry == 1 && gather->mask[entry] == spread(ALL_LANES)) {
            value = v_load_even(plane + gather->offset[entry]);
            entry = last;
        }
        for (; entry < last; entry++) {
            const float *from = plane + gather->offset[entry];
            uint32_t mask = gather->mask[entry];
            Floats low = v_load_masked(from, mask & ALL_LANES, v_zero()),
                   high = v_load_masked(from + LANES, mask >> LANES & ALL_LANES, v_zero());
            value = v_or(value, v_even(low, high));
        }
        v_store(panel + v * LANES, value);
        if (++v == gather->vectors) {
            v = 0;
            panel += PANEL;
        }
    }
}

/* x of one pixel for steps k … of the sum, `step` floats apart. */
static void gather_pixel(const ConvF32 *conv, const float *x, int64_t pixel, int64_t k, int64_t count, float *to, int64_t step)
{
    int64_t taps = (int64_t)conv->kernel[0] * conv->kernel[1], in_plane = (int64_t)conv->in[0] * conv->in[1];
    int top = (int)(pixel / conv->out[1]) * conv->stride[0] - conv->pad[0],
        left = (int)(pixel % conv->out[1]) * conv->stride[1] - conv->pad[1];
    const float *plane = x + k / taps * in_plane;
    int i = (int)(k % taps) / conv->kernel[1], j = (int)(k % taps) % conv->kernel[1];
    for (; count > 0; count--, to += step) {
        int row = top + i * conv->dilation[0], column = left + j * conv->dilation[1];
        bool inside = row >= 0 && row < conv->in[0] && column >= 0 && column < conv->in[1];
        *to = inside ? plane[(int64_t)row * conv->in[1] + column] : 0.0f;
        if (++j == conv->kernel[1]) {
            j = 0;
            if (++i == conv->kernel[0]) {
                i = 0;
                plane += in_plane;
            }
        }
    }
}

/* Columns of x as they stand, for a 1 x 1 kernel. */
static void copy_columns(const float *x, int64_t in_plane, int64_t depth, int64_t columns, float *panel)
{
    int vectors = vectors_of(columns);
    uint32_t tail = columns % LANES ? lanes_mask(0, (int)(columns % LANES)) : ALL_LANES;
    for (int64_t k = 0; k < depth; k++, x += in_plane, panel += PANEL) {
        for (int v = 0; v < vectors - 1; v++)
            v_store(panel + v * LANES, v_load(x + v * LANES));
        v_store(panel + (vectors - 1) * LANES, v_load_masked(x + (vectors - 1) * LANES, tail, v_zero()));
    }
}

/* One panel of pixels of one image and group, for the channel tiles [tile, tile_end). */
static void pixels_panel(const ConvTask *task, int64_t image, int64_t group, int64_t panel_index, int64_t tile, int64_t tile_end)
{
    const ConvF32 *conv = task->conv;
    int64_t vectors = vectors_of(task->pixels), first = vectors * panel_index / task->panels * LANES;
    int64_t columns = least(task->pixels, vectors * (panel_index + 1) / task->panels * LANES) - first;
    int64_t tiles = (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS, channel = group * conv->channels_out;
    const float *x = task->x + (image * conv->groups + group) * conv->channels_in * task->in_plane;
    const float *weights = task->packed + group * tiles * task->depth * TILE_ROWS;
    float *y = task->y + (image * conv->groups * conv->channels_out + channel) * task->pixels + first;
    _Alignas(64) float panel[TILE_DEPTH * PANEL];
    Gather gather;
    gather.vectors = gather.taps = 0;
    bool direct = task->pointwise && (tile_end - tile) * TILE_ROWS <= DIRECT_CHANNELS && columns % LANES == 0;
    bool gathered = !task->pointwise && task->taps <= GATHER_TAPS && conv->stride[1] <= 2 && gather_make(&gather, conv, first, columns);
    int64_t block = gathered ? TILE_DEPTH / task->taps * task->taps : TILE_DEPTH;
    TileCall call = {.start = START_ROWS, .c_row = task->pixels, .b = panel, .b_step = PANEL};
    for (int64_t k = 0; k < task->depth || k == 0; k += block) {
        call.depth = least(block, task->depth - k);
        if (direct) {
            call.b = x + k * task->in_plane + first;
            call.b_step = task->in_plane;
        } else if (task->pointwise) {
            copy_columns(x + k * task->in_plane + first, task->in_plane, call.depth, columns, panel);
        } else if (gathered) {
            for (int64_t i = 0; i < call.depth; i += task->taps) {
                const float *plane = x + (k + i) / task->taps * task->in_plane;
                if (conv->stride[1] == 1)
                    gather_plane(&gather, plane, panel + i * PANEL);
                else
                    gather_plane_stride2(&gather, plane, panel + i * PANEL);
            }
        } else {
            for (int64_t p = 0; p < vectors_of(columns) * LANES; p++)
                gather_pixel(conv, x, first + least(p, columns - 1), k, call.depth, panel + p, PANEL);
        }
        for (int64_t t = tile; t < tile_end; t++) {
            call.a = weights + (t * task->depth + k) * TILE_ROWS;
            call.next = t + 1 < tiles ? call.a + task->depth * TILE_ROWS : call.a;
            call.c = y + t * TILE_ROWS * task->pixels;
            call.bias = task->bias ? task->bias + channel + t * TILE_ROWS : no_bias;
            tile_run(tiles_packed, &call, (int)least(TILE_ROWS, conv->channels_out - t * TILE_ROWS), columns);
        }
        call.start = START_SUM;
    }
}

/* Several panels of a 1 x 1 kernel whose sums are so short that all of x fits in the first cache. */
static void pixels_group(const ConvTask *task, int64_t image, int64_t group, int64_t panel, int64_t panel_end, int64_t tile,
                         int64_t tile_end)
{
    const ConvF32 *conv = task->conv;
    int64_t vectors = vectors_of(task->pixels), tiles = (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS,
            channel = group * conv->channels_out;
    const float *x = task->x + (image * conv->groups + group) * conv->channels_in * task->in_plane;
    const float *weights = task->packed + group * tiles * task->depth * TILE_ROWS;
    float *y = task->y + (image * conv->groups * conv->channels_out + channel) * task->pixels;
    _Alignas(64) float panels[TILE_DEPTH * PANEL];
    int64_t firsts[GROUPED_PANELS + 1];
    for (int64_t p = panel; p <= panel_end; p++)
        firsts[p - panel] = least(task->pixels, vectors * p / task->panels * LANES);
    for (int64_t p = 0; p < panel_end - panel; p++)
        copy_columns(x + firsts[p], task->in_plane, task->depth, firsts[p + 1] - firsts[p], panels + p * task->depth * PANEL);
    TileCall call = {.depth = task->depth, .start = START_ROWS, .c_row = task->pixels, .b_step = PANEL};
    for (int64_t t = tile; t < tile_end; t++) {
        call.a = weights + t * task->depth * TILE_ROWS;
        call.next = t + 1 < tiles ? call.a + task->depth * TILE_ROWS : call.a;
        call.bias = task->bias ? task->bias + channel + t * TILE_ROWS : no_bias;
        for (int64_t p = 0; p < panel_end - panel; p++) {
            call.b = panels + p * task->depth * PANEL;
            call.c = y + t * TILE_ROWS * task->pixels + firsts[p];
            tile_run(tiles_packed, &call, (int)least(TILE_ROWS, conv->channels_out - t * TILE_ROWS), firsts[p + 1] - firsts[p]);
        }
    }
}

static void pixels_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvTask *task = context;
    int64_t tiles = (task->conv->channels_out + TILE_ROWS - 1) / TILE_ROWS;
    int64_t runs = (task->panels + task->together - 1) / task->together;
    for (int64_t i = begin; i < end; i++) {
        int64_t chunk = i % task->chunks, panel = i / task->chunks % runs * task->together, plane = i / task->chunks / runs;
        int64_t image = plane / task->conv->groups, group = plane % task->conv->groups;
        int64_t tile = chunk * task->chunk_tiles, tile_end = least(tile + task->chunk_tiles, tiles);
        if (task->together > 1)
            pixels_group(task, image, group, panel, least(panel + task->together, task->panels), tile, tile_end);
        else
            pixels_panel(task, image, group, panel, tile, tile_end);
    }
}

/* x of rows [row, row + rows) (pixels of all images) as tiles [k][TILE_ROWS]. */
static void pack_rows(const ConvTask *task, int64_t group, int64_t row, int64_t rows, float *packed)
{
    const ConvF32 *conv = task->conv;
    for (int64_t r = 0; r < rows; r += TILE_ROWS, packed += task->depth * TILE_ROWS) {
        int64_t pixel = (row + r) % task->pixels, image = (row + r) / task->pixels;
        const float *x = task->x + (image * conv->groups + group) * conv->channels_in * task->in_plane;
        if (task->pointwise && pixel + TILE_ROWS <= task->pixels && r + TILE_ROWS <= rows) {
            for (int64_t k = 0; k < task->depth; k++)
                memcpy(packed + k * TILE_ROWS, x + k * task->in_plane + pixel, TILE_ROWS * sizeof *packed);
            continue;
        }
        for (int64_t i = r; i < least(r + TILE_ROWS, rows); i++) {
            image = (row + i) / task->pixels;
            x = task->x + (image * conv->groups + group) * conv->channels_in * task->in_plane;
            gather_pixel(conv, x, (row + i) % task->pixels, 0, task->depth, packed + (i - r), TILE_ROWS);
        }
    }
}

/* All rows of a block, from [row][PANEL] to the planes of their channels. */
static void store_rows(const ConvTask *task, int64_t channel, int64_t columns, int64_t row, int64_t rows, const float *sums)
{
    int64_t channels = (int64_t)task->conv->groups * task->conv->channels_out;
    for (int64_t r = 0; r < rows;) {
        int64_t image = (row + r) / task->pixels, pixel = (row + r) % task->pixels, count = least(rows - r, task->pixels - pixel);
        float *y = task->y + (image * channels + channel) * task->pixels + pixel;
        int64_t whole_n = columns / 8 * 8, whole_i = count / 8 * 8;
        for (int64_t n = 0; n < whole_n; n += 8)
            for (int64_t i = 0; i < whole_i; i += 8)
                transpose_8x8(sums + (r + i) * PANEL + n, PANEL, y + n * task->pixels + i, task->pixels);
        for (int64_t n = 0; n < columns; n++)
            for (int64_t i = n < whole_n ? whole_i : 0; i < count; i++)
                y[n * task->pixels + i] = sums[(r + i) * PANEL + n];
        r += count;
    }
}

static void channels_block(const ConvTask *task, int64_t group, int64_t row, int64_t rows, int64_t panel, int64_t panel_end)
{
    const ConvF32 *conv = task->conv;
    _Alignas(64) float packed_rows[ROWS_FLOATS];
    _Alignas(64) float sums[ROW_BLOCK * PANEL];
    pack_rows(task, group, row, rows, packed_rows);
    const int64_t whole = (int64_t)matmul_packed_floats(task->depth, conv->channels_out);
    const float *weights = task->packed + group * whole;
    for (; panel < panel_end; panel++) {
        int64_t first = panel * PANEL, columns = least(PANEL, conv->channels_out - first);
        float copy[PANEL];
        TileCall call = {.start = START_COLUMNS, .b_step = PANEL, .c_row = PANEL};
        call.bias = panel_bias(task->bias ? task->bias + group * conv->channels_out : NULL, first, columns, copy);
        for (int64_t k = 0; k < task->depth || k == 0; k += TILE_DEPTH) {
            call.depth = least(TILE_DEPTH, task->depth - k);
            call.b = weights + (panel * task->depth + k) * PANEL;
            for (int64_t r = 0; r < rows; r += TILE_ROWS) {
                call.a = packed_rows + r * task->depth + k * TILE_ROWS;
                int64_t next = (panel * task->depth + k + TILE_DEPTH) * PANEL + r * TILE_DEPTH; /* a share of the next panel */
                call.next = next + TILE_DEPTH * TILE_ROWS <= whole ? weights + next : call.a;
                call.c = sums + r * PANEL;
                tiles_packed[least(TILE_ROWS, rows - r) - 1][vectors_of(columns) - 1](&call);
            }
            call.start = START_SUM;
        }
        store_rows(task, group * conv->channels_out + first, columns, row, rows, sums);
    }
}

static void channels_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvTask *task = context;
    int64_t all = task->conv->batch * task->pixels;
    for (int64_t i = begin; i < end; i++) {
        int64_t chunk = i % task->chunks, block = i / task->chunks % task->blocks, group = i / task->chunks / task->blocks;
        int64_t row = block * task->block_rows, panel = chunk * task->chunk_tiles;
        channels_block(task, group, row, least(task->block_rows, all - row), panel, least(panel + task->chunk_tiles, task->panels));
    }
}

/* Cut `tiles` into chunks so that there are two pieces of work for each thread: every chunk gathers x again. */
static void cut_chunks(ConvTask *task, int64_t pieces, int64_t tiles)
{
    int64_t wanted = (2 * (int64_t)threads_count() + pieces - 1) / pieces;
    if (threads_count() == 1) wanted = 1;
    task->chunk_tiles = (tiles + wanted - 1) / wanted;
    task->chunks = (tiles + task->chunk_tiles - 1) / task->chunk_tiles;
}

static void conv_as_matrix(const ConvTask *task)
{
    const ConvF32 *conv = task->conv;
    MatmulF32 matmul = {
        conv->batch, conv->channels_out, task->depth, conv->groups * task->depth, 0, (int64_t)conv->groups * conv->channels_out};
    for (int64_t group = 0; group < conv->groups; group++) {
        int64_t channel = group * conv->channels_out;
        const float *packed = task->packed + group * (int64_t)matmul_packed_floats(task->depth, conv->channels_out);
        matmul_run(&matmul, task->x + group * task->depth, packed, task->bias ? task->bias + channel : NULL, task->y + channel);
    }
}

static void conv_run(const ConvF32 *given, uint32_t algorithm, const float *x, const float *packed, const float *bias, float *y)
{
    const ConvF32 form = conv_plainest(given), *conv = &form;
    ConvTask task = {.conv = conv, .x = x, .packed = packed, .bias = bias, .y = y, .pointwise = conv_is_pointwise(conv)};
    task.in_plane = (int64_t)conv->in[0] * conv->in[1];
    task.pixels = (int64_t)conv->out[0] * conv->out[1];
    task.taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    task.depth = conv_depth(conv);
    double work = (double)conv->batch * conv->groups * conv->channels_out * (double)task.pixels * (double)task.depth;
    int64_t pieces;
    switch ((ConvAlgorithm)algorithm) {
    case CONV_MATRIX: conv_as_matrix(&task); return;
    case CONV_DEPTHWISE: depthwise_run(conv, x, packed, bias, y); return;
    case CONV_LINES: conv_lines(conv, x, packed, bias, y, work); return;
    case CONV_CHANNELS:
        task.panels = panels_of(conv->channels_out);
        task.block_rows = least(ROW_BLOCK, ROWS_FLOATS / task.depth / TILE_ROWS * TILE_ROWS);
        task.blocks = (conv->batch * task.pixels + task.block_rows - 1) / task.block_rows;
        pieces = conv->groups * task.blocks;
        cut_chunks(&task, pieces, task.panels);
        threads_for(pieces * task.chunks, grain_of(pieces * task.chunks, work), channels_body, &task);
        return;
    case CONV_PIXELS:
        task.panels = (vectors_of(task.pixels) + TILE_VECTORS - 1) / TILE_VECTORS;
        task.together = task.pointwise && conv->channels_out > DIRECT_CHANNELS ? least(TILE_DEPTH / task.depth, GROUPED_PANELS) : 1;
        if (task.together < 1) task.together = 1;
        pieces = (int64_t)conv->batch * conv->groups * ((task.panels + task.together - 1) / task.together);
        cut_chunks(&task, pieces, (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS);
        threads_for(pieces * task.chunks, grain_of(pieces * task.chunks, work), pixels_body, &task);
        return;
    }
}
