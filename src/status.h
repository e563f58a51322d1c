/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "cgroup.h"

/*
 * What other programs learn of a run: --status-fd (one JSON object a line for each event) and --pidfile. Every call takes NULL
 * for a run that asked for neither. A reader that has gone, or that reads nothing for a second, or a full disk ends the reports,
 * which is said on stderr once, and never the run; the process must ignore SIGPIPE.
 */
typedef struct Status Status;

/* How the payload ended. */
typedef struct {
        int status;                 /* usbox's own exit status for it: 0-255 */
        int signal;                 /* it was killed by this signal, or 0 */
        bool timeout;               /* --timeout ended it */
        const CgroupNumbers *limits; /* of its cgroup; NULL: it had none, then the keys "oom" and "limits" are not there */
        const struct rusage *usage; /* of the payload and what it awaited; NULL: not known */
} StatusExit;

/*
 * fd: as typed, -1 for none; it must be open for writing and not stdin (a usage error else), is made O_CLOEXEC
 * and stays the caller's. pidfile: NULL for none; its directory must exist. *ret is NULL where neither is asked for.
 */
bool status_open(int fd, const char *pidfile, Status **ret, GError **error);

/* Removes the pidfile if it is still the one that was written. */
void status_free(Status *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Status, status_free)

/* Write the pidfile, unless it is written: before the payload's exec, so that it is there when the payload runs. */
bool status_write_pidfile(Status *s, pid_t pid, GError **error);

/* {"event":"started","box":ID,"pid":N,"ports":[...]}: pid is the payload's as the host sees it; ports is borrowed, and is not there where it is NULL. Writes
 * the pidfile whole (a temporary file, then rename); false with error where that fails. */
bool status_started(Status *s, const char *box, pid_t pid, struct json_t *ports, GError **error);

/* {"event":"exited","box":ID,"status":N,"signal":N,"timeout":B,"oom":B,"limits":{...},"usage":{...}}; signal, oom and usage are null where there is
 * none or it is not known, limits are there only for a box that has some. */
void status_exited(Status *s, const char *box, const StatusExit *how);

/* Of it, "limits": {"memory_peak":N,"memory_max":N,"oom_kills":N,"pids_refused":N,"cpu_us":N,"throttled_us":N}; what is not known is not there. */
struct json_t *status_limits(const CgroupNumbers *n);

/* {"event":"failed","step":S,"errno":N,"message":S,"hint":S}; step, errno, hint only where there is one. */
void status_failed(Status *s, const GError *failure);
