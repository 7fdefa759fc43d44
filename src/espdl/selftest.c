/* The runtime's self-test on the desk. */
#include "espdl/selftest.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "espdl/device.h"
#include "espdl/verifier.h"

typedef struct SelfTest {
    Verifier verifier; /* for `found` */
    const EspdlModel *model;
    Graph *device;
    ChipPlan *plan;
    int64_t pieces, piece; /* a sequence is fed in so many pieces; at which one */
    bool failed;           /* a test output differs: the first one is told */
} SelfTest;

static const char *const rule_run = "run", *const rule_test = SELFTEST_RULE, *const rule_shape = "17.2 shape",
                         *const rule_undefined = "CHIP 4";

/* ---- comparing ---- */

static double element(const void *data, Dtype dtype, int64_t index)
{
    union {
        int64_t align;
        char bytes[8];
    } room; /* the file's bytes need not be aligned for their type */
    memcpy(room.bytes, (const char *)data + (size_t)index * dtype_bytes(dtype), dtype_bytes(dtype));
    Tensor one = {.dtype = dtype, .data = room.bytes};
    return tensor_get(&one, 0);
}

/* The axis along which `whole` is so many times `part`; -1: the shapes are equal; -2: neither. */
static int sequence_axis(const EspdlTensor *whole, const Shape *part, int64_t times)
{
    if (whole->rank != part->rank) return part->rank == 0 && whole->rank == 1 && whole->dims[0] == 1 ? -1 : -2;
    int axis = -1;
    for (int i = 0; i < part->rank; i++) {
        if (whole->dims[i] == part->dims[i]) continue;
        if (axis >= 0 || part->dims[i] < 1 || whole->dims[i] != part->dims[i] * times) return -2;
        axis = i;
    }
    return axis;
}

/* Where element `index` of a piece lies in the whole. */
static int64_t in_whole(const EspdlTensor *whole, const Shape *part, int axis, int64_t piece, int64_t index)
{
    if (axis < 0) return index;
    int64_t inner = 1;
    for (int i = axis + 1; i < part->rank; i++)
        inner *= part->dims[i];
    int64_t along = part->dims[axis] * inner, outer = index / along;
    return outer * whole->dims[axis] * inner + piece * along + index % along;
}

static const char *position_text(const Shape *shape, int64_t index, char out[160])
{
    Shape position = *shape;
    for (int i = shape->rank - 1; i >= 0; i--) {
        position.dims[i] = index % shape->dims[i];
        index /= shape->dims[i];
    }
    return shape_text(&position, out);
}

static void compare_elements(SelfTest *test, const EspdlTensor *wanted, const ChipSeen *seen, int axis)
{
    const Tensor *have = seen->tensor;
    bool wide = have->dtype == DTYPE_INT16 || have->dtype == DTYPE_UINT16;
    double tolerance = wide ? 1 + 1e-5 : 2e-5;
    int64_t count = tensor_count(have), apart = 0, first = -1;
    double file = 0, chip = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = element(wanted->data, have->dtype, in_whole(wanted, &have->shape, axis, test->piece, i));
        double y = tensor_get(have, i);
        if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance) continue;
        if (apart++) continue;
        first = i;
        file = x;
        chip = y;
    }
    if (!apart) return;
    char place[160];
    test->failed = true;
    found(&test->verifier, FINDING_ERROR, rule_test, wanted->name,
          "node %s is the first that differs: %lld of %lld elements; at %s the file has %.9g, the chip computes %.9g", seen->node->name,
          (long long)apart, (long long)count, position_text(&have->shape, first, place), file, chip);
}

