/* Progress of long work, on stderr: a bar on a terminal, one line a stage elsewhere, nothing when espq.verbose is 0. */
#ifndef ESPQ_BASE_PROGRESS_H
#define ESPQ_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

extern int progress_level;                             /* espq.verbose: 0 silent, 1 stages, 2 more */
void progress_begin(const char *stage, int64_t total); /* stages do not nest; begin ends the one before */
void progress_step(int64_t done);
void progress_end(void);
void progress_note(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a line on stderr (clears the bar); level ≥ 1 */

#endif
