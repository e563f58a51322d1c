/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mounts that the user asked for: --bind, --tmpfs, --device, --mount and the like.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace. Threads: one.
 * Order: root_user_open() while the host's tree is still in sight; root_user_mount() last, over the box's own mounts.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "root-build.h"
#include "root-hooks.h"

/* The mount of a user's source. */
static int clone_source(const MountSource *source, GError **error) {
        const MountOp *op = source->op;
        unsigned attrs = op->kind == MOUNT_DEVICE ? DEVICE_ATTRS : MOUNT_ATTR_NOSUID | (op->devices ? 0 : MOUNT_ATTR_NODEV);

        _cleanup_close_ int fd = root_open_host(&source->host, error);
        return fd < 0 ? -1 : root_clone(fd, true, attrs | (op->read_only ? MOUNT_ATTR_RDONLY : 0), error);
}

/* Clones are made here, of the host's tree as it is: a little later the stage stands in it, and a clone of what it is attached to would
 * have it in it. */
bool root_user_open(RootBuild *b, GError **error) {
        b->source_fds = g_new(int, b->plan->sources->len + 1);
        for (guint i = 0; i < b->plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(b->plan->sources, i);
                b->source_fds[i] = -1;
                if (source->skip || !source->host.path)
                        continue;
                b->source_fds[i] = clone_source(source, error);
                if (b->source_fds[i] < 0) {
                        g_autofree char *shown = err_quote(source->op->option);
                        g_prefix_error(error, "%s: ", shown);
                        return false;
                }
        }
        return true;
}

/* tmpfs for --tmpfs and --mount type=tmpfs. */
static int user_tmpfs(const MountOp *op, GError **error) {
        g_autofree char *mode = g_strdup_printf("mode=%o", op->mode ? op->mode : 0755u);
        g_autofree char *size = op->size ? g_strdup_printf("size=%" G_GUINT64_FORMAT, op->size) : NULL;
        const char *options[] = { mode, size, NULL };
        return root_mount_new("tmpfs", options, PLAIN_ATTRS | (op->read_only ? MOUNT_ATTR_RDONLY : 0), error);
}

/* A file with the caller's bytes: in the own tmpfs, bound where it is wanted. */
static int user_file(RootBuild *b, const MountSource *source, guint index, GError **error) {
        g_autofree char *name = g_strdup_printf("file%u", index);
        _cleanup_close_ int fd = openat(b->stage, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0 || !fd_write_all(fd, source->data, source->len) ||
            fchmod(fd, source->op->mode ? source->op->mode : 0644) < 0) {
                err_set(error, errno, "write file");
                return -1;
        }
        return root_clone(fd, false, PLAIN_ATTRS, error);
}

static bool user_symlink(RootBuild *b, const MountOp *op, GError **error) {
        g_autofree char *parent = g_path_get_dirname(op->dst);
        g_autofree char *name = g_path_get_basename(op->dst);
        if (parent[1] && !root_make_place(b, parent + 1, true, error))
                return false;
        _cleanup_close_ int dir = root_open_in(b->root, parent, O_PATH | O_DIRECTORY);
        if (dir < 0 || symlinkat(op->src, dir, name) < 0)
                return err_set(error, errno, "symlink");
        return true;
}

static bool mount_one(RootBuild *b, const MountSource *source, guint index, GError **error) {
        const MountOp *op = source->op;
        _cleanup_close_ int mnt = -1;

        switch (op->kind) {
        case MOUNT_BIND:
        case MOUNT_DEVICE:
                mnt = fd_steal(&b->source_fds[index]);
                break;
        case MOUNT_TMPFS:
                mnt = user_tmpfs(op, error);
                if (mnt >= 0 && !root_add_own(b, mnt, error))
                        return false;
                break;
        case MOUNT_PROC:
                mnt = root_mount_bare_proc(b, error);
                break;
        case MOUNT_DEVPTS:
                mnt = root_mount_devpts(b, error);
                break;
        case MOUNT_MQUEUE:
                mnt = root_mount_new("mqueue", NULL, KERNEL_ATTRS, error);
                break;
        case MOUNT_FILE:
                mnt = user_file(b, source, index, error);
                break;
        case MOUNT_SYMLINK:
                return source->planned || user_symlink(b, op, error);
        }
        if (mnt < 0)
                return false;
        /* "/" itself (--bind X /) is no use: the root stands already. */
        return root_make_place(b, op->dst + 1, source->is_dir, error) && root_attach_at(b, mnt, op->dst, error) &&
               root_hooks_mount(b, index, mnt, error);
}

bool root_user_mount(RootBuild *b, GError **error) {
        for (guint i = 0; i < b->plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(b->plan->sources, i);
                if (source->skip)
                        continue;
                if (!mount_one(b, source, i, error)) {
                        g_autofree char *shown = err_quote(source->op->option);
                        g_prefix_error(error, "%s: ", shown);
                        return false;
                }
        }
        return true;
}
