/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Patterns, and which names of the lower layers exist in the box.
 *
 * A slow second matcher, written as the definition reads, is the oracle of the fast one.
 */
#include <string.h>
#include <time.h>

#include "fsoverlay/glob.h"
#include "fsoverlay/rules.h"

static bool matches(const char *pattern, const char *path) {
        g_autoptr(Glob) glob = glob_new(pattern);
        g_autofree char *directory = g_path_get_dirname(path), *name = g_path_get_basename(path);
        return glob_match(glob, directory, name);
}

static void test_glob(void) {
        static const struct {
                const char *pattern, *path;
                bool expected;
        } rows[] = {
                /* names */
                { ".env", "/a/b/.env", true },
                { ".env", "/.env", true },
                { ".env", "/.env/x", false },
                { ".env", "/.envrc", false },
                { "*.key", "/a/b.key", true },
                { "*.key", "/a/.key", true },
                { "*.key", "/a/b.key2", false },
                { "*", "/a", true },
                { "a*b*c", "/axxbyyc", true },
                { "a*b*c", "/abc", true },
                { "a*b*c", "/acb", false },
                { "a?c", "/abc", true },
                { "a?c", "/ac", false },
                { "?", "/\xff", true },
                { "??", "/\xc3\xa4", true }, /* bytes */
                { "[a-c]x", "/bx", true },
                { "[a-c]x", "/dx", false },
                { "[!a-c]x", "/dx", true },
                { "[^a-c]x", "/bx", false },
                { "[]]", "/]", true },
                { "[!]]", "/]", false },
                { "[a-]", "/-", true },
                { "[\\]]", "/]", true },
                { "[\x80-\xff]", "/\xe4", true },
                { "[abc", "/[abc", true },
                { "[abc", "/a", false },
                { "\\*", "/*", true },
                { "\\*", "/a", false },
                { "a\\", "/a\\", true },
                { "a**b", "/axxb", true },
                { "", "/a", false },
                /* paths */
                { "/", "/a", false },
                { "/a", "/a", true },
                { "/a", "/b/a", false },
                { "/a/*", "/a/b", true },
                { "/a/*", "/a/b/c", false },
                { "/a/**", "/a/b/c", true },
                { "/a/**", "/a", false },
                { "/a/**/z", "/a/z", true },
                { "/a/**/z", "/a/b/c/z", true },
                { "/a/**/z", "/a/b/c/zz", false },
                { "/a/**/b/**/c", "/a/x/b/y/b/c", true },
                { "/a/**/**/b", "/a/b", true },
                { "**/.env", "/.env", true },
                { "**/.env", "/x/y/.env", true },
                { "b/c", "/a/b/c", true },
                { "b/c", "/b/c", true },
                { "b/c", "/ab/c", false },
                { "b/*.pem", "/x/b/k.pem", true },
                { "**", "/any/thing", true },
                { "/*/*/x", "/a/b/x", true },
                { "/*/*/x", "/a/x", false },
                { "//a//b", "/a/b", true },
        };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
                if (matches(rows[i].pattern, rows[i].path) != rows[i].expected)
                        g_error("\"%s\" and \"%s\": not %d", rows[i].pattern, rows[i].path, rows[i].expected);
}

static void test_glob_kinds(void) {
        static const struct {
                const char *pattern;
                bool of_names, of_directories;
                const char *literal;
        } rows[] = {
                { ".env", true, false, ".env" },   { "**/.env", true, false, ".env" }, { "**/**/.env", true, false, ".env" },
                { "*.key", true, false, NULL },    { "target/", true, true, "target" }, { "/a", false, false, NULL },
                { "a/b", false, false, NULL },     { "/a/b/", false, true, NULL },
        };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(Glob) glob = glob_new(rows[i].pattern);
                g_assert_cmpint(glob_is_of_names(glob), ==, rows[i].of_names);
                g_assert_cmpint(glob_is_of_directories(glob), ==, rows[i].of_directories);
                g_assert_cmpstr(glob_literal(glob), ==, rows[i].literal);
        }
}

