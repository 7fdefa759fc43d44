/* A graph of nodes and values. A value is a tensor's name, dtype, shape, constant (or none), one producer and its consumers;
 * a node has a row (graph/operator.h), typed attributes, inputs and outputs. The graph owns all of it in one arena; constants
 * are counted tensors. Edits keep every link true; graph_check() proves it.
 *
 * Order: `nodes` and `values` are in the reference's dictionary order (load order, created ones appended), on which report
 * order, pass order and generated names depend (QUANT §2.3). graph_sort gives the order of execution. */
#ifndef ESPQ_GRAPH_GRAPH_H
#define ESPQ_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/error.h"
#include "base/map.h"
#include "base/text.h"
#include "graph/slot.h"
#include "tensor/tensor.h"

typedef struct Graph Graph;
typedef struct Node Node;
typedef struct Value Value;
typedef struct Operator Operator; /* graph/operator.h */
struct Platform;                  /* quant/target.h */
struct DeviceValue;               /* lower/device.h */

typedef enum {
    ATTRIBUTE_INT,
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_STRING,
    ATTRIBUTE_INTS,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_STRINGS,
    ATTRIBUTE_TENSOR
} AttributeKind;

typedef struct Attribute {
    const char *name;
    AttributeKind kind;
    int64_t integer;
    float number;
    const char *string; /* NUL-terminated; ONNX strings are bytes, taken as UTF-8 */
    int count;          /* of the lists */
    int64_t *integers;
    float *numbers;
    const char **strings;
    Tensor *tensor; /* owned by the graph */
} Attribute;

typedef struct Use { /* one consumer edge */
    Node *node;
    int index; /* of the node's inputs */
} Use;

/* What a model that was quantized before says of a tensor (its QuantizeLinear): value = integer * scale, integers from low to high,
 * zero point taken off. */
typedef struct Given {
    int count; /* of scales: 1, or one a channel */
    const float *scales;
    int64_t low, high;
} Given;

struct Value {
    const char *name;
    Dtype dtype; /* DTYPE_NONE: not known */
    bool shaped; /* shape is known */
    Shape shape;
    Tensor *constant; /* a parameter's contents, NULL for an activation */
    Tensor *unbaked;  /* what baking, or a corrected bias, put `constant` in place of: float runs read it; NULL: nothing */
    Node *producer;   /* NULL: graph input or parameter */
    int producer_index;
    Use *uses; /* consumer edges, in the order they were made */
    int use_count, use_capacity;
    const Given *given;         /* NULL: the model says nothing; in the graph's arena */
    struct DeviceValue *device; /* only in a lowered graph */
    bool removed;               /* no longer in the graph; a handle says so */
};

struct Node {
    const char *name;
    const char *type;   /* ONNX's name of the operator */
    const char *domain; /* "" or "ai.onnx" for ONNX's own */
    int opset;
    const Operator *op; /* the row; NULL: unknown type (refused before anything runs) */
    Attribute *attributes;
    int attribute_count, attribute_capacity;
    Value **inputs; /* NULL: an optional input left out */
    int input_count, input_capacity;
    Value **outputs; /* NULL: an optional output left out */
    int output_count, output_capacity;
    const struct Platform *platform; /* NULL: unspecified; see quant/target.h */
    bool quantized;                  /* has slots */
    bool wide;                       /* its platform sums in float64 (H_PRE); set with the slots */
    Slot **input_slots;              /* one an input, when quantized */
    Slot **output_slots;
    Slot *slot_pool;
    bool removed;
    bool unnamed; /* the model gave it no name: generated_name_<k> (QUANT §2.2) */
};

struct Graph {
    Arena arena;
    const char *name;
    const char *source; /* path of the file it came from, for messages; may be NULL */
    int ir_version, opset;
    Node **nodes; /* dictionary order */
    int node_count, node_capacity;
    Value **values; /* dictionary order */
    int value_count, value_capacity;
    Value **inputs; /* graph inputs, the model's order (no initializers) */
    int input_count, input_capacity;
    Value **outputs;
    int output_count, output_capacity;
    Map node_names, value_names;
    int next_operation, next_variable; /* PPQ_Operation_<k>, PPQ_Variable_<k> */
    uint32_t next_slot;
    Text removed_names; /* of nodes that were removed, each with its NUL: a setting that names one gets a note instead of an error */
    Text shared_names;  /* names that several nodes of the model had, each with its NUL: no setting can mean one of them */
    Text notes;         /* what the user should know: one line each; shown by the report */
};

/* Life */
Graph *graph_new(const char *name, Error *error);
Graph *graph_copy(const Graph *graph, Error *error); /* structure and slots copied, constants shared; device data is not copied */
void graph_free(Graph *graph);                       /* NULL is fine */

