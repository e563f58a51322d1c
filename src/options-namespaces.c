/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Namespaces of the box: which are its own, and its host name.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/error.h"
#include "spec.h"

#define PRIVATE_OR_HOST "private|host"
#define HOSTNAME_DEFAULT "usbox"

static bool private_or_host(const char *option, const char *text, bool *ret_host, GError **error) {
        unsigned place;
        if (!option_choice(option, text, PRIVATE_OR_HOST, &place, error))
                return false;
        *ret_host = place == 1;
        return true;
}

/* What hostname(7) allows, and no label longer than DNS has them: the name is written into /etc/hosts of the box too.
 */
static bool is_hostname(const char *text) {
        size_t label = 0;

        for (const char *p = text; *p; p++) {
                if (*p == '.' || *p == '-') {
                        if (label == 0 && (*p == '.' || p == text || p[-1] == '.'))
                                return false;
                        label = *p == '.' ? 0 : label + 1;
                } else if (g_ascii_isalnum(*p) || *p == '_')
                        label++;
                else
                        return false;
                if (label > 63)
                        return false;
        }
        return label > 0 && strlen(text) <= 64;
}

static bool apply_hostname(Spec *draft, const char *const *values, GError **error) {
        if (!is_hostname(values[0])) {
                g_autofree char *quoted = err_quote(values[0]);
                return err_usage(error,
                                 "--hostname: '%s' is not a host name (letters, digits, '-' and '.', at most 64)",
                                 quoted);
        }
        g_free(draft->namespaces.hostname);
        draft->namespaces.hostname = g_strdup(values[0]);
        return true;
}

static bool apply_ipc(Spec *draft, const char *const *values, GError **error) {
        return private_or_host("--ipc", values[0], &draft->namespaces.ipc_host, error);
}

static bool apply_uts(Spec *draft, const char *const *values, GError **error) {
        return private_or_host("--uts", values[0], &draft->namespaces.uts_host, error);
}

static bool apply_pid(Spec *draft, const char *const *values, GError **error) {
        return private_or_host("--pid", values[0], &draft->namespaces.pid_host, error);
}

static bool apply_cgroupns(Spec *draft, const char *const *values, GError **error) {
        return private_or_host("--cgroupns", values[0], &draft->namespaces.cgroup_host, error);
}

const Option namespaces_options[] = {
        { .name = "hostname",
          .arg = "NAME",
          .group = OPTION_NAMESPACES,
          .help = "the box's host name (default " HOSTNAME_DEFAULT ")",
          .apply = apply_hostname },
        { .name = "ipc",
          .arg = PRIVATE_OR_HOST,
          .group = OPTION_NAMESPACES,
          .complete = COMPLETE_CHOICES,
          .choices = PRIVATE_OR_HOST,
          .help = "System V IPC and POSIX message queues of its own, or the host's",
          .apply = apply_ipc },
        { .name = "uts",
          .arg = PRIVATE_OR_HOST,
          .group = OPTION_NAMESPACES,
          .complete = COMPLETE_CHOICES,
          .choices = PRIVATE_OR_HOST,
          .help = "a host name of its own, or the host's",
          .apply = apply_uts },
        { .name = "pid",
          .arg = PRIVATE_OR_HOST,
          .group = OPTION_NAMESPACES,
          .complete = COMPLETE_CHOICES,
          .choices = PRIVATE_OR_HOST,
          .help = "processes of its own, or the sight of all of the host's",
          .apply = apply_pid },
        { .name = "cgroupns",
          .arg = PRIVATE_OR_HOST,
          .group = OPTION_NAMESPACES,
          .complete = COMPLETE_CHOICES,
          .choices = PRIVATE_OR_HOST,
          .help = "a cgroup tree that begins at the box, or the host's",
          .apply = apply_cgroupns },
        { 0 },
};

void namespaces_clear(NamespaceSpec *s) {
        g_clear_pointer(&s->hostname, g_free);
}

bool namespaces_check(Spec *draft, GError **error) {
        NamespaceSpec *s = &draft->namespaces;

        if (s->uts_host && s->hostname)
                return err_usage(error, "--hostname and --uts=host: the host's name cannot be changed from a box");
        if (s->hostname)
                return true;
        struct utsname uts;
        s->hostname = g_strdup(s->uts_host && uname(&uts) == 0 ? uts.nodename : HOSTNAME_DEFAULT);
        return true;
}

bool namespaces_hint_limit(GError **error) {
        static const char *const kinds[] = { "mnt", "pid", "ipc", "uts", "cgroup", "time" };
        int errnum = error && *error ? err_get_errno(*error) : 0;

        if (errnum != ENOSPC && errnum != EUSERS)
                return false;
        /* What is used of them nobody tells; one that has no room for any is found by its number. */
        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
                g_autofree char *path = g_strdup_printf("/proc/sys/user/max_%s_namespaces", kinds[i]), *text = NULL;
                if (g_file_get_contents(path, &text, NULL, NULL) && g_str_equal(g_strstrip(text), "0"))
                        return err_hint(error, "no %s namespaces may be made here: sudo sysctl user.max_%s_namespaces=15000", kinds[i], kinds[i]);
        }
        g_autofree char *users = NULL;
        if (!g_file_get_contents("/proc/sys/user/max_user_namespaces", &users, NULL, NULL) || g_ascii_strtoll(users, NULL, 10) < 15000)
                return err_hint(error, "the limit on user namespaces is reached: sudo sysctl user.max_user_namespaces=15000; usbox doctor looks at the others");
        return err_hint(error, "a limit on namespaces is reached, which a user namespace around this may have (bubblewrap: --disable-userns): "
                               "usbox doctor looks at them");
}
