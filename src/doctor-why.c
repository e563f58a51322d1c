/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why a box did not come to be, where the reason is this machine: a part of what usbox doctor finds, as the hint of an error.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: where the command was not started, before step 11.
 *
 * A call that a filter refuses fails wherever it comes first, in a helper program too, of which only the end is seen then: so what is asked is
 * not which call has failed, but which ones do here for whoever makes them.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/proc.h"
#include "doctor-check.h"
#include "state.h"

/* What a refused call leads to, where it is seen from: its own errno, or that of who waited for a process that it has ended. */
static bool may_be_refusal(int errnum) {
        return errnum == 0 || errnum == EPERM || errnum == EACCES || errnum == ENOSYS || errnum == EPIPE || errnum == ECONNRESET;
}

static char *refusal(const DoctorHost *host, const char *calls, bool all_absent, bool filtered) {
        g_autofree char *container = doctor_container(host);
        const char *mend = doctor_container_mend(container);

        if (container)
                return g_strdup_printf("the container around this (%s) refuses %s, without which there is no box: %s", container, calls,
                                       mend ? mend : "usbox doctor says more");
        if (filtered)
                return g_strdup_printf("a seccomp filter around this refuses %s, without which there is no box: usbox doctor says what to do", calls);
        if (all_absent)
                return g_strdup_printf("this kernel has no %s: usbox needs Linux 5.12 or newer", calls);
        return g_strdup_printf("a security module of this machine refuses %s, without which there is no box: usbox doctor says what to do", calls);
}

char *doctor_reason(const DoctorHost *host, int errnum, bool filtered) {
        g_autoptr(GString) calls = g_string_new(NULL);
        bool all_absent = true;

        if (!may_be_refusal(errnum))
                return NULL;
        for (const DoctorCall *call = doctor_calls; call->name; call++) {
                int result = host->trial[call->trial];
                if (result <= 0)
                        continue;
                g_string_append_printf(calls, "%s%s", calls->len > 0 ? ", " : "", call->name);
                all_absent = all_absent && result == ENOSYS;
        }
        if (calls->len > 0)
                return refusal(host, calls->str, all_absent, filtered);
        if ((errnum == EPERM || errnum == EACCES) && doctor_read_number(host, DOCTOR_APPARMOR_RESTRICTS, 0) != 0)
                return g_strdup("AppArmor gives capabilities in user namespaces only to programs with a profile that says so "
                                "(kernel.apparmor_restrict_unprivileged_userns): usbox doctor says how usbox gets one");
        return NULL;
}

void doctor_explain(GError *error) {
        g_autofree char *root = g_strdup(""), *hint = NULL;
        DoctorHost host = { .root = root, .in_box = doctor_in_box() };

        /* Whoever meets it first here, too: a box's helpers and the command's process have the limit of the caller. */
        if (err_get_errno(error) == EMFILE)
                (void) err_hint(&error, "the limit on open files is too small (ulimit -n): a box takes some forty, and a few more for each port");
        const char *proc_problem = doctor_proc_problem();
        if (g_error_matches(error, USBOX_ERROR, USBOX_ERROR_FAILED) && proc_problem) {
                hint = g_strdup_printf("/proc %s, and usbox needs it: usbox doctor says how to mount one", proc_problem);
                err_replace_hint(error, hint);
                return;
        }
        if (err_get_errno(error) == ENOMEM && proc_is_limited(RLIMIT_AS))
                (void) err_hint(&error, "the limit on address space may be too small (ulimit -v): a box takes some hundred MiB of it, and uses little");
        else if (err_get_errno(error) == ENOMEM && proc_is_limited(RLIMIT_DATA))
                (void) err_hint(&error, "the limit on data may be too small (ulimit -d): a box takes some ten MiB; for the command alone: "
                                        "usbox run --ulimit data=BYTES");
        (void) state_hint_full(&error);
        if (!g_error_matches(error, USBOX_ERROR, USBOX_ERROR_FAILED) || !may_be_refusal(err_get_errno(error)))
                return;
        doctor_try_calls(&host);
        hint = doctor_reason(&host, err_get_errno(error), prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER);
        if (hint)
                err_replace_hint(error, hint);
}
