/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box's layer says of directories that a commit has renamed on the host.
 *
 * Role: launcher; commit. Privileges: the caller's. Threads: one, under the box's lock. Order: before a box goes on with its files.
 *
 * Of a directory that the box renamed the layer has a mark alone that says what it was on the host. Once a commit has renamed it there, the mark leads to
 * nothing, or to something else: the box would find the directory without what it had not changed, and the next commit would take that away from the host.
 * So each mark is written anew. What will be written is in the journal first: whoever is killed here, the same is written once more.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "commit-journal.h"
#include "commit-settle.h"
#include "fsoverlay/config.h"
#include "layer-redirects.h"
#include "root.h"
#include "seen.h"

typedef struct {
        CommitJournal *journal;
        GError **error;
} Settle;

static bool note_mark(void *data, const char *path, const char *mark) {
        const Settle *s = data;
        /* One that is no path from the top none of ours writes. */
        g_autofree char *now = mark[0] == '/' ? commit_journal_place_since(s->journal, mark, commit_journal_settled(s->journal)) : NULL;

        return !now || g_str_equal(now, mark) || commit_journal_add_unsettled(s->journal, path, now, s->error);
}

static bool write_mark(int upper, const char *path, const char *place, GError **error) {
        _cleanup_close_ int fd = root_open_beneath(upper, path + 1, O_PATH | O_DIRECTORY);
        g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", fd);
        mode_t mode;
        bool opened = fd >= 0 && fd_open_up(fd, S_IRUSR, &mode), ok = fd >= 0 && setxattr(self, XATTR_REDIRECT, place, strlen(place), 0) == 0;

        if (opened)
                fd_shut_again(fd, mode);
        if (ok)
                return true;
        int errnum = errno;
        g_autofree char *quoted = err_quote(path);
        err_set(error, errnum, "tell the box's layer where %s is since a commit renamed it on the host", quoted);
        return err_hint(error, "what the box changed can still be carried: usbox commit, then usbox rm, and the next run begins anew");
}

/* What the journal has, and that it is done. */
static bool write_marks(CommitJournal *journal, int upper, GError **error) {
        const GPtrArray *marks = commit_journal_unsettled(journal);

        for (guint i = 0; i + 1 < marks->len; i += 2)
                if (!write_mark(upper, marks->pdata[i], marks->pdata[i + 1], error))
                        return false;
        if (marks->len > 0 && syncfs(upper) < 0)
                return err_set(error, errno, "sync the box's layer");
        return commit_journal_add_settled(journal, error);
}

static bool settle(int box_fd, bool begin, GError **error) {
        if (faccessat(box_fd, COMMIT_JOURNAL, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return true;
        g_autoptr(Seen) seen = seen_read(box_fd, error);
        if (!seen)
                return false;
        _cleanup_close_ int lower = open(seen->lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int upper = openat(box_fd, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (lower < 0 || upper < 0)
                return err_set(error, errno, "%s", lower < 0 ? seen->lower : "the box's layer");
        g_autoptr(CommitJournal) journal = commit_journal_read(box_fd, lower, error);
        if (!journal)
                return false;
        if (!commit_journal_unsettled(journal)) {
                Settle s = { journal, error };
                if (!begin || commit_journal_settled(journal) == commit_journal_n_moves(journal))
                        return true;
                if (!commit_journal_begin_unsettled(journal, error) || !layer_redirects_each(upper, note_mark, &s, error) ||
                    !commit_journal_end_unsettled(journal, error))
                        return false;
        }
        return write_marks(journal, upper, error);
}

bool commit_settle(int box_fd, GError **error) {
        return settle(box_fd, true, error);
}

bool commit_settle_finish(int box_fd, GError **error) {
        return settle(box_fd, false, error);
}
