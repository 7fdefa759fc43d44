#include "exec/batches.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "kernel/quantize.h"

/* One sample counts as an outlier when it reaches so many times as far as any other. */
#define OUTLIER_FACTOR 4.0

typedef struct InputWatch {
    Tensor *first;          /* the first batch, while all samples are equal */
    bool differs;           /* some sample is not as the first */
    bool zero;              /* all elements so far are zero */
    double largest, second; /* |x| of the sample that reaches farthest, and of the next */
    int64_t largest_sample;
} InputWatch;

/* ---- shapes ---- */

static int64_t tail_count(const Shape *shape)
{
    int64_t count = 1;
    for (int i = 1; i < shape->rank; i++)
        count *= shape->dims[i];
    return count;
}

/* The graph's shape with another number of samples, as text. */
static const char *with_samples(const Shape *shape, int64_t samples, char out[160])
{
    Shape asked = *shape;
    if (asked.rank > 0) asked.dims[0] = samples;
    return shape_text(&asked, out);
}

static bool fail_rank(const Value *input, const Shape *is, Error *error)
{
    const Shape *must = &input->shape;
    char have[160], want[160], better[160];
    int64_t count = shape_count(is), tail = tail_count(must);
    if (must->rank > 0 && tail > 0 && count > 0 && count % tail == 0) {
        char cure[200];
        snprintf(cure, sizeof cure, "reshape them to %s", with_samples(must, count / tail, better));
        return fail(error, input->name, cure, "data have rank %d %s, input %s has rank %d %s", is->rank, shape_text(is, have), input->name,
                    must->rank, shape_text(must, want));
    }
    return fail(error, input->name, "the first axis counts the samples, the others must be the graph's",
                "data have rank %d %s, input %s has rank %d %s", is->rank, shape_text(is, have), input->name, must->rank,
                shape_text(must, want));
}

/* [N, H, W, C] where the graph has [N, C, H, W]? */
static bool channel_is_last(const Shape *is, const Shape *must)
{
    if (is->rank < 3 || is->dims[is->rank - 1] != must->dims[1]) return false;
    for (int i = 1; i + 1 < is->rank; i++)
        if (is->dims[i] != must->dims[i + 1]) return false;
    return true;
}

static bool fail_sizes(const Value *input, const Shape *is, Error *error)
{
    const Shape *must = &input->shape;
    char have[160], want[160], cure[128];
    snprintf(cure, sizeof cure, "give data of shape %s", with_samples(must, is->dims[0], want));
    if (channel_is_last(is, must)) {
        snprintf(cure, sizeof cure, "the channel axis seems to be last: transpose the data (%s)",
                 is->rank == 3   ? "t:transpose {0, 2, 1}"
                 : is->rank == 4 ? "t:transpose {0, 3, 1, 2}"
                                 : "channels to axis 1");
        return fail(error, input->name, cure, "data have shape %s, input %s has shape %s", shape_text(is, have), input->name,
                    shape_text(must, want));
    }
    char shown[160];
    return fail(error, input->name, cure, "data have shape %s, input %s has shape %s", shape_text(is, have), input->name,
                shape_text(must, shown));
}

/* [N, 1, …] for an input [1, …]: whole inputs of the graph, one behind the other. */
static bool has_axis_of_samples(const Shape *is, const Shape *must)
{
    if (is->rank != must->rank + 1 || must->rank < 1 || must->dims[0] != 1) return false;
    for (int i = 0; i < must->rank; i++)
        if (is->dims[i + 1] != must->dims[i]) return false;
    return true;
}

static bool drop_axis_of_samples(const Value *input, Tensor **data, Error *error)
{
    Tensor *ordered = tensor_contiguous(*data, error);
    if (!ordered) return false;
    Shape shape = input->shape;
    shape.dims[0] = ordered->shape.dims[0];
    Tensor *view = tensor_view(ordered, &shape, error);
    tensor_release(ordered);
    if (!view) return false;
    tensor_release(*data);
    *data = view;
    return true;
}

static bool check_shape(const Value *input, const Tensor *data, Error *error)
{
    const Shape *is = &data->shape, *must = &input->shape;
    char have[160];
    if (shape_count(is) == 0)
        return fail(error, input->name, "leave empty batches out", "data of input %s are empty: shape %s", input->name,
                    shape_text(is, have));
    if (!input->shaped) return true;
    if (is->rank != must->rank) return fail_rank(input, is, error);
    for (int i = 1; i < is->rank; i++)
        if (is->dims[i] != must->dims[i]) return fail_sizes(input, is, error);
    return true;
}

