/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Project hooks of trees that are written through: which there are, what their guards need, and what became of them. The guards: root-hooks-mount.c.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: with the source that they lie in, and after the run.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "box-remove.h"
#include "fsoverlay/changes-xattr.h"
#include "hook-own.h"
#include "root-hooks.h"

#define HOOK_FILE_MAX (4 * 1024 * 1024)
#define HOOK_BEFORE "hook-before" /* in the box's directory: what an earlier run made, as it goes */

/* .git/commondir has git look for its configuration elsewhere, and so has .git where it is a file, as in a worktree (gitrepository-layout(5)). */
static const char *const hook_names[] = { ".git/hooks", ".git/config", ".git/config.worktree", ".git/commondir", ".git", ".envrc", ".vscode", ".idea", NULL };
/* The same of a tree that is a repository itself: a project's .git, as a worktree elsewhere needs it, or a bare one. */
static const char *const repository_hook_names[] = { "hooks", "config", "config.worktree", "commondir", NULL };

static void hook_free(gpointer p) {
        Hook *hook = p;
        g_free(hook->path);
        g_free(hook->host.path);
        g_free(hook->data);
        g_free(hook);
}

/* A repository is no hook, but has some. */
static bool is_repository(const Hook *hook, const struct stat *st) {
        return g_str_equal(hook->name, ".git") && S_ISDIR(st->st_mode);
}

int hook_problem(int fd, struct stat *ret_st) {
        *ret_st = (struct stat){ 0 };
        if (fd < 0 || fstat(fd, ret_st) < 0)
                return errno;
        if (S_ISLNK(ret_st->st_mode))
                return ELOOP;
        return S_ISDIR(ret_st->st_mode) || S_ISREG(ret_st->st_mode) ? 0 : EINVAL;
}

static bool plan_one(Planner *p, const MountSource *source, int dir, Hook *hook, GError **error) {
        struct stat st;
        _cleanup_close_ int fd = root_open_beneath(dir, hook->name, O_PATH | O_NOFOLLOW);

        hook->path = g_strconcat(source->op->dst + 1, "/", hook->name, NULL);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) { /* ENOTDIR: .git is a file, in a worktree of git's */
                const char *slash = strchr(hook->name, '/');
                g_autofree char *parent = slash ? g_strndup(hook->name, (size_t) (slash - hook->name)) : g_strdup(".");
                _cleanup_close_ int above = root_open_beneath(dir, parent, O_PATH | O_DIRECTORY);
                hook->parent_there = above >= 0;
                return true;
        }
        int problem = hook_problem(fd, &st);
        if (problem != 0) {
                g_autofree char *shown = err_quote(source->host.path);
                err_set(error, problem, "%s/%s", shown, hook->name);
                return err_hint(error, "usbox keeps project hooks of a --rw tree copy-on-write and cannot do so with "
                                       "this one; --rw-hooks "
                                       "writes them through");
        }
        if (is_repository(hook, &st))
                return true;

        g_autofree char *host = g_strconcat(source->host.path, "/", hook->name, NULL);
        hook->host = plan_host_path(host, &st);
        hook->is_dir = S_ISDIR(st.st_mode);
        hook->mode = st.st_mode & 0777;
        hook->index = ++p->n_overlays;
        if (hook->is_dir || p->spec->root.overlay == OVERLAY_NONE)
                return true;
        _cleanup_close_ int file = root_open_beneath(dir, hook->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (file < 0 || !fd_read_all(file, HOOK_FILE_MAX, &hook->data, &hook->len))
                return err_set(error, errno, "read %s", host);
        return true;
}

static bool has_type(int dir, const char *name, mode_t type) {
        struct stat st;
        return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}

