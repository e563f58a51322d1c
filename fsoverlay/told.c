/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lower files may change under the box: which file a node is of, and what of it the kernel was told.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any.
 *
 * A node is of one file for as long as it lives. The inode number does not say which: ext4 and others give that of a removed file to the next one
 * that is made. The time of its making tells the two apart, where the file system keeps it.
 *
 * The kernel takes a file's size from the first answer that it gets for a node, and keeps to it (writeback cache: fuse_change_attributes(),
 * fs/fuse/inode.c). Under another size new bytes would be cut off, or followed by zeros. So a file that is not any more what the kernel was told of
 * it gets another node when its name is looked up again, and who has it open goes on with the old one, as far as that can be right.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fsoverlay/fs.h"

#define MIX_A 0x9E3779B97F4A7C15ull
#define MIX_B 0xC2B2AE3D27D4EB4Full

static uint64_t mix(uint64_t hash, uint64_t value) {
        hash = (hash ^ value) * MIX_A;
        return (hash ^ hash >> 32) * MIX_B;
}

static uint64_t nanoseconds(const struct timespec *t) {
        return (uint64_t) t->tv_sec * 1000000000u + (uint64_t) t->tv_nsec;
}

/* Not 0, which stands for nothing. */
static uint32_t fold(uint64_t hash) {
        return (uint32_t) (hash >> 32) | 1;
}

int stat_born(int dir, const char *name, struct stat *ret, uint32_t *ret_birth) {
        const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
        struct statx stx;

        if (statx(dir, name, flags, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
                return -1;
        *ret = (struct stat){
                .st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
                .st_ino = stx.stx_ino,
                .st_mode = stx.stx_mode,
                .st_nlink = stx.stx_nlink,
                .st_uid = stx.stx_uid,
                .st_gid = stx.stx_gid,
                .st_rdev = makedev(stx.stx_rdev_major, stx.stx_rdev_minor),
                .st_size = (off_t) stx.stx_size,
                .st_blksize = (blksize_t) stx.stx_blksize,
                .st_blocks = (blkcnt_t) stx.stx_blocks,
                .st_atim = { stx.stx_atime.tv_sec, stx.stx_atime.tv_nsec },
                .st_mtim = { stx.stx_mtime.tv_sec, stx.stx_mtime.tv_nsec },
                .st_ctim = { stx.stx_ctime.tv_sec, stx.stx_ctime.tv_nsec },
        };
        const struct timespec born = { stx.stx_btime.tv_sec, stx.stx_btime.tv_nsec };
        *ret_birth = stx.stx_mask & STATX_BTIME ? fold(mix(0, nanoseconds(&born))) : 0;
        return 0;
}

/* What changes with the content. Times may be put back, but for ctime; of a file with several names that changes with their number, too. */
static uint32_t stamp_of(const struct stat *st) {
        uint64_t hash = mix(mix(0, nanoseconds(&st->st_mtim)), (uint64_t) st->st_size);
        return fold(st->st_nlink == 1 ? mix(hash, nanoseconds(&st->st_ctim)) : hash);
}

FileId node_file(const Node *node) {
        return (FileId){ node->key_ino, node->key_dev, node->birth };
}

bool file_is(Fs *fs, const FileId *id, const struct stat *st, uint32_t birth) {
        return st->st_ino == id->ino && fs_dev_index(fs, st->st_dev) == id->dev && (!id->birth || !birth || id->birth == birth);
}

void told_set(Node *node, const struct stat *st) {
        atomic_store_explicit(&node->told_size, st->st_size, memory_order_relaxed);
        atomic_store_explicit(&node->told_stamp, stamp_of(st), memory_order_relaxed);
}

bool told_holds(const Node *node, const struct stat *st, uint32_t birth) {
        return (!node->birth || !birth || node->birth == birth) && !node_is(node, NODE_CHANGED) &&
               atomic_load_explicit(&node->told_stamp, memory_order_relaxed) == stamp_of(st);
}

bool told_look(Fs *fs, Node *node, const struct stat *st) {
        uint32_t now = stamp_of(st);

        if (atomic_load_explicit(&node->told_stamp, memory_order_relaxed) != now) {
                node_set(node, NODE_CHANGED); /* first: whoever finds the new stamp is to find this as well */
                if (atomic_exchange(&node->told_stamp, now) != now)
                        notify_changed(fs, node);
        }
        return !fs->writeback || st->st_size >= told_size(node);
}

void told_again(Fs *fs, Node *node, const struct stat *st) {
        (void) told_look(fs, node, st);
        atomic_store_explicit(&node->told_size, st->st_size, memory_order_relaxed);
}
