/* The public face of gradient.h: convolutions back to the input by the forward kernels, and shares of the rest for threads. */
#include "kernel/gradient.h"

#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/plain.h"

#define GRAIN 32768 /* elements a thread takes at least */

/* ---- convolution to the input ---- */

/* With strides, the inputs whose coordinate is `phase` modulo the stride are reached by every stride-th tap only: a convolution of dy by
 * those taps, from the last to the first. `first` is the least of them, `every` the next one's distance. */
typedef struct PhaseAxis {
    int first, every, taps, count; /* count: inputs of the phase */
    int dilation, pad;
} PhaseAxis;

static int greatest_divisor(int a, int b)
{
    return b ? greatest_divisor(b, a % b) : a;
}

static PhaseAxis phase_axis(const ConvF32 *conv, int axis, int phase)
{
    int stride = conv->stride[axis], dilation = conv->dilation[axis], divisor = greatest_divisor(stride, dilation);
    PhaseAxis found = {.every = stride / divisor, .dilation = dilation / divisor};
    found.count = conv->in[axis] > phase ? (conv->in[axis] - phase + stride - 1) / stride : 0;
    while (found.first < conv->kernel[axis] && (phase + conv->pad[axis] - found.first * dilation) % stride != 0)
        found.first++;
    if (found.first >= conv->kernel[axis]) return found;
    found.taps = (conv->kernel[axis] - 1 - found.first) / found.every + 1;
    found.pad = (found.taps - 1) * found.dilation - (phase + conv->pad[axis] - found.first * dilation) / stride;
    return found;
}

static ConvF32 phase_conv(const ConvF32 *conv, const PhaseAxis axes[2])
{
    ConvF32 back = {.batch = conv->batch, .groups = conv->groups, .channels_in = conv->channels_out, .channels_out = conv->channels_in};
    for (int axis = 0; axis < 2; axis++) {
        back.in[axis] = conv->out[axis];
        back.out[axis] = axes[axis].count;
        back.kernel[axis] = axes[axis].taps;
        back.stride[axis] = 1;
        back.dilation[axis] = axes[axis].dilation;
        back.pad[axis] = axes[axis].pad;
    }
    return back;
}

/* More padding than the kernel reaches over: some of dy belongs to padding alone. Nothing real has it; the plain loops do it. */
static bool reaches_less_than_padding(const ConvF32 *conv)
{
    for (int axis = 0; axis < 2; axis++)
        for (int phase = 0; phase < conv->stride[axis]; phase++) {
            PhaseAxis found = phase_axis(conv, axis, phase);
            if (found.taps && found.count && found.pad < 0) return true;
        }
    return false;
}

static size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t part_bytes(const ConvF32 *back)
{
    return round_up((size_t)back->batch * back->groups * back->channels_out * back->out[0] * back->out[1] * sizeof(float));
}

static bool is_strided(const ConvF32 *conv)
{
    return conv->stride[0] > 1 || conv->stride[1] > 1;
}

/* One channel a group and small strides: phases would be many convolutions of few taps each. dy is spread out instead, with zeros in
 * between, which add nothing, and one convolution without strides goes over it. */
static bool is_spread(const ConvF32 *conv)
{
    return is_strided(conv) && conv->channels_in == 1 && conv->channels_out == 1 && conv->stride[0] <= 2 && conv->stride[1] <= 2;
}

#define SPREAD_FLOATS 131072 /* of spread planes at a time: they stay in the second cache */

/* Of one image, as many groups as are done at a time. */
static ConvF32 spread_conv(const ConvF32 *conv)
{
    ConvF32 back = {.batch = 1, .channels_in = 1, .channels_out = 1};
    for (int axis = 0; axis < 2; axis++) {
        back.in[axis] = (conv->out[axis] - 1) * conv->stride[axis] + 1;
        back.out[axis] = conv->in[axis];
        back.kernel[axis] = conv->kernel[axis];
        back.stride[axis] = 1;
        back.dilation[axis] = conv->dilation[axis];
        back.pad[axis] = (conv->kernel[axis] - 1) * conv->dilation[axis] - conv->pad[axis];
    }
    int64_t together = SPREAD_FLOATS / ((int64_t)back.in[0] * back.in[1]);
    back.groups = together < 8 ? 8 : together > conv->groups ? conv->groups : (int)together;
    if (back.groups > conv->groups) back.groups = conv->groups;
    return back;
}

