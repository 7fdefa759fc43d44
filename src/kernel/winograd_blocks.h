/* Winograd convolution by register tiles (winograd.h). Lanes of a vector are tiles of 4 x 4 outputs, counted through all images; a block
 * of up to PANEL tiles is transformed for all input channels, then 36 small matrix products follow for TILE_ROWS output channels at a
 * time, whose sums are transformed back into y. A template, after product.h and winograd_steps.h.
 *
 * Lane 4 q + i of a vector holds tile LANES / 4 * i + q: so four consecutive vectors of a line of x or y (four columns a tile) become
 * one vector a column, and back, by shuffles within quarters. */

#define WINOGRAD_INPUTS (WINOGRAD_SUMS * WINOGRAD_CHANNELS * LANES)
#define WINOGRAD_PART 64 /* input channels transformed at a time where the sums of all output channels are kept meanwhile */
#define WINOGRAD_ROWS 64 /* so many output channels at most */
#define WINOGRAD_LINE (WINOGRAD_TILE * PANEL + 2 * LANES)

/* A vector of columns of x for tiles that lie side by side. */
typedef struct WinogradStrip {
    int64_t from;  /* first column and row, in x of the first input channel */
    uint32_t mask; /* columns inside the image */
    uint32_t rows; /* the same for rows */
    int to;        /* column in the lines */
    bool first;    /* of these tiles */
} WinogradStrip;

/* Outputs of one vector of tiles that lie side by side. */
typedef struct WinogradRun {
    int64_t to; /* in y of the first output channel */
    int from, columns, rows;
} WinogradRun;

typedef struct WinogradTask {
    const ConvF32 *conv;
    const float *x, *packed, *bias;
    float *y;
    int64_t across, image_tiles, vectors, blocks;
} WinogradTask;

typedef struct WinogradBlock {
    int64_t width; /* tiles, whole vectors */
    int strip_count, runs_end[TILE_VECTORS];
    WinogradStrip strips[2 * PANEL];
    WinogradRun runs[2 * PANEL];
    float lines[WINOGRAD_POINTS][WINOGRAD_LINE];       /* columns 0 to 3 of each tile, rows transformed */
    float behind[WINOGRAD_POINTS][WINOGRAD_LINE];      /* columns 4 and 5, and two that nobody reads */
    float sums[WINOGRAD_SUMS * WINOGRAD_ROWS * PANEL]; /* [tile of output channels][36][TILE_ROWS] */
} WinogradBlock;

static void winograd_transpose(const Floats from[4], Floats to[4])
{
    Floats low = v_unpack_low(from[0], from[1]), high = v_unpack_high(from[0], from[1]);
    Floats next_low = v_unpack_low(from[2], from[3]), next_high = v_unpack_high(from[2], from[3]);
    to[0] = v_pairs_low(low, next_low);
    to[1] = v_pairs_high(low, next_low);
    to[2] = v_pairs_low(high, next_high);
    to[3] = v_pairs_high(high, next_high);
}

static uint32_t winograd_inside(int64_t first, int64_t size, int64_t count)
{
    int64_t from = first < 0 ? -first : 0, to = least(count, size - first);
    return from < to ? (uint32_t)(((1ull << to) - 1) & ~((1ull << from) - 1)) : 0;
}

