/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directories that the overlays need in the box's directory on the host, before and after the run.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 3 and 11.
 *
 * upper/ is what the box wrote: in the end, and from the beginning where a box goes on. A directory of it on the way may be a symlink by then, which on the
 * host would lead anywhere: so no path is followed there, and what is made, moved or removed is so in a directory that was opened without.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sys.h"
#include "commit-journal.h"
#include "root-hooks.h"
#include "root.h"
#include "seen.h"

#define UPPER "upper/"
#define MODE_WAY ((mode_t) -1) /* way_mode() */

int root_open_beneath(int dir, const char *name, uint64_t flags) {
        return sys_openat2(dir, name, flags | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int root_dirs_parent(int box_fd, const char *path, const char **ret_name) {
        const char *slash = strrchr(path, '/');
        g_autofree char *parent = slash ? g_strndup(path, (size_t) (slash - path)) : g_strdup(".");

        *ret_name = slash ? slash + 1 : path;
        return root_open_beneath(box_fd, parent, O_PATH | O_DIRECTORY);
}

/* So that what the box makes of its mode is told from what we do. */
static bool mark_way(int dir, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dir, name);
        return lsetxattr(path, WAY_ATTRIBUTE, "y", 1, 0) == 0 || errno == EOPNOTSUPP || errno == EPERM;
}

/* What the box's root shows of a directory of upper/ where we make it: the host's mode, but for what we need of it ourselves, and for set-id bits. lower: NULL,
 * nobody sees it. */
static mode_t way_mode(const char *lower, const char *path) {
        struct stat st;

        if (!lower || !g_str_has_prefix(path, UPPER))
                return 0755;
        _cleanup_close_ int root = open(lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int dir = root < 0 ? -1 : root_open_beneath(root, path + strlen(UPPER), O_PATH | O_DIRECTORY);
        return dir >= 0 && fstat(dir, &st) == 0 ? (st.st_mode & 01777) | 0700 : 0755;
}

static bool make(const char *lower, int box_fd, const char *path, mode_t mode, GError **error) {
        const char *name;
        _cleanup_close_ int dir = root_dirs_parent(box_fd, path, &name);

        /* The directories above first; most exist already, as nodes are sorted parents first. */
        if (dir < 0 && errno == ENOENT) {
                g_autofree char *parent = g_path_get_dirname(path);
                return make(lower, box_fd, parent, MODE_WAY, error) && make(lower, box_fd, path, mode, error);
        }
        if (dir < 0)
                return err_set(error, errno, "make %s", path);
        if (mkdirat(dir, name, 0700) < 0)
                return errno == EEXIST || err_set(error, errno, "make %s", path);
        if (!mark_way(dir, name))
                return err_set(error, errno, "mark %s", path);
        if (fchmodat(dir, name, mode == MODE_WAY ? way_mode(lower, path) : mode, 0) < 0)
                return err_set(error, errno, "chmod %s", path);
        return true;
}

bool root_dirs_make(int box_fd, const char *path, mode_t mode, GError **error) {
        return make(NULL, box_fd, path, mode, error);
}

bool root_dirs_make_way(const RootPlan *plan, int box_fd, const char *path, GError **error) {
        return make(plan->lower, box_fd, path, MODE_WAY, error);
}

/* Of what the kernel's overlayfs writes there, too, usbox-fs diff is to take nothing for a mark that the command can make itself (fsoverlay/lowers.h). */
static bool mark_upper(int box_fd, GError **error) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/upper", box_fd);
        return lsetxattr(path, XATTR_FORM, "y", 1, 0) == 0 || errno == EOPNOTSUPP || fs_mark_failed(errno, error);
}

bool root_plan_make_dirs(const RootPlan *plan, int box_fd, GError **error) {
        for (const char *const *dir = (const char *const[]){ "upper", "work", "tmp", NULL }; *dir; dir++)
                if (!root_dirs_make(box_fd, *dir, g_str_equal(*dir, "tmp") ? 01777 : 0755, error))
                        return false;
        if (!plan->served && !mark_upper(box_fd, error))
                return false;
        for (guint i = 0; !plan->served && i < plan->nodes->len; i++) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if ((i > 0 && node->kind != ROOT_OVERLAY) || node->read_only)
                        continue;
                g_autofree char *upper = g_strconcat("upper/", node->path, NULL);
                g_autofree char *work = g_strdup_printf("work/%u", node->index);
                if ((i > 0 && !root_dirs_make(box_fd, upper, node->mode | 0700, error)) ||
                    !root_dirs_make(box_fd, work, 0700, error))
                        return false;
        }
        return root_hooks_make(plan, box_fd, error);
}

/* A directory that we made and the box left empty; what it changed of mode or owner goes with it. */
void root_dirs_trim(int box_fd, const char *path, FdLater *later) {
        g_autofree char *at = g_strdup(path);

        for (char *slash; (slash = strrchr(at, '/')); *slash = '\0') {
                const char *name;
                _cleanup_close_ int dir = root_dirs_parent(box_fd, at, &name);
                if (dir < 0 || fd_later_unlink(later, dir, name, AT_REMOVEDIR) < 0)
                        return;
        }
}

void root_plan_trim_dirs(const RootPlan *plan, int box_fd, FdLater *later) {
        root_hooks_trim(plan, box_fd, later);
        /* What a commit made of upper/ is looked for in them: that it is gone, no mark would tell where the host's name is hidden. */
        if (faccessat(box_fd, COMMIT_JOURNAL, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return;
        for (guint i = plan->nodes->len; i-- > 0;) {
                const RootNode *node = g_ptr_array_index(plan->nodes, i);
                if (node->kind != ROOT_OVERLAY || !*node->path || node->read_only)
                        continue;
                g_autofree char *upper = g_strconcat("upper/", node->path, NULL);
                root_dirs_trim(box_fd, upper, later);
        }
}
