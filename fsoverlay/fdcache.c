/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Open descriptors of nodes, kept for the next request.
 *
 * Role: usbox-fs. Privileges: the caller's; the agent's for files of the upper that the caller may not open. Threads: any.
 *
 * The kernel does not tell us of open and close (that is what makes them cheap), so descriptors are opened when data is first
 * asked for and closed when there are too many, the least used first: a clock with one hand. A file without a name
 * keeps its own until the kernel forgets it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fsoverlay/fs.h"

#define NAMES_AT_ONCE 15u /* in a path, which so is shorter than PATH_MAX */

static void fd_free(Fs *fs, Fd *f) {
        close(f->fd);
        free(f);
}

/* Out of the clock; under clock_lock. */
static void unlink_clock(Fs *fs, Fd *f) {
        if (f->up == f) {
                fs->clock = NULL;
        } else {
                f->up->down = f->down;
                f->down->up = f->up;
                if (fs->clock == f)
                        fs->clock = f->down;
        }
        fs->n_fds--;
}

static void unlink_node(Fd *f) {
        for (Fd **at = &f->node->fds; *at; at = &(*at)->next)
                if (*at == f) {
                        *at = f->next;
                        break;
                }
        f->node = NULL;
}

/* Too many are open: close some that nobody uses. */
static void make_room(Fs *fs) {
        pthread_mutex_lock(&fs->clock_lock);
        for (unsigned tries = 0; fs->clock && fs->n_fds > fs->max_fds && tries < 2 * fs->max_fds; tries++) {
                Fd *f = fs->clock;
                fs->clock = f->down;
                if (f->pinned || atomic_load(&f->users) > 0 || atomic_exchange(&f->used, false))
                        continue;
                /* The order of locks is the other way round: only try. A node with a Fd in the clock is alive. */
                pthread_mutex_t *lock = node_lock(fs, f->node);
                if (pthread_mutex_trylock(lock) != 0)
                        continue;
                bool idle = atomic_load(&f->users) == 0 && !f->pinned; /* it may have become so meanwhile */
                if (idle) {
                        unlink_node(f);
                        unlink_clock(fs, f);
                }
                pthread_mutex_unlock(lock);
                if (idle)
                        fd_free(fs, f);
        }
        pthread_mutex_unlock(&fs->clock_lock);
}

/* Drop one of a node's list; under its stripe. */
static void drop(Fs *fs, Fd *f) {
        pthread_mutex_lock(&fs->clock_lock);
        unlink_clock(fs, f);
        unlink_node(f);
        bool idle = atomic_fetch_sub(&f->users, 1) == 0; /* -1: its last user frees it */
        pthread_mutex_unlock(&fs->clock_lock);
        if (idle)
                fd_free(fs, f);
}

void fd_drop_layer(Fs *fs, Node *node, unsigned layer) {
        pthread_mutex_lock(node_lock(fs, node));
        for (Fd *f = node->fds, *next; f; f = next) {
                next = f->next;
                if (f->layer == layer)
                        drop(fs, f);
        }
        pthread_mutex_unlock(node_lock(fs, node));
}

void fd_drop_all(Fs *fs, Node *node) {
        pthread_mutex_lock(node_lock(fs, node));
        while (node->fds)
                drop(fs, node->fds);
        pthread_mutex_unlock(node_lock(fs, node));
}

void fd_put(Fs *fs, Fd *f) {
        if (!f)
                return;
        atomic_store_explicit(&f->fresh, false, memory_order_relaxed);
        if (atomic_fetch_sub(&f->users, 1) == 0)
                fd_free(fs, f);
}

static Fd *take(Fd *f) {
        atomic_fetch_add(&f->users, 1);
        atomic_store_explicit(&f->used, true, memory_order_relaxed);
        return f;
}

/* Under the stripe. */
static Fd *find(const Node *node, unsigned layer, bool path, bool write) {
        for (Fd *f = node->fds; f; f = f->next)
                if (f->layer == layer && f->path == path && (!write || f->writable))
                        return take(f);
        return NULL;
}

static Fd *find_locked(Fs *fs, Node *node, unsigned layer, bool path, bool write) {
        pthread_mutex_lock(node_lock(fs, node));
        Fd *f = find(node, layer, path, write);
        pthread_mutex_unlock(node_lock(fs, node));
        return f;
}

Fd *fd_add(Fs *fs, Node *node, int fd_take, unsigned layer, bool path, bool writable, bool pinned) {
        Fd *f = calloc(1, sizeof *f);
        if (!f) {
                close(fd_take);
                return NULL;
        }
        *f = (Fd){ .node = node,
                   .fd = fd_take,
                   .users = 1,
                   .layer = (uint16_t) layer,
                   .path = path,
                   .writable = writable,
                   .pinned = pinned,
                   .used = true };
        pthread_mutex_lock(node_lock(fs, node));
        f->next = node->fds;
        node->fds = f;
        pthread_mutex_lock(&fs->clock_lock);
        if (fs->clock) {
                f->down = fs->clock;
                f->up = fs->clock->up;
                f->up->down = f->down->up = f;
        } else {
                fs->clock = f->up = f->down = f;
        }
        bool full = ++fs->n_fds > fs->max_fds;
        pthread_mutex_unlock(&fs->clock_lock);
        pthread_mutex_unlock(node_lock(fs, node));
        if (full)
                make_room(fs);
        return f;
}

