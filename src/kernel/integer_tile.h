/* Register tiles of dense convolutions: up to I_ROWS pixels times up to I_VECTORS vectors of channels (at 16 bits half as many), summed,
 * rounded and stored. A template over I(name), I_LANES, I_ROWS and I_VECTORS. */

static inline __attribute__((always_inline)) void I(tile_bytes)(const TileCall *call, const int rows, const int vectors)
{
    I(Ints) sum[I_ROWS][I_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = I(load)((const int32_t *)call->start + v * I_LANES);
    const char *w = call->weights;
    const char *const *at = call->pixels;
    for (int tap = call->taps; tap > 0; tap--, at += I_ROWS) {
        const char *x[I_ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            x[r] = at[r];
        const int64_t end = 4 * (int64_t)call->steps;
        for (int64_t k = 0; k < end; k += 4) {
            I(Quad) right[I_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                right[v] = I(quad_weights)(w + v * I_LANES * QUAD_BYTES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                I(Quad) left = I(quad_spread)(x[r] + k);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[r][v] = I(dot)(sum[r][v], left, right[v]);
            }
            w += vectors * I_LANES * QUAD_BYTES;
        }
    }
    I(Ints) floor = I(floor_bytes)(call->floor);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        I(Ints) q[4] = {I(zero)(), I(zero)(), I(zero)(), I(zero)()};
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            q[v] =
                I(round)(sum[r][v], I(load)((const int32_t *)call->shift + v * I_LANES), I(load)((const int32_t *)call->low + v * I_LANES));
        I(store_bytes)(call->y + r * call->y_row, call->count, q, floor);
    }
}

/* The sums of products with the high and the low bytes of x apart: 64 steps of two fit 32 bits, then both go into sums of 64 bits. */
static inline __attribute__((always_inline)) void I(tile_words)(const TileCall *call, const int rows, const int vectors)
{
    I(Ints) high[I_ROWS][I_VECTORS / 2], low[I_ROWS][I_VECTORS / 2];
    int64_t wide[I_ROWS][I_VECTORS / 2][I_LANES];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            high[r][v] = low[r][v] = I(zero)();
    const char *w = call->weights;
    const char *const *at = call->pixels;
    int room = 64;
    bool spilled = false;
    for (int tap = call->taps; tap > 0; tap--, at += I_ROWS) {
        const char *x[I_ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            x[r] = at[r];
        for (int left = call->steps; left > 0;) {
            if (room == 0) {
                for (int r = 0; r < rows; r++) {
                    for (int v = 0; v < vectors; v++) {
                        I(Wide) before = I(wide_load)(spilled ? wide[r][v] : (const int64_t *)call->start + v * I_LANES);
                        I(wide_store)(wide[r][v], I(wide_add)(before, high[r][v], low[r][v]));
                        high[r][v] = low[r][v] = I(zero)();
                    }
                }
                spilled = true;
                room = 64;
            }
            int steps = left < room ? left : room;
            const int64_t end = 4 * (int64_t)steps;
            for (int64_t k = 0; k < end; k += 4) {
                I(Ints) right[I_VECTORS / 2];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    right[v] = I(load)(w + v * I_LANES * 4);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    int32_t pair;
                    memcpy(&pair, x[r] + k, sizeof pair);
                    I(Ints) both = I(all)(pair), h = I(high_bytes)(both), l = I(low_bytes)(both);
#pragma GCC unroll 2
                    for (int v = 0; v < vectors; v++) {
                        high[r][v] = I(pairs)(high[r][v], h, right[v]);
                        low[r][v] = I(pairs)(low[r][v], l, right[v]);
                    }
                }
                w += vectors * I_LANES * 4;
            }
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                x[r] += end;
            left -= steps;
            room -= steps;
        }
    }
    I(Ints) floor = I(floor_words)(call->floor);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        I(Ints) q[2] = {I(zero)(), I(zero)()};
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            I(Wide) before = I(wide_load)(spilled ? wide[r][v] : (const int64_t *)call->start + v * I_LANES);
            q[v] = I(wide_round)(I(wide_add)(before, high[r][v], low[r][v]), (const int64_t *)call->shift + v * I_LANES,
                                 (const int64_t *)call->low + v * I_LANES);
        }
        I(store_words)(call->y + r * call->y_row, 2 * call->count, q, floor);
    }
}

