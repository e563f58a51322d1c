/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Content of files: read, write, fallocate, lseek, copy_file_range, fsync.
 *
 * Role: usbox-fs. Privileges: the caller's; descriptors that the agent opened. Threads: any.
 *
 * The kernel never tells of open and close: a descriptor is opened by the first request that needs one (fdcache.c). Data is
 * copied up by the first request that changes it. The kernel keeps written pages (writeback cache), so a write(2) of few bytes costs no request.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "fsoverlay/ops.h"

void journal_node(Fs *fs, Node *node, unsigned once) {
        if (!fs->journal || node_is(node, once))
                return;
        node_set(node, once);
        pthread_rwlock_rdlock(&fs->tree);
        g_autofree char *path = node_path(fs, node, NULL);
        pthread_rwlock_unlock(&fs->tree);
        if (path)
                journal_event(fs->journal, once == NODE_READ ? "read" : "write", path);
}

void journal_name(Fs *fs, Node *dir, const char *name, const char *what) {
        pthread_rwlock_rdlock(&fs->tree);
        g_autofree char *path = node_path(fs, dir, name);
        pthread_rwlock_unlock(&fs->tree);
        if (path)
                journal_event(fs->journal, what, path);
}

/* NULL with a negative errno in *ret_err, which is 0 else. */
static Fd *data_fd(Fs *fs, Node *node, bool write, int *ret_err) {
        Fd *f = node_is(node, NODE_NAMELESS) ? fd_pinned(fs, node) : NULL;

        if (f && (f->path || (write && !f->writable))) {
                fd_put(fs, f);
                *ret_err = write ? -EACCES : -ESTALE;
                return NULL;
        }
        if (!f)
                f = fd_file(fs, node, write, ret_err);
        /* Unlinked between the two questions: then it is pinned now. */
        if (!f)
                f = fd_pinned(fs, node);
        if (f)
                *ret_err = 0;
        return f;
}

/*
 * Somebody changed a lower file in place: what the kernel has of it is no longer to be mixed with what it reads now. Nor is it to fill with zeros up to
 * the size that it knows. end: up to where there is data for the kernel, or 0. Once the node is in the upper, what was read here is no more than what was
 * copied if the file is what it was.
 */
static int check_changed(Request *r, Fd *f, off_t end) {
        struct stat st;

        if (f->layer == LAYER_UPPER)
                return 0;
        if (atomic_load_explicit(&f->fresh, memory_order_relaxed) && end == told_size(r->node) && !node_is(r->node, NODE_UPPER))
                return 0;
        return fstat(f->fd, &st) < 0 || told_look(r->fs, r->node, &st) ? 0 : -ESTALE;
}

/*
 * Up to the end of the file. Where an answer falls short the kernel thinks of a hole whose end it has not written yet (fuse_short_read(), fs/fuse/file.c): so
 * a disk that fails in the middle would read as zeros. A negative errno.
 */
static ssize_t read_all(const Request *r, const Fd *f, size_t size, off_t offset) {
        const off_t end = f->layer == LAYER_UPPER ? -1 : told_size(r->node);
        size_t done = 0;

        while (done < size && (done == 0 || offset + (off_t) done != end)) {
                ssize_t n = pread(f->fd, (char *) r->out + done, size - done, offset + (off_t) done);
                if (n == 0)
                        break;
                if (n > 0)
                        done += (size_t) n;
                else if (errno != EINTR)
                        return -errno;
        }
        return (ssize_t) done;
}

int op_read(Request *r) {
        const struct fuse_read_in *in = r->in;
        Fs *fs = r->fs;
        int err = 0;
        Fd *f = data_fd(fs, r->node, false, &err);

        if (!f)
                return err;
        ssize_t n = 0;
        if (in->size >= SPLICE_MIN && (err = check_changed(r, f, 0)) == 0)
                r->no_reply = splice_answer(r, f->fd, (off_t) in->offset, in->size);
        if (r->no_reply && node_is(r->node, NODE_UPPER))
                (void) check_changed(r, f, 0);
        if (err == 0 && !r->no_reply) {
                n = read_all(r, f, MIN((size_t) in->size, r->out_size), (off_t) in->offset);
                err = n < 0 ? (int) n : check_changed(r, f, (off_t) in->offset + (off_t) n);
        }
        fd_put(r->fs, f);
        if (err == 0)
                journal_node(r->fs, r->node, NODE_READ);
        r->out_len = err < 0 ? 0 : (size_t) n;
        return err;
}

/* A page that was changed stays with the kernel for half a minute, and is under way for some time where the machine has other work. */
#define KEPT_S 60

