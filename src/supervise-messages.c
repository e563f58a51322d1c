/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the launcher does with a message of init, of the payload or of usbox-scope.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 6, 8 and 10, called by the loop of supervise.c. What is said
 * has the right form by then (wire.c), and is not believed beyond that.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/wire.h"
#include "detach.h"
#include "payload.h"
#include "presence.h"
#include "record.h"
#include "scope-late.h"
#include "seen.h"
#include "supervise-messages.h"

#define WATCH_AFTER G_USEC_PER_SEC

static bool start_term(Sandbox *s, int master_take, GError **error) {
        s->term = stdfds_make_term(&s->stdio, master_take, error);
        if (!s->term)
                return err_step(error, "terminal");
        atexit(term_restore_now);
        return true;
}

/* All is there: the payload may go, as soon as its root stands. */
bool supervise_maybe_go(Sandbox *s, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (s->go_sent || s->payload_wire < 0 || (s->net.helper.pid > 0 && !s->net.ports) ||
            (s->fs.helper.pid > 0 && !s->fs.ready) || (s->stdio.pty_wanted && !s->term) ||
            (supervise_is_limited(s) && !s->born) || (s->scope.helper.pid > 0 && !s->scope.joined) ||
            ((s->status || presence_is_held(s->spec)) && s->payload_pidfd < 0)) /* its pid is to be told, and it may end at once */
                return true;
        if (presence_is_held(s->spec) && !presence_begin(s, error))
                return false;
        if (!status_write_pidfile(s->status, s->payload, error))
                return err_step(error, "status");
        log_step("go");
        _cleanup_close_ int seen = -1;
        struct timespec since;
        if (s->dir && !seen_begin(s->dir->fd, s->plan, &seen, &since, error))
                return err_step(error, "state");
        if (!scope_helper_limit_cpu(&s->scope, error)) /* the last moment: from here on it is the command's time */
                return false;
        s->go_sent = wire_send(s->payload_wire, WIRE_GO, NULL, NULL, 0, &failure);
        if (s->go_sent)
                return seen < 0 || seen_write(seen, &since, s->spec, s->plan, error) || err_step(error, "state");
        /* It has failed, and what it said of that is on its wire. */
        if (err_get_errno(failure) == EPIPE)
                return supervise_payload_wire(s, error);
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* ^Z inside: the payload's group has stopped. The same happens to us, so that the caller's shell gets its terminal. */
static void suspend(Sandbox *s) {
        sigset_t stop;

        if (s->term)
                term_suspend(s->term);
        sigemptyset(&stop);
        sigaddset(&stop, SIGTSTP);
        /* To the whole group, as the terminal itself does. Where nobody could continue us (an orphaned group) the kernel
         * does not stop us, and the payload goes on at once. */
        (void) kill(0, SIGTSTP);
        (void) sigprocmask(SIG_UNBLOCK, &stop, NULL);
        (void) sigprocmask(SIG_BLOCK, &stop, NULL);
        if (s->term)
                term_resume(s->term);
        (void) supervise_tell_init(s, WIRE_RESUME, NULL);
}

bool supervise_tell(int wire, WireType type, GVariant *body, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (wire_send(wire, type, body, NULL, 0, &failure) || err_get_errno(failure) == EPIPE)
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* The box is in its cgroup, or gets none after all: the child and the payload's process wait for that. */
static bool tell_scoped(Sandbox *s, GError **error) {
        const char *path = s->scope.cgroup ? cgroup_path(s->scope.cgroup) : "";

        if (!supervise_tell(s->payload_wire, WIRE_MOVED, NULL, error) || !supervise_tell(s->child_wire, WIRE_SCOPED, g_variant_new("(s)", path), error))
                return err_step(error, "limits");
        return supervise_maybe_go(s, error);
}

bool supervise_scope_failed(Sandbox *s, GError *failure_take, GError **error) {
        if (s->scope.joined || !(s->spec->box.best_effort & BEST_EFFORT_LIMITS)) {
                if (!s->scope.joined)
                        scope_helper_hint_without(failure_take);
                g_propagate_error(error, failure_take);
                return false;
        }
        log_note("without limits: %s", failure_take->message);
        g_error_free(failure_take);
        scope_helper_give_up(&s->scope);
        return !s->born || tell_scoped(s, error);
}

/* All of the box is there, as far as it is to be in its cgroup: usbox-scope moves it as soon as it can. */
static bool have_scope_joined(Sandbox *s, pid_t payload, GError **error) {
        const pid_t helpers[] = { s->child, s->net.helper.pid, s->fs.helper.pid };
        GError *failure = NULL;

        s->born = true;
        if (s->scope.helper.wire < 0) /* it has failed already, and the box goes on without */
                return tell_scoped(s, error);
        return scope_helper_join(&s->scope, helpers, G_N_ELEMENTS(helpers), payload, &failure) || supervise_scope_failed(s, failure, error);
}

/* An error of somebody in the box; where usbox-fs has gone, that is the reason for it. */
static bool take_error(Sandbox *s, const WireMessage *m, GError **error) {
        g_autoptr(GError) failure = NULL;

        wire_error_to_gerror(m, &failure);
        if (!fs_helper_is_the_reason(&s->fs, err_get_errno(failure), error))
                g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

static struct timeval timeval(gint64 microseconds) {
        return (struct timeval){ .tv_sec = microseconds / G_USEC_PER_SEC, .tv_usec = microseconds % G_USEC_PER_SEC };
}

bool supervise_child_message(Sandbox *s, GError **error) {
        g_auto(WireMessage) m = { 0 };
        gint64 user, system, max_rss;

        int r = wire_receive(s->child_wire, &m, error);
        if (r < 0)
                return false;
        if (r == 0) {
                /* Its pidfd says the rest. */
                fd_closep(&s->child_wire);
                return true;
        }
        switch (m.type) {
        case WIRE_ERROR:
                return take_error(s, &m, error);
        case WIRE_FS_FDS:
                log_step("root mounted");
                return fs_helper_mount(&s->fs, &m, error);
        case WIRE_PTY:
                return start_term(s, wire_message_take_fd(&m, 0), error) && supervise_maybe_go(s, error);
        case WIRE_BORN:
                return have_scope_joined(s, proc_pidfd_pid(m.fds[0]), error);
        case WIRE_ROOTED:
                log_step("root built");
                fd_closep(&s->payload_pidfd);
                fd_closep(&s->mount_ns);
                s->payload_pidfd = wire_message_take_fd(&m, 0);
                s->mount_ns = wire_message_take_fd(&m, 1);
                s->payload = proc_pidfd_pid(s->payload_pidfd);
                return supervise_maybe_go(s, error);
        case WIRE_GUARDED: {
                guint32 source;
                g_variant_get(m.body, "(u)", &source);
                return hook_guard_take_tree(s->guard, source, wire_message_take_fd(&m, 0)) || err_set(error, EPROTO, "init said GUARDED of source %u", source);
        }
        case WIRE_POD_FDS:
                for (unsigned i = 0; i < POD_N_NAMESPACES; i++) {
                        fd_closep(&s->pod_namespaces[i]);
                        s->pod_namespaces[i] = wire_message_take_fd(&m, i);
                }
                return true;
        case WIRE_STOPPED: {
                int sig;
                g_variant_get(m.body, "(i)", &sig);
                if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
                        suspend(s);
                return true;
        }
        case WIRE_EXITED:
                g_variant_get(m.body, "(ixxx)", &s->wait_status, &user, &system, &max_rss);
                /* Init's own, of which this is part, comes when it is reaped; but where the boxes of a pod share their processes, not by us. */
                s->usage = (struct rusage){ .ru_utime = timeval(user), .ru_stime = timeval(system), .ru_maxrss = max_rss };
                s->exited = true;
                log_step("payload ended");
                if (s->term)
                        term_drain(s->term);
                net_helper_stop(&s->net); /* its end takes a while: meanwhile the box's does */
                return true;
        default:
                return err_set(error, EPROTO, "init said %s", wire_type_name(m.type));
        }
}

/* A port that was to be any is one now. */
static bool report_started(Sandbox *s, GError **error) {
        json_t *ports = s->spec->net.publish->len > 0 ? record_ports(s) : NULL;
        bool ok = status_started(s->status, s->id, s->payload, ports, error);

        json_decref(ports);
        return ok;
}

/* The payload's own wire: the TAP it has made, an error before its exec, or its end, which is the exec. */
bool supervise_payload_message(Sandbox *s, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(s->payload_wire, &m, error);
        if (r < 0)
                return false;
        if (r > 0 && m.type == WIRE_NET_FDS) {
                log_step("TAP made");
                if (!net_helper_give_tap(&s->net, &m, error))
                        return false;
                fd_closep(&s->tap);
                s->tap = wire_message_take_fd(&m, 0);
                return true;
        }
        if (r > 0 && m.type == WIRE_NOT_EXECUTED) {
                int errnum;
                g_variant_get(m.body, "(i)", &errnum);
                payload_explain_exec(s->spec->process.argv[0], errnum, error);
                return false;
        }
        if (r > 0)
                return m.type == WIRE_ERROR ? take_error(s, &m, error)
                                            : err_set(error, EPROTO, "the payload said %s", wire_type_name(m.type));
        fd_closep(&s->payload_wire);
        if (!s->go_sent)
                return true; /* it died: init says so */
        s->started = true;
        log_step("started");
        g_clear_pointer(&s->share, plan_share_free); /* its reader is gone; to unmap it at the end would take as long, and be waited for */
        if (!presence_begin(s, error))
                return false;
        if (s->detached && !detach_tell(s->detached, s->id, error))
                return err_step(error, "detach");
        s->watch_at = s->net.helper.pid > 0 ? g_get_monotonic_time() + WATCH_AFTER : 0;
        if (s->spec->box.timeout_ns)
                s->deadline = g_get_monotonic_time() + (gint64) (s->spec->box.timeout_ns / 1000);
        return !s->status || report_started(s, error) || err_step(error, "status");
}

/* That the box is in its cgroup, the answer to an update, or its end. */
bool supervise_scope_message(Sandbox *s, GError **error) {
        g_autoptr(GError) answer = NULL;
        GError *failure = NULL;
        ScopeHelperEvent event;

        if (s->scope.late)
                return scope_late_message(s, error);
        if (!scope_helper_dispatch(&s->scope, &event, &answer, &failure))
                return supervise_scope_failed(s, failure, error);
        if (event != SCOPE_HELPER_UPDATED)
                return event == SCOPE_HELPER_MADE || tell_scoped(s, error);
        ControlClient *client = s->updater ? control_later_take(s->updater) : NULL;
        s->updater = NULL;
        if (client && answer)
                control_answer_error(client, answer);
        else if (client)
                control_answer(client, WIRE_CTL_OK, NULL);
        return true;
}

/* What the payload said may have come since the loop looked: it is dead, and its wire has all of it. */
bool supervise_payload_wire(Sandbox *s, GError **error) {
        struct pollfd wire = { .fd = s->payload_wire, .events = POLLIN };

        while (s->payload_wire >= 0 && poll(&wire, 1, 0) == 1)
                if (!supervise_payload_message(s, error))
                        return false;
        return true;
}
