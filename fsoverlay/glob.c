/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Patterns of names and paths (--hide).
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any; a Glob never changes. Order: under rules.c.
 *
 * Theory of operation. A pattern is cut at its slashes once; a path is walked name by name, in place. One algorithm serves twice, for the
 * bytes of a name and for the names of a path: go on as far as it fits; when it does not, go back to the last star alone and let that take
 * one more. Going back further is never of use, since what lies between two stars fits best where it fits first. So the time is
 * the path's length times a number that the pattern alone decides, whatever a hostile name looks like.
 */
#include <string.h>

#include "fsoverlay/glob.h"

typedef struct {
        const char *text;
        size_t len;
        bool any; /* "**" between slashes */
} Segment;

struct Glob {
        char *pattern; /* what the segments are parts of */
        GArray *segments;
        char *literal;
        bool of_names, of_directories;
};

/* Takes the set at p ("[", not after it) apart. Returns what follows it, NULL where it is not closed; *ret: is c in it? */
static const char *match_set(const char *p, const char *end, unsigned char c, bool *ret) {
        bool negated = false, found = false;

        p++;
        if (p < end && (*p == '!' || *p == '^')) {
                negated = true;
                p++;
        }
        for (const char *first = p;; p++) {
                if (p >= end)
                        return NULL;
                if (*p == ']' && p > first)
                        break;
                if (*p == '\\' && p + 1 < end)
                        p++;
                unsigned char low = (unsigned char) *p, high = low;
                if (p + 2 < end && p[1] == '-' && p[2] != ']') {
                        p += 2;
                        if (*p == '\\' && p + 1 < end)
                                p++;
                        high = (unsigned char) *p;
                }
                found = found || (low <= c && c <= high);
        }
        *ret = found != negated;
        return p + 1;
}

/* Does the one thing at p, which is no star, match c? Returns what follows it, NULL where it does not. */
static const char *match_one(const char *p, const char *end, unsigned char c) {
        if (*p == '?')
                return p + 1;
        if (*p == '[') {
                bool in;
                const char *next = match_set(p, end, c, &in);
                if (next)
                        return in ? next : NULL;
        }
        if (*p == '\\' && p + 1 < end)
                p++;
        return (unsigned char) *p == c ? p + 1 : NULL;
}

static bool match_name(const char *p, size_t p_len, const char *s, size_t s_len) {
        const char *p_end = p + p_len, *s_end = s + s_len, *star = NULL, *star_s = NULL;

        while (s < s_end) {
                if (p < p_end && *p == '*') {
                        star = ++p;
                        star_s = s;
                        continue;
                }
                const char *next = p < p_end ? match_one(p, p_end, (unsigned char) *s) : NULL;
                if (next) {
                        p = next;
                        s++;
                } else if (star) {
                        p = star;
                        s = ++star_s;
                } else
                        return false;
        }
        while (p < p_end && *p == '*')
                p++;
        return p == p_end;
}

/* A walk over the names of directory "/" name. */
typedef struct {
        const char *s;    /* the current name; NULL: at the end */
        const char *last; /* the name that follows the directory's; NULL when it is the current one */
        size_t len;
} Walk;

static void walk_settle(Walk *w) {
        while (w->last) {
                while (*w->s == '/')
                        w->s++;
                w->len = strcspn(w->s, "/");
                if (w->len > 0)
                        return;
                w->s = w->last;
                w->last = NULL;
                w->len = strlen(w->s);
        }
}

static void walk_next(Walk *w) {
        if (!w->last) {
                w->s = NULL;
                return;
        }
        w->s += w->len;
        walk_settle(w);
}

static bool match_path(const GArray *segments, const char *directory, const char *name) {
        Walk w = { .s = directory, .last = name }, star_w = { 0 };
        guint i = 0, star = 0; /* star: the segment after the last "**" that was met, 0: none */

        walk_settle(&w);
        while (w.s) {
                const Segment *segment = i < segments->len ? &g_array_index(segments, Segment, i) : NULL;
                if (segment && segment->any) {
                        star = ++i;
                        star_w = w;
                } else if (segment && match_name(segment->text, segment->len, w.s, w.len)) {
                        i++;
                        walk_next(&w);
                } else if (star) {
                        i = star;
                        walk_next(&star_w);
                        w = star_w;
                } else
                        return false;
        }
        /* a "**" is never last: glob_new() */
        return i == segments->len;
}

static void add_segment(Glob *glob, const char *text, size_t len) {
        Segment segment = { text, len, len == 2 && text[0] == '*' && text[1] == '*' };

        if (segment.any && glob->segments->len > 0 && g_array_index(glob->segments, Segment, glob->segments->len - 1).any)
                return; /* two are no more than one */
        g_array_append_val(glob->segments, segment);
}

Glob *glob_new(const char *pattern) {
        Glob *glob = g_new0(Glob, 1);
        glob->pattern = g_strdup(pattern);
        glob->segments = g_array_new(FALSE, FALSE, sizeof(Segment));

        size_t len = strlen(pattern);
        glob->of_directories = len > 1 && pattern[len - 1] == '/';
        if (pattern[0] && pattern[0] != '/')
                add_segment(glob, "**", 2);
        for (const char *p = glob->pattern; *p;) {
                size_t n = strcspn(p, "/");
                if (n > 0)
                        add_segment(glob, p, n);
                p += n + (p[n] == '/');
        }
        if (glob->segments->len > 0 && g_array_index(glob->segments, Segment, glob->segments->len - 1).any)
                add_segment(glob, "*", 1);

        const Segment *segments = (const Segment *) (const void *) glob->segments->data; /* NULL where there is none */
        glob->of_names = glob->segments->len == 2 && segments[0].any;
        if (glob->of_names && !strpbrk(segments[1].text, "*?[\\"))
                glob->literal = g_strndup(segments[1].text, segments[1].len);
        return glob;
}

void glob_free(Glob *glob) {
        if (!glob)
                return;
        g_free(glob->pattern);
        g_free(glob->literal);
        g_array_unref(glob->segments);
        g_free(glob);
}

bool glob_is_of_names(const Glob *glob) {
        return glob->of_names;
}

bool glob_is_of_directories(const Glob *glob) {
        return glob->of_directories;
}

const char *glob_literal(const Glob *glob) {
        return glob->literal;
}

bool glob_match(const Glob *glob, const char *directory, const char *name) {
        if (glob->segments->len == 0)
                return false;
        /* The last name first: it needs no walk, and seldom fits. */
        const Segment *last = &g_array_index(glob->segments, Segment, glob->segments->len - 1);
        if (!match_name(last->text, last->len, name, strlen(name)))
                return false;
        return glob->of_names || match_path(glob->segments, directory, name);
}
