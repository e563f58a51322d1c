/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --dry-run: everything in force, for people or for programs.
 *
 * One list of facts for both forms, so that neither knows something that the other does not.
 *
 * Role: launcher. Privileges: none needed. Threads: any. Order: after spec_build().
 */

#include "base/error.h"
#include "jsontext.h"
#include "netstack/rules.h"
#include "netstack/values.h"
#include "scope/config.h"
#include "spec.h"

#define KEY_WIDTH 16

typedef struct {
        GString *text;  /* for people, or NULL */
        json_t *json;   /* for programs: an object of one object for each group, or NULL */
        json_t *group;  /* the last of them */
} Sheet;

static void sheet_group(Sheet *s, const char *key, const char *title) {
        if (s->text)
                g_string_append_printf(s->text, "%s%s\n", s->text->len > 0 ? "\n" : "", title);
        if (!s->json)
                return;
        s->group = json_object();
        json_object_set_new(s->json, key, s->group);
}

static void sheet_line(Sheet *s, const char *key, const char *value) {
        g_autofree char *quoted = err_quote(value);
        g_string_append_printf(s->text, "  %-*s %s\n", KEY_WIDTH, key, quoted);
}

static void sheet_string(Sheet *s, const char *key, const char *value) {
        if (s->json)
                json_object_set_new(s->group, key, jsontext_string(value));
        else
                sheet_line(s, key, value);
}

static void sheet_bool(Sheet *s, const char *key, bool value) {
        if (s->json)
                json_object_set_new(s->group, key, json_boolean(value));
        else
                sheet_line(s, key, value ? "yes" : "no");
}

static void sheet_int(Sheet *s, const char *key, gint64 value) {
        if (s->json) {
                json_object_set_new(s->group, key, json_integer(value));
                return;
        }
        g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);
        sheet_line(s, key, text);
}

/* A NULL-terminated list; for people one line an item. */
static void sheet_list(Sheet *s, const char *key, const char *const *values) {
        if (s->json) {
                json_object_set_new(s->group, key, jsontext_list(values));
                return;
        }
        if (!*values)
                sheet_line(s, key, "none");
        for (const char *const *v = values; *v; v++)
                sheet_line(s, v == values ? key : "", *v);
}

/* sheet_list() of strings in a GPtrArray that has no NULL at its end. */
static void sheet_array(Sheet *s, const char *key, const GPtrArray *values) {
        g_autoptr(GPtrArray) list = g_ptr_array_new();
        for (guint i = 0; i < values->len; i++)
                g_ptr_array_add(list, g_ptr_array_index(values, i));
        g_ptr_array_add(list, NULL);
        sheet_list(s, key, (const char *const *) list->pdata);
}

static GPtrArray *strings_new(void) {
        return g_ptr_array_new_with_free_func(g_free);
}

static void describe_box(Sheet *s, const Spec *spec) {
        const BoxSpec *box = &spec->box;
        g_autofree char *signal = option_signal_name(box->stop_signal);
        g_autoptr(GPtrArray) efforts = strings_new();

        sheet_group(s, "box", "Box");
        if (box->name)
                sheet_string(s, "name", box->name);
        sheet_list(s, "command", (const char *const *) spec->process.argv);
        sheet_array(s, "profiles", box->profiles);
        if (spec->pod.name)
                sheet_string(s, "pod", spec->pod.name);
        if (spec->pod.make)
                sheet_bool(s, "share_pid", spec->pod.share_pid);
        sheet_bool(s, "rm", spec->pod.make ? spec->pod.rm : box->rm);
        if (box->keep_max)
                sheet_int(s, "keep-max", (gint64) box->keep_max);
        if (!spec->pod.make)
                sheet_bool(s, "detach", box->detach);
        if (box->detach)
                sheet_int(s, "log_size", (gint64) box->log_size);
        sheet_bool(s, "tty", box->tty);
        if (s->json)
                sheet_int(s, "timeout_ns", (gint64) box->timeout_ns);
        else if (box->timeout_ns) {
                g_autofree char *seconds = g_strdup_printf("%.9g s", (double) box->timeout_ns / 1e9);
                sheet_line(s, "timeout", seconds);
        } else
                sheet_line(s, "timeout", "none");
        sheet_string(s, "stop_signal", signal);
        sheet_bool(s, "die_with_parent", box->die_with_parent);
        for (unsigned bit = 1; box_best_effort_name((BestEffort) bit); bit <<= 1)
                if (box->best_effort & bit)
                        g_ptr_array_add(efforts, g_strdup(box_best_effort_name((BestEffort) bit)));
        sheet_array(s, "best_effort", efforts);
        if (box->status_fd >= 0)
                sheet_int(s, "status_fd", box->status_fd);
        if (box->pidfile)
                sheet_string(s, "pidfile", box->pidfile);
}

static void describe_user(Sheet *s, const Spec *spec) {
        g_autofree char *uids = user_map_text(spec->user.uidmap), *gids = user_map_text(spec->user.gidmap);

        sheet_group(s, "user", "User");
        sheet_int(s, "uid", spec->user.uid);
        sheet_int(s, "gid", spec->user.gid);
        sheet_string(s, "userns", spec->user.subids ? "subids" : "self");
        sheet_string(s, "uid_map", uids);
        sheet_string(s, "gid_map", gids);
        sheet_string(s, "groups", spec->user.groups == GROUPS_KEEP ? "keep" : "none");
}

