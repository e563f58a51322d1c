/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is noted of the project hooks below the top of a tree that is written through.
 *
 * Role: launcher. Privileges: the caller's. Threads: one. Order: as hook-nested.c, of which this is a part.
 *
 * Whoever writes, replaces or renames a file cannot keep its inode number and the time of its change (ctime). Contents are read only where a file system
 * is no good witness of that (hook-content.h).
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/times.h"
#include "hook-tree.h"

static void mark_free(gpointer p) {
        HookMark *mark = p;
        g_free(mark->path);
        g_free(mark);
}

HookTree *hook_tree_new(const MountSource *source) {
        HookTree *tree = g_new0(HookTree, 1);

        tree->source = source;
        tree->marks = g_ptr_array_new_with_free_func(mark_free);
        tree->by_path = g_hash_table_new(g_str_hash, g_str_equal);
        tree->dirs = g_ptr_array_new_with_free_func(g_free);
        return tree;
}

void hook_tree_free(gpointer p) {
        HookTree *tree = p;
        g_hash_table_unref(tree->by_path);
        g_ptr_array_unref(tree->marks);
        g_ptr_array_unref(tree->dirs);
        g_free(tree);
}

HookStamp hook_stamp_of(const struct stat *st) {
        return (HookStamp){ .dev = st->st_dev, .ino = st->st_ino, .mode = st->st_mode, .size = st->st_size, .changed = st->st_ctim };
}

bool hook_stamp_is_same_file(const HookStamp *a, const HookStamp *b) {
        return a->dev == b->dev && a->ino == b->ino && (a->mode & S_IFMT) == (b->mode & S_IFMT);
}

bool hook_stamp_is_same(const HookStamp *a, const HookStamp *b) {
        return hook_stamp_is_same_file(a, b) && a->mode == b->mode && a->size == b->size && time_compare(&a->changed, &b->changed) == 0;
}

/* One mount: another below is no part of what is seen, and one that is made by being looked at (autofs) not made. */
int hook_tree_open_below(int top, const char *path, uint64_t flags) {
        return sys_openat2(top, *path ? path : ".", flags | O_DIRECTORY | O_CLOEXEC, 0,
                           RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

int hook_tree_open(const HookTree *tree) {
        struct stat st;
        _cleanup_close_ int top = open(tree->source->host.path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (top < 0 || fstat(top, &st) < 0 || st.st_dev != tree->source->host.dev || st.st_ino != tree->source->host.ino)
                return -1;
        return fd_steal(&top);
}

void hook_tree_tell(HookTree *tree, const char *path, const char *what) {
        if (++tree->told > HOOK_TREE_TOLD)
                return;
        g_autofree char *host = g_build_filename(tree->source->host.path, path, NULL), *shown = err_quote(host);
        log_note("%s %s before you run git, direnv or an editor there or above", shown, what);
}
