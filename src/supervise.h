/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include "fs-helper.h"
#include "janitor.h"
#include "net-helper.h"
#include "root-share.h"
#include "seccomp.h"
#include "spec.h"
#include "state.h"
#include "status.h"
#include "stdfds.h"
#include "term.h"
#include "user-map.h"

/* A box while it runs; of sandbox.c and supervise.c alone. */
typedef struct {
        const Spec *spec;
        char id[BOX_ID_LEN + 1];
        char **envp;
        RootPlan *plan;
        PlanShare *share; /* where the child finds a copy of it */
        BoxDir *dir; /* NULL with --overlay=none */
        SeccompProgram filter;
        Stdio stdio;
        Status *status;
        Term *term;
        NetHelper net;
        FsHelper fs; /* none but with --overlay=fuse */
        Janitor janitor; /* none with --overlay=none */
        mode_t umask;    /* the caller's */
        int signals;     /* signalfd */
        MapHelpers maps; /* at work from the clone to MAPPED */
        pid_t child;     /* init, as the host sees it; 0 once it is reaped */
        int child_pidfd, child_wire;
        int payload_wire;  /* -1 from the payload's exec on */
        int payload_pidfd; /* -1 before ROOTED */
        pid_t payload;     /* as the host sees it; 0 before ROOTED */
        /* Held only to be let go of last, see release_kernel_object(); -1 before they come. */
        int mount_ns, tap;
        bool go_sent, started, exited, child_ended, timed_out, hung_up;
        int wait_status;                /* the payload's */
        int early_signal;               /* came before the payload's exec was seen, or 0 */
        int interrupted;                /* a signal that ended the start, or 0 */
        gint64 deadline, kill_deadline; /* g_get_monotonic_time(); 0: none */
        struct rusage usage;
} Sandbox;

/* Block what the launcher reads from a signalfd, ignore SIGPIPE; the signalfd, or -1 with error. */
int supervise_signals(GError **error);

/* From MAPPED to the end of init: messages, signals, terminal, time limit. False with error if the box failed. */
bool supervise(Sandbox *s, GError **error);
