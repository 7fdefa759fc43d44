/* Matrix products: Gemm (alpha * A' B' + beta * C) and MatMul (batched, broadcast, vectors at either side). */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "kernel/float32.h"
#include "kernel/gradient.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"
#include "quant/slots.h"

typedef struct GemmState {
    MatmulF32 matmul;
    bool wide, transpose_a, transpose_b, bias_row,
        plain; /* bias_row: C goes into the sums as their start; plain: nothing is left to do then */
    float alpha, beta;
    Shape c;
    float *packed;     /* NULL: B comes at run time */
    size_t a_at, b_at; /* in scratch: transposed copies, or packed B */
} GemmState;

static bool gemm_shapes(const Node *node, const Shape *a, const Shape *b, MatmulF32 *matmul, Error *error)
{
    char left[160], right[160];
    if (!require_rank(node, a, 2, 2, "input", error) || !require_rank(node, b, 2, 2, "input 1", error)) return false;
    bool transpose_a = node_integer(node, "transA", 0) != 0, transpose_b = node_integer(node, "transB", 0) != 0;
    matmul->m = a->dims[transpose_a ? 1 : 0];
    matmul->k = a->dims[transpose_a ? 0 : 1];
    matmul->n = b->dims[transpose_b ? 0 : 1];
    matmul->lda = matmul->k;
    matmul->ldb = matmul->ldc = matmul->n;
    if (b->dims[transpose_b ? 1 : 0] == matmul->k) return true;
    return fail_node(error, node, "columns of A must equal rows of B (after transA, transB)",
                     "matrices %s (transA %d) and %s (transB %d) do not fit", shape_text(a, left), transpose_a, shape_text(b, right),
                     transpose_b);
}

static bool gemm_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape a, b, c, together;
    MatmulF32 matmul;
    if (!input_shape(node, 0, &a, error) || !input_shape(node, 1, &b, error)) return false;
    for (int i = 0; i < 3; i++) {
        if (!require_float32(node, i, error)) return false;
    }
    if (!gemm_shapes(node, &a, &b, &matmul, error)) return false;
    Shape out = {.rank = 2, .dims = {matmul.m, matmul.n}};
    if (has_input(node, 2)) {
        if (!input_shape(node, 2, &c, error)) return false;
        if (!shape_broadcast(&c, &out, &together) || !shape_equal(&together, &out)) {
            char left[160], right[160];
            return fail_node(error, node, "C must broadcast to the product", "C %s does not broadcast to %s", shape_text(&c, left),
                             shape_text(&out, right));
        }
    }
    set_output(node, 0, DTYPE_FLOAT32, &out);
    return true;
}

static void gemm_release(void *state)
{
    GemmState *gemm = state;
    memory_free(gemm->packed);
    memory_free(gemm);
}

static bool gemm_prepare(Prepare *prepare, Error *error)
{
    const Node *node = prepare->node;
    GemmState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    MatmulF32 *matmul = &state->matmul;
    if (!gemm_shapes(node, &prepare->input_shapes[0], &prepare->input_shapes[1], matmul, error)) return false;
    state->wide = prepare->wide;
    state->transpose_a = node_integer(node, "transA", 0) != 0;
    state->transpose_b = node_integer(node, "transB", 0) != 0;
    state->alpha = node_number(node, "alpha", 1.0f);
    state->beta = node_number(node, "beta", 1.0f);
    bool has_c = node->input_count > 2 && node->inputs[2];
    state->c = has_c ? prepare->input_shapes[2] : (Shape){.rank = 0};
    state->bias_row = has_c && state->alpha == 1.0f && state->beta == 1.0f && state->c.rank > 0 &&
                      state->c.dims[state->c.rank - 1] == matmul->n && shape_count(&state->c) == matmul->n;
    state->plain = state->alpha == 1.0f && (!has_c || state->bias_row);
    if (state->transpose_a) state->a_at = scratch_add(prepare, (size_t)(matmul->m * matmul->k) * sizeof(float));
    if (state->wide) {
        if (state->transpose_b) state->b_at = scratch_add(prepare, (size_t)(matmul->k * matmul->n) * sizeof(float));
        return true;
    }
    size_t bytes = matmul_f32_packed_bytes(matmul->k, matmul->n);
    if (!prepare->constants[1]) {
        state->b_at = scratch_add(prepare, bytes);
        return true;
    }
    state->packed = memory_new_aligned(bytes);
    if (!state->packed) return fail_memory(error, bytes);
    matmul_f32_pack(matmul->k, matmul->n, tensor_floats(prepare->constants[1]), state->transpose_b ? 1 : matmul->n,
                    state->transpose_b ? matmul->k : 1, state->packed);
    return true;
}

