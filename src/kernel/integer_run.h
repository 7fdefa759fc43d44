/* Convolutions over the tiles: chunks of pixels, small enough for the first cache, pass before block after block of channels. Pixels are
 * read where they lie; a padding tap reads a pixel of zeros. Included behind the templates; NARROW: 1 where there are narrow ones. */

static const IntForm form = {v_LANES, v_VECTORS, I_ROWS, NARROW, QUAD_BYTES, INT_VNNI ? 128 : 0};

static size_t packed_bytes(const ConvInt *conv)
{
    return int_layout(&form, conv).bytes;
}

static void pack(const ConvInt *conv, const void *weights, void *packed)
{
    int_pack(&form, conv, weights, packed);
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct RunTask {
    const ConvInt *conv;
    IntLayout layout;
    const char *x, *x_end, *packed;
    char *y;
    int64_t pixels, chunks;
    int blocks, groups; /* groups of blocks */
    bool proven;        /* no channel can leave its accumulator */
    int floor;
} RunTask;

/* The memory of a thread. */
typedef struct Workspace {
    const char *pointers[INT_TAP_POINTERS];
    char gathered[INT_GATHER_BYTES + 64];
    int32_t words[INT_EMULATE_WORDS];
    float norms[INT_CHUNK_PIXELS];
    int tiles, begins[INT_CHUNK_PIXELS + 1]; /* of the chunk: where each tile begins, and the last ends */
} Workspace;

/* A run of pixels in row-major order. */
typedef struct Position {
    int row, column;
} Position;

static inline Position position_of(const ConvInt *conv, int64_t pixel)
{
    return (Position){(int)(pixel / conv->out[1]), (int)(pixel % conv->out[1])};
}

static inline void advance(const ConvInt *conv, Position *at)
{
    if (++at->column < conv->out[1]) return;
    at->column = 0;
    at->row++;
}

/* One tap whose first pixel would be at (row, column): where it lies, or a copy if it is partly in the padding or ends with x. */
static const char *tap_at(const RunTask *task, int row, int column, char **gathered)
{
    const ConvInt *conv = task->conv;
    const IntLayout *layout = &task->layout;
    const int64_t pixel = (int64_t)conv->channels_in * conv->bytes, bytes = (int64_t)layout->tap_elements * conv->bytes;
    int count = layout->rows ? conv->kernel[1] : 1;
    if (row < 0 || row >= conv->in[0] || column + count <= 0 || column >= conv->in[1]) return task->packed + layout->zeros;
    const char *from = task->x + ((int64_t)row * conv->in[1] + column) * pixel;
    bool inside = column >= 0 && column + count <= conv->in[1];
    if (inside && from + 4 * layout->tap_steps <= task->x_end) return from;
    char *to = *gathered;
    *gathered += 4 * layout->tap_steps;
    memset(to + 4 * (layout->tap_steps - 1), 0, 4);
    if (inside) {
        memcpy(to, from, (size_t)bytes);
        return to;
    }
    int64_t before = column < 0 ? -column * pixel : 0, behind = column + count > conv->in[1] ? (column + count - conv->in[1]) * pixel : 0;
    memset(to, 0, (size_t)before);
    memcpy(to + before, from + before, (size_t)(bytes - before - behind));
    memset(to + bytes - behind, 0, (size_t)behind);
    return to;
}

/* Tiles of a chunk are as even as can be: one of a single row would wait for its weights. */
static void cut_chunk(int pixels, Workspace *work)
{
    work->tiles = (pixels + I_ROWS - 1) / I_ROWS;
    int rows = pixels / work->tiles, more = pixels % work->tiles;
    for (int tile = 0, begin = 0; tile <= work->tiles; tile++) {
        work->begins[tile] = begin;
        begin += rows + (tile < more);
    }
}

/* That tap of `count` outputs beside each other. */
static void point_run(const RunTask *task, int row, int column, int64_t count, const char **to, char **gathered)
{
    const ConvInt *conv = task->conv;
    const IntLayout *layout = &task->layout;
    const int64_t pixel = (int64_t)conv->channels_in * conv->bytes, step = conv->stride[1] * pixel;
    int64_t last = column + (count - 1) * conv->stride[1];
    const char *from = task->x + ((int64_t)row * conv->in[1] + column) * pixel;
    if (row >= 0 && row < conv->in[0] && column >= 0 && last + (layout->rows ? conv->kernel[1] : 1) <= conv->in[1] &&
        from + (count - 1) * step + 4 * layout->tap_steps <= task->x_end) {
        for (int64_t i = 0; i < count; i++)
            to[i] = from + i * step;
        return;
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = tap_at(task, row, column + (int)i * conv->stride[1], gathered);
}

static void point_chunk(const RunTask *task, int64_t begin, Workspace *work)
{
    const ConvInt *conv = task->conv;
    const IntLayout *layout = &task->layout;
    int columns = layout->rows ? 1 : conv->kernel[1];
    char *gathered = work->gathered;
    Position at = position_of(conv, begin);
    for (int tile = 0; tile < work->tiles; tile++) {
        const char **to = work->pointers + tile * layout->taps * I_ROWS;
        int64_t rows = work->begins[tile + 1] - work->begins[tile];
        for (int64_t r = 0, count; r < rows; r += count) {
            const char **tap = to + r;
            int row = at.row * conv->stride[0] - conv->pad[0], column = at.column * conv->stride[1] - conv->pad[1];
            count = least(rows - r, conv->out[1] - at.column);
            for (int i = 0; i < conv->kernel[0]; i++, row += conv->dilation[0])
                for (int j = 0; j < columns; j++, tap += I_ROWS)
                    point_run(task, row, column + j * conv->dilation[1], count, tap, &gathered);
            at.column += (int)count;
            if (at.column == conv->out[1]) at = (Position){at.row + 1, 0};
        }
    }
}

static int64_t square_sum(const char *x, int64_t bytes)
{
    __m256i sum = _mm256_setzero_si256();
    int64_t i = 0, total = 0;
    for (; i + 16 <= bytes; i += 16) {
        __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x + i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, wide));
    }
    int32_t lanes[8];
    _mm256_storeu_si256((__m256i *)lanes, sum);
    for (int lane = 0; lane < 8; lane++)
        total += lanes[lane];
    for (; i < bytes; i++)
        total += (int8_t)x[i] * (int8_t)x[i];
    return total;
}

