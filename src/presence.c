/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A running box as other processes of the user see it.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: step 10, after the command's exec was seen, so that a start waits for
 * none of it; before GO where the box has a name or is detached. Its end is in step 11.
 */
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "control.h"
#include "events.h"
#include "presence.h"
#include "record.h"
#include "registry.h"

bool presence_is_held(const Spec *spec) {
        return spec->box.name || spec->box.detach || spec->box.explored;
}

/* Of a record what is not the caller's strings; of those a byte may be an escape of six. */
#define RECORD_MAX 2048
#define ESCAPE_LEN 6

void presence_reserve(const Sandbox *s) {
        const Spec *spec = s->spec;
        size_t len = strlen(spec->caller.cwd) + (spec->root.rootfs ? strlen(spec->root.rootfs) : 0);

        for (char *const *arg = spec->process.argv; *arg; arg++)
                len += strlen(*arg);
        state_reserve(s->dir->fd, RECORD_MAX + ESCAPE_LEN * len, !spec->box.name);
}

static bool show(Sandbox *s, GError **error) {
        g_autofree char *text = record_text(s->record);
        int listener = -1;

        s->runtime = runtime_box_new(s->id, text, &listener, error);
        if (!s->runtime)
                return err_step(error, "state");
        s->control = control_new(listener);
        json_t *fields = json_object();
        if (s->spec->pod.make)
                json_object_set_new(fields, "kind", json_string("pod"));
        json_object_set(fields, "command", json_object_get(s->record, "command"));
        events_append(s->runtime->top_fd, "start", s->id, s->spec->box.name, fields);
        if (presence_is_held(s->spec)) {
                if (!s->spec->box.explored && !state_write(s->dir->fd, text, error)) {
                        state_hint_full(error);
                        return err_step(error, "state");
                }
                presence_reserve(s);
        }
        if (!s->spec->pod.make)
                (void) registry_set_last(s->runtime, s->id);
        return runtime_box_publish(s->runtime, error) || err_step(error, "state");
}

bool presence_begin(Sandbox *s, GError **error) {
        g_autoptr(GError) failure = NULL;

        if (s->record)
                return true;
        s->record = record_new(s);
        if (!show(s, &failure)) {
                if (presence_is_held(s->spec)) {
                        g_propagate_error(error, g_steal_pointer(&failure));
                        return false;
                }
                log_note("other usbox verbs cannot reach this box: %s", failure->message);
        }
        /* In this order what is known of a box is there as long as anything of it is. */
        if (s->dir)
                box_dir_sweep(s->dir, s->spec);
        if (s->runtime)
                runtime_sweep(s->runtime->top_fd);
        log_step("shown");
        return true;
}

void presence_note_end(Sandbox *s, const StatusExit *how, const GError *failure) {
        if (!s->record)
                s->record = record_new(s);
        record_end(s->record, how, failure);
        if (s->log_lost > 0)
                json_object_set_new(s->record, "log_lost", json_integer((json_int_t) s->log_lost));
        s->end_status = failure ? 125 : how->status;
}

/* A look at what a box left is no run of it: what was known of that stays so, its log included. */
bool presence_keep(Sandbox *s, const UpperCount *count, GError **error) {
        json_t *earlier = s->spec->box.explored ? registry_facts(s->dir) : NULL, *record = earlier ? earlier : s->record;

        record_count(record, count);
        g_autofree char *text = record_text(record);
        json_decref(earlier);
        return state_write(s->dir->fd, text, error);
}

void presence_end(Sandbox *s) {
        static const char *const told[] = { "kind", "status", "signal", "timeout", "oom", "error" };

        if (s->runtime) {
                json_t *fields = json_object();
                for (size_t i = 0; i < G_N_ELEMENTS(told); i++)
                        if (json_object_get(s->record, told[i]))
                                json_object_set(fields, told[i], json_object_get(s->record, told[i]));
                if (json_is_true(json_object_get(s->record, "oom")))
                        events_append(s->runtime->top_fd, "oom", s->id, s->spec->box.name, NULL);
                events_append(s->runtime->top_fd, "exit", s->id, s->spec->box.name, fields);
        }
        /* In this order it is found at any moment: running, and then ended. */
        if (s->dir)
                fd_closep(&s->dir->lock_fd);
        g_clear_pointer(&s->runtime, runtime_box_free);
        if (s->control)
                control_end(s->control, s->end_status);
        g_clear_pointer(&s->control, control_free);
        g_clear_pointer(&s->record, json_decref);
}