typedef struct ZerosTask {
    const ConvF32 *conv, *back;
    const float *dy;
    float *to;
} ZerosTask;

static void zeros_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ZerosTask *task = context;
    const ConvF32 *conv = task->conv;
    int64_t wide = task->back->in[1], plane_floats = task->back->in[0] * wide;
    for (int64_t plane = begin; plane < end; plane++) {
        float *to = task->to + plane * plane_floats;
        const float *dy = task->dy + plane * conv->out[0] * conv->out[1];
        memset(to, 0, (size_t)plane_floats * sizeof *to);
        for (int row = 0; row < conv->out[0]; row++, to += conv->stride[0] * wide, dy += conv->out[1])
            for (int column = 0; column < conv->out[1]; column++)
                to[(int64_t)column * conv->stride[1]] = dy[column];
    }
}

static void input_gradient_spread(const ConvF32 *conv, const float *weights, const float *dy, float *dx, char *scratch)
{
    ConvF32 back = spread_conv(conv);
    WeightSteps dense = dense_steps(conv), steps = {dense.group, dense.in, dense.out, -dense.row, -1};
    float *packed = (float *)(void *)scratch, *spread = (float *)(void *)(scratch + round_up(conv_f32_packed_bytes(&back)));
    int64_t planes = (int64_t)conv->batch * conv->groups, out_plane = (int64_t)conv->out[0] * conv->out[1];
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], together = back.groups;
    for (int64_t plane = 0; plane < planes; plane += back.groups) {
        int64_t group = plane % conv->groups;
        back.groups = (int)(conv->groups - group < together ? conv->groups - group : together);
        ZerosTask zeros = {conv, &back, dy + plane * out_plane, spread};
        threads_for(back.groups, GRAIN / ((int64_t)back.in[0] * back.in[1]) + 1, zeros_body, &zeros);
        set_packed_header(packed, kernel_variant(),
                          kernels()->conv_pack(&back, weights + (group + 1) * dense.in - 1, &steps, packed + PACKED_HEADER_FLOATS));
        conv_f32(&back, spread, packed, NULL, dx + plane * in_plane, NULL);
    }
}

/* Packed weights of a phase, and with strides the inputs of two phases. */
size_t conv_f32_input_gradient_scratch_bytes(const ConvF32 *conv)
{
    size_t packed = 64, part = 0;
    if (is_spread(conv)) {
        ConvF32 back = spread_conv(conv);
        return round_up(conv_f32_packed_bytes(&back)) + round_up((size_t)back.groups * back.in[0] * back.in[1] * sizeof(float));
    }
    for (int i = 0; i < conv->stride[0]; i++)
        for (int j = 0; j < conv->stride[1]; j++) {
            PhaseAxis axes[2] = {phase_axis(conv, 0, i), phase_axis(conv, 1, j)};
            if (!axes[0].taps || !axes[1].taps || !axes[0].count || !axes[1].count) continue;
            ConvF32 back = phase_conv(conv, axes);
            if (round_up(conv_f32_packed_bytes(&back)) > packed) packed = round_up(conv_f32_packed_bytes(&back));
            if (part_bytes(&back) > part) part = part_bytes(&back);
        }
    return packed + (is_strided(conv) ? 2 * part : 0);
}

/* Inputs of the phases (row, column) and, with `pairs`, (row, column + 1) to their places. */
typedef struct SpreadTask {
    const ConvF32 *conv;
    const float *from[2]; /* NULL: zeros */
    float *to;
    int row, column, rows, columns[2]; /* of the phases */
    bool pairs;                        /* stride 2: both phases of the columns at once */
} SpreadTask;

static void spread_pairs(const float *even, const float *odd, float *to, int count)
{
    for (int c = 0; c < count; c++) {
        float pair[2] = {even ? even[c] : 0.0f, odd ? odd[c] : 0.0f};
        memcpy(to + (int64_t)2 * c, pair, sizeof pair);
    }
}

static void spread_row(const SpreadTask *task, const float *even, const float *odd, float *to)
{
    int stride = task->conv->stride[1], columns = task->columns[0], both = task->pairs ? task->columns[1] : 0;
    spread_pairs(even, odd, to, both);
    for (int c = both; c < columns; c++)
        to[(int64_t)c * stride] = even ? even[c] : 0.0f;
}

