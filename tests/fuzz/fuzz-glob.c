/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: a pattern and a path, with a zero byte between them: any bytes, and never long at work. What is found agrees with a second
 * matcher that remembers all it tried.
 *
 * Role: tests only. Privileges: none. Threads: one.
 */
#include <string.h>

#include "fsoverlay/glob.h"
#include "fuzz.h"

#define SIZE_MAX_HERE 512

/* table[i][j]: does the pattern from i on match the name from j on? For patterns of "*", "?" and plain bytes alone. */
static bool slow_name(const char *p, const char *s) {
        size_t np = strlen(p), ns = strlen(s);
        g_autofree bool *table = g_new0(bool, (np + 1) * (ns + 1));
#define AT(i, j) table[(i) * (ns + 1) + (j)]
        AT(np, ns) = true;
        for (size_t i = np; i-- > 0;)
                for (size_t j = ns + 1; j-- > 0;)
                        AT(i, j) = p[i] == '*' ? AT(i + 1, j) || (j < ns && AT(i, j + 1)) : j < ns && (p[i] == '?' || p[i] == s[j]) && AT(i + 1, j + 1);
        return AT(0, 0);
}

static bool slow_path(char **p, char **s) {
        size_t np = g_strv_length(p), ns = g_strv_length(s);
        g_autofree bool *table = g_new0(bool, (np + 1) * (ns + 1));
        AT(np, ns) = true;
        for (size_t i = np; i-- > 0;)
                for (size_t j = ns + 1; j-- > 0;)
                        AT(i, j) = g_str_equal(p[i], "**") ? AT(i + 1, j) || (j < ns && AT(i, j + 1)) : j < ns && AT(i + 1, j + 1) && slow_name(p[i], s[j]);
        return AT(0, 0);
}

/* The names of a path, empty ones left out. */
static GPtrArray *names_of(const char *path) {
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        for (guint i = 0; parts[i]; i++)
                if (*parts[i])
                        g_ptr_array_add(names, g_strdup(parts[i]));
        return names;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *zero = memchr(data, 0, size);
        if (!zero || size > SIZE_MAX_HERE)
                return 0;
        g_autofree char *pattern = g_strndup((const char *) data, (size_t) (zero - data));
        g_autofree char *path = g_strndup((const char *) zero + 1, size - (size_t) (zero - data) - 1);
        g_autoptr(GPtrArray) names = names_of(path), parts = names_of(pattern);
        if (names->len == 0)
                return 0;

        g_autofree char *name = g_ptr_array_steal_index(names, names->len - 1);
        g_ptr_array_add(names, NULL);
        g_autofree char *joined = g_strjoinv("/", (char **) names->pdata);
        g_autofree char *directory = g_strconcat("/", joined, NULL);
        g_autoptr(Glob) glob = glob_new(pattern);
        bool found = glob_match(glob, directory, name);
        if (glob_is_of_names(glob))
                g_assert_true(found == glob_match(glob, NULL, name));
        if (glob_literal(glob))
                g_assert_true(found == g_str_equal(glob_literal(glob), name));

        if (!strpbrk(pattern, "[\\")) {
                if (parts->len > 0 && g_str_equal(parts->pdata[parts->len - 1], "**"))
                        g_ptr_array_add(parts, g_strdup("*"));
                if (*pattern && *pattern != '/')
                        g_ptr_array_insert(parts, 0, g_strdup("**"));
                g_ptr_array_add(parts, NULL);
                names->pdata[names->len - 1] = name;
                g_ptr_array_add(names, NULL);
                g_assert_true(found == (parts->len > 1 && slow_path((char **) parts->pdata, (char **) names->pdata)));
                names->pdata[names->len - 2] = NULL; /* freed once */
        }
        return 0;
}
