/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "review.h"

/*
 * What a commit is to do: each change of a box judged. Nothing of the host is changed here.
 *
 * A conflict is a name that the host changed after the box's command was let go (its ctime, which no program can set back, or that it is gone or came to
 * be), unless a commit of this box did: --force goes over it. A change is passed over, whatever is said, where the host has a name that was hidden from
 * the box, where somebody else's file would be replaced, and where it is nothing that can be carried (a device).
 */
typedef enum {
        COMMIT_DO,
        COMMIT_NOTHING,  /* not a change; or what it comes to is done with another one */
        COMMIT_CONFLICT, /* reason says why */
        COMMIT_SKIP,     /* likewise */
        COMMIT_BELOW,    /* in a directory that is a conflict or passed over */
} CommitVerdict;

typedef struct {
        const ReviewChange *change;
        CommitVerdict verdict;
        char *reason;
        bool replaced; /* what the host had here moves away with a directory that was renamed: at its turn there is nothing, and all is new */
} CommitItem;

typedef struct {
        char *path;
        guint64 ino;
} CommitName;

typedef struct CommitHeld CommitHeld; /* commit-held.h */

typedef struct {
        GPtrArray *changes; /* of ReviewChange *: all, also those that the commit was not asked for */
        GArray *items;      /* of CommitItem, one for each that it was asked for, in their order */
        GPtrArray *others;  /* of ReviewChange *: files that are not to be changed, whose names what is to be made may share; NULL: none but those of items */
        GArray *taken;      /* of CommitName: files in directories of the host that are to go */
        GArray *linked;     /* likewise: where the host has a file of several names, which did not change */
        CommitHeld *held;   /* for who carries it out, too */
        struct timespec looked; /* what has a later ctime the host changed after the plan had its look at it; to within a tick of the kernel's clock by force */
        guint n_do, n_conflicts, n_skipped;
        guint64 bytes; /* of the files to be carried */
        bool complete; /* all of the upper could be read */
} CommitPlan;

/* paths: what the commit was asked for, as for review_carries(). Where force is set there are no conflicts. */
CommitPlan *commit_plan_new(Review *review, const char *const *paths, bool force);
void commit_plan_free(CommitPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CommitPlan, commit_plan_free)

/* A file of several names: what is done at one of them, the others show. */
static inline bool commit_has_other_names(const struct stat *st) {
        return S_ISREG(st->st_mode) && st->st_nlink > 1;
}

/* Names that commit uses for what is not finished, in the directory where it is to come to; with the box's id behind. */
#define COMMIT_TEMP ".usbox-commit-"
#define COMMIT_PARKED ".usbox-moved-"
/* And for what the host had, and could not be put back. */
#define COMMIT_KEPT ".usbox-kept-"
