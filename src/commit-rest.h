/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "commit-journal.h"

/* Remove name in dir, with all that is in it: something of a commit's own. 0 or an errno. */
int commit_rest_remove(int dir, const char *name);

/* Remove what a commit of box id that was killed left unfinished. lower: the host's directory that the journal's paths are below. */
void commit_rest_clean(CommitJournal *journal, int lower, const char *id);

/* The same for a box that is about to go, whose directory is box_fd; and directories that such a commit had put aside go back to their names. */
void commit_rest_give_up(int box_fd, const char *id);
