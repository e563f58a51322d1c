/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of nodes: one for each file that the kernel knows, found by the identity of the real file.
 *
 * Role: usbox-fs. Privileges: none needed. Threads: any; a mutex for each of 64 shards, so that lookups seldom meet.
 *
 * A node goes when the kernel has forgotten it (FORGET) and no child and no request uses it, so the table is as large as
 * what the kernel remembers. Names are not hashed: a lookup asks the real directory anyway, and finds the node by device and inode number.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "fsoverlay/fs.h"

static Shard *shard_of(Fs *fs, uint32_t dev, uint64_t ino) {
        return &fs->shards[(ino ^ dev) * 0x9E3779B97F4A7C15ull >> 58];
}

static uint32_t slot_of(const Shard *shard, uint32_t dev, uint64_t ino) {
        return (uint32_t) ((ino ^ dev) * 0x9E3779B97F4A7C15ull >> 16) & (shard->n_slots - 1);
}

bool nodes_init(Fs *fs) {
        for (unsigned i = 0; i < NODE_SHARDS; i++) {
                Shard *s = &fs->shards[i];
                pthread_mutex_init(&s->lock, NULL);
                s->n_slots = 16;
                s->slots = calloc(s->n_slots, sizeof *s->slots);
                if (!s->slots)
                        return false;
        }
        for (unsigned i = 0; i < NODE_STRIPES; i++)
                pthread_mutex_init(&fs->stripes[i], NULL);
        for (unsigned i = 0; i < NODE_SHARDS; i++)
                pthread_mutex_init(&fs->copy_locks[i], NULL);
        pthread_mutex_init(&fs->clock_lock, NULL);
        pthread_mutex_init(&fs->whiteout_lock, NULL);
        /* A rename that waits shall not be passed by lookups for ever. */
        pthread_rwlockattr_t attr;
        pthread_rwlockattr_init(&attr);
        pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
        pthread_rwlock_init(&fs->tree, &attr);
        pthread_rwlockattr_destroy(&attr);
        return true;
}

static void shard_grow(Shard *s) {
        uint32_t old_n = s->n_slots;
        Node **old = s->slots, **slots = calloc((size_t) old_n * 2, sizeof *slots);

        if (!slots) /* longer chains, then */
                return;
        s->slots = slots;
        s->n_slots = old_n * 2;
        for (uint32_t i = 0; i < old_n; i++)
                for (Node *node = old[i], *next; node; node = next) {
                        next = node->inext;
                        Node **slot = &s->slots[slot_of(s, node->key_dev, node->key_ino)];
                        node->inext = *slot;
                        *slot = node;
                }
        free(old);
}

static void shard_insert(Shard *s, Node *node) {
        if (s->n >= s->n_slots)
                shard_grow(s);
        Node **slot = &s->slots[slot_of(s, node->key_dev, node->key_ino)];
        node->inext = *slot;
        *slot = node;
        s->n++;
}

static void shard_remove(Shard *s, Node *node) {
        for (Node **at = &s->slots[slot_of(s, node->key_dev, node->key_ino)]; *at; at = &(*at)->inext)
                if (*at == node) {
                        *at = node->inext;
                        s->n--;
                        return;
                }
}

void node_ref(Node *node) {
        atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
}

/* So many nodes forgotten: a good time to give their pages back, which free(3) by itself does only at the heap's end. */
#define TRIM_AFTER 8192u

/*
 * A file of the upper without a name that nobody has open any more: what it took of the limit is free again, and what links/ says of
 * its inode number, which may be another file's soon, goes.
 */
static void nameless_ends(Fs *fs, Node *node) {
        struct stat st;

        if (!node_is(node, NODE_NAMELESS))
                return;
        bool special = !S_ISREG(node_type(node)) && !S_ISDIR(node_type(node));
        bool matters = fs->quota || (special && atomic_load(&fs->origins));
        Fd *f = matters && node_is(node, NODE_UPPER) ? fd_pinned(fs, node) : NULL;

        if (f && f->layer == LAYER_UPPER && fstat(f->fd, &st) == 0 && st.st_nlink == 0) {
                usage_drop(fs, &st);
                if (special)
                        (void) links_set_number(fs, LINKS_ORIGIN, st.st_ino, 0);
        }
        fd_put(fs, f);
        atomic_fetch_sub(&fs->n_nameless, 1);
}

