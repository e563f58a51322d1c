/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What -o takes, where usbox-fs runs without the launcher.
 *
 * Role: usbox-fs, stand-alone. Privileges: the caller's. Threads: one. Order: first thing.
 *
 * Options come from people, from podman and from mount(8). In what -o takes a comma ends an option and a backslash takes that meaning from it; in
 * paths a backslash also goes before a colon or another backslash, as for the kernel's overlayfs. What has no meaning here but is
 * passed around by others is accepted by name; anything else is an error: a misspelt option must not be one that is silently missing.
 */
#include <string.h>
#include <sys/mount.h>

#include "base/error.h"
#include "fsoverlay/standalone.h"

typedef bool (*ApplyFunc)(StandaloneOptions *o, const char *name, const char *value, GError **error);

typedef struct {
        const char *name;
        bool value; /* NAME=VALUE, where false: NAME alone */
        ApplyFunc apply;
        unsigned long set, clear; /* MS_*; where apply is NULL */
} Option;

static bool bad_value(GError **error, const char *name, const char *value, const char *wanted) {
        g_autofree char *quoted = err_quote(value);
        return err_usage(error, "-o %s: '%s' is not %s", name, quoted, wanted);
}

/* Digits alone: no blanks, signs, prefixes, as strtoull() would have them. */
static bool parse_digits(const char *text, guint64 max, guint64 *ret) {
        guint64 n = 0;

        for (const char *p = text; *p; p++) {
                if (!g_ascii_isdigit(*p) || n > (max - (guint64) (*p - '0')) / 10)
                        return false;
                n = n * 10 + (guint64) (*p - '0');
        }
        *ret = n;
        return *text != '\0';
}

/* A path of one or, with list, more that are separated by colons; each appended to paths. */
static bool parse_paths(const char *name, const char *value, bool list, GPtrArray *paths, GError **error) {
        GString *path = g_string_new(NULL);
        bool ok = true;

        for (const char *p = value;; p++) {
                if (*p == '\\' && p[1] && strchr("\\:,", p[1]))
                        g_string_append_c(path, *++p);
                else if (*p && !(list && *p == ':'))
                        g_string_append_c(path, *p);
                else {
                        if (path->len == 0)
                                ok = err_usage(error, list ? "-o %s: a path of it is empty" : "-o %s: is empty", name);
                        else
                                g_ptr_array_add(paths, g_strdup(path->str));
                        g_string_truncate(path, 0);
                        if (!ok || !*p)
                                break;
                }
        }
        g_string_free(path, TRUE);
        return ok;
}

static bool parse_path(const char *name, const char *value, char **ret, GError **error) {
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

        if (!parse_paths(name, value, false, paths, error))
                return false;
        g_free(*ret);
        *ret = g_ptr_array_steal_index(paths, 0);
        return true;
}

static bool apply_lowerdir(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        g_ptr_array_set_size(o->lowers, 0);
        return parse_paths(name, value, true, o->lowers, error);
}

static bool apply_upperdir(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return parse_path(name, value, &o->upper, error);
}

static bool apply_workdir(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return parse_path(name, value, &o->work, error);
}

/* The process goes to "/" before it writes them. */
static bool parse_file(const char *name, const char *value, char **ret, GError **error) {
        if (!parse_path(name, value, ret, error))
                return false;
        if (!g_path_is_absolute(*ret)) {
                g_autofree char *cwd = g_get_current_dir(), *relative = *ret;
                *ret = g_build_filename(cwd, relative, NULL);
        }
        return true;
}

static bool apply_trace(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return parse_file(name, value, &o->trace, error);
}

static bool apply_stats(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return parse_file(name, value, &o->stats, error);
}

static bool apply_map(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        g_auto(GStrv) parts = g_strsplit(value + (*value == ':'), ":", -1); /* podman's (containers/storage) begin with one */
        GArray *map = g_str_has_prefix(name, "uid") ? o->uidmap : o->gidmap;
        guint n = g_strv_length(parts);

        g_array_set_size(map, 0);
        if (n == 0 || n % 3 != 0 || n / 3 > FS_MAP_LINES_MAX)
                return bad_value(error, name, value, "a list of FIRST:SHOWN:COUNT");
        for (guint i = 0; i < n; i += 3) {
                guint64 from, to, count, ids = G_MAXUINT32; /* the last id is none: (uid_t) -1 */
                if (!parse_digits(parts[i], ids - 1, &from) || !parse_digits(parts[i + 1], ids - 1, &to) || !parse_digits(parts[i + 2], ids, &count) ||
                    count == 0 || from + count > ids || to + count > ids)
                        return bad_value(error, name, value, "a list of FIRST:SHOWN:COUNT");
                fs_config_add_range(map, (guint32) to, (guint32) from, (guint32) count); /* the other way round than in FsConfig */
        }
        return true;
}

