/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places for mounts in the box, made only where what is made is the box's own.
 *
 * Role: child (init), in the box's mount namespace. Privileges: all capabilities of the outer user namespace. Threads: one.
 * Order: step 7, when the root stands and before pivot_root.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "root-build.h"

static bool is_own_dev(const RootBuild *b, dev_t dev) {
        for (guint i = 0; i < b->own_devs->len; i++)
                if (g_array_index(b->own_devs, dev_t, i) == dev)
                        return true;
        return false;
}

bool root_add_own(RootBuild *b, int fd, GError **error) {
        struct stat st;
        if (fstat(fd, &st) < 0)
                return err_set(error, errno, "stat");
        g_array_append_val(b->own_devs, st.st_dev);
        return true;
}

/* The mount that fd lies in; 0: nobody can say. */
static uint64_t mount_of(int fd) {
        struct statx stx;
        return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx) == 0 && stx.stx_mask & STATX_MNT_ID ? stx.stx_mnt_id : 0;
}

bool root_add_var_tmp(RootBuild *b, int mnt, GError **error) {
        b->var_tmp = mount_of(mnt);
        return b->var_tmp != 0 || err_set(error, ENOTSUP, "which mount /var/tmp is");
}

/* mkdir -p of path in the box, where the last mount on the way is one of the box's own: never on the host. */
bool root_make_place(RootBuild *b, const char *path, bool is_dir, GError **error) {
        struct stat at;

        for (const char *p = path;;) {
                const char *slash = strchr(p, '/');
                g_autofree char *head = slash ? g_strndup(path, (size_t) (slash - path)) : g_strdup(path);
                _cleanup_close_ int here = root_open_in(b->root, head, O_PATH);
                if (here < 0 && errno == ENOENT) {
                        g_autofree char *parent = g_path_get_dirname(head);
                        g_autofree char *name = g_path_get_basename(head);
                        _cleanup_close_ int dir = root_open_in(b->root, parent, O_PATH | O_DIRECTORY);
                        if (dir < 0 || fstat(dir, &at) < 0)
                                return err_set(error, errno, "/%s in the box", parent);
                        bool ours = is_own_dev(b, at.st_dev) || (b->var_tmp != 0 && mount_of(dir) == b->var_tmp);
                        if (!ours) {
                                err_set(error, ENOENT, "target /%s", path);
                                return err_hint(error, "the target lies in another mount of this box, where usbox "
                                                       "creates nothing: make "
                                                       "it there first, or choose another target");
                        }
                        if (!slash && !is_dir)
                                here = openat(dir, name, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
                        else
                                here = mkdirat(dir, name, 0755) < 0 ? -1 : 0;
                        if (here < 0)
                                return err_set(error, errno, "make /%s in the box", head);
                        if (here == 0)
                                here = -1;
                } else if (here < 0) {
                        return err_set(error, errno, "/%s in the box", head);
                }
                if (!slash)
                        return true;
                p = slash + 1;
        }
}
