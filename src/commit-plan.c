/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is to be done of a box's changes on the host: each is judged (commit-judge.c), until no verdict depends on another that has changed.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: after review_changes(), before commit-apply.c.
 */
#include <time.h>
#include <unistd.h>

#include "commit-held.h"
#include "commit-judge.h"
#include "commit-swapped.h"
#include "mountinfo.h"

void commit_plan_free(CommitPlan *plan) {
        if (!plan)
                return;
        g_clear_pointer(&plan->held, commit_held_free);
        g_clear_pointer(&plan->items, g_array_unref);
        g_clear_pointer(&plan->changes, g_ptr_array_unref);
        g_clear_pointer(&plan->others, g_ptr_array_unref);
        g_clear_pointer(&plan->taken, g_array_unref);
        g_clear_pointer(&plan->linked, g_array_unref);
        g_free(plan);
}

static void item_clear(gpointer item) {
        g_free(((CommitItem *) item)->reason);
}

static void name_clear(gpointer name) {
        g_free(((CommitName *) name)->path);
}

/* Files that stand on the host as they are in the box, at names that the commit was not asked for, too: what is to be made may be another name of one. */
static GPtrArray *find_others(const CommitJudge *j) {
        GPtrArray *others = g_ptr_array_new();

        for (guint i = 0; i < j->plan->changes->len; i++) {
                const ReviewChange *c = j->plan->changes->pdata[i];
                if (c->kind == CHANGE_NONE && commit_has_other_names(&c->st) && !commit_went_with_any(j->moved_from, c))
                        g_ptr_array_add(others, j->plan->changes->pdata[i]);
        }
        return others;
}

static bool add_linked(void *data, const ReviewEntry *e) {
        const CommitJudge *j = data;

        if (commit_has_other_names(e->st) && !commit_changed_since(j, e->path, e->path, e->st))
                commit_name_add(j->plan->linked, e->path, e->st);
        return true;
}

/* Names of the host's files of several. What is done at one of them changes the file's ctime, by which the others look changed: also those of which the next
 * commit is asked for. all: this one is for all of them. */
static void find_linked(CommitJudge *j, bool all) {
        for (guint i = 0; i < j->plan->changes->len; i++) {
                const ReviewChange *c = j->plan->changes->pdata[i];
                if (!c->has_below)
                        continue;
                if (commit_has_other_names(&c->below) && !commit_changed_since(j, c->below_path, c->path, &c->below))
                        commit_name_add(j->plan->linked, c->path, &c->below);
                else if (!all && S_ISDIR(c->below.st_mode) && (c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE))
                        (void) review_walk_lower(j->review, c->below_path, c->rule, add_linked, j);
        }
}

/* What of the changes the commit was asked for. */
static void add_items(CommitJudge *j, const char *const *paths) {
        CommitPlan *plan = j->plan;

        for (guint i = 0; i < plan->changes->len; i++) {
                CommitItem item = { .change = plan->changes->pdata[i], .verdict = COMMIT_DO };
                if (review_carries(item.change, paths)) {
                        if (item.change->redirect)
                                commit_judge_move(j, &item);
                        g_array_append_val(plan->items, item);
                } else if (item.change->redirect && !item.change->hidden)
                        g_ptr_array_add(j->left, plan->changes->pdata[i]);
        }
}

static void get_stuck(CommitJudge *j, const CommitItem *item) {
        char *source = item->change->redirect;

        if (source && g_ptr_array_remove(j->moved_from, source))
                g_ptr_array_add(j->stuck_from, source);
}

/* What is passed over since the directory that was source stays, in the order of the walk; and all that is in it. */
static void follow_stuck(CommitJudge *j, const char *source) {
        const GArray *items = j->plan->items;

        for (guint i = 0; i < items->len; i++) {
                const CommitItem *item = &g_array_index(items, CommitItem, i);
                const ReviewChange *c = item->change;
                if (c->kind == CHANGE_NONE || !commit_would_lose(source, c) || commit_went_with_any(j->moved_from, c))
                        continue;
                get_stuck(j, item);
                for (; c->has_st && S_ISDIR(c->st.st_mode) && i + 1 < items->len && path_is_at_or_below((item + 1)->change->path, c->path); i++)
                        get_stuck(j, ++item);
        }
}

/* A directory that was to be moved is not after all: what it is to go to, or is in, is passed over itself. True: there was one. What follows from that is
 * found at once: each walk over all items would find one more of a chain of them, and a box can make a long one. */
static bool find_stuck(CommitJudge *j) {
        guint before = j->stuck_from->len;

        for (guint i = 0; i < j->plan->items->len; i++) {
                const CommitItem *item = &g_array_index(j->plan->items, CommitItem, i);
                if (item->verdict != COMMIT_DO)
                        get_stuck(j, item);
        }
        for (guint i = before; i < j->stuck_from->len; i++)
                follow_stuck(j, j->stuck_from->pdata[i]);
        return j->stuck_from->len > before;
}

