/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box leaves on the host: ids, its directory, its removal.
 *
 * Role: launcher. Privileges: the caller's; for files of subordinate ids a user namespace that maps them. Threads: one.
 * Order: steps 3 and 11. What is in upper/ was made by the box: nothing in it is followed (O_NOFOLLOW everywhere).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "box-remove.h"
#include "fsoverlay/changes-xattr.h"
#include "fsoverlay/lowers.h"
#include "runtime.h"
#include "seen.h"
#include "state.h"

bool state_random_hex(char *ret, size_t n_digits, GError **error) {
        uint8_t bytes[STATE_RANDOM_MAX / 2];

        g_assert(n_digits % 2 == 0 && n_digits <= STATE_RANDOM_MAX);
        if (getrandom(bytes, n_digits / 2, 0) != (ssize_t) (n_digits / 2))
                return err_set(error, errno, "getrandom");
        for (size_t i = 0; i < n_digits / 2; i++)
                g_snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
        return true;
}

bool state_is_id(const char *name) {
        return strlen(name) == BOX_ID_LEN && strspn(name, "0123456789abcdef") == BOX_ID_LEN;
}

bool state_hint_full(GError **error) {
        int errnum = error && *error ? err_get_errno(*error) : 0;

        if (errnum == ENOSPC || errnum == EDQUOT)
                err_hint(error, "usbox ps -a shows what boxes keep on the disk, and usbox rm BOX gives it back; df -i tells whether it is "
                                "files that there is no room for; XDG_DATA_HOME names another place");
        else if (errnum == EFBIG)
                err_hint(error, "the shell's limit on the size of files is too small for usbox (ulimit -f); for the command alone: "
                                "usbox run --ulimit fsize=BYTES");
        return false;
}

