/* Gradient of a depthwise 3 x 3 convolution of stride 2 to its input. Two neighbours of a row of dx, at 2 k and 2 k + 1 counted with the
 * padding, hang on columns k - 1 and k of dy, or on k alone; with rows it is the same. A template, after weight_gradient.h. */

#define STRIDED_WIDTH 4096 /* most columns of dx and its padding */
#define STRIDED_LEAST 40   /* fewer columns of dx are not worth the work around a row */

typedef struct StridedTask {
    const ConvF32 *conv;
    const float *weights, *dy;
    float *dx;
} StridedTask;

static inline Floats strided_columns(const ConvF32 *conv, const float *row, int first)
{
    if (first >= 0 && first + LANES <= conv->out[1]) return v_load(row + first);
    int from = first < 0 ? -first : 0, to = (int)least(conv->out[1] - first, LANES);
    return from < to ? v_load_masked(row + first, lanes_mask(from, to), v_zero()) : v_zero();
}

/* One row of dx with its padding, `rows` (0 to 2) rows of dy times those of the kernel; writes whole vectors. */
static inline __attribute__((always_inline)) void strided_row(const ConvF32 *conv, const int rows, const float *const dy[2],
                                                              const float *const weights[2], int pairs, float *to)
{
    Floats weight[2][3];
#pragma GCC unroll 2
    for (int n = 0; n < rows; n++)
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            weight[n][j] = v_all(weights[n][j]);
    for (int k = 0; k < pairs; k += LANES) {
        Floats even = v_zero(), odd = v_zero();
#pragma GCC unroll 2
        for (int n = 0; n < rows; n++) {
            Floats before = strided_columns(conv, dy[n], k - 1), own = strided_columns(conv, dy[n], k);
            even = v_fma(weight[n][0], own, v_fma(weight[n][2], before, even));
            odd = v_fma(weight[n][1], own, odd);
        }
        v_store(to + (int64_t)2 * k, v_mix_low(even, odd));
        v_store(to + (int64_t)2 * k + LANES, v_mix_high(even, odd));
    }
}

static void strided_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const StridedTask *task = context;
    const ConvF32 *conv = task->conv;
    _Alignas(64) float line[STRIDED_WIDTH + 2 * LANES];
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    int pairs = (conv->pad[1] + conv->in[1] + 1) / 2;
    for (int64_t plane = begin; plane < end; plane++) {
        const float *kernel = task->weights + plane % conv->groups * 9, *dy = task->dy + plane * out_plane;
        for (int y = 0; y < conv->in[0]; y++) {
            const float *rows[2], *weights[2];
            int at = y + conv->pad[0], found = 0;
            for (int i = at % 2 ? 1 : 2; i >= 0; i -= 2) { /* rows of the kernel, from the last to the first */
                int r = (at - i) / 2;
                if (at < i || r >= conv->out[0]) continue;
                rows[found] = dy + (int64_t)r * conv->out[1];
                weights[found++] = kernel + i * 3;
            }
            if (found == 2)
                strided_row(conv, 2, rows, weights, pairs, line);
            else if (found == 1)
                strided_row(conv, 1, rows, weights, pairs, line);
            else
                strided_row(conv, 0, rows, weights, pairs, line);
            memcpy(task->dx + plane * in_plane + (int64_t)y * conv->in[1], line + conv->pad[1], (size_t)conv->in[1] * sizeof *line);
        }
    }
}

static bool strided_gradient_run(const ConvF32 *conv, const float *weights, const float *dy, float *dx)
{
    if (!by_strips(conv) || conv->stride[0] != 2 || conv->channels_in != 1 || conv->channels_out != 1 || conv->in[1] < STRIDED_LEAST ||
        conv->pad[1] + conv->in[1] > STRIDED_WIDTH - LANES)
        return false;
    StridedTask task = {conv, weights, dy, dx};
    int64_t planes = (int64_t)conv->batch * conv->groups;
    threads_for(planes, grain_of(planes, (double)planes * conv->in[0] * conv->in[1] * 9), strided_body, &task);
    return true;
}
