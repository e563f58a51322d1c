/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Telling the kernel to forget what it keeps of a file: of one that changed on the host, and of one that is asked for its holes.
 *
 * Role: usbox-fs. Privileges: none. Threads: two of its own. The kernel waits, before it takes the notice, for pages that
 * are being read or written, and one of those may be what the asking request is about to answer: so no request's thread may wait
 * for it (documentation of fuse_lowlevel_notify_inval_inode() in libfuse). For names it waits for the lock of their directory, which is held while a name is
 * made or moved in it; and who moves one holds it while waiting for the file, which may be locked by a request that is answered when its pages are
 * forgotten. So those who tell of pages and of names do not wait for each other.
 *
 * Who changes files faster than the kernel is told, as a box can its own lower by --rw, makes nothing longer: what is to be told stands in the node, so
 * it waits once, and where many wait the rest are looked for in the table of nodes. One that the kernel has forgotten meanwhile is not there any more.
 *
 * Holes: SEEK_DATA and SEEK_HOLE come as they are (fuse_lseek(), fs/fuse/file.c) although written pages are still in the kernel
 * (writeback cache), which would be told as holes, and cp(1) would skip them. Forgetting a file's pages has the kernel write them
 * first; then the answer is true.
 */
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fsoverlay/notify.h"
#include "fsoverlay/ops.h"
#include "fsoverlay/server.h"

#define NOTICES_MAX 1024u
/* Headers of before Linux 6.2 have no name for it, and another one for where it stands. */
#ifndef FUSE_EXPIRE_ONLY
#define FUSE_EXPIRE_ONLY (1 << 0)
#endif

/* What each of them tells of: NODE_TELL_PAGES, NODE_TELL_NAMES. */
enum { PAGES, NAMES, N_NOTIFIERS };

/* A node of which the kernel is to be told something, or a request of the box's, of which there are no more than it has threads. */
typedef struct {
        Node *node;      /* a reference */
        uint64_t unique; /* of the request that is answered when the node's pages are forgotten; 0: there is none */
        bool seek;       /* it is an LSEEK; else a GETXATTR */
        int64_t offset;
        int whence;
        int size;        /* of the attribute, or a negative errno */
} Job;

/* No GAsyncQueue: ThreadSanitizer does not see its lock. */
struct Notifier {
        pthread_mutex_t lock; /* of all but fs */
        pthread_cond_t more;
        unsigned what; /* NODE_TELL_* */
        bool runs;     /* its thread, which few mounts need */
        pthread_t thread;
        GQueue queue; /* of Job */
        bool full;    /* there are nodes with something to be told that are not in it */
        _Atomic(const Node *) telling; /* whose pages are being forgotten */
        Fs *fs;
};

/* A name of a file; of its directory the kernel's id: whether that still knows it is for the kernel to find out. */
typedef struct {
        struct fuse_out_header head;
        struct fuse_notify_inval_entry_out body;
        char name[NAME_LEN_MAX + 1];
} Name;

static void add_name(Fs *fs, GArray *names, const Node *parent, const char *name) {
        Name n = { .body = { .parent = id_of_node(fs, parent), .namelen = (uint32_t) strlen(name), FUSE_EXPIRE_ONLY } };

        g_strlcpy(n.name, name, sizeof n.name);
        n.head = (struct fuse_out_header){ .len = (uint32_t) (sizeof n.head + sizeof n.body + n.body.namelen + 1), .error = FUSE_NOTIFY_INVAL_ENTRY };
        g_array_append_val(names, n);
}

/* They stay what they are for who has the file open. */
static void expire_names(Fs *fs, const Node *node) {
        g_autoptr(GArray) names = g_array_new(FALSE, FALSE, sizeof(Name));

        pthread_rwlock_rdlock(&fs->tree);
        if (node->parent)
                add_name(fs, names, node->parent, node_name(node));
        for (const Alias *a = S_ISDIR(node_type(node)) ? NULL : node->aliases; a; a = a->next)
                add_name(fs, names, a->parent, a->name);
        pthread_rwlock_unlock(&fs->tree);
        for (guint i = 0; i < names->len; i++) {
                const Name *n = &g_array_index(names, Name, i);
                (void) !write(fs->dev, n, n->head.len); /* ENOENT: it is not known */
        }
}

