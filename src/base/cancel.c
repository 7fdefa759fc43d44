#include "base/cancel.h"

#include <signal.h>

#include "base/fault.h"

static volatile sig_atomic_t requested;

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
