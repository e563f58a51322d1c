/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Removing what a box has on the host when its launcher cannot: its directory, and what it has in the runtime directory. And the terminal, which that
 * may have set raw, as `usbox exec` does, which has one for that alone.
 *
 * Role: janitor, forked by the launcher or by `usbox exec`. Privileges: the caller's (newuidmap must work). Threads: one. Order: from the clone to the
 * end of the run; from the pseudo-terminal to the end of the exec. It holds none of the caller's descriptors, so that nobody waits for their end because of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "janitor.h"
#include "runtime.h"
#include "term.h"

/* The kernel kills a box at once; what takes longer is a machine that hardly runs. */
#define BOX_END_MS 10000

/*
 * Until the process has ended, but not for ever; where it is a helper's, that is then ended. One that was stopped while its program was loaded is not woken by
 * its launcher's end, as others are (confine_wake_without_parent()).
 */
static void await(int pidfd, bool helper) {
        struct pollfd fd = { .fd = pidfd, .events = POLLIN };
        int r;

        if (helper)
                (void) pidfd_send_signal(pidfd, SIGCONT, NULL, 0);
        while ((r = poll(&fd, 1, BOX_END_MS)) < 0)
                if (errno != EINTR)
                        (void) usleep(100 * 1000); /* no memory for it: there will be some when the box has ended */
        if (r == 0 && helper) {
                (void) pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
                (void) poll(&fd, 1, BOX_END_MS);
        }
}

/* The run was over, and its changes are kept: only its launcher was not done. Or the box has a name or was detached: it is shown as dead, and
 * stays for who wants to know why. */
static bool is_to_stay(int dirfd) {
        static const char *const marks[] = { "kept", "held", "state.json" };

        for (size_t i = 0; i < G_N_ELEMENTS(marks); i++)
                if (faccessat(dirfd, marks[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                        return true;
        return false;
}

static _Noreturn void janitor_main(const char *id, const BoxDir *dir, const Spec *spec, int life, const int pidfds[2]) {
        sigset_t all;
        ssize_t got;
        char byte;

        sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, NULL);
        (void) prctl(PR_SET_NAME, "usbox-janitor", 0, 0, 0);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        bool ok = null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0;
        int keep[5] = { life };
        size_t n = 1;
        for (int i = 0; i < 2; i++)
                if (pidfds[i] >= 0)
                        keep[n++] = pidfds[i];
        size_t processes = n;
        if (dir) {
                keep[n++] = dir->boxes_fd;
                keep[n++] = dir->fd;
        }
        if (!ok || !fd_keep_only(keep, n))
                _exit(1);

        while ((got = read(keep[0], &byte, 1)) < 0 && errno == EINTR)
                ;
        /* By the end of the pipe alone is it known that the launcher has gone: whoever removed the directory of a box that runs would take its
         * changes. */
        if (got != 0)
                _exit(1);
        term_restore_orphan();
        if (!id)
                _exit(0);
        /* The box, and then usbox-fs, which writes into the directory: both end with the launcher. */
        for (size_t i = 1; i < processes; i++)
                await(keep[i], i > 1);
        if (dir && is_to_stay(keep[n - 1]))
                _exit(0);
        /* From here on nobody is to look at it. Without the lock another one is at that: a run that removes what is dead. */
        _cleanup_close_ int lock = dir ? box_dir_lock(keep[n - 2], id, NULL) : -1;
        if (dir && lock < 0)
                _exit(0);
        int top = runtime_open(false, NULL);
        if (top >= 0)
                runtime_remove(top, id);
        if (!dir)
                _exit(0);
        BoxDir mine = *dir;
        mine.boxes_fd = keep[n - 2];
        mine.fd = keep[n - 1];
        _exit(box_dir_remove(&mine, spec, NULL) ? 0 : 1);
}

bool janitor_start(const char *id, const BoxDir *dir, const Spec *spec, const int pidfds[2], Janitor *ret, GError **error) {
        int ends[2];

        *ret = (Janitor){ .life = -1 };
        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe");
        pid_t pid = fork();
        if (pid == 0) {
                /* First of all: who is stopped before that stays for ever if the launcher is killed. */
                if (!confine_wake_without_parent(NULL))
                        _exit(1);
                close(ends[1]);
                janitor_main(id, dir, spec, ends[0], pidfds);
        }
        close(ends[0]);
        if (pid < 0) {
                err_set(error, errno, "fork");
                close(ends[1]);
                return false;
        }
        *ret = (Janitor){ .pid = pid, .life = ends[1] };
        return true;
}

void janitor_dismiss(const Janitor *j) {
        if (j->pid > 0)
                (void) kill(j->pid, SIGKILL);
}

void janitor_clear(Janitor *j) {
        if (j->pid > 0) {
                janitor_dismiss(j);
                (void) proc_wait(j->pid, NULL);
                fd_closep(&j->life);
        }
        *j = (Janitor){ .life = -1 };
}
