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
#include "jsontext.h"
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

static void print_verb_options(const VerbOption *options) {
        unsigned columns = width();

        for (const VerbOption *o = options; o->name; o++) {
                const Option row = { .name = o->name, .short_name = o->short_name, .arg = o->arg, .help = o->help };
                fputs(o == options ? "\n" : "", stdout);
                print_option(&row, columns);
        }
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

#define RUN_SEES "\n" \
        "COMMAND is a program of this machine. It sees the machine's files, copy-on-write: what it changes is\n" \
        "kept apart, and usbox diff, commit and drop are about that. Of your home directory it sees the\n" \
        "working directory's tree and toolchains (--home, --ro, --rw).\n"

int cmd_help_verb(const Verb *verb) {
        printf("usage: usbox %s%s%s\n\n%c%s.\n", verb->name, *verb->arguments ? " " : "", verb->arguments,
               g_ascii_toupper(verb->help[0]), verb->help + 1);
        if (verb->run == cmd_run) {
                fputs(RUN_SEES, stdout);
                print_run_options();
        } else if (verb->options) {
                print_verb_options(verb->options);
        }
        if (verb->box)
                puts("\nBOX is a name, an id, a beginning of an id that no other has, or \"last\".");
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

static void set_optional(json_t *object, const char *key, const char *value) {
        if (value)
                json_object_set_new(object, key, json_string(value));
}

static const char *completion_name(OptionComplete complete) {
        static const char *const names[] = {
                [COMPLETE_NONE] = "none",       [COMPLETE_FILE] = "file",       [COMPLETE_DIR] = "dir",
                [COMPLETE_CHOICES] = "choices", [COMPLETE_PROFILE] = "profile", [COMPLETE_USER] = "user",
                [COMPLETE_SIGNAL] = "signal",   [COMPLETE_BOX] = "box",         [COMPLETE_POD] = "pod",
        };
        return names[complete];
}

static json_t *option_to_json(const Option *o) {
        char short_name[] = { o->short_name, '\0' };
        json_t *out = json_object();

        json_object_set_new(out, "name", json_string(o->name));
        set_optional(out, "short", o->short_name ? short_name : NULL);
        set_optional(out, "alias", o->alias);
        set_optional(out, "arg", o->arg);
        json_object_set_new(out, "group", json_string(option_group_title(o->group)));
        json_object_set_new(out, "list", json_boolean(o->flags & OPTION_LIST));
        json_object_set_new(out, "two", json_boolean(o->flags & OPTION_TWO));
        json_object_set_new(out, "profile", json_boolean(option_in_profile(o)));
        json_object_set_new(out, "complete", json_string(completion_name(o->complete)));
        set_optional(out, "choices", o->choices);
        json_object_set_new(out, "help", json_string(o->help));
        return out;
}

static json_t *verb_to_json(const Verb *verb) {
        json_t *out = json_pack("{s:s, s:s, s:s, s:b}", "name", verb->name, "arguments", verb->arguments, "help", verb->help, "box", verb->box);
        json_t *options = json_array();

        for (const VerbOption *o = verb->options; o && o->name; o++) {
                char short_name[] = { o->short_name, '\0' };
                json_t *row = json_pack("{s:s, s:s, s:s}", "name", o->name, "complete", completion_name(o->complete), "help", o->help);
                set_optional(row, "short", o->short_name ? short_name : NULL);
                set_optional(row, "arg", o->arg);
                set_optional(row, "choices", o->choices);
                json_array_append_new(options, row);
        }
        json_object_set_new(out, "options", options);
        return out;
}

static void print_json(const Verb *only) {
        json_t *out = json_object(), *list = json_array();

        for (const Verb *verb = only ? only : verbs; verb->name; verb++) {
                json_array_append_new(list, verb_to_json(verb));
                if (only)
                        break;
        }
        json_object_set_new(out, "verbs", list);
        if (!only || only->run == cmd_run) {
                json_t *options = json_array();
                for (const Option *const *o = option_all(); *o; o++)
                        json_array_append_new(options, option_to_json(*o));
                json_object_set_new(out, "options", options);
        }
        g_autofree char *line = jsontext_line(out);
        fputs(line, stdout);
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
                /* pod's and profile's page has what stands behind them: usbox help pod create. */
                if (verb && (verb->run == cmd_pod || verb->run == cmd_profile) && i == 1)
                        continue;
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