/* A file of the upper whose data is about to change; what it took before is for the quota. */
typedef struct {
        Fd *f;
        struct stat before;
        bool known;      /* before is */
        bool kill_setid; /* set-id bits are to go, as by a write(2) of one who has no right over them */
        guint64 reserved;
} Writing;

static int writing_begin(Fs *fs, Node *node, Writing *ret) {
        int err = copy_up(fs, node, -1);

        *ret = (Writing){ .kill_setid = true };
        if (err < 0)
                return err;
        ret->f = data_fd(fs, node, true, &err);
        if (!ret->f)
                return err < 0 ? err : -EIO;
        ret->known = fstat(ret->f->fd, &ret->before) == 0;
        return 0;
}

/* How much of a range of a file has its place on the disk. */
static guint64 allocated(int fd, guint64 offset, guint64 end) {
        union {
                struct fiemap head;
                char room[sizeof(struct fiemap) + 32 * sizeof(struct fiemap_extent)];
        } map;
        guint64 sum = 0;

        for (bool more = true; more && offset < end;) {
                map.head = (struct fiemap){ .fm_start = offset, .fm_length = end - offset, .fm_extent_count = 32 };
                if (ioctl(fd, FS_IOC_FIEMAP, &map) < 0 || map.head.fm_mapped_extents == 0)
                        break;
                for (unsigned i = 0; i < map.head.fm_mapped_extents && offset < end; i++) {
                        const struct fiemap_extent *e = &map.head.fm_extents[i];
                        guint64 from = MAX(e->fe_logical, offset), to = MIN(e->fe_logical + e->fe_length, end);
                        sum += to > from ? to - from : 0;
                        offset = MAX(to, offset);
                        more = !(e->fe_flags & FIEMAP_EXTENT_LAST);
                }
        }
        return sum;
}

/* Room for what writing may add to the upper: all of it where the range has holes or is beyond the end. */
static int writing_reserve(Fs *fs, Writing *w, off_t offset, size_t size) {
        off_t end = offset + (off_t) size;

        if (!fs->quota || !w->known || (end <= w->before.st_size && lseek(w->f->fd, offset, SEEK_HOLE) >= end))
                return 0;
        guint64 first = usage_floor((guint64) offset), last = usage_ceil((guint64) end);
        guint64 wanted = last - first;
        /* What fallocate(2) has taken is counted already, and looks like a hole until it is written. */
        if (!quota_reserve(fs->quota, wanted)) {
                wanted -= allocated(w->f->fd, first, last);
                if (!usage_reserve(fs, wanted))
                        return -ENOSPC;
        }
        w->reserved = wanted;
        return 0;
}

/* Likewise, and where there is room for the beginning alone *size becomes that, as on a disk that gets full. */
static int writing_reserve_some(Fs *fs, Writing *w, off_t offset, size_t *size) {
        int err = writing_reserve(fs, w, offset, *size);

        if (err != -ENOSPC)
                return err;
        off_t hole = lseek(w->f->fd, offset, SEEK_HOLE); /* ENXIO: beyond the end */
        guint64 begin = usage_floor((guint64) MAX(hole, offset)), end = begin, beyond = usage_ceil((guint64) offset + *size);
        /* What has its place takes no room, so there may be more of that further on. */
        while (beyond > end + USAGE_BLOCK) {
                guint64 middle = usage_floor(end + (beyond - end) / 2);
                if (middle - begin - allocated(w->f->fd, begin, middle) <= quota_room(fs->quota))
                        end = middle;
                else
                        beyond = middle;
        }
        if (end <= (guint64) offset)
                return -ENOSPC;
        *size = MIN(*size, (size_t) (end - (guint64) offset)); /* the file may have changed since */
        return writing_reserve(fs, w, offset, *size);
}

/* What it really took; lets go of the descriptor. */
static void writing_end(Request *r, Writing *w) {
        Fs *fs = r->fs;
        struct stat after;

        if (w->known)
                keep_setid(r, w->f->fd, &w->before, w->kill_setid);
        if (fs->quota) {
                if (fstat(w->f->fd, &after) < 0)
                        after = w->before;
                quota_adjust(fs->quota, (after.st_blocks - w->before.st_blocks) * (gint64) 512 - (gint64) w->reserved);
        }
        fd_put(fs, w->f);
}

/*
 * Of a page that the kernel had of a lower file as it was before the host changed it, and that the box wrote into, nothing may get into the copy, which is of
 * the file as it is: unless that is the same. Behind the end that was known all is the box's.
 */
