/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the parts of usbox-fs share: the file system, its layers, its nodes.
 *
 * Errors: FUSE operations and what serves them return 0 or more, or a negative errno.
 *
 * Locks, in the order in which they may be taken: a node's copy-up lock, Fs.tree, a node's stripe (node_lock()), a shard of the
 * node table, the clock of descriptors. Fs.tree is held for reading over whatever goes from a name to a file and for
 * writing where names change (unlink, rename, the last step of a copy-up). A request that has its descriptor already takes none.
 * The notifiers' locks come last.
 * "Tree" behind a declaration: the caller holds Fs.tree.
 */

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "fsoverlay/agent.h"
#include "fsoverlay/config.h"
#include "fsoverlay/ids.h"
#include "fsoverlay/journal.h"
#include "fsoverlay/quota.h"
#include "fsoverlay/rules.h"

#define NAME_LEN_MAX 255
#define LAYER_UPPER 0u /* the upper's number; lowers follow, topmost first */
#define NODE_SHARDS 64u
#define NODE_STRIPES 256u
#define FS_DEVS_MAX 65535u

#define XATTR_ROOT XATTR_PRIVATE "usbox.root" /* the root's owner and mode are the upper's own */
#define XATTR_CAPABILITY "security.capability"
/*
 * links/ of the work directory. INO (hexadecimal): a file with several lower names that was copied up, INO its lower inode number as the box sees it. The
 * rest are symlinks whose text is what is to be known, since symlinks and the like have no attributes to write it to:
 */
#define LINKS_GONE "g"   /* gINO: how many names of a lower file were removed that is not copied up, and which file that is */
#define LINKS_WHICH "w"  /* wINO: which lower file INO is the copy of (links_which()) */
#define LINKS_DEVICE "v" /* vN: the file system whose inode numbers show with N above them (devices.c) */
#define LINKS_LEFT "l"   /* lINO: how many names of INO are the lower's alone */
#define LINKS_ORIGIN "o" /* oINO: the inode number that INO of the upper, no regular file, shows */
#define LINKS_NAME_MAX 40
#define LINKS_TEXT_MAX 512 /* a file handle in hexadecimal and more */

#define DEVICE_SHIFT 48

/* A file system that a layer, or a part of it, lies on. */
typedef struct {
        dev_t dev;
        uint16_t number;   /* over inode numbers that show */
        _Atomic bool kept; /* links/ has it, or need not */
        char *id;          /* what it is called at the next mount, too */
} Device;

typedef struct {
        int root;   /* O_PATH directory; -1: there is none (a mount without upper) */
        bool host;  /* a live host tree: no overlay marks are read in it, rules and others_eyes are asked */
        bool ruled;  /* rules are asked of its names */
        bool foreign; /* marks of other drivers may be in it, such as .wh.NAME */
        bool places; /* the box's own layer: its directories are there for what is in them, and look like those below */
} Layer;

typedef struct Node Node;
typedef struct Fd Fd;
typedef struct DirList DirList;

/* A further name of a file with several; the first one is in the node. */
typedef struct Alias {
        struct Alias *next;
        Node *parent; /* a reference */
        char name[];
} Alias;

/* Where a directory is found below: as PARENT's + name, or at a path of its own where it (an upper or a layer above) was renamed. */
typedef struct {
        uint16_t layer;
        _Atomic bool exact; /* it finds names by no other spelling than the one that it lists */
        char *redirect; /* without leading "/"; NULL: the parent's path and the name */
} DirLayer;

typedef struct {
        DirList *list;  /* the listing that readdir walks, under the node's stripe; may be NULL */
        GArray *moved;  /* what dir_places() said of the one before; as list */
        _Atomic uint32_t version; /* counts changes of names */
        RuleState rule;
        uint16_t n;
        DirLayer lower[];
} DirInfo;

