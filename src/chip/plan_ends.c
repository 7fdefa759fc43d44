/* The user's side of a run: inputs of any number of samples come in, as the runtime assigns them (CHIP §2.18); results go out. */
#include <string.h>

#include "base/memory.h"
#include "chip/arithmetic.h"
#include "chip/plan.h"

bool end_turns(const ChipPlan *plan, const PlanValue *value)
{
    const struct DeviceValue *device = value->value->device;
    if (!plan->options.original || !device || !device->perm_known || device->perm_rank != value->shape.rank) return false;
    for (int i = 0; i < device->perm_rank; i++)
        if (device->perm[i] != i) return true;
    return false;
}

Shape end_shape(const ChipPlan *plan, const PlanValue *value)
{
    if (!end_turns(plan, value)) return value->shape;
    Shape shape = value->shape;
    for (int i = 0; i < shape.rank; i++)
        shape.dims[value->value->device->perm[i]] = value->shape.dims[i];
    return shape;
}

static int exponent_of(const PlanValue *value)
{
    const struct DeviceValue *device = value->value->device;
    return device && device->exponent_count ? device->exponents[0] : 0;
}

static bool is_quantized(Dtype dtype)
{
    return dtype == DTYPE_INT8 || dtype == DTYPE_INT16;
}

/* ---- inputs ---- */

static bool count_samples(PlanRun *run, const PlanValue *value, const Tensor *given, Error *error)
{
    Shape one = end_shape(run->plan, value);
    bool fits = given->shape.rank == one.rank;
    for (int i = 1; fits && i < one.rank; i++)
        fits = given->shape.dims[i] == one.dims[i];
    int64_t samples = 1;
    if (!one.rank)
        fits = tensor_count(given) == 1;
    else if (fits) {
        fits = given->shape.dims[0] > 0 && given->shape.dims[0] % one.dims[0] == 0;
        samples = given->shape.dims[0] / one.dims[0];
    }
    char have[160], want[160];
    if (!fits)
        return fail(error, value->value->name, "the first axis counts the samples, the others must be the model's",
                    "the input has the shape %s, the model takes %s", shape_text(&given->shape, have), shape_text(&one, want));
    if (run->samples && run->samples != samples)
        return fail(error, value->value->name, "give every input the same number of samples",
                    "this input has %lld samples, another has %lld", (long long)samples, (long long)run->samples);
    run->samples = samples;
    return true;
}

static Tensor *take(const PlanValue *value, Tensor *given, Error *error)
{
    bool wide = given->dtype == DTYPE_FLOAT32 || given->dtype == DTYPE_FLOAT64;
    if (given->dtype == value->dtype || (is_quantized(value->dtype) && wide)) return tensor_contiguous(given, error);
    if (is_quantized(value->dtype) && given->dtype != DTYPE_FLOAT16) {
        fail(error, value->value->name, "give floats, or the raw integers in the model's own type",
             "the input is %s, the model takes %s of exponent %d", dtype_name(given->dtype), dtype_name(value->dtype), exponent_of(value));
        return NULL;
    }
    Tensor *contiguous = tensor_contiguous(given, error);
    Tensor *made = contiguous ? tensor_convert(contiguous, is_quantized(value->dtype) ? DTYPE_FLOAT32 : value->dtype, error) : NULL;
    tensor_release(contiguous);
    return made;
}

bool ends_take(PlanRun *run, Tensor *const *inputs, Error *error)
{
    const ChipPlan *plan = run->plan;
    int count = plan->graph->input_count;
    run->inputs = memory_new_array((size_t)count + 1, sizeof *run->inputs);
    if (!run->inputs) return fail_memory(error, (size_t)count * sizeof *run->inputs);
    for (int i = 0; i < count; i++) {
        const PlanValue *value = &plan->values[plan_value(plan, plan->graph->inputs[i])];
        if (value->input < 0) continue;
        if (!inputs[i]) return fail(error, value->value->name, NULL, "this input is missing");
        if (!count_samples(run, value, inputs[i], error)) return false;
        run->inputs[i] = take(value, inputs[i], error);
        if (!run->inputs[i]) return false;
    }
    if (!run->samples) run->samples = 1;
    return true;
}

/* Element by element from one order of axes to another; `to` is written in order. step[i]: how far apart the elements of to's axis i lie in
 * `from`. */
static void turn(const Shape *shape, const int64_t *step, size_t bytes, const char *from, char *to)
{
    int64_t index[ESPQ_MAX_RANK] = {0}, count = shape_count(shape), at = 0;
    int last = shape->rank - 1;
    int64_t inner = shape->dims[last], stride = step[last];
    for (int64_t done = 0; done < count; done += inner) {
        const char *source = from + at * (int64_t)bytes;
        switch (bytes) {
        case 1:
            for (int64_t i = 0; i < inner; i++)
                to[i] = source[i * stride];
            break;
        case 2:
            for (int64_t i = 0; i < inner; i++)
                memcpy(to + 2 * i, source + 2 * i * stride, 2);
            break;
        case 4:
            for (int64_t i = 0; i < inner; i++)
                memcpy(to + 4 * i, source + 4 * i * stride, 4);
            break;
        default:
            for (int64_t i = 0; i < inner; i++)
                memcpy(to + (int64_t)bytes * i, source + (int64_t)bytes * i * stride, bytes);
        }
        to += inner * (int64_t)bytes;
        for (int axis = last - 1; axis >= 0; axis--) {
            at += step[axis];
            if (++index[axis] < shape->dims[axis]) break;
            at -= step[axis] * shape->dims[axis];
            index[axis] = 0;
        }
    }
}

