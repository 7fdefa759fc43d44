/* The smallest node of the integer executor, made by hand: types, exponents and shapes in, one run, the outputs' integers. Data given
 * to a bench must live until its end.
 *
 *     ChipBench bench;
 *     bench_start(&bench, "esp32s3", "Add", 8);
 *     bench_input(&bench, DTYPE_INT8, -4, a, DIMS(2, 3));
 *     bench_input(&bench, DTYPE_INT8, -4, b, DIMS(3));
 *     bench_output(&bench, DTYPE_INT8, -4);
 *     REQUIRE(bench_run(&bench), "%s", bench.error.what);
 *     const int8_t *y = bench.outputs[0];          shape: bench.node.outputs[0].shape
 *     bench_end(&bench);
 */
#ifndef ESPQ_TESTS_CHIP_NODE_H
#define ESPQ_TESTS_CHIP_NODE_H

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "chip/arithmetic.h"
#include "chip/module.h"

#define BENCH_ENDS 12
#define BENCH_ATTRIBUTES 16
#ifndef DIMS
#define DIMS(...)                                                                                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                                                 \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }
#endif

typedef struct ChipBench {
    Chip chip;
    ChipNode node; /* exponent lists, layouts, table and bits may be changed before bench_run */
    Node graph_node;
    ChipEnd inputs[BENCH_ENDS], ends[BENCH_ENDS];
    Value values[2 * BENCH_ENDS];
    Tensor constants[BENCH_ENDS], table;
    Attribute attributes[BENCH_ATTRIBUTES];
    const void *data[BENCH_ENDS];
    void *outputs[BENCH_ENDS]; /* after bench_run; filled with 0x5A before it */
    void *scratch, *memory;
    bool prepared;
    Error error;
} ChipBench;

static inline void bench_start_as(ChipBench *bench, const char *target, const char *type, int bits, bool mended)
{
    memset(bench, 0, sizeof *bench);
    if (!chip_init(&bench->chip, target_find(target), NULL, mended, &bench->error))
        test_failed(__FILE__, __LINE__, "%s", bench->error.what);
    bench->graph_node = (Node){.name = "node", .type = type, .domain = "", .attributes = bench->attributes};
    bench->node = (ChipNode){.chip = &bench->chip,
                             .node = &bench->graph_node,
                             .module = chip_module_find(type),
                             .inputs = bench->inputs,
                             .outputs = bench->ends,
                             .bits = bits};
    if (!bench->node.module) test_failed(__FILE__, __LINE__, "no module %s", type);
}
static inline void bench_start(ChipBench *bench, const char *target, const char *type, int bits)
{
    bench_start_as(bench, target, type, bits, false);
}

static inline ChipEnd *bench_end_of(ChipBench *bench, ChipEnd *end, Value *value, const char *name, Dtype dtype, int exponent)
{
    (void)bench;
    *value = (Value){.name = name, .dtype = dtype};
    *end = (ChipEnd){.value = value, .dtype = dtype, .exponent = exponent, .exponent_count = 1};
    end->exponents = &end->exponent;
    return end;
}

/* One more input. data NULL: left out. */
static inline ChipEnd *bench_input(ChipBench *bench, Dtype dtype, int exponent, const void *data, int rank, const int64_t *dims)
{
    int i = bench->node.input_count++;
    bench->data[i] = data;
    if (!data) return &bench->inputs[i];
    ChipEnd *end = bench_end_of(bench, &bench->inputs[i], &bench->values[i], "input", dtype, exponent);
    end->shape = shape_of(rank, dims);
    return end;
}

static inline void bench_fill(Tensor *tensor, Dtype dtype, const void *data, const Shape *shape)
{
    *tensor = (Tensor){.references = 1, .dtype = dtype, .shape = *shape, .data = (char *)data};
    int64_t stride = 1;
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        tensor->strides[axis] = stride;
        stride *= shape->dims[axis];
    }
}