/* ---- types ---- */

static bool whole_numbers(const Tensor *data)
{
    for (int64_t i = 0; i < tensor_count(data); i++) {
        double x = tensor_get(data, i);
        if (x != floor(x)) return false;
    }
    return true;
}

/* *data is exchanged for the same numbers in order and in the input's type. */
static bool take_type(const Value *input, Tensor **data, Error *error)
{
    Dtype want = input->dtype == DTYPE_NONE ? DTYPE_FLOAT32 : input->dtype;
    Tensor *ordered = tensor_contiguous(*data, error);
    if (!ordered) return false;
    tensor_release(*data);
    *data = ordered;
    if (ordered->dtype == want) return true;
    bool from_float = dtype_rows[ordered->dtype].is_float, to_float = dtype_rows[want].is_float;
    if (to_float && !from_float)
        return fail(error, input->name, "convert them first: with mean and std where the model was trained so, or t:to(\"float32\")",
                    "data are %s, input %s is %s", dtype_name(ordered->dtype), input->name, dtype_name(want));
    if (!to_float && from_float && !whole_numbers(ordered))
        return fail(error, input->name, "give whole numbers", "data are %s with fractions, input %s is %s", dtype_name(ordered->dtype),
                    input->name, dtype_name(want));
    Tensor *converted = tensor_convert(ordered, want, error);
    if (!converted) return false;
    tensor_release(ordered);
    *data = converted;
    return true;
}

/* ---- numbers ---- */

/* Position within a sample, "[0, 3, 5]". */
static const char *position_text(const Shape *shape, int64_t index, char out[160])
{
    Shape position = {.rank = shape->rank > 1 ? shape->rank - 1 : 0};
    for (int i = position.rank - 1; i >= 0; i--) {
        position.dims[i] = index % shape->dims[i + 1];
        index /= shape->dims[i + 1];
    }
    return shape_text(&position, out);
}

static bool check_finite(const BatchWalk *walk, const Value *input, const Tensor *data, Error *error)
{
    int64_t bad = find_not_finite_f32(tensor_floats(data), tensor_count(data));
    if (bad < 0) return true;
    int64_t tail = tail_count(&data->shape);
    char position[160];
    float x = tensor_floats(data)[bad];
    return fail(error, input->name, "remove the sample or repair its data", "sample %lld of input %s is %s at index %s",
                (long long)(walk->sample_count + bad / tail), input->name, isnan(x) ? "NaN" : "infinite",
                position_text(&data->shape, bad % tail, position));
}

static void watch_sample(InputWatch *watch, const float *x, int64_t count, int64_t sample)
{
    float low, high;
    minmax_f32(x, count, &low, &high);
    double reach = fabs((double)low) > fabs((double)high) ? fabs((double)low) : fabs((double)high);
    if (reach != 0) watch->zero = false;
    if (reach > watch->largest) {
        watch->second = watch->largest;
        watch->largest = reach;
        watch->largest_sample = sample;
    } else if (reach > watch->second) {
        watch->second = reach;
    }
}

static void watch_batch(BatchWalk *walk, InputWatch *watch, Tensor *data)
{
    int64_t samples = data->shape.rank > 0 ? data->shape.dims[0] : 1, tail = tail_count(&data->shape);
    size_t bytes = (size_t)tail * dtype_bytes(data->dtype);
    if (!watch->first && !watch->differs) watch->first = tensor_retain(data);
    for (int64_t i = 0; i < samples; i++) {
        if (!watch->differs && memcmp(data->data + (size_t)i * bytes, watch->first->data, bytes) != 0) {
            watch->differs = true;
            tensor_release(watch->first);
            watch->first = NULL;
        }
        if (data->dtype == DTYPE_FLOAT32) watch_sample(watch, tensor_floats(data) + i * tail, tail, walk->sample_count + i);
    }
}

/* ---- walking ---- */

