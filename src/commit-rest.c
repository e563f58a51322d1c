/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a commit that was killed left on the host under names of its own: what was not finished, and directories that were to change places.
 *
 * Role: commit; whoever removes a box. Privileges: the caller's. Threads: one, under the box's lock. Order: before the next commit, or before the box goes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "box-remove.h"
#include "commit-plan.h"
#include "commit-rest.h"
#include "seen.h"

int commit_rest_remove(int dir, const char *name) {
        FdLater later = { .n = FD_LATER_MAX }; /* full: at once */

        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM)
                return errno;
        return box_remove_part(&later, dir, name, NULL);
}

void commit_rest_clean(CommitJournal *journal, int lower, const char *id) {
        g_autofree char *temp = g_strconcat(COMMIT_TEMP, id, NULL);

        for (const char *const *path = commit_journal_temps(journal); *path; path++) {
                _cleanup_close_ int dir = review_open_below(lower, *path, O_PATH | O_DIRECTORY);
                int errnum = dir >= 0 ? commit_rest_remove(dir, temp) : 0;
                if (errnum != 0)
                        log_note("%s/%s: %s", *path, temp, err_text(errnum));
        }
}

static bool rename_back(int lower, const char *from, const char *to) {
        g_autofree char *from_dir = g_path_get_dirname(from), *to_dir = g_path_get_dirname(to);
        _cleanup_close_ int source = review_open_below(lower, from_dir, O_PATH | O_DIRECTORY), target = review_open_below(lower, to_dir, O_PATH | O_DIRECTORY);

        return source >= 0 && target >= 0 && renameat2(source, strrchr(from, '/') + 1, target, strrchr(to, '/') + 1, RENAME_NOREPLACE) == 0;
}

/* Which move was the first that put a directory aside which still is; n_moves: none. */
static guint first_aside(const CommitJournal *journal) {
        guint n = commit_journal_n_moves(journal);

        for (guint i = 0; i < n; i++) {
                const char *to;
                if (commit_journal_move(journal, i, &to) && strstr(to, "/" COMMIT_PARKED))
                        return i;
        }
        return n;
}

/* With those that were moved after it, since one of them may have its name by now; the last one first. */
static void give_back(const CommitJournal *journal, int lower) {
        guint first = first_aside(journal);

        for (guint i = commit_journal_n_moves(journal); i-- > first;) {
                const char *to, *from = commit_journal_move(journal, i, &to);
                if (!from)
                        continue;
                bool ok = rename_back(lower, to, from);
                g_autofree char *from_shown = review_quote("", from), *to_shown = review_quote("", to);
                if (ok)
                        log_note("%s: back where it was, after a commit that did not come to its end", from_shown);
                else
                        log_note("%s: this is what %s was, before a commit that did not come to its end", to_shown, from_shown);
        }
}

void commit_rest_give_up(int box_fd, const char *id) {
        if (faccessat(box_fd, COMMIT_JOURNAL, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return;
        g_autoptr(Seen) seen = seen_read(box_fd, NULL);
        _cleanup_close_ int lower = seen ? open(seen->lower, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        g_autoptr(CommitJournal) journal = lower >= 0 ? commit_journal_read(box_fd, lower, NULL) : NULL;
        if (!journal)
                return;
        commit_rest_clean(journal, lower, id);
        give_back(journal, lower);
}
