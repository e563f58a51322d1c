/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of the host that the box has by another name, which does not come to the host: whose own name must not go then.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-plan.c, for what is passed over; under commit-apply.c, for what failed.
 *
 * Who moves a file across file systems removes it where it was when all of it is where it goes to. Here, too: with the name the host would lose its only copy,
 * and the box may be gone soon. A new file in its place takes it away as well. usbox-fs notes which file one was copied from, and the journal what a commit
 * brought; of what the kernel's overlay copied nobody knows which it was: where one of those failed, all stay.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "commit-held.h"
#include "copy-origin.h"
#include "mountinfo.h"

struct CommitHeld {
        const CommitPlan *plan;
        GPtrArray *sources; /* of Source *, one for each item */
        GHashTable *inos;   /* set of inode numbers (guint64) of the host's */
        GHashTable *paths;  /* set of paths to where a commit brought one */
        bool any;           /* it may be any file */
};

/* Which file of the host's an item's is. */
typedef struct {
        guint64 ino; /* 0: none, or that is not told */
        char *key; /* fd_file_key() of the layer's; NULL: no file */
        char *path; /* to where a commit brought it; NULL: none did */
        bool unknown; /* a copy, and of which is not told */
        bool own; /* the one that has its name there */
} Source;

static void source_free(gpointer p) {
        Source *s = p;
        g_free(s->key);
        g_free(s->path);
        g_free(s);
}

static Source *source_new(const Review *review, const ReviewChange *c) {
        Source *s = g_new0(Source, 1);
        _cleanup_close_ int fd = c->has_st && S_ISREG(c->st.st_mode) ? review_open_upper(review, c->path, O_PATH) : -1;

        if (fd < 0)
                return s;
        s->ino = copy_origin_ino(fd);
        s->key = fd_file_key(fd);
        s->path = g_strdup(commit_journal_brought_from(review->journal, s->key));
        s->unknown = s->ino == 0 && copy_origin_of_upper(fd);
        s->own = c->has_below && (s->unknown || copy_origin_was(fd, &c->below) == COPY_ORIGIN_YES || g_strcmp0(s->path, c->path) == 0);
        return s;
}

CommitHeld *commit_held_new(const Review *review, const CommitPlan *plan) {
        CommitHeld *held = g_new0(CommitHeld, 1);

        held->plan = plan;
        held->sources = g_ptr_array_new_with_free_func(source_free);
        held->inos = g_hash_table_new(g_int64_hash, g_int64_equal);
        held->paths = g_hash_table_new(g_str_hash, g_str_equal);
        for (guint i = 0; i < plan->items->len; i++)
                g_ptr_array_add(held->sources, source_new(review, g_array_index(plan->items, CommitItem, i).change));
        return held;
}

void commit_held_free(CommitHeld *held) {
        g_hash_table_unref(held->paths);
        g_hash_table_unref(held->inos);
        g_ptr_array_unref(held->sources);
        g_free(held);
}

const char *commit_held_key(const CommitHeld *held, guint i) {
        return ((const Source *) held->sources->pdata[i])->key;
}

void commit_held_find(CommitHeld *held, const bool *made) {
        g_hash_table_remove_all(held->inos);
        g_hash_table_remove_all(held->paths);
        held->any = false;
        for (guint i = 0; i < held->sources->len; i++) {
                const CommitItem *item = &g_array_index(held->plan->items, CommitItem, i);
                Source *s = held->sources->pdata[i];
                if (item->verdict == COMMIT_NOTHING || (item->verdict == COMMIT_DO && (!made || made[i])))
                        continue;
                held->any = held->any || (made && s->unknown && !s->path);
                if (s->own)
                        continue;
                if (s->ino != 0)
                        g_hash_table_add(held->inos, &s->ino);
                if (s->path)
                        g_hash_table_add(held->paths, s->path);
        }
        for (guint i = 0; i < held->sources->len; i++) {
                const Source *s = held->sources->pdata[i];
                if (g_array_index(held->plan->items, CommitItem, i).verdict != COMMIT_DO || (made && !made[i]))
                        continue;
                g_hash_table_remove(held->inos, &s->ino); /* it comes by this name */
                if (s->path)
                        g_hash_table_remove(held->paths, s->path);
        }
}

static bool has(const CommitHeld *held, guint64 ino) {
        guint64 key = copy_origin_number(ino);
        return held->any || g_hash_table_contains(held->inos, &key);
}

static bool has_in(const CommitHeld *held, const ReviewChange *c) {
        GHashTableIter iter;
        gpointer path;

        for (guint i = 0; i < held->plan->taken->len; i++) {
                const CommitName *file = &g_array_index(held->plan->taken, CommitName, i);
                if (path_is_at_or_below(file->path, c->below_path) && has(held, file->ino))
                        return true;
        }
        g_hash_table_iter_init(&iter, held->paths);
        while (g_hash_table_iter_next(&iter, &path, NULL))
                if (path_is_at_or_below(path, c->path))
                        return true;
        return false;
}

/* What the host has by its name would have it no more. */
static bool takes(const CommitItem *item, const Source *s) {
        const ReviewChange *c = item->change;

        if (!c->has_below || item->replaced || c->redirect)
                return false;
        return c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE || (c->kind == CHANGE_MODIFIED && c->what & CHANGE_CONTENT && !s->own);
}

bool commit_held_may_go(const CommitHeld *held, guint i) {
        const CommitItem *item = &g_array_index(held->plan->items, CommitItem, i);
        const ReviewChange *c = item->change;
        const Source *s = held->sources->pdata[i];

        if ((g_hash_table_size(held->inos) == 0 && g_hash_table_size(held->paths) == 0 && !held->any) || !takes(item, s))
                return true;
        if (S_ISDIR(c->below.st_mode) ? !has_in(held, c)
                                      : !S_ISREG(c->below.st_mode) || !(has(held, c->below.st_ino) || g_hash_table_contains(held->paths, c->path)))
                return true;
        errno = EDEADLK;
        return false;
}