/* By its name, too: a box could take away what git knows it by, and bring it back in its next run. */
static bool is_git_directory(int dir, const char *path) {
        struct stat st;
        return g_str_has_suffix(path, ".git") || (fstatat(dir, "HEAD", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               ((has_type(dir, "objects", S_IFDIR) && has_type(dir, "refs", S_IFDIR)) || has_type(dir, "commondir", S_IFREG)));
}

static bool plan_names(Planner *p, MountSource *source, int dir, const char *const *names, GError **error) {
        for (const char *const *name = names; *name; name++) {
                Hook *hook = g_new0(Hook, 1);
                hook->name = *name;
                g_ptr_array_add(source->hooks, hook);
                if (!plan_one(p, source, dir, hook, error))
                        return false;
        }
        return true;
}

/* A tree that is given twice (by a profile, too), or one within another: the later mount comes over the earlier one, guards and all, and the same path
 * in upper/ can have one copy only. */
static void forget_covered(const Planner *p, const MountSource *by) {
        for (guint i = 0; i < p->plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(p->plan->sources, i);
                for (guint j = 0; source != by && source->hooks && j < by->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(by->hooks, j);
                        for (guint k = source->hooks->len; k-- > 0;)
                                if (g_str_equal(((const Hook *) g_ptr_array_index(source->hooks, k))->path, hook->path))
                                        g_ptr_array_remove_index(source->hooks, k);
                }
        }
}

bool root_hooks_plan(Planner *p, MountSource *source, GError **error) {
        _cleanup_close_ int dir = open(source->host.path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (dir < 0)
                return err_set(error, errno, "%s", source->host.path);
        source->hooks = g_ptr_array_new_with_free_func(hook_free);
        if (!plan_names(p, source, dir, hook_names, error) ||
            (is_git_directory(dir, source->host.path) && !plan_names(p, source, dir, repository_hook_names, error)))
                return false;
        forget_covered(p, source);
        return true;
}

static char *new_copy_path(const RootPlan *plan, const Hook *hook) {
        return g_strconcat(plan->served ? "hooks/" : "upper/", hook->path, NULL);
}

char *hook_copy_path(const RootPlan *plan, const Hook *hook, int box_fd) {
        char *path = new_copy_path(plan, hook);
        _cleanup_close_ int fd = plan->served ? root_open_beneath(box_fd, path, O_PATH | O_NOFOLLOW) : -1;

        if (!plan->served || fd >= 0)
                return path;
        g_free(path);
        return g_strconcat("upper/", hook->path, NULL);
}

char *hook_work_path(const RootPlan *plan, const Hook *hook) {
        return g_strdup_printf("%s/%u", plan->served ? "hooks-work" : "work", hook->index);
}

typedef void (*HookVisit)(const RootPlan *plan, const Hook *hook, int box_fd, void *data);

/* Every hook of the plan that was there. */
static void for_each_hook(const RootPlan *plan, int box_fd, HookVisit visit, void *data) {
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(source->hooks, j);
                        if (hook->host.path)
                                visit(plan, hook, box_fd, data);
                }
        }
}

/* Of an earlier run of the box, which goes on with its own. Anything else that it left there is not to be mounted over a hook. */
static bool has_own_copy(const Hook *hook, int box_fd) {
        g_autofree char *path = g_strconcat("upper/", hook->path, NULL);
        struct stat st;

        _cleanup_close_ int fd = root_open_beneath(box_fd, path, O_PATH | O_NOFOLLOW);
        return fd >= 0 && fstat(fd, &st) == 0 && (hook->is_dir ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode) && st.st_nlink == 1);
}

static void make_one(const RootPlan *plan, const Hook *hook, int box_fd, void *data) {
        GError **error = *(GError ***) data;
        g_autofree char *upper = new_copy_path(plan, hook), *work = hook_work_path(plan, hook);
        g_autofree char *parent = g_path_get_dirname(upper);

        if (*error)
                return;
        bool own = has_own_copy(hook, box_fd);
        if (!own && !root_dirs_make_way(plan, box_fd, parent, error))
                return;
        if (hook->is_dir)
                (void) ((own || root_dirs_make(box_fd, upper, hook->mode | 0700, error)) &&
                        root_dirs_make(box_fd, work, 0700, error));
        if (hook->is_dir || own)
                return;
        const char *name;
        _cleanup_close_ int dir = root_dirs_parent(box_fd, upper, &name);
        _cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST) {
                err_set(error, EEXIST, "copy %s", hook->host.path);
                err_hint(error, "the box made something else of it, which usbox diff shows: usbox commit and usbox rm the box, or rm it alone");
                return;
        }
        if (fd < 0 || !fd_write_all(fd, hook->data, hook->len) || fchmod(fd, hook->mode) < 0)
                err_set(error, errno, "copy %s", hook->host.path);
}

/* What an earlier run made, which was taken back: nothing stands on the host that it could be mounted over. */
static bool has_made_before(const Hook *hook, int box_fd) {
        g_autofree char *upper = g_strconcat("upper/", hook->path, NULL);
        const char *name;
        struct stat st;

        _cleanup_close_ int dir = root_dirs_parent(box_fd, upper, &name);
        return dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISCHR(st.st_mode) && !is_repository(hook, &st);
}

