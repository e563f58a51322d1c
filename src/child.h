/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "root-share.h"
#include "seccomp.h"
#include "spec.h"

/* What the payload gets as stdin, stdout and stderr (stdfds.c). */
typedef struct {
        int fds[3];  /* what the payload gets as 0, 1, 2, where pty[] does not say otherwise */
        bool pty[3]; /* the pty's slave instead */
} StdioPlan;

/* All that the child needs, made by the launcher before the clone. */
typedef struct {
        const Spec *spec;
        const PlanShare *plan; /* has the plan of the root from PLAN on */
        bool pty;              /* a pty is wanted */
        bool stub;             /* payload_needs_stub() */
        bool scoped;           /* the box gets a cgroup of its own: SCOPED will come, and MOVED for the payload */
        char **envp;  /* the payload's environment, USBOX_BOX in it */
        PodMounts pod;
        bool foreign_pids; /* no pid namespace of the box's own, whose end would end all that is in it */
        mode_t umask; /* the caller's, and the payload's */
        SeccompProgram filter;
        StdioPlan stdio;
        int wire;                         /* the child's end of its wire */
        int payload_wire;                 /* the payload's: closed by its exec, which is how the launcher knows */
        int peer_wire, peer_payload_wire; /* the launcher's ends, to be closed in the child */
        int peer_net_wire;                /* likewise, of usbox-net's; -1: there is none */
        int peer_scope_wire;              /* and of usbox-scope's */
} ChildContext;

/* The child of the clone: becomes init of the box. Never returns. */
_Noreturn void child_main(const ChildContext *context);

/* Remember where argv and the environment lie in memory, so that child_forget_argv() can overwrite them. */
void child_remember_argv(int argc, char **argv);

/* In a fork that a box sees, or whose forks it sees: cmdline and environ in /proc are that memory, and the caller's options and secrets shall not
 * be in it. title is what it is called from then on. */
void child_forget_argv(const char *title);
