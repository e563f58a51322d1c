/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cgroup for a box that runs without one: because somebody wants to pause it, or to limit it after all.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 10, behind control.c; then by what usbox-scope says.
 *
 * Nothing limits the box before all of it is in: then it is as one that was started with limits, and ends where usbox-scope does. `usbox exec` begins
 * nothing meanwhile, which would not be found.
 */
#include "base/error.h"
#include "base/proc.h"
#include "record.h"
#include "scope-late.h"

/* The commands that exec started and that run, of pid_t; NULL with error where some part of the box could be missed. */
static GArray *tellable_execs(const Sandbox *s, GError **error) {
        bool starting;
        g_autoptr(GArray) execs = control_execs(s->control, &starting);

        if (s->spec->namespaces.pid_host || s->pod.share_pid) {
                err_set(error, EOPNOTSUPP, "the box has no cgroup, and its processes are among others: it gets one at its start alone");
                err_hint(error, "start it with a limit, such as --pids-limit unlimited");
                return NULL;
        }
        if (!starting)
                return g_steal_pointer(&execs);
        err_set(error, EAGAIN, "a command is being started in the box at this moment");
        err_hint(error, "say it again");
        return NULL;
}

static bool begin(Sandbox *s, GError **error) {
        if (!supervise_command_runs(s, error))
                return false;
        if (s->updater || s->scope.late)
                return err_set(error, EBUSY, "the box's limits are being changed");
        if (s->scope.helper.pid > 0)
                return err_set(error, EOPNOTSUPP, "the box has no cgroup, since its processes could not be moved when that was tried");
        g_autoptr(GArray) execs = tellable_execs(s, error);
        if (!execs || !proc_check_pidfds(error))
                return false;
        if (scope_helper_start(s->spec, s->id, s->pod.cgroup, true, &s->scope, error))
                return true;
        scope_helper_clear(&s->scope); /* whose end is not that of the box */
        s->scope = SCOPE_HELPER_NONE;
        return false;
}

/* Verbs find it there. */
static bool show(Sandbox *s, GError **error) {
        record_set_late_cgroup(s->record, cgroup_path(s->scope.cgroup));
        g_autofree char *text = record_text(s->record);
        return runtime_box_write(s->runtime, text, error) || err_step(error, "state");
}

bool scope_late_ask(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        if (s->scope.cgroup && s->scope.joined) { /* another was faster, or it could not be shown */
                if (!show(s, error))
                        return false;
                control_answer(client, WIRE_CTL_OK, NULL);
                return true;
        }
        if (!begin(s, error))
                return err_step(error, "limits");
        s->updater = control_later(client);
        return true;
}

/* It is over. failure: why nothing came of it, or NULL. */
static void tell(Sandbox *s, const GError *failure) {
        ControlClient *client = control_later_take(g_steal_pointer(&s->updater));

        s->scope.late = false;
        if (client && failure)
                control_answer_error(client, failure);
        else if (client)
                control_answer(client, WIRE_CTL_OK, NULL);
}

static bool adopt(Sandbox *s, GError **error) {
        const pid_t helpers[] = { s->net.helper.pid, s->fs.helper.pid };
        g_autoptr(GArray) execs = tellable_execs(s, error);
        const ScopeBox box = { .init = s->child,
                               .helpers = helpers,
                               .n_helpers = G_N_ELEMENTS(helpers),
                               .execs = execs,
                               .mount_ns = s->mount_ns,
                               .raise_oom = !s->spec->process.oom_score_given };

        return execs && scope_helper_adopt(&s->scope, &box, error);
}

static bool take_message(Sandbox *s, GError **ret_answer, GError **error) {
        ScopeHelperEvent event;

        if (!scope_helper_dispatch(&s->scope, &event, ret_answer, error))
                return false;
        if (event == SCOPE_HELPER_MADE)
                return adopt(s, error);
        if (*ret_answer)
                scope_helper_give_up(&s->scope);
        else
                (void) show(s, ret_answer);
        tell(s, *ret_answer);
        return true;
}

bool scope_late_message(Sandbox *s, GError **error) {
        g_autoptr(GError) failure = NULL, answer = NULL;

        if (take_message(s, &answer, &failure))
                return true;
        if (!s->scope.cgroup)
                err_hint(&failure, "usbox doctor says what a cgroup needs on this machine");
        tell(s, failure);
        if (!s->scope.cgroup) { /* nothing was moved yet: the box goes on without */
                scope_helper_clear(&s->scope);
                s->scope = SCOPE_HELPER_NONE;
                return true;
        }
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}
