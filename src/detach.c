/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * run --detach: the launcher becomes a supervisor that outlives the terminal.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: after spec_build(), before anything is made. Nothing of the
 * caller's stdio stays open in the supervisor or its helpers: who waits for the end of a pipe (ssh) must not wait for the box.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/wire.h"
#include "detach.h"

static bool leave_session(GError **error) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (setsid() < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
                return err_set(error, errno, "--detach");
        return true;
}

static int await_supervisor(int wire, pid_t pid, GError **error) {
        g_auto(WireMessage) m = { 0 };
        const char *id;
        int status;

        bool ok = wire_expect(wire, "the supervisor", WIRE_DETACHED, &m, error);
        if (ok) {
                g_variant_get(m.body, "(&s)", &id);
                ok = (puts(id) >= 0 && fflush(stdout) == 0) || err_set(error, errno, "write the box's id");
        }
        if (ok)
                return 0;
        /* It has ended, but for where it was our side that failed: then nobody would learn the id of a box that goes on. */
        (void) kill(pid, SIGTERM);
        (void) proc_wait(pid, &status);
        return -1;
}

int detach_fork(int *ret_wire, GError **error) {
        int ends[2];

        if (!wire_pair(ends, error))
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                g_autoptr(GError) failure = NULL;
                close(ends[0]);
                *ret_wire = ends[1];
                if (!leave_session(&failure))
                        detach_fail(ends[1], failure);
                return 1;
        }
        _cleanup_close_ int wire = ends[0];
        close(ends[1]);
        if (pid < 0) {
                err_set(error, errno, "fork");
                (void) proc_hint_full(error);
                return -1;
        }
        return await_supervisor(wire, pid, error);
}

bool detach_tell(int *wire, const char *id, GError **error) {
        bool told = wire_send(*wire, WIRE_DETACHED, g_variant_new("(s)", id), NULL, 0, error);

        fd_closep(wire);
        return told;
}

_Noreturn void detach_fail(int wire, const GError *failure) {
        wire_send_error(wire, failure);
        _exit(125);
}

bool detach_stderr(int box_fd, GError **error) {
        _cleanup_close_ int fd = openat(box_fd, "supervisor.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

        return (fd >= 0 && dup2(fd, STDERR_FILENO) >= 0) || err_set(error, errno, "supervisor.log");
}
