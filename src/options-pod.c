/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a pod is asked to be, and a box of one.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include "base/error.h"
#include "registry.h"
#include "spec.h"

static bool apply_pod(Spec *draft, const char *const *values, GError **error) {
        if (!registry_name_ok(values[0])) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--pod: '%s' cannot be the name of a pod", quoted);
                return err_hint(error, "usbox pod ps lists the pods");
        }
        g_free(draft->pod.name);
        draft->pod.name = g_strdup(values[0]);
        return true;
}

const Option pod_options[] = {
        { .name = "pod",
          .arg = "POD",
          .group = OPTION_BOX,
          .flags = OPTION_NO_PROFILE,
          .complete = COMPLETE_POD,
          .help = "share network, IPC and host name with the other boxes of that pod (usbox pod create)",
          .apply = apply_pod },
        { 0 },
};

/* Not all options of that group: --ulimit is each process's. */
static bool is_limit_of_cgroup(const Option *option) {
        for (const Option *o = limits_options; o->name; o++)
                if (o == option)
                        return true;
        return false;
}

bool pod_has_option(const Option *option) {
        static const char *const others[] = { "hostname", "sysctl", "best-effort", "verbose", NULL };

        return option->group == OPTION_NETWORK || is_limit_of_cgroup(option) || g_strv_contains(others, option->name);
}

/* The first option of the draft that is the pod's to have; NULL: there is none. */
static const char *option_of_the_pod(const Spec *draft) {
        const NetSpec *net = &draft->net;

        const struct {
                bool given;
                const char *name;
        } rows[] = {
                { net->mode == NET_NONE || net->mode == NET_HOST, "--network" },
                { net->rules->list->len > 0, net->rules->closed ? "--allow" : "--deny" },
                { net->publish->len > 0, "--publish" },
                { net->dns->len > 0, "--dns" },
                { net->hosts->len > 0, "--add-host" },
                { net->mtu_given, "--mtu" },
                { !net->ipv6, "--no-ipv6" },
                { !net->fast_path, "--no-fast-path" },
                { net->expose->len > 0, "--expose-host" },
                { net->tls_names, "--tls-names" },
                { net->log_file, "--net-log" },
                { net->pcap_file, "--pcap" },
                { net->shape.up_bps > 0 || net->shape.down_bps > 0, "--net-rate" },
                { net->shape.delay_us > 0, "--net-delay" },
                { net->shape.loss_ppm > 0, "--net-loss" },
                { draft->namespaces.hostname, "--hostname" },
                { draft->process.sysctls->len > 0, "--sysctl" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
                if (rows[i].given)
                        return rows[i].name;
        return NULL;
}

bool pod_check(Spec *draft, GError **error) {
        PodSpec *s = &draft->pod;

        if (!s->name && draft->net.mode == NET_POD) {
                err_usage(error, "--network=pod without a pod");
                return err_hint(error, "name one: --pod POD");
        }
        if (!s->name)
                return true;
        const char *what = option_of_the_pod(draft);
        if (what) {
                err_usage(error, "%s and --pod: that belongs to the pod as a whole", what);
                /* The one that profiles give, and that can be taken back. */
                bool by_profile = draft->box.profiles->len > 0 && draft->net.mode == NET_NONE;
                return err_hint(error, "give %s to usbox pod create%s", what, by_profile ? "; if the profile says it: --network pod behind --profile" : "");
        }
        if (draft->namespaces.ipc_host || draft->namespaces.uts_host)
                return err_usage(error, "--%s=host and --pod: the boxes of a pod share the pod's", draft->namespaces.ipc_host ? "ipc" : "uts");
        for (guint i = 0; i < draft->mount.ops->len; i++)
                if (((const MountOp *) g_ptr_array_index(draft->mount.ops, i))->kind == MOUNT_MQUEUE) {
                        err_usage(error, "--mount type=mqueue and --pod: the message queues are the pod's");
                        return err_hint(error, "they are at /dev/mqueue");
                }
        draft->net.mode = NET_POD;
        return true;
}

bool pod_check_shared_pids(const Spec *spec, GError **error) {
        bool proc = false;

        for (guint i = 0; i < spec->mount.ops->len; i++)
                proc = proc || ((const MountOp *) g_ptr_array_index(spec->mount.ops, i))->kind == MOUNT_PROC;
        const char *what = spec->namespaces.pid_host ? "--pid=host" : spec->caps.nested ? "--nested" : proc ? "--mount type=proc" : NULL;
        if (!what)
                return true;
        err_set(error, 0, "%s in a pod whose boxes share their processes", what);
        return err_hint(error, "create the pod without --share pid");
}

bool pod_fill(Spec *draft, const char *name, GError **error) {
        draft->pod.make = true;
        g_free(draft->box.name);
        draft->box.name = g_strdup(name);
        draft->box.detach = true;
        draft->box.rm = true; /* its directory has nothing that anybody would want */
        draft->root.overlay = OVERLAY_NONE;
        if (!draft->namespaces.hostname) /* one that cannot be a host name has the default */
                (void) option_apply(option_find("hostname"), draft, (const char *const[]){ name, NULL }, NULL);
        return user_ask_all(draft, error);
}

void pod_clear(PodSpec *s) {
        g_free(s->name);
}