static inline ChipEnd *bench_constant(ChipBench *bench, Dtype dtype, int exponent, const void *data, int rank, const int64_t *dims)
{
    int i = bench->node.input_count;
    ChipEnd *end = bench_input(bench, dtype, exponent, data, rank, dims);
    bench_fill(&bench->constants[i], dtype, data, &end->shape);
    end->constant = bench->values[i].constant = &bench->constants[i];
    return end;
}

static inline ChipEnd *bench_output(ChipBench *bench, Dtype dtype, int exponent)
{
    int i = bench->node.output_count++;
    return bench_end_of(bench, &bench->ends[i], &bench->values[BENCH_ENDS + i], "output", dtype, exponent);
}

static inline void bench_table(ChipBench *bench, Dtype dtype, const void *data, int64_t entries)
{
    Shape shape = shape_of(1, &entries);
    bench_fill(&bench->table, dtype, data, &shape);
    bench->node.table = &bench->table;
}

static inline Attribute *bench_attribute(ChipBench *bench, const char *name, AttributeKind kind)
{
    Attribute *attribute = &bench->attributes[bench->graph_node.attribute_count++];
    *attribute = (Attribute){.name = name, .kind = kind};
    return attribute;
}
static inline void bench_integer(ChipBench *bench, const char *name, int64_t value)
{
    bench_attribute(bench, name, ATTRIBUTE_INT)->integer = value;
}
static inline void bench_number(ChipBench *bench, const char *name, float value)
{
    bench_attribute(bench, name, ATTRIBUTE_FLOAT)->number = value;
}
static inline void bench_string(ChipBench *bench, const char *name, const char *value)
{
    bench_attribute(bench, name, ATTRIBUTE_STRING)->string = value;
}
static inline void bench_integers(ChipBench *bench, const char *name, int count, const int64_t *values)
{
    Attribute *attribute = bench_attribute(bench, name, ATTRIBUTE_INTS);
    attribute->count = count;
    attribute->integers = memcpy(malloc((size_t)count * sizeof *values + 1), values, (size_t)count * sizeof *values);
}

/* Shapes, preparation and memory; then bench_again runs. */
static inline bool bench_prepare(ChipBench *bench)
{
    ChipNode *node = &bench->node;
    if (!node->module) return false;
    if (node->module->infer) {
        if (!node->module->infer(node, &bench->error)) return false;
    } else {
        node->outputs[0].shape = node->inputs[0].shape;
    }
    bench->prepared = true;
    if (node->module->prepare && !node->module->prepare(node, &bench->error)) return false;
    for (int i = 0; i < node->output_count; i++) {
        size_t bytes = (size_t)shape_count(&node->outputs[i].shape) * dtype_bytes(node->outputs[i].dtype);
        bench->outputs[i] = memory_new_aligned(bytes + 1);
        memset(bench->outputs[i], 0x5A, bytes);
    }
    bench->scratch = memory_new_aligned(node->scratch_bytes + 1);
    bench->memory = memory_new(node->memory_bytes + 1);
    return true;
}
static inline void bench_again(ChipBench *bench)
{
    void *inputs[BENCH_ENDS];
    memcpy(inputs, bench->data, sizeof inputs);
    ChipRun run = {.node = &bench->node, .inputs = inputs, .outputs = bench->outputs, .scratch = bench->scratch, .memory = bench->memory};
    bench->node.module->run(&run);
}
static inline bool bench_run(ChipBench *bench)
{
    if (!bench_prepare(bench)) return false;
    bench_again(bench);
    return true;
}

static inline void bench_end(ChipBench *bench)
{
    const ChipModule *module = bench->node.module;
    if (bench->prepared && bench->node.state) (module->release ? module->release : memory_free)(bench->node.state);
    for (int i = 0; i < bench->node.output_count; i++)
        memory_free(bench->outputs[i]);
    for (int i = 0; i < bench->graph_node.attribute_count; i++)
        free(bench->attributes[i].integers);
    memory_free(bench->scratch);
    memory_free(bench->memory);
}

#endif