static bool apply_squash(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        guint64 id;

        if (!parse_digits(value, G_MAXUINT32 - 1, &id))
                return bad_value(error, name, value, "an id");
        *(g_str_equal(name, "squash_to_uid") ? &o->squash_uid : &o->squash_gid) = (gint64) id;
        return true;
}

/* Of lower precedence than the other two, wherever it stands. */
static bool apply_squash_to_root(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        o->squash_uid = MAX(o->squash_uid, 0);
        o->squash_gid = MAX(o->squash_gid, 0);
        return true;
}

static bool apply_hide(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        GString *text = g_string_new(NULL);
        for (const char *p = value; *p; p++) { /* other backslashes are the pattern's */
                if (*p == '\\' && p[1] == ',')
                        p++;
                g_string_append_c(text, *p);
        }
        g_ptr_array_add(o->hide, g_string_free(text, FALSE));
        return true;
}

static bool apply_cache(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        o->strict = g_str_equal(value, "strict");
        return o->strict || g_str_equal(value, "fast") || bad_value(error, name, value, "fast or strict");
}

static bool apply_polling(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        o->no_polling = g_str_equal(value, "off");
        return o->no_polling || g_str_equal(value, "on") || bad_value(error, name, value, "on or off");
}

/* fuse-overlayfs's word for what cache= is here: what is trusted at all is trusted for good. */
static bool apply_timeout(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        char *end;
        double seconds = g_ascii_strtod(value, &end);

        o->strict = seconds == 0;
        return (g_ascii_isdigit(*value) && !*end) || bad_value(error, name, value, "a number of seconds");
}

static bool apply_threads(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        guint64 n;

        if (!parse_digits(value, FS_THREADS_MAX, &n) || n == 0) {
                g_autofree char *wanted = g_strdup_printf("a number from 1 to %d", FS_THREADS_MAX);
                return bad_value(error, name, value, wanted);
        }
        o->threads = (guint) n;
        return true;
}

static bool apply_disk(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        static const char units[] = "KMGT";
        g_autofree char *number = g_strdup(value);
        size_t len = strlen(number);
        unsigned shift = 0;

        const char *unit = len > 0 ? strchr(units, g_ascii_toupper(number[len - 1])) : NULL;
        if (unit && *unit) {
                shift = 10 * (unsigned) (unit - units + 1);
                number[len - 1] = '\0';
        }
        if (!parse_digits(number, (guint64) G_MAXINT64 >> shift, &o->disk) || o->disk == 0)
                return bad_value(error, name, value, "a size (a number of bytes; K, M, G, T after it are powers of 1024)");
        o->disk <<= shift;
        return true;
}

static bool apply_fsync(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        o->fsync_ignored = g_str_equal(value, "0");
        return o->fsync_ignored || g_str_equal(value, "1") || bad_value(error, name, value, "0 or 1");
}

static bool apply_volatile(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return o->fsync_ignored = true;
}

static bool apply_noacl(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return o->noacl = true;
}

static bool apply_allow_other(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return o->allow_other = true;
}

static bool apply_debug(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return o->debug = o->foreground = true;
}

static bool apply_ro(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return o->read_only = true;
}

static bool apply_rw(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        o->read_only = false;
        return true;
}

static bool apply_fsname(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        return parse_path(name, value, &o->fsname, error);
}

static bool apply_context(StandaloneOptions *o, const char *name, const char *value, GError **error) {
        g_free(o->context);
        o->context = g_strconcat(name, "=", value, NULL);
        return true;
}

