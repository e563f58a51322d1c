/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the changes of a box take of its limit (--disk), change by change.
 *
 * Role: usbox-fs. Privileges: the caller's. Threads: any; two changes of one directory's names never go on at once (create.c, remove.c and
 * copyup.c hold what keeps them apart), so that its growth is that of one of them.
 *
 * A file's blocks are what the file system says, before and after. So the sum stays what quota_count() finds at the next start.
 */
#include <poll.h>

#include "fsoverlay/fs.h"

/*
 * That nobody has an unlinked file open any more is said by the kernel's FORGET, which comes soon after the unlink, but behind it: a
 * program that makes room and writes at once is not to be told that there is none.
 */
#define FORGET_MS 200

bool usage_reserve(Fs *fs, guint64 bytes) {
        for (int ms = 0; !quota_reserve(fs->quota, bytes); ms++) {
                if (ms == FORGET_MS || atomic_load(&fs->n_nameless) == 0)
                        return false;
                (void) poll(NULL, 0, 1);
        }
        return true;
}

Growth growth_begin(Fs *fs, int fd) {
        struct stat st;

        if (!fs->quota || fd < 0 || fstat(fd, &st) < 0)
                return (Growth){ .fd = -1 };
        return (Growth){ fd, st.st_blocks };
}

void growth_end(Fs *fs, const Growth *growth) {
        struct stat st;

        if (growth->fd >= 0 && fstat(growth->fd, &st) == 0)
                quota_adjust(fs->quota, (gint64) (st.st_blocks - growth->before) * 512);
}

void usage_add(Fs *fs, const struct stat *st) {
        quota_adjust(fs->quota, (gint64) st->st_blocks * 512);
}

void usage_drop(Fs *fs, const struct stat *st) {
        quota_release(fs->quota, (guint64) st->st_blocks * 512);
}
