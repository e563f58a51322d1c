/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Into a running box: what `usbox exec` executes.
 *
 * Role: forked by the launcher, so that filter, maps and environment are by construction those that the payload got. Privileges: the
 * caller's; over both user namespaces of the box, as their owner, until payload_give_up(). Threads: one. Order: step 10.
 *
 * Two forks. The first, the joiner, enters the namespaces; it stays in the host's pid namespace, where the box does not see it. The
 * second is the command's process, which is in the box's pid namespace from its first moment. The joiner stays for its end, since init's own comes only
 * when all who were in the namespace are reaped: the launcher may be killed before, and who then adopts a child of its need not reap it, which in many a
 * container nobody does. Neither is dumpable, so what /proc/PID/exe, fd and mem lead to is closed to the box until the exec; and what the kernel
 * would execute for a script that asks for /proc/self/exe is not usbox's file where the caller could change that (stub/stub.c).
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/sys.h"
#include "base/wire.h"
#include "child.h"
#include "join.h"
#include "payload.h"

/* What the joiner keeps open, in this order; fd_keep_only() renumbers it. */
enum { KEEP_WIRE, KEEP_PIDFD, KEEP_MOUNT_NS, KEEP_SELF, KEEP_LAUNCHER, KEEP_STDIO, KEEP_N = KEEP_STDIO + 3 };

static int namespaces_of(const Spec *spec) {
        int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME;

        return flags | (spec->namespaces.pid_host ? 0 : CLONE_NEWPID) | (spec->namespaces.ipc_host ? 0 : CLONE_NEWIPC) |
               (spec->namespaces.uts_host ? 0 : CLONE_NEWUTS) | (spec->namespaces.cgroup_host ? 0 : CLONE_NEWCGROUP) |
               (spec->net.mode == NET_HOST ? 0 : CLONE_NEWNET);
}

static ino_t inode_of(int fd) {
        struct stat st;
        return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* The payload's user namespace, if it is the one that usbox made for it: the child of the one that owns the box's mounts. -1: it is not. */
static int own_user_namespace(int mount_ns, pid_t payload) {
        g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) payload);
        _cleanup_close_ int inner = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int parent = inner >= 0 ? ioctl(inner, NS_GET_PARENT) : -1;
        _cleanup_close_ int outer = ioctl(mount_ns, NS_GET_USERNS);

        return inode_of(parent) != 0 && inode_of(parent) == inode_of(outer) ? fd_steal(&inner) : -1;
}

/*
 * With --nested the payload may have moved into namespaces of its own making by now, or do so while we look: what was entered is what counts.
 * self is our /proc/PID on the host, which is readable to us from anywhere.
 */
static bool enter(const Sandbox *s, const int keep[static KEEP_N], GError **error) {
        _cleanup_close_ int inner = own_user_namespace(keep[KEEP_MOUNT_NS], s->payload);
        struct stat user, mount;

        if (inner >= 0 && setns(keep[KEEP_PIDFD], namespaces_of(s->spec)) < 0) {
                err_set(error, errno, "enter the namespaces of the box");
                return errno == ESRCH ? err_hint(error, "its command has ended") : false;
        }
        /* The new credentials took it away. Whoever may stop the joiner (--pid=host) does not keep the command alive by that. */
        if (!confine_wake_without_parent(error))
                return false;
        if (inner < 0 || fstatat(keep[KEEP_SELF], "ns/user", &user, 0) < 0 || fstatat(keep[KEEP_SELF], "ns/mnt", &mount, 0) < 0 ||
            user.st_ino != inode_of(inner) || mount.st_ino != inode_of(keep[KEEP_MOUNT_NS])) {
                err_set(error, 0, "the box's command is in namespaces of its own making, or has ended");
                return err_hint(error, "exec goes where the command is, and with --nested that may be elsewhere: have the command start what is wanted");
        }
        return true;
}

