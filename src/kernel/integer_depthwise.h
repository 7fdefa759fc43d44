/* A run of pixels of a depthwise convolution for one block of channels. The bytes of four taps (16 bits: two) are interleaved, so that each
 * 32-bit lane holds those of one channel. A template over I(name) and I_LANES. */

static void I(depthwise_bytes)(const DepthwiseCall *call)
{
    I(Ints) floor = I(floor_bytes)(call->floor);
    const int32_t *start = call->start, *shift = call->shift, *low = call->low;
    const char *const *at = call->pixels;
    char *y = call->y;
    for (int pixel = 0; pixel < call->count; pixel++, y += call->y_row) {
        I(Ints) sum[4], x[4], left[4], a[2], b[2];
        for (int v = 0; v < 4; v++)
            sum[v] = I(load)(start + v * I_LANES);
        const char *w = call->weights;
        for (int group = 0; group < call->groups; group++, at += 4) {
            for (int j = 0; j < 4; j++)
                x[j] = call->channels < 4 * I_LANES ? I(load_first)(at[j] + call->channel, call->channels) : I(load)(at[j] + call->channel);
            I(interleave_bytes)(x[0], x[1], &a[0], &a[1]);
            I(interleave_bytes)(x[2], x[3], &b[0], &b[1]);
            I(interleave_words)(a[0], b[0], &left[0], &left[1]);
            I(interleave_words)(a[1], b[1], &left[2], &left[3]);
            for (int v = 0; v < 4; v++, w += I_LANES * QUAD_BYTES)
                sum[v] = I(dot)(sum[v], I(quad_of)(left[v]), I(quad_weights)(w));
        }
        for (int v = 0; v < 4; v++)
            sum[v] = I(round)(sum[v], I(load)(shift + v * I_LANES), I(load)(low + v * I_LANES));
        I(store_depthwise_bytes)(y, call->channels, sum, floor);
    }
}

static void I(depthwise_words)(const DepthwiseCall *call)
{
    I(Ints) floor = I(floor_words)(call->floor);
    const int64_t *start = call->start, *shift = call->shift, *low = call->low;
    const char *const *at = call->pixels;
    char *y = call->y;
    for (int pixel = 0; pixel < call->count; pixel++, y += call->y_row) {
        I(Ints) h[2] = {I(zero)(), I(zero)()}, l[2] = {I(zero)(), I(zero)()}, x[2], left[2], q[2];
        const char *w = call->weights;
        for (int group = 0; group < call->groups; group++, at += 2) {
            for (int j = 0; j < 2; j++)
                x[j] = call->channels < 2 * I_LANES ? I(load_first)(at[j] + 2 * call->channel, 2 * call->channels)
                                                    : I(load)(at[j] + 2 * call->channel);
            I(interleave_words)(x[0], x[1], &left[0], &left[1]);
            for (int v = 0; v < 2; v++, w += I_LANES * 4) {
                I(Ints) right = I(load)(w);
                h[v] = I(pairs)(h[v], I(high_bytes)(left[v]), right);
                l[v] = I(pairs)(l[v], I(low_bytes)(left[v]), right);
            }
        }
        for (int v = 0; v < 2; v++)
            q[v] = I(wide_round)(I(wide_add)(I(wide_load)(start + v * I_LANES), h[v], l[v]), shift + v * I_LANES, low + v * I_LANES);
        I(store_depthwise_words)(y, 2 * call->channels, q, floor);
    }
}
