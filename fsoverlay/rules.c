/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Visibility of the names of the lower layers.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any; nothing changes after rules_new(). Order: before the first request.
 *
 * Theory of operation. The paths of the rules are a trie, a node for each name on the way. A RuleState is the node that a directory has there, or
 * none, with four bits of what was decided above it in its low bits: so it is a value that a thread makes by itself, and a directory of which no
 * rule speaks has one too. Patterns stand beside that: they are asked about every name, but for those without anything special, which
 * are a hash table.
 */
#include <string.h>

#include "fsoverlay/glob.h"
#include "fsoverlay/rules.h"

enum {
        STATE_FILTER = 1, /* only named children */
        STATE_EYES = 2,   /* what is closed to others does not exist */
        STATE_GLOBS = 4,  /* there are patterns */
        STATE_TOOLS = 8,  /* what has the name of a credential does not exist */
        STATE_BITS = 15,
};

typedef struct Node Node;
struct Node {
        char *name;
        GPtrArray *children; /* of Node *, sorted by name once all are there; NULL: none */
        const char **names;  /* theirs */
        bool hide, filter, show, tools; /* tools: show, too */
        bool leads; /* a SHOW, TOOLS, FILTER or EMPTY rule is for something below it */
};

struct Rules {
        Node *root;
        RuleState root_state;
        GHashTable *literals;     /* patterns that are a name */
        GHashTable *secrets;      /* names of credentials */
        GPtrArray *names, *paths; /* of Glob *: the other patterns of names; those of paths */
};

static Node *node_new(const char *name, size_t len) {
        Node *node = g_aligned_alloc0(1, sizeof *node, STATE_BITS + 1);
        node->name = g_strndup(name, len);
        return node;
}

static void node_free(Node *node) {
        if (node->children)
                g_ptr_array_unref(node->children);
        g_free(node->names);
        g_free(node->name);
        g_aligned_free(node);
}

static Node *node_child(Node *node, const char *name, size_t len) {
        if (!node->children)
                node->children = g_ptr_array_new_with_free_func((GDestroyNotify) node_free);
        for (guint i = 0; i < node->children->len; i++) {
                Node *child = node->children->pdata[i];
                if (strncmp(child->name, name, len) == 0 && child->name[len] == '\0')
                        return child;
        }
        Node *child = node_new(name, len);
        g_ptr_array_add(node->children, child);
        return child;
}

static void add_path(Node *node, const FsRule *rule) {
        bool names = rule->kind != FS_RULE_HIDE;

        for (const char *p = rule->path; *p;) {
                size_t n = strcspn(p, "/");
                if (n > 0) {
                        node->leads = node->leads || names;
                        node = node_child(node, p, n);
                }
                p += n + (p[n] == '/');
        }
        node->hide = node->hide || rule->kind == FS_RULE_HIDE;
        node->filter = node->filter || rule->kind == FS_RULE_FILTER || rule->kind == FS_RULE_EMPTY;
        node->show = node->show || rule->kind == FS_RULE_SHOW || rule->kind == FS_RULE_TOOLS;
        node->tools = node->tools || rule->kind == FS_RULE_TOOLS;
}

static int compare_nodes(gconstpointer a, gconstpointer b) {
        return strcmp((*(Node *const *) a)->name, (*(Node *const *) b)->name);
}

static void sort_children(Node *node) {
        if (!node->children)
                return;
        g_ptr_array_sort(node->children, compare_nodes);
        node->names = g_new(const char *, node->children->len);
        for (guint i = 0; i < node->children->len; i++) {
                Node *child = node->children->pdata[i];
                node->names[i] = child->name;
                sort_children(child);
        }
}

