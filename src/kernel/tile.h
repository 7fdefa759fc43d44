/* Register tiles: c[r][n] = start + sum over k of a[r][k] * b[k][n] for up to TILE_ROWS rows and TILE_VECTORS vectors, one chain of fused
 * multiply-adds an element, in the order of k. A template: included by float32_avx2.c and float32_avx512.c after their simd header. */

#define PANEL (TILE_VECTORS * LANES)

typedef enum {
    START_ROWS,    /* bias[r], the same along a row */
    START_COLUMNS, /* bias[n], PANEL floats are readable */
    START_SUM      /* c itself: the steps of k before these */
} Start;

typedef struct TileCall {
    int64_t depth;
    const float *a;
    const float *next; /* packed and spread tiles: what a later one reads, as much as a is, fetched meanwhile; or a itself */
    int64_t a_row;     /* between rows of a; only for tiles of rows, packed ones have 1 */
    const float *b;
    int64_t b_step;      /* between steps of k in b */
    const int32_t *b_at; /* or where in b each step is; only for spread tiles */
    const float *bias;
    Start start;
    float *c;
    int64_t c_row;
} TileCall;

typedef void Tile(const TileCall *call);

/* a_row, a_step: constants after inlining for packed a (1, TILE_ROWS), a_row at run time for rows (a_step 1). */
static inline __attribute__((always_inline)) void tile(const TileCall *call, const int rows, const int vectors, const int64_t a_row,
                                                       const int64_t a_step, const bool spread)
{
    Floats sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            if (call->start == START_ROWS)
                sum[r][v] = v_all(call->bias[r]);
            else if (call->start == START_COLUMNS)
                sum[r][v] = v_load(call->bias + v * LANES);
            else
                sum[r][v] = v_load(call->c + r * call->c_row + v * LANES);
        }
    }
    const float *a = call->a, *b = call->b;
    const int64_t b_step = call->b_step;
    const int32_t *b_at = call->b_at;
    const float *next = call->next;
    for (int64_t k = call->depth; k > 0; k--) {
        Floats right[TILE_VECTORS];
        if (a_step == TILE_ROWS) {
            __builtin_prefetch(next, 0, 2);
            next += TILE_ROWS;
        }
        const float *from = spread ? b + *b_at++ : b;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            right[v] = v_load(from + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            Floats left = v_all(a[r * a_row]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = v_fma(left, right[v], sum[r][v]);
        }
        a += a_step;
        b += b_step;
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            v_store(call->c + r * call->c_row + v * LANES, sum[r][v]);
    }
}

#define TILE_DEFINE(rows, vectors)                                                                                                         \
    static void tile_packed_##rows##_##vectors(const TileCall *call)                                                                       \
    {                                                                                                                                      \
        tile(call, rows, vectors, 1, TILE_ROWS, false);                                                                                    \
    }                                                                                                                                      \
    static void tile_spread_##rows##_##vectors(const TileCall *call)                                                                       \
    {                                                                                                                                      \
        tile(call, rows, vectors, 1, TILE_ROWS, true);                                                                                     \
    }                                                                                                                                      \
    static void tile_rows_##rows##_##vectors(const TileCall *call)                                                                         \
    {                                                                                                                                      \
        tile(call, rows, vectors, call->a_row, 1, false);                                                                                  \
    }
#define TILE_DEFINE_ROW(rows) TILE_DEFINE(rows, 1) TILE_DEFINE(rows, 2) TILE_DEFINE(rows, 3)
#define TILE_NAMES(kind, rows)                                                                                                             \
    {                                                                                                                                      \
        tile_##kind##_##rows##_1, tile_##kind##_##rows##_2, tile_##kind##_##rows##_3                                                       \
    }

TILE_DEFINE_ROW(1)
TILE_DEFINE_ROW(2)
TILE_DEFINE_ROW(3)
TILE_DEFINE_ROW(4)
#if TILE_ROWS == 8
TILE_DEFINE_ROW(5)
TILE_DEFINE_ROW(6)
TILE_DEFINE_ROW(7)
TILE_DEFINE_ROW(8)
#endif

#if TILE_ROWS == 8
#define TILE_TABLE(kind)                                                                                                                   \
    {                                                                                                                                      \
        TILE_NAMES(kind, 1), TILE_NAMES(kind, 2), TILE_NAMES(kind, 3), TILE_NAMES(kind, 4), TILE_NAMES(kind, 5), TILE_NAMES(kind, 6),      \
            TILE_NAMES(kind, 7), TILE_NAMES(kind, 8)                                                                                       \
    }
#else
#define TILE_TABLE(kind)                                                                                                                   \
    {                                                                                                                                      \
        TILE_NAMES(kind, 1), TILE_NAMES(kind, 2), TILE_NAMES(kind, 3), TILE_NAMES(kind, 4)                                                 \
    }
#endif

/* [rows - 1][vectors - 1]; packed: a is [k][TILE_ROWS]; spread: so, and b_at says where each step of b is; rows: a is [row][k] with
 * a_row between rows. */
static Tile *const tiles_packed[TILE_ROWS][TILE_VECTORS] = TILE_TABLE(packed);
static Tile *const tiles_spread[TILE_ROWS][TILE_VECTORS] = TILE_TABLE(spread);
static Tile *const tiles_rows[TILE_ROWS][TILE_VECTORS] = TILE_TABLE(rows);

static const float no_bias[PANEL];

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int vectors_of(int64_t columns)
{
    return (int)((columns + LANES - 1) / LANES);
}

/* Run a tile whose last vector may reach beyond `columns`: through a copy of c when it does. */
static inline void tile_run(Tile *const tiles[TILE_ROWS][TILE_VECTORS], TileCall *call, int rows, int64_t columns)
{
    int vectors = vectors_of(columns);
    if (columns == vectors * LANES) {
        tiles[rows - 1][vectors - 1](call);
        return;
    }
    float copy[TILE_ROWS * PANEL];
    float *c = call->c;
    int64_t c_row = call->c_row;
    int tail = (int)(columns % LANES);
    int64_t whole = columns / LANES * LANES;
    if (call->start == START_SUM) {
        for (int r = 0; r < rows; r++) {
            for (int64_t n = 0; n < whole; n += LANES)
                v_store(copy + r * PANEL + n, v_load(c + r * c_row + n));
            v_store(copy + r * PANEL + whole, v_load_masked(c + r * c_row + whole, (1u << tail) - 1, v_zero()));
        }
    }
    call->c = copy;
    call->c_row = PANEL;
    tiles[rows - 1][vectors - 1](call);
    call->c = c;
    call->c_row = c_row;
    for (int r = 0; r < rows; r++) {
        for (int64_t n = 0; n < whole; n += LANES)
            v_store(c + r * c_row + n, v_load(copy + r * PANEL + n));
        v_store_first(c + r * c_row + whole, tail, v_load(copy + r * PANEL + whole));
    }
}
