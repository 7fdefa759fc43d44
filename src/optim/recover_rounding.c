/* Second-order rounding (OPTIM §17.1): weights of a layer are rounded one input after the other, and what each rounding does to the sums
 * is made up for by the inputs that are still to come, as far as they occur together in the data. */
#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "exec/cache.h"
#include "optim/layers.h"
#include "optim/recover.h"

#define MOST_COLUMNS 1152
#define POSITIONS 2048 /* that a layer is judged by, spread over all samples */
#define DAMPING 0.01   /* of the mean of the diagonal; 1 where there are few positions for the number of inputs */
#define FEW 8

/* ---- the factor ---- */

/* Eight sums side by side, added in one order. */
static double dot(const double *a, const double *b, int64_t count)
{
    double lanes[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int k = 0; k < 8; k++)
            lanes[k] += a[i + k] * b[i + k];
    for (; i < count; i++)
        sum += a[i] * b[i];
    for (int k = 0; k < 8; k++)
        sum += lanes[k];
    return sum;
}

typedef struct Column {
    double *matrix, *column;
    int64_t n, j;
    double diagonal;
} Column;

static void reduce_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Column *c = context;
    const double *last = c->matrix + c->j * c->n;
    for (int64_t i = begin; i < end; i++) {
        double *row = c->matrix + i * c->n;
        row[c->j] = (row[c->j] - dot(row + c->j + 1, last + c->j + 1, c->n - c->j - 1)) / c->diagonal;
    }
}

static void invert_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Column *c = context;
    for (int64_t i = begin; i < end; i++)
        c->matrix[i * c->n + c->j] = -dot(c->matrix + i * c->n + i, c->column + i, c->j - i) / c->diagonal;
}

/* The upper half of a symmetric matrix A becomes U with A^-1 = U' U: A = R R' from the last column to the first, then U = R^-1.
 * false: A is not positive. */
static bool factor_inverse(double *matrix, int64_t n, double *column)
{
    for (int64_t j = n - 1; j >= 0; j--) {
        double *row = matrix + j * n, rest = row[j] - dot(row + j + 1, row + j + 1, n - j - 1);
        if (!(rest > 0) || isinf(rest)) return false;
        Column context = {matrix, column, n, j, sqrt(rest)};
        row[j] = context.diagonal;
        threads_for(j, 64, reduce_rows, &context);
    }
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i <= j; i++)
            column[i] = matrix[i * n + j];
        Column context = {matrix, column, n, j, column[j]};
        matrix[j * n + j] = 1 / column[j];
        threads_for(j, 64, invert_rows, &context);
    }
    return true;
}

/* ---- rounding ---- */

typedef struct Rows {
    const double *factor;
    int64_t columns;
    float *weights;
    double *rests; /* columns for each thread */
    const int *exponents;
    int exponent_count;
    int64_t minimum, maximum;
} Rows;

static void round_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const Rows *rows = context;
    int64_t n = rows->columns;
    double *rest = rows->rests + thread * n;
    for (int64_t r = begin; r < end; r++) {
        float *w = rows->weights + r * n;
        double step = ldexp(1, rows->exponents[rows->exponent_count > 1 ? r : 0]);
        for (int64_t i = 0; i < n; i++)
            rest[i] = w[i];
        for (int64_t i = 0; i < n; i++) {
            const double *u = rows->factor + i * n;
            double whole = rint(rest[i] / step);
            whole = whole < (double)rows->minimum ? (double)rows->minimum : whole > (double)rows->maximum ? (double)rows->maximum : whole;
            w[i] = (float)(whole * step);
            double error = (rest[i] - whole * step) / u[i];
            for (int64_t k = i + 1; k < n; k++)
                rest[k] -= error * u[k];
        }
    }
}

