/* Optimizers' updates and soft rounding on vectors, step by step as in update_plain.c. A template, after elementwise.h. */

static void adam_run(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count)
{
    const Floats step = v_all(adam->step), root = v_all(adam->inverse_root), rest1 = v_all(adam->rest1), keep2 = v_all(adam->keep2);
    const Floats rest2 = v_all(adam->rest2), epsilon = v_all(adam->epsilon), shrink = v_all(adam->shrink), decay = v_all(adam->decay);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats value = v_load(values + i), g = v_fma(decay, value, v_load(gradient + i)), first = v_load(m + i);
        first = v_fma(v_sub(g, first), rest1, first);
        Floats second = v_fma(v_mul(g, rest2), g, v_mul(v_load(v + i), keep2));
        v_store(m + i, first);
        v_store(v + i, second);
        Floats moved = v_div(v_mul(step, first), v_fma(v_root(second), root, epsilon));
        v_store(values + i, v_sub(v_mul(value, shrink), moved));
    }
    plain_adam(adam, values + i, m + i, v + i, gradient + i, count - i);
}

static void momentum_run(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count)
{
    const Floats back = v_all(-momentum->rate), keep = v_all(momentum->keep), decay = v_all(momentum->decay);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats value = v_load(values + i), g = v_fma(decay, value, v_load(gradient + i)), moved = g;
        if (m) {
            Floats kept = v_fma(v_load(m + i), keep, g);
            v_store(m + i, kept);
            moved = momentum->nesterov ? v_fma(kept, keep, g) : kept;
        }
        v_store(values + i, v_fma(back, moved, value));
    }
    plain_momentum(momentum, values + i, m ? m + i : NULL, gradient + i, count - i);
}

static void soft_round_run(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count)
{
    const Floats low = v_all(round->minimum), high = v_all(round->maximum), scale = v_all(round->scale), one = v_all(1.0f);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats h = v_clamp(v_fma(v_sigmoid(v_load(v + i)), v_all(1.2f), v_all(-0.1f)), v_zero(), one);
        v_store(y + i, v_mul(v_clamp(v_add(v_load(floors + i), h), low, high), scale));
    }
    plain_soft_round(round, floors + i, v + i, y + i, count - i);
}

static inline Floats v_power(Floats x, int power)
{
    Floats result = v_all(1.0f);
    for (; power > 0; power >>= 1, x = v_mul(x, x))
        if (power & 1) result = v_mul(result, x);
    return result;
}

static void soft_round_gradient_run(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv,
                                    int64_t count)
{
    const Floats low = v_all(round->minimum), high = v_all(round->maximum), scale = v_all(round->scale), one = v_all(1.0f), zero = v_zero();
    const Floats pull = v_all(-2.0f * round->pull * (float)round->power);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats sigmoid = v_sigmoid(v_load(v + i)), h = v_fma(sigmoid, v_all(1.2f), v_all(-0.1f));
        Floats slope = v_mul(v_mul(sigmoid, v_all(1.2f)), v_sub(one, sigmoid)), sum = v_add(v_load(floors + i), h);
        Floats from = v_where_less(sum, low, zero, v_where_less(high, sum, zero, v_mul(v_load(dy + i), scale)));
        if (round->pull != 0.0f) {
            Floats side = v_fma(h, v_all(2.0f), v_all(-1.0f));
            from = v_fma(v_with_sign(v_power(v_abs(side), round->power - 1), side), pull, from);
        }
        v_store(dv + i, v_where_less(h, zero, zero, v_where_less(one, h, zero, v_mul(from, slope))));
    }
    plain_soft_round_gradient(round, floors + i, v + i, dy + i, dv + i, count - i);
}
