/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The setup child: from the clone to a finished box, then init.
 *
 * Role: child, later init (pid 1 of the box); forked, never exec'd, so that the host's binary is not reachable from the
 * box. Privileges: all capabilities of the outer user namespace until become_init(), none after. Threads: one.
 * Order: steps 5, 7 and 9 of sandbox_run(). The order of the calls in child_setup() is the security argument.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/wire.h"
#include "child.h"
#include "init-seccomp.h"
#include "init.h"
#include "payload.h"
#include "user-map.h"

static char *argv_start, *argv_end;

void child_remember_argv(int argc, char **argv) {
        argv_start = argv[0];
        argv_end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
        for (char **e = environ; *e; e++) /* the kernel lays the environment right behind the arguments */
                if (*e == argv_end)
                        argv_end = *e + strlen(*e) + 1;
}

void child_forget_argv(const char *title) {
        static char *no_environment[] = { NULL };
        size_t n = strlen(title) + 1;

        environ = no_environment;
        (void) prctl(PR_SET_NAME, title, 0, 0, 0);
        if (!argv_start)
                return;
        memset(argv_start, 0, (size_t) (argv_end - argv_start));
        if ((size_t) (argv_end - argv_start) >= n)
                memcpy(argv_start, title, n);
}

/* time_namespaces(7): offsets can be set only before the first process is in the namespace, so it is a second one, which the
 * payload enters by being forked. */
static bool set_time(const Spec *spec, GError **error) {
        if (!spec->time.given)
                return true;
        if (unshare(CLONE_NEWTIME) < 0)
                return err_set(error, errno, "unshare time namespace");
        g_autofree char *text = g_strdup_printf("monotonic %" G_GINT64_FORMAT " 0\nboottime %" G_GINT64_FORMAT " 0\n",
                                                spec->time.monotonic, spec->time.boottime);
        if (!fd_write_file(AT_FDCWD, "/proc/self/timens_offsets", text)) {
                err_set(error, errno, "set clock offsets");
                return errno == ERANGE ? err_hint(error, "no clock may come out below zero or too far in the future")
                                       : false;
        }
        return true;
}

/*
 * Those of IPC are for the uid 0 of the user namespace that owns them, and no capability stands in for it (ipc_permissions() in ipc/ipc_sysctl.c,
 * mq_permissions() in ipc/mq_sysctl.c). A process of its own takes that id: who changes his own loses the parent-death signal, and coming back the
 * capabilities. False with errno.
 */
static bool write_as_root(int proc_sys, const char *key, const char *value) {
        int status;

        pid_t pid = fork();
        if (pid == 0) {
                if (setresuid(0, 0, 0) < 0)
                        _exit(EACCES); /* there is none */
                _exit(fd_write_file(proc_sys, key, value) ? 0 : errno);
        }
        if (pid < 0 || !proc_wait(pid, &status))
                return false;
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
        return errno == 0;
}

static bool set_sysctls(const Spec *spec, int proc_sys, GError **error) {
        for (guint i = 0; i < spec->process.sysctls->len; i++) {
                const char *item = g_ptr_array_index(spec->process.sysctls, i);
                const char *equals = strchr(item, '=');
                g_autofree char *key = g_strndup(item, (size_t) (equals - item));
                if (fd_write_file(proc_sys, key, equals + 1) || (errno == EACCES && write_as_root(proc_sys, key, equals + 1)))
                        continue;
                bool no_root = errno == EACCES && process_has_ipc_sysctl(&spec->process);
                g_autofree char *shown = err_quote(item);
                err_set(error, errno, "--sysctl %s", shown);
                return no_root && err_hint(error, "settings of IPC are the box's root's, and this box has no such id: --userns=subids gives it one");
        }
        return true;
}

/* The slave side of the box's pty becomes init's controlling terminal, so that the payload's process group is not an
 * orphan one: ^Z would have no effect on it (setpgid(2)). */