static void invalidate(Fs *fs, const Node *node) {
        struct fuse_notify_inval_inode_out body = { .ino = id_of_node(fs, node), .off = 0, .len = -1 };
        struct fuse_out_header head = { .len = sizeof head + sizeof body, .error = FUSE_NOTIFY_INVAL_INODE };
        struct iovec iov[2] = { { &head, sizeof head }, { &body, sizeof body } };

        (void) !writev(fs->dev, iov, 2); /* ENOENT: it is not kept */
}

static void answer_seek(Fs *fs, const Job *job) {
        struct fuse_lseek_out body;
        int64_t at = data_seek(fs, job->node, job->offset, job->whence);
        struct fuse_out_header head = { .len = sizeof head, .unique = job->unique, .error = at < 0 ? (int32_t) at : 0 };
        struct iovec iov[2] = { { &head, sizeof head }, { &body, sizeof body } };

        body.offset = (uint64_t) at;
        if (at >= 0)
                head.len += sizeof body;
        server_send(fs, iov, at >= 0 ? 2 : 1);
}

static void answer_xattr_size(Fs *fs, const Job *job) {
        struct fuse_getxattr_out body = { .size = (uint32_t) job->size };
        struct fuse_out_header head = { .len = sizeof head, .unique = job->unique, .error = MIN(job->size, 0) };
        struct iovec iov[2] = { { &head, sizeof head }, { &body, sizeof body } };

        if (job->size >= 0)
                head.len += sizeof body;
        server_send(fs, iov, job->size >= 0 ? 2 : 1);
}

/* NULL: look for nodes that are not in the queue. */
static Job *pop(struct Notifier *n) {
        pthread_mutex_lock(&n->lock);
        while (g_queue_is_empty(&n->queue) && !n->full)
                pthread_cond_wait(&n->more, &n->lock);
        Job *job = g_queue_pop_head(&n->queue);
        if (!job)
                n->full = false;
        pthread_mutex_unlock(&n->lock);
        return job;
}

/* First it is as if told: what changes from now on is told again. */
static void tell_of(struct Notifier *n, Node *node) {
        pthread_mutex_lock(&n->lock);
        atomic_store(&n->telling, node);
        bool wanted = node_swap_unset(node, n->what) & n->what;
        pthread_mutex_unlock(&n->lock);
        /* All pages that the kernel has in the end were read since. */
        uint64_t stamp = wanted && n->what == NODE_TELL_PAGES ? told_stamp_now(n->fs, node) : 0;
        if (wanted)
                (n->what == NODE_TELL_PAGES ? invalidate : expire_names)(n->fs, node);
        pthread_mutex_lock(&n->lock);
        if (stamp)
                atomic_store(&node->told_stamp, stamp);
        atomic_store(&n->telling, NULL);
        pthread_mutex_unlock(&n->lock);
}

/* Of those that are not in the queue, or of all of them. Those that are as well have nothing left to be told when it is their turn. */
static void tell_of_some(struct Notifier *n) {
        Node *some[NOTICES_MAX];
        guint found = nodes_find(n->fs, n->what, some, NOTICES_MAX);

        for (guint i = 0; i < found; i++) {
                tell_of(n, some[i]);
                node_unref(n->fs, some[i], 1);
        }
        if (found < NOTICES_MAX)
                return;
        pthread_mutex_lock(&n->lock);
        n->full = true; /* there may be more of them, but what is in the queue, where somebody waits for an answer, goes first */
        pthread_mutex_unlock(&n->lock);
}

static void *notifier_main(void *arg) {
        struct Notifier *n = arg;

        /* Its maker's umask is not to be ours: a worker's is that of the request that it answers (create.c). */
        server_take_umask();
        for (;;) {
                Job *job = pop(n);
                if (!job) {
                        tell_of_some(n);
                        continue;
                }
                if (job->seek)
                        invalidate(n->fs, job->node);
                else
                        tell_of(n, job->node);
                if (job->unique)
                        (job->seek ? answer_seek : answer_xattr_size)(n->fs, job);
                node_unref(n->fs, job->node, 1);
                g_free(job);
        }
        return NULL;
}

