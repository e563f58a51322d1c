/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox pause, usbox unpause: stop the processes of a box, or of all boxes of a pod, where they are, and let them go on.
 *
 * Role: verb. Privileges: the caller's. Threads: one. By the box's cgroup, for which the launcher is asked only where there is none yet: no process
 * of it is missed and none can refuse, and connections live on.
 */
#include "base/error.h"
#include "box-cgroup.h"
#include "cmd-verbs.h"

/* *box is told of its cgroup, where it gets one. */
static bool freeze(BoxInfo **box, const Caller *caller, bool on, GError **error) {
        if (on && !box_cgroup_need(box, caller, error))
                return false;
        if (!box_has_cgroup(*box)) /* nobody has paused it */
                return true;
        g_autoptr(Cgroup) cgroup = box_cgroup_open(*box, error);

        return cgroup && (cgroup_freeze(cgroup, on, error) || err_step(error, "limits"));
}

typedef struct {
        const Spec *spec;
        bool on;
} Freeze;

/* A pod's are its boxes': helpers go on, so that boxes can still be ended, and started. */
static bool freeze_named(void *data, const char *name, GError **error) {
        const Freeze *f = data;
        const Caller *caller = &f->spec->caller;
        g_autoptr(BoxInfo) found = registry_find_running_any(caller, name, error);

        if (!found || !box_info_is_pod(found))
                return found && freeze(&found, caller, f->on, error);
        g_autoptr(GPtrArray) all = registry_list(caller, error);
        g_autoptr(GPtrArray) boxes = all ? registry_boxes_of(all, found) : NULL;
        for (guint i = 0; boxes && i < boxes->len; i++)
                if (!freeze((BoxInfo **) &boxes->pdata[i], caller, f->on, error))
                        return false;
        return boxes;
}

static int freeze_all(const char *verb, bool on, int argc, char **argv, GError **error) {
        static const VerbOption none[] = { { 0 } };
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, verb, none, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, verb, 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        return spec && verb_args_each(&args, 0, freeze_named, &(Freeze){ spec, on }, error) ? 0 : -1;
}

int cmd_pause(int argc, char **argv, GError **error) {
        return freeze_all("pause", true, argc, argv, error);
}

int cmd_unpause(int argc, char **argv, GError **error) {
        return freeze_all("unpause", false, argc, argv, error);
}
