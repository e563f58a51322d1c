/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Project hooks below the top of a tree that is written through: looked at before and after.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: noted between PLAN and GO, while the child builds the root; told in step 11, behind
 * root_hooks_take_back().
 *
 * What was there is found again by its path, so nothing that the box makes elsewhere keeps us from it; what is new is found by a walk (hook-walk.c).
 * In the end none of this box's processes is alive, but those of another box or of the host may be: nothing here relies on the tree to keep still.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "hook-nested.h"
#include "hook-tree.h"
#include "hook-walk.h"

struct HookNested {
        GPtrArray *trees; /* of HookTree */
        GArray *passed;   /* of HookStamp: directories that are looked at by themselves, or that no box sees */
};

static void look(const HookNested *nested, HookTree *tree) {
        _cleanup_close_ int top = hook_tree_open(tree);

        if (top < 0)
                return;
        tree->is_read = hook_content_counts(top);
        tree->to_read = HOOK_CONTENT_ALL;
        tree->whole = hook_walk(tree, nested->passed, top, false);
}

static bool is_looked_at(const HookNested *nested, const MountSource *source) {
        for (guint i = 0; i < nested->trees->len; i++) {
                const HostPath *host = &((const HookTree *) g_ptr_array_index(nested->trees, i))->source->host;
                if (host->dev == source->host.dev && host->ino == source->host.ino)
                        return true;
        }
        return false;
}

static void pass(HookNested *nested, const char *path) {
        struct stat st;

        if (lstat(path, &st) < 0)
                return;
        HookStamp stamp = hook_stamp_of(&st);
        g_array_append_val(nested->passed, stamp);
}

HookNested *hook_nested_new(const RootPlan *plan) {
        HookNested *nested = g_new0(HookNested, 1);

        nested->trees = g_ptr_array_new_with_free_func(hook_tree_free);
        nested->passed = g_array_new(FALSE, FALSE, sizeof(HookStamp));
        for (guint i = 0; i < plan->sources->len; i++) {
                const MountSource *source = g_ptr_array_index(plan->sources, i);
                if (source->op->own_state)
                        pass(nested, source->op->src);
                if (!source->hooks || is_looked_at(nested, source))
                        continue;
                g_ptr_array_add(nested->trees, hook_tree_new(source));
        }
        for (guint i = 0; i < nested->trees->len && nested->trees->len > 1; i++)
                pass(nested, ((const HookTree *) g_ptr_array_index(nested->trees, i))->source->host.path);
        for (guint i = 0; i < nested->trees->len; i++)
                look(nested, g_ptr_array_index(nested->trees, i));
        if (nested->trees->len > 0)
                return nested;
        hook_nested_free(nested);
        return NULL;
}

/* Marks lie together: the directory of the last one stays open. */
typedef struct {
        int top;
        int dir;
        char *path; /* of dir */
} Place;

static void place_clear(Place *place) {
        fd_closep(&place->dir);
        g_clear_pointer(&place->path, g_free);
}

static int place_open(Place *place, const char *parent) {
        if (place->dir >= 0 && g_str_equal(place->path, parent))
                return place->dir;
        place_clear(place);
        place->path = g_strdup(parent);
        return place->dir = hook_tree_open_below(place->top, parent, O_PATH);
}

/* What is gone, or has nothing but a symlink on its way, does no harm there: where that leads is looked at by itself. */
static bool has_changed(Place *place, const HookMark *mark) {
        g_autofree char *parent = g_path_get_dirname(mark->path), *name = g_path_get_basename(mark->path);
        int dir = place_open(place, parent);
        struct stat st;

        if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != EXDEV;
        HookStamp now = hook_stamp_of(&st);
        if (mark->kind == HOOK_MARK_REPOSITORY)
                return !hook_stamp_is_same_file(&mark->stamp, &now);
        return !hook_stamp_is_same(&mark->stamp, &now) || !hook_content_is_same(dir, name, &mark->content);
}

static void tell_changed(HookTree *tree, Place *place, HookMark *mark) {
        HookMark *unit = mark->unit ? mark->unit : mark;

        if (mark->kind == HOOK_MARK_SHUT || unit->told || (unit->repository && unit->repository->told) || !has_changed(place, mark))
                return;
        unit->told = true;
        hook_tree_tell(tree, unit->path, mark->kind == HOOK_MARK_REPOSITORY ? "is another one than before the box ran: look at what is in it"
                                                                       : "was changed while the box ran: look at it");
}

static void tell_all_changed(HookTree *tree, int top, bool in_git) {
        Place place = { .top = top, .dir = -1 };

        for (guint i = 0; i < tree->marks->len; i++) {
                HookMark *mark = g_ptr_array_index(tree->marks, i);
                if (g_str_has_prefix(mark->path, ".git/") == in_git)
                        tell_changed(tree, &place, mark);
        }
        place_clear(&place);
}

static void tell_tree(const HookNested *nested, HookTree *tree) {
        g_autofree char *shown = err_quote(tree->source->host.path);
        _cleanup_close_ int top = hook_tree_open(tree);

        if (top < 0) {
                log_note("%s is not the directory any more that it was when the box began: look for it, and at what is in it", shown);
                return;
        }
        /* First what git at the top takes its settings from, however much there is of the rest. */
        tell_all_changed(tree, top, true);
        tell_all_changed(tree, top, false);
        unsigned whole = hook_walk(tree, nested->passed, top, true);
        if (tree->told > HOOK_TREE_TOLD)
                log_note("%u more project hooks below %s are new or were changed: look at them likewise", tree->told - HOOK_TREE_TOLD, shown);
        if (MIN(whole, tree->whole) < UINT_MAX)
                log_note("not all below %s could be looked at (%u names at most): project hooks that are new further down are not named", shown,
                         HOOK_NESTED_ENTRIES);
        if (tree->unread)
                log_note("not all project hooks below %s could be read (%u MiB at most): on its file system, others may have changed unseen", shown,
                         HOOK_CONTENT_ALL >> 20);
}

/* A box that has the tree around it moves it with what is above it. It is found by the walk through that one then, where it is now. */
static void look_for_moved(HookNested *nested) {
        for (guint i = 0; i < nested->trees->len; i++) {
                const HookTree *tree = g_ptr_array_index(nested->trees, i);
                const HostPath *host = &tree->source->host;
                _cleanup_close_ int top = hook_tree_open(tree);
                for (guint j = nested->passed->len; top < 0 && j-- > 0;) {
                        const HookStamp *stamp = &g_array_index(nested->passed, HookStamp, j);
                        if (stamp->dev == host->dev && stamp->ino == host->ino)
                                g_array_remove_index(nested->passed, j);
                }
        }
}

void hook_nested_tell(HookNested *nested) {
        if (nested)
                look_for_moved(nested);
        for (guint i = 0; nested && i < nested->trees->len; i++)
                tell_tree(nested, g_ptr_array_index(nested->trees, i));
}

void hook_nested_free(HookNested *nested) {
        g_ptr_array_unref(nested->trees);
        g_array_unref(nested->passed);
        g_free(nested);
}
