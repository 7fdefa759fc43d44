/* The float network answers any input: pictures moved, enlarged, dimmed and laid over each other are further samples to learn from. What is
 * learned from few pictures alone is how to undo their very own rounding errors. */
#include <math.h>

#include "optim/recover.h"

/* A part of one channel of a picture, moved, enlarged and mirrored: bilinear, edges repeated. */
static void move_plane(const float *x, float *y, int64_t height, int64_t width, const Motion *motion, const int64_t part[4])
{
    float gain = (float)motion->gain;
    for (int64_t r = part[0]; r < part[2]; r++) {
        double v = motion->top + (double)r * motion->zoom;
        v = v < 0 ? 0 : v > (double)(height - 1) ? (double)(height - 1) : v;
        int64_t r0 = (int64_t)v, r1 = r0 + (r0 < height - 1);
        float down = (float)(v - (double)r0);
        for (int64_t c = part[1]; c < part[3]; c++) {
            double u = motion->left + (double)(motion->mirrored ? width - 1 - c : c) * motion->zoom;
            u = u < 0 ? 0 : u > (double)(width - 1) ? (double)(width - 1) : u;
            int64_t c0 = (int64_t)u, c1 = c0 + (c0 < width - 1);
            float right = (float)(u - (double)c0);
            float above = (1 - right) * x[r0 * width + c0] + right * x[r0 * width + c1];
            float below = (1 - right) * x[r1 * width + c0] + right * x[r1 * width + c1];
            y[r * width + c] = gain * ((1 - down) * above + down * below);
        }
    }
}

bool samples_are_pictures(const RecoverySamples *samples)
{
    if (samples->graph->input_count != 1 || samples->inputs[0]->dtype != DTYPE_FLOAT32) return false;
    const Shape *shape = &samples->inputs[0]->shape;
    return shape->rank == 4 && shape->dims[1] <= 4 && shape->dims[2] >= 32 && shape->dims[3] >= 32;
}

static Motion any_motion(Random *random, int64_t height, int64_t width)
{
    Motion motion = {.mirrored = random_uniform(random) < 0.5, .zoom = 0.65 + 0.35 * random_uniform(random)};
    motion.top =
        random_uniform(random) * (1 - motion.zoom) * (double)(height - 1) + floor((random_uniform(random) - 0.5) * (double)height / 7);
    motion.left =
        random_uniform(random) * (1 - motion.zoom) * (double)(width - 1) + floor((random_uniform(random) - 0.5) * (double)width / 7);
    motion.gain = random_uniform(random) < 0.5 ? 1 : 0.75 + 0.25 * random_uniform(random);
    return motion;
}

Mixture mixture_any(Random *random, const RecoverySamples *samples, int64_t unit)
{
    const Shape *shape = &samples->inputs[0]->shape;
    int64_t height = shape->dims[2], width = shape->dims[3];
    Mixture mixture = {.motion = any_motion(random, height, width), .unit = unit, .other = -1};
    if (random_uniform(random) < 0.5) return mixture;
    mixture.other = (int64_t)(random_uniform(random) * (double)samples->learned);
    mixture.other_motion = any_motion(random, height, width);
    int64_t tall = (int64_t)((0.25 + 0.5 * random_uniform(random)) * (double)height);
    int64_t wide = (int64_t)((0.25 + 0.5 * random_uniform(random)) * (double)width);
    mixture.top = (int64_t)(random_uniform(random) * (double)(height - tall));
    mixture.left = (int64_t)(random_uniform(random) * (double)(width - wide));
    mixture.bottom = mixture.top + tall;
    mixture.right = mixture.left + wide;
    return mixture;
}

void mixture_fill(const Mixture *mixture, const RecoverySamples *samples, float *to)
{
    const Tensor *all = samples->inputs[0];
    int64_t height = all->shape.dims[2], width = all->shape.dims[3], plane = height * width, planes = samples->unit * all->shape.dims[1];
    const float *from = tensor_floats(all) + mixture->unit * planes * plane;
    int64_t whole[4] = {0, 0, height, width}, part[4] = {mixture->top, mixture->left, mixture->bottom, mixture->right};
    for (int64_t i = 0; i < planes; i++)
        move_plane(from + i * plane, to + i * plane, height, width, &mixture->motion, whole);
    from = tensor_floats(all) + mixture->other * planes * plane;
    for (int64_t i = 0; mixture->other >= 0 && i < planes; i++)
        move_plane(from + i * plane, to + i * plane, height, width, &mixture->other_motion, part);
}
