#include "base/threads.h"
#include "check.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

typedef struct Work {
    atomic_int touched[1000];
    atomic_int nested;
} Work;

static void inner(void *context, int64_t begin, int64_t end, int thread)
{
    Work *work = context;
    if (thread == 0) atomic_fetch_add(&work->nested, (int)(end - begin));
}

static void outer(void *context, int64_t begin, int64_t end, int thread)
{
    Work *work = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&work->touched[i], 1);
    threads_for(3, 1, inner, context);
}

/* Promise: every index is given out exactly once, with any number of threads, job after job; a nested call runs at once, as thread 0. */
TEST(every_piece_of_work_is_done_once)
{
    int before = threads_count();
    for (int threads = 1; threads <= 4; threads++) {
        threads_set_count(threads);
        for (int round = 0; round < 200; round++) {
            static Work work;
            memset(&work, 0, sizeof work);
            threads_for(1000, 7, outer, &work);
            for (int i = 0; i < 1000; i++)
                if (atomic_load(&work.touched[i]) != 1) {
                    CHECK(false, "index %d ran %d times with %d threads", i, atomic_load(&work.touched[i]), threads);
                    return;
                }
            CHECK(atomic_load(&work.nested) % 3 == 0 && atomic_load(&work.nested) > 0, "nested work is missing");
        }
    }
    threads_set_count(before);
}

static atomic_int signals_seen;

static void see_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals_seen, 1);
}

static void nap(void *context, int64_t begin, int64_t end, int thread)
{
    (void)context, (void)begin, (void)end, (void)thread;
    usleep(2000);
}

/* Promise: a signal is never handled on a worker (the handler of Ctrl-C stops Lua): it waits for the thread that called. */
TEST(workers_take_no_signals)
{
    sigset_t one, before;
    int threads = threads_count();
    void (*old)(int) = signal(SIGUSR1, see_signal);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    threads_set_count(3);
    threads_for(6, 1, nap, NULL);
    atomic_store(&signals_seen, 0);
    pthread_sigmask(SIG_BLOCK, &one, &before);
    kill(getpid(), SIGUSR1);
    threads_for(6, 1, nap, NULL);
    CHECK(atomic_load(&signals_seen) == 0, "a worker took the signal");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(atomic_load(&signals_seen) == 1, "the signal is lost");
    signal(SIGUSR1, old);
    threads_set_count(threads);
}
