/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "option.h"

/*
 * Pods: boxes that share a network, System V IPC and POSIX message queues, and a host name. A pod is itself a box, one without a root
 * and without a command: its init reaps, and what takes the command's place only waits. So its launcher, its network, its directory, its lock
 * and its end are a box's.
 */
/* As POD_FDS has them (base/wire.h). */
enum { POD_NET, POD_IPC, POD_UTS, POD_PID, POD_N_NAMESPACES };

typedef struct {
        char *name; /* --pod: the pod that this box is in; NULL: none */
        bool make;  /* this is a pod (usbox pod create) */
        bool rm;    /* and it ends with its last box */
        bool share_pid; /* its boxes see each other's processes */
} PodSpec;

extern const Option pod_options[];

/* Free what it owns. */
void pod_clear(PodSpec *s);

/* What a box of a pod cannot have for itself is the pod's. Sets the network's mode. */
bool pod_check(Spec *draft, GError **error);

/* What a box cannot have in a pod whose processes are shared, which only the pod says: asked when the box is taken in. */
bool pod_check_shared_pids(const Spec *spec, GError **error);

/* The draft of a pod of that name; what its options say is applied before. */
bool pod_fill(Spec *draft, const char *name, GError **error);

/* Whether an option of run's is a pod's, too. */
bool pod_has_option(const Option *option);
