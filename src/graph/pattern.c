#include "graph/pattern.h"

#include <ctype.h>
#include <string.h>

/* ---- reading ---- */

typedef struct Reader {
    Pattern *pattern;
    const char *at;
    bool failed;
} Reader;

static void skip_blanks(Reader *reader)
{
    while (isspace((unsigned char)*reader->at))
        reader->at++;
}

static bool take(Reader *reader, char wanted)
{
    skip_blanks(reader);
    if (*reader->at != wanted) return false;
    reader->at++;
    return true;
}

static size_t word_length(const char *at)
{
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || at[length] == '_' || at[length] == '|' || at[length] == '.')
        length++;
    return length;
}

static int name_index(Reader *reader, const char *word, size_t length)
{
    Pattern *pattern = reader->pattern;
    for (int i = 0; i < pattern->name_count; i++)
        if (strncmp(pattern->names[i], word, length) == 0 && pattern->names[i][length] == '\0') return i;
    if (pattern->name_count == PATTERN_MOST_NAMES || length >= sizeof pattern->names[0]) {
        reader->failed = true;
        return -1;
    }
    memcpy(pattern->names[pattern->name_count], word, length);
    return pattern->name_count++;
}

static int read_term(Reader *reader, int depth);

static void read_arguments(Reader *reader, int index, int depth)
{
    if (take(reader, ')')) return;
    do {
        PatternTerm *term = &reader->pattern->terms[index];
        skip_blanks(reader);
        if (strncmp(reader->at, "...", 3) == 0) {
            reader->at += 3;
            term->open = true;
            break;
        }
        if (term->argument_count == (int)(sizeof term->arguments / sizeof term->arguments[0])) {
            reader->failed = true;
            return;
        }
        int argument = read_term(reader, depth + 1);
        term->arguments[term->argument_count++] = argument;
    } while (!reader->failed && take(reader, ','));
    if (!take(reader, ')')) reader->failed = true;
}

static int read_term(Reader *reader, int depth)
{
    Pattern *pattern = reader->pattern;
    if (depth > 24 || pattern->term_count == PATTERN_MOST_TERMS) {
        reader->failed = true;
        return 0;
    }
    int index = pattern->term_count++;
    PatternTerm *term = &pattern->terms[index];
    *term = (PatternTerm){.name = -1, .node_name = -1};
    term->constant = take(reader, '#');
    skip_blanks(reader);
    size_t length = word_length(reader->at);
    const char *word = reader->at;
    reader->at += length;
    if (length == 0)
        reader->failed = true;
    else if (take(reader, ':'))
        term->node_name = name_index(reader, word, length);
    else if (take(reader, '='))
        term->name = name_index(reader, word, length);
    if (!reader->failed && (term->node_name >= 0 || term->name >= 0)) {
        skip_blanks(reader);
        word = reader->at;
        length = word_length(word);
        reader->at += length;
    }
    if (reader->failed) return index;
    if (take(reader, '(')) {
        if (length == 0 || length >= sizeof term->types || term->constant)
            reader->failed = true;
        else
            memcpy(term->types, word, length);
        if (!reader->failed) read_arguments(reader, index, depth);
    } else if (term->node_name >= 0 || term->name >= 0) {
        reader->failed = true;
    } else {
        term->name = name_index(reader, word, length);
    }
    return index;
}

bool pattern_parse(Pattern *pattern, const char *text, Error *error)
{
    *pattern = (Pattern){0};
    Reader reader = {pattern, text, false};
    read_term(&reader, 0);
    skip_blanks(&reader);
    if (!reader.failed && *reader.at == '\0' && pattern->terms[0].types[0]) return true;
    return fail(error, text, "write Type(input, …), name:Type(…), name=Type(…), #constant; the root is a node",
                "not a pattern, at \"%.40s\"", reader.at);
}

/* ---- matching ---- */

static bool has_type(const char *types, const char *type)
{
    size_t length = strlen(type);
    for (const char *at = types; at; at = strchr(at, '|')) {
        if (*at == '|') at++;
        if (strncmp(at, type, length) == 0 && (at[length] == '|' || at[length] == '\0')) return true;
    }
    return false;
}

static bool is_commutative(const Node *node, const PatternTerm *term)
{
    static const char *const types[] = {"Add", "Mul", "Max", "Min"};
    if (node->input_count != 2 || term->argument_count != 2) return false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(node->type, types[i]) == 0) return true;
    return false;
}

