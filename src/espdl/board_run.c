/* What the board should compute, and the comparison with what it printed. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/memory.h"
#include "chip/chip.h"
#include "espdl/board.h"
#include "espdl/device.h"

/* ---- the run ---- */

static const int64_t most_bytes = INT64_C(1) << 30; /* of all tensors: far more than any board has */

static const EspdlTensor *test_input(const EspdlModel *model, const Value *input)
{
    for (int i = 0; i < model->test_input_count; i++) {
        const EspdlTensor *test = &model->test_inputs[i];
        if (strcmp(test->name, input->name) != 0) continue;
        Shape shape = test->rank <= ESPQ_MAX_RANK ? shape_of(test->rank, test->dims) : (Shape){.rank = -1};
        bool fits = shape_equal(&shape, &input->device->shape) && dtype_from_onnx(test->data_type) == input->device->dtype;
        return fits && test->data_bytes ? test : NULL;
    }
    return NULL;
}

/* The kit's own numbers, which the C++ makes in the same way. */
static void fill_pattern(Tensor *tensor, int number)
{
    uint32_t state = 0x9E3779B9u * (uint32_t)(number + 1);
    int64_t count = tensor_count(tensor);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        int8_t high = (int8_t)(state >> 24);
        if (tensor->dtype == DTYPE_INT8)
            ((int8_t *)tensor->data)[i] = high;
        else if (tensor->dtype == DTYPE_INT16)
            ((int16_t *)(void *)tensor->data)[i] = (int16_t)(state >> 16);
        else if (tensor->dtype == DTYPE_FLOAT32)
            tensor_floats(tensor)[i] = (float)high / 128.0f;
    }
}

typedef struct Collector {
    BoardRun *run;
} Collector;

static bool add_tensor(BoardRun *run, const char *name, const Node *node, const Value *value, Tensor *tensor, const char *undefined,
                       Error *error)
{
    run->bytes += (int64_t)tensor_bytes(tensor);
    if (run->bytes > most_bytes)
        return fail(error, node ? node->name : name, "run a smaller model", "its tensors together have more than 1 GiB");
    BoardTensor *tensors = memory_grow(run->tensors, (size_t)run->count, &run->capacity, sizeof *tensors);
    if (!tensors) return fail_memory(error, sizeof *tensors);
    run->tensors = tensors;
    BoardTensor *made = &tensors[run->count];
    *made = (BoardTensor){.name = arena_text(&run->arena, name), .undefined = undefined};
    if (node) {
        made->node = arena_text(&run->arena, node->name);
        made->type = arena_text(&run->arena, node->type);
    }
    made->tensor = tensor_copy(tensor, error); /* the plan's memory is used again */
    if (!made->tensor) return false;
    run->count++;
    if (!made->name || (node && (!made->node || !made->type))) return fail_memory(error, strlen(name));
    made->exponent = value->device->exponent_count ? value->device->exponents[0] : 0;
    made->crc = (uint32_t)crc32(0, (const Bytef *)made->tensor->data, (uInt)tensor_bytes(made->tensor));
    return true;
}

static bool collect(void *context, const ChipSeen *seen, Error *error)
{
    if (!seen->node) return true; /* inputs are there already */
    return add_tensor(((Collector *)context)->run, seen->value->name, seen->node, seen->value, (Tensor *)(uintptr_t)seen->tensor,
                      seen->undefined, error);
}

static bool make_inputs(const EspdlModel *model, const Graph *device, Tensor **inputs, BoardRun *run, Error *error)
{
    for (int i = 0; i < device->input_count; i++)
        run->pattern |= !test_input(model, device->inputs[i]);
    for (int i = 0; i < device->input_count; i++) {
        const Value *input = device->inputs[i];
        inputs[i] = tensor_new(input->device->dtype, &input->device->shape, error);
        if (!inputs[i]) return false;
        const EspdlTensor *test = run->pattern ? NULL : test_input(model, input);
        if (test)
            memcpy(inputs[i]->data, test->data, tensor_bytes(inputs[i]));
        else
            fill_pattern(inputs[i], i);
        if (!add_tensor(run, input->name, NULL, input, inputs[i], NULL, error)) return false;
    }
    return true;
}

static bool run_device(const EspdlModel *model, Graph *device, const Target *target, BoardRun *run, Error *error)
{
    Chip chip;
    if (!chip_init(&chip, target, NULL, false, error)) return false;
    Collector collector = {run};
    ChipPlan *plan = chip_plan_new(device, &(ChipOptions){.chip = &chip, .watch = collect, .watch_context = &collector}, error);
    Tensor **inputs = plan ? memory_new_array((size_t)device->input_count + 1, sizeof *inputs) : NULL;
    Tensor **outputs = plan ? memory_new_array((size_t)device->output_count + 1, sizeof *outputs) : NULL;
    bool fine = plan && ((inputs && outputs) || fail_memory(error, sizeof *inputs));
    fine = fine && make_inputs(model, device, inputs, run, error) && chip_plan_run(plan, inputs, outputs, error);
    for (int i = 0; inputs && i < device->input_count; i++)
        tensor_release(inputs[i]);
    for (int i = 0; outputs && i < device->output_count; i++)
        tensor_release(outputs[i]);
    memory_free(inputs);
    memory_free(outputs);
    chip_plan_free(plan);
    return fine;
}

