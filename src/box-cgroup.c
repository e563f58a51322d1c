/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running box's cgroup.
 *
 * Role: verbs (stats, top, pause, unpause). Privileges: the caller's. Threads: one.
 */
#include "base/error.h"
#include "box-cgroup.h"

bool box_has_cgroup(const BoxInfo *box) {
        return json_is_string(json_object_get(box->facts, "cgroup"));
}

Cgroup *box_cgroup_open(const BoxInfo *box, GError **error) {
        const char *path = json_string_value(json_object_get(box->facts, "cgroup"));

        if (!path || !g_str_has_prefix(path, "/sys/fs/cgroup/")) {
                bool pod = box_info_is_pod(box);
                err_set(error, EOPNOTSUPP, "%s %s has no cgroup of its own", pod ? "pod" : "box", box->name ? box->name : box->id);
                err_hint(error, "a %s gets one where it is %s with a limit, such as --pids-limit unlimited", pod ? "pod" : "box", pod ? "created" : "started");
                err_step(error, "limits");
                return NULL;
        }
        Cgroup *c = cgroup_open(path, error);
        if (!c)
                err_step(error, "limits");
        return c;
}
