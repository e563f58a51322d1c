/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Answers whose data goes from a file to the kernel by a pipe, which passes pages and copies nothing: one copy of two less.
 *
 * Role: usbox-fs. Privileges: none. Threads: any, each with a pipe of its own, made when it is first needed.
 *
 * An answer's header has its length and comes first. So what is there to read is asked before, and where it is less in the end the pipe is thrown
 * away and the data is read as any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsoverlay/ops.h"

#define PIPE_SIZE (256 * 1024) /* the kernel reads ahead 128 KiB at a time */

static bool open_pipe(int ends[2]) {
        if (ends[0] > 0)
                return true;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return false;
        if (fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE) >= PIPE_SIZE)
                return true;
        /* The user has too many pipes. */
        close(ends[0]);
        close(ends[1]);
        ends[0] = ends[1] = 0;
        return false;
}

static bool fill(int pipe, const struct fuse_out_header *head, int fd, off_t offset, size_t size) {
        if (write(pipe, head, sizeof *head) != sizeof *head)
                return false;
        for (size_t done = 0; done < size;) {
                ssize_t n = splice(fd, &offset, pipe, NULL, size - done, SPLICE_F_NONBLOCK);
                if (n <= 0 && (n == 0 || errno != EINTR))
                        return false;
                done += n > 0 ? (size_t) n : 0;
        }
        return true;
}

bool splice_answer(Request *r, int fd, off_t offset, size_t size) {
        static _Thread_local int ends[2];
        struct fuse_out_header head = { .unique = r->head->unique };
        struct stat st;

        /* A page for the header, and one more where the data does not begin with one. */
        if (size < SPLICE_MIN || size > PIPE_SIZE - 2 * 4096 || fstat(fd, &st) < 0 || offset >= st.st_size || !open_pipe(ends))
                return false;
        size = MIN(size, (size_t) (st.st_size - offset));
        head.len = (uint32_t) (sizeof head + size);
        bool filled = fill(ends[1], &head, fd, offset, size);
        ssize_t n = filled ? splice(ends[0], NULL, r->fs->dev, NULL, head.len, 0) : 0;
        /* ENOENT: nobody waits for it any more. */
        bool sent = n == (ssize_t) head.len || (n < 0 && (errno == ENOENT || errno == ENODEV));
        if (!sent) {
                close(ends[0]);
                close(ends[1]);
                ends[0] = ends[1] = 0;
        }
        return sent;
}
