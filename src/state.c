/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box leaves on the host: ids, its directory, its removal.
 *
 * Role: launcher. Privileges: the caller's; for files of subordinate ids a user namespace that maps them. Threads: one.
 * Order: steps 3 and 11. What is in upper/ was made by the box: nothing in it is followed (O_NOFOLLOW everywhere).
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "state.h"
#include "user-map.h"

bool state_random_hex(char *ret, size_t n_digits, GError **error) {
        uint8_t bytes[STATE_RANDOM_MAX / 2];

        g_assert(n_digits % 2 == 0 && n_digits <= STATE_RANDOM_MAX);
        if (getrandom(bytes, n_digits / 2, 0) != (ssize_t) (n_digits / 2))
                return err_set(error, errno, "getrandom");
        for (size_t i = 0; i < n_digits / 2; i++)
                g_snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
        return true;
}

static bool is_id(const char *name) {
        return strlen(name) == BOX_ID_LEN && strspn(name, "0123456789abcdef") == BOX_ID_LEN;
}

/* $XDG_DATA_HOME is the caller's to choose; usbox's part of it must be the caller's own and closed to others. */
static int open_boxes(const Caller *caller, bool make, char **ret_path, GError **error) {
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
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        *ret_path = g_file_read_link(link, NULL);
        if (!*ret_path) {
                err_set(error, errno, "%s", link);
                return -1;
        }
        return fd_steal(&fd);
}

