#include "ops/gradient.h"

#include <string.h>

void gradient_copy(const Gradient *gradient)
{
    if (!gradient->input_gradients[0]) return;
    memcpy(gradient->input_gradients[0]->data, gradient->output_gradients[0]->data, tensor_bytes(gradient->input_gradients[0]));
}

/* ---- moves ---- */

#define MOVE_ENDS 16 /* ends that are looked at on the stack; the rows that use this have fewer, Concat and Split go their own way */

static size_t aligned(int64_t count)
{
    return ((size_t)count * sizeof(int32_t) + 63) / 64 * 64;
}

size_t gradient_moves_scratch(const Prepare *prepare)
{
    size_t bytes = prepare->scratch_bytes / 64 * 64 + 64; /* run's own */
    for (int i = 0; i < prepare->node->input_count; i++)
        if (prepare->input_shapes[i].rank >= 0 && prepare->input_dtypes[i] == DTYPE_FLOAT32)
            bytes += aligned(shape_count(&prepare->input_shapes[i]));
    for (int i = 0; i < prepare->node->output_count; i++)
        if (prepare->output_shapes[i].rank >= 0) bytes += aligned(shape_count(&prepare->output_shapes[i]));
    return bytes;
}

typedef struct Moves {
    Tensor inputs[MOVE_ENDS], outputs[MOVE_ENDS];
    Tensor *input_pointers[MOVE_ENDS], *output_pointers[MOVE_ENDS];
    int32_t first[MOVE_ENDS]; /* number of an input's first element */
    char *memory;
} Moves;

/* A tensor of the shape of `like` for numbers. */
static Tensor *numbers_like(Moves *moves, const Tensor *like, Tensor *header)
{
    memset(header, 0, sizeof *header);
    header->dtype = like->dtype;
    header->shape = like->shape;
    memcpy(header->strides, like->strides, sizeof header->strides);
    header->data = moves->memory;
    moves->memory += aligned(tensor_count(like));
    return header;
}

/* Elements are numbered from 1; 0 is what comes from nowhere. The numbers lie as bits in what `run` takes for floats: it only copies. */
static void number_inputs(const Gradient *gradient, Moves *moves)
{
    int32_t next = 1;
    for (int i = 0; i < gradient->node->input_count && i < MOVE_ENDS; i++) {
        Tensor *input = gradient->inputs[i];
        moves->input_pointers[i] = input;
        if (!input || input->dtype != DTYPE_FLOAT32) continue;
        moves->input_pointers[i] = numbers_like(moves, input, &moves->inputs[i]);
        int32_t *numbers = (int32_t *)(void *)moves->inputs[i].data;
        int64_t count = tensor_count(input);
        moves->first[i] = next;
        for (int64_t k = 0; k < count; k++)
            numbers[k] = gradient->input_gradients[i] ? next++ : 0;
    }
}

static void collect_input(const Gradient *gradient, const Moves *moves, int input)
{
    float *to = tensor_floats(gradient->input_gradients[input]);
    int64_t inputs = tensor_count(gradient->input_gradients[input]);
    memset(to, 0, (size_t)inputs * sizeof *to);
    for (int i = 0; i < gradient->node->output_count && i < MOVE_ENDS; i++) {
        if (!gradient->outputs[i] || !gradient->output_gradients[i]) continue;
        const int32_t *numbers = (const int32_t *)(const void *)moves->outputs[i].data;
        const float *dy = tensor_floats(gradient->output_gradients[i]);
        int64_t count = tensor_count(gradient->outputs[i]);
        for (int64_t k = 0; k < count; k++) {
            int64_t at = (int64_t)numbers[k] - moves->first[input];
            if (numbers[k] && at >= 0 && at < inputs) to[at] += dy[k];
        }
    }
}

void gradient_moves(const Gradient *gradient)
{
    const Node *node = gradient->node;
    Moves moves;
    moves.memory = gradient->scratch;
    number_inputs(gradient, &moves);
    for (int i = 0; i < node->output_count && i < MOVE_ENDS; i++)
        moves.output_pointers[i] = gradient->outputs[i] ? numbers_like(&moves, gradient->outputs[i], &moves.outputs[i]) : NULL;
    Run run = {
        .node = node, .inputs = moves.input_pointers, .outputs = moves.output_pointers, .state = gradient->state, .scratch = moves.memory};
    node->op->run(&run);
    for (int i = 0; i < node->input_count && i < MOVE_ENDS; i++)
        if (gradient->input_gradients[i]) collect_input(gradient, &moves, i);
}