/* The largest sum of squares of a pixel of each tile. */
static void measure_chunk(const RunTask *task, Workspace *work)
{
    int taps = task->layout.taps;
    for (int tile = 0; tile < work->tiles; tile++) {
        const char **from = work->pointers + tile * taps * I_ROWS;
        int64_t rows = work->begins[tile + 1] - work->begins[tile], largest = 0;
        for (int64_t r = 0; r < rows; r++) {
            int64_t sum = 0;
            for (int tap = 0; tap < taps; tap++)
                sum += square_sum(from[tap * I_ROWS + r], 4 * (int64_t)task->layout.tap_steps);
            if (sum > largest) largest = sum;
        }
        work->norms[tile] = (float)largest;
    }
}

/* Each byte of x as the half of a word that meets its weight (weights_even, weights_odd), the other half 0. */
static void spread_words(const TileCall *call, int rows, int32_t *words)
{
    for (int tap = 0; tap < call->taps; tap++) {
        for (int64_t k = 0; k < 4 * (int64_t)call->steps; k++, words += I_ROWS) {
            for (int r = 0; r < rows; r++) {
                uint32_t half = (uint16_t)((int8_t)call->pixels[tap * I_ROWS + r][k] * (INT_VNNI ? 16 : 1));
                words[r] = (int32_t)(k & 2 ? half << 16 : half);
            }
        }
    }
}

static ConvInt own_conv(const RunTask *task, const void **weights)
{
    ConvInt own = *task->conv;
    plain_unpack(&own, task->packed + task->layout.own, weights);
    return own;
}

