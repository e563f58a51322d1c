/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cgroup.h"
#include "registry.h"

/* The cgroup of a running box; NULL with error where it has none of its own. */
Cgroup *box_cgroup_open(const BoxInfo *box, GError **error);

/* One process of a box, at one moment. */
typedef struct {
        pid_t pid, box_pid; /* as the host and as the box numbers it; box_pid 0: not known */
        guint32 uid, box_uid;
        guint64 cpu_us, memory; /* so far, in microseconds; resident, in bytes */
        char *command;          /* with its arguments; quoted */
} BoxProcess;

/* Those of a cgroup's payload, of BoxProcess *, by pid; the caller's. One that ends meanwhile is left out. */
GPtrArray *box_cgroup_processes(const Cgroup *c);

/* What went through a process's network interfaces but lo, in bytes; false where it cannot be told. */
bool box_network_bytes(pid_t pid, guint64 *ret_received, guint64 *ret_sent);