enum {
        NODE_UPPER = 1 << 0,   /* it is in the upper: a file's data, a directory's own entry */
        NODE_INDEXED = 1 << 1, /* a copied-up file with several lower names: its data is links/KEY of the work directory */
        NODE_NAMELESS = 1 << 2, /* unlinked: what is left is its pinned descriptor */
        NODE_LINKS = 1 << 3,   /* a file with more than one name */
        NODE_READ = 1 << 4,    /* journalled: each once */
        NODE_WRITTEN = 1 << 5,
        NODE_FRESH = 1 << 6, /* its name in the upper was made since the last fsync of that directory */
        NODE_PLAIN = 1 << 7, /* made by this mount, and nobody gave it attributes: the kernel asks for capabilities before it writes */
        NODE_MOVED = 1 << 8, /* its first name is not the one that it was made with: node_name() */
        NODE_CHANGED = 1 << 9, /* a lower file that is not any more what the kernel was told of it: found by nobody again (told.c) */
        NODE_TELL_PAGES = 1 << 10, /* the kernel is yet to hear that it shall forget its pages, */
        NODE_TELL_NAMES = 1 << 11, /* and what it knows its names to be (notify.c) */
};

G_STATIC_ASSERT((NODE_TELL_NAMES & S_IFMT) == 0);

/* One file of the box. Its address is the kernel's node id. */
struct Node {
        Node *inext;           /* in its shard */
        _Atomic uint64_t refs; /* the kernel's lookups, children, requests at work */
        Node *parent;          /* a reference; NULL: the root, or nameless. Fs.tree */
        uint64_t ino;          /* st_ino as shown: the same for the life of the mount */
        uint64_t key_ino;      /* identity: the real file's, with dev; changes at copy-up */
        union {
                DirInfo *dir;   /* directories */
                Alias *aliases; /* others. Fs.tree */
        };
        Fd *fds; /* open descriptors, under its stripe */
        _Atomic int64_t told_size;   /* lower files: what the kernel was told, */
        _Atomic uint64_t told_stamp; /* and what it was when the oldest of its pages was read (told.c) */
        uint32_t birth;          /* identity, too, of a lower file: when it was made; 0: nobody knows */
        uint16_t key_dev;        /* place in Fs.devs */
        uint16_t layer;          /* files that are not in the upper: where they are */
        _Atomic uint16_t flags;  /* NODE_*, and above them the type: node_type() */
        char room[];             /* of its name, or of a pointer to one from malloc: node_name() */
};

/* An open descriptor of a node. Kept open for the next request; the least used go when there are too many. */
struct Fd {
        Fd *next;       /* of the node */
        Fd *up, *down;  /* the clock of all */
        Node *node;     /* NULL: dropped, the last user frees it */
        int fd;
        _Atomic int users;
        uint16_t layer;
        bool path;      /* O_PATH */
        bool writable;
        _Atomic bool pinned; /* the node has no name: there is no other way to it */
        _Atomic bool used; /* since the clock's hand passed */
        _Atomic bool fresh; /* opened by the request that is at work */
};

typedef struct {
        pthread_mutex_t lock;
        Node **slots;
        uint32_t n_slots, n;
} Shard;

