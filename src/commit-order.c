/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In which order what a box has comes to the host.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-apply.c, before anything is removed.
 *
 * That of the walk, a directory before what is in it; but another name of a file that gets new attributes, or moves with its directory, comes when it has
 * those, or is there; and what would take the place of a file that the box has elsewhere, when that is there.
 */

#include "commit-work.h"
#include "mountinfo.h"

typedef enum { TURN_FIRST, TURN_SECOND, TURN_LAST } Turn;

typedef struct {
        bool *ok;
        bool *open; /* it is there, or was not tried yet */
        /* Inode numbers of the upper's files that have a name which they keep on the host, or which moves with its directory, and others in the box. */
        GHashTable *in_place;
        GArray *later; /* of guint: what has to wait for the next turn */
} Order;

/* In the order of the walk: behind the directory that could not be made comes what is in it. */
static bool is_to_make(const CommitWork *w, const CommitItem *item) {
        const ReviewChange *c = item->change;

        return item->verdict == COMMIT_DO && c->kind != CHANGE_DELETED && !(w->blocked && path_is_at_or_below(c->path, w->blocked));
}

static GHashTable *files_in_place(const CommitPlan *plan) {
        GHashTable *inos = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                bool moves = item->verdict == COMMIT_NOTHING && item->change->moved && S_ISREG(item->change->st.st_mode);
                if ((moves || (item->verdict == COMMIT_DO && commit_is_in_place(item))) && item->change->st.st_nlink > 1)
                        g_hash_table_add(inos, g_memdup2(&(guint64){ item->change->st.st_ino }, sizeof(guint64)));
        }
        return inos;
}

/* Another name of such a file, which has to be as it is in the box, and where, before it gets that. */
static bool comes_last(GHashTable *in_place, const CommitItem *item) {
        const ReviewChange *c = item->change;
        guint64 ino = c->st.st_ino;

        return c->has_st && commit_has_other_names(&c->st) && !commit_is_in_place(item) && g_hash_table_contains(in_place, &ino);
}

static bool has_to_wait(const CommitWork *w, const Order *o, guint i, Turn turn) {
        const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);

        return !commit_held_may_go(w->plan->held, i) || (turn == TURN_FIRST && comes_last(o->in_place, item));
}

/* Two files that changed places wait for each other until the last turn, where nothing is held but for what failed. */
static void take_turn(CommitWork *w, Order *o, Turn turn) {
        g_autoptr(GArray) todo = o->later;
        const char *waits = NULL; /* a directory: what is in it does so as well */

        o->later = g_array_new(FALSE, FALSE, sizeof(guint));
        commit_held_find(w->plan->held, turn == TURN_LAST ? o->open : o->ok);
        for (guint at = 0; at < todo->len && !w->error; at++) {
                guint i = g_array_index(todo, guint, at);
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                bool in_it = waits && path_is_below(item->change->path, waits);
                if (!is_to_make(w, item))
                        continue;
                if (in_it || has_to_wait(w, o, i, turn)) {
                        waits = in_it ? waits : item->change->path;
                        if (turn == TURN_LAST && !in_it)
                                commit_tell_failed(w, item);
                        g_array_append_val(o->later, i);
                        continue;
                }
                o->ok[i] = commit_make_item(w, i);
                o->open[i] = o->ok[i];
        }
}

void commit_make_all(CommitWork *w, bool *ok) {
        const GArray *items = w->plan->items;
        g_autofree bool *open = g_new(bool, items->len + 1);
        g_autoptr(GHashTable) in_place = files_in_place(w->plan);
        Order o = { .ok = ok, .open = open, .in_place = in_place, .later = g_array_new(FALSE, FALSE, sizeof(guint)) };

        for (guint i = 0; w->plan->others && i < w->plan->others->len; i++)
                commit_remember_name(w, w->plan->others->pdata[i]);
        for (guint i = 0; i < items->len; i++) {
                const CommitItem *item = &g_array_index(items, CommitItem, i);
                open[i] = true;
                g_array_append_val(o.later, i);
                /* First, since the name that an earlier commit could not make may come before one that it made. */
                if (item->verdict == COMMIT_NOTHING && item->change->kind == CHANGE_NONE)
                        commit_remember_name(w, item->change);
        }
        for (Turn turn = TURN_FIRST; turn <= TURN_LAST; turn++)
                take_turn(w, &o, turn);
        g_array_unref(o.later);
}
