#include "espdl/array_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tensor/tensor.h"

/* NumPy's line: 75 characters less the closing bracket and a comma; what follows a break is indented below the first number. */
enum { LINE_WIDTH = 75, WORD_END = LINE_WIDTH - 2, INDENT = 7, FRACTION_DIGITS = 8 };

typedef struct Decimal { /* the shortest digits that give the float back: 0.d1d2d3… * 10^exponent */
    bool negative;
    char digits[20];
    int count, exponent;
    const char *special; /* "nan", "inf", NULL */
} Decimal;

typedef struct Layout { /* widths common to all numbers of an array */
    bool scientific;
    int left, right, exponent_digits;
} Layout;

static double element(Dtype dtype, const char *data)
{
    float single;
    double wide;
    uint16_t half;
    switch (dtype) {
    case DTYPE_FLOAT32: memcpy(&single, data, 4); return (double)single;
    case DTYPE_FLOAT16: memcpy(&half, data, 2); return (double)half_to_float(half);
    default: memcpy(&wide, data, 8); return wide;
    }
}

static Decimal decimal_of(Dtype dtype, double value)
{
    Decimal decimal = {.negative = signbit(value) && !isnan(value)};
    if (!isfinite(value)) {
        decimal.special = isnan(value) ? "nan" : decimal.negative ? "-inf" : "inf";
        return decimal;
    }
    char text[32];
    if (dtype == DTYPE_FLOAT64)
        text_from_double(text, fabs(value));
    else
        text_from_float(text, fabsf((float)value));
    int point = -1, exponent = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '.') {
            point = decimal.count;
        } else if (*at == 'e' || *at == 'E') {
            exponent = atoi(at + 1);
            break;
        } else if (decimal.count || *at != '0') {
            decimal.digits[decimal.count++] = *at;
        } else if (point >= 0) {
            exponent--; /* a zero right behind the point */
        }
    }
    decimal.exponent = exponent + (point < 0 ? decimal.count : point);
    while (decimal.count && decimal.digits[decimal.count - 1] == '0')
        decimal.count--;
    if (!decimal.count) decimal.exponent = 0;
    return decimal;
}

/* "12.5" in whole and fraction, at most eight digits behind the point; the value, not its shortest digits, is rounded then.
 * Values below 10^8 only: their product with 10^8 is exact in double (24 bits of a float and 19 of 5^8). */
static void fixed_parts(const Decimal *decimal, double value, char whole[40], char fraction[40])
{
    if (decimal->count - decimal->exponent > FRACTION_DIGITS) {
        int64_t scaled = (int64_t)rint(fabs(value) * 1e8);
        snprintf(whole, 40, "%s%" PRId64, decimal->negative ? "-" : "", scaled / 100000000);
        snprintf(fraction, 40, "%08" PRId64, scaled % 100000000);
    } else {
        int at = decimal->negative ? 1 : 0, behind = 0;
        whole[0] = '-';
        for (int i = 0; i < decimal->exponent; i++)
            whole[at++] = i < decimal->count ? decimal->digits[i] : '0';
        if (decimal->exponent <= 0) whole[at++] = '0';
        whole[at] = 0;
        for (int i = decimal->exponent; i < decimal->count; i++)
            fraction[behind++] = i < 0 ? '0' : decimal->digits[i];
        fraction[behind] = 0;
    }
    for (size_t end = strlen(fraction); end && fraction[end - 1] == '0'; end--)
        fraction[end - 1] = 0;
}

static int exponent_digits(const Decimal *decimal)
{
    int exponent = decimal->count ? abs(decimal->exponent - 1) : 0;
    return exponent > 99 ? 3 : 2;
}

