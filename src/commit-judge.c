/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The verdict on one change of a box: whether it can be carried to the host as that is now.
 *
 * Role: commit. Privileges: the caller's. Threads: one. Order: called by commit-plan.c, for all changes in the order of the walk.
 *
 * What the box first saw of a file is not kept: it is what the host has now, if that did not change since the command was let go. A file's ctime
 * tells, since it moves with content, mode, owner, attributes and names. A directory's moves with every name in it, so of
 * directories it counts only where the box replaced or removed one, or changed its attributes.
 */
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/times.h"
#include "commit-judge.h"
#include "commit-swapped.h"
#include "home.h"
#include "mountinfo.h"
#include "root-plan.h"

void commit_name_add(GArray *names, const char *path, const struct stat *st) {
        g_array_append_vals(names, &(CommitName){ g_strdup(path), st->st_ino }, 1);
}

void commit_item_set(CommitItem *item, CommitVerdict verdict, const char *reason) {
        item->verdict = verdict;
        g_free(item->reason);
        item->reason = g_strdup(reason);
}

void commit_judge_skip(CommitJudge *j, CommitItem *item, const char *reason) {
        commit_item_set(item, COMMIT_SKIP, reason);
        if (item->change->has_st && S_ISDIR(item->change->st.st_mode))
                j->blocked = item->change->path;
}

/* block: what is in it is no better. */
static void conflict(CommitJudge *j, CommitItem *item, bool block, const char *reason) {
        if (j->force)
                return;
        commit_item_set(item, COMMIT_CONFLICT, reason);
        if (block)
                j->blocked = item->change->path;
}

static bool is_ours(const CommitJournal *journal, const char *path, const struct stat *st) {
        return commit_journal_made(journal, st) || commit_journal_left_at(journal, path, st) || commit_journal_planned(journal, path, st);
}

bool commit_changed_since(const CommitJudge *j, const char *path, const char *in_box, const struct stat *st) {
        const CommitJournal *journal = j->review->journal;
        bool ours = is_ours(journal, path, st) || is_ours(journal, in_box, st);
        return time_compare(&st->st_ctim, &j->review->seen->since) > 0 && (!ours || commit_journal_looks_other(journal, path, st));
}

/* Whose files are replaced and removed: one's own. Real root's are everybody's. */
static bool others(const CommitJudge *j, const struct stat *st) {
        return j->uid != 0 && st->st_uid != j->uid;
}

typedef struct {
        const CommitJudge *judge;
        dev_t dev;
        const char *reason; /* why not; NULL: it may go */
        bool forceable;
        GArray *files; /* of CommitName: they are added; NULL: they are not asked for */
} TreeLook;

static void may_not(TreeLook *t, bool forceable, const char *reason) {
        t->forceable = forceable;
        t->reason = reason;
}

static bool look_at(void *data, const ReviewEntry *e) {
        TreeLook *t = data;

        if (!e->shown)
                may_not(t, false, "something in it was hidden from the box");
        else if (e->st->st_dev != t->dev)
                may_not(t, false, "something is mounted in it");
        else if (others(t->judge, e->st))
                may_not(t, false, "something in it belongs to another user");
        else if (!t->reason && commit_changed_since(t->judge, e->path, e->path, e->st))
                may_not(t, true, "something in it changed on the host since");
        if (t->files && S_ISREG(e->st->st_mode))
                commit_name_add(t->files, e->path, e->st);
        return !t->reason || t->forceable;
}