/* Vectors of a block of which this tile may leave the accumulators. */
static void redo_tile(const RunTask *task, const IntBlock *block, const TileCall *call, int64_t begin, int rows, float norm,
                      Workspace *work)
{
    const float *limits = (const float *)(const void *)(task->packed + task->layout.limit) + block->constants;
    bool spread = false;
    for (int v = 0; v < block->vectors; v++) {
        float limit = limits[v * block->lanes];
        int first = v * block->lanes, count = block->count - first < block->lanes ? block->count - first : block->lanes;
        if (limit >= norm) continue;
        if (limit < 0) {
            const void *weights;
            ConvInt own = own_conv(task, &weights);
            conv_int_define(&own, task->x, weights, task->y, begin, begin + rows, block->channel + first, block->channel + first + count);
            continue;
        }
        if (!spread) spread_words(call, rows, work->words);
        spread = true;
        TileCall one = *call;
        size_t constants = (block->constants + (size_t)first) * 4;
        one.words = work->words;
        one.weights += (size_t)first * QUAD_BYTES;
        one.weights_step = (int64_t)block->vectors * block->lanes * QUAD_BYTES;
        one.start = NULL;
        one.shift = task->packed + task->layout.shift + constants;
        one.low = task->packed + task->layout.low + constants;
        one.bias = task->packed + task->layout.bias + constants;
        one.round = task->packed + task->layout.round + constants;
        one.y += first;
        one.count = count;
        tiles_of_block(block)[rows - 1].emulated(&one);
    }
}

static void run_block(const RunTask *task, const IntBlock *block, int64_t begin, Workspace *work)
{
    const ConvInt *conv = task->conv;
    const IntLayout *layout = &task->layout;
    size_t constant = conv->bytes == 1 ? 4 : 8;
    const float *limits = (const float *)(const void *)(task->packed + layout->limit) + block->constants;
    float limit = limits[0];
    for (int v = 1; v < block->vectors; v++)
        if (limits[v * block->lanes] < limit) limit = limits[v * block->lanes];
    TileCall call = {.taps = layout->taps,
                     .steps = layout->tap_steps,
                     .weights = task->packed + block->weights,
                     .start = task->packed + layout->start + block->constants * constant,
                     .shift = task->packed + layout->shift + block->constants * constant,
                     .low = task->packed + layout->low + block->constants * constant,
                     .y_row = (int64_t)conv->channels_out * conv->bytes,
                     .count = block->count,
                     .floor = task->floor};
    for (int tile = 0; tile < work->tiles; tile++) {
        int64_t first = work->begins[tile];
        int rows = work->begins[tile + 1] - work->begins[tile];
        const TileRow *row = &tiles_of_block(block)[rows - 1];
        call.pixels = work->pointers + tile * call.taps * I_ROWS;
        call.y = task->y + (begin + first) * call.y_row + (int64_t)block->channel * conv->bytes;
        (conv->bytes == 1 ? row->bytes : row->words)[block->vectors - 1](&call);
        if (!task->proven && limit < work->norms[tile]) redo_tile(task, block, &call, begin + first, rows, work->norms[tile], work);
    }
}

static bool all_limits_hold(const RunTask *task)
{
    IntBlock block = {0};
    const float *limits = (const float *)(const void *)(task->packed + task->layout.limit);
    while (int_next_block(&form, &task->layout, task->conv, &block))
        for (int v = 0; v < block.vectors; v++)
            if (!isinf(limits[block.constants + (size_t)(v * block.lanes)])) return false;
    return true;
}

static int block_count(const RunTask *task)
{
    int count = 0;
    for (IntBlock block = {0}; int_next_block(&form, &task->layout, task->conv, &block);)
        count++;
    return count;
}

static void dense_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const RunTask *task = context;
    Workspace work;
    int64_t pointed = -1;
    for (int64_t item = begin; item < end; item++) {
        int64_t chunk = item / task->groups, group = item % task->groups;
        int64_t first = task->pixels * chunk / task->chunks, pixels = task->pixels * (chunk + 1) / task->chunks - first;
        if (chunk != pointed) {
            cut_chunk((int)pixels, &work);
            point_chunk(task, first, &work);
            if (!task->proven) measure_chunk(task, &work);
            pointed = chunk;
        }
        IntBlock block = {0};
        for (int64_t i = 0; int_next_block(&form, &task->layout, task->conv, &block); i++)
            if (i >= task->blocks * group / task->groups && i < task->blocks * (group + 1) / task->groups)
                run_block(task, &block, first, &work);
    }
}