/* to[column][row] = from[row][column] */
static const float *transpose(const float *from, int64_t rows, int64_t columns, float *to)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++)
            to[j * rows + i] = from[i * columns + j];
    }
    return to;
}

/* y = alpha * y + beta * C, C broadcast. */
static void gemm_finish(const GemmState *state, const float *c, float *y)
{
    int64_t strides[ESPQ_MAX_RANK] = {0};
    Shape out = {.rank = 2, .dims = {state->matmul.m, state->matmul.n}};
    if (c) broadcast_strides(&state->c, &out, strides);
    for (int64_t i = 0; i < out.dims[0]; i++, y += out.dims[1]) {
        for (int64_t j = 0; j < out.dims[1]; j++) {
            float product = state->alpha * y[j];
            y[j] = c ? product + state->beta * c[i * strides[0] + j * strides[1]] : product;
        }
    }
}

static void gemm_run(const Run *run)
{
    const GemmState *state = run->state;
    const MatmulF32 *matmul = &state->matmul;
    char *scratch = run->scratch;
    const float *a = tensor_floats(run->inputs[0]), *b = tensor_floats(run->inputs[1]);
    const float *c = run->node->input_count > 2 && run->inputs[2] ? tensor_floats(run->inputs[2]) : NULL,
                *bias = state->bias_row ? c : NULL;
    float *y = tensor_floats(run->outputs[0]);
    if (state->transpose_a) a = transpose(a, matmul->k, matmul->m, (float *)(void *)(scratch + state->a_at));
    if (state->wide) {
        if (state->transpose_b) b = transpose(b, matmul->n, matmul->k, (float *)(void *)(scratch + state->b_at));
        matmul_f64_reference(matmul, a, b, bias, y);
    } else {
        const float *packed = state->packed;
        if (!packed) {
            float *made = (float *)(void *)(scratch + state->b_at);
            matmul_f32_pack(matmul->k, matmul->n, b, state->transpose_b ? 1 : matmul->n, state->transpose_b ? matmul->k : 1, made);
            packed = made;
        }
        matmul_f32_packed(matmul, a, packed, bias, y);
    }
    if (!state->plain) gemm_finish(state, c, y);
}

static size_t align_bytes(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t gemm_gradient_scratch(const Prepare *prepare)
{
    const GemmState *state = prepare->state;
    const MatmulF32 *matmul = &state->matmul;
    int64_t m = matmul->m, n = matmul->n, k = matmul->k;
    return align_bytes(matmul_f32_gradient_scratch_bytes(m, n, k)) + align_bytes((size_t)(m * n) * sizeof(float)) +
           2 * align_bytes((size_t)(m * k) * sizeof(float)) + align_bytes((size_t)(m * n) * sizeof(double));
}

/* C gains beta * dy, summed over the axes along which it was broadcast: rows in order, in float64. */
static void gemm_bias_gradient(const GemmState *state, const float *dy, double *sums, float *dc)
{
    Shape out = {.rank = 2, .dims = {state->matmul.m, state->matmul.n}};
    int64_t strides[ESPQ_MAX_RANK] = {0}, count = shape_count(&state->c);
    broadcast_strides(&state->c, &out, strides);
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t i = 0; i < out.dims[0]; i++)
        for (int64_t j = 0; j < out.dims[1]; j++)
            sums[i * strides[0] + j * strides[1]] += (double)*dy++;
    for (int64_t i = 0; i < count; i++)
        dc[i] = (float)((double)state->beta * sums[i]);
}

