/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Listing directories.
 *
 * Role: usbox-fs. Privileges: the caller's, the agent's for directories of the upper that the caller may not read. Threads: any.
 *
 * There is no handle for an open directory (the kernel does not tell of opendir), so a place in a listing must mean something by
 * itself: it is of a keyed hash of the name (dirplaces.h), and entries come in the order of their hashes. So a listing that goes on after names
 * came and went has each name that stayed exactly once, whoever else reads or changes the directory. The key is random: nobody
 * makes names that collide. A listing is kept from its first piece to its last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fsoverlay/dirplaces.h"
#include "fsoverlay/memory.h"
#include "fsoverlay/ops.h"

struct DirList {
        _Atomic unsigned refs;
        uint32_t version;
        GArray *entries; /* of DirEntry */
        GString *names;
};

void dir_list_free(DirList *list) {
        if (atomic_fetch_sub(&list->refs, 1) != 1)
                return;
        g_array_free(list->entries, TRUE);
        g_string_free(list->names, TRUE);
        free(list);
}

void dir_changed(Node *dir) {
        atomic_fetch_add(&dir->dir->version, 1);
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                                                                                                       \
        do {                                                                                                           \
                v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);                                              \
                v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                                                                 \
                v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                                                                 \
                v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);                                              \
        } while (0)

/* SipHash-1-3 (Aumasson, Bernstein), to 63 bits. */
static uint64_t hash_of(const Fs *fs, const char *name, size_t len) {
        uint64_t v0 = fs->hash_key[0] ^ 0x736f6d6570736575ull, v1 = fs->hash_key[1] ^ 0x646f72616e646f6dull;
        uint64_t v2 = fs->hash_key[0] ^ 0x6c7967656e657261ull, v3 = fs->hash_key[1] ^ 0x7465646279746573ull;
        uint64_t m;
        size_t i = 0;

        for (; i + 8 <= len; i += 8) {
                memcpy(&m, name + i, 8);
                v3 ^= m;
                SIPROUND;
                v0 ^= m;
        }
        m = (uint64_t) len << 56;
        memcpy(&m, name + i, len - i);
        v3 ^= m;
        SIPROUND;
        v0 ^= m;
        v2 ^= 0xff;
        SIPROUND;
        SIPROUND;
        SIPROUND;
        return (v0 ^ v1 ^ v2 ^ v3) >> 1;
}

static int by_hash(const void *a, const void *b) {
        const DirEntry *x = a, *y = b;
        return x->place < y->place ? -1 : x->place > y->place;
}

/* getdents64(2)'s record. */
struct dirent64_raw {
        uint64_t ino;
        int64_t off;
        uint16_t reclen;
        uint8_t type;
        char name[];
};

typedef struct {
        Fs *fs;
        Node *dir;
        DirList *list;
        GHashTable *seen; /* of hashes, where there is more than one layer: (index + 1) of the entry */
        unsigned layer;
        int fd;
        char *path; /* for rules */
        GArray *hidden; /* of hashes of names that a layer's .wh. names hide below it */
        bool opaque_seen;
        bool no_memory;
} Merge;

static bool look(const Merge *m, const char *name, struct stat *st) {
        return (m->layer == LAYER_UPPER ? up_stat(m->fs, m->fd, name, st) : fstatat(m->fd, name, st, AT_SYMLINK_NOFOLLOW)) == 0;
}

/* Whether a name of this layer is one at all; *gone: it says that there is none. */
static bool judge(Merge *m, const char *name, uint8_t *type, bool *gone) {
        const Layer *layer = &m->fs->layers[m->layer];
        struct stat st;

        *gone = false;
        if (*type == DT_UNKNOWN)
                *type = look(m, name, &st) ? (uint8_t) IFTODT(st.st_mode) : DT_UNKNOWN;
        if (layer->host && *type != DT_REG && *type != DT_DIR && *type != DT_LNK)
                return false;
        RuleState rule = m->dir->dir->rule;
        if (layer->ruled && m->fs->rules && !rules_trivial(rule) && !rules_enter(m->fs->rules, rule, m->path, name, *type == DT_DIR, &rule))
                return false;
        if (layer->host)
                return true;
        if (*type == DT_CHR && look(m, name, &st) && stat_is_whiteout(&st))
                *gone = true;
        return true;
}

