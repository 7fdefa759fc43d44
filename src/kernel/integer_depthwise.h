/* A run of pixels of a depthwise convolution for one block of channels. The bytes of four taps (16 bits: two) are interleaved, so that each
 * 32-bit lane holds those of one channel. `whole`: all channels of the block are there. A template over I(name) and I_LANES. */
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS I(Ints) I(tap)(const char *at, const DepthwiseCall *call, int bytes, const bool whole)
{
    return whole ? I(load)(at + call->channel * bytes) : I(load_first)(at + call->channel * bytes, call->channels * bytes);
}

ALWAYS I(Ints) I(depthwise_round)(const DepthwiseCall *call, I(Ints) sum, int vector)
{
    return I(round)(sum, I(load)((const int32_t *)call->shift + vector * I_LANES), I(load)((const int32_t *)call->low + vector * I_LANES));
}

ALWAYS void I(depthwise_store)(const DepthwiseCall *call, int pixel, I(Ints) sum0, I(Ints) sum1, I(Ints) sum2, I(Ints) sum3,
                               const bool whole)
{
    I(Ints)
    q[4] = {I(depthwise_round)(call, sum0, 0), I(depthwise_round)(call, sum1, 1), I(depthwise_round)(call, sum2, 2),
            I(depthwise_round)(call, sum3, 3)};
    I(store_depthwise_bytes)(call->y + pixel * call->y_row, whole ? 4 * I_LANES : call->channels, q, I(floor_bytes)(call->floor));
}

ALWAYS void I(depthwise_run_bytes)(const DepthwiseCall *call, const bool whole)
{
    const int32_t *start = call->start;
    const char *const *at = call->pixels;
    for (int pixel = 0; pixel < call->count; pixel++) {
        I(Ints)
        sum0 = I(load)(start), sum1 = I(load)(start + I_LANES), sum2 = I(load)(start + 2 * I_LANES), sum3 = I(load)(start + 3 * I_LANES);
        const char *w = call->weights;
        int group = call->groups;
        do {
            I(Ints) low01, high01, low23, high23, left0, left1, left2, left3;
            I(interleave_bytes)(I(tap)(at[0], call, 1, whole), I(tap)(at[1], call, 1, whole), &low01, &high01);
            I(interleave_bytes)(I(tap)(at[2], call, 1, whole), I(tap)(at[3], call, 1, whole), &low23, &high23);
            I(interleave_words)(low01, low23, &left0, &left1);
            I(interleave_words)(high01, high23, &left2, &left3);
            sum0 = I(dot)(sum0, I(quad_of)(left0), I(quad_weights)(w));
            sum1 = I(dot)(sum1, I(quad_of)(left1), I(quad_weights)(w + I_LANES * QUAD_BYTES));
            sum2 = I(dot)(sum2, I(quad_of)(left2), I(quad_weights)(w + 2 * I_LANES * QUAD_BYTES));
            sum3 = I(dot)(sum3, I(quad_of)(left3), I(quad_weights)(w + 3 * I_LANES * QUAD_BYTES));
            w += 4 * I_LANES * QUAD_BYTES;
            at += 4;
        } while (--group > 0);
        I(depthwise_store)(call, pixel, sum0, sum1, sum2, sum3, whole);
    }
}

ALWAYS void I(depthwise_run_words)(const DepthwiseCall *call, const bool whole)
{
    const int64_t *start = call->start, *shift = call->shift, *low = call->low;
    const char *const *at = call->pixels;
    for (int pixel = 0; pixel < call->count; pixel++) {
        I(Ints) high0 = I(zero)(), high1 = I(zero)(), low0 = I(zero)(), low1 = I(zero)(), left0, left1;
        const char *w = call->weights;
        int group = call->groups;
        do {
            I(interleave_words)(I(tap)(at[0], call, 2, whole), I(tap)(at[1], call, 2, whole), &left0, &left1);
            I(Ints) right0 = I(load)(w), right1 = I(load)(w + I_LANES * 4);
            high0 = I(pairs)(high0, I(high_bytes)(left0), right0);
            low0 = I(pairs)(low0, I(low_bytes)(left0), right0);
            high1 = I(pairs)(high1, I(high_bytes)(left1), right1);
            low1 = I(pairs)(low1, I(low_bytes)(left1), right1);
            w += 2 * I_LANES * 4;
            at += 2;
        } while (--group > 0);
        I(Ints)
        q[2] = {I(wide_round)(I(wide_add)(I(wide_load)(start), high0, low0), shift, low),
                I(wide_round)(I(wide_add)(I(wide_load)(start + I_LANES), high1, low1), shift + I_LANES, low + I_LANES)};
        I(store_depthwise_words)(call->y + pixel * call->y_row, 2 * (whole ? 2 * I_LANES : call->channels), q, I(floor_words)(call->floor));
    }
}

