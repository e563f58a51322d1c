/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's loop: one poll(2) over the wires, the signals, the terminal and the clock.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 6, 8 and 10. Any helper may fail at any moment of it;
 * the first error ends the loop, and sandbox.c takes the box down.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/wire.h"
#include "pod-host.h"
#include "pod-kill.h"
#include "supervise-messages.h"
#include "supervise.h"

/* From --timeout's signal to SIGKILL, as podman stop has it. */
#define STOP_GRACE (10 * G_USEC_PER_SEC)

/* For a box that has no pid namespace to end with, as long as the loop may stand still. */
#define KILL_MS 2000

/* Who ended the box waits as long for somebody to read on where its output goes. */
#define UNREAD_GRACE (2 * G_USEC_PER_SEC)

/* Everything that a person or a service manager sends. SIGKILL and SIGSTOP cannot be had; faults are ours. */
static const int handled[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,  SIGUSR2, SIGALRM, SIGXCPU,
                               SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGWINCH, SIGCHLD, 0 };

/* nohup(1) has said that a hangup is nobody's business here. signalfd(2) would hear it even so: what is blocked is not dropped. */
static bool outlives_hangup(void) {
        struct sigaction old;

        return sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

int supervise_signals(GError **error) {
        (void) signal(SIGPIPE, SIG_IGN);
        /* A parent that ignores SIGCHLD (some CI runners do) would have our children reaped by the kernel. */
        (void) signal(SIGCHLD, SIG_DFL);
        g_assert(handled[0] == SIGHUP);
        int fd = proc_take_signals(handled + outlives_hangup(), error);
        if (fd < 0)
                err_step(error, "signals");
        return fd;
}

bool supervise_is_limited(const Sandbox *s) {
        return limits_wanted(&s->spec->limits) || s->pod.cgroup || s->scope.cgroup;
}

bool supervise_command_runs(const Sandbox *s, GError **error) {
        return (s->started && !s->exited) || err_set(error, 0, "the box's command %s", s->exited ? "has ended" : "has not been started yet");
}

bool supervise_tell_init(const Sandbox *s, WireType type, GVariant *body) {
        struct pollfd wire = { .fd = s->child_wire, .events = POLLOUT };
        g_autoptr(GVariant) held = body ? g_variant_ref_sink(body) : NULL;

        /* We alone write there: what has room now does not wait. */
        if (wire.fd >= 0 && poll(&wire, 1, 0) == 0)
                return false;
        if (wire.fd >= 0)
                (void) wire_send(wire.fd, type, held, NULL, 0, NULL);
        return true;
}

bool supervise_signal(const Sandbox *s, int sig) {
        return supervise_tell_init(s, WIRE_SIGNAL, g_variant_new("(i)", sig));
}

static void kill_box(Sandbox *s) {
        if (s->pod.userns >= 0)
                (void) pod_kill_box(s->pod.userns, s->pod.namespaces[POD_PID], s->child_pidfd, KILL_MS);
        else if (s->spec->namespaces.pid_host) /* its end makes init kill what is left */
                (void) shutdown(s->child_wire, SHUT_RDWR);
        else
                (void) pidfd_send_signal(s->child_pidfd, SIGKILL, NULL, 0);
        /* No process of it is missed, whatever it forks meanwhile. */
        if (s->scope.cgroup)
                (void) cgroup_kill(s->scope.cgroup, NULL);
}

static void on_signal(Sandbox *s, int sig) {
        switch (sig) {
        case SIGCHLD:
                break;
        case SIGWINCH:
                if (s->term)
                        term_winch(s->term);
                break;
        case SIGCONT:
                if (s->started && !s->stdio.plan.pty[0])
                        (void) supervise_signal(s, SIGCONT);
                break;
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
                /* With a pty ^Z arrives as a byte; this one is somebody's kill(1), or the terminal's without a pty. */
                if (!s->stdio.plan.pty[0])
                        (void) supervise_signal(s, SIGSTOP);
                (void) raise(SIGSTOP);
                break;
        default:
                if (s->started && s->spec->pod.make)
                        supervise_stop(s, STOP_GRACE);
                else if (s->started)
                        (void) supervise_signal(s, sig);
                else if (!s->early_signal)
                        s->early_signal = sig;
        }
}

static void read_signals(Sandbox *s) {
        struct signalfd_siginfo info;
        while (read(s->signals, &info, sizeof info) == sizeof info)
                on_signal(s, (int) info.ssi_signo);
}

/* Kindly first; SIGKILL after grace. The time limit has no more to say. */
static void begin_stop(Sandbox *s, gint64 grace) {
        s->deadline = 0;
        s->kill_deadline = MAX(g_get_monotonic_time() + grace, 1);
        (void) supervise_signal(s, s->spec->box.stop_signal);
        (void) supervise_signal(s, SIGCONT);
}

void supervise_stop(Sandbox *s, gint64 grace) {
        if (s->spec->pod.make && s->control) {
                pod_host_stop(s, grace);
                return;
        }
        s->stopping = true;
        begin_stop(s, grace);
}

bool supervise_await(Sandbox *s, int fd, GError **error) {
        struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = s->signals, .events = POLLIN } };

        for (;;) {
                if (TEMP_FAILURE_RETRY(poll(fds, G_N_ELEMENTS(fds), -1)) < 0)
                        return err_set(error, errno, "poll");
                read_signals(s);
                s->interrupted = s->early_signal;
                if (s->interrupted)
                        return err_set(error, EINTR, "interrupted");
                if (fds[0].revents)
                        return true;
        }
}

