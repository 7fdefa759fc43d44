/* Which nodes are quantized, and for what (QUANT §5). The rules walk the graph over value edges: edges along which numbers flow,
 * not shapes or indices (the ends that a row names in float_inputs and float_outputs). */
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "graph/operator.h"
#include "quant/quantize.h"

typedef struct Walk {
    Graph *graph;
    Node **order; /* topological */
    Map places;   /* node name → its place in order, plus 1 */
    int count;
} Walk;

static void walk_end(Walk *walk)
{
    memory_free(walk->order);
    map_free(&walk->places);
}

static bool walk_begin(Walk *walk, Graph *graph, Error *error)
{
    *walk = (Walk){.graph = graph, .count = graph->node_count};
    if (!graph_sort(graph, &walk->order, error)) return false;
    for (int i = 0; i < walk->count; i++) {
        if (map_set(&walk->places, walk->order[i]->name, (void *)(uintptr_t)(i + 1))) continue;
        walk_end(walk);
        return fail_memory(error, 64);
    }
    return true;
}

static int place_of(const Walk *walk, const Node *node)
{
    return (int)(uintptr_t)map_get(&walk->places, node->name) - 1;
}

/* ---- what a node is ---- */

static bool has_flag(const Node *node, unsigned flag)
{
    return node->op && (node->op->flags & flag);
}

static bool is_float_input(const Node *node, int index)
{
    return node->op && index < 32 && (node->op->float_inputs >> index & 1);
}

static bool is_float_output(const Node *node, int index)
{
    return node->op && index < 32 && (node->op->float_outputs >> index & 1);
}

/* Makes shapes or indices out of whatever it reads: Shape, TopK's indices, ConstantOfShape, Range, NonZero. Comparisons make
 * booleans, and are quantizable. */
static bool makes_shapes(const Node *node)
{
    return node->op && (has_flag(node, OPERATOR_SHAPE_ONLY) || (node->op->float_outputs && !has_flag(node, OPERATOR_QUANTIZABLE)));
}

static bool is_boundary(const Node *node)
{
    bool fed = false;
    for (int i = 0; i < node->input_count; i++)
        fed = fed || (node->inputs[i] && node->inputs[i]->producer);
    return !fed || node_consumer_count(node) == 0;
}

/* Does a number that `from` made reach what `to` makes? */
static bool value_edge(const Node *from, const Node *to)
{
    if (has_flag(to, OPERATOR_SHAPE_ONLY)) return false;
    for (int i = 0; i < to->input_count; i++) {
        if (to->inputs[i] && to->inputs[i]->producer == from && !is_float_input(to, i)) return true;
    }
    return false;
}

/* ---- paths: the reference's "opset matching" ---- */

typedef bool (*NodeTest)(void *context, const Node *node);
typedef bool (*EdgeTest)(void *context, const Node *from, const Node *to);

typedef struct Match {
    NodeTest starts, ends;
    EdgeTest passes;
    void *context;
    bool down;
} Match;

typedef void (*Visit)(void *context, Node *next);

static void each_next(const Node *node, bool down, Visit visit, void *context)
{
    if (down) {
        for (int i = 0; i < node->output_count; i++) {
            const Value *value = node->outputs[i];
            for (int u = 0; value && u < value->use_count; u++)
                visit(context, value->uses[u].node);
        }
    } else {
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] && node->inputs[i]->producer) visit(context, node->inputs[i]->producer);
        }
    }
}

typedef struct Search {
    const Match *match;
    const Walk *walk;
    bool *open;    /* a path leads from here to an end */
    bool *reached; /* on such a path */
    bool *found;   /* reached, or the end of a path */
    const Node *here;
    bool marking;
} Search;

static void look(void *context, Node *next)
{
    Search *search = context;
    int place = place_of(search->walk, next);
    if (search->match->ends(search->match->context, next)) {
        if (search->marking)
            search->found[place] = true;
        else
            search->open[place_of(search->walk, search->here)] = true;
    } else if (search->open[place] && search->match->passes(search->match->context, search->here, next)) {
        if (search->marking)
            search->reached[place] = true;
        else
            search->open[place_of(search->walk, search->here)] = true;
    }
}

