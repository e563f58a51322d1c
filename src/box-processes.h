/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "cgroup.h"
#include "registry.h"

/* One process of a box, at one moment. */
typedef struct {
        pid_t pid, box_pid; /* as the host and as the box numbers it; box_pid 0: not known */
        guint32 uid, box_uid;
        guint64 cpu_us, memory; /* so far, in microseconds; resident, in bytes */
        guint64 threads;
        char *command;          /* with its arguments; quoted */
} BoxProcess;

/* Whose children all processes of the machine are, at one moment: for boxes without a cgroup, as many as there are. The caller's. */
typedef struct ProcessTree ProcessTree;
ProcessTree *process_tree_read(void);
void process_tree_free(ProcessTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProcessTree, process_tree_free)

/*
 * The box's own, of BoxProcess *, by pid; the caller's. One that ends meanwhile is left out. Of its cgroup; where that is NULL, those that
 * descend from its init, and what `usbox exec` started.
 */
GPtrArray *box_processes(const BoxInfo *box, const Cgroup *c);

/* The memory of its processes together: for a cgroup that has not seen it become used. */
guint64 box_processes_memory(const BoxInfo *box, const Cgroup *c);

/* Of a box without a cgroup: what its processes use together. What they do not say is unknown; so is all of it where there are none any more. */
void box_processes_sum(const BoxInfo *box, const ProcessTree *tree, CgroupNumbers *ret);
