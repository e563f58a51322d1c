/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox stop: end boxes, kindly first.
 *
 * Role: verb. Privileges: the caller's. Threads: one. All are told first and then awaited, so that several take no longer than the slowest.
 */
#include "base/error.h"
#include "base/fd.h"
#include "cmd-verbs.h"
#include "control-client.h"

#define GRACE_MS 10000
#define GRACE_MAX_S 86400

const VerbOption stop_options[] = {
        { .name = "time", .short_name = 't', .arg = "SECONDS", .help = "from the stop signal to KILL (default 10)" },
        { 0 },
};

typedef struct {
        BoxInfo *box;
        int fd;
} Stopped;

static void stopped_clear(gpointer data) {
        Stopped *s = data;
        g_clear_pointer(&s->box, box_info_free);
        fd_closep(&s->fd);
}

typedef struct {
        const Caller *caller;
        BoxFind find;
        guint32 grace_ms;
        GArray *told; /* of Stopped */
} Stop;

/* One that has ended already is what was asked for. */
static bool stop_one(void *data, const char *name, GError **error) {
        const Stop *s = data;
        Stopped one = { .box = s->find(s->caller, name, error), .fd = -1 };

        if (!one.box)
                return false;
        if (one.box->state == BOX_DEAD || !control_will_answer(one.box, error)) {
                g_autoptr(BoxInfo) box = one.box;
                return box->state == BOX_DEAD && registry_find_running(s->caller, box->id, error);
        }
        one.fd = control_begin_wait(one.box, WIRE_CTL_STOP, g_variant_new("(u)", s->grace_ms));
        g_array_append_val(s->told, one);
        return true;
}

bool stop_all(const Caller *caller, const VerbArgs *args, guint first, BoxFind find, GError **error) {
        guint64 seconds, grace_ms = GRACE_MS;
        const char *typed = verb_args_get(args, "time");

        if (typed) {
                if (!option_u64("--time", typed, GRACE_MAX_S, &seconds, error))
                        return err_step(error, "options");
                grace_ms = seconds * 1000;
        }
        g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(Stopped));
        g_array_set_clear_func(all, stopped_clear);
        bool ok = verb_args_each(args, first, stop_one, &(Stop){ caller, find, (guint32) grace_ms, all }, error);
        for (guint i = 0; i < all->len; i++) {
                Stopped *one = &g_array_index(all, Stopped, i);
                /* How it ended is not asked for here. */
                (void) control_end_wait(caller, one->box, fd_steal(&one->fd), NULL);
        }
        return ok;
}

int cmd_stop(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };

        if (!verb_args_parse(&args, "stop", stop_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "stop", 1, G_MAXUINT, error))
                return -1;
        g_autoptr(Spec) spec = spec_new_anywhere(error);
        return spec && stop_all(&spec->caller, &args, 0, registry_find, error) ? 0 : -1;
}
