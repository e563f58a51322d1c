/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What --hide cannot hide: a tree that --rw, --ro, -v or the like gives is the host's own, and no rule speaks of its names. And, where the kernel's
 * overlay is the root, a name on a file system that ignores case: a whiteout is of one spelling (usbox-fs: is_spelled_so()).
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: called by root-sources.c, when all sources are open; and by root-plan.c after that.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/spelling.h"
#include "mountinfo.h"
#include "root-plan.h"

/* A directory of the host's. Device directories are given for their nodes, and have no names to keep from anybody. */
static bool is_given_tree(const MountSource *source) {
        return !source->skip && source->op->kind == MOUNT_BIND && source->is_dir && !source->op->devices;
}

/* A later mount stands on the name, or on what it lies in: what is seen there is that one's. */
static bool is_covered(const Planner *p, guint number, const char *box_path) {
        for (guint i = number + 1; i < p->plan->sources->len; i++) {
                const MountSource *later = g_ptr_array_index(p->plan->sources, i);
                if (!later->skip && later->op->kind != MOUNT_SYMLINK && path_is_at_or_below(box_path, later->op->dst))
                        return true;
        }
        return false;
}

static bool shows(const Planner *p, guint number, const char *path) {
        const MountSource *source = g_ptr_array_index(p->plan->sources, number);
        const char *const hosts[] = { source->host.path, source->op->src };

        if (path_is_below(path, source->op->dst) && !is_covered(p, number, path))
                return true;
        for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
                if (!path_is_below(path, hosts[i]))
                        continue;
                const char *rest = path + (g_str_equal(hosts[i], "/") ? 0 : strlen(hosts[i]));
                g_autofree char *box_path = g_strconcat(g_str_equal(source->op->dst, "/") ? "" : source->op->dst, rest, NULL);
                if (!is_covered(p, number, box_path))
                        return true;
        }
        return false;
}

/* A hidden path by each of its names: as given, what it leads to, and its own where the symlinks before it lead. */
static GPtrArray *names_of(const char *path) {
        GPtrArray *names = g_ptr_array_new_with_free_func(free);
        g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);
        char *real = realpath(path, NULL), *real_dir = realpath(dir, NULL);

        g_ptr_array_add(names, g_strdup(path));
        if (real)
                g_ptr_array_add(names, real);
        if (real_dir)
                g_ptr_array_add(names, plan_join(real_dir, name));
        free(real_dir);
        return names;
}

static bool shows_any(const Planner *p, guint number, const GPtrArray *names) {
        for (guint i = 0; i < names->len; i++)
                if (shows(p, number, names->pdata[i]))
                        return true;
        return false;
}

/* Whether the pattern may match below dir: one that begins at the root does so where that part of it which has no wildcards and dir lie in one another. */
static bool pattern_may_reach(const char *pattern, const char *dir) {
        if (*pattern != '/')
                return true;
        g_autofree char *fixed = g_strndup(pattern, strcspn(pattern, "*?["));
        char *slash = strrchr(fixed, '/');
        slash[slash == fixed] = '\0';
        return path_is_at_or_below(dir, fixed) || path_is_at_or_below(fixed, dir);
}

static bool refuse(const char *what, const MountSource *source, GError **error) {
        g_autofree char *shown = err_quote(what);

        err_set(error, 0, "--hide '%s' does not reach into what %s gives", shown, source->op->option);
        return err_hint(error, "leave that tree out, and usbox commit takes what the command wrote; or cover the name by a later --ro-bind /dev/null FILE or "
                               "--tmpfs DIRECTORY; or show what is there by --best-effort=hide");
}

bool plan_hide_reaches(const Planner *p, GError **error) {
        const RootSpec *root = &p->spec->root;

        if (p->spec->box.best_effort & BEST_EFFORT_HIDE)
                return true;
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func((GDestroyNotify) g_ptr_array_unref);
        for (guint i = 0; i < root->hide->len; i++)
                g_ptr_array_add(names, names_of(g_ptr_array_index(root->hide, i)));
        for (guint i = 0; i < p->plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(p->plan->sources, i);
                if (!is_given_tree(source))
                        continue;
                for (guint j = 0; j < root->hide->len; j++)
                        if (shows_any(p, i, g_ptr_array_index(names, j)))
                                return refuse(g_ptr_array_index(root->hide, j), source, error);
                for (guint j = 0; j < root->hide_globs->len; j++) {
                        const char *pattern = g_ptr_array_index(root->hide_globs, j);
                        if (pattern_may_reach(pattern, source->op->dst) || pattern_may_reach(pattern, source->host.path))
                                return refuse(pattern, source, error);
                }
        }
        return true;
}

/* Its last name is found in another case, which is no name of its own, as a hard link would be. */
static bool is_found_by_another_case(const char *path) {
        g_autofree char *dir = g_path_get_dirname(path), *other = NULL;
        const char *name = strrchr(path, '/') + 1;
        struct stat st;
        _cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 && spelling_of(fd, name, &st, &other) == SPELLING_IGNORED &&
               !spelling_is_listed(fd, other);
}

bool plan_hide_by_name(const Planner *p, const char *host, const char *top, GHashTable *looked_at, GError **error) {
        if (p->spec->box.best_effort & BEST_EFFORT_HIDE)
                return true;
        for (g_autofree char *at = g_strdup(host); path_is_below(at, top) && g_hash_table_add(looked_at, g_strdup(at)); *strrchr(at, '/') = '\0') {
                if (!is_found_by_another_case(at))
                        continue;
                g_autofree char *shown = err_quote(host);
                err_set(error, 0, "%s is to be hidden, and is found by other spellings, too: its file system ignores case", shown);
                return err_hint(error, "--overlay=fuse, the default, hides each; or show it by --best-effort=hide");
        }
        return true;
}
