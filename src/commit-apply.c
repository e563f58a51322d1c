/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Carrying changes of a box to the host: the order of the work.
 *
 * Role: commit. Privileges: the caller's. Threads: one, under the box's lock. Order: after commit-plan.c.
 *
 * A directory of the host is opened below the lower's root without following symlinks, and all else happens by that descriptor and one name. A name that
 * had something is exchanged with what was made for it (RENAME_EXCHANGE), and what came out is looked at: if it is not what the plan saw, it is put
 * back; of a directory, all that is in it. A name that had nothing is taken with RENAME_NOREPLACE. So whatever happens on the host meanwhile, nothing of it is
 * lost unseen.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/times.h"
#include "commit-rest.h"
#include "commit-work.h"

#define KEPT_MAX 100u

static bool note_device(CommitWork *w) {
        struct stat st;

        if (fstat(w->dir, &st) < 0)
                return false;
        if (g_hash_table_contains(w->devices, (gpointer) (uintptr_t) st.st_dev))
                return true;
        int fd = openat(w->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
                g_hash_table_insert(w->devices, (gpointer) (uintptr_t) st.st_dev, GINT_TO_POINTER(fd));
        return true;
}

bool commit_enter(CommitWork *w, const char *path, const char **ret_name) {
        g_autofree char *dir = g_path_get_dirname(path);

        *ret_name = strrchr(path, '/') + 1;
        if (!w->dir_path || !g_str_equal(dir, w->dir_path)) {
                commit_leave(w);
                w->dir = review_open_lower(w->review, dir, O_PATH | O_DIRECTORY);
                if (w->dir < 0 || !note_device(w))
                        return false;
                w->dir_path = g_steal_pointer(&dir);
        }
        return commit_journal_add_temp(w->review->journal, w->dir_path, &w->error);
}

void commit_leave(CommitWork *w) {
        g_clear_pointer(&w->dir_path, g_free);
        fd_closep(&w->dir);
}

bool commit_same(const struct stat *now, const struct stat *then, bool with_ctime) {
        if (now->st_dev != then->st_dev || now->st_ino != then->st_ino || (now->st_mode & S_IFMT) != (then->st_mode & S_IFMT))
                return false;
        if (S_ISDIR(now->st_mode))
                return true;
        return now->st_size == then->st_size && time_compare(&now->st_mtim, &then->st_mtim) == 0 &&
               (!with_ctime || time_compare(&now->st_ctim, &then->st_ctim) == 0);
}

/* It is that file, as a commit left it by another name: with new attributes and times, or with fewer names. */
static bool left_by_us(const CommitWork *w, const struct stat *now, const struct stat *then) {
        return commit_has_other_names(then) && now->st_dev == then->st_dev && now->st_ino == then->st_ino &&
               (commit_journal_made(w->review->journal, now) || commit_journal_left(w->review->journal, now));
}

bool commit_unchanged(const CommitWork *w, const struct stat *now, const struct stat *then) {
        return commit_same(now, then, true) || left_by_us(w, now, then);
}

int commit_open_upper(CommitWork *w, const ReviewChange *c, int flags) {
        struct stat st;
        _cleanup_close_ int fd = review_open_upper(w->review, c->path, flags);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -1;
        if (!commit_same(&st, &c->st, false)) {
                errno = ESTALE;
                return -1;
        }
        return fd_steal(&fd);
}

int commit_remove_temp(CommitWork *w) {
        return commit_rest_remove(w->dir, w->temp);
}

/* The plan is out of date for this name. */
static bool changed_meanwhile(void) {
        errno = EBUSY;
        return false;
}

bool commit_note_worked(CommitWork *w, int dir) {
        struct stat st;

        return fstat(dir, &st) == 0 && (commit_journal_made(w->review->journal, &st) || commit_journal_add_made(w->review->journal, &st, &w->error));
}

bool commit_rename(CommitWork *w, int from_dir, const char *from, const char *to, unsigned flags) {
        if (renameat2(from_dir, from, w->dir, to, flags) == 0)
                return true;
        if (errno == EINVAL) {
                g_autofree char *dir = err_quote(w->dir_path);
                err_set(&w->error, EINVAL, "rename in %s without overwriting", dir);
                err_hint(&w->error, "its file system (NFS, sshfs, bindfs) cannot do that: usbox diff --patch is for git apply, and usbox explore to copy from");
        }
        return false;
}

typedef struct {
        CommitWork *work;
        dev_t dev;
} Aside;

/* Not a file that came or changed since the plan was made, nor something that was mounted. Names in a directory come and go by what this commit does, too;
 * and a file's other names, elsewhere or in the next directory that goes, are found changed when this one has gone. */
static bool is_planned(void *data, const ReviewEntry *e) {
        const Aside *aside = data;
        CommitWork *w = aside->work;

        if (e->st->st_dev != aside->dev)
                return false;
        if (S_ISDIR(e->st->st_mode) || commit_journal_made(w->review->journal, e->st) || commit_journal_left(w->review->journal, e->st))
                return true;
        return time_compare(&e->st->st_ctim, &w->plan->looked) <= 0 &&
               (!commit_has_other_names(e->st) || commit_journal_add_left(w->review->journal, e->st, &w->error));
}

/* So is all that is in the directory that was put aside. False with errno, which is 0 where it is not so. */
static bool content_is_planned(CommitWork *w, const struct stat *st) {
        g_autofree char *path = g_build_filename(w->dir_path, w->temp, NULL);
        return review_walk_lower(w->review, path, rules_all(), is_planned, &(Aside){ w, st->st_dev });
}

/*
 * What the host had at name stands under the temporary name, which the next commit clears, and its own is taken: another one is found for it, and all stops.
 */
static void keep_aside(CommitWork *w, const char *name, int errnum) {
        g_autofree char *kept = NULL, *path = g_build_filename(w->dir_path, name, NULL), *shown = review_quote("", path);
        bool moved = false;

        for (guint i = 0; !moved && i < KEPT_MAX; i++) {
                g_free(kept);
                kept = g_strdup_printf("%s%s-%u", COMMIT_KEPT, w->review->id, i);
                moved = renameat2(w->dir, w->temp, w->dir, kept, RENAME_NOREPLACE) == 0;
        }
        w->aside_stays = true;
        if (!w->error)
                err_set(&w->error, errnum, "%s cannot be put back; what the host had there is %s beside it", shown, moved ? kept : w->temp);
}

/*
 * What was put aside is what the plan found (then). What is not, or cannot be looked at, goes back to its name. Its ctime is a new one by that: where it is
 * what it was after all, the journal has it that this was us. *ret_st is what it is. False with errno: EBUSY, or why it cannot be looked at; or with
 * w->error.
 */
static bool aside_is(CommitWork *w, const char *name, const struct stat *then, unsigned flags, struct stat *ret_st) {
        bool looked = fstatat(w->dir, w->temp, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
        bool same = looked && (commit_same(ret_st, then, false) || left_by_us(w, ret_st, then));

        if (same && S_ISDIR(ret_st->st_mode)) {
                if (content_is_planned(w, ret_st))
                        return true;
                looked = errno == 0;
        } else if (same) /* its other names are found changed in a moment: that was us */
                return !commit_has_other_names(ret_st) || commit_journal_add_left(w->review->journal, ret_st, &w->error);
        int errnum = looked ? EBUSY : errno;
        if (renameat2(w->dir, w->temp, w->dir, name, flags) < 0)
                keep_aside(w, name, errno);
        else if (fstatat(w->dir, name, ret_st, AT_SYMLINK_NOFOLLOW) == 0 && commit_same(ret_st, then, false))
                (void) commit_journal_add_left(w->review->journal, ret_st, &w->error);
        errno = errnum;
        return false;
}

/* What was put aside goes, if it is what the plan found. A file that has other names gets another ctime by that. */
static bool drop_aside(CommitWork *w, const char *name, const struct stat *then, unsigned flags) {
        struct stat st;

        if (!aside_is(w, name, then, flags, &st) || !commit_note_worked(w, w->dir))
                return false;
        _cleanup_close_ int fd = commit_has_other_names(&st) ? openat(w->dir, w->temp, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
        errno = commit_remove_temp(w);
        if (errno != 0)
                return false;
        return fd < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0 || commit_journal_add_left_as(w->review->journal, &st, &w->error);
}

/* What was made under the temporary name becomes name, in the place of then (NULL: of nothing). */
static bool put_in_place(CommitWork *w, const char *name, const struct stat *then) {
        if (!then)
                return commit_rename(w, w->dir, w->temp, name, RENAME_NOREPLACE) && commit_note_worked(w, w->dir);
        if (!commit_rename(w, w->dir, w->temp, name, RENAME_EXCHANGE))
                return errno == ENOENT ? changed_meanwhile() : false;
        return drop_aside(w, name, then, RENAME_EXCHANGE);
}

/* What the plan saw at name is still there, unchanged. */
static bool stands_as(CommitWork *w, const char *name, const struct stat *then) {
        struct stat now;
        bool there = fstatat(w->dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0;

        if (!then)
                return !there || changed_meanwhile();
        return (there && commit_unchanged(w, &now, then)) || changed_meanwhile();
}

static bool replace(CommitWork *w, const ReviewChange *c, const struct stat *then) {
        const char *name;

        if (then && S_ISDIR(then->st_mode) && !(commit_park_below(w, c->path) && commit_may_go(w, c->path)))
                return false;
        if (!commit_enter(w, c->path, &name) || !stands_as(w, name, then))
                return false;
        bool ok = commit_make(w, c, then) && put_in_place(w, name, then);
        if (!ok && !w->aside_stays) {
                int errnum = errno;
                (void) commit_remove_temp(w);
                errno = errnum;
        }
        if (then && S_ISDIR(then->st_mode))
                commit_leave(w);
        return ok;
}

/* No bytes changed: the file stays what it is, and gets its mode, attributes and times. Of times alone it keeps what set-id bits it has on the host. */
static bool change_attributes(CommitWork *w, const ReviewChange *c) {
        const struct timespec times[2] = { c->st.st_atim, c->st.st_mtim };
        const char *name;

        if (!commit_enter(w, c->path, &name) || !stands_as(w, name, &c->below))
                return false;
        _cleanup_close_ int from = commit_open_upper(w, c, O_RDONLY), to = openat(w->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat now;
        if (from < 0 || to < 0 || fstat(to, &now) < 0)
                return false;
        if (!commit_unchanged(w, &now, &c->below))
                return changed_meanwhile();
        if (!commit_journal_add_made(w->review->journal, &now, &w->error))
                return false;
        return (review_keeps_mode(c) ? futimens(to, times) == 0 : commit_copy_attributes(w, c, from, to)) && fstat(to, &now) == 0 &&
               commit_journal_add_made(w->review->journal, &now, &w->error);
}

bool commit_is_in_place(const CommitItem *item) {
        const ReviewChange *c = item->change;
        return review_keeps_content(c) && S_ISREG(c->st.st_mode) && !item->replaced;
}

static bool make_one(CommitWork *w, const CommitItem *item) {
        const ReviewChange *c = item->change;
        const struct stat *then = c->has_below && !item->replaced ? &c->below : NULL;
        bool dir = S_ISDIR(c->st.st_mode), was_dir = then && S_ISDIR(then->st_mode);

        if (item->replaced && !(commit_park_below(w, c->path) && commit_may_go(w, c->path)))
                return false;
        if (c->redirect)
                return commit_move(w, item);
        if (dir && was_dir)
                return true; /* what it is itself comes last */
        if (commit_is_in_place(item))
                return change_attributes(w, c);
        return replace(w, c, then);
}

bool commit_remove(CommitWork *w, const char *name, const struct stat *then) {
        struct stat now;

        if (fstatat(w->dir, name, &now, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT;
        if (!commit_unchanged(w, &now, then))
                return changed_meanwhile();
        return commit_rename(w, w->dir, name, w->temp, RENAME_NOREPLACE) && drop_aside(w, name, then, RENAME_NOREPLACE);
}

static bool remove_one(CommitWork *w, guint i) {
        const ReviewChange *c = g_array_index(w->plan->items, CommitItem, i).change;
        const char *name;

        if (!commit_held_may_go(w->plan->held, i) || (S_ISDIR(c->below.st_mode) && !commit_may_go(w, c->path)))
                return false;
        if (!commit_enter(w, c->path, &name))
                return errno == ENOENT && !w->error;
        return commit_remove(w, name, &c->below);
}

/* A directory's own mode, attributes and times, when nothing more is made in it. */
static bool finish_dir(CommitWork *w, const CommitItem *item) {
        const ReviewChange *c = item->change;
        _cleanup_close_ int from = commit_open_upper(w, c, O_RDONLY | O_DIRECTORY), to = review_open_lower(w->review, c->path, O_RDONLY | O_DIRECTORY);

        struct stat st;
        return from >= 0 && to >= 0 && commit_copy_attributes(w, c, from, to) && fstat(to, &st) == 0 &&
               commit_journal_add_brought(w->review->journal, c->path, &st, NULL, &w->error);
}

void commit_tell_failed(CommitWork *w, const CommitItem *item) {
        if (w->error)
                return;
        const char *why = errno == EBUSY         ? "the host changed it while commit was at work"
                          : errno == EEXIST      ? "the host has something by this name by now"
                          : errno == EINPROGRESS ? "the box has a directory of it elsewhere, to where that could not be moved"
                          : errno == EDEADLK     ? "the box has it, or something in it, by a name that could not be made"
                          : errno == ESTALE      ? "the box's layer changed while commit was at work"
                                                 : err_text(errno);
        w->report->failed(w->report->data, item, why);
        if (item->change->has_st && S_ISDIR(item->change->st.st_mode))
                w->blocked = item->change->path;
}

static void tell(CommitWork *w, const CommitItem *item, bool ok) {
        if (ok)
                w->report->done(w->report->data, item);
        else
                commit_tell_failed(w, item);
}

static bool is_finished_later(const CommitItem *item) {
        const ReviewChange *c = item->change;
        return c->has_st && S_ISDIR(c->st.st_mode) && (item->replaced || c->kind != CHANGE_MODIFIED || c->what & (CHANGE_MODE | CHANGE_XATTR | CHANGE_PLACE));
}

/* A directory has not its mode yet. */
static bool note_brought(CommitWork *w, const ReviewChange *c, const char *key) {
        struct stat st;
        bool told = S_ISREG(c->st.st_mode) && w->dir >= 0 && fstatat(w->dir, strrchr(c->path, '/') + 1, &st, AT_SYMLINK_NOFOLLOW) == 0;
        return commit_journal_add_brought(w->review->journal, c->path, told ? &st : NULL, key, &w->error);
}

bool commit_make_item(CommitWork *w, guint i) {
        const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
        const ReviewChange *c = item->change;

        errno = 0;
        bool ok = make_one(w, item) && note_brought(w, c, commit_held_key(w->plan->held, i));
        if (ok)
                commit_remember_name(w, c);
        if (!ok || !is_finished_later(item))
                tell(w, item, ok);
        return ok;
}

static void remove_all(CommitWork *w) {
        for (guint i = 0; i < w->plan->items->len && !w->error; i++) {
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                errno = 0;
                if (item->verdict == COMMIT_DO && item->change->kind == CHANGE_DELETED)
                        tell(w, item, remove_one(w, i));
        }
}

static void finish_dirs(CommitWork *w, const bool *ok) {
        for (guint i = w->plan->items->len; i-- > 0 && !w->error;) {
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                errno = 0;
                if (ok[i] && is_finished_later(item))
                        tell(w, item, finish_dir(w, item));
        }
}

static bool write_plan(CommitWork *w, GError **error) {
        for (guint i = 0; i < w->plan->items->len; i++) {
                const CommitItem *item = &g_array_index(w->plan->items, CommitItem, i);
                const ReviewChange *c = item->change;
                /* A directory that the box replaced by one like it changes by what is done in it. */
                bool like_it = item->verdict == COMMIT_NOTHING && c->opaque && c->has_below;
                if ((item->verdict == COMMIT_DO || like_it) &&
                    !commit_journal_add_plan(w->review->journal, c->path, c->has_below ? &c->below : NULL, error))
                        return false;
                if (like_it && !commit_journal_add_brought(w->review->journal, c->path, &c->below, NULL, error))
                        return false;
        }
        for (guint i = 0; i < w->plan->taken->len; i++) {
                const CommitName *file = &g_array_index(w->plan->taken, CommitName, i);
                if (!commit_journal_add_taken(w->review->journal, file->path, file->ino, error))
                        return false;
        }
        for (guint i = 0; i < w->plan->linked->len; i++) {
                const CommitName *name = &g_array_index(w->plan->linked, CommitName, i);
                if (!commit_journal_add_name(w->review->journal, name->path, name->ino, error))
                        return false;
        }
        return true;
}

/*
 * Before the first change of the host all that is carried is on the disk, and the plan with it. What the box took away from one name it may have under
 * another, whose bytes are on their way to the host when the first one goes: then a power cut finds them in the box, of which nobody has synced anything
 * where the kernel's overlayfs is its root (root-calls.c).
 */
static bool sync_box(CommitWork *w, GError **error) {
        return w->plan->n_do == 0 || syncfs(w->review->upper) == 0 || err_set(error, errno, "sync the box's layer");
}

static void sync_devices(CommitWork *w) {
        GHashTableIter iter;
        gpointer fd;

        g_hash_table_iter_init(&iter, w->devices);
        while (g_hash_table_iter_next(&iter, NULL, &fd)) {
                if (syncfs(GPOINTER_TO_INT(fd)) < 0)
                        log_note("syncfs: %s", err_text(errno));
                close(GPOINTER_TO_INT(fd));
        }
}

static void init_work(CommitWork *w, Review *review) {
        *w = (CommitWork){ .review = review, .dir = -1 };
        w->first_move = commit_journal_n_moves(review->journal);
        g_snprintf(w->temp, sizeof w->temp, "%s%s", COMMIT_TEMP, review->id);
        w->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
        w->devices = g_hash_table_new(NULL, NULL);
        w->moved = g_hash_table_new(g_str_hash, g_str_equal);
}

static void clear_work(CommitWork *w) {
        commit_leave(w);
        g_hash_table_unref(w->names);
        g_hash_table_unref(w->devices);
        g_hash_table_unref(w->moved);
}

bool commit_apply(Review *review, const CommitPlan *plan, const CommitReport *report, GError **error) {
        CommitWork w;
        g_autofree bool *ok = g_new0(bool, plan->items->len + 1);

        init_work(&w, review);
        w.plan = plan;
        w.report = report;
        if (write_plan(&w, &w.error) && sync_box(&w, &w.error)) {
                commit_make_all(&w, ok);
                commit_held_find(plan->held, ok);
                remove_all(&w);
                w.blocked = NULL;
                finish_dirs(&w, ok);
        }
        sync_devices(&w);
        clear_work(&w);
        if (!w.error)
                return true;
        g_propagate_error(error, w.error);
        return false;
}