static void compare(SelfTest *test, const EspdlTensor *wanted, const ChipSeen *seen)
{
    const Tensor *have = seen->tensor;
    const DeviceValue *device = seen->value->device;
    int exponent = device->exponents[0];
    int64_t said = wanted->exponent_count ? sane_exponent(wanted->exponents[0]) : 0;
    int axis = sequence_axis(wanted, &have->shape, test->pieces);
    char computed[160], recorded[160];
    Shape whole = wanted->rank > ESPQ_MAX_RANK ? (Shape){.rank = 0} : shape_of(wanted->rank, wanted->dims);
    test->failed = true;
    if (dtype_from_onnx(wanted->data_type) != have->dtype)
        found(&test->verifier, FINDING_ERROR, rule_test, wanted->name, "the test value is %s, the chip computes %s",
              dtype_rows[dtype_from_onnx(wanted->data_type)].label, dtype_rows[have->dtype].label);
    else if (axis == -2)
        found(&test->verifier, FINDING_ERROR, rule_test, wanted->name, "the test value has the shape %s, the chip computes %s",
              shape_text(&whole, recorded), shape_text(&have->shape, computed));
    else if (said != exponent)
        found(&test->verifier, FINDING_ERROR, rule_test, wanted->name, "the test value has the exponent %lld, the tensor %d",
              (long long)said, exponent);
    else {
        test->failed = false;
        compare_elements(test, wanted, seen, axis);
    }
}

static bool watch(void *context, const ChipSeen *seen, Error *error)
{
    SelfTest *test = context;
    (void)error;
    if (!seen->node || seen->undefined || test->failed) return true;
    for (int i = 0; i < test->model->test_output_count; i++) {
        const EspdlTensor *wanted = &test->model->test_outputs[i];
        if (!test->failed && strcmp(wanted->name, seen->value->name) == 0) compare(test, wanted, seen);
    }
    return true;
}

/* ---- running ---- */

static const EspdlTensor *test_input(const EspdlModel *model, const char *name)
{
    for (int i = 0; i < model->test_input_count; i++)
        if (strcmp(model->test_inputs[i].name, name) == 0) return &model->test_inputs[i];
    return NULL;
}

static const Shape *input_shape(const Graph *device, int index)
{
    return &device->inputs[index]->device->shape;
}

/* In how many pieces the test inputs have to be fed; 0: they do not fit. */
static int64_t count_pieces(const SelfTest *test)
{
    int64_t pieces = 1;
    for (int i = 0; i < test->device->input_count; i++) {
        const EspdlTensor *whole = test_input(test->model, test->device->inputs[i]->name);
        const Shape *part = input_shape(test->device, i);
        if (whole->rank != part->rank) continue;
        for (int k = 0; k < part->rank; k++) {
            if (part->dims[k] > 0 && whole->dims[k] > part->dims[k] && whole->dims[k] % part->dims[k] == 0)
                pieces = whole->dims[k] / part->dims[k];
        }
    }
    for (int i = 0; i < test->device->input_count; i++) {
        const EspdlTensor *whole = test_input(test->model, test->device->inputs[i]->name);
        if (sequence_axis(whole, input_shape(test->device, i), pieces) == -2) return 0;
    }
    return pieces;
}

static Tensor *piece_of_input(const SelfTest *test, int index, Error *error)
{
    const EspdlTensor *whole = test_input(test->model, test->device->inputs[index]->name);
    const Shape *part = input_shape(test->device, index);
    Dtype dtype = dtype_from_onnx(whole->data_type);
    int axis = sequence_axis(whole, part, test->pieces);
    Tensor *tensor = tensor_new(dtype, part, error);
    size_t bytes = dtype_bytes(dtype);
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        memcpy(tensor->data + (size_t)i * bytes, (const char *)whole->data + (size_t)in_whole(whole, part, axis, test->piece, i) * bytes,
               bytes);
    return tensor;
}

static bool run_piece(SelfTest *test, Error *error)
{
    int inputs = test->device->input_count, outputs = test->device->output_count;
    Tensor **tensors = memory_new_array((size_t)(inputs + outputs) + 1, sizeof *tensors);
    bool ok = tensors || fail_memory(error, (size_t)(inputs + outputs) * sizeof *tensors);
    for (int i = 0; ok && i < inputs; i++)
        ok = (tensors[i] = piece_of_input(test, i, error)) != NULL;
    ok = ok && chip_plan_run(test->plan, tensors, tensors + inputs, error);
    for (int i = 0; tensors && i < inputs + outputs; i++)
        tensor_release(tensors[i]);
    memory_free(tensors);
    return ok;
}

/* The static rules tell what is missing; here it only keeps the test from running. */
static bool can_test(const SelfTest *test)
{
    bool there = test->model->test_output_count > 0;
    for (int i = 0; i < test->device->input_count; i++)
        there = there && test_input(test->model, test->device->inputs[i]->name);
    return there;
}