bool round_by_moments(double *moments, int64_t columns, int64_t rows, double damping, float *weights, const int *exponents,
                      int exponent_count, int64_t minimum, int64_t maximum, Error *error)
{
    double mean = 0;
    for (int64_t i = 0; i < columns; i++) {
        double *diagonal = &moments[i * columns + i];
        if (*diagonal == 0) *diagonal = 1; /* an input that is always zero */
        mean += *diagonal / (double)columns;
    }
    for (int64_t i = 0; i < columns; i++)
        moments[i * columns + i] += damping * mean;
    size_t room = (size_t)columns * (size_t)(threads_count() + 1);
    double *rests = memory_new_array(room, sizeof *rests);
    if (!rests) return fail_memory(error, room * sizeof *rests);
    if (factor_inverse(moments, columns, rests)) {
        Rows context = {moments, columns, weights, rests, exponents, exponent_count, minimum, maximum};
        threads_for(rows, 1, round_rows, &context);
    }
    memory_free(rests);
    return true;
}

/* ---- what a layer multiplies ---- */

/* A layer as products: groups of rows x columns weights, and where a column finds its number in the input. */
typedef struct Products {
    Node *node;
    int64_t groups, rows, columns;
    bool by_columns; /* weights lie as [columns][rows] */
    bool conv;
    int64_t channels, kernel[2], strides[2], pads[2], dilations[2];
} Products;

static bool read_conv(Products *products, const Node *node, const Tensor *weight)
{
    int spatial = weight->shape.rank - 2;
    if (spatial < 1 || spatial > 2) return false;
    int64_t strides[2] = {1, 1}, dilations[2] = {1, 1}, pads[4] = {0};
    node_integers(node, "strides", strides, spatial);
    node_integers(node, "dilations", dilations, spatial);
    node_integers(node, "pads", pads, 2 * spatial);
    products->conv = true;
    products->groups = node_integer(node, "group", 1);
    products->channels = weight->shape.dims[1];
    for (int i = 0; i < 2; i++) {
        int axis = i - (2 - spatial);
        products->kernel[i] = axis < 0 ? 1 : weight->shape.dims[2 + axis];
        products->strides[i] = axis < 0 ? 1 : strides[axis];
        products->dilations[i] = axis < 0 ? 1 : dilations[axis];
        products->pads[i] = axis < 0 ? 0 : pads[axis];
    }
    products->rows = weight->shape.dims[0] / products->groups;
    products->columns = products->channels * products->kernel[0] * products->kernel[1];
    return true;
}

static bool products_read(Products *products, Node *node)
{
    *products = (Products){.node = node, .groups = 1};
    const Value *value = node->quantized && node->input_count > 1 ? node->inputs[1] : NULL;
    const Tensor *weight = value ? value->constant : NULL;
    if (!weight || weight->dtype != DTYPE_FLOAT32 || value->use_count != 1 || !node->inputs[0] || node->inputs[0]->constant) return false;
    Slot *slot = node->input_slots[1];
    if (!slot_quantizes(slot) || slot->bits > 16 || !node->outputs[0]->shaped) return false;
    bool gemm = strcmp(node->type, "Gemm") == 0, read = false;
    if (strcmp(node->type, "Conv") == 0) {
        read = read_conv(products, node, weight);
    } else if ((gemm || strcmp(node->type, "MatMul") == 0) && weight->shape.rank == 2) {
        products->by_columns = !gemm || !node_integer(node, "transB", 0);
        products->columns = weight->shape.dims[products->by_columns ? 0 : 1];
        products->rows = weight->shape.dims[products->by_columns ? 1 : 0];
        read = !gemm || !node_integer(node, "transA", 0);
    }
    int exponents = slot_exponent_count(slot);
    return read && products->columns <= MOST_COLUMNS && products->columns > 1 &&
           (exponents == 1 || exponents == products->rows * products->groups);
}

