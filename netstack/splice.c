/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Moving bytes between two TCP sockets, in the kernel.
 *
 * Role: usbox-net. Privileges: none. Threads: one. Order: when a connection stands on both sides, until one of them is over.
 *
 * splice(2) moves what a socket has received into a pipe and from there to the other socket: pages change hands and are not copied.
 * Sockets are watched for edges, once, for all that can happen; readable and writable remember what is known since. So an idle connection
 * costs nothing in a turn, and a busy one no epoll_ctl(2).
 *
 * A pipe is needed only while there are bytes under way, which for most connections is within one call of pump(): pipes are lent from a
 * pool. A slow reader keeps one. What pipes hold is memory of the kernel's that no socket is charged with, so their number is
 * bounded; where none is left, bytes are copied through one buffer, of which the reading socket lets go only as far as the other
 * has taken them.
 *
 * What one side says at its end the other is told: FIN as shutdown(2), once all before it is written; a reset as a reset, after what came before
 * it. TCP's urgent byte is not carried. splice(2) never gets past one (tcp_read_sock()), recv(2) does: a side that has ever had one is copied from then on.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "netstack/splice.h"

/* Bytes in a pipe at most: the kernel has a slot for each page, and a slot holds one piece of a packet however short. */
#define PIPE_SIZE (256 * 1024)
#define PIPE_SLOTS (PIPE_SIZE / 4096)

/* In use at once, and kept for later. */
#define PIPES_MAX 192
#define PIPES_SPARE 16

/* Moved for one connection and direction before others have their turn. */
#define TURN_BYTES (1024 * 1024)

/* What is no more than this in a turn is a message: there will be an answer. */
#define MESSAGE_BYTES (16 * 1024)

#define COPY_SIZE (64 * 1024)

/* Descriptors that are not for connections: names, UDP, what else there is. Where those that are watched are more, so many more are not for them either. */
#define FDS_RESERVED 128
#define FDS_MORE 32

struct SplicePipes {
        GArray *spare; /* of int[2] */
        guint in_use;
        guint splices, sockets; /* connections, and what they have of their two sockets */
        const Events *events;
        rlim_t fds_max;
        ssize_t slots; /* that each pipe has, at least */
        uint8_t *buf; /* COPY_SIZE bytes, made when first needed */
};

typedef enum { MOVED, WAITS, FAILED } Outcome;

SplicePipes *splice_pipes_new(const Events *events) {
        SplicePipes *pipes = g_new0(SplicePipes, 1);
        struct rlimit limit;

        pipes->spare = g_array_new(false, false, sizeof(int[2]));
        pipes->slots = PIPE_SLOTS;
        pipes->events = events;
        pipes->fds_max = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
        return pipes;
}

void splice_pipes_free(SplicePipes *pipes) {
        if (!pipes)
                return;
        for (guint i = 0; i < pipes->spare->len * 2; i++)
                close(((int *) (void *) pipes->spare->data)[i]);
        g_array_unref(pipes->spare);
        g_free(pipes->buf);
        g_free(pipes);
}

bool splice_has_room(const SplicePipes *pipes) {
        guint others = events_watched(pipes->events) - pipes->sockets;
        return 2 * ((rlim_t) pipes->splices + pipes->in_use + pipes->spare->len) + MAX(others + FDS_MORE, FDS_RESERVED) < pipes->fds_max;
}

/* Lend one. False: there is none to be had just now. */
static bool borrow_pipe(SplicePipes *pipes, int ret[2]) {
        if (pipes->in_use >= PIPES_MAX)
                return false;
        if (pipes->spare->len > 0) {
                const int *pipe = &((int *) (void *) pipes->spare->data)[2 * (pipes->spare->len - 1)];
                ret[0] = pipe[0];
                ret[1] = pipe[1];
                g_array_set_size(pipes->spare, pipes->spare->len - 1);
        } else {
                if (pipe2(ret, O_NONBLOCK | O_CLOEXEC) < 0) {
                        ret[0] = ret[1] = -1;
                        return false;
                }
                /* The user's share of pipe pages may be used up (pipe(7)): a small one serves as well. */
                if (fcntl(ret[0], F_SETPIPE_SZ, PIPE_SIZE) < PIPE_SIZE)
                        pipes->slots = 1;
        }
        pipes->in_use++;
        return true;
}

