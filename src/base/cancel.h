/* One flag, set by Ctrl-C, asked between nodes and batches. */
#ifndef ESPQ_BASE_CANCEL_H
#define ESPQ_BASE_CANCEL_H

#include <stdbool.h>

#include "base/error.h"

void cancel_request(void); /* safe in a signal handler */
void cancel_clear(void);
bool cancel_requested(void);
bool cancel_check(Error *error); /* false (ERROR_INTERRUPTED) once requested: `if (!cancel_check(error)) return false;` */

#endif
