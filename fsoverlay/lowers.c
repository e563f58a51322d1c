/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Layers on the disk, and lower ones merged.
 *
 * Role: usbox-fs diff, usbox diff and commit. Privileges: the caller's. Threads: one. Order: under changes.c.
 *
 * Names are resolved one component at a time from the descriptor of their directory, and never through a symlink. Extended attributes are read
 * by /proc/self/fd, which works for descriptors that are O_PATH and for what must not be opened (FIFOs, files without r).
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/config.h"
#include "fsoverlay/lowers.h"

#define VALUE_MAX 65536u /* XATTR_SIZE_MAX */

/* The first is ours. */
static const char *const prefixes[] = { XATTR_PRIVATE, "user.fuseoverlayfs.", "trusted.overlay." };

char *layer_xattr(int dirfd, const char *name, const char *attribute, size_t *ret_len) {
        g_autofree char *path = g_strdup_printf(name ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", dirfd, name);
        char small[256];
        size_t size = sizeof small - 1;
        g_autofree char *large = NULL;

        for (char *value = small;; value = large) {
                ssize_t n = name ? lgetxattr(path, attribute, value, size) : getxattr(path, attribute, value, size);
                if (n >= 0) {
                        value[n] = '\0';
                        if (ret_len)
                                *ret_len = (size_t) n;
                        return value == small ? g_memdup2(small, (gsize) n + 1) : g_steal_pointer(&large);
                }
                if (errno != ERANGE || large)
                        return NULL;
                size = VALUE_MAX;
                large = g_malloc(VALUE_MAX + 1);
        }
}

LayerForm layer_form(int root) {
        g_autofree char *value = layer_xattr(root, NULL, XATTR_FORM, NULL);
        return value ? LAYER_OURS : LAYER_FOREIGN;
}

/* A directory's attribute by any of its prefixes. */
static char *mark(LayerForm form, int dirfd, const char *attribute) {
        for (guint i = 0; i < (form == LAYER_OURS ? 1 : G_N_ELEMENTS(prefixes)); i++) {
                g_autofree char *full = g_strconcat(prefixes[i], attribute, NULL);
                char *value = layer_xattr(dirfd, NULL, full, NULL);
                if (value)
                        return value;
        }
        return NULL;
}

const char *layer_wh_name(LayerForm form, const char *name) {
        return form == LAYER_FOREIGN && g_str_has_prefix(name, ".wh.") && name[4] && !layer_is_mark(form, name) ? name + 4 : NULL;
}

bool layer_is_mark(LayerForm form, const char *name) {
        return form == LAYER_FOREIGN && g_str_has_prefix(name, ".wh..wh.");
}

static bool has_wh_file(LayerForm form, int dirfd, const char *name) {
        g_autofree char *whiteout = g_strconcat(".wh.", name, NULL);
        struct stat st;
        return form == LAYER_FOREIGN && strlen(whiteout) <= NAME_MAX && fstatat(dirfd, whiteout, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "uid:gid:mode[:type]", the mode octal. What is anything else says nothing. */
static void apply_override(const char *text, struct stat *st) {
        static const struct {
                const char *name;
                mode_t type;
        } types[] = { { "file", S_IFREG }, { "dir", S_IFDIR }, { "symlink", S_IFLNK }, { "pipe", S_IFIFO }, { "socket", S_IFSOCK } };
        g_auto(GStrv) parts = g_strsplit(text, ":", -1);
        guint n = g_strv_length(parts);
        guint64 uid, gid, mode;

        if ((n != 3 && n != 4) || !g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXUINT32, &uid, NULL) ||
            !g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT32, &gid, NULL) || !g_ascii_string_to_unsigned(parts[2], 8, 0, 0177777, &mode, NULL))
                return;
        mode &= 07777;
        st->st_mode = (st->st_mode & S_IFMT) | (mode_t) mode;
        for (guint i = 0; n == 4 && S_ISREG(st->st_mode) && i < G_N_ELEMENTS(types); i++)
                if (g_str_equal(parts[3], types[i].name))
                        st->st_mode = types[i].type | (mode_t) mode;
}

static bool has_xattr_whiteouts(int dirfd) {
        g_autofree char *value = layer_xattr(dirfd, NULL, XATTR_OPAQUE, NULL);
        return value && g_str_equal(value, "x");
}

/* A file without content that is marked, in a directory that says to have such (kernel 6.7; where whiteouts are of a layer's own). */
static bool is_xattr_whiteout(int dirfd, const char *name, const struct stat *st) {
        if (!S_ISREG(st->st_mode) || st->st_size != 0)
                return false;
        g_autofree char *value = layer_xattr(dirfd, name, XATTR_WHITEOUT, NULL);
        return value && has_xattr_whiteouts(dirfd);
}

LayerName layer_look(LayerForm form, int dirfd, const char *name, struct stat *ret_st) {
        if (fstatat(dirfd, name, ret_st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
                int errnum = errno;
                bool whiteout = has_wh_file(form, dirfd, name);
                errno = errnum;
                return whiteout ? LAYER_WHITEOUT : LAYER_NOTHING;
        }
        if (S_ISCHR(ret_st->st_mode) && ret_st->st_rdev == makedev(0, 0))
                return LAYER_WHITEOUT;
        if (is_xattr_whiteout(dirfd, name, ret_st))
                return LAYER_WHITEOUT;
        bool may_override = form == LAYER_FOREIGN && !S_ISLNK(ret_st->st_mode);
        g_autofree char *override = !may_override ? NULL : layer_xattr(dirfd, name, "user.containers.override_stat", NULL);
        if (override)
                apply_override(override, ret_st);
        return LAYER_ENTRY;
}

bool layer_is_opaque(LayerForm form, int dirfd) {
        g_autofree char *value = mark(form, dirfd, "opaque");
        return (value && g_str_equal(value, "y")) || has_wh_file(form, dirfd, ".wh..opq");
}

static bool is_plain(const char *name) {
        return *name && !g_str_equal(name, ".") && !g_str_equal(name, "..");
}

char *layer_redirect(LayerForm form, int dirfd, bool *ret_bad) {
        g_autofree char *value = mark(form, dirfd, "redirect");

        *ret_bad = false;
        if (!value)
                return NULL;
        g_auto(GStrv) names = g_strsplit(value[0] == '/' ? value + 1 : value, "/", -1);
        bool ok = names[0] && (value[0] == '/' || !names[1]);
        for (guint i = 0; names[i]; i++)
                ok = ok && is_plain(names[i]);
        *ret_bad = !ok;
        return ok ? g_steal_pointer(&value) : NULL;
}

static void part_clear(gpointer part) {
        fd_closep(&((LowerPart *) part)->fd);
}

static void root_clear(gpointer fd) {
        fd_closep(fd);
}

bool lowers_open(const GPtrArray *paths, Lowers *ret, GError **error) {
        ret->roots = g_array_new(FALSE, FALSE, sizeof(int));
        g_array_set_clear_func(ret->roots, root_clear);
        ret->forms = g_array_new(FALSE, FALSE, sizeof(LayerForm));
        for (guint i = 0; i < paths->len; i++) {
                int fd = open(paths->pdata[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0) {
                        int errnum = errno;
                        g_autofree char *quoted = err_quote(paths->pdata[i]);
                        return err_set(error, errnum, "lower directory %s", quoted);
                }
                LayerForm form = layer_form(fd);
                g_array_append_val(ret->roots, fd);
                g_array_append_val(ret->forms, form);
        }
        return true;
}

void lowers_clear(Lowers *lowers) {
        g_clear_pointer(&lowers->roots, g_array_unref);
        g_clear_pointer(&lowers->forms, g_array_unref);
}

void lower_dir_clear(LowerDir *dir) {
        g_clear_pointer(&dir->parts, g_array_unref);
}

static LayerForm form_of(const Lowers *lowers, const LowerPart *part) {
        return g_array_index(lowers->forms, LayerForm, part->layer);
}

/* Takes the descriptor. */
static void add_part(LowerDir *dir, guint layer, int fd) {
        LowerPart part = { layer, fd };

        if (!dir->parts) {
                dir->parts = g_array_new(FALSE, FALSE, sizeof(LowerPart));
                g_array_set_clear_func(dir->parts, part_clear);
        }
        g_array_append_val(dir->parts, part);
}

static void roots_from(Lowers *lowers, guint first, LowerDir *ret) {
        *ret = (LowerDir){ 0 };
        for (guint i = first; i < lowers->roots->len; i++) {
                int fd = fcntl(g_array_index(lowers->roots, int, i), F_DUPFD_CLOEXEC, 3);
                if (fd >= 0)
                        add_part(ret, i, fd);
                else
                        lowers->errnum = errno;
        }
}

void lowers_root(Lowers *lowers, LowerDir *ret) {
        roots_from(lowers, 0, ret);
}

static void lookup_path(Lowers *lowers, guint first, const char *path, LowerDir *ret) {
        g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);

        roots_from(lowers, first, ret);
        for (guint i = 0; names[i]; i++) {
                LowerDir next = { 0 };
                struct stat st;
                int fd;
                (void) lowers_lookup(lowers, ret, names[i], &st, &next, &fd);
                lower_dir_clear(ret);
                *ret = next;
        }
}

void lowers_lookup_path(Lowers *lowers, const char *path, LowerDir *ret) {
        lookup_path(lowers, 0, path, ret);
}

/* A layer's directory that was moved: the layers below it have it where it was. */
static void append_moved(Lowers *lowers, guint layer, const char *redirect, LowerDir *dir) {
        g_auto(LowerDir) moved = { 0 };

        lookup_path(lowers, layer + 1, redirect, &moved);
        for (guint i = 0; moved.parts && i < moved.parts->len; i++) {
                LowerPart *part = &g_array_index(moved.parts, LowerPart, i);
                add_part(dir, part->layer, fd_steal(&part->fd));
        }
}

/* Add the directory name of this part. False: nothing below it is merged. *name changes where the layers below have it by another one. */
static bool merge_part(Lowers *lowers, const LowerPart *part, char **name, LowerDir *dir) {
        const LayerForm form = form_of(lowers, part);
        int fd = openat(part->fd, *name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                lowers->errnum = errno;
                return false;
        }
        add_part(dir, part->layer, fd);
        if (lowers->live)
                return true;
        if (layer_is_opaque(form, fd))
                return false;
        bool bad;
        char *redirect = layer_redirect(form, fd, &bad);
        if (!redirect)
                return !bad;
        g_free(*name);
        *name = redirect;
        if (redirect[0] != '/')
                return true;
        append_moved(lowers, part->layer, redirect, dir);
        return false;
}

/* What cannot be looked at is not taken for absent; only what this user may not look at is. */
static LayerName look(Lowers *lowers, const LowerPart *part, const char *name, struct stat *ret_st) {
        LayerName kind = !lowers->live ? layer_look(form_of(lowers, part), part->fd, name, ret_st)
                         : fstatat(part->fd, name, ret_st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 ? LAYER_NOTHING
                                                                                                      : LAYER_ENTRY;

        if (kind == LAYER_NOTHING && errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != EACCES)
                lowers->errnum = errno;
        return kind;
}

bool lowers_lookup(Lowers *lowers, const LowerDir *parent, const char *name, struct stat *ret_st, LowerDir *ret_dir, int *ret_fd) {
        g_autofree char *here = g_strdup(name);
        bool found = false;

        *ret_dir = (LowerDir){ 0 };
        for (guint i = 0; parent->parts && i < parent->parts->len; i++) {
                const LowerPart *part = &g_array_index(parent->parts, LowerPart, i);
                struct stat st;
                LayerName kind = look(lowers, part, here, &st);
                if (kind == LAYER_NOTHING)
                        continue;
                if (kind == LAYER_WHITEOUT || (found && !S_ISDIR(st.st_mode)))
                        break;
                if (!found) {
                        found = true;
                        *ret_st = st;
                        *ret_fd = part->fd;
                }
                if (!S_ISDIR(st.st_mode) || !merge_part(lowers, part, &here, ret_dir))
                        break;
        }
        return found;
}

void lowers_list(Lowers *lowers, const LowerDir *dir, GPtrArray *names) {
        for (guint i = 0; dir->parts && i < dir->parts->len; i++) {
                const LowerPart *part = &g_array_index(dir->parts, LowerPart, i);
                const LayerForm form = form_of(lowers, part);
                DIR *stream = fd_open_dir(part->fd, ".");
                if (!stream) {
                        lowers->errnum = errno;
                        continue;
                }
                const struct dirent *entry;
                while (errno = 0, (entry = readdir(stream)))
                        if (is_plain(entry->d_name) && (lowers->live || (!layer_is_mark(form, entry->d_name) && !layer_wh_name(form, entry->d_name))))
                                g_ptr_array_add(names, g_strdup(entry->d_name));
                if (errno != 0)
                        lowers->errnum = errno;
                closedir(stream);
        }
}
