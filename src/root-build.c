/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Building the box's root as it was planned, and moving into it.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace; this is what
 * they are for. Threads: one. Order: step 7.
 *
 * Every host path is opened again here, because a mount may only be made of what lies in one's own mount namespace, and is
 * compared with the inode that the launcher opened. Every path in the box is resolved beneath the new root
 * (openat2(2) RESOLVE_IN_ROOT), so no symlink of the host, of a rootfs or of an earlier box leads out of it. Layers reach
 * overlayfs as /proc/self/fd/N: no name is resolved twice, and no name needs escaping.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "root.h"
#include "root-build.h"

#define PLAIN_ATTRS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

int root_open_host(const HostPath *host, GError **error) {
        struct stat st;
        _cleanup_close_ int fd = sys_openat2(AT_FDCWD, host->path, O_PATH | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);

        if (fd < 0 || fstat(fd, &st) < 0) {
                g_autofree char *shown = err_quote(host->path);
                err_set(error, errno, "open %s", shown);
                return -1;
        }
        if (st.st_dev != host->dev || st.st_ino != host->ino) {
                g_autofree char *shown = err_quote(host->path);
                err_set(error, 0, "%s is not the file that it was a moment ago", shown);
                err_hint(error, "something replaced it while the box started: run the command again");
                return -1;
        }
        return fd_steal(&fd);
}

