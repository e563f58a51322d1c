/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The configuration of usbox-fs: what is packed comes back, and what is wrong is refused with its name.
 */
#include <string.h>

#include "base/error.h"
#include "fsoverlay/config.h"

static FsConfig *round_trip(const FsConfig *config, GError **error) {
        g_autoptr(GVariant) packed = g_variant_ref_sink(fs_config_pack(config));
        g_assert_cmpstr(g_variant_get_type_string(packed), ==, FS_CONFIG_SIGNATURE);
        /* As the wire does it: bytes and back. */
        g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(packed);
        g_autoptr(GVariant) received =
                g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(FS_CONFIG_SIGNATURE), bytes, false));
        g_assert_true(g_variant_is_normal_form(received));
        return fs_config_parse(received, error);
}

static void assert_range(const GArray *map, guint i, guint32 box, guint32 host, guint32 count) {
        const FsIdRange *r = &g_array_index(map, FsIdRange, i);
        g_assert_cmpuint(r->box, ==, box);
        g_assert_cmpuint(r->host, ==, host);
        g_assert_cmpuint(r->count, ==, count);
}

static void test_round_trip(void) {
        static const FsRule rules[] = {
                { FS_RULE_FILTER, (char *) "/" },          { FS_RULE_HIDE, (char *) "/home/u/.ssh" },
                { FS_RULE_SHOW, (char *) "/home/u/p\xff" }, { FS_RULE_EMPTY, (char *) "/proc" },
                { FS_RULE_GLOB, (char *) "**/.env" },      { FS_RULE_GLOB, (char *) "*.pem" },
                { FS_RULE_GLOB, (char *) "/srv/[ab]/?" },  { FS_RULE_GLOB, (char *) "*.pem" },
                { FS_RULE_TOOLS, (char *) "/home/u/.t" },  { FS_RULE_SECRET, (char *) ".key" },
        };
        g_autoptr(FsConfig) config = fs_config_new();
        g_autoptr(GError) error = NULL;

        config->verbose = config->strict = config->others_eyes = config->best_effort_confine = config->read_only = config->no_polling = true;
        config->threads = 4;
        config->disk = G_GUINT64_CONSTANT(1) << 40;
        fs_config_add_range(config->uidmap, 0, 100000, 1000);
        fs_config_add_range(config->uidmap, 1000, 1000, 1);
        fs_config_add_range(config->gidmap, 4294967294, 0, 1);
        for (gsize i = 0; i < G_N_ELEMENTS(rules); i++)
                fs_config_add_rule(config, rules[i].kind, rules[i].path);

        g_autoptr(FsConfig) back = round_trip(config, &error);
        g_assert_no_error(error);
        g_assert_true(back->verbose);
        g_assert_true(back->strict);
        g_assert_true(back->others_eyes);
        g_assert_true(back->best_effort_confine);
        g_assert_true(back->read_only);
        g_assert_true(back->no_polling);
        g_assert_cmpuint(back->threads, ==, 4);
        g_assert_cmpuint(back->disk, ==, G_GUINT64_CONSTANT(1) << 40);
        g_assert_cmpuint(back->uidmap->len, ==, 2);
        assert_range(back->uidmap, 0, 0, 100000, 1000);
        assert_range(back->uidmap, 1, 1000, 1000, 1);
        g_assert_cmpuint(back->gidmap->len, ==, 1);
        assert_range(back->gidmap, 0, 4294967294, 0, 1);
        g_assert_cmpuint(back->rules->len, ==, G_N_ELEMENTS(rules));
        for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
                const FsRule *rule = back->rules->pdata[i];
                g_assert_cmpint(rule->kind, ==, rules[i].kind);
                g_assert_cmpstr(rule->path, ==, rules[i].path);
        }
}

/* Each switch by itself: none stands for another. */
static void test_switches(void) {
        static const char *const names[] = { "verbose", "strict", "others_eyes", "best_effort_confine", "read_only" };

        for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *text = g_strdup_printf("{'%s': <true>}", names[i]);
                g_autoptr(GVariant) dict = g_variant_ref_sink(g_variant_new_parsed(text));
                g_autoptr(GError) error = NULL;
                g_autoptr(FsConfig) config = fs_config_parse(dict, &error);
                g_assert_no_error(error);
                const bool is[] = { config->verbose, config->strict, config->others_eyes, config->best_effort_confine,
                                    config->read_only };
                for (gsize j = 0; j < G_N_ELEMENTS(is); j++)
                        g_assert_cmpint(is[j], ==, i == j);
        }
}

static void test_defaults(void) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) empty = g_variant_ref_sink(g_variant_new_parsed("@a{sv} {}"));
        g_autoptr(FsConfig) config = fs_config_parse(empty, &error);

        g_assert_no_error(error);
        g_assert_false(config->verbose || config->strict || config->others_eyes || config->best_effort_confine ||
                       config->read_only);
        g_assert_cmpuint(config->threads, ==, 0);
        g_assert_cmpuint(config->disk, ==, 0);
        g_assert_cmpuint(config->uidmap->len + config->gidmap->len + config->rules->len, ==, 0);
}

