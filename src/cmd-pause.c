/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox pause, usbox unpause: stop the processes of a box where they are, and let them go on.
 *
 * Role: verb. Privileges: the caller's. Threads: one. By the box's cgroup, without its launcher: no process of it is missed and none can refuse, and
 * connections live on.
 */
#include "base/error.h"
#include "box-cgroup.h"
#include "cmd-verbs.h"

static int freeze_all(const char *verb, bool on, int argc, char **argv, GError **error) {
        static const VerbOption none[] = { { 0 } };
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, verb, none, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, verb, 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new(error);
        for (guint i = 0; spec && i < verb_args_n_words(&args); i++) {
                g_autoptr(BoxInfo) box = registry_find_running(&spec->caller, verb_args_word(&args, i), error);
                g_autoptr(Cgroup) cgroup = box ? box_cgroup_open(box, error) : NULL;
                if (!cgroup)
                        return -1;
                if (!cgroup_freeze(cgroup, on, error)) {
                        err_step(error, "limits");
                        return -1;
                }
        }
        return spec ? 0 : -1;
}

int cmd_pause(int argc, char **argv, GError **error) {
        return freeze_all("pause", true, argc, argv, error);
}

int cmd_unpause(int argc, char **argv, GError **error) {
        return freeze_all("unpause", false, argc, argv, error);
}
