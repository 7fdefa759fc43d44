/* Register tiles of dense convolutions: up to I_ROWS pixels times up to I_VECTORS vectors of channels (at 16 bits half as many), summed,
 * rounded and stored. A template over I(name), I_LANES, I_ROWS and I_VECTORS. */

/* Sums are named variables, not arrays, so that any compiler keeps them in registers; those beyond `rows` and `vectors` (constants after
 * inlining) are never used. KEEP marks them as new behind the loops: gcc else spills them inside, since what follows needs registers. */
#define EACH_VECTOR(what, r) what(r, 0) what(r, 1) what(r, 2) what(r, 3)
#define EACH_ROW(what) what(0) what(1) what(2) what(3) what(4) what(5)
#define EACH(what)                                                                                                                         \
    EACH_VECTOR(what, 0) EACH_VECTOR(what, 1) EACH_VECTOR(what, 2) EACH_VECTOR(what, 3) EACH_VECTOR(what, 4) EACH_VECTOR(what, 5)
#define KEEP(vector) __asm__("" : "+" I_REGISTER(vector))
#define ALWAYS static inline __attribute__((always_inline))

#define PIXEL(r) const char *x##r = at[r < rows ? r : 0];

ALWAYS I(Ints) I(round_bytes)(const TileCall *call, I(Ints) sum, int vector)
{
    return I(round)(sum, I(load)((const int32_t *)call->shift + vector * I_LANES), I(load)((const int32_t *)call->low + vector * I_LANES));
}

