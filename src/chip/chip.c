/* Which arithmetic a chip and a runtime have. */
#include "chip/chip.h"

#include <string.h>

unsigned chip_family(const Target *target)
{
    const Platform *platform = target->platforms[0];
    return platform->plain_layout ? FAMILY_PLAIN : platform->per_channel ? FAMILY_P4 : FAMILY_S3;
}

static int position(const char *version)
{
    const char *const *versions = chip_versions();
    for (int i = 0; versions[i]; i++) {
        if (strcmp(versions[i], version) == 0) return i;
    }
    return -1;
}

static int newest(void)
{
    int count = 0;
    while (chip_versions()[count])
        count++;
    return count - 1;
}

static bool in_force(const ChipTraitRow *row, unsigned family, int at, bool mended)
{
    if (row->asked || (row->defect && mended)) return false;
    if (row->older & family && at < position(row->older_until)) return true;
    if (!(row->families & family) || (row->since && at < position(row->since))) return false;
    return !row->until || at < position(row->until);
}

bool chip_init(Chip *chip, const Target *target, const char *version, bool mended, Error *error)
{
    int at = version ? position(version) : newest();
    if (at < 0)
        return fail(error, version, "`espq targets --defects` prints what is known by version",
                    "unknown version of the runtime; known are %s to %s", chip_versions()[0], chip_versions()[newest()]);
    unsigned family = chip_family(target);
    *chip = (Chip){.target = target, .rounding = target->rounding};
    for (int i = 0; i < TRAIT_COUNT; i++) {
        if (in_force(chip_trait((ChipTrait)i), family, at, mended)) chip->traits |= UINT64_C(1) << i;
    }
    if (family == FAMILY_PLAIN) return true;
    chip->vector_bytes = 16;
    chip->scalar_bits = 40;
    if (family == FAMILY_P4) {
        chip->lane_bits[0] = 32;
        chip->lane_bits[1] = 64;
    } else if (chip_has(chip, TRAIT_LANES_SATURATE)) {
        chip->lane_bits[0] = 20;
        chip->lane_bits[1] = 40;
    }
    return true;
}

void chip_set(Chip *chip, ChipTrait trait, bool on)
{
    uint64_t bit = UINT64_C(1) << trait;
    chip->traits = on ? chip->traits | bit : chip->traits & ~bit;
}