/* Making. A NULL name makes the next generated one (PPQ_Operation_k, PPQ_Variable_k). Equal names are an error. */
Node *graph_add_node(Graph *graph, const char *type, const char *name, Error *error); /* appended; looks up its row */
Value *graph_add_value(Graph *graph, const char *name, Error *error);
Value *graph_add_constant(Graph *graph, const char *name, Tensor *constant, Error *error); /* retains the tensor */
bool graph_add_input(Graph *graph, Value *value, Error *error);
bool graph_add_output(Graph *graph, Value *value, Error *error);
Node *graph_node(const Graph *graph, const char *name); /* NULL when there is none */
Value *graph_value(const Graph *graph, const char *name);
bool graph_rename_node(Graph *graph, Node *node, const char *name, Error *error);
bool graph_rename_value(Graph *graph, Value *value, const char *name, Error *error);

/* Linking. Inputs and outputs may be NULL (left out). Slots of a quantized node move with its ends; a new end of a quantized
 * node gets a slot in state FP32 at the node's width. */
bool node_add_input(Graph *graph, Node *node, Value *value, Error *error);
bool node_add_output(Graph *graph, Node *node, Value *value, Error *error);
bool node_insert_input(Graph *graph, Node *node, int index, Value *value, Error *error);
bool node_set_input(Graph *graph, Node *node, int index, Value *value, Error *error);  /* the old one loses this use */
bool node_set_output(Graph *graph, Node *node, int index, Value *value, Error *error); /* value's old producer loses it */
void node_remove_input(Graph *graph, Node *node, int index);
bool value_replace_uses(Graph *graph, Value *from, Value *to, Error *error); /* every consumer of from reads to; graph outputs stay */
bool value_set_constant(Graph *graph, Value *value, Tensor *constant);       /* retains; NULL clears; sets dtype and shape */

/* Removing. Names become free again. */
void graph_remove_node(Graph *graph, Node *node);    /* unlinks its inputs and outputs; values stay */
void graph_remove_value(Graph *graph, Value *value); /* must have no producer and no uses */
void graph_remove_unused(Graph *graph);              /* QUANT §2.3-16: nodes nobody reads, then values nobody knows */

/* Put `node` (already added, no links) between value and use k of it: node reads value and writes `made`, the consumer reads made. */
bool graph_insert_before_use(Graph *graph, Node *node, Value *value, Use use, Value *made, Error *error);

/* Asking */
bool value_is_input(const Graph *graph, const Value *value);
bool value_is_output(const Graph *graph, const Value *value);
int value_use_index(const Value *value, const Node *node); /* first position of value among node's inputs, -1 */
int node_consumer_count(const Node *node);                 /* consumer edges of all outputs */
const char *node_where(const Node *node, char out[256]);   /* "Conv /model/conv1" (escaped), for messages */

/* Attributes. The getters return the given default when the attribute is absent or of another kind. */
const Attribute *node_attribute(const Node *node, const char *name);
int64_t node_integer(const Node *node, const char *name, int64_t otherwise);
float node_number(const Node *node, const char *name, float otherwise);
const char *node_string(const Node *node, const char *name, const char *otherwise);
int node_integers(const Node *node, const char *name, int64_t *out, int capacity); /* count, -1 when absent; at most capacity are copied */
bool node_set_integer(Graph *graph, Node *node, const char *name, int64_t value);  /* false: memory */
bool node_set_number(Graph *graph, Node *node, const char *name, float value);
bool node_set_string(Graph *graph, Node *node, const char *name, const char *value);
bool node_set_integers(Graph *graph, Node *node, const char *name, const int64_t *values, int count);
bool node_set_attribute(Graph *graph, Node *node, const Attribute *attribute); /* copies, also the name; retains a tensor */
void node_remove_attribute(Node *node, const char *name);
bool node_copy_attributes(Graph *graph, Node *to, const Node *from);

/* Slots */
bool node_make_slots(Graph *graph, Node *node, Error *error); /* one zeroed slot (root, FP32) an end; marks the node quantized */

/* Order of execution: Kahn's algorithm with a FIFO, the first queue in dictionary order, edges counted with multiplicity
 * (QUANT §10.1). *order has node_count entries and is freed by the caller with memory_free. Fails on a cycle, naming a node. */
bool graph_sort(const Graph *graph, Node ***order, Error *error);

/* The definition of a legal graph: links in both directions, names, one producer, no cycle, slots. */
bool graph_check(const Graph *graph, Error *error);

/* One line a node, with shapes, dtypes and (where there are slots) exponents: what `espq dump` prints. */
void graph_print(const Graph *graph, Text *text);

/* dtype and shape of every value, by the rows (`infer`), from the graph inputs' shapes. Nothing is folded: simplify does that.
 * Fails naming the node and the shapes it saw. */
bool graph_infer(Graph *graph, Error *error);

/* A note for the user, one line, shown once by the report. */
void graph_note(Graph *graph, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