static void gemm_gradient(const Gradient *gradient)
{
    const GemmState *state = gradient->state;
    int64_t m = state->matmul.m, n = state->matmul.n, k = state->matmul.k;
    const float *dy = tensor_floats(gradient->output_gradients[0]), *a = tensor_floats(gradient->inputs[0]);
    float *da = gradient_wanted(gradient, 0), *db = gradient_wanted(gradient, 1), *dc = gradient_wanted(gradient, 2);
    char *scratch = gradient->scratch, *next = scratch + align_bytes(matmul_f32_gradient_scratch_bytes(m, n, k));
    float *scaled = (float *)(void *)next, *turned = (float *)(void *)(next += align_bytes((size_t)(m * n) * sizeof(float)));
    float *back = (float *)(void *)(next += align_bytes((size_t)(m * k) * sizeof(float)));
    double *sums = (double *)(void *)(next + align_bytes((size_t)(m * k) * sizeof(float)));
    if (dc) gemm_bias_gradient(state, dy, sums, dc);
    for (int64_t i = 0; state->alpha != 1.0f && i < m * n; i++)
        scaled[i] = state->alpha * dy[i];
    if (state->alpha != 1.0f) dy = scaled;
    if (db) {
        if (state->transpose_a) a = transpose(a, k, m, turned);
        matmul_f32_right_gradient(m, n, k, a, dy, state->transpose_b, db, scratch);
    }
    if (!da) return;
    matmul_f32_left_gradient(m, n, k, dy, tensor_floats(gradient->inputs[1]), state->transpose_b, state->transpose_a ? back : da, scratch);
    if (state->transpose_a) transpose(back, m, k, da);
}

static void gemm_cost(const Node *node, Cost *cost)
{
    const Value *b = input_value(node, 1), *out = node->outputs[0];
    cost->parameter_bytes = parameter_bytes(node);
    cost->macs = b && b->shaped && out->shaped && out->shape.rank == 2 ? out->shape.dims[0] * shape_count(&b->shape) : 0;
}

const Operator op_gemm = {
    .name = "Gemm",
    .help = "Matrix product with bias: alpha * A * B + beta * C.",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .attributes = {{.name = "alpha", .kind = ATTRIBUTE_FLOAT, .number = 1},
                   {.name = "beta", .kind = ATTRIBUTE_FLOAT, .number = 1},
                   {.name = "transA", .kind = ATTRIBUTE_INT},
                   {.name = "transB", .kind = ATTRIBUTE_INT}},
    .infer = gemm_infer,
    .prepare = gemm_prepare,
    .release = gemm_release,
    .run = gemm_run,
    .gradient = gemm_gradient,
    .gradient_scratch = gemm_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_COMPUTING | OPERATOR_WEIGHTED,
    .slots = slots_gemm,
    .layout = LAYOUT_OTHER,
    .pack = PACK_GEMM,
    .fuses_relu = true,
    .module = MODULE_S8 | MODULE_S16,
    .cost = gemm_cost,
};

typedef struct MatmulState {
    MatmulF32 matmul;
    bool wide;
    float *packed;         /* of every matrix of a constant second operand; NULL: it comes at run time */
    int64_t packed_floats; /* of one matrix */
    int64_t batches;
    Shape batch_shape;                                          /* leading dimensions of the product */
    int64_t a_strides[ESPQ_MAX_RANK], b_strides[ESPQ_MAX_RANK]; /* of the operands along them, in matrices */
    int64_t lanes;                                              /* parallel walks over the batches, each with scratch of its own */
    size_t lane_bytes;
} MatmulState;

/* Operands as matrices: a vector on the left is a row, one on the right a column. */
static void as_matrix(Shape *shape, bool left)
{
    if (shape->rank != 1) return;
    int64_t length = shape->dims[0];
    *shape = (Shape){.rank = 2, .dims = {left ? 1 : length, left ? length : 1}};
}

static Shape leading(const Shape *shape)
{
    Shape out = *shape;
    out.rank -= 2;
    return out;
}

