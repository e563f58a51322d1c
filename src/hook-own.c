/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hooks that the box made are its own files.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: at the end, when the box is no more, behind root_hooks_take_back().
 *
 * In a tree that is written through a hook may be one more name of a file of the host's. In the box's layer it would be that file still: a box that goes
 * on without the tree could write it there. And the box can make there what marks a layer's directories and files, device 0:0 and attributes user.overlay.*:
 * in its own layer these would be usbox's word, by which a commit moves and removes what the host has.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"
#include "box-remove.h"
#include "fsoverlay/config.h"
#include "hook-own.h"

#define DEPTH_MAX 2048u /* directories in a path of PATH_MAX */
#define LIST_MAX 65536u /* XATTR_LIST_MAX */

static bool is_mark(const char *attribute) {
        return g_str_has_prefix(attribute, XATTR_PRIVATE);
}

/* Of what its owner may not write no such attribute can be taken away: then its mode is another for that long. */
static bool remove_marks(int dir, const char *name, const struct stat *st, const char *list, ssize_t n) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dir, name);
        bool shut = !(st->st_mode & S_IWUSR), ok = !shut || fchmodat(dir, name, (st->st_mode & 07777) | S_IWUSR, 0) == 0;

        for (ssize_t i = 0; ok && i < n; i += (ssize_t) strlen(list + i) + 1)
                ok = !is_mark(list + i) || lremovexattr(path, list + i) == 0 || errno == ENODATA;
        if (!shut)
                return ok;
        int errnum = errno;
        ok = fchmodat(dir, name, st->st_mode & 07777, 0) == 0 && ok;
        errno = errnum;
        return ok;
}

/* False with errno: it has marks still. */
static bool unmark(int dir, const char *name, const struct stat *st) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dir, name), *list = g_malloc(LIST_MAX);
        ssize_t n = llistxattr(path, list, LIST_MAX);

        for (ssize_t i = 0; i < n; i += (ssize_t) strlen(list + i) + 1)
                if (is_mark(list + i))
                        return remove_marks(dir, name, st, list, n);
        return n >= 0 || errno == EOPNOTSUPP;
}

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
        return st->st_nlink == 1 || copy_file(dir, name, st);
}

typedef enum {
        OWN_ALL,     /* as it was */
        OWN_DROPPED, /* something is gone; errno */
        OWN_STUCK,   /* something could not even be removed; errno */
} Own;

static Own drop(int dir, const char *name, const Spec *spec) {
        int errnum = errno;
        FdLater later = { .n = FD_LATER_MAX }; /* full: at once */
        bool gone = unlinkat(dir, name, 0) == 0 || errno == ENOENT || (errno == EISDIR && box_remove_part(&later, dir, name, spec) == 0);

        errno = errnum;
        return gone ? OWN_DROPPED : OWN_STUCK;
}

static Own own(int dir, const char *name, unsigned depth, const Spec *spec);

/* All in d, which is closed then. What is stuck may be so for want of descriptors, of which there are more where d is closed. */
static Own own_all(DIR *d, unsigned depth, const Spec *spec) {
        const struct dirent *e;
        Own ret = OWN_ALL;
        int errnum = 0;

        while (errno = 0, ret != OWN_STUCK && (e = readdir(d))) {
                Own one = g_str_equal(e->d_name, ".") || g_str_equal(e->d_name, "..") ? OWN_ALL : own(dirfd(d), e->d_name, depth + 1, spec);
                errnum = one == OWN_ALL ? errnum : errno;
                ret = MAX(ret, one);
        }
        if (ret != OWN_STUCK && errno != 0) {
                errnum = errno;
                ret = OWN_STUCK;
        }
        closedir(d);
        errno = errnum;
        return ret;
}

/* A directory that cannot be looked into may have anything in it, and goes as a whole: one that another id of the box's has shut, one too deep. */
static Own own_directory(int dir, const char *name, const struct stat *st, unsigned depth, const Spec *spec) {
        /* One that shuts its owner out, who can open it again. */
        bool shut = (st->st_mode & S_IRWXU) != S_IRWXU && fchmodat(dir, name, (st->st_mode & 07777) | S_IRWXU, 0) == 0;
        errno = ENAMETOOLONG;
        DIR *d = depth < DEPTH_MAX ? fd_open_dir(dir, name) : NULL;
        Own ret = d ? own_all(d, depth, spec) : OWN_STUCK;

        if (ret == OWN_STUCK)
                return drop(dir, name, spec);
        int errnum = errno;
        if (shut && fchmodat(dir, name, st->st_mode & 07777, 0) < 0)
                return drop(dir, name, spec);
        errno = errnum;
        return ret;
}

static Own own(int dir, const char *name, unsigned depth, const Spec *spec) {
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return drop(dir, name, spec);
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0)) /* a whiteout, which is nothing */
                return unlinkat(dir, name, 0) == 0 ? OWN_ALL : OWN_STUCK;
        if ((S_ISREG(st.st_mode) && !own_file(dir, name, &st)) || ((S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && !unmark(dir, name, &st)))
                return drop(dir, name, spec);
        return S_ISDIR(st.st_mode) ? own_directory(dir, name, &st, depth, spec) : OWN_ALL;
}

bool hook_own(int dir, const char *name, const Spec *spec) {
        return own(dir, name, 0, spec) == OWN_ALL;
}
