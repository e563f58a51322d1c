/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Removing a box's directory when its launcher cannot.
 *
 * Role: janitor, forked by the launcher. Privileges: the caller's (newuidmap must work). Threads: one. Order: from the clone to the
 * end of the run. It holds none of the caller's descriptors, so that nobody waits for their end because of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "janitor.h"

/* The kernel kills a box at once; what takes longer is a machine that hardly runs. */
#define BOX_END_MS 10000

static _Noreturn void janitor_main(const BoxDir *dir, const Spec *spec, int life, int child_pidfd) {
        struct pollfd fd = { .fd = life, .events = POLLIN };
        sigset_t all;

        sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, NULL);
        (void) prctl(PR_SET_NAME, "usbox-janitor", 0, 0, 0);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int i = 0; null >= 0 && i < 3; i++)
                (void) dup2(null, i);
        int keep[] = { life, child_pidfd, dir->boxes_fd, dir->fd };
        if (null < 0 || !fd_keep_only(keep, G_N_ELEMENTS(keep)))
                _exit(1);

        BoxDir mine = *dir;
        mine.boxes_fd = keep[2];
        mine.fd = keep[3];
        fd.fd = keep[0];
        while (poll(&fd, 1, -1) < 0 && errno == EINTR)
                ;
        struct pollfd box = { .fd = keep[1], .events = POLLIN };
        while (poll(&box, 1, BOX_END_MS) < 0 && errno == EINTR)
                ;
        /* The run was over, and its changes are kept: only its launcher was not done. */
        if (faccessat(mine.fd, "kept", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                _exit(0);
        _exit(box_dir_remove(&mine, spec, NULL) ? 0 : 1);
}

bool janitor_start(const BoxDir *dir, const Spec *spec, int child_pidfd, Janitor *ret, GError **error) {
        int ends[2];

        *ret = (Janitor){ .life = -1 };
        if (pipe2(ends, O_CLOEXEC) < 0)
                return err_set(error, errno, "pipe");
        pid_t pid = fork();
        if (pid == 0) {
                close(ends[1]);
                janitor_main(dir, spec, ends[0], child_pidfd);
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
