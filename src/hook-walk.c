/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk through a tree that is written through, for its project hooks below the top.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: as hook-nested.c, of which this is a part.
 *
 * Level by level, with one directory open at a time and the one that it is in, beneath the top and without symlinks: the tree is the box's to write, or
 * was that of an earlier one.
 *
 * To read the names of a directory takes most of the time. A directory in which a name came or went has another time of change (ctime), which nobody can
 * set. So the walk after the run reads those alone that are not as the walk before it saw them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/times.h"
#include "hook-nested.h"
#include "hook-walk.h"

#define DEPTH_FREE 16u /* to come to a directory takes as long as it is deep: so many levels more cost as much as a name */
#define SETTLED_NS (100 * 1000 * 1000) /* ten ticks of the slowest clock that a kernel gives files their times by */
#define PATHS_MAX (16u * 1024 * 1024) /* bytes of all names that are remembered: a tree can be made of long ones */

typedef enum {
        DIR_PLAIN,
        DIR_MARKED, /* hooks, .vscode, .idea: all that is in it counts */
        DIR_PASSED, /* not read */
} DirKind;

typedef struct Dir Dir;
struct Dir {
        const Dir *parent;
        unsigned depth;
        DirKind kind;
        bool in_new; /* told already: in a repository that is new, or in the directory that has one */
        bool is_git; /* a repository */
        bool settled; /* before the run: whatever is made in it from now on changes its stamp */
        HookStamp stamp;
        guint first, n; /* before the run: the directories in it */
        const Dir *before; /* after it: what was there by its name; NULL: nobody knows */
        HookMark *unit;       /* DIR_MARKED */
        HookMark *repository; /* likewise */
        char name[];
};

typedef struct {
        const GArray *passed;
        HookTree *tree;
        bool again; /* after the run: what is not in the tree's marks is told */
        int top;
        GPtrArray *dirs;  /* of Dir: those that were read and those to be read */
        const Dir *above; /* what the last one lay in; NULL: none */
        int above_fd;
        struct timespec settled; /* before the run: the latest time of change of a directory that is settled */
        unsigned entries;
        unsigned n_dirs, n_same;
        unsigned whole;
        bool stopped;
        char names[32768] __attribute__((aligned(__alignof__(struct dirent64))));
} Walk;

static const char *const repository_names[] = { "config", "config.worktree", "commondir", "hooks", NULL };

/* Not everything of this level and of those below it is seen. */
static void miss(Walk *w, unsigned depth) {
        w->whole = MIN(w->whole, depth);
}

/* NULL: too long for whoever would be asked about it. */
static char *path_of(const Dir *dir, const char *name) {
        char buffer[PATH_MAX];
        size_t at = sizeof buffer - 1, len = strlen(name);

        buffer[at] = '\0';
        for (;; name = dir->name, len = strlen(name), dir = dir->parent) {
                bool slash = buffer[at] != '\0';
                if (len + slash > at)
                        return NULL;
                if (slash && len > 0)
                        buffer[--at] = '/';
                at -= len;
                memcpy(buffer + at, name, len);
                if (!dir || !dir->parent)
                        return g_strdup(buffer + at);
        }
}

static Dir *add_dir(Walk *w, const Dir *parent, const char *name) {
        size_t len = strlen(name);
        Dir *dir = g_malloc0(sizeof *dir + len + 1);

        memcpy(dir->name, name, len);
        dir->parent = parent;
        dir->depth = parent ? parent->depth + 1 : 0;
        dir->in_new = parent && parent->in_new;
        g_ptr_array_add(w->dirs, dir);
        return dir;
}

/* git has a dozen beside each repository's hooks, and runs none. */
static bool is_sample(const char *name) {
        return g_str_has_suffix(name, ".sample");
}