/* Under the lock. */
static bool push(struct Notifier *n, const Job *job) {
        if (!n->runs)
                n->runs = pthread_create(&n->thread, NULL, notifier_main, n) == 0;
        if (n->runs && !job->unique && g_queue_get_length(&n->queue) >= NOTICES_MAX) {
                n->full = true;
        } else if (n->runs) {
                node_ref(job->node);
                g_queue_push_tail(&n->queue, g_memdup2(job, sizeof *job));
                pthread_cond_signal(&n->more);
        }
        return n->runs;
}

static bool push_request(Fs *fs, const Job *job) {
        struct Notifier *n = &fs->notifiers[PAGES];

        pthread_mutex_lock(&n->lock);
        bool pushed = push(n, job);
        pthread_mutex_unlock(&n->lock);
        return pushed;
}

/* before: the flags that it had; it waits already, or from now on. Under the lock. */
static bool tell_later(struct Notifier *n, Node *node, unsigned before) {
        if ((before & n->what) || push(n, &(Job){ .node = node }))
                return true;
        log_note("no thread: a lower file changed, and the kernel may go on with what it has of it");
        return false;
}

static void tell(struct Notifier *n, Node *node) {
        pthread_mutex_lock(&n->lock);
        if (!tell_later(n, node, node_swap_set(node, n->what)))
                node_unset(node, n->what);
        pthread_mutex_unlock(&n->lock);
}

void notify_changed(Fs *fs, Node *node) {
        tell(&fs->notifiers[PAGES], node);
        tell(&fs->notifiers[NAMES], node);
}

void notify_replaced(Fs *fs, Node *node) {
        tell(&fs->notifiers[NAMES], node);
}

bool notify_seek(Fs *fs, Node *node, uint64_t unique, int64_t offset, int whence) {
        return push_request(fs, &(Job){ .node = node, .unique = unique, .seek = true, .offset = offset, .whence = whence });
}

bool notify_xattr_size(Fs *fs, Node *node, uint64_t unique, int size) {
        return push_request(fs, &(Job){ .node = node, .unique = unique, .size = size });
}

static bool pending(Fs *fs, const Node *node) {
        return node_is(node, NODE_TELL_PAGES) || atomic_load(&fs->notifiers[PAGES].telling) == node;
}

bool notify_pending(Fs *fs, const Node *node) {
        if (!pending(fs, node))
                return false;
        /* It may be suspected, and no more. */
        pthread_mutex_lock(&fs->notifiers[PAGES].lock);
        bool still = pending(fs, node);
        pthread_mutex_unlock(&fs->notifiers[PAGES].lock);
        return still;
}

unsigned notify_suspect(Fs *fs, Node *node, unsigned flags) {
        pthread_mutex_lock(&fs->notifiers[PAGES].lock);
        return node_swap_set(node, flags | NODE_TELL_PAGES);
}

void notify_decide(Fs *fs, Node *node, unsigned before, bool changed) {
        struct Notifier *n = &fs->notifiers[PAGES];

        if (changed)
                (void) tell_later(n, node, before); /* without a thread it stays pending: what is written into its pages is refused */
        else if (!(before & NODE_TELL_PAGES))
                node_unset(node, NODE_TELL_PAGES);
        pthread_mutex_unlock(&n->lock);
        if (changed) {
                node_set(node, NODE_CHANGED);
                notify_replaced(fs, node);
        }
}

void notifier_init(Fs *fs) {
        fs->notifiers = g_new0(struct Notifier, N_NOTIFIERS);
        fs->notifiers[PAGES].what = NODE_TELL_PAGES;
        fs->notifiers[NAMES].what = NODE_TELL_NAMES;
        for (int i = 0; i < N_NOTIFIERS; i++) {
                struct Notifier *n = &fs->notifiers[i];
                pthread_mutex_init(&n->lock, NULL);
                pthread_cond_init(&n->more, NULL);
                g_queue_init(&n->queue);
                n->fs = fs;
        }
}
