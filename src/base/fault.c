#include "base/fault.h"

#include <stdatomic.h>

/* -1: not armed. Counted down at each call of the door. */
static _Atomic long countdown[FAULT_KINDS] = {-1, -1, -1, -1, -1};
static FaultExtent extents[FAULT_KINDS];
static atomic_bool reached, armed;

void fault_arm(FaultKind kind, FaultExtent extent, long n)
{
    extents[kind] = extent;
    atomic_store(&countdown[kind], n);
    atomic_store(&reached, false);
    atomic_store(&armed, true);
}

bool fault_disarm(void)
{
    atomic_store(&armed, false);
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        atomic_store(&countdown[kind], -1);
    return atomic_load(&reached);
}

bool fault_reached(FaultKind kind)
{
    if (!atomic_load_explicit(&armed, memory_order_relaxed)) return false;
    long left = atomic_load(&countdown[kind]);
    if (left < 0) return false;
    if (left > 0) {
        atomic_fetch_sub(&countdown[kind], 1);
        return false;
    }
    if (extents[kind] == FAULT_ONCE) atomic_store(&countdown[kind], -1);
    atomic_store(&reached, true);
    return true;
}