/* What position `at` of the output is made of, for one group: columns numbers. */
static void take_position(const Products *products, const Tensor *input, const Shape *output, int64_t sample, int64_t at, int64_t group,
                          float *x)
{
    if (!products->conv) {
        memcpy(x, tensor_floats(input) + (size_t)at * (size_t)products->columns, (size_t)products->columns * sizeof *x);
        return;
    }
    int rank = input->shape.rank;
    int64_t height = rank > 3 ? input->shape.dims[2] : 1, width = input->shape.dims[rank - 1];
    int64_t columns = output->dims[rank - 1], top = at / columns * products->strides[0] - products->pads[0];
    int64_t left = at % columns * products->strides[1] - products->pads[1];
    const float *plane = tensor_floats(input) + ((sample * products->groups + group) * products->channels) * height * width;
    for (int64_t c = 0; c < products->channels; c++, plane += height * width) {
        for (int64_t r = 0; r < products->kernel[0]; r++) {
            for (int64_t k = 0; k < products->kernel[1]; k++) {
                int64_t row = top + r * products->dilations[0], column = left + k * products->dilations[1];
                bool inside = row >= 0 && row < height && column >= 0 && column < width;
                *x++ = inside ? plane[row * width + column] : 0;
            }
        }
    }
}

typedef struct Adding {
    double *moments;
    const float *x;
    int64_t columns, positions;
} Adding;

static void add_moments(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Adding *adding = context;
    int64_t n = adding->columns;
    for (int64_t i = begin; i < end; i++) {
        double *row = adding->moments + i * n;
        for (int64_t p = 0; p < adding->positions; p++) {
            const float *x = adding->x + p * n;
            double factor = x[i];
            if (factor == 0) continue;
            for (int64_t k = i; k < n; k++)
                row[k] += factor * x[k];
        }
    }
}

/* Positions of one sample that count, all groups: x is [groups][positions of all samples][columns]. */
static int64_t positions_of(const Products *products, const Tensor *input, const Shape *output)
{
    if (!products->conv) return tensor_count(input) / products->columns / input->shape.dims[0];
    int64_t count = 1;
    for (int i = 2; i < output->rank; i++)
        count *= output->dims[i];
    return count;
}

/* ---- a layer ---- */

typedef struct Layers {
    Recovery *recovery;
    Graph *graph; /* the copy that is rounded */
    Products *items;
    Value **inputs;
    CacheStop *stops;
    int count;
    Cache *cache;
    int rounded;
} Layers;

static bool gather(const Layers *layers, int layer, float **x, int64_t *positions, Error *error)
{
    const Products *products = &layers->items[layer];
    int64_t learned = layers->recovery->samples.learned, room = 0, taken = 0;
    const Shape *output = &products->node->outputs[0]->shape;
    *x = NULL;
    for (int64_t b = 0; b < learned; b++) {
        Tensor *input;
        if (!cancel_check(error) || !cache_row(layers->cache, b, NULL, &input, error)) return false;
        int64_t samples = input->shape.dims[0], all = positions_of(products, input, output);
        int64_t each = POSITIONS / (learned * samples) + 1;
        if (each > all) each = all;
        if (!*x) {
            room = each * samples * learned;
            *x = memory_new_array((size_t)(room * products->columns * products->groups), sizeof **x);
        }
        for (int64_t s = 0; *x && s < samples; s++) {
            for (int64_t k = 0; k < each && taken < room; k++, taken++) {
                int64_t at = (2 * k + 1) * all / (2 * each) + (products->conv ? 0 : s * all);
                for (int64_t g = 0; g < products->groups; g++)
                    take_position(products, input, output, s, at, g, *x + (g * room + taken) * products->columns);
            }
        }
        tensor_release(input);
        if (!*x) return fail_memory(error, (size_t)(room * products->columns * products->groups) * sizeof **x);
    }
    *positions = room;
    return true;
}

/* Weights of a group as rows, there and back. */
static void move_weights(const Products *products, float *all, float *rows, bool back)
{
    for (int64_t r = 0; r < products->rows; r++) {
        for (int64_t c = 0; c < products->columns; c++) {
            float *a = all + (products->by_columns ? c * products->rows + r : r * products->columns + c),
                  *b = rows + r * products->columns + c;
            *(back ? a : b) = *(back ? b : a);
        }
    }
}