typedef struct Fs {
        Layer *layers; /* [0] the upper */
        unsigned n_layers;
        int work;      /* work/ of the work directory, for what is not finished; -1 without upper */
        int links;     /* links/: the index of hard links */
        bool foreign; /* a layer is */
        bool read_only, strict, acl, fsync_ignored, writeback, others_eyes, polling;
        bool no_open; /* the kernel does not tell of open and close; set by INIT */
        Ids ids;
        Agent *agent; /* NULL: there is none, and nothing that it could do more */
        Rules *rules;
        Journal *journal; /* NULL: not asked for */
        Quota *quota;     /* NULL: no limit */
        gid_t *groups;    /* of the caller, for others_eyes */
        int n_groups;

        pthread_rwlock_t tree; /* names: parent, name, aliases, redirect of nodes */
        pthread_mutex_t stripes[NODE_STRIPES];
        pthread_mutex_t copy_locks[NODE_SHARDS];
        Shard shards[NODE_SHARDS];
        Node *root;
        bool second_root;          /* the root can be looked up by FS_ROOT_NAME, too */
        _Atomic bool root_has_id;  /* and was: the kernel's id for it is then that of any node */

        pthread_mutex_t clock_lock;
        Fd *clock; /* the hand */
        unsigned n_fds, max_fds;

        pthread_mutex_t dev_lock;
        Device *devs; /* only grows */
        _Atomic unsigned n_devs;
        GHashTable *dev_numbers; /* id → number, of those that links/ has. dev_lock */
        bool *dev_taken;         /* numbers in use, here or in links/. dev_lock */

        bool root_like_lower; /* the root shows the lower's owner and mode until they are changed */
        _Atomic bool owners;  /* the upper may hold files with XATTR_OWNER */
        _Atomic bool origins; /* the upper may hold files with XATTR_INO */
        _Atomic bool indexed; /* links/ is not empty */
        _Atomic uint64_t temp; /* names in work/ */
        _Atomic unsigned n_nameless; /* known nodes with NODE_NAMELESS: what they take of the limit comes back when they are forgotten */
        pthread_mutex_t whiteout_lock;
        pthread_mutex_t removed_lock;
        GHashTable *removed; /* st_ino of lower files with several names → how many were removed, and of which */
        _Atomic bool any_removed;
        _Atomic unsigned n_freed; /* nodes, of all time */
        _Atomic bool trim;        /* memory is to be given back after this request */
        uint64_t hash_key[2];

        struct Notifier *notifiers; /* notify.c */
        _Atomic uint64_t *counts; /* requests by opcode */
        int dev;                  /* /dev/fuse */
} Fs;

/* devices.c */
bool devices_init(Fs *fs);
void devices_remember(Fs *fs, unsigned number, const char *id); /* from links/ */
/* The place in Fs.devs; FS_DEVS_MAX: there is no more room. */
unsigned fs_dev_index(Fs *fs, dev_t dev);
/* dev, the file system of dir/name, is about to be asked for. */
void fs_dev_meet(Fs *fs, dev_t dev, int dir, const char *name);
/* The same of one that is not there at the next mount: the box's own. */
void fs_dev_meet_fleeting(Fs *fs, dev_t dev);
/* st_ino as the box sees it: the first device's as they are; others' apart from them, as far as 64 bits go. */
uint64_t fs_shown_ino(Fs *fs, dev_t dev, ino_t ino);
/* An inode number of this device is about to be written down. 0, or a negative errno. */
int fs_dev_keep(Fs *fs, unsigned index);

/* node.c: the table */
bool nodes_init(Fs *fs);
/* The node of a name, made where it is not known yet; a reference more. parent is borrowed. NULL: out of memory.
 * *ret_new_name: it is known by other names: node_add_name() is to follow, when Fs.tree can be had for writing. */
typedef struct Found Found;
Node *node_get(Fs *fs, Node *parent, const char *name, Found *found, bool *ret_new_name);
Node *node_new_nameless(Fs *fs, const struct stat *st, uint64_t ino);
void node_ref(Node *node);
void node_unref(Fs *fs, Node *node, uint64_t n);
/* The real file behind it is another now: copy-up. */
void node_rekey(Fs *fs, Node *node, const struct stat *st);
/* Under Fs.tree for writing. */
bool node_add_name(Fs *fs, Node *node, Node *parent, const char *name);
void node_drop_name(Fs *fs, Node *node, Node *parent, const char *name);
bool node_rename(Fs *fs, Node *node, Node *old_parent, const char *old_name, Node *parent, const char *name);
/* The node that is known under a name, or NULL. A reference more. Under Fs.tree. */
Node *node_known(Fs *fs, Node *parent, const char *name, const Found *found);
/* A directory that has become opaque. Under Fs.tree for writing. */
void dir_forget_lower(Node *dir);
uint64_t nodes_count(Fs *fs);
/* Up to max of those with any of flags, a reference more each, and how many they are; 0: at that moment there was none. Takes Fs.tree. */
guint nodes_find(Fs *fs, unsigned flags, Node **ret, guint max);
void nodes_trim(Fs *fs); /* give memory back, if many nodes went since the last time */

