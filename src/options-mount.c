/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The user's own mounts: every option becomes one MountOp, in the order given.
 *
 * Sources are made absolute but not resolved: the launcher opens them with the caller's rights. Destinations are names
 * in the box and normalised as text, so that none leads above its root; what they meet there is resolved beneath the
 * new root.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: option_parse(), then spec_build().
 */
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "mountinfo.h"
#include "spec.h"

#define MODE_UNSET ((mode_t) -1)

void mount_op_free(MountOp *op) {
        g_free(op->src);
        g_free(op->dst);
        g_free(op->option);
        g_free(op);
}

static MountOp *op_new(MountKind kind, const char *option, const char *values) {
        MountOp *op = g_new0(MountOp, 1);
        g_autofree char *quoted = err_quote(values);

        op->kind = kind;
        op->mode = MODE_UNSET;
        op->fd = -1;
        op->option = g_strdup_printf("%s %s", option, quoted);
        return op;
}

static void op_add(Spec *draft, MountOp *op) {
        if (op->mode == MODE_UNSET)
                op->mode = op->kind == MOUNT_FILE ? 0644 : 0755;
        g_ptr_array_add(draft->mount.ops, op);
}

static bool parse_mode(const char *option, const char *text, mode_t *ret, GError **error) {
        mode_t mode = 0;
        size_t len = strlen(text);

        for (const char *p = text; *p >= '0' && *p <= '7'; p++)
                mode = mode * 8 + (mode_t) (*p - '0');
        if (len == 0 || len > 5 || strspn(text, "01234567") != len || mode > 01777) {
                g_autofree char *quoted = err_quote(text);
                return err_usage(error, "%s: '%s' is not a mode in octal, at most 1777", option, quoted);
        }
        *ret = mode;
        return true;
}