/* What a block of channels and a run of pixels have in common. */
static DepthwiseCall depthwise_call(const RunTask *task, const IntBlock *block, int64_t first, int count)
{
    const ConvInt *conv = task->conv;
    const IntLayout *layout = &task->layout;
    size_t constants = block->constants * (conv->bytes == 1 ? 4 : 8);
    DepthwiseCall call = {.count = count,
                          .groups = depthwise_slots(conv) * conv->bytes / 4,
                          .channel = block->channel,
                          .channels = block->count,
                          .weights = task->packed + block->weights,
                          .start = task->packed + layout->start + constants,
                          .shift = task->packed + layout->shift + constants,
                          .low = task->packed + layout->low + constants,
                          .y_row = (int64_t)conv->channels_out * conv->bytes,
                          .floor = task->floor};
    call.y = task->y + first * call.y_row + (int64_t)block->channel * conv->bytes;
    return call;
}

/* Where the taps of a pixel are, each in its slot. */
static void depthwise_point(const RunTask *task, Position at, const char **to)
{
    const ConvInt *conv = task->conv;
    const int64_t pixel = (int64_t)conv->channels_in * conv->bytes;
    int slots = depthwise_slots(conv);
    for (int slot = 0; slot < slots; slot++) {
        int tap = depthwise_tap(conv, slot);
        int r = at.row * conv->stride[0] - conv->pad[0] + tap / conv->kernel[1] * conv->dilation[0],
            c = at.column * conv->stride[1] - conv->pad[1] + tap % conv->kernel[1] * conv->dilation[1];
        bool inside = tap >= 0 && r >= 0 && r < conv->in[0] && c >= 0 && c < conv->in[1];
        to[slot] = inside ? task->x + ((int64_t)r * conv->in[1] + c) * pixel : task->packed + task->layout.zeros;
    }
}

static void depthwise_pixels(const RunTask *task, int64_t first, int64_t last)
{
    const ConvInt *conv = task->conv;
    const char *pointers[INT_TAP_POINTERS];
    int slots = depthwise_slots(conv);
    Position at = position_of(conv, first);
    for (int64_t pixel = first; pixel < last; pixel++, advance(conv, &at))
        depthwise_point(task, at, pointers + (pixel - first) * slots);
    for (IntBlock block = {0}; int_next_block(&form, &task->layout, conv, &block);) {
        DepthwiseCall call = depthwise_call(task, &block, first, (int)(last - first));
        call.pixels = pointers;
        depthwise_run(&block, conv->bytes, &call);
    }
}

/* A row of outputs of a 3 x 3 kernel: those that see all of their columns go pair by pair. */
static void depthwise_line(const RunTask *task, int row)
{
    const ConvInt *conv = task->conv;
    int stride = conv->stride[1], begin = (conv->pad[1] + stride - 1) / stride, end = 0;
    /* A pair at stride 1 reads four columns, at stride 2 five; both are columns of its own outputs. */
    if (conv->in[1] + conv->pad[1] >= 3) end = (conv->in[1] + conv->pad[1] - 3) / stride + 1;
    if (end > conv->out[1]) end = conv->out[1];
    int64_t first = (int64_t)row * conv->out[1];
    if (end - begin < 2) {
        depthwise_pixels(task, first, first + conv->out[1]);
        return;
    }
    if (begin > 0) depthwise_pixels(task, first, first + begin);
    if (end < conv->out[1]) depthwise_pixels(task, first + end, first + conv->out[1]);
    for (IntBlock block = {0}; int_next_block(&form, &task->layout, conv, &block);) {
        DepthwiseCall call = depthwise_call(task, &block, first + begin, end - begin);
        for (int i = 0; i < 3; i++) {
            int r = row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0];
            bool inside = r >= 0 && r < conv->in[0];
            call.column[i] = inside ? conv->channels_in : 0;
            call.row[i] = inside ? task->x + ((int64_t)r * conv->in[1] + begin * stride - conv->pad[1]) * conv->channels_in
                                 : task->packed + task->layout.zeros;
        }
        depthwise_run_row(&block, &call, stride);
    }
}