/* Where the tiles [first, first + count) come from and go to. */
static void winograd_places(const WinogradTask *task, WinogradBlock *block, int64_t first, int64_t count)
{
    const ConvF32 *conv = task->conv;
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    int strips = 0, runs = 0;
    block->width = vectors_of(count) * LANES;
    for (int64_t at = 0, tiles; at < count; at += tiles) {
        int64_t image = (first + at) / task->image_tiles, tile = (first + at) % task->image_tiles;
        int64_t row = tile / task->across * WINOGRAD_TILE, column = tile % task->across * WINOGRAD_TILE;
        tiles = least(task->across - tile % task->across, count - at);
        int64_t top = row - conv->pad[0], left = column - conv->pad[1];
        for (int64_t c = 0; c < WINOGRAD_TILE * tiles + 2; c += LANES) {
            block->strips[strips++] = (WinogradStrip){.from = image * conv->channels_in * in_plane + top * conv->in[1] + left + c,
                                                      .mask = winograd_inside(left + c, conv->in[1], LANES),
                                                      .rows = winograd_inside(top, conv->in[0], WINOGRAD_POINTS),
                                                      .to = (int)(WINOGRAD_TILE * at + c),
                                                      .first = c == 0};
        }
        for (int64_t t = at, part; t < at + tiles; t += part) {
            part = least(at + tiles - t, LANES - t % LANES);
            int64_t x = column + (t - at) * WINOGRAD_TILE;
            block->runs[runs++] = (WinogradRun){.to = image * conv->channels_out * out_plane + row * conv->out[1] + x,
                                                .from = (int)(t % LANES * WINOGRAD_TILE),
                                                .columns = (int)least(part * WINOGRAD_TILE, conv->out[1] - x),
                                                .rows = (int)least(WINOGRAD_TILE, conv->out[0] - row)};
            block->runs_end[t / LANES] = runs;
        }
    }
    block->strip_count = strips;
    memset(block->lines, 0, sizeof block->lines);
    memset(block->behind, 0, sizeof block->behind);
}

/* Down the columns, all lanes of a strip at once. What a strip writes too much is overwritten by the next one. */
static void winograd_columns(const ConvF32 *conv, WinogradBlock *block, const float *plane)
{
    for (int s = 0; s < block->strip_count; s++) {
        const WinogradStrip *strip = &block->strips[s];
        Floats x[WINOGRAD_POINTS], points[WINOGRAD_POINTS];
        const float *from = plane + strip->from;
        if (strip->rows == (1u << WINOGRAD_POINTS) - 1 && strip->mask == ALL_LANES) {
#pragma GCC unroll 6
            for (int i = 0; i < WINOGRAD_POINTS; i++)
                x[i] = v_load(from + (int64_t)i * conv->in[1]);
        } else {
            Mask mask = v_mask(strip->mask);
#pragma GCC unroll 6
            for (int i = 0; i < WINOGRAD_POINTS; i++)
                x[i] = strip->rows >> i & 1 ? v_load_zero(from + (int64_t)i * conv->in[1], mask) : v_zero();
        }
        v_winograd_forward(x, points);
#pragma GCC unroll 6
        for (int i = 0; i < WINOGRAD_POINTS; i++) {
            v_store(block->lines[i] + strip->to, points[i]);
            if (strip->first)
                v_store_from4(block->behind[i] + strip->to, points[i]);
            else
                v_store(block->behind[i] + strip->to - WINOGRAD_TILE, points[i]);
        }
    }
}

/* Along the rows; to: of one input channel, the sums `step` floats apart. */
static void winograd_rows(const WinogradBlock *block, float *to, int64_t step)
{
    for (int64_t v = 0; v < block->width; v += LANES) {
        for (int i = 0; i < WINOGRAD_POINTS; i++) {
            const float *line = block->lines[i] + v * WINOGRAD_TILE, *behind = block->behind[i] + v * WINOGRAD_TILE;
            Floats parts[4], x[WINOGRAD_POINTS], points[WINOGRAD_POINTS];
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                parts[p] = v_load(line + p * LANES);
            winograd_transpose(parts, x);
            Floats low = v_unpack_low(v_load(behind), v_load(behind + LANES));
            Floats next = v_unpack_low(v_load(behind + 2 * LANES), v_load(behind + 3 * LANES));
            x[4] = v_pairs_low(low, next);
            x[5] = v_pairs_high(low, next);
            v_winograd_forward(x, points);
#pragma GCC unroll 6
            for (int j = 0; j < WINOGRAD_POINTS; j++)
                v_store(to + (i * WINOGRAD_POINTS + j) * step + v, points[j]);
        }
    }
}