static int take_terminal(int master, GError **error) {
        int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0) {
                err_set(error, errno, "open the pty's slave side");
                return -1;
        }
        if (ioctl(slave, TIOCSCTTY, 0) < 0) {
                err_set(error, errno, "take the pty as controlling terminal");
                close(slave);
                return -1;
        }
        return slave;
}

typedef struct {
        const ChildContext *context;
        RootBuild *build;
        int proc; /* the box's /proc, attached nowhere yet; the build's */
        /* In it. Not the host's, where each box leaves names, and whoever looks for one goes through all of them (proc_sys_compare(),
         * fs/proc/proc_sysctl.c). */
        int proc_sys;
        int pty, slave, gate, payload_pidfd, mount_ns;
        int cgroup; /* the box's; -1: none of its own */
        pid_t payload;
} ChildState;

/*
 * The payload's process. Forked before the root is built: it makes the box's network namespace, which takes the kernel as long as the
 * root does, then a user namespace of its own, gives up its rights and has its filter compiled by the kernel meanwhile;
 * pivot_root(2) takes it along.
 */
static bool fork_payload(ChildState *s, GError **error) {
        const ChildContext *c = s->context;
        int gates[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, gates) < 0)
                return err_set(error, errno, "socketpair");
        struct clone_args args = { .flags = CLONE_PIDFD,
                                   .pidfd = (uintptr_t) &s->payload_pidfd,
                                   .exit_signal = SIGCHLD };
        s->payload = sys_clone3(&args);
        if (s->payload < 0)
                return err_set(error, errno, "fork the payload") || proc_hint_full(error);
        if (s->payload == 0) {
                close(gates[0]);
                payload_main(&(PayloadContext){ .child = c, .gate = gates[1], .pty_slave = s->slave });
        }
        s->gate = gates[0];
        close(gates[1]);
        /* The payload's alone from here on: its exec is seen by the end of this wire. */
        close(c->payload_wire);
        fd_closep(&s->slave);
        log_step("  box: payload forked");
        /* The launcher has it moved into the box's cgroup meanwhile. */
        return !c->scoped || wire_send(c->wire, WIRE_BORN, NULL, &s->payload_pidfd, 1, error);
}

/* By sendmsg(2), which init's filter allows. Where there is nobody to tell the payload has failed, and said why: then we say nothing. */
static bool tell_payload(int gate, char byte, GError **error) {
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (sendmsg(gate, &msg, MSG_NOSIGNAL) == 1)
                return true;
        if (errno == EPIPE || errno == ECONNRESET)
                _exit(125);
        return err_set(error, errno, "tell the payload %c", byte);
}