/* All nodes on paths from a start over passing edges to the first end; found has walk->count entries. */
static bool match_paths(const Walk *walk, const Match *match, bool *found, Error *error)
{
    bool *memory = memory_new_array((size_t)walk->count * 2 + 1, sizeof *memory);
    if (!memory) return fail_memory(error, (size_t)walk->count * 2);
    Search search = {match, walk, memory, memory + walk->count, found, NULL, false};
    for (int i = 0; i < walk->count; i++) {
        int place = match->down ? walk->count - 1 - i : i;
        search.here = walk->order[place];
        each_next(search.here, match->down, look, &search);
    }
    search.marking = true;
    for (int i = 0; i < walk->count; i++) {
        int place = match->down ? i : walk->count - 1 - i;
        search.here = walk->order[place];
        if (search.open[place] && match->starts(match->context, search.here)) search.reached[place] = true;
        if (!search.reached[place]) continue;
        found[place] = true;
        each_next(search.here, match->down, look, &search);
    }
    memory_free(memory);
    return true;
}

/* ---- the dispatchers' tests ---- */

typedef struct Sets {
    const Walk *walk;
    bool *quantized, *shapes, *receivers, *reachable, *scratch;
} Sets;

static bool test_computing(void *context, const Node *node)
{
    (void)context;
    return has_flag(node, OPERATOR_COMPUTING);
}

static bool test_convolution(void *context, const Node *node)
{
    (void)context;
    return has_flag(node, OPERATOR_COMPUTING) && node->op->pack == PACK_CONV;
}

static bool test_not_quantizable_or_boundary(void *context, const Node *node)
{
    (void)context;
    return !has_flag(node, OPERATOR_QUANTIZABLE) || is_boundary(node);
}

static bool test_shapes_or_boundary(void *context, const Node *node)
{
    (void)context;
    return makes_shapes(node) || is_boundary(node);
}

static bool test_generator(void *context, const Node *node)
{
    (void)context;
    return makes_shapes(node);
}

static bool test_forward_end(void *context, const Node *node)
{
    const Sets *sets = context;
    int place = place_of(sets->walk, node);
    return sets->receivers[place] || sets->quantized[place] || is_boundary(node) || has_flag(node, OPERATOR_COMPUTING);
}

static bool test_backward_start(void *context, const Node *node)
{
    const Sets *sets = context;
    return sets->shapes[place_of(sets->walk, node)] && !has_flag(node, OPERATOR_SHAPE_ONLY);
}

static bool test_backward_end(void *context, const Node *node)
{
    const Sets *sets = context;
    int place = place_of(sets->walk, node);
    return sets->shapes[place] || sets->quantized[place] || is_boundary(node) || has_flag(node, OPERATOR_COMPUTING);
}

static bool edge_value(void *context, const Node *from, const Node *to)
{
    (void)context;
    return value_edge(from, to);
}

static bool edge_quantizable(void *context, const Node *from, const Node *to)
{
    (void)context;
    return value_edge(from, to) && has_flag(to, OPERATOR_QUANTIZABLE);
}

/* Backwards: from a node to what it reads. */
static bool edge_back(void *context, const Node *from, const Node *to)
{
    (void)context;
    return !makes_shapes(to) && !has_flag(from, OPERATOR_SHAPE_ONLY) && value_edge(to, from);
}

static bool merge_shapes(Sets *sets, const Match *match, bool *grew, Error *error)
{
    memset(sets->scratch, 0, (size_t)sets->walk->count * sizeof *sets->scratch);
    if (!match_paths(sets->walk, match, sets->scratch, error)) return false;
    *grew = false;
    for (int i = 0; i < sets->walk->count; i++) {
        bool excluded = has_flag(sets->walk->order[i], OPERATOR_COMPUTING) || sets->quantized[i];
        if (!sets->scratch[i] || excluded || sets->shapes[i]) continue;
        sets->shapes[i] = true;
        *grew = true;
    }
    return true;
}

