/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The user's mounts in the plan: their sources are opened, their targets made sure of.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: called by root-plan.c; root-user-mounts.c carries
 * the mounts out in the child.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "mountinfo.h"
#include "root-hooks.h"
#include "root-plan.h"
#include "through.h"

#define MOUNT_FILE_MAX (64 * 1024 * 1024)

/* The host's side of an overlay has this path of the box. */
bool plan_overlay_has(const RootNode *node, const char *box_path) {
        if (!node->host.path)
                return false;
        g_autofree char *host = g_strconcat(node->host.path, "/", box_path + strlen(node->path), NULL);
        struct stat st;
        return lstat(host, &st) == 0;
}

/*
 * What a name of the box is once the symlinks on its way are followed: where a mount on it will stand. They are those of the
 * host's root or of --rootfs, each resolved inside it (openat2(2) RESOLVE_IN_ROOT).
 */
static char *resolve_target(const Planner *p, const char *dst) {
        const char *base = p->spec->root.rootfs ? p->spec->root.rootfs : "/";
        _cleanup_close_ int root = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_autofree char *root_real = fd_read_path(root), *head = g_strdup(dst);

        while (root >= 0 && root_real) {
                _cleanup_close_ int fd =
                        sys_openat2(root, head, O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
                if (fd >= 0) {
                        g_autofree char *real = fd_read_path(fd);
                        size_t skip = strlen(root_real) == 1 ? 0 : strlen(root_real);
                        if (!real || strncmp(real, root_real, skip) != 0)
                                break;
                        const char *inside = real + skip, *rest = dst + strlen(head);
                        bool top = inside[0] == '\0' || g_str_equal(inside, "/");
                        if (strlen(head) == 1) /* nothing of it exists */
                                return g_strdup(dst);
                        return top ? g_strdup(*rest ? rest : "/") : g_strconcat(inside, rest, NULL);
                }
                char *slash = strrchr(head, '/');
                slash[slash == head] = '\0';
        }
        return g_strdup(dst);
}

/*
 * A root by FUSE: a target that the host has gets a place in the box's own layer all the same. The host may change or replace its own; to the kernel the
 * name leads to another file then, on which nothing is mounted. Types that do not go together stay so, for mount(2) to refuse.
 */
static void plan_place_over(Planner *p, const MountSource *source, const char *target) {
        const RootNode *root = g_ptr_array_index(p->plan->nodes, 0);
        g_autofree char *host = g_strconcat(root->host.path[1] ? root->host.path : "", target, NULL);
        struct stat st;

        if (lstat(host, &st) < 0 || !S_ISDIR(st.st_mode) == source->is_dir)
                return;
        LayerEntry *entry = plan_add_entry(p, source->is_dir ? LAYER_DIR : LAYER_FILE, target);
        entry->mode = source->is_dir ? 0755 : 0444;
        entry->over = true;
}

/* Make sure that a mount will find its target in the box, without making anything on the host. */
static bool plan_target(Planner *p, MountSource *source, GError **error) {
        g_autofree char *target = resolve_target(p, source->op->dst);

        if (root_plan_is_own(target + 1) && root_plan_node_for(p->plan, target + 1)->kind != ROOT_PART)
                return true;
        for (guint i = 0; i < p->plan->sources->len; i++) {
                const MountSource *other = g_ptr_array_index(p->plan->sources, i);
                if (other == source)
                        break;
                if (!other->skip && other->op->kind != MOUNT_SYMLINK && path_is_at_or_below(target, other->op->dst))
                        return true; /* resolved when that mount stands */
        }

        GHashTableIter iter;
        gpointer key;
        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                if (path_is_below(target, key)) {
                        g_autofree char *shown = err_quote(key);
                        err_set(error, 0, "%s: the target lies under %s, which is hidden in the box",
                                source->op->option, shown);
                        return err_hint(error, "mount on %s itself, or choose a target elsewhere", shown);
                }

        const RootNode *node = root_plan_node_for(p->plan, target + 1);
        bool hidden = plan_is_hidden(p, target);
        bool there = p->rules ? plan_fuse_has(p, target) : !hidden && plan_overlay_has(node, target + 1);
        if (source->op->kind == MOUNT_SYMLINK) {
                /* The last part of a symlink's own name is not followed. */
                if (there)
                        return err_set(error, EEXIST, "%s", source->op->option);
                plan_parents(p, target);
                plan_add_node(p, ROOT_SYMLINK, target, 0777)->target = g_strdup(source->op->src);
                source->planned = true;
                return true;
        }
        if (there && p->rules)
                plan_place_over(p, source, target);
        if (g_str_equal(node->path, target + 1) || there)
                return true;
        if (!p->rules) /* the box's own layer lies above what rules speak of */
                g_hash_table_remove(p->hidden, target);
        plan_parents(p, target);
        if (source->is_dir && node->kind != ROOT_OVERLAY)
                plan_add_node(p, ROOT_DIR, target, 0755);
        else
                plan_add_entry(p, source->is_dir ? LAYER_DIR : LAYER_FILE, target)->mode = source->is_dir ? 0755 : 0444;
        return true;
}

/* Open what one mount takes from the host and remember which inode it was. */
static bool open_source(MountSource *source, GError **error) {
        const MountOp *op = source->op;
        struct stat st;

        if (op->kind == MOUNT_FILE) {
                if (!fd_read_all(op->fd, MOUNT_FILE_MAX, &source->data, &source->len))
                        return err_set(error, errno, "%s: read descriptor %d", op->option, op->fd);
                return true;
        }
        if (op->kind != MOUNT_BIND && op->kind != MOUNT_DEVICE) {
                source->is_dir = op->kind != MOUNT_SYMLINK;
                return true;
        }

        _cleanup_close_ int fd = open(op->src, O_PATH | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                if (op->optional && (errno == ENOENT || errno == EACCES)) {
                        source->skip = true;
                        return true;
                }
                g_autofree char *shown = err_quote(op->src);
                int errnum = errno;
                err_set(error, errnum, "%s: source %s", op->option, shown);
                if (op->kind == MOUNT_DEVICE && strchr(op->src, ':'))
                        return err_hint(error, "a device at another name: --dev-bind SRC DST");
                return errnum == ENOENT
                               ? err_hint(error, "the source of a mount must exist; usbox creates nothing on the host")
                               : false;
        }
        if (op->kind == MOUNT_DEVICE && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) {
                g_autofree char *shown = err_quote(op->src);
                err_set(error, 0, "%s: not a device node", op->option);
                return S_ISDIR(st.st_mode) ? err_hint(error, "all devices of a directory: --dev-bind %s %s", shown, shown) : false;
        }

        g_autofree char *real = fd_read_path(fd);
        if (!real)
                return err_set(error, errno, "%s: readlink /proc/self/fd/%d", op->option, fd);
        source->host = plan_host_path(real, &st);
        source->is_dir = S_ISDIR(st.st_mode);
        return true;
}

/* A source lies in no tree that the box may write but by names that are in there. Others' boxes may write it at this moment: what was opened counts. */
static bool stay_in_trees(const RootPlan *plan, GError **error) {
        g_autoptr(GPtrArray) trees = g_ptr_array_new();

        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = plan->sources->pdata[i];
                if (source->host.path && source->op->kind == MOUNT_BIND && !source->op->read_only && source->is_dir)
                        g_ptr_array_add(trees, source->host.path);
        }
        for (guint i = 0; i < plan->sources->len && trees->len > 0; i++) {
                const MountSource *source = plan->sources->pdata[i];
                g_autofree char *real = NULL;
                if (source->host.path && !through_stays(source->op->option, trees, source->op->src, true, &real, error))
                        return false;
                if (real && !g_str_equal(real, source->host.path)) {
                        g_autofree char *shown = err_quote(source->op->src);
                        return err_set(error, 0, "%s: %s is not what it was a moment ago", source->op->option, shown);
                }
        }
        return true;
}

