#include "base/cancel.h"

#include <stdatomic.h>

#include "base/fault.h"

static atomic_int requested; /* the handler may run on a thread of some C library */

void cancel_request(void)
{
    requested = 1;
}
void cancel_clear(void)
{
    requested = 0;
}
bool cancel_requested(void)
{
    return requested || fault_reached(FAULT_INTERRUPT);
}

bool cancel_check(Error *error)
{
    if (!cancel_requested()) return true;
    return fail_as(error, ERROR_INTERRUPTED, NULL, NULL, "interrupted");
}
