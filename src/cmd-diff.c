/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox diff: what a box changed.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: after the box's run, or beside it.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/number.h"
#include "cmd-verbs.h"
#include "review-list.h"
#include "review-patch.h"

typedef enum { FORM_LIST, FORM_JSON, FORM_STAT, FORM_PATCH } Form;

#define STAT_BAR 40 /* the longest bar of + and - */

typedef struct {
        bool terminal, colour;
        GPtrArray *files; /* of StatFile *, for --stat */
        guint64 added, removed;
} Printer;

typedef struct {
        char *name;
        bool binary;
        guint64 added, removed, old_size, new_size;
} StatFile;

static void stat_file_free(gpointer p) {
        g_free(((StatFile *) p)->name);
        g_free(p);
}

static const char *colour_of_line(const char *line) {
        if (g_str_has_prefix(line, "+++") || g_str_has_prefix(line, "---") || g_str_has_prefix(line, "diff --git") || *line == '#')
                return REVIEW_BOLD;
        return *line == '+' ? REVIEW_GREEN : *line == '-' ? REVIEW_RED : *line == '@' ? REVIEW_CYAN : "";
}

/* A line of a file for a terminal: control characters are shown and not obeyed. */
static void append_shown(GString *out, const char *line) {
        g_autofree char *valid = g_utf8_make_valid(line, -1);

        for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);
                if (c == '\t' || g_unichar_isprint(c))
                        g_string_append_unichar(out, c);
                else if (c < 0x20)
                        g_string_append_printf(out, "^%c", (int) c + '@');
                else
                        g_string_append_printf(out, "\\x{%x}", c);
        }
}

static void append_for_terminal(GString *out, const char *text, bool colour) {
        for (const char *at = text; *at;) {
                const char *newline = strchr(at, '\n');
                g_autofree char *line = g_strndup(at, newline ? (gsize) (newline - at) : strlen(at));
                g_string_append(out, colour ? colour_of_line(line) : "");
                append_shown(out, line);
                g_string_append(out, colour ? REVIEW_PLAIN "\n" : "\n");
                at = newline ? newline + 1 : at + strlen(at);
        }
}

static void print_patch(void *data, const PatchFile *file) {
        const Printer *p = data;
        g_autoptr(GString) shown = g_string_new(NULL);

        if (p->terminal)
                append_for_terminal(shown, file->text, p->colour);
        fputs(p->terminal ? shown->str : file->text, stdout);
}

static void collect_stat(void *data, const PatchFile *file) {
        Printer *p = data;
        StatFile *f = g_new0(StatFile, 1);

        *f = (StatFile){ review_quote("", file->path), file->binary, file->added, file->removed, file->old_size, file->new_size };
        p->added += file->added;
        p->removed += file->removed;
        g_ptr_array_insert(p->files, review_is_hook(file->path) ? 0 : -1, f);
}

static void print_bar(const Printer *p, const char *colour, char c, guint64 n) {
        bool coloured = p->colour && n > 0;

        fputs(coloured ? colour : "", stdout);
        while (n-- > 0)
                putchar(c);
        fputs(coloured ? REVIEW_PLAIN : "", stdout);
}

static void print_stat(const Printer *p) {
        int width = 0;
        guint64 most = 1;

        for (guint i = 0; i < p->files->len; i++) {
                const StatFile *f = p->files->pdata[i];
                width = MAX(width, (int) g_utf8_strlen(f->name, -1));
                most = MAX(most, f->added + f->removed);
        }
        for (guint i = 0; i < p->files->len; i++) {
                const StatFile *f = p->files->pdata[i];
                guint64 scale = MAX(most, STAT_BAR);
                printf(" %s%*s | ", f->name, width - (int) g_utf8_strlen(f->name, -1), "");
                if (f->binary) {
                        printf("Bin %" G_GUINT64_FORMAT " -> %" G_GUINT64_FORMAT " bytes\n", f->old_size, f->new_size);
                        continue;
                }
                printf("%" G_GUINT64_FORMAT " ", f->added + f->removed);
                print_bar(p, REVIEW_GREEN, '+', (f->added * STAT_BAR + scale - 1) / scale);
                print_bar(p, REVIEW_RED, '-', (f->removed * STAT_BAR + scale - 1) / scale);
                putchar('\n');
        }
        printf(" %u file%s changed, %" G_GUINT64_FORMAT " insertion%s(+), %" G_GUINT64_FORMAT " deletion%s(-)\n", p->files->len, number_plural(p->files->len),
               p->added, number_plural(p->added), p->removed, number_plural(p->removed));
}

