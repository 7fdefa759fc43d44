/* The board kit: C++ that fills the inputs, runs a model node by node and prints its tensors; what it should print; and the comparison with
 * what it did print (serial.h). */
#ifndef ESPQ_ESPDL_BOARD_H
#define ESPQ_ESPDL_BOARD_H

#include "base/text.h"
#include "espdl/model.h"
#include "espdl/serial.h"
#include "quant/target.h"

/* C++ for one graph input: what it is, the formula with the chip's rounding, the loop in the file's order of elements, the preprocessing that
 * the metadata name (key espq.input). `number`: of the input. */
bool espdl_input_code(const EspdlModel *model, int number, const Target *target, Text *text, Error *error);
/* "N H W C", "N W C" when the first node that reads it wants channels last; NULL: as in the model it came from. */
const char *espdl_input_layout(const EspdlModel *model, int number);

typedef struct BoardTensor {
    const char *name, *node, *type; /* node and type NULL: a graph input */
    Tensor *tensor;                 /* as the integer executor computes it */
    int exponent;
    uint32_t crc;          /* of its bytes */
    const char *undefined; /* the chip's value is undefined: why; NULL */
} BoardTensor;

typedef struct BoardRun {
    Arena arena;
    BoardTensor *tensors; /* graph inputs, then outputs of nodes in the order of execution */
    int count;
    size_t capacity;
    int64_t bytes;
    bool pattern; /* the inputs are the kit's own numbers, since the file has no test inputs of the right size */
} BoardRun;

bool board_run(const EspdlModel *model, const Target *target, BoardRun *run, Error *error);
void board_run_free(BoardRun *run);

/* espq_board.cpp, and espq_vectors.h that it includes. */
bool board_code(const EspdlModel *model, const Target *target, const BoardRun *run, Text *text, Error *error);
bool board_vectors(const BoardRun *run, Text *text, Error *error);

typedef enum { BOARD_EQUAL, BOARD_DIFFERS, BOARD_MISSING, BOARD_UNDEFINED } BoardState;

typedef struct BoardRow {
    const BoardTensor *expected;
    BoardState state;
    const char *what;           /* of another type, shape or exponent: which; NULL */
    int64_t differing, printed; /* of the elements that were printed; -1: none were */
    int64_t first;              /* the first element that differs, by flat index; -1: not known */
    double wanted, found;       /* its values, as stored */
} BoardRow;

/* One row a tensor of the run, in its order; rows are the caller's (memory_free), their texts in the log's arena. Floats within 1e-5 of their
 * size count as equal. */
bool board_compare(const BoardRun *run, SerialLog *log, BoardRow **rows, Error *error);

#endif