/* Its room is not given up: it may be what state_reserve() keeps of a disk that is full. */
static int open_new_state(int dirfd) {
        return openat(dirfd, ".state.json", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

bool state_write(int dirfd, const char *text, GError **error) {
        _cleanup_close_ int fd = open_new_state(dirfd);
        size_t len = strlen(text);

        if (fd < 0 || !fd_write_all(fd, text, len) || ftruncate(fd, (off_t) len) < 0 || renameat(dirfd, ".state.json", dirfd, "state.json") < 0)
                return err_set(error, errno, "write state.json");
        return true;
}

/* The mark of the box's end, before it is one. */
#define UNUSED_MARK ".mark"

void state_reserve(int dirfd, size_t len, bool mark) {
        _cleanup_close_ int fd = open_new_state(dirfd);
        int r = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t) len);
        _cleanup_close_ int empty = mark ? openat(dirfd, UNUSED_MARK, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

        if (r == 0 && mark && empty < 0)
                r = errno;
        if (r != 0)
                log_step("no room kept for the end of the box: %s", err_text(r));
}

/* $XDG_DATA_HOME is the caller's to choose; usbox's part of it must be the caller's own and closed to others. */
int state_open_boxes(const Caller *caller, bool make, char **ret_path, GError **error) {
        g_autofree char *data = account_data_dir(caller->home);
        g_autofree char *boxes = g_build_filename(data, "usbox", "boxes", NULL);
        struct stat st;

        _cleanup_close_ int fd = open(boxes, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT && make && g_mkdir_with_parents(boxes, 0700) == 0)
                fd = open(boxes, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
                err_set(error, errno, "%s", boxes);
                err_hint(error,
                         "usbox keeps boxes there: make it writable, or set XDG_DATA_HOME to a directory that is");
                return -1;
        }
        if (st.st_uid != geteuid() || (st.st_mode & 022)) {
                err_set(error, 0, "%s belongs to somebody else or others may write to it", boxes);
                err_hint(error, "chmod go-w %s, or set XDG_DATA_HOME to a directory of your own", boxes);
                return -1;
        }
        if (!ret_path)
                return fd_steal(&fd);
        *ret_path = fd_read_path(fd);
        if (!*ret_path) {
                err_set(error, errno, "/proc/self/fd/%d", fd);
                return -1;
        }
        return fd_steal(&fd);
}

/* Not yet locked, and no box: all descriptors but that of the directory of boxes are missing. */
static BoxDir *open_top(const Caller *caller, GError **error) {
        g_autoptr(BoxDir) dir = g_new0(BoxDir, 1);

        dir->boxes_fd = dir->fd = dir->lock_fd = -1;
        dir->boxes_fd = state_open_boxes(caller, true, &dir->boxes, error);
        return dir->boxes_fd >= 0 ? g_steal_pointer(&dir) : NULL;
}

static void set_id(BoxDir *dir, const char *id) {
        g_strlcpy(dir->id, id, sizeof dir->id);
        g_free(dir->path);
        dir->path = g_build_filename(dir->boxes, id, NULL);
}

static bool make_dir(BoxDir *dir, const char *id, GError **error) {
        set_id(dir, id);
        if (mkdirat(dir->boxes_fd, id, 0700) < 0) {
                err_set(error, errno, "make %s", dir->path);
                state_hint_full(error);
                return err_hint(error, "is the directory read-only? XDG_DATA_HOME chooses another");
        }
        dir->fd = openat(dir->boxes_fd, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* Another launcher's lock_dead() may hold it for a moment, and then let go of it, since it is new. */
        dir->lock_fd = dir->fd < 0 ? -1 : openat(dir->boxes_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir->lock_fd < 0 || flock(dir->lock_fd, LOCK_EX) < 0) {
                err_set(error, errno, "lock %s", dir->path);
                (void) unlinkat(dir->boxes_fd, id, AT_REMOVEDIR);
                return false;
        }
        return true;
}

BoxDir *box_dir_new(const char *id, const Caller *caller, GError **error) {
        g_autoptr(BoxDir) dir = open_top(caller, error);

        return dir && make_dir(dir, id, error) ? g_steal_pointer(&dir) : NULL;
}

/* Write a small file of the box's directory. */
static bool write_mark(const BoxDir *dir, const char *name, const char *text, GError **error) {
        _cleanup_close_ int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd >= 0 && fd_write_all(fd, text, strlen(text)))
                return true;
        err_set(error, errno, "write %s/%s", dir->path, name);
        return state_hint_full(error);
}

char *state_box_name(int boxes_fd, const char *id) {
        char path[64], *text = NULL;

        g_snprintf(path, sizeof path, "%s/name", id);
        return fd_read_file(boxes_fd, path, BOX_NAME_MAX, &text, NULL) ? text : NULL;
}

/* The box that has this name: its id, or "". False: one may have it, but not all could be asked. */
static bool find_named(const BoxDir *dir, const char *wanted, char ret_id[static BOX_ID_LEN + 1], GError **error) {
        DIR *d = fd_open_dir(dir->boxes_fd, ".");
        int failure = d ? 0 : errno;

        *ret_id = '\0';
        while (d && failure == 0 && !*ret_id) {
                errno = 0;
                const struct dirent *e = readdir(d);
                if (!e) {
                        failure = errno;
                        break;
                }
                g_autofree char *name = state_is_id(e->d_name) ? state_box_name(dir->boxes_fd, e->d_name) : NULL;
                if (name && g_str_equal(name, wanted))
                        g_strlcpy(ret_id, e->d_name, BOX_ID_LEN + 1);
                else if (!name && errno != 0 && errno != ENOENT)
                        failure = errno;
        }
        if (d)
                closedir(d);
        return failure == 0 || err_set(error, failure, "look for the name %s in %s", wanted, dir->boxes);
}

/* Whoever looks whether a box is dead holds its lock for a moment; a launcher for as long as it lives. */
#define LOCK_TRIES 40
#define LOCK_WAIT_US 25000

bool state_lock(int fd, int how) {
        struct stat st;
        int r = -1;

        for (int i = 0; i < LOCK_TRIES && (r = flock(fd, how | LOCK_NB)) < 0 && errno == EWOULDBLOCK; i++)
                g_usleep(LOCK_WAIT_US);
        if (r < 0 || fstat(fd, &st) < 0 || st.st_nlink > 0)
                return r == 0;
        errno = ENOENT;
        return false;
}

int box_dir_lock(int boxes_fd, const char *id, GError **error) {
        _cleanup_close_ int fd = openat(boxes_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (fd >= 0 && state_lock(fd, LOCK_EX))
                return fd_steal(&fd);
        if (errno == EWOULDBLOCK) {
                err_set(error, EBUSY, "box %s", id);
                err_hint(error, "it is about to run, or another usbox commits, explores or removes it: say it again when that has ended");
        } else {
                err_set(error, errno, "lock box %s", id);
        }
        return -1;
}

/* The lock on all boxes: two runs must not make the same name. */
static int lock_boxes(const BoxDir *dir, GError **error) {
        _cleanup_close_ int fd = openat(dir->boxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || flock(fd, LOCK_EX) < 0) {
                err_set(error, errno, "lock %s", dir->boxes);
                return -1;
        }
        return fd_steal(&fd);
}

static bool taken(const char *name, const char *id, GError **error) {
        err_set(error, 0, "box %s (%s) is running", name, id);
        return err_hint(error, "usbox exec %s -- COMMAND, usbox stop %s (a pod: usbox pod stop %s), or another --name", name, name, name);
}

BoxDir *box_dir_named(const char *name, char id[static BOX_ID_LEN + 1], const Caller *caller, GError **error) {
        g_autoptr(BoxDir) dir = open_top(caller, error);
        _cleanup_close_ int all = dir ? lock_boxes(dir, error) : -1;
        char known[BOX_ID_LEN + 1];

        for (;;) {
                g_autoptr(GError) failure = NULL;
                if (all < 0 || !find_named(dir, name, known, error))
                        return NULL;
                if (!*known)
                        break;
                if (runtime_box_runs(known)) {
                        taken(name, known, error);
                        return NULL;
                }
                dir->lock_fd = box_dir_lock(dir->boxes_fd, known, &failure);
                if (dir->lock_fd < 0 && err_get_errno(failure) == ENOENT)
                        continue;
                if (dir->lock_fd < 0) {
                        if (err_get_errno(failure) == EBUSY && runtime_box_runs(known))
                                taken(name, known, error);
                        else
                                g_propagate_error(error, g_steal_pointer(&failure));
                        return NULL;
                }
                set_id(dir, known);
                g_strlcpy(id, known, BOX_ID_LEN + 1);
                dir->fd = openat(dir->boxes_fd, known, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                return dir->fd >= 0 ? g_steal_pointer(&dir) : (err_set(error, errno, "%s", dir->path), NULL);
        }
        if (!make_dir(dir, id, error))
                return NULL;
        if (!write_mark(dir, "held", "", error) || !write_mark(dir, "name", name, error)) {
                (void) box_remove_part(&dir->later, dir->boxes_fd, id, NULL);
                return NULL;
        }
        return g_steal_pointer(&dir);
}

BoxDir *box_dir_again(const char *wanted, char id[static BOX_ID_LEN + 1], const Caller *caller, GError **error) {
        g_autoptr(BoxDir) dir = open_top(caller, error);

        if (!dir || (dir->lock_fd = box_dir_lock(dir->boxes_fd, wanted, error)) < 0)
                return NULL;
        set_id(dir, wanted);
        g_strlcpy(id, wanted, BOX_ID_LEN + 1);
        dir->fd = openat(dir->boxes_fd, wanted, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return dir->fd >= 0 ? g_steal_pointer(&dir) : (err_set(error, errno, "%s", dir->path), NULL);
}

void box_dir_free(BoxDir *dir) {
        fd_later_release(&dir->later);
        fd_closep(&dir->lock_fd);
        fd_closep(&dir->fd);
        fd_closep(&dir->boxes_fd);
        g_free(dir->path);
        g_free(dir->boxes);
        g_free(dir);
}

bool box_dir_is_new(int fd) {
        struct stat st;
        /* One of the future is of a time before the clock was set back. */
        return faccessat(fd, "upper", F_OK, 0) < 0 && (fstat(fd, &st) < 0 || ABS(time(NULL) - st.st_mtime) < 60);
}

/* No launcher holds the box, and its run ended as kept says: its lock, so that nobody else takes it. -1: none such. */
static int lock_dead(int boxes_fd, const char *id, bool kept) {
        char marker[64];

        /* Asked first, and by name: of hundreds of boxes only those that ended are opened. */
        g_snprintf(marker, sizeof marker, "%s/kept", id);
        if ((faccessat(boxes_fd, marker, F_OK, 0) == 0) != kept)
                return -1;
        _cleanup_close_ int box = openat(boxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (box < 0 || flock(box, LOCK_EX | LOCK_NB) < 0)
                return -1;
        if (box_dir_is_new(box))
                return -1;
        bool dead = faccessat(box, "held", F_OK, 0) < 0 && (faccessat(box, "kept", F_OK, 0) == 0) == kept;
        return dead ? fd_steal(&box) : -1;
}

static void remove_dead(BoxDir *dir, const Spec *spec, bool kept) {
        DIR *d = fd_open_dir(dir->boxes_fd, ".");
        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));) {
                if (!state_is_id(e->d_name) || g_str_equal(e->d_name, dir->id))
                        continue;
                _cleanup_close_ int lock = lock_dead(dir->boxes_fd, e->d_name, kept);
                if (lock < 0)
                        continue;
                int r = box_remove(&dir->later, dir->boxes_fd, e->d_name, spec);
                if (r != 0)
                        log_step("box %s could not be removed: %s", e->d_name, err_text(r));
        }
        closedir(d);
}

void box_dir_sweep(BoxDir *dir, const Spec *spec) {
        remove_dead(dir, spec, false);
}

void box_dir_forget(BoxDir *dir, const Spec *spec) {
        remove_dead(dir, spec, true);
}

void box_dir_forget_without(const Spec *spec) {
        g_autoptr(BoxDir) dir = g_new0(BoxDir, 1);

        dir->fd = dir->lock_fd = -1;
        dir->boxes_fd = state_open_boxes(&spec->caller, false, NULL, NULL);
        if (dir->boxes_fd >= 0)
                remove_dead(dir, spec, true);
}

static bool make_end_mark(const BoxDir *dir, const char *name, GError **error) {
        /* One that was explored stays what it was. */
        if (faccessat(dir->fd, "kept", F_OK, 0) == 0 || faccessat(dir->fd, name, F_OK, 0) == 0) {
                (void) unlinkat(dir->fd, UNUSED_MARK, 0);
                return true;
        }
        return renameat(dir->fd, UNUSED_MARK, dir->fd, name) == 0 || write_mark(dir, name, "", error);
}

bool box_dir_keep(BoxDir *dir, const Spec *spec, bool held, GError **error) {
        /* usbox-fs goes on with its index of hard links when the box is continued; of the kernel's overlay nothing is of use. */
        bool continued = held && spec->root.overlay == OVERLAY_FUSE;
        const char *const done[] = { "tmp", "hooks", "hooks-work", continued ? NULL : "work", NULL };

        for (const char *const *part = done; *part; part++) {
                int r = box_remove_part(&dir->later, dir->fd, *part, spec);
                if (r != 0)
                        log_step("%s/%s could not be removed: %s", dir->path, *part, err_text(r));
        }
        return make_end_mark(dir, held ? "held" : "kept", error);
}

bool box_dir_remove(BoxDir *dir, const Spec *spec, GError **error) {
        int r = box_remove(&dir->later, dir->boxes_fd, dir->id, spec);
        if (r == 0)
                return true;
        err_set(error, r, "remove %s", dir->path);
        return err_hint(error, "what is left there can be removed by hand, as root if need be");
}

/* No deeper: the count is for a person, and what lies below a name this long is a handful or an attack. It counts as one change, so that it is kept. */
#define COUNT_PATH_MAX 1024

typedef struct {
        int lower; /* the host's root, or --rootfs */
        GString *path;
        UpperCount *count;
        bool dirs;        /* the host has some of the directories, too */
        const Seen *seen; /* look at those; NULL: not at them */
        int upper;        /* upper/, and what form it has: with seen */
        LayerForm form;
} Counter;

/* The box has another directory by this name than the host, or changed its mode or attributes. */
static bool is_changed_dir(const Counter *c, int parent, const char *name, const struct stat *st, const struct stat *lower) {
        g_autofree char *path = g_strconcat("/", c->path->str, NULL);
        _cleanup_close_ int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        bool bad = false;
        g_autofree char *moved = fd >= 0 ? layer_redirect(c->form, fd, &bad) : NULL;

        if (fd < 0 || moved || bad || layer_is_opaque(c->form, fd))
                return true;
        if (seen_is_way(c->seen, c->upper, parent, name, path) || g_hash_table_contains(c->seen->own, path))
                return false;
        return st->st_mode != lower->st_mode || !changes_same_attributes(parent, name, c->lower, c->path->str);
}

/* What cannot be looked at is a change: what nobody changed is removed. counted: it is one already. */
static void count_dir(Counter *c, int parent, const char *name, bool counted) {
        DIR *d = fd_open_dir(parent, name);
        if (!d) {
                c->count->changed += errno != ENOENT && !counted;
                return;
        }
        size_t len = c->path->len;
        bool deep = len > COUNT_PATH_MAX;
        c->count->changed += deep;
        for (struct dirent *e; errno = 0, !deep && (e = readdir(d));) {
                struct stat st, lower;
                if (g_str_equal(e->d_name, ".") || g_str_equal(e->d_name, ".."))
                        continue;
                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                        c->count->changed++;
                        continue;
                }
                if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0)) {
                        c->count->removed++;
                        continue;
                }
                g_string_append_printf(c->path, "%s%s", len ? "/" : "", e->d_name);
                bool both = S_ISDIR(st.st_mode) && fstatat(c->lower, c->path->str, &lower, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(lower.st_mode);
                /* A directory that the host has too is mostly the way to what changed below it. */
                bool changed = !both || (c->seen && is_changed_dir(c, dirfd(d), e->d_name, &st, &lower));
                c->count->changed += changed;
                c->dirs = c->dirs || both;
                if (S_ISDIR(st.st_mode))
                        count_dir(c, dirfd(d), e->d_name, changed);
                else if (S_ISREG(st.st_mode))
                        c->count->bytes += (guint64) st.st_blocks * 512;
                g_string_truncate(c->path, len);
        }
        if (errno != 0)
                c->count->changed++;
        closedir(d);
}

void box_dir_count(const BoxDir *dir, const Spec *spec, UpperCount *ret) {
        g_autoptr(GString) path = g_string_new(NULL);
        _cleanup_close_ int lower = open(spec->root.rootfs ? spec->root.rootfs : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        Counter c = { .lower = lower, .path = path, .count = ret };

        *ret = (UpperCount){ 0 };
        count_dir(&c, dir->fd, "upper", false);
        if (!c.dirs || ret->changed + ret->removed > 0)
                return;
        /* Nothing but directories of the host's: two may have changed places, or one is empty now. */
        g_autoptr(Seen) seen = seen_read(dir->fd, NULL);
        _cleanup_close_ int upper = openat(dir->fd, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (!seen || upper < 0)
                return;
        c.seen = seen;
        c.upper = upper;
        c.form = layer_form(upper);
        count_dir(&c, dir->fd, "upper", false);
}
