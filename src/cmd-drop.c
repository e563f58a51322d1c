/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox drop: forget what a box changed.
 *
 * Role: verb. Privileges: the caller's (newuidmap must work for files of other ids). Threads: one. Order: when the box has ended.
 */
#include "cmd-verbs.h"

static const VerbOption no_options[] = { { 0 } };

int cmd_drop(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "drop", no_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "drop", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) draft = spec_new_anywhere(error);
        return draft && box_forget_all(draft, &args, false, error) ? 0 : -1;
}
