/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox inspect: all that is known of a box.
 *
 * Role: verb. Privileges: the caller's. Threads: one. What the box was asked to be is its launcher's to say, as long as it lives.
 */
#include <stdio.h>

#include "box-usage.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"

const VerbOption inspect_options[] = {
        { .name = "json", .help = "accepted for the habit: it is always JSON" },
        { 0 },
};

static json_t *inspect_one(const BoxInfo *box, GError **error) {
        json_t *out = box_info_to_json(box);
        g_autofree char *text = box->state == BOX_RUNNING ? control_text(box, WIRE_CTL_INSPECT, error) : NULL;
        json_t *more = text ? json_loads(text, 0, NULL) : NULL;

        if (box->state == BOX_RUNNING && !more) {
                json_decref(out);
                return NULL;
        }
        if (more)
                json_object_update_missing(out, more);
        json_decref(more);
        json_object_set_new(out, "disk", json_integer((json_int_t) box_usage(box->dir)));
        return out;
}

bool inspect_print(const Caller *caller, const VerbArgs *args, guint first, BoxFind find, GError **error) {
        json_t *list = json_array();

        for (guint i = first; i < verb_args_n_words(args); i++) {
                g_autoptr(BoxInfo) box = find(caller, verb_args_word(args, i), error);
                json_t *one = box ? inspect_one(box, error) : NULL;
                if (!one) {
                        json_decref(list);
                        return false;
                }
                json_array_append_new(list, one);
        }
        g_autofree char *text = jsontext_pretty(list);
        fputs(text, stdout);
        return true;
}

int cmd_inspect(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "inspect", inspect_options, VERB_MIXED, argc, argv, error) ||
            !verb_args_count(&args, "inspect", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        return spec && inspect_print(&spec->caller, &args, 0, registry_find_any, error) ? 0 : -1;
}
