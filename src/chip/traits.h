/* What the runtime does that one would not expect, one row each: known defects and surprises (CHIP §4), by family of chips and by version
 * of the runtime. Modules ask chip_has(chip, TRAIT_…); nothing else in the room knows a chip by name. */
#ifndef ESPQ_CHIP_TRAITS_H
#define ESPQ_CHIP_TRAITS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    TRAIT_LANES_SATURATE,      /* C1: vector accumulators are narrow */
    TRAIT_BIAS_WRAPS,          /* C2: a bias keeps its low bits only */
    TRAIT_BIAS_LAST,           /* plain C adds the bias after the products */
    TRAIT_NO_CHANNEL_SHIFTS,   /* C3: per-channel weights crash */
    TRAIT_NO_NEGATIVE_SHIFT,   /* C4: a negative shift crashes, or gives 0 */
    TRAIT_CONVERT_TAIL,        /* C5: requantize int8 to int16 leaves the last 8 elements */
    TRAIT_NARROW_MULTIPLIER,   /* C6: multipliers of requantize, resize, PRelu are one byte */
    TRAIT_CONVERT_WRAPS,       /* C7: requantize int16 to int8 upward keeps 20 bits */
    TRAIT_NO_WIDE_RESIZE,      /* C8: Resize of 16 bits does nothing */
    TRAIT_GROUPS_AS_DEPTHWISE, /* C10 */
    TRAIT_SOFTMAX_NO_MAXIMUM,  /* C11 */
    TRAIT_DIV_TABLE_FROZEN,    /* C13 */
    TRAIT_SPLIT_COUNT_AS_SIZE, /* C15 */
    TRAIT_GATHER_NO_WRAP,      /* C16 */
    TRAIT_DEPTH_ORDER,         /* C17: DepthToSpace DCR, SpaceToDepth */
    TRAIT_REVERSE_FORWARD,     /* C18: direction "reverse" runs forward */
    TRAIT_GATES_WRAP,          /* C18: gate sums and cell state wrap in int16 */
    TRAIT_POOL_COUNTS_PADDING, /* C19 */
    TRAIT_FIRST_SAMPLE_ONLY,   /* C22: batch > 1 */
    TRAIT_PRELU_FLOOR,         /* C23: the shift of PRelu's kernels does not round (all but int8 with vectors) */
    TRAIT_PRELU_POSITIVE_RAW,  /* C23: positives keep their integer whatever the exponents (all but int8 with vectors) */
    TRAIT_PRELU_FLOOR_VECTOR,  /* p4_prelu_floor: the other reading of int8 PRelu on esp32p4; off unless asked for */
    TRAIT_CLIP_SMALLEST,       /* C24: a float Clip without lower bound starts at the smallest positive float */
    TRAIT_MUL_FLOAT,           /* C25: Mul goes through a float product where it has no vector */
    TRAIT_RESIZE_WRAPS,        /* C31: nearest Resize upward does not saturate */
    TRAIT_NEWTON_SQRT,         /* C32: its square root stops at an absolute step */
    TRAIT_RESIZE_UNSET,        /* C34: nearest Resize below 16 channels reads unset registers */
    TRAIT_PRELU_LAST_AXIS,     /* C36 */
    TRAIT_COUNT
} ChipTrait;

typedef enum { FAMILY_PLAIN = 1, FAMILY_S3 = 2, FAMILY_P4 = 4, FAMILY_ALL = 7 } ChipFamily;

typedef struct ChipTraitRow {
    const char *name;          /* "lanes_saturate": what a script and a user call it */
    const char *id;            /* "C1" of CHIP; NULL: no defect */
    const char *help;          /* one line: what happens */
    const char *cure;          /* one line: what avoids it */
    unsigned families;         /* where it is */
    const char *since, *until; /* versions of the runtime; NULL: from the first known, to this day. `until` is the first without it */
    bool defect;               /* taken away by `mended`; false: an arithmetic that is as it is */
    unsigned older;            /* families that had it until `older_until`, and no longer */
    const char *older_until;
    bool asked; /* off unless somebody asks for it by name */
} ChipTraitRow;

const ChipTraitRow *chip_trait(ChipTrait trait);
int chip_trait_find(const char *name);  /* its number, -1 when there is none */
const char *const *chip_versions(void); /* known versions of the runtime, oldest first, NULL at the end */

#endif
