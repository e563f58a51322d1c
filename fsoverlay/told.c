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
 *
 * Nor is a page of what the file was to get into a copy of what it is, with a write of the box's in it. All pages that the kernel has were read when the
 * file was what Node.told_stamp says, or later; that follows once it dropped the older ones (notify.c), and until then the node is pending. Before a
 * write(2) changes the first page the kernel asks for the file's capabilities: that is answered when stale pages are gone (op_getxattr()), and so the write
 * goes into a page of the file as it is. For a page that was changed before the host's write, or through a mapping, which asks nobody, it is too late then:
 * it is refused where it differs from the copy (op_write()), and what the box wrote is lost, which fsync(2), msync(2) and close(2) say.
 */
#include <fcntl.h>
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

/*
 * What changes with the content: mtime and size, and below them ctime, since the others may be put back. That is another one, too, when a name comes or goes;
 * so in its place is 0 for a file with several names, and for one without any the other number that is no fold().
 */
uint64_t told_stamp_of(const struct stat *st) {
        uint64_t hash = mix(mix(0, nanoseconds(&st->st_mtim)), (uint64_t) st->st_size);
        uint32_t low = st->st_nlink == 1 ? fold(mix(hash, nanoseconds(&st->st_ctim))) : st->st_nlink > 1 ? 0 : 2;
        return (uint64_t) fold(hash) << 32 | low;
}

static bool same_content(uint64_t a, uint64_t b) {
        bool know_ctimes = a & 1 && b & 1;
        return know_ctimes ? a == b : a >> 32 == b >> 32;
}

FileId node_file(const Node *node) {
        return (FileId){ node->key_ino, node->key_dev, node->birth };
}

bool file_is(Fs *fs, const FileId *id, const struct stat *st, uint32_t birth) {
        return st->st_ino == id->ino && fs_dev_index(fs, st->st_dev) == id->dev && (!id->birth || !birth || id->birth == birth);
}

void told_set(Node *node, const struct stat *st) {
        atomic_store_explicit(&node->told_size, st->st_size, memory_order_relaxed);
        atomic_store_explicit(&node->told_stamp, told_stamp_of(st), memory_order_relaxed);
}

bool told_holds(const Node *node, const struct stat *st, uint32_t birth) {
        return (!node->birth || !birth || node->birth == birth) && !node_is(node, NODE_CHANGED) &&
               atomic_load_explicit(&node->told_stamp, memory_order_relaxed) == told_stamp_of(st);
}

bool told_look(Fs *fs, Node *node, const struct stat *st) {
        uint64_t now = told_stamp_of(st), told = atomic_load_explicit(&node->told_stamp, memory_order_relaxed);

        if (!same_content(told, now)) {
                node_set(node, NODE_CHANGED);
                notify_changed(fs, node);
        } else if (told != now) {
                node_set(node, NODE_CHANGED); /* first: whoever finds the new stamp is to find this as well */
                if (atomic_compare_exchange_strong(&node->told_stamp, &told, now))
                        notify_replaced(fs, node);
        }
        return !fs->writeback || st->st_size >= told_size(node);
}

uint64_t told_stamp_now(Fs *fs, Node *node) {
        struct stat st;
        Place p;
        Fd *f = node_is(node, NODE_UPPER) ? NULL : fd_opened(fs, node, false);
        bool known = f && fstat(f->fd, &st) == 0;

        fd_put(fs, f);
        if (!f) {
                pthread_rwlock_rdlock(&fs->tree);
                if (!node_is(node, NODE_UPPER) && place_get(fs, node, &p) == 0) {
                        known = lower_stat(fs, node, &p, &st) >= 0;
                        place_put(fs, &p);
                }
                pthread_rwlock_unlock(&fs->tree);
        }
        return known ? told_stamp_of(&st) : 0;
}

void told_again(Fs *fs, Node *node, const struct stat *st) {
        (void) told_look(fs, node, st);
        atomic_store_explicit(&node->told_size, st->st_size, memory_order_relaxed);
}

/*
 * Whoever reads the file by its old descriptor looks at it afterwards, and finds the node in the upper if it was so before (check_changed()): what it read
 * else, it read before we look here.
 */
void told_copied(Fs *fs, Node *node, int from, uint64_t stamp) {
        struct stat now;

        unsigned before = notify_suspect(fs, node, NODE_UPPER | NODE_FRESH);
        bool same = fstat(from, &now) == 0 && same_content(stamp, told_stamp_of(&now)) && same_content(atomic_load(&node->told_stamp), stamp);
        notify_decide(fs, node, before, !same);
}
