/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File descriptors: whole reads and writes, and leaving none open by mistake.
 *
 * Role: every process. Privileges: none needed. Threads: fd_keep_only() only while there is one.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"

bool fd_fill_standard(GError **error) {
        static const char *const names[] = { "standard input", "standard output", "standard error" };

        for (int fd = 0; fd < (int) G_N_ELEMENTS(names); fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        continue;
                /* open(2) takes the lowest free number: this one. */
                if (open("/dev/null", O_RDWR) != fd)
                        return err_set(error, errno, "open /dev/null for %s", names[fd]);
        }
        return true;
}

int fd_dup_high(int fd) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 10);

        if (copy < 0 && errno == EINVAL)
                errno = EMFILE;
        return copy;
}

rlim_t fd_raise_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return 0;
        const struct rlimit wanted = { limit.rlim_max, limit.rlim_max };
        return limit.rlim_cur < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &wanted) == 0 ? wanted.rlim_cur : limit.rlim_cur;
}

size_t fd_write_most(int fd, const void *buf, size_t len) {
        const char *p = buf;
        size_t done = 0;

        while (done < len) {
                ssize_t n = write(fd, p + done, len - done);
                if (n >= 0)
                        done += (size_t) n;
                else if (errno != EINTR)
                        break;
        }
        return done;
}

bool fd_write_all(int fd, const void *buf, size_t len) {
        return fd_write_most(fd, buf, len) == len;
}

bool fd_read_all(int fd, size_t max, char **ret, size_t *ret_len) {
        size_t size = 4096, len = 0;
        g_autofree char *buf = g_malloc(size);

        for (;;) {
                if (len + 1 == size) {
                        size *= 2;
                        buf = g_realloc(buf, size);
                }
                ssize_t n = read(fd, buf + len, size - len - 1);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return false;
                }
                if (n == 0)
                        break;
                len += (size_t) n;
                if (len > max) {
                        errno = EFBIG;
                        return false;
                }
        }
        buf[len] = '\0';
        *ret = g_steal_pointer(&buf);
        if (ret_len)
                *ret_len = len;
        return true;
}

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int fd_sealed(const char *name, const void *data, size_t len) {
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || !fd_write_all(fd, data, len) || lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
                return -1;
        return fd_steal(&fd);
}

bool fd_read_sealed(int fd, size_t max, char **ret, size_t *ret_len) {
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || (seals & SEALS) != SEALS) {
                errno = EINVAL;
                return false;
        }
        return fd_read_all(fd, max, ret, ret_len);
}

bool fd_read_file(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len) {
        _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return false;
        return fd_read_all(fd, max, ret, ret_len);
}

#define SLICE_MS 250

int fd_patience_slice(FdPatience *p) {
        p->since = g_get_monotonic_time();
        return MIN(p->left_ms, SLICE_MS);
}

void fd_patience_used(FdPatience *p) {
        gint64 ms = (g_get_monotonic_time() - p->since + 999) / 1000;

        p->left_ms -= (int) MIN(ms, MIN(p->left_ms, SLICE_MS));
}

int fd_await(int fd, int ms) {
        FdPatience patience = { .left_ms = ms };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int r = 0;

        while (r == 0 && patience.left_ms > 0) {
                r = TEMP_FAILURE_RETRY(poll(&p, 1, fd_patience_slice(&patience)));
                fd_patience_used(&patience);
        }
        return r;
}

int fd_poll(struct pollfd *fds, size_t n, int timeout_ms) {
        struct pollfd used[FD_POLL_MAX];
        size_t from[FD_POLL_MAX], n_used = 0;

        g_assert(n <= FD_POLL_MAX);
        for (size_t i = 0; i < n; i++) {
                fds[i].revents = 0;
                if (fds[i].fd < 0)
                        continue;
                used[n_used] = fds[i];
                from[n_used++] = i;
        }
        int r = poll(used, n_used, timeout_ms);
        for (size_t i = 0; r > 0 && i < n_used; i++)
                fds[from[i]].revents = used[i].revents;
        return r;
}

bool fd_write_file(int dirfd, const char *path, const char *text) {
        _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return false;

        size_t len = strlen(text);
        ssize_t n = write(fd, text, len);
        if (n < 0)
                return false;
        if ((size_t) n != len) {
                errno = EIO;
                return false;
        }
        return true;
}

