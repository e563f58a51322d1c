/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hooks that the box made are its own files.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: at the end, when the box is no more, behind root_hooks_take_back().
 *
 * In a tree that is written through a hook may be one more name of a file of the host's. In the box's layer it would be that file still: a box that goes
 * on without the tree could write it there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"
#include "hook-own.h"

#define DEPTH_MAX 2048u /* directories in a path of PATH_MAX */

static bool copy_file(int dir, const char *name, const struct stat *st) {
        const struct timespec times[2] = { st->st_atim, st->st_mtim };
        char self[32];

        _cleanup_close_ int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        _cleanup_close_ int to = from < 0 ? -1 : openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (to < 0)
                return false;
        int r = copy_data(from, to, st->st_size, true);
        if (r < 0) {
                errno = -r;
                return false;
        }
        (void) snprintf(self, sizeof self, "/proc/self/fd/%d", to);
        return fchmod(to, st->st_mode & 0777) == 0 && futimens(to, times) == 0 && unlinkat(dir, name, 0) == 0 &&
               linkat(AT_FDCWD, self, dir, name, AT_SYMLINK_FOLLOW) == 0;
}

static bool own_file(int dir, const char *name, const struct stat *st) {
        if (st->st_nlink == 1 || copy_file(dir, name, st))
                return true;
        int errnum = errno;
        (void) unlinkat(dir, name, 0);
        errno = errnum;
        return false;
}

static bool own(int dir, const char *name, unsigned depth);

static bool own_below(int dir, const char *name, unsigned depth) {
        DIR *d = depth < DEPTH_MAX ? fd_open_dir(dir, name) : NULL;
        int errnum = 0;

        if (!d)
                return false;
        for (const struct dirent *e; (e = readdir(d));)
                if (!g_str_equal(e->d_name, ".") && !g_str_equal(e->d_name, "..") && !own(dirfd(d), e->d_name, depth + 1))
                        errnum = errno;
        closedir(d);
        errno = errnum;
        return errnum == 0;
}

static bool own(int dir, const char *name, unsigned depth) {
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return false;
        if (S_ISREG(st.st_mode))
                return own_file(dir, name, &st);
        if (!S_ISDIR(st.st_mode))
                return true;
        /* One that shuts its owner out, who can open it again. */
        bool shut = (st.st_mode & S_IRWXU) != S_IRWXU && fchmodat(dir, name, (st.st_mode & 07777) | S_IRWXU, 0) == 0;
        bool ok = own_below(dir, name, depth);
        int errnum = errno;
        if (shut && fchmodat(dir, name, st.st_mode & 07777, 0) < 0)
                return false;
        errno = errnum;
        return ok;
}

bool hook_own(int dir, const char *name) {
        return own(dir, name, 0);
}