#define ENTRY_GROWTH (2 * sizeof(DirEntry) + 96)

static void add(Merge *m, const char *name, uint8_t type) {
        DirList *list = m->list;
        bool gone = false;
        size_t len = strlen(name);

        /* Lists and the table double when they grow. */
        if (list->entries->len % 1024 == 0 && !memory_for(list->names->len * 2 + list->entries->len * ENTRY_GROWTH))
                m->no_memory = true;
        if (m->no_memory)
                return;
        if (m->fs->layers[m->layer].foreign && strncmp(name, ".wh.", 4) == 0) {
                if (strcmp(name, ".wh..wh..opq") == 0) {
                        m->opaque_seen = true;
                } else if (m->seen) {
                        /* It hides the name in the layers below, not in its own, where it may have been made anew. */
                        uint64_t hidden = hash_of(m->fs, name + 4, len - 4);
                        g_array_append_val(m->hidden, hidden);
                }
                return;
        }
        if (!judge(m, name, &type, &gone)) {
                return;
        }
        uint64_t hash = hash_of(m->fs, name, len);
        if (m->seen) {
                if (g_hash_table_contains(m->seen, &hash))
                        return; /* an upper layer's stands before it */
                g_hash_table_add(m->seen, g_memdup2(&hash, sizeof hash));
        }
        DirEntry e = { .place = hash, .name = (uint32_t) list->names->len, .layer = (uint16_t) m->layer, .type = type };
        if (gone)
                return;
        g_string_append_len(list->names, name, (gssize) len + 1);
        g_array_append_val(list->entries, e);
}

/* A directory that shows named children alone is not read: it may be one of the kernel's, or not be there. */
static void add_named(Merge *m, const Fd *dir) {
        guint n;
        const char *const *names = rules_named(m->dir->dir->rule, &n);

        m->fd = dir->fd;
        for (guint i = 0; i < n; i++)
                add(m, names[i], DT_UNKNOWN);
}

static int read_layer(Merge *m) {
        char buffer[32768] __attribute__((aligned(8)));
        int r = 0;
        Fd *dir = fd_dir(m->fs, m->dir, m->layer, &r);

        if (!dir)
                return r == -ENOENT && m->layer != LAYER_UPPER ? 0 : r;
        if (m->fs->layers[m->layer].host && m->fs->rules && rules_filters(m->dir->dir->rule)) {
                add_named(m, dir);
                fd_put(m->fs, dir);
                return 0;
        }
        m->fd = m->layer == LAYER_UPPER ? up_open(m->fs, dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
                                        : openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (m->fd < 0)
                r = m->layer == LAYER_UPPER ? m->fd : -errno;
        fd_put(m->fs, dir);
        if (r < 0)
                return r == -EACCES && m->layer != LAYER_UPPER ? 0 : r; /* a directory that only its owner lists: what is above it shows */
        for (;;) {
                ssize_t n = syscall(SYS_getdents64, m->fd, buffer, sizeof buffer);
                if (n <= 0) {
                        r = n < 0 ? -errno : 0;
                        break;
                }
                for (ssize_t at = 0; at < n;) {
                        const struct dirent64_raw *d = (const struct dirent64_raw *) (buffer + at);
                        at += d->reclen;
                        if (strcmp(d->name, ".") != 0 && strcmp(d->name, "..") != 0)
                                add(m, d->name, d->type);
                }
        }
        close(m->fd);
        return r == -ENOENT ? 0 : r; /* a directory that was removed is empty */
}

/* Under Fs.tree. */
static int build(Fs *fs, Node *dir, DirList **ret) {
        DirList *list = calloc(1, sizeof *list);
        int r = 0;

        if (!list)
                return -ENOMEM;
        list->refs = 1;
        list->version = atomic_load(&dir->dir->version);
        list->entries = g_array_new(FALSE, FALSE, sizeof(DirEntry));
        list->names = g_string_new(NULL);
        unsigned n_layers = dir->dir->n + (node_is(dir, NODE_UPPER) ? 1u : 0u);
        g_autoptr(GHashTable) seen = n_layers > 1 ? g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL) : NULL;
        g_autofree char *below = NULL;
        g_autoptr(GArray) hidden = g_array_new(FALSE, FALSE, sizeof(uint64_t));
        Merge m = { .fs = fs, .dir = dir, .list = list, .seen = seen, .hidden = hidden };

        for (int i = -1; r == 0 && i < (int) dir->dir->n && !m.opaque_seen; i++) {
                if (i < 0 && !node_is(dir, NODE_UPPER))
                        continue;
                m.layer = i < 0 ? LAYER_UPPER : dir->dir->lower[i].layer;
                if (fs->layers[m.layer].ruled && fs->rules && rules_needs_path(fs->rules)) {
                        g_autofree char *path = dir_path(fs, dir, m.layer);
                        g_free(below);
                        m.path = below = path ? g_strconcat("/", path, NULL) : NULL;
                        if (!path)
                                r = -ESTALE;
                }
                if (r == 0)
                        r = node_is(dir, NODE_NAMELESS) ? 0 : read_layer(&m);
                if (m.no_memory)
                        r = -ENOMEM;
                for (guint h = 0; h < hidden->len; h++)
                        g_hash_table_add(seen, g_memdup2(&g_array_index(hidden, uint64_t, h), sizeof(uint64_t)));
                g_array_set_size(hidden, 0);
        }
        if (r < 0) {
                dir_list_free(list);
                return r;
        }
        if (list->entries->len > 0)
                qsort(list->entries->data, list->entries->len, sizeof(DirEntry), by_hash);
        *ret = list;
        return 0;
}

