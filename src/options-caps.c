/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Capabilities of the payload in the box's inner user namespace: their options and which ones it keeps.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build() after user_check().
 */

#include "base/error.h"
#include "spec.h"

/* linux/capability.h, by number. A name that a newer kernel has is not known here and is therefore never kept. */
static const char *const cap_names[] = {
        [CAP_CHOWN] = "CAP_CHOWN",
        [CAP_DAC_OVERRIDE] = "CAP_DAC_OVERRIDE",
        [CAP_DAC_READ_SEARCH] = "CAP_DAC_READ_SEARCH",
        [CAP_FOWNER] = "CAP_FOWNER",
        [CAP_FSETID] = "CAP_FSETID",
        [CAP_KILL] = "CAP_KILL",
        [CAP_SETGID] = "CAP_SETGID",
        [CAP_SETUID] = "CAP_SETUID",
        [CAP_SETPCAP] = "CAP_SETPCAP",
        [CAP_LINUX_IMMUTABLE] = "CAP_LINUX_IMMUTABLE",
        [CAP_NET_BIND_SERVICE] = "CAP_NET_BIND_SERVICE",
        [CAP_NET_BROADCAST] = "CAP_NET_BROADCAST",
        [CAP_NET_ADMIN] = "CAP_NET_ADMIN",
        [CAP_NET_RAW] = "CAP_NET_RAW",
        [CAP_IPC_LOCK] = "CAP_IPC_LOCK",
        [CAP_IPC_OWNER] = "CAP_IPC_OWNER",
        [CAP_SYS_MODULE] = "CAP_SYS_MODULE",
        [CAP_SYS_RAWIO] = "CAP_SYS_RAWIO",
        [CAP_SYS_CHROOT] = "CAP_SYS_CHROOT",
        [CAP_SYS_PTRACE] = "CAP_SYS_PTRACE",
        [CAP_SYS_PACCT] = "CAP_SYS_PACCT",
        [CAP_SYS_ADMIN] = "CAP_SYS_ADMIN",
        [CAP_SYS_BOOT] = "CAP_SYS_BOOT",
        [CAP_SYS_NICE] = "CAP_SYS_NICE",
        [CAP_SYS_RESOURCE] = "CAP_SYS_RESOURCE",
        [CAP_SYS_TIME] = "CAP_SYS_TIME",
        [CAP_SYS_TTY_CONFIG] = "CAP_SYS_TTY_CONFIG",
        [CAP_MKNOD] = "CAP_MKNOD",
        [CAP_LEASE] = "CAP_LEASE",
        [CAP_AUDIT_WRITE] = "CAP_AUDIT_WRITE",
        [CAP_AUDIT_CONTROL] = "CAP_AUDIT_CONTROL",
        [CAP_SETFCAP] = "CAP_SETFCAP",
        [CAP_MAC_OVERRIDE] = "CAP_MAC_OVERRIDE",
        [CAP_MAC_ADMIN] = "CAP_MAC_ADMIN",
        [CAP_SYSLOG] = "CAP_SYSLOG",
        [CAP_WAKE_ALARM] = "CAP_WAKE_ALARM",
        [CAP_BLOCK_SUSPEND] = "CAP_BLOCK_SUSPEND",
        [CAP_AUDIT_READ] = "CAP_AUDIT_READ",
        [38] = "CAP_PERFMON",
        [39] = "CAP_BPF",
        [40] = "CAP_CHECKPOINT_RESTORE",
};

#define CAPS_ALL ((1ULL << G_N_ELEMENTS(cap_names)) - 1)

const char *caps_name(unsigned cap) {
        return cap < G_N_ELEMENTS(cap_names) ? cap_names[cap] : NULL;
}

/* One name, with or without CAP_, in either case; or ALL. */
static bool parse_name(const char *option, const char *text, guint64 *ret_mask, GError **error) {
        g_autofree char *upper = g_ascii_strup(text, -1);
        const char *bare = g_str_has_prefix(upper, "CAP_") ? upper + 4 : upper;
        const char *bare_names[G_N_ELEMENTS(cap_names) + 1];

        if (g_str_equal(upper, "ALL")) {
                *ret_mask = CAPS_ALL;
                return true;
        }
        for (unsigned cap = 0; cap < G_N_ELEMENTS(cap_names); cap++) {
                bare_names[cap] = cap_names[cap] + 4;
                if (g_str_equal(bare_names[cap], bare)) {
                        *ret_mask = 1ULL << cap;
                        return true;
                }
        }
        bare_names[G_N_ELEMENTS(cap_names)] = NULL;

        g_autofree char *quoted = err_quote(text);
        err_usage(error, "%s: '%s' is not a capability", option, quoted);
        const char *near = option_nearest(bare, bare_names);
        return near ? err_hint(error, "did you mean %s?", near) : err_hint(error, "capabilities(7) lists them; or ALL");
}

/* podman takes several with commas between: so do we. */
static bool parse_names(const char *option, const char *text, guint64 *mask, GError **error) {
        g_auto(GStrv) names = g_strsplit(text, ",", -1);

        for (char **name = names; *name; name++) {
                guint64 one;
                if (!parse_name(option, *name, &one, error))
                        return false;
                *mask |= one;
        }
        return true;
}

static bool apply_cap_add(Spec *draft, const char *const *values, GError **error) {
        return parse_names("--cap-add", values[0], &draft->caps.add, error);
}

static bool apply_cap_drop(Spec *draft, const char *const *values, GError **error) {
        guint64 mask = 0;
        if (!parse_names("--cap-drop", values[0], &mask, error))
                return false;
        if (mask == CAPS_ALL)
                draft->caps.drop_all = true;
        else
                draft->caps.drop |= mask;
        return true;
}

static bool apply_nested(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--nested", values[0], &draft->caps.nested, error);
}

const Option caps_options[] = {
        { .name = "cap-add",
          .arg = "CAP",
          .group = OPTION_SECURITY,
          .flags = OPTION_LIST,
          .help = "a capability for the command in the box's inner user namespace (none over its mounts or network); "
                  "ALL",
          .apply = apply_cap_add },
        { .name = "cap-drop",
          .arg = "CAP",
          .group = OPTION_SECURITY,
          .flags = OPTION_LIST,
          .help = "take one from those that the box's root has; ALL: only what --cap-add names is left",
          .apply = apply_cap_drop },
        { .name = "nested",
          .group = OPTION_SECURITY,
          .help = "let the command make user namespaces: bubblewrap, unshare, a browser's own sandbox",
          .apply = apply_nested },
        { 0 },
};

bool caps_check(Spec *draft, GError **error) {
        CapsSpec *s = &draft->caps;
        guint64 both = s->add == CAPS_ALL ? 0 : s->add & s->drop;

        if (both)
                return err_usage(error, "--cap-add and --cap-drop both name %s",
                                 caps_name((unsigned) g_bit_nth_lsf(both, -1)));
        if (s->drop_all)
                s->keep = s->add & ~s->drop;
        else
                s->keep = ((draft->user.uid == 0 ? CAPS_ROOT_DEFAULT : 0) | s->add) & ~s->drop;
        return true;
}
