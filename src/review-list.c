/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box changed, as a list.
 *
 * Role: diff. Privileges: the caller's. Threads: one. Order: after review_changes().
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/diff.h"
#include "review-list.h"

static const struct {
        unsigned bit;
        const char *name;
} parts[] = {
        { CHANGE_CONTENT, "content" }, { CHANGE_MODE, "mode" }, { CHANGE_OWNER, "owner" },
        { CHANGE_XATTR, "xattr" },     { CHANGE_TIME, "time" }, { CHANGE_PLACE, "place" },
};

bool review_wants_colour(void) {
        const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
        return isatty(STDOUT_FILENO) && !(no && *no) && !(term && g_str_equal(term, "dumb"));
}

static const char *colour_of(ChangeKind kind) {
        switch (kind) {
        case CHANGE_ADDED:
                return REVIEW_GREEN;
        case CHANGE_DELETED:
                return REVIEW_RED;
        case CHANGE_TYPE:
                return REVIEW_MAGENTA;
        default:
                return REVIEW_YELLOW;
        }
}

static void add_note(GString *notes, const char *text) {
        g_string_append_printf(notes, "%s%s", notes->len ? ", " : "", text);
}

static void add_link(const Review *review, const ReviewChange *c, GString *notes) {
        char target[PATH_MAX];
        _cleanup_close_ int fd = review_open_upper(review, c->path, O_PATH);
        ssize_t n = fd >= 0 ? readlinkat(fd, "", target, sizeof target - 1) : -1;

        if (n < 0)
                return;
        target[n] = '\0';
        g_autofree char *quoted = review_quote("", target), *note = g_strconcat("symlink to ", quoted, NULL);
        add_note(notes, note);
}

/* What the letter and the path do not say. The content of a file is what one expects of an M. */
static char *notes_of(const Review *review, const ReviewChange *c) {
        g_autoptr(GString) notes = g_string_new(NULL);

        if (c->kind == CHANGE_TYPE)
                g_string_printf(notes, "%s, was %s", changes_type_name(c->st.st_mode), changes_type_name(c->below.st_mode));
        for (guint i = 1; c->kind == CHANGE_MODIFIED && i < G_N_ELEMENTS(parts); i++) {
                if (!(c->what & parts[i].bit) || parts[i].bit == CHANGE_PLACE || (parts[i].bit == CHANGE_TIME && c->what & CHANGE_CONTENT))
                        continue;
                add_note(notes, parts[i].name);
                if (parts[i].bit == CHANGE_MODE)
                        g_string_append_printf(notes, " %04o, was %04o", c->st.st_mode & 07777u, c->below.st_mode & 07777u);
        }
        if (c->has_st && S_ISLNK(c->st.st_mode))
                add_link(review, c, notes);
        else if (c->has_st && !S_ISREG(c->st.st_mode) && !S_ISDIR(c->st.st_mode) && c->kind != CHANGE_TYPE)
                add_note(notes, changes_type_name(c->st.st_mode));
        if (c->has_st && S_ISREG(c->st.st_mode) && c->st.st_mode & (S_ISUID | S_ISGID))
                add_note(notes, "set-id");
        if (c->redirect) {
                g_autofree char *from = review_quote("", c->redirect), *note = g_strconcat("renamed, was ", from, NULL);
                add_note(notes, note);
        } else if (c->opaque)
                add_note(notes, "a new directory");
        if (c->hidden)
                add_note(notes, "the host has this name, hidden from the box");
        return notes->len ? g_strdup_printf("  (%s)", notes->str) : g_strdup("");
}

static void print_change(const Review *review, const ReviewChange *c, bool colour) {
        g_autofree char *path = review_quote("", c->path), *notes = notes_of(review, c);
        bool is_dir = S_ISDIR(c->has_st ? c->st.st_mode : c->below.st_mode);

        printf("%s%c%s  %s%s%s\n", colour ? colour_of(c->kind) : "", c->kind, colour ? REVIEW_PLAIN : "", path, is_dir && path[1] ? "/" : "", notes);
}

void review_print_list(const Review *review, const GPtrArray *changes, bool colour) {
        guint hooks = 0;

        for (guint i = 0; i < changes->len; i++) {
                const ReviewChange *c = changes->pdata[i];
                if (!c->hook)
                        continue;
                if (hooks++ == 0)
                        printf("%sProject hooks, which other programs run or obey without being asked:%s\n", colour ? REVIEW_BOLD REVIEW_RED : "",
                               colour ? REVIEW_PLAIN : "");
                print_change(review, c, colour);
        }
        if (hooks > 0 && hooks < changes->len)
                printf("%sOther changes:%s\n", colour ? REVIEW_BOLD : "", colour ? REVIEW_PLAIN : "");
        for (guint i = 0; i < changes->len; i++)
                if (!((const ReviewChange *) changes->pdata[i])->hook)
                        print_change(review, changes->pdata[i], colour);
}

static void print_json(const ReviewChange *c, GString *line) {
        g_string_truncate(line, 0);
        diff_append(line, &(Change){ .kind = c->kind,
                                     .path = c->path,
                                     .st = c->has_st ? &c->st : NULL,
                                     .below = c->has_below ? &c->below : NULL,
                                     .opaque = c->opaque,
                                     .redirect = c->redirect });
        if (c->kind == CHANGE_MODIFIED) {
                g_string_append(line, ",\"what\":[");
                for (guint i = 0, n = 0; i < G_N_ELEMENTS(parts); i++)
                        if (c->what & parts[i].bit)
                                g_string_append_printf(line, "%s\"%s\"", n++ ? "," : "", parts[i].name);
                g_string_append_c(line, ']');
        }
        g_string_append_printf(line, "%s%s}\n", c->hidden ? ",\"hidden\":true" : "", c->hook ? ",\"hook\":true" : "");
        fputs(line->str, stdout);
}

void review_print_json(const GPtrArray *changes) {
        g_autoptr(GString) line = g_string_new(NULL);

        for (int hooks = 1; hooks >= 0; hooks--)
                for (guint i = 0; i < changes->len; i++)
                        if (((const ReviewChange *) changes->pdata[i])->hook == hooks)
                                print_json(changes->pdata[i], line);
}
