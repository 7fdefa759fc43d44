/* What an optimizer does to a run of parameters, and the soft rounding of AdaRound. Each is defined element by element in plain C
 * (update_plain.c); variants and threads are bit-equal to it. */
#ifndef ESPQ_KERNEL_UPDATE_H
#define ESPQ_KERNEL_UPDATE_H

#include <stdbool.h>
#include <stdint.h>

/* Adam as PyTorch computes it (OPTIM §6.4): decay is added to the gradient, or, `decoupled`, taken off the values first (AdamW). */
typedef struct AdamF32 {
    float step;           /* rate / (1 - beta1^t) */
    float inverse_root;   /* 1 / sqrt(1 - beta2^t) */
    float rest1, keep2;   /* 1 - beta1, beta2 */
    float rest2, epsilon; /* 1 - beta2 */
    float shrink, decay;  /* shrink: values are multiplied by it first, 1: no; decay: of the values, added to the gradient */
} AdamF32;

/* m = m + (g - m) * rest1; v = v * keep2 + rest2 * g * g; w = w - step * m / (sqrt(v) * inverse_root + epsilon) */
void adam_f32(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count);

/* m = m * keep + g (+ decay * w); w = w - rate * m; `nesterov`: w = w - rate * (g + keep * m). m NULL: w = w - rate * g. */
typedef struct MomentumF32 {
    float rate, keep, decay;
    bool nesterov;
} MomentumF32;

void momentum_f32(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count);

/* AdaRound (OPTIM §9): h(v) = clamp(1.2 * sigmoid(v) - 0.1, 0, 1). floors: floor(w / scale). */
typedef struct SoftRoundF32 {
    float scale, minimum, maximum;
    float pull; /* of the regularizer: pull * (1 - |2h - 1|^power) is added to the loss for each element; 0: none */
    int power;
} SoftRoundF32;

/* y = clamp(floors + h(v), minimum, maximum) * scale */
void soft_round_f32(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count);
/* dv = (dy * scale where the sum lies in the range, + the regularizer's) * h'(v), 0 where h is clamped. dv may be dy. */
void soft_round_gradient_f32(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv, int64_t count);

#endif
