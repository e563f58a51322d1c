/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is known of a file without its content: getattr, setattr, readlink, statfs.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fsoverlay/ops.h"

#define FOREVER (10ull * 365 * 86400) /* seconds */

void attr_fill(Fs *fs, const Node *node, const struct stat *st, struct fuse_attr *ret) {
        *ret = (struct fuse_attr){
                .ino = node->ino,
                .size = (uint64_t) st->st_size,
                .blocks = (uint64_t) st->st_blocks,
                .atime = (uint64_t) st->st_atim.tv_sec,
                .mtime = (uint64_t) st->st_mtim.tv_sec,
                .ctime = (uint64_t) st->st_ctim.tv_sec,
                .atimensec = (uint32_t) st->st_atim.tv_nsec,
                .mtimensec = (uint32_t) st->st_mtim.tv_nsec,
                .ctimensec = (uint32_t) st->st_ctim.tv_nsec,
                .mode = st->st_mode,
                .nlink = (uint32_t) st->st_nlink,
                .uid = ids_uid_out(&fs->ids, st->st_uid),
                .gid = ids_group_out(&fs->ids, st),
                /* The protocol has the kernel's own 32 bit form (new_encode_dev(), linux/kdev_t.h). */
                .rdev = (uint32_t) ((minor(st->st_rdev) & 0xff) | (major(st->st_rdev) << 8) | ((minor(st->st_rdev) & ~0xffu) << 12)),
                .blksize = 4096,
        };
}

uint64_t entry_valid(const Fs *fs, const Node *node) {
        /* What is in the upper changes by us alone. */
        if (!fs->strict || (node && node_is(node, NODE_UPPER) && (!S_ISDIR(node_type(node)) || !dir_has_lower(node))))
                return FOREVER;
        return 0;
}

void count_links(Fs *fs, const Node *node, struct stat *st) {
        if (S_ISDIR(node_type(node))) {
                if (dir_has_lower(node))
                        st->st_nlink = 1; /* nobody counts: what find(1) and others expect of such file systems */
                if (node_is(node, NODE_NAMELESS))
                        st->st_nlink = 0;
                return;
        }
        if (node_is(node, NODE_INDEXED)) {
                st->st_nlink = st->st_nlink - 1 + (nlink_t) links_number(fs, LINKS_LEFT, node->ino);
        } else if (!node_is(node, NODE_UPPER)) {
                unsigned gone = node_is(node, NODE_NAMELESS) && st->st_nlink == 1 ? 1 : st->st_nlink > 1 ? links_removed(fs, node->ino) : 0;
                st->st_nlink = st->st_nlink > gone ? st->st_nlink - gone : 0;
        }
}

static void root_owner(Fs *fs, struct stat *st) {
        struct stat host;
        if (fstat(fs->layers[fs->n_layers - 1].root, &host) < 0)
                return;
        st->st_uid = host.st_uid;
        st->st_gid = host.st_gid;
        st->st_mode = host.st_mode;
}

int lower_stat(Fs *fs, Node *node, const Place *p, struct stat *ret) {
        const FileId id = node_file(node);
        uint32_t birth;

        if (stat_born(p->dir < 0 ? p->fd : p->dir, p->dir < 0 ? "" : p->name, ret, &birth) < 0)
                return errno == EACCES ? place_stat(fs, p, ret) : -errno;
        if (!file_is(fs, &id, ret, birth)) {
                Fd *f = fd_opened(fs, node, false);
                int r = !f || fstat(f->fd, ret) < 0 ? -ESTALE : 1;
                fd_put(fs, f);
                return r;
        }
        return 0;
}

int node_stat(Fs *fs, Node *node, struct stat *ret) {
        Place p;
        int r = place_get(fs, node, &p);

        if (r < 0)
                return r;
        bool lower = !node_is(node, NODE_UPPER) && !S_ISDIR(node_type(node));
        r = lower ? MIN(lower_stat(fs, node, &p, ret), 0) : place_stat(fs, &p, ret);
        if (r == 0 && (ret->st_mode & S_IFMT) != node_type(node))
                r = -ESTALE; /* another file there now */
        if (r == 0 && lower && !fs->writeback)
                told_again(fs, node, ret);
        if (r == 0) {
                count_links(fs, node, ret);
                if (node == fs->root && fs->root_like_lower)
                        root_owner(fs, ret);
                else if (node_is(node, NODE_UPPER))
                        stat_owner(fs, &p, ret);
        }
        place_put(fs, &p);
        return r == -ENOENT || r == -ENOTDIR ? -ESTALE : r;
}

