/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox update: other limits for a box or pod that runs; a box without a cgroup is given one.
 *
 * Role: verb. Privileges: the caller's. Threads: one. The values are read as run reads them; the box's launcher has usbox-scope set them.
 */
#include "base/error.h"
#include "base/log.h"
#include "box-cgroup.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "scope/config.h"

const VerbOption update_options[] = {
        LIMIT_VERB_OPTIONS(""),
        { 0 },
};

static bool take_options(const VerbArgs *args, Spec *draft, GError **error) {
        for (guint i = 0; i < args->names->len; i++) {
                const Option *option = option_find(args->names->pdata[i]);
                g_assert(option); /* each row above has one of run's */
                if (!option_apply(option, draft, (const char *const[]){ args->values->pdata[i], NULL }, error))
                        return false;
        }
        if (!limits_check(draft, error))
                return false;
        if (limits_wanted(&draft->limits))
                return true;
        err_usage(error, "update: no limit is given");
        return err_hint(error, "usbox help update");
}

static bool update(BoxInfo **box, const Spec *spec, GError **error) {
        const LimitsSpec *limits = &spec->limits;

        if (!box_info_is_pod(*box) && !box_cgroup_need(box, &spec->caller, error))
                return false;
        if (!control_do_by_systemd(*box, WIRE_CTL_UPDATE, scope_update_pack(limits->settings, limits->properties), error))
                return false;
        if (box_has_late_cgroup(*box) && scope_setting_get(limits->settings, "memory.max"))
                log_note("box %s was started without limits: what memory it had when it got its first is not counted",
                         box_info_called(*box));
        return true;
}

int cmd_update(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "update", update_options, VERB_MIXED, argc, argv, error) ||
            !verb_args_count(&args, "update", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        if (!spec)
                return -1;
        if (!take_options(&args, spec, error)) {
                err_step(error, "options");
                return -1;
        }
        for (guint i = 0; i < verb_args_n_words(&args); i++) {
                g_autoptr(BoxInfo) box = registry_find_running_any(&spec->caller, verb_args_word(&args, i), error);
                if (!box || !update(&box, spec, error))
                        return -1;
        }
        return 0;
}
