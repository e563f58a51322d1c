/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much disk a box takes.
 *
 * Role: verbs. Privileges: the caller's. Threads: one. What it walks was made by the box: no symlink is followed, no depth is trusted.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "box-usage.h"

/* One descriptor and one frame of the stack each: a deeper tree is an attack, and not counted to its bottom. */
#define DEPTH_MAX 256

static guint64 usage_below(int parent, const char *name, int depth) {
        DIR *d = fd_open_dir(parent, name);
        guint64 bytes = 0;

        if (!d)
                return 0;
        for (struct dirent *e; (e = readdir(d));) {
                struct stat st;
                bool up = e->d_name[0] == '.' && (e->d_name[1] == '\0' || (e->d_name[1] == '.' && e->d_name[2] == '\0'));
                if (up || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                bytes += (guint64) st.st_blocks * 512;
                if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
                        bytes += usage_below(dirfd(d), e->d_name, depth + 1);
        }
        closedir(d);
        return bytes;
}

guint64 box_usage(const char *dir) {
        return dir ? usage_below(AT_FDCWD, dir, 0) : 0;
}