static void return_pipe(SplicePipes *pipes, int pipe[2], bool empty) {
        if (pipe[0] < 0)
                return;
        pipes->in_use--;
        if (empty && pipes->spare->len < PIPES_SPARE) {
                g_array_append_vals(pipes->spare, pipe, 1);
        } else {
                close(pipe[0]);
                close(pipe[1]);
        }
        pipe[0] = pipe[1] = -1;
}

/* Or does splice(2) say so at an urgent byte, because an end has come behind it? */
static bool is_end(const SpliceSide *from) {
        char byte;
        return recv(from->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Read from a side into its pipe. */
static Outcome fill_pipe(SpliceSide *from) {
        ssize_t n = splice(from->fd, NULL, from->pipe[1], NULL, PIPE_SIZE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

        if (n > 0) {
                from->level += (size_t) n;
                from->bytes += (guint64) n;
                from->pieces++;
                /* Fewer bytes than slots, and the pipe was empty: it is not its being full that ended it. What comes from now on is an edge. */
                if (from->level == (size_t) n && n < from->splice->pipes->slots && !from->ending)
                        from->readable = false;
                return MOVED;
        }
        if (n == 0) {
                from->eof = is_end(from);
                from->urgent = !from->eof;
                return MOVED;
        }
        if (errno == EINTR)
                return MOVED;
        if (errno != EAGAIN)
                return FAILED;
        /* With bytes in the pipe it may be that which is full. */
        if (from->level == 0)
                from->readable = from->ending = false;
        return WAITS;
}

static Outcome drain_pipe(SpliceSide *from, SpliceSide *to) {
        ssize_t n = splice(from->pipe[0], NULL, to->fd, NULL, from->level, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

        if (n > 0) {
                from->level -= (size_t) n;
                return MOVED;
        }
        if (n < 0 && errno == EINTR)
                return MOVED;
        if (n < 0 && errno != EAGAIN)
                return FAILED;
        to->writable = false;
        return WAITS;
}

/* By no pipe: what the other takes of what there is, and no more, is let go of. */
static Outcome copy(SplicePipes *pipes, SpliceSide *from, SpliceSide *to) {
        if (!pipes->buf)
                pipes->buf = g_malloc(COPY_SIZE);

        ssize_t n = recv(from->fd, pipes->buf, COPY_SIZE, MSG_PEEK | MSG_DONTWAIT);
        if (n == 0) {
                from->eof = true;
                return MOVED;
        }
        if (n < 0) {
                from->readable = errno == EINTR;
                return errno == EINTR ? MOVED : errno == EAGAIN ? WAITS : FAILED;
        }
        ssize_t sent = send(to->fd, pipes->buf, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
                to->writable = errno == EINTR;
                return errno == EINTR ? MOVED : errno == EAGAIN ? WAITS : FAILED;
        }
        if (sent > 0 && recv(from->fd, NULL, (size_t) sent, MSG_TRUNC | MSG_DONTWAIT) != sent)
                return FAILED;
        from->bytes += (guint64) sent;
        from->pieces++;
        return MOVED;
}

/* Carry from one side to the other as long as both can, a turn's worth at most. False with errno: one of them is lost. */
static bool pump(Splice *splice, SpliceSide *from, SpliceSide *to) {
        guint64 limit = from->bytes + TURN_BYTES;

        while (!from->told && from->bytes < limit) {
                Outcome in = WAITS, out = WAITS;

                if (from->eof && from->level == 0) {
                        /* ENOTCONN: it has gone already, of which an event will tell. */
                        (void) shutdown(to->fd, SHUT_WR);
                        from->told = true;
                        break;
                }
                if (from->readable && !from->eof) {
                        if (!from->urgent && (from->pipe[0] >= 0 || borrow_pipe(splice->pipes, from->pipe)))
                                in = fill_pipe(from);
                        else if (from->level == 0 && to->writable)
                                in = copy(splice->pipes, from, to);
                }
                if (from->level > 0 && to->writable)
                        out = drain_pipe(from, to);
                if (in == FAILED || out == FAILED)
                        return false;
                if (in == WAITS && out == WAITS)
                        break;
        }
        if (from->level == 0)
                return_pipe(splice->pipes, from->pipe, true);
        return true;
}

static void end(Splice *splice, bool reset, const char *how) {
        splice_close(splice, reset);
        splice->ended(splice, how);
}

/* Its turn has ended, and not its work. */
static bool can_go_on(const SpliceSide *from, const SpliceSide *to) {
        if (from->told)
                return false;
        if (from->eof && from->level == 0)
                return true;
        return to->writable && (from->level > 0 || (from->readable && !from->eof));
}

/* Both directions; the splice may be gone afterwards. */
static void carry(Splice *splice, bool broken) {
        SpliceSide *box = &splice->side[SPLICE_BOX], *host = &splice->side[SPLICE_HOST];
        guint64 before = box->bytes + host->bytes;
        bool failed = false;
        int errnum = 0;

        for (int i = 0; i < SPLICE_SIDES && !failed; i++) {
                failed = !pump(splice, &splice->side[i], &splice->side[!i]);
                errnum = errno;
        }
        if (box->bytes + host->bytes - before <= MESSAGE_BYTES)
                events_expect(splice->events);
        if (splice->moved && (box->bytes > 0 || host->bytes > 0))
                splice->moved(splice);
        if (failed || broken)
                end(splice, true, failed && errnum == ETIMEDOUT ? "timeout" : "reset");
        else if (box->told && host->told)
                end(splice, false, "closed");
        else if (can_go_on(box, host) || can_go_on(host, box))
                events_later(splice->events, &splice->work);
}

static void on_work(EventWork *work) {
        carry(EVENTS_OWNER(work, Splice, work), false);
}

static void on_ready(EventSource *source, uint32_t events) {
        SpliceSide *side = EVENTS_OWNER(source, SpliceSide, source);

        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                side->readable = true;
        if (events & EPOLLPRI)
                side->readable = side->urgent = true;
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                side->ending = true;
        if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
                side->writable = true;
        /* Reset or lost: what had come before is carried first. */
        carry(side->splice, events & EPOLLERR);
}

void splice_init(Splice *splice, Events *events, SplicePipes *pipes) {
        splice->events = events;
        splice->pipes = pipes;
        splice->work.run = on_work;
        pipes->splices++;
        for (int i = 0; i < SPLICE_SIDES; i++)
                splice->side[i] = (SpliceSide){ .source.fd = -1, .splice = splice, .fd = -1, .pipe = { -1, -1 } };
}

bool splice_watch_take(Splice *splice, SpliceSideName name, int fd, void (*ready)(EventSource *source, uint32_t events)) {
        SpliceSide *side = &splice->side[name];
        int on = 1;

        side->fd = fd;
        side->source.ready = ready ? ready : on_ready;
        /* What the writer's own Nagle has let go must not wait for ours. */
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (name == SPLICE_HOST)
                (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        if (events_add(splice->events, &side->source, fd, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET)) {
                splice->pipes->sockets++;
                return true;
        }
        int saved = errno;
        fd_closep(&side->fd);
        errno = saved;
        return false;
}

void splice_unwatch(Splice *splice, SpliceSideName name) {
        SpliceSide *side = &splice->side[name];

        if (side->fd < 0)
                return;
        events_remove(splice->events, &side->source);
        splice->pipes->sockets--;
        fd_closep(&side->fd);
}

void splice_start(Splice *splice) {
        for (int i = 0; i < SPLICE_SIDES; i++) {
                SpliceSide *side = &splice->side[i];
                side->source.ready = on_ready;
                /* An edge may have passed while it was watched by somebody else. */
                side->readable = side->writable = side->ending = true;
        }
        carry(splice, false);
}

void splice_close(Splice *splice, bool reset) {
        static const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

        if (splice->closed)
                return;
        splice->closed = true;
        splice->pipes->splices--;
        events_cancel(splice->events, &splice->work);
        for (int i = 0; i < SPLICE_SIDES; i++) {
                SpliceSide *side = &splice->side[i];
                return_pipe(splice->pipes, side->pipe, side->level == 0);
                side->level = 0;
                if (side->fd < 0)
                        continue;
                if (reset)
                        (void) setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
                splice_unwatch(splice, i);
        }
}
