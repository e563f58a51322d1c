/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "commit-plan.h"

/* A set of such files, by inode number. The caller's. */
GHashTable *commit_held_new(void);

/* Add those of which a name is not carried, and none is that was not there before. made: which of the plan's items were; NULL: all that are to be. */
void commit_held_add(GHashTable *held, const Review *review, const CommitPlan *plan, const bool *made);

/* c takes none of them away from the host. False with errno EDEADLK. */
bool commit_held_may_go(GHashTable *held, const CommitPlan *plan, const ReviewChange *c);
