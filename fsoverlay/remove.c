/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations that take names away or move them: unlink, rmdir, rename.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's on the upper. Threads: any; all under Fs.tree for writing, since they
 * change where nodes are.
 *
 * A name that a lower layer has is hidden by a whiteout, and each step is one rename(2), so that at no moment the lower's file
 * shines through: the whiteout comes into the name's place, or by RENAME_EXCHANGE into the place that is left.
 * A file that loses its last name while the kernel may have it open keeps a descriptor (fd_pin()).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fsoverlay/ops.h"

/* An indexed file has a lower name less (it was removed, or is in the upper now); the last name takes the index entry along. */
static void index_name_gone(Fs *fs, Node *node, bool was_lower) {
        struct stat st;
        uint64_t left;
        Place p;

        if (!links_left(fs, node->ino, &left) || place_get(fs, node, &p) < 0)
                return;
        if (was_lower && left > 0)
                (void) links_set_number(fs, LINKS_LEFT, node->ino, --left);
        bool last = left == 0 && place_stat(fs, &p, &st) == 0 && st.st_nlink <= 1;
        place_put(fs, &p);
        if (last && fd_pin(fs, node) == 0) {
                links_drop(fs, node->ino);
                node_unset(node, NODE_INDEXED);
        }
}

/* The node of a name that is about to go, or NULL where the kernel does not know it. A reference more. */
static int known(Fs *fs, Node *parent, const char *name, Node **ret, Found *found) {
        int r = lookup_name(fs, parent, name, 0, found);
        if (r < 0)
                return r;
        *ret = node_known(fs, parent, name, found);
        return 0;
}

/* Whether parent/name is a name of the upper itself. An indexed file's other names may be the lower's still. */
static bool upper_has(Fs *fs, Node *parent, const char *name) {
        struct stat st;
        int r = 0;
        Fd *dir = node_is(parent, NODE_UPPER) ? fd_dir(fs, parent, LAYER_UPPER, &r) : NULL;
        bool has = dir && up_stat(fs, dir->fd, name, &st) == 0;
        fd_put(fs, dir);
        return has && !stat_is_whiteout(&st);
}

static void name_gone(Fs *fs, Node *node, Node *parent, const char *name, bool was_lower) {
        if (!node)
                return;
        if (node_is(node, NODE_INDEXED))
                index_name_gone(fs, node, was_lower);
        else if (was_lower && !node_is(node, NODE_UPPER) && node_is(node, NODE_LINKS))
                links_count_removed(fs, node);
        node_drop_name(fs, node, parent, name);
        /* One that goes on by another name is found by that. Else each would keep its descriptor for as long as the kernel knows it (git links an
         * object to its name, and removes the one that it was written by), until there are no more to be had. */
        if (!node_is(node, NODE_NAMELESS | NODE_INDEXED))
                fd_unpin(fs, node);
}

/* What goes with a name of the upper, where the kernel does not know the file: of those that it knows it says when they are gone (node.c). */
static struct stat going(Fs *fs, Node *parent, const char *name) {
        struct stat st = { 0 };
        int r = 0;
        Fd *dir = fs->quota && node_is(parent, NODE_UPPER) ? fd_dir(fs, parent, LAYER_UPPER, &r) : NULL;
        bool counts = dir && up_stat(fs, dir->fd, name, &st) == 0 && st.st_nlink == 1;
        fd_put(fs, dir);
        return counts ? st : (struct stat){ 0 };
}

