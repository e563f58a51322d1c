/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One box from its start to its end.
 *
 * Role: launcher. Privileges: the caller's, in the host's namespaces. Threads: one, and it must stay so until the clone (a
 * second one makes CLONE_NEWUSER fail). Order: sandbox_run() is the list of steps; supervise.c is the loop in the middle.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/wire.h"
#include "child.h"
#include "commit-settle.h"
#include "detach.h"
#include "doctor.h"
#include "layer-redirects.h"
#include "net-helper.h"
#include "net-names.h"
#include "netstack/config.h"
#include "own-state.h"
#include "payload.h"
#include "pod-join.h"
#include "presence.h"
#include "registry.h"
#include "root-accounts.h"
#include "sandbox-end.h"
#include "sandbox.h"
#include "stdfds.h"
#include "supervise-messages.h"
#include "supervise.h"

#define DBUS_MACHINE_ID "var/lib/dbus/machine-id"
#define ACCOUNTS_MAX (16 * 1024 * 1024)

/* The user namespace of the box, and one that the payload gets inside it, owns the rest. The network namespace comes later: it takes
 * the kernel as long as all others and the mounts together, so the payload's process makes it meanwhile (make_namespaces()). */
#define BOX_NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME)

static guint64 namespaces_of(const Sandbox *s) {
        const Spec *spec = s->spec;
        guint64 flags = BOX_NAMESPACES;
        if (!spec->namespaces.pid_host && !s->pod.share_pid)
                flags |= CLONE_NEWPID;
        /* Those that a pod has are its boxes'. */
        if (!spec->namespaces.ipc_host && !spec->pod.name)
                flags |= CLONE_NEWIPC;
        if (!spec->namespaces.uts_host && !spec->pod.name)
                flags |= CLONE_NEWUTS;
        /* One of the box's own cgroup can be made only from there: the child and the payload's process do. */
        if (!spec->namespaces.cgroup_host && !supervise_is_limited(s))
                flags |= CLONE_NEWCGROUP;
        return flags;
}

