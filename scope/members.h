/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Lists of pid_t. Those of a wire's "au", at the end. */
void members_add(GArray *pids, GVariant *list);

/* What those from first on have forked so far, and these in turn, as far as it is not in the list yet. By their first threads alone, or by all. */
void members_add_children(GArray *pids, guint first, bool all_threads);

/* Whether it is the child of one of parents at this moment: one that was, and has ended, may have left its number to anybody. */
bool members_is_child(pid_t pid, const GArray *parents);

/* Without those of others. */
void members_remove(GArray *pids, const GArray *others);

/* Those that are not there any more leave the list; whether there were any. */
bool members_drop_ended(GArray *pids);