static void find_receivers(Sets *sets)
{
    for (int i = 0; i < sets->walk->count; i++) {
        const Node *node = sets->walk->order[i];
        for (int k = 0; k < node->input_count; k++) {
            if (is_float_input(node, k) && node->inputs[k] && node->inputs[k]->producer)
                sets->receivers[place_of(sets->walk, node->inputs[k]->producer)] = true;
        }
    }
    memcpy(sets->shapes, sets->receivers, (size_t)sets->walk->count * sizeof *sets->shapes);
}

/* ---- dispatchers ---- */

typedef enum { RULE_ALLIN, RULE_CONSERVATIVE, RULE_PPLNN, RULE_AGGRESSIVE, RULE_POINTWISE, RULE_PERSEUS } Rule;

static void dispatch_allin(const Walk *walk)
{
    for (int i = 0; i < walk->count; i++)
        walk->order[i]->platform = has_flag(walk->order[i], OPERATOR_QUANTIZABLE) ? &platform_unspecified : &platform_float;
}

/* Unary operators that the chip knows as a table only (EXPORT E24): quantized, so that lowering can write the table. */
static void dispatch_tables(const Walk *walk, const Platform *platform)
{
    for (int i = 0; i < walk->count; i++) {
        const Operator *op = walk->order[i]->op;
        if (op && op->table && !op->module && walk->order[i]->input_count == 1) walk->order[i]->platform = platform;
    }
}

/* Activations, and what makes indices of its input, go where their input goes. */
static void follow_producers(const Walk *walk)
{
    for (int i = 0; i < walk->graph->node_count; i++) {
        Node *node = walk->graph->nodes[i];
        const Value *input = node->input_count ? node->inputs[0] : NULL;
        const Node *producer = input ? input->producer : NULL;
        if (makes_shapes(node) && node->input_count) node->platform = producer ? producer->platform : &platform_float;
        if (has_flag(node, OPERATOR_CLAMP) && producer) node->platform = producer->platform;
    }
}

static bool dispatch_by_paths(const Walk *walk, Sets *sets, Rule rule, Error *error)
{
    const Match quantized[] = {
        [RULE_CONSERVATIVE] = {test_computing, test_not_quantizable_or_boundary, edge_value, NULL, true},
        [RULE_PPLNN] = {test_convolution, test_convolution, edge_quantizable, NULL, true},
        [RULE_AGGRESSIVE] = {test_computing, test_shapes_or_boundary, edge_value, NULL, true},
        [RULE_POINTWISE] = {test_computing, test_not_quantizable_or_boundary, edge_value, NULL, true},
    };
    const Match extension = {test_computing, test_shapes_or_boundary, edge_value, NULL, true};
    const Match forward = {test_generator, test_forward_end, edge_value, sets, true};
    const Match backward = {test_backward_start, test_backward_end, edge_back, sets, false};

    find_receivers(sets);
    if (!match_paths(walk, &quantized[rule], sets->quantized, error) || !match_paths(walk, &extension, sets->reachable, error))
        return false;
    for (int i = 0; i < walk->count; i++) {
        const Node *node = walk->order[i];
        if (!has_flag(node, OPERATOR_QUANTIZABLE) || has_flag(node, OPERATOR_SHAPE_ONLY)) sets->quantized[i] = false;
    }
    bool grew;
    if (!merge_shapes(sets, &forward, &grew, error)) return false;
    for (grew = true; grew;) {
        if (!merge_shapes(sets, &backward, &grew, error)) return false;
    }
    for (int i = 0; i < walk->count; i++) {
        bool shape = sets->shapes[i] && (rule == RULE_AGGRESSIVE || !sets->reachable[i]);
        walk->order[i]->platform = shape ? &platform_shape : sets->quantized[i] ? &platform_unspecified : &platform_float;
    }
    follow_producers(walk);
    for (int i = 0; rule == RULE_POINTWISE && i < walk->count; i++) {
        Node *node = walk->order[i];
        if (node->platform->quantizes || node->platform == &platform_unspecified) node->platform = &platform_float;
        if (has_flag(node, OPERATOR_QUANTIZABLE) && has_flag(node, OPERATOR_COMPUTING)) node->platform = &platform_unspecified;
    }
    return true;
}