bool board_run(const EspdlModel *model, const Target *target, BoardRun *run, Error *error)
{
    memset(run, 0, sizeof *run);
    Graph *device = espdl_device(model, error);
    bool fine = device && run_device(model, device, target, run, error);
    graph_free(device);
    if (!fine) board_run_free(run);
    return fine;
}

void board_run_free(BoardRun *run)
{
    for (int i = 0; i < run->count; i++)
        tensor_release(run->tensors[i].tensor);
    memory_free(run->tensors);
    arena_free(&run->arena);
    memset(run, 0, sizeof *run);
}

/* ---- the comparison ---- */

static double element_of(Dtype dtype, const void *data, int64_t index)
{
    union {
        int64_t align;
        char bytes[8];
    } room;
    memcpy(room.bytes, (const char *)data + index * (int64_t)dtype_bytes(dtype), dtype_bytes(dtype));
    return tensor_get(&(Tensor){.dtype = dtype, .data = room.bytes}, 0);
}

static bool elements_agree(Dtype dtype, double wanted, double found)
{
    if (wanted == found || (isnan(wanted) && isnan(found))) return true;
    return dtype_rows[dtype].is_float && fabs(wanted - found) <= 1e-5 * fmax(1.0, fabs(wanted));
}

static bool was_printed(const SerialTensor *printed, int64_t index, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        if (!printed->have[(size_t)index * width + i]) return false;
    }
    return true;
}

static void compare_elements(BoardRow *row, const SerialTensor *printed)
{
    const Tensor *tensor = row->expected->tensor;
    size_t width = dtype_bytes(tensor->dtype);
    row->differing = row->printed = printed->data ? 0 : -1;
    for (int64_t i = 0, count = tensor_count(tensor); printed->data && i < count; i++) {
        if (!was_printed(printed, i, width)) continue;
        row->printed++;
        double wanted = element_of(tensor->dtype, tensor->data, i), found = element_of(tensor->dtype, printed->data, i);
        if (elements_agree(tensor->dtype, wanted, found)) continue;
        if (row->differing++ == 0) {
            row->first = i;
            row->wanted = wanted;
            row->found = found;
        }
    }
    /* the sum says that they differ; floats may do so in their last bits only */
    if (row->printed == tensor_count(tensor) && row->differing == 0 && dtype_rows[tensor->dtype].is_float) row->state = BOARD_EQUAL;
}

/* What of the description is another one; NULL: nothing. */
static const char *other_description(const BoardTensor *expected, const SerialTensor *printed, SerialLog *log, bool *memory)
{
    const Tensor *tensor = expected->tensor;
    char wanted[160], found[160];
    const char *what = NULL;
    if (printed->dtype != tensor->dtype)
        what =
            arena_format(&log->arena, "%s expected, the board has %s", dtype_rows[tensor->dtype].label, dtype_rows[printed->dtype].label);
    else if (!shape_equal(&printed->shape, &tensor->shape))
        what = arena_format(&log->arena, "shape %s expected, the board has %s", shape_text(&tensor->shape, wanted),
                            shape_text(&printed->shape, found));
    else if (printed->exponent != expected->exponent && dtype_rows[tensor->dtype].is_integer)
        what = arena_format(&log->arena, "exponent %d expected, the board has %d", expected->exponent, printed->exponent);
    else
        return NULL;
    *memory |= !what;
    return what;
}

bool board_compare(const BoardRun *run, SerialLog *log, BoardRow **rows, Error *error)
{
    bool memory = false;
    BoardRow *made = memory_new_array((size_t)run->count + 1, sizeof *made);
    if (!made) return fail_memory(error, (size_t)run->count * sizeof *made);
    for (int i = 0; i < run->count && !memory; i++) {
        BoardRow *row = &made[i];
        *row = (BoardRow){.expected = &run->tensors[i], .state = BOARD_MISSING, .differing = -1, .printed = -1, .first = -1};
        const SerialTensor *printed = serial_tensor(log, run->tensors[i].name);
        if (!printed) continue;
        row->what = other_description(row->expected, printed, log, &memory);
        if (row->expected->undefined)
            row->state = BOARD_UNDEFINED;
        else if (row->what)
            row->state = BOARD_DIFFERS;
        else if (printed->crc == row->expected->crc)
            row->state = BOARD_EQUAL;
        else {
            row->state = BOARD_DIFFERS;
            compare_elements(row, printed);
        }
    }
    if (memory) {
        memory_free(made);
        return fail_memory(error, 256);
    }
    *rows = made;
    return true;
}
