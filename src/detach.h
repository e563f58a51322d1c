/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/*
 * --detach: fork the supervisor, which leaves the caller's session, and wait until it says that the command runs. Returns 1 in the supervisor, whose
 * word goes over *ret_wire; 0 in the caller, which has printed the id; -1 with error, in the caller: the supervisor's own, where it failed.
 */
int detach_fork(int *ret_wire, GError **error);

/* Supervisor: the command runs, in this box. The wire is closed. False with error where the caller has gone. */
bool detach_tell(int *wire, const char *id, GError **error);

/* Supervisor: end with this error, told to the caller. */
_Noreturn void detach_fail(int wire, const GError *failure);

/* Supervisor, before anything is started: what it and helpers have to say from here on goes to the file supervisor.log below box_fd. */
bool detach_stderr(int box_fd, GError **error);
