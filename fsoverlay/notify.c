/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Telling the kernel to forget what it keeps of a file: of one that changed on the host, and of one that is asked for its holes.
 *
 * Role: usbox-fs. Privileges: none. Threads: one of its own. The kernel waits, before it takes the notice, for pages that
 * are being read or written, and one of those may be what the asking request is about to answer: so no request's thread may wait
 * for it (documentation of fuse_lowlevel_notify_inval_inode() in libfuse). Nor for the lock of a directory, which is held while a name is made in it.
 *
 * Who changes files faster than the kernel is told, as a box can its own lower by --rw, makes nothing longer: what is to be told stands in the node, so
 * it waits once, and where many wait the rest are looked for in the table of nodes. One that the kernel has forgotten meanwhile is not there any more.
 *
 * Holes: SEEK_DATA and SEEK_HOLE come as they are (fuse_lseek(), fs/fuse/file.c) although written pages are still in the kernel
 * (writeback cache), which would be told as holes, and cp(1) would skip them. Forgetting a file's pages has the kernel write them
 * first; then the answer is true.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fsoverlay/notify.h"
#include "fsoverlay/ops.h"
#include "fsoverlay/server.h"

#define TELL (NODE_TELL_PAGES | NODE_TELL_NAMES)
#define NOTICES_MAX 1024u

/* A node of which the kernel is to be told something, or a request of the box's, of which there are no more than it has threads. */
typedef struct {
        Node *node;      /* a reference */
        uint64_t unique; /* of the LSEEK that is answered when the node's pages are forgotten; 0: there is none */
        int64_t offset;
        int whence;
} Job;

/* No GAsyncQueue: ThreadSanitizer does not see its lock. */
struct Notifier {
        pthread_mutex_t lock; /* of all but fs */
        pthread_cond_t more;
        bool runs; /* its thread, which few mounts need */
        pthread_t thread;
        GQueue queue; /* of Job */
        bool full;    /* there are nodes with something to be told that are not in it */
        Fs *fs;
};

/* A name of a file; of its directory the kernel's id: whether that still knows it is for the kernel to find out. */
typedef struct {
        struct fuse_out_header head;
        struct fuse_notify_inval_entry_out body;
        char name[NAME_LEN_MAX + 1];
} Name;

static void add_name(Fs *fs, GArray *names, const Node *parent, const char *name) {
        Name n = { .body = { .parent = id_of_node(fs, parent), .namelen = (uint32_t) strlen(name), .flags = FUSE_EXPIRE_ONLY } };

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

static void invalidate(Fs *fs, Node *node) {
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
static void tell_of(Fs *fs, Node *node) {
        unsigned what = node_swap_unset(node, TELL);

        if (what & NODE_TELL_NAMES)
                expire_names(fs, node);
        if (what & NODE_TELL_PAGES)
                invalidate(fs, node);
}

/* Of those that are not in the queue, or of all of them. Those that are as well have nothing left to be told when it is their turn. */
static void tell_of_some(struct Notifier *n) {
        Node *some[NOTICES_MAX];
        guint found = nodes_find(n->fs, TELL, some, NOTICES_MAX);

        for (guint i = 0; i < found; i++) {
                tell_of(n->fs, some[i]);
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
                if (job->unique) {
                        invalidate(n->fs, job->node);
                        answer_seek(n->fs, job);
                } else {
                        tell_of(n->fs, job->node);
                }
                node_unref(n->fs, job->node, 1);
                g_free(job);
        }
        return NULL;
}

static bool push(Fs *fs, const Job *job) {
        struct Notifier *n = fs->notifier;

        pthread_mutex_lock(&n->lock);
        if (!n->runs)
                n->runs = pthread_create(&n->thread, NULL, notifier_main, n) == 0;
        bool runs = n->runs;
        if (runs && !job->unique && g_queue_get_length(&n->queue) >= NOTICES_MAX) {
                n->full = true;
        } else if (runs) {
                node_ref(job->node);
                g_queue_push_tail(&n->queue, g_memdup2(job, sizeof *job));
                pthread_cond_signal(&n->more);
        }
        pthread_mutex_unlock(&n->lock);
        return runs;
}

static void tell(Fs *fs, Node *node, unsigned what) {
        if ((node_swap_set(node, what) & TELL) || push(fs, &(Job){ .node = node })) /* it waits already, or from now on */
                return;
        node_unset(node, TELL);
        log_note("no thread: a lower file changed, and the kernel may go on with what it has of it");
}

void notify_changed(Fs *fs, Node *node) {
        tell(fs, node, TELL);
}

void notify_replaced(Fs *fs, Node *node) {
        tell(fs, node, NODE_TELL_NAMES);
}

bool notify_seek(Fs *fs, Node *node, uint64_t unique, int64_t offset, int whence) {
        return push(fs, &(Job){ .node = node, .unique = unique, .offset = offset, .whence = whence });
}

void notifier_init(Fs *fs) {
        struct Notifier *n = g_new0(struct Notifier, 1);

        pthread_mutex_init(&n->lock, NULL);
        pthread_cond_init(&n->more, NULL);
        g_queue_init(&n->queue);
        n->fs = fs;
        fs->notifier = n;
}
