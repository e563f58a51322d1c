/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * state.json: what is known of a box.
 *
 * Role: launcher. Privileges: none needed. Threads: one. Order: made when the command has been started, completed in step 11.
 */
#include <unistd.h>

#include "jsontext.h"
#include "netstack/config.h"
#include "record.h"

static json_t *now(void) {
        g_autoptr(GDateTime) time = g_date_time_new_now_utc();
        g_autofree char *text = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S.%fZ");
        return json_string(text);
}

json_t *record_new(const Sandbox *s) {
        static const char *const overlays[] = { [OVERLAY_FUSE] = "fuse", [OVERLAY_KERNEL] = "kernel", [OVERLAY_NONE] = "none" };
        const Spec *spec = s->spec;
        json_t *record = json_object();

        json_object_set_new(record, "id", json_string(s->id));
        json_object_set_new(record, "name", spec->box.name ? json_string(spec->box.name) : json_null());
        json_object_set_new(record, "created", now());
        if (spec->pod.make)
                json_object_set_new(record, "kind", json_string("pod"));
        if (spec->pod.name) {
                json_object_set_new(record, "pod", json_string(spec->pod.name));
                json_object_set_new(record, "pod_id", json_string(s->pod.id));
        }
        json_object_set_new(record, "launcher", json_integer(getpid()));
        if (s->payload > 0)
                json_object_set_new(record, "pid", json_integer(s->payload));
        json_object_set_new(record, "command", jsontext_list((const char *const *) spec->process.argv));
        json_object_set_new(record, "cwd", jsontext_string(spec->caller.cwd));
        json_object_set_new(record, "user", json_integer(spec->user.uid));
        json_object_set_new(record, "network", json_string(net_mode_name(spec->net.mode)));
        json_object_set_new(record, "overlay", json_string(overlays[spec->root.overlay]));
        json_object_set_new(record, "rootfs", jsontext_string(spec->root.rootfs ? spec->root.rootfs : "/"));
        json_object_set_new(record, "detached", json_boolean(spec->box.detach));
        json_object_set_new(record, "rm", json_boolean(spec->pod.make ? spec->pod.rm : spec->box.rm));
        if (s->scope.cgroup)
                json_object_set_new(record, "cgroup", jsontext_string(cgroup_path(s->scope.cgroup)));
        return record;
}

void record_set_late_cgroup(json_t *record, const char *path) {
        json_object_set_new(record, "cgroup", jsontext_string(path));
        json_object_set_new(record, "cgroup_late", json_true());
}

json_t *record_ports(const Sandbox *s) {
        json_t *list = json_array();

        for (guint i = 0; s->net.ports && i < s->net.ports->len; i++) {
                const NetPublish *p = g_ptr_array_index(s->net.ports, i);
                json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:i}", "protocol", p->udp ? "udp" : "tcp", "host_address", p->host_addr,
                                                      "host_port", p->host_port, "box_address", p->box_addr, "box_port", p->box_port));
        }
        return list;
}

void record_end(json_t *record, const StatusExit *how, const GError *failure) {
        json_object_del(record, "pid");
        json_object_del(record, "launcher");
        json_object_del(record, "cgroup");
        json_object_del(record, "cgroup_late");
        json_object_set_new(record, "ended", now());
        if (failure) {
                json_object_set_new(record, "status", json_integer(125));
                json_object_set_new(record, "error", jsontext_string(failure->message));
                return;
        }
        json_object_set_new(record, "status", json_integer(how->status));
        if (how->signal)
                json_object_set_new(record, "signal", json_integer(how->signal));
        if (how->timeout)
                json_object_set_new(record, "timeout", json_true());
        if (how->limits) {
                if (how->limits->oom_kills > 0)
                        json_object_set_new(record, "oom", json_true());
                json_object_set_new(record, "limits", status_limits(how->limits));
        }
}

void record_count(json_t *record, const UpperCount *count) {
        json_object_set_new(record, "changed", json_integer((json_int_t) count->changed));
        json_object_set_new(record, "removed", json_integer((json_int_t) count->removed));
        json_object_set_new(record, "bytes", json_integer((json_int_t) count->bytes));
}

char *record_text(json_t *record) {
        return jsontext_line(json_incref(record));
}
