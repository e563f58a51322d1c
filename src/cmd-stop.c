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

static bool stop_one(const Spec *spec, const char *name, guint32 grace_ms, GArray *fds, GError **error) {
        g_autoptr(BoxInfo) box = registry_find(&spec->caller, name, error);

        if (!box || box->state == BOX_EXITED)
                return box != NULL;
        g_autoptr(BoxInfo) running = registry_find_running(&spec->caller, box->id, error);
        _cleanup_close_ int fd = running ? control_open(running, error) : -1;
        if (fd < 0 || !wire_send(fd, WIRE_CTL_STOP, g_variant_new("(u)", grace_ms), NULL, 0, error))
                return false;
        g_array_append_val(fds, fd);
        fd = -1;
        return true;
}

int cmd_stop(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };
        guint64 seconds, grace_ms = GRACE_MS;

        if (!verb_args_parse(&args, "stop", stop_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "stop", 1, G_MAXUINT, error))
                return -1;
        const char *typed = verb_args_get(&args, "time");
        if (typed) {
                if (!option_u64("--time", typed, GRACE_MAX_S, &seconds, error)) {
                        err_step(error, "options");
                        return -1;
                }
                grace_ms = seconds * 1000;
        }
        g_autoptr(Spec) spec = spec_new(error);
        g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
        bool ok = spec != NULL;
        for (guint i = 0; ok && i < verb_args_n_words(&args); i++)
                ok = stop_one(spec, verb_args_word(&args, i), (guint32) grace_ms, fds, error);
        for (guint i = 0; i < fds->len; i++) {
                int fd = g_array_index(fds, int, i);
                ok = ok && control_await(fd, error) >= 0;
                close(fd);
        }
        return ok ? 0 : -1;
}