static Layout layout_of(Dtype dtype, const char *data, size_t count)
{
    Layout layout = {0};
    size_t bytes = dtype_bytes(dtype);
    double largest = 0, smallest = INFINITY;
    for (size_t i = 0; i < count; i++) {
        double size = fabs(element(dtype, data + i * bytes));
        if (!isfinite(size) || size == 0) continue;
        largest = size > largest ? size : largest;
        smallest = size < smallest ? size : smallest;
    }
    layout.scientific = largest > 0 && (largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1000);
    int special = 0;
    for (size_t i = 0; i < count; i++) {
        double value = element(dtype, data + i * bytes);
        Decimal decimal = decimal_of(dtype, value);
        char whole[40], fraction[40];
        int left, right;
        if (decimal.special) {
            special = (int)strlen(decimal.special) > special ? (int)strlen(decimal.special) : special;
            continue;
        }
        if (layout.scientific) {
            left = decimal.negative ? 2 : 1;
            right = decimal.count > 1 ? decimal.count - 1 : 0;
            int digits = exponent_digits(&decimal);
            layout.exponent_digits = digits > layout.exponent_digits ? digits : layout.exponent_digits;
        } else {
            fixed_parts(&decimal, value, whole, fraction);
            left = (int)strlen(whole);
            right = (int)strlen(fraction);
        }
        layout.left = left > layout.left ? left : layout.left;
        layout.right = right > layout.right ? right : layout.right;
    }
    int width = layout.right + 1 + (layout.scientific ? layout.exponent_digits + 2 : 0);
    if (special > layout.left + width) layout.left = special - width;
    return layout;
}

static void float_word(char out[96], const Layout *layout, Dtype dtype, double value)
{
    Decimal decimal = decimal_of(dtype, value);
    int width = layout->left + layout->right + 1 + (layout->scientific ? layout->exponent_digits + 2 : 0);
    if (decimal.special) {
        snprintf(out, 96, "%*s", width, decimal.special);
    } else if (layout->scientific) {
        /* A number with fewer digits than the longest is filled with those of its exact value, not with zeros. */
        char exact[64], digits[64];
        int count = 0;
        snprintf(exact, sizeof exact, "%.*e", layout->right, fabs(value));
        for (const char *at = exact; *at && *at != 'e'; at++) {
            if (*at >= '0' && *at <= '9') digits[count++] = *at;
        }
        digits[count] = 0;
        int exponent = decimal.count ? decimal.exponent - 1 : 0, sign = exponent < 0 ? '-' : '+';
        snprintf(out, 96, "%*s%c.%se%c%0*d", layout->left - 1, decimal.negative ? "-" : "", digits[0], digits + 1, sign,
                 layout->exponent_digits, abs(exponent));
    } else {
        char whole[40], fraction[40];
        fixed_parts(&decimal, value, whole, fraction);
        snprintf(out, 96, "%*s.%-*s", layout->left, whole, layout->right, fraction);
    }
}

static inline int64_t integer_element(Dtype dtype, const char *data)
{
    union {
        int8_t signed8;
        int16_t signed16;
        int32_t signed32;
        int64_t signed64;
        uint8_t unsigned8;
        uint16_t unsigned16;
        uint32_t unsigned32;
    } bits;
    switch (dtype) {
    case DTYPE_INT8: memcpy(&bits, data, 1); return bits.signed8;
    case DTYPE_INT16: memcpy(&bits, data, 2); return bits.signed16;
    case DTYPE_INT32: memcpy(&bits, data, 4); return bits.signed32;
    case DTYPE_UINT8: memcpy(&bits, data, 1); return bits.unsigned8;
    case DTYPE_UINT16: memcpy(&bits, data, 2); return bits.unsigned16;
    case DTYPE_UINT32: memcpy(&bits, data, 4); return bits.unsigned32;
    default: memcpy(&bits, data, 8); return bits.signed64;
    }
}

/* Models have millions of these, so digits are made by hand; right-aligned in `width`. Returns the length. */
static size_t integer_word(char out[96], Dtype dtype, int64_t value, int width)
{
    char digits[24];
    size_t count = 0, length = 0;
    bool negative = value < 0 && dtype != DTYPE_UINT64;
    uint64_t rest = negative ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (negative) digits[count++] = '-';
    while (length + count < (size_t)width)
        out[length++] = ' ';
    while (count)
        out[length++] = digits[--count];
    out[length] = 0;
    return length;
}

/* The widest number is the least or the largest. */
static int integer_width(Dtype dtype, const char *data, size_t count)
{
    bool is_unsigned = dtype == DTYPE_UINT64;
    int64_t least = 0, most = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t value = integer_element(dtype, data + i * dtype_bytes(dtype));
        if (!i || (is_unsigned ? (uint64_t)value > (uint64_t)most : value > most)) most = value;
        if (!i || (!is_unsigned && value < least)) least = value;
    }
    char word[96];
    size_t low = integer_word(word, dtype, least, 0), high = integer_word(word, dtype, most, 0);
    return !count ? 0 : (int)(!is_unsigned && low > high ? low : high);
}