/* Before the run: remember name in dir, whether it is there or not. NULL: there is no room for it. */
static HookMark *remember(Walk *w, const Dir *dir, int fd, const char *name, HookMarkKind kind) {
        g_autofree char *path = path_of(dir, name);
        struct stat st = { 0 };

        if (path && strlen(path) + w->tree->path_bytes > PATHS_MAX)
                w->stopped = true;
        if (!path || w->stopped) {
                miss(w, dir->depth);
                return NULL;
        }
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0 && errno != ENOENT) {
                miss(w, dir->depth);
                return NULL;
        }
        HookMark *mark = g_new0(HookMark, 1);
        *mark = (HookMark){ .kind = kind, .path = g_steal_pointer(&path), .stamp = hook_stamp_of(&st) };
        if (w->tree->is_read && kind == HOOK_MARK_ANY && S_ISREG(st.st_mode) && !is_sample(name))
                w->tree->unread |= !hook_content_note(fd, name, &w->tree->to_read, &mark->content);
        w->tree->path_bytes += strlen(mark->path);
        g_ptr_array_add(w->tree->marks, mark);
        g_hash_table_insert(w->tree->by_path, mark->path, mark);
        return mark;
}

/* After it: tell what was not there. Of a level that was not seen as a whole nobody knows. */
static bool tell_new(Walk *w, const Dir *dir, const char *name, const char *what) {
        g_autofree char *path = path_of(dir, name);

        if (!path)
                miss(w, dir->depth);
        if (!path || dir->depth >= w->tree->whole || g_hash_table_contains(w->tree->by_path, path))
                return false;
        if (!dir->in_new)
                hook_tree_tell(w->tree, path, what);
        return true;
}

#define NEW_REPOSITORY "is a new repository: look at what is in it and beside it"

/* A directory that could not be read, though the tree is the caller's: it may have been shut, or be of another id of the box's. */
static void on_shut(Walk *w, const Dir *dir, const char *path) {
        _cleanup_close_ int fd = hook_tree_open_below(w->top, path, O_PATH);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return;
        if (!w->again) {
                remember(w, dir, fd, "", HOOK_MARK_SHUT);
                return;
        }
        HookStamp now = hook_stamp_of(&st);
        const HookMark *before = g_hash_table_lookup(w->tree->by_path, path);
        if (!dir->in_new && dir->depth < w->tree->whole && !(before && before->kind == HOOK_MARK_SHUT && hook_stamp_is_same(&before->stamp, &now)))
                hook_tree_tell(w->tree, path, "cannot be looked into: look at what is in it");
}

static bool is_passed(const Walk *w, const Dir *dir, const HookStamp *stamp) {
        if (dir->depth == 0)
                return false;
        for (guint i = 0; i < w->passed->len; i++)
                if (hook_stamp_is_same_file(&g_array_index(w->passed, HookStamp, i), stamp))
                        return true;
        return false;
}

/* What git knows a repository by. Of any type: it follows symlinks. */
typedef struct {
        bool head, objects, refs, commondir;
} Seen;

static void see(Seen *seen, const char *name) {
        seen->head = seen->head || g_str_equal(name, "HEAD");
        seen->objects = seen->objects || g_str_equal(name, "objects");
        seen->refs = seen->refs || g_str_equal(name, "refs");
        seen->commondir = seen->commondir || g_str_equal(name, "commondir");
}

static bool is_settings(const char *name) {
        return g_str_equal(name, ".vscode") || g_str_equal(name, ".idea");
}

/* An entry of a directory that is not marked as a whole. Those at the top have their guards. */
static void on_entry(Walk *w, Dir *dir, int fd, const char *name, bool is_dir) {
        bool git = g_str_equal(name, ".git"), settings = is_settings(name), top = dir->depth == 0;
        bool counts = (git || settings || g_str_equal(name, ".envrc")) && !top;
        Dir *child = is_dir ? add_dir(w, dir, name) : NULL;
        HookMark *mark = NULL;

        if (child && settings)
                child->kind = w->again || top ? DIR_PASSED : DIR_MARKED;
        if (!counts)
                return;
        if (!w->again)
                mark = remember(w, dir, fd, name, git && is_dir ? HOOK_MARK_REPOSITORY : HOOK_MARK_ANY);
        else if (!git)
                (void) tell_new(w, dir, name, "is new: look at it");
        if (child && settings)
                child->unit = mark;
        if (child && git)
                child->repository = mark;
}

