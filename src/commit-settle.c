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
#include <dirent.h>
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
#include "fsoverlay/lowers.h"
#include "root.h"
#include "seen.h"

#define DEPTH_MAX 2048u /* directories in a path of PATH_MAX */

typedef struct {
        CommitJournal *journal;
        LayerForm form;
        GString *path; /* of the directory at hand */
        GError **error;
} Settle;

static bool note_mark(const Settle *s, int dir) {
        bool bad;
        g_autofree char *mark = layer_redirect(s->form, dir, &bad);
        /* One that is no path from the top none of ours writes. */
        g_autofree char *now = mark && mark[0] == '/' ? commit_journal_place_since(s->journal, mark, commit_journal_settled(s->journal)) : NULL;

        return !now || g_str_equal(now, mark) || commit_journal_add_unsettled(s->journal, s->path->str, now, s->error);
}

static bool note_marks(Settle *s, int dir, unsigned depth);

static bool note_below(Settle *s, int dir, const char *name, unsigned depth) {
        _cleanup_close_ int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        size_t len = s->path->len;

        if (fd < 0)
                return true; /* it is no directory */
        g_string_append_printf(s->path, "/%s", name);
        mode_t mode;
        bool opened = fd_open_up(fd, &mode), ok = note_mark(s, fd) && note_marks(s, fd, depth + 1);
        if (opened)
                fd_shut_again(fd, mode);
        g_string_truncate(s->path, len);
        return ok;
}

/* What the caller cannot read of a layer no commit has carried. */
static bool note_marks(Settle *s, int dir, unsigned depth) {
        DIR *d = depth < DEPTH_MAX ? fd_open_dir(dir, ".") : NULL;
        bool ok = true;

        if (!d)
                return true;
        for (const struct dirent *e; ok && (e = readdir(d));)
                if ((e->d_type == DT_DIR || e->d_type == DT_UNKNOWN) && !g_str_equal(e->d_name, ".") && !g_str_equal(e->d_name, ".."))
                        ok = note_below(s, dirfd(d), e->d_name, depth);
        closedir(d);
        return ok;
}

static bool write_mark(int upper, const char *path, const char *place, GError **error) {
        _cleanup_close_ int fd = root_open_beneath(upper, path + 1, O_PATH | O_DIRECTORY);
        g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", fd);
        mode_t mode;
        bool opened = fd >= 0 && fd_open_up(fd, &mode), ok = fd >= 0 && setxattr(self, XATTR_REDIRECT, place, strlen(place), 0) == 0;

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
                g_autoptr(GString) path = g_string_new(NULL);
                Settle s = { journal, layer_form(upper), path, error };
                if (!begin || commit_journal_settled(journal) == commit_journal_n_moves(journal))
                        return true;
                if (!commit_journal_begin_unsettled(journal, error) || !note_marks(&s, upper, 0) || !commit_journal_end_unsettled(journal, error))
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
