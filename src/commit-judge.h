/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "commit-plan.h"
#include "copy-origin.h"

/* What one commit's changes are judged by. All of it is borrowed, but for origins. */
typedef struct {
        Review *review;
        CommitPlan *plan;
        bool force;
        uid_t uid;
        const char *home;
        const char *blocked;    /* the directory in which nothing is carried; NULL: none. In the order of the walk one is enough */
        GPtrArray *moved_from;  /* of char *: where renamed directories are now, which will be moved */
        GPtrArray *stuck_from;  /* those that will not be */
        GPtrArray *left;        /* of ReviewChange *: renamed directories that the commit was not asked for */
        GHashTable *swapped;    /* paths of directories that are other ones on the host by now; NULL: nobody asks, by force */
        CopyOrigins *origins;   /* files of the lower that may have other names in the box; NULL: not asked for yet */
} CommitJudge;

/* A verdict and its reason, which is copied; NULL: none. */
void commit_item_set(CommitItem *item, CommitVerdict verdict, const char *reason);

/* It is passed over, and so is what is in it. */
void commit_judge_skip(CommitJudge *j, CommitItem *item, const char *reason);

/* A renamed directory: can it be moved on the host? Asked of all of them before the others are judged. */
void commit_judge_move(CommitJudge *j, CommitItem *item);

/* What becomes of item, by what stands on the host now; in the order of the walk. next: the item after it, NULL at the end. */
void commit_judge(CommitJudge *j, CommitItem *item, const CommitItem *next);

/* The host changed what it has at path after the box came to be, and no commit did. in_box: the path of the change that it is judged for, which is another
 * one in a directory that the box renamed since an earlier commit. */
bool commit_changed_since(const CommitJudge *j, const char *path, const char *in_box, const struct stat *st);

/* What the host has below c went by itself with one of the directories that were tops (of char *), and not with the renamed one that c is in. */
bool commit_went_with_any(const GPtrArray *tops, const ReviewChange *c);

/* What the box has of the directory that was top stands in the host's tree alone, and would go, or become something else, with what is done for c. */
bool commit_would_lose(const char *top, const ReviewChange *c);

/* One more CommitName. path is copied. */
void commit_name_add(GArray *names, const char *path, const struct stat *st);