static inline pthread_mutex_t *node_lock(Fs *fs, const Node *node) {
        return &fs->stripes[((uintptr_t) node >> 5) * 2654435761u % NODE_STRIPES];
}
static inline pthread_mutex_t *node_copy_lock(Fs *fs, const Node *node) {
        return &fs->copy_locks[((uintptr_t) node >> 5) * 2654435761u % NODE_SHARDS];
}
static inline bool node_is(const Node *node, unsigned flag) {
        return atomic_load_explicit(&node->flags, memory_order_acquire) & flag;
}
static inline void node_set(Node *node, unsigned flag) {
        atomic_fetch_or_explicit(&node->flags, (uint16_t) flag, memory_order_acq_rel);
}
static inline void node_unset(Node *node, unsigned flag) {
        atomic_fetch_and_explicit(&node->flags, (uint16_t) ~flag, memory_order_acq_rel);
}
/* The same two, and which of all flags it had before. */
static inline unsigned node_swap_set(Node *node, unsigned flags) {
        return atomic_fetch_or_explicit(&node->flags, (uint16_t) flags, memory_order_acq_rel);
}
static inline unsigned node_swap_unset(Node *node, unsigned flags) {
        return atomic_fetch_and_explicit(&node->flags, (uint16_t) ~flags, memory_order_acq_rel);
}
/* The S_IFMT part of its mode. */
static inline mode_t node_type(const Node *node) {
        return atomic_load_explicit(&node->flags, memory_order_relaxed) & S_IFMT;
}
/* Its first name. Under Fs.tree. */
static inline const char *node_name(const Node *node) {
        char *moved;
        if (!node_is(node, NODE_MOVED))
                return node->room;
        memcpy(&moved, node->room, sizeof moved);
        return moved;
}
/* There is no other way to it than its pinned descriptor. One of the index has its entry there, whatever names are known. */
static inline bool node_is_loose(const Node *node) {
        return node_is(node, NODE_NAMELESS) && !node_is(node, NODE_INDEXED);
}
static inline unsigned node_layer(const Node *node) {
        return node_is(node, NODE_UPPER) ? LAYER_UPPER : node->layer;
}

/* told.c: lower files may change. birth: of a file that has the inode number of one that is gone, another; 0: not known. */
/* name in dir, or dir itself where that is empty. As fstatat(2). */
int stat_born(int dir, const char *name, struct stat *ret, uint32_t *ret_birth);
typedef struct {
        uint64_t ino;
        uint16_t dev;
        uint32_t birth;
} FileId;
FileId node_file(const Node *node); /* under Fs.tree */
bool file_is(Fs *fs, const FileId *id, const struct stat *st, uint32_t birth);
/* The kernel is told this of it, the first time. */
void told_set(Node *node, const struct stat *st);
/* The size that it was told. */
static inline off_t told_size(const Node *node) {
        return atomic_load_explicit(&node->told_size, memory_order_relaxed);
}
/* Is it what the kernel was told? */
bool told_holds(const Node *node, const struct stat *st, uint32_t birth);
/* A lower file's data is asked for. If it changed, the kernel is to forget what it has of it. False: it is shorter than the kernel thinks. */
bool told_look(Fs *fs, Node *node, const struct stat *st);
/* What tells a file from what it was before; never 0. */
uint64_t told_stamp_of(const struct stat *st);
/* The same of a lower file as it is; 0: nobody can say. Takes Fs.tree. */
uint64_t told_stamp_now(Fs *fs, Node *node);
/* A copy of the file from, which was begun when that had this stamp, is in its place: from here on the node is in the upper. Under Fs.tree, for writing. */
void told_copied(Fs *fs, Node *node, int from, uint64_t stamp);
/* The kernel is about to be told anew, and without writeback cache takes it. */
void told_again(Fs *fs, Node *node, const struct stat *st);