ALWAYS void I(tile_bytes)(const TileCall *call, const int rows, const int vectors)
{
#define START(r, v) I(Ints) sum##r##v = r < rows && v < vectors ? I(load)((const int32_t *)call->start + v * I_LANES) : I(zero)();
    EACH(START)
    const char *w = call->weights;
    const char *const *at = call->pixels;
    const int64_t end = 4 * (int64_t)call->steps;
    int tap = call->taps;
    do {
        EACH_ROW(PIXEL)
        int64_t k = 0;
        do {
#define WEIGHTS(v) I(Quad) right##v = I(quad_weights)(w + (v < vectors ? v : 0) * I_LANES * QUAD_BYTES);
#define DOT(r, v)                                                                                                                          \
    if (v < vectors) sum##r##v = I(dot)(sum##r##v, left, right##v);
#define DOT_ROW(r)                                                                                                                         \
    if (r < rows) {                                                                                                                        \
        I(Quad) left = I(quad_spread)(x##r + k);                                                                                           \
        EACH_VECTOR(DOT, r)                                                                                                                \
    }
            WEIGHTS(0) WEIGHTS(1) WEIGHTS(2) WEIGHTS(3) EACH_ROW(DOT_ROW) w += vectors * I_LANES * QUAD_BYTES;
            k += 4;
        } while (k < end);
        at += I_ROWS;
    } while (--tap > 0);
#define HOLD(r, v)                                                                                                                         \
    if (r < rows && v < vectors) KEEP(sum##r##v);
    EACH(HOLD)
    I(Ints) floor = I(floor_bytes)(call->floor);
#define ROUND(r, v) v < vectors ? I(round_bytes)(call, sum##r##v, v) : I(zero)()
#define STORE(r)                                                                                                                           \
    if (r < rows) {                                                                                                                        \
        I(Ints) q[4] = {ROUND(r, 0), ROUND(r, 1), ROUND(r, 2), ROUND(r, 3)};                                                               \
        I(store_bytes)(call->y + r * call->y_row, call->count, q, floor);                                                                  \
    }
    EACH_ROW(STORE)
#undef START
#undef WEIGHTS
#undef DOT
#undef DOT_ROW
#undef HOLD
#undef ROUND
#undef STORE
}

/* The sums of products with the high and the low bytes of x apart: 64 steps of two fit 32 bits, then both go into sums of 64 bits. */
ALWAYS void I(tile_words)(const TileCall *call, const int rows, const int vectors)
{
    int64_t wide[I_ROWS][2][I_LANES];
    const int64_t *start = call->start, *shift = call->shift, *low = call->low;
#define ZERO(r) I(Ints) high##r##0 = I(zero)(), high##r##1 = I(zero)(), low##r##0 = I(zero)(), low##r##1 = I(zero)();
    EACH_ROW(ZERO)
    const char *w = call->weights;
    const char *const *at = call->pixels;
    int room = 64;
    bool spilled = false;
    int tap = call->taps;
    do {
        EACH_ROW(PIXEL)
        int left = call->steps;
        do {
            if (room == 0) {
#define SPILL(r, v)                                                                                                                        \
    if (r < rows && v < vectors) {                                                                                                         \
        I(Wide) before = I(wide_load)(spilled ? wide[r < rows ? r : 0][v] : start + v * I_LANES);                                          \
        I(wide_store)(wide[r < rows ? r : 0][v], I(wide_add)(before, high##r##v, low##r##v));                                              \
        high##r##v = low##r##v = I(zero)();                                                                                                \
    }
#define SPILL_ROW(r) SPILL(r, 0) SPILL(r, 1)
                EACH_ROW(SPILL_ROW)
                spilled = true;
                room = 64;
            }
            int steps = left < room ? left : room;
            const int64_t end = 4 * (int64_t)steps;
            int64_t k = 0;
            do {
#define DOT_ROW(r)                                                                                                                         \
    if (r < rows) {                                                                                                                        \
        int32_t pair;                                                                                                                      \
        memcpy(&pair, x##r + k, sizeof pair);                                                                                              \
        I(Ints) both = I(all)(pair), h = I(high_bytes)(both), l = I(low_bytes)(both);                                                      \
        high##r##0 = I(pairs)(high##r##0, h, right0);                                                                                      \
        low##r##0 = I(pairs)(low##r##0, l, right0);                                                                                        \
        if (vectors > 1) high##r##1 = I(pairs)(high##r##1, h, right1);                                                                     \
        if (vectors > 1) low##r##1 = I(pairs)(low##r##1, l, right1);                                                                       \
    }
                I(Ints) right0 = I(load)(w), right1 = vectors > 1 ? I(load)(w + I_LANES * 4) : right0;
                EACH_ROW(DOT_ROW)
                w += vectors * I_LANES * 4;
                k += 4;
            } while (k < end);
#define ADVANCE(r) x##r += end;
            EACH_ROW(ADVANCE)
            left -= steps;
            room -= steps;
        } while (left > 0);
        at += I_ROWS;
    } while (--tap > 0);
#define HOLD(r, v)                                                                                                                         \
    if (r < rows && v < vectors) {                                                                                                         \
        KEEP(high##r##v);                                                                                                                  \
        KEEP(low##r##v);                                                                                                                   \
    }
#define HOLD_ROW(r) HOLD(r, 0) HOLD(r, 1)
    EACH_ROW(HOLD_ROW)
    I(Ints) floor = I(floor_words)(call->floor);
#define ROUND(r, v)                                                                                                                        \
    I(wide_round)                                                                                                                          \
    (I(wide_add)(I(wide_load)(spilled ? wide[r < rows ? r : 0][v] : start + v * I_LANES), high##r##v, low##r##v), shift + v * I_LANES,     \
     low + v * I_LANES)
#define STORE(r)                                                                                                                           \
    if (r < rows) {                                                                                                                        \
        I(Ints) q[2] = {ROUND(r, 0), vectors > 1 ? ROUND(r, 1) : I(zero)()};                                                               \
        I(store_words)(call->y + r * call->y_row, 2 * call->count, q, floor);                                                              \
    }
    EACH_ROW(STORE)
#undef ZERO
#undef SPILL
#undef SPILL_ROW
#undef DOT_ROW
#undef ADVANCE
#undef HOLD
#undef HOLD_ROW
#undef ROUND
#undef STORE
}

/* One vector of saturating lanes: one product a time, in order. Words: 32 bits a product, pixels beside each other (see spread_words). */
ALWAYS void I(tile_emulated)(const TileCall *call, const int rows)
{
    I(Ints) start = I(saturating_start)(I(load)(call->bias));
#define START(r) I(Ints) sum##r = start;
    EACH_ROW(START)
    const char *w = call->weights;
    const int32_t *x = call->words;
    for (int64_t step = (int64_t)call->taps * call->steps; step > 0; step--) {
        I(Ints) even = I(weights_even)(w), odd = I(weights_odd)(w);
#define PAIRS(r, j, weights)                                                                                                               \
    if (r < rows) sum##r = I(saturating_pairs)(sum##r, I(all)(x[j * I_ROWS + r]), weights);
#define PAIRS_ROW(j, weights)                                                                                                              \
    PAIRS(0, j, weights) PAIRS(1, j, weights) PAIRS(2, j, weights) PAIRS(3, j, weights) PAIRS(4, j, weights) PAIRS(5, j, weights)
        PAIRS_ROW(0, even) PAIRS_ROW(1, odd) PAIRS_ROW(2, even) PAIRS_ROW(3, odd) w += call->weights_step;
        x += 4 * I_ROWS;
    }
    I(Ints) floor = I(floor_bytes)(call->floor), round = I(load)(call->round);
#define STORE(r)                                                                                                                           \
    if (r < rows) {                                                                                                                        \
        I(Ints) q[4] = {I(round_bytes)(call, I(add)(I(saturating_end)(sum##r), round), 0), I(zero)(), I(zero)(), I(zero)()};               \
        I(store_bytes)(call->y + r * call->y_row, call->count, q, floor);                                                                  \
    }
    EACH_ROW(STORE)
#undef START
#undef PAIRS
#undef PAIRS_ROW
#undef STORE
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
#undef EACH_VECTOR
#undef EACH_ROW
#undef EACH
#undef ALWAYS
#undef KEEP
#undef PIXEL