static void describe_namespaces(Sheet *s, const Spec *spec) {
        const NamespaceSpec *n = &spec->namespaces;

        sheet_group(s, "namespaces", "Namespaces");
        if (!spec->pod.name)
                sheet_string(s, "hostname", n->hostname);
        sheet_string(s, "ipc", n->ipc_host ? "host" : spec->pod.name ? "pod" : "private");
        sheet_string(s, "uts", n->uts_host ? "host" : spec->pod.name ? "pod" : "private");
        sheet_string(s, "pid", n->pid_host ? "host" : "private");
        sheet_string(s, "cgroup", n->cgroup_host ? "host" : "private");
        sheet_int(s, "monotonic_offset", spec->time.monotonic);
        sheet_int(s, "boottime_offset", spec->time.boottime);
}

static void describe_root(Sheet *s, const Spec *spec) {
        static const char *const homes[] = { [HOME_TOOLS] = "tools", [HOME_EMPTY] = "empty", [HOME_ALL] = "all" };
        const RootSpec *root = &spec->root;
        g_autoptr(GPtrArray) hide = strings_new();

        for (guint i = 0; i < root->hide->len; i++)
                g_ptr_array_add(hide, g_strdup(g_ptr_array_index(root->hide, i)));
        for (guint i = 0; i < root->hide_globs->len; i++)
                g_ptr_array_add(hide, g_strdup(g_ptr_array_index(root->hide_globs, i)));
        sheet_group(s, "root", "Root file system");
        sheet_string(s, "rootfs", root->rootfs ? root->rootfs : "/");
        sheet_string(s, "overlay", root_overlay_name(root->overlay));
        sheet_bool(s, "read_only", root->read_only);
        sheet_string(s, "home", homes[root->home]);
        sheet_array(s, "hide", hide);
        if (root->disk)
                sheet_int(s, "disk", (gint64) root->disk);
        if (root->trace_file)
                sheet_string(s, "trace_files", root->trace_file);
        sheet_string(s, "workdir", root->workdir ? root->workdir : spec->caller.cwd);
}

/* "bind /a at /b, read-only": not the option again, but what it means. */
static char *mount_text(const MountOp *op) {
        static const char *const kinds[] = {
                [MOUNT_BIND] = "bind",     [MOUNT_TMPFS] = "tmpfs",   [MOUNT_PROC] = "proc",
                [MOUNT_DEVPTS] = "devpts", [MOUNT_MQUEUE] = "mqueue", [MOUNT_SYMLINK] = "symlink",
                [MOUNT_FILE] = "file",     [MOUNT_DEVICE] = "device",
        };
        GString *out = g_string_new(kinds[op->kind]);

        g_string_append_printf(out, " %s", op->dst);
        if (op->kind == MOUNT_FILE)
                g_string_append_printf(out, " from descriptor %d", op->fd);
        else if (op->src && !op->own_state)
                g_string_append_printf(out, " %s %s", op->kind == MOUNT_SYMLINK ? "to" : "from", op->src);
        if (op->kind == MOUNT_BIND)
                g_string_append(out, op->read_only ? ", read-only" : ", written through");
        else if (op->read_only)
                g_string_append(out, ", read-only");
        if (op->kind == MOUNT_BIND && op->devices)
                g_string_append(out, ", with devices");
        if (op->optional)
                g_string_append(out, ", if it exists");
        if (op->own_state)
                g_string_append(out, ", over what usbox knows of boxes");
        if (op->hooks_cow)
                g_string_append(out, ", project hooks copy-on-write");
        if (op->kind == MOUNT_TMPFS && op->size)
                g_string_append_printf(out, ", size %" G_GUINT64_FORMAT, op->size);
        if (op->kind == MOUNT_TMPFS)
                g_string_append_printf(out, ", mode %04o", op->mode);
        return g_string_free(out, FALSE);
}

static void describe_mounts(Sheet *s, const Spec *spec) {
        g_autoptr(GPtrArray) mounts = strings_new();

        for (guint i = 0; i < spec->mount.ops->len; i++)
                g_ptr_array_add(mounts, mount_text(g_ptr_array_index(spec->mount.ops, i)));
        sheet_array(s, "mounts", mounts);
}