static int get_list(Fs *fs, Node *dir, bool from_start, DirList **ret) {
        pthread_mutex_lock(node_lock(fs, dir));
        DirList *list = dir->dir->list;
        if (list && from_start && (fs->strict || list->version != atomic_load(&dir->dir->version)))
                list = NULL;
        if (list)
                atomic_fetch_add(&list->refs, 1);
        pthread_mutex_unlock(node_lock(fs, dir));
        if (list) {
                *ret = list;
                return 0;
        }
        pthread_rwlock_rdlock(&fs->tree);
        int r = build(fs, dir, &list);
        pthread_rwlock_unlock(&fs->tree);
        if (r < 0)
                return r;
        atomic_fetch_add(&list->refs, 1);
        pthread_mutex_lock(node_lock(fs, dir));
        DirList *old = dir->dir->list;
        dir->dir->list = list;
        g_autoptr(GArray) moved = dir->dir->moved;
        dir->dir->moved = dir_places((DirEntry *) list->entries->data, list->entries->len, moved);
        pthread_mutex_unlock(node_lock(fs, dir));
        if (old)
                dir_list_free(old);
        *ret = list;
        return 0;
}

/* The end was read: it is not needed any more. */
static void forget_list(Fs *fs, Node *dir, DirList *list) {
        pthread_mutex_lock(node_lock(fs, dir));
        bool kept = dir->dir->list == list;
        if (kept)
                dir->dir->list = NULL;
        pthread_mutex_unlock(node_lock(fs, dir));
        if (kept)
                dir_list_free(list);
}

int dir_is_empty(Fs *fs, Node *dir) {
        DirList *list;
        Found found;

        pthread_rwlock_rdlock(&fs->tree);
        int r = build(fs, dir, &list);
        if (r == 0) {
                r = 1;
                for (guint i = 0; r == 1 && i < list->entries->len; i++) {
                        const DirEntry *e = &g_array_index(list->entries, DirEntry, i);
                        int there = lookup_name(fs, dir, list->names->str + e->name, 0, &found);
                        if (there == 0)
                                found_clear(&found);
                        if (there != -ENOENT)
                                r = there < 0 ? there : 0;
                }
                dir_list_free(list);
        }
        pthread_rwlock_unlock(&fs->tree);
        return r;
}

static void put_dirent(struct fuse_dirent *d, uint64_t ino, uint64_t place, const char *name, size_t len, uint8_t type) {
        *d = (struct fuse_dirent){ .ino = ino, .off = place, .namelen = (uint32_t) len, .type = type };
        memcpy((char *) d + FUSE_NAME_OFFSET, name, len);
        memset((char *) d + FUSE_NAME_OFFSET + len, 0, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len) - (FUSE_NAME_OFFSET + len));
}

/* What the kernel is told where a name cannot be looked at: as libfuse does. */
#define UNKNOWN_INO 0xffffffffu