static bool tell_outer(const ChildState *s, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (wire_send(s->gate, WIRE_OUTER, NULL, &s->proc_sys, 1, &failure))
                return true;
        if (err_get_errno(failure) == EPIPE) /* likewise */
                _exit(125);
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* A word of the payload's; where it has ended instead it has said why. */
static bool hear_payload(const ChildState *s, WireType type, WireMessage *ret, GError **error) {
        int r = wire_receive(s->gate, ret, error);
        if (r == 0)
                _exit(125);
        return r > 0 && (ret->type == type || err_set(error, EPROTO, "the payload said %s", wire_type_name(ret->type)));
}

/* Into the network namespace that the payload has made, before anything is mounted that shows it. */
static bool join_network(const ChildState *s, GError **error) {
        g_auto(WireMessage) netns = { 0 };

        if (!net_is_own(&s->context->spec->net))
                return true;
        if (!hear_payload(s, WIRE_NETNS, &netns, error))
                return false;
        if (setns(netns.fds[0], CLONE_NEWNET) < 0)
                return err_set(error, errno, "enter the network namespace");
        log_step("  box: network namespace entered");
        return true;
}

/* The payload has done all that it needs the host's tree for. */
static bool await_payload(const ChildState *s, GError **error) {
        const Spec *spec = s->context->spec;
        g_auto(WireMessage) unshared = { 0 };
        char pid[16];

        if (!hear_payload(s, WIRE_UNSHARED, &unshared, error))
                return false;
        log_step("  box: network set up");
        g_snprintf(pid, sizeof pid, "%d", (int) s->payload);
        return user_maps_itself(spec) || (user_map_payload(spec, s->proc, pid, error) && tell_payload(s->gate, 'M', error));
}

/* Of a pod, for its boxes. Nobody else can open them later: neither init nor what waits in the command's place may be looked into. */
static bool tell_namespaces(int wire, GError **error) {
        static const char *const names[POD_N_NAMESPACES] = { [POD_NET] = "net", [POD_IPC] = "ipc", [POD_UTS] = "uts", [POD_PID] = "pid" };
        int fds[POD_N_NAMESPACES] = { -1, -1, -1, -1 };
        bool ok = true;

        for (size_t i = 0; i < POD_N_NAMESPACES && ok; i++) {
                g_autofree char *path = g_strconcat("/proc/self/ns/", names[i], NULL);
                fds[i] = open(path, O_RDONLY | O_CLOEXEC);
                ok = fds[i] >= 0 || err_set(error, errno, "%s", path);
        }
        ok = ok && wire_send(wire, WIRE_POD_FDS, NULL, fds, POD_N_NAMESPACES, error);
        for (size_t i = 0; i < POD_N_NAMESPACES; i++)
                fd_closep(&fds[i]);
        return ok;
}

/* The launcher has had this process moved into the box's cgroup, as late as can be: systemd takes as long as the root does. */
static bool await_scope(ChildState *s, GError **error) {
        g_auto(WireMessage) m = { 0 };
        const char *path;

        if (!wire_expect(s->context->wire, "launcher", WIRE_SCOPED, &m, error))
                return false;
        g_variant_get(m.body, "(&s)", &path);
        /* By its path: a mount can be made only of what lies in one's own mount namespace. */
        if (*path && (s->cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
                return err_set(error, errno, "%s", path);
        /* Not by the clone, as the other namespaces are: it shows from where a process is, and that was the launcher's cgroup then. */
        if (!s->context->spec->namespaces.cgroup_host && unshare(CLONE_NEWCGROUP) < 0)
                return err_set(error, errno, "make a cgroup namespace");
        root_build_take_cgroup(s->build, s->cgroup);
        log_step("  box: in its cgroup");
        return true;
}

static bool child_setup(ChildState *s, GError **error) {
        const ChildContext *c = s->context;
        const Spec *spec = c->spec;
        g_auto(WireMessage) mapped = { 0 }, planned = { 0 }, dirs = { 0 };

        if (!set_time(spec, error))
                return err_step(error, "namespaces");
        /* With a pty later: the controlling terminal is inherited. */
        if (!c->pty && !fork_payload(s, error))
                return err_step(error, "user");
        if (user_maps_itself(spec)) {
                if (!user_map_self(spec, error))
                        return err_step(error, "user");
        } else if (!wire_expect(c->wire, "launcher", WIRE_MAPPED, &mapped, error)) {
                return false;
        }
        if (!user_setup_child(spec, error) || (!c->foreign_pids && !confine_die_with_parent(0, error)))
                return err_step(error, "user");
        log_step("  box: mapped");
        s->mount_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (s->mount_ns < 0)
                return err_set(error, errno, "/proc/self/ns/mnt");
        s->build = root_build_begin(spec, &c->pod, &s->proc, c->pty ? &s->pty : NULL, error);
        if (!s->build)
                return err_step(error, "mount");
        s->proc_sys = openat(s->proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->proc_sys < 0)
                return err_set(error, errno, "/proc/sys of the box");
        if (s->pty >= 0 && (s->slave = take_terminal(s->pty, error)) < 0)
                return err_step(error, "terminal");
        if ((c->pty && !fork_payload(s, error)) || !tell_outer(s, error))
                return err_step(error, "user");
        if (!root_build_own(s->build, error))
                return err_step(error, "mount");
        if (!wire_expect(c->wire, "launcher", WIRE_PLAN, &planned, error))
                return false;
        if (!root_build_layers(s->build, plan_share_get(c->plan), error))
                return err_step(error, "mount");
        if (spec->root.overlay != OVERLAY_NONE && !wire_expect(c->wire, "launcher", WIRE_DIRS, &dirs, error))
                return false;
        if (!root_build_tree(s->build, c->wire, error))
                return err_step(error, "mount");
        if (!join_network(s, error))
                return err_step(error, "namespaces");
        if (c->scoped && !await_scope(s, error))
                return err_step(error, "limits");
        if (!root_build_finish(s->build, error))
                return err_step(error, "mount");
        /* Each costs a call, and here the payload's process is still at work: init never executes anything that could have them. */
        if (!confine_drop_bounding(error))
                return err_step(error, "init");
        if (!await_payload(s, error))
                return err_step(error, "user");
        if (spec->pod.make && !tell_namespaces(c->wire, error))
                return err_step(error, "pod");
        if (!set_sysctls(spec, s->proc_sys, error))
                return err_step(error, "namespaces");
        if (!root_build_enter(s->build, error))
                return err_step(error, "mount");
        log_step("  box: root built");
        if (s->pty >= 0 && !wire_send(c->wire, WIRE_PTY, NULL, &s->pty, 1, error))
                return false;
        return wire_send(c->wire, WIRE_ROOTED, NULL, (int[]){ s->payload_pidfd, s->mount_ns }, 2, error);
}

/* Nothing of the setup's rights and descriptors stays: what is left is a reaper behind a
 * filter of its own, tighter than any payload's. */
static bool become_init(int keep[], size_t n, GError **error) {
        if (!fd_keep_only(keep, n))
                return err_set(error, errno, "close descriptors");
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0)
                return err_set(error, errno, "/dev/null of the box");
        for (int i = 0; i < 3; i++)
                if (dup2(null, i) < 0)
                        return err_set(error, errno, "dup2");
        close(null);
        if (!confine_self(error) || !confine_keep_caps(0, error))
                return false;
        return confine_seccomp(init_seccomp, G_N_ELEMENTS(init_seccomp), error);
}

/* The caller's terminal takes no input from who is in another session; what the payload leaves behind comes to init. */
static bool leave_caller(const ChildContext *context, GError **error) {
        if (setsid() < 0)
                err_set(error, errno, "make a session");
        else if (!context->foreign_pids || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
                return true;
        else
                err_set(error, errno, "PR_SET_CHILD_SUBREAPER");
        return err_step(error, "namespaces");
}

_Noreturn void child_main(const ChildContext *context) {
        ChildState state = {
                .context = context, .proc_sys = -1, .pty = -1, .slave = -1, .gate = -1, .payload_pidfd = -1, .mount_ns = -1,
                .cgroup = -1
        };
        g_autoptr(GError) error = NULL;
        int wire = context->wire;

        /* The launcher's ends: were they open here, its death would not be seen. */
        close(context->peer_wire);
        close(context->peer_payload_wire);
        if (context->peer_net_wire >= 0)
                close(context->peer_net_wire);
        if (context->peer_scope_wire >= 0)
                close(context->peer_scope_wire);
        child_forget_argv("usbox-init");
        (void) umask(022);

        bool ok = leave_caller(context, &error) && child_setup(&state, &error);
        if (ok) {
                /* The payload has its own copies of stdio, gate and wire. It may start when there is nothing left of our rights to
                 * meet, and after ROOTED, so that the launcher has its pidfd before it can see its exec. */
                int keep[3] = { wire, state.gate, state.pty };
                ok = become_init(keep, state.pty >= 0 ? 3 : 2, &error) && tell_payload(keep[1], 'R', &error);
                if (ok) {
                        close(keep[1]);
                        init_main(&(InitContext){ .wire = keep[0],
                                                  .pty = state.pty >= 0 ? keep[2] : -1,
                                                  .payload = state.payload,
                                                  .foreign_pids = context->foreign_pids });
                }
                err_step(&error, "init");
                wire = keep[0];
        }
        wire_send_error(wire, error);
        _exit(125);
}