bool fd_keep_only(int *keep, size_t n) {
        int base = 3;

        /* First out of the way of the places they go to: two of them may stand in each other's. */
        for (size_t i = 0; i < n; i++)
                if (keep[i] < base + (int) n) {
                        int moved = fcntl(keep[i], F_DUPFD_CLOEXEC, base + (int) n);
                        if (moved < 0)
                                return false;
                        keep[i] = moved;
                }
        for (size_t i = 0; i < n; i++) {
                int place = base + (int) i;
                if (dup3(keep[i], place, O_CLOEXEC) < 0)
                        return false;
                keep[i] = place;
        }
        return close_range((unsigned) (base + (int) n), ~0U, 0) == 0;
}

void fd_attach(struct msghdr *msg, void *control, const int *fds, size_t n) {
        struct cmsghdr *c = control;

        msg->msg_control = control;
        msg->msg_controllen = CMSG_SPACE(sizeof(int) * n);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
}

bool fd_set_nonblock(int fd, bool on) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return false;
        int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return wanted == flags || fcntl(fd, F_SETFL, wanted) == 0;
}

void fd_later_take(FdLater *later, int *fd) {
        if (*fd >= 0 && later->n < FD_LATER_MAX)
                later->fds[later->n++] = fd_steal(fd);
        fd_closep(fd);
}

int fd_later_unlink(FdLater *later, int dirfd, const char *name, int flags) {
        _cleanup_close_ int held = later->n < FD_LATER_MAX ? openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
        int r = unlinkat(dirfd, name, flags);

        if (r == 0)
                fd_later_take(later, &held);
        return r;
}

/* They are given to a socket that holds only itself, which the kernel collects in a worker (unix_gc(), net/unix/garbage.c). */
void fd_later_release(FdLater *later) {
        int ends[2];

        if (later->n == 0)
                return;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
                union {
                        struct cmsghdr align;
                        char space[CMSG_SPACE(sizeof(int) * (FD_LATER_MAX + 1))];
                } control = { 0 };
                char byte = 0;
                struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
                struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
                int fds[FD_LATER_MAX + 1];

                memcpy(fds, later->fds, sizeof(int) * later->n);
                fds[later->n] = ends[1];
                fd_attach(&msg, &control, fds, later->n + 1);
                (void) sendmsg(ends[0], &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
                ends[0] = ends[1] = -1;
        }
        for (size_t i = 0; i < later->n; i++)
                close(later->fds[i]);
        later->n = 0;
        /* In this order: it is the end of the first that has the kernel look for such sockets, and by then nobody holds the second. */
        fd_closep(&ends[1]);
        fd_closep(&ends[0]);
}

DIR *fd_open_dir(int dirfd, const char *name) {
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        if (!dir)
                fd_closep(&fd);
        return dir;
}

bool fd_is_mount(int fd) {
        struct statx now;
        return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &now) == 0 && (now.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

bool fd_birth(int fd, struct timespec *ret) {
        struct statx now = { 0 };

        if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &now) < 0 || !(now.stx_mask & STATX_BTIME))
                return false;
        *ret = (struct timespec){ now.stx_btime.tv_sec, now.stx_btime.tv_nsec };
        return true;
}

char *fd_file_key(int fd) {
        struct statx st = { 0 };

        if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0)
                return NULL;
        if (!(st.stx_mask & STATX_BTIME))
                st.stx_btime = (struct statx_timestamp){ 0 };
        return g_strdup_printf("%" G_GINT64_MODIFIER "x %" G_GINT64_FORMAT ".%09u", (guint64) st.stx_ino, (gint64) st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
}

char *fd_read_path(int fd) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        return g_file_read_link(link, NULL);
}

bool fd_open_up(int fd, mode_t of_file, mode_t *ret_mode) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        struct stat st;

        if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
                return false;
        mode_t wanted = S_ISDIR(st.st_mode) ? S_IRWXU : of_file;
        *ret_mode = st.st_mode & 07777;
        return (*ret_mode & wanted) != wanted && chmod(path, *ret_mode | wanted) == 0;
}

void fd_shut_again(int fd, mode_t mode) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int errnum = errno;

        (void) chmod(path, mode);
        errno = errnum;
}

int fd_open_record(const char *option, const char *path, GError **error) {
        g_autofree char *shown = err_quote(path);
        struct stat st;

        /* Nobody may be at the other end of a FIFO: without O_NONBLOCK this would wait for him. */
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0600);
        if (fd < 0 || fstat(fd, &st) < 0) {
                err_set(error, errno, "%s %s", option, shown);
                if (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EROFS || errno == EISDIR)
                        err_hint(error, "name a file in a directory that is there and that you may write");
                return -1;
        }
        if (!S_ISREG(st.st_mode)) {
                err_set(error, 0, "%s %s: not a regular file", option, shown);
                return -1;
        }
        return fd_steal(&fd);
}
