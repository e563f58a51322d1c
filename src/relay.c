/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Relay: one direction of bytes between two descriptors, in the launcher's poll loop.
 *
 * Role: launcher, while it supervises. Privileges: none needed. Threads: one. Order: below term and sandbox.
 *
 * It stands where the box must not have the descriptor itself: a regular file as stdio can be opened again for writing
 * through /proc/self/fd, a terminal can be typed into. Bytes are copied by read(2) and write(2) and not by splice(2) on
 * purpose: splice would put the page cache's own pages of a host file into a pipe that the box can open for writing, which is
 * all that a bug like CVE-2022-0847 needs to write to a file that was given for reading.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include "base/error.h"
#include "base/fd.h"
#include "relay.h"

/* Reads and writes of one dispatch at most: the loop has signals and timers to look after too. */
#define ROUNDS_MAX 16

struct Relay {
        char *name;
        int src, dst;
        int reader; /* read end of dst's pipe, or -1 */
        RelayFlags flags;
        bool src_nonblock, dst_nonblock;
        bool seekable;   /* src is a regular file */
        bool ended;      /* src has no more */
        bool broken;     /* dst takes no more */
        bool idle;       /* src had nothing when last asked */
        bool veof_typed; /* the end was put into the buffer as VEOF */
        char last;       /* the last byte read, '\n' before the first: a tty is at the beginning of a line */
        size_t start, len;
        char buffer[RELAY_BUFFER];
};

/* A regular file never makes anybody wait for another process. */
static bool never_blocks(int fd, bool *ret_regular) {
        struct stat st;
        *ret_regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
        int flags = fcntl(fd, F_GETFL);
        return *ret_regular || (flags >= 0 && (flags & O_NONBLOCK));
}

Relay *relay_new(const char *name, int src_take, int dst_take, RelayFlags flags) {
        Relay *r = g_new(Relay, 1);
        bool dst_regular;

        /* The buffer stays untouched, and so unbacked by memory, until bytes come. */
        memset(r, 0, offsetof(Relay, buffer));
        r->name = g_strdup(name);
        r->src = src_take;
        r->dst = dst_take;
        r->reader = -1;
        r->flags = flags;
        r->last = '\n';
        r->src_nonblock = never_blocks(src_take, &r->seekable);
        r->dst_nonblock = never_blocks(dst_take, &dst_regular);
        return r;
}

void relay_free(Relay *r) {
        if (!r)
                return;
        fd_closep(&r->src);
        fd_closep(&r->dst);
        fd_closep(&r->reader);
        g_free(r->name);
        g_free(r);
}

void relay_poll(const Relay *r, struct pollfd fds[static RELAY_N_FDS]) {
        bool want_read = r->len == 0 && !r->ended;
        fds[0] = (struct pollfd){ .fd = want_read ? r->src : -1, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = r->len > 0 ? r->dst : -1, .events = POLLOUT };
}

bool relay_is_done(const Relay *r) {
        return r->ended && r->dst < 0;
}

bool relay_is_broken(const Relay *r) {
        return r->broken;
}

bool relay_is_idle(const Relay *r) {
        return relay_is_done(r) || (r->len == 0 && r->idle);
}

/* False: src has nothing now, or failed (then with error). */
static bool fill(Relay *r, GError **error) {
        ssize_t n = TEMP_FAILURE_RETRY(read(r->src, r->buffer, sizeof r->buffer));

        r->idle = n < 0 && errno == EAGAIN;
        if (r->idle)
                return false;
        if (n > 0) {
                r->start = 0;
                r->len = (size_t) n;
                r->last = r->buffer[n - 1];
                return true;
        }
        r->ended = true;
        if (n < 0 && !(errno == EIO && (r->flags & RELAY_EIO_IS_END)))
                return err_set(error, errno, "%s: read", r->name);
        return true;
}

/* False: dst takes nothing now, or failed (then with error unless its reader has gone). */
static bool flush(Relay *r, GError **error) {
        if (r->broken) {
                r->len = 0;
                return true;
        }
        size_t piece = r->dst_nonblock ? r->len : MIN(r->len, (size_t) PIPE_BUF);
        ssize_t n = TEMP_FAILURE_RETRY(write(r->dst, r->buffer + r->start, piece));
        if (n >= 0) {
                r->start += (size_t) n;
                r->len -= (size_t) n;
                return true;
        }
        if (errno == EAGAIN)
                return false;

        r->broken = true;
        if (r->flags & RELAY_DISCARD)
                r->len = 0;
        else
                r->ended = true;
        return errno == EPIPE ? false : err_set(error, errno, "%s: write", r->name);
}

/*
 * A tty in canonical mode takes VEOF as end of file only at the beginning of a line; elsewhere the first one hands over the
 * unfinished line (termios(3)). A tty in another mode gets the byte, as from a keyboard.
 */
static void type_veof(Relay *r) {
        struct termios t;

        r->veof_typed = true;
        if (tcgetattr(r->dst, &t) < 0 || t.c_cc[VEOF] == _POSIX_VDISABLE)
                return;
        r->start = 0;
        r->len = r->last == '\n' ? 1 : 2;
        memset(r->buffer, t.c_cc[VEOF], r->len);
}

/* After src's end, or dst's: close what is not needed any more, dst only when all has been written to it. */
static void settle(Relay *r) {
        if (!r->ended)
                return;
        if (r->len == 0 && !r->broken && (r->flags & RELAY_END_BY_VEOF) && !r->veof_typed)
                type_veof(r);
        /* A seekable src is kept for relay_give_back(); nobody waits for its closing. */
        if (r->broken || r->len == 0) {
                fd_closep(&r->dst);
                if (!r->seekable)
                        fd_closep(&r->src);
        }
}

bool relay_dispatch(Relay *r, const struct pollfd fds[static RELAY_N_FDS], GError **error) {
        g_autoptr(GError) failure = NULL;
        if (relay_is_done(r))
                return true;
        bool can_read = r->src_nonblock || fds[0].revents != 0;
        bool can_write = r->dst_nonblock || fds[1].revents != 0;

        /* Never left with an empty buffer before src was asked again: relay_is_idle() would not know. */
        for (unsigned round = 0; (round < ROUNDS_MAX || r->len == 0) && !failure; round++) {
                if (r->len > 0) {
                        if ((!can_write && !r->broken) || !flush(r, &failure))
                                break;
                        can_write = r->dst_nonblock;
                } else {
                        if (r->ended || !can_read || !fill(r, &failure))
                                break;
                        can_read = r->src_nonblock;
                }
                settle(r);
        }
        settle(r);

        if (failure) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        return true;
}

void relay_watch_reader(Relay *r, int read_end_take) {
        fd_closep(&r->reader);
        r->reader = read_end_take;
}

void relay_give_back(Relay *r) {
        int in_pipe = 0;

        if (!r->seekable || r->src < 0)
                return;
        if (r->reader >= 0 && ioctl(r->reader, FIONREAD, &in_pipe) < 0)
                in_pipe = 0;
        off_t unread = (off_t) r->len + in_pipe;
        if (unread > 0)
                (void) lseek(r->src, -unread, SEEK_CUR);
        r->len = 0;
        r->ended = true;
        fd_closep(&r->dst);
        fd_closep(&r->src);
}