/* May the host's tree at path, of status st, go? moves: as a whole, to another name. */
static bool judge_tree(CommitJudge *j, CommitItem *item, const char *path, const struct stat *st, bool moves) {
        GArray *taken = j->plan->taken;
        guint n_taken = taken->len;
        TreeLook t = { .judge = j, .dev = st->st_dev, .files = moves ? NULL : taken };
        /* Of what a commit made at a hidden name the path alone does not tell. */
        RuleState rule = moves ? changes_rule_of(&j->review->options, path) : item->change->rule;

        if (others(j, st))
                t.reason = "the host's belongs to another user";
        else if (!review_walk_lower(j->review, path, rule, look_at, &t) && !t.reason)
                t.reason = "not all of it can be read";
        if (moves && t.forceable) /* what changed goes with it */
                t.reason = NULL;
        if (!t.reason && !moves && commit_changed_since(j, path, item->change->path, st))
                may_not(&t, true, "the host changed it since");
        if (!t.reason)
                return true;
        if (t.forceable)
                conflict(j, item, true, t.reason);
        else
                commit_judge_skip(j, item, t.reason);
        if (item->verdict != COMMIT_DO)
                g_array_set_size(taken, n_taken);
        return item->verdict == COMMIT_DO;
}

/* What stands at path of the host now, whether the box saw it or not. */
static bool stands(const CommitJudge *j, const char *path, struct stat *ret) {
        _cleanup_close_ int fd = review_open_lower(j->review, path, O_PATH);
        return fd >= 0 && fstat(fd, ret) == 0;
}

/* What the host has below c went by itself with the directory that was top, and not with the renamed one that c is in. */
static bool went_with(const char *top, const ReviewChange *c) {
        return strlen(top) > c->moved_len && path_is_at_or_below(c->below_path, top);
}

bool commit_went_with_any(const GPtrArray *tops, const ReviewChange *c) {
        for (guint i = 0; i < tops->len; i++)
                if (went_with(tops->pdata[i], c))
                        return true;
        return false;
}

bool commit_would_lose(const char *top, const ReviewChange *c) {
        bool goes = c->has_below && (c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE || c->redirect);
        return went_with(top, c) || (goes && strlen(top) > c->moved_len && path_is_at_or_below(top, c->below_path));
}

/* True: so it is not done. */
static bool judge_loss(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;

        for (guint i = 0; i < j->stuck_from->len; i++)
                if (commit_would_lose(j->stuck_from->pdata[i], c)) {
                        commit_judge_skip(j, item, "what the host has here was to be renamed, and cannot be");
                        return true;
                }
        for (guint i = 0; i < j->left->len; i++) {
                const ReviewChange *left = j->left->pdata[i];
                if (!commit_would_lose(left->redirect, c))
                        continue;
                g_autofree char *quoted = err_quote(left->path);
                g_autofree char *reason = g_strdup_printf("the box has what the host has here as %s, which is to be named, too", quoted);
                commit_judge_skip(j, item, reason);
                return true;
        }
        return false;
}

/* What the host has at path was made after the box came to be, as far as its file system tells: it is not what the box had there, even if it has the same
 * inode number. */
static bool made_since(const CommitJudge *j, const char *path) {
        _cleanup_close_ int fd = review_open_lower(j->review, path, O_PATH);
        struct timespec born;
        return fd >= 0 && fd_birth(fd, &born) && time_compare(&born, &j->review->seen->since) > 0;
}