/* Its own objects are many, and nobody works in there. */
static bool is_inside_git(const Dir *dir, const char *name) {
        if (g_str_equal(dir->name, ".git"))
                return !g_str_equal(name, "modules") && !g_str_equal(name, "worktrees");
        return g_str_equal(name, "objects") || g_str_equal(name, "refs") || g_str_equal(name, "logs");
}

/* dir has been read, from the first of its directories on: is it a repository? */
static void on_repository(Walk *w, Dir *dir, int fd, const Seen *seen, guint first) {
        bool known = seen->head && ((seen->objects && seen->refs) || seen->commondir);
        bool guarded = dir->depth == 0 || (dir->depth == 1 && g_str_equal(dir->name, ".git"));

        if (!known && !g_str_has_suffix(dir->name, ".git"))
                return;
        for (guint i = first; i < w->dirs->len && known; i++) {
                Dir *child = g_ptr_array_index(w->dirs, i);
                if (is_inside_git(dir, child->name))
                        child->kind = DIR_PASSED;
        }
        dir->is_git = known;
        bool noted = g_str_equal(dir->name, ".git") && dir->depth > 0; /* which was noted where it was found */
        if (w->again) {
                bool added = !noted && tell_new(w, dir, "", NEW_REPOSITORY);
                dir->in_new = dir->in_new || (added && dir->depth > 0);
                return;
        }
        HookMark *repository = noted ? dir->repository : remember(w, dir, fd, "", HOOK_MARK_REPOSITORY);
        for (const char *const *name = repository_names; *name && !guarded; name++) {
                HookMark *mark = remember(w, dir, fd, *name, HOOK_MARK_ANY);
                if (mark)
                        mark->repository = repository;
                for (guint i = first; i < w->dirs->len && mark && S_ISDIR(mark->stamp.mode); i++) {
                        Dir *child = g_ptr_array_index(w->dirs, i);
                        if (!g_str_equal(child->name, *name))
                                continue;
                        child->kind = DIR_MARKED;
                        child->unit = mark;
                }
        }
}

/* In hooks and the like. */
static void on_marked(Walk *w, Dir *dir, int fd, const char *name, bool is_dir) {
        HookMark *mark = remember(w, dir, fd, name, HOOK_MARK_ANY);

        if (mark)
                mark->unit = dir->unit;
        if (!is_dir)
                return;
        Dir *child = add_dir(w, dir, name);
        child->kind = DIR_MARKED;
        child->unit = dir->unit;
}

static bool entry_is_dir(Walk *w, const Dir *dir, int fd, const struct dirent64 *entry) {
        struct stat st;

        if (entry->d_type != DT_UNKNOWN)
                return entry->d_type == DT_DIR;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return S_ISDIR(st.st_mode);
        if (errno != ENOENT)
                miss(w, dir->depth);
        return false;
}

/* .git in a directory counts for all that is new in it, whichever comes first in the list of its names. */
static void on_git(Walk *w, Dir *dir, int fd) {
        struct stat st;

        if (!w->again || dir->depth == 0 || dir->kind != DIR_PLAIN)
                return;
        if (fstatat(fd, ".git", &st, AT_SYMLINK_NOFOLLOW) == 0)
                dir->in_new = tell_new(w, dir, ".git", NEW_REPOSITORY) || dir->in_new;
        else if (errno != ENOENT)
                miss(w, dir->depth);
}

static void read_name(Walk *w, Dir *dir, int fd, const struct dirent64 *entry) {
        bool is_dir = entry_is_dir(w, dir, fd, entry);

        if (dir->kind == DIR_MARKED)
                on_marked(w, dir, fd, entry->d_name, is_dir);
        else
                on_entry(w, dir, fd, entry->d_name, is_dir);
}