Fd *fd_opened(Fs *fs, Node *node, bool write) {
        return find_locked(fs, node, node_layer(node), false, write);
}

Fd *fd_pinned(Fs *fs, Node *node) {
        Fd *found = NULL;

        if (!node_is(node, NODE_NAMELESS))
                return NULL;
        pthread_mutex_lock(node_lock(fs, node));
        for (Fd *f = node->fds; f && !found; f = f->next)
                if (f->pinned)
                        found = take(f);
        pthread_mutex_unlock(node_lock(fs, node));
        return found;
}

/* A directory below dir in a layer, by its path there. */
static int open_dir_at(Fs *fs, int dir, const char *path, unsigned layer) {
        int fd = open_beneath(dir, path, O_PATH | O_DIRECTORY);

        if (fd < 0 && errno == EACCES && layer == LAYER_UPPER && fs->agent) {
                fd = agent_open(fs->agent, dir, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
                if (fd < 0)
                        errno = -fd;
        }
        return fd < 0 ? -1 : fd;
}

/* Where a layer has a directory that was renamed, below the layer's root; NULL: under its name, where it has the one above. */
static const char *moved_to(const Node *node, unsigned layer) {
        for (unsigned i = 0; layer != LAYER_UPPER && i < node->dir->n; i++)
                if (node->dir->lower[i].layer == layer)
                        return node->dir->lower[i].redirect;
        return NULL;
}

/* The nearest of those above that is open in the layer; NULL: none. *ret_way: node and those above it, up to there or to the one that is found from the
 * layer's root. */
static Fd *nearest_open(Fs *fs, Node *node, unsigned layer, GPtrArray *ret_way) {
        for (Node *at = node; at && at != fs->root; at = at->parent) {
                Fd *f = at == node ? NULL : find_locked(fs, at, layer, true, false);
                if (f)
                        return f;
                g_ptr_array_add(ret_way, at);
                if (moved_to(at, layer))
                        break;
        }
        return NULL;
}

/*
 * From the nearest that is open. A tree may be as deep as the box, or who made a lower, likes; so that not each directory of it costs as many steps as
 * it is deep, some on the way stay open.
 */
static int open_from_nearest(Fs *fs, Node *node, unsigned layer) {
        g_autoptr(GPtrArray) way = g_ptr_array_new();
        g_autoptr(GString) path = g_string_new(NULL);
        Fd *from = nearest_open(fs, node, layer, way);
        const Node *first = way->pdata[way->len - 1];
        int fd = -1;

        if (!from && first->parent != fs->root && !moved_to(first, layer)) {
                errno = ESTALE; /* nameless, or below it */
                return -1;
        }
        while (way->len > 0) {
                g_string_truncate(path, 0);
                Node *at = NULL;
                for (guint i = 0; i < NAMES_AT_ONCE && way->len > 0; i++) {
                        at = g_ptr_array_steal_index(way, way->len - 1);
                        const char *moved = moved_to(at, layer);
                        g_string_append_printf(path, "%s%s", i > 0 ? "/" : "", moved ? moved : node_name(at));
                }
                fd = open_dir_at(fs, from ? from->fd : fs->layers[layer].root, path->str, layer);
                int saved = errno;
                fd_put(fs, g_steal_pointer(&from));
                errno = saved;
                if (fd < 0 || at == node)
                        break;
                from = fd_add(fs, at, fd, layer, true, false, false);
                if (!from) {
                        errno = ENOMEM;
                        return -1;
                }
        }
        return fd;
}

static bool is_deep(const Fs *fs, const Node *node) {
        unsigned depth = 0;

        for (const Node *at = node; at && at != fs->root && depth <= NAMES_AT_ONCE; at = at->parent)
                depth++;
        return depth > NAMES_AT_ONCE;
}

/* The directory of a layer: by its path, where somebody else may move directories, unless that is long. In the upper nobody but us does. */
static int open_dir(Fs *fs, Node *node, unsigned layer) {
        if (node == fs->root)
                return fcntl(fs->layers[layer].root, F_DUPFD_CLOEXEC, 3);
        if (layer == LAYER_UPPER || is_deep(fs, node))
                return open_from_nearest(fs, node, layer);
        g_autofree char *path = dir_path(fs, node, layer);
        if (!path) {
                errno = ESTALE;
                return -1;
        }
        return open_dir_at(fs, fs->layers[layer].root, path, layer);
}

Fd *fd_dir(Fs *fs, Node *node, unsigned layer, int *ret_err) {
        Fd *f = find_locked(fs, node, layer, true, false);
        if (f)
                return f;
        if (node_is(node, NODE_NAMELESS)) {
                *ret_err = -ENOENT;
                return NULL;
        }
        int fd = open_dir(fs, node, layer);
        if (fd < 0) {
                *ret_err = errno == ELOOP || errno == ENOTDIR ? -ESTALE : -errno;
                return NULL;
        }
        f = fd_add(fs, node, fd, layer, true, false, false);
        if (!f)
                *ret_err = -ENOMEM;
        return f;
}

/* Somebody outside may have put another file there: what was begun as one file does not go on as another. */
static int check_file(Fs *fs, const Node *node, int fd_take, struct stat *ret_st) {
        const FileId id = node_file(node);
        uint32_t birth;

        if (fd_take < 0 || (stat_born(fd_take, "", ret_st, &birth) == 0 && file_is(fs, &id, ret_st, birth) && S_ISREG(ret_st->st_mode)))
                return fd_take;
        close(fd_take);
        errno = ESTALE;
        return -1;
}

/* Open a regular file by its name, for writing too where that can be; -1 with errno. */
static int open_data(Fs *fs, Node *node, bool write, bool *ret_writable, struct stat *ret_st) {
        const unsigned layer = node_layer(node);
        Place p;
        int r = place_get(fs, node, &p);
        if (r < 0) {
                errno = -r;
                return -1;
        }
        *ret_writable = layer == LAYER_UPPER && !fs->read_only;
        int fd = -1, flags = (*ret_writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
        if (p.dir < 0) {
                errno = ESTALE; /* nameless, and its own descriptor is no file's */
        } else if (layer == LAYER_UPPER) {
                fd = up_open(fs, p.dir, p.name, flags, 0);
                if (fd < 0 && !write && (fd == -EACCES || fd == -EROFS || fd == -EPERM)) {
                        *ret_writable = false;
                        fd = up_open(fs, p.dir, p.name, (flags & ~O_ACCMODE) | O_RDONLY, 0);
                }
                if (fd < 0) {
                        errno = -fd;
                        fd = -1;
                }
        } else {
                fd = openat(p.dir, p.name, flags);
                /* One of the caller's own that shuts out its owner, or of another id of the box. */
                if (fd < 0 && errno == EACCES && fs->agent && (fd = agent_open(fs->agent, p.dir, p.name, flags, 0)) < 0) {
                        errno = -fd;
                        fd = -1;
                }
        }
        int saved = errno;
        place_put(fs, &p);
        errno = saved;
        return check_file(fs, node, fd, ret_st);
}

Fd *fd_file(Fs *fs, Node *node, bool write, int *ret_err) {
        struct stat st;
        bool writable;
        Fd *f = fd_opened(fs, node, write);

        if (f)
                return f;
        pthread_rwlock_rdlock(&fs->tree);
        unsigned layer = node_layer(node);
        int fd = open_data(fs, node, write, &writable, &st);
        int saved = errno;
        pthread_rwlock_unlock(&fs->tree);
        if (fd < 0) {
                bool gone = saved == ESTALE || saved == ELOOP || saved == ENOENT || saved == ENOTDIR || saved == ENXIO;
                if (gone && layer != LAYER_UPPER)
                        notify_replaced(fs, node);
                *ret_err = gone ? -ESTALE : -saved;
                return NULL;
        }
        f = fd_add(fs, node, fd, layer, false, writable, false);
        if (!f) {
                *ret_err = -ENOMEM;
                return NULL;
        }
        if (layer != LAYER_UPPER)
                (void) told_look(fs, node, &st);
        atomic_store_explicit(&f->fresh, true, memory_order_relaxed);
        return f;
}

void fd_unpin(Fs *fs, Node *node) {
        pthread_mutex_lock(node_lock(fs, node));
        for (Fd *f = node->fds; f; f = f->next)
                f->pinned = false;
        pthread_mutex_unlock(node_lock(fs, node));
}

int fd_pin(Fs *fs, Node *node) {
        unsigned layer = node_layer(node);
        Fd *pin = NULL;

        /* One that can be written serves everything; else one by path, which is enough for what is no regular file. */
        pthread_mutex_lock(node_lock(fs, node));
        for (Fd *f = node->fds; f; f = f->next)
                if (f->layer == layer && (!S_ISREG(node_type(node)) || f->writable || layer != LAYER_UPPER) && !(S_ISREG(node_type(node)) && f->path)) {
                        f->pinned = true;
                        pin = f;
                        break;
                }
        pthread_mutex_unlock(node_lock(fs, node));
        if (pin)
                return 0;

        int fd = -1;
        bool writable = false;
        struct stat st;
        if (S_ISREG(node_type(node)))
                fd = open_data(fs, node, false, &writable, &st);
        bool path = fd < 0;
        if (fd < 0) {
                Place p;
                int r = place_get(fs, node, &p);
                if (r < 0)
                        return r;
                if (p.dir < 0)
                        fd = -ESTALE;
                else if (layer == LAYER_UPPER)
                        fd = up_open(fs, p.dir, p.name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
                else if ((fd = openat(p.dir, p.name, O_PATH | O_NOFOLLOW | O_CLOEXEC)) < 0)
                        fd = -errno;
                place_put(fs, &p);
                if (fd < 0)
                        return fd;
        }
        Fd *f = fd_add(fs, node, fd, layer, path, !path && writable, true);
        if (!f)
                return -ENOMEM;
        fd_put(fs, f);
        return 0;
}