static bool matmul_shapes(const Node *node, const Shape *first, const Shape *second, MatmulState *state, Shape *out, Error *error)
{
    char left[160], right[160];
    Shape a = *first, b = *second;
    if (!require_rank(node, &a, 1, ESPQ_MAX_RANK, "input", error) || !require_rank(node, &b, 1, ESPQ_MAX_RANK, "input 1", error))
        return false;
    as_matrix(&a, true);
    as_matrix(&b, false);
    Shape a_batch = leading(&a), b_batch = leading(&b);
    MatmulF32 *matmul = &state->matmul;
    *matmul = (MatmulF32){.m = a.dims[a.rank - 2], .k = a.dims[a.rank - 1], .n = b.dims[b.rank - 1]};
    matmul->lda = matmul->k;
    matmul->ldb = matmul->ldc = matmul->n;
    if (b.dims[b.rank - 2] != matmul->k || !shape_broadcast(&a_batch, &b_batch, &state->batch_shape)) {
        return fail_node(error, node, "columns of the first must equal rows of the second, leading dimensions be equal or 1",
                         "matrices %s and %s do not fit", shape_text(first, left), shape_text(second, right));
    }
    *out = state->batch_shape;
    if (first->rank > 1) out->dims[out->rank++] = matmul->m;
    if (second->rank > 1) out->dims[out->rank++] = matmul->n;
    /* One matrix on the right: all rows of the left one are one product. */
    if (shape_count(&b_batch) == 1 && b.rank <= a.rank) {
        matmul->m *= shape_count(&a_batch);
        state->batch_shape = a_batch = b_batch = (Shape){.rank = 0};
    }
    state->batches = shape_count(&state->batch_shape);
    broadcast_strides(&a_batch, &state->batch_shape, state->a_strides);
    broadcast_strides(&b_batch, &state->batch_shape, state->b_strides);
    return true;
}

static bool matmul_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape a, b, out;
    MatmulState state;
    if (!input_shape(node, 0, &a, error) || !input_shape(node, 1, &b, error)) return false;
    if (!require_float32(node, 0, error) || !require_float32(node, 1, error)) return false;
    if (!matmul_shapes(node, &a, &b, &state, &out, error)) return false;
    set_output(node, 0, DTYPE_FLOAT32, &out);
    return true;
}

static void matmul_release(void *state)
{
    MatmulState *matmul = state;
    memory_free(matmul->packed);
    memory_free(matmul);
}

static bool matmul_pack(MatmulState *state, const Tensor *constant, Error *error)
{
    const MatmulF32 *matmul = &state->matmul;
    int64_t matrix = matmul->k * matmul->n, matrices = matrix > 0 ? tensor_count(constant) / matrix : 0;
    size_t bytes = (matmul_f32_packed_bytes(matmul->k, matmul->n) + 63) / 64 * 64;
    state->packed_floats = (int64_t)(bytes / sizeof(float));
    state->packed = memory_new_aligned(bytes * (size_t)matrices);
    if (!state->packed) return fail_memory(error, bytes * (size_t)matrices);
    for (int64_t i = 0; i < matrices; i++)
        matmul_f32_pack(matmul->k, matmul->n, tensor_floats(constant) + i * matrix, matmul->n, 1, state->packed + i * state->packed_floats);
    return true;
}

static bool matmul_prepare(Prepare *prepare, Error *error)
{
    Shape out;
    MatmulState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    if (!matmul_shapes(prepare->node, &prepare->input_shapes[0], &prepare->input_shapes[1], state, &out, error)) return false;
    state->wide = prepare->wide;
    state->lanes = threads_count() < state->batches ? threads_count() : 1;
    if (state->wide) return true;
    if (prepare->constants[1]) return matmul_pack(state, prepare->constants[1], error);
    state->lane_bytes = (matmul_f32_scratch_bytes(&state->matmul) + 63) / 64 * 64;
    prepare->scratch_bytes = state->lane_bytes * (size_t)state->lanes;
    return true;
}

typedef struct MatmulTask {
    const MatmulState *state;
    const float *a, *b;
    float *y;
    char *scratch;
} MatmulTask;

static void matmul_one(const MatmulTask *task, int64_t batch, void *scratch)
{
    const MatmulState *state = task->state;
    const MatmulF32 *matmul = &state->matmul;
    int64_t a_matrix = 0, b_matrix = 0, rest = batch;
    for (int i = state->batch_shape.rank - 1; i >= 0; i--) {
        int64_t index = rest % state->batch_shape.dims[i];
        rest /= state->batch_shape.dims[i];
        a_matrix += index * state->a_strides[i];
        b_matrix += index * state->b_strides[i];
    }
    const float *a = task->a + a_matrix * matmul->m * matmul->k, *b = task->b + b_matrix * matmul->k * matmul->n;
    float *y = task->y + batch * matmul->m * matmul->n;
    if (state->wide)
        matmul_f64_reference(matmul, a, b, NULL, y);
    else if (state->packed)
        matmul_f32_packed(matmul, a, state->packed + b_matrix * state->packed_floats, NULL, y);
    else
        matmul_f32(matmul, a, b, NULL, y, scratch);
}

