/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mount points of the host, and which path lies below which.
 *
 * Role: launcher. Privileges: none needed. Threads: any. Pure functions, but for path_real().
 */
#include <errno.h>
#include <stdlib.h>
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

/* The field n (from 0) of the line that ends at end; NULL where there are fewer. *ret_stop: where it ends. */
static const char *line_field(const char *line, const char *end, int n, const char **ret_stop) {
        for (; n > 0; n--) {
                const char *space = memchr(line, ' ', (size_t) (end - line));
                if (!space)
                        return NULL;
                line = space + 1;
        }
        const char *stop = memchr(line, ' ', (size_t) (end - line));
        *ret_stop = stop;
        return stop ? line : NULL;
}

/* The type of file system: the field after the one that is "-" and nothing else. Fields before it have no blanks in them. */
static bool line_is_of(const char *line, const char *end, const char *const *types) {
        static const char dash[] = " - ";
        const char *at = memmem(line, (size_t) (end - line), dash, sizeof dash - 1), *stop;
        const char *type = at ? line_field(at + sizeof dash - 1, end, 0, &stop) : NULL;
        g_autofree char *name = type ? g_strndup(type, (size_t) (stop - type)) : NULL;

        return name && g_strv_contains(types, name);
}

GPtrArray *mountinfo_points_of(const char *text, const char *const *types) {
        GPtrArray *points = g_ptr_array_new_with_free_func(g_free);

        for (const char *line = text; *line;) {
                const char *end = strchrnul(line, '\n'), *stop;
                const char *point = line_field(line, end, 4, &stop);
                if (point && *point == '/' && (!types || line_is_of(line, end, types)))
                        g_ptr_array_add(points, unescape(point, (size_t) (stop - point)));
                line = *end ? end + 1 : end;
        }
        return points;
}

GPtrArray *mountinfo_points(const char *text) {
        return mountinfo_points_of(text, NULL);
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

char *path_real(const char *path) {
        char *real = realpath(path, NULL), *copy = g_strdup(real);
        int saved = errno;
        free(real);
        errno = saved;
        return copy;
}
