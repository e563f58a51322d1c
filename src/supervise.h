/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <jansson.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "control.h"
#include "fs-helper.h"
#include "hook-guard.h"
#include "hook-nested.h"
#include "janitor.h"
#include "logs.h"
#include "net-helper.h"
#include "pod-join.h"
#include "root-share.h"
#include "runtime.h"
#include "scope-helper.h"
#include "seccomp.h"
#include "spec.h"
#include "state.h"
#include "status.h"
#include "stdfds.h"
#include "term.h"
#include "user-map.h"

/* A box while it runs; of sandbox.c, supervise.c and what serves its control socket. */
typedef struct Sandbox {
        const Spec *spec;
        char id[BOX_ID_LEN + 1];
        char **envp;
        RootPlan *plan;
        PlanShare *share; /* where the child finds a copy of it; NULL once the payload runs */
        BoxDir *dir; /* NULL with --overlay=none, unless the box has a name or is detached */
        bool continued; /* dir is an earlier run's */
        bool stub; /* payload_needs_stub() */
        SeccompProgram filter;
        Stdio stdio;
        int *detached;  /* with --detach: the wire to who waits for the start, -1 when it was told; else NULL */
        LogWriter *log; /* with --detach */
        guint64 log_lost; /* log_writer_free()'s */
        Status *status;
        Term *term;
        PodJoin pod; /* the pod that the box is in */
        int pod_namespaces[POD_N_NAMESPACES]; /* of a pod: for its boxes; -1 */
        bool had_members, pod_ended; /* of a pod: boxes were in it; its end is on the way */
        NetHelper net;
        ScopeHelper scope; /* none where no limit was asked for */
        struct ControlLater *updater; /* who asked for an update or for a cgroup; NULL: nobody */
        CgroupNumbers numbers; /* what the box used of it, read when all but the helper had ended */
        bool counted;
        FsHelper fs; /* none but with --overlay=fuse */
        pid_t unmounter; /* takes the mounts down at the end; 0: nobody does, or has to be waited for */
        Janitor janitor; /* none with --overlay=none */
        HookGuard *guard; /* NULL where no project hook is watched */
        HookNested *nested; /* NULL where no tree is written through */
        mode_t umask;    /* the caller's */
        int signals;     /* signalfd */
        MapHelpers maps; /* at work from the clone to MAPPED */
        pid_t child;     /* init, as the host sees it; 0 once it is reaped */
        int child_pidfd, child_wire;
        int payload_wire;  /* -1 from the payload's exec on */
        int payload_pidfd; /* -1 before ROOTED */
        pid_t payload;     /* as the host sees it; 0 before ROOTED */
        /* Held only to be let go of last, see sandbox_release_kernel_object(); -1 before they come. */
        int mount_ns, tap;
        bool born; /* of a box with limits: all of its processes are there to be moved into its cgroup */
        bool go_sent, started, exited, child_ended, timed_out, stopping, hung_up;
        int wait_status;                /* the payload's */
        int early_signal;               /* came before the payload's exec was seen, or 0 */
        int interrupted;                /* a signal that ended the start, or 0 */
        gint64 deadline, kill_deadline; /* g_get_monotonic_time(); 0: none */
        gint64 watch_at;                /* likewise: net_helper_watch() is due */
        gint64 unread_deadline;         /* likewise: what the box has written is given up */
        struct rusage usage;
        /* presence.c's; NULL before it is shown to others. */
        json_t *record;
        RuntimeBox *runtime;
        Control *control;
        int end_status; /* for who waits */
} Sandbox;

/* The box has a cgroup of its own: a limit was asked for, or its pod has one, or it came late. */
bool supervise_is_limited(const Sandbox *s);

/* The command was executed and has not ended; else false with error, for who asks for something that needs it. */
bool supervise_command_runs(const Sandbox *s, GError **error);

/* Block what the launcher reads from a signalfd, ignore SIGPIPE; the signalfd, or -1 with error. */
int supervise_signals(GError **error);

/* Before that: wait until fd can be read. False with error (EINTR) where a signal came that ends the start. */
bool supervise_await(Sandbox *s, int fd, GError **error);

/* From MAPPED to the end of init: messages, signals, terminal, time limit. False with error if the box failed. */
bool supervise(Sandbox *s, GError **error);

/* Tell init, unless its wire is full: it may be stopped for as long as somebody likes, and nobody waits for it. False: there was no room. */
bool supervise_tell_init(const Sandbox *s, WireType type, GVariant *body);

/* For the control socket: send the command a signal, which init does (false: supervise_tell_init()); send the stop signal, and SIGKILL to the box after
 * grace (microseconds). */
bool supervise_signal(const Sandbox *s, int sig);
void supervise_stop(Sandbox *s, gint64 grace);