static void spread_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const SpreadTask *task = context;
    const ConvF32 *conv = task->conv;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int r = 0; r < task->rows; r++) {
            const float *parts[2];
            for (int p = 0; p < 2; p++)
                parts[p] = task->from[p] ? task->from[p] + (plane * task->rows + r) * task->columns[p] : NULL;
            spread_row(task, parts[0], parts[1],
                       task->to + (plane * conv->in[0] + task->row + (int64_t)r * conv->stride[0]) * conv->in[1] + task->column);
        }
    }
}

/* Inputs of one phase, to `part`. NULL: no tap reaches them. */
static const float *input_gradient_phase(const ConvF32 *conv, const PhaseAxis axes[2], const float *weights, const float *dy, float *packed,
                                         float *part)
{
    if (!axes[0].taps || !axes[1].taps || !axes[0].count || !axes[1].count) return NULL;
    ConvF32 back = phase_conv(conv, axes);
    WeightSteps dense = dense_steps(conv);
    WeightSteps steps = {dense.group, dense.in, dense.out, -axes[0].every * dense.row, -axes[1].every};
    const float *last =
        weights + (axes[0].first + axes[0].every * (axes[0].taps - 1)) * dense.row + axes[1].first + axes[1].every * (axes[1].taps - 1);
    set_packed_header(packed, kernel_variant(), kernels()->conv_pack(&back, last, &steps, packed + PACKED_HEADER_FLOATS));
    conv_f32(&back, dy, packed, NULL, part, NULL);
    return part;
}

/* All phases of the columns, `together` (1 or 2) at a time. */
static void input_gradient_rows(const ConvF32 *conv, int row, const float *weights, const float *dy, float *dx, char *scratch)
{
    size_t all = conv_f32_input_gradient_scratch_bytes(conv), part = 0;
    int together = conv->stride[1] == 2 ? 2 : 1;
    int64_t planes = (int64_t)conv->batch * conv->groups * conv->channels_in;
    PhaseAxis axes[2] = {phase_axis(conv, 0, row)};
    if (!axes[0].count) return;
    for (int i = 0; i < conv->stride[0]; i++)
        for (int j = 0; j < conv->stride[1]; j++) {
            PhaseAxis own[2] = {phase_axis(conv, 0, i), phase_axis(conv, 1, j)};
            ConvF32 back = phase_conv(conv, own);
            if (own[0].taps && own[1].taps && part_bytes(&back) > part) part = part_bytes(&back);
        }
    for (int column = 0; column < conv->stride[1]; column += together) {
        SpreadTask spread = {.conv = conv, .to = dx, .row = row, .column = column, .rows = axes[0].count, .pairs = together == 2};
        for (int p = 0; p < together; p++) {
            axes[1] = phase_axis(conv, 1, column + p);
            spread.columns[p] = axes[1].count;
            spread.from[p] = input_gradient_phase(conv, axes, weights, dy, (float *)(void *)scratch,
                                                  (float *)(void *)(scratch + all - (size_t)(p + 1) * part));
        }
        int64_t plane = (int64_t)spread.rows * (spread.columns[0] + spread.columns[1]);
        threads_for(planes, GRAIN / (plane + 1) + 1, spread_body, &spread);
    }
}

void conv_f32_input_gradient(const ConvF32 *conv, const float *weights, const float *dy, float *dx, void *scratch)
{
    if (reaches_less_than_padding(conv)) {
        conv_f32_input_gradient_reference(conv, weights, dy, dx);
    } else if (kernels()->strided_gradient && kernels()->strided_gradient(conv, weights, dy, dx)) {
        return;
    } else if (is_spread(conv)) {
        input_gradient_spread(conv, weights, dy, dx, scratch);
    } else if (is_strided(conv)) {
        for (int row = 0; row < conv->stride[0]; row++)
            input_gradient_rows(conv, row, weights, dy, dx, scratch);
    } else {
        PhaseAxis axes[2] = {phase_axis(conv, 0, 0), phase_axis(conv, 1, 0)};
        input_gradient_phase(conv, axes, weights, dy, scratch, dx);
    }
}

void conv_f32_weight_gradient(const ConvF32 *conv, const float *x, const float *dy, float *dw)
{
    kernels()->weight_gradient(conv, x, dy, dw);
}

/* ---- sums ---- */

typedef struct SumTask {
    const Kernels *kernels;
    const float *dy;
    int64_t batch, channels, inner;
    float *sums;
} SumTask;

