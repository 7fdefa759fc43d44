/* The two transforms of Winograd's F(4, 3) along one axis, for the points 0, ±5/8, ±3/2 and infinity: the noise is a fifth of that of
 * the usual 0, ±1, ±2, and all their powers are exact. A template: W(name) names what it defines, W(Number) is the type,
 * W(all)(float) and W(fma)(a, b, c) its operations; plain C and vectors are made from the same text. */

#ifndef WINOGRAD_NEAR
#define WINOGRAD_TILE 4 /* outputs of a tile along an axis */
#define WINOGRAD_POINTS 6
#define WINOGRAD_SUMS (WINOGRAD_POINTS * WINOGRAD_POINTS)
#define WINOGRAD_CHANNELS 256 /* most input channels: what is transformed of a block of tiles stays in the second cache */
#define WINOGRAD_NEAR 0.625f
#define WINOGRAD_FAR 1.5f
#define WINOGRAD_NEAR2 (WINOGRAD_NEAR * WINOGRAD_NEAR)
#define WINOGRAD_FAR2 (WINOGRAD_FAR * WINOGRAD_FAR)
#endif

/* Six inputs x. */
static inline __attribute__((always_inline)) void W(winograd_forward)(const W(Number) x[6], W(Number) to[6])
{
    const W(Number) product = W(all)(WINOGRAD_NEAR2 * WINOGRAD_FAR2), sum = W(all)(-(WINOGRAD_NEAR2 + WINOGRAD_FAR2));
    const W(Number) near2 = W(all)(-WINOGRAD_NEAR2), far2 = W(all)(-WINOGRAD_FAR2);
    W(Number) even = W(fma)(far2, x[2], x[4]), odd = W(fma)(far2, x[1], x[3]);
    to[0] = W(fma)(product, x[0], W(fma)(sum, x[2], x[4]));
    to[1] = W(fma)(W(all)(WINOGRAD_NEAR), odd, even);
    to[2] = W(fma)(W(all)(-WINOGRAD_NEAR), odd, even);
    even = W(fma)(near2, x[2], x[4]);
    odd = W(fma)(near2, x[1], x[3]);
    to[3] = W(fma)(W(all)(WINOGRAD_FAR), odd, even);
    to[4] = W(fma)(W(all)(-WINOGRAD_FAR), odd, even);
    to[5] = W(fma)(product, x[1], W(fma)(sum, x[3], x[5]));
}

/* Six sums, to four outputs. */
static inline __attribute__((always_inline)) void W(winograd_back)(const W(Number) sums[6], W(Number) to[4])
{
    const W(Number) one = W(all)(1.0f), minus = W(all)(-1.0f), zero = W(all)(0.0f);
    W(Number) near_even = W(fma)(one, sums[2], sums[1]), near_odd = W(fma)(minus, sums[2], sums[1]);
    W(Number) far_even = W(fma)(one, sums[4], sums[3]), far_odd = W(fma)(minus, sums[4], sums[3]);
    to[0] = W(fma)(one, far_even, W(fma)(one, near_even, sums[0]));
    to[1] = W(fma)(W(all)(WINOGRAD_FAR), far_odd, W(fma)(W(all)(WINOGRAD_NEAR), near_odd, zero));
    to[2] = W(fma)(W(all)(WINOGRAD_FAR2), far_even, W(fma)(W(all)(WINOGRAD_NEAR2), near_even, zero));
    to[3] = W(fma)(W(all)(WINOGRAD_FAR2 * WINOGRAD_FAR), far_odd, W(fma)(W(all)(WINOGRAD_NEAR2 * WINOGRAD_NEAR), near_odd, sums[5]));
}
