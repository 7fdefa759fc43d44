/* Runs the C unit tests: all, or those whose name contains the argument. */
#include "check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct Row {
    const char *name, *file;
    TestFunction function;
} Row;

static Row rows[4096];
static int row_count, failures_in_test;
static bool skipped;

void test_register(const char *name, const char *file, TestFunction function)
{
    if (row_count == 4096) abort();
    rows[row_count++] = (Row){name, file, function};
}

void test_failed(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (failures_in_test++ < 10) {
        printf("%s:%d: ", file, line);
        vprintf(format, arguments);
        printf("\n");
    }
    va_end(arguments);
}

void test_skip(const char *why)
{
    printf("skipped: %s\n", why);
    skipped = true;
}

const char *test_shared(const char *path)
{
    static char full[1024];
    const char *root = getenv("ESPQ_SHARED");
    snprintf(full, sizeof full, "%s/%s", root ? root : "../shared", path);
    return access(full, R_OK) == 0 ? full : NULL;
}

static int by_file_and_name(const void *a, const void *b)
{
    const Row *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : strcmp(x->name, y->name);
}

int main(int count, char **arguments)
{
    int passed = 0, failed = 0, skips = 0;
    qsort(rows, (size_t)row_count, sizeof rows[0], by_file_and_name);
    for (int i = 0; i < row_count; i++) {
        if (count > 1 && !strstr(rows[i].name, arguments[1]) && !strstr(rows[i].file, arguments[1])) continue;
        failures_in_test = 0;
        skipped = false;
        clock_t start = clock();
        rows[i].function();
        double spent = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (spent > 2) printf("slow: %s (%s) took %.1f s of processor time\n", rows[i].name, rows[i].file, spent);
        if (failures_in_test) {
            printf("FAILED %s (%s)\n", rows[i].name, rows[i].file);
            failed++;
        } else if (skipped) {
            skips++;
        } else {
            passed++;
        }
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skips);
    return failed ? 1 : 0;
}