static bool print_patches(const Review *review, const GPtrArray *changes, const char *strip, GError **error) {
        Printer p = { .terminal = isatty(STDOUT_FILENO), .colour = review_wants_colour() };
        guint unsaid = 0;

        /* Hooks come first, wherever they are. */
        if (!review_patch(review, changes, strip, PATCH_HOOKS, print_patch, &p, &unsaid, error) ||
            !review_patch(review, changes, strip, PATCH_OTHERS, print_patch, &p, &unsaid, error))
                return false;
        if (unsaid > 0) {
                fflush(stdout);
                log_note("%u change%s cannot be said in a patch (binary files, attributes, modes, hidden names, .git): usbox diff lists %s", unsaid,
                         number_plural(unsaid), unsaid == 1 ? "it" : "them");
        }
        return true;
}

static bool count_lines(const Review *review, const GPtrArray *changes, const char *strip, GError **error) {
        g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(stat_file_free);
        Printer p = { .colour = review_wants_colour(), .files = files };
        guint unsaid = 0;

        if (!review_patch(review, changes, strip, PATCH_ALL, collect_stat, &p, &unsaid, error))
                return false;
        print_stat(&p);
        return true;
}

/* Names in a patch are relative to the working directory if all that was asked for lies below it. */
static const char *strip_for(const char *cwd, char *const *paths) {
        size_t n = strlen(cwd);

        if (!*paths)
                return "/";
        for (; *paths; paths++)
                if (strncmp(*paths, cwd, n) != 0 || ((*paths)[n] != '\0' && (*paths)[n] != '/'))
                        return "/";
        return cwd;
}

const VerbOption diff_options[] = {
        { .name = "json", .help = "a JSON object in a line for each change, for programs" },
        { .name = "stat", .help = "count the lines that changed" },
        { .name = "patch", .short_name = 'p', .help = "a unified diff, as git apply takes it" },
        { 0 },
};

static bool form_of(const VerbArgs *args, Form *ret, GError **error) {
        bool json = verb_args_has(args, "json"), stat = verb_args_has(args, "stat"), patch = verb_args_has(args, "patch");

        *ret = json ? FORM_JSON : stat ? FORM_STAT : patch ? FORM_PATCH : FORM_LIST;
        if (json + stat + patch <= 1)
                return true;
        err_usage(error, "diff: one of --json, --stat and --patch");
        err_hint(error, "usbox help diff");
        return err_step(error, "options");
}

int cmd_diff(int argc, char **argv, GError **error) {
        g_auto(VerbArgs) args = { 0 };
        Form form;
        bool complete;

        if (!verb_args_parse(&args, "diff", diff_options, VERB_MIXED, argc, argv, error) || !verb_args_count(&args, "diff", 1, G_MAXUINT, error) ||
            !form_of(&args, &form, error))
                return -1;
        g_autoptr(Spec) draft = spec_new(error);
        g_autoptr(Review) review = draft ? review_open(&draft->caller, verb_args_word(&args, 0), error) : NULL;
        if (!review) {
                err_step(error, "diff");
                return -1;
        }
        g_auto(GStrv) paths = review_paths(draft->caller.cwd, &args);
        g_autoptr(GPtrArray) changes = review_changes(review, (const char *const *) paths, false, &complete);
        if (form == FORM_LIST)
                review_print_list(review, changes, review_wants_colour());
        else if (form == FORM_JSON)
                review_print_json(changes);
        else if (!(form == FORM_PATCH ? print_patches : count_lines)(review, changes, strip_for(draft->caller.cwd, paths), error)) {
                err_step(error, "diff");
                return -1;
        }
        /* A name that was mistyped looks like one at which nothing changed. */
        if (*paths && changes->len == 0) {
                fflush(stdout);
                review_tell_unmatched(review);
        }
        return complete ? 0 : 1;
}
