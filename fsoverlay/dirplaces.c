/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places in a listing: see dirplaces.h.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any.
 */
#include "fsoverlay/dirplaces.h"

/* The upper 31 bits of a hash, and room behind the last of them for those who have to move on. */
static uint64_t natural_place(uint64_t hash) {
        return PLACE_DOTDOT + 1 + ((hash >> 32) * 127 >> 7);
}

GArray *dir_places(DirEntry *entries, guint n, const GArray *moved) {
        GArray *now = NULL;
        uint64_t last = PLACE_DOTDOT;
        guint m = 0;

        for (guint i = 0; i < n; i++) {
                const uint64_t hash = entries[i].place, natural = natural_place(hash);
                uint64_t place = MAX(natural, last + 1);
                while (moved && m < moved->len && g_array_index(moved, DirMoved, m).hash < hash)
                        m++;
                if (moved && m < moved->len && g_array_index(moved, DirMoved, m).hash == hash)
                        place = MAX(place, g_array_index(moved, DirMoved, m).place);
                if (place != natural) {
                        DirMoved this = { hash, place };
                        now = now ? now : g_array_new(FALSE, FALSE, sizeof this);
                        g_array_append_val(now, this);
                }
                entries[i].place = last = place;
        }
        return now;
}
