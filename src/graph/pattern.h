/* Patterns: what a rewrite looks for, written as ONNX would be read aloud. One mechanism for C and Lua.
 *
 *   Mul(x, sigmoid:Sigmoid(x))
 *   Add(Mul(Div(d=Sub(x, ReduceMean(x, ...)), Sqrt(Add(ReduceMean(Pow(d, #two), ...), #epsilon))), #scale), #bias)
 *
 * Type(…)        a node of that type, seen from its output 0; Conv|Gemm: either type
 * name:Type(…)   the same, and the node is bound to name
 * name=Type(…)   the same, and its output is bound to name
 * x              any value; a name met again is the same value
 * #k             a constant value
 * …, ...)        further inputs may follow
 * Inputs of Add, Mul, Max and Min may stand in either order. All nodes but the root must be used inside the pattern only and be no
 * graph output, so that they can go when the root goes. */
#ifndef ESPQ_GRAPH_PATTERN_H
#define ESPQ_GRAPH_PATTERN_H

#include "graph/graph.h"

#define PATTERN_MOST_TERMS 48
#define PATTERN_MOST_NAMES 24

typedef struct PatternTerm {
    char types[48];      /* alternatives by '|'; empty: a value */
    int name;            /* index of the name bound to the value, -1 */
    int node_name;       /* index of the name bound to the node, -1 */
    bool constant, open; /* #k; inputs may follow */
    int arguments[6], argument_count;
} PatternTerm;

typedef struct Pattern {
    PatternTerm terms[PATTERN_MOST_TERMS]; /* [0] is the root */
    int term_count;
    char names[PATTERN_MOST_NAMES][24];
    int name_count;
} Pattern;

typedef struct Match {
    const Pattern *pattern;
    Node *nodes[PATTERN_MOST_TERMS]; /* distinct, the root first */
    int node_count;
    Value *values[PATTERN_MOST_NAMES]; /* by name */
    Node *named[PATTERN_MOST_NAMES];
} Match;

bool pattern_parse(Pattern *pattern, const char *text, Error *error);
bool pattern_match(const Pattern *pattern, const Graph *graph, Node *root, Match *match);
Value *match_value(const Match *match, const char *name); /* NULL: no such name */
Node *match_node(const Match *match, const char *name);

/* Put `node` (linked to its inputs) in the root's place: it makes the root's output 0; matched nodes and what only they read go. */
bool match_replace(Graph *graph, Match *match, Node *node, Error *error);

#endif
