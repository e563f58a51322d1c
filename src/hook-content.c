/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is in files of project hooks: see hook-content.h.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: under hook-walk.c and hook-nested.c.
 *
 * Where a disk's file system keeps the inodes, nobody writes a file without a new ctime. Not so elsewhere: tmpfs hears nothing of what is written to a page
 * that was mapped (mmap(2)) and read before, nor does an overlay whose upper layer is on one; FAT takes the time of the contents for it, which anybody sets;
 * a server may do what it likes.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "hook-content.h"

bool hook_content_counts(int fd) {
        static const guint32 types[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return true;
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
                if ((guint32) fs.f_type == types[i])
                        return false;
        return true;
}

/* By others than this box the name may have become anything meanwhile: nothing here waits for it. False: it cannot be read. */
static bool sum_up(int dir, const char *name, gsize *ret_len, uint8_t ret[static 32]) {
        _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
        gsize len = 32;
        struct stat st;
        uint8_t buf[16384];
        ssize_t n = 0;

        *ret_len = 0;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return false;
        while (*ret_len < HOOK_CONTENT_ONE && (n = TEMP_FAILURE_RETRY(read(fd, buf, MIN(sizeof buf, HOOK_CONTENT_ONE - *ret_len)))) > 0) {
                g_checksum_update(sum, buf, n);
                *ret_len += (gsize) n;
        }
        g_checksum_get_digest(sum, ret, &len);
        return n >= 0;
}

bool hook_content_note(int dir, const char *name, gsize *left, HookContent *ret) {
        gsize len;

        *ret = (HookContent){ 0 };
        if (*left == 0)
                return false;
        ret->known = sum_up(dir, name, &len, ret->sum);
        *left -= MIN(len, *left);
        return true;
}

bool hook_content_is_same(int dir, const char *name, const HookContent *then) {
        uint8_t now[32];
        gsize len;

        return !then->known || (sum_up(dir, name, &len, now) && memcmp(now, then->sum, sizeof now) == 0);
}