static bool check_time(Sandbox *s, GError **error) {
        gint64 now = g_get_monotonic_time();

        if (s->kill_deadline && now >= s->kill_deadline) {
                s->kill_deadline = 0;
                kill_box(s);
        } else if (s->deadline && now >= s->deadline) {
                s->timed_out = true;
                begin_stop(s, STOP_GRACE);
        }
        if (!s->watch_at || now < s->watch_at || s->exited)
                return true;
        s->watch_at = 0;
        return net_helper_watch(&s->net, error);
}

static int poll_timeout(const Sandbox *s) {
        gint64 next = s->kill_deadline ? s->kill_deadline : s->deadline;
        int term = s->term ? term_timeout_ms(s->term) : -1;
        if (s->watch_at && !s->exited)
                next = next ? MIN(next, s->watch_at) : s->watch_at;
        if (s->unread_deadline)
                next = next ? MIN(next, s->unread_deadline) : s->unread_deadline;
        if (!next)
                return term;
        gint64 ms = MAX((next - g_get_monotonic_time() + 999) / 1000, 0);
        int mine = (int) MIN(ms, G_MAXINT);
        return term < 0 ? mine : MIN(term, mine);
}

enum {
        POLL_SIGNALS,
        POLL_PAYLOAD,
        POLL_CHILD,
        POLL_CHILD_END,
        POLL_NET,
        POLL_FS,
        POLL_RESOLV,
        POLL_SCOPE,
        POLL_POD,
        POLL_HOOKS,
        POLL_MENDER,
        POLL_TERM,
        POLL_RELAY = POLL_TERM + TERM_N_FDS,
        POLL_LOG = POLL_RELAY + 3 * RELAY_N_FDS,
        POLL_CONTROL = POLL_LOG + LOG_N_FDS,
        POLL_N = POLL_CONTROL + CONTROL_N_FDS
};

static void fill_poll(const Sandbox *s, struct pollfd fds[static POLL_N]) {
        int plain[] = { s->signals, s->payload_wire, s->child_wire, s->child_ended ? -1 : s->child_pidfd,
                        s->exited ? -1 : s->net.helper.wire, s->exited ? -1 : s->fs.helper.wire, s->exited ? -1 : s->net.watch,
                        s->exited ? -1 : s->scope.helper.wire, s->exited ? -1 : s->pod.wire,
                        s->exited || s->mount_ns < 0 ? -1 : hook_guard_changes(s->guard), hook_guard_mender(s->guard) };

        for (int i = 0; i < POLL_N; i++)
                fds[i] = (struct pollfd){ .fd = i < POLL_TERM ? plain[i] : -1, .events = POLLIN };
        fds[POLL_NET].events = net_helper_events(&s->net);
        if (s->term)
                term_poll(s->term, fds + POLL_TERM);
        for (int i = 0; i < 3; i++)
                if (s->stdio.relays[i])
                        relay_poll(s->stdio.relays[i], fds + POLL_RELAY + i * RELAY_N_FDS);
        if (s->log)
                log_writer_poll(s->log, fds + POLL_LOG);
        if (s->control) /* of a command that has ended, too: its output may be on its way for long */
                control_poll(s->control, fds + POLL_CONTROL);
}

