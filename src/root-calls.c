/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's calls for mounts, as the files that build the root use them: by descriptors, with errors that say what of.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace. Threads: one.
 * Order: step 7. Every host path is opened again here and compared with the inode that the launcher opened; every path in the
 * box is resolved beneath the new root.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "root-build.h"

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
        if (root_attach(mnt, target, path, error))
                return true;
        /* The kernel says EINVAL to that. */
        struct stat from, to;
        if (fstat(mnt, &from) == 0 && fstat(target, &to) == 0 && S_ISDIR(from.st_mode) != S_ISDIR(to.st_mode)) {
                g_clear_error(error);
                return err_set(error, S_ISDIR(to.st_mode) ? EISDIR : ENOTDIR, "%s in the box", path);
        }
        return false;
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

/* Names of descriptors, in /proc/self/fd, where this process stands (root_build_layers()). FSCONFIG_SET_FD would be a little cheaper, but
 * has the host's paths shown in the box's /proc/self/mountinfo. */
static bool set_layer(int fs, const char *key, int *fds, size_t n, GError **error) {
        g_autoptr(GString) value = g_string_new(NULL);
        for (size_t i = 0; i < n; i++)
                g_string_append_printf(value, "%s%d", i ? ":" : "", fds[i]);
        if (fsconfig(fs, FSCONFIG_SET_STRING, key, value->str, 0) == 0)
                return true;
        err_set(error, errno, "overlay %s", key);
        /* ovl_mount_dir_check(): what has names of its own, as another overlay, is no upper. */
        return errno == EINVAL && g_str_equal(key, "upperdir")
                       ? err_hint(error, "the place for boxes is on a file system that overlayfs cannot write to, as a container's root is: "
                                         "export XDG_DATA_HOME=DIR on ext4, xfs, btrfs or tmpfs (a volume)")
                       : false;
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
