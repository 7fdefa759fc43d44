#include "ops/block.h"

#include <string.h>

#include "base/threads.h"

#define TILE 16 /* elements of a cache line read at once while transposing */

void block_add(Block *block, int64_t dim, int64_t from, int64_t to)
{
    if (dim <= 0) block->empty = true;
    if (dim <= 1) return;
    int last = block->rank - 1;
    if (last >= 0 && block->from[last] == from * dim && block->to[last] == to * dim) {
        block->dims[last] *= dim;
        block->from[last] = from;
        block->to[last] = to;
        return;
    }
    block->dims[block->rank] = dim;
    block->from[block->rank] = from;
    block->to[block->rank] = to;
    block->rank++;
}

void block_fill(char *to, int64_t count, const void *element, size_t bytes)
{
    switch (bytes) {
    case 1: memset(to, *(const unsigned char *)element, (size_t)count); break;
    case 2: {
        uint16_t value;
        memcpy(&value, element, sizeof value);
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)(void *)to)[i] = value;
        break;
    }
    case 4: {
        uint32_t value;
        memcpy(&value, element, sizeof value);
        for (int64_t i = 0; i < count; i++)
            ((uint32_t *)(void *)to)[i] = value;
        break;
    }
    case 8: {
        uint64_t value;
        memcpy(&value, element, sizeof value);
        for (int64_t i = 0; i < count; i++)
            ((uint64_t *)(void *)to)[i] = value;
        break;
    }
    }
}

#define MOVE_ROW(type)                                                                                                                     \
    do {                                                                                                                                   \
        const type *f = (const type *)(const void *)from;                                                                                  \
        type *t = (type *)(void *)to;                                                                                                      \
        for (int64_t i = 0; i < count; i++)                                                                                                \
            t[i * to_step] = f[i * from_step];                                                                                             \
    } while (0)

static void move_row(const char *from, int64_t from_step, char *to, int64_t to_step, int64_t count, size_t bytes)
{
    if (to_step == 1 && from_step == 1) {
        memcpy(to, from, (size_t)count * bytes);
        return;
    }
    if (to_step == 1 && from_step == 0) {
        block_fill(to, count, from, bytes);
        return;
    }
    switch (bytes) {
    case 1: MOVE_ROW(uint8_t); break;
    case 2: MOVE_ROW(uint16_t); break;
    case 4: MOVE_ROW(uint32_t); break;
    case 8: MOVE_ROW(uint64_t); break;
    }
}

/* A part of a transposed plane: `lines` neighbours in the source become rows of the target, `count` long. Square by square, so that
 * neither side touches more than TILE pages at a time. */
#define MOVE_TILE(type)                                                                                                                    \
    do {                                                                                                                                   \
        const type *f = (const type *)(const void *)from;                                                                                  \
        type *t = (type *)(void *)to;                                                                                                      \
        for (int64_t first = 0; first < count; first += TILE) {                                                                            \
            int64_t part = count - first < TILE ? count - first : TILE;                                                                    \
            type square[TILE][TILE];                                                                                                       \
            for (int64_t i = 0; i < part; i++) {                                                                                           \
                for (int64_t k = 0; k < lines; k++)                                                                                        \
                    square[k][i] = f[(first + i) * from_step + k];                                                                         \
            }                                                                                                                              \
            for (int64_t k = 0; k < lines; k++)                                                                                            \
                memcpy(t + k * line_step + first, square[k], (size_t)part * sizeof(type));                                                 \
        }                                                                                                                                  \
    } while (0)

static void move_tile(const char *from, int64_t from_step, char *to, int64_t line_step, int64_t lines, int64_t count, size_t bytes)
{
    switch (bytes) {
    case 1: MOVE_TILE(uint8_t); break;
    case 2: MOVE_TILE(uint16_t); break;
    case 4: MOVE_TILE(uint32_t); break;
    case 8: MOVE_TILE(uint64_t); break;
    }
}

typedef struct Move {
    Block block; /* the last dimension is the row; with tiles, the one before it is cut into pieces of TILE */
    bool tiled;
    int64_t pieces; /* of the dimension before the row */
    const char *from;
    char *to;
    size_t bytes;
} Move;

static void move_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Move *move = context;
    const Block *block = &move->block;
    int row = block->rank - 1, lines = move->tiled ? row - 1 : row;
    for (int64_t item = begin; item < end; item++) {
        int64_t rest = item, from = 0, to = 0, piece = 0;
        if (move->tiled) {
            piece = rest % move->pieces;
            rest /= move->pieces;
        }
        for (int axis = lines - 1; axis >= 0; axis--) {
            int64_t index = rest % block->dims[axis];
            rest /= block->dims[axis];
            from += index * block->from[axis];
            to += index * block->to[axis];
        }
        if (!move->tiled) {
            move_row(move->from + from * (int64_t)move->bytes, block->from[row], move->to + to * (int64_t)move->bytes, block->to[row],
                     block->dims[row], move->bytes);
            continue;
        }
        int64_t first = piece * TILE, count = block->dims[lines] - first;
        from += first;
        to += first * block->to[lines];
        move_tile(move->from + from * (int64_t)move->bytes, block->from[row], move->to + to * (int64_t)move->bytes, block->to[lines],
                  count < TILE ? count : TILE, block->dims[row], move->bytes);
    }
}

/* Bring the dimension that is contiguous in the source to the place before the row. */
static bool make_tiles(Block *block)
{
    int row = block->rank - 1;
    if (row < 1 || block->to[row] != 1 || block->from[row] == 1 || block->from[row] == 0 || block->dims[row] < 4) return false;
    int line = -1;
    for (int axis = 0; axis < row; axis++) {
        if (block->from[axis] == 1 && block->dims[axis] >= 4) line = axis;
    }
    if (line < 0) return false;
    int64_t dim = block->dims[line], from = block->from[line], to = block->to[line];
    for (int axis = line; axis < row - 1; axis++) {
        block->dims[axis] = block->dims[axis + 1];
        block->from[axis] = block->from[axis + 1];
        block->to[axis] = block->to[axis + 1];
    }
    block->dims[row - 1] = dim;
    block->from[row - 1] = from;
    block->to[row - 1] = to;
    return true;
}

void block_move(const Block *block, const char *from, char *to, size_t bytes)
{
    if (block->empty) return;
    Move move = {*block, false, 1, from, to, bytes};
    if (move.block.rank == 0) {
        move.block.rank = 1;
        move.block.dims[0] = move.block.from[0] = move.block.to[0] = 1;
    }
    move.tiled = make_tiles(&move.block);
    int row = move.block.rank - 1;
    int64_t items = 1, size = move.block.dims[row];
    for (int axis = 0; axis < row; axis++) {
        if (move.tiled && axis == row - 1) {
            move.pieces = (move.block.dims[axis] + TILE - 1) / TILE;
            items *= move.pieces;
            size *= TILE;
        } else {
            items *= move.block.dims[axis];
        }
    }
    threads_for(items, size > OPS_GRAIN ? 1 : OPS_GRAIN / size + 1, move_part, &move);
}
