/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What helper programs have in common, from the launcher's side: start, messages, their end.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: under net-helper.c and fs-helper.c.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "helper.h"

bool helper_start(Helper *ret, const HelperKind *kind, char *const argv[], const int *fds, size_t n_fds, GError **error) {
        int ends[2];

        *ret = HELPER_NONE;
        ret->kind = kind;
        g_autofree char *path = proc_helper_path(kind->file ? kind->file : kind->program, error);
        if (!path || !wire_pair(ends, error))
                return err_step(error, kind->step);

        ret->pid = proc_spawn_helper(path, argv, ends[1], fds, n_fds, &ret->pidfd, error);
        close(ends[1]);
        ret->wire = ends[0];
        if (ret->pid < 0) {
                ret->pid = 0;
                return err_step(error, kind->step);
        }
        /* Whoever may kill it: what it has forked is ours then. Without this, helper_adopt() comes too late for that. */
        (void) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        return true;
}

bool helper_send(Helper *h, WireType type, GVariant *body, const int *fds, unsigned n_fds, GError **error) {
        g_autoptr(GError) failure = NULL;
        g_auto(WireMessage) last = { 0 };

        if (wire_send(h->wire, type, body, fds, n_fds, &failure))
                return true;
        /* It ended before it could be told anything (ECONNRESET: or without having read what it was told): what it said last
         * is the reason. */
        if (err_get_errno(failure) == EPIPE || err_get_errno(failure) == ECONNRESET)
                return helper_receive(h, WIRE_ERROR, &last, error);
        g_propagate_error(error, g_steal_pointer(&failure));
        return err_step(error, h->kind->step);
}

char *helper_end_text(int status) {
        return WIFEXITED(status) && WEXITSTATUS(status) == LOG_EXIT_NO_MEMORY ? g_strdup("out of memory") : proc_status_text(status);
}

/* The helper has ended, which it never does by itself: the error says how. */
static bool died(Helper *h, GError **error) {
        int status;
        /* Its wire may close a moment before it is a zombie. */
        if (h->pid > 0 && proc_wait(h->pid, &status)) {
                g_autofree char *how = helper_end_text(status);
                h->pid = 0;
                err_set(error, 0, "the helper %s ended: %s", h->kind->program, how);
        } else {
                err_set(error, 0, "the helper %s ended", h->kind->program);
        }
        err_hint(error, "the box was stopped, as it had no %s any more; usbox --verbose shows what the helper says", h->kind->lost);
        return err_step(error, h->kind->step);
}

bool helper_receive_any(Helper *h, WireMessage *ret, GError **error) {
        g_auto(WireMessage) m = { 0 };

        int r = wire_receive(h->wire, &m, error);
        if (r < 0)
                return err_step(error, h->kind->step);
        if (r == 0)
                return died(h, error);
        if (m.type == WIRE_ERROR) {
                wire_error_to_gerror(&m, error);
                return err_step(error, h->kind->step);
        }
        *ret = m;
        m = (WireMessage){ 0 };
        return true;
}

bool helper_receive(Helper *h, WireType type, WireMessage *ret, GError **error) {
        g_auto(WireMessage) m = { 0 };

        if (!helper_receive_any(h, &m, error))
                return false;
        if (m.type != type) {
                err_set(error, EPROTO, "%s said %s", h->kind->program, wire_type_name(m.type));
                return err_step(error, h->kind->step);
        }
        *ret = m;
        m = (WireMessage){ 0 };
        return true;
}

void helper_adopt(Helper *h) {
        if (h->pid > 0)
                proc_adopt(h->pid, &h->orphans);
}

void helper_kill(Helper *h) {
        if (h->pid > 0)
                kill(h->pid, SIGKILL);
}

void helper_clear(Helper *h) {
        helper_kill(h);
        if (h->pid > 0)
                (void) proc_wait(h->pid, NULL);
        h->pid = 0;
        fd_closep(&h->pidfd);
        fd_closep(&h->wire);
}

void helper_reap_orphans(Helper *h) {
        if (h->kind)
                proc_adopt_late(h->kind->program, &h->orphans);
        proc_reap(&h->orphans);
}