/* It has no name any more, or has one again. */
static void set_nameless(Fs *fs, Node *node, bool nameless) {
        if (node_is(node, NODE_NAMELESS) == nameless)
                return;
        if (nameless) {
                node_set(node, NODE_NAMELESS);
                atomic_fetch_add(&fs->n_nameless, 1);
        } else {
                node_unset(node, NODE_NAMELESS);
                atomic_fetch_sub(&fs->n_nameless, 1);
        }
}

/* NULL: it had its last one. */
static void set_name(Node *node, char *name_take) {
        char *moved;

        if (node_is(node, NODE_MOVED)) {
                memcpy(&moved, node->room, sizeof moved);
                free(moved);
        }
        memcpy(node->room, &name_take, sizeof name_take);
        node_set(node, NODE_MOVED);
}

void dir_forget_lower(Node *dir) {
        for (unsigned i = 0; i < dir->dir->n; i++)
                free(dir->dir->lower[i].redirect);
        dir->dir->n = 0;
}

/* Returns the parent, whose reference goes to the caller: a tree as deep as the box likes is no recursion. */
static Node *node_free(Fs *fs, Node *node) {
        if (atomic_fetch_add_explicit(&fs->n_freed, 1, memory_order_relaxed) % TRIM_AFTER == TRIM_AFTER - 1)
                atomic_store(&fs->trim, true);
        nameless_ends(fs, node);
        fd_drop_all(fs, node);
        if (S_ISDIR(node_type(node))) {
                dir_forget_lower(node);
                g_clear_pointer(&node->dir->list, dir_list_free);
                g_clear_pointer(&node->dir->moved, g_array_unref);
                free(node->dir);
        } else {
                for (Alias *a = node->aliases, *next; a; a = next) {
                        next = a->next;
                        node_unref(fs, a->parent, 1);
                        free(a);
                }
        }
        set_name(node, NULL);
        Node *parent = node->parent;
        free(node);
        return parent;
}

/* Returns the parent of one that is gone, with its reference, or NULL. */
static Node *unref(Fs *fs, Node *node, uint64_t n) {
        uint64_t refs = atomic_load_explicit(&node->refs, memory_order_relaxed);
        while (refs > n)
                if (atomic_compare_exchange_weak_explicit(&node->refs, &refs, refs - n, memory_order_release,
                                                          memory_order_relaxed))
                        return NULL;
        /* The last ones go under the shard's lock: a lookup may be about to find it. Its key may change until it is held. */
        for (;;) {
                Shard *s = shard_of(fs, node->key_dev, node->key_ino);
                pthread_mutex_lock(&s->lock);
                if (s != shard_of(fs, node->key_dev, node->key_ino)) {
                        pthread_mutex_unlock(&s->lock);
                        continue;
                }
                bool gone = atomic_fetch_sub(&node->refs, n) == n;
                if (gone)
                        shard_remove(s, node);
                pthread_mutex_unlock(&s->lock);
                return gone ? node_free(fs, node) : NULL;
        }
}

void node_unref(Fs *fs, Node *node, uint64_t n) {
        for (; node; n = 1)
                node = unref(fs, node, n);
}

static bool has_name(const Node *node, const Node *parent, const char *name) {
        if (node->parent == parent && strcmp(node_name(node), name) == 0)
                return true;
        if (S_ISDIR(node_type(node)))
                return false;
        for (const Alias *a = node->aliases; a; a = a->next)
                if (a->parent == parent && strcmp(a->name, name) == 0)
                        return true;
        return false;
}

/*
 * The same real file and the same file of the box: a directory, or a file with one name, that is known under another name is another one
 * (the host's bind mounts show one inode at two paths, and only one of them may be copied up). So is a lower file that is not any more what the kernel
 * was told of it. Under Fs.tree and the shard's lock.
 */
