/* Observers: what a calibration method remembers of the batches it sees, and the exponent it draws from it (QUANT §8). One row
 * a method. Nothing of the data is kept but ranges and histograms. */
#ifndef ESPQ_OBSERVE_OBSERVER_H
#define ESPQ_OBSERVE_OBSERVER_H

#include "graph/graph.h"

typedef struct Observer Observer;

typedef struct ObserverRow {
    const char *name;               /* "kl": setting.quantize_activation_setting.calib_algorithm */
    const char *help;
    int walks;                      /* 1 or 2 over the data */
    bool per_channel;               /* can it choose one exponent a channel? */
    size_t state_bytes;             /* of its own memory, zeroed */
    bool (*observe)(Observer *observer, const Tensor *batch, int walk, Error *error);   /* walk 0, 1 */
    bool (*between)(Observer *observer, Error *error);                                  /* after walk 0, when there are two */
    bool (*exponents)(Observer *observer, int *exponents, Error *error);                /* count as the slot says */
    void (*release)(Observer *observer);
} ObserverRow;

struct Observer {
    const ObserverRow *row;
    Slot *slot;
    const char *value_name;         /* for messages */
    int channels;                   /* 1 when per tensor */
    bool mse_fixed;                 /* switch of QUANT D7 */
    double seen_minimum, seen_maximum;   /* over everything, for reports (dead tensors) */
    int64_t batches;
    void *state;
};

const ObserverRow *observer_row(const char *name);      /* case-insensitive; NULL when unknown */
const ObserverRow *observer_row_at(int index);
Observer *observer_new(const ObserverRow *row, Slot *slot, const char *value_name, int channels, Error *error);
bool observer_observe(Observer *observer, const Tensor *batch, int walk, Error *error);   /* refuses NaN and infinities, naming index */
bool observer_between(Observer *observer, Error *error);
bool observer_exponents(Observer *observer, int *exponents, Error *error);
void observer_free(Observer *observer);
bool observer_register(const ObserverRow *row);         /* a Lua observer */

/* QUANT §8.2: exponent of a range. */
int exponent_of_range(double minimum, double maximum, int64_t quant_minimum, int64_t quant_maximum, double floor_scale);

#endif