/* Output that the payload wrote before it ended is still on its way. */
static bool output_pending(const Sandbox *s) {
        if (s->term && !term_drained(s->term))
                return true;
        for (int i = 1; i < 3; i++)
                if (s->stdio.relays[i] && !relay_is_done(s->stdio.relays[i]))
                        return true;
        return false;
}

/*
 * Input that cannot be read ends the box: cut short, it would look whole. Output that cannot be written does not: the payload
 * gets EPIPE and does what it does then, and the run fails when it has ended.
 */
static bool dispatch_relays(Sandbox *s, const struct pollfd fds[static POLL_N], GError **error) {
        for (int i = 0; i < 3; i++) {
                g_autoptr(GError) failure = NULL;
                if (!s->stdio.relays[i] ||
                    relay_dispatch(s->stdio.relays[i], fds + POLL_RELAY + i * RELAY_N_FDS, &failure))
                        continue;
                err_step(&failure, "stdio");
                if (i == STDIN_FILENO) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                if (!s->stdio.lost_output)
                        s->stdio.lost_output = g_steal_pointer(&failure);
        }
        return true;
}

static bool dispatch_bytes(Sandbox *s, const struct pollfd fds[static POLL_N], GError **error) {
        if (s->term && !term_dispatch(s->term, fds + POLL_TERM, error))
                return err_step(error, "terminal");
        /* Whoever reads the terminal's output has gone: what a terminal that was unplugged sends. */
        if (s->term && term_output_gone(s->term) && !s->hung_up) {
                s->hung_up = true;
                (void) supervise_signal(s, SIGHUP);
        }
        if (s->log)
                log_writer_dispatch(s->log, fds + POLL_LOG);
        return dispatch_relays(s, fds, error);
}

/*
 * A signal that was sent after the payload's exec must not be taken for one before it: as long as the wires have something to
 * say, which may be that exec, that comes first. Asked anew, since poll(2) may have looked before the signal came.
 */
static void judge_early_signal(Sandbox *s) {
        struct pollfd wires[] = { { .fd = s->payload_wire, .events = POLLIN },
                                  { .fd = s->child_wire, .events = POLLIN } };

        if (!s->early_signal)
                return;
        if (s->started)
                (void) supervise_signal(s, s->early_signal);
        else if (poll(wires, G_N_ELEMENTS(wires), 0) == 0)
                s->interrupted = s->early_signal;
        else
                return;
        s->early_signal = 0;
}

/* The pod ends, and the box with it. */
static bool on_pod(Sandbox *s, GError **error) {
        gint64 grace;

        if (!pod_join_dispatch(&s->pod, &grace, error))
                return false;
        if (!s->started) {
                err_set(error, 0, "the pod ended while the box started");
                return err_step(error, "pod");
        }
        supervise_stop(s, grace);
        return true;
}

static bool dispatch(Sandbox *s, const struct pollfd fds[static POLL_N], GError **error) {
        /* ROOTED comes before the exec, and the exec before EXITED, also where all of them are found at once. */
        bool rooted = s->payload_pidfd >= 0;
        if (rooted && fds[POLL_PAYLOAD].revents && !supervise_payload_message(s, error))
                return false;
        if (fds[POLL_CHILD].revents && !supervise_child_message(s, error))
                return false;
        if (!rooted && fds[POLL_PAYLOAD].revents && !supervise_payload_message(s, error))
                return false;
        if (fds[POLL_NET].revents && !s->exited && (!net_helper_dispatch(&s->net, fds[POLL_NET].revents, error) || !supervise_maybe_go(s, error)))
                return false;
        if (fds[POLL_RESOLV].revents && !s->exited && !net_helper_resolvers(&s->net, error))
                return false;
        if (fds[POLL_FS].revents && !s->exited) {
                /* It ends when its mount does, and so with the child, whose own reason is on its wire by then. */
                struct pollfd child = { .fd = s->child_wire, .events = POLLIN };
                if (poll(&child, 1, 0) > 0 && !supervise_child_message(s, error))
                        return false;
                /* A child that was killed has left no word: its end, which comes next, is the reason. */
                if (!fs_helper_ended_with(&s->fs, s->child_pidfd) && (!fs_helper_dispatch(&s->fs, error) || !supervise_maybe_go(s, error)))
                        return false;
        }
        /* A message of the child's may have been the end of it: --best-effort=limits. */
        if (fds[POLL_SCOPE].revents && s->scope.helper.wire >= 0 && !s->exited && !supervise_scope_message(s, error))
                return false;
        if (fds[POLL_POD].revents && !s->exited && !on_pod(s, error))
                return false;
        if (fds[POLL_HOOKS].revents || fds[POLL_MENDER].revents)
                hook_guard_dispatch(s->guard, s->mount_ns);
        if (fds[POLL_SIGNALS].revents)
                read_signals(s);
        judge_early_signal(s);
        if (s->interrupted)
                return err_set(error, EINTR, "interrupted");
        if (s->control)
                control_dispatch(s->control, s, fds + POLL_CONTROL);
        if (s->control && s->spec->pod.make)
                pod_host_look(s);
        return dispatch_bytes(s, fds, error);
}

