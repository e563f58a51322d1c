/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox wait: until boxes have ended.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Each is asked at once, so that none that ends meanwhile is missed.
 */
#include <stdio.h>

#include "base/fd.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"

const VerbOption wait_options[] = {
        { .name = "json", .help = "an array of objects, for programs" },
        { 0 },
};

typedef struct {
        BoxInfo *box;
        int fd;
        int status;
} Waited;

static void waited_clear(gpointer data) {
        Waited *w = data;
        g_clear_pointer(&w->box, box_info_free);
        fd_closep(&w->fd);
}

static void print_waited(const GArray *all, bool as_json) {
        json_t *list = json_array();

        for (guint i = 0; i < all->len; i++) {
                const Waited *w = &g_array_index(all, Waited, i);
                if (!as_json)
                        printf("%d\n", w->status);
                json_array_append_new(list, json_pack("{s:s, s:i}", "id", w->box->id, "status", w->status));
        }
        g_autofree char *line = jsontext_line(list);
        if (as_json)
                fputs(line, stdout);
}

int cmd_wait(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "wait", wait_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "wait", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(Waited));
        g_array_set_clear_func(all, waited_clear);
        bool ok = spec != NULL;
        for (guint i = 0; ok && i < verb_args_n_words(&args); i++) {
                Waited one = { .box = registry_find(&spec->caller, verb_args_word(&args, i), error), .fd = -1 };
                ok = one.box != NULL;
                if (ok)
                        one.fd = control_begin_wait(one.box, WIRE_CTL_WAIT, NULL);
                g_array_append_val(all, one);
        }
        for (guint i = 0; ok && i < all->len; i++) {
                Waited *w = &g_array_index(all, Waited, i);
                w->status = control_end_wait(&spec->caller, w->box, fd_steal(&w->fd), error);
                ok = w->status >= 0;
        }
        if (ok)
                print_waited(all, verb_args_has(&args, "json"));
        return ok ? 0 : -1;
}
