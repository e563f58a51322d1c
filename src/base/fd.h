/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Close on leaving the scope; errno is kept. */
static inline void fd_closep(int *fd) {
        int saved = errno;
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
        errno = saved;
}
#define _cleanup_close_ __attribute__((cleanup(fd_closep)))

/* Hand an fd on: returns it and leaves -1 behind. */
static inline int fd_steal(int *fd) {
        int taken = *fd;
        *fd = -1;
        return taken;
}

/* 0, 1 and 2 are open, on /dev/null where the caller closed them: first of all in a program, so that nothing else gets these numbers, which
 * would then be written to. */
bool fd_fill_standard(GError **error);

/* A copy of fd at a number from 10 on, O_CLOEXEC. -1 with errno, EMFILE also where the limit allows of no such number. */
int fd_dup_high(int fd);

/* As many descriptors as this process may have (RLIMIT_NOFILE): how many that are then; 0: not known. */
rlim_t fd_raise_limit(void);

/* Write buf, restarting after EINTR and short writes. How many bytes of it were written: fewer than len with errno set. */
size_t fd_write_most(int fd, const void *buf, size_t len);

/* Write all of buf; restarts after EINTR and short writes. False with errno set on failure. */
bool fd_write_all(int fd, const void *buf, size_t len);

/* Read to the end, at most max bytes (more is EFBIG). *ret is NUL-terminated beyond *ret_len and the
 * caller's. False with errno set on failure. ret_len may be NULL. */
bool fd_read_all(int fd, size_t max, char **ret, size_t *ret_len);

/* A memfd of these bytes, sealed, at its beginning: for who gets it and may not trust who sent it. -1 with errno. */
int fd_sealed(const char *name, const void *data, size_t len);

/* Read all of what fd_sealed() made, as fd_read_all() does: of nothing else, which might have no end or keep one waiting (EINVAL). */
bool fd_read_sealed(int fd, size_t max, char **ret, size_t *ret_len);

/* Read the file path below dirfd (AT_FDCWD: any path) as fd_read_all() does. */
bool fd_read_file(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);

/*
 * Patience of so many ms that a process which is stopped itself does not lose: whom it waits for was likely stopped, too, as all of a machine or of
 * a container is. Each wait goes on for fd_patience_slice() at most; fd_patience_used() then takes as much off. None left: the time is up.
 */
typedef struct {
        int left_ms;
        gint64 since;
} FdPatience;
int fd_patience_slice(FdPatience *p);
void fd_patience_used(FdPatience *p);

/* poll(2) of one descriptor for POLLIN or its end, with that patience. */
int fd_await(int fd, int ms);

/* poll(2), n at most FD_POLL_MAX, that does not count the entries without a descriptor (-1): of more entries than a process may have files
 * (RLIMIT_NOFILE), used or not, the kernel wants nothing to know. */
#define FD_POLL_MAX 192
int fd_poll(struct pollfd *fds, size_t n, int timeout_ms);

/* Write text to an existing file (of /proc, say) with one write(2). False with errno set. */
bool fd_write_file(int dirfd, const char *path, const char *text);

/*
 * Renumber the n fds in keep (all >= 0, distinct) to 3, 4, ... in that order; all end up O_CLOEXEC, and
 * every other fd from 3 up is closed. keep[] is updated in place.
 * False with errno set on failure, when the fds are in no particular state: exit then.
 */
bool fd_keep_only(int *keep, size_t n);

/*
 * Descriptors whose last close keeps the kernel busy: closed by a worker of its own instead of by us. Full, or where that is not to
 * be had, they are closed at once. Start with zeroes.
 */
#define FD_LATER_MAX 64
typedef struct {
        int fds[FD_LATER_MAX];
        size_t n;
} FdLater;
void fd_later_take(FdLater *later, int *fd); /* sets *fd to -1; what is -1 already is passed over */
void fd_later_release(FdLater *later);
/* unlinkat(2), but the inode is let go of later; its space with it. 0, or -1 with errno. */
int fd_later_unlink(FdLater *later, int dirfd, const char *name, int flags);

/* Have *msg carry these n (at least 1) descriptors (unix(7), SCM_RIGHTS). control: zeroed, CMSG_SPACE(n * sizeof(int)) bytes, aligned for a
 * struct cmsghdr; borrowed until msg is sent. */
void fd_attach(struct msghdr *msg, void *control, const int *fds, size_t n);

/* Set or clear O_NONBLOCK. False with errno set. */
bool fd_set_nonblock(int fd, bool on);

/* The directory name below dirfd ("." for dirfd itself, whose own position stays), to read its names; never through a symlink. closedir() it.
 * NULL with errno. */
DIR *fd_open_dir(int dirfd, const char *name);

/* Something is mounted there: fd (it may be O_PATH) is the root of a mount. */
bool fd_is_mount(int fd);

/* When what fd is (it may be O_PATH) came to be, which no program can set. False: its file system does not know. */
bool fd_birth(int fd, struct timespec *ret);

/* What tells a file (fd may be O_PATH) from all others of its file system, those that get its inode number when it is gone included: the next one does with
 * ext4. Where no birth is told it is the number alone. The caller's; NULL with errno. */
char *fd_file_key(int fd);

/* The path of what fd (it may be O_PATH) is, as the kernel tells it of the caller's root; the caller's. NULL with errno. */
char *fd_read_path(int fd);

/* Give the owner of what fd (it may be O_PATH) is, the caller, what its mode keeps from him: of a file the right that is said (S_IRUSR, S_IWUSR), all of a
 * directory. *ret_mode is what it was, for fd_shut_again(), which leaves errno as it is. False: nothing is kept from him, it is another's, no such thing, or
 * cannot be changed. */
bool fd_open_up(int fd, mode_t of_file, mode_t *ret_mode);
void fd_shut_again(int fd, mode_t mode);

/* Open the regular file that option names, made where it is not there, to be appended to; -1 with error. */
int fd_open_record(const char *option, const char *path, GError **error);
