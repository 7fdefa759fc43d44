/* ONNX files. The importer ends opset differences: what leaves it is in one canonical form (opset 18's spelling of every operator,
 * the file's opset recorded), whatever the file's opset (7 … 21). */
#ifndef ESPQ_ONNX_ONNX_H
#define ESPQ_ONNX_ONNX_H

#include "graph/graph.h"

typedef struct InputShape { /* fixes symbolic dimensions */
    const char *name;       /* NULL: by position */
    Shape shape;
} InputShape;

typedef struct OnnxOptions {
    const InputShape *input_shapes;
    int input_shape_count;
} OnnxOptions;

/* Load, check, make canonical. The file is never written to; external data stay inside the model's folder. Everything wrong with the model that can
 * be seen here (operators with subgraphs, several unknown domains …) comes in one error. Unknown operator types stay as nodes without a row:
 * check_supported names them all at once after simplification. */
Graph *onnx_load(const char *path, const OnnxOptions *options, Error *error);
Graph *onnx_load_bytes(const uint8_t *bytes, size_t count, const char *path, const OnnxOptions *options,
                       Error *error); /* path: for external data and messages */
/* Put graph->values of a graph as it was loaded into the order of the reference's dictionary (EXPORT §11.4): switch reference_order. */
bool onnx_reference_order(Graph *graph, Error *error);
bool onnx_save(const Graph *graph, const char *path, Error *error); /* a float graph; atomically */

#endif
