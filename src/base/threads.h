/* espq's own pool. Made at the first use, stopped before a fork. Results never depend on the number of threads: bodies
 * split outputs, never sums. */
#ifndef ESPQ_BASE_THREADS_H
#define ESPQ_BASE_THREADS_H

#include <stdint.h>

#define ESPQ_MAX_THREADS 64

/* Run body(context, begin, end, thread) over [0, count) in pieces of at least `grain`; thread is 0 … threads_count()-1.
 * A call from inside a body runs in that thread alone, as thread 0. */
void threads_for(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end, int thread), void *context);
int threads_count(void); /* default: the processors this process may use */
void threads_set_count(int count);
void threads_stop(void);

#endif
