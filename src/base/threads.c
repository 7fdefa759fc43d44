#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

/* One piece of work at a time: workers and the caller take the next piece by an atomic counter. Workers look for work for a short
 * while before they sleep, since a model's layers follow each other within microseconds. The caller waits only for workers that have
 * joined: one that other programs keep from running (a busy machine) holds up nothing. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t threads[ESPQ_MAX_THREADS];
    uint64_t started_at[ESPQ_MAX_THREADS]; /* the generation when the worker was made: it waits for the next */
    int running;                           /* workers started: threads_count() - 1 */
    bool stopping;
    _Atomic uint64_t generation; /* counts the jobs */
    bool open;                   /* workers may still join this job */
    atomic_int busy;             /* workers that have joined and not finished */
    void (*body)(void *, int64_t, int64_t, int);
    void *context;
    int64_t count, grain;
    _Atomic int64_t next;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static int wanted_count;
static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* one job at a time */
static _Thread_local bool inside;

static int processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > ESPQ_MAX_THREADS ? ESPQ_MAX_THREADS : count;
}

int threads_count(void)
{
    if (!wanted_count) wanted_count = processors();
    return wanted_count;
}

static void work_off(int thread)
{
    int64_t grain = pool.grain;
    for (;;) {
        int64_t begin = atomic_fetch_add(&pool.next, grain);
        if (begin >= pool.count) return;
        int64_t end = begin + grain < pool.count ? begin + grain : pool.count;
        pool.body(pool.context, begin, end, thread);
    }
}

enum { SPINS = 4000 };

static void *worker(void *argument)
{
    int thread = (int)(intptr_t)argument;
    uint64_t seen = pool.started_at[thread];
    inside = true;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&pool.generation, memory_order_acquire) == seen; i++)
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            sched_yield();
#endif
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.generation) == seen && !pool.stopping)
            pthread_cond_wait(&pool.work, &pool.lock);
        if (pool.stopping) {
            pthread_mutex_unlock(&pool.lock);
            return NULL;
        }
        seen = atomic_load(&pool.generation);
        bool join = pool.open;
        if (join) atomic_fetch_add(&pool.busy, 1);
        pthread_mutex_unlock(&pool.lock);
        if (!join) continue;
        work_off(thread);
        if (atomic_fetch_sub(&pool.busy, 1) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
}

/* Kernels keep their panels on the stack (more than a megabyte); some C libraries give a thread far less unasked. */
enum { STACK_BYTES = 4 << 20 };

/* Workers take no signals: the handler of Ctrl-C stops Lua, which only the thread that runs it may do. */
static void start_workers(void)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pool.running >= threads_count() - 1 || pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.running < threads_count() - 1) {
        pool.started_at[pool.running + 1] = atomic_load(&pool.generation);
        if (pthread_create(&pool.threads[pool.running], &attributes, worker, (void *)(intptr_t)(pool.running + 1)) != 0) break;
        pool.running++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void stop_workers(void)
{
    if (!pool.running) return;
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.running; i++)
        pthread_join(pool.threads[i], NULL);
    pool.running = 0;
    pool.stopping = false;
}

void threads_stop(void)
{
    pthread_mutex_lock(&owner);
    stop_workers();
    pthread_mutex_unlock(&owner);
}

void threads_set_count(int count)
{
    pthread_mutex_lock(&owner);
    stop_workers();
    wanted_count = count < 1 ? 1 : count > ESPQ_MAX_THREADS ? ESPQ_MAX_THREADS : count;
    pthread_mutex_unlock(&owner);
}

void threads_for(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end, int thread), void *context)
{
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    if (inside || threads_count() == 1 || count <= grain || pthread_mutex_trylock(&owner) != 0) {
        bool was = inside;
        inside = true;
        body(context, 0, count, 0);
        inside = was;
        return;
    }
    inside = true;
    start_workers();
    pool.body = body;
    pool.context = context;
    pool.count = count;
    pool.grain = grain;
    atomic_store(&pool.next, 0);
    pthread_mutex_lock(&pool.lock);
    pool.open = true;
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    work_off(0);
    pthread_mutex_lock(&pool.lock);
    pool.open = false;
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < SPINS && atomic_load_explicit(&pool.busy, memory_order_acquire); i++)
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        sched_yield();
#endif
    if (atomic_load(&pool.busy)) {
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.busy))
            pthread_cond_wait(&pool.done, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    inside = false;
    pthread_mutex_unlock(&owner);
}