bool batch_walk_begin(BatchWalk *walk, const Graph *graph, Batches *batches, Error *error)
{
    *walk = (BatchWalk){.graph = graph, .batches = batches};
    if (batches->input_count != graph->input_count)
        return fail_as(error, ERROR_INTERNAL, graph->name, NULL, "data have %d inputs, the graph has %d", batches->input_count,
                       graph->input_count);
    walk->watches = memory_new_array((size_t)graph->input_count + 1, sizeof *walk->watches);
    if (!walk->watches) return fail_memory(error, sizeof *walk->watches);
    for (int i = 0; i < graph->input_count; i++)
        walk->watches[i].zero = graph->inputs[i]->dtype == DTYPE_FLOAT32;
    return batches->begin(batches->context, error);
}

/* Inputs that carry samples must carry equally many; an input as the graph has it serves all samples. */
static bool check_samples(BatchWalk *walk, Tensor *const *inputs, Error *error)
{
    const Graph *graph = walk->graph;
    int first = -1;
    walk->samples = inputs[0]->shape.rank > 0 ? inputs[0]->shape.dims[0] : 1;
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        if (input->shaped && shape_equal(&input->shape, &inputs[i]->shape)) continue;
        if (first < 0) walk->samples = inputs[first = i]->shape.dims[0];
        if (inputs[i]->shape.dims[0] == walk->samples) continue;
        return fail(error, input->name, "give all inputs of a batch the same number of samples",
                    "input %s has %lld samples, input %s has %lld", input->name, (long long)inputs[i]->shape.dims[0],
                    graph->inputs[first]->name, (long long)walk->samples);
    }
    return true;
}

static bool check_batch(BatchWalk *walk, Tensor **inputs, Error *error)
{
    const Graph *graph = walk->graph;
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        if (!inputs[i]) return fail(error, input->name, "give every input of the graph", "a batch has no data for input %s", input->name);
        if (input->shaped && has_axis_of_samples(&inputs[i]->shape, &input->shape) && !drop_axis_of_samples(input, &inputs[i], error))
            return false;
        if (!check_shape(input, inputs[i], error) || !take_type(input, &inputs[i], error)) return false;
        if (inputs[i]->dtype == DTYPE_FLOAT32 && !check_finite(walk, input, inputs[i], error)) return false;
    }
    if (graph->input_count == 0) return true;
    if (!check_samples(walk, inputs, error)) return false;
    for (int i = 0; i < graph->input_count; i++)
        watch_batch(walk, &walk->watches[i], inputs[i]);
    return true;
}

bool batch_walk_next(BatchWalk *walk, Tensor **inputs, bool *done, Error *error)
{
    int count = walk->graph->input_count;
    for (int i = 0; i < count; i++)
        inputs[i] = NULL;
    *done = false;
    bool fine = walk->batches->next(walk->batches->context, inputs, done, error);
    if (fine && *done) {
        if (walk->batch_count > 0) return true;
        return fail(error, walk->graph->name, "give the loader data", "no samples: the data loader is empty");
    }
    if (fine && check_batch(walk, inputs, error)) {
        walk->batch_count++;
        walk->sample_count += walk->samples;
        return true;
    }
    for (int i = 0; i < count; i++) {
        tensor_release(inputs[i]);
        inputs[i] = NULL;
    }
    return false;
}

void batch_walk_note(const BatchWalk *walk, Graph *graph)
{
    bool equal = walk->sample_count > 1, zero = false;
    for (int i = 0; i < walk->graph->input_count; i++) {
        const InputWatch *watch = &walk->watches[i];
        const char *name = walk->graph->inputs[i]->name;
        if (watch->zero) graph_note(graph, "all calibration values of input %s are zero", name);
        if (walk->sample_count >= 4 && watch->second > 0 && watch->largest > OUTLIER_FACTOR * watch->second)
            graph_note(graph, "sample %lld of input %s reaches %g, all others stay within %g: it stretches the range of minmax",
                       (long long)watch->largest_sample, name, watch->largest, watch->second);
        zero |= watch->zero;
        equal &= !watch->differs;
    }
    if (equal && !zero && walk->graph->input_count > 0)
        graph_note(graph, "all %lld calibration samples are equal (%lld batches): does the loader advance?", (long long)walk->sample_count,
                   (long long)walk->batch_count);
    if (walk->sample_count == 1) graph_note(graph, "calibrated on one sample: too few to know the ranges");
}

void batch_walk_end(BatchWalk *walk)
{
    for (int i = 0; walk->watches && i < walk->graph->input_count; i++)
        tensor_release(walk->watches[i].first);
    memory_free(walk->watches);
    *walk = (BatchWalk){0};
}