/* The sums of one output channel, to y. */
static void winograd_outputs(const ConvF32 *conv, const WinogradBlock *block, const float *sums, float bias, float *plane)
{
    int64_t step = TILE_ROWS * block->width;
    int run = 0;
    for (int64_t v = 0; v < block->width; v += LANES) {
        Floats columns[WINOGRAD_TILE][WINOGRAD_POINTS];
#pragma GCC unroll 6
        for (int j = 0; j < WINOGRAD_POINTS; j++) {
            Floats column[WINOGRAD_POINTS], four[WINOGRAD_TILE];
#pragma GCC unroll 6
            for (int i = 0; i < WINOGRAD_POINTS; i++)
                column[i] = v_load(sums + (i * WINOGRAD_POINTS + j) * step + v);
            v_winograd_back(column, four);
#pragma GCC unroll 4
            for (int i = 0; i < WINOGRAD_TILE; i++)
                columns[i][j] = four[i];
        }
        int end = block->runs_end[v / LANES];
        const WinogradRun *runs = block->runs;
#pragma GCC unroll 4
        for (int i = 0; i < WINOGRAD_TILE; i++) {
            Floats four[WINOGRAD_TILE], parts[4];
            v_winograd_back(columns[i], four);
#pragma GCC unroll 4
            for (int j = 0; j < WINOGRAD_TILE; j++)
                four[j] = v_fma(v_all(1.0f), v_all(bias), four[j]);
            winograd_transpose(four, parts);
            if (runs[run].columns == WINOGRAD_TILE * LANES) {
                if (i >= runs[run].rows) continue;
                float *y = plane + runs[run].to + (int64_t)i * conv->out[1];
#pragma GCC unroll 4
                for (int p = 0; p < 4; p++)
                    v_store(y + p * LANES, parts[p]);
                continue;
            }
            float line[(WINOGRAD_TILE + 1) * LANES];
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++)
                v_store(line + p * LANES, parts[p]);
            for (int r = run; r < end; r++) {
                if (i >= runs[r].rows) continue;
                float *y = plane + runs[r].to + (int64_t)i * conv->out[1];
                int column = 0;
                for (; column + LANES <= runs[r].columns; column += LANES)
                    v_store(y + column, v_load(line + runs[r].from + column));
                if (column < runs[r].columns) v_store_first(y + column, runs[r].columns - column, v_load(line + runs[r].from + column));
            }
        }
        run = end;
    }
}

/* Input channels to transform at a time: all, or parts, when all would leave room for few tiles and the weights pass by for each few. */
static int64_t winograd_part(const ConvF32 *conv)
{
    int64_t depth = conv->channels_in, parts = (depth + WINOGRAD_PART - 1) / WINOGRAD_PART;
    return conv->channels_out > WINOGRAD_ROWS ? depth : (depth + parts - 1) / parts;
}

/* Steps [k, k + count) of the 36 sums of the output channels from `channel` on, TILE_ROWS at most. */
static void winograd_products(const WinogradTask *task, int64_t width, int64_t channel, int64_t k, int64_t count, const float *inputs,
                              float *sums)
{
    int64_t depth = task->conv->channels_in, rows = least(TILE_ROWS, task->conv->channels_out - channel);
    TileCall call = {.depth = count, .start = k ? START_SUM : START_ROWS, .bias = no_bias, .b_step = width, .c_row = width};
    Tile *run = tiles_packed[rows - 1][width / LANES - 1];
    for (int64_t s = 0; s < WINOGRAD_SUMS; s++) {
        call.a = task->packed + (channel * WINOGRAD_SUMS + s * TILE_ROWS) * depth + k * TILE_ROWS;
        call.b = inputs + s * count * width;
        call.c = sums + s * TILE_ROWS * width;
        call.next = s + 1 < WINOGRAD_SUMS || channel + TILE_ROWS < task->conv->channels_out ? call.a + depth * TILE_ROWS : call.a;
        run(&call);
    }
}

