/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes of usbox-fs where something fails or comes between: calls of the C library that its code makes come here first (ld --wrap).
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/ops.h"

#define GETXATTRAT 464

static Layer layers[] = { { .root = -1 }, { .root = -1 } };
static Fs fs = { .layers = layers, .n_layers = G_N_ELEMENTS(layers), .max_fds = 3 };

static guint syncs, failing_sync; /* 0: none */
static bool no_memory, no_attributes;
static Node *pinned_meanwhile; /* NULL: nothing comes between */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
ssize_t __real_lgetxattr(const char *path, const char *name, void *value, size_t size);
ssize_t __wrap_lgetxattr(const char *path, const char *name, void *value, size_t size);

long __wrap_syscall(long number, ...) {
        long a[6];
        va_list args;

        va_start(args, number);
        for (guint i = 0; i < G_N_ELEMENTS(a); i++)
                a[i] = va_arg(args, long);
        va_end(args);
        if (number != GETXATTRAT || !no_attributes)
                return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        errno = EIO;
        return -1;
}

ssize_t __wrap_lgetxattr(const char *path, const char *name, void *value, size_t size) {
        if (!no_attributes)
                return __real_lgetxattr(path, name, value, size);
        errno = EIO;
        return -1;
}

int __wrap_fsync(int fd) {
        if (++syncs != failing_sync)
                return __real_fsync(fd);
        errno = EIO;
        return -1;
}

char *__wrap_strdup(const char *text) {
        if (!no_memory)
                return __real_strdup(text);
        errno = ENOMEM;
        return NULL;
}

static void *pin(void *node) {
        g_assert_cmpint(fd_pin(&fs, node), ==, 0);
        return NULL;
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex) {
        Node *node = pinned_meanwhile;

        if (node && mutex == node_lock(&fs, node)) {
                pthread_t other;
                pinned_meanwhile = NULL;
                g_assert_cmpint(pthread_create(&other, NULL, pin, node), ==, 0);
                g_assert_cmpint(pthread_join(other, NULL), ==, 0);
        }
        return __real_pthread_mutex_trylock(mutex);
}

/* What is at path in the upper. */
static Node *know(Node *parent, const char *path) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        Found found = { .upper = true };
        bool new_name;

        g_assert_cmpint(fstatat(layers[LAYER_UPPER].root, path, &found.st, AT_SYMLINK_NOFOLLOW), ==, 0);
        found.ino = found.st.st_ino;
        Node *node = node_get(&fs, parent, name, &found, &new_name);
        g_assert_nonnull(node);
        if (new_name)
                g_assert_true(node_add_name(&fs, node, parent, name));
        return node;
}