static void describe_network(Sheet *s, const Spec *spec) {
        const NetSpec *net = &spec->net;
        g_autoptr(GPtrArray) publish = strings_new(), rules = strings_new(), expose = strings_new(), hosts = strings_new();

        sheet_group(s, "network", "Network");
        sheet_string(s, "network", net_mode_name(net->mode));
        if (net->mode == NET_USER) {
                sheet_int(s, "mtu", net->mtu);
                sheet_bool(s, "ipv6", net->ipv6);
                sheet_bool(s, "fast_path", net->fast_path);
                sheet_array(s, "dns", net->dns);
                for (guint i = 0; i < net->publish->len; i++)
                        g_ptr_array_add(publish, net_value_publish_text(g_ptr_array_index(net->publish, i)));
                sheet_array(s, "publish", publish);
                for (guint i = 0; i < net->rules->list->len; i++) {
                        const NetRule *rule = g_ptr_array_index(net->rules->list, i);
                        g_ptr_array_add(rules, g_strdup_printf("%s %s", rule->allow ? "allow" : "deny", rule->text));
                }
                sheet_array(s, "rules", rules);
                /* What comes after all of them: decide_by_default() in policy.c. */
                sheet_list(s, "otherwise",
                           (const char *const[]){ "deny host", "deny metadata", net->rules->closed ? "deny any" : "allow any", NULL });
                for (guint i = 0; i < net->expose->len; i++)
                        g_ptr_array_add(expose, g_strdup_printf("%u", g_array_index(net->expose, guint16, i)));
                sheet_array(s, "expose_host", expose);
                sheet_bool(s, "tls_names", net->tls_names);
                if (net->shape.up_bps > 0)
                        sheet_int(s, "net_rate_up", (json_int_t) net->shape.up_bps);
                if (net->shape.down_bps > 0)
                        sheet_int(s, "net_rate_down", (json_int_t) net->shape.down_bps);
                if (net->shape.delay_us > 0) {
                        sheet_int(s, "net_delay_us", net->shape.delay_us);
                        sheet_int(s, "net_jitter_us", net->shape.jitter_us);
                }
                if (net->shape.loss_ppm > 0)
                        sheet_int(s, "net_loss_ppm", net->shape.loss_ppm);
                if (net->pcap_file)
                        sheet_string(s, "pcap", net->pcap_file);
                if (net->log_file)
                        sheet_string(s, "net_log", net->log_file);
        }
        for (guint i = 0; i < net->hosts->len; i++) {
                const NetHost *host = g_ptr_array_index(net->hosts, i);
                g_ptr_array_add(hosts, g_strdup_printf("%s %s", host->name, host->address));
        }
        sheet_array(s, "hosts", hosts);
}

static char *limit_text(rlim_t limit) {
        return limit == RLIM_INFINITY ? g_strdup("unlimited") : g_strdup_printf("%llu", (unsigned long long) limit);
}

static void describe_settings(Sheet *s, const char *key, const GPtrArray *settings) {
        g_autoptr(GPtrArray) texts = strings_new();

        for (guint i = 0; i < settings->len; i++) {
                const ScopeSetting *setting = settings->pdata[i];
                g_ptr_array_add(texts, g_strdup_printf("%s=%s", setting->file, setting->value));
        }
        sheet_array(s, key, texts);
}

static void describe_limits(Sheet *s, const Spec *spec) {
        g_autoptr(GPtrArray) limits = strings_new();

        for (guint i = 0; i < spec->process.ulimits->len; i++) {
                const UlimitSpec *u = &g_array_index(spec->process.ulimits, UlimitSpec, i);
                g_autofree char *soft = limit_text(u->soft), *hard = limit_text(u->hard);
                g_ptr_array_add(limits, g_strdup_printf("%s=%s:%s", process_ulimit_name(u->resource), soft, hard));
        }
        sheet_group(s, "limits", "Limits");
        sheet_array(s, "ulimit", limits);
        describe_settings(s, "cgroup", spec->limits.settings);
        describe_settings(s, "property", spec->limits.properties);
        if (spec->process.oom_score_given)
                sheet_int(s, "oom_score_adj", spec->process.oom_score_adj);
}

static void describe_security(Sheet *s, const Spec *spec) {
        const SeccompSpec *seccomp = &spec->seccomp;
        g_autoptr(GPtrArray) caps = strings_new();

        for (unsigned cap = 0; caps_name(cap); cap++)
                if (spec->caps.keep & (1ULL << cap))
                        g_ptr_array_add(caps, g_strdup(caps_name(cap)));
        sheet_group(s, "security", "Security");
        sheet_string(s, "seccomp",
                     seccomp->mode == SECCOMP_FILE  ? seccomp->file
                     : seccomp->mode == SECCOMP_OFF ? "off"
                     : seccomp->compat32            ? "default+32bit"
                                                    : "default");
        sheet_array(s, "capabilities", caps);
        sheet_bool(s, "nested", spec->caps.nested);
        sheet_array(s, "sysctl", spec->process.sysctls);
}

static void describe(Sheet *s, const Spec *spec) {
        describe_box(s, spec);
        describe_user(s, spec);
        describe_namespaces(s, spec);
        describe_root(s, spec);
        describe_mounts(s, spec);
        describe_network(s, spec);
        describe_limits(s, spec);
        describe_security(s, spec);
        sheet_group(s, "environment", "Environment");
        sheet_list(s, "variables", (const char *const *) spec->process.envp);
}

char *spec_describe(const Spec *spec) {
        Sheet s = { .text = g_string_new(NULL) };
        describe(&s, spec);
        return g_string_free(s.text, FALSE);
}

json_t *spec_to_json(const Spec *spec) {
        Sheet s = { .json = json_object() };
        describe(&s, spec);
        return s.json;
}