/* fdcache.c: the descriptors of nodes. What fd_* return is the caller's until fd_put(); NULL with errno in *ret_err as a negative errno. */
Fd *fd_file(Fs *fs, Node *node, bool write, int *ret_err);  /* a regular file's data */
Fd *fd_dir(Fs *fs, Node *node, unsigned layer, int *ret_err); /* O_PATH of a directory in a layer */
void fd_put(Fs *fs, Fd *fd);
Fd *fd_add(Fs *fs, Node *node, int fd_take, unsigned layer, bool path, bool writable, bool pinned);
void fd_drop_layer(Fs *fs, Node *node, unsigned layer); /* after copy-up */
void fd_drop_all(Fs *fs, Node *node);
/* Keep a way to a node that is about to lose its last name. */
int fd_pin(Fs *fs, Node *node);
void fd_unpin(Fs *fs, Node *node); /* it has a name again */
Fd *fd_pinned(Fs *fs, Node *node); /* NULL: not nameless */
Fd *fd_opened(Fs *fs, Node *node, bool write); /* of its data, where one is open already; NULL */

/* layer.c: looking up */
struct Found {
        struct stat st;      /* of the topmost */
        uint32_t birth;      /* of a lower one (told.c) */
        unsigned layer;      /* the topmost layer that has it */
        bool upper;
        bool indexed;        /* st is that of the index entry */
        uint64_t ino;        /* st_ino to show */
        uint16_t n_lower;    /* directories: lower layers that have it */
        DirLayer *lower;     /* found_clear() */
        RuleState rule;
};
void found_clear(Found *found);
/* Does name exist in parent? 0 and *ret, or -ENOENT, ... from: the first layer to look in (a listing's hint). */
int lookup_name(Fs *fs, Node *parent, const char *name, unsigned from, Found *ret);
/* A lower layer of parent has a name of this kind that a removed upper one would uncover. 1, 0, or a negative errno. */
int lookup_lower(Fs *fs, Node *parent, const char *name);
/* The path of a directory in a layer, below the layer's root, without leading "/"; under Fs.tree. malloc'ed. */
char *dir_path(Fs *fs, const Node *node, unsigned layer);
/* The path in the box ("/a/b"), for rules and the journal. Takes Fs.tree. malloc'ed. */
char *node_path(Fs *fs, Node *node, const char *name);
int open_beneath(int root, const char *path, int flags); /* any length; no symlinks, nothing above root; -1 with errno */
bool dir_has_lower(const Node *dir);

/* marks.c: what a layer says of those below it. dir/name: an entry of the layer */
bool stat_is_whiteout(const struct stat *st);
/* A name that would be another driver's mark in this upper. */
bool name_is_mark(const Fs *fs, const char *name);
/* Another driver's whiteout, .wh.NAME. */
bool has_dot_wh(int dir, const char *name);
int get_mark(Fs *fs, const Layer *layer, int dir, const char *name, const char *xattr, char *value, size_t size);
/* *ret_err: a negative errno where the mark could not be read; else it stays as it is. */
bool is_opaque(Fs *fs, const Layer *layer, int dir, const char *name, int *ret_err);
char *read_redirect(Fs *fs, const Layer *layer, int dir, const char *name, int *ret_err);
/* The path that this stands for, without "/" in front. above: that of the directory with the mark. g_malloc'ed or NULL. */
char *redirect_path(const char *redirect, const char *above);

