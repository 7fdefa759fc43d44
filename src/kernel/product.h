/* Matrix products by register tiles; b is packed into panels [n / PANEL][k][PANEL], padded with zeros. A template, after tile.h. */

#define ROW_BLOCK 64      /* rows of a that stay in the second cache while the panels of b pass by */
#define SINGLE_PANELS 4   /* panels side by side when a has one row: enough chains to hide the latency */
#define SMALL_WORK 200000 /* multiply-adds below which threads cost more than they save */

static int64_t panels_of(int64_t n)
{
    return (n + PANEL - 1) / PANEL;
}

static size_t matmul_packed_floats(int64_t k, int64_t n)
{
    return (size_t)(panels_of(n) * k * PANEL);
}

typedef struct PackTask {
    const float *from;
    float *packed;
    int64_t depth, count, row_stride, column_stride; /* count: columns of b */
} PackTask;

/* to[i][j] = from[i * 1][j * column_stride]: columns that lie together, eight by eight. */
static void pack_columns(const float *from, int64_t depth, int64_t columns, int64_t column_stride, float *to, int64_t to_row)
{
    int64_t whole_i = depth / 8 * 8, whole_j = columns / 8 * 8;
    for (int64_t j = 0; j < whole_j; j += 8)
        for (int64_t i = 0; i < whole_i; i += 8)
            transpose_8x8(from + j * column_stride + i, column_stride, to + i * to_row + j, to_row);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = j < whole_j ? whole_i : 0; i < depth; i++)
            to[i * to_row + j] = from[j * column_stride + i];
}

static void pack_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const PackTask *task = context;
    int64_t depth = task->depth;
    for (int64_t panel = begin; panel < end; panel++) {
        int64_t first = panel * PANEL, columns = least(PANEL, task->count - first);
        const float *from = task->from + first * task->column_stride;
        float *to = task->packed + panel * depth * PANEL;
        if (task->column_stride == 1) {
            for (int64_t i = 0; i < depth; i++) {
                memcpy(to + i * PANEL, from + i * task->row_stride, (size_t)columns * sizeof *to);
                memset(to + i * PANEL + columns, 0, (size_t)(PANEL - columns) * sizeof *to);
            }
            continue;
        }
        if (columns < PANEL) memset(to, 0, (size_t)(depth * PANEL) * sizeof *to);
        if (task->row_stride == 1) {
            pack_columns(from, depth, columns, task->column_stride, to, PANEL);
            continue;
        }
        for (int64_t i = 0; i < depth; i++)
            for (int64_t j = 0; j < columns; j++)
                to[i * PANEL + j] = from[i * task->row_stride + j * task->column_stride];
    }
}

#define PACK_GRAIN 65536 /* floats that are worth a thread */

static void matmul_pack(int64_t k, int64_t n, const float *b, int64_t row_stride, int64_t column_stride, float *packed)
{
    PackTask task = {b, packed, k, n, row_stride, column_stride};
    threads_for(panels_of(n), PACK_GRAIN / (k * PANEL + 1) + 1, pack_body, &task);
}

typedef struct MatmulTask {
    const MatmulF32 *matmul;
    const float *a, *packed, *bias;
    float *c;
    int64_t panels;
} MatmulTask;

/* The bias of a panel; copied where the last one would read behind its end. */
static const float *panel_bias(const float *bias, int64_t first, int64_t columns, float copy[PANEL])
{
    if (!bias) return no_bias;
    if (columns == PANEL) return bias + first;
    memset(copy, 0, PANEL * sizeof *copy);
    memcpy(copy, bias + first, (size_t)columns * sizeof *copy);
    return copy;
}

