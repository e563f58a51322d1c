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
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "root-build.h"
#include "root.h"

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
                upper = root_open_beneath(b->box, up, O_PATH | O_DIRECTORY);
                work = root_open_beneath(b->box, wk, O_PATH | O_DIRECTORY);
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

RootBuild *root_build_begin(const Spec *spec, const PodMounts *pod, int *ret_proc, int *ret_pty_master, GError **error) {
        RootBuild *b = g_new(RootBuild, 1);

        *b = (RootBuild){
                .spec = spec, .proc = -1, .pts = -1, .dev = -1, .stage = -1, .root = -1, .box = -1, .cgroup = -1, .host_sys = -1, .hidden_sys = -1,
                .pod = *pod, .wire = -1, .fuse = -1, .old_root = -1
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
        return root_mounts_attach_own(b, error);
}

bool root_build_finish(RootBuild *b, GError **error) {
        if (!root_mounts_attach_sys(b, error))
                return false;
        log_step("  box: /proc, /sys, /dev mounted");
        return mount_nodes(b, true, error) && root_user_mount(b, error);
}

/* fds are left to close_range(2): this process goes on as init. */
bool root_build_enter(RootBuild *b, GError **error) {
        return pivot(b, error);
}
