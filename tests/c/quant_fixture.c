#include "quant_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/progress.h"

static bool begin(void *context, Error *error)
{
    (void)error;
    Fixture *fixture = context;
    fixture->walk_at = 0;
    fixture->walks++;
    return true;
}

static bool next(void *context, Tensor **inputs, bool *done, Error *error)
{
    Fixture *fixture = context;
    *done = fixture->walk_at == 4;
    if (*done) return true;
    for (int i = 0; i < fixture->graph->input_count; i++) {
        inputs[i] = tensor_new(DTYPE_FLOAT32, &fixture->graph->inputs[i]->shape, error);
        if (!inputs[i]) return false;
        uint32_t state = 77u + (uint32_t)(fixture->walk_at * 31 + i);
        for (int64_t k = 0; k < tensor_count(inputs[i]); k++) {
            state = state * 214013u + 2531011u;
            tensor_floats(inputs[i])[k] = (float)((int32_t)state) / 2147483648.0f;
        }
        tensor_floats(inputs[i])[0] = fixture->first;
    }
    fixture->walk_at++;
    return true;
}

static Value *make_value(Fixture *fixture, const char *name)
{
    Value *value = graph_value(fixture->graph, name);
    if (!value) value = graph_add_value(fixture->graph, name, &fixture->error);
    fixture->ok = fixture->ok && value;
    return value;
}

void fixture_begin(Fixture *fixture, const char *target, int bits, int rank, const int64_t *dims)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->first = 1;
    progress_level = 0;
    fixture->graph = graph_new("test", &fixture->error);
    fixture->setting = fixture->graph ? setting_new(SETTING_ESPDL, &fixture->error) : NULL;
    fixture->ok = fixture->setting != NULL;
    if (!fixture->ok) return;
    fixture_set(fixture, "quantize_activation_setting.calib_algorithm", "minmax");
    Value *x = make_value(fixture, "x");
    if (!x) return;
    x->dtype = DTYPE_FLOAT32;
    x->shape = shape_of(rank, dims);
    x->shaped = true;
    fixture->ok = fixture->ok && graph_add_input(fixture->graph, x, &fixture->error);
    fixture->batches = (Batches){fixture, 1, begin, next};
    fixture->context =
        (PassContext){.setting = fixture->setting, .target = target_find(target), .bits = bits, .batches = &fixture->batches};
}

void fixture_end(Fixture *fixture)
{
    graph_free(fixture->graph);
    setting_free(fixture->setting);
}

Node *fixture_node(Fixture *fixture, const char *type, const char *name, int inputs, const char *const *names)
{
    if (!fixture->ok) return NULL;
    char out[80];
    snprintf(out, sizeof out, "%s_out", name);
    Node *node = graph_add_node(fixture->graph, type, name, &fixture->error);
    fixture->ok = node != NULL;
    for (int i = 0; fixture->ok && i < inputs; i++) {
        Value *value = *names[i] ? make_value(fixture, names[i]) : NULL;
        fixture->ok = fixture->ok && node_add_input(fixture->graph, node, value, &fixture->error);
    }
    Value *made = fixture->ok ? make_value(fixture, out) : NULL;
    fixture->ok = fixture->ok && node_add_output(fixture->graph, node, made, &fixture->error);
    return node;
}

Value *fixture_constant(Fixture *fixture, const char *name, int rank, const int64_t *dims, float scale)
{
    if (!fixture->ok) return NULL;
    Shape shape = shape_of(rank, dims);
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, &shape, &fixture->error);
    fixture->ok = tensor != NULL;
    if (!tensor) return NULL;
    int64_t count = tensor_count(tensor);
    for (int64_t i = 0; i < count; i++)
        tensor_floats(tensor)[i] = scale * (count > 1 ? 2 * (float)i / (float)(count - 1) - 1 : 1);
    Value *value = graph_add_constant(fixture->graph, name, tensor, &fixture->error);
    tensor_release(tensor);
    fixture->ok = value != NULL;
    return value;
}

void fixture_output(Fixture *fixture, const char *name)
{
    fixture->ok = fixture->ok && graph_add_output(fixture->graph, graph_value(fixture->graph, name), &fixture->error);
}

void fixture_set(Fixture *fixture, const char *path, const char *value)
{
    fixture->ok = fixture->ok && setting_set(fixture->setting, path, value, &fixture->error);
}

bool fixture_run(Fixture *fixture, const char *last)
{
    fixture->ok = fixture->ok && graph_infer(fixture->graph, &fixture->error);
    for (const Pass *pass = quantization_passes; fixture->ok && pass->name; pass++) {
        if (pass->run && (!pass->when || pass->when(fixture->setting))) {
            fixture->ok = pass->run(fixture->graph, &fixture->context, &fixture->error);
            fixture->ok = fixture->ok && graph_check(fixture->graph, &fixture->error);
        }
        if (last && strcmp(pass->name, last) == 0) break;
    }
    return fixture->ok;
}

Slot *fixture_in(const Fixture *fixture, const char *node, int index)
{
    return graph_node(fixture->graph, node)->input_slots[index];
}

Slot *fixture_out(const Fixture *fixture, const char *node)
{
    return graph_node(fixture->graph, node)->output_slots[0];
}
