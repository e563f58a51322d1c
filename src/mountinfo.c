/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mount points of the host, and which path lies below which.
 *
 * Role: launcher. Privileges: none needed. Threads: any. Pure functions.
 */
#include <string.h>

#include "mountinfo.h"

/* The byte that \ooo at s stands for; 0 where s is no such thing (a name has no byte 0). */
static int octal(const char *s, size_t len) {
        if (len < 4 || s[0] != '\\' || s[1] < '0' || s[1] > '3' || s[2] < '0' || s[2] > '7' || s[3] < '0' || s[3] > '7')
                return 0;
        return (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
}

/* The kernel writes space, tab, newline and backslash as \ooo (seq_path(), fs/seq_file.c). */
static char *unescape(const char *s, size_t len) {
        char *out = g_malloc(len + 1), *o = out;

        for (size_t i = 0; i < len; i++) {
                int byte = octal(s + i, len - i);
                *o++ = byte ? (char) byte : s[i];
                i += byte ? 3 : 0;
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
