/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "supervise.h"

/* Another command for a running box, as the launcher understood the request; all is checked. */
typedef struct {
        char **argv;
        char **envp;     /* the box's environment with the changes */
        const char *cwd; /* in the box */
        uid_t uid;       /* ids of the box */
        gid_t gid;
        bool pty;        /* a terminal of the box's own... */
        bool on_pty[3];  /* ... for these of stdio */
        int fds[3];      /* for the others */
        pid_t *forked;   /* memory of ours that the helping process shares: the command's pid, from its first moment on */
} JoinRequest;

/*
 * Fork a process into the box's namespaces and have it execute the command, confined as the payload is. Returns the pid of a helping
 * process, the joiner, which waits for the command and ends with its status (128 and the signal), or -1 with error; *ret_pidfd is the joiner's.
 * *ret_wire says FORKED (with the command's process, the joiner's child), PTY, or ERROR, and closes when the command is executed.
 */
pid_t join_fork(Sandbox *s, const JoinRequest *request, int *ret_pidfd, int *ret_wire, GError **error);
