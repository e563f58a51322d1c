/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "child.h"
#include "spec.h"
#include "state.h"

/* The pod of a box, from the box's launcher's side. */
typedef struct {
        int wire;   /* to the pod's launcher, which counts the box by it; -1: the box is in none */
        int namespaces[POD_N_NAMESPACES]; /* its network, IPC, UTS and pid namespace */
        int userns; /* of the box, where share_pid; -1 before there is one */
        int maker;  /* wire to the process that makes the box's namespaces; -1: it has no more to say */
        pid_t maker_pid;
        bool share_pid; /* its boxes have no processes of their own */
        char id[BOX_ID_LEN + 1]; /* the pod's */
        char *cgroup; /* the directory of the pod's; NULL: it has none */
        char *hostname, *hosts, *resolv; /* contents of /etc's files; resolv is NULL where the pod has none */
        GArray *uidmap, *gidmap;         /* of IdRange: the ids of the pod's user namespace */
} PodJoin;

#define POD_JOIN_NONE ((PodJoin){ .wire = -1, .namespaces = { -1, -1, -1, -1 }, .userns = -1, .maker = -1 })

/* Ask the pod's launcher to take the box of this id in. */
bool pod_join_begin(const Spec *spec, const char *box_id, PodJoin *ret, GError **error);

/*
 * Clone the box's init: into the pod's namespaces, and into new ones by flags, of which the user namespace is a child of the pod's. Its pid, as
 * the host sees it, and *ret_pidfd; the id maps are being written meanwhile: pod_join_mapped() waits for that. -1 with error.
 */
pid_t pod_join_clone(PodJoin *pod, guint64 flags, ChildContext *context, int *ret_pidfd, GError **error);
bool pod_join_mapped(PodJoin *pod, GError **error);

/* Something came on the wire: the pod ends, and the box is to be ended within *ret_grace (microseconds). False with error where the pod has
 * ended already. */
bool pod_join_dispatch(PodJoin *pod, gint64 *ret_grace, GError **error);

/* Leave. */
void pod_join_clear(PodJoin *pod);
