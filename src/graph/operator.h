/* What an operator is: one row. Everything about an operator that any driver (exec, quant, lower, chip) needs to know is a
 * column here; a missing column is a fact that can be asked for (`espq ops`). Rows live in src/ops, a family a file; the
 * list of all is src/ops/list.c. No driver names an operator: it asks the row through node->op. */
#ifndef ESPQ_GRAPH_OPERATOR_H
#define ESPQ_GRAPH_OPERATOR_H

#include "graph/graph.h"

/* ---- running ---- */

/* prepare: shapes and constants only. It may fail (unsupported combination: name the attribute), and leaves what run needs in
 * `state` (freed by `release`, also when prepare failed after setting it) and the bytes of scratch memory run needs. */
typedef struct Prepare {
    const Node *node;
    const Tensor *const *constants; /* one an input: the constant as this run sees it (fake-quantized in simulation), NULL at run time */
    const Shape *input_shapes;      /* shapes of this plan (batch included); rank -1 for an absent input */
    const Shape *output_shapes;
    const Dtype *input_dtypes;
    const Dtype *output_dtypes;
    bool exact;       /* switch onnx_exact_ops: as ONNX says; else as the reference (QUANT §10.3, D19) */
    bool wide;        /* sums in float64 (H_PRE platforms, QUANT §10.2) */
    bool simulated;   /* quantization is simulated (recurrent operators differ, QUANT §10.4) */
    bool approximate; /* only figures depend on this run: sums may be made in another order */
    void *state;
    size_t scratch_bytes;
} Prepare;

/* run: allocates nothing, cannot fail. Inputs and outputs are contiguous and have the prepared shapes. May call threads_for. */
typedef struct Run {
    const Node *node;
    Tensor *const *inputs; /* NULL: absent */
    Tensor *const *outputs;
    const void *state;
    void *scratch; /* 64-byte aligned */
} Run;

/* gradient (OPTIM §13): what the loss gains by each input that is asked for, given what it gains by each output. Called behind a run of
 * the same tensors with the same state. Allocates nothing, cannot fail. Sums over samples or pixels are made in the order that
 * kernel/gradient.h defines, so that the result does not depend on threads. */
typedef struct Gradient {
    const Node *node;
    Tensor *const *inputs;           /* as run saw them; NULL: absent */
    Tensor *const *outputs;          /* as run left them, before they were quantized */
    Tensor *const *output_gradients; /* NULL: the loss does not hang on this output; one at least is there */
    Tensor *const *input_gradients;  /* NULL: not asked for; else every element is written (nothing is added to it) */
    const void *state;               /* of prepare */
    void *scratch;                   /* as many bytes as gradient_scratch says, 64-byte aligned */
} Gradient;

/* ---- quantization (QUANT §4, §6) ---- */

typedef enum {
    OPERATOR_QUANTIZABLE = 1 << 0, /* QUANT §4.4 */
    OPERATOR_COMPUTING = 1 << 1,   /* K of QUANT §6: measured by the analyses */
    OPERATOR_PASSIVE = 1 << 2,     /* P of QUANT §6: moves numbers, output shares the input's slot */
    OPERATOR_CLAMP = 1 << 3,       /* Relu, Clip: what precedes shares their output slot (6.1 a, c) */
    OPERATOR_SHAPE_ONLY = 1 << 4,  /* result depends on the input's shape only (Shape, Size) */
    OPERATOR_WEIGHTED = 1 << 5,    /* input 1 is a weight and the last of more than 2 inputs a bias (Conv, ConvTranspose, Gemm) */
    OPERATOR_RANDOM = 1 << 6,
    OPERATOR_SEQUENCE = 1 << 7,     /* its first axis may be time: the entries along it are no independent samples */
    OPERATOR_IN_PLACE = 1 << 8,     /* output 0 may lie where input 0 lies when both have as many elements of one dtype */
    OPERATOR_ANY_BATCH = 1 << 9,    /* run takes any multiple of the samples (axis 0 of input 0 and output 0) it was prepared for */
    OPERATOR_JOINS = 1 << 10,       /* output is input after input along the attribute `axis` */
    OPERATOR_CHANNEL_SUM = 1 << 11, /* output channels are sums over input 0's, weighted by input 1 [output][input][window], and a bias */
    OPERATOR_ELEMENTWISE = 1 << 12  /* output 0 is input 0 element by element: run and gradient take any stretch, without scratch */
} OperatorFlags;

