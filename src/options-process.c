/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits of the payload as a process, and the box's sysctls: their options. Its environment is options-env.c's.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build() after user_check()
 * and namespaces_check().
 */
#include <string.h>

#include "base/error.h"
#include "spec.h"

/* podman's and docker's names. */
static const struct {
        const char *name;
        int resource;
} ulimits[] = {
        { "as", RLIMIT_AS },
        { "core", RLIMIT_CORE },
        { "cpu", RLIMIT_CPU },
        { "data", RLIMIT_DATA },
        { "fsize", RLIMIT_FSIZE },
        { "locks", RLIMIT_LOCKS },
        { "memlock", RLIMIT_MEMLOCK },
        { "msgqueue", RLIMIT_MSGQUEUE },
        { "nice", RLIMIT_NICE },
        { "nofile", RLIMIT_NOFILE },
        { "nproc", RLIMIT_NPROC },
        { "rss", RLIMIT_RSS },
        { "rtprio", RLIMIT_RTPRIO },
        { "rttime", RLIMIT_RTTIME },
        { "sigpending", RLIMIT_SIGPENDING },
        { "stack", RLIMIT_STACK },
};

const char *process_ulimit_name(int resource) {
        for (size_t i = 0; i < G_N_ELEMENTS(ulimits); i++)
                if (ulimits[i].resource == resource)
                        return ulimits[i].name;
        return NULL;
}

bool process_has_ulimit(const ProcessSpec *s, int resource) {
        for (guint i = 0; i < s->ulimits->len; i++)
                if (g_array_index(s->ulimits, UlimitSpec, i).resource == resource)
                        return true;
        return false;
}

static bool unknown_ulimit(const char *name, GError **error) {
        const char *names[G_N_ELEMENTS(ulimits) + 1] = { NULL };
        g_autofree char *quoted = err_quote(name);

        for (size_t i = 0; i < G_N_ELEMENTS(ulimits); i++)
                names[i] = ulimits[i].name;
        g_autofree char *all = g_strjoinv(", ", (char **) names);
        err_usage(error, "--ulimit: unknown limit '%s'; they are %s", quoted, all);
        const char *near = option_nearest(name, names);
        return near ? err_hint(error, "did you mean %s?", near) : false;
}

static bool parse_limit(const char *text, rlim_t *ret) {
        guint64 n;

        if (g_str_equal(text, "unlimited") || g_str_equal(text, "-1")) {
                *ret = RLIM_INFINITY;
                return true;
        }
        if (!option_digits(text, RLIM_INFINITY - 1, &n))
                return false;
        *ret = n;
        return true;
}

/* NAME=SOFT[:HARD] */
static bool apply_ulimit(Spec *draft, const char *const *values, GError **error) {
        g_auto(GStrv) halves = g_strsplit(values[0], "=", 2);
        g_auto(GStrv) limits = g_strsplit(halves[1] ? halves[1] : "", ":", 3);
        UlimitSpec new = { .resource = -1 };
        guint n = g_strv_length(limits);

        for (size_t i = 0; i < G_N_ELEMENTS(ulimits); i++)
                if (g_str_equal(ulimits[i].name, halves[0]))
                        new.resource = ulimits[i].resource;
        if (new.resource < 0)
                return unknown_ulimit(halves[0], error);
        if (n < 1 || n > 2 || !parse_limit(limits[0], &new.soft) || !parse_limit(limits[n - 1], &new.hard)) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error, "--ulimit: '%s' is not NAME=SOFT[:HARD] in numbers or 'unlimited'", quoted);
        }
        if (new.soft > new.hard) /* RLIM_INFINITY is the largest number */
                return err_usage(error, "--ulimit: %s: the soft limit is above the hard one", values[0]);

        for (guint i = 0; i < draft->process.ulimits->len; i++)
                if (g_array_index(draft->process.ulimits, UlimitSpec, i).resource == new.resource)
                        g_array_remove_index(draft->process.ulimits, i--);
        g_array_append_val(draft->process.ulimits, new);
        return true;
}

static bool apply_oom_score_adj(Spec *draft, const char *const *values, GError **error) {
        gint64 score;

        if (!option_i64("--oom-score-adj", values[0], -1000, 1000, &score, error))
                return false;
        if (score < 0) {
                err_usage(error, "--oom-score-adj: %d: making a process less likely to be killed needs privilege",
                          (int) score);
                return err_hint(error, "0 to 1000 make it more likely");
        }
        draft->process.oom_score_adj = (int) score;
        draft->process.oom_score_given = true;
        return true;
}

/*
 * "net.ipv4.ip_forward" or "net/ipv4/ip_forward" as a path; as with sysctl(8), the first separator decides which it is,
 * so that net/ipv4/conf/eth0.1 can be said. NULL where a part is empty or would lead elsewhere.
 */
static char *sysctl_path(const char *key) {
        g_autofree char *path = g_strdup(key);
        const char *separator = strpbrk(key, "./");

        if (separator && *separator == '.')
                for (char *p = path; *p; p++)
                        *p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        for (char **part = parts; *part; part++)
                if (**part == '\0' || g_str_equal(*part, ".") || g_str_equal(*part, ".."))
                        return NULL;
        return g_steal_pointer(&path);
}

