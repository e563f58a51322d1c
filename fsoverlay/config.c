/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of usbox-fs: packing on the launcher's side, parsing on usbox-fs's.
 *
 * Role: launcher and usbox-fs. Privileges: none needed. Threads: any. Order: first thing over the wire.
 *
 * The launcher is trusted, but paths come from a command line and a host: what is parsed is checked in full, so that no
 * later step has to ask whether a path is one. Paths are bytes, as the kernel has them, and no UTF-8.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/dict.h"
#include "base/error.h"
#include "fsoverlay/config.h"

#define ID_END G_GUINT64_CONSTANT(4294967295) /* the id after the last: (uid_t) -1 is none */

static void rule_free(gpointer p) {
        FsRule *rule = p;
        g_free(rule->path);
        g_free(rule);
}

FsConfig *fs_config_new(void) {
        FsConfig *config = g_new0(FsConfig, 1);
        config->uidmap = g_array_new(FALSE, FALSE, sizeof(FsIdRange));
        config->gidmap = g_array_new(FALSE, FALSE, sizeof(FsIdRange));
        config->rules = g_ptr_array_new_with_free_func(rule_free);
        return config;
}

void fs_config_free(FsConfig *config) {
        if (!config)
                return;
        g_array_unref(config->uidmap);
        g_array_unref(config->gidmap);
        g_ptr_array_unref(config->rules);
        g_free(config);
}

void fs_config_add_rule(FsConfig *config, FsRuleKind kind, const char *path) {
        FsRule *rule = g_new(FsRule, 1);
        *rule = (FsRule){ .kind = kind, .path = g_strdup(path) };
        g_ptr_array_add(config->rules, rule);
}

void fs_config_add_range(GArray *map, guint32 box, guint32 host, guint32 count) {
        FsIdRange range = { .box = box, .host = host, .count = count };
        g_array_append_val(map, range);
}

/* Names between slashes: none empty, none "." or "..", none longer than the kernel takes. */
static const char *bad_names(const char *path) {
        for (const char *name = path;;) {
                size_t len = strcspn(name, "/");
                if (len == 0)
                        return "has an empty name in it";
                if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
                        return "has \".\" or \"..\" in it";
                if (len > NAME_MAX)
                        return "has a name in it that is too long";
                if (!name[len])
                        return NULL;
                name += len + 1;
        }
}

static const char *bad_path(FsRuleKind kind, const char *path) {
        if (kind != FS_RULE_HIDE && kind != FS_RULE_GLOB && kind != FS_RULE_FILTER && kind != FS_RULE_SHOW &&
            kind != FS_RULE_EMPTY && kind != FS_RULE_TOOLS && kind != FS_RULE_SECRET)
                return "is of no known kind";
        if (!*path)
                return "is empty";
        if (strlen(path) >= PATH_MAX)
                return "is too long";
        if (kind == FS_RULE_GLOB)
                return bad_names(*path == '/' ? path + 1 : path);
        if (kind == FS_RULE_SECRET)
                return strchr(path, '/') ? "is no name" : bad_names(path);
        if (*path != '/')
                return "is not absolute";
        return path[1] ? bad_names(path + 1) : NULL;
}

bool fs_rule_check(FsRuleKind kind, const char *path, GError **error) {
        const char *problem = bad_path(kind, path);
        if (!problem)
                return true;
        g_autofree char *clipped = g_strndup(path, 256), *quoted = err_quote(clipped);
        return err_usage(error, "\"%s\" %s", quoted, problem);
}

static GVariant *pack_map(const GArray *map) {
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE("a(uuu)"));
        for (guint i = 0; i < map->len; i++) {
                const FsIdRange *r = &g_array_index(map, FsIdRange, i);
                g_variant_builder_add(&builder, "(uuu)", r->box, r->host, r->count);
        }
        return g_variant_builder_end(&builder);
}

