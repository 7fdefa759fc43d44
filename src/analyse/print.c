/* The reference's bar table (QUANT §12.5). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analyse/analyse.h"
#include "base/memory.h"

#define CELLS 20

static const char *const titles[] = {"NOISE:SIGNAL POWER RATIO", "COSINE SIMILARITY", "MSE LOSS(UNSCALED)"};

/* Characters of UTF-8 text. */
static int width(const char *text)
{
    int count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void add_repeated(Text *text, const char *what, int count)
{
    for (int i = 0; i < count; i++)
        text_add(text, what);
}

/* With a point in every locale. */
static void add_number(Text *text, double value, int digits)
{
    char number[64];
    if (isnan(value)) {
        text_add(text, "nan");
        return;
    }
    snprintf(number, sizeof number, "%.*f", digits, value);
    char *comma = strchr(number, ',');
    if (comma) *comma = '.';
    text_add(text, number);
}

/* Ascending and stable, then read backwards: equal values appear in reverse graph order, as in the reference. */
static void sort_rows(const AnalyseRow **rows, int count)
{
    for (int i = 1; i < count; i++) {
        const AnalyseRow *row = rows[i];
        int k = i;
        for (; k > 0 && row->value < rows[k - 1]->value; k--)
            rows[k] = rows[k - 1];
        rows[k] = row;
    }
}

static void print_row(const AnalyseTable *table, const AnalyseRow *row, int names, double least, double most, Text *text)
{
    double share = (row->value - least) / ((most - least) + 1e-7);
    int blocks = isnan(share) ? 0 : (int)rint(share * CELLS);
    blocks = blocks < 0 ? 0 : blocks > CELLS ? CELLS : blocks;
    text_format(text, "%s:", row->name);
    add_repeated(text, " ", names - width(row->name));
    text_add(text, " | ");
    add_repeated(text, "\u2588", blocks);
    add_repeated(text, " ", CELLS - blocks);
    text_add(text, " | ");
    if (table->measure == MEASURE_MSE)
        add_number(text, row->value, 4);
    else
        add_number(text, row->value * 100, 3);
    text_add(text, table->measure == MEASURE_MSE ? "\n" : "%\n");
}

void analyse_print(const AnalyseTable *table, Text *text)
{
    int names = width("Layer"), not_numbers = 0;
    if (table->count == 0) {
        text_add(text, "Nothing to analyse: no quantized computing operator.\n");
        return;
    }
    const AnalyseRow **rows = memory_new_array((size_t)table->count, sizeof *rows);
    if (!rows) {
        text->failed = true;
        return;
    }
    for (int i = 0; i < table->count; i++) {
        rows[i] = &table->rows[i];
        not_numbers += isnan(rows[i]->value);
        if (width(rows[i]->name) > names) names = width(rows[i]->name);
    }
    sort_rows(rows, table->count);
    text_add(text, "Layer");
    add_repeated(text, " ", names - width("Layer"));
    text_format(text, "  | %s \n", titles[table->measure]);
    for (int i = table->count - 1; i >= 0; i--)
        print_row(table, rows[i], names, rows[0]->value, rows[table->count - 1]->value, text);
    if (not_numbers) text_format(text, "%d of these are not numbers: the float model makes NaN or infinite values there.\n", not_numbers);
    memory_free(rows);
}
