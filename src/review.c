/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a box changed: its upper layer beside the host, as far as the box could see that.
 *
 * Role: diff, commit, explore, drop. Privileges: the caller's. Threads: one. Order: after the box's run; diff also while it runs.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/times.h"
#include "commit-settle.h"
#include "mountinfo.h"
#include "registry.h"
#include "review.h"

#define WALK_DEPTH_MAX 2048 /* directories in a path of PATH_MAX */

void review_free(Review *review) {
        if (!review)
                return;
        g_clear_pointer(&review->seen, seen_free);
        g_clear_pointer(&review->rules, rules_free);
        g_clear_pointer(&review->journal, commit_journal_free);
        lowers_clear(&review->lowers);
        fd_closep(&review->dir_fd);
        fd_closep(&review->upper);
        fd_closep(&review->lock_fd);
        fd_closep(&review->turn_fd);
        g_free(review->groups);
        g_free(review->home);
        g_free(review->dir);
        g_free(review->name);
        g_free(review);
}

static bool caller_groups(Review *r, GError **error) {
        int n = getgroups(0, NULL);
        r->groups = g_new(gid_t, MAX(n, 0) + 1);
        n = n < 0 ? n : getgroups(n, r->groups);
        if (n < 0)
                return err_set(error, errno, "getgroups");
        r->groups[n++] = getegid();
        r->options.groups = r->groups;
        r->options.n_groups = (guint) n;
        return true;
}

int review_lower(const Review *review) {
        return g_array_index(review->lowers.roots, int, 0);
}

static bool read_journal(Review *r, GError **error) {
        g_clear_pointer(&r->journal, commit_journal_free);
        r->journal = commit_journal_read(r->dir_fd, review_lower(r), error);
        return r->journal != NULL;
}

static bool open_lower_tree(Review *r, GError **error) {
        g_autoptr(GPtrArray) paths = g_ptr_array_new();
        g_autofree char *real = path_real(r->seen->lower);

        /* As it was, it was a real path. With a tree around it the box may have moved it, and put a symlink there: a commit would follow that. */
        if (real && !g_str_equal(real, r->seen->lower)) {
                g_autofree char *was = err_quote(r->seen->lower), *now = err_quote(real);
                err_set(error, 0, "the box's root %s is %s now, by a symlink", was, now);
                return err_hint(error, "a box may have made it: look at it, and put the directory back where it was");
        }
        g_ptr_array_add(paths, r->seen->lower);
        if (!lowers_open(paths, &r->lowers, error))
                return false;
        r->lowers.live = true;
        return read_journal(r, error);
}

static char *place(void *data, const char *redirect) {
        return commit_journal_place(((Review *) data)->journal, redirect);
}

static bool made(void *data, const char *path, const struct stat *st) {
        return commit_journal_made_at(((Review *) data)->journal, path, st);
}

static const GPtrArray *made_in(void *data, const char *path) {
        return commit_journal_planned_in(((Review *) data)->journal, path);
}

/* The box made a directory, and the host later one of that name, as several boxes do whose changes are all taken. What a commit of this
 * box brought is no such thing. */
static bool came_later(void *data, const char *path, int upper) {
        const Review *r = data;
        struct timespec in_box, on_host;
        _cleanup_close_ int fd = review_open_lower(r, path, O_PATH);

        return fd >= 0 && !commit_journal_brought(r->journal, path) && fd_birth(upper, &in_box) && fd_birth(fd, &on_host) &&
               time_compare(&on_host, &in_box) > 0;
}

