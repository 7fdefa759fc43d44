/* Gemm and MatMul against loops in float64. */
#include <string.h>

#include "run_operator.h"

/* Promise: Gemm with any transposes, alpha, beta and any broadcast of C is alpha * A' B' + beta * C. */
TEST(gemm_equals_its_definition)
{
    static const int64_t c_shapes[][3] = {{-1}, {0}, {1, 5}, {2, 1, 5}, {2, 4, 1}, {2, 4, 5}, {1, 1}}; /* rank, dims; -1: absent */
    Random random;
    random_seed(&random, 3);
    for (int variant = 0; variant < 7 * 32; variant++) {
        int64_t m = 4, n = 5, k = 3;
        const int64_t *c = c_shapes[variant % 7];
        bool ta = variant / 7 & 1, tb = variant / 14 & 1, constant = variant / 28 & 1, scaled = variant / 56 & 1, wide = variant / 112 & 1;
        float alpha = scaled ? 0.5f : 1, beta = scaled ? -2.0f : 1;
        OperatorRun run;
        if (!operator_open(&run, "Gemm", 1)) return;
        operator_input(&run, test_random(&random, DIMS(ta ? k : m, ta ? m : k)), false);
        operator_input(&run, test_random(&random, DIMS(tb ? n : k, tb ? k : n)), constant);
        if (c[0] >= 0) operator_input(&run, test_random(&random, (int)c[0], c + 1), true);
        node_set_integer(run.graph, run.node, "transA", ta);
        node_set_integer(run.graph, run.node, "transB", tb);
        node_set_number(run.graph, run.node, "alpha", alpha);
        node_set_number(run.graph, run.node, "beta", beta);
        run.wide = wide;
        CHECK(operator_run(&run), "variant %d: %s", variant, run.error.what);
        const float *a = tensor_floats(run.inputs[0]), *b = tensor_floats(run.inputs[1]);
        for (int64_t i = 0; run.outputs[0] && i < m * n; i++) {
            int64_t row = i / n, column = i % n;
            double sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += (double)a[ta ? p * m + row : row * k + p] * b[tb ? column * k + p : p * n + column];
            sum *= alpha;
            if (c[0] >= 0) {
                bool rows = c[0] == 2 && c[1] > 1, columns = c[0] > 0 && c[c[0]] > 1;
                sum += beta * (double)tensor_floats(run.inputs[2])[(rows ? row : 0) * (columns ? n : 1) + (columns ? column : 0)];
            }
            CHECK(test_close(tensor_floats(run.outputs[0])[i], sum, 1e-5), "variant %d element %lld: %g, wanted %g", variant, (long long)i,
                  (double)tensor_floats(run.outputs[0])[i], sum);
        }
        operator_close(&run);
    }
}

typedef struct MatmulCase {
    int a_rank, b_rank, y_rank;
    int64_t a[5], b[5], y[5];
} MatmulCase;

static int64_t matrix_of(const Shape *shape, const Shape *out, int64_t batch)
{
    /* Matrix index of `shape` for batch index `batch` of the product, leading dimensions right-aligned. */
    int64_t flat = 0, step = 1;
    int behind = shape->rank < 2 ? 0 : shape->rank - 2;
    for (int i = 0; i < behind; i++) {
        int64_t dim = shape->dims[behind - 1 - i], whole = out->dims[out->rank - 3 - i], index = batch % whole;
        batch /= whole;
        if (dim > 1) flat += index * step;
        step *= dim;
    }
    return flat;
}

/* Promise: MatMul is NumPy's matmul for vectors, matrices and broadcast stacks, with constant and run-time second operand. */
TEST(matmul_equals_its_definition)
{
    static const MatmulCase cases[] = {
        {2, 2, 2, {4, 3}, {3, 5}, {4, 5}},
        {3, 2, 3, {2, 4, 3}, {3, 5}, {2, 4, 5}},
        {3, 3, 3, {2, 4, 3}, {2, 3, 5}, {2, 4, 5}},
        {4, 3, 4, {2, 3, 4, 3}, {3, 3, 5}, {2, 3, 4, 5}},
        {4, 4, 4, {2, 1, 4, 3}, {1, 3, 3, 5}, {2, 3, 4, 5}},
        {2, 3, 3, {4, 3}, {6, 3, 5}, {6, 4, 5}},
        {1, 2, 1, {3}, {3, 5}, {5}},
        {2, 1, 1, {4, 3}, {3}, {4}},
        {1, 1, 0, {3}, {3}, {0}},
        {1, 3, 2, {3}, {2, 3, 5}, {2, 5}},
        {3, 1, 2, {2, 4, 3}, {3}, {2, 4}},
        {4, 4, 4, {1, 6, 7, 9}, {1, 6, 9, 8}, {1, 6, 7, 8}},
        {2, 4, 4, {4, 3}, {1, 1, 3, 5}, {1, 1, 4, 5}},
    };
    Random random;
    random_seed(&random, 5);
    for (size_t i = 0; i < 4 * sizeof cases / sizeof *cases; i++) {
        const MatmulCase *c = &cases[i / 4];
        OperatorRun run;
        if (!operator_open(&run, "MatMul", 1)) return;
        operator_input(&run, test_random(&random, c->a_rank, c->a), false);
        operator_input(&run, test_random(&random, c->b_rank, c->b), i % 2);
        run.wide = i / 2 % 2;
        CHECK(operator_run(&run), "case %zu: %s", i, run.error.what);
        const Tensor *y = run.outputs[0];
        Shape wanted = shape_of(c->y_rank, c->y);
        if (y) CHECK(shape_equal(&y->shape, &wanted), "case %zu: shape", i);
        int64_t k = c->a[c->a_rank - 1], m = c->a_rank > 1 ? c->a[c->a_rank - 2] : 1, n = c->b_rank > 1 ? c->b[c->b_rank - 1] : 1;
        Shape full = wanted; /* with the matrix dimensions that vectors lose */
        if (c->a_rank == 1 || c->b_rank == 1) {
            full.rank = c->y_rank - (c->a_rank > 1) - (c->b_rank > 1);
            full.dims[full.rank++] = m;
            full.dims[full.rank++] = n;
        }
        for (int64_t e = 0; y && e < tensor_count(y); e++) {
            int64_t batch = e / (m * n), row = e / n % m, column = e % n;
            const float *a = tensor_floats(run.inputs[0]) + matrix_of(&run.inputs[0]->shape, &full, batch) * m * k + row * k;
            const float *b = tensor_floats(run.inputs[1]) + matrix_of(&run.inputs[1]->shape, &full, batch) * k * n + column;
            double sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += (double)a[p] * b[p * n];
            CHECK(test_close(tensor_floats(y)[e], sum, 1e-5), "case %zu element %lld: %g, wanted %g", i, (long long)e,
                  (double)tensor_floats(y)[e], sum);
        }
        operator_close(&run);
    }
}

/* Promise: matrices that do not fit are refused with both shapes. */
TEST(matmul_refuses_what_does_not_fit)
{
    OperatorRun run;
    if (!operator_open(&run, "MatMul", 1)) return;
    operator_input(&run, test_tensor(DIMS(2, 3)), false);
    operator_input(&run, test_tensor(DIMS(4, 5)), false);
    CHECK(!operator_run(&run) && strstr(run.error.what, "[2, 3]") && strstr(run.error.what, "[4, 5]"), "%s", run.error.what);
    operator_close(&run);
}