static bool run_test(SelfTest *test, Error *error)
{
    if (!can_test(test)) return true;
    test->pieces = count_pieces(test);
    if (!test->pieces) {
        found(&test->verifier, FINDING_ERROR, rule_test, "graph", "a test input has another shape than the input");
        return true;
    }
    for (test->piece = 0; test->piece < test->pieces; test->piece++)
        if (!run_piece(test, error)) return false;
    return true;
}

/* ---- what making the plan tells ---- */

static void judge_values(SelfTest *test)
{
    bool streaming = false;
    for (int i = 0; i < test->device->node_count; i++)
        streaming = streaming || strcmp(test->device->nodes[i]->type, "StreamingCache") == 0;
    for (int i = 0; i < test->device->value_count; i++) {
        const Value *value = test->device->values[i];
        const Shape *computed = chip_plan_shape(test->plan, value);
        if (value->constant || !computed || !value->producer) continue;
        char have[160], said[160];
        /* Descriptions behind a StreamingCache keep the length of the whole sequence (EXPORT §8). */
        if (!streaming && value->shaped && !shape_equal(computed, &value->device->shape))
            found(&test->verifier, FINDING_WARNING, rule_shape, value->name, "the file records the shape %s, the runtime computes %s",
                  shape_text(&value->device->shape, said), shape_text(computed, have));
        const char *undefined = chip_plan_undefined(test->plan, value);
        if (undefined && value_is_output(test->device, value))
            found(&test->verifier, FINDING_WARNING, rule_undefined, value->name, "this output is no result on this chip: %s", undefined);
    }
}

/* An error of the user's making is a finding; memory and Ctrl-C are errors. */
static bool told(SelfTest *test, Error *error)
{
    if (error->code == ERROR_MEMORY || error->code == ERROR_INTERRUPTED) return false;
    found(&test->verifier, FINDING_ERROR, rule_run, *error->where ? error->where : "graph", "%.300s", error->what);
    return true;
}

static bool start(SelfTest *test, const Chip *chip, bool headroom, Error *error)
{
    ChipOptions options = {.chip = chip, .headroom = headroom};
    if (!headroom) {
        options.watch = watch;
        options.watch_context = test;
    }
    test->device = espdl_device(test->model, error);
    if (test->device) test->plan = chip_plan_new(test->device, &options, error);
    return test->plan != NULL;
}

static bool finish(SelfTest *test, bool fine, Error *error)
{
    chip_plan_free(test->plan);
    graph_free(test->device);
    return fine && (!test->verifier.findings->failed || fail_memory(error, sizeof(Finding)));
}

bool espdl_self_test(const EspdlModel *model, const Chip *chip, Findings *findings, Error *error)
{
    SelfTest test = {.verifier = {.model = model, .findings = findings}, .model = model};
    Error why = {0};
    bool fine = start(&test, chip, false, &why);
    if (fine) judge_values(&test);
    fine = (fine && run_test(&test, &why)) || told(&test, &why);
    if (!fine) *error = why;
    return finish(&test, fine, error);
}

static void judge_accumulators(SelfTest *test)
{
    for (int i = 0; i < test->device->node_count; i++) {
        const Node *node = test->device->nodes[i];
        const Headroom *room = chip_plan_headroom(test->plan, node);
        if (room && room->saturated)
            found(&test->verifier, FINDING_WARNING, rule_undefined, node->name,
                  "C1: sums of %lld of %lld outputs reach %.0f with the file's test inputs, the accumulators end at %.0f and clip",
                  (long long)room->saturated, (long long)room->count, room->largest, room->limit);
    }
}

bool espdl_test_accumulators(const EspdlModel *model, const Chip *chip, Findings *findings, Error *error)
{
    if (!chip_has(chip, TRAIT_LANES_SATURATE)) return true;
    SelfTest test = {.verifier = {.model = model, .findings = findings}, .model = model};
    Error why = {0};
    bool fine = start(&test, chip, true, &why) && run_test(&test, &why);
    if (fine) judge_accumulators(&test);
    fine = fine || (why.code != ERROR_MEMORY && why.code != ERROR_INTERRUPTED); /* what keeps it from running was told by the self-test */
    if (!fine) *error = why;
    return finish(&test, fine, error);
}
