/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan of the box's root: which host directory is shown where, and what is hidden.
 *
 * Role: launcher, while the child makes namespaces. Privileges: the caller's, so every error is the caller's own "permission
 * denied". Threads: one. Order: step 4 of sandbox_run(); root-build.c carries it out in the child.
 *
 * Why one overlay a directory and not one for all: a user namespace may not clone a mount alone that has locked mounts
 * below it (has_locked_children(), fs/namespace.c), and "/" always has some. So the root is a skeleton, and each of the host's
 * top directories is an overlay of its own; a directory with a mount somewhere below is itself taken apart in this way.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "mountinfo.h"
#include "root-plan.h"

const char *const root_own_dirs[] = { "/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp", NULL };

static void node_free(gpointer p) {
        RootNode *node = p;
        g_free(node->path);
        g_free(node->target);
        g_free(node->host.path);
        g_free(node);
}

static void entry_free(gpointer p) {
        LayerEntry *entry = p;
        g_free(entry->path);
        g_free(entry->data);
        g_free(entry);
}

void plan_source_free(gpointer p) {
        MountSource *source = p;
        g_free(source->host.path);
        g_free(source->data);
        g_clear_pointer(&source->hooks, g_ptr_array_unref);
        g_free(source);
}

void root_plan_free(RootPlan *plan) {
        g_ptr_array_unref(plan->nodes);
        g_ptr_array_unref(plan->entries);
        g_ptr_array_unref(plan->sources);
        fs_config_free(plan->fs);
        g_free(plan->box_dir.path);
        g_free(plan->workdir);
        g_free(plan);
}

static RootNode *longest_prefix(const RootPlan *plan, const char *path, bool overlays_only) {
        RootNode *best = g_ptr_array_index(plan->nodes, 0);
        size_t best_len = 0;

        for (guint i = 1; i < plan->nodes->len; i++) {
                RootNode *node = g_ptr_array_index(plan->nodes, i);
                size_t len = node->path_len;
                if (overlays_only && node->kind != ROOT_OVERLAY)
                        continue;
                if (len > best_len && path[0] == node->path[0] && strncmp(path, node->path, len) == 0 &&
                    (path[len] == '/' || path[len] == '\0')) {
                        best = node;
                        best_len = len;
                }
        }
        return best;
}

bool root_plan_is_own(const char *path) {
        g_autofree char *absolute = g_strconcat("/", path, NULL);
        for (const char *const *dir = root_own_dirs; *dir; dir++)
                if (path_is_at_or_below(absolute, *dir))
                        return true;
        return false;
}

const RootNode *root_plan_node_for(const RootPlan *plan, const char *path) {
        return longest_prefix(plan, path, false);
}

RootNode *root_plan_carrier(const RootPlan *plan, const char *path) {
        return longest_prefix(plan, path, true);
}

RootNode *plan_add_node(Planner *p, RootNodeKind kind, const char *box_path, mode_t mode) {
        RootNode *node = g_new0(RootNode, 1);
        node->kind = kind;
        node->path = g_strdup(box_path + 1);
        node->path_len = strlen(node->path);
        node->mode = mode;
        if (kind == ROOT_OVERLAY)
                node->index = ++p->n_overlays;
        g_ptr_array_add(p->plan->nodes, node);
        return node;
}

LayerEntry *plan_add_entry(Planner *p, LayerKind kind, const char *box_path) {
        LayerEntry *entry = g_new0(LayerEntry, 1);
        entry->kind = kind;
        entry->path = g_strdup(box_path + 1);
        g_ptr_array_add(p->plan->entries, entry);
        return entry;
}

/* A file that is a mount of its own on the host, as a container's /etc/resolv.conf is, would be mounted over the box's own. */
static void drop_host_file(RootPlan *plan, const char *path) {
        for (guint i = plan->nodes->len; i-- > 1;) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->kind == ROOT_FILE && g_str_equal(node->path, path))
                        g_ptr_array_remove_index(plan->nodes, i);
        }
}

LayerEntry *root_plan_add_file(RootPlan *plan, const char *path, const char *data, mode_t mode) {
        drop_host_file(plan, path);
        LayerEntry *entry = g_new0(LayerEntry, 1);
        *entry = (LayerEntry){
                .kind = LAYER_FILE, .path = g_strdup(path), .data = g_strdup(data), .len = strlen(data), .mode = mode
        };
        g_ptr_array_add(plan->entries, entry);
        root_plan_carrier(plan, path)->has_layer = true;
        return entry;
}