/* Everything that hangs together by value edges, in either direction. */
static void close_over_values(const Walk *walk, bool *set)
{
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = 0; i < walk->count; i++) {
            const Node *node = walk->order[i];
            for (int k = 0; k < node->input_count; k++) {
                if (!node->inputs[k] || !node->inputs[k]->producer || is_float_input(node, k) || has_flag(node, OPERATOR_SHAPE_ONLY))
                    continue;
                int other = place_of(walk, node->inputs[k]->producer);
                if (set[i] == set[other]) continue;
                set[i] = set[other] = grew = true;
            }
        }
    }
}

static void dispatch_perseus(const Walk *walk, Sets *sets)
{
    find_receivers(sets);
    for (int i = 0; i < walk->count; i++) {
        const Node *node = walk->order[i];
        sets->quantized[i] = has_flag(node, OPERATOR_COMPUTING);
        for (int o = 0; o < node->output_count; o++) {
            const Value *value = is_float_output(node, o) ? node->outputs[o] : NULL;
            for (int u = 0; value && u < value->use_count; u++) {
                if (!is_float_input(value->uses[u].node, value->uses[u].index)) sets->shapes[place_of(walk, value->uses[u].node)] = true;
            }
        }
    }
    close_over_values(walk, sets->quantized);
    close_over_values(walk, sets->shapes);
    for (int i = 0; i < walk->count; i++) {
        bool quantized = sets->quantized[i], shape = sets->shapes[i];
        walk->order[i]->platform = quantized && !shape ? &platform_unspecified : shape && !quantized ? &platform_shape : &platform_float;
    }
}

static bool run_rule(const Walk *walk, Rule rule, Error *error)
{
    if (rule == RULE_ALLIN) {
        dispatch_allin(walk);
        return true;
    }
    size_t count = (size_t)walk->count;
    bool *memory = memory_new_array(5 * count + 1, sizeof *memory);
    if (!memory) return fail_memory(error, 5 * count);
    Sets sets = {walk, memory, memory + count, memory + 2 * count, memory + 3 * count, memory + 4 * count};
    bool ok = true;
    if (rule == RULE_PERSEUS)
        dispatch_perseus(walk, &sets);
    else
        ok = dispatch_by_paths(walk, &sets, rule, error);
    memory_free(memory);
    return ok;
}

/* ---- the table ---- */

static bool fail_unknown_node(const Graph *graph, const char *pattern, const char *what, Error *error)
{
    const char **names = memory_new_array((size_t)graph->node_count + 1, sizeof *names);
    if (!names) return fail_memory(error, (size_t)graph->node_count * sizeof *names);
    char near[512] = "";
    size_t used = 0;
    int left = graph->node_count;
    for (int i = 0; i < left; i++)
        names[i] = graph->nodes[i]->name;
    for (int k = 0; k < 3 && used < sizeof near; k++) {
        int nearest = text_nearest(pattern, names, left);
        if (nearest < 0) break;
        used += (size_t)snprintf(near + used, sizeof near - used, "%s'%s'", k ? ", " : "", names[nearest]);
        names[nearest] = names[--left];
    }
    memory_free(names);
    const char *cure = "patterns with * and ? are allowed; a node that was folded into its neighbour is addressed by the neighbour's name";
    if (!near[0]) return fail(error, pattern, cure, "%s: no operator is called '%s'", what, pattern);
    return fail(error, pattern, cure, "%s: no operator is called '%s' (near: %s)", what, pattern, near);
}

/* Was there a node of this name, or that the pattern matches, before it was folded into another one? */
static bool was_removed(const Graph *graph, const char *pattern)
{
    const Text *names = &graph->removed_names;
    for (size_t at = 0; at < names->length; at += strlen(names->data + at) + 1) {
        if (text_matches(pattern, names->data + at) || strcmp(pattern, names->data + at) == 0) return true;
    }
    return false;
}

