/* Workers of this machine: forks of the process, which inherit everything it has made, and a channel for messages to and from each. */
#ifndef ESPQ_BASE_PROCESS_H
#define ESPQ_BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Channel {
    long pid;    /* of the worker; 0 in the worker itself, -1: none */
    int channel; /* -1: closed */
} Channel;

typedef enum { WORKER_EXITED, WORKER_KILLED } WorkerEnd;

/* Stops the threads, flushes what is to be printed, forks. In the worker channel->pid is 0; it runs one thread, does not hear Ctrl-C (its
 * parent ends it), dies with its parent, and must leave by process_exit. It leads a process group, so that what it starts ends with it. */
bool process_fork(Channel *channel, Error *error);
bool process_send(Channel *channel, const void *data, size_t bytes, Error *error);
/* Waits for a whole message. *data (freed by the caller with memory_free) is NULL when the other side has ended. */
bool process_receive(Channel *channel, char **data, size_t *bytes, Error *error);
/* Waits until one of them has a message, or has ended; ready[i] says which. seconds < 0: as long as it takes. Returns early on Ctrl-C. */
bool process_wait(Channel *const *channels, int count, double seconds, bool *ready, Error *error);
void process_kill(Channel *channel); /* with what it has started */
/* How it ended: its exit code or the signal. Waits for the end; closes the channel. */
WorkerEnd process_finish(Channel *channel, int *code);
void process_close(Channel *channel);                  /* the channel only: in a worker, those of its siblings */
bool process_redirect(const char *path, Error *error); /* stdout and stderr go to this file from now on */
void process_exit(int code);                           /* flushes, and ends without what the parent does at its end */

#endif
