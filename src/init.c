/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * init: pid 1 of the box.
 *
 * Role: init. Privileges: none, behind a seccomp filter of its own (init-seccomp.json). Threads: one. Order: from step 9 to the box's end.
 * When it ends, the kernel kills all that is left in the pid namespace (pid_namespaces(7)).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/proc.h"
#include "base/wire.h"
#include "init.h"

static _Noreturn void finish(const InitContext *c) {
        /* --pid=host, or the pod's: no namespace whose end would kill what is left. */
        if (c->foreign_pids)
                proc_kill_children(NULL, 0);
        _exit(0);
}

/* By the errno that what has left. */
static _Noreturn void fail(const InitContext *c, const char *what) {
        g_autoptr(GError) failure = NULL;

        err_set(&failure, errno, "%s", what);
        err_step(&failure, "init");
        wire_send_error(c->wire, failure);
        finish(c);
}

/* Signals that a terminal sends to all of its foreground go to the payload's whole group, others to it alone. */
static void forward(const InitContext *c, int sig) {
        bool group = sig == SIGINT || sig == SIGQUIT || sig == SIGHUP || sig == SIGSTOP || sig == SIGCONT;
        if (!group || kill(-c->payload, sig) < 0)
                kill(c->payload, sig);
}

static void resume(const InitContext *c) {
        /* The shell that the launcher was stopped in knows nothing of our pty: its foreground is still the payload's. */
        kill(-c->payload, SIGCONT);
}

static void reap(const InitContext *c) {
        for (;;) {
                int status;
                struct rusage used;
                pid_t pid = wait4(-1, &status, WNOHANG | WUNTRACED, &used);
                /* The payload is a child that nobody else reaps: who cannot ask for it any more would wait for ever. */
                if (pid < 0 && errno != EINTR)
                        finish(c);
                if (pid <= 0)
                        return;
                if (pid != c->payload)
                        continue;
                if (WIFSTOPPED(status)) {
                        /* Only a stop by the terminal is the launcher's business (or a job control shell would stop it all the time). */
                        if (c->pty >= 0)
                                (void) wire_send(c->wire, WIRE_STOPPED, g_variant_new("(i)", WSTOPSIG(status)), NULL, 0,
                                                 NULL);
                        continue;
                }
                GVariant *end = g_variant_new("(ixxx)", status, proc_microseconds(used.ru_utime), proc_microseconds(used.ru_stime), (gint64) used.ru_maxrss);
                (void) wire_send(c->wire, WIRE_EXITED, end, NULL, 0, NULL);
                finish(c);
        }
}

static void listen_to_launcher(const InitContext *c) {
        g_auto(WireMessage) m = { 0 };

        if (wire_receive(c->wire, &m, NULL) <= 0)
                finish(c); /* the launcher is gone: so is the box */
        switch (m.type) {
        case WIRE_SIGNAL: {
                int sig;
                g_variant_get(m.body, "(i)", &sig);
                forward(c, sig);
                break;
        }
        case WIRE_RESUME:
                resume(c);
                break;
        default:
                break;
        }
}

_Noreturn void init_main(const InitContext *c) {
        sigset_t all;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
        if (signals < 0)
                fail(c, "signalfd");

        struct pollfd fds[] = { { .fd = c->wire, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
        for (;;) {
                /* SIGCHLD may have come before the signalfd: look first. */
                reap(c);
                if (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno != EINTR)
                        fail(c, "poll");
                if (fds[1].revents) {
                        struct signalfd_siginfo info;
                        while (read(signals, &info, sizeof info) == sizeof info)
                                ; /* whatever came: reap() asks the kernel. Other signals to pid 1 mean nothing. */
                }
                if (fds[0].revents)
                        listen_to_launcher(c);
        }
}