static Node *find(Shard *s, uint32_t dev, const Node *parent, const char *name, const Found *found) {
        const struct stat *st = &found->st;
        for (Node *node = s->slots[slot_of(s, dev, st->st_ino)]; node; node = node->inext) {
                if (node->key_ino != st->st_ino || node->key_dev != dev || node_type(node) != (st->st_mode & S_IFMT))
                        continue;
                if (!S_ISDIR(node_type(node)) && !node_is(node, NODE_UPPER) && !told_holds(node, st, found->birth))
                        continue;
                if (has_name(node, parent, name) || (!S_ISDIR(node_type(node)) && node_is(node, NODE_LINKS)))
                        return node;
        }
        return NULL;
}

static Node *node_new(Fs *fs, Node *parent, const char *name, Found *found) {
        size_t len = strlen(name);
        Node *node = calloc(1, offsetof(Node, room) + MAX(sizeof(char *), len + 1)); /* there are many */
        if (!node)
                return NULL;
        memcpy(node->room, name, len + 1);
        node->refs = 1;
        node->ino = found->ino;
        node->key_ino = found->st.st_ino;
        node->key_dev = (uint16_t) fs_dev_index(fs, found->st.st_dev);
        node->layer = (uint16_t) found->layer;
        node->flags = (uint16_t) ((found->st.st_mode & S_IFMT) | (found->upper ? NODE_UPPER : 0) | (found->indexed ? NODE_INDEXED : 0));
        if (!found->upper) {
                node->birth = found->birth;
                told_set(node, &found->st);
        }
        if (S_ISDIR(node_type(node))) {
                DirInfo *dir = malloc(sizeof *dir + found->n_lower * sizeof(DirLayer));
                if (!dir) {
                        free(node);
                        return NULL;
                }
                *dir = (DirInfo){ .rule = found->rule, .n = found->n_lower };
                if (found->n_lower > 0)
                        memcpy(dir->lower, found->lower, found->n_lower * sizeof(DirLayer));
                found->n_lower = 0; /* the strings are the node's now */
                node->dir = dir;
        } else if (found->st.st_nlink > 1 || found->indexed) {
                node_set(node, NODE_LINKS);
        }
        node->parent = parent;
        if (parent)
                node_ref(parent);
        return node;
}

Node *node_known(Fs *fs, Node *parent, const char *name, const Found *found) {
        uint32_t dev = fs_dev_index(fs, found->st.st_dev);
        Shard *s = shard_of(fs, dev, found->st.st_ino);

        pthread_mutex_lock(&s->lock);
        Node *node = find(s, dev, parent, name, found);
        if (node)
                node_ref(node);
        pthread_mutex_unlock(&s->lock);
        return node;
}

static bool add_alias(Node *node, Node *parent, const char *name) {
        size_t len = strlen(name);
        Alias *a = malloc(sizeof *a + len + 1);
        if (!a)
                return false;
        memcpy(a->name, name, len + 1);
        a->parent = parent;
        node_ref(parent);
        a->next = node->aliases;
        node->aliases = a;
        return true;
}

Node *node_get(Fs *fs, Node *parent, const char *name, Found *found, bool *ret_new_name) {
        uint32_t dev = fs_dev_index(fs, found->st.st_dev);
        Shard *s = shard_of(fs, dev, found->st.st_ino);

        *ret_new_name = false;
        if (dev >= FS_DEVS_MAX)
                return NULL;
        pthread_mutex_lock(&s->lock);
        Node *node = find(s, dev, parent, name, found);
        if (node) {
                node_ref(node);
                *ret_new_name = !has_name(node, parent, name);
        } else if ((node = node_new(fs, parent, name, found))) {
                shard_insert(s, node);
        }
        pthread_mutex_unlock(&s->lock);
        return node;
}

Node *node_new_nameless(Fs *fs, const struct stat *st, uint64_t ino) {
        Found found = { .st = *st, .upper = true, .ino = ino };
        Node *node = node_new(fs, NULL, "", &found);
        if (!node)
                return NULL;
        set_nameless(fs, node, true);
        Shard *s = shard_of(fs, node->key_dev, node->key_ino);
        pthread_mutex_lock(&s->lock);
        shard_insert(s, node);
        pthread_mutex_unlock(&s->lock);
        return node;
}

