/* Inside of the room: the rounding of one constant, trained between down and up (AdaRound, OPTIM §9). */
#ifndef ESPQ_OPTIM_ROUNDING_H
#define ESPQ_OPTIM_ROUNDING_H

#include "graph/graph.h"

typedef struct SoftRounding {
    Slot *slot;
    int64_t count, outer, inner; /* [outer][channels][inner] */
    int channels;
    float *floors, *v, *seen, *gradient; /* count each; one block of memory, floors first */
} SoftRounding;

/* Starts at the weight as it is: h(v) is what it has above its floor. */
bool soft_rounding_begin(SoftRounding *rounding, Slot *slot, const Tensor *weight, Error *error);
void soft_rounding_end(SoftRounding *rounding);    /* all zero is fine */
void soft_rounding_see(SoftRounding *rounding);    /* seen: softly rounded */
void soft_rounding_harden(SoftRounding *rounding); /* seen: rounded up where v >= 0 */
/* gradient: to v, from that to seen. pull, power: of the regularizer, see SoftRoundF32. */
void soft_rounding_back(SoftRounding *rounding, const float *to_seen, float pull, int power);

#endif
