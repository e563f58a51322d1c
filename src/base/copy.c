/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bytes of a file, copied in the kernel where it can.
 *
 * Role: usbox-fs, for a copy-up; launcher, for commit. Privileges: none needed. Threads: any. Order: below all.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/times.h"

#define CHUNK (128u * 1024)
#define COPY_TRIES 4
#define STEP (16 << 20) /* a large file goes to the disk in steps, while the next one is copied: a sync(2) at the end has little to wait for then */

static _Atomic bool no_reflink;

static int copy_step(int from, int to, off_t offset, off_t end) {
        static _Thread_local char *buffer;
        off_t in = offset, out = offset;

        while (in < end) {
                ssize_t n = copy_file_range(from, &in, to, &out, (size_t) MIN(end - in, 1 << 30), 0);
                if (n > 0)
                        continue;
                if (n == 0) /* it became shorter */
                        return 0;
                if (errno == EINTR)
                        continue;
                if (errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
                        return -errno;
                break;
        }
        if (in < end && !buffer && !(buffer = malloc(CHUNK)))
                return -ENOMEM;
        while (in < end) {
                ssize_t n = pread(from, buffer, (size_t) MIN(end - in, CHUNK), in);
                if (n == 0)
                        return 0;
                for (ssize_t done = 0, w; n > 0 && done < n; done += w)
                        if ((w = pwrite(to, buffer + done, (size_t) (n - done), in + done)) < 0)
                                return -errno;
                if (n < 0)
                        return -errno;
                in += n;
        }
        return 0;
}

static int copy_range(int from, int to, off_t offset, off_t end) {
        bool large = end - offset > STEP;

        if (large)
                (void) fallocate(to, FALLOC_FL_KEEP_SIZE, offset, end - offset); /* what has its place goes there sooner */
        for (off_t at = offset, next; at < end; at = next) {
                next = MIN(end, at + STEP);
                int r = copy_step(from, to, at, next);
                if (r < 0)
                        return r;
                if (large)
                        (void) sync_file_range(to, at, next - at, SYNC_FILE_RANGE_WRITE);
        }
        return 0;
}

/* 1: by sharing its blocks, which is one moment for all of it. */
static int copy_once(int from, int to, off_t size, bool whole) {
        if (whole && size > 0 && !atomic_load_explicit(&no_reflink, memory_order_relaxed)) {
                if (ioctl(to, FICLONE, from) == 0)
                        return ftruncate(to, size) < 0 ? -errno : 1; /* it may have grown */
                if (errno == EOPNOTSUPP || errno == ENOTTY)
                        atomic_store(&no_reflink, true);
        }
        for (off_t at = 0; at < size;) {
                off_t data = lseek(from, at, SEEK_DATA), hole;
                if (data < 0 && errno == ENXIO)
                        break;
                if (data < 0) { /* a file system that knows of no holes */
                        data = at;
                        hole = size;
                } else if ((hole = lseek(from, data, SEEK_HOLE)) < 0) {
                        return -errno;
                }
                hole = MIN(hole, size);
                if (data >= size)
                        break;
                int r = copy_range(from, to, data, hole);
                if (r < 0)
                        return r;
                at = hole;
        }
        return ftruncate(to, size) < 0 ? -errno : 0;
}

int copy_data(int from, int to, off_t size, bool whole) {
        return MIN(copy_once(from, to, size, whole), 0);
}

/* At most n bytes, as many as there are up to then. */
static ssize_t read_at(int fd, char *buffer, size_t n, off_t offset) {
        size_t done = 0;

        while (done < n) {
                ssize_t got = pread(fd, buffer + done, n - done, offset + (off_t) done);
                if (got == 0)
                        break;
                if (got > 0)
                        done += (size_t) got;
                else if (errno != EINTR)
                        return -errno;
        }
        return (ssize_t) done;
}

int copy_is_same(int a, int b, off_t size, char *buffer) {
        const size_t half = COPY_COMPARE_SIZE / 2;

        for (off_t at = 0; at < size; at += (off_t) half) {
                size_t n = (size_t) MIN(size - at, (off_t) half);
                ssize_t na = read_at(a, buffer, n, at), nb = read_at(b, buffer + half, n, at);
                if (na < 0 || nb < 0)
                        return (int) MIN(na, nb);
                if (na != nb || memcmp(buffer, buffer + half, (size_t) na) != 0)
                        return 0;
                if ((size_t) na < n)
                        break;
        }
        return 1;
}

/*
 * Whoever writes the file gives it another ctime, which is not earlier than the tick of the clock at that moment. So one that had its ctime before
 * the tick in which we began, and has it still, was left alone. Where that is not so, more may have happened than we need to know of: a log
 * grows, a mode changes. Then the copy is right if it is what the file has now, since it was so at both moments.
 */
int copy_settled(int from, int to, off_t size, bool whole, struct stat *st) {
        g_autofree char *buffer = NULL;

        for (int tries = 0; tries < COPY_TRIES; tries++) {
                struct timespec tick;
                struct stat now;

                (void) clock_gettime(CLOCK_REALTIME_COARSE, &tick);
                int r = copy_once(from, to, size, whole);
                if (r < 0)
                        return r;
                if (fstat(from, &now) < 0)
                        return -errno;
                if (now.st_size < size)
                        return -ESTALE;
                if (r == 1 || (time_compare(&st->st_ctim, &tick) < 0 && time_compare(&st->st_ctim, &now.st_ctim) == 0))
                        return 0;
                if (!buffer && !(buffer = g_try_malloc(COPY_COMPARE_SIZE)))
                        return -ENOMEM;
                r = copy_is_same(from, to, size, buffer);
                if (r != 0)
                        return MIN(r, 0);
                st->st_mtim = now.st_mtim;
                st->st_ctim = now.st_ctim;
                if (ftruncate(to, 0) < 0)
                        return -errno;
        }
        return -EAGAIN;
}