/* As the definition reads: stars take any number. */
static bool slow_name(const char *p, const char *s) {
        if (!*p)
                return !*s;
        if (*p == '*')
                return slow_name(p + 1, s) || (*s && slow_name(p, s + 1));
        return *s && (*p == '?' || *p == *s) && slow_name(p + 1, s + 1);
}

static bool slow_path(char **p, char **s) {
        if (!*p)
                return !*s;
        if (g_str_equal(*p, "**"))
                return slow_path(p + 1, s) || (*s && slow_path(p, s + 1));
        return *s && slow_name(*p, *s) && slow_path(p + 1, s + 1);
}

static char *random_text(const char *alphabet, int max) {
        GString *text = g_string_new(NULL);
        for (int n = g_test_rand_int_range(1, max + 1); n > 0; n--)
                g_string_append_c(text, alphabet[g_test_rand_int_range(0, (gint32) strlen(alphabet))]);
        return g_string_free(text, FALSE);
}

static void test_glob_oracle(void) {
        guint n_matched = 0;
        for (int i = 0; i < 20000; i++) {
                GString *pattern = g_string_new(NULL), *path = g_string_new(NULL);
                for (int n = g_test_rand_int_range(1, 6); n > 0; n--) {
                        g_autofree char *part = g_test_rand_int_range(0, 3) ? random_text("ab*?", 4) : g_strdup("**");
                        g_string_append_printf(pattern, "/%s", part);
                }
                for (int n = g_test_rand_int_range(1, 6); n > 0; n--) {
                        g_autofree char *part = random_text("ab", 4);
                        g_string_append_printf(path, "/%s", part);
                }
                g_autofree char *full = g_strdup_printf("%s%s", pattern->str + 1, g_str_has_suffix(pattern->str, "/**") ? "/*" : "");
                g_auto(GStrv) p = g_strsplit(full, "/", -1), s = g_strsplit(path->str + 1, "/", -1);
                bool expected = slow_path(p, s);
                if (matches(pattern->str, path->str) != expected)
                        g_error("\"%s\" and \"%s\": not %d", pattern->str, path->str, expected);
                n_matched += expected;
                g_string_free(pattern, TRUE);
                g_string_free(path, TRUE);
        }
        g_assert_cmpuint(n_matched, >, 1000);
}