static void matmul_lanes(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const MatmulTask *task = context;
    const MatmulState *state = task->state;
    for (int64_t lane = begin; lane < end; lane++) {
        for (int64_t batch = lane; batch < state->batches; batch += state->lanes)
            matmul_one(task, batch, task->scratch + (size_t)lane * state->lane_bytes);
    }
}

static void matmul_run(const Run *run)
{
    const MatmulState *state = run->state;
    MatmulTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->inputs[1]), tensor_floats(run->outputs[0]), run->scratch};
    if (state->lanes > 1) {
        threads_for(state->lanes, 1, matmul_lanes, &task);
    } else {
        for (int64_t batch = 0; batch < state->batches; batch++)
            matmul_one(&task, batch, task.scratch);
    }
}

static size_t matmul_gradient_scratch(const Prepare *prepare)
{
    const MatmulState *state = prepare->state;
    const MatmulF32 *matmul = &state->matmul;
    int64_t most = matmul->m > matmul->n ? matmul->m : matmul->n;
    return align_bytes(matmul_f32_gradient_scratch_bytes(matmul->m, matmul->n, matmul->k)) +
           align_bytes((size_t)(most * matmul->k) * sizeof(float));
}

/* Which matrix of an operand a batch entry takes. */
static int64_t matrix_of(const MatmulState *state, const int64_t *strides, int64_t batch)
{
    int64_t matrix = 0;
    for (int i = state->batch_shape.rank - 1; i >= 0; i--) {
        matrix += batch % state->batch_shape.dims[i] * strides[i];
        batch /= state->batch_shape.dims[i];
    }
    return matrix;
}

/* Matrices that several batch entries share gain what those gain, added in their order. */
static void matmul_gradient(const Gradient *gradient)
{
    const MatmulState *state = gradient->state;
    int64_t m = state->matmul.m, n = state->matmul.n, k = state->matmul.k;
    const float *a = tensor_floats(gradient->inputs[0]), *b = tensor_floats(gradient->inputs[1]);
    float *da = gradient_wanted(gradient, 0), *db = gradient_wanted(gradient, 1);
    float *part = (float *)(void *)((char *)gradient->scratch + align_bytes(matmul_f32_gradient_scratch_bytes(m, n, k)));
    if (da) memset(da, 0, tensor_bytes(gradient->input_gradients[0]));
    if (db) memset(db, 0, tensor_bytes(gradient->input_gradients[1]));
    for (int64_t batch = 0; batch < state->batches; batch++) {
        const float *dy = tensor_floats(gradient->output_gradients[0]) + batch * m * n;
        int64_t left = matrix_of(state, state->a_strides, batch) * m * k, right = matrix_of(state, state->b_strides, batch) * k * n;
        if (da) {
            matmul_f32_left_gradient(m, n, k, dy, b + right, false, part, gradient->scratch);
            for (int64_t i = 0; i < m * k; i++)
                da[left + i] += part[i];
        }
        if (db) {
            matmul_f32_right_gradient(m, n, k, a + left, dy, false, part, gradient->scratch);
            for (int64_t i = 0; i < k * n; i++)
                db[right + i] += part[i];
        }
    }
}

static void matmul_cost(const Node *node, Cost *cost)
{
    const Value *a = input_value(node, 0), *out = node->outputs[0];
    cost->parameter_bytes = parameter_bytes(node);
    cost->macs = 0;
    if (!a || !a->shaped || !out->shaped || a->shape.rank == 0) return;
    cost->macs = shape_count(&out->shape) * a->shape.dims[a->shape.rank - 1];
}

const Operator op_matmul = {
    .name = "MatMul",
    .help = "Matrix product over the last two axes; leading axes broadcast.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = matmul_infer,
    .prepare = matmul_prepare,
    .release = matmul_release,
    .run = matmul_run,
    .gradient = matmul_gradient,
    .gradient_scratch = matmul_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_COMPUTING,
    .layout = LAYOUT_OTHER,
    .pack = PACK_MATMUL,
    .fuses_relu = true,
    .module = MODULE_S8 | MODULE_S16,
    .cost = matmul_cost,
};
