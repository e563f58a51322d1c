/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The runtime directory: what a box has only while its launcher lives.
 *
 * Role: launcher and verbs. Privileges: the caller's. Threads: one. Order: step 10, after the payload was told to go, and step 11.
 *
 * The lock is one of an open file description (fcntl(2), F_OFD_SETLK): others can ask whether it is held without taking it. The
 * launcher takes it after its last fork, so nothing of the box holds it. ID/ is made under another name and
 * renamed, so whoever sees it sees it with its lock held; and so is the lock. Whoever finds one that nobody holds knows its launcher to be
 * gone. A directory that has none yet looks like one that was left: so nobody removes such a one while somebody makes one, which flock(2) of
 * the directory above tells.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "runtime.h"

/* How many boxes one sweep looks at: a start must not take longer the more boxes run. */
#define SWEEP_MAX 32
/* Where it could not be told that one is being made, it may be taken for one that was left, and is made anew. */
#define MAKE_TRIES 64
#define BACKLOG 16
/* connect(2) waits where the launcher takes nobody: a moment, or because it is stopped. */
#define CONNECT_S 5

/* What cannot be looked at is taken for it, and using it then says why: boxes in another place would not be found. */
static bool is_own_dir(const char *path) {
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno != ENOENT && errno != ENOTDIR && errno != EACCES;
        return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022);
}

char *runtime_path(RuntimeKind *ret_kind) {
        const char *xdg = g_getenv("XDG_RUNTIME_DIR");
        g_autofree char *login = g_strdup_printf("/run/user/%u", (unsigned) geteuid());

        *ret_kind = xdg && *xdg == '/' && is_own_dir(xdg) ? RUNTIME_XDG : is_own_dir(login) ? RUNTIME_LOGIN : RUNTIME_TMP;
        if (*ret_kind == RUNTIME_TMP)
                return g_strdup_printf("/tmp/usbox-%u", (unsigned) geteuid());
        return g_build_filename(*ret_kind == RUNTIME_XDG ? xdg : login, "usbox", NULL);
}

int runtime_open(bool make, GError **error) {
        RuntimeKind kind;
        g_autofree char *path = runtime_path(&kind);
        struct stat st;

        if (make && mkdir(path, 0700) < 0 && errno != EEXIST) {
                err_set(error, errno, "make %s", path);
                err_hint(error, "usbox keeps what is about running boxes there: set XDG_RUNTIME_DIR to a directory of your own");
                return -1;
        }
        /* In /tmp anybody may have made it, a symlink too. */
        _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                err_set(error, errno, "%s", path);
                err_hint(error, "set XDG_RUNTIME_DIR to a directory of your own");
                return -1;
        }
        if (st.st_uid != geteuid() || (st.st_mode & 077)) {
                err_set(error, 0, "%s belongs to somebody else or is open to others", path);
                err_hint(error, "chmod 700 %s, or set XDG_RUNTIME_DIR to a directory of your own", path);
                return -1;
        }
        return fd_steal(&fd);
}

/* "lock" or "lock.new" in a box's directory. */
typedef enum {
        LOCK_ABSENT,
        LOCK_FREE,
        LOCK_HELD, /* or not to be found out */
} LockState;

static LockState lock_state(int dirfd, const char *name) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR ? LOCK_ABSENT : LOCK_HELD;
        return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK ? LOCK_FREE : LOCK_HELD;
}

bool runtime_is_locked(int top_fd, const char *id) {
        char path[64];

        g_snprintf(path, sizeof path, "%s/lock", id);
        return lock_state(top_fd, path) == LOCK_HELD;
}

static int open_directory(int top_fd, const char *name) {
        return openat(top_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* By its descriptor: another one of that name, which has come meanwhile, is left alone. */
static void remove_directory(int top_fd, const char *name, int dirfd) {
        static const char *const files[] = { "state.json", ".state.json", "control", "last", "lock.new", "lock" };
        bool ok = true;

        /* The record first: whoever sees it can ask the launcher, or finds at a second look that the box has ended. The lock last: as long as it is there
         * the directory is known for what it is, and the next run tries again. */
        for (size_t i = 0; ok && i < G_N_ELEMENTS(files); i++)
                ok = unlinkat(dirfd, files[i], 0) == 0 || errno == ENOENT;
        if (!ok || (unlinkat(top_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT))
                log_step("runtime directory of %s: %s", name, err_text(errno));
}

static void remove_named(int top_fd, const char *name) {
        _cleanup_close_ int dirfd = open_directory(top_fd, name);

        if (dirfd >= 0)
                remove_directory(top_fd, name, dirfd);
}

void runtime_remove(int top_fd, const char *id) {
        char half_made[BOX_ID_LEN + 2];

        g_snprintf(half_made, sizeof half_made, ".%s", id);
        remove_named(top_fd, half_made);
        remove_named(top_fd, id);
}

/* The caller's to close, which unlocks it. -1: somebody holds it otherwise. Never waited for: a process that holds it may be stopped. */
static int lock_top(int top_fd, int how) {
        _cleanup_close_ int fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && flock(fd, how | LOCK_NB) == 0 ? fd_steal(&fd) : -1;
}

/* One without a lock. */
static void remove_unlocked(int top_fd, const char *name, int dirfd) {
        _cleanup_close_ int nobody_makes = lock_top(top_fd, LOCK_EX);

        /* It may have been made whole since it was looked at. */
        if (nobody_makes < 0 || lock_state(dirfd, "lock") != LOCK_ABSENT || lock_state(dirfd, "lock.new") == LOCK_HELD)
                return;
        (void) unlinkat(dirfd, "lock.new", 0);
        (void) unlinkat(top_fd, name, AT_REMOVEDIR);
}

/* Where its launcher was killed; it may have been before it had made it whole (".ID"), or locked it. */
static void remove_left(int top_fd, const char *name) {
        _cleanup_close_ int dirfd = open_directory(top_fd, name);

        switch (dirfd < 0 ? LOCK_HELD : lock_state(dirfd, "lock")) {
        case LOCK_FREE:
                remove_directory(top_fd, name, dirfd);
                break;
        case LOCK_ABSENT:
                remove_unlocked(top_fd, name, dirfd);
                break;
        case LOCK_HELD:
                break;
        }
}

void runtime_sweep(int top_fd) {
        DIR *d = fd_open_dir(top_fd, ".");
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));)
                if (e->d_type == DT_DIR && strlen(e->d_name) >= BOX_ID_LEN)
                        g_ptr_array_add(names, g_strdup(e->d_name));
        closedir(d);
        guint first = names->len > SWEEP_MAX ? (guint) g_random_int_range(0, (gint32) names->len) : 0;
        for (guint i = 0; i < MIN(names->len, SWEEP_MAX); i++) {
                const char *name = g_ptr_array_index(names, (first + i) % names->len);
                if (state_is_id(*name == '.' ? name + 1 : name))
                        remove_left(top_fd, name);
        }
}

