#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum { MOST_CHANNELS = 1024, LARGEST_MESSAGE = 256 << 20 };

static bool fail_system(Error *error, const char *doing)
{
    return fail_as(error, errno == ENOMEM ? ERROR_MEMORY : ERROR_FILE, NULL, "use fewer workers", "cannot %s: %s", doing, strerror(errno));
}

static void become_worker(Channel *channel, int mine, int parents, pid_t parent)
{
    close(parents);
    setpgid(0, 0);
    /* Not in the terminal's foreground any more: what reads from there gets an end or an error, and is not stopped for ever. */
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    if (nothing > STDIN_FILENO) close(nothing);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != parent) _exit(1);
    threads_set_count(1);
    *channel = (Channel){0, mine};
}

bool process_fork(Channel *channel, Error *error)
{
    int ends[2];
    *channel = (Channel){-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return fail_system(error, "make a channel to a worker");
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    threads_stop();
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        fail_system(error, "start a worker");
        close(ends[0]);
        close(ends[1]);
        return false;
    }
    if (pid == 0) {
        become_worker(channel, ends[1], ends[0], parent);
        return true;
    }
    close(ends[1]);
    *channel = (Channel){(long)pid, ends[0]};
    return true;
}

static bool send_all(int channel, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t put = send(channel, data, bytes, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        data += put;
        bytes -= (size_t)put;
    }
    return true;
}

bool process_send(Channel *channel, const void *data, size_t bytes, Error *error)
{
    uint64_t length = bytes;
    if (channel->channel >= 0 && send_all(channel->channel, (const char *)&length, sizeof length) &&
        send_all(channel->channel, data, bytes))
        return true;
    return fail_as(error, ERROR_FILE, NULL, NULL, "the other process has ended");
}

/* How much came before the other side ended. */
static size_t receive_all(int channel, char *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = recv(channel, data + done, bytes - done, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

bool process_receive(Channel *channel, char **data, size_t *bytes, Error *error)
{
    uint64_t length;
    *data = NULL;
    *bytes = 0;
    if (channel->channel < 0 || receive_all(channel->channel, (char *)&length, sizeof length) < sizeof length) return true;
    if (length > LARGEST_MESSAGE) return fail_as(error, ERROR_INTERNAL, NULL, NULL, "a message of %llu bytes", (unsigned long long)length);
    char *message = memory_new((size_t)length + 1);
    if (!message) return fail_memory(error, (size_t)length + 1);
    if (receive_all(channel->channel, message, (size_t)length) < length) {
        memory_free(message);
        return true;
    }
    *data = message;
    *bytes = (size_t)length;
    return true;
}

bool process_wait(Channel *const *channels, int count, double seconds, bool *ready, Error *error)
{
    struct pollfd polled[MOST_CHANNELS];
    if (count > MOST_CHANNELS) return fail(error, NULL, "use fewer workers", "%d workers are more than %d", count, MOST_CHANNELS);
    for (int i = 0; i < count; i++) {
        polled[i] = (struct pollfd){channels[i]->channel, POLLIN, 0};
        ready[i] = false;
    }
    int milliseconds = seconds < 0 ? -1 : seconds > 1e6 ? 1000000000 : (int)(seconds * 1000 + 0.999);
    if (!cancel_check(error)) return false;
    if (poll(polled, (nfds_t)count, milliseconds) < 0) {
        if (errno == EINTR) return cancel_check(error);
        return fail_system(error, "wait for workers");
    }
    for (int i = 0; i < count; i++)
        ready[i] = polled[i].revents != 0;
    return cancel_check(error);
}

void process_kill(Channel *channel)
{
    if (channel->pid <= 0) return;
    kill(-(pid_t)channel->pid, SIGKILL); /* what it started itself, too */
    kill((pid_t)channel->pid, SIGKILL);  /* should it not have come to form its group */
}

WorkerEnd process_finish(Channel *channel, int *code)
{
    int status = 0;
    process_close(channel);
    if (channel->pid > 0)
        while (waitpid((pid_t)channel->pid, &status, 0) < 0 && errno == EINTR)
            ;
    channel->pid = -1;
    *code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    return WIFSIGNALED(status) ? WORKER_KILLED : WORKER_EXITED;
}

void process_close(Channel *channel)
{
    if (channel->channel >= 0) close(channel->channel);
    channel->channel = -1;
}

bool process_redirect(const char *path, Error *error)
{
    fflush(NULL);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0) return fail_as(error, ERROR_FILE, path, NULL, "cannot write the file: %s", strerror(errno));
    bool ok = dup2(file, STDOUT_FILENO) >= 0 && dup2(file, STDERR_FILENO) >= 0;
    if (!ok) fail_as(error, ERROR_FILE, path, NULL, "cannot write the file: %s", strerror(errno));
    close(file);
    return ok;
}

void process_exit(int code)
{
    fflush(NULL);
    _exit(code);
}
