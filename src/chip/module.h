/* Inside of the room: what a module of the runtime is. One row; a family a file; modules.c names them all. Adding one is one row
 * and one line of the list. A module sees its node, never the graph, and the chip's row, never a chip's name. */
#ifndef ESPQ_CHIP_MODULE_H
#define ESPQ_CHIP_MODULE_H

#include "chip/chip.h"

typedef struct ChipModule ChipModule;

typedef enum { IN_PLACE_NONE, IN_PLACE_CHANGED, IN_PLACE_UNCHANGED } InPlace; /* CHIP §3.2 */

/* One input or output. */
typedef struct ChipEnd {
    const Value *value;     /* NULL: left out */
    const Tensor *constant; /* stored integers, packed as in the file; NULL: comes at run time */
    Dtype dtype;
    Shape shape;        /* inputs: as computed; outputs: filled in by infer */
    int exponent;       /* the first; 0 where there is none (floats, indices) */
    int exponent_count; /* 1, or one a channel */
    const int *exponents;
    const char *layout; /* of a packed parameter: "(N/16)HWC16"; NULL or "UNK": none */
} ChipEnd;

typedef struct ChipNode {
    const Chip *chip;
    const Node *node; /* for attributes and messages */
    const ChipModule *module;
    ChipEnd *inputs, *outputs;
    int input_count, output_count;
    const Tensor *table; /* of attribute `lut`, as stored; NULL: none */
    int bits;            /* of attribute quant_type: 8, 16; 32 for F32 */

    /* prepare fills in: */
    void *state;           /* freed by the module's release, also when prepare failed after setting it */
    size_t scratch_bytes;  /* of one run */
    size_t memory_bytes;   /* kept from run to run, zeroed by chip_plan_reset */
    size_t reaches_before; /* bytes in front of input 0 that run reads (C16): what lies there in the runtime's memory; see ChipRun.before */
    const char *undefined; /* the outputs have no right value on this chip: why, a text that lasts ("C8: Resize of 16 bits does nothing") */
} ChipNode;

typedef struct ChipRun {
    const ChipNode *node;
    void *const *inputs; /* data of each, constants included; NULL: left out */
    void *const *outputs;
    void *scratch; /* 64-byte aligned */
    void *memory;
    const char
        *before; /* behind the last of the bytes that lie in front of input 0; NULL: nobody knows them (the node is then undefined) */
} ChipRun;

struct ChipModule {
    const char *type; /* as the runtime registers it */
    InPlace in_place;
    bool blind; /* takes inputs for the type that quant_type says: int16 memory is read as twice as many int8 (the first half of them) */
    bool (*infer)(ChipNode *node, Error *error);   /* shapes of the outputs; NULL: output 0 is as input 0 */
    bool (*prepare)(ChipNode *node, Error *error); /* refuses what the module cannot do; NULL: nothing to prepare */
    void (*run)(const ChipRun *run);               /* allocates nothing, cannot fail */
    void (*release)(void *state);                  /* NULL: memory_free */
    /* Adds what this run does to the accumulators. NULL: sums cannot leave them. Slow: a plain loop. */
    void (*headroom)(const ChipRun *run, Headroom *headroom);
};

const ChipModule *chip_module_find(const char *type); /* NULL: the runtime has none */
const ChipModule *chip_module_at(int index);          /* NULL behind the last */

/* The families; each a list that ends with a NULL type. */
extern const ChipModule chip_conv_modules[];      /* conv.c: Conv Gemm MatMul InsertZeros */
extern const ChipModule chip_pool_modules[];      /* pool.c: MaxPool AveragePool GlobalAveragePool Resize */
extern const ChipModule chip_binary_modules[];    /* binary.c: Add Sub Mul Div Pow Mod, comparisons */
extern const ChipModule chip_unary_modules[];     /* unary.c: Relu … LUT PRelu Neg */
extern const ChipModule chip_convert_modules[];   /* convert.c: Quantize-, Dequantize-, RequantizeLinear, and chip_assign */
extern const ChipModule chip_softmax_modules[];   /* softmax.c: Softmax LogSoftmax */
extern const ChipModule chip_norm_modules[];      /* norm.c: Layer-, RMS-, LpNormalization */
extern const ChipModule chip_reduce_modules[];    /* reduce.c: ReduceSum … */
extern const ChipModule chip_move_modules[];      /* move.c: Concat Split Slice Pad Transpose, depth and space, ReverseSequence */
extern const ChipModule chip_gather_modules[];    /* gather.c: Gather ScatterND */
extern const ChipModule chip_view_modules[];      /* view.c: Reshape Flatten Squeeze Unsqueeze Identity */
extern const ChipModule chip_recurrent_modules[]; /* recurrent.c: GRU LSTM */
extern const ChipModule chip_streaming_modules[]; /* streaming.c: StreamingCache */

/* The runtime's assign (CHIP §2.18): also how a model input gets its values. False where the runtime returns false. Written in
 * convert.c; *undefined is set where the vector code leaves elements unwritten (C5). `aligned`: both at 16-byte addresses. */
bool chip_assign(const Chip *chip, Dtype from, int from_exponent, const void *source, Dtype to, int to_exponent, void *destination,
                 int64_t count, const char **undefined);

#endif