typedef enum { ALIGN_NEVER, ALIGN_ELEMENTWISE, ALIGN_CONCAT, ALIGN_POOLING, ALIGN_RESIZE, ALIGN_LOGICAL, ALIGN_RECURRENT } AlignKind;

/* ---- lowering (EXPORT §4, §6, §7, §14) ---- */

typedef enum {
    LAYOUT_NONE, /* unknown to the layout pass */
    LAYOUT_CONV,
    LAYOUT_PASSIVE,
    LAYOUT_ADD,
    LAYOUT_AXIS,
    LAYOUT_CONCAT,
    LAYOUT_RESIZE,
    LAYOUT_OTHER
} LayoutClass;

typedef enum { PACK_NONE, PACK_CONV, PACK_GEMM, PACK_MATMUL } PackKind;

/* One element of a look-up table: y = f(x). parameters: dequantized further inputs (Clip bounds, PRelu slope), NAN when absent. */
typedef double (*TableFunction)(const Node *node, double x, const double *parameters, int parameter_count);

/* What the runtime's registered module takes: EXPORT §17.2, §17.4. */
typedef enum { MODULE_S8 = 1, MODULE_S16 = 2, MODULE_F32 = 4, MODULE_ALL = 7 } ModuleTypes;

typedef struct AttributeSpec {
    const char *name;
    AttributeKind kind;
    bool required;
    double number;     /* default of INT and FLOAT */
    const char *text;  /* default of STRING; for STRING: NULL, none */
    const char *words; /* STRING: the values known, by '|' */
} AttributeSpec;

typedef struct Cost {
    int64_t macs, parameter_bytes;
} Cost;

struct Operator {
    const char *name;
    const char *help; /* one line */
    struct {
        int least, most;
    } inputs, outputs;
    AttributeSpec attributes[14]; /* ends with a NULL name; attributes not listed pass through untouched */

    /* Output dtypes and shapes from the inputs' (value->shape, ->dtype, ->constant). NULL: the operator cannot run. */
    bool (*infer)(Graph *graph, Node *node, Error *error);
    bool (*prepare)(Prepare *prepare, Error *error); /* NULL: nothing to prepare */
    void (*release)(void *state);                    /* NULL: memory_free */
    void (*run)(const Run *run);
    bool (*repeats)(const Node *node);          /* every output element is a copy of one of input 0 in the same channel; NULL: never */
    void (*gradient)(const Gradient *gradient); /* NULL: nothing is learnt through this operator */
    size_t (*gradient_scratch)(const Prepare *prepare); /* after prepare; NULL: none; SIZE_MAX: these attributes have no gradient */
    uint32_t gradient_fixed; /* bit i: input i gains nothing, gradient never writes it (bounds, scales of Resize) */

    unsigned flags;
    uint32_t float_inputs; /* bit i: input i is never quantized (QUANT §4.5) */
    uint32_t float_outputs;
    uint32_t
        scaled_inputs; /* bit i: input i counts in input 0's steps and follows its slot (QUANT §7.2: Clip's bounds 1 and 2, Pad's value 2) */
    AlignKind align;
    /* Finishes the slots that quant made for this node by the general rule (QUANT §4.3); NULL: nothing special. */
    bool (*slots)(Graph *graph, Node *node, Error *error);

    LayoutClass layout;
    PackKind pack;
    TableFunction table;       /* NULL: never a table */
    bool fuses_relu;           /* the lowering takes a following Relu in, attribute `activation` (EXPORT §2.3) */
    bool swaps_transpose;      /* of the activation list of EXPORT §4.8 */
    const char *becomes_input; /* attribute that lowering turns into a last input (EXPORT §2.1): "axes", "split" */
    unsigned module;           /* ModuleTypes; 0: the runtime has none */
    const char *module_cure;   /* module == 0: what the user can do instead */

    void (*cost)(const Node *node, Cost *cost);
};

/* Rows, by ONNX type. Declared here, defined in src/ops (the list). */
const Operator *operator_find(const char *type);
const Operator *operator_at(int index);         /* NULL behind the last: for `espq ops` and tests over all rows */
const char *operator_nearest(const char *type); /* NULL when none is near */
bool operator_register(const Operator *row);    /* a Lua operator; false: the name is taken or memory ends */
void operator_unregister(const char *type);
bool operator_is_built_in(const Operator *row); /* one of espq's own, none that was registered */

#endif
