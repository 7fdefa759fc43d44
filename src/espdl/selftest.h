/* A model run from its own bytes: what the runtime's loader refuses, and its own test (CHIP §3.5). */
#ifndef ESPQ_ESPDL_SELFTEST_H
#define ESPQ_ESPDL_SELFTEST_H

#include "chip/chip.h"
#include "espdl/verify.h"

#define SELFTEST_RULE "17.3 self-test" /* of findings about test values */

/* Adds findings: what keeps the model from running, tensors whose recorded shape is not the computed one (warnings), outputs that are undefined on
 * this chip, and the first test output that is not what the chip computes (type, shape, exponent; int8 exact, int16 within one step, floats
 * within 2e-5). Test inputs of streaming models that have the whole sequence are fed frame by frame (C37). False only when memory ends or Ctrl-C came. */
bool espdl_self_test(const EspdlModel *model, const Chip *chip, Findings *findings, Error *error);

/* Adds a warning for each node of which sums leave the chip's accumulators while the file's test inputs run (C1). Only on chips whose lanes
 * saturate; slow: seconds for a network of a billion products. */
bool espdl_test_accumulators(const EspdlModel *model, const Chip *chip, Findings *findings, Error *error);

#endif
