/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounting the root that usbox-fs serves.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace. Threads: one. Order:
 * within root_build_finish(), in place of the overlays.
 *
 * The kernel wants /dev/fuse opened and mounted in one user namespace, so both are done here, and the descriptor goes to usbox-fs by
 * the launcher. This process keeps none: the connection must end with usbox-fs, and with it all that waits for an answer. As
 * soon as the four descriptors are sent, the next look into the root waits in the kernel until usbox-fs answers.
 */
#include <fcntl.h>
#include <sys/mount.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"
#include "root-build.h"

#define NO_FUSE "as root: modprobe fuse; in a container, or a box: give it --device /dev/fuse when it is started; without it: --overlay=kernel"

bool root_fuse_open(RootBuild *b, GError **error) {
        b->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (b->fuse < 0) {
                err_set(error, errno, "/dev/fuse");
                if (errno == EMFILE) /* no fault of the device: doctor_explain() */
                        return false;
                return err_hint(error, errno == ENOENT || errno == ENODEV || errno == ENXIO
                                               ? NO_FUSE
                                               : "as root: chmod 0666 /dev/fuse; without it: --overlay=kernel");
        }
        b->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return b->old_root >= 0 ? true : err_set(error, errno, "open /");
}

static int make_mount(const RootBuild *b, GError **error) {
        g_autofree char *fd = g_strdup_printf("%d", b->fuse), *uid = g_strdup_printf("%u", getuid()),
                        *gid = g_strdup_printf("%u", getgid());
        const char *const values[][2] = { { "source", "usbox-fs" }, { "subtype", "usbox" }, { "fd", fd },      { "rootmode", "40000" },
                                          { "user_id", uid },       { "group_id", gid },    { NULL, NULL } };
        const char *const flags[] = { "default_permissions", "allow_other", NULL };

        _cleanup_close_ int fs = fsopen("fuse", FSOPEN_CLOEXEC);
        if (fs < 0) {
                err_set(error, errno, "fuse");
                if (errno != EMFILE)
                        err_hint(error, NO_FUSE);
                return -1;
        }
        for (size_t i = 0; values[i][0]; i++)
                if (fsconfig(fs, FSCONFIG_SET_STRING, values[i][0], values[i][1], 0) < 0) {
                        err_set(error, errno, "fuse: %s=%s", values[i][0], values[i][1]);
                        return -1;
                }
        for (const char *const *flag = flags; *flag; flag++)
                if (fsconfig(fs, FSCONFIG_SET_FLAG, *flag, NULL, 0) < 0) {
                        err_set(error, errno, "fuse: %s", *flag);
                        return -1;
                }
        int mnt = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0
                          ? -1
                          : fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (b->read_only ? MOUNT_ATTR_RDONLY : 0));
        if (mnt < 0) {
                err_set(error, errno, "mount fuse");
                err_hint(error, "usbox doctor tries it for itself; without it: --overlay=kernel");
        }
        return mnt;
}

int root_fuse_mount(RootBuild *b, int lower, int layer, GError **error) {
        _cleanup_close_ int user_ns = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
        if (user_ns < 0) {
                err_set(error, errno, "/proc/self/ns/user");
                return -1;
        }
        _cleanup_close_ int mnt = make_mount(b, error);
        if (mnt < 0 || !wire_send(b->wire, WIRE_FS_FDS, NULL, (int[]){ b->fuse, lower, layer, user_ns }, 4, error))
                return -1;
        fd_closep(&b->fuse);
        return fd_steal(&mnt);
}

/* The box's root is not the mount's own, but the same directory by another inode, whose ACL the kernel keeps (lookup_root() in
 * fsoverlay/names.c): else each path from "/" on would be a request. */
bool root_fuse_second_root(RootBuild *b, int place, GError **error) {
        int root = open_tree(b->root, FS_ROOT_NAME, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (root < 0)
                return err_set(error, errno, "the root of usbox-fs");
        fd_closep(&b->root);
        b->root = root;
        return root_attach(b->root, place, "/", error);
}

bool root_fuse_open_parts(RootBuild *b, GError **error) {
        for (guint i = 0; i < b->plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(b->plan->nodes, i);
                if (node->kind != ROOT_PART)
                        continue;
                b->file_fds[i] = root_open_in(b->root, node->path, O_PATH | O_DIRECTORY);
                if (b->file_fds[i] < 0) {
                        g_autofree char *shown = err_quote(node->path);
                        return err_set(error, errno, "/%s", shown);
                }
        }
        return true;
}

/*
 * The host's tree, as usbox-fs goes on to see it by the lower root: nothing is written by it, whatever becomes of usbox-fs. What
 * was mounted below it on the host is locked to it in a new user namespace and stays in place when the tree is detached
 * (disconnect_mount(), fs/namespace.c).
 */
bool root_fuse_seal_lower(const RootBuild *b, GError **error) {
        struct mount_attr set = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };

        if (mount_setattr(b->old_root, "", AT_EMPTY_PATH | AT_RECURSIVE, &set, sizeof set) < 0)
                return err_set(error, errno, "make the host's tree read-only for usbox-fs");
        return true;
}