static int check_stale(Request *r, const struct fuse_write_in *in, const char *data, const Writing *w) {
        off_t end = w->known ? MIN(told_size(r->node), w->before.st_size) : told_size(r->node), at = (off_t) in->offset;

        if (!(in->write_flags & FUSE_WRITE_CACHE) || !notify_pending(r->fs, r->node) || at >= end)
                return 0;
        size_t size = MIN(in->size, (size_t) (end - at));
        return size <= r->out_size && pread(w->f->fd, r->out, size, at) == (ssize_t) size && memcmp(r->out, data, size) == 0 ? 0 : -ESTALE;
}

int op_write(Request *r) {
        const struct fuse_write_in *in = r->in;
        const char *data = (const char *) r->in + sizeof *in;
        Fs *fs = r->fs;
        Writing w;
        size_t done = 0, size = in->size;

        if (r->in_len < sizeof *in || r->in_len - sizeof *in < in->size)
                return -EINVAL;
        int err = writing_begin(fs, r->node, &w);
        if (err < 0)
                return err;
        int fd = w.f->fd;
        err = check_stale(r, in, data, &w);
        /* Of pages that it kept the kernel hears "written" or an error, and does not look at how much (fuse_writepage_end(), fs/fuse/file.c). */
        bool whole = in->write_flags & FUSE_WRITE_CACHE;
        if (err == 0)
                err = whole ? writing_reserve(fs, &w, (off_t) in->offset, size) : writing_reserve_some(fs, &w, (off_t) in->offset, &size);
        while (err == 0 && done < size) {
                ssize_t n = pwrite(fd, data + done, size - done, (off_t) (in->offset + done));
                if (n > 0)
                        done += (size_t) n;
                else if (n == 0 || errno != EINTR)
                        err = n == 0 ? -EIO : -errno;
        }
        /* A page that the kernel kept was written when it says so. Its SETATTR follows, but not where writing fell into the tick of
         * the clock that the mtime is of: then the file is as young as that, however long the page was under way. */
        if (fs->writeback && w.known && done > 0 && whole && time(NULL) - w.before.st_mtim.tv_sec <= KEPT_S) {
                const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, w.before.st_mtim };
                if (futimens(fd, times) < 0 && fs->agent)
                        (void) agent_utimens(fs->agent, -1, NULL, fd, times);
        }
        /* A write(2) takes set-id bits away; a page that mmap(2) made dirty does not, and the kernel says which it was. */
        w.kill_setid = in->write_flags & FUSE_WRITE_KILL_SUIDGID;
        writing_end(r, &w);
        if (err < 0 && (done == 0 || whole))
                return err;
        journal_node(fs, r->node, NODE_WRITTEN);
        struct fuse_write_out *out = r->out;
        *out = (struct fuse_write_out){ .size = (uint32_t) done };
        r->out_len = sizeof *out;
        return 0;
}

int op_fallocate(Request *r) {
        const struct fuse_fallocate_in *in = r->in;
        Fs *fs = r->fs;
        Writing w;

        int err = writing_begin(fs, r->node, &w);
        if (err < 0)
                return err;
        if (!(in->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE)))
                err = writing_reserve(fs, &w, (off_t) in->offset, in->length);
        if (err == 0 && fallocate(w.f->fd, (int) in->mode, (off_t) in->offset, (off_t) in->length) < 0)
                err = -errno;
        writing_end(r, &w);
        if (err == 0)
                journal_node(fs, r->node, NODE_WRITTEN);
        return err;
}

int64_t data_seek(Fs *fs, Node *node, int64_t offset, int whence) {
        int err;
        Fd *f = data_fd(fs, node, false, &err);

        if (!f)
                return err;
        off_t at = lseek(f->fd, (off_t) offset, whence);
        err = at < 0 ? -errno : 0;
        fd_put(fs, f);
        return err < 0 ? err : at;
}

int op_lseek(Request *r) {
        const struct fuse_lseek_in *in = r->in;
        struct fuse_lseek_out *out = r->out;

        if (r->fs->writeback) {
                r->no_reply = notify_seek(r->fs, r->node, r->head->unique, (int64_t) in->offset, (int) in->whence);
                return r->no_reply ? 0 : -ENOMEM;
        }
        int64_t at = data_seek(r->fs, r->node, (int64_t) in->offset, (int) in->whence);
        *out = (struct fuse_lseek_out){ .offset = (uint64_t) at };
        r->out_len = sizeof *out;
        return at < 0 ? (int) at : 0;
}

