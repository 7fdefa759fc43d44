/* A convolution of 1 x 1 over joined channels is a sum: one convolution a part. Where a part was enlarged by repeating pixels, the small
 * form is convolved and its result enlarged, a quarter of the work; and a replay that leaves a part untouched takes that part's kept
 * result. The order of the sum differs from the convolution's, so this serves figures only (Prepare.approximate). */
#ifndef ESPQ_EXEC_SUMS_H
#define ESPQ_EXEC_SUMS_H

#include "exec/program.h"

typedef struct SumPart {
    int value;           /* what is convolved: the joined value, or what it was enlarged from */
    ProgramStep conv;    /* over this part's channels; the bias goes with the first part that is not enlarged */
    ProgramStep enlarge; /* the result of conv; node NULL: nothing to enlarge */
    bool kept;           /* some replay leaves it untouched: its result of the float walk is kept */
    size_t kept_offset;  /* like Replay.kept_offset */
} SumPart;

typedef struct Sum {
    int step, output; /* of the convolution it stands for, and the value written */
    int part_count;
    SumPart *parts;
    size_t bytes;       /* of the output of a piece, rounded up; a part's result takes as much */
    size_t small_bytes; /* of the largest result before it is enlarged */
} Sum;

typedef struct Sums {
    int count;
    Sum *items;
    Sum **of_step;        /* one a step: its sum, NULL */
    bool *skipped;        /* one a step: only sums read what it gives, so replays leave it out */
    size_t scratch_bytes; /* of all parts */
    size_t memory_bytes;  /* a piece: for the results of one sum */
} Sums;

/* layer_steps: steps that are replayed by themselves, no sum may go around them unless it stands for them. */
bool sums_find(Sums *sums, Program *program, const int *layer_steps, int layer_count, Error *error);
void sums_free(Sums *sums);

/* Is a part made of changed values? NULL: all are. */
bool sum_touched(const Sum *sum, const bool *changed);

/* The result of one part for `count` pieces that lie side by side, x to y. small: small_bytes for each piece. */
void sum_part_run(const Program *program, const Sum *sum, const SumPart *part, int count, char *x, char *y, char *small, void *scratch);
/* y = the sum of the parts' results. */
void sum_add(const Program *program, const Sum *sum, int count, char *const *parts, char *y);

#endif