static const Option options[] = {
        { "lowerdir", true, apply_lowerdir },
        { "upperdir", true, apply_upperdir },
        { "workdir", true, apply_workdir },
        { "uidmapping", true, apply_map },
        { "gidmapping", true, apply_map },
        { "squash_to_root", false, apply_squash_to_root },
        { "squash_to_uid", true, apply_squash },
        { "squash_to_gid", true, apply_squash },
        { "noacl", false, apply_noacl },
        { "timeout", true, apply_timeout },
        { "cache", true, apply_cache },
        { "threads", true, apply_threads },
        { "max_threads", true, apply_threads },
        { "polling", true, apply_polling },
        { "disk", true, apply_disk },
        { "hide", true, apply_hide },
        { "trace", true, apply_trace },
        { "stats", true, apply_stats },
        { "fsync", true, apply_fsync },
        { "volatile", false, apply_volatile },
        { "debug", false, apply_debug },
        { "allow_other", false, apply_allow_other },
        { "fsname", true, apply_fsname },
        { "context", true, apply_context },
        { "fscontext", true, apply_context },
        { "defcontext", true, apply_context },
        { "rootcontext", true, apply_context },
        { "ro", false, apply_ro },
        { "rw", false, apply_rw },
        /* of mount(2) */
        { "nosuid", .set = MS_NOSUID },
        { "suid", .clear = MS_NOSUID },
        { "nodev", .set = MS_NODEV },
        { "dev", .clear = MS_NODEV },
        { "noexec", .set = MS_NOEXEC },
        { "exec", .clear = MS_NOEXEC },
        { "noatime", .set = MS_NOATIME },
        { "atime", .clear = MS_NOATIME },
        { "nodiratime", .set = MS_NODIRATIME },
        { "diratime", .clear = MS_NODIRATIME },
        { "relatime", .clear = MS_NOATIME },
        { "norelatime" },
        { "strictatime" },
        { "lazytime" },
        { "nolazytime" },
        { "sync", .set = MS_SYNCHRONOUS },
        { "async", .clear = MS_SYNCHRONOUS },
        { "dirsync", .set = MS_DIRSYNC },
        { "defaults" },
        { "auto" },
        { "noauto" },
        { "user" },
        { "nouser" },
        { "users" },
        { "_netdev" },
        { "nofail" },
        /* What is always so here, or needs no saying. */
        { "static_nlink" },
        { "userxattr" },
        { "default_permissions" },
        { "allow_root" },
        { "nonempty" },
        { "clone_fd" },
        { "big_writes" },
        { "xattr_permissions", true },
        { "subtype", true },
        { "max_idle_threads", true },
        { "xino", true },
        { "index", true },
        { "nfs_export", true },
        { "metacopy", true },
        { "redirect_dir", true },
        { "uuid", true },
};

/* Edits from one word to the other, both short. */
static unsigned distance(const char *a, const char *b) {
        unsigned row[64];
        size_t n = strlen(b);

        if (strlen(a) >= G_N_ELEMENTS(row) || n >= G_N_ELEMENTS(row))
                return G_MAXUINT;
        for (size_t j = 0; j <= n; j++)
                row[j] = (unsigned) j;
        for (size_t i = 0; a[i]; i++) {
                unsigned diagonal = row[0];
                row[0] = (unsigned) i + 1;
                for (size_t j = 0; j < n; j++) {
                        unsigned here = MIN(MIN(row[j], row[j + 1]) + 1, diagonal + (a[i] != b[j]));
                        diagonal = row[j + 1];
                        row[j + 1] = here;
                }
        }
        return row[n];
}

static bool unknown_option(const char *name, GError **error) {
        g_autofree char *quoted = err_quote(name);
        const Option *nearest = NULL;
        unsigned best = strlen(name) <= 4 ? 2 : strlen(name) <= 7 ? 3 : 4; /* nearer than that */

        for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
                unsigned d = distance(name, options[i].name);
                if (d < best) {
                        best = d;
                        nearest = &options[i];
                }
        }
        err_usage(error, "-o %s: unknown option", quoted);
        if (nearest)
                return err_hint(error, "did you mean -o %s%s?", nearest->name, nearest->value ? "=…" : "");
        return err_hint(error, "usbox-fs --help lists the options");
}

static bool apply_option(StandaloneOptions *o, const char *text, GError **error) {
        const char *equals = strchr(text, '=');
        g_autofree char *name = equals ? g_strndup(text, (gsize) (equals - text)) : g_strdup(text);

        for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
                const Option *option = &options[i];
                if (!g_str_equal(option->name, name))
                        continue;
                if (option->value && !equals)
                        return err_usage(error, "-o %s: needs a value: %s=…", name, name);
                if (!option->value && equals)
                        return err_usage(error, "-o %s: takes no value", name);
                if (option->apply)
                        return option->apply(o, name, equals ? equals + 1 : NULL, error);
                o->set_flags = (o->set_flags | option->set) & ~option->clear;
                o->clear_flags = (o->clear_flags | option->clear) & ~option->set;
                return true;
        }
        if (g_str_has_prefix(name, "x-") || g_str_has_prefix(name, "comment")) /* mount(8): for others */
                return true;
        return unknown_option(name, error);
}

/* Where the option at p ends. Labels are quoted by who passes them, for they may have commas (context="a:b:c:s0:c1,c2"). */
static const char *option_end(const char *p) {
        const char *value = strchr(p, '=');
        bool label = value && value[1] == '"' && memmem(p, (size_t) (value - p), "context", 7);
        bool quoted = false;

        for (; *p; p++) {
                if (*p == '\\' && p[1])
                        p++;
                else if (*p == '"' && label)
                        quoted = !quoted;
                else if (*p == ',' && !quoted)
                        break;
        }
        return p;
}

bool standalone_apply_options(StandaloneOptions *o, const char *text, GError **error) {
        for (const char *p = text; *p;) {
                const char *end = option_end(p);
                g_autofree char *option = g_strndup(p, (gsize) (end - p));
                if (*option && !apply_option(o, option, error))
                        return false;
                p = end + (*end == ',');
        }
        return true;
}