static bool round_group(const Products *products, int64_t group, const float *x, int64_t positions, float *weights, float *rows,
                        double *moments, Error *error)
{
    Slot *root = slot_root(products->node->input_slots[1]);
    int64_t n = products->columns;
    Adding adding = {moments, x, n, positions};
    memset(moments, 0, (size_t)(n * n) * sizeof *moments);
    threads_for(n, 8, add_moments, &adding);
    move_weights(products, weights, rows, false);
    const int *exponents = root->exponents + (root->exponent_count > 1 ? group * products->rows : 0);
    double damping = positions < FEW * n ? 1 : DAMPING;
    bool ok =
        round_by_moments(moments, n, products->rows, damping, rows, exponents, root->exponent_count, root->minimum, root->maximum, error);
    if (ok) move_weights(products, weights, rows, true);
    return ok;
}

static bool round_layer(Layers *layers, int layer, Error *error)
{
    const Products *products = &layers->items[layer];
    Value *value = products->node->inputs[1];
    int64_t n = products->columns, positions = 0, size = n * products->rows;
    float *x = NULL, *rows = memory_new_array((size_t)size, sizeof *rows);
    double *moments = memory_new_array((size_t)(n * n), sizeof *moments);
    Tensor *weight = tensor_copy(value->constant, error);
    bool ok = weight != NULL;
    if (ok && (!rows || !moments)) ok = fail_memory(error, (size_t)(n * n) * sizeof *moments);
    ok = ok && cache_go(layers->cache, layer, error) && gather(layers, layer, &x, &positions, error);
    for (int64_t g = 0; ok && positions && g < products->groups; g++)
        ok = round_group(products, g, x + g * positions * n, positions, tensor_floats(weight) + g * size, rows, moments, error);
    if (ok) {
        recovery_set_constant(value, weight);
        cache_changed(layers->cache, EXEC_SIMULATED, &products->node, 1);
        layers->rounded++;
    }
    tensor_release(weight);
    memory_free(rows);
    memory_free(moments);
    memory_free(x);
    return ok;
}

static bool layers_find(Layers *layers, Error *error)
{
    size_t most = (size_t)layers->graph->node_count + 1;
    Node **order;
    layers->items = memory_new_array(most, sizeof *layers->items);
    layers->inputs = memory_new_array(most, sizeof *layers->inputs);
    layers->stops = memory_new_array(most, sizeof *layers->stops);
    if (!layers->items || !layers->inputs || !layers->stops) return fail_memory(error, most * sizeof *layers->items);
    if (!graph_sort(layers->graph, &order, error)) return false;
    for (int i = 0; i < layers->graph->node_count; i++) {
        if (!products_read(&layers->items[layers->count], order[i])) continue;
        layers->inputs[layers->count] = order[i]->inputs[0];
        layers->stops[layers->count] = (CacheStop){.simulated = &layers->inputs[layers->count], .simulated_count = 1};
        layers->count++;
    }
    memory_free(order);
    return true;
}

bool recover_rounding(Recovery *recovery, Error *error)
{
    Layers layers = {.recovery = recovery, .graph = graph_copy(recovery->best, error)};
    SampleTurn turn = {&recovery->samples, 0};
    Batches batches = samples_batches(&turn);
    bool kept = false, ok = layers.graph && layers_find(&layers, error);
    if (ok && layers.count) {
        CacheOptions options = {.exact = recovery->exact,
                                .memory_limit = setting_block_memory(recovery->setting),
                                .stops = layers.stops,
                                .stop_count = layers.count};
        ok = (layers.cache = cache_new(layers.graph, &batches, &options, error)) != NULL;
        for (int i = 0; ok && i < layers.count && recovery_seconds_left(recovery) > 0; i++)
            ok = round_layer(&layers, i, error);
        cache_free(layers.cache);
        if (ok) {
            ok = recovery_offer(recovery, layers.graph, "second-order rounding", &kept, error);
            layers.graph = NULL;
        }
    }
    graph_free(layers.graph);
    memory_free(layers.items);
    memory_free(layers.inputs);
    memory_free(layers.stops);
    return ok;
}
