/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Telling the kernel to forget what it keeps of a file that changed on the host.
 *
 * Role: usbox-fs. Privileges: none. Threads: one of its own. The kernel waits, before it takes the notice, for pages that
 * are being read, and one of those may be what the asking request is about to answer: so no request's thread may wait for it
 * (Documentation of FUSE_NOTIFY_INVAL_INODE in libfuse's fuse_lowlevel.h).
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fsoverlay/notify.h"
#include "fsoverlay/ops.h"

struct Notifier {
        pthread_t thread;
        GAsyncQueue *queue; /* of Node, each with a reference; the Notifier itself ends it */
        Fs *fs;
};

static void invalidate(Fs *fs, Node *node) {
        struct fuse_notify_inval_inode_out body = { .ino = id_of_node(fs, node), .off = 0, .len = -1 };
        struct fuse_out_header head = { .len = sizeof head + sizeof body, .error = FUSE_NOTIFY_INVAL_INODE };
        struct iovec iov[2] = { { &head, sizeof head }, { &body, sizeof body } };

        (void) !writev(fs->dev, iov, 2); /* ENOENT: it is not kept */
}

static void *notifier_main(void *arg) {
        struct Notifier *n = arg;

        for (void *item; (item = g_async_queue_pop(n->queue)) != n;) {
                invalidate(n->fs, item);
                node_unref(n->fs, item, 1);
        }
        return NULL;
}

void notify_changed(Fs *fs, Node *node) {
        node_ref(node);
        g_async_queue_push(fs->notifier->queue, node);
}

int notifier_start(Fs *fs) {
        struct Notifier *n = g_new0(struct Notifier, 1);

        n->queue = g_async_queue_new();
        n->fs = fs;
        int r = pthread_create(&n->thread, NULL, notifier_main, n);
        fs->notifier = n;
        return -r;
}

void notifier_stop(Fs *fs) {
        g_async_queue_push(fs->notifier->queue, fs->notifier);
        pthread_join(fs->notifier->thread, NULL);
}