static int unlink_name(Fs *fs, Node *parent, const char *name) {
        Found found;
        Node *node = NULL;
        int r = known(fs, parent, name, &node, &found);

        if (r < 0)
                return r;
        bool is_dir = S_ISDIR(found.st.st_mode);
        found_clear(&found);
        int below = is_dir ? -EISDIR : lookup_lower(fs, parent, name);
        r = below < 0 ? below : 0;
        if (r == 0 && node && !node_is(node, NODE_INDEXED))
                r = fd_pin(fs, node);
        bool in_upper = upper_has(fs, parent, name);
        struct stat freed = node ? (struct stat){ 0 } : going(fs, parent, name);
        Fd *dir = r == 0 ? fd_dir(fs, parent, LAYER_UPPER, &r) : NULL;
        if (dir) {
                Growth growth = growth_begin(fs, dir->fd);
                if (!in_upper)
                        r = whiteout_make(fs, dir->fd, name);
                else
                        r = below ? whiteout_replace(fs, dir->fd, name) : up_unlink(fs, dir->fd, name, 0);
                growth_end(fs, &growth);
                fd_put(fs, dir);
        }
        if (r == 0) {
                name_gone(fs, node, parent, name, !in_upper);
                dir_changed(parent);
                usage_drop(fs, &freed);
        } else if (node && node->parent) {
                fd_unpin(fs, node);
        }
        if (node)
                node_unref(fs, node, 1);
        return r;
}

int op_unlink(Request *r) {
        const char *name = request_name(r, 0);
        Fs *fs = r->fs;

        if (!name)
                return -EINVAL;
        int n = copy_up(fs, r->node, -1);
        if (n < 0)
                return n;
        pthread_rwlock_wrlock(&fs->tree);
        n = unlink_name(fs, r->node, name);
        pthread_rwlock_unlock(&fs->tree);
        if (n == 0 && fs->journal)
                journal_name(fs, r->node, name, "write");
        return n;
}

/* Take the upper's part of a directory that shows nothing any more out of the way. */
static int remove_upper_dir(Fs *fs, Node *parent, const char *name, bool in_upper, bool leave_whiteout) {
        int r = 0;
        Fd *dir = fd_dir(fs, parent, LAYER_UPPER, &r);

        if (!dir)
                return r;
        Growth growth = growth_begin(fs, dir->fd);
        if (in_upper)
                r = trash_dir(fs, dir->fd, name, leave_whiteout);
        else
                r = leave_whiteout ? whiteout_make(fs, dir->fd, name) : 0;
        growth_end(fs, &growth);
        fd_put(fs, dir);
        return r;
}

static int rmdir_name(Fs *fs, Node *parent, const char *name, Node *node) {
        int below = lookup_lower(fs, parent, name), r = below < 0 ? below : 0;

        if (r == 0)
                r = fd_pin(fs, node);
        if (r == 0)
                r = remove_upper_dir(fs, parent, name, upper_has(fs, parent, name), below);
        if (r == 0) {
                node_drop_name(fs, node, parent, name);
                dir_changed(parent);
        } else {
                fd_unpin(fs, node);
        }
        return r;
}

int op_rmdir(Request *r) {
        const char *name = request_name(r, 0);
        Fs *fs = r->fs;
        struct stat st;
        Node *node;

        if (!name)
                return -EINVAL;
        int n = entry_lookup(fs, r->node, name, NULL, &node, &st);
        if (n < 0)
                return n;
        n = !S_ISDIR(node_type(node)) ? -ENOTDIR : dir_is_empty(fs, node);
        if (n == 1) {
                n = copy_up(fs, r->node, -1);
                if (n == 0) {
                        pthread_rwlock_wrlock(&fs->tree);
                        n = rmdir_name(fs, r->node, name, node);
                        pthread_rwlock_unlock(&fs->tree);
                }
        } else if (n == 0) {
                n = -ENOTEMPTY;
        }
        node_unref(fs, node, 1);
        if (n == 0 && fs->journal)
                journal_name(fs, r->node, name, "write");
        return n;
}

/* One side of a rename. */
typedef struct {
        Node *parent;
        const char *name;
        Node *node;    /* NULL: no such name (the target's) */
        int below;     /* a lower layer has the name, too */
        bool in_upper; /* the upper has the name itself */
} Side;

static int side_open(Fs *fs, Node *parent, const char *name, Side *ret) {
        struct stat st;

        *ret = (Side){ .parent = parent, .name = name };
        int r = entry_lookup(fs, parent, name, NULL, &ret->node, &st);
        return r == -ENOENT ? 0 : r;
}