/* links.c */
void links_init(Fs *fs);
void links_read(Fs *fs); /* what the mount before knew */
void links_name(char ret[LINKS_NAME_MAX], const char *kind, uint64_t ino);
/* Numbers of links/: 0 where there is none, or where it is 0. */
uint64_t links_number(Fs *fs, const char *kind, uint64_t ino);
/* LINKS_LEFT of ino. False: it cannot be read, and an entry that nothing is known of is kept. */
bool links_left(Fs *fs, uint64_t ino, uint64_t *ret);
int links_set_number(Fs *fs, const char *kind, uint64_t ino, uint64_t number);
/* What tells the file dir/name, or dir itself where name is empty, from one that gets its inode number when it is gone. g_malloc'ed. */
char *links_which(int dir, const char *name);
/* How many of a lower file's names were removed, that is not copied up; one more, node's. */
unsigned links_removed(Fs *fs, uint64_t ino);
void links_count_removed(Fs *fs, Node *node);
/* dir/name, a lower file of several names, was found: another of them may be copied up, and then the entry of links/ stands for it. */
void links_find(Fs *fs, int dir, const char *name, Found *found);
/* Is file, of the upper, the entry of links/ for ino? */
bool links_has(Fs *fs, uint64_t ino, const struct stat *file);
/* The file temp of work/ becomes the entry for ino, a lower file. 0, or a negative errno. */
int links_add(Fs *fs, uint64_t ino, const char *which, const char *temp);
void links_drop(Fs *fs, uint64_t ino);

/* place.c: a node's place, for calls that take a directory and a name, or its descriptor. */
typedef struct {
        Fd *held;        /* of the directory, or the node's own */
        int dir;         /* -1: use fd */
        int fd;
        char name[NAME_LEN_MAX + 1];
} Place;
int place_get(Fs *fs, Node *node, Place *ret);
void place_put(Fs *fs, Place *place);
int place_stat(Fs *fs, const Place *place, struct stat *ret);
int place_get_stat(Fs *fs, Node *node, Place *ret, struct stat *ret_st); /* both, or neither */
/* The layer whose directory gives node its owner, mode and times. */
unsigned dir_attr_layer(const Fs *fs, const Node *node);

#define USAGE_BLOCK 4096u

/* Where the block that byte at lies in begins; where the one before byte end ends. */
static inline guint64 usage_floor(guint64 at) {
        return at / USAGE_BLOCK * USAGE_BLOCK;
}

static inline guint64 usage_ceil(guint64 end) {
        return usage_floor(end + USAGE_BLOCK - 1);
}

/* usage.c: what changes take of the limit (quota.h); nothing without one. */
/* Room for so much, or false: then there is none, or none yet again of files that were removed. */
bool usage_reserve(Fs *fs, guint64 bytes);
/* A file of the upper, or a directory that gets names, is about to change: from growth_begin() to growth_end() its blocks are watched. */
typedef struct {
        int fd; /* borrowed; -1: not watched */
        blkcnt_t before;
} Growth;
Growth growth_begin(Fs *fs, int fd);
void growth_end(Fs *fs, const Growth *growth);
/* It was made, or is gone. */
void usage_add(Fs *fs, const struct stat *st);
void usage_drop(Fs *fs, const struct stat *st);

/* owner.c */
/* The owner that a file of the upper shows instead of its own. Under Fs.tree. */
void stat_owner(Fs *fs, const Place *place, struct stat *st);
/* The copy of a lower file, dir/name or fd where dir is -1, becomes its owner's. */
int own_like(Fs *fs, int dir, const char *name, int fd, const struct stat *st);
/* And the mode that it may then have. */
mode_t mode_like(Fs *fs, const struct stat *st);

/* readdir.c */
void dir_list_free(DirList *list);
void dir_changed(Node *dir); /* names came or went, or are in another layer now */
/* A directory has no entries that the box can see: 1, 0, or a negative errno. */
int dir_is_empty(Fs *fs, Node *dir);

