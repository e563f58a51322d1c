/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "commit-plan.h"

/*
 * A CommitHeld: files of the host that are not to go, since what the box has of them by another name does not come to the host. The plan's, which is
 * borrowed, and has all of its items by then.
 */
CommitHeld *commit_held_new(const Review *review, const CommitPlan *plan);
void commit_held_free(CommitHeld *held);

/* fd_file_key() of the layer's file of the plan's i-th item; NULL: it is none. The holder's. */
const char *commit_held_key(const CommitHeld *held, guint i);

/* Find them. made: of each item whether it is on the host, or will be; NULL: all that are to be carried are. */
void commit_held_find(CommitHeld *held, const bool *made);

/* What the i-th item would take from its name on the host may go. False with errno EDEADLK. */
bool commit_held_may_go(const CommitHeld *held, guint i);