/*
 * Something else came to be there in the lower: nobody but us has the node. The kernel would go on with the one that it knows, under the new name.
 * ESTALE has it look up the name again, and then come back (retry_estale(), fs/namei.c).
 */
static bool is_stale(const Side *s) {
        return !node_is(s->node, NODE_UPPER) && atomic_load(&s->node->refs) == 1;
}

/* After copy-up: what is where. Under Fs.tree. */
static int side_look(Fs *fs, Side *s) {
        s->below = lookup_lower(fs, s->parent, s->name);
        s->in_upper = upper_has(fs, s->parent, s->name);
        return s->below < 0 ? s->below : 0;
}

/*
 * Where the lower layers, merged, have a directory: below its names, up to that of one which was renamed in the upper, whose mark says where that is. A
 * layer among them may have renamed it as well: then those below that have it elsewhere, which is for whoever follows the mark to find.
 */
static char *merged_path(Fs *fs, Node *node, int *ret_err) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GString) path = g_string_new(NULL);

        for (Node *at = node; at != fs->root; at = at->parent) {
                Fd *dir = at->dir->n > 0 && at->dir->lower[0].redirect ? fd_dir(fs, at, LAYER_UPPER, ret_err) : NULL;
                char *redirect = dir ? read_redirect(fs, &fs->layers[LAYER_UPPER], dir->fd, ".", ret_err) : NULL;
                fd_put(fs, dir);
                if (!redirect && !at->parent)
                        *ret_err = -ESTALE; /* nameless, or below it */
                if (*ret_err < 0)
                        return NULL;
                g_ptr_array_add(names, redirect ? redirect : g_strdup(node_name(at)));
                if (redirect && *redirect == '/')
                        break;
        }
        for (guint i = names->len; i-- > 0;) {
                const char *name = names->pdata[i];
                g_string_append_printf(path, "%s%s", *name == '/' ? "" : "/", name);
        }
        return g_string_free(g_steal_pointer(&path), FALSE);
}

/*
 * Before a directory leaves its name: its lower part stays where it is, and the upper says where (overlayfs's redirect, which the
 * kernel follows only where a right is held that we do not have; usbox-fs follows it always). One of the upper alone
 * must not merge with what a lower has at its new place.
 */
static int mark_moved_dir(Fs *fs, Node *node) {
        int r = 0;

        if (!S_ISDIR(node_type(node)))
                return 0;
        Fd *dir = fd_dir(fs, node, LAYER_UPPER, &r);
        if (!dir)
                return r;
        Place p = { .dir = dir->fd, .name = "." };
        Growth growth = growth_begin(fs, dir->fd);
        if (!dir_has_lower(node)) {
                r = xattr_set_place(fs, &p, XATTR_OPAQUE, "y", 1, 0);
        } else {
                g_autofree char *path = merged_path(fs, node, &r);
                for (unsigned i = 0; r == 0 && i < node->dir->n; i++) {
                        DirLayer *lower = &node->dir->lower[i];
                        if (!lower->redirect && !(lower->redirect = dir_path(fs, node, lower->layer)))
                                r = -ESTALE;
                }
                if (r == 0)
                        r = strlen(path) >= PATH_MAX ? -EXDEV : xattr_set_place(fs, &p, XATTR_REDIRECT, path, strlen(path), 0);
                /* Whoever syncs the new name shall not find it without what it leads to. */
                if (r == 0 && !fs->fsync_ignored)
                        r = sync_dir_fd(fs, dir->fd, false);
        }
        growth_end(fs, &growth);
        fd_put(fs, dir);
        return r;
}

/* An indexed file's lower name has to be a real one of the upper before it can be moved. */
static int name_into_upper(Fs *fs, Side *s) {
        char key[LINKS_NAME_MAX];
        int r = 0;

        if (s->in_upper || !node_is(s->node, NODE_INDEXED))
                return 0;
        Fd *dir = fd_dir(fs, s->parent, LAYER_UPPER, &r);
        if (!dir)
                return r;
        links_name(key, "", s->node->ino);
        Growth growth = growth_begin(fs, dir->fd);
        r = up_link(fs, fs->links, key, dir->fd, s->name);
        growth_end(fs, &growth);
        fd_put(fs, dir);
        if (r == 0) {
                s->in_upper = true;
                index_name_gone(fs, s->node, true);
        }
        return r;
}

