/* What of a device graph a user should know before a board is there: shifts, tables, and where the chip computes in floats. No data needed. */
#ifndef ESPQ_ANALYSE_DEVICE_H
#define ESPQ_ANALYSE_DEVICE_H

#include "chip/chip.h"

typedef enum {
    ON_CHIP_INTEGERS, /* integers all the way */
    ON_CHIP_INSIDE,   /* integers in and out, floats between: slow, and rounded as floats are */
    ON_CHIP_FLOATS    /* floats in memory: four bytes an element, no vectors */
} OnChip;

typedef struct DeviceRow {
    const char *node, *type; /* of the device graph; live as long as it */
    const char *width;       /* "S8", "S16", "F32" */
    OnChip computes;
    bool shifts;                      /* products are shifted right by `shift` bits: the smallest over all channels */
    int shift;                        /* below 0: the chip has no such shift */
    int64_t entries;                  /* of its look-up table; 0: none */
    bool judged;                      /* the table was held against the function, over all integers that it can be asked for */
    double table_largest, table_mean; /* error in steps of the output */
} DeviceRow;

typedef struct DeviceTable {
    int count;
    DeviceRow *rows; /* the order of the graph's nodes */
} DeviceTable;

/* graph: what the device graph was lowered from, whose functions the tables of 16 bits are held against. */
bool analyse_device(const Graph *device, Graph *graph, const Chip *chip, DeviceTable *table, Error *error);
void device_table_free(DeviceTable *table);

#endif
