/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mount points of the host, and which path lies below which.
 *
 * Role: launcher. Privileges: none needed. Threads: any. Pure functions.
 */
#include <string.h>

#include "mountinfo.h"

/* The kernel writes space, tab, newline and backslash as \ooo (seq_path(), fs/seq_file.c). */
static char *unescape(const char *s, size_t len) {
        char *out = g_malloc(len + 1), *o = out;

        for (size_t i = 0; i < len; i++) {
                if (s[i] == '\\' && len - i > 3 && g_ascii_isdigit(s[i + 1]) && g_ascii_isdigit(s[i + 2]) &&
                    g_ascii_isdigit(s[i + 3])) {
                        *o++ = (char) ((s[i + 1] - '0') << 6 | (s[i + 2] - '0') << 3 | (s[i + 3] - '0'));
                        i += 3;
                } else {
                        *o++ = s[i];
                }
        }
        *o = '\0';
        return out;
}

GPtrArray *mountinfo_points(const char *text) {
        GPtrArray *points = g_ptr_array_new_with_free_func(g_free);

        for (const char *line = text; *line;) {
                const char *end = strchrnul(line, '\n');
                const char *field = line;
                int skipped = 0;
                while (skipped < 4 && field < end) {
                        const char *space = memchr(field, ' ', (size_t) (end - field));
                        if (!space)
                                break;
                        field = space + 1;
                        skipped++;
                }
                const char *stop = skipped == 4 ? memchr(field, ' ', (size_t) (end - field)) : NULL;
                if (stop && *field == '/')
                        g_ptr_array_add(points, unescape(field, (size_t) (stop - field)));
                line = *end ? end + 1 : end;
        }
        return points;
}

bool path_is_below(const char *path, const char *dir) {
        size_t len = strlen(dir);
        if (len == 1) /* "/" */
                return path[0] == '/' && path[1] != '\0';
        return strncmp(path, dir, len) == 0 && path[len] == '/';
}

bool path_is_at_or_below(const char *path, const char *dir) {
        return strcmp(path, dir) == 0 || path_is_below(path, dir);
}
