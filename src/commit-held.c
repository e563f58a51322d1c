/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of the host that the box has by another name, which does not come to the host: whose own name must not go then.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-plan.c, for what is passed over; under commit-apply.c, for what failed.
 *
 * Who moves a file across file systems removes it where it was when all of it is where it goes to. Here, too: with the name the host would lose its only copy,
 * and the box may be gone soon. usbox-fs notes which file one was copied from; with the kernel's overlay nobody knows.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "commit-held.h"
#include "copy-origin.h"
#include "mountinfo.h"

/* 0: it is none of the host's, or has its own name there. */
static guint64 origin(const Review *review, const ReviewChange *c) {
        _cleanup_close_ int fd = c->has_st && S_ISREG(c->st.st_mode) ? review_open_upper(review, c->path, O_PATH) : -1;

        if (fd < 0 || (c->has_below && copy_origin_was(fd, &c->below) == COPY_ORIGIN_YES))
                return 0;
        return copy_origin_ino(fd);
}

static void add(GHashTable *held, const Review *review, const ReviewChange *c) {
        guint64 ino = origin(review, c);
        if (ino != 0)
                g_hash_table_add(held, g_memdup2(&ino, sizeof ino));
}

GHashTable *commit_held_new(void) {
        return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
}

void commit_held_add(GHashTable *held, const Review *review, const CommitPlan *plan, const bool *made) {
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                bool comes = item->verdict == COMMIT_NOTHING || (item->verdict == COMMIT_DO && (!made || made[i]));
                if (!comes && item->change->kind != CHANGE_DELETED)
                        add(held, review, item->change);
        }
        for (guint i = 0; g_hash_table_size(held) > 0 && i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                guint64 ino = item->verdict == COMMIT_DO && (!made || made[i]) ? origin(review, item->change) : 0;
                g_hash_table_remove(held, &ino); /* it comes by this name */
        }
}

static bool has(GHashTable *held, guint64 ino) {
        guint64 key = copy_origin_number(ino);
        return g_hash_table_contains(held, &key);
}

static bool takes_one(GHashTable *held, const CommitPlan *plan, const ReviewChange *c) {
        if (g_hash_table_size(held) == 0 || c->kind != CHANGE_DELETED)
                return false;
        if (S_ISREG(c->below.st_mode))
                return has(held, c->below.st_ino);
        for (guint i = 0; i < plan->taken->len; i++) {
                const CommitName *file = &g_array_index(plan->taken, CommitName, i);
                if (path_is_at_or_below(file->path, c->below_path) && has(held, file->ino))
                        return true;
        }
        return false;
}

bool commit_held_may_go(GHashTable *held, const CommitPlan *plan, const ReviewChange *c) {
        if (!takes_one(held, plan, c))
                return true;
        errno = EDEADLK;
        return false;
}