BoxDir *box_dir_new(const char *id, const Caller *caller, GError **error) {
        g_autoptr(BoxDir) dir = g_new0(BoxDir, 1);

        dir->boxes_fd = dir->fd = dir->lock_fd = -1;
        g_strlcpy(dir->id, id, sizeof dir->id);
        dir->boxes_fd = open_boxes(caller, true, &dir->boxes, error);
        if (dir->boxes_fd < 0)
                return NULL;
        dir->path = g_build_filename(dir->boxes, id, NULL);

        if (mkdirat(dir->boxes_fd, id, 0700) < 0 ||
            (dir->fd = openat(dir->boxes_fd, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) {
                err_set(error, errno, "make %s", dir->path);
                err_hint(error, "is the disk full, or the directory read-only? XDG_DATA_HOME chooses another");
                return NULL;
        }
        /* Another launcher's is_dead() may hold it for a moment, and then let go of it, since it is new. */
        dir->lock_fd = openat(dir->boxes_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir->lock_fd < 0 || flock(dir->lock_fd, LOCK_EX) < 0) {
                err_set(error, errno, "lock %s", dir->path);
                (void) unlinkat(dir->boxes_fd, id, AT_REMOVEDIR);
                return NULL;
        }
        return g_steal_pointer(&dir);
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

/* Deeper than this a directory is moved up to be removed from there: descriptors and stack are bounded, its depth is not. */
#define REMOVE_DEPTH 48

/* One removal: where what lies too deep is moved to, and how many were. */
typedef struct {
        int top;
        unsigned moved;
        FdLater *later;
} Removal;

/* rm -rf of name below dirfd. 0, or the errno of the first thing that could not be removed (the rest is tried). */
static int remove_below(Removal *r, int dirfd, const char *name, unsigned char type, int depth) {
        if (type != DT_DIR) {
                if (fd_later_unlink(r->later, dirfd, name, 0) == 0 || errno == ENOENT)
                        return 0;
                if (errno != EISDIR && errno != EPERM)
                        return errno;
        }
        if (fd_later_unlink(r->later, dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 0;
        if (errno != ENOTEMPTY && errno != EEXIST)
                return errno;
        if (depth >= REMOVE_DEPTH) {
                char place[32];
                g_snprintf(place, sizeof place, ".deep-%u", r->moved++);
                /* Moving a directory changes its "..", which needs the right to write it. If this fails, so does that. */
                int mode_set = fchmodat(dirfd, name, 0700, 0);
                (void) mode_set;
                return renameat2(dirfd, name, r->top, place, RENAME_NOREPLACE) == 0 ? 0 : errno;
        }

        /* The box may have taken the rights on its directories away, and overlayfs does on its workdir. */
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        else if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0)
                log_step("chmod: %s", g_strerror(errno));
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        if (!d) {
                int saved = errno;
                fd_closep(&fd);
                return saved;
        }
        int first = 0;
        for (struct dirent *e; (e = readdir(d));) {
                if (g_str_equal(e->d_name, ".") || g_str_equal(e->d_name, ".."))
                        continue;
                int error = remove_below(r, fd, e->d_name, e->d_type, depth + 1);
                if (error != 0 && first == 0)
                        first = error;
        }
        closedir(d);
        if (fd_later_unlink(r->later, dirfd, name, AT_REMOVEDIR) == 0)
                return 0;
        return first ? first : errno;
}

/* name below dirfd, with what of it was moved into the directory name itself, or beside it. */
static int remove_tree(FdLater *later, int dirfd, const char *name) {
        Removal r = { .top = dirfd, .later = later };
        int error = remove_below(&r, dirfd, name, DT_DIR, 0);

        for (unsigned i = 0; i < r.moved && error == 0; i++) {
                char place[32];
                g_snprintf(place, sizeof place, ".deep-%u", i);
                error = remove_below(&r, dirfd, place, DT_DIR, 0);
        }
        return error;
}

/*
 * The same inside a user namespace with all of the caller's ids: files of subordinate ids are removed by its root. Not this run's maps:
 * the box may be an earlier one's, which had others.
 */
static int remove_tree_mapped(int dirfd, const char *name, const Spec *spec) {
        int gate[2], result = EACCES; /* as without them */
        _cleanup_close_ int go = -1, answer = -1;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, gate) < 0)
                return errno;
        struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
        pid_t pid = sys_clone3(&args);
        if (pid < 0) {
                result = errno;
                close(gate[0]);
                close(gate[1]);
                return result;
        }
        if (pid == 0) {
                char byte;
                close(gate[0]);
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
                if (read(gate[1], &byte, 1) != 1)
                        _exit(EIO & 0x7f);
                _exit(remove_tree(&(FdLater){ .n = FD_LATER_MAX }, dirfd, name) & 0x7f);
        }
        close(gate[1]);
        go = gate[0];
        if (!user_map_all_ids(spec, pid, NULL) || write(go, "M", 1) != 1)
                kill(pid, SIGKILL);
        int status;
        if (proc_wait(pid, &status) && WIFEXITED(status))
                result = WEXITSTATUS(status);
        return result;
}

/* The errno of a removal: one that the rights of the caller's other ids may help against (real root has them all). */
static bool wants_other_ids(int errnum, const Spec *spec) {
        return (errnum == EACCES || errnum == EPERM) && spec->caller.uid != 0;
}

/* upper/ last: until then the directory is recognised for what it is. What is moved on the way stays in the box's own directory. */
static int remove_box(FdLater *later, int boxes_fd, const char *id, const Spec *spec) {
        _cleanup_close_ int box = openat(boxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        static const char *const parts[] = { "work", "tmp", "hooks", "hooks-work", "upper", NULL };

        for (const char *const *part = parts; box >= 0 && *part; part++) {
                int r = remove_tree(later, box, *part);
                if (wants_other_ids(r, spec))
                        r = remove_tree_mapped(box, *part, spec);
                if (r != 0)
                        return r;
        }
        return remove_tree(later, boxes_fd, id);
}

/* No launcher holds the box, and its run ended as kept says. */
static bool is_dead(int box, bool kept) {
        struct stat st;

        if (flock(box, LOCK_EX | LOCK_NB) < 0)
                return false;
        /* Empty: its launcher is between mkdir and lock, or was killed there: a minute tells. */
        if (faccessat(box, "upper", F_OK, 0) < 0 && (fstat(box, &st) < 0 || time(NULL) - st.st_mtime < 60))
                return false;
        return (faccessat(box, "kept", F_OK, 0) == 0) == kept;
}

static void remove_dead(BoxDir *dir, const Spec *spec, bool kept) {
        int copy = openat(dir->boxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
        if (!d) {
                fd_closep(&copy);
                return;
        }
        for (struct dirent *e; (e = readdir(d));) {
                if (!is_id(e->d_name) || g_str_equal(e->d_name, dir->id))
                        continue;
                _cleanup_close_ int box =
                        openat(dir->boxes_fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (box < 0 || !is_dead(box, kept))
                        continue;
                int r = remove_box(&dir->later, dir->boxes_fd, e->d_name, spec);
                if (r != 0)
                        log_step("box %s could not be removed: %s", e->d_name, g_strerror(r));
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
        dir->boxes_fd = open_boxes(&spec->caller, false, NULL, NULL);
        if (dir->boxes_fd >= 0)
                remove_dead(dir, spec, true);
}

bool box_dir_keep(BoxDir *dir, const Spec *spec, GError **error) {
        static const char *const done[] = { "tmp", "work", "hooks", "hooks-work", NULL };

        for (const char *const *part = done; *part; part++) {
                int r = remove_tree(&dir->later, dir->fd, *part);
                if (wants_other_ids(r, spec))
                        r = remove_tree_mapped(dir->fd, *part, spec);
                if (r != 0)
                        log_step("%s/%s could not be removed: %s", dir->path, *part, g_strerror(r));
        }
        _cleanup_close_ int kept = openat(dir->fd, "kept", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (kept < 0)
                return err_set(error, errno, "keep %s", dir->path);
        return true;
}

bool box_dir_remove(BoxDir *dir, const Spec *spec, GError **error) {
        int r = remove_box(&dir->later, dir->boxes_fd, dir->id, spec);
        if (r == 0)
                return true;
        err_set(error, r, "remove %s", dir->path);
        return err_hint(error, "what is left there can be removed by hand, as root if need be");
}

/* No deeper: the count is for a person, and what lies below a name this long is a handful or an attack. */
#define COUNT_PATH_MAX 1024

typedef struct {
        int lower; /* the host's root, or --rootfs */
        GString *path;
        UpperCount *count;
} Counter;

static void count_dir(Counter *c, int dirfd, const char *name) {
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        if (!d) {
                fd_closep(&fd);
                return;
        }
        size_t len = c->path->len;
        bool deep = len > COUNT_PATH_MAX;
        for (struct dirent *e; !deep && (e = readdir(d));) {
                struct stat st, lower;
                if (g_str_equal(e->d_name, ".") || g_str_equal(e->d_name, "..") ||
                    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0)) {
                        c->count->removed++;
                        continue;
                }
                g_string_append_printf(c->path, "%s%s", len ? "/" : "", e->d_name);
                /* A directory that the host has too is only the way to what changed below it. */
                if (!S_ISDIR(st.st_mode) || fstatat(c->lower, c->path->str, &lower, AT_SYMLINK_NOFOLLOW) < 0 ||
                    !S_ISDIR(lower.st_mode))
                        c->count->changed++;
                if (S_ISDIR(st.st_mode))
                        count_dir(c, fd, e->d_name);
                else if (S_ISREG(st.st_mode))
                        c->count->bytes += (guint64) st.st_blocks * 512;
                g_string_truncate(c->path, len);
        }
        closedir(d);
}

void box_dir_count(const BoxDir *dir, const Spec *spec, UpperCount *ret) {
        g_autoptr(GString) path = g_string_new(NULL);
        _cleanup_close_ int lower = open(spec->root.rootfs ? spec->root.rootfs : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        *ret = (UpperCount){ 0 };
        if (lower >= 0)
                count_dir(&(Counter){ .lower = lower, .path = path, .count = ret }, dir->fd, "upper");
}