/* SRC:DST[:ro|rw]. A path with a colon cannot be written this way: --bind takes it. */
static bool apply_volume(Spec *draft, const char *const *values, GError **error) {
        g_auto(GStrv) parts = g_strsplit(values[0], ":", -1);
        guint n = g_strv_length(parts);
        g_autoptr(MountOp) op = op_new(MOUNT_BIND, "--volume", values[0]);

        if (n < 2 || n > 3 || *parts[0] == '\0') {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--volume: '%s' is not SRC:DST[:ro|rw]", quoted);
                return n == 1 ? err_hint(error, "--rw PATH or --ro PATH shows a path at its own name")
                              : err_hint(error, "a path with a colon in it: --bind SRC DST or --ro-bind SRC DST");
        }
        if (n == 3) {
                unsigned place;
                if (!option_choice("--volume", parts[2], "ro|rw", &place, error))
                        return err_hint(error, "labels and owners stay as they are: leave z, Z, U and the like out");
                op->read_only = place == 0;
        }
        if (!option_box_path("--volume", parts[1], true, &op->dst, error))
                return false;
        op->src = option_host_path(draft, parts[0]);
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool add_bind(Spec *draft, const char *option, const char *const *values, MountOp flags, GError **error) {
        g_autofree char *both = g_strdup_printf("%s %s", values[0], values[1]);
        g_autoptr(MountOp) op = op_new(MOUNT_BIND, option, both);

        op->read_only = flags.read_only;
        op->devices = flags.devices;
        op->optional = flags.optional;
        if (!option_box_path(option, values[1], true, &op->dst, error))
                return false;
        op->src = option_host_path(draft, values[0]);
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool apply_bind(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--bind", values, (MountOp){ 0 }, error);
}

static bool apply_bind_try(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--bind-try", values, (MountOp){ .optional = true }, error);
}

static bool apply_ro_bind(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--ro-bind", values, (MountOp){ .read_only = true }, error);
}

static bool apply_ro_bind_try(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--ro-bind-try", values, (MountOp){ .read_only = true, .optional = true }, error);
}

static bool apply_dev_bind(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--dev-bind", values, (MountOp){ .devices = true }, error);
}

static bool apply_dev_bind_try(Spec *draft, const char *const *values, GError **error) {
        return add_bind(draft, "--dev-bind-try", values, (MountOp){ .devices = true, .optional = true }, error);
}

/* A host path at its own name. Source and place are the same text, so both are normalised alike. */
static bool add_own_name(Spec *draft, const char *option, const char *value, bool read_only, GError **error) {
        g_autofree char *host = option_host_path(draft, value), *normal = option_normal_path(host);
        g_autoptr(MountOp) op = op_new(MOUNT_BIND, option, value);

        /* A profile's `--rw .`, too. */
        if (g_str_equal(normal, "/")) {
                err_usage(error, "%s: that is this machine's root itself", op->option);
                return err_hint(error, "go to the directory that is meant, or name it");
        }
        if (!option_box_path(option, host, true, &op->dst, error))
                return false;
        op->src = g_strdup(op->dst);
        op->read_only = read_only;
        op->hooks_cow = !read_only;
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool apply_rw(Spec *draft, const char *const *values, GError **error) {
        return add_own_name(draft, "--rw", values[0], false, error);
}

static bool apply_ro(Spec *draft, const char *const *values, GError **error) {
        return add_own_name(draft, "--ro", values[0], true, error);
}

static bool apply_rw_hooks(Spec *draft, const char *const *values, GError **error) {
        return option_bool("--rw-hooks", values[0], &draft->mount.rw_hooks, error);
}

/* One key of --mount, with podman's spellings. value is NULL where there was no '='. */
static bool mount_key(const Spec *draft, MountOp *op, const char *key, const char *value, GError **error) {
        bool *flag = g_str_equal(key, "ro") || g_str_equal(key, "readonly") ? &op->read_only
                     : g_str_equal(key, "dev")                              ? &op->devices
                     : g_str_equal(key, "optional")                         ? &op->optional
                                                                            : NULL;
        if (flag)
                return option_bool("--mount", value ? value : "true", flag, error);

        bool is_src = g_str_equal(key, "src") || g_str_equal(key, "source");
        bool is_dst = g_str_equal(key, "dst") || g_str_equal(key, "destination") || g_str_equal(key, "target");
        bool is_size = g_str_equal(key, "size") || g_str_equal(key, "tmpfs-size");
        bool is_mode = g_str_equal(key, "mode") || g_str_equal(key, "tmpfs-mode");
        g_autofree char *quoted = err_quote(key);

        if (!is_src && !is_dst && !is_size && !is_mode) {
                static const char *const keys[] = {
                        "type", "src", "dst", "ro", "dev", "optional", "size", "mode", NULL
                };
                err_usage(error, "--mount: unknown key '%s'", quoted);
                const char *near = option_nearest(key, keys);
                return near ? err_hint(error, "did you mean %s?", near) : false;
        }
        if (!value || *value == '\0')
                return err_usage(error, "--mount: %s needs a value: %s=...", quoted, quoted);
        if (is_src) {
                g_free(op->src);
                op->src = option_host_path(draft, value);
                return true;
        }
        if (is_dst) {
                /* So that a profile can name a place in the home. */
                g_autofree char *path = *value == '~' ? option_host_path(draft, value) : g_strdup(value);
                g_clear_pointer(&op->dst, g_free);
                return option_box_path("--mount", path, true, &op->dst, error);
        }
        return is_size ? option_size("--mount: size", value, &op->size, error)
                       : parse_mode("--mount: mode", value, &op->mode, error);
}

static bool mount_is_whole(const MountOp *op, GError **error) {
        if (!op->dst)
                return err_usage(error, "%s: dst= is missing", op->option);
        if (op->kind == MOUNT_BIND) {
                if (!op->src)
                        return err_usage(error, "%s: src= is missing", op->option);
        } else if (op->src || op->devices)
                return err_usage(error, "%s: src and dev are for type=bind", op->option);
        if (op->kind != MOUNT_TMPFS && (op->size || op->mode != MODE_UNSET))
                return err_usage(error, "%s: size and mode are for type=tmpfs", op->option);
        return true;
}

static bool apply_mount(Spec *draft, const char *const *values, GError **error) {
        static const MountKind kinds[] = { MOUNT_BIND, MOUNT_TMPFS, MOUNT_PROC, MOUNT_DEVPTS, MOUNT_MQUEUE };
        g_auto(GStrv) parts = g_strsplit(values[0], ",", -1);
        g_autoptr(MountOp) op = op_new(MOUNT_BIND, "--mount", values[0]);
        bool typed = false;

        for (char **part = parts; *part; part++) {
                char *eq = strchr(*part, '=');
                if (eq)
                        *eq = '\0';
                if (!g_str_equal(*part, "type")) {
                        if (!mount_key(draft, op, *part, eq ? eq + 1 : NULL, error))
                                return false;
                        continue;
                }
                unsigned place;
                if (!option_choice("--mount: type", eq ? eq + 1 : "", "bind|tmpfs|proc|devpts|mqueue", &place, error))
                        return false;
                op->kind = kinds[place];
                typed = true;
        }
        if (!typed)
                return err_usage(error, "%s: type= is missing", op->option);
        if (!mount_is_whole(op, error))
                return false;
        op_add(draft, g_steal_pointer(&op));
        return true;
}

/* DST[:size=...,mode=...,ro] */
static bool apply_tmpfs(Spec *draft, const char *const *values, GError **error) {
        const char *colon = strchr(values[0], ':');
        g_autofree char *dst = colon ? g_strndup(values[0], (gsize) (colon - values[0])) : g_strdup(values[0]);
        g_auto(GStrv) parts = g_strsplit(colon ? colon + 1 : "", ",", -1);
        g_autoptr(MountOp) op = op_new(MOUNT_TMPFS, "--tmpfs", values[0]);

        if (!option_box_path("--tmpfs", dst, true, &op->dst, error))
                return false;
        for (char **part = parts; *part; part++) {
                if (g_str_has_prefix(*part, "size=")) {
                        if (!option_size("--tmpfs: size", *part + strlen("size="), &op->size, error))
                                return false;
                } else if (g_str_has_prefix(*part, "mode=")) {
                        if (!parse_mode("--tmpfs: mode", *part + strlen("mode="), &op->mode, error))
                                return false;
                } else if (g_str_equal(*part, "ro") || g_str_equal(*part, "rw")) {
                        op->read_only = g_str_equal(*part, "ro");
                } else {
                        g_autofree char *quoted = err_quote(*part);
                        return err_usage(error, "--tmpfs: '%s' is not size=SIZE, mode=MODE, ro or rw", quoted);
                }
        }
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool apply_symlink(Spec *draft, const char *const *values, GError **error) {
        g_autofree char *both = g_strdup_printf("%s %s", values[0], values[1]);
        g_autoptr(MountOp) op = op_new(MOUNT_SYMLINK, "--symlink", both);

        if (!option_box_path("--symlink", values[1], true, &op->dst, error))
                return false;
        op->src = g_strdup(values[0]);
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool apply_file(Spec *draft, const char *const *values, GError **error) {
        g_autofree char *both = g_strdup_printf("%s %s", values[0], values[1]);
        g_autoptr(MountOp) op = op_new(MOUNT_FILE, "--file", both);

        if (!option_fd("--file", values[0], false, &op->fd, error) ||
            !option_box_path("--file", values[1], true, &op->dst, error))
                return false;
        op_add(draft, g_steal_pointer(&op));
        return true;
}

static bool apply_device(Spec *draft, const char *const *values, GError **error) {
        g_autoptr(MountOp) op = op_new(MOUNT_DEVICE, "--device", values[0]);

        if (!option_box_path("--device", values[0], true, &op->dst, error))
                return false;
        if (!g_str_has_prefix(op->dst, "/dev/")) {
                g_autofree char *quoted = err_quote(values[0]);
                err_usage(error, "--device: '%s' is not a path below /dev", quoted);
                return err_hint(error, "a device at another name: --dev-bind SRC DST");
        }
        op->src = g_strdup(op->dst);
        op->devices = true;
        op_add(draft, g_steal_pointer(&op));
        return true;
}

#define ROW_MOUNT(n, a, f, c, h, fn)                                                                               \
        {                                                                                                          \
                .name = n, .arg = a, .group = OPTION_MOUNTS, .flags = OPTION_LIST | (f), .complete = c, .help = h, \
                .apply = fn                                                                                        \
        }

const Option mount_options[] = {
        { .name = "volume",
          .short_name = 'v',
          .arg = "SRC:DST[:ro|rw]",
          .group = OPTION_MOUNTS,
          .flags = OPTION_LIST,
          .complete = COMPLETE_FILE,
          .help = "the host's SRC at DST, written through unless ro; a path with a colon: --bind",
          .apply = apply_volume },
        ROW_MOUNT("rw", "PATH", 0, COMPLETE_FILE,
                  "the host's PATH at its own name, written through, but for project hooks", apply_rw),
        ROW_MOUNT("ro", "PATH", 0, COMPLETE_FILE, "the host's PATH at its own name, read-only", apply_ro),
        { .name = "rw-hooks",
          .group = OPTION_MOUNTS,
          .help = "write project hooks (.git/hooks, .git/config, .envrc, .vscode, .idea and the like) of --rw trees through, too",
          .apply = apply_rw_hooks },
        ROW_MOUNT("bind", "SRC DST", OPTION_TWO, COMPLETE_FILE, "the host's SRC at DST, written through", apply_bind),
        ROW_MOUNT("bind-try", "SRC DST", OPTION_TWO, COMPLETE_FILE, "as --bind, or nothing where SRC does not exist",
                  apply_bind_try),
        ROW_MOUNT("ro-bind", "SRC DST", OPTION_TWO, COMPLETE_FILE, "the host's SRC at DST, read-only", apply_ro_bind),
        ROW_MOUNT("ro-bind-try", "SRC DST", OPTION_TWO, COMPLETE_FILE,
                  "as --ro-bind, or nothing where SRC does not exist", apply_ro_bind_try),
        ROW_MOUNT("dev-bind", "SRC DST", OPTION_TWO, COMPLETE_FILE,
                  "the host's SRC at DST, and device nodes in it work", apply_dev_bind),
        ROW_MOUNT("dev-bind-try", "SRC DST", OPTION_TWO, COMPLETE_FILE,
                  "as --dev-bind, or nothing where SRC does not exist", apply_dev_bind_try),
        ROW_MOUNT("mount", "type=TYPE,...", 0, COMPLETE_NONE,
                  "bind (src, dst, ro, dev, optional), tmpfs (dst, size, mode, ro), proc, devpts or mqueue (dst)",
                  apply_mount),
        ROW_MOUNT("tmpfs", "DST[:size=...]", 0, COMPLETE_NONE,
                  "an empty file system in memory; also mode=, ro, after commas", apply_tmpfs),
        ROW_MOUNT("symlink", "TARGET LINK", OPTION_TWO, COMPLETE_NONE, "a symlink LINK that says TARGET",
                  apply_symlink),
        ROW_MOUNT("file", "FD DST", OPTION_TWO, COMPLETE_NONE,
                  "a file of the box's own with what the descriptor FD gives", apply_file),
        ROW_MOUNT("device", "/dev/X", 0, COMPLETE_FILE, "a device of the host, working", apply_device),
        { 0 },
};

void mount_init(MountSpec *s) {
        s->ops = g_ptr_array_new_with_free_func((GDestroyNotify) mount_op_free);
}

void mount_clear(MountSpec *s) {
        g_clear_pointer(&s->ops, g_ptr_array_unref);
}

/* The caller's home or what it lies in, by whatever name. */
static bool is_whole_home(const char *path, const char *home) {
        g_autofree char *real = path_real(path);

        return !g_str_equal(home, "/") && (path_is_at_or_below(home, path) || (real && path_is_at_or_below(home, real)));
}

bool mount_check(Spec *draft, GError **error) {
        for (guint i = 0; i < draft->mount.ops->len; i++) {
                MountOp *op = g_ptr_array_index(draft->mount.ops, i);
                if (!op->hooks_cow)
                        continue;
                /* `--rw .` of a profile, started at home: every dot file would be the box's to write. */
                if (is_whole_home(op->src, draft->caller.home)) {
                        err_usage(error, "%s: that is your whole home", op->option);
                        return err_hint(error,
                                        "go to the project's directory, or name it; to mean the home: --bind %s %s",
                                        op->src, op->src);
                }
                op->hooks_cow = !draft->mount.rw_hooks;
        }
        return true;
}
