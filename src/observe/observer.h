/* Observers: what a calibration method remembers of the batches it sees, and the exponent it draws from it (QUANT §8). One row
 * a method. Nothing of the data is kept but ranges and histograms. */
#ifndef ESPQ_OBSERVE_OBSERVER_H
#define ESPQ_OBSERVE_OBSERVER_H

#include "graph/graph.h"

typedef struct Observer Observer;

typedef struct ObserverRow {
    const char *name; /* "kl": setting.quantize_activation_setting.calib_algorithm */
    const char *help;
    int walks;                                                                        /* 1 or 2 over the data */
    bool per_channel;                                                                 /* can it choose one exponent a channel? */
    size_t state_bytes;                                                               /* of its own memory, zeroed */
    bool (*observe)(Observer *observer, const Tensor *batch, int walk, Error *error); /* walk 0, 1 */
    bool (*between)(Observer *observer, Error *error);                                /* after walk 0, when there are two */
    bool (*exponents)(Observer *observer, int *exponents, Error *error);              /* count as the slot says */
    void (*release)(Observer *observer);
    bool parallel;       /* may run in any thread; false: it calls back into a script */
    bool any_order;      /* neither the order of what it sees matters, nor how a batch is cut into pieces */
    const char *refused; /* why an integer target cannot use it (constant, floating); NULL: it can */
} ObserverRow;

struct Observer {
    const ObserverRow *row;
    Slot *slot;
    const char *value_name;            /* for messages */
    int channels;                      /* 1 when per tensor */
    bool mse_fixed;                    /* switch of QUANT D7 */
    double seen_minimum, seen_maximum; /* over everything, for reports (dead tensors) */
    int64_t batches;
    void *state;
};

const ObserverRow *observer_row(const char *name); /* case-insensitive; NULL when unknown */
const ObserverRow *observer_row_at(int index);
const char *observer_nearest(const char *name); /* NULL when none is near */
Observer *observer_new(const ObserverRow *row, Slot *slot, const char *value_name, int channels, Error *error);
bool observer_observe(Observer *observer, const Tensor *batch, int walk, Error *error); /* refuses NaN and infinities, naming index */
bool observer_between(Observer *observer, Error *error);
bool observer_exponents(Observer *observer, int *exponents, Error *error);
void observer_free(Observer *observer);
bool observer_register(const ObserverRow *row); /* a Lua observer; the row must live on. false: the name is taken or memory ends */
void observer_unregister(const char *name);

/* All walks over one constant: exponents gets one a channel (count of channels along the slot's axis when it is per channel, else 1).
 * `times`: how often the second walk shows it (the reference shows a parameter once a batch, which the histogram of kl notices). */
bool observer_constant(const ObserverRow *row, Slot *slot, const char *value_name, const Tensor *constant, int64_t times, bool mse_fixed,
                       int *exponents, Error *error);

/* QUANT §8.2: exponent of a range. */
int exponent_of_range(double minimum, double maximum, int64_t quant_minimum, int64_t quant_maximum, double floor_scale);

/* ---- for the rows ---- */

extern const ObserverRow observer_minmax, observer_percentile, observer_isotone, observer_kl, observer_mse;

/* The 1-based positions of the two order statistics of QUANT §8.3 among n elements. */
void percentile_positions(int64_t n, double percentile, int64_t *low, int64_t *high);
/* The values at these positions of x in ascending order, exactly. false: memory. */
bool order_statistics_f32(const float *x, int64_t n, int64_t low, int64_t high, float *at_low, float *at_high, Error *error);

/* Searches over a histogram of |x| on [0, range]. kl_scale: the scale before it becomes a power of two (QUANT §8.4); *best: the
 * winning number of bins, NULL when nobody asks. mse_end: the upper end in bins (§8.5; fixed: D7). */
bool kl_scale(const float *histogram, int64_t bins, double range, int64_t levels, double *scale, int64_t *best, Error *error);
int64_t mse_end(const double *histogram, int64_t bins, int64_t quant_minimum, int64_t quant_maximum);
int64_t mse_end_fixed(const double *histogram, int64_t bins, int64_t levels);

#endif