static void matmul_block(const MatmulTask *task, int64_t row, int64_t rows, int64_t panel)
{
    const MatmulF32 *matmul = task->matmul;
    int64_t first = panel * PANEL, columns = least(PANEL, matmul->n - first);
    const float *b = task->packed + panel * matmul->k * PANEL;
    float copy[PANEL];
    TileCall call = {.a_row = matmul->lda,
                     .b_step = PANEL,
                     .bias = panel_bias(task->bias, first, columns, copy),
                     .c_row = matmul->ldc,
                     .start = START_COLUMNS};
    int64_t k = 0;
    do { /* once for k = 0 as well: c is the bias then */
        call.depth = least(TILE_DEPTH, matmul->k - k);
        call.b = b + k * PANEL;
        for (int64_t r = row; r < row + rows; r += TILE_ROWS) {
            call.a = task->a + r * matmul->lda + k;
            call.c = task->c + r * matmul->ldc + first;
            tile_run(tiles_rows, &call, (int)least(TILE_ROWS, row + rows - r), columns);
        }
        call.start = START_SUM;
        k += TILE_DEPTH;
    } while (k < matmul->k);
}

static void matmul_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const MatmulTask *task = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / task->panels * ROW_BLOCK;
        matmul_block(task, row, least(ROW_BLOCK, task->matmul->m - row), i % task->panels);
    }
}

/* One row of a times SINGLE_PANELS whole panels. */
static void single_row(const MatmulTask *task, int64_t row, int64_t panel)
{
    const MatmulF32 *matmul = task->matmul;
    const float *a = task->a + row * matmul->lda, *b = task->packed + panel * matmul->k * PANEL;
    const float *b1 = b + matmul->k * PANEL, *b2 = b1 + matmul->k * PANEL, *b3 = b2 + matmul->k * PANEL;
    float *c = task->c + row * matmul->ldc + panel * PANEL;
    Floats sum[SINGLE_PANELS][TILE_VECTORS];
#pragma GCC unroll 4
    for (int p = 0; p < SINGLE_PANELS; p++) {
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[p][v] = task->bias ? v_load(task->bias + (panel + p) * PANEL + v * LANES) : v_zero();
    }
    for (int64_t k = 0; k < matmul->k; k++) {
        Floats left = v_all(a[k]);
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++) {
            sum[0][v] = v_fma(left, v_load(b + k * PANEL + v * LANES), sum[0][v]);
            sum[1][v] = v_fma(left, v_load(b1 + k * PANEL + v * LANES), sum[1][v]);
            sum[2][v] = v_fma(left, v_load(b2 + k * PANEL + v * LANES), sum[2][v]);
            sum[3][v] = v_fma(left, v_load(b3 + k * PANEL + v * LANES), sum[3][v]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < SINGLE_PANELS; p++) {
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; v++)
            v_store(c + p * PANEL + v * LANES, sum[p][v]);
    }
}

static void single_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const MatmulTask *task = context;
    int64_t groups = (task->panels + SINGLE_PANELS - 1) / SINGLE_PANELS;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / groups, panel = i % groups * SINGLE_PANELS;
        if ((panel + SINGLE_PANELS) * PANEL <= task->matmul->n) {
            single_row(task, row, panel);
        } else {
            for (; panel < task->panels && panel < (i % groups + 1) * SINGLE_PANELS; panel++)
                matmul_block(task, row, 1, panel);
        }
    }
}

/* Pieces of work a thread takes at once: some for each, so that an unlucky one does not hold up the others. */
static int64_t grain_of(int64_t pieces, double work)
{
    if (work < SMALL_WORK) return pieces;
    int64_t grain = pieces / (8 * (int64_t)threads_count());
    return grain < 1 ? 1 : grain;
}

static void matmul_run(const MatmulF32 *matmul, const float *a, const float *packed, const float *bias, float *c)
{
    MatmulTask task = {matmul, a, packed, bias, c, panels_of(matmul->n)};
    double work = (double)matmul->m * (double)matmul->n * (double)matmul->k;
    if (matmul->m <= 2) {
        int64_t pieces = matmul->m * ((task.panels + SINGLE_PANELS - 1) / SINGLE_PANELS);
        threads_for(pieces, grain_of(pieces, work), single_body, &task);
        return;
    }
    int64_t pieces = (matmul->m + ROW_BLOCK - 1) / ROW_BLOCK * task.panels;
    threads_for(pieces, grain_of(pieces, work), matmul_body, &task);
}
