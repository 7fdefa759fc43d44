#include "chip/copy.h"

#include <string.h>

#include "base/threads.h"

void copy_set(Copy *copy, size_t element, int rank, const int64_t *dims, const int64_t *strides, int64_t offset)
{
    *copy = (Copy){.offset = offset * (int64_t)element, .run = element};
    for (int axis = 0; axis < rank; axis++) {
        int64_t step = strides[axis] * (int64_t)element;
        if (dims[axis] == 1) continue;
        int last = copy->rank - 1;
        if (last >= 0 && copy->steps[last] == step * dims[axis]) {
            copy->dims[last] *= dims[axis];
            copy->steps[last] = step;
        } else {
            copy->dims[copy->rank] = dims[axis];
            copy->steps[copy->rank++] = step;
        }
    }
    if (copy->rank && copy->steps[copy->rank - 1] == (int64_t)element) copy->run *= (size_t)copy->dims[--copy->rank];
    if (!copy->rank) copy->dims[copy->rank++] = 1; /* one run */
}

typedef struct CopyRun {
    const Copy *copy;
    const char *from;
    char *to;
} CopyRun;

/* One line: elements of the last axis. A constant `run` lets the compiler move it with one instruction. */
static inline void move_line(const Copy *copy, const char *from, char *to, size_t run)
{
    int64_t count = copy->dims[copy->rank - 1], step = copy->steps[copy->rank - 1];
    for (int64_t i = 0; i < count; i++) {
        memcpy(to, from, run);
        from += step;
        to += run;
    }
}

static void move_lines(void *context, int64_t begin, int64_t end, int thread)
{
    const CopyRun *run = context;
    const Copy *copy = run->copy;
    size_t line = (size_t)copy->dims[copy->rank - 1] * copy->run;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t rest = i;
        const char *from = run->from + copy->offset;
        for (int axis = copy->rank - 2; axis >= 0; axis--) {
            from += rest % copy->dims[axis] * copy->steps[axis];
            rest /= copy->dims[axis];
        }
        char *to = run->to + (size_t)i * line;
        switch (copy->run) {
        case 1: move_line(copy, from, to, 1); break;
        case 2: move_line(copy, from, to, 2); break;
        case 4: move_line(copy, from, to, 4); break;
        case 8: move_line(copy, from, to, 8); break;
        case 16: move_line(copy, from, to, 16); break;
        default: move_line(copy, from, to, copy->run); break;
        }
    }
}

void copy_run(const Copy *copy, const void *from, void *to)
{
    CopyRun run = {copy, from, to};
    int64_t lines = 1, line = copy->dims[copy->rank - 1] * (int64_t)copy->run;
    for (int axis = 0; axis < copy->rank - 1; axis++)
        lines *= copy->dims[axis];
    if (line == 0) return;
    threads_for(lines, line < 65536 ? 65536 / line : 1, move_lines, &run);
}
