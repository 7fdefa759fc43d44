/* Gelu as exporters write it: by Erf, or by Tanh. */
#include "simplify/rules.h"

#include <math.h>

static bool is_near(const Match *match, const char *name, double wanted)
{
    const Value *value = match_value(match, name);
    double found = 0;
    return !value || (scalar_of(value->constant, &found) && fabs(found - wanted) <= 1e-4 * fabs(wanted));
}

typedef struct Form {
    const char *pattern;
    const char *approximate;
} Form;

#define BY_DIV "Add(Erf(Div(x, #root)), #one)"
#define BY_MUL "Add(Erf(Mul(x, #inverse)), #one)"
#define BY_TANH(cube) "Add(Tanh(Mul(Add(x, Mul(" cube ", #k)), #c)), #one)"
#define PRODUCTS(sum, approximate)                                                                                                         \
    {"Mul(Mul(x, " sum "), #half)", approximate}, {"Mul(x, Mul(" sum ", #half))", approximate},                                            \
    {                                                                                                                                      \
        "Mul(Mul(x, #half), " sum ")", approximate                                                                                         \
    }

static const Form forms[] = {
    PRODUCTS(BY_DIV, NULL),
    PRODUCTS(BY_MUL, NULL),
    PRODUCTS(BY_TANH("Pow(x, #three)"), "tanh"),
    PRODUCTS(BY_TANH("Mul(Mul(x, x), x)"), "tanh"),
};

static bool is_gelu(const Match *match)
{
    const Value *x = match_value(match, "x");
    return !x->constant && x->dtype == DTYPE_FLOAT32 && is_near(match, "root", 1.4142135623730951) &&
           is_near(match, "inverse", 0.7071067811865476) && is_near(match, "one", 1) && is_near(match, "half", 0.5) &&
           is_near(match, "k", 0.044715) && is_near(match, "c", 0.7978845608028654) && is_near(match, "three", 3);
}

static bool replace(Graph *graph, Match *match, const char *approximate, Error *error)
{
    const char *name = arena_format(&graph->arena, "%s_gelu", match->nodes[0]->name);
    Node *gelu = name ? add_node(graph, "Gelu", name, error) : NULL;
    if (!gelu) return name ? false : fail_memory(error, 64);
    if (approximate && !node_set_string(graph, gelu, "approximate", approximate)) return fail_memory(error, 0);
    return node_add_input(graph, gelu, match_value(match, "x"), error) && match_replace(graph, match, gelu, error);
}

bool rewrite_gelu(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        Pattern pattern;
        if (!pattern_parse(&pattern, forms[f].pattern, error)) return false;
        Node **nodes = nodes_now(graph, error);
        bool ok = nodes != NULL;
        for (int i = 0, count = graph->node_count; ok && i < count; i++) {
            Match match;
            if (nodes[i]->removed || !is_type(nodes[i], "Mul") || !pattern_match(&pattern, graph, nodes[i], &match) || !is_gelu(&match))
                continue;
            ok = replace(graph, &match, forms[f].approximate, error);
            ++*changes;
        }
        memory_free(nodes);
        if (!ok) return false;
    }
    return true;
}
