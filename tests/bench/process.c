/* Times whole processes: process OUT.json RUNS NAME COMMAND... [-- NAME COMMAND...]
 * Prints, for each, the median and the least wall time of RUNS runs, processor time and the largest resident memory, and keeps them
 * as JSON. Commands take turns, so that a busy machine falls on all alike. Output of the commands is thrown away. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COMMANDS = 16, MOST_RUNS = 101 };

typedef struct Bench {
    const char *name;
    char **command; /* NULL at its end */
    double wall[MOST_RUNS], processor;
    long kilobytes;
    int failures;
} Bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run_once(Bench *bench, int run)
{
    struct rusage usage;
    int status;
    double start = now();
    pid_t child = fork();
    if (child == 0) {
        int nothing = open("/dev/null", O_WRONLY);
        dup2(nothing, 1);
        dup2(nothing, 2);
        execvp(bench->command[0], bench->command);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child) status = -1;
    bench->wall[run] = now() - start;
    if (status != 0) bench->failures++;
    bench->processor = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6 + (double)usage.ru_stime.tv_sec +
                       (double)usage.ru_stime.tv_usec * 1e-6;
    if (usage.ru_maxrss > bench->kilobytes) bench->kilobytes = usage.ru_maxrss;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    static Bench benches[MOST_COMMANDS];
    int made = 0, runs = count > 4 ? atoi(arguments[2]) : 0, failed = 0;
    if (runs < 1 || runs > MOST_RUNS) {
        fprintf(stderr, "usage: process OUT.json RUNS NAME COMMAND... [-- NAME COMMAND...]\n");
        return 2;
    }
    for (int i = 3; i + 1 < count && made < MOST_COMMANDS; made++) {
        benches[made].name = arguments[i];
        benches[made].command = &arguments[i + 1];
        while (i < count && strcmp(arguments[i], "--") != 0)
            i++;
        arguments[i++] = NULL;
    }
    for (int run = 0; run < runs; run++)
        for (int i = 0; i < made; i++)
            run_once(&benches[i], run);

    FILE *out = fopen(arguments[1], "w");
    if (out) fprintf(out, "[");
    for (int i = 0; i < made; i++) {
        Bench *b = &benches[i];
        qsort(b->wall, (size_t)runs, sizeof b->wall[0], ascending);
        printf("%-24s median %7.3f s   least %7.3f s   processor %7.3f s   memory %5ld MB%s\n", b->name, b->wall[runs / 2], b->wall[0],
               b->processor, b->kilobytes / 1024, b->failures ? "   FAILED" : "");
        if (out)
            fprintf(out,
                    "%s\n {\"name\": \"%s\", \"median_s\": %.4f, \"least_s\": %.4f, \"processor_s\": %.4f, \"memory_kB\": %ld, \"runs\": "
                    "%d, \"failures\": %d}",
                    i ? "," : "", b->name, b->wall[runs / 2], b->wall[0], b->processor, b->kilobytes, runs, b->failures);
        failed += b->failures;
    }
    if (out) fprintf(out, "\n]\n");
    if (!out || fclose(out) != 0) return 1;
    return failed ? 1 : 0;
}