static int exchange(Fs *fs, Side *a, Side *b) {
        int r = 0;
        Fd *from = fd_dir(fs, a->parent, LAYER_UPPER, &r), *to = from ? fd_dir(fs, b->parent, LAYER_UPPER, &r) : NULL;

        if (from && to)
                r = mark_moved_dir(fs, a->node);
        if (from && to && r == 0)
                r = mark_moved_dir(fs, b->node);
        if (from && to && r == 0)
                r = up_rename(fs, from->fd, a->name, to->fd, b->name, RENAME_EXCHANGE);
        fd_put(fs, from);
        fd_put(fs, to);
        if (r == 0) {
                bool ok = node_rename(fs, a->node, a->parent, a->name, b->parent, b->name) &&
                          node_rename(fs, b->node, b->parent, b->name, a->parent, a->name);
                r = ok ? 0 : -ENOMEM;
        }
        return r;
}

/* The move itself: from a name of the upper to another. */
static int move(Fs *fs, Side *from, Side *to) {
        struct stat st;
        int r = 0;
        Fd *a = fd_dir(fs, from->parent, LAYER_UPPER, &r), *b = a ? fd_dir(fs, to->parent, LAYER_UPPER, &r) : NULL;

        if (a && b) {
                Growth grows[] = { growth_begin(fs, b->fd), growth_begin(fs, a->fd == b->fd ? -1 : a->fd) };
                bool whiteout_there = up_stat(fs, b->fd, to->name, &st) == 0 && stat_is_whiteout(&st);
                if (whiteout_there && S_ISDIR(node_type(from->node))) {
                        /* Changing places leaves the whiteout where the directory was. */
                        r = up_rename(fs, a->fd, from->name, b->fd, to->name, RENAME_EXCHANGE);
                        if (r == 0 && !from->below)
                                r = up_unlink(fs, a->fd, from->name, 0);
                } else if (from->below) {
                        r = up_rename(fs, a->fd, from->name, b->fd, to->name, RENAME_WHITEOUT);
                } else {
                        r = up_rename(fs, a->fd, from->name, b->fd, to->name, 0);
                }
                growth_end(fs, &grows[0]);
                growth_end(fs, &grows[1]);
        }
        fd_put(fs, a);
        fd_put(fs, b);
        return r;
}

/*
 * An empty directory of the upper may have whiteouts in it, and then nothing can be renamed over it. Without them it is as empty, once it is opaque: so
 * whoever looks meanwhile, as after a crash, finds it as it was.
 */
static int leave_nothing_in(Fs *fs, Node *node) {
        int r = 0;
        Fd *dir = fd_dir(fs, node, LAYER_UPPER, &r);

        if (!dir)
                return r;
        const Place p = { .dir = dir->fd, .name = "." };
        Growth growth = growth_begin(fs, dir->fd);
        if (dir_has_lower(node))
                r = xattr_set_place(fs, &p, XATTR_OPAQUE, "y", 1, 0);
        if (r == 0) {
                dir_forget_lower(node);
                dir_changed(node);
                r = clear_dir(fs, dir->fd);
        }
        growth_end(fs, &growth);
        fd_put(fs, dir);
        return r;
}

