/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places in listings of usbox-fs: what a reader who stopped anywhere finds when names came and went meanwhile.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fsoverlay/dirplaces.h"

/* Names by their hashes, in order. The test's own record of a listing: hash and place. */
static GArray *list(GArray **moved, const uint64_t *hashes, guint n) {
        GArray *entries = g_array_new(FALSE, TRUE, sizeof(DirEntry)), *places = g_array_new(FALSE, FALSE, sizeof(DirMoved));

        for (guint i = 0; i < n; i++) {
                DirEntry e = { .place = hashes[i] };
                g_array_append_val(entries, e);
        }
        g_autoptr(GArray) before = *moved;
        *moved = dir_places((DirEntry *) entries->data, n, before);
        uint64_t last = PLACE_DOTDOT;
        for (guint i = 0; i < n; i++) {
                DirMoved m = { hashes[i], g_array_index(entries, DirEntry, i).place };
                g_assert_cmpuint(m.place, >, last);
                g_assert_cmpuint(m.place, <=, G_MAXINT32);
                last = m.place;
                g_array_append_val(places, m);
        }
        g_array_unref(entries);
        return places;
}

static uint64_t place_in(const GArray *places, uint64_t hash) {
        for (guint i = 0; i < places->len; i++)
                if (g_array_index(places, DirMoved, i).hash == hash)
                        return g_array_index(places, DirMoved, i).place;
        g_assert_not_reached();
}

#define TOP (G_MAXINT64 - 7u)

static void test_all_hashes(void) {
        static const uint64_t hashes[] = { 0, 1, 2, 3, 4, 1ull << 32, (1ull << 32) + 1, 1ull << 62, TOP, TOP + 1, TOP + 2, TOP + 3, TOP + 7 };
        GArray *moved = NULL;
        g_autoptr(GArray) places = list(&moved, hashes, G_N_ELEMENTS(hashes));
        g_assert_nonnull(moved);
        g_array_unref(moved);
}

/* A and B want one place. A goes: who stopped behind it still finds B behind that place. */
static void test_one_that_moved_stays_where_it_is(void) {
        static const uint64_t a = 5ull << 40, b = a + 1, c = a + 2, all[] = { a, b, c }, less[] = { b, c };
        GArray *moved = NULL;
        g_autoptr(GArray) before = list(&moved, all, 3);
        g_autoptr(GArray) after = list(&moved, less, 2);
        g_autoptr(GArray) later = list(&moved, less, 2);
        g_assert_cmpuint(place_in(after, b), ==, place_in(before, b));
        g_assert_cmpuint(place_in(after, c), ==, place_in(before, c));
        g_assert_cmpuint(place_in(later, b), ==, place_in(before, b));
        g_array_unref(moved);
}

static int by_hash(const void *x, const void *y) {
        uint64_t a = *(const uint64_t *) x, b = *(const uint64_t *) y;
        return a < b ? -1 : a > b;
}

/* Names go one after the other; who stopped behind any of them misses none that stayed. Hashes that meet often. */
static void test_names_that_go(void) {
        enum { N = 400 };
        uint64_t hashes[N];
        GArray *moved = NULL;

        for (guint i = 0; i < N; i++)
                hashes[i] = (uint64_t) g_test_rand_int_range(0, N) << 32 | (uint32_t) g_test_rand_int();
        qsort(hashes, N, sizeof *hashes, by_hash);
        g_autoptr(GArray) before = list(&moved, hashes, N);
        for (guint n = N; n > 1; n--) {
                guint gone = (guint) g_test_rand_int_range(0, (gint32) n);
                uint64_t at = place_in(before, hashes[gone]);
                memmove(hashes + gone, hashes + gone + 1, (n - 1 - gone) * sizeof *hashes);
                GArray *after = list(&moved, hashes, n - 1);
                for (guint i = 0; i < n - 1; i++) {
                        bool was_behind = place_in(before, hashes[i]) > at;
                        g_assert_true((place_in(after, hashes[i]) > at) == was_behind);
                }
                g_array_unref(before);
                before = after;
        }
        g_clear_pointer(&moved, g_array_unref);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs-dirplaces/all hashes", test_all_hashes);
        g_test_add_func("/fs-dirplaces/one that moved stays", test_one_that_moved_stays_where_it_is);
        g_test_add_func("/fs-dirplaces/names that go", test_names_that_go);
        return g_test_run();
}