/* The box's directory is the caller's own, upper/ its first level that the box could write. */
static bool open_upper(Review *r, GError **error) {
        r->dir_fd = open(r->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (r->dir_fd < 0)
                return err_set(error, errno, "%s", r->dir);
        r->upper = openat(r->dir_fd, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return r->upper >= 0 ? true : err_set(error, errno, "%s/upper", r->dir);
}

/* The directory of a box that left changes, or is about to. The caller's; NULL with error. */
static char *find_box(const Caller *caller, const char *text, Review *r, GError **error) {
        g_autoptr(BoxInfo) box = registry_find(caller, text, error);

        if (!box)
                return NULL;
        g_strlcpy(r->id, box->id, sizeof r->id);
        r->name = g_strdup(box_info_called(box));
        r->running = box->state == BOX_RUNNING;
        if (!box->dir) {
                err_set(error, 0, "nothing is kept of it: it has no changes");
                err_hint(error, "it ran with --overlay=none, or is at its start");
        }
        return g_strdup(box->dir);
}

Review *review_open(const Caller *caller, const char *box, GError **error) {
        g_autoptr(Review) r = g_new0(Review, 1);

        r->dir_fd = r->upper = r->lock_fd = r->turn_fd = -1;
        r->home = g_strdup(caller->home);
        r->dir = find_box(caller, box, r, error);
        if (!r->dir || !open_upper(r, error) || !(r->seen = seen_read(r->dir_fd, error)) || !open_lower_tree(r, error) || !caller_groups(r, error)) {
                if (r->name)
                        g_prefix_error(error, "box %s: ", r->name);
                return NULL;
        }
        (void) fd_raise_limit(); /* a path has up to 2,048 names, and each has a descriptor for every layer */
        r->rules = rules_new(r->seen->rules);
        r->options.live = r->options.owners = true;
        r->options.opens_closed = !r->running;
        r->options.rules = r->rules;
        r->options.own = r->seen->own;
        r->options.place = place;
        r->options.made = made;
        r->options.made_in = made_in;
        r->options.came_later = came_later;
        r->options.data = r;
        r->options.uid = caller->uid;
        r->options.root_uid = r->seen->root_uid;
        r->options.root_gid = r->seen->root_gid;
        return g_steal_pointer(&r);
}

/* Others may look at the box meanwhile (registry.c), which then is there for them: so its own lock is shared, and that against other commits another one. */
static bool take_locks(Review *r) {
        r->lock_fd = openat(r->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (r->lock_fd < 0 || !state_lock(r->lock_fd, LOCK_SH))
                return false;
        r->turn_fd = openat(r->dir_fd, SEEN_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        return r->turn_fd >= 0 && flock(r->turn_fd, LOCK_EX | LOCK_NB) == 0;
}

bool review_lock(Review *r, GError **error) {
        if (take_locks(r))
                return commit_settle_finish(r->dir_fd, error) && read_journal(r, error);
        if (errno == ENOENT)
                return err_set(error, 0, "box %s has just been removed", r->name);
        if (errno != EWOULDBLOCK)
                return err_set(error, errno, "lock box %s", r->name);
        if (!r->running) {
                err_set(error, 0, "another commit of box %s is at work, or the box is about to run or to go", r->name);
                return err_hint(error, "say it again when that has ended");
        }
        err_set(error, 0, "box %s is running", r->name);
        return err_hint(error, "usbox stop %s, or wait for its end: usbox wait %s", r->name, r->name);
}

GStrv review_paths(const char *cwd, const VerbArgs *args) {
        guint n = verb_args_n_words(args);
        GStrv absolute = g_new0(char *, n);

        for (guint i = 1; i < n; i++)
                absolute[i - 1] = g_canonicalize_filename(verb_args_word(args, i), cwd);
        return absolute;
}

void review_tell_unmatched(const Review *review) {
        log_note("no change of the box is at or below what is named; usbox diff %s lists them all", review->name);
}

bool review_is_hook(const char *path) {
        static const char *const hooks[] = { "/.git/hooks", "/.git/config", "/.git/config.worktree", "/.git/commondir", "/.envrc", "/.vscode", "/.idea" };

        if (g_str_has_suffix(path, "/.git"))
                return true;

        for (guint i = 0; i < G_N_ELEMENTS(hooks); i++)
                for (const char *at = strstr(path, hooks[i]); at; at = strstr(at + 1, hooks[i])) {
                        char after = at[strlen(hooks[i])];
                        if (after == '\0' || after == '/')
                                return true;
                }
        return false;
}

/* A directory .git, as most are. */
static bool is_repository(const Change *change) {
        const struct stat *st = change->st ? change->st : change->below;
        return st && S_ISDIR(st->st_mode) && g_str_has_suffix(change->path, "/.git");
}

/* path is at or below one of paths, of which none is all. *ret_leads: it is so, or one of them is below it. */
static bool is_wanted(const char *path, const char *const *paths, bool *ret_leads) {
        bool wanted = !paths || !*paths, leads = wanted;

        for (; paths && *paths && !wanted; paths++) {
                wanted = path_is_at_or_below(path, *paths);
                leads = leads || wanted || path_is_at_or_below(*paths, path);
        }
        *ret_leads = leads;
        return wanted;
}

bool review_carries(const ReviewChange *c, const char *const *paths) {
        bool leads;
        return is_wanted(c->path, paths, &leads) || (leads && (c->kind == CHANGE_ADDED || c->kind == CHANGE_TYPE || c->redirect));
}

typedef struct {
        const Review *review;
        const char *const *paths;
        bool unchanged, complete;
        char *moved; /* the last renamed directory that is in no other */
        GPtrArray *changes;
} Collector;

static void review_change_free(gpointer p) {
        ReviewChange *c = p;
        g_free(c->path);
        g_free(c->below_path);
        g_free(c->redirect);
        g_free(c);
}

static bool collect(void *data, const Change *change) {
        Collector *c = data;
        bool leads, wanted = is_wanted(change->path, c->paths, &leads);

        if (change->redirect && !(c->moved && path_is_at_or_below(change->path, c->moved))) {
                g_free(c->moved);
                c->moved = g_strdup(change->path);
        }
        ChangeKind kind = change->kind;
        unsigned what = change->what;
        /* Another directory of the same name and looks is no change: what is in it and what is not are. */
        if (kind == CHANGE_MODIFIED && what == CHANGE_PLACE && !change->redirect)
                kind = CHANGE_NONE;
        /* What stands on the disk of these directories is usbox's own doing. */
        if (kind == CHANGE_MODIFIED && !(what & CHANGE_PLACE) &&
            seen_is_way(c->review->seen, c->review->upper, change->dirfd, change->name, change->path))
                kind = CHANGE_NONE;
        if (!wanted || (kind == CHANGE_NONE && !c->unchanged))
                return leads;
        ReviewChange *kept = g_new0(ReviewChange, 1);
        *kept = (ReviewChange){ .kind = kind,
                                .what = what,
                                .path = g_strdup(change->path),
                                .below_path = g_strdup(change->below_path),
                                .moved_len = change->moved_len,
                                .redirect = g_strdup(change->redirect),
                                .opaque = change->opaque,
                                .merged = change->merged,
                                .unread = change->unread,
                                .hidden = change->hidden,
                                .hook = review_is_hook(change->path) && !is_repository(change),
                                .moved = c->moved && path_is_at_or_below(change->path, c->moved),
                                .has_st = change->st != NULL,
                                .has_below = change->below != NULL,
                                .rule = change->rule };
        if (change->st)
                kept->st = *change->st;
        if (change->below)
                kept->below = *change->below;
        g_ptr_array_add(c->changes, kept);
        return true;
}

static void complain(void *data, const char *path, int errnum) {
        g_autofree char *quoted = err_quote(path);

        log_note("%s in the box's layer: %s", quoted, err_text(errnum));
        ((Collector *) data)->complete = false;
}

GPtrArray *review_changes(Review *review, const char *const *paths, bool unchanged, bool *ret_complete) {
        Collector c = { review, paths, unchanged, true, NULL, g_ptr_array_new_with_free_func(review_change_free) };

        review->options.unchanged = unchanged;
        changes_walk(review->upper, &review->lowers, &review->options, &(ChangesVisitor){ collect, complain, &c });
        if (review->lowers.errnum != 0 && review->lowers.errnum != EACCES) {
                log_note("the host's files could not be read in full: %s", err_text(review->lowers.errnum));
                c.complete = false;
        }
        g_free(c.moved);
        *ret_complete = c.complete;
        return c.changes;
}

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* Nothing that is opened there may make us wait or become our terminal; openat2(2) takes no such flags with O_PATH, which does neither. */
static int open_below(int root, const char *path, int flags, uint64_t resolve) {
        int careful = flags & O_PATH ? 0 : O_NONBLOCK | O_NOCTTY;
        return sys_openat2(root, path, (uint64_t) (flags | careful | O_NOFOLLOW | O_CLOEXEC), 0, BENEATH | resolve);
}

/* One name in dir, of which either may shut out its owner: then for as long as this takes. */
static int open_name(int dir, const char *name, int flags) {
        mode_t dir_mode, mode;
        int fd = open_below(dir, name, flags, RESOLVE_NO_XDEV);

        if (fd >= 0 || errno != EACCES)
                return fd;
        bool opened = fd_open_up(dir, S_IRUSR, &dir_mode);
        fd = open_below(dir, name, flags, RESOLVE_NO_XDEV);
        if (fd < 0 && errno == EACCES) {
                _cleanup_close_ int closed = open_below(dir, name, O_PATH, RESOLVE_NO_XDEV);
                if (closed >= 0 && fd_open_up(closed, S_IRUSR, &mode)) {
                        fd = open_below(dir, name, flags, RESOLVE_NO_XDEV);
                        fd_shut_again(closed, mode);
                }
        }
        if (opened)
                fd_shut_again(dir, dir_mode);
        return fd;
}

int review_open_upper(const Review *review, const char *path, int flags) {
        int fd = open_below(review->upper, path[1] ? path + 1 : ".", flags, RESOLVE_NO_XDEV);

        if (fd >= 0 || errno != EACCES)
                return fd;
        g_auto(GStrv) names = g_strsplit(path + 1, "/", -1);
        _cleanup_close_ int at = fcntl(review->upper, F_DUPFD_CLOEXEC, 3);
        for (char **name = names; at >= 0 && *name; name++) {
                int next = open_name(at, *name, name[1] ? O_PATH | O_DIRECTORY : flags);
                fd_closep(&at);
                at = next;
        }
        return fd_steal(&at);
}

int review_open_below(int root, const char *path, int flags) {
        return open_below(root, path[1] ? path + 1 : ".", flags, 0);
}

int review_open_lower(const Review *review, const char *path, int flags) {
        return review_open_below(review_lower(review), path, flags);
}

typedef struct {
        const Review *review;
        ReviewVisit visit;
        void *data;
        GString *path; /* of the directory at hand */
} LowerWalk;

static int compare_names(gconstpointer a, gconstpointer b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The names of a directory, sorted; NULL with errno. */
static GPtrArray *sorted_names(int dirfd) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        DIR *dir = fd_open_dir(dirfd, ".");
        const struct dirent *e;

        if (!dir)
                return NULL;
        while (errno = 0, (e = readdir(dir)))
                if (!g_str_equal(e->d_name, ".") && !g_str_equal(e->d_name, ".."))
                        g_ptr_array_add(names, g_strdup(e->d_name));
        int saved = errno;
        closedir(dir);
        errno = saved;
        g_ptr_array_sort(names, compare_names);
        return saved == 0 ? g_steal_pointer(&names) : NULL;
}

static bool walk_lower(LowerWalk *w, int dirfd, RuleState rule, unsigned depth);

/* parent: the path of dirfd. */
static bool visit_lower(LowerWalk *w, int dirfd, const char *parent, const char *name, RuleState rule, unsigned depth) {
        struct stat st;

        if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
                return errno == ENOENT;
        bool shown = changes_shows(&w->review->options, dirfd, parent, name, &st, &rule) && !g_hash_table_contains(w->review->seen->own, w->path->str);
        errno = 0;
        if (!w->visit(w->data, &(ReviewEntry){ dirfd, name, w->path->str, &st, shown }))
                return false;
        if (!shown || !S_ISDIR(st.st_mode))
                return true;
        _cleanup_close_ int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd >= 0 && walk_lower(w, fd, rule, depth + 1);
}

static bool walk_lower(LowerWalk *w, int dirfd, RuleState rule, unsigned depth) {
        if (depth > WALK_DEPTH_MAX) {
                errno = ENAMETOOLONG;
                return false;
        }
        g_autoptr(GPtrArray) names = sorted_names(dirfd);
        g_autofree char *parent = g_strdup(w->path->str);
        bool ok = names != NULL;

        for (guint i = 0; ok && i < names->len; i++) {
                g_string_append_printf(w->path, "/%s", (const char *) names->pdata[i]);
                ok = visit_lower(w, dirfd, parent, names->pdata[i], rule, depth);
                g_string_truncate(w->path, strlen(parent));
        }
        return ok;
}

bool review_walk_lower(const Review *review, const char *path, RuleState rule, ReviewVisit visit, void *data) {
        g_autoptr(GString) at = g_string_new(path);
        LowerWalk w = { review, visit, data, at };
        _cleanup_close_ int fd = review_open_lower(review, path, O_PATH | O_DIRECTORY);

        return fd >= 0 && walk_lower(&w, fd, rule, 0);
}

/* How many bytes at p may stand as they are: a printable character. */
static size_t plain_bytes(const char *p) {
        gunichar c = g_utf8_get_char_validated(p, -1);
        if (c >= 0x80000000u || !g_unichar_isprint(c) || c == '"' || c == '\\')
                return 0;
        return (size_t) (g_utf8_next_char(p) - p);
}

char *review_quote(const char *prefix, const char *path) {
        static const char letters[] = "abtnvfr"; /* of 7 to 13 */
        g_autoptr(GString) out = g_string_new("\"");
        bool plain = true;

        g_string_append(out, prefix);
        for (size_t n; *path; path += MAX(n, 1)) {
                unsigned char c = (unsigned char) *path;
                n = plain_bytes(path);
                if (n > 0) {
                        g_string_append_len(out, path, (gssize) n);
                        continue;
                }
                plain = false;
                if (c >= 7 && c <= 13)
                        g_string_append_printf(out, "\\%c", letters[c - 7]);
                else if (c == '"' || c == '\\')
                        g_string_append_printf(out, "\\%c", c);
                else
                        g_string_append_printf(out, "\\%03o", c);
        }
        if (plain)
                return g_strdup(out->str + 1);
        g_string_append_c(out, '"');
        return g_string_free(g_steal_pointer(&out), FALSE);
}