static int rename_sides(Fs *fs, Side *from, Side *to, unsigned flags) {
        int r = side_look(fs, from);

        if (r == 0)
                r = side_look(fs, to);
        if (r == 0)
                r = name_into_upper(fs, from);
        if (r == 0 && to->node && flags & RENAME_EXCHANGE)
                r = name_into_upper(fs, to);
        if (r < 0)
                return r;
        if (flags & RENAME_EXCHANGE) {
                r = exchange(fs, from, to);
                if (r == 0) {
                        dir_changed(from->parent);
                        dir_changed(to->parent);
                }
                return r;
        }
        bool replaces = to->node != NULL;
        if (replaces && to->node == from->node)
                return 0; /* two names of one file: nothing happens (rename(2)) */
        if (replaces && (!node_is(to->node, NODE_INDEXED) || S_ISDIR(node_type(to->node))))
                r = fd_pin(fs, to->node);
        if (r == 0)
                r = mark_moved_dir(fs, from->node);
        if (r == 0)
                r = move(fs, from, to);
        if ((r == -ENOTEMPTY || r == -EEXIST) && replaces && S_ISDIR(node_type(to->node)) && to->in_upper) {
                r = leave_nothing_in(fs, to->node);
                if (r == 0)
                        r = move(fs, from, to);
        }
        if (r < 0) {
                if (replaces)
                        fd_unpin(fs, to->node);
                return r;
        }
        if (replaces)
                name_gone(fs, to->node, to->parent, to->name, !to->in_upper);
        if (!node_rename(fs, from->node, from->parent, from->name, to->parent, to->name))
                r = -ENOMEM;
        node_set(from->node, NODE_FRESH);
        dir_changed(from->parent);
        dir_changed(to->parent);
        return r;
}

static int do_rename(Request *r, uint64_t newdir, unsigned flags, size_t offset) {
        Fs *fs = r->fs;
        const char *old_name = request_name(r, offset), *name = old_name ? request_name(r, offset + strlen(old_name) + 1) : NULL;
        Node *parent = node_of_id(fs, newdir);
        Side from = { 0 }, to = { 0 };

        if (!name || name_is_mark(fs, name))
                return -EINVAL;
        if (flags & ~(unsigned) (RENAME_NOREPLACE | RENAME_EXCHANGE))
                return -EINVAL;
        int n = side_open(fs, r->node, old_name, &from);
        if (n == 0)
                n = side_open(fs, parent, name, &to);
        if (n == 0 && !from.node)
                n = -ENOENT;
        if (n == 0 && to.node && flags & RENAME_NOREPLACE)
                n = -EEXIST;
        if (n == 0 && !to.node && flags & RENAME_EXCHANGE)
                n = -ENOENT;
        if (n == 0 && (is_stale(&from) || (flags & RENAME_EXCHANGE && is_stale(&to))))
                n = -ESTALE;
        bool over = n == 0 && to.node && !(flags & RENAME_EXCHANGE) && to.node != from.node;
        if (over && S_ISDIR(node_type(to.node)) != S_ISDIR(node_type(from.node)))
                n = S_ISDIR(node_type(to.node)) ? -EISDIR : -ENOTDIR;
        if (n == 0 && over && S_ISDIR(node_type(to.node))) {
                n = dir_is_empty(fs, to.node);
                n = n == 1 ? 0 : n == 0 ? -ENOTEMPTY : n;
        }
        if (n == 0)
                n = copy_up(fs, from.node, -1);
        if (n == 0 && flags & RENAME_EXCHANGE)
                n = copy_up(fs, to.node, -1);
        if (n == 0)
                n = copy_up(fs, r->node, -1);
        if (n == 0)
                n = copy_up(fs, parent, -1);
        if (n == 0) {
                pthread_rwlock_wrlock(&fs->tree);
                n = rename_sides(fs, &from, &to, flags);
                pthread_rwlock_unlock(&fs->tree);
                if (n == 0 && fs->journal) {
                        journal_name(fs, r->node, old_name, "write");
                        journal_name(fs, parent, name, "write");
                }
        }
        if (from.node)
                node_unref(fs, from.node, 1);
        if (to.node)
                node_unref(fs, to.node, 1);
        return n;
}

int op_rename(Request *r) {
        const struct fuse_rename_in *in = r->in;
        return do_rename(r, in->newdir, 0, sizeof *in);
}

int op_rename2(Request *r) {
        const struct fuse_rename2_in *in = r->in;
        return do_rename(r, in->newdir, in->flags, sizeof *in);
}
