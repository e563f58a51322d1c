/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox wait: until boxes have ended.
 *
 * Role: verb. Privileges: the caller's. Threads: one. Each is asked at once, so that none that ends meanwhile is missed.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/fd.h"
#include "cmd-verbs.h"
#include "control-client.h"
#include "jsontext.h"

const VerbOption wait_options[] = {
        { .name = "json", .help = "an array of objects, for programs" },
        { 0 },
};

typedef struct {
        char id[BOX_ID_LEN + 1];
        int fd; /* -1: it had ended */
        int status;
} Waited;

static bool ask(const Spec *spec, const char *name, Waited *ret, GError **error) {
        g_autoptr(BoxInfo) box = registry_find(&spec->caller, name, error);

        *ret = (Waited){ .fd = -1 };
        if (!box)
                return false;
        g_strlcpy(ret->id, box->id, sizeof ret->id);
        if (box->state != BOX_RUNNING) {
                ret->status = control_ended_status(box, error);
                return ret->status >= 0;
        }
        ret->fd = control_open(box, error);
        return ret->fd >= 0 && (wire_send(ret->fd, WIRE_CTL_WAIT, NULL, NULL, 0, error) || err_step(error, "box"));
}

static void print_waited(const GArray *all, bool as_json) {
        json_t *list = json_array();

        for (guint i = 0; i < all->len; i++) {
                const Waited *w = &g_array_index(all, Waited, i);
                if (!as_json)
                        printf("%d\n", w->status);
                json_array_append_new(list, json_pack("{s:s, s:i}", "id", w->id, "status", w->status));
        }
        g_autofree char *line = jsontext_line(list);
        if (as_json)
                fputs(line, stdout);
}

int cmd_wait(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "wait", wait_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "wait", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new(error);
        g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(Waited));
        bool ok = spec != NULL;
        for (guint i = 0; ok && i < verb_args_n_words(&args); i++) {
                Waited one;
                ok = ask(spec, verb_args_word(&args, i), &one, error);
                g_array_append_val(all, one);
        }
        for (guint i = 0; i < all->len; i++) {
                Waited *w = &g_array_index(all, Waited, i);
                if (ok && w->fd >= 0)
                        ok = (w->status = control_await(w->fd, error)) >= 0;
                fd_closep(&w->fd);
        }
        if (ok)
                print_waited(all, verb_args_has(&args, "json"));
        return ok ? 0 : -1;
}
