/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Telling the kernel to forget what it keeps of a file: of one that changed on the host, and of one that is asked for its holes.
 *
 * Role: usbox-fs. Privileges: none. Threads: one of its own. The kernel waits, before it takes the notice, for pages that
 * are being read or written, and one of those may be what the asking request is about to answer: so no request's thread may wait
 * for it (documentation of fuse_lowlevel_notify_inval_inode() in libfuse). Nor for the lock of a directory, which is held while a name is made in it.
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

/* One thing to do. */
typedef struct {
        Node *node;      /* a reference */
        bool pages;      /* are to be forgotten */
        bool names;      /* are to be looked up again */
        uint64_t unique; /* of the LSEEK that is answered then; 0: there is none */
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

static Job *pop(struct Notifier *n) {
        pthread_mutex_lock(&n->lock);
        while (g_queue_is_empty(&n->queue))
                pthread_cond_wait(&n->more, &n->lock);
        Job *job = g_queue_pop_head(&n->queue);
        pthread_mutex_unlock(&n->lock);
        return job;
}

static void *notifier_main(void *arg) {
        struct Notifier *n = arg;

        /* Its maker's umask is not to be ours: a worker's is that of the request that it answers (create.c). */
        server_take_umask();
        for (;;) {
                Job *job = pop(n);
                if (job->names)
                        expire_names(n->fs, job->node);
                if (job->pages)
                        invalidate(n->fs, job->node);
                if (job->unique)
                        answer_seek(n->fs, job);
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
        if (runs) {
                node_ref(job->node);
                g_queue_push_tail(&n->queue, g_memdup2(job, sizeof *job));
                pthread_cond_signal(&n->more);
        }
        pthread_mutex_unlock(&n->lock);
        return runs;
}

static void tell(Fs *fs, const Job *job) {
        if (!push(fs, job))
                log_note("no thread: a lower file changed, and the kernel may go on with what it has of it");
}

void notify_changed(Fs *fs, Node *node) {
        tell(fs, &(Job){ .node = node, .pages = true, .names = true });
}

void notify_replaced(Fs *fs, Node *node) {
        tell(fs, &(Job){ .node = node, .names = true });
}

bool notify_seek(Fs *fs, Node *node, uint64_t unique, int64_t offset, int whence) {
        return push(fs, &(Job){ .node = node, .pages = true, .unique = unique, .offset = offset, .whence = whence });
}

void notifier_init(Fs *fs) {
        struct Notifier *n = g_new0(struct Notifier, 1);

        pthread_mutex_init(&n->lock, NULL);
        pthread_cond_init(&n->more, NULL);
        g_queue_init(&n->queue);
        n->fs = fs;
        fs->notifier = n;
}
