/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stdin, stdout and stderr: passed as they are, but not as a way out.
 *
 * Role: launcher; stdfds_landlock() payload. Privileges: none needed. Threads: one. Order: steps 3 and 9.
 *
 * A terminal on stdin is replaced by the box's own pty. A regular file (or a terminal that only output goes to) could be
 * opened anew through /proc/self/fd/N, with rights that the descriptor has not: read where it was given for writing, write where
 * the caller only may. Landlock stops that: its one rule allows all that lies beneath the box's root, and a file of
 * the host's mounts does not. A process under Landlock cannot mount, though (landlock(7), "Limitations"), so with --nested, and on
 * kernels without it, such files are copied through a pipe instead.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/sys.h"
#include "stdfds.h"

static const char *const names[3] = { "standard input", "standard output", "standard error" };

/* Landlock's rights from its ABI 2 on; before it any rename from one directory to another was refused (landlock(7)). */
#define LANDLOCK_RIGHTS_1 ((1ULL << 13) - 1)
#define LANDLOCK_RIGHT_REFER (1ULL << 13)
#define LANDLOCK_RIGHT_TRUNCATE (1ULL << 14)

static int landlock_abi(void) {
        return sys_landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool stdfds_landlock(GError **error) {
        int abi = landlock_abi();
        guint64 rights = LANDLOCK_RIGHTS_1 | LANDLOCK_RIGHT_REFER | (abi >= 3 ? LANDLOCK_RIGHT_TRUNCATE : 0);
        struct landlock_ruleset_attr attr = { .handled_access_fs = rights };

        _cleanup_close_ int ruleset = sys_landlock_create_ruleset(&attr, sizeof attr, 0);
        _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (ruleset < 0 || root < 0)
                return err_set(error, errno, "ruleset");
        struct landlock_path_beneath_attr beneath = { .allowed_access = rights, .parent_fd = root };
        if (sys_landlock_add_rule(ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath) < 0)
                return err_set(error, errno, "rule");
        if (sys_landlock_restrict_self(ruleset) < 0)
                return err_set(error, errno, "restrict");
        return true;
}

bool stdfds_fill(GError **error) {
        for (int fd = 0; fd < 3; fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        continue;
                /* open(2) takes the lowest free number: this one. */
                if (open("/dev/null", O_RDWR) != fd)
                        return err_set(error, errno, "open /dev/null for %s", names[fd]);
        }
        return true;
}

static bool is_same_terminal(int a, int b) {
        struct stat sa, sb;
        return isatty(a) && isatty(b) && fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_rdev == sb.st_rdev;
}

/*
 * One file behind both, both appending or both at one place: as after `>log 2>&1`. Where it is the same file at two places, writes
 * go where each of them stands, and have no order among themselves.
 */
static bool is_same_file(int a, int b) {
        struct stat sa, sb;
        int flags = fcntl(a, F_GETFL);
        return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && S_ISREG(sa.st_mode) && S_ISREG(sb.st_mode) && sa.st_dev == sb.st_dev &&
               sa.st_ino == sb.st_ino && flags == fcntl(b, F_GETFL) && ((flags & O_APPEND) || lseek(a, 0, SEEK_CUR) == lseek(b, 0, SEEK_CUR));
}

/* Where the file takes no more the pipe is closed, and whoever writes to it learns, as it would from the file itself. */
static bool start_relay(Stdio *s, int fd, GError **error) {
        int ends[2];

        /* One pipe, so that what is written comes out in the order in which it was. */
        if (fd == STDERR_FILENO && s->relays[STDOUT_FILENO] && is_same_file(STDOUT_FILENO, STDERR_FILENO)) {
                s->plan.fds[STDERR_FILENO] = s->plan.fds[STDOUT_FILENO];
                return true;
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe for %s", names[fd]);
        int host = fcntl(fd, F_DUPFD_CLOEXEC, 10);
        if (host < 0) {
                close(ends[0]);
                close(ends[1]);
                return err_set(error, errno, "dup %s", names[fd]);
        }
        int ours = fd == 0 ? ends[1] : ends[0];
        s->pipe_ends[fd] = s->plan.fds[fd] = fd == 0 ? ends[0] : ends[1];
        (void) fd_set_nonblock(ours, true);
        s->relays[fd] = fd == 0 ? relay_new(names[fd], host, ours, 0) : relay_new(names[fd], ours, host, 0);
        if (fd == 0) {
                int reader = fcntl(ends[0], F_DUPFD_CLOEXEC, 10);
                if (reader < 0)
                        return err_set(error, errno, "dup pipe");
                relay_watch_reader(s->relays[fd], reader);
        }
        return true;
}

bool stdfds_prepare(const Spec *spec, Stdio *ret, GError **error) {
        bool landlock = !spec->caps.nested && landlock_abi() >= 2;

        *ret = (Stdio){ .tty = -1, .pipe_ends = { -1, -1, -1 } };
        ret->pty_wanted = spec->box.tty || isatty(STDIN_FILENO);
        if (isatty(STDIN_FILENO))
                ret->tty = STDIN_FILENO;

        for (int fd = 0; fd < 3; fd++) {
                struct stat st;
                ret->plan.fds[fd] = fd;
                if (fstat(fd, &st) < 0)
                        return err_set(error, errno, "%s", names[fd]);
                if (S_ISDIR(st.st_mode) || (fcntl(fd, F_GETFL) & O_PATH)) {
                        err_set(error, 0, "%s is a directory", names[fd]);
                        return err_hint(error, "an open directory of the host is a way out of the box; give it with -v or --rw");
                }
                if (ret->pty_wanted && (fd == 0 || spec->box.tty || is_same_terminal(fd, STDIN_FILENO))) {
                        ret->plan.pty[fd] = true;
                        continue;
                }
                if (S_ISCHR(st.st_mode) && isatty(fd) && landlock) {
                        ret->plan.landlock = true;
                } else if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
                        if (landlock)
                                ret->plan.landlock = true;
                        else if (!start_relay(ret, fd, error))
                                return false;
                }
        }
        return true;
}

void stdfds_close_pipe_ends(Stdio *s) {
        for (int fd = 0; fd < 3; fd++)
                fd_closep(&s->pipe_ends[fd]);
}

void stdfds_clear(Stdio *s) {
        stdfds_close_pipe_ends(s);
        for (int fd = 0; fd < 3; fd++)
                g_clear_pointer(&s->relays[fd], relay_free);
        g_clear_error(&s->lost_output);
}