/* Whole numbers have one width, so every line but the last has as many. Words of 8 bits are made once. Returns the last line's length. */
static size_t integer_lines(Text *text, Dtype dtype, const char *data, size_t count)
{
    static const char apart[] = ", ", turn[] = ",\n       ";
    size_t bytes = dtype_bytes(dtype), width = (size_t)integer_width(dtype, data, count);
    size_t in_line = INDENT + width < WORD_END ? 1 + (WORD_END - INDENT - width) / (width + 2) : 1;
    char table[256][8], word[96] = {0}, buffer[4096];
    size_t used = 0, column = 0;
    for (int i = 0; bytes == 1 && i < 256; i++) {
        char element[8] = {(char)i};
        integer_word(word, dtype, integer_element(dtype, element), (int)width);
        memcpy(table[i], word, sizeof table[i]); /* at most 4 characters */
    }
    for (size_t i = 0; i < count; i++) {
        if (used + width + sizeof turn + sizeof table[0] > sizeof buffer) {
            text_add_bytes(text, buffer, used);
            used = 0;
        }
        if (column == in_line) {
            memcpy(buffer + used, turn, sizeof turn - 1);
            used += sizeof turn - 1;
            column = 0;
        } else if (column) {
            memcpy(buffer + used, apart, 2);
            used += 2;
        }
        if (bytes == 1)
            memcpy(buffer + used, table[(unsigned char)data[i]], sizeof table[0]);
        else
            integer_word(buffer + used, dtype, integer_element(dtype, data + i * bytes), (int)width);
        used += width;
        column++;
    }
    text_add_bytes(text, buffer, used);
    return INDENT + (column ? column * (width + 2) - 2 : 0);
}

static size_t other_lines(Text *text, Dtype dtype, const char *data, size_t count)
{
    bool floats = dtype_rows[dtype].is_float;
    size_t bytes = dtype_bytes(dtype);
    Layout layout = floats ? layout_of(dtype, data, count) : (Layout){0};
    char buffer[4096]; /* words on their way into the text */
    size_t line = INDENT, used = 0;
    for (size_t i = 0; i < count; i++) {
        const char *at = data + i * bytes;
        char word[96];
        size_t length;
        if (dtype == DTYPE_BOOL) {
            length = (size_t)snprintf(word, sizeof word, "%s", *at ? " True" : "False");
        } else {
            float_word(word, &layout, dtype, element(dtype, at));
            length = strlen(word);
        }
        bool wraps = i && line + 2 + length > WORD_END && line > INDENT;
        if (used + length + 16 > sizeof buffer) {
            text_add_bytes(text, buffer, used);
            used = 0;
        }
        if (i) {
            size_t apart = wraps ? sizeof ",\n       " - 1 : 2;
            memcpy(buffer + used, wraps ? ",\n       " : ", ", apart);
            used += apart;
        }
        memcpy(buffer + used, word, length);
        used += length;
        line = wraps ? INDENT + length : line + (i ? 2 : 0) + length;
    }
    text_add_bytes(text, buffer, used);
    return line;
}

bool array_text(Text *text, Dtype dtype, const void *data, size_t count)
{
    text_add(text, "array([");
    bool whole = !dtype_rows[dtype].is_float && dtype != DTYPE_BOOL;
    size_t line = 1 + (whole ? integer_lines(text, dtype, data, count) : other_lines(text, dtype, data, count));
    text_add(text, "]");
    if (dtype == DTYPE_INT64 || dtype == DTYPE_FLOAT64 || dtype == DTYPE_BOOL) {
        text_add(text, ")");
        return !text->failed;
    }
    const char *name = count ? dtype_name(dtype) : "float64"; /* an empty list of blocks has no type in NumPy */
    char ending[48];
    int length = snprintf(ending, sizeof ending, "dtype=%s)", name);
    text_add(text, line + 1 + (size_t)length + 1 > LINE_WIDTH ? ",\n      " : ", ");
    text_add(text, ending);
    return !text->failed;
}