static int reply_attr(Request *r, const struct stat *st) {
        struct fuse_attr_out *out = r->out;

        *out = (struct fuse_attr_out){ .attr_valid = entry_valid(r->fs, r->node) };
        attr_fill(r->fs, r->node, st, &out->attr);
        r->out_len = sizeof *out;
        return 0;
}

int op_getattr(Request *r) {
        struct stat st = { 0 };

        pthread_rwlock_rdlock(&r->fs->tree);
        int n = node_stat(r->fs, r->node, &st);
        pthread_rwlock_unlock(&r->fs->tree);
        return n < 0 ? n : reply_attr(r, &st);
}

/* What a write or a new owner takes away from a mode: set-id bits, where they would count (FATTR_KILL_SUIDGID). */
static mode_t without_setid(mode_t mode) {
        mode &= ~(mode_t) S_ISUID;
        return mode & S_IXGRP ? mode & ~(mode_t) S_ISGID : mode;
}

void keep_setid(Request *r, int fd, const struct stat *before, bool kill) {
        struct stat after;

        /* Of all but the box's root ours judges as the box's does. A group's bit without the right to execute stays with who has rights over the group. */
        if (!(before->st_mode & (S_ISUID | S_ISGID)) || (kill && !(r->fs->agent && r->head->uid == 0)))
                return;
        mode_t wanted = kill ? without_setid(before->st_mode) : before->st_mode;
        if (fstat(fd, &after) == 0 && after.st_mode != wanted)
                (void) up_chmod(r->fs, -1, NULL, fd, wanted & 07777);
}

static int set_size(Request *r, const struct fuse_setattr_in *in) {
        Fs *fs = r->fs;
        struct stat before;
        int n = 0;
        Fd *f = node_is_loose(r->node) ? fd_pinned(fs, r->node) : fd_file(fs, r->node, true, &n);

        if (!f)
                return n ? n : -ESTALE;
        Growth growth = growth_begin(fs, f->fd);
        n = fstat(f->fd, &before) < 0 || ftruncate(f->fd, (off_t) in->size) < 0 ? -errno : 0;
        if (n == 0)
                keep_setid(r, f->fd, &before, in->valid & FATTR_KILL_SUIDGID);
        growth_end(fs, &growth);
        fd_put(fs, f);
        return n;
}

static int set_owner(Fs *fs, const Place *p, const struct fuse_setattr_in *in) {
        bool set_uid = in->valid & FATTR_UID, set_gid = in->valid & FATTR_GID;
        uid_t uid = (uid_t) -1;
        gid_t gid = (gid_t) -1;

        if ((set_uid && !ids_uid_in(&fs->ids, in->uid, &uid)) || (set_gid && !ids_gid_in(&fs->ids, in->gid, &gid)))
                return -EINVAL;
        /* "." wants the right to search the directory, its descriptor does not; the agent, which may, knows nothing of a group that is the caller's alone. */
        bool itself = p->dir < 0 || strcmp(p->name, ".") == 0;
        int n = itself ? fchownat(p->dir < 0 ? p->fd : p->dir, "", uid, gid, AT_EMPTY_PATH) : fchownat(p->dir, p->name, uid, gid, AT_SYMLINK_NOFOLLOW);
        if (n == 0)
                return 0;
        if (fs->agent)
                return agent_chown(fs->agent, p->dir, p->dir < 0 ? NULL : p->name, p->fd, set_uid ? in->uid : (uint32_t) -1,
                                   set_gid ? in->gid : (uint32_t) -1);
        return -errno;
}