static void tell_made_before(const RootPlan *plan, int box_fd) {
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(source->hooks, j);
                        g_autofree char *shown = err_quote(source->host.path);
                        if (!hook->host.path && has_made_before(hook, box_fd))
                                log_note("%s/%s of an earlier run is not in the box: usbox diff shows it, usbox commit takes it", shown, hook->name);
                }
        }
}

bool root_hooks_make(const RootPlan *plan, int box_fd, GError **error) {
        g_autoptr(GError) failure = NULL;
        GError **slot = &failure;

        tell_made_before(plan, box_fd);
        for_each_hook(plan, box_fd, make_one, &slot);
        if (!failure)
                return true;
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
}

/* An ACL may come from the directory above the boxes. */
static bool has_attributes(int dir, const char *name) {
        g_autoptr(GPtrArray) attributes = changes_attributes(dir, name);

        for (guint i = 0; i < attributes->len; i++)
                if (g_str_has_prefix(attributes->pdata[i], "user."))
                        return true;
        return false;
}

/* A copy has the file's mode and none of its attributes; what else it has is the box's doing, as other bytes are. */
static bool is_as_copied(const Hook *hook, int dir, const char *name, int fd) {
        g_autofree char *now = NULL;
        struct stat st;
        size_t len;

        return fstat(fd, &st) == 0 && (st.st_mode & 07777) == hook->mode && !has_attributes(dir, name) && fd_read_all(fd, HOOK_FILE_MAX, &now, &len) &&
               len == hook->len && memcmp(now, hook->data, len) == 0;
}

/* The directory itself is usbox's, with its mode in the box alone: what is in it is what is kept. */
static void tell_of_directory(const Hook *hook, int box_fd, const char *upper) {
        const char *name;
        struct stat st;

        _cleanup_close_ int dir = root_dirs_parent(box_fd, upper, &name);
        if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
            ((st.st_mode & 0777) != (hook->mode | 0700) || has_attributes(dir, name)))
                log_note("what the box made of the mode or attributes of %s itself is not kept", hook->name);
}

static void trim_one(const RootPlan *plan, const Hook *hook, int box_fd, void *data) {
        g_autofree char *upper = hook_copy_path(plan, hook, box_fd);

        if (!hook->is_dir) {
                const char *name;
                _cleanup_close_ int dir = root_dirs_parent(box_fd, upper, &name);
                _cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                if (fd < 0 || !is_as_copied(hook, dir, name, fd))
                        return;
                (void) unlinkat(dir, name, 0);
                *strrchr(upper, '/') = '\0';
        } else
                tell_of_directory(hook, box_fd, upper);
        root_dirs_trim(box_fd, upper, data);
}

/* Where hook->path is in upper/: the directory, made if need be. -1 with errno: one on the way is none, or the box has made a symlink of it. */
static int upper_parent(const RootPlan *plan, const Hook *hook, int box_fd, const char **ret_name) {
        g_autofree char *upper = g_strconcat("upper/", hook->path, NULL), *parent = g_path_get_dirname(upper);
        g_autoptr(GError) failure = NULL;

        *ret_name = strrchr(hook->path, '/') + 1;
        if (root_dirs_make_way(plan, box_fd, parent, &failure))
                return root_open_beneath(box_fd, parent, O_PATH | O_DIRECTORY);
        errno = err_get_errno(failure);
        return -1;
}