static const Node *find_child(const Node *node, const char *name) {
        if (!node || !node->children)
                return NULL;
        guint low = 0, high = node->children->len;
        while (low < high) {
                guint middle = low + (high - low) / 2;
                int order = strcmp(name, node->names[middle]);
                if (order == 0)
                        return node->children->pdata[middle];
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

static const Node *state_node(RuleState state) {
        return (const Node *) (state & ~(RuleState) STATE_BITS);
}

static RuleState state_make(const Node *node, RuleState bits) {
        return (node && node->children ? (RuleState) node : 0) | (bits & STATE_BITS);
}

static void add_glob(Rules *rules, const char *pattern) {
        Glob *glob = glob_new(pattern);
        const char *literal = glob_literal(glob);

        if (literal && !glob_is_of_directories(glob)) {
                g_hash_table_add(rules->literals, g_strdup(literal));
                glob_free(glob);
        } else
                g_ptr_array_add(glob_is_of_names(glob) ? rules->names : rules->paths, glob);
}

/* What the node's own rule, or where it leads, makes of the bits of its directory. False: it does not exist. */
static bool apply_node(const Node *node, bool is_dir, RuleState *bits) {
        if (node->hide || node->filter) {
                if (!is_dir || (node->hide && !node->leads))
                        return false;
                *bits |= STATE_FILTER;
        } else if (node->show) {
                *bits &= ~(RuleState) (STATE_FILTER | STATE_EYES | STATE_TOOLS);
                *bits |= node->tools ? STATE_TOOLS : 0;
        } else if (*bits & STATE_FILTER && !(node->leads && is_dir)) {
                return false;
        }
        if (*bits & STATE_FILTER) /* it was named, and so were all that it shows */
                *bits &= ~(RuleState) STATE_EYES;
        return true;
}

Rules *rules_new(const FsConfig *config) {
        Rules *rules = g_new0(Rules, 1);
        rules->root = node_new("", 0);
        rules->literals = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        rules->secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        rules->names = g_ptr_array_new_with_free_func((GDestroyNotify) glob_free);
        rules->paths = g_ptr_array_new_with_free_func((GDestroyNotify) glob_free);

        for (guint i = 0; i < config->rules->len; i++) {
                const FsRule *rule = config->rules->pdata[i];
                if (rule->kind == FS_RULE_GLOB)
                        add_glob(rules, rule->path);
                else if (rule->kind == FS_RULE_SECRET)
                        g_hash_table_add(rules->secrets, g_strdup(rule->path));
                else
                        add_path(rules->root, rule);
        }
        sort_children(rules->root);

        RuleState bits = config->others_eyes ? STATE_EYES : 0;
        if (g_hash_table_size(rules->literals) + rules->names->len + rules->paths->len > 0)
                bits |= STATE_GLOBS;
        if (!apply_node(rules->root, true, &bits)) /* hidden: there, and empty */
                bits |= STATE_FILTER;
        rules->root_state = state_make(rules->root, bits);
        return rules;
}

void rules_free(Rules *rules) {
        if (!rules)
                return;
        node_free(rules->root);
        g_hash_table_unref(rules->literals);
        g_hash_table_unref(rules->secrets);
        g_ptr_array_unref(rules->names);
        g_ptr_array_unref(rules->paths);
        g_free(rules);
}

RuleState rules_root(const Rules *rules) {
        return rules->root_state;
}

RuleState rules_nothing(void) {
        return STATE_FILTER;
}

RuleState rules_all(void) {
        return 0;
}

bool rules_needs_path(const Rules *rules) {
        return rules->paths->len > 0;
}

static bool any_matches(const GPtrArray *globs, const char *directory, const char *name, bool is_dir) {
        for (guint i = 0; i < globs->len; i++) {
                const Glob *glob = globs->pdata[i];
                if ((is_dir || !glob_is_of_directories(glob)) && glob_match(glob, directory, name))
                        return true;
        }
        return false;
}

static bool hidden_by_glob(const Rules *rules, const char *parent_path, const char *name, bool is_dir) {
        if (g_hash_table_contains(rules->literals, name) || any_matches(rules->names, NULL, name, is_dir))
                return true;
        if (rules->paths->len == 0)
                return false;
        g_assert(parent_path); /* the header's contract: to go on would show what was to be hidden */
        return any_matches(rules->paths, parent_path, name, is_dir);
}

bool rules_enter(const Rules *rules, RuleState parent, const char *parent_path, const char *name, bool is_dir_or_unknown, RuleState *ret) {
        const Node *node = find_child(state_node(parent), name);
        RuleState bits = parent & STATE_BITS;

        if (node ? !apply_node(node, is_dir_or_unknown, &bits) : (bits & STATE_FILTER) != 0)
                return false;
        if (parent & STATE_TOOLS && !(node && node->show) && g_hash_table_contains(rules->secrets, name)) {
                if (!node || !node->leads || !is_dir_or_unknown)
                        return false;
                bits |= STATE_FILTER;
        }
        if (bits & STATE_GLOBS && hidden_by_glob(rules, parent_path, name, is_dir_or_unknown))
                return false;
        *ret = state_make(is_dir_or_unknown ? node : NULL, bits); /* what is no directory leads nowhere */
        return true;
}

bool rules_others_eyes(RuleState state) {
        return state & STATE_EYES;
}

bool rules_close(RuleState *state) {
        const Node *node = state_node(*state);

        if (!node || !node->leads)
                return false;
        *state = (*state | STATE_FILTER) & ~(RuleState) STATE_EYES;
        return true;
}

bool rules_trivial(RuleState state) {
        return !state_node(state) && !(state & (STATE_FILTER | STATE_GLOBS | STATE_TOOLS));
}

bool rules_filters(RuleState state) {
        return state & STATE_FILTER;
}

const char *const *rules_named(RuleState state, guint *ret_n) {
        const Node *node = state_node(state);

        *ret_n = node ? node->children->len : 0;
        return node ? (const char *const *) node->names : NULL;
}
