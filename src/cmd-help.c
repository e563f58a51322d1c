/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox help: verbs and options, from their tables.
 *
 * `help run --json` is the table for programs: completions and the man page's list of options are made from it.
 *
 * Role: launcher. Privileges: none needed. Threads: one.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "cmd-verbs.h"
#include "jsonout.h"
#include "option.h"

#define COLUMN 32 /* where the text of an option begins */
#define WIDTH_MIN 80
#define WIDTH_MAX 100

static unsigned width(void) {
        struct winsize size;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
                return WIDTH_MIN;
        return CLAMP(size.ws_col, WIDTH_MIN, WIDTH_MAX);
}

/* head at the left, text in a column beside it, folded at blanks. */
static void print_entry(const char *head, const char *text, unsigned columns) {
        g_auto(GStrv) words = g_strsplit(text, " ", -1);
        size_t at = strlen(head);

        fputs(head, stdout);
        if (at + 2 > COLUMN) {
                putchar('\n');
                at = 0;
        }
        printf("%*s", (int) (COLUMN - at), "");
        at = COLUMN;
        for (char **word = words; *word; word++) {
                if (at > COLUMN && at + 1 + strlen(*word) > columns) {
                        printf("\n%*s", COLUMN, "");
                        at = COLUMN;
                }
                printf("%s%s", at > COLUMN ? " " : "", *word);
                at += (at > COLUMN) + strlen(*word);
        }
        putchar('\n');
}

static void print_option(const Option *o, unsigned columns) {
        g_autoptr(GString) head = g_string_new("  ");

        if (o->short_name)
                g_string_append_printf(head, "-%c, ", o->short_name);
        else
                g_string_append(head, "    ");
        g_string_append_printf(head, "--%s", o->name);
        if (o->arg)
                g_string_append_printf(head, " %s", o->arg);
        else if (o->choices)
                g_string_append_printf(head, "[=%s]", o->choices);
        print_entry(head->str, o->help, columns);
}

static void print_run_options(void) {
        unsigned columns = width();
        int group = -1;

        for (const Option *const *o = option_all(); *o; o++) {
                if ((int) (*o)->group != group) {
                        group = (int) (*o)->group;
                        printf("\n%s:\n", option_group_title((*o)->group));
                }
                print_option(*o, columns);
        }
        fputs("\n"
              "Options end at the first word that is none, or at --. What the options mean together, the\n"
              "profiles and the exit statuses: usbox(1), usbox-profile(5).\n",
              stdout);
}

int cmd_help_verb(const Verb *verb) {
        printf("usage: usbox %s%s%s\n\n%c%s.\n", verb->name, *verb->arguments ? " " : "", verb->arguments,
               g_ascii_toupper(verb->help[0]), verb->help + 1);
        if (verb->run == cmd_run)
                print_run_options();
        return 0;
}

static void print_overview(void) {
        fputs("usage: usbox VERB [ARGUMENT...]\n"
              "\n"
              "Runs a command as you, in a box: a copy-on-write view of this machine, a network of its own,\n"
              "no rights. No root, no daemon.\n"
              "\n",
              stdout);
        for (const Verb *verb = verbs; verb->name; verb++)
                printf("  %-10s %s\n", verb->name, verb->help);
        fputs("\n"
              "  usbox run -- make              build here; nothing on the machine changes\n"
              "  usbox run --rw . -- make       the same, but this directory is written through\n"
              "  usbox run --network none -u root -- sh\n"
              "  usbox help run                 all options\n",
              stdout);
}

static void json_optional(GString *out, const char *key, const char *value) {
        if (value)
                jsonout_add_string(out, key, value);
}

static void json_option(GString *out, const Option *o) {
        static const char *const completions[] = {
                [COMPLETE_NONE] = "none",       [COMPLETE_FILE] = "file",       [COMPLETE_DIR] = "dir",
                [COMPLETE_CHOICES] = "choices", [COMPLETE_PROFILE] = "profile", [COMPLETE_USER] = "user",
                [COMPLETE_SIGNAL] = "signal",
        };
        char short_name[] = { o->short_name, '\0' };

        g_string_append_c(out, '{');
        jsonout_add_string(out, "name", o->name);
        json_optional(out, "short", o->short_name ? short_name : NULL);
        json_optional(out, "alias", o->alias);
        json_optional(out, "arg", o->arg);
        jsonout_add_string(out, "group", option_group_title(o->group));
        jsonout_add_bool(out, "list", o->flags & OPTION_LIST);
        jsonout_add_bool(out, "two", o->flags & OPTION_TWO);
        jsonout_add_bool(out, "profile", option_in_profile(o));
        jsonout_add_string(out, "complete", completions[o->complete]);
        json_optional(out, "choices", o->choices);
        jsonout_add_string(out, "help", o->help);
        g_string_append_c(out, '}');
}

static void print_json(const Verb *only) {
        g_autoptr(GString) out = g_string_new("{");

        jsonout_add_key(out, "verbs");
        g_string_append_c(out, '[');
        for (const Verb *verb = only ? only : verbs; verb->name; verb++) {
                g_string_append(out, out->str[out->len - 1] == '[' ? "{" : ",{");
                jsonout_add_string(out, "name", verb->name);
                jsonout_add_string(out, "arguments", verb->arguments);
                jsonout_add_string(out, "help", verb->help);
                g_string_append_c(out, '}');
                if (only)
                        break;
        }
        g_string_append_c(out, ']');
        if (!only || only->run == cmd_run) {
                jsonout_add_key(out, "options");
                g_string_append_c(out, '[');
                for (const Option *const *o = option_all(); *o; o++) {
                        if (out->str[out->len - 1] != '[')
                                g_string_append_c(out, ',');
                        json_option(out, *o);
                }
                g_string_append_c(out, ']');
        }
        printf("%s}\n", out->str);
}

int cmd_help(int argc, char **argv, GError **error) {
        const Verb *verb = NULL;
        bool json = false;

        for (int i = 0; i < argc; i++) {
                const Verb *found = verbs;

                if (g_str_equal(argv[i], "--json")) {
                        json = true;
                        continue;
                }
                while (found->name && !g_str_equal(found->name, argv[i]))
                        found++;
                if (!found->name || verb) {
                        g_autofree char *quoted = err_quote(argv[i]);
                        err_usage(error, "help: no verb '%s'", quoted);
                        err_hint(error, "'usbox help' lists them");
                        err_step(error, "options");
                        return -1;
                }
                verb = found;
        }
        if (json)
                print_json(verb);
        else if (verb)
                cmd_help_verb(verb);
        else
                print_overview();
        return 0;
}
