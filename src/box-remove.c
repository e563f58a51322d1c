/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Removing what a box left on the host.
 *
 * Role: launcher, janitor and verbs. Privileges: the caller's; for files of subordinate ids a user namespace that maps them. Threads: one.
 * Order: step 11, under state.c. What is in upper/ was made by the box: nothing in it is followed (O_NOFOLLOW everywhere).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "box-remove.h"
#include "commit-rest.h"
#include "user-map.h"

/* Deeper than this a directory is moved up to be removed from there: descriptors and stack are bounded, its depth is not. */
#define REMOVE_DEPTH 48

/* One removal: where what lies too deep is moved to, and how many were. The names there are its own: one that was cut short, or that
 * lacked the rights, has left others, and in a directory of the host's (commit_rest_remove()) a person may have such. */
typedef struct {
        int top;
        guint32 mark;
        unsigned moved;
        FdLater *later;
} Removal;

#define PLACE_LEN 32

static void name_place(const Removal *r, unsigned i, char place[static PLACE_LEN]) {
        g_snprintf(place, PLACE_LEN, ".deep-%08x-%u", r->mark, i);
}

/* Where a commit removes what was the host's, a box with the tree by --rw may change what the name is: no symlink's target gets that mode. False with errno. */
static bool open_up(int dirfd, const char *name) {
        _cleanup_close_ int dir = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char path[32];

        g_snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
        return dir >= 0 && chmod(path, 0700) == 0;
}

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
                char place[PLACE_LEN];
                if (r->moved == 0)
                        r->mark = g_random_int();
                name_place(r, r->moved++, place);
                /* Moving a directory changes its "..", which needs the right to write it. If this fails, so does that. */
                (void) open_up(dirfd, name);
                return renameat2(dirfd, name, r->top, place, RENAME_NOREPLACE) == 0 ? 0 : errno;
        }

        /* The box may have taken the rights on its directories away, and overlayfs does on its workdir. */
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (fd < 0 && errno == EACCES && open_up(dirfd, name))
                fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        else if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0)
                log_step("chmod: %s", err_text(errno));
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
                char place[PLACE_LEN];
                name_place(&r, i, place);
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

int box_remove_part(FdLater *later, int dirfd, const char *name, const Spec *spec) {
        int r = remove_tree(later, dirfd, name);
        return spec && wants_other_ids(r, spec) ? remove_tree_mapped(dirfd, name, spec) : r;
}

/* What a commit of it has left elsewhere goes first; upper/ last: until then the directory is recognised for what it is. What is moved on the way stays in
 * the box's own directory. */
int box_remove(FdLater *later, int boxes_fd, const char *id, const Spec *spec) {
        _cleanup_close_ int box = openat(boxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        static const char *const parts[] = { "work", "tmp", "hooks", "hooks-work", "upper", NULL };

        if (box >= 0)
                commit_rest_give_up(box, id);
        for (const char *const *part = parts; box >= 0 && *part; part++) {
                int r = box_remove_part(later, box, *part, spec);
                if (r != 0)
                        return r;
        }
        return box_remove_part(later, boxes_fd, id, spec);
}