/* All of them, until each is judged by what will be moved. */
static void judge_all(CommitJudge *j) {
        GArray *items = j->plan->items;
        g_autofree bool *cannot_move = g_new0(bool, items->len + 1);

        for (guint i = 0; i < items->len; i++)
                cannot_move[i] = g_array_index(items, CommitItem, i).verdict != COMMIT_DO;
        do {
                j->blocked = NULL;
                g_array_set_size(j->plan->taken, 0);
                for (guint i = 0; i < items->len; i++) {
                        CommitItem *item = &g_array_index(items, CommitItem, i);
                        item->replaced = false;
                        if (!cannot_move[i])
                                commit_item_set(item, COMMIT_DO, NULL);
                        commit_judge(j, item, i + 1 < items->len ? item + 1 : NULL);
                }
        } while (find_stuck(j));
}

/* What the box moved to where nothing comes of it stays where it is; and so what was to come there, and has a name of its own. */
static bool hold_more(CommitJudge *j) {
        bool more = false;

        commit_held_find(j->plan->held, NULL);
        j->blocked = NULL;
        for (guint i = 0; i < j->plan->items->len; i++) {
                CommitItem *item = &g_array_index(j->plan->items, CommitItem, i);
                if (item->verdict != COMMIT_DO)
                        continue;
                if (j->blocked && path_is_below(item->change->path, j->blocked))
                        commit_item_set(item, COMMIT_BELOW, NULL);
                else if (!commit_held_may_go(j->plan->held, i))
                        commit_judge_skip(j, item, "the box has it, or something in it, by a name that is passed over");
                more = more || item->verdict != COMMIT_DO;
        }
        return more;
}

static void judge_held(CommitJudge *j) {
        for (guint i = 0; i < j->plan->items->len; i++)
                if (g_array_index(j->plan->items, CommitItem, i).verdict == COMMIT_CONFLICT)
                        return; /* nothing is carried at all */
        while (hold_more(j))
                ;
}

static bool may_be_linked(const CommitItem *item) {
        const ReviewChange *c = item->change;
        return item->verdict == COMMIT_DO && c->has_st && commit_has_other_names(&c->st);
}

static void count(CommitPlan *plan, const CommitItem *item) {
        plan->n_do += item->verdict == COMMIT_DO;
        plan->n_conflicts += item->verdict == COMMIT_CONFLICT;
        plan->n_skipped += item->verdict == COMMIT_SKIP;
        if (item->verdict == COMMIT_DO && item->change->has_st && S_ISREG(item->change->st.st_mode))
                plan->bytes += (guint64) item->change->st.st_size;
}

CommitPlan *commit_plan_new(Review *review, const char *const *paths, bool force) {
        CommitPlan *plan = g_new0(CommitPlan, 1);
        g_autoptr(GPtrArray) moved = g_ptr_array_new(), stuck = g_ptr_array_new(), left = g_ptr_array_new();
        CommitJudge j = { .review = review,
                    .plan = plan,
                    .force = force,
                    .uid = geteuid(),
                    .home = review->home,
                    .moved_from = moved,
                    .stuck_from = stuck,
                    .left = left };

        plan->taken = g_array_new(FALSE, FALSE, sizeof(CommitName));
        g_array_set_clear_func(plan->taken, name_clear);
        plan->linked = g_array_new(FALSE, FALSE, sizeof(CommitName));
        g_array_set_clear_func(plan->linked, name_clear);
        plan->looked = review->seen->since;
        if (force)
                (void) clock_gettime(CLOCK_REALTIME_COARSE, &plan->looked);
        /* All of them: what was asked for may be the only copy of something else. */
        plan->changes = review_changes(review, NULL, true, &plan->complete);
        bool links = false;
        plan->items = g_array_sized_new(FALSE, TRUE, sizeof(CommitItem), plan->changes->len);
        g_array_set_clear_func(plan->items, item_clear);
        g_autoptr(GHashTable) swapped = force ? NULL : commit_swapped(review, plan->changes);
        j.swapped = swapped;
        add_items(&j, paths);
        judge_all(&j);
        plan->held = commit_held_new(review, plan);
        judge_held(&j);
        for (guint i = 0; i < plan->items->len; i++) {
                const CommitItem *item = &g_array_index(plan->items, CommitItem, i);
                count(plan, item);
                links = links || may_be_linked(item);
        }
        find_linked(&j, !paths || !*paths);
        if (links && plan->items->len < plan->changes->len)
                plan->others = find_others(&j);
        g_clear_pointer(&j.origins, copy_origins_free);
        return plan;
}