/* A pty of the box's devpts. /dev is the box's to change, so what the name leads to is looked at; O_NONBLOCK: it may be a FIFO. */
static int open_pty(int *ret_slave, GError **error) {
        _cleanup_close_ int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        struct statfs fs;

        if (master < 0 || fstatfs(master, &fs) < 0) {
                err_set(error, errno, "/dev/ptmx of the box");
                return -1;
        }
        if (fs.f_type != DEVPTS_SUPER_MAGIC) {
                err_set(error, ENODEV, "/dev/ptmx of the box");
                return -1;
        }
        int unlock = 0;
        if (ioctl(master, TIOCSPTLCK, &unlock) < 0 || (*ret_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
                err_set(error, errno, "the box's pty");
                return -1;
        }
        return fd_steal(&master);
}

static bool set_terminal(const JoinRequest *request, int wire, int stdio[3], GError **error) {
        int slave = -1;

        if (setsid() < 0)
                return err_set(error, errno, "setsid");
        if (!request->pty)
                return true;
        _cleanup_close_ int master = open_pty(&slave, error);
        if (master < 0)
                return false;
        if (ioctl(slave, TIOCSCTTY, 0) < 0)
                return err_set(error, errno, "take the pty as controlling terminal");
        for (int i = 0; i < 3; i++)
                if (request->on_pty[i])
                        stdio[i] = slave;
        return wire_send(wire, WIRE_PTY, NULL, &master, 1, error);
}

static bool set_stdio(const int stdio[3], GError **error) {
        for (int i = 0; i < 3; i++)
                if (dup2(stdio[i], i) < 0)
                        return err_set(error, errno, "stdio");
        return true;
}

/* joiner: our parent, as the host numbers it. */
static _Noreturn void command_main(const Sandbox *s, const JoinRequest *request, int keep[static KEEP_N], pid_t joiner) {
        g_autoptr(GError) error = NULL;
        g_auto(WireMessage) go = { 0 };
        int wire = keep[KEEP_WIRE], only[1] = { wire }, stub = -1;

        bool ok = (set_terminal(request, wire, keep + KEEP_STDIO, &error) && set_stdio(keep + KEEP_STDIO, &error)) || err_step(&error, "terminal");
        /* The wire moves to 3; the rest goes. */
        ok = ok && (fd_keep_only(only, 1) || err_set(&error, errno, "close descriptors"));
        wire = ok ? only[0] : wire;
        ok = ok && (!s->stub || (stub = payload_make_stub(&error)) >= 0);
        ok = ok && payload_give_up(s->spec, request->uid, request->gid, s->umask, &error);
        /* Without a pid namespace of the box's nobody else would end it where the joiner is killed with the launcher. */
        bool host = s->spec->namespaces.pid_host;
        ok = ok && ((!host && !s->pod.share_pid) || confine_die_with_parent(host ? joiner : 0, &error));
        /* The joiner is out of the payload's cgroup, in which it counts. */
        ok = ok && (!s->scope.cgroup || wire_expect(wire, "launcher", WIRE_GO, &go, &error));
        ok = ok && payload_chdir(request->cwd, &error);
        if (ok)
                payload_drop_lost_places(s->spec, request->envp);
        ok = ok && payload_filter(&s->filter, &error);
        if (ok)
                payload_exec(stub, wire, request->argv, request->envp, &error);
        wire_send_error(wire, error);
        _exit(125);
}

/* Until the command has ended, or the launcher, and the command with it. The stdio of that is not to be kept open by us. */
static _Noreturn void await_command(const int keep[static KEEP_N], int command) {
        struct pollfd fds[] = { { .fd = command, .events = POLLIN }, { .fd = keep[KEEP_LAUNCHER], .events = POLLIN } };
        siginfo_t info = { 0 };

        for (int i = 0; i < KEEP_N; i++)
                if (i != KEEP_LAUNCHER)
                        close(keep[i]);
        if (TEMP_FAILURE_RETRY(poll(fds, G_N_ELEMENTS(fds), -1)) > 0 && !fds[0].revents)
                (void) pidfd_send_signal(command, SIGKILL, NULL, 0);
        (void) TEMP_FAILURE_RETRY(waitid(P_PIDFD, (id_t) command, &info, WEXITED));
        _exit(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status);
}

/* The command's process, of which the launcher is told; its pidfd. -1 with error. */
static int fork_command(const Sandbox *s, const JoinRequest *request, int keep[static KEEP_N], GError **error) {
        _cleanup_close_ int pidfd = -1;
        pid_t joiner = getpid();
        struct clone_args args = { .flags = CLONE_PIDFD | CLONE_PARENT_SETTID,
                                   .pidfd = (uintptr_t) &pidfd,
                                   .parent_tid = (uintptr_t) request->forked,
                                   .exit_signal = SIGCHLD };
        pid_t pid = sys_clone3(&args);

        if (pid == 0)
                command_main(s, request, keep, joiner);
        if (pid < 0) {
                err_set(error, errno, "fork into the box");
                return -1;
        }
        if (wire_send(keep[KEEP_WIRE], WIRE_FORKED, g_variant_new("(i)", (int) pid), &pidfd, 1, error))
                return fd_steal(&pidfd);
        (void) pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        (void) proc_wait(pid, NULL);
        return -1;
}

static _Noreturn void joiner_main(const Sandbox *s, const JoinRequest *request, int wire) {
        g_autoptr(GError) error = NULL;
        /* First of all: it has what the launcher has, and stopped would keep the box and who waits for its answer if that is killed. */
        bool ok = confine_wake_without_parent(&error);
        /* Where the launcher has ended by now it is another process, and FORKED cannot be sent. */
        int launcher = pidfd_open(getppid(), 0), command = -1;
        int keep[KEEP_N] = { wire, s->payload_pidfd, s->mount_ns, -1, launcher, request->fds[0], request->fds[1], request->fds[2] };
        g_auto(WireMessage) go = { 0 };

        /* A session of its own: whoever kills all of the launcher's process group does not take it along. Its command would be the child of whoever adopts
         * orphans on this machine, and where that reaps nobody the box's init would wait for it for ever. */
        if (ok && setsid() < 0)
                ok = err_set(&error, errno, "setsid");
        ok = ok && payload_set_oom_score(s->spec, supervise_is_limited(s), &error);
        /* Of the host's pid namespace, but soon with the box's ids: nobody may look into it. */
        if (ok && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                ok = err_set(&error, errno, "PR_SET_DUMPABLE");
        child_forget_argv("usbox-exec"); /* what it forks into the box's pid namespace is seen there before it executes anything */
        keep[KEEP_SELF] = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (ok && (launcher < 0 || keep[KEEP_SELF] < 0 || !fd_keep_only(keep, KEEP_N)))
                ok = err_set(&error, errno, "descriptors");
        ok = ok && (!s->scope.cgroup || wire_expect(keep[KEEP_WIRE], "launcher", WIRE_GO, &go, &error)) && enter(s, keep, &error);
        ok = ok && (command = fork_command(s, request, keep, &error)) >= 0;
        if (ok)
                await_command(keep, command);
        err_step(&error, "exec");
        wire_send_error(keep[KEEP_WIRE], error);
        _exit(125);
}

/* Into the box's limits with it, before it enters the box: from there the way is closed. Where the launcher may not do that (see usbox-scope) it is
 * waited for. */
static bool limit_joiner(Sandbox *s, pid_t pid, int wire, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (!s->scope.cgroup)
                return true;
        if (!cgroup_join_payload(s->scope.cgroup, pid, &failure)) {
                if (err_get_errno(failure) != EACCES && err_get_errno(failure) != EPERM) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                if (s->scope.updating)
                        return err_set(error, EAGAIN, "the box's limits are being changed");
                if (!scope_helper_join(&s->scope, NULL, 0, pid, error) || !supervise_await(s, s->scope.helper.wire, error) ||
                    !scope_helper_joined(&s->scope, error))
                        return false;
        }
        return wire_send(wire, WIRE_GO, NULL, NULL, 0, error);
}

pid_t join_fork(Sandbox *s, const JoinRequest *request, int *ret_pidfd, int *ret_wire, GError **error) {
        /* Both or neither: what it forks as soon as it is there would outlive it. */
        struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uintptr_t) ret_pidfd, .exit_signal = SIGCHLD };
        int ends[2];

        if (!wire_pair(ends, error))
                return -1;
        pid_t pid = sys_clone3(&args);
        if (pid == 0)
                joiner_main(s, request, ends[1]);
        int saved = errno;
        close(ends[1]);
        if (pid < 0) {
                close(ends[0]);
                err_set(error, saved, "fork");
                return -1;
        }
        /* It waits for the word that comes last of this, and has forked nothing yet. */
        if (!(limit_joiner(s, pid, ends[0], error) || err_step(error, "limits"))) {
                (void) kill(pid, SIGKILL);
                (void) proc_wait(pid, NULL);
                close(ends[0]);
                fd_closep(ret_pidfd);
                return -1;
        }
        *ret_wire = ends[0];
        return pid;
}