static bool is_shared(const Graph *graph, const char *name)
{
    const Text *names = &graph->shared_names;
    for (size_t at = 0; at < names->length; at += strlen(names->data + at) + 1)
        if (strcmp(name, names->data + at) == 0) return true;
    return false;
}

/* By its name, or by a tensor that it makes: where several nodes have one name, that is what tells them apart. */
static Node *addressed(const Graph *graph, const char *name)
{
    Node *node = graph_node(graph, name);
    const Value *value = node ? NULL : graph_value(graph, name);
    return value ? value->producer : node;
}

static bool apply_table(Graph *graph, const Setting *setting, Error *error)
{
    for (int i = 0; i < setting->dispatching_count; i++) {
        const DispatchEntry *entry = &setting->dispatching_table[i];
        const Platform *platform = platform_find(entry->platform);
        if (!platform)
            return fail(error, entry->pattern, "use espq.platform(target, bits)", "dispatching table: unknown platform %d",
                        entry->platform);
        if (is_shared(graph, entry->pattern))
            return fail(error, entry->pattern, "name the tensor that the node makes instead",
                        "dispatching table: several nodes are called '%s'", entry->pattern);
        Node *node = addressed(graph, entry->pattern); /* a name may have * and ? in it: exactly equal comes first */
        if (node) {
            node->platform = platform;
            continue;
        }
        int matched = 0;
        for (int k = 0; strpbrk(entry->pattern, "*?") && k < graph->node_count; k++) {
            if (!text_matches(entry->pattern, graph->nodes[k]->name)) continue;
            graph->nodes[k]->platform = platform;
            matched++;
        }
        if (matched) continue;
        if (!was_removed(graph, entry->pattern)) return fail_unknown_node(graph, entry->pattern, "dispatching table", error);
        graph_note(graph, "the dispatching table's entry %s has no effect: the operator was folded into another one", entry->pattern);
    }
    return true;
}

/* Does any end carry floats that could be quantized? Shape arithmetic has none (QUANT D18). */
static bool has_float_ends(const Node *node)
{
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        if (value && !is_float_input(node, i) && (value->dtype == DTYPE_FLOAT32 || value->dtype == DTYPE_NONE)) return true;
    }
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (value && !is_float_output(node, i) && (value->dtype == DTYPE_FLOAT32 || value->dtype == DTYPE_NONE)) return true;
    }
    return false;
}

static bool find_rule(const char *name, Rule *rule)
{
    static const char *const names[] = {"allin", "conservative", "pplnn", "aggresive", "pointwise", "perseus"};
    for (int i = 0; i < 6; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *rule = (Rule)i;
        return true;
    }
    return false;
}

bool pass_dispatch(Graph *graph, PassContext *context, Error *error)
{
    const Setting *setting = context->setting;
    Rule rule;
    if (!find_rule(setting->dispatcher, &rule))
        return fail(error, setting->dispatcher, "use allin", "unknown dispatcher '%s'", setting->dispatcher);
    const Platform *main_platform = target_platform(context->target, context->bits, context->hi_precision);
    if (!main_platform)
        return fail(error, context->target->name, "use 8 or 16", "no platform of target %s has %d bits", context->target->name,
                    context->bits);
    setting_note_unused(setting, graph);

    Walk walk;
    if (!walk_begin(&walk, graph, error)) return false;
    bool ok = run_rule(&walk, rule, error);
    if (ok && rule == RULE_ALLIN && setting->switches.unary_as_lut && main_platform->bits == 8) dispatch_tables(&walk, main_platform);
    ok = ok && apply_table(graph, setting, error);
    walk_end(&walk);
    if (!ok) return false;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (node->platform == &platform_unspecified)
            node->platform = has_flag(node, OPERATOR_QUANTIZABLE) ? main_platform : &platform_float;
        if (node->platform->quantizes && (!node->op || !has_float_ends(node))) node->platform = &platform_float;
    }
    return true;
}
