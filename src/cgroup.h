/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * A box's cgroup as a directory of files: what the launcher, and the verbs that look at a running box, read and write of it. The leaves
 * are those of scope/config.h.
 */
typedef struct Cgroup Cgroup;

/* fd is the directory; path is for messages and for the child. */
Cgroup *cgroup_new_take(int fd, const char *path);
/* By its path; NULL with error. */
Cgroup *cgroup_open(const char *path, GError **error);
void cgroup_free(Cgroup *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cgroup, cgroup_free)

const char *cgroup_path(const Cgroup *c);

/* Its limit of processor time, as cpu.max has it. */
bool cgroup_limit_cpu(const Cgroup *c, const char *cpu_max, GError **error);

/* Move a process into the payload's leaf, or the helpers'. */
bool cgroup_join_payload(const Cgroup *c, pid_t pid, GError **error);
bool cgroup_join_helpers(const Cgroup *c, pid_t pid, GError **error);

/* All processes of the payload: stop them (returns when they have stopped), let them go on, kill them. */
bool cgroup_freeze(const Cgroup *c, bool on, GError **error);
bool cgroup_kill(const Cgroup *c, GError **error);
bool cgroup_is_frozen(const Cgroup *c);

/* Pressure, in percent of the last ten seconds; -1: not known. */
typedef struct {
        double some, full;
} CgroupPressure;

/* What the files say, of a box's or of a pod's. Bytes, microseconds; G_MAXUINT64 where it is not known or there is no limit. */
typedef struct {
        guint64 memory, memory_peak, memory_max, swap;
        guint64 oom_kills;    /* processes that were killed for want of memory */
        guint64 pids, pids_max, pids_refused; /* of the payload; of a pod: of its boxes */
        bool oom_by_pod;                      /* that was the pod's limit, not the box's own */
        guint64 pod_memory_max, pod_pids_max; /* of the pod whose part it is */
        guint64 cpu_us, periods, throttled, throttled_us;
        guint64 cpu_quota_us, cpu_period_us; /* quota G_MAXUINT64: none */
        guint64 read_bytes, write_bytes, reads, writes;
        CgroupPressure pressure_cpu, pressure_memory, pressure_io;
} CgroupNumbers;

void cgroup_read(const Cgroup *c, CgroupNumbers *ret);

/* The processes of the payload, as the host numbers them, of pid_t; the caller's. */
GArray *cgroup_processes(const Cgroup *c);

/* What of it the user should hear when the box has ended: lines (of char *), none where no limit was met. */
GPtrArray *cgroup_outcome(const CgroupNumbers *n);