/* Not readdir(3): of the system calls for a small directory, of which there are many, it makes half as many more. */
static void read_names(Walk *w, Dir *dir, int fd) {
        guint first = w->dirs->len;
        Seen seen = { 0 };
        ssize_t n;

        on_git(w, dir, fd);
        while ((n = getdents64(fd, w->names, sizeof w->names)) > 0)
                for (ssize_t at = 0; at < n;) {
                        const struct dirent64 *entry = (const struct dirent64 *) (w->names + at);
                        at += entry->d_reclen;
                        if (g_str_equal(entry->d_name, ".") || g_str_equal(entry->d_name, ".."))
                                continue;
                        w->stopped = w->stopped || ++w->entries > HOOK_NESTED_ENTRIES;
                        if (w->stopped) {
                                miss(w, dir->depth);
                                return;
                        }
                        see(&seen, entry->d_name);
                        read_name(w, dir, fd, entry);
                }
        if (n < 0)
                miss(w, dir->depth);
        if (dir->kind == DIR_PLAIN)
                on_repository(w, dir, fd, &seen, first);
}

/* What dir lies in, which stays open for those beside it. -1 with errno. */
static int open_above(Walk *w, const Dir *dir) {
        if (!dir->parent)
                return w->top;
        if (w->above == dir->parent)
                return w->above_fd;
        g_autofree char *path = path_of(dir->parent, "");
        fd_closep(&w->above_fd);
        w->above = NULL;
        errno = ENAMETOOLONG;
        w->above_fd = path ? hook_tree_open_below(w->top, path, O_PATH | O_NOFOLLOW) : -1;
        if (w->above_fd >= 0)
                w->above = dir->parent;
        return w->above_fd;
}

/* After the run: no name has come to dir or gone from it. */
static bool is_as_before(const Dir *dir, int above) {
        struct stat st;

        if (!dir->before || !dir->before->settled ||
            fstatat(above, dir->parent ? dir->name : "", &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) < 0)
                return false;
        HookStamp now = hook_stamp_of(&st);
        return hook_stamp_is_same(&dir->before->stamp, &now);
}

/* All that is in it by a name of ours is among the marks. Those below are looked at themselves: what is done in them changes nothing here. */
static void go_on_below(Walk *w, Dir *dir) {
        const Dir *before = dir->before;

        w->n_same++;
        w->entries++;
        for (guint i = before->first; i < before->first + before->n; i++) {
                const Dir *was = g_ptr_array_index(w->tree->dirs, i);
                Dir *child = add_dir(w, dir, was->name);
                child->before = was;
                if (is_settings(was->name) || (before->is_git && is_inside_git(dir, was->name)))
                        child->kind = DIR_PASSED;
        }
}

/* After the run: the directories in dir, which was read, from the first on, are those of before by the same names. */
static void find_before(Walk *w, const Dir *dir, guint first) {
        g_autoptr(GHashTable) by_name = g_hash_table_new(g_str_hash, g_str_equal);

        for (guint i = 0; i < dir->before->n; i++) {
                Dir *was = g_ptr_array_index(w->tree->dirs, dir->before->first + i);
                g_hash_table_insert(by_name, was->name, was);
        }
        for (guint i = first; i < w->dirs->len; i++) {
                Dir *child = g_ptr_array_index(w->dirs, i);
                child->before = g_hash_table_lookup(by_name, child->name);
        }
}

static HookStamp stamp_of_statx(const struct statx *st) {
        return (HookStamp){ .dev = makedev(st->stx_dev_major, st->stx_dev_minor), .ino = st->stx_ino, .mode = st->stx_mode, .size = (off_t) st->stx_size,
                            .changed = { .tv_sec = st->stx_ctime.tv_sec, .tv_nsec = st->stx_ctime.tv_nsec } };
}

/* Whether what is made in it from now on is seen by its stamp. A time without a fraction is one of a file system whose clock goes by seconds; and of a
 * directory that is encrypted the names are others as soon as somebody has its key. */
