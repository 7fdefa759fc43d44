#include "base/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

int progress_level = 1;

static char stage_name[64];
static int64_t stage_total, stage_done;
static struct timespec stage_start, last_drawn;
static bool running, drawn;

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

/* Bars need a terminal that moves its cursor; TERM=dumb and pipes get one line a stage. */
static bool has_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void clear_bar(void)
{
    if (drawn) fprintf(stderr, "\r\033[K");
    drawn = false;
}

static void draw(void)
{
    double spent = seconds_since(&stage_start);
    double share = stage_total > 0 ? (double)stage_done / (double)stage_total : 0;
    int width = terminal_width() - 46, filled;
    if (width > 30) width = 30;
    if (width < 4) width = 4;
    filled = (int)(share * width);
    fprintf(stderr, "\r%-14.14s [", stage_name);
    for (int i = 0; i < width; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %lld/%lld", (long long)stage_done, (long long)stage_total);
    if (stage_done > 0 && stage_done < stage_total && spent > 0.5)
        fprintf(stderr, "  %.0f s left", spent / (double)stage_done * (double)(stage_total - stage_done));
    fprintf(stderr, "\033[K");
    fflush(stderr);
    drawn = true;
    clock_gettime(CLOCK_MONOTONIC, &last_drawn);
}

void progress_begin(const char *stage, int64_t total)
{
    progress_end();
    if (progress_level < 1) return;
    snprintf(stage_name, sizeof stage_name, "%s", stage);
    stage_total = total;
    stage_done = 0;
    running = true;
    clock_gettime(CLOCK_MONOTONIC, &stage_start);
    last_drawn = stage_start;
}

void progress_step(int64_t done)
{
    if (!running) return;
    stage_done = done;
    if (has_terminal() && seconds_since(&last_drawn) > 0.1) draw();
}

void progress_end(void)
{
    if (!running) return;
    running = false;
    clear_bar();
    fprintf(stderr, "%-14s %.2f s\n", stage_name, seconds_since(&stage_start));
}

void progress_note(const char *format, ...)
{
    if (progress_level < 1) return;
    clear_bar();
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