/* create.c: the umask of this thread, which goes to the agent, too */
void take_umask(mode_t mask);
mode_t taken_umask(void);

/* Where going on would leave the box waiting, or wrong: usbox-fs says why and ends, and the box with it. */
_Noreturn void fs_give_up(int errnum, const char *what);

/* copyup.c */
int copy_up(Fs *fs, Node *node, int64_t keep_size); /* files: only that many bytes are wanted; -1: all */

/* work.c */
void temp_name(Fs *fs, char ret[32]);
int whiteout_make(Fs *fs, int dir, const char *name);     /* where nothing is */
int whiteout_replace(Fs *fs, int dir, const char *name);  /* where a file of the upper is */
int trash_dir(Fs *fs, int dir, const char *name, bool leave_whiteout);
int clear_dir(Fs *fs, int dir); /* of all that is in it; for the box, to which that is nothing, its times stay */
int work_clean(Fs *fs);
/* For the box nothing happened in this directory of the upper. */
void keep_times(Fs *fs, int dir, const struct stat *before);

/* xattr.c */
int xattr_get_at(int dir, const char *name, const char *xattr, void *value, size_t size);
int xattr_set_at(int dir, const char *name, const char *xattr, const void *value, size_t size);
int xattr_get_place(Fs *fs, const Place *p, const char *xattr, void *value, size_t size);
static inline bool xattr_is_acl(const char *name) {
        return g_str_has_prefix(name, XATTR_ACL);
}
int xattr_remove_place(Fs *fs, const Place *p, const char *xattr);
int xattr_set_place(Fs *fs, const Place *p, const char *xattr, const void *value, size_t size, int flags);

/* attr.c */
struct fuse_attr;
void attr_fill(Fs *fs, const Node *node, const struct stat *st, struct fuse_attr *ret);
int node_stat(Fs *fs, Node *node, struct stat *ret); /* st_nlink as the box is to see it */
void count_links(Fs *fs, const Node *node, struct stat *st); /* only that */
/* Of a lower file, no directory: 0, 1 where its place is another file's by now and this one was open, or a negative errno. Under Fs.tree. */
int lower_stat(Fs *fs, Node *node, const Place *p, struct stat *ret);

/* data.c: an event of --trace-files, once for each node and kind (NODE_READ, NODE_WRITTEN); nothing where nobody asked for one. Takes
 * Fs.tree. */
void journal_node(Fs *fs, Node *node, unsigned once);
/* The same of a name in a directory, or with NULL of the directory; journal_event() sees to it that each is there once. */
void journal_name(Fs *fs, Node *dir, const char *name, const char *what);

/* notify: what the kernel shall forget of a file, from a thread of its own (asking from a request's thread can deadlock on a page) */
void notify_changed(Fs *fs, Node *node);  /* its pages, and what it knows its names to be; told_stamp follows */
void notify_replaced(Fs *fs, Node *node); /* its names only */
/* The same, and then the answer to the LSEEK request unique. False: there is no thread for it. */
bool notify_seek(Fs *fs, Node *node, uint64_t unique, int64_t offset, int whence);
/* The same of a GETXATTR request for the size of an attribute, or a negative errno. */
bool notify_xattr_size(Fs *fs, Node *node, uint64_t unique, int size);
/* The kernel may have pages of what a file was before: it was not told yet, or is being told. */
bool notify_pending(Fs *fs, const Node *node);
/* It gets these flags, and is pending. Nothing is told, nor does told_stamp change, until notify_decide(), with what this returns, says whether it changed. */
unsigned notify_suspect(Fs *fs, Node *node, unsigned flags);
void notify_decide(Fs *fs, Node *node, unsigned before, bool changed);
/* data.c: lseek(2) with SEEK_DATA or SEEK_HOLE; a negative errno. */
int64_t data_seek(Fs *fs, Node *node, int64_t offset, int whence);
