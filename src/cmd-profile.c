/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox profile: what profiles there are, and what one says.
 *
 * Role: launcher. Privileges: the caller's. Threads: one.
 */
#include <stdio.h>

#include "base/error.h"
#include "cmd-verbs.h"
#include "home.h"
#include "jsontext.h"
#include "profile.h"
#include "spec.h"

typedef enum { FORM_TABLE, FORM_JSON, FORM_QUIET } Form;

static void print_json(json_t *value_take) {
        g_autofree char *line = jsontext_line(value_take);
        fputs(line, stdout);
}

static void print_quoted(const char *before, const char *text) {
        g_autofree char *quoted = err_quote(text);
        printf("%s%s\n", before, quoted);
}

/* A profile that cannot be read is in the list all the same, with the reason: that is what one looks at the list for.
 */
static int list(const Spec *draft, Form form) {
        g_auto(GStrv) names = profile_names(draft);
        json_t *all = form == FORM_JSON ? json_array() : NULL;

        if (form == FORM_TABLE)
                printf("%-16s %s\n", "NAME", "WHAT");
        for (char **name = names; *name; name++) {
                g_autoptr(GError) why = NULL;
                g_autoptr(Profile) profile = profile_load(draft, *name, &why);

                if (form == FORM_QUIET)
                        puts(*name);
                else if (form == FORM_TABLE) {
                        printf("%-16s ", *name);
                        print_quoted("", profile ? profile->description : why->message);
                } else {
                        json_t *entry = json_object();
                        json_object_set_new(entry, "name", jsontext_string(*name));
                        if (profile) {
                                json_object_set_new(entry, "source", jsontext_string(profile->source));
                                json_object_set_new(entry, "description", jsontext_string(profile->description));
                        } else
                                json_object_set_new(entry, "error", jsontext_string(why->message));
                        json_array_append_new(all, entry);
                }
        }
        if (all)
                print_json(all);
        return 0;
}

static void show_json(const char *name, const Profile *profile) {
        json_t *out = json_object(), *options = json_array();

        json_object_set_new(out, "name", jsontext_string(name));
        json_object_set_new(out, "source", jsontext_string(profile->source));
        json_object_set_new(out, "description", jsontext_string(profile->description));
        json_object_set_new(out, "inherits", jsontext_list((const char *const *) profile->inherits));
        for (guint i = 0; i < profile->items->len; i++) {
                const ProfileItem *item = g_ptr_array_index(profile->items, i);
                json_t *entry = json_object();
                json_object_set_new(entry, "option", json_string(item->option->name));
                json_object_set_new(entry, "value", jsontext_string(item->value));
                json_array_append_new(options, entry);
        }
        json_object_set_new(out, "options", options);
        print_json(out);
}

static int show(const Spec *draft, const char *name, Form form, GError **error) {
        g_autoptr(Profile) profile = profile_load(draft, name, error);

        if (!profile)
                return -1;
        if (form == FORM_JSON) {
                show_json(name, profile);
                return 0;
        }
        print_quoted("# ", profile->source);
        if (*profile->description)
                print_quoted("# ", profile->description);
        for (char **parent = profile->inherits; *parent; parent++)
                print_quoted("inherits ", *parent);
        for (guint i = 0; i < profile->items->len; i++) {
                const ProfileItem *item = g_ptr_array_index(profile->items, i);
                printf("--%s", item->option->name);
                print_quoted("=", item->value);
        }
        return 0;
}

static void print_paths(const char *title, const char *const *paths) {
        printf("\n%s\n", title);
        for (const char *const *path = paths; *path; path++)
                printf("  ~/%s\n", *path);
}

/* What is in force without a profile and without an option, and the lists behind --home. */
static int show_default(Spec *draft, Form form, GError **error) {
        const Spec *spec = spec_build(draft, (char *[]){ (char *) "COMMAND", NULL }, error);
        if (!spec)
                return -1;

        if (form != FORM_JSON) {
                g_autofree char *text = spec_describe(spec);
                fputs(text, stdout);
                print_paths("Of the home, --home=tools shows", home_tools);
                print_paths("but none of these in it", home_tool_secrets);
                printf("\nand by none of these names, wherever they are in it (--overlay=fuse alone)\n");
                for (const char *const *name = home_secret_names; *name; name++)
                        printf("  %s\n", *name);
                print_paths("and --home=all hides those and", home_hidden);
                return 0;
        }
        json_t *out = json_object();
        json_object_set_new(out, "options", spec_to_json(spec));
        json_object_set_new(out, "home_tools", jsontext_list(home_tools));
        json_object_set_new(out, "home_tool_secrets", jsontext_list(home_tool_secrets));
        json_object_set_new(out, "home_secret_names", jsontext_list(home_secret_names));
        json_object_set_new(out, "home_hidden", jsontext_list(home_hidden));
        print_json(out);
        return 0;
}

static int usage(GError **error, const char *text) {
        err_usage(error, "%s", text);
        err_hint(error, "usbox profile list [--json|--quiet], usbox profile show [--json] NAME");
        err_step(error, "options");
        return -1;
}

int cmd_profile(int argc, char **argv, GError **error) {
        const char *words[2] = { NULL };
        Form form = FORM_TABLE;
        int n = 0;

        for (int i = 0; i < argc; i++) {
                if (g_str_equal(argv[i], "--json"))
                        form = FORM_JSON;
                else if (g_str_equal(argv[i], "--quiet") || g_str_equal(argv[i], "-q"))
                        form = FORM_QUIET;
                else if (argv[i][0] == '-' || n == 2) {
                        g_autofree char *quoted = err_quote(argv[i]),
                                        *text = g_strdup_printf("profile: unknown argument '%s'", quoted);
                        return usage(error, text);
                } else
                        words[n++] = argv[i];
        }
        bool is_list = n == 1 && g_str_equal(words[0], "list"), is_show = n == 2 && g_str_equal(words[0], "show");
        if (!is_list && !is_show)
                return usage(error, n == 1 && g_str_equal(words[0], "show") ? "profile show: of which?"
                                                                            : "profile: list or show?");
        if (is_show && form == FORM_QUIET)
                return usage(error, "profile show: --quiet is for list");

        g_autoptr(Spec) draft = spec_new(error);
        if (!draft)
                return -1;
        if (is_list)
                return list(draft, form);
        return g_str_equal(words[1], "default") ? show_default(draft, form, error) : show(draft, words[1], form, error);
}
