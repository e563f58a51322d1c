/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guards over project hooks, as mounts.
 *
 * Role: child (mount) and mender (put back). Privileges: the box's mounts. Threads: one. Order: with the source that they lie in, and while the box runs.
 *
 * A directory becomes an overlay, a file a copy in upper/ that is bound over it; with --overlay=none both are read-only. What
 * lies between (.git) is bound on itself: as a mount point it cannot be renamed away to make another in its place.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/wire.h"
#include "root-hooks.h"

/* .git bound on itself. */
static bool pin_parent(int mnt, const char *name, GError **error) {
        const char *slash = strchr(name, '/');
        if (!slash)
                return true;
        g_autofree char *parent = g_strndup(name, (size_t) (slash - name));
        _cleanup_close_ int dir = root_open_beneath(mnt, parent, O_PATH | O_DIRECTORY);
        if (dir < 0)
                return err_set(error, errno, "%s", parent);
        _cleanup_close_ int clone = root_clone(dir, true, 0, error);
        return clone >= 0 && root_attach(clone, dir, parent, error);
}

static int cover(RootBuild *b, const Hook *hook, int host, GError **error) {
        const unsigned attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

        if (b->box < 0)
                return root_clone(host, false, attrs | MOUNT_ATTR_RDONLY, error);
        g_autofree char *up = hook_copy_path(b->plan, hook, b->box), *wk = hook_work_path(b->plan, hook);
        _cleanup_close_ int upper = root_open_beneath(b->box, up, O_PATH | O_NOFOLLOW);
        _cleanup_close_ int work = hook->is_dir ? root_open_beneath(b->box, wk, O_PATH | O_DIRECTORY) : -1;
        if (upper < 0 || (hook->is_dir && work < 0)) {
                err_set(error, errno, "upper layer");
                return -1;
        }
        if (!hook->is_dir)
                return root_clone(upper, false, attrs, error);
        return root_mount_overlay(&host, 1, upper, work, false, error);
}

bool root_hooks_mount(RootBuild *b, guint number, int mnt, GError **error) {
        const MountSource *source = g_ptr_array_index(b->plan->sources, number);
        const char *pinned = "";
        bool any = false;

        for (guint i = 0; source->hooks && i < source->hooks->len; i++) {
                const Hook *hook = g_ptr_array_index(source->hooks, i);
                if (!hook->host.path)
                        continue;
                /* Both hooks of .git lie in one parent. */
                if (strncmp(hook->name, ".git/", 5) == 0 && !*pinned) {
                        if (!pin_parent(mnt, hook->name, error))
                                return false;
                        pinned = hook->name;
                }
                struct stat st;
                _cleanup_close_ int target = root_open_beneath(mnt, hook->name, O_PATH | O_NOFOLLOW);
                if (target < 0 || fstat(target, &st) < 0)
                        return err_set(error, errno, "%s", hook->name);
                if (st.st_dev != hook->host.dev || st.st_ino != hook->host.ino)
                        return err_set(error, 0, "%s is not the file that it was a moment ago", hook->name);
                _cleanup_close_ int over = cover(b, hook, target, error);
                if (over < 0 || !root_attach(over, target, hook->name, error)) {
                        g_prefix_error(error, "%s: ", hook->name);
                        return false;
                }
                any = true;
        }
        return !any || wire_send(b->wire, WIRE_GUARDED, g_variant_new("(u)", number), &mnt, 1, error);
}

static HookOutcome outcome_of(int errnum) {
        return errnum == ENOENT || errnum == ENOTDIR ? HOOK_GONE : HOOK_FAILED;
}

HookOutcome root_hooks_put_back(int box, const Hook *hook, struct stat *ret_st) {
        g_autofree char *parent = g_path_get_dirname(hook->name);
        _cleanup_close_ int dir = root_open_beneath(box, parent, O_PATH | O_DIRECTORY);

        if (dir < 0)
                return outcome_of(errno);
        if (!fd_is_mount(dir) && !pin_parent(box, hook->name, NULL))
                return HOOK_FAILED;
        _cleanup_close_ int target = root_open_beneath(box, hook->name, O_PATH | O_NOFOLLOW);
        if (target < 0)
                return outcome_of(errno);
        if (fd_is_mount(target)) /* as a guard is */
                return HOOK_GUARDED;
        if (hook_problem(target, ret_st) != 0)
                return HOOK_FAILED;
        _cleanup_close_ int guard = root_clone(target, true, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY, NULL);
        if (guard < 0 || !root_attach(guard, target, hook->name, NULL))
                return HOOK_FAILED;
        /* The host may have gone on meanwhile: then there is a change more to come for. */
        _cleanup_close_ int now = root_open_beneath(box, hook->name, O_PATH | O_NOFOLLOW);
        return now < 0 ? outcome_of(errno) : fd_is_mount(now) ? HOOK_PUT_BACK : HOOK_FAILED;
}
