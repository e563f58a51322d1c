/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories that the box renamed, renamed on the host.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: under commit-apply.c, in the order of the walk by their new names.
 *
 * One rename(2) each where the new name is free. Where it is not, what stands there goes first; if that is, or holds, a directory that will be
 * moved itself (two that changed places), it is parked under a name of ours until its turn. Each rename is in the journal before it
 * is made, so that a commit that was killed finds every directory again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "commit-work.h"
#include "mountinfo.h"

/* Where a directory is by now that the plan found at path; the caller's. */
static char *whereabouts(const CommitWork *w, const char *path) {
        char *place = commit_journal_place_since(w->review->journal, path, w->first_move);
        return place ? place : g_strdup(path);
}

static bool rename_dir(CommitWork *w, const char *from, const char *to) {
        g_autofree char *from_dir = g_path_get_dirname(from), *from_name = g_path_get_basename(from);
        const char *to_name;
        struct stat st;

        /* Into itself, as a box's own notes may say: what rename(2) answers then is said of a file system without its flags as well. */
        if (path_is_at_or_below(to, from)) {
                errno = EINVAL;
                return false;
        }
        if (!commit_enter(w, to, &to_name))
                return false;
        _cleanup_close_ int source = review_open_lower(w->review, from_dir, O_PATH | O_DIRECTORY);
        if (source < 0 || fstatat(source, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return false;
        if (!S_ISDIR(st.st_mode)) {
                errno = EBUSY;
                return false;
        }
        if (!commit_journal_add_move(w->review->journal, from, to, &st, &w->error))
                return false;
        bool ok = commit_rename(w, source, from_name, to_name, RENAME_NOREPLACE);
        int errnum = errno;
        if (!ok && !commit_journal_no_move(w->review->journal, w->error ? NULL : &w->error))
                return false;
        if (ok && !(commit_note_worked(w, source) && commit_note_worked(w, w->dir)))
                return false;
        commit_leave(w);
        errno = errnum;
        return ok;
}

bool commit_park_below(CommitWork *w, const char *path) {
        for (guint i = 0; i < w->plan->items->len; i++) {
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                const char *source = item->change->redirect;
                if (!source || item->verdict != COMMIT_DO || g_hash_table_contains(w->moved, source))
                        continue;
                g_autofree char *now = whereabouts(w, source), *dir = g_path_get_dirname(path);
                if (!path_is_at_or_below(now, path))
                        continue;
                g_autofree char *parked = g_strdup_printf("%s/%s%s-%u", dir[1] ? dir : "", COMMIT_PARKED, w->review->id, w->parked++);
                if (!rename_dir(w, now, parked))
                        return false;
        }
        return true;
}

bool commit_may_go(const CommitWork *w, const char *path) {
        for (guint i = 0; i < w->plan->items->len; i++) {
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                const char *source = item->change->redirect;
                if (!source || g_hash_table_contains(w->moved, source))
                        continue;
                g_autofree char *now = whereabouts(w, source);
                if (path_is_at_or_below(now, path)) {
                        errno = EINPROGRESS;
                        return false;
                }
        }
        return true;
}

/* Make the new name free. */
static bool clear_name(CommitWork *w, const CommitItem *item) {
        const ReviewChange *c = item->change;
        const char *name;

        if (!c->has_below)
                return true;
        return commit_park_below(w, c->path) && commit_may_go(w, c->path) && commit_enter(w, c->path, &name) && commit_remove(w, name, &c->below);
}

bool commit_move(CommitWork *w, const CommitItem *item) {
        const ReviewChange *c = item->change;

        if (!clear_name(w, item))
                return false;
        g_autofree char *now = whereabouts(w, c->redirect);
        if (!rename_dir(w, now, c->path))
                return false;
        g_hash_table_add(w->moved, c->redirect);
        return true;
}