/* A source that cannot be opened is not this one's business. */
bool root_plan_check_sources(const Spec *spec, GError **error) {
        RootPlan plan = { .sources = g_ptr_array_new_with_free_func(plan_source_free) };

        for (guint i = 0; i < spec->mount.ops->len; i++) {
                MountSource *source = g_new0(MountSource, 1);
                source->op = g_ptr_array_index(spec->mount.ops, i);
                g_ptr_array_add(plan.sources, source);
                if (source->op->kind == MOUNT_FILE || !open_source(source, NULL))
                        source->skip = true;
        }
        bool ok = stay_in_trees(&plan, error) && plan_hide_reaches(&(Planner){ .spec = spec, .plan = &plan }, error);
        g_ptr_array_unref(plan.sources);
        return ok;
}

bool plan_sources(Planner *p, GError **error) {
        const GPtrArray *ops = p->spec->mount.ops;

        for (guint i = 0; i < ops->len; i++) {
                MountSource *source = g_new0(MountSource, 1);
                source->op = g_ptr_array_index(ops, i);
                g_ptr_array_add(p->plan->sources, source);
                if (!open_source(source, error))
                        return false;
                if (!source->skip && !plan_target(p, source, error))
                        return false;
                if (!source->skip && source->is_dir && source->op->hooks_cow && !root_hooks_plan(p, source, error))
                        return false;
        }
        return stay_in_trees(p->plan, error) && plan_hide_reaches(p, error);
}