int op_copy_file_range(Request *r) {
        const struct fuse_copy_file_range_in *in = r->in;
        Fs *fs = r->fs;
        Node *target = node_of_id(fs, in->nodeid_out);
        Writing w;

        int err = writing_begin(fs, target, &w);
        if (err < 0)
                return err;
        Fd *from = data_fd(fs, r->node, false, &err);
        if (!from) {
                fd_put(fs, w.f);
                return err;
        }
        loff_t in_at = (loff_t) in->off_in, out_at = (loff_t) in->off_out;
        size_t len = (size_t) MIN(in->len, (uint64_t) 1 << 30);
        struct stat source;
        if (fs->quota && w.known && fstat(from->fd, &source) == 0)
                len = MIN(len, source.st_size > in_at ? (size_t) (source.st_size - in_at) : 0);
        err = writing_reserve_some(fs, &w, out_at, &len);
        ssize_t n = err < 0 ? -1 : copy_file_range(from->fd, &in_at, w.f->fd, &out_at, len, (unsigned) in->flags);
        if (err == 0 && n < 0)
                err = errno == EXDEV ? -EOPNOTSUPP : -errno; /* the kernel then copies by itself */
        writing_end(r, &w);
        fd_put(fs, from);
        if (err < 0)
                return err;
        journal_node(fs, r->node, NODE_READ);
        journal_node(fs, target, NODE_WRITTEN);
        struct fuse_write_out *out = r->out;
        *out = (struct fuse_write_out){ .size = (uint32_t) n };
        r->out_len = sizeof *out;
        return 0;
}

static int sync_fd(int fd, bool data_only) {
        return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

int sync_dir_fd(Fs *fs, int dir, bool data_only) {
        /* O_PATH descriptors cannot be synced. */
        int fd = up_open(fs, dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

        if (fd < 0)
                return fd;
        int r = sync_fd(fd, data_only);
        close(fd);
        return r;
}

/* The directory of the upper itself: names in it are on disk then. */
static int sync_dir(Fs *fs, Node *dir, bool data_only) {
        int r = 0;

        pthread_rwlock_rdlock(&fs->tree);
        Fd *f = node_is(dir, NODE_UPPER) ? fd_dir(fs, dir, LAYER_UPPER, &r) : NULL;
        pthread_rwlock_unlock(&fs->tree);
        if (!f)
                return r == -ENOENT ? 0 : r;
        r = sync_dir_fd(fs, f->fd, data_only);
        fd_put(fs, f);
        return r;
}

/*
 * The names that lead to a file that is new in the upper have to be there as well, where ext4 and others do not see to it. Where one of them could not be
 * synced, all are to be, the next time.
 */
static int sync_fresh(Fs *fs, Node *node) {
        int r = 0;

        if (!node_is(node, NODE_FRESH))
                return 0;
        g_autoptr(GPtrArray) fresh = g_ptr_array_new();
        node_ref(node);
        for (Node *dir; node && r == 0 && node_swap_unset(node, NODE_FRESH) & NODE_FRESH; node = dir) {
                g_ptr_array_add(fresh, node);
                pthread_rwlock_rdlock(&fs->tree);
                dir = node->parent;
                if (dir)
                        node_ref(dir);
                pthread_rwlock_unlock(&fs->tree);
                r = dir ? sync_dir(fs, dir, false) : 0;
        }
        if (node)
                node_unref(fs, node, 1);
        for (guint i = 0; i < fresh->len; i++) {
                if (r < 0)
                        node_set(fresh->pdata[i], NODE_FRESH);
                node_unref(fs, fresh->pdata[i], 1);
        }
        return r;
}

int op_fsync(Request *r) {
        const struct fuse_fsync_in *in = r->in;
        int err = 0;

        if (r->fs->fsync_ignored || !node_is(r->node, NODE_UPPER))
                return 0;
        Fd *f = data_fd(r->fs, r->node, false, &err);
        if (!f)
                return err;
        err = sync_fd(f->fd, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
        fd_put(r->fs, f);
        return err < 0 ? err : sync_fresh(r->fs, r->node);
}

int op_fsyncdir(Request *r) {
        const struct fuse_fsync_in *in = r->in;

        if (r->fs->fsync_ignored)
                return 0;
        int err = sync_dir(r->fs, r->node, in->fsync_flags & FUSE_FSYNC_FDATASYNC);
        return err < 0 ? err : sync_fresh(r->fs, r->node);
}

/* Only with --trace-files is the kernel to ask, so that a file is seen that is opened and found empty. */
int op_open(Request *r) {
        const struct fuse_open_in *in = r->in;

        if (r->fs->no_open)
                return -ENOSYS;
        if ((in->flags & O_ACCMODE) != O_WRONLY)
                journal_node(r->fs, r->node, NODE_READ);
        struct fuse_open_out *out = r->out;
        *out = (struct fuse_open_out){ .open_flags = FOPEN_KEEP_CACHE };
        r->out_len = sizeof *out;
        return 0;
}

int op_opendir(Request *r) {
        (void) r;
        return -ENOSYS;
}