static bool init_died(Sandbox *s, GError **error) {
        siginfo_t info = { 0 };

        /* It ends without a word where the payload failed first. */
        if (!supervise_payload_wire(s, error))
                return false;
        if ((s->timed_out || s->stopping) && s->started) {
                s->wait_status = SIGKILL;
                return true;
        }
        /* Without an answer where it is the child of the pod's init. */
        bool unknown = waitid(P_PIDFD, (id_t) s->child_pidfd, &info, WEXITED | WNOWAIT) < 0;
        if (unknown)
                err_set(error, 0, "the box's init was killed");
        else if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
                err_set(error, 0, "the box's init was killed by signal %d", info.si_status);
        else
                err_set(error, 0, "the box's init ended with status %d", info.si_status);
        /* That a limit of the box's own was met is said when its cgroup has been read (cgroup_outcome()). */
        if (unknown || (info.si_code == CLD_KILLED && info.si_status == SIGKILL))
                err_hint(error, "somebody has killed it, and all of the box ends with it; where it was the kernel, for lack of memory, dmesg or journalctl -k "
                                "names process %d", (int) s->child);
        return err_step(error, s->started ? "init" : "namespaces");
}

/*
 * A box that was told to end does not stay for what nobody reads: who has stopped it, or its time limit, would wait for a terminal
 * that somebody has left. Nor does what usbox itself would say there. One that ends by itself stays: its output may be wanted yet.
 */
static bool give_output_up(Sandbox *s, const struct pollfd fds[static POLL_N]) {
        gint64 now = g_get_monotonic_time();
        bool moves = fds[POLL_TERM].revents || fds[POLL_TERM + 1].revents;
        struct pollfd said = { .fd = STDERR_FILENO, .events = POLLOUT };

        if (!(s->exited || s->child_ended) || !(s->stopping || s->timed_out))
                return false;
        for (int i = POLL_RELAY; i < POLL_LOG; i++)
                moves = moves || fds[i].revents;
        if (moves || !s->unread_deadline)
                s->unread_deadline = now + UNREAD_GRACE;
        if (now < s->unread_deadline)
                return false;
        log_step("output: nobody reads the rest");
        if (poll(&said, 1, 0) == 0) {
                _cleanup_close_ int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
                if (null >= 0)
                        (void) dup2(null, STDERR_FILENO);
        }
        return true;
}

static bool watch(Sandbox *s, GError **error) {
        if (!supervise_maybe_go(s, error))
                return false;
        /* After EXITED init has nothing more to say, and sandbox.c waits for its end. */
        while ((!s->child_ended && !s->exited) || output_pending(s)) {
                struct pollfd fds[POLL_N];
                fill_poll(s, fds);
                if (fd_poll(fds, POLL_N, poll_timeout(s)) < 0 && errno != EINTR)
                        return err_set(error, errno, "poll");
                if (!dispatch(s, fds, error))
                        return false;
                if (!check_time(s, error))
                        return false;
                /* Its last words first: they are on the wire before it ends. */
                if (fds[POLL_CHILD_END].revents && !fds[POLL_CHILD].revents) {
                        s->child_ended = true;
                        if (!s->exited && !init_died(s, error))
                                return false;
                        /* No EXITED comes of a box that was killed: what its terminal has now is all. */
                        if (s->term)
                                term_drain(s->term);
                }
                if (give_output_up(s, fds))
                        break;
        }
        return true;
}

bool supervise(Sandbox *s, GError **error) {
        bool ok = watch(s, error);

        /* Of a command that could not be started, too: the script that comes on standard input goes on behind it. */
        if (s->stdio.relays[STDIN_FILENO])
                relay_give_back(s->stdio.relays[STDIN_FILENO]);
        return ok && supervise_payload_wire(s, error);
}