static GVariant *pack_rules(const GPtrArray *rules) {
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE("a(yay)"));
        for (guint i = 0; i < rules->len; i++) {
                const FsRule *rule = rules->pdata[i];
                g_variant_builder_add(&builder, "(y^ay)", (guchar) rule->kind, rule->path);
        }
        return g_variant_builder_end(&builder);
}

GVariant *fs_config_pack(const FsConfig *config) {
        GVariantBuilder builder;
        g_variant_builder_init(&builder, G_VARIANT_TYPE(FS_CONFIG_SIGNATURE));
        g_variant_builder_add(&builder, "{sv}", "verbose", g_variant_new_boolean(config->verbose));
        g_variant_builder_add(&builder, "{sv}", "strict", g_variant_new_boolean(config->strict));
        g_variant_builder_add(&builder, "{sv}", "others_eyes", g_variant_new_boolean(config->others_eyes));
        g_variant_builder_add(&builder, "{sv}", "best_effort_confine", g_variant_new_boolean(config->best_effort_confine));
        g_variant_builder_add(&builder, "{sv}", "read_only", g_variant_new_boolean(config->read_only));
        g_variant_builder_add(&builder, "{sv}", "no_polling", g_variant_new_boolean(config->no_polling));
        g_variant_builder_add(&builder, "{sv}", "threads", g_variant_new_uint32(config->threads));
        g_variant_builder_add(&builder, "{sv}", "disk", g_variant_new_uint64(config->disk));
        g_variant_builder_add(&builder, "{sv}", "uidmap", pack_map(config->uidmap));
        g_variant_builder_add(&builder, "{sv}", "gidmap", pack_map(config->gidmap));
        g_variant_builder_add(&builder, "{sv}", "rules", pack_rules(config->rules));
        return g_variant_builder_end(&builder);
}

static bool parse_map(const char *name, GVariant *array, GArray *map, GError **error) {
        guint32 box, host, count;
        GVariantIter iter;

        g_variant_iter_init(&iter, array);
        while (g_variant_iter_next(&iter, "(uuu)", &box, &host, &count)) {
                if (map->len == FS_MAP_LINES_MAX)
                        return err_usage(error, "file system configuration: %s has more than %d lines", name, FS_MAP_LINES_MAX);
                if (count == 0 || (guint64) box + count > ID_END || (guint64) host + count > ID_END)
                        return err_usage(error, "file system configuration: %s: %u:%u:%u is no range of ids", name, box, host, count);
                for (guint i = 0; i < map->len; i++) {
                        const FsIdRange *r = &g_array_index(map, FsIdRange, i);
                        if ((box < (guint64) r->box + r->count && r->box < (guint64) box + count) ||
                            (host < (guint64) r->host + r->count && r->host < (guint64) host + count))
                                return err_usage(error, "file system configuration: %s: %u:%u:%u overlaps %u:%u:%u", name, box,
                                                 host, count, r->box, r->host, r->count);
                }
                fs_config_add_range(map, box, host, count);
        }
        return true;
}

/* A byte string as a C string: it ends in its only NUL. */
static const char *as_string(GVariant *bytes) {
        gsize len;
        const char *text = g_variant_get_fixed_array(bytes, &len, 1);
        return len > 0 && memchr(text, '\0', len) == text + len - 1 ? text : NULL;
}

static bool parse_rules(GVariant *array, FsConfig *config, GError **error) {
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        GVariantIter iter;

        if (g_variant_n_children(array) > FS_RULES_MAX)
                return err_usage(error, "file system configuration: more than %d rules", FS_RULES_MAX);
        g_variant_iter_init(&iter, array);
        for (;;) {
                g_autoptr(GVariant) bytes = NULL;
                guchar kind;
                if (!g_variant_iter_next(&iter, "(y@ay)", &kind, &bytes))
                        return true;
                const char *path = as_string(bytes);
                if (!path)
                        return err_usage(error, "file system configuration: the path of a rule is no string");
                if (!fs_rule_check((FsRuleKind) kind, path, error)) {
                        g_prefix_error(error, "file system configuration: rule: ");
                        return false;
                }
                fs_config_add_rule(config, (FsRuleKind) kind, path);
                const FsRule *rule = config->rules->pdata[config->rules->len - 1];
                if (kind != FS_RULE_GLOB && kind != FS_RULE_SECRET && !g_hash_table_add(seen, rule->path)) {
                        g_autofree char *quoted = err_quote(path);
                        return err_usage(error, "file system configuration: two rules for \"%s\"", quoted);
                }
        }
}

