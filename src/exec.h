/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "cgroup.h"
#include "control.h"

/*
 * The commands that `usbox exec` started, from the launcher's side. A request is CTL_EXEC with the three descriptors of its stdio;
 * its body is a dictionary:
 *   argv aay, env aay (K=V, replacing the box's), cwd ay, user (uu), stdio (bbb): which of the three are a terminal of the box's
 *   own, detach b. Without cwd, user: the payload's. Where that is more than a packet holds, the body is empty, and a fourth
 *   descriptor has it, of fd_sealed().
 * Answers: CTL_PTY (the terminal's master side) where there is one, and in the end CTL_EXITED or ERROR; with detach CTL_OK when the
 * command is executed. Signals for it come by CTL_EXEC_SIGNAL on the same connection, whose end is SIGHUP to it.
 */
typedef struct ExecTable ExecTable;

#define EXEC_STDIO 3
#define EXEC_REQUEST_MAX (16 * 1024 * 1024) /* the kernel takes 6 MiB of arguments and variables at most */
#define EXEC_MAX 32
#define EXEC_N_FDS (2 * EXEC_MAX)

ExecTable *exec_table_new(void);
void exec_table_free(ExecTable *t);

bool exec_begin(ExecTable *t, Sandbox *s, ControlClient *client, const WireMessage *m, GError **error);
void exec_signal(ExecTable *t, const ControlClient *client, int sig);

/* The processes of those that run, of pid_t; the caller's. *ret_starting: there are others, whose process is still to come. */
GArray *exec_pids(const ExecTable *t, bool *ret_starting);

/* The box ends by this, and what was executed in it along with it: who waits for that is told so. */
void exec_box_failed(ExecTable *t, const GError *failure);

/* The connection has ended. */
void exec_client_gone(ExecTable *t, const ControlClient *client);

void exec_poll(const ExecTable *t, struct pollfd fds[static EXEC_N_FDS]);
/* cgroup: the box's; NULL: it has none. */
void exec_dispatch(ExecTable *t, const struct pollfd fds[static EXEC_N_FDS], const Cgroup *cgroup);

/* Wait for the end of init, which comes only when all of the box's processes are reaped: these, too, some of which may be left to us. False: it has not
 * come in time. */
bool exec_await(ExecTable *t, int init, int timeout_ms);

/* The box has ended, and all processes in it: say how each of these did. */
void exec_end(ExecTable *t);
