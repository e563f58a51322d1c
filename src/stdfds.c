/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stdin, stdout and stderr: passed as they are, but not as a way out.
 *
 * Role: launcher. Privileges: none needed. Threads: one. Order: step 3.
 *
 * Whatever of the three is the caller's terminal is replaced by the box's own pty: a terminal that only output goes to could be
 * read from, too, and its settings be changed. A regular file is copied through a pipe: through its descriptor its mode, times and
 * attributes could be changed, and through /proc/self/fd/N it could be opened anew with rights that the descriptor has not.
 * (Landlock would stop just the latter, and takes mq_open(3) and mount(2) with it.)
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "stdfds.h"

static const char *const names[3] = { "standard input", "standard output", "standard error" };

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
        return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && S_ISREG(sa.st_mode) && S_ISREG(sb.st_mode) &&
               sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino && flags == fcntl(b, F_GETFL) &&
               ((flags & O_APPEND) || lseek(a, 0, SEEK_CUR) == lseek(b, 0, SEEK_CUR));
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
        int host = fd_dup_high(fd);
        if (host < 0) {
                close(ends[0]);
                close(ends[1]);
                return err_set(error, errno, "dup %s", names[fd]);
        }
        int ours = fd == 0 ? ends[1] : ends[0];
        s->pipe_ends[fd] = s->plan.fds[fd] = fd == 0 ? ends[0] : ends[1];
        if (!fd_set_nonblock(ours, true)) {
                err_set(error, errno, "pipe for %s", names[fd]);
                close(ours);
                close(host);
                return false;
        }
        s->relays[fd] = fd == 0 ? relay_new(names[fd], host, ours, 0) : relay_new(names[fd], ours, host, 0);
        if (fd == 0) {
                int reader = fd_dup_high(ends[0]);
                if (reader < 0)
                        return err_set(error, errno, "dup pipe");
                relay_watch_reader(s->relays[fd], reader);
        }
        return true;
}

/* The caller's terminal: that of stdin, or else the first one that output goes to. -1: none. */
static int find_terminal(void) {
        for (int fd = 0; fd < 3; fd++)
                if (isatty(fd))
                        return fd;
        return -1;
}

static bool prepare_one(const Spec *spec, Stdio *s, int fd, GError **error) {
        struct stat st;

        s->plan.fds[fd] = fd;
        if (fstat(fd, &st) < 0)
                return err_set(error, errno, "%s", names[fd]);
        if (S_ISDIR(st.st_mode) || (fcntl(fd, F_GETFL) & O_PATH)) {
                err_set(error, 0, "%s is %s", names[fd],
                        S_ISDIR(st.st_mode) ? "a directory" : "not open for reading or writing");
                return err_hint(error,
                                "what names a file of the host is a way out of the box; give it with -v or --rw");
        }
        if (spec->box.tty || (s->tty >= 0 && is_same_terminal(fd, s->tty))) {
                s->plan.pty[fd] = true;
                return true;
        }
        return (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) && !isatty(fd)) || start_relay(s, fd, error);
}

/* --detach: nothing to read, and a pipe each for what is written. With a terminal all output is its, and comes by our own standard output. */
static bool prepare_detached(const Spec *spec, Stdio *s, GError **error) {
        s->plan.fds[STDIN_FILENO] = STDIN_FILENO; /* /dev/null, by detach_fork() */
        s->pty_wanted = spec->box.tty;
        for (int i = 0; i < 2; i++) {
                int ends[2];
                if (pipe2(ends, O_CLOEXEC) < 0)
                        return err_set(error, errno, "pipe for %s", names[1 + i]);
                s->log_ends[i] = ends[0];
                s->pipe_ends[1 + i] = s->plan.fds[1 + i] = ends[1];
        }
        for (int i = 0; i < 3; i++)
                s->plan.pty[i] = spec->box.tty;
        if (spec->box.tty && dup2(s->pipe_ends[1], STDOUT_FILENO) < 0)
                return err_set(error, errno, "standard output");
        return true;
}

bool stdfds_prepare(const Spec *spec, Stdio *ret, GError **error) {
        *ret = STDIO_NONE;
        if (spec->box.detach)
                return prepare_detached(spec, ret, error);
        ret->tty = find_terminal();
        ret->pty_wanted = spec->box.tty || ret->tty >= 0;
        for (int fd = 0; fd < 3; fd++)
                if (!prepare_one(spec, ret, fd, error))
                        return false;
        return true;
}

void stdfds_close_pipe_ends(Stdio *s) {
        for (int fd = 0; fd < 3; fd++)
                fd_closep(&s->pipe_ends[fd]);
}

void stdfds_clear(Stdio *s) {
        stdfds_close_pipe_ends(s);
        fd_closep(&s->log_ends[0]);
        fd_closep(&s->log_ends[1]);
        for (int fd = 0; fd < 3; fd++)
                g_clear_pointer(&s->relays[fd], relay_free);
        g_clear_error(&s->lost_output);
}

Term *stdfds_make_term(const Stdio *s, int master_take, GError **error) {
        const StdioPlan *plan = &s->plan;
        TermConfig config = { .tty = s->tty, .in = plan->pty[0] ? STDIN_FILENO : -1, .master_take = master_take };

        config.out = plan->pty[1] ? STDOUT_FILENO : plan->pty[2] ? STDERR_FILENO : s->tty >= 0 ? s->tty : STDOUT_FILENO;
        config.shared = !plan->pty[1] || !plan->pty[2];
        return term_new(&config, error);
}
