/* A slot: how one end of one node (an input or an output) is quantized. ESP-PPQ's TensorQuantizationConfig; QUANT §3.
 * Quantization is the filling-in of slots; nothing about formats is stored anywhere else. */
#ifndef ESPQ_GRAPH_SLOT_H
#define ESPQ_GRAPH_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rounding.h"

struct Graph;
struct Node;

typedef enum {
    SLOT_INITIAL,      /* waits for calibration */
    SLOT_ACTIVATED,    /* has an exponent: quantizes */
    SLOT_PASSIVE_INIT, /* waits for its master */
    SLOT_PASSIVE,      /* quantizes with its master's or a derived exponent */
    SLOT_OVERLAPPED,   /* replaced by its dominator: does not quantize here */
    SLOT_BAKED,
    SLOT_PASSIVE_BAKED,
    SLOT_FP32 /* never quantized */
} SlotState;

typedef enum { VISIBILITY_EXPORT_WHEN_ACTIVE, VISIBILITY_INTERNAL, VISIBILITY_FORCE_EXPORT } SlotVisibility;

typedef struct Slot {
    SlotState state;
    int bits;
    int64_t minimum, maximum; /* range of the integers */
    Rounding rounding;
    bool per_channel;
    int channel_axis;     /* with per_channel */
    int exponent_count;   /* 0: none yet; 1, or one a channel. value = integer * 2^exponent */
    int *exponents;       /* in the graph's arena */
    const char *observer; /* name of the calibration method */
    int64_t bins;         /* histogram bins, 0: the method's default */
    double percentile;    /* 0: the default 0.9999 */
    SlotVisibility visibility;
    struct Slot *parent;          /* union-find: itself when root */
    struct Node *node;            /* whose end this is */
    bool is_output, is_parameter; /* is_parameter: the end's value is a constant */
    int index;                    /* position among the node's inputs or outputs */
    bool overridden;              /* exponent given by hand: kept, and shown by espq.diff */
    uint32_t id;                  /* "hash" of the .json: counts slots of the graph */
} Slot;

Slot *slot_root(Slot *slot);
const char *slot_state_name(SlotState state);        /* "ACTIVATED" */
bool slot_quantizes(const Slot *slot);               /* ACTIVATED or PASSIVE, with an exponent at its root */
int slot_exponent_count(Slot *slot);                 /* of the root */
int slot_exponent(Slot *slot, int channel);          /* of the root; one exponent answers for every channel */
bool slot_same_scheme(const Slot *a, const Slot *b); /* QUANT §3 same_scheme */

/* QUANT §3 "union-find". Both return false when a would dominate itself (nothing is changed then). */
bool slot_dominate(Slot *slot, Slot *dominator); /* slot.dominated_by = dominator: slot and its root become OVERLAPPED */
bool slot_master(Slot *slot, Slot *master);      /* slot.master_by = master: PASSIVE, or PASSIVE_INIT while master has no scale */

/* Write exponents on a root (state ACTIVATED, INITIAL, FP32, PASSIVE, PASSIVE_INIT); false when memory ends or it is no such root. */
bool slot_set_exponents(struct Graph *graph, Slot *slot, const int *exponents, int count);

#endif