/* D-Bus has one of its own where it came before systemd, or without it (dbus-uuidgen(1)); elsewhere it is a symlink to the first. */
static bool dbus_has_own_id(const Spec *spec) {
        _cleanup_close_ int root = open(spec->root.rootfs ? spec->root.rootfs : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int fd = root < 0 ? -1 : sys_openat2(root, DBUS_MACHINE_ID, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        struct stat st;

        /* A directory of the box's layer would cover a symlink on the way, and all that it leads to: /var may be one, to another disk. */
        return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void add_machine_id(Sandbox *s, const char *id_line) {
        root_plan_add_file(s->plan, "etc/machine-id", id_line, 0444);
        if (dbus_has_own_id(s->spec))
                root_plan_add_file(s->plan, DBUS_MACHINE_ID, id_line, 0444);
}

/* Files of /etc that are the box's own. They lie in the box's layer, not in upper/: they are no change of the payload's. */
static bool add_etc_files(Sandbox *s, GError **error) {
        char machine_id[33];
        if (!state_random_hex(machine_id, sizeof machine_id - 1, error))
                return false;
        bool in_pod = s->pod.wire >= 0;
        g_autofree char *id_line = g_strconcat(machine_id, "\n", NULL);
        g_autofree char *hostname = g_strconcat(in_pod ? s->pod.hostname : s->spec->namespaces.hostname, "\n", NULL);
        g_autofree char *hosts = in_pod ? g_strdup(s->pod.hosts) : net_etc_hosts(s->spec);
        g_autofree char *resolv = in_pod ? g_strdup(s->pod.resolv) : net_resolv_conf(s->spec);

        add_machine_id(s, id_line);
        if (!s->spec->namespaces.uts_host)
                root_plan_add_file(s->plan, "etc/hostname", hostname, 0644);
        root_plan_add_file(s->plan, "etc/hosts", hosts, 0644);
        if (resolv)
                root_plan_add_file(s->plan, "etc/resolv.conf", resolv, 0644);
        root_accounts_add(s->plan, s->spec);
        return true;
}

/* The caller's group has nobody else in it: what is open to that alone is closed to others. */
static bool group_is_own(const Spec *spec) {
        g_autofree char *passwd = NULL, *group = NULL;

        return fd_read_file(AT_FDCWD, "/etc/passwd", ACCOUNTS_MAX, &passwd, NULL) &&
               fd_read_file(AT_FDCWD, "/etc/group", ACCOUNTS_MAX, &group, NULL) &&
               account_group_is_own(passwd, group, spec->caller.name, spec->caller.gid);
}

/* No other user of the machine can come to path: a directory on the way is closed to all but its owner and a group of his own. */
static bool out_of_others_reach(const Spec *spec, const char *path) {
        char *real = realpath(path, NULL);
        bool closed = false;

        for (char *end = real ? strchr(real + 1, '/') : NULL; real && !closed; end = strchr(end + 1, '/')) {
                struct stat st;
                if (end)
                        *end = '\0';
                closed = stat(real, &st) == 0 && !(st.st_mode & S_IXOTH) &&
                         (!(st.st_mode & S_IXGRP) || (st.st_gid == spec->caller.gid && group_is_own(spec)));
                if (!end)
                        break;
                *end = '/';
        }
        free(real);
        return closed;
}

/*
 * Set-id bits and chroot are for a root of the box's own files. Where a directory of the host can be written, the box's root is
 * there the caller, and a set-id file in it would be a gate to the caller for every other user who can come to it.
 */
static bool own_root(const Spec *spec) {
        if (spec->user.uid != 0)
                return false;
        for (guint i = 0; i < spec->mount.ops->len; i++) {
                const MountOp *op = g_ptr_array_index(spec->mount.ops, i);
                if (op->kind != MOUNT_BIND || op->read_only || out_of_others_reach(spec, op->src))
                        continue;
                log_step("no set-id bits and no chroot: other users can come to %s", op->src);
                return false;
        }
        return true;
}

/* The directory of the box of that name, which has its id already, or a new one's. */
static bool open_box_dir(Sandbox *s, GError **error) {
        const Spec *spec = s->spec;
        char wanted[BOX_ID_LEN + 1];

        g_strlcpy(wanted, s->id, sizeof wanted);
        s->dir = spec->box.explored ? box_dir_again(spec->box.explored, s->id, &spec->caller, error)
                 : spec->box.name   ? box_dir_named(spec->box.name, s->id, &spec->caller, error)
                                    : box_dir_new(s->id, &spec->caller, error);
        s->continued = s->dir && !g_str_equal(wanted, s->id);
        if (s->continued && !(registry_may_go_on(s->dir, spec->pod.make, error) && commit_settle(s->dir->fd, error) &&
                              (spec->root.overlay != OVERLAY_KERNEL || layer_redirects_none(s->dir->fd, error)))) {
                g_clear_pointer(&s->dir, box_dir_free);
                err_step(error, "state");
                return false;
        }
        return s->dir || err_step(error, "state");
}

/* What the child is to have from its first moment on. */
static bool prepare(Sandbox *s, GError **error) {
        const Spec *spec = s->spec;

        if (!status_open(spec->box.status_fd, spec->box.pidfile, &s->status, error)) /* first, so that the rest can be told by it */
                return err_step(error, "status");
        const SeccompFeatures features = { .nested = spec->caps.nested,
                                           .root_payload = own_root(spec),
                                           .core_dumps = process_has_ulimit(&spec->process, RLIMIT_CORE) };
        if (!seccomp_prepare(&spec->seccomp, features, &s->filter, error))
                return false;
        if (!stdfds_prepare(spec, &s->stdio, error))
                return err_step(error, "stdio");
        if (!state_random_hex(s->id, BOX_ID_LEN, error))
                return err_step(error, "state");
        if (!own_state_make(spec, error))
                return err_step(error, "state");
        if (presence_is_held(spec) && !open_box_dir(s, error))
                return false;
        if (spec->pod.name && !pod_join_begin(spec, s->id, &s->pod, error))
                return false;
        if (spec->box.detach && (!(s->log = log_writer_new(s->dir->fd, s->stdio.log_ends, spec->box.log_size, error)) ||
                                 !detach_stderr(s->dir->fd, error)))
                return err_step(error, "detach");
        g_autofree char *id = g_strconcat("USBOX_BOX=", s->id, NULL);
        g_autoptr(GStrvBuilder) envp = g_strv_builder_new();
        g_strv_builder_addv(envp, (const char **) spec->process.envp);
        g_strv_builder_add(envp, id);
        s->envp = g_strv_builder_end(envp);
        s->stub = payload_needs_stub();
        s->share = plan_share_new(spec, error);
        return s->share ? true : err_step(error, "mount");
}

/* While the child makes namespaces and what of the root is the same in every box: the box's directory, usbox-fs, and the plan. */
static bool plan(Sandbox *s, GError **error) {
        const Spec *spec = s->spec;

        if (spec->root.overlay != OVERLAY_NONE && !s->dir && !open_box_dir(s, error))
                return false;
        if (spec->root.overlay == OVERLAY_FUSE && !fs_helper_start(spec, spec->root.read_only || !s->dir ? -1 : s->dir->fd, &s->fs, error))
                return false;
        bool overlaid = s->dir && spec->root.overlay != OVERLAY_NONE;
        s->plan = spec->pod.make ? root_plan_new_bare() : root_plan_new(spec, overlaid ? s->dir->path : NULL, error);
        if (!s->plan || (!spec->pod.make && !add_etc_files(s, error)) || !plan_share_put(s->share, s->plan, error))
                return err_step(error, "mount");
        s->guard = hook_guard_new(s->plan, spec->caps.nested);
        log_step("planned");
        return true;
}

static pid_t clone_here(Sandbox *s, const ChildContext *context) {
        struct clone_args args = { .flags = namespaces_of(s) | CLONE_PIDFD, .pidfd = (uintptr_t) &s->child_pidfd, .exit_signal = SIGCHLD };
        pid_t pid = sys_clone3(&args);

        if (pid == 0)
                child_main(context);
        return pid;
}

static bool clone_child(Sandbox *s, GError **error) {
        int wire[2], payload_wire[2];

        if (!wire_pair(wire, error))
                return false;
        if (!wire_pair(payload_wire, error)) {
                close(wire[0]);
                close(wire[1]);
                return false;
        }
        ChildContext context = { .spec = s->spec,
                                 .plan = s->share,
                                 .pty = s->stdio.pty_wanted,
                                 .stub = s->stub,
                                 .scoped = supervise_is_limited(s),
                                 .envp = s->envp,
                                 .filter = s->filter,
                                 .stdio = s->stdio.plan,
                                 .umask = s->umask,
                                 .pod = POD_MOUNTS_NONE,
                                 .foreign_pids = s->spec->namespaces.pid_host || s->pod.share_pid,
                                 .wire = wire[1],
                                 .payload_wire = payload_wire[1],
                                 .peer_wire = wire[0],
                                 .peer_payload_wire = payload_wire[0],
                                 .peer_net_wire = s->net.helper.wire,
                                 .peer_scope_wire = s->scope.helper.wire };
        pid_t pid = s->pod.wire >= 0 ? pod_join_clone(&s->pod, namespaces_of(s), &context, &s->child_pidfd, error) : clone_here(s, &context);
        int saved = errno;
        close(wire[1]);
        close(payload_wire[1]);
        s->child_wire = wire[0];
        s->payload_wire = payload_wire[0];
        if (pid > 0) {
                s->child = pid;
                stdfds_close_pipe_ends(&s->stdio);
                log_step("cloned");
                return true;
        }
        if (s->pod.wire >= 0)
                return false;
        err_set(error, saved, "clone into new namespaces");
        (void) proc_hint_full(error);
        if (saved == EPERM || saved == EACCES)
                err_hint(error,
                         "this machine keeps users from making user namespaces: usbox doctor says how to allow it");
        else if (saved == ENOSPC || saved == EUSERS)
                namespaces_hint_limit(error);
        else if (saved == ENOSYS)
                err_hint(error, "a container's filter around this says so, or a kernel before Linux 5.12: usbox doctor says what is missing, and "
                                "how to start the container");
        else if (saved == EINVAL)
                err_hint(error, "usbox needs Linux 5.12 with all namespaces built in: usbox doctor");
        return false;
}

/* The directories on disk. */
static bool fill_box_dir(Sandbox *s, GError **error) {
        bool overlaid = s->spec->root.overlay != OVERLAY_NONE;

        return (s->plan->fs || root_plan_make_dirs(s->plan, s->dir->fd, error)) && (!overlaid || supervise_tell(s->child_wire, WIRE_DIRS, NULL, error));
}

/* Somebody for the case that we are killed. What a box without a directory has in the runtime directory goes with the next run, which costs less
 * than a process for each; one that waits for systemd has time for it, and a terminal that we have set raw is not to stay so. */
static bool start_janitor(Sandbox *s, GError **error) {
        if (!s->dir && !limits_wanted(&s->spec->limits) && s->stdio.tty < 0)
                return true;
        if (s->stdio.tty >= 0 && !term_share(error))
                return err_step(error, "terminal");
        return janitor_start(s->id, s->dir, s->spec, (int[]){ s->child_pidfd, s->fs.helper.pidfd }, &s->janitor, error);
}

static bool start_net(Sandbox *s, GError **error) {
        return s->spec->net.mode != NET_USER || net_helper_start(s->spec, &s->net, error) || err_step(error, "network");
}

static bool start_scope(Sandbox *s, GError **error) {
        GError *failure = NULL;

        return !supervise_is_limited(s) || scope_helper_start(s->spec, s->id, s->pod.cgroup, false, &s->scope, &failure) ||
               supervise_scope_failed(s, failure, error);
}

static bool finish_maps(Sandbox *s, GError **error) {
        if (s->pod.wire >= 0 && !pod_join_mapped(&s->pod, error))
                return false;
        if (!map_helpers_finish(&s->maps, error))
                return err_step(error, "user");
        return supervise_tell(s->child_wire, WIRE_MAPPED, NULL, error) || err_step(error, "namespaces");
}

static bool start(Sandbox *s, GError **error) {
        /* systemd takes longest of all. To start usbox-net takes as long as it takes to execute a program: while there is nothing else to do for a
         * second processor. */
        if (!start_scope(s, error) || !start_net(s, error))
                return false;
        if (!clone_child(s, error))
                return err_step(error, "namespaces");
        if (!user_setup_parent(s->spec, s->child, &s->maps, error))
                return err_step(error, "user");
        if (!plan(s, error))
                return false;
        /* usbox-fs opens its directories at once; the kernel's overlays do later, so theirs are made when the child is at work. */
        if (s->plan->fs && s->dir && (!root_plan_make_dirs(s->plan, s->dir->fd, error) || !fs_helper_configure(&s->fs, s->spec, s->plan->fs, error)))
                return err_step(error, "state");
        if (!user_maps_itself(s->spec) && !finish_maps(s, error))
                return false;
        if (!supervise_tell(s->child_wire, WIRE_PLAN, NULL, error))
                return err_step(error, "namespaces");
        if ((s->dir && !fill_box_dir(s, error)) || !start_janitor(s, error))
                return err_step(error, "state");
        /* The child is at work meanwhile, and the command waits for GO. */
        if (s->dir && !presence_is_held(s->spec))
                presence_reserve(s);
        s->nested = hook_nested_new(s->plan);
        log_step("looked at what is below");
        return true;
}

static void sandbox_clear(Sandbox *s) {
        g_clear_pointer(&s->term, term_free);
        stdfds_clear(&s->stdio);
        g_clear_pointer(&s->status, status_free);
        g_clear_pointer(&s->nested, hook_nested_free);
        g_clear_pointer(&s->plan, root_plan_free);
        g_clear_pointer(&s->share, plan_share_free);
        g_clear_pointer(&s->dir, box_dir_free);
        pod_join_clear(&s->pod);
        for (size_t i = 0; i < POD_N_NAMESPACES; i++)
                fd_closep(&s->pod_namespaces[i]);
        seccomp_program_clear(&s->filter);
        g_clear_pointer(&s->envp, g_strfreev);
        fd_closep(&s->child_pidfd);
        fd_closep(&s->child_wire);
        fd_closep(&s->payload_wire);
        fd_closep(&s->payload_pidfd);
        fd_closep(&s->signals);
}

static int exit_status(const Sandbox *s) {
        if (s->timed_out)
                return 124;
        if (WIFSIGNALED(s->wait_status))
                return 128 + WTERMSIG(s->wait_status);
        return WEXITSTATUS(s->wait_status);
}

/* With --pid=host what init leaves becomes ours, if it is killed. */
static bool adopt_orphans(const Spec *spec, GError **error) {
        return !spec->namespaces.pid_host || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 ||
               err_set(error, errno, "PR_SET_CHILD_SUBREAPER") || err_step(error, "namespaces");
}

int sandbox_run(const Spec *spec, int *detached, GError **error) {
        Sandbox s = { .spec = spec,
                      .detached = detached,
                      .child_pidfd = -1,
                      .child_wire = -1,
                      .payload_wire = -1,
                      .payload_pidfd = -1,
                      .mount_ns = -1,
                      .tap = -1,
                      .signals = -1,
                      .stdio = STDIO_NONE,
                      .pod = POD_JOIN_NONE,
                      .pod_namespaces = { -1, -1, -1, -1 },
                      .net = NET_HELPER_NONE,
                      .fs = { .helper = HELPER_NONE },
                      .scope = SCOPE_HELPER_NONE };
        g_autoptr(GError) failure = NULL, late = NULL;

        s.umask = umask(022); /* for what is made here; the payload gets the caller's back */
        s.signals = supervise_signals(&failure);
        bool ok = s.signals >= 0 && adopt_orphans(spec, &failure) && prepare(&s, &failure) && start(&s, &failure) && supervise(&s, &failure);
        if (failure && !s.started && !s.interrupted)
                doctor_explain(failure);
        g_clear_pointer(&s.guard, hook_guard_free);
        /* The payload's output is out before anything of usbox's own is said. */
        g_clear_pointer(&s.term, term_free);
        /* What the command has done is kept, though usbox may have failed it later: a killed usbox-net does not cost a day's work. */
        bool ran = ok || s.started;
        if (failure && !s.interrupted && s.control)
                control_box_failed(s.control, failure);
        sandbox_end_processes(&s, ran, ran && (!spec->box.rm || spec->root.trace_file));
        if (!fs_helper_finish(&s.fs, &late) && ok)
                g_propagate_error(&failure, g_steal_pointer(&late));
        helper_clear(&s.fs.helper);
        g_clear_error(&late);
        s.log_lost = log_writer_free(g_steal_pointer(&s.log));
        sandbox_end_scope(&s);
        log_step("ended");

        net_helper_finish(&s.net);
        net_helper_tell_denied(&s.net);
        sandbox_end_hooks(&s);
        if (s.interrupted)
                g_clear_error(&failure);
        if (s.pod_ended) /* what held it was killed, as it should be */
                s.wait_status = 0;
        int status = s.interrupted ? 128 + s.interrupted : exit_status(&s);
        StatusExit how = { .status = status,
                           .signal = WIFSIGNALED(s.wait_status) ? WTERMSIG(s.wait_status) : 0,
                           .timeout = s.timed_out,
                           .limits = s.counted ? &s.numbers : NULL,
                           .usage = s.usage.ru_maxrss > 0 ? &s.usage : NULL };
        presence_note_end(&s, &how, failure);
        if (!sandbox_end_box_dir(&s, ran, &late) && !failure && ok)
                g_propagate_error(&failure, g_steal_pointer(&late));
        janitor_dismiss(&s.janitor);
        /* Killed long ago, but its mounts take the kernel a while: long enough to wait for them last. */
        net_helper_clear(&s.net);
        sandbox_release_kernel_object(&s.tap);
        helper_reap_orphans(&s.net.helper);
        helper_reap_orphans(&s.fs.helper);
        sandbox_end_unmounter(&s);
        /* Told after the payload has had its say, and no reason to throw away what it changed. */
        if (!failure && s.stdio.lost_output)
                failure = g_steal_pointer(&s.stdio.lost_output);
        if (failure)
                status_failed(s.status, failure);
        else
                status_exited(s.status, s.id, &how);
        presence_end(&s);
        janitor_clear(&s.janitor);
        sandbox_clear(&s);
        log_step("cleaned up");
        if (failure) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return -1;
        }
        return status;
}
