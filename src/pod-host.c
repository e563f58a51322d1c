/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pod's boxes, and its end.
 *
 * Role: launcher, of a pod. Privileges: the caller's. Threads: one. Order: step 10, behind control.c. A box is in the pod as long as its launcher's
 * connection is open, so one whose launcher was killed has left. What a pod ends with, its boxes end with: they see the end of the same connection.
 */
#include "base/error.h"
#include "net-names.h"
#include "pod-host.h"
#include "supervise.h"

/* From the end of the boxes' grace, when they are killed, until they have taken down what they are. */
#define LEAVE_MS 5000

GVariant *pod_map_pack(const GArray *map) {
        GVariantBuilder builder;

        g_variant_builder_init(&builder, POD_MAP_TYPE);
        for (guint i = 0; i < map->len; i++) {
                const IdRange *r = &g_array_index(map, IdRange, i);
                g_variant_builder_add(&builder, "(uuu)", r->box, r->host, r->count);
        }
        return g_variant_builder_end(&builder);
}

GArray *pod_map_unpack(GVariant *map) {
        GArray *out = g_array_new(FALSE, FALSE, sizeof(IdRange));
        GVariantIter iter;
        IdRange r;

        g_variant_iter_init(&iter, map);
        while (g_variant_iter_next(&iter, "(uuu)", &r.box, &r.host, &r.count))
                g_array_append_val(out, r);
        return out;
}

static GVariant *pack_facts(const Sandbox *s) {
        const Spec *spec = s->spec;
        g_autofree char *hosts = net_etc_hosts(spec), *resolv = net_resolv_conf(spec);
        GVariantDict dict;

        g_variant_dict_init(&dict, NULL);
        g_variant_dict_insert(&dict, "hostname", "s", spec->namespaces.hostname);
        g_variant_dict_insert(&dict, "hosts", "s", hosts);
        if (resolv)
                g_variant_dict_insert(&dict, "resolv", "s", resolv);
        if (s->scope.cgroup)
                g_variant_dict_insert(&dict, "cgroup", "s", cgroup_path(s->scope.cgroup));
        g_variant_dict_insert(&dict, "share_pid", "b", spec->pod.share_pid);
        g_variant_dict_insert_value(&dict, "uidmap", pod_map_pack(spec->user.uidmap));
        g_variant_dict_insert_value(&dict, "gidmap", pod_map_pack(spec->user.gidmap));
        return g_variant_dict_end(&dict);
}

bool pod_host_join(Sandbox *s, ControlClient *client, const WireMessage *m, GError **error) {
        const char *id;

        g_variant_get(m->body, "(&s)", &id);
        if (!s->spec->pod.make)
                return err_set(error, 0, "box %s is no pod", s->id);
        if (s->stopping || s->exited)
                return err_set(error, 0, "the pod is being ended");
        if (!state_is_id(id))
                return err_set(error, EINVAL, "the box's id");
        if (!control_make_member(client, id, pack_facts(s), s->pod_namespaces, error))
                return false;
        s->had_members = s->had_members || control_n_members(s->control) > 0;
        return true;
}

void pod_host_stop(Sandbox *s, gint64 grace) {
        s->stopping = true;
        s->kill_deadline = MAX(g_get_monotonic_time() + grace + LEAVE_MS * G_GINT64_CONSTANT(1000), 1);
        control_tell_members(s->control, WIRE_POD_END, (guint32) MIN(grace / 1000, G_MAXUINT32));
        pod_host_look(s);
}

void pod_host_look(Sandbox *s) {
        if (!s->had_members && !s->stopping)
                return;
        if (!s->pod_ended && (s->stopping || s->spec->pod.rm) && control_n_members(s->control) == 0) {
                s->stopping = s->pod_ended = true;
                (void) supervise_signal(s, SIGKILL);
        }
}
