/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: files of lines that others have a hand in. The first byte says which: 'm' mountinfo, 's' subuid, 'a' passwd.
 *
 * Role: tests only. Privileges: none. Threads: one. What is found keeps the promises of the headers.
 */
#include <string.h>

#include "account.h"
#include "fuzz.h"
#include "mountinfo.h"
#include "subid.h"

#define SIZE_MAX_HERE 4096 /* of ranges there are n * n pairs to compare */
#define SELF 1000u

static void check_mountinfo(const char *text) {
        g_autoptr(GPtrArray) points = mountinfo_points(text);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        g_assert_true(points->len <= g_strv_length(lines));
        for (guint i = 0; i < points->len; i++) {
                const char *point = points->pdata[i];
                g_assert_true(point[0] == '/');
                g_assert_true(path_is_at_or_below(point, "/") && path_is_at_or_below(point, point) && !path_is_below(point, point));
        }
}

static bool overlap(const SubidRange *a, const SubidRange *b) {
        return a->start < (guint64) b->start + b->count && b->start < (guint64) a->start + a->count;
}

static void check_subid(const char *text) {
        g_autoptr(GArray) all = subid_parse(text, NULL, 0), mine = subid_parse(text, "ann", SELF), distinct = subid_distinct(mine, SELF);

        g_assert_true(mine->len <= all->len);
        for (guint i = 0; i < all->len; i++) {
                const SubidRange *r = &g_array_index(all, SubidRange, i);
                g_assert_true(r->count > 0 && (guint64) r->start + r->count <= 4294967295u);
                g_assert_true(subid_contains(all, r->start, r->count));
        }
        for (guint i = 0; i < distinct->len; i++) {
                const SubidRange *r = &g_array_index(distinct, SubidRange, i);
                g_assert_true(r->count > 0 && subid_contains(mine, r->start, r->count));
                g_assert_false(overlap(r, &(SubidRange){ SELF, 1 }));
                for (guint j = 0; j < i; j++)
                        g_assert_false(overlap(r, &g_array_index(distinct, SubidRange, j)));
        }
        /* nothing is lost but self */
        for (guint i = 0; i < mine->len; i++) {
                const SubidRange *r = &g_array_index(mine, SubidRange, i);
                guint32 last = r->start + r->count - 1;
                g_assert_true(r->start == SELF || subid_contains(distinct, r->start, 1));
                g_assert_true(last == SELF || subid_contains(distinct, last, 1));
        }
        guint32 start = subid_propose(text, "");
        for (guint i = 0; start && i < all->len; i++)
                g_assert_false(overlap(&(SubidRange){ start, 65536 }, &g_array_index(all, SubidRange, i)));
}

static void check_account(const char *text) {
        for (uid_t uid = 0; uid < 3; uid++) {
                g_auto(Account) found = { 0 };
                if (!account_find(text, uid, &found)) {
                        g_assert_true(!found.name && !found.home && !found.shell);
                        continue;
                }
                g_assert_true(*found.name && !strpbrk(found.name, ":\n") && !strpbrk(found.home, ":\n") && !strchr(found.shell, '\n'));
                g_autofree char *head = g_strconcat(found.name, ":", NULL);
                g_assert_true(strstr(text, head) != NULL);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size < 1 || size > SIZE_MAX_HERE)
                return 0;
        g_autofree char *text = g_strndup((const char *) data + 1, size - 1);

        if (data[0] == 'm')
                check_mountinfo(text);
        else if (data[0] == 's')
                check_subid(text);
        else if (data[0] == 'a')
                check_account(text);
        return 0;
}