/* One vector of saturating lanes: one product a time, in order. Words: 32 bits a product, pixels beside each other (see emulation_word). */
static inline __attribute__((always_inline)) void I(tile_emulated)(const TileCall *call, const int rows)
{
    I(Ints) sum[I_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sum[r] = I(saturating_start)(I(load)(call->bias));
    const char *w = call->weights;
    const int32_t *x = call->words;
    for (int64_t step = (int64_t)call->taps * call->steps; step > 0; step--) {
        I(Ints) even = I(weights_even)(w), odd = I(weights_odd)(w);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r] = I(saturating_pairs)(sum[r], I(all)(x[j * I_ROWS + r]), j & 1 ? odd : even);
        w += call->weights_step;
        x += 4 * I_ROWS;
    }
    I(Ints) floor = I(floor_bytes)(call->floor), round = I(load)(call->round), shift = I(load)(call->shift), low = I(load)(call->low);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        I(Ints) q[4] = {I(zero)(), I(zero)(), I(zero)(), I(zero)()};
        q[0] = I(round)(I(add)(I(saturating_end)(sum[r]), round), shift, low);
        I(store_bytes)(call->y + r * call->y_row, call->count, q, floor);
    }
}

#define TILE(kind, rows, vectors)                                                                                                          \
    static void I(tile_##kind##_##rows##_##vectors)(const TileCall *call)                                                                  \
    {                                                                                                                                      \
        I(tile_##kind)(call, rows, vectors);                                                                                               \
    }
#define TILE_EMULATED(rows)                                                                                                                \
    static void I(tile_emulated_##rows)(const TileCall *call)                                                                              \
    {                                                                                                                                      \
        I(tile_emulated)(call, rows);                                                                                                      \
    }
#if I_VECTORS == 4
#define TILE_ROW(rows)                                                                                                                     \
    TILE(bytes, rows, 1)                                                                                                                   \
    TILE(bytes, rows, 2) TILE(bytes, rows, 3) TILE(bytes, rows, 4) TILE(words, rows, 1) TILE(words, rows, 2) TILE_EMULATED(rows)
#define TILE_NAMES(rows)                                                                                                                   \
    {                                                                                                                                      \
        {I(tile_bytes_##rows##_1), I(tile_bytes_##rows##_2), I(tile_bytes_##rows##_3), I(tile_bytes_##rows##_4)},                          \
            {I(tile_words_##rows##_1), I(tile_words_##rows##_2)}, I(tile_emulated_##rows)                                                  \
    }
#else
#define TILE_ROW(rows) TILE(bytes, rows, 1) TILE(bytes, rows, 2) TILE(words, rows, 1) TILE_EMULATED(rows)
#define TILE_NAMES(rows)                                                                                                                   \
    {                                                                                                                                      \
        {I(tile_bytes_##rows##_1), I(tile_bytes_##rows##_2)}, {I(tile_words_##rows##_1)}, I(tile_emulated_##rows)                          \
    }
#endif

TILE_ROW(1)
TILE_ROW(2)
TILE_ROW(3)
TILE_ROW(4)
#if I_ROWS == 6
TILE_ROW(5)
TILE_ROW(6)
static const TileRow I(tiles)[I_ROWS] = {TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3), TILE_NAMES(4), TILE_NAMES(5), TILE_NAMES(6)};
#else
static const TileRow I(tiles)[I_ROWS] = {TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3), TILE_NAMES(4)};
#endif

#undef TILE
#undef TILE_EMULATED
#undef TILE_ROW
#undef TILE_NAMES
