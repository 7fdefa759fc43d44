/* Choosing a variant of the look-up; the plain one. */
#include "kernel/lookup.h"

#include "base/threads.h"
#include "kernel/float32.h"
#include "kernel/lookup_variants.h"

enum { GRAIN = 1 << 16 };

static bool always(void)
{
    return true;
}

static void plain(const int8_t *table, const int8_t *x, int8_t *y, int64_t count)
{
    lookup_rest(table, x, y, 0, count);
}

static const LookupKernel lookup_plain = {always, plain};

/* A processor's best first, for each variant that a user may choose. */
static const struct {
    KernelVariant variant;
    const LookupKernel *kernel;
} rows[] = {
#if defined(__x86_64__)
    {KERNEL_AVX512, &lookup_avx512vbmi},
    {KERNEL_AVX512, &lookup_avx512},
    {KERNEL_AVX2, &lookup_avx2},
#endif
    {KERNEL_PLAIN, &lookup_plain},
};

enum { ROWS = sizeof rows / sizeof *rows };

static const LookupKernel *chosen(void)
{
    KernelVariant variant = kernel_variant();
    for (int i = 0; i < ROWS; i++) {
        if (rows[i].variant == variant && rows[i].kernel->available()) return rows[i].kernel;
    }
    return &lookup_plain;
}

bool lookup_int8_on(int row, const int8_t table[256], const int8_t *x, int8_t *y, int64_t count)
{
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].kernel->available() || row-- > 0) continue;
        rows[i].kernel->run(table, x, y, count);
        return true;
    }
    return false;
}

typedef struct Share {
    const LookupKernel *kernel;
    const int8_t *table, *x;
    int8_t *y;
} Share;

static void look_up(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Share *share = context;
    share->kernel->run(share->table, share->x + begin, share->y + begin, end - begin);
}

void lookup_int8(const int8_t table[256], const int8_t *x, int8_t *y, int64_t count)
{
    threads_for(count, GRAIN, look_up, &(Share){chosen(), table, x, y});
}
