/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The launcher's side of usbox-scope.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: steps 3 (started first of all), 8 (joined, before the payload may go) and 11.
 */
#include <fcntl.h>
#include <poll.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "scope-helper.h"
#include "scope/config.h"
#include "scope/version.h"

/* Its end is an rmdir away; where the machine hardly runs, nothing depends on it. */
#define END_MS 10000

static const HelperKind kind = { .program = "usbox-scope", .step = "limits", .lost = "limits" };

bool scope_helper_start(const Spec *spec, const char *id, const char *pod_cgroup, bool late, ScopeHelper *ret, GError **error) {
        char *const argv[] = { (char *) "usbox-scope", (char *) "--wire", (char *) "3", NULL };
        const char *runtime_dir = g_getenv("XDG_RUNTIME_DIR");
        ScopeConfig config = { .id = (char *) id,
                               .settings = spec->limits.settings,
                               .properties = spec->limits.properties,
                               .runtime_dir = (char *) (runtime_dir ? runtime_dir : ""),
                               .pod = (char *) (pod_cgroup ? pod_cgroup : ""),
                               .is_pod = spec->pod.make,
                               .late = late,
                               .verbose = spec->box.verbose };

        *ret = SCOPE_HELPER_NONE;
        bool ok = helper_start(&ret->helper, &kind, argv, NULL, 0, error) &&
                  helper_send(&ret->helper, WIRE_SCOPE_CONFIG, scope_config_pack(&config), NULL, 0, error);
        ret->late = ok && late;
        return ok;
}

void scope_helper_hint_without(GError *failure) {
        static const char without[] = "go on without limits by --best-effort=limits";
        const char *known = err_get_hint(failure);
        g_autofree char *hint = known ? g_strconcat(known, "; or ", without, NULL) : g_strdup(without);

        err_replace_hint(failure, hint);
}

bool scope_helper_foresee(const Spec *spec, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (!limits_wanted(&spec->limits) || cgroup_check_version(&failure))
                return true;
        if (spec->box.best_effort & BEST_EFFORT_LIMITS) {
                log_note("without limits: %s", failure->message);
                return true;
        }
        err_step(&failure, kind.step);
        scope_helper_hint_without(failure);
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* "au", floating; those that are 0 are none. */
static GVariant *pid_list(const pid_t *pids, size_t n) {
        GVariantBuilder builder;

        g_variant_builder_init(&builder, G_VARIANT_TYPE("au"));
        for (size_t i = 0; i < n; i++)
                if (pids[i] > 0)
                        g_variant_builder_add(&builder, "u", (guint32) pids[i]);
        return g_variant_builder_end(&builder);
}

bool scope_helper_join(ScopeHelper *h, const pid_t *helpers, size_t n, pid_t payload, GError **error) {
        return helper_send(&h->helper, WIRE_SCOPE_JOIN, g_variant_new("(@au@au)", pid_list(helpers, n), pid_list(&payload, 1)), NULL, 0, error);
}

bool scope_helper_adopt(ScopeHelper *h, const ScopeBox *box, GError **error) {
        GVariant *execs = pid_list((const pid_t *) (void *) box->execs->data, box->execs->len);

        return helper_send(&h->helper, WIRE_SCOPE_ADOPT,
                           g_variant_new("(u@au@aub)", (guint32) box->init, pid_list(box->helpers, box->n_helpers), execs, box->raise_oom), &box->mount_ns, 1,
                           error);
}

bool scope_helper_limit_cpu(const ScopeHelper *h, GError **error) {
        return !h->cgroup || *h->cpu_max == '\0' || cgroup_limit_cpu(h->cgroup, h->cpu_max, error) || err_step(error, kind.step);
}

/* (iss): how it went. */
static bool answer_of(const WireMessage *m, GError **error) {
        const char *message, *hint;
        int errnum;

        g_variant_get(m->body, "(i&s&s)", &errnum, &message, &hint);
        if (*message == '\0')
                return true;
        err_set(error, 0, "%s", message);
        if (error && *error)
                err_set_errno(*error, errnum);
        if (*hint)
                err_hint(error, "%s", hint);
        return err_step(error, kind.step);
}

bool scope_helper_joined(ScopeHelper *h, GError **error) {
        g_auto(WireMessage) m = { 0 };

        return helper_receive(&h->helper, WIRE_SCOPE_JOINED, &m, error) && answer_of(&m, error);
}

bool scope_helper_update(ScopeHelper *h, bool pod, GVariant *limits, GError **error) {
        if (h->updating || h->late) {
                err_set(error, EBUSY, "another update is on its way");
                return err_step(error, kind.step);
        }
        if (!h->cgroup) {
                err_set(error, EOPNOTSUPP, "the %s has no cgroup of its own", pod ? "pod" : "box");
                err_hint(error, "it gets one where it is %s with a limit, such as --pids-limit unlimited", pod ? "created" : "started");
                return err_step(error, kind.step);
        }
        h->updating = helper_send(&h->helper, WIRE_SCOPE_UPDATE, limits, NULL, 0, error);
        return h->updating;
}

bool scope_helper_dispatch(ScopeHelper *h, ScopeHelperEvent *ret_event, GError **ret_answer, GError **error) {
        g_auto(WireMessage) m = { 0 };
        const char *path, *cpu_max;

        if (!helper_receive_any(&h->helper, &m, error))
                return false;
        if (m.type == WIRE_SCOPE_MADE && !h->cgroup) {
                g_variant_get(m.body, "(&s&s)", &path, &cpu_max);
                h->cpu_max = g_strdup(cpu_max);
                h->cgroup = cgroup_new_take(wire_message_take_fd(&m, 0), path);
                *ret_event = SCOPE_HELPER_MADE;
                log_step("cgroup made");
                return true;
        }
        if (m.type == WIRE_SCOPE_JOINED && h->cgroup && !h->joined) {
                *ret_event = SCOPE_HELPER_JOINED;
                h->joined = answer_of(&m, h->late ? ret_answer : error);
                if (h->joined)
                        log_step("cgroup joined");
                return h->joined || h->late;
        }
        if (m.type == WIRE_SCOPE_UPDATED && h->updating) {
                *ret_event = SCOPE_HELPER_UPDATED;
                h->updating = false;
                (void) answer_of(&m, ret_answer);
                return true;
        }
        err_set(error, EPROTO, "usbox-scope said %s out of turn", wire_type_name(m.type));
        return err_step(error, kind.step);
}

void scope_helper_give_up(ScopeHelper *h) {
        if (!h->cgroup || h->helper.pid == 0) {
                scope_helper_finish(h);
                scope_helper_clear(h);
                *h = SCOPE_HELPER_NONE;
                return;
        }
        g_clear_pointer(&h->cgroup, cgroup_free);
        h->joined = true;
}

void scope_helper_finish(ScopeHelper *h) {
        struct pollfd fd = { .fd = h->helper.pidfd, .events = POLLIN };

        if (h->helper.pid == 0)
                return;
        fd_closep(&h->helper.wire);
        if (TEMP_FAILURE_RETRY(poll(&fd, 1, END_MS)) > 0) {
                (void) proc_wait(h->helper.pid, NULL);
                h->helper.pid = 0;
        }
}

void scope_helper_clear(ScopeHelper *h) {
        g_clear_pointer(&h->cgroup, cgroup_free);
        g_clear_pointer(&h->cpu_max, g_free);
        helper_clear(&h->helper);
}