static void test_hostile(void) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "{'threads': <uint32 65>}", "*65 threads are more than 64" },
                { "{'threads': <4>}", "*threads is of type i, not u" },
                { "{'disk': <uint32 4>}", "*disk is of type u, not t" },
                { "{'strict': <1>}", "*strict is of type i, not b" },
                { "{'strict': <true>, 'strict': <true>}", "*strict is given twice" },
                { "{'': <1>}", "*unknown key \"\"" },
                { "{'no\\nsuch': <1>}", "*unknown key \"no\\nsuch\"" },
                { "{'uidmap': <[(uint32 0, uint32 0, uint32 0)]>}", "*uidmap: 0:0:0 is no range of ids" },
                { "{'uidmap': <[(uint32 4294967295, uint32 0, uint32 1)]>}", "*uidmap: * is no range of ids" },
                { "{'gidmap': <[(uint32 0, uint32 4294967290, uint32 6)]>}", "*gidmap: * is no range of ids" },
                { "{'gidmap': <[(uint32 0, uint32 100, uint32 10), (uint32 9, uint32 200, uint32 1)]>}",
                  "*gidmap: 9:200:1 overlaps 0:100:10" },
                { "{'uidmap': <[(uint32 0, uint32 100, uint32 10), (uint32 10, uint32 109, uint32 1)]>}",
                  "*uidmap: 10:109:1 overlaps 0:100:10" },
                { "{'rules': <['/a']>}", "*rules is of type as, not a(yay)" },
                { "{'rules': <[(byte 0x78, b'/a')]>}", "*\"/a\" is of no known kind" },
                { "{'rules': <[(byte 0x00, b'/a')]>}", "*is of no known kind" },
                { "{'rules': <[(byte 0x68, b'')]>}", "*\"\" is empty" },
                { "{'rules': <[(byte 0x68, b'a')]>}", "*\"a\" is not absolute" },
                { "{'rules': <[(byte 0x68, b'/a/')]>}", "*has an empty name in it" },
                { "{'rules': <[(byte 0x73, b'//a')]>}", "*has an empty name in it" },
                { "{'rules': <[(byte 0x66, b'/a/../b')]>}", "*has \".\" or \"..\" in it" },
                { "{'rules': <[(byte 0x65, b'/.')]>}", "*has \".\" or \"..\" in it" },
                { "{'rules': <[(byte 0x67, b'../*')]>}", "*has \".\" or \"..\" in it" },
                { "{'rules': <[(byte 0x67, b'a//b')]>}", "*has an empty name in it" },
                { "{'rules': <[(byte 0x67, b'')]>}", "*is empty" },
                { "{'rules': <[(byte 0x67, b'/')]>}", "*has an empty name in it" },
                { "{'rules': <[(byte 0x68, @ay [])]>}", "*is no string" },
                { "{'rules': <[(byte 0x68, @ay [0x2f, 0x61])]>}", "*is no string" },
                { "{'rules': <[(byte 0x68, @ay [0x2f, 0x00, 0x61, 0x00])]>}", "*is no string" },
                { "{'rules': <[(byte 0x68, b'/a'), (byte 0x73, b'/a')]>}", "*two rules for \"/a\"" },
        };

        for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(GVariant) dict =
                        g_variant_parse(G_VARIANT_TYPE(FS_CONFIG_SIGNATURE), rows[i].text, NULL, NULL, &error);
                g_assert_no_error(error);
                g_autoptr(FsConfig) config = fs_config_parse(dict, &error);
                if (config)
                        g_error("%s was taken", rows[i].text);
                g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
                if (!g_pattern_match_simple(rows[i].message, error->message))
                        g_error("%s: \"%s\" is not \"%s\"", rows[i].text, error->message, rows[i].message);
        }
}

/* The first length that is refused, and the last that is not. */
static void test_sizes(void) {
        for (unsigned over = 0; over < 2; over++) {
                g_autofree char *name = g_strnfill(255 + over, 'n'), *path = g_strconcat("/", name, NULL);
                g_autoptr(FsConfig) config = fs_config_new(), many = fs_config_new(), lines = fs_config_new();
                g_autoptr(GError) error = NULL;

                fs_config_add_rule(config, FS_RULE_HIDE, path);
                g_autoptr(FsConfig) back = round_trip(config, &error);
                g_assert_true(over ? error && strstr(error->message, "too long") : back != NULL);

                /* 4095 bytes are a path, 4096 none. */
                g_autoptr(GString) deep = g_string_new(NULL);
                while (deep->len < 4095 + over)
                        g_string_append(deep, deep->len % 2 ? "d" : "/");
                g_assert_cmpuint(deep->str[deep->len - 1] == '/', ==, !over);
                deep->str[deep->len - 1] = 'd';
                if (!over)
                        deep->str[deep->len - 2] = 'd';
                g_clear_error(&error);
                g_assert_cmpint(fs_rule_check(FS_RULE_SHOW, deep->str, &error), ==, !over);
                g_assert_true(!over || strstr(error->message, "too long"));

                for (unsigned i = 0; i < FS_RULES_MAX + over; i++)
                        fs_config_add_rule(many, FS_RULE_GLOB, "x");
                g_clear_error(&error);
                g_autoptr(FsConfig) many_back = round_trip(many, &error);
                g_assert_true(over ? error && strstr(error->message, "more than 8192 rules") : many_back != NULL);

                for (unsigned i = 0; i < FS_MAP_LINES_MAX + over; i++)
                        fs_config_add_range(lines->gidmap, 2 * i, 2 * i, 1);
                g_clear_error(&error);
                g_autoptr(FsConfig) lines_back = round_trip(lines, &error);
                g_assert_true(over ? error && strstr(error->message, "gidmap has more than 340 lines") : lines_back != NULL);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs-config/round-trip", test_round_trip);
        g_test_add_func("/fs-config/switches", test_switches);
        g_test_add_func("/fs-config/defaults", test_defaults);
        g_test_add_func("/fs-config/hostile", test_hostile);
        g_test_add_func("/fs-config/sizes", test_sizes);
        return g_test_run();
}