/* The address of a socket below a directory that may have too long a path for one (unix(7)). */
static struct sockaddr_un address_in(int dirfd) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        g_snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/control", dirfd);
        return address;
}

/* The directory and its lock, which has its name from the moment on in which it is locked. False with errno. */
static bool make_locked(RuntimeBox *box) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        if (mkdirat(box->top_fd, box->name, 0700) < 0 && errno != EEXIST)
                return false;
        box->fd = open_directory(box->top_fd, box->name);
        if (box->fd < 0)
                return false;
        box->lock_fd = openat(box->fd, "lock.new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        return box->lock_fd >= 0 && fcntl(box->lock_fd, F_OFD_SETLK, &lock) == 0 && renameat(box->fd, "lock.new", box->fd, "lock") == 0;
}

/* Again as long as somebody who sweeps takes it away under our hands. */
static bool make_directory(RuntimeBox *box, GError **error) {
        _cleanup_close_ int nobody_sweeps = lock_top(box->top_fd, LOCK_SH);

        for (int i = 0; !make_locked(box); i++) {
                int errnum = errno;
                fd_closep(&box->lock_fd);
                if (errnum != ENOENT || i == MAKE_TRIES)
                        return err_set(error, errnum, "make the runtime directory of %s", box->name + 1);
                fd_closep(&box->fd);
        }
        return true;
}

static bool fill(RuntimeBox *box, const char *state, int *ret_listen, GError **error) {
        if (!runtime_box_write(box, state, error))
                return false;
        _cleanup_close_ int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = address_in(box->fd);
        if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
                return err_set(error, errno, "control socket");
        *ret_listen = fd_steal(&listener);
        return true;
}

RuntimeBox *runtime_box_new(const char *id, const char *state, int *ret_listen, GError **error) {
        RuntimeBox *box = g_new0(RuntimeBox, 1);
        int listener = -1;

        box->fd = box->lock_fd = -1;
        g_snprintf(box->name, sizeof box->name, ".%s", id);
        box->top_fd = runtime_open(true, error);
        bool ok = box->top_fd >= 0;
        /* A dead launcher's of the same box, where that is continued. */
        if (ok)
                runtime_remove(box->top_fd, id);
        if (!ok || !make_directory(box, error) || !fill(box, state, &listener, error)) {
                fd_closep(&listener);
                runtime_box_free(box);
                err_hint(error, "is the disk full? XDG_RUNTIME_DIR names another directory");
                return NULL;
        }
        *ret_listen = listener;
        return box;
}

bool runtime_box_publish(RuntimeBox *box, GError **error) {
        const char *id = box->name + 1;

        if (renameat(box->top_fd, box->name, box->top_fd, id) < 0)
                return err_set(error, errno, "rename the runtime directory of %s", id);
        memmove(box->name, id, strlen(id) + 1);
        return true;
}

bool runtime_box_write(const RuntimeBox *box, const char *state, GError **error) {
        return state_write(box->fd, state, error);
}

void runtime_box_free(RuntimeBox *box) {
        if (!box)
                return;
        if (box->fd >= 0)
                remove_directory(box->top_fd, box->name, box->fd);
        else if (box->top_fd >= 0)
                (void) unlinkat(box->top_fd, box->name, AT_REMOVEDIR);
        fd_closep(&box->lock_fd);
        fd_closep(&box->fd);
        fd_closep(&box->top_fd);
        g_free(box);
}

int runtime_connect(const char *id, GError **error) {
        _cleanup_close_ int top = runtime_open(false, error);
        if (top < 0)
                return -1;
        _cleanup_close_ int dir = openat(top, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        struct sockaddr_un address = address_in(dir);
        const struct timeval patience = { .tv_sec = CONNECT_S };
        if (dir < 0 || fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
            connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
                err_set(error, errno, "control socket of box %s", id);
                if (errno == ENOENT || errno == ECONNREFUSED)
                        err_hint(error, "it is not running: usbox ps -a");
                return -1;
        }
        return fd_steal(&fd);
}

bool runtime_box_runs(const char *id) {
        _cleanup_close_ int top = runtime_open(false, NULL);
        return top >= 0 && runtime_is_locked(top, id);
}