/*
 * One entry at the answer's end. False: there was no room for it. What is no name after all is passed over; one that cannot be looked at is listed by
 * its name alone, and whoever asks for it hears why: who copies a directory must not take it for less than it is.
 */
static bool put_entry(Request *r, const DirList *list, const DirEntry *e, bool plus) {
        const char *name = list->names->str + e->name;
        size_t len = strlen(name), size = (plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET) + len;
        Hint hint = { .layer = r->fs->strict ? 0 : e->layer, .version = list->version };
        char *at = (char *) r->out + r->out_len;
        struct fuse_dirent *dirent = (struct fuse_dirent *) at;
        uint64_t ino = UNKNOWN_INO;
        uint8_t type = e->type;
        int n;

        size = FUSE_DIRENT_ALIGN(size);
        if (r->out_len + size > r->out_size)
                return false;
        if (plus) {
                struct fuse_direntplus *d = (struct fuse_direntplus *) at;
                struct stat st = { 0 };
                Node *node;
                n = entry_lookup(r->fs, r->node, name, &hint, &node, &st);
                if (n == 0) {
                        reply_entry(r, node, &st, &d->entry_out);
                        ino = node->ino;
                        type = (uint8_t) IFTODT(st.st_mode);
                } else
                        d->entry_out = (struct fuse_entry_out){ 0 }; /* node 0: not looked up */
                dirent = &d->dirent;
        } else {
                Found found;
                pthread_rwlock_rdlock(&r->fs->tree);
                n = lookup_name(r->fs, r->node, name, hint_layer(&hint, r->node), &found);
                pthread_rwlock_unlock(&r->fs->tree);
                if (n == 0) {
                        ino = found.ino;
                        type = (uint8_t) IFTODT(found.st.st_mode);
                        found_clear(&found);
                }
        }
        if (n == -ENOENT)
                return true;
        put_dirent(dirent, ino, e->place, name, len, type);
        r->out_len += size;
        return true;
}

static bool put_dot(Request *r, uint64_t ino, uint64_t place, const char *name, bool plus) {
        size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET, size = FUSE_DIRENT_ALIGN(head + strlen(name));
        char *at = (char *) r->out + r->out_len;

        if (r->out_len + size > r->out_size)
                return false;
        if (plus) {
                memset(at, 0, FUSE_NAME_OFFSET_DIRENTPLUS);
                at += FUSE_NAME_OFFSET_DIRENTPLUS - FUSE_NAME_OFFSET;
        }
        put_dirent((struct fuse_dirent *) at, ino, place, name, strlen(name), DT_DIR);
        r->out_len += size;
        return true;
}

/* The first entry behind a place. */
static guint entry_after(const DirList *list, uint64_t place) {
        guint low = 0, high = list->entries->len;
        while (low < high) {
                guint middle = (low + high) / 2;
                if (g_array_index(list->entries, DirEntry, middle).place <= place)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int list_dir(Request *r, bool plus) {
        const struct fuse_read_in *in = r->in;
        Fs *fs = r->fs;
        DirList *list;
        uint64_t place = in->offset;

        r->out_size = MIN(r->out_size, (size_t) in->size);
        int n = get_list(fs, r->node, place == 0, &list);
        if (n < 0)
                return n;
        if (place == 0 && fs->journal)
                journal_name(fs, r->node, NULL, "list");
        pthread_rwlock_rdlock(&fs->tree);
        uint64_t up = r->node->parent ? r->node->parent->ino : r->node->ino;
        pthread_rwlock_unlock(&fs->tree);
        bool room = true;
        if (place < PLACE_DOT)
                room = put_dot(r, r->node->ino, PLACE_DOT, ".", plus);
        if (room && place < PLACE_DOTDOT)
                room = put_dot(r, up, PLACE_DOTDOT, "..", plus);
        guint i = place > PLACE_DOTDOT ? entry_after(list, place) : 0;
        for (; room && i < list->entries->len; i++)
                room = put_entry(r, list, &g_array_index(list->entries, DirEntry, i), plus);
        if (r->out_len == 0)
                forget_list(fs, r->node, list);
        dir_list_free(list);
        return 0;
}

int op_readdir(Request *r) {
        return list_dir(r, false);
}

int op_readdirplus(Request *r) {
        return list_dir(r, true);
}