/* The box knew the directory of that path, as usbox-fs judges where a mark leads: no other can it have renamed, whatever its layer says. */
static bool was_shown(const CommitJudge *j, const char *path) {
        g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
        g_autoptr(GString) parent = g_string_new("/");
        RuleState rule = rules_root(j->review->rules);
        _cleanup_close_ int at = fcntl(review_lower(j->review), F_DUPFD_CLOEXEC, 3);
        bool shown = at >= 0;

        for (char **name = names; shown && *name; name++) {
                struct stat st;
                shown = fstatat(at, *name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 &&
                        changes_shows(&j->review->options, at, parent->str, *name, &st, &rule);
                int next = shown ? openat(at, *name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
                fd_closep(&at);
                at = next;
                shown = at >= 0;
                g_string_append_printf(parent, "%s%s", parent->len > 1 ? "/" : "", *name);
        }
        return shown;
}

void commit_judge_move(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;
        struct stat st;

        if (c->hidden)
                return; /* commit_judge() says so of everything hidden */
        if (!stands(j, c->redirect, &st) || !S_ISDIR(st.st_mode))
                commit_item_set(item, COMMIT_CONFLICT, "the host has not the directory any more that was renamed to it");
        else if (!was_shown(j, c->redirect))
                commit_judge_skip(j, item, "the directory that was renamed to it is hidden from the box");
        else if (judge_tree(j, item, c->redirect, &st, true) &&
                 (made_since(j, c->redirect) || commit_is_swapped(j->review, c->path, c->redirect, &st)))
                conflict(j, item, true, "the host has another directory now where the one was that was renamed to it");
        g_ptr_array_add(item->verdict == COMMIT_DO ? j->moved_from : j->stuck_from, c->redirect);
        j->blocked = NULL; /* that is for the walk over all items */
}

/* A rule hides the name, although the host has it not: a place for keys stays closed. A home that shows only tools is no such rule. */
static bool hidden_by_name(const CommitJudge *j, const ReviewChange *c) {
        g_autofree char *parent = g_path_get_dirname(c->below_path), *name = g_path_get_basename(c->below_path);
        const char *const *const lists[] = { home_hidden, home_tool_secrets };
        RuleState rule = c->rule;

        if (c->kind != CHANGE_ADDED)
                return false;
        if (!rules_filters(rule) && !rules_trivial(rule) && !rules_enter(j->review->rules, rule, parent, name, S_ISDIR(c->st.st_mode), &rule))
                return true;
        for (guint i = 0; i < G_N_ELEMENTS(lists); i++)
                for (const char *const *at = lists[i]; *at; at++) {
                        if (path_is_below(c->path, j->home) && fnmatch(*at, c->path + strlen(j->home) + 1, FNM_PATHNAME | FNM_NOESCAPE) == 0)
                                return true;
                }
        return false;
}

static bool is_of_commit(const char *path) {
        return strstr(path, "/" COMMIT_TEMP) || strstr(path, "/" COMMIT_PARKED);
}

/* Below /tmp and the like there is at most a working directory of the host's. */
static bool is_own_place(const ReviewChange *c) {
        for (const char *const *dir = root_own_dirs; *dir; dir++)
                if (path_is_at_or_below(c->path, *dir))
                        return !c->has_below && rules_filters(c->rule);
        return false;
}

/* What is never carried, whatever is said: passed over, or a conflict where the caller is to decide about the rest. True: it is such a thing. */
static bool judge_never(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;
        bool carried = !c->has_st || S_ISREG(c->st.st_mode) || S_ISDIR(c->st.st_mode) || S_ISLNK(c->st.st_mode);

        if (g_hash_table_contains(j->review->seen->own, c->path))
                commit_judge_skip(j, item, "the box's own file");
        else if (c->hidden) {
                commit_judge_skip(j, item, "the host has this name, which was hidden from the box");
                if (!j->force) /* which goes on with the rest, and never takes this: nobody has seen what would be lost */
                        item->verdict = COMMIT_CONFLICT;
        } else if (is_of_commit(c->path))
                commit_judge_skip(j, item, "a name that usbox commit uses");
        else if (!carried)
                commit_judge_skip(j, item, "neither a file nor a directory nor a symlink");
        else if (is_own_place(c) || hidden_by_name(j, c))
                commit_judge_skip(j, item, "a name that is hidden from boxes");
        else
                return false;
        return true;
}

/* A directory that the box did not make: it changed something in one of the host's. usbox-fs marks those that it made as opaque, the kernel those that it
 * copied with their origin. */
static bool is_copied_dir(const CommitJudge *j, const ReviewChange *c, int fd) {
        if (!c->merged || g_hash_table_contains(j->review->seen->ways, c->path))
                return false;
        return !seen_by_kernel(j->review->seen, c->path) || copy_origin_of_upper(fd);
}

/* When the host had what was copied to this file of the layer: at its birth, which no box can set; where the file system has none, at the box's start. */
static struct timespec copied_at(const CommitJudge *j, int upper_fd) {
        struct timespec born, since = j->review->seen->since;
        return fd_birth(upper_fd, &born) && time_compare(&born, &since) > 0 ? born : since;
}

/* Names came or went in the host's directory of path, since the host had what is at fd in the layer. */
static bool directory_changed(const CommitJudge *j, const char *path, int fd) {
        g_autofree char *parent = g_path_get_dirname(path);
        struct timespec when = copied_at(j, fd);
        struct stat st;
        return stands(j, parent, &st) && time_compare(&st.st_ctim, &when) > 0;
}

/* An earlier commit brought it by another name, which it still has there. */
static bool is_brought_elsewhere(const CommitJudge *j, const ReviewChange *c, int fd) {
        g_autofree char *key = fd_file_key(fd);
        const char *path = commit_journal_brought_from(j->review->journal, key);
        struct stat st;
        return path && !g_str_equal(path, c->path) && stands(j, path, &st);
}

static bool add_origin(void *data, const ReviewEntry *e) {
        _cleanup_close_ int fd = S_ISREG(e->st->st_mode) && e->shown ? openat(e->dirfd, e->name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;

        if (fd >= 0)
                copy_origins_add(data, fd);
        return true;
}

/* Files that the box took away from their names, or gave others: they may be there by those, of which not all need be named to the commit. */
static CopyOrigins *collect_origins(CommitJudge *j) {
        CopyOrigins *origins = copy_origins_new();
        const GPtrArray *changes = j->plan->changes;

        for (guint i = 0; i < changes->len; i++) {
                const ReviewChange *c = changes->pdata[i];
                _cleanup_close_ int fd = -1;
                if (!c->has_below)
                        continue;
                if (S_ISDIR(c->below.st_mode) && (c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE))
                        (void) review_walk_lower(j->review, c->below_path, c->rule, add_origin, origins);
                else if (S_ISREG(c->below.st_mode) && (fd = review_open_lower(j->review, c->below_path, O_PATH)) >= 0)
                        copy_origins_add(origins, fd);
        }
        return origins;
}

/* A copy of a file of the host's that is not there any more, although the box did not rename it to this. Where the box's root was the kernel's, it is not
 * told which file it was: then nothing may have gone from the directory. */
static bool lost_its_origin(CommitJudge *j, const ReviewChange *c, int fd) {
        if (!copy_origin_of_upper(fd))
                return false;
        if (!j->origins)
                j->origins = collect_origins(j);
        CopyOriginKnown known = copy_origins_have(j->origins, fd);
        /* An earlier commit of other paths may have taken it from the name that it had. */
        return (known == COPY_ORIGIN_NO && !commit_journal_took(j->review->journal, copy_origin_ino(fd), c->path)) ||
               (known == COPY_ORIGIN_UNKNOWN && !is_brought_elsewhere(j, c, fd) && directory_changed(j, c->path, fd));
}

/* A commit brought it, and somebody removed it from the host since: that alone, and not with the directory that it was in. */
static bool was_removed(const CommitJudge *j, const ReviewChange *c) {
        g_autofree char *parent = g_path_get_dirname(c->path);
        struct stat st;
        return commit_journal_brought(j->review->journal, c->path) && stands(j, parent, &st);
}

/* What the box had of the host, and the host has no more, is nothing new. */
static void judge_added(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;
        _cleanup_close_ int fd = review_open_upper(j->review, c->path, O_PATH);

        if (was_removed(j, c)) {
                bool dir = S_ISDIR(c->st.st_mode);
                conflict(j, item, dir, dir ? "the host has this directory no more" : "the host has this file no more");
                return;
        }
        if (fd < 0 || commit_journal_planned(j->review->journal, c->path, NULL))
                return;
        /* Another id's, as a box's root can make it. Whether the host had it nobody can say, and an empty one would be taken for all of it. */
        if (S_ISDIR(c->st.st_mode) && c->unread)
                commit_judge_skip(j, item, "the box's directory cannot be read");
        else if (S_ISDIR(c->st.st_mode) && is_copied_dir(j, c, fd))
                conflict(j, item, true, "the host has this directory no more");
        else if (S_ISREG(c->st.st_mode) && lost_its_origin(j, c, fd))
                conflict(j, item, false, "the host has this file no more");
}

static void judge_modified(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;
        bool dir = S_ISDIR(c->st.st_mode), place = c->what & CHANGE_PLACE;

        if (others(j, &c->below) && !(dir && place && !(c->what & ~(unsigned) CHANGE_PLACE)))
                commit_judge_skip(j, item, "the host's belongs to another user");
        else if (c->redirect)
                (void) judge_tree(j, item, c->path, &c->below, false);
        else if (commit_changed_since(j, c->below_path, c->path, &c->below))
                conflict(j, item, dir && place, dir && !place ? "the host changed the directory since" : "the host changed it since");
        if (dir && item->verdict == COMMIT_SKIP && !place)
                j->blocked = NULL; /* its attributes are; what is in it is another matter */
}

static void judge_gone(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;

        if (S_ISDIR(c->below.st_mode))
                (void) judge_tree(j, item, c->below_path, &c->below, false);
        else if (others(j, &c->below))
                commit_judge_skip(j, item, "the host's belongs to another user");
        else if (commit_changed_since(j, c->below_path, c->path, &c->below))
                conflict(j, item, c->kind == CHANGE_TYPE, "the host changed it since");
}

/* What is not seen of the layer may have it by another name: a renamed directory is in the host's tree alone, and by force all of it would be lost.
 * True: so it stays. */
static bool judge_unread(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;

        if (j->plan->complete || !c->has_below || !(c->kind == CHANGE_DELETED || c->kind == CHANGE_TYPE || c->redirect || c->opaque))
                return false;
        commit_judge_skip(j, item, "the box's layer could not be read in full: it may have been moved");
        return true;
}

/* Something is in it that is to be changed, and it is another directory than the box had at the start. */
static void judge_unchanged(CommitJudge *j, CommitItem *item, const CommitItem *next) {
        const ReviewChange *c = item->change;

        commit_item_set(item, COMMIT_NOTHING, NULL);
        if (!c->opaque || !next || !path_is_at_or_below(next->change->path, c->path) || judge_unread(j, item))
                return;
        if (commit_changed_since(j, c->below_path, c->path, &c->below))
                conflict(j, item, true, "the host changed the directory since");
}

/* What the host has here is as it was, and yet not what the box changed: it would be overwritten. True: it is so. */
static bool judge_swapped(CommitJudge *j, CommitItem *item) {
        const ReviewChange *c = item->change;

        if (!j->swapped || !c->has_below || c->kind == CHANGE_NONE || !commit_is_in_swapped(j->swapped, c))
                return false;
        if (!judge_never(j, item))
                conflict(j, item, c->has_st && S_ISDIR(c->st.st_mode), "the host has another directory now where the one was that this is in");
        return true;
}

void commit_judge(CommitJudge *j, CommitItem *item, const CommitItem *next) {
        const ReviewChange *c = item->change;

        if (j->blocked && path_is_at_or_below(c->path, j->blocked) && !g_str_equal(c->path, j->blocked)) {
                commit_item_set(item, COMMIT_BELOW, NULL);
                return;
        }
        if (item->verdict != COMMIT_DO) { /* a renamed directory that cannot be moved */
                j->blocked = c->path;
                return;
        }
        if (judge_swapped(j, item))
                return;
        bool went = commit_went_with_any(j->moved_from, c);
        if (went && c->kind != CHANGE_DELETED && !judge_never(j, item))
                item->replaced = true;
        else if (c->kind == CHANGE_NONE || (c->kind == CHANGE_DELETED && went))
                judge_unchanged(j, item, next);
        else if (item->verdict != COMMIT_DO || judge_never(j, item) || judge_loss(j, item) || judge_unread(j, item))
                return;
        else if (c->kind == CHANGE_ADDED)
                judge_added(j, item);
        else if (c->kind == CHANGE_MODIFIED)
                judge_modified(j, item);
        else
                judge_gone(j, item);
}