typedef enum {
        KEY_VERBOSE,
        KEY_STRICT,
        KEY_OTHERS_EYES,
        KEY_BEST_EFFORT_CONFINE,
        KEY_READ_ONLY,
        KEY_NO_POLLING,
        KEY_THREADS,
        KEY_DISK,
        KEY_UIDMAP,
        KEY_GIDMAP,
        KEY_RULES,
        KEY_MAX
} ConfigKey;

static const DictKey config_keys[KEY_MAX] = {
        [KEY_VERBOSE] = { "verbose", "b" },
        [KEY_STRICT] = { "strict", "b" },
        [KEY_OTHERS_EYES] = { "others_eyes", "b" },
        [KEY_BEST_EFFORT_CONFINE] = { "best_effort_confine", "b" },
        [KEY_READ_ONLY] = { "read_only", "b" },
        [KEY_NO_POLLING] = { "no_polling", "b" },
        [KEY_THREADS] = { "threads", "u" },
        [KEY_DISK] = { "disk", "t" },
        [KEY_UIDMAP] = { "uidmap", "a(uuu)" },
        [KEY_GIDMAP] = { "gidmap", "a(uuu)" },
        [KEY_RULES] = { "rules", "a(yay)" },
};

static bool apply_key(void *data, unsigned key, GVariant *value, GError **error) {
        FsConfig *config = data;
        bool *const switches[] = { [KEY_VERBOSE] = &config->verbose,
                                   [KEY_STRICT] = &config->strict,
                                   [KEY_OTHERS_EYES] = &config->others_eyes,
                                   [KEY_BEST_EFFORT_CONFINE] = &config->best_effort_confine,
                                   [KEY_READ_ONLY] = &config->read_only,
                                   [KEY_NO_POLLING] = &config->no_polling };

        switch ((ConfigKey) key) {
        case KEY_VERBOSE:
        case KEY_STRICT:
        case KEY_OTHERS_EYES:
        case KEY_BEST_EFFORT_CONFINE:
        case KEY_READ_ONLY:
        case KEY_NO_POLLING:
                *switches[key] = g_variant_get_boolean(value);
                return true;
        case KEY_THREADS:
                config->threads = g_variant_get_uint32(value);
                if (config->threads > FS_THREADS_MAX)
                        return err_usage(error, "file system configuration: %u threads are more than %d", config->threads,
                                         FS_THREADS_MAX);
                return true;
        case KEY_DISK:
                config->disk = g_variant_get_uint64(value);
                return true;
        case KEY_UIDMAP:
                return parse_map("uidmap", value, config->uidmap, error);
        case KEY_GIDMAP:
                return parse_map("gidmap", value, config->gidmap, error);
        case KEY_RULES:
                return parse_rules(value, config, error);
        case KEY_MAX:
                break;
        }
        g_assert_not_reached();
}

FsConfig *fs_config_parse(GVariant *dict, GError **error) {
        g_autoptr(FsConfig) config = fs_config_new();

        return dict_parse(dict, "file system configuration", config_keys, KEY_MAX, apply_key, config, error) ? g_steal_pointer(&config) : NULL;
}

bool fs_mark_failed(int errnum, GError **error) {
        err_set(error, errnum, "mark the upper directory");
        if (errnum == EPERM)
                err_hint(error, "it lies on an overlay, such as a box's or a container's root, which keeps such marks (" XATTR_PRIVATE "*) for itself: take a "
                                "directory on another file system (usbox: export XDG_DATA_HOME=/tmp/usbox)");
        return false;
}
