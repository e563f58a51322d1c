/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox rm: forget boxes that have ended, or with -f end them first.
 *
 * Role: verb. Privileges: the caller's (newuidmap must work for files of other ids). Threads: one.
 */

#include "base/error.h"
#include "base/fd.h"
#include "box-remove.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "runtime.h"

const VerbOption rm_options[] = {
        { .name = "force", .short_name = 'f', .help = "kill those that run" },
        { 0 },
};

/* Another rm may be doing the same: what is gone is gone. Its directory's lock keeps `run --name` from going on with it meanwhile. */
static bool remove_files(const Spec *spec, const BoxInfo *box, GError **error) {
        g_autoptr(GError) failure = NULL;
        FdLater later = { .n = FD_LATER_MAX }; /* full: who removes a box may want its room at once */

        _cleanup_close_ int top = runtime_open(false, NULL);
        _cleanup_close_ int boxes = state_open_boxes(&spec->caller, false, NULL, &failure);
        _cleanup_close_ int lock = boxes >= 0 ? box_dir_lock(boxes, box->id, &failure) : -1;
        if (lock < 0 && err_get_errno(failure) != ENOENT) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        if (top >= 0 && runtime_is_locked(top, box->id))
                return err_set(error, EBUSY, "box %s was started again", box->id);
        if (top >= 0)
                runtime_remove(top, box->id);
        int r = lock >= 0 ? box_remove(&later, boxes, box->id, spec) : 0;
        return r == 0 || err_set(error, r, "remove box %s", box->id);
}

bool box_forget_found(const Spec *spec, const BoxInfo *box, bool force, GError **error) {
        if (box->state == BOX_RUNNING) {
                if (!force) {
                        err_set(error, 0, "box %s is running", box_info_called(box));
                        err_hint(error, "usbox stop %s, or usbox rm -f %s", box_info_called(box), box_info_called(box));
                        return err_step(error, "box");
                }
                /* The launcher then takes down and removes what it removes at any end. */
                if (!control_will_answer(box, error))
                        return false;
                (void) control_end_wait(&spec->caller, box, control_begin_wait(box, WIRE_CTL_STOP, g_variant_new("(u)", 0)), NULL);
        }
        return remove_files(spec, box, error) || err_step(error, "state");
}

typedef struct {
        const Spec *spec;
        bool force;
} Forget;

static bool forget(void *data, const char *name, GError **error) {
        const Forget *f = data;
        g_autoptr(BoxInfo) box = registry_find(&f->spec->caller, name, error);

        return box && box_forget_found(f->spec, box, f->force, error);
}

bool box_forget_all(const Spec *spec, const VerbArgs *args, bool force, GError **error) {
        return verb_args_each(args, 0, forget, &(Forget){ spec, force }, error);
}

int cmd_rm(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "rm", rm_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "rm", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        return spec && box_forget_all(spec, &args, verb_args_has(&args, "force"), error) ? 0 : -1;
}
