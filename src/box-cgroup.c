/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running box's cgroup.
 *
 * Role: verbs (stats, top, pause, unpause, update). Privileges: the caller's. Threads: one.
 */
#include "base/error.h"
#include "box-cgroup.h"
#include "control-client.h"

bool box_has_cgroup(const BoxInfo *box) {
        return json_is_string(json_object_get(box->facts, "cgroup"));
}

bool box_has_late_cgroup(const BoxInfo *box) {
        return json_is_true(json_object_get(box->facts, "cgroup_late"));
}

bool box_is_paused(const BoxInfo *box) {
        g_autoptr(Cgroup) cgroup = box->state == BOX_RUNNING && box_has_cgroup(box) ? box_cgroup_open(box, NULL) : NULL;

        return cgroup && cgroup_is_frozen(cgroup);
}

bool box_cgroup_need(BoxInfo **box, const Caller *caller, GError **error) {
        if (box_has_cgroup(*box))
                return true;
        if (!control_do_by_systemd(*box, WIRE_CTL_CGROUP, NULL, error))
                return false;
        BoxInfo *now = registry_find_running(caller, (*box)->id, error);
        if (!now)
                return false;
        box_info_free(*box);
        *box = now;
        return true;
}

Cgroup *box_cgroup_open(const BoxInfo *box, GError **error) {
        const char *path = json_string_value(json_object_get(box->facts, "cgroup"));

        if (!path || !g_str_has_prefix(path, "/sys/fs/cgroup/")) {
                bool pod = box_info_is_pod(box);
                err_set(error, EOPNOTSUPP, "%s %s has no cgroup of its own", pod ? "pod" : "box", box_info_called(box));
                err_hint(error, "a %s gets one where it is %s with a limit, such as --pids-limit unlimited", pod ? "pod" : "box", pod ? "created" : "started");
                err_step(error, "limits");
                return NULL;
        }
        Cgroup *c = cgroup_open(path, error);
        if (!c)
                err_step(error, "limits");
        return c;
}
