/* Inside of the room: weights in training are drawn back to where they began. */
#ifndef ESPQ_OPTIM_PULL_H
#define ESPQ_OPTIM_PULL_H

#include "exec/backward.h"

/* Adam moves a weight that the data hardly say anything about as far as any other, and other data then see it as noise. So to the gradient
 * of each weight (not of biases) that leads back to the graph's constant is added: pull * the root mean square of its tensor's gradients *
 * the way the weight went, in root mean squares of the tensor. */
void pull_to_start(const BackwardParameter *parameters, int count, double pull);

#endif