/* Two outputs beside each other of a 3 x 3 kernel: at stride 1 they share their interleaved columns, the second one's weights move up by one
 * column; at stride 2 they share one column and the middle of the interleaving. */
ALWAYS void I(depthwise_pair)(const DepthwiseCall *call, int first, const int stride)
{
    const int32_t *start = call->start;
    I(Ints)
    sum0 = I(load)(start), sum1 = I(load)(start + I_LANES), sum2 = I(load)(start + 2 * I_LANES), sum3 = I(load)(start + 3 * I_LANES);
    I(Ints) next0 = sum0, next1 = sum1, next2 = sum2, next3 = sum3;
    const char *w = call->weights;
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++, w += 4 * I_LANES * QUAD_BYTES) {
        const int64_t step = call->column[i];
        const char *at = call->row[i] + first * stride * step + call->channel;
        I(Ints) low01, high01, low23, high23, left0, left1, left2, left3;
        I(interleave_bytes)(I(load)(at), I(load)(at + step), &low01, &high01);
        I(interleave_bytes)(I(load)(at + 2 * step), I(load)(at + 3 * step), &low23, &high23);
        I(interleave_words)(low01, low23, &left0, &left1);
        I(interleave_words)(high01, high23, &left2, &left3);
        I(Quad)
        w0 = I(quad_weights)(w), w1 = I(quad_weights)(w + I_LANES * QUAD_BYTES), w2 = I(quad_weights)(w + 2 * I_LANES * QUAD_BYTES),
        w3 = I(quad_weights)(w + 3 * I_LANES * QUAD_BYTES);
        I(Quad) x0 = I(quad_of)(left0), x1 = I(quad_of)(left1), x2 = I(quad_of)(left2), x3 = I(quad_of)(left3);
        sum0 = I(dot)(sum0, x0, w0);
        sum1 = I(dot)(sum1, x1, w1);
        sum2 = I(dot)(sum2, x2, w2);
        sum3 = I(dot)(sum3, x3, w3);
        if (stride == 2) {
            I(Ints) low4, high4;
            I(Ints) last = I(load)(at + 4 * step);
            I(interleave_bytes)(last, last, &low4, &high4);
            I(interleave_words)(low23, low4, &left0, &left1);
            I(interleave_words)(high23, high4, &left2, &left3);
            x0 = I(quad_of)(left0), x1 = I(quad_of)(left1), x2 = I(quad_of)(left2), x3 = I(quad_of)(left3);
        } else {
            w0 = I(quad_later)(w0), w1 = I(quad_later)(w1), w2 = I(quad_later)(w2), w3 = I(quad_later)(w3);
        }
        next0 = I(dot)(next0, x0, w0);
        next1 = I(dot)(next1, x1, w1);
        next2 = I(dot)(next2, x2, w2);
        next3 = I(dot)(next3, x3, w3);
    }
    I(depthwise_store)(call, first, sum0, sum1, sum2, sum3, true);
    I(depthwise_store)(call, first + 1, next0, next1, next2, next3, true);
}

/* At least two outputs in a row; the last pair may overlap the one before it. */
static void I(depthwise_row)(const DepthwiseCall *call, int stride)
{
    for (int pixel = 0; pixel < call->count; pixel += 2) {
        int first = pixel + 2 > call->count ? call->count - 2 : pixel;
        if (stride == 1)
            I(depthwise_pair)(call, first, 1);
        else
            I(depthwise_pair)(call, first, 2);
    }
}

static void I(depthwise_bytes)(const DepthwiseCall *call)
{
    if (call->channels == 4 * I_LANES)
        I(depthwise_run_bytes)(call, true);
    else
        I(depthwise_run_bytes)(call, false);
}

static void I(depthwise_words)(const DepthwiseCall *call)
{
    if (call->channels == 2 * I_LANES)
        I(depthwise_run_words)(call, true);
    else
        I(depthwise_run_words)(call, false);
}
#undef ALWAYS