/* From here on it is the upper's own that counts. */
static void own_is_real(Request *r, const Place *p) {
        if (r->node == r->fs->root && r->fs->root_like_lower) {
                struct stat st;
                if (place_stat(r->fs, p, &st) < 0)
                        return;
                mode_t mode = st.st_mode;
                root_owner(r->fs, &st);
                if (mode != st.st_mode)
                        (void) !fchmodat(p->dir, p->name, st.st_mode & 07777, 0);
                r->fs->root_like_lower = false;
                (void) xattr_set_place(r->fs, p, XATTR_ROOT, "y", 1, 0);
        }
        if (atomic_load(&r->fs->owners))
                (void) xattr_remove_place(r->fs, p, XATTR_OWNER);
}

/* A nameless file's descriptor may be one of O_PATH, which takes no changes but by its name in /proc. */
static const char *fd_path(const Place *p, char ret[32]) {
        (void) g_snprintf(ret, 32, "/proc/self/fd/%d", p->fd);
        return ret;
}

static int set_mode(Fs *fs, const Place *p, mode_t mode) {
        return up_chmod(fs, p->dir, p->dir < 0 ? NULL : p->name, p->fd, mode);
}

static int utimens_place(const Place *p, const struct timespec times[2]) {
        char path[32];
        return p->dir < 0 ? utimensat(AT_FDCWD, fd_path(p, path), times, 0) : utimensat(p->dir, p->name, times, AT_SYMLINK_NOFOLLOW);
}

/*
 * Where the kernel keeps times (writeback cache) it sends what its clock said, not "now", which is all that one who may write another's file may set. Dirty
 * pages, and their time, stay with it for half a minute.
 */
static bool is_by_the_clock(const struct fuse_setattr_in *in) {
        int64_t age = (int64_t) time(NULL) - (int64_t) in->mtime;
        return in->valid & FATTR_MTIME && age >= -1 && age <= 60 && (!(in->valid & FATTR_ATIME) || in->valid & FATTR_ATIME_NOW);
}

static int set_times(Fs *fs, const Place *p, const struct fuse_setattr_in *in) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

        if (in->valid & FATTR_ATIME_NOW)
                times[0].tv_nsec = UTIME_NOW;
        else if (in->valid & FATTR_ATIME)
                times[0] = (struct timespec){ (time_t) in->atime, in->atimensec };
        if (in->valid & FATTR_MTIME_NOW)
                times[1].tv_nsec = UTIME_NOW;
        else if (in->valid & FATTR_MTIME)
                times[1] = (struct timespec){ (time_t) in->mtime, in->mtimensec };
        int n = utimens_place(p, times) < 0 ? -errno : 0;
        if (fs->agent && (n == -EPERM || n == -EACCES))
                n = agent_utimens(fs->agent, p->dir, p->dir < 0 ? NULL : p->name, p->fd, times);
        if (n != -EPERM || !is_by_the_clock(in))
                return n;
        /* Of a change of data alone the file below keeps the time by itself. */
        const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
        return in->valid & FATTR_ATIME && utimens_place(p, now) < 0 ? -errno : 0;
}

/*
 * The kernel keeps times (writeback cache) and writes back those of a file that it unlinked: mostly what is known. Who changes nothing of a file that
 * nobody will find any more need not copy it up.
 */
static bool nothing_to_set(Request *r, const struct fuse_setattr_in *in, struct stat *st) {
        if (!node_is(r->node, NODE_NAMELESS) || in->valid & ~(uint32_t) (FATTR_MTIME | FATTR_CTIME | FATTR_FH))
                return false;
        pthread_rwlock_rdlock(&r->fs->tree);
        int n = node_stat(r->fs, r->node, st);
        pthread_rwlock_unlock(&r->fs->tree);
        return n == 0 && (!(in->valid & FATTR_MTIME) || (st->st_mtim.tv_sec == (time_t) in->mtime && st->st_mtim.tv_nsec == in->mtimensec));
}