int root_open_in(int root, const char *path, uint64_t flags) {
        return sys_openat2(root, path, flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* A file system that takes no source: tmpfs, proc, ... options are "key=value" or "flag", NULL-terminated. */
int root_mount_new(const char *type, const char *const *options, unsigned attrs, GError **error) {
        _cleanup_close_ int fs = fsopen(type, FSOPEN_CLOEXEC);
        if (fs < 0) {
                err_set(error, errno, "%s", type);
                return -1;
        }
        for (const char *const *option = options; option && *option; option++) {
                const char *equals = strchr(*option, '=');
                g_autofree char *key = equals ? g_strndup(*option, (size_t) (equals - *option)) : NULL;
                int r = equals ? fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0) : fsconfig(fs, FSCONFIG_SET_FLAG, *option, NULL, 0);
                if (r < 0) {
                        err_set(error, errno, "%s: option %s", type, *option);
                        return -1;
                }
        }
        int mnt = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? -1 : fsmount(fs, FSMOUNT_CLOEXEC, attrs);
        if (mnt < 0)
                err_set(error, errno, "mount %s", type);
        return mnt;
}

bool root_attach(int mnt, int target, const char *name, GError **error) {
        if (move_mount(mnt, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return err_set(error, errno, "attach at %s", name);
        return true;
}

bool root_attach_at(RootBuild *b, int mnt, const char *path, GError **error) {
        _cleanup_close_ int target = root_open_in(b->root, path, O_PATH);
        if (target < 0)
                return err_set(error, errno, "%s in the box", path);
        return root_attach(mnt, target, path, error);
}

int root_clone(int fd, bool recursive, unsigned attrs, GError **error) {
        unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
        _cleanup_close_ int mnt = open_tree(fd, "", flags);
        if (mnt < 0) {
                err_set(error, errno, "clone mount");
                return -1;
        }
        struct mount_attr set = { .attr_set = attrs };
        if (attrs && mount_setattr(mnt, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &set, sizeof set) < 0) {
                err_set(error, errno, "mount_setattr");
                return -1;
        }
        return fd_steal(&mnt);
}

/* mkdir -p below dir, a directory of ours that nobody else sees yet. */
static int make_dirs(int dir, const char *path, mode_t mode) {
        _cleanup_close_ int at = fcntl(dir, F_DUPFD_CLOEXEC, 3);
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        for (char **part = parts; at >= 0 && *part; part++) {
                if (!**part)
                        continue;
                if (mkdirat(at, *part, part[1] ? 0755 : mode) == 0) {
                        if (!part[1] && mode != 0755 && fchmodat(at, *part, mode, 0) < 0)
                                return -1;
                } else if (errno != EEXIST) {
                        return -1;
                }
                int next = openat(at, *part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                close(at);
                at = next;
        }
        return fd_steal(&at);
}

static bool make_file(int dir, const char *path, const char *data, size_t len, mode_t mode) {
        g_autofree char *parent = g_path_get_dirname(path);
        g_autofree char *name = g_path_get_basename(path);
        _cleanup_close_ int at = g_str_equal(parent, ".") ? fcntl(dir, F_DUPFD_CLOEXEC, 3) : make_dirs(dir, parent, 0755);
        _cleanup_close_ int fd = at < 0 ? -1 : openat(at, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_TRUNC | O_CLOEXEC, mode);
        return fd >= 0 && fchmod(fd, mode) == 0 && fd_write_all(fd, data ? data : "", len);
}

/* The part of a box path below a node. */
static const char *below_node(const RootNode *node, const char *path) {
        const char *rest = path + strlen(node->path);
        return *rest == '/' ? rest + 1 : rest;
}

static void layer_name(const RootNode *node, char name[16]) {
        if (node->kind == ROOT_OVERLAY)
                g_snprintf(name, 16, "l%u", node->index);
        else
                g_strlcpy(name, "root", 16);
}

/* Directories that a layer has in common with the host look like the host's: the top one gives mode to the merged one. */
static void copy_modes(const RootNode *node, int layer, const char *rest) {
        if (!node->host.path)
                return;
        for (const char *slash = strchr(rest, '/'); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *part = g_strndup(rest, (size_t) (slash - rest));
                g_autofree char *host = g_strconcat(node->host.path, "/", part, NULL);
                struct stat st;
                if (stat(host, &st) == 0 && S_ISDIR(st.st_mode))
                        (void) fchmodat(layer, part, st.st_mode & 0777, 0);
        }
}

/* The box's own layers: the skeleton in stage/root, and what lies over the host's files in stage/lN. */
static bool build_layers(RootBuild *b, GError **error) {
        const RootPlan *plan = b->plan;
        char name[16];

        for (guint i = 0; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->kind == ROOT_OVERLAY && node->has_layer) {
                        layer_name(node, name);
                        _cleanup_close_ int fd = make_dirs(b->stage, name, node->mode);
                        if (fd < 0)
                                return err_set(error, errno, "layer of /%s", node->path);
                }
                if (i == 0)
                        continue;
                /* Its own place in the node above it. */
                const char *slash = strrchr(node->path, '/');
                g_autofree char *parent = g_strndup(node->path, slash ? (size_t) (slash - node->path) : 0);
                const RootNode *above = root_plan_carrier(plan, parent);
                if (above->kind == ROOT_OVERLAY && !above->has_layer)
                        continue;
                layer_name(above, name);
                _cleanup_close_ int layer = openat(b->stage, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                const char *rest = below_node(above, node->path);
                bool ok;
                if (node->kind == ROOT_SYMLINK) {
                        g_autofree char *dir = g_path_get_dirname(rest);
                        _cleanup_close_ int at = g_str_equal(dir, ".") ? fcntl(layer, F_DUPFD_CLOEXEC, 3) : make_dirs(layer, dir, 0755);
                        g_autofree char *base = g_path_get_basename(rest);
                        ok = at >= 0 && symlinkat(node->target, at, base) == 0;
                } else if (node->kind == ROOT_FILE) {
                        ok = make_file(layer, rest, NULL, 0, node->mode);
                } else {
                        _cleanup_close_ int fd = make_dirs(layer, rest, node->mode);
                        ok = fd >= 0;
                }
                if (!ok)
                        return err_set(error, errno, "place for /%s", node->path);
                copy_modes(above, layer, rest);
        }

        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                const RootNode *node = root_plan_carrier(plan, entry->path);
                layer_name(node, name);
                _cleanup_close_ int layer = openat(b->stage, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                const char *rest = below_node(node, entry->path);
                bool ok;
                if (entry->kind == LAYER_DIR) {
                        _cleanup_close_ int fd = make_dirs(layer, rest, entry->mode);
                        ok = fd >= 0;
                } else if (entry->kind == LAYER_FILE) {
                        ok = make_file(layer, rest, entry->data, entry->len, entry->mode);
                } else {
                        g_autofree char *dir = g_path_get_dirname(rest);
                        _cleanup_close_ int at = g_str_equal(dir, ".") ? fcntl(layer, F_DUPFD_CLOEXEC, 3) : make_dirs(layer, dir, 0755);
                        g_autofree char *base = g_path_get_basename(rest);
                        /* overlayfs's whiteout; mknod(2) of just this one is allowed without CAP_MKNOD since 5.8 */
                        ok = at >= 0 && (mknodat(at, base, S_IFCHR, makedev(0, 0)) == 0 || errno == EEXIST);
                }
                if (!ok)
                        return err_set(error, errno, "layer entry /%s", entry->path);
                copy_modes(node, layer, rest);
        }
        return true;
}

static bool set_layer(int fs, const char *key, int *fds, size_t n, GError **error) {
        g_autoptr(GString) value = g_string_new(NULL);
        for (size_t i = 0; i < n; i++)
                g_string_append_printf(value, "%s/proc/self/fd/%d", i ? ":" : "", fds[i]);
        if (fsconfig(fs, FSCONFIG_SET_STRING, key, value->str, 0) < 0)
                return err_set(error, errno, "overlay %s", key);
        return true;
}

/* An overlay of the fds in lower (topmost first) and, where upper >= 0, a writable upper. */
int root_mount_overlay(int *lower, size_t n_lower, int upper, int work, bool volatile_upper, bool read_only, GError **error) {
        _cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);
        if (fs < 0) {
                err_set(error, errno, "overlayfs");
                err_hint(error, "load it as root: modprobe overlay; or use --overlay=none with kernels that lack it");
                return -1;
        }
        if (fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0 || (upper >= 0 && volatile_upper && fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)) {
                err_set(error, errno, "overlayfs option userxattr");
                err_hint(error, "usbox needs Linux 5.12 or later");
                return -1;
        }
        if (!set_layer(fs, "lowerdir", lower, n_lower, error) ||
            (upper >= 0 && (!set_layer(fs, "upperdir", &upper, 1, error) || !set_layer(fs, "workdir", &work, 1, error))))
                return -1;
        int mnt = -1;
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
                mnt = fsmount(fs, FSMOUNT_CLOEXEC, PLAIN_ATTRS | (read_only ? MOUNT_ATTR_RDONLY : 0));
        if (mnt < 0)
                err_set(error, errno, "mount overlay");
        return mnt;
}

/* One overlay of the plan: its layer over the host's directory, below the box's upper. */
static int overlay_node(RootBuild *b, const RootNode *node, GError **error) {
        int lower[2];
        size_t n = 0;
        _cleanup_close_ int layer = -1, host = -1, upper = -1, work = -1;
        char name[16];

        if (node->kind == ROOT_DIR || node->has_layer || (b->box < 0 && node->host.path)) {
                /* A lower alone needs company (overlayfs: "at least 2 lowerdir"): an empty one. */
                if (node->kind == ROOT_DIR || node->has_layer)
                        layer_name(node, name);
                else
                        g_strlcpy(name, "empty", sizeof name);
                layer = openat(b->stage, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (layer < 0) {
                        err_set(error, errno, "layer %s", name);
                        return -1;
                }
                lower[n++] = layer;
        }
        if (node->host.path) {
                host = b->host_fds[node->index];
                lower[n++] = host;
                host = -1; /* the build's */
        }
        if (b->box >= 0) {
                g_autofree char *up = g_strconcat("upper/", node->path, NULL);
                g_autofree char *wk = g_strdup_printf("work/%u", node->index);
                upper = openat(b->box, up, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                work = openat(b->box, wk, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (upper < 0 || work < 0) {
                        err_set(error, errno, "upper layer of /%s", node->path);
                        return -1;
                }
        }
        if (n == 1 && b->box < 0) /* a layer of ours alone, read-only: no overlay is needed */
                return root_clone(lower[0], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
        return root_mount_overlay(lower, n, upper, work, b->spec->box.rm, b->read_only, error);
}

/* In two turns: those in places that the box's own mounts cover (the working directory in /tmp) come after those mounts. */
static bool mount_nodes(RootBuild *b, bool in_own, GError **error) {
        for (guint i = 1; i < b->plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(b->plan->nodes, i);
                _cleanup_close_ int mnt = -1;

                if ((node->kind != ROOT_FILE && node->kind != ROOT_OVERLAY) || root_plan_is_own(node->path) != in_own)
                        continue;
                if (in_own && !root_make_place(b, node->path, node->kind == ROOT_OVERLAY, error))
                        return false;
                if (node->kind == ROOT_FILE)
                        mnt = root_clone(b->file_fds[i], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
                else
                        mnt = overlay_node(b, node, error);
                if (mnt < 0 || !root_attach_at(b, mnt, node->path, error)) {
                        g_autofree char *shown = err_quote(node->path);
                        g_prefix_error(error, "/%s: ", shown);
                        return false;
                }
        }
        return true;
}

/* Open all that the plan names of the host while the host's tree is still in sight, before anything is mounted over it. */
static bool open_host(RootBuild *b, GError **error) {
        const GPtrArray *nodes = b->plan->nodes;
        unsigned n = 0;

        for (guint i = 0; i < nodes->len; i++)
                n = MAX(n, ((const RootNode *) g_ptr_array_index(nodes, i))->index);
        b->host_fds = g_new(int, n + 1);
        b->file_fds = g_new(int, nodes->len);
        for (guint i = 0; i < nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(nodes, i);
                if (!node->host.path)
                        continue;
                int fd = root_open_host(&node->host, error);
                if (fd < 0)
                        return false;
                if (node->kind == ROOT_OVERLAY)
                        b->host_fds[node->index] = fd;
                else
                        b->file_fds[i] = fd;
        }
        if (b->plan->box_dir.path && (b->box = root_open_host(&b->plan->box_dir, error)) < 0)
                return false;
        return root_mounts_open(b, error);
}

/* Two tmpfs: stage (the layers, gone with the old root) and own (the box's /tmp, /run, /dev, ...). */
static bool make_stage(RootBuild *b, GError **error) {
        const char *options[] = { "mode=755", NULL };
        b->stage = root_mount_new("tmpfs", options, PLAIN_ATTRS | MOUNT_ATTR_NOEXEC, error);
        if (b->stage < 0)
                return false;
        b->own = root_mount_new("tmpfs", options, PLAIN_ATTRS, error);
        if (b->own < 0)
                return false;

        /* Attached on a host directory of this mount namespace, which nobody else sees: all that is needed of the host is
         * open already. overlayfs takes no layer from a mount that is attached nowhere (before 6.15). */
        static const char *const places[] = { "/tmp", "/mnt", "/sys", "/dev", NULL };
        const char *const *place = places;
        while (*place && move_mount(b->stage, "", AT_FDCWD, *place, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                place++;
        if (!*place)
                return err_set(error, errno, "attach the stage");
        for (const char *const *dir = (const char *const[]){ "root", "empty", "own", NULL }; *dir; dir++)
                if (mkdirat(b->stage, *dir, 0755) < 0)
                        return err_set(error, errno, "stage/%s", *dir);
        _cleanup_close_ int own = openat(b->stage, "own", O_PATH | O_CLOEXEC);
        return own >= 0 && root_attach(b->own, own, "stage/own", error);
}

/* The root mount itself, on stage/root's place, so that it can be pivoted into. */
static bool mount_root(RootBuild *b, GError **error) {
        const RootNode *node = g_ptr_array_index(b->plan->nodes, 0);
        _cleanup_close_ int place = openat(b->stage, "root", O_PATH | O_CLOEXEC);

        if (place < 0)
                return err_set(error, errno, "stage/root");
        b->root = overlay_node(b, node, error);
        return b->root >= 0 && root_attach(b->root, place, "/", error);
}

static bool pivot(RootBuild *b, GError **error) {
        if (fchdir(b->root) < 0 || sys_pivot_root(".", ".") < 0)
                return err_set(error, errno, "pivot_root");
        if (umount2(".", MNT_DETACH) < 0)
                return err_set(error, errno, "detach the host's root");
        if (chdir("/") < 0)
                return err_set(error, errno, "chdir /");
        return true;
}

bool root_build_child(const Spec *spec, const RootPlan *plan, int *ret_pty_master, GError **error) {
        RootBuild b = { .spec = spec, .plan = plan, .stage = -1, .own = -1, .root = -1, .box = -1 };
        b.read_only = spec->root.read_only || spec->root.overlay == OVERLAY_NONE;

        /* Nothing from the host arrives later, and nothing of ours goes there. */
        if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
                return err_set(error, errno, "make mounts private");
        if (!open_host(&b, error) || !make_stage(&b, error) || !build_layers(&b, error) || !mount_root(&b, error) ||
            !mount_nodes(&b, false, error) || !root_mounts_own(&b, ret_pty_master, error) || !mount_nodes(&b, true, error) ||
            !root_mounts_user(&b, error))
                return false;
        /* fds are left to close_range(2) before the payload: this process goes on as init. */
        return pivot(&b, error);
}