static void winograd_block(const WinogradTask *task, int64_t first, int64_t count, WinogradBlock *block, float *inputs)
{
    const ConvF32 *conv = task->conv;
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1], depth = conv->channels_in;
    winograd_places(task, block, first, count);
    int64_t width = block->width, part = winograd_part(conv);
    for (int64_t k = 0; k < depth; k += part) {
        int64_t steps = least(part, depth - k);
        for (int64_t i = 0; i < steps; i++) {
            winograd_columns(conv, block, task->x + (k + i) * in_plane);
            winograd_rows(block, inputs + i * width, steps * width);
        }
        for (int64_t channel = 0; channel < conv->channels_out; channel += TILE_ROWS) {
            float *sums = block->sums + (part < depth ? channel * WINOGRAD_SUMS * width : 0);
            winograd_products(task, width, channel, k, steps, inputs, sums);
            if (k + steps < depth) continue;
            for (int64_t r = 0; r < least(TILE_ROWS, conv->channels_out - channel); r++)
                winograd_outputs(conv, block, sums + r * width, task->bias ? task->bias[channel + r] : 0.0f,
                                 task->y + (channel + r) * out_plane);
        }
    }
}

static void winograd_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const WinogradTask *task = context;
    _Alignas(64) WinogradBlock block;
    _Alignas(64) float inputs[WINOGRAD_INPUTS];
    int64_t all = task->image_tiles * task->conv->batch;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = task->vectors * i / task->blocks * LANES, last = task->vectors * (i + 1) / task->blocks * LANES;
        winograd_block(task, first, least(last, all) - first, &block, inputs);
    }
}

static void winograd_run(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y)
{
    WinogradTask task = {.conv = conv, .x = x, .packed = packed, .bias = bias, .y = y};
    task.across = (conv->out[1] + WINOGRAD_TILE - 1) / WINOGRAD_TILE;
    task.image_tiles = task.across * ((conv->out[0] + WINOGRAD_TILE - 1) / WINOGRAD_TILE);
    task.vectors = (task.image_tiles * conv->batch + LANES - 1) / LANES;
    int64_t together = least(TILE_VECTORS, WINOGRAD_INPUTS / (WINOGRAD_SUMS * LANES * winograd_part(conv)));
    task.blocks = (task.vectors + together - 1) / together;
    double work = (double)task.vectors * LANES * WINOGRAD_SUMS * conv->channels_in * conv->channels_out;
    threads_for(task.blocks, grain_of(task.blocks, work), winograd_body, &task);
}

static size_t winograd_packed_floats(const ConvF32 *conv)
{
    int64_t tiles = (conv->channels_out + TILE_ROWS - 1) / TILE_ROWS;
    return (size_t)(tiles * WINOGRAD_SUMS * TILE_ROWS * conv->channels_in);
}

/* [tile of output channels][36][input channel][TILE_ROWS] */
static void winograd_pack(const ConvF32 *conv, const float *weights, float *packed)
{
    int64_t depth = conv->channels_in, step = depth * TILE_ROWS;
    for (int64_t channel = 0; channel < conv->channels_out; channel += TILE_ROWS, packed += WINOGRAD_SUMS * step) {
        for (int64_t k = 0; k < depth; k++) {
            float points[TILE_ROWS][WINOGRAD_SUMS] = {{0}};
            for (int64_t r = 0; r < least(TILE_ROWS, conv->channels_out - channel); r++)
                winograd_weights(weights + ((channel + r) * depth + k) * 9, points[r]);
            for (int64_t s = 0; s < WINOGRAD_SUMS; s++)
                for (int64_t r = 0; r < TILE_ROWS; r++)
                    packed[s * step + k * TILE_ROWS + r] = points[r][s];
        }
    }
}