/* `swaps` has a bit for each commutative node in the order they are met: trying all of its values tries all orders of inputs. */
typedef struct Attempt {
    Match *match;
    unsigned swaps;
    int commutative;
} Attempt;

static bool match_term(Attempt *attempt, int index, Value *value);

static bool match_inputs(Attempt *attempt, const PatternTerm *term, Node *node)
{
    int count = node->input_count;
    while (count > 0 && !node->inputs[count - 1])
        count--;
    if (count < term->argument_count || (count > term->argument_count && !term->open)) return false;
    bool swapped = is_commutative(node, term) && (attempt->swaps >> attempt->commutative++ & 1);
    for (int i = 0; i < term->argument_count; i++) {
        Value *input = node->inputs[swapped ? 1 - i : i];
        if (!input || !match_term(attempt, term->arguments[i], input)) return false;
    }
    return true;
}

static bool match_node_term(Attempt *attempt, int index, Node *node)
{
    Match *match = attempt->match;
    const PatternTerm *term = &match->pattern->terms[index];
    if (!node || !has_type(term->types, node->type)) return false;
    if (match->node_count == PATTERN_MOST_TERMS) return false;
    match->nodes[match->node_count++] = node;
    if (term->node_name >= 0) match->named[term->node_name] = node;
    return match_inputs(attempt, term, node);
}

static bool match_term(Attempt *attempt, int index, Value *value)
{
    Match *match = attempt->match;
    const PatternTerm *term = &match->pattern->terms[index];
    if (term->name >= 0) {
        if (match->values[term->name] && match->values[term->name] != value) return false;
        match->values[term->name] = value;
    }
    if (term->constant) return value->constant != NULL;
    return !term->types[0] || (value->producer_index == 0 && match_node_term(attempt, index, value->producer));
}

static bool is_inside(const Match *match, const Node *node)
{
    for (int i = 0; i < match->node_count; i++)
        if (match->nodes[i] == node) return true;
    return false;
}

static bool is_exclusive(const Match *match, const Graph *graph)
{
    for (int i = 1; i < match->node_count; i++) {
        const Node *node = match->nodes[i];
        for (int k = 0; node != match->nodes[0] && k < node->output_count; k++) {
            const Value *value = node->outputs[k];
            if (!value) continue;
            if (value_is_output(graph, value)) return false;
            for (int u = 0; u < value->use_count; u++)
                if (!is_inside(match, value->uses[u].node)) return false;
        }
    }
    return true;
}

bool pattern_match(const Pattern *pattern, const Graph *graph, Node *root, Match *match)
{
    int commutative = 0; /* the most met so far: nodes that no order reaches have no orders worth trying */
    for (unsigned swaps = 0;; swaps++) {
        *match = (Match){.pattern = pattern};
        Attempt attempt = {match, swaps, 0};
        if (match_node_term(&attempt, 0, root) && is_exclusive(match, graph)) return true;
        if (attempt.commutative > commutative) commutative = attempt.commutative;
        if (commutative > 12 || swaps + 1 >= 1u << commutative) return false;
    }
}

static int find_name(const Match *match, const char *name)
{
    for (int i = 0; i < match->pattern->name_count; i++)
        if (strcmp(match->pattern->names[i], name) == 0) return i;
    return -1;
}

Value *match_value(const Match *match, const char *name)
{
    int index = find_name(match, name);
    return index < 0 ? NULL : match->values[index];
}

Node *match_node(const Match *match, const char *name)
{
    int index = find_name(match, name);
    return index < 0 ? NULL : match->named[index];
}

bool match_replace(Graph *graph, Match *match, Node *node, Error *error)
{
    Value *output = match->nodes[0]->outputs[0];
    if (!(node->output_count ? node_set_output(graph, node, 0, output, error) : node_add_output(graph, node, output, error))) return false;
    for (int i = 0; i < match->node_count; i++) {
        Node *old = match->nodes[i];
        if (old->removed) continue; /* a node met twice */
        Value *values[16];
        int count = 0;
        for (int k = 0; k < old->input_count && count < 16; k++)
            if (old->inputs[k]) values[count++] = old->inputs[k];
        for (int k = 0; k < old->output_count && count < 16; k++)
            if (old->outputs[k]) values[count++] = old->outputs[k];
        graph_remove_node(graph, old);
        for (int k = 0; k < count; k++) {
            Value *value = values[k];
            bool is_free = !value->removed && !value->producer && value->use_count == 0 && !value_is_input(graph, value) &&
                           !value_is_output(graph, value);
            if (is_free) graph_remove_value(graph, value);
        }
    }
    return true;
}