static void make_file(const char *name) {
        _cleanup_close_ int fd = openat(layers[LAYER_UPPER].root, name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

        g_assert_cmpint(fd, >=, 0);
}

static int sync_file(Node *node) {
        const struct fuse_fsync_in in = { 0 };

        syncs = 0;
        return op_fsync(&(Request){ .fs = &fs, .node = node, .in = &in, .in_len = sizeof in });
}

/* The names of a new file are synced until they were: its own in the directory, and that one's. */
static void test_names_are_synced(void) {
        const int root = layers[LAYER_UPPER].root;

        g_assert_cmpint(mkdirat(root, "d", 0700), ==, 0);
        make_file("d/f");
        Node *d = know(fs.root, "d"), *f = know(d, "d/f");
        for (guint failing = 2; failing <= 3; failing++) {
                node_set(d, NODE_FRESH);
                node_set(f, NODE_FRESH);
                failing_sync = failing;
                g_assert_cmpint(sync_file(f), ==, -EIO);
                g_assert_cmpuint(syncs, ==, failing);
                failing_sync = 0;
                g_assert_cmpint(sync_file(f), ==, 0);
                g_assert_cmpuint(syncs, ==, 3);
                g_assert_cmpint(sync_file(f), ==, 0);
                g_assert_cmpuint(syncs, ==, 1);
        }
        node_unref(&fs, f, 1);
        node_unref(&fs, d, 1);
}

/* A file that has another name goes on by that, whatever memory there is. */
static void test_first_name_goes(void) {
        const int root = layers[LAYER_UPPER].root;

        make_file("a");
        g_assert_cmpint(linkat(root, "a", root, "another", 0), ==, 0);
        Node *node = know(fs.root, "a"), *again = know(fs.root, "another");
        g_assert_true(node == again);
        no_memory = true;
        node_drop_name(&fs, node, fs.root, "a");
        no_memory = false;
        g_assert_true(node->parent == fs.root && !node->aliases && !node_is(node, NODE_NAMELESS));
        g_assert_cmpstr(node_name(node), ==, "another");
        node_drop_name(&fs, node, fs.root, "another");
        g_assert_true(!node->parent && node_is(node, NODE_NAMELESS));
        node_unref(&fs, node, 2);
}

/* A file loses its name just when its descriptor was about to be closed to make room. */
static void test_pinned_while_room_is_made(void) {
        int err;

        make_file("p");
        Node *p = know(fs.root, "p"), *others[10] = { NULL };
        fd_put(&fs, fd_file(&fs, p, false, &err));
        pinned_meanwhile = p;
        for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
                g_autofree char *name = g_strdup_printf("q%u", i);
                make_file(name);
                others[i] = know(fs.root, name);
                fd_put(&fs, fd_file(&fs, others[i], false, &err));
        }
        g_assert_null(pinned_meanwhile);
        node_drop_name(&fs, p, fs.root, "p");
        Fd *f = fd_pinned(&fs, p);
        g_assert_nonnull(f);
        fd_put(&fs, f);
        for (guint i = 0; i < G_N_ELEMENTS(others); i++)
                node_unref(&fs, others[i], 1);
        node_unref(&fs, p, 1);
}

/* Where a directory was renamed from cannot be read: then it is not taken for one that has nothing below, which the next rename would make of it. */
static void test_marks_that_cannot_be_read(void) {
        const int root = layers[LAYER_UPPER].root;
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/renamed", root);
        Found found;

        g_assert_cmpint(mkdirat(root, "below", 0700), ==, 0);
        g_assert_cmpint(mkdirat(root, "below/old", 0700), ==, 0);
        g_assert_cmpint(mkdirat(root, "renamed", 0700), ==, 0);
        if (setxattr(path, XATTR_REDIRECT, "/old", strlen("/old"), 0) < 0) {
                g_test_skip("no attributes here");
                return;
        }
        layers[1].root = openat(root, "below", O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(lookup_name(&fs, fs.root, "renamed", 0, &found), ==, 0);
        g_assert_cmpuint(found.n_lower, ==, 1);
        found_clear(&found);
        no_attributes = true;
        int r = lookup_name(&fs, fs.root, "renamed", 0, &found);
        no_attributes = false;
        g_assert_cmpint(r, ==, -EIO);
        fd_closep(&layers[1].root);
}

int main(int argc, char **argv) {
        g_autofree char *top = NULL, *command = NULL;
        bool new_name;

        g_test_init(&argc, &argv, NULL);
        top = g_dir_make_tmp("usbox-fs-nodes-XXXXXX", NULL);
        g_assert_nonnull(top);
        layers[LAYER_UPPER].root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(layers[LAYER_UPPER].root, >=, 0);
        g_assert_true(devices_init(&fs) && nodes_init(&fs));
        Found root = { .upper = true };
        g_assert_cmpint(fstat(layers[LAYER_UPPER].root, &root.st), ==, 0);
        root.ino = root.st.st_ino;
        fs.root = node_get(&fs, NULL, "", &root, &new_name);
        g_test_add_func("/fs-nodes/names-are-synced", test_names_are_synced);
        g_test_add_func("/fs-nodes/first-name-goes", test_first_name_goes);
        g_test_add_func("/fs-nodes/pinned-while-room-is-made", test_pinned_while_room_is_made);
        g_test_add_func("/fs-nodes/marks-that-cannot-be-read", test_marks_that_cannot_be_read);
        int rc = g_test_run();
        command = g_strdup_printf("rm -r '%s'", top);
        return g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL) ? rc : 1;
}
