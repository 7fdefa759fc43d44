/* Weights in the order in which the kernels read them (EXPORT §6). Integers are only moved. */
#include <string.h>

#include "lower/lower.h"

/* A filter [outputs][inputs][rows][columns]; grouped: one filter a channel, as far as the chip is concerned. */
typedef struct Filter {
    int64_t outputs, inputs, rows, columns;
    bool grouped;
} Filter;

typedef struct Packing {
    bool plain;    /* C targets: no lanes */
    int64_t lanes; /* 16 of 8 bits, 8 of 16 */
} Packing;

/* Where element (o, i, y, x) goes. Full blocks of lanes first, output channels side by side in them; then the rest. */
static int64_t place(const Filter *f, const Packing *packing, int64_t o, int64_t i, int64_t y, int64_t x)
{
    int64_t h = f->rows, w = f->columns, c = f->inputs, lanes = packing->lanes, full = f->outputs / lanes * lanes;
    if (packing->plain) return f->grouped ? ((y * w + x) * c + i) * f->outputs + o : ((o * h + y) * w + x) * c + i;
    if (o < full) return (((o / lanes * h + y) * w + x) * c + i) * lanes + o % lanes;
    if (!f->grouped) return ((o * h + y) * w + x) * c + i;
    return full * h * w * c + ((i * h + y) * w + x) * (f->outputs - full) + o - full;
}

static void move(const Filter *f, const Packing *packing, size_t bytes, const char *from, const int64_t strides[4], char *to)
{
    for (int64_t o = 0; o < f->outputs; o++)
        for (int64_t y = 0; y < f->rows; y++)
            for (int64_t x = 0; x < f->columns; x++) {
                int64_t first = place(f, packing, o, 0, y, x), step = place(f, packing, o, 1, y, x) - first; /* places are linear in i */
                const char *source = from + (size_t)(o * strides[0] + y * strides[2] + x * strides[3]) * bytes;
                char *target = to + (size_t)first * bytes;
                for (int64_t i = 0; i < f->inputs; i++) {
                    if (bytes == 1)
                        target[i * step] = source[i * strides[1]];
                    else
                        memcpy(target + (size_t)(i * step) * bytes, source + (size_t)(i * strides[1]) * bytes, bytes);
                }
            }
}

static const char *layout_name(Lowering *lowering, const Filter *f, const Packing *packing, bool has_rows)
{
    const char *body = has_rows ? "HWC" : "WC";
    if (packing->plain && f->grouped) return has_rows ? "HWCN" : "WCN";
    if (packing->plain) return has_rows ? "NHWC" : "NWC";
    return arena_format(&lowering->graph->arena, "(N/%d)%s%d%s", (int)packing->lanes, body, (int)packing->lanes,
                        f->outputs % packing->lanes ? "_UNALIGNED" : "");
}

/* Put the packed data there: one filter, or several one behind the other. */
static bool replace(Lowering *lowering, Value *value, const Filter *f, const Packing *packing, int64_t filters, const int64_t strides[4],
                    const Shape *dims, bool has_rows, Error *error)
{
    const Tensor *from = value->constant;
    size_t bytes = dtype_bytes(from->dtype), step = (size_t)(f->outputs * f->inputs * f->rows * f->columns) * bytes;
    Tensor *packed = tensor_new(from->dtype, dims, error);
    if (!packed) return false;
    for (int64_t k = 0; k < filters; k++)
        move(f, packing, bytes, from->data + (size_t)k * step, strides, packed->data + (size_t)k * step);
    value_set_constant(lowering->graph, value, packed);
    tensor_release(packed);
    value->device->layout = layout_name(lowering, f, packing, has_rows);
    return value->device->layout || fail_memory(error, 32);
}

static bool pack_conv(Lowering *lowering, Node *node, const Packing *packing, Error *error)
{
    Value *value = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!value || !value->constant || (value->shape.rank != 3 && value->shape.rank != 4)) return true;
    const int64_t *d = value->shape.dims;
    bool has_rows = value->shape.rank == 4;
    Filter f = {d[0], d[1], has_rows ? d[2] : 1, d[has_rows ? 3 : 2], node_integer(node, "group", 1) > 1};
    int64_t plane = f.rows * f.columns, strides[4] = {f.inputs * plane, plane, f.columns, 1};
    Shape dims = {.rank = value->shape.rank};
    int at = 0;
    if (has_rows) dims.dims[at++] = f.rows;
    dims.dims[at++] = f.columns;
    dims.dims[at++] = f.grouped ? f.outputs : f.inputs;
    dims.dims[at] = f.grouped ? f.inputs : f.outputs;
    return replace(lowering, value, &f, packing, 1, strides, &dims, has_rows, error);
}

static bool pack_gemm(Lowering *lowering, Node *node, const Packing *packing, Error *error)
{
    bool turned = node_integer(node, "transB", 0) != 0;
    if (turned && !node_set_integer(lowering->graph, node, "transB", 0)) return fail_memory(error, 16);
    for (int i = 0; i < node->input_count; i++) {
        Value *value = node->inputs[i];
        if (!value || !value->constant || value->shape.rank != 2) continue;
        int64_t rows = value->shape.dims[0], columns = value->shape.dims[1];
        Filter f = {turned ? rows : columns, turned ? columns : rows, 1, 1, false};
        int64_t strides[4] = {turned ? columns : 1, turned ? 1 : columns, 0, 0};
        Shape dims = {4, {1, 1, f.inputs, f.outputs}};
        if (!replace(lowering, value, &f, packing, 1, strides, &dims, true, error)) return false;
    }
    return true;
}

static bool pack_matmul(Lowering *lowering, Node *node, const Packing *packing, Error *error)
{
    Value *value = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!value || !value->constant || value->shape.rank < 2) return true;
    Shape dims = value->shape;
    Filter f = {dims.dims[dims.rank - 1], dims.dims[dims.rank - 2], 1, 1, false};
    int64_t strides[4] = {1, f.outputs, 0, 0}, one = f.inputs * f.outputs;
    return replace(lowering, value, &f, packing, one ? shape_count(&dims) / one : 0, strides, &dims, true, error);
}

static bool pack_node(Lowering *lowering, Node *node, Error *error)
{
    int bits = node->platform ? node->platform->bits : 0;
    if (!node->quantized || !node->op || (bits != 8 && bits != 16)) return true;
    Packing packing = {node->platform->plain_layout, bits == 8 ? 16 : 8};
    switch (node->op->pack) {
    case PACK_CONV: return pack_conv(lowering, node, &packing, error);
    case PACK_GEMM: return pack_gemm(lowering, node, &packing, error);
    case PACK_MATMUL: return pack_matmul(lowering, node, &packing, error);
    case PACK_NONE: break;
    }
    return true;
}

bool lower_pack(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, pack_node, error);
}