/* What changed goes where all other changes are. */
static void settle_one(const RootPlan *plan, const Hook *hook, int box_fd, void *data) {
        g_autofree char *copy = new_copy_path(plan, hook);
        const char *copy_name, *name;
        struct stat st;

        (void) data;
        _cleanup_close_ int from = root_dirs_parent(box_fd, copy, &copy_name);
        if (from < 0 || fstatat(from, copy_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return;
        _cleanup_close_ int to = upper_parent(plan, hook, box_fd, &name);
        if (to < 0 || renameat2(from, copy_name, to, name, RENAME_NOREPLACE) < 0)
                log_note("what the box made of %s could not be kept: %s", hook->name, err_text(errno));
}

void root_hooks_trim(const RootPlan *plan, int box_fd, FdLater *later) {
        for_each_hook(plan, box_fd, trim_one, later);
        if (plan->served)
                for_each_hook(plan, box_fd, settle_one, NULL);
}

static int remove_before(int box_fd) {
        FdLater later = { .n = FD_LATER_MAX }; /* full: at once */

        if (unlinkat(box_fd, HOOK_BEFORE, 0) == 0 || errno == ENOENT)
                return 0;
        return box_remove_part(&later, box_fd, HOOK_BEFORE, NULL);
}

/* from/name comes to to/to_name, also in the place of what an earlier run made: that is put aside first, so that it is never on the host. */
static bool take_in(const Hook *hook, int box_fd, int from, const char *name, int to, const char *to_name) {
        if (renameat2(from, name, to, to_name, RENAME_NOREPLACE) == 0)
                return true;
        if (errno != EEXIST || (errno = remove_before(box_fd)) != 0 || renameat2(to, to_name, box_fd, HOOK_BEFORE, RENAME_NOREPLACE) < 0)
                return false;
        if (renameat2(from, name, to, to_name, RENAME_NOREPLACE) < 0) {
                int errnum = errno;
                (void) renameat2(box_fd, HOOK_BEFORE, to, to_name, RENAME_NOREPLACE);
                errno = errnum;
                return false;
        }
        int errnum = remove_before(box_fd);
        log_note("what the box made of %s takes the place of what an earlier run made of it%s%s", hook->name, errnum != 0 ? ", which cannot be removed: " : "",
                 errnum != 0 ? err_text(errnum) : "");
        return true;
}

/* By descriptors and without following anything: the box wrote this tree. */
static void take_back(const RootPlan *plan, const MountSource *source, const Hook *hook, int box_fd, const Spec *spec) {
        g_autofree char *parent = g_path_get_dirname(hook->name), *name = g_path_get_basename(hook->name);
        g_autofree char *made = g_strconcat("upper/", hook->path, NULL);
        FdLater later = { .n = 0 };
        const char *to_name;
        struct stat st;

        _cleanup_close_ int dir = open(source->host.path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir < 0 || fstat(dir, &st) < 0 || st.st_dev != source->host.dev || st.st_ino != source->host.ino)
                return;
        _cleanup_close_ int from = root_open_beneath(dir, parent, O_PATH | O_DIRECTORY);
        if (from < 0 || fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || is_repository(hook, &st))
                return;
        _cleanup_close_ int to = upper_parent(plan, hook, box_fd, &to_name);
        /* root_hooks_appeared() tells of what stays */
        if (to >= 0 && take_in(hook, box_fd, from, name, to, to_name) && !hook_own(to, to_name, spec))
                log_note("what the box made of %s could not be kept as it was: %s", hook->name, err_text(errno));
        *strrchr(made, '/') = '\0';
        root_dirs_trim(box_fd, made, &later);
        fd_later_release(&later);
}

void root_hooks_take_back(const RootPlan *plan, int box_fd, const Spec *spec) {
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(source->hooks, j);
                        if (!hook->host.path && hook->parent_there)
                                take_back(plan, source, hook, box_fd, spec);
                }
        }
}

/* The host's paths of hooks that is_one() picks; NULL: none. */
static GPtrArray *hooks_that(const RootPlan *plan, bool (*is_one)(const Hook *, const char *path)) {
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                for (guint j = 0; source->hooks && j < source->hooks->len; j++) {
                        const Hook *hook = g_ptr_array_index(source->hooks, j);
                        g_autofree char *path = g_strconcat(source->host.path, "/", hook->name, NULL);
                        if (is_one(hook, path))
                                g_ptr_array_add(paths, g_steal_pointer(&path));
                }
        }
        return paths->len > 0 ? g_steal_pointer(&paths) : NULL;
}

static bool has_appeared(const Hook *hook, const char *path) {
        struct stat st;
        return !hook->host.path && lstat(path, &st) == 0 && !is_repository(hook, &st);
}

GPtrArray *root_hooks_appeared(const RootPlan *plan) {
        return hooks_that(plan, has_appeared);
}

static bool is_guarded_one(const Hook *hook, const struct stat *st) {
        return st->st_dev == hook->host.dev && st->st_ino == hook->host.ino;
}

static bool is_back(const Hook *hook, const char *path) {
        struct stat st;
        return hook->host.path && hook->put_back && lstat(path, &st) == 0 && is_guarded_one(hook, &st);
}

GPtrArray *root_hooks_back(const RootPlan *plan) {
        return hooks_that(plan, is_back);
}

static bool was_replaced(const Hook *hook, const char *path) {
        struct stat st;
        return hook->host.path && lstat(path, &st) == 0 && !(hook->put_back && is_guarded_one(hook, &st)) &&
               (hook->replaced || !is_guarded_one(hook, &st));
}

GPtrArray *root_hooks_replaced(const RootPlan *plan) {
        return hooks_that(plan, was_replaced);
}