/* One of the directories above it is hidden, up to the node that shows it: a whiteout below would make that directory be there. */
static bool is_in_hidden(const Planner *p, const RootNode *node, const char *path) {
        g_autofree char *at = g_strdup(path);

        for (char *slash; (slash = strrchr(at, '/')) && (size_t) (slash - at) > node->path_len + (node->path_len > 0);) {
                *slash = '\0';
                if (plan_is_hidden(p, at))
                        return true;
        }
        return false;
}

/* Hidden names become whiteouts of the box layer where an overlay would show them; in the skeleton they are simply not made. */
static bool plan_whiteouts(Planner *p, GError **error) {
        g_autoptr(GHashTable) looked_at = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        GHashTableIter iter;
        gpointer key;

        g_hash_table_iter_init(&iter, p->hidden);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                const char *path = key;
                const RootNode *node = root_plan_node_for(p->plan, path + 1);
                struct stat st;
                g_autofree char *host = NULL;
                if (!node->host.path || is_in_hidden(p, node, path))
                        continue;
                /* With --rootfs the same name below another host directory. */
                host = g_strconcat(node->host.path, *node->path ? path + 1 + strlen(node->path) : path, NULL);
                /* Also a name that is not there yet, if it could come to be: in a directory that exists. */
                g_autofree char *parent = g_path_get_dirname(host);
                if (lstat(parent, &st) < 0 || !S_ISDIR(st.st_mode))
                        continue;
                if (!plan_hide_by_name(p, host, node->host.path, looked_at, error))
                        return false;
                plan_add_entry(p, LAYER_ABSENT, path);
        }
        return true;
}

static bool plan_host_root(Planner *p, GError **error) {
        struct stat st;
        _cleanup_close_ int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(error, errno, "open /");
        plan_add_node(p, ROOT_DIR, "/", 0755)->read_only = !plan_caller_may_write(p, &st) && p->spec->user.uid != 0;

        /* /home is never shown as a whole: of all homes only the caller's is there. root's home likewise. */
        g_hash_table_add(p->hidden, g_strdup("/home"));
        g_hash_table_add(p->hidden, g_strdup("/root"));
        if (!plan_apart(p, fd, "/", "/", true, 0, error))
                return false;
        g_hash_table_remove(p->hidden, "/home");
        g_hash_table_remove(p->hidden, "/root");
        plan_add_node(p, ROOT_DIR, "/home", 0755);
        if (!g_str_equal(p->spec->caller.home, "/root"))
                plan_add_node(p, ROOT_DIR, "/root", 0700);
        return plan_home(p, error);
}

bool plan_hint_rootfs(GError **error) {
        return err_hint(error, "it is a directory with a system in it, such as one that mmdebstrap makes, or podman export | tar -x unpacks");
}

static bool plan_rootfs(Planner *p, GError **error) {
        const char *rootfs = p->spec->root.rootfs;
        struct stat st;
        _cleanup_close_ int fd = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                err_set(error, errno, "--rootfs %s", rootfs);
                return plan_hint_rootfs(error);
        }

        g_autofree char *real = fd_read_path(fd);
        if (!real)
                return err_set(error, errno, "--rootfs %s", rootfs);
        if (plan_has_mount_below(p, real)) {
                plan_add_node(p, ROOT_DIR, "/", st.st_mode & 0777);
                return plan_apart(p, fd, real, "/", false, 0, error);
        }
        plan_add_node(p, ROOT_OVERLAY, "/", st.st_mode & 0777)->host = plan_host_path(real, &st);
        return true;
}

/* Places that the box mounts on, where neither host nor skeleton has them. */
static void plan_own_dirs(Planner *p) {
        for (const char *const *dir = root_own_dirs; *dir; dir++) {
                const RootNode *node = root_plan_node_for(p->plan, *dir + 1);
                mode_t mode = g_str_equal(*dir, "/tmp") || g_str_equal(*dir, "/var/tmp") ? 01777 : 0755;
                if (node->kind != ROOT_OVERLAY) {
                        plan_parents(p, *dir);
                        plan_add_node(p, ROOT_DIR, *dir, mode);
                } else {
                        g_autofree char *host = g_strconcat(node->host.path, "/", *dir + 1 + strlen(node->path), NULL);
                        if (access(host, F_OK) < 0) {
                                plan_parents(p, *dir);
                                plan_add_entry(p, LAYER_DIR, *dir)->mode = mode;
                        }
                }
        }
}

static void mark_layers(RootPlan *plan) {
        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                root_plan_carrier(plan, entry->path)->has_layer = true;
        }
        /* A node below an overlay needs its mount point there. */
        for (guint i = 1; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                const char *slash = strrchr(node->path, '/');
                g_autofree char *parent = g_strndup(node->path, slash ? (size_t) (slash - node->path) : 0);
                RootNode *above = root_plan_carrier(plan, parent);
                if (above->kind == ROOT_OVERLAY && !plan_overlay_has(above, node->path))
                        above->has_layer = true;
        }
}

