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
 * overlayfs as names in /proc/self/fd: no name is resolved twice, and no name needs escaping.
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
#include "root-build.h"
#include "root.h"

int root_open_host(const HostPath *host, GError **error) {
        struct stat st;
        _cleanup_close_ int fd =
                sys_openat2(AT_FDCWD, host->path, O_PATH | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);

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
                int r = equals ? fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0)
                               : fsconfig(fs, FSCONFIG_SET_FLAG, *option, NULL, 0);
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
static int open_made_dirs(int dir, const char *path, mode_t mode) {
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

/* The same where the directory itself is not needed. Nearly always its parent is there already. */
static bool make_dirs(int dir, const char *path, mode_t mode) {
        if (mkdirat(dir, path, mode) == 0)
                return mode == 0755 ||
                       fchmodat(dir, path, mode, 0) == 0; /* what the umask took away, and the sticky bit */
        if (errno == EEXIST)
                return true;
        _cleanup_close_ int made = errno == ENOENT ? open_made_dirs(dir, path, mode) : -1;
        return made >= 0;
}

static bool make_parents(int dir, const char *path) {
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash ? g_strndup(path, (size_t) (slash - path)) : NULL;
        return !parent || make_dirs(dir, parent, 0755);
}

static bool make_file(int dir, const char *path, const char *data, size_t len, mode_t mode) {
        if (!make_parents(dir, path))
                return false;
        _cleanup_close_ int fd = openat(dir, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_TRUNC | O_CLOEXEC, mode);
        return fd >= 0 && fchmod(fd, mode) == 0 && (len == 0 || fd_write_all(fd, data, len));
}

/* A symlink or a whiteout; what stands there already stays. */
static bool make_symlink(int dir, const char *path, const char *target) {
        return make_parents(dir, path) && (symlinkat(target, dir, path) == 0 || errno == EEXIST);
}

static bool make_whiteout(int dir, const char *path) {
        /* overlayfs's form; mknod(2) of just this device is allowed without CAP_MKNOD since 5.8 */
        return make_parents(dir, path) && (mknodat(dir, path, S_IFCHR, makedev(0, 0)) == 0 || errno == EEXIST);
}

/*
 * What the box's own layer adds to a root that shows true owners is the system's: root's, where the box has such an id. And what
 * it has in common with the host is whose it is there: an id that the box has not shows as this one here, and is the system's
 * by the same rule.
 */
#define OVERFLOW_ID 65534u

static bool has_root_id(const RootBuild *b) {
        guint32 host;
        return b->plan->served && user_map_to_host(b->spec->user.uidmap, 0, &host) && user_map_to_host(b->spec->user.gidmap, 0, &host);
}

static bool give_to(const RootBuild *b, int layer, const char *path, uid_t uid, gid_t gid) {
        return !has_root_id(b) || fchownat(layer, path, uid == OVERFLOW_ID ? 0 : uid, gid == OVERFLOW_ID ? 0 : gid,
                                           AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0;
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
static bool copy_modes(const RootBuild *b, const RootNode *node, int layer, const char *rest) {
        if (!node->host.path)
                return true;
        for (const char *slash = strchr(rest, '/'); slash; slash = strchr(slash + 1, '/')) {
                g_autofree char *part = g_strndup(rest, (size_t) (slash - rest));
                g_autofree char *host = g_strconcat(node->host.path, "/", part, NULL);
                struct stat st;
                if (stat(host, &st) == 0 && S_ISDIR(st.st_mode) &&
                    (!give_to(b, layer, part, st.st_uid, st.st_gid) || fchmodat(layer, part, st.st_mode & 0777, 0) < 0))
                        return false;
        }
        return true;
}

/* The top of the layer over a root that is one whole. */
static bool dress_root(const RootBuild *b, const RootNode *root, int layer) {
        struct stat st;
        _cleanup_close_ int dir = openat(layer, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return dir >= 0 && fstat(b->host_fds[root->index], &st) == 0 && give_to(b, dir, "", st.st_uid, st.st_gid) &&
               fchmod(dir, st.st_mode & 0777) == 0;
}

/* The directory of a carrier's layer, made when it is first needed. b->layer_fds[0] is the skeleton's. */
int root_layer_dir(RootBuild *b, const RootNode *carrier) {
        unsigned i = carrier->kind == ROOT_OVERLAY ? carrier->index : 0;
        char name[16];

        if (b->layer_fds[i] < 0) {
                layer_name(carrier, name);
                if (i > 0 && !make_dirs(b->stage, name, carrier->mode))
                        return -1;
                b->layer_fds[i] = openat(b->stage, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        return b->layer_fds[i];
}

/* The place of a node in the node above it: what it is mounted on, or all that it is. */
static bool make_place(RootBuild *b, const RootNode *node) {
        const char *slash = strrchr(node->path, '/');
        g_autofree char *parent = g_strndup(node->path, slash ? (size_t) (slash - node->path) : 0);
        const RootNode *above = root_plan_carrier(b->plan, parent);

        if ((above->kind == ROOT_OVERLAY && !above->has_layer) || node->kind == ROOT_PART)
                return true; /* the host's directory has it */
        int layer = root_layer_dir(b, above);
        const char *rest = below_node(above, node->path);
        bool ok = layer >= 0;
        if (node->kind == ROOT_SYMLINK)
                ok = ok && make_symlink(layer, rest, node->target);
        else if (node->kind == ROOT_FILE)
                ok = ok && make_file(layer, rest, NULL, 0, node->mode);
        else
                ok = ok && make_dirs(layer, rest, node->mode);
        return ok && copy_modes(b, above, layer, rest);
}

static bool make_entry(RootBuild *b, const LayerEntry *entry) {
        const RootNode *carrier = root_plan_carrier(b->plan, entry->path);
        int layer = root_layer_dir(b, carrier);
        const char *rest = below_node(carrier, entry->path);
        bool ok = layer >= 0;

        if (entry->kind == LAYER_DIR)
                ok = ok && make_dirs(layer, rest, entry->mode);
        else if (entry->kind == LAYER_FILE)
                ok = ok && make_file(layer, rest, entry->data, entry->len, entry->mode);
        else
                ok = ok && make_whiteout(layer, rest);
        return ok && copy_modes(b, carrier, layer, rest) && (entry->kind != LAYER_FILE || give_to(b, layer, rest, 0, entry->gid));
}

/* The box's own layers: the skeleton in stage/root, and what lies over the host's files in stage/lN. */
bool root_layers_make(RootBuild *b, GError **error) {
        const RootPlan *plan = b->plan;

        if (plan->served) {
                const RootNode *root = g_ptr_array_index(plan->nodes, 0);
                int layer = root_layer_dir(b, root);
                if (layer < 0 || !dress_root(b, root, layer))
                        return err_set(error, errno, "layer of /");
        }
        for (guint i = 1; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (!make_place(b, node))
                        return err_set(error, errno, "place for /%s", node->path);
        }
        for (guint i = 0; i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->has_layer && root_layer_dir(b, node) < 0)
                        return err_set(error, errno, "layer of /%s", node->path);
        }
        for (guint i = 0; i < plan->entries->len; i++) {
                const LayerEntry *entry = g_ptr_array_index(plan->entries, i);
                if (!make_entry(b, entry))
                        return err_set(error, errno, "layer entry /%s", entry->path);
        }
        return true;
}

/* Names of descriptors, in /proc/self/fd, where this process stands (root_build_layers()). FSCONFIG_SET_FD would be a little cheaper, but
 * has the host's paths shown in the box's /proc/self/mountinfo. */
static bool set_layer(int fs, const char *key, int *fds, size_t n, GError **error) {
        g_autoptr(GString) value = g_string_new(NULL);
        for (size_t i = 0; i < n; i++)
                g_string_append_printf(value, "%s%d", i ? ":" : "", fds[i]);
        if (fsconfig(fs, FSCONFIG_SET_STRING, key, value->str, 0) < 0)
                return err_set(error, errno, "overlay %s", key);
        return true;
}

/*
 * An overlay of the fds in lower (topmost first) and, where upper >= 0, a writable upper. It is "volatile": without that the kernel
 * writes the whole host file system out when the box ends (sync_filesystem() of the upper's, ovl_sync_fs()), which takes as
 * long as others' dirty pages do. The price: fsync(2) in the box does nothing, and a box does not survive a power cut.
 */
int root_mount_overlay(int *lower, size_t n_lower, int upper, int work, bool read_only, GError **error) {
        _cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);
        if (fs < 0) {
                err_set(error, errno, "overlayfs");
                err_hint(error, "load it as root: modprobe overlay; --overlay=none needs it too, for all but programs "
                                "and libraries");
                return -1;
        }
        if (fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0 ||
            (upper >= 0 && fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)) {
                err_set(error, errno, "overlayfs option userxattr");
                err_hint(error, "usbox needs Linux 5.12 or later");
                return -1;
        }
        if (!set_layer(fs, "lowerdir", lower, n_lower, error) ||
            (upper >= 0 &&
             (!set_layer(fs, "upperdir", &upper, 1, error) || !set_layer(fs, "workdir", &work, 1, error))))
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
        bool has_upper = b->box >= 0 && !node->read_only;
        _cleanup_close_ int empty = -1, upper = -1, work = -1;

        /* An overlay also keeps sockets and FIFOs of the host from being used: programs and libraries are none, and from a bind mount
         * they start faster, since the kernel knows their names already. */
        if (node->packaged && !node->has_layer && (b->read_only || !has_upper))
                return root_clone(b->host_fds[node->index], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
        if (node->kind == ROOT_DIR || node->has_layer) {
                lower[n++] = root_layer_dir(b, node);
        } else if (!has_upper) {
                /* overlayfs wants company for a lower without upper: an empty one. */
                empty = openat(b->stage, "empty", O_PATH | O_DIRECTORY | O_CLOEXEC);
                lower[n++] = empty;
        }
        if (node->host.path)
                lower[n++] = b->host_fds[node->index];
        if (has_upper) {
                g_autofree char *up = g_strconcat("upper/", node->path, NULL);
                g_autofree char *wk = g_strdup_printf("work/%u", node->index);
                upper = openat(b->box, up, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                work = openat(b->box, wk, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (upper < 0 || work < 0) {
                        err_set(error, errno, "upper layer");
                        return -1;
                }
        } else if (n == 1) { /* a layer of ours alone, read-only: no overlay is needed */
                return root_clone(lower[0], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
        }
        return root_mount_overlay(lower, n, upper, work, b->read_only || !has_upper, error);
}

/* Some file systems cannot be a layer (vfat on /boot/efi: names without case, ovl_dentry_weird()): those are read-only in the box. */
static int overlay_or_bind(RootBuild *b, const RootNode *node, GError **error) {
        g_autoptr(GError) failure = NULL;
        int mnt = overlay_node(b, node, &failure);

        if (mnt < 0 && err_get_errno(failure) == EINVAL && node->host.path && !node->has_layer) {
                g_autofree char *shown = err_quote(node->path);
                log_note("/%s is of a file system that cannot be copied on write: it is read-only in the box", shown);
                return root_clone(b->host_fds[node->index], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
        }
        if (mnt < 0)
                g_propagate_error(error, g_steal_pointer(&failure));
        return mnt;
}

/* In two turns: those in places that the box's own mounts cover (the working directory in /tmp) come after those mounts. */
static bool mount_nodes(RootBuild *b, bool in_own, GError **error) {
        for (guint i = 1; i < b->plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(b->plan->nodes, i);
                _cleanup_close_ int mnt = -1;

                if (node->kind == ROOT_DIR || node->kind == ROOT_SYMLINK || root_plan_is_own(node->path) != in_own)
                        continue;
                if (in_own && !root_make_place(b, node->path, node->kind != ROOT_FILE, error))
                        return false;
                if (node->kind == ROOT_PART)
                        mnt = root_clone(b->file_fds[i], false, 0, error);
                else if (node->kind == ROOT_FILE)
                        mnt = root_clone(b->file_fds[i], false, PLAIN_ATTRS | MOUNT_ATTR_RDONLY, error);
                else
                        mnt = overlay_or_bind(b, node, error);
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
        b->layer_fds = g_new(int, n + 1);
        for (unsigned i = 0; i <= n; i++)
                b->layer_fds[i] = -1;
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
        return (!b->plan->served || root_fuse_open(b, error)) && root_user_open(b, error) && root_mounts_open(b, error);
}

/*
 * One tmpfs for the layers and for all that the box has in memory: one file system is made, its parts are bound. The box
 * sees of it just the parts.
 */
static bool make_stage(RootBuild *b, GError **error) {
        const char *options[] = { "mode=755", NULL };
        b->stage = root_mount_new("tmpfs", options, PLAIN_ATTRS, error);
        b->own_devs = g_array_new(FALSE, FALSE, sizeof(dev_t));
        if (b->stage < 0 || !root_add_own(b, b->stage, error))
                return false;

        /* Attached on a host directory of this mount namespace, which nobody else sees; overlayfs takes no layer from a mount that is
         * attached nowhere (before 6.15). In places that are the box's own, of which nothing is needed from the host: neither by the
         * plan, nor by the payload's process, nor by usbox-fs, which must not meet what is there until the old root is detached and then is not. */
        static const char *const places[] = { "/sys/kernel", "/dev/pts", "/dev/mqueue", "/proc/fs", NULL };
        const char *const *place = places;
        while (*place && move_mount(b->stage, "", AT_FDCWD, *place, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                place++;
        if (!*place)
                return err_set(error, errno, "attach the stage");
        for (const char *const *dir = (const char *const[]){ "root", "empty", NULL }; *dir; dir++)
                if (mkdirat(b->stage, *dir, 0755) < 0)
                        return err_set(error, errno, "stage/%s", *dir);
        return true;
}

/* The root mount itself, on stage/root's place, so that it can be pivoted into. */
static bool mount_root(RootBuild *b, GError **error) {
        const RootNode *node = g_ptr_array_index(b->plan->nodes, 0);
        _cleanup_close_ int place = openat(b->stage, "root", O_PATH | O_CLOEXEC);

        if (place < 0)
                return err_set(error, errno, "stage/root");
        b->root = b->plan->served ? root_fuse_mount(b, b->host_fds[node->index], root_layer_dir(b, node), error) : overlay_node(b, node, error);
        if (b->root < 0 || !root_attach(b->root, place, "/", error))
                return false;
        return !b->plan->served || root_fuse_second_root(b, place, error);
}

static bool pivot(RootBuild *b, GError **error) {
        if (fchdir(b->root) < 0 || sys_pivot_root(".", ".") < 0)
                return err_set(error, errno, "pivot_root");
        if (b->plan->served && !root_fuse_seal_lower(b, error))
                return false;
        if (umount2(".", MNT_DETACH) < 0)
                return err_set(error, errno, "detach the host's root");
        if (chdir("/") < 0)
                return err_set(error, errno, "chdir /");
        return true;
}

RootBuild *root_build_begin(const Spec *spec, int *ret_proc, int *ret_pty_master, GError **error) {
        RootBuild *b = g_new(RootBuild, 1);

        *b = (RootBuild){
                .spec = spec, .proc = -1, .pts = -1, .dev = -1, .stage = -1, .root = -1, .box = -1, .cgroup = -1, .host_sys = -1,
                .wire = -1, .fuse = -1, .old_root = -1
        };
        b->sysfs_of_host = spec->net.mode == NET_HOST;
        b->proc_of_host = spec->namespaces.pid_host;
        b->read_only = spec->root.read_only || spec->root.overlay == OVERLAY_NONE;
        /* Nothing from the host arrives later, and nothing of ours goes there. */
        if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
                err_set(error, errno, "make mounts private");
        else if (root_mounts_begin(b, ret_pty_master, error)) {
                *ret_proc = b->proc;
                return b;
        }
        g_free(b); /* this process ends: its descriptors with it */
        return NULL;
}

/* What is cloned of the host with all that is mounted below must not have the stage in it: then that comes first. */
static bool clones_host_trees(const RootBuild *b) {
        return b->sysfs_of_host || b->spec->mount.ops->len > 0;
}

void root_build_take_cgroup(RootBuild *b, int fd) {
        b->cgroup = fd;
}

bool root_build_own(RootBuild *b, GError **error) {
        return clones_host_trees(b) || (make_stage(b, error) && root_mounts_own(b, error));
}

bool root_build_layers(RootBuild *b, const RootPlan *plan, GError **error) {
        b->plan = plan;
        if (chdir("/proc/self/fd") < 0)
                return err_set(error, errno, "/proc/self/fd");
        if (!open_host(b, error) || (b->stage < 0 && !(make_stage(b, error) && root_mounts_own(b, error))) || !root_layers_make(b, error))
                return false;
        log_step("  box: layers made");
        return true;
}

bool root_build_tree(RootBuild *b, int wire, GError **error) {
        b->wire = wire;
        if (!mount_root(b, error) || (b->plan->served ? !root_fuse_open_parts(b, error) : !mount_nodes(b, false, error)))
                return false;
        log_step("  box: root mounted");
        return true;
}

bool root_build_finish(RootBuild *b, GError **error) {
        if (!root_mounts_attach_own(b, error))
                return false;
        log_step("  box: /proc, /sys, /dev mounted");
        if (!mount_nodes(b, true, error) || !root_user_mount(b, error))
                return false;
        /* fds are left to close_range(2): this process goes on as init. */
        return pivot(b, error);
}
