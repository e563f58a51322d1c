/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The extended attributes that count as a change: those that are a program's own.
 *
 * Role: usbox-fs diff; usbox's verbs that review a box. Privileges: the caller's. Threads: any.
 */
#include <string.h>
#include <sys/xattr.h>

#include "fsoverlay/changes-xattr.h"
#include "fsoverlay/config.h"
#include "fsoverlay/lowers.h"

/* Attributes that are a program's own; the rest are ours, or the machine's (security.selinux). */
static bool counts(const char *attribute) {
        static const char *const ours[] = { XATTR_PRIVATE, "user.fuseoverlayfs.", "user.containers." };

        for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
                if (g_str_has_prefix(attribute, ours[i]))
                        return false;
        return g_str_has_prefix(attribute, "user.") || g_str_has_prefix(attribute, XATTR_ACL) || g_str_equal(attribute, "security.capability");
}

static int compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

GPtrArray *changes_attributes(int dirfd, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dirfd, name), *list = g_malloc(65536);
        GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
        ssize_t n = llistxattr(path, list, 65536); /* what has none or cannot be asked has none */

        for (ssize_t i = 0; i < n; i += (ssize_t) strlen(list + i) + 1)
                if (counts(list + i))
                        g_ptr_array_add(found, g_strdup(list + i));
        g_ptr_array_sort(found, compare_names);
        return found;
}

bool changes_same_attributes(int a_dir, const char *a_name, int b_dir, const char *b_name) {
        g_autoptr(GPtrArray) a = changes_attributes(a_dir, a_name), b = changes_attributes(b_dir, b_name);

        if (a->len != b->len)
                return false;
        for (guint i = 0; i < a->len; i++) {
                if (!g_str_equal(a->pdata[i], b->pdata[i]))
                        return false;
                size_t a_len = 0, b_len = 0;
                g_autofree char *a_value = layer_xattr(a_dir, a_name, a->pdata[i], &a_len), *b_value = layer_xattr(b_dir, b_name, b->pdata[i], &b_len);
                if (!a_value || !b_value || a_len != b_len || memcmp(a_value, b_value, a_len) != 0)
                        return false;
        }
        return true;
}

/* FNV-1a. */
static guint64 add_bytes(guint64 sum, const char *bytes, size_t len) {
        for (size_t i = 0; i < len; i++)
                sum = (sum ^ (guint8) bytes[i]) * G_GUINT64_CONSTANT(0x100000001b3);
        return sum;
}

guint64 changes_attributes_sum(int dirfd, const char *name) {
        g_autoptr(GPtrArray) names = changes_attributes(dirfd, name);
        guint64 sum = G_GUINT64_CONSTANT(0xcbf29ce484222325);

        for (guint i = 0; i < names->len; i++) {
                size_t len = 0;
                g_autofree char *value = layer_xattr(dirfd, name, names->pdata[i], &len), *head = g_strdup_printf("%s=%zu:", (char *) names->pdata[i], len);
                sum = add_bytes(sum, head, strlen(head));
                sum = add_bytes(sum, value, value ? len : 0);
        }
        return sum != 0 ? sum : 1;
}