/* File systems that are windows on the kernel and no files: the box has its own, or none. is_kernel_fs() of root-tree.c by name. */
static const char *const kernel_types[] = { "proc",       "sysfs",       "cgroup",    "cgroup2",  "devpts", "debugfs",   "tracefs", "bpf",
                                            "securityfs", "binfmt_misc", "configfs",  "efivarfs", "pstore", "selinuxfs", "mqueue",  NULL };

static bool host_has_only_cgroup2(void) {
        struct stat st;
        return stat("/sys/fs/cgroup/cgroup.controllers", &st) == 0;
}

static RootPlan *plan_empty(void) {
        RootPlan *plan = g_new0(RootPlan, 1);

        plan->nodes = g_ptr_array_new_with_free_func(node_free);
        plan->entries = g_ptr_array_new_with_free_func(entry_free);
        plan->sources = g_ptr_array_new_with_free_func(plan_source_free);
        return plan;
}

/* An overlay that cannot ask at each look has to have looked before; said, since others see them. */
static void tell_left_out(const Planner *p) {
        if (p->left_out->len == 0)
                return;
        g_autofree char *quoted = err_quote(g_ptr_array_index(p->left_out, 0));
        g_autofree char *more = p->left_out->len > 1 ? g_strdup_printf(" and %u more", p->left_out->len - 1) : g_strdup("");
        log_note("left out: %s%s: too many files to be looked through for private ones at the start; --overlay=fuse shows the others, --ro %s all",
                 quoted, more, quoted);
}

RootPlan *root_plan_new_bare(void) {
        Planner p = { .plan = plan_empty() };

        plan_add_node(&p, ROOT_DIR, "/", 0755);
        plan_own_dirs(&p);
        return p.plan;
}

RootPlan *root_plan_new(const Spec *spec, const char *box_dir, GError **error) {
        g_autoptr(RootPlan) plan = plan_empty();
        plan->served = spec->root.overlay == OVERLAY_FUSE;
        plan->lower = spec->root.rootfs ? spec->root.rootfs : "/";
        plan->cgroup2 = host_has_only_cgroup2();
        plan->workdir = g_strdup(spec->root.workdir_given ? spec->root.workdir
                                 : spec->root.rootfs      ? NULL
                                                          : spec->caller.cwd);

        if (box_dir) {
                struct stat st;
                if (stat(box_dir, &st) < 0) {
                        err_set(error, errno, "%s", box_dir);
                        return NULL;
                }
                plan->box_dir = plan_host_path(box_dir, &st);
        }

        g_autofree char *text = NULL;
        if (!fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 64 * 1024 * 1024, &text, NULL)) {
                err_set(error, errno, "read /proc/self/mountinfo");
                return NULL;
        }
        g_autoptr(GPtrArray) mounts = mountinfo_points(text);
        g_autoptr(GHashTable) hidden = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GPtrArray) left_out = g_ptr_array_new_with_free_func(g_free);
        Planner p = { .spec = spec, .plan = plan, .mounts = mounts, .hidden = hidden, .left_out = left_out };
        plan_look_begin(&p);

        int n_groups = getgroups(0, NULL);
        g_autofree gid_t *groups = g_new(gid_t, MAX(n_groups, 0) + 1);
        p.n_groups = getgroups(MAX(n_groups, 0), groups);
        p.groups = groups;
        if (p.n_groups < 0) {
                err_set(error, errno, "getgroups");
                return NULL;
        }
        groups[p.n_groups++] = spec->caller.gid;

        struct stat root;
        if (stat("/", &root) < 0) {
                err_set(error, errno, "/");
                return NULL;
        }
        p.root_dev = root.st_dev;
        if (!plan_collect_hidden(&p, error))
                return NULL;
        if (plan->served) {
                g_autoptr(GPtrArray) kernel_mounts = mountinfo_points_of(text, kernel_types);
                g_autoptr(GHashTable) rules = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
                p.kernel_mounts = kernel_mounts;
                p.rules = rules;
                if (!plan_fuse(&p, error) || !plan_sources(&p, error))
                        return NULL;
                plan_fuse_finish(&p);
                return g_steal_pointer(&plan);
        }
        if (!(spec->root.rootfs ? plan_rootfs(&p, error) : plan_host_root(&p, error)))
                return NULL;
        plan_own_dirs(&p);
        /* Before the whiteouts: a mount on a hidden name takes its place. */
        if (!plan_sources(&p, error))
                return NULL;
        if (!plan_whiteouts(&p, error))
                return NULL;
        tell_left_out(&p);
        mark_layers(plan);
        return g_steal_pointer(&plan);
}