/* What makes a backtracking matcher run for years. */
static void test_glob_hostile(void) {
        g_autofree char *name = g_strnfill(255, 'a');
        g_autoptr(GString) path = g_string_new("/");
        for (int i = 0; i < 2000; i++)
                g_string_append(path, "a/");
        g_string_append(path, "b");

        clock_t start = clock(); /* of the processor: what others do at the time does not count */
        g_assert_false(matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", name));
        g_assert_false(matches("/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/c/b", path->str));
        g_assert_true(matches("/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/b", path->str));
        g_assert_cmpint((clock() - start) / CLOCKS_PER_SEC, <, 1);
}

/* The state of path as usbox-fs comes to it: false where it does not exist. A path that ends in "/" is a directory. */
static bool walk(const Rules *rules, const char *path, RuleState *ret) {
        g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
        g_autoptr(GString) directory = g_string_new("/");
        RuleState state = rules_root(rules);

        for (guint i = 0; names[i] && *names[i]; i++) {
                bool trivial = rules_trivial(state);
                RuleState before = state;
                if (!rules_enter(rules, state, rules_needs_path(rules) ? directory->str : NULL, names[i], names[i + 1] != NULL, &state)) {
                        g_assert_false(trivial);
                        return false;
                }
                if (trivial)
                        g_assert_cmpuint(before, ==, state);
                if (directory->len > 1)
                        g_string_append_c(directory, '/');
                g_string_append(directory, names[i]);
        }
        *ret = state;
        return true;
}

typedef struct {
        const char *path;
        bool exists, filters, eyes;
} Expected;

static void expect(const Rules *rules, const Expected *rows, guint n) {
        for (guint i = 0; i < n; i++) {
                RuleState state;
                bool exists = walk(rules, rows[i].path, &state);
                if (exists != rows[i].exists)
                        g_error("%s: exists is not %d", rows[i].path, rows[i].exists);
                if (exists && (rules_filters(state) != rows[i].filters || rules_others_eyes(state) != rows[i].eyes))
                        g_error("%s: filters %d, eyes %d", rows[i].path, rules_filters(state), rules_others_eyes(state));
        }
}

static void test_none(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        g_autoptr(Rules) rules = rules_new(config);
        RuleState state;

        g_assert_true(rules_trivial(rules_root(rules)));
        g_assert_false(rules_needs_path(rules));
        g_assert_true(walk(rules, "/a/b/c", &state));
        g_assert_false(rules_others_eyes(state));
        g_assert_false(rules_filters(state));
}

/* A box's usual ones. */
static void test_home(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        config->others_eyes = true;
        fs_config_add_rule(config, FS_RULE_EMPTY, "/home");
        fs_config_add_rule(config, FS_RULE_FILTER, "/home/ann");
        fs_config_add_rule(config, FS_RULE_SHOW, "/home/ann/.config/git");
        fs_config_add_rule(config, FS_RULE_SHOW, "/home/ann/src/app");
        fs_config_add_rule(config, FS_RULE_HIDE, "/home/ann/src/app/secret");
        fs_config_add_rule(config, FS_RULE_SHOW, "/home/ann/src/app/secret/not");
        fs_config_add_rule(config, FS_RULE_HIDE, "/run/user");
        fs_config_add_rule(config, FS_RULE_SHOW, "/srv/mine/here");
        g_autoptr(Rules) rules = rules_new(config);

        static const Expected rows[] = {
                { "/usr/", true, false, true },
                { "/usr/bin/ls", true, false, true },
                { "/home/", true, true, false },
                { "/home", false, false, false }, /* a file: there is nothing below it to show */
                { "/home/bob/", false, false, false },
                { "/home/ann/", true, true, false },
                { "/home/ann/.ssh/", false, false, false },
                { "/home/ann/.config/", true, true, false },
                { "/home/ann/.config", false, false, false },
                { "/home/ann/.config/pulse/", false, false, false },
                { "/home/ann/.config/git/", true, false, false },
                { "/home/ann/.config/git", true, false, false },
                { "/home/ann/.config/git/x/y", true, false, false },
                { "/home/ann/src/", true, true, false },
                { "/home/ann/src/other/", false, false, false },
                { "/home/ann/src/app/.env", true, false, false },
                { "/home/ann/src/app/secret/", true, true, false }, /* something below is to be there */
                { "/home/ann/src/app/secret/key", false, false, false },
                { "/home/ann/src/app/secret/not/x", true, false, false },
                { "/run/", true, false, true },
                { "/run/user/", false, false, false },
                { "/run/user", false, false, false },
                { "/run/users", true, false, true },
                { "/srv/", true, false, true },
                { "/srv/mine/", true, false, true },
                { "/srv/mine/other/", true, false, true },
                { "/srv/mine/here/", true, false, false },
        };
        expect(rules, rows, G_N_ELEMENTS(rows));
        g_assert_false(rules_needs_path(rules));

        RuleState state;
        g_assert_true(walk(rules, "/usr/", &state));
        g_assert_true(rules_trivial(state));
        g_assert_true(walk(rules, "/home/ann/.config/git/", &state));
        g_assert_true(rules_trivial(state));
        g_assert_true(walk(rules, "/srv/", &state));
        g_assert_false(rules_trivial(state));
        g_assert_true(walk(rules, "/home/ann/src/app/", &state));
        g_assert_false(rules_trivial(state));

        guint n;
        g_assert_true(walk(rules, "/home/ann/", &state));
        const char *const *names = rules_named(state, &n);
        g_assert_cmpuint(n, ==, 2);
        g_assert_cmpstr(names[0], ==, ".config");
        g_assert_cmpstr(names[1], ==, "src");
        g_assert_true(walk(rules, "/usr/", &state));
        rules_named(state, &n);
        g_assert_cmpuint(n, ==, 0);
}

/* A directory that is closed to others, on the way to what is shown: only that way is there. */
static void test_close(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        config->others_eyes = true;
        fs_config_add_rule(config, FS_RULE_SHOW, "/srv/mine/a/here");
        fs_config_add_rule(config, FS_RULE_HIDE, "/opt/x/y");
        g_autoptr(Rules) rules = rules_new(config);
        RuleState state, below;

        g_assert_true(walk(rules, "/srv/mine/", &state));
        g_assert_true(rules_others_eyes(state));
        g_assert_true(rules_close(&state));
        g_assert_false(rules_others_eyes(state));
        g_assert_true(rules_filters(state));
        g_assert_false(rules_enter(rules, state, NULL, "b", true, &below));
        g_assert_false(rules_enter(rules, state, NULL, "a", false, &below));
        g_assert_true(rules_enter(rules, state, NULL, "a", true, &below));
        g_assert_true(rules_filters(below));
        g_assert_true(rules_enter(rules, below, NULL, "here", true, &below));
        g_assert_false(rules_filters(below));
        g_assert_false(rules_others_eyes(below));

        g_assert_true(walk(rules, "/srv/mine", &state)); /* a file there leads nowhere */
        g_assert_false(rules_close(&state));
        g_assert_true(walk(rules, "/opt/x/", &state)); /* nor does a place where something is hidden */
        g_assert_false(rules_close(&state));
        g_assert_true(walk(rules, "/usr/", &state));
        g_assert_false(rules_close(&state));
}

static void test_tools(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        fs_config_add_rule(config, FS_RULE_FILTER, "/h");
        fs_config_add_rule(config, FS_RULE_TOOLS, "/h/.tool");
        fs_config_add_rule(config, FS_RULE_SHOW, "/h/.tool/work");
        fs_config_add_rule(config, FS_RULE_SHOW, "/h/.tool/.key/work");
        fs_config_add_rule(config, FS_RULE_SECRET, ".key");
        fs_config_add_rule(config, FS_RULE_SECRET, ".pass");
        g_autoptr(Rules) rules = rules_new(config);

        static const Expected rows[] = {
                { "/h/.tool/", true, false, false },
                { "/h/.tool/a/b/", true, false, false },
                { "/h/.tool/a/.keys", true, false, false },
                { "/h/.tool/.pass", false, false, false },
                { "/h/.tool/a/b/.key", false, false, false },
                { "/h/.tool/a/.pass/", false, false, false },
                { "/h/.tool/a/.pass/x", false, false, false },
                { "/h/.tool/work/.key", true, false, false },
                { "/h/.tool/work/a/.pass", true, false, false },
                { "/h/.tool/.key/", true, true, false }, /* the way to what is shown, and no more */
                { "/h/.tool/.key", false, false, false },
                { "/h/.tool/.key/other", false, false, false },
                { "/h/.tool/.key/work/.pass", true, false, false },
                { "/other/.key", true, false, false },
        };
        expect(rules, rows, G_N_ELEMENTS(rows));
}

static void test_order(void) {
        /* The strictest of one path, in whatever order they come. */
        static const FsRuleKind kinds[] = { FS_RULE_SHOW, FS_RULE_FILTER, FS_RULE_EMPTY, FS_RULE_HIDE };
        for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
                for (guint j = 0; j < G_N_ELEMENTS(kinds); j++) {
                        g_autoptr(FsConfig) config = fs_config_new();
                        fs_config_add_rule(config, kinds[i], "/a/b");
                        fs_config_add_rule(config, kinds[j], "/a/b");
                        g_autoptr(Rules) rules = rules_new(config);
                        RuleState state;
                        bool show = i == 0 && j == 0, hide = i == 3 || j == 3;
                        g_assert_cmpint(walk(rules, "/a/b/", &state), ==, !hide);
                        g_assert_cmpint(walk(rules, "/a/b/c", &state), ==, show);
                }
}

static void test_globs_in_rules(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        fs_config_add_rule(config, FS_RULE_SHOW, "/w");
        fs_config_add_rule(config, FS_RULE_GLOB, "**/.env");
        fs_config_add_rule(config, FS_RULE_GLOB, "*.pem");
        fs_config_add_rule(config, FS_RULE_GLOB, "cache/");
        g_autoptr(Rules) names = rules_new(config);

        static const Expected rows[] = {
                { "/w/.env", false, false, false },    { "/w/a/.env/", false, false, false }, { "/w/.envrc", true, false, false },
                { "/x.pem", false, false, false },     { "/w/cache/", false, false, false },  { "/w/cache", true, false, false },
                { "/w/x.pem/y", false, false, false },
        };
        expect(names, rows, G_N_ELEMENTS(rows));
        g_assert_false(rules_needs_path(names));
        g_assert_false(rules_trivial(rules_root(names)));

        fs_config_add_rule(config, FS_RULE_GLOB, "deploy/*.key");
        fs_config_add_rule(config, FS_RULE_GLOB, "/etc/ssh*");
        g_autoptr(Rules) paths = rules_new(config);
        static const Expected more[] = {
                { "/w/deploy/a.key", false, false, false }, { "/deploy/a.key", false, false, false }, { "/w/a.key", true, false, false },
                { "/etc/ssh/", false, false, false },       { "/w/etc/ssh/", true, false, false },    { "/w/.env", false, false, false },
        };
        g_assert_true(rules_needs_path(paths));
        expect(paths, more, G_N_ELEMENTS(more));
}

static void test_hidden_root(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        fs_config_add_rule(config, FS_RULE_HIDE, "/");
        g_autoptr(Rules) rules = rules_new(config);
        RuleState state;

        g_assert_true(rules_filters(rules_root(rules)));
        g_assert_false(walk(rules, "/a", &state));

        fs_config_add_rule(config, FS_RULE_SHOW, "/a/b");
        g_autoptr(Rules) but_one = rules_new(config);
        g_assert_true(walk(but_one, "/a/b/c", &state));
        g_assert_false(walk(but_one, "/b", &state));
}

/* A thousand rules in one directory, as a --home of many names makes. */
static void test_many(void) {
        g_autoptr(FsConfig) config = fs_config_new();
        fs_config_add_rule(config, FS_RULE_FILTER, "/h");
        for (int i = 0; i < 1000; i += 2) {
                g_autofree char *path = g_strdup_printf("/h/%03d", i);
                fs_config_add_rule(config, FS_RULE_SHOW, path);
        }
        g_autoptr(Rules) rules = rules_new(config);
        for (int i = 0; i < 1000; i++) {
                g_autofree char *path = g_strdup_printf("/h/%03d", i);
                RuleState state;
                g_assert_cmpint(walk(rules, path, &state), ==, i % 2 == 0);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs/glob/table", test_glob);
        g_test_add_func("/fs/glob/kinds", test_glob_kinds);
        g_test_add_func("/fs/glob/oracle", test_glob_oracle);
        g_test_add_func("/fs/glob/hostile", test_glob_hostile);
        g_test_add_func("/fs/rules/none", test_none);
        g_test_add_func("/fs/rules/home", test_home);
        g_test_add_func("/fs/rules/tools", test_tools);
        g_test_add_func("/fs/rules/close", test_close);
        g_test_add_func("/fs/rules/order", test_order);
        g_test_add_func("/fs/rules/globs", test_globs_in_rules);
        g_test_add_func("/fs/rules/hidden-root", test_hidden_root);
        g_test_add_func("/fs/rules/many", test_many);
        return g_test_run();
}