static void depthwise_unknown(const RunTask *task, int64_t first, int64_t last)
{
    const float *limits = (const float *)(const void *)(task->packed + task->layout.limit);
    for (IntBlock block = {0}; int_next_block(&form, &task->layout, task->conv, &block);) {
        bool unknown = false;
        for (int v = 0; v < block.vectors; v++)
            unknown |= limits[block.constants + (size_t)(v * block.lanes)] < 0;
        if (!unknown) continue;
        const void *weights;
        ConvInt own = own_conv(task, &weights);
        conv_int_define(&own, task->x, weights, task->y, first, last, block.channel, block.channel + block.count);
    }
}

static bool in_pairs(const ConvInt *conv)
{
    int channels = NARROW ? 4 * v_LANES / 2 : 4 * v_LANES;
    return conv->bytes == 1 && conv->kernel[0] == 3 && conv->kernel[1] == 3 && conv->dilation[1] == 1 && conv->stride[1] <= 2 &&
           conv->channels_out >= channels;
}

static void depthwise_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const RunTask *task = context;
    const ConvInt *conv = task->conv;
    bool pairs = in_pairs(conv);
    int64_t each = least(INT_CHUNK_PIXELS / 2, INT_TAP_POINTERS / depthwise_slots(conv));
    for (int64_t row = begin; row < end; row++) {
        int64_t first = row * conv->out[1], last = first + conv->out[1];
        if (pairs)
            depthwise_line(task, (int)row);
        else
            for (int64_t pixel = first; pixel < last; pixel += each)
                depthwise_pixels(task, pixel, least(pixel + each, last));
        if (!task->proven) depthwise_unknown(task, first, last);
    }
}

static void run(const ConvInt *conv, const void *x, const void *packed, void *y)
{
    RunTask task = {.conv = conv, .layout = int_layout(&form, conv), .x = x, .packed = packed, .y = y};
    if (!task.layout.possible) {
        int_kernels_plain.run(conv, x, packed, y);
        return;
    }
    const IntLayout *layout = &task.layout;
    ConvInt flat = *conv; /* pixels that see only themselves need no rows */
    if (!conv->depthwise && conv->kernel[0] == 1 && conv->kernel[1] == 1 && conv->stride[0] == 1 && conv->stride[1] == 1 &&
        conv->pad[0] == 0 && conv->pad[1] == 0 && conv->in[0] == conv->out[0] && conv->in[1] == conv->out[1]) {
        flat.in[0] = flat.out[0] = 1;
        flat.in[1] = flat.out[1] = conv->in[0] * conv->in[1];
    }
    task.conv = &flat;
    task.x_end = task.x + (int64_t)conv->in[0] * conv->in[1] * conv->channels_in * conv->bytes;
    task.pixels = (int64_t)conv->out[0] * conv->out[1];
    task.proven = all_limits_hold(&task);
    task.blocks = block_count(&task);
    task.floor = conv->relu ? 0 : conv->bytes == 1 ? -128 : -32768;
    if (conv->depthwise) {
        threads_for(conv->out[0], 1, depthwise_body, &task);
        return;
    }
    int64_t taps = layout->taps, pixel_bytes = taps * layout->tap_steps * 4;
    int64_t each = least(INT_CHUNK_PIXELS, INT_CHUNK_BYTES / pixel_bytes / I_ROWS * I_ROWS);
    each = least(each < I_ROWS ? I_ROWS : each, INT_TAP_POINTERS / (taps * I_ROWS) * I_ROWS);
    task.chunks = (task.pixels + each - 1) / each;
    task.groups = 1;
    if (task.chunks < 4) task.groups = (int)least((4 + task.chunks - 1) / task.chunks, task.blocks);
    threads_for(task.chunks * task.groups, 1, dense_body, &task);
}