static void strides_of(const Shape *shape, int64_t *strides)
{
    int64_t stride = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= shape->dims[i];
    }
}

static void turn_in(const PlanValue *value, const Shape *original, const void *from, void *to)
{
    int64_t strides[ESPQ_MAX_RANK], step[ESPQ_MAX_RANK];
    strides_of(original, strides);
    for (int i = 0; i < original->rank; i++)
        step[i] = strides[value->value->device->perm[i]];
    turn(&value->shape, step, dtype_bytes(value->dtype), from, to);
}

static void turn_out(const PlanValue *value, const Shape *original, const void *from, void *to)
{
    int64_t strides[ESPQ_MAX_RANK], step[ESPQ_MAX_RANK];
    strides_of(&value->shape, strides);
    for (int i = 0; i < original->rank; i++)
        step[value->value->device->perm[i]] = strides[i];
    turn(original, step, dtype_bytes(value->dtype), from, to);
}

void *ends_input(const PlanRun *run, const ChipFrame *frame, const PlanValue *value, int64_t sample)
{
    const Tensor *given = run->inputs[value->input];
    int64_t count = shape_count(&value->shape);
    char *from = given->data + sample * count * (int64_t)dtype_bytes(given->dtype), *to = frame->arena + value->offset;
    bool turns = end_turns(run->plan, value);
    if (given->dtype != value->dtype) {
        const char *undefined = NULL;
        char *made = turns ? frame->turning : to;
        chip_assign(&run->plan->chip, given->dtype, 0, from, value->dtype, exponent_of(value), made, count, &undefined);
        from = made;
    }
    if (!turns) return from;
    Shape original = end_shape(run->plan, value);
    turn_in(value, &original, from, to);
    return to;
}

/* ---- outputs ---- */

static Dtype result_dtype(const ChipPlan *plan, const PlanValue *value)
{
    return plan->options.original && is_quantized(value->dtype) ? DTYPE_FLOAT32 : value->dtype;
}

bool ends_make(PlanRun *run, Error *error)
{
    const ChipPlan *plan = run->plan;
    run->results = memory_new_array((size_t)plan->wanted_count + 1, sizeof *run->results);
    if (!run->results) return fail_memory(error, (size_t)plan->wanted_count * sizeof *run->results);
    for (int i = 0; i < plan->wanted_count; i++) {
        const PlanValue *value = &plan->values[plan->wanted[i]];
        if (value->value->constant) {
            run->results[i] = tensor_retain(value->value->constant);
            continue;
        }
        Shape shape = end_shape(plan, value);
        if (run->samples > 1 && shape.rank)
            shape.dims[0] *= run->samples;
        else if (run->samples > 1)
            shape = shape_of(1, &run->samples);
        run->results[i] = tensor_new_unset(result_dtype(plan, value), &shape, error);
        if (!run->results[i]) return false;
    }
    return true;
}

void ends_release(PlanRun *run)
{
    for (int i = 0; run->inputs && i < run->plan->graph->input_count; i++)
        tensor_release(run->inputs[i]);
    for (int i = 0; run->results && i < run->plan->wanted_count; i++)
        tensor_release(run->results[i]);
    memory_free(run->inputs);
    memory_free(run->results);
}

static char *place_of(const PlanRun *run, int wanted, int64_t sample)
{
    const Tensor *result = run->results[wanted];
    const PlanValue *value = &run->plan->values[run->plan->wanted[wanted]];
    return result->data + sample * shape_count(&value->shape) * (int64_t)dtype_bytes(result->dtype);
}

void *ends_direct(const PlanRun *run, const PlanValue *value, int64_t sample)
{
    if (value->wanted < 0 || end_turns(run->plan, value) || result_dtype(run->plan, value) != value->dtype) return NULL;
    return place_of(run, value->wanted, sample);
}

void ends_give(const PlanRun *run, int wanted, int64_t sample, const void *from)
{
    const ChipPlan *plan = run->plan;
    const PlanValue *value = &plan->values[plan->wanted[wanted]];
    char *to = place_of(run, wanted, sample);
    if (from == to) return;
    int64_t count = shape_count(&value->shape);
    bool floats = result_dtype(plan, value) != value->dtype;
    Shape original = end_shape(plan, value);
    /* Integers are turned where they will lie, at the end of the room that their floats take, and widened from there forward. */
    char *integers = floats ? to + count * (int64_t)(sizeof(float) - dtype_bytes(value->dtype)) : to;
    if (end_turns(plan, value))
        turn_out(value, &original, from, integers);
    else
        memcpy(integers, from, value->bytes);
    if (!floats) return;
    float scale = scale_of(exponent_of(value));
    for (int64_t i = 0; i < count; i++) {
        float number = (float)read_integer(integers, i, value->dtype == DTYPE_INT8 ? 8 : 16) * scale;
        memcpy(to + i * (int64_t)sizeof number, &number, sizeof number);
    }
}