static void sum_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const SumTask *task = context;
    for (int64_t channel = begin; channel < end; channel++) {
        float total = 0.0f;
        for (int64_t image = 0; image < task->batch; image++) {
            const float *plane = task->dy + (image * task->channels + channel) * task->inner;
            for (int64_t i = 0; i < task->inner; i += GRADIENT_BLOCK) {
                int64_t count = task->inner - i < GRADIENT_BLOCK ? task->inner - i : GRADIENT_BLOCK;
                total += task->kernels->block_sum(plane + i, count);
            }
        }
        task->sums[channel] = total;
    }
}

void channel_sums_f32(const float *dy, int64_t batch, int64_t channels, int64_t inner, float *sums)
{
    SumTask task = {kernels(), dy, batch, channels, inner, sums};
    threads_for(channels, GRAIN / (batch * inner + 1) + 1, sum_body, &task);
}

/* ---- matrix product ---- */

size_t matmul_f32_gradient_scratch_bytes(int64_t m, int64_t n, int64_t k)
{
    size_t left = matmul_f32_packed_bytes(n, k), wide = matmul_f32_packed_bytes(m, n), tall = matmul_f32_packed_bytes(m, k);
    size_t right = round_up(wide > tall ? wide : tall) + round_up((size_t)m * (size_t)(k > n ? k : n) * sizeof(float)) +
                   round_up((size_t)k * (size_t)n * sizeof(float));
    return left > right ? left : right;
}

void matmul_f32_left_gradient(int64_t m, int64_t n, int64_t k, const float *dy, const float *b, bool transposed, float *da, void *scratch)
{
    MatmulF32 product = {m, k, n, n, k, k};
    matmul_f32_pack(n, k, b, transposed ? k : 1, transposed ? 1 : n, scratch);
    matmul_f32_packed(&product, dy, scratch, NULL, da);
}

static void turn(const float *from, int64_t rows, int64_t columns, float *to)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            to[j * rows + i] = from[i * columns + j];
}

void matmul_f32_right_gradient(int64_t m, int64_t n, int64_t k, const float *a, const float *dy, bool transposed, float *db, void *scratch)
{
    /* db = a' * dy, or dy' * a when db is transposed: the left one is turned over, the right one packed. */
    int64_t left = transposed ? n : k, right = transposed ? k : n;
    const float *first = transposed ? dy : a, *second = transposed ? a : dy;
    size_t wide = matmul_f32_packed_bytes(m, n), tall = matmul_f32_packed_bytes(m, k);
    float *turned = (float *)(void *)((char *)scratch + round_up(wide > tall ? wide : tall));
    float *part = (float *)(void *)((char *)turned + round_up((size_t)m * (size_t)(k > n ? k : n) * sizeof(float)));
    for (int64_t row = 0; row < m || row == 0; row += GRADIENT_BLOCK) {
        int64_t rows = m - row < GRADIENT_BLOCK ? m - row : GRADIENT_BLOCK;
        MatmulF32 product = {left, right, rows, rows, right, right};
        turn(first + row * left, rows, left, turned);
        matmul_f32(&product, turned, second + row * right, NULL, row ? part : db, scratch);
        for (int64_t i = 0; row && i < left * right; i++)
            db[i] += part[i];
    }
}

/* ---- elementwise ---- */

typedef struct GradientTask {
    const Kernels *kernels;
    const float *x, *dy;
    float *to;
    int64_t count;
    float inverse, scale, minimum, maximum;
    Rounding rounding;
    float *sums; /* one a block */
} GradientTask;

static void range_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const GradientTask *task = context;
    task->kernels->range_gradient(task->x + begin, task->dy + begin, task->to + begin, end - begin, task->minimum, task->maximum);
}

void range_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float low, float high)
{
    GradientTask task = {.kernels = kernels(), .x = x, .dy = dy, .to = dx, .minimum = low, .maximum = high};
    threads_for(count, GRAIN, range_body, &task);
}

static void swish_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const GradientTask *task = context;
    task->kernels->swish_gradient(task->x + begin, task->dy + begin, task->to + begin, end - begin, task->scale);
}

void swish_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float factor)
{
    GradientTask task = {.kernels = kernels(), .x = x, .dy = dy, .to = dx, .scale = factor};
    threads_for(count, GRAIN / 4, swish_body, &task);
}

static void scale_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const GradientTask *task = context;
    task->kernels->fake_quantize(task->x + begin, task->to + begin, end - begin, task->inverse, task->scale, task->minimum, task->maximum,
                                 task->rounding);
}