static bool is_settled(const Walk *w, const Dir *dir, bool encrypted) {
        return !w->again && w->whole > dir->depth && dir->stamp.changed.tv_nsec != 0 && time_compare(&dir->stamp.changed, &w->settled) <= 0 &&
               !encrypted;
}

/* fd is open, and st is of before it is read. */
static void read_open_dir(Walk *w, Dir *dir, int fd, const struct statx *st) {
        dir->stamp = stamp_of_statx(st);
        if (is_passed(w, dir, &dir->stamp))
                return;
        dir->first = w->dirs->len;
        read_names(w, dir, fd);
        dir->n = w->dirs->len - dir->first;
        if (dir->before)
                find_before(w, dir, dir->first);
        dir->settled = is_settled(w, dir, st->stx_attributes & STATX_ATTR_ENCRYPTED);
}

static void read_dir(Walk *w, Dir *dir) {
        g_autofree char *path = path_of(dir, "");
        int above = path ? open_above(w, dir) : -1;
        struct statx st;

        w->n_dirs++;
        w->entries += dir->depth / DEPTH_FREE;
        dir->in_new = dir->in_new || (dir->parent && dir->parent->in_new);
        if (above >= 0 && is_as_before(dir, above)) {
                go_on_below(w, dir);
                return;
        }
        _cleanup_close_ int fd = above >= 0 ? hook_tree_open_below(above, dir->parent ? dir->name : "", O_RDONLY | O_NOFOLLOW) : -1;
        if (fd >= 0 && statx(fd, ".", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) < 0) /* its names can be read, but nothing looked at */
                fd_closep(&fd);
        if (path && fd < 0 && (errno == EACCES || errno == EPERM))
                on_shut(w, dir, path);
        else if (!path || (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != EXDEV))
                miss(w, dir->depth);
        if (fd >= 0)
                read_open_dir(w, dir, fd, &st);
}

/* Where the time of change is the kernel's own: as for files (hook-content.c). But a directory of a tmpfs has a new one whenever it changes: nobody maps it. */
static bool has_times_of_change(const HookTree *tree, int top) {
        struct statfs fs;
        return !tree->is_read || (fstatfs(top, &fs) == 0 && fs.f_type == TMPFS_MAGIC);
}

/* 0: no directory is settled. */
static struct timespec settled_until(const HookTree *tree, int top) {
        struct timespec now;

        if (!has_times_of_change(tree, top) || clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0)
                return (struct timespec){ 0 };
        now.tv_sec -= now.tv_nsec < SETTLED_NS;
        now.tv_nsec += now.tv_nsec < SETTLED_NS ? 1000 * 1000 * 1000 - SETTLED_NS : -SETTLED_NS;
        return now;
}

unsigned hook_walk(HookTree *tree, const GArray *passed, int top, bool again) {
        g_autoptr(GPtrArray) dirs = again ? g_ptr_array_new_with_free_func(g_free) : g_ptr_array_ref(tree->dirs);
        g_autofree char *name = g_path_get_basename(tree->source->host.path);
        Walk w = { .passed = passed, .tree = tree, .again = again, .top = top, .dirs = dirs, .above_fd = -1, .whole = UINT_MAX };

        if (!again)
                w.settled = settled_until(tree, top);
        Dir *root = add_dir(&w, NULL, name);
        root->before = again && tree->dirs->len > 0 ? g_ptr_array_index(tree->dirs, 0) : NULL;
        for (guint i = 0; i < dirs->len && !w.stopped; i++) {
                Dir *dir = g_ptr_array_index(dirs, i);
                if (dir->kind != DIR_PASSED)
                        read_dir(&w, dir);
        }
        fd_closep(&w.above_fd);
        g_autofree char *shown = err_quote(name);
        log_step("%u directories at and below %s, %u of them as before", w.n_dirs, shown, w.n_same);
        return w.whole;
}