/* path: with or without its value. */
static bool sysctl_is_ipc(const char *path) {
        return g_str_has_prefix(path, "kernel/msg") || g_str_has_prefix(path, "kernel/shm") ||
               g_str_equal(path, "kernel/sem") || g_str_has_prefix(path, "kernel/sem=") || g_str_has_prefix(path, "fs/mqueue/");
}

bool process_has_ipc_sysctl(const ProcessSpec *s) {
        for (guint i = 0; i < s->sysctls->len; i++)
                if (sysctl_is_ipc(g_ptr_array_index(s->sysctls, i)))
                        return true;
        return false;
}

static bool sysctl_is_net(const char *path) {
        return g_str_has_prefix(path, "net/");
}

static bool apply_sysctl(Spec *draft, const char *const *values, GError **error) {
        const char *eq = strchr(values[0], '=');
        g_autofree char *key = eq ? g_strndup(values[0], (gsize) (eq - values[0])) : NULL;
        g_autofree char *path = key ? sysctl_path(key) : NULL;
        g_autofree char *quoted = err_quote(values[0]);

        if (!path || eq[1] == '\0')
                return err_usage(error, "--sysctl: '%s' is not KEY=VALUE", quoted);
        if (g_str_equal(path, "kernel/hostname") || g_str_equal(path, "kernel/domainname")) {
                err_usage(error, "--sysctl: '%s' is not set this way", quoted);
                return err_hint(error, "use --hostname");
        }
        if (!sysctl_is_ipc(path) && !sysctl_is_net(path)) {
                err_usage(error, "--sysctl: '%s' is not of a namespace: it would be the host's", quoted);
                return err_hint(error,
                                "a box has kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.* and net.* of its own");
        }
        g_ptr_array_add(draft->process.sysctls, g_strconcat(path, eq, NULL));
        return true;
}

const Option process_options[] = {
        { .name = "ulimit",
          .arg = "NAME=SOFT[:HARD]",
          .group = OPTION_LIMITS,
          .flags = OPTION_LIST,
          .help = "a limit of setrlimit(2): nofile, nproc, core, cpu, fsize, as, ...; 'unlimited'",
          .apply = apply_ulimit },
        { .name = "oom-score-adj",
          .arg = "N",
          .group = OPTION_LIMITS,
          .help = "0 to 1000: the sooner killed when memory runs out",
          .apply = apply_oom_score_adj },
        { .name = "sysctl",
          .arg = "KEY=VALUE",
          .group = OPTION_SECURITY,
          .flags = OPTION_LIST,
          .help = "a setting of the box's own namespaces: net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*",
          .apply = apply_sysctl },
        { 0 },
};

void process_init(ProcessSpec *s) {
        s->ulimits = g_array_new(FALSE, FALSE, sizeof(UlimitSpec));
        s->sysctls = g_ptr_array_new_with_free_func(g_free);
        s->env_ops = g_ptr_array_new_with_free_func(g_free);
}

void process_clear(ProcessSpec *s) {
        g_strfreev(s->argv);
        g_strfreev(s->envp);
        g_strfreev(s->env_places);
        g_clear_pointer(&s->ulimits, g_array_unref);
        g_clear_pointer(&s->sysctls, g_ptr_array_unref);
        g_clear_pointer(&s->env_ops, g_ptr_array_unref);
        g_clear_pointer(&s->env_files, g_ptr_array_unref);
}

/* Raising a hard limit needs CAP_SYS_RESOURCE on the host, which root in a user namespace does not have. */
static bool check_ulimits(const Spec *draft, GError **error) {
        for (guint i = 0; i < draft->process.ulimits->len; i++) {
                const UlimitSpec *u = &g_array_index(draft->process.ulimits, UlimitSpec, i);
                struct rlimit own;

                if (draft->caller.uid == 0 || getrlimit((__rlimit_resource_t) u->resource, &own) < 0 ||
                    u->hard <= own.rlim_max)
                        continue;
                const char *name = process_ulimit_name(u->resource);
                err_usage(error, "--ulimit %s: above your own hard limit of %llu", name,
                          (unsigned long long) own.rlim_max);
                return err_hint(error, "the administrator raises it in /etc/security/limits.conf");
        }
        return true;
}

static bool check_sysctls(const Spec *draft, GError **error) {
        for (guint i = 0; i < draft->process.sysctls->len; i++) {
                const char *entry = g_ptr_array_index(draft->process.sysctls, i);
                g_autofree char *path = g_strndup(entry, strcspn(entry, "="));
                const char *shared = sysctl_is_net(path) && draft->net.mode == NET_HOST      ? "--network=host"
                                     : sysctl_is_ipc(path) && draft->namespaces.ipc_host ? "--ipc=host"
                                                                                         : NULL;
                if (shared) {
                        g_autofree char *quoted = err_quote(entry);
                        return err_usage(error, "--sysctl %s and %s: that would be the host's", quoted, shared);
                }
        }
        return true;
}

bool process_check(Spec *draft, GError **error) {
        if (!check_ulimits(draft, error) || !check_sysctls(draft, error))
                return false;
        process_fill_environment(draft, (const char *const *) environ);
        return true;
}
