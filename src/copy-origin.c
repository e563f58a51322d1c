/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which file of the lower a file of an upper was copied from.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-plan.c.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "copy-origin.h"
#include "fsoverlay/config.h"
#include "fsoverlay/lowers.h"

#define ORIGIN_ATTRIBUTE XATTR_PRIVATE "origin" /* struct ovl_fb of the kernel's fs/overlayfs/overlayfs.h: */
#define ORIGIN_TYPE 4                           /* of the handle */
#define ORIGIN_HEAD 21                          /* where the handle begins: version, magic, len, flags, type, uuid[16] */
#define INO_BITS 48                             /* usbox-fs shows the number of the file system above these */

struct CopyOrigins {
        GHashTable *keys; /* set of strings */
};

CopyOrigins *copy_origins_new(void) {
        CopyOrigins *origins = g_new0(CopyOrigins, 1);
        origins->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        return origins;
}

void copy_origins_free(CopyOrigins *origins) {
        if (!origins)
                return;
        g_hash_table_unref(origins->keys);
        g_free(origins);
}

guint64 copy_origin_number(guint64 ino) {
        return ino & ((G_GUINT64_CONSTANT(1) << INO_BITS) - 1);
}

static char *ino_key(guint64 ino) {
        return g_strdup_printf("i%" G_GINT64_MODIFIER "x", copy_origin_number(ino));
}

static char *handle_key(unsigned type, const unsigned char *bytes, size_t len) {
        GString *key = g_string_new(NULL);

        g_string_printf(key, "h%u:", type);
        for (size_t i = 0; i < len; i++)
                g_string_append_printf(key, "%02x", bytes[i]);
        return g_string_free(key, FALSE);
}

void copy_origins_add(CopyOrigins *origins, int lower_fd) {
        union {
                struct file_handle handle;
                unsigned char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } u = { .handle.handle_bytes = MAX_HANDLE_SZ };
        struct stat st;
        int mount_id;

        if (fstat(lower_fd, &st) == 0)
                g_hash_table_add(origins->keys, ino_key(st.st_ino));
        if (name_to_handle_at(lower_fd, "", &u.handle, &mount_id, AT_EMPTY_PATH) == 0)
                g_hash_table_add(origins->keys, handle_key((unsigned) u.handle.handle_type, u.handle.f_handle, u.handle.handle_bytes));
}

/* NULL: it was copied from nowhere, or (*ret_unknown) from somewhere that is not told: the kernel asks for a right to tell. */
static char *key_of_upper(int upper_fd, bool *ret_unknown) {
        size_t len = 0;
        g_autofree char *ino = layer_xattr(upper_fd, NULL, XATTR_INO, NULL);

        *ret_unknown = false;
        if (ino)
                return ino_key(g_ascii_strtoull(ino, NULL, 10));
        g_autofree char *origin = layer_xattr(upper_fd, NULL, ORIGIN_ATTRIBUTE, &len);
        if (origin && len > ORIGIN_HEAD)
                return handle_key((unsigned char) origin[ORIGIN_TYPE], (const unsigned char *) origin + ORIGIN_HEAD, len - ORIGIN_HEAD);
        *ret_unknown = origin != NULL;
        return NULL;
}

guint64 copy_origin_ino(int upper_fd) {
        g_autofree char *ino = layer_xattr(upper_fd, NULL, XATTR_INO, NULL);
        return ino ? copy_origin_number(g_ascii_strtoull(ino, NULL, 10)) : 0;
}

bool copy_origin_of_upper(int upper_fd) {
        bool unknown;
        g_autofree char *key = key_of_upper(upper_fd, &unknown);
        return key || unknown;
}

CopyOriginKnown copy_origins_have(const CopyOrigins *origins, int upper_fd) {
        bool unknown;
        g_autofree char *key = key_of_upper(upper_fd, &unknown);
        return unknown ? COPY_ORIGIN_UNKNOWN : key && g_hash_table_contains(origins->keys, key) ? COPY_ORIGIN_YES : COPY_ORIGIN_NO;
}

CopyOriginKnown copy_origin_was(int upper_fd, const struct stat *lower) {
        guint64 ino = copy_origin_ino(upper_fd);
        return ino == 0 ? COPY_ORIGIN_UNKNOWN : ino == copy_origin_number(lower->st_ino) ? COPY_ORIGIN_YES : COPY_ORIGIN_NO;
}
