/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox kill: a signal for the commands of boxes.
 *
 * Role: verb. Privileges: the caller's. Threads: one. The launcher passes the signal on, so it reaches the command and nothing that has its number
 * by now.
 */
#include <signal.h>

#include "base/error.h"
#include "cmd-verbs.h"
#include "control-client.h"

const VerbOption kill_options[] = {
        { .name = "signal", .short_name = 's', .arg = "SIGNAL", .complete = COMPLETE_SIGNAL, .help = "by name or number (default KILL)" },
        { 0 },
};

typedef struct {
        const Spec *spec;
        int sig;
} Kill;

static bool kill_one(void *data, const char *name, GError **error) {
        const Kill *k = data;
        g_autoptr(BoxInfo) box = registry_find_running(&k->spec->caller, name, error);

        return box && control_do(box, WIRE_CTL_SIGNAL, g_variant_new("(i)", k->sig), error);
}

int cmd_kill(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };
        int sig = SIGKILL;

        if (!verb_args_parse(&args, "kill", kill_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "kill", 1, G_MAXUINT, error))
                return -1;
        const char *typed = verb_args_get(&args, "signal");
        if (typed && !option_signal("--signal", typed, &sig, error)) {
                err_step(error, "options");
                return -1;
        }
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        return spec && verb_args_each(&args, 0, kill_one, &(Kill){ spec, sig }, error) ? 0 : -1;
}