void node_rekey(Fs *fs, Node *node, const struct stat *st) {
        uint32_t dev = fs_dev_index(fs, st->st_dev);
        Shard *from = shard_of(fs, node->key_dev, node->key_ino), *to = shard_of(fs, dev, st->st_ino);

        pthread_mutex_lock(from < to ? &from->lock : &to->lock);
        if (from != to)
                pthread_mutex_lock(from < to ? &to->lock : &from->lock);
        shard_remove(from, node);
        node->key_dev = (uint16_t) dev;
        node->key_ino = st->st_ino;
        node->birth = 0;
        shard_insert(to, node);
        pthread_mutex_unlock(&from->lock);
        if (from != to)
                pthread_mutex_unlock(&to->lock);
}

bool node_add_name(Fs *fs, Node *node, Node *parent, const char *name) {
        if (node->parent && has_name(node, parent, name))
                return true;
        if (node->parent || node == fs->root) {
                node_set(node, NODE_LINKS);
                return add_alias(node, parent, name);
        }
        char *copy = strdup(name);
        if (!copy)
                return false;
        set_name(node, copy);
        node->parent = parent;
        node_ref(parent);
        set_nameless(fs, node, false);
        return true;
}

void node_drop_name(Fs *fs, Node *node, Node *parent, const char *name) {
        if (node->parent == parent && strcmp(node_name(node), name) == 0) {
                Alias *a = S_ISDIR(node_type(node)) ? NULL : node->aliases;
                node->parent = a ? a->parent : NULL;
                if (a) { /* another name comes first now, in the memory that it has: for a copy there may be none */
                        node->aliases = a->next;
                        set_name(node, memmove(a, a->name, strlen(a->name) + 1));
                } else {
                        set_nameless(fs, node, true);
                }
                node_unref(fs, parent, 1);
                return;
        }
        if (S_ISDIR(node_type(node)))
                return;
        for (Alias **at = &node->aliases; *at; at = &(*at)->next) {
                Alias *a = *at;
                if (a->parent == parent && strcmp(a->name, name) == 0) {
                        *at = a->next;
                        node_unref(fs, a->parent, 1);
                        free(a);
                        return;
                }
        }
}

bool node_rename(Fs *fs, Node *node, Node *old_parent, const char *old_name, Node *parent, const char *name) {
        if (node->parent == old_parent && strcmp(node_name(node), old_name) == 0) {
                char *copy = strdup(name);
                if (!copy)
                        return false;
                set_name(node, copy);
                node_ref(parent);
                node->parent = parent;
                node_unref(fs, old_parent, 1);
                return true;
        }
        if (!S_ISDIR(node_type(node)) && !add_alias(node, parent, name))
                return false;
        node_drop_name(fs, node, old_parent, old_name);
        return true;
}

void nodes_trim(Fs *fs) {
        if (atomic_load_explicit(&fs->trim, memory_order_relaxed) && atomic_exchange(&fs->trim, false))
                (void) malloc_trim(0);
}

uint64_t nodes_count(Fs *fs) {
        uint64_t n = 0;
        for (unsigned i = 0; i < NODE_SHARDS; i++) {
                pthread_mutex_lock(&fs->shards[i].lock);
                n += fs->shards[i].n;
                pthread_mutex_unlock(&fs->shards[i].lock);
        }
        return n;
}

/* Fs.tree keeps them where they are: one that is copied up changes its shard. */
guint nodes_find(Fs *fs, unsigned flags, Node **ret, guint max) {
        guint n = 0;

        pthread_rwlock_rdlock(&fs->tree);
        for (unsigned i = 0; i < NODE_SHARDS && n < max; i++) {
                Shard *s = &fs->shards[i];
                pthread_mutex_lock(&s->lock);
                for (uint32_t slot = 0; slot < s->n_slots && n < max; slot++)
                        for (Node *node = s->slots[slot]; node && n < max; node = node->inext)
                                if (node_is(node, flags)) {
                                        node_ref(node);
                                        ret[n++] = node;
                                }
                pthread_mutex_unlock(&s->lock);
        }
        pthread_rwlock_unlock(&fs->tree);
        return n;
}