int op_setattr(Request *r) {
        const struct fuse_setattr_in *in = r->in;
        Fs *fs = r->fs;
        struct stat st = { 0 };
        Place p;

        /* chmod(2) has no form that stops at a symlink before Linux 6.6, and what this one points to is the host's. Nor is there such a mode. */
        if (in->valid & FATTR_MODE && S_ISLNK(node_type(r->node)))
                return -EOPNOTSUPP;
        if (nothing_to_set(r, in, &st))
                return reply_attr(r, &st);
        int n = copy_up(fs, r->node, in->valid & FATTR_SIZE ? (int64_t) in->size : -1);
        if (n < 0)
                return n;
        if ((in->valid & FATTR_SIZE) && (n = set_size(r, in)) < 0)
                return n;
        pthread_rwlock_rdlock(&fs->tree);
        n = place_get(fs, r->node, &p);
        if (n == 0) {
                if (in->valid & (FATTR_UID | FATTR_GID | FATTR_MODE) && r->node == fs->root && fs->root_like_lower)
                        own_is_real(r, &p);
                if (in->valid & (FATTR_UID | FATTR_GID)) {
                        own_is_real(r, &p);
                        n = set_owner(fs, &p, in);
                }
                if (n == 0 && (in->valid & FATTR_MODE))
                        n = set_mode(fs, &p, in->mode & 07777);
                else if (n == 0 && (in->valid & FATTR_KILL_SUIDGID) && !S_ISLNK(node_type(r->node)) && place_stat(fs, &p, &st) == 0 &&
                         without_setid(st.st_mode) != st.st_mode)
                        n = set_mode(fs, &p, without_setid(st.st_mode) & 07777);
                if (n == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
                        n = set_times(fs, &p, in);
                } else if (n == 0 && (in->valid & FATTR_SIZE)) {
                        /* Of a copy that was made as short as it is to be nothing was cut off, and so its time would be the old one. */
                        struct fuse_setattr_in now = { .valid = FATTR_MTIME_NOW | FATTR_MTIME };
                        n = set_times(fs, &p, &now);
                }
                /* It is cut off, and so the kernel is to hear. Of another's file that may be opened no more, but is open, the time is ftruncate(2)'s. */
                if (in->valid & FATTR_SIZE && (n == -EPERM || n == -EACCES))
                        n = 0;
                place_put(fs, &p);
        }
        if (n == 0)
                n = node_stat(fs, r->node, &st);
        pthread_rwlock_unlock(&fs->tree);
        if (n == 0)
                journal_node(fs, r->node, NODE_WRITTEN);
        return n < 0 ? n : reply_attr(r, &st);
}

int op_readlink(Request *r) {
        Place p;

        pthread_rwlock_rdlock(&r->fs->tree);
        ssize_t n = place_get(r->fs, r->node, &p);
        if (n == 0) {
                n = p.dir >= 0 ? readlinkat(p.dir, p.name, r->out, r->out_size) : readlinkat(p.fd, "", r->out, r->out_size);
                if (n < 0 && errno == EACCES && r->fs->agent && p.dir >= 0)
                        n = agent_readlink(r->fs->agent, p.dir, p.name, r->out, PATH_MAX);
                else if (n < 0)
                        n = -errno;
                place_put(r->fs, &p);
        }
        pthread_rwlock_unlock(&r->fs->tree);
        if (n < 0)
                return (int) n;
        r->out_len = (size_t) n;
        journal_node(r->fs, r->node, NODE_READ);
        return 0;
}

int op_statfs(Request *r) {
        struct fuse_statfs_out *out = r->out;
        struct statvfs st;

        if (fstatvfs(r->fs->layers[r->fs->layers[LAYER_UPPER].root >= 0 ? LAYER_UPPER : r->fs->n_layers - 1].root, &st) < 0)
                return -errno;
        if (r->fs->quota)
                quota_statfs(r->fs->quota, &st);
        *out = (struct fuse_statfs_out){ .st = { .blocks = st.f_blocks,
                                                 .bfree = st.f_bfree,
                                                 .bavail = st.f_bavail,
                                                 .files = st.f_files,
                                                 .ffree = st.f_ffree,
                                                 .bsize = (uint32_t) st.f_bsize,
                                                 .namelen = NAME_LEN_MAX,
                                                 .frsize = (uint32_t) st.f_frsize } };
        r->out_len = sizeof *out;
        return 0;
}
