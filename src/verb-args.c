/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arguments of the verbs other than run, from a table of rows each.
 *
 * Role: verbs. Privileges: none needed. Threads: any.
 */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "verb-args.h"

typedef struct {
        const char *verb;
        const VerbOption *options;
        VerbArgs *args;
        int argc;
        char **argv;
        int next;
} Cursor;

/* The row of a long name, of which len bytes count; NULL where there is none. */
static const VerbOption *find(const Cursor *c, const char *name, size_t len) {
        for (const VerbOption *o = c->options; o->name; o++)
                if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                        return o;
        return NULL;
}

static bool unknown(const Cursor *c, const char *word, GError **error) {
        g_autofree char *quoted = err_quote(word);

        err_usage(error, "%s: unknown option '%s'", c->verb, quoted);
        err_step(error, "options");
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        for (const VerbOption *o = c->options; o->name; o++)
                g_ptr_array_add(names, (gpointer) o->name);
        g_ptr_array_add(names, NULL);
        g_autofree char *typed = g_strndup(word + 2, strcspn(word + 2, "="));
        const char *near = word[1] == '-' ? option_nearest(typed, (const char *const *) names->pdata) : NULL;
        if (find(c, "json", strlen("json")) && (g_str_equal(typed, "format") || g_str_equal(typed, "filter"))) /* podman's */
                return err_hint(error, "--json is for programs, such as jq, which take what they want of it");
        if (near)
                return err_hint(error, "did you mean --%s?", near);
        if (find(c, "signal", strlen("signal")) && (g_ascii_isdigit(word[1]) || g_ascii_isupper(word[1]))) /* kill -9, as kill(1) has it */
                return err_hint(error, "a signal: usbox %s -s %s BOX", c->verb, quoted + 1);
        return err_hint(error, "usbox help %s lists them", c->verb);
}

static void add(const Cursor *c, const VerbOption *o, const char *value) {
        g_ptr_array_add(c->args->names, (gpointer) o->name);
        g_ptr_array_add(c->args->values, (gpointer) value);
}

static bool take(Cursor *c, const VerbOption *o, const char *value, GError **error) {
        if (!o->arg && value) {
                err_usage(error, "%s: --%s takes no value", c->verb, o->name);
                return err_step(error, "options");
        }
        if (o->arg && !value && c->next >= c->argc) {
                err_usage(error, "%s: --%s needs %s", c->verb, o->name, o->arg);
                return err_step(error, "options");
        }
        add(c, o, !o->arg ? "" : value ? value : c->argv[c->next++]);
        return true;
}

static bool take_long(Cursor *c, const char *word, GError **error) {
        const char *equals = strchr(word, '=');
        const VerbOption *o = find(c, word + 2, equals ? (size_t) (equals - word - 2) : strlen(word + 2));

        return o ? take(c, o, equals ? equals + 1 : NULL, error) : unknown(c, word, error);
}

/* -it, -s9, -s 9 */
static bool take_short(Cursor *c, const char *word, GError **error) {
        for (const char *p = word + 1; *p; p++) {
                const VerbOption *o = c->options;
                while (o->name && o->short_name != *p)
                        o++;
                if (!o->name)
                        return unknown(c, word, error);
                if (!take(c, o, o->arg && p[1] ? p + 1 : NULL, error))
                        return false;
                if (o->arg)
                        break;
        }
        return true;
}

bool verb_args_parse(VerbArgs *ret, const char *verb, const VerbOption *options, VerbOrder order, int argc, char **argv, GError **error) {
        Cursor c = { .verb = verb, .options = options, .args = ret, .argc = argc, .argv = argv };

        *ret = (VerbArgs){ .names = g_ptr_array_new(), .values = g_ptr_array_new(), .rest = g_ptr_array_new() };
        while (c.next < argc) {
                const char *word = argv[c.next++];
                bool words_only = order == VERB_FIRST && ret->rest->len > 0;
                if (g_str_equal(word, "--")) {
                        while (c.next < argc)
                                g_ptr_array_add(ret->rest, argv[c.next++]);
                } else if (words_only) {
                        g_ptr_array_add(ret->rest, argv[c.next - 1]);
                        while (c.next < argc)
                                g_ptr_array_add(ret->rest, argv[c.next++]);
                } else if (*word != '-' || word[1] == '\0') {
                        g_ptr_array_add(ret->rest, argv[c.next - 1]);
                } else if (!(word[1] == '-' ? take_long(&c, word, error) : take_short(&c, word, error))) {
                        return false;
                }
        }
        g_ptr_array_add(ret->rest, NULL);
        return true;
}

bool verb_args_count(const VerbArgs *args, const char *verb, guint min, guint max, GError **error) {
        guint n = verb_args_n_words(args);

        if (n >= min && n <= max)
                return true;
        if (n > max) {
                g_autofree char *quoted = err_quote(verb_args_word(args, max));
                err_usage(error, "%s: '%s' is one word too many", verb, quoted);
        } else {
                err_usage(error, "%s: something is missing", verb);
        }
        return err_step(error, "options"); /* main.c's hint is what the verb takes */
}

void verb_args_clear(VerbArgs *args) {
        g_clear_pointer(&args->names, g_ptr_array_unref);
        g_clear_pointer(&args->values, g_ptr_array_unref);
        g_clear_pointer(&args->rest, g_ptr_array_unref);
}

const char *verb_args_get(const VerbArgs *args, const char *name) {
        for (guint i = args->names->len; i-- > 0;)
                if (g_str_equal(g_ptr_array_index(args->names, i), name))
                        return g_ptr_array_index(args->values, i);
        return NULL;
}

bool verb_args_has(const VerbArgs *args, const char *name) {
        return verb_args_get(args, name) != NULL;
}

const char *verb_args_word(const VerbArgs *args, guint n) {
        return n < verb_args_n_words(args) ? g_ptr_array_index(args->rest, n) : NULL;
}

guint verb_args_n_words(const VerbArgs *args) {
        return args->rest->len - 1;
}

bool verb_args_each(const VerbArgs *args, guint first, VerbEach each, void *data, GError **error) {
        g_autoptr(GError) failure = NULL;

        for (guint i = first; i < verb_args_n_words(args); i++) {
                GError *one = NULL;
                if (each(data, verb_args_word(args, i), &one))
                        continue;
                if (failure)
                        log_note("%s: %s", err_get_step(failure), failure->message);
                g_clear_error(&failure);
                failure = one;
        }
        if (!failure)
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}
