/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Subordinate ids: /etc/subuid and /etc/subgid.
 *
 * newuidmap and newgidmap read the same files with their own rights and decide; this reader only finds out what to ask
 * them for. Both files are other people's text: a line that is not exactly OWNER:START:COUNT in decimal is passed over.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: user_check().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "option.h"
#include "subid.h"

#define FILE_MAX (64 * 1024 * 1024)
#define ID_END G_GUINT64_CONSTANT(4294967295) /* the id after the last: (uid_t) -1 is none */
#define PROPOSED_COUNT 65536u
#define PROPOSED_FIRST 100000u

static bool parse_line(const char *line, char **ret_owner, SubidRange *ret) {
        g_auto(GStrv) fields = g_strsplit(line, ":", 4);
        guint64 start, count;

        if (g_strv_length(fields) != 3 || *fields[0] == '\0')
                return false;
        if (!option_digits(fields[1], ID_END - 1, &start) || !option_digits(fields[2], ID_END, &count))
                return false;
        /* What reaches beyond the last id is refused whole: part of a range that makes no sense does not make sense. */
        if (count == 0 || start + count > ID_END)
                return false;
        *ret_owner = g_strdup(fields[0]);
        *ret = (SubidRange){ .start = (guint32) start, .count = (guint32) count };
        return true;
}

GArray *subid_parse(const char *text, const char *name, uid_t uid) {
        GArray *ranges = g_array_new(FALSE, FALSE, sizeof(SubidRange));
        g_autofree char *number = g_strdup_printf("%u", (unsigned) uid);

        for (const char *line = text; *line;) {
                const char *end = strchrnul(line, '\n');
                g_autofree char *copy = g_strndup(line, (gsize) (end - line));
                g_autofree char *owner = NULL;
                SubidRange range;

                if (parse_line(copy, &owner, &range) &&
                    (!name || g_str_equal(owner, name) || g_str_equal(owner, number)))
                        g_array_append_val(ranges, range);
                line = *end ? end + 1 : end;
        }
        return ranges;
}

GArray *subid_read(const char *path, const char *name, uid_t uid, GError **error) {
        g_autofree char *text = NULL;

        if (!fd_read_file(AT_FDCWD, path, FILE_MAX, &text, NULL)) {
                if (errno != ENOENT) {
                        err_set(error, errno, "read %s", path);
                        return NULL;
                }
                text = g_strdup("");
        }
        return subid_parse(text, name, uid);
}

GArray *subid_parse_map(const char *text) {
        GArray *ranges = g_array_new(FALSE, FALSE, sizeof(SubidRange));

        for (const char *line = text; *line;) {
                const char *end = strchrnul(line, '\n');
                g_autofree char *copy = g_strndup(line, (gsize) (end - line));
                SubidRange range;
                guint32 outside;
                char rest;

                /* The kernel's own: three numbers in columns. */
                if (sscanf(copy, "%10" G_GUINT32_FORMAT " %10" G_GUINT32_FORMAT " %10" G_GUINT32_FORMAT " %c", &range.start, &outside,
                           &range.count, &rest) == 3)
                        g_array_append_val(ranges, range);
                line = *end ? end + 1 : end;
        }
        return ranges;
}

static bool overlaps(const GArray *ranges, guint64 start, guint64 count) {
        for (guint i = 0; i < ranges->len; i++) {
                const SubidRange *r = &g_array_index(ranges, SubidRange, i);
                if (start < (guint64) r->start + r->count && r->start < start + count)
                        return true;
        }
        return false;
}

guint32 subid_propose(const char *text_uid, const char *text_gid) {
        g_autoptr(GArray) uids = subid_parse(text_uid, NULL, 0), gids = subid_parse(text_gid, NULL, 0);

        for (guint64 start = PROPOSED_FIRST; start + PROPOSED_COUNT <= ID_END; start += PROPOSED_COUNT)
                if (!overlaps(uids, start, PROPOSED_COUNT) && !overlaps(gids, start, PROPOSED_COUNT))
                        return (guint32) start;
        return 0;
}

/* Add start .. end (exclusive) to result, but for what is there already and for self. */
static void add_distinct(GArray *result, guint64 start, guint64 end, guint32 self) {
        while (start < end) {
                guint64 stop = end, next = end;

                if (self >= start && self < end)
                        stop = self, next = (guint64) self + 1;
                for (guint i = 0; i < result->len; i++) {
                        const SubidRange *r = &g_array_index(result, SubidRange, i);
                        guint64 r_end = (guint64) r->start + r->count;
                        if (r->start < stop && r_end > start)
                                stop = MAX((guint64) r->start, start), next = r_end;
                }
                if (stop > start) {
                        SubidRange piece = { .start = (guint32) start, .count = (guint32) (stop - start) };
                        g_array_append_val(result, piece);
                }
                start = MAX(next, start + 1);
        }
}

GArray *subid_distinct(const GArray *ranges, guint32 self) {
        GArray *result = g_array_new(FALSE, FALSE, sizeof(SubidRange));

        for (guint i = 0; i < ranges->len; i++) {
                const SubidRange *r = &g_array_index(ranges, SubidRange, i);
                add_distinct(result, r->start, (guint64) r->start + r->count, self);
        }
        return result;
}

bool subid_contains(const GArray *ranges, guint32 start, guint32 count) {
        guint64 at = start, end = (guint64) start + count;

        while (at < end) {
                guint64 reach = at;
                for (guint i = 0; i < ranges->len; i++) {
                        const SubidRange *r = &g_array_index(ranges, SubidRange, i);
                        if (r->start <= at && (guint64) r->start + r->count > reach)
                                reach = (guint64) r->start + r->count;
                }
                if (reach == at)
                        return false;
                at = reach;
        }
        return true;
}
