/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "commit-plan.h"

/*
 * Carrying a plan out. Each name changes by one rename(2) of what was made whole beside it; names that come first, then those that go, then what
 * directories themselves are. Killed at any point, the same commit once more ends as if it had not been (commit-journal.h).
 */
typedef struct {
        void (*done)(void *data, const CommitItem *item);
        void (*failed)(void *data, const CommitItem *item, const char *why); /* nothing of that path was changed, unless why says so */
        void *data;
} CommitReport;

/* False with error where it had to stop; what could not be carried is reported, and the rest goes on. */
bool commit_apply(Review *review, const CommitPlan *plan, const CommitReport *report, GError **error);