void fake_quantize_scale_f32(const float *x, float *y, int64_t count, float scale, int64_t minimum, int64_t maximum, Rounding rounding)
{
    GradientTask task = {.kernels = kernels(),
                         .x = x,
                         .to = y,
                         .inverse = 1.0f / scale,
                         .scale = scale,
                         .minimum = (float)minimum,
                         .maximum = (float)maximum,
                         .rounding = rounding};
    threads_for(count, GRAIN, scale_body, &task);
}

#define SUM_GROUP 256 /* blocks whose sums wait on the stack until they are added in order */

static void fake_quantize_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const GradientTask *task = context;
    for (int64_t block = begin; block < end; block++) {
        int64_t first = block * GRADIENT_BLOCK, count = task->count - first < GRADIENT_BLOCK ? task->count - first : GRADIENT_BLOCK;
        task->sums[block] = task->kernels->fake_quantize_gradient(task->x + first, task->dy + first, task->to ? task->to + first : NULL,
                                                                  count, task->inverse, task->minimum, task->maximum, task->rounding);
    }
}

double fake_quantize_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float scale, int64_t minimum, int64_t maximum,
                                  Rounding rounding)
{
    float sums[SUM_GROUP];
    double total = 0.0;
    GradientTask task = {.kernels = kernels(),
                         .inverse = 1.0f / scale,
                         .minimum = (float)minimum,
                         .maximum = (float)maximum,
                         .rounding = rounding,
                         .sums = sums};
    for (int64_t first = 0; first < count; first += (int64_t)SUM_GROUP * GRADIENT_BLOCK) {
        int64_t rest = count - first, most = (int64_t)SUM_GROUP * GRADIENT_BLOCK;
        task.x = x + first;
        task.dy = dy + first;
        task.to = dx ? dx + first : NULL;
        task.count = rest < most ? rest : most;
        int64_t blocks = (task.count + GRADIENT_BLOCK - 1) / GRADIENT_BLOCK;
        threads_for(blocks, GRAIN / GRADIENT_BLOCK, fake_quantize_gradient_body, &task);
        for (int64_t block = 0; block < blocks; block++)
            total += (double)sums[block];
    }
    return total;
}

/* ---- a scale a channel ---- */

typedef struct ChannelsTask {
    const Kernels *kernels;
    const ChannelsF32 *given;
    const float *x, *dy;
    float *to;
    double *sums;
} ChannelsTask;

static int64_t channels_grain(const ChannelsF32 *task)
{
    return GRAIN / (task->outer * task->inner + 1) + 1;
}

static void quantize_channels_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ChannelsTask *task = context;
    const ChannelsF32 *given = task->given;
    for (int64_t channel = begin; channel < end; channel++) {
        float scale = given->scales[channel], inverse = 1.0f / scale;
        for (int64_t outer = 0; outer < given->outer; outer++) {
            int64_t at = (outer * given->channels + channel) * given->inner;
            task->kernels->fake_quantize(task->x + at, task->to + at, given->inner, inverse, scale, (float)given->minimum,
                                         (float)given->maximum, given->rounding);
        }
    }
}

void fake_quantize_channels_f32(const ChannelsF32 *task, const float *x, float *y)
{
    ChannelsTask shared = {.kernels = kernels(), .given = task, .x = x, .to = y};
    threads_for(task->channels, channels_grain(task), quantize_channels_body, &shared);
}

static void channels_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ChannelsTask *task = context;
    const ChannelsF32 *given = task->given;
    for (int64_t channel = begin; channel < end; channel++) {
        double sum = 0.0;
        for (int64_t outer = 0; outer < given->outer; outer++) {
            int64_t at = (outer * given->channels + channel) * given->inner;
            for (int64_t first = 0; first < given->inner; first += GRADIENT_BLOCK) {
                int64_t count = given->inner - first < GRADIENT_BLOCK ? given->inner - first : GRADIENT_BLOCK;
                sum += (double)task->kernels->fake_quantize_gradient(
                    task->x + at + first, task->dy + at + first, task->to ? task->to + at + first : NULL, count,
                    1.0f / given->scales[channel], (float)given->minimum, (float)given->maximum, given->rounding);
            }
        }
        if (task->sums) task->sums[channel] = sum;
    }
}

void fake_quantize_channels_gradient_f32(const ChannelsF32 *task, const float *x, const float *dy, float *dx, double *sums)
{
    ChannelsTask shared = {.kernels = kernels(), .given = task, .x = x, .dy = dy, .to = dx, .sums = sums};
    threads_for(task->channels, channels_grain(task), channels_gradient_body, &shared);
}
