/* What a board printed: the lines of the board kit (board.h), the runtime's profile() tables and self-test (CHIP §3.5, §3.6), found in a
 * log with a logger's prefixes, colours, lines of other tasks in between, and pieces missing. */
#ifndef ESPQ_ESPDL_SERIAL_H
#define ESPQ_ESPDL_SERIAL_H

#include "base/arena.h"
#include "base/error.h"
#include "tensor/tensor.h"

/* The board kit's lines, version 1. Each stands for itself: "@espq:" … "*" and two hex digits, the exclusive or of all bytes between '@' and
 * '*'. Whatever stands before and behind is ignored, a line with another sum is counted as damaged.
 *   @espq:begin 1 NODES NAME              a run begins; what was read of an earlier one is forgotten
 *   @espq:t INDEX TYPE EXPONENT SHAPE BYTES CRC NAME
 *                                         a tensor behind node INDEX: INT8 … FLOAT, 1x28x28x16 ("-": a scalar), CRC-32 of its bytes in hex
 *   @espq:d INDEX OFFSET HEX              bytes of the tensor of that INDEX
 *   @espq:end NODES                       the run is over */
typedef struct SerialTensor {
    int index;
    const char *name;
    Dtype dtype;
    int exponent;
    Shape shape;
    int64_t bytes;
    uint32_t crc;
    uint8_t *data, *have; /* of `bytes` each; have: 1 where a byte was printed; NULL: none was */
} SerialTensor;

typedef struct SerialModule {
    const char *name, *type;
    double amount;
    bool cycles; /* microseconds otherwise */
} SerialModule;

typedef struct SerialMemory {
    const char *name;    /* "variable" */
    double kilobytes[3]; /* internal RAM, PSRAM, flash; negative: empty */
} SerialMemory;

typedef struct SerialLog {
    Arena arena;
    const char *model; /* NULL: no run of the board kit in it */
    int nodes;         /* as the run says */
    bool ended;
    SerialTensor *tensors;
    int tensor_count;
    SerialModule *modules; /* without the total */
    int module_count;
    double total; /* of the module table; negative: none */
    SerialMemory *memory;
    int memory_count;
    bool test_passed;
    const char *test_failed; /* the output that the runtime's self-test refused; NULL: none */
    const char *test_values; /* "ground truth: …, infer: …" */
    int64_t lines, damaged;
    size_t tensor_capacity, module_capacity, memory_capacity;
} SerialLog;

/* Fails when nothing in the text is of use, and when memory ends. */
bool serial_read(const char *text, size_t length, const char *path, SerialLog *log, Error *error);
void serial_free(SerialLog *log);

const SerialTensor *serial_tensor(const SerialLog *log, const char *name); /* the first of that name; NULL */

#endif
