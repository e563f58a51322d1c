/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel is to forget: more of it than the kernel takes. A pipe stands for the kernel, which is full of one message.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "fsoverlay/fs.h"
#include "fsoverlay/notify.h"

#define N_FILES 5000u
#define WAITING_MAX 1100u /* NOTICES_MAX, and what the thread is at */
#define SEEK_ID 77
#define LAST_NAME "last"

typedef struct {
        struct fuse_out_header head;
        char body[4096];
} Message;

static Layer layers[] = { { .root = -1 }, { .root = -1 } }; /* there is nothing in them */
static Fs fs = { .layers = layers, .n_layers = G_N_ELEMENTS(layers) };
static int kernel;
static Node *files[N_FILES];

static void fill(void) {
        char bytes[1] = { 0 };

        g_assert_cmpint(fcntl(fs.dev, F_SETPIPE_SZ, 4096), ==, 4096); /* with O_DIRECT a message takes a page */
        g_assert_cmpint(write(fs.dev, bytes, sizeof bytes), ==, 1);
}

static Node *make_file(const char *name, ino_t ino) {
        Found found = { .st = { .st_mode = S_IFREG | 0644, .st_ino = ino, .st_nlink = 1 }, .layer = 1, .ino = ino };
        bool new_name;
        Node *node = node_get(&fs, fs.root, name, &found, &new_name);

        g_assert_nonnull(node);
        return node;
}

static void look_up(void) {
        for (guint i = 0; i < N_FILES; i++) {
                g_autofree char *name = g_strdup_printf("f%u", i);
                files[i] = make_file(name, i + 2);
        }
        g_assert_cmpuint(nodes_count(&fs), ==, N_FILES + 1);
}

static void change_all(void) {
        for (guint i = 0; i < N_FILES; i++) {
                notify_replaced(&fs, files[i]);
                notify_changed(&fs, files[i]);
        }
}

static void forget_all(void) {
        for (guint i = 0; i < N_FILES; i++)
                node_unref(&fs, files[i], 1);
}

/* Who has told of a node lets go of it then. */
static void await_last(void) {
        while (nodes_count(&fs) > 1)
                g_usleep(1000);
}

static Message take(void) {
        Message m = { 0 };

        g_assert_cmpint(read(kernel, &m, sizeof m), >, 0);
        return m;
}

static bool is_waiting(void) {
        Node *node;

        if (nodes_find(&fs, NODE_TELL_PAGES | NODE_TELL_NAMES, &node, 1) == 0)
                return false;
        node_unref(&fs, node, 1);
        return true;
}

/* Of which nodes how often pages were to be forgotten, and how many names, until nothing waits, a question that is asked then has its answer, and a last name
 * was told. */
static GHashTable *take_all(guint *ret_names) {
        GHashTable *pages = g_hash_table_new(NULL, NULL);
        Node *last = NULL;
        bool answered = false, told = false;

        *ret_names = 0;
        while (!answered || !told) {
                if (!last && !is_waiting()) {
                        last = make_file(LAST_NAME, N_FILES + 2);
                        g_assert_true(notify_seek(&fs, fs.root, SEEK_ID, 0, SEEK_DATA));
                        notify_replaced(&fs, last);
                }
                Message m = take();
                if (m.head.error == FUSE_NOTIFY_INVAL_ENTRY && strcmp(m.body + sizeof(struct fuse_notify_inval_entry_out), LAST_NAME) == 0) {
                        told = true;
                        continue;
                }
                struct fuse_notify_inval_inode_out inode;
                memcpy(&inode, m.body, sizeof inode);
                gpointer id = (gpointer) (uintptr_t) inode.ino;
                if (m.head.unique == SEEK_ID)
                        answered = true;
                else if (m.head.error == FUSE_NOTIFY_INVAL_INODE)
                        g_hash_table_insert(pages, id, GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(pages, id)) + 1));
                else if (m.head.error == FUSE_NOTIFY_INVAL_ENTRY)
                        ++*ret_names;
        }
        node_unref(&fs, last, 1);
        return pages;
}

/* Each of those that changed is told of, though most were never in the queue, and though they changed three times not more than once but for the one at
 * which the kernel did not take it. */
static void test_all_are_told(void) {
        guint names, again = 0;

        look_up();
        fill();
        for (int i = 0; i < 3; i++)
                change_all();
        g_autoptr(GHashTable) pages = take_all(&names);
        for (guint i = 0; i < N_FILES; i++) {
                guint n = GPOINTER_TO_UINT(g_hash_table_lookup(pages, files[i]));
                g_assert_cmpuint(n, >=, 1);
                again += n - 1;
        }
        g_assert_cmpuint(again, <=, 1);
        g_assert_cmpuint(names, >=, N_FILES);
        g_assert_cmpuint(names, <=, N_FILES + 1);
        forget_all();
        await_last();
}

/* Those that the kernel has forgotten are kept for the queue alone, which has an end. */
static void test_bounded(void) {
        guint names;

        fill();
        for (int i = 0; i < 3; i++) {
                look_up();
                change_all();
                forget_all();
                g_assert_cmpuint(nodes_count(&fs), <=, WAITING_MAX);
        }
        g_autoptr(GHashTable) pages = take_all(&names);
        g_assert_cmpuint(g_hash_table_size(pages), >, 0);
        g_assert_cmpuint(names, <=, WAITING_MAX);
        await_last();
}

int main(int argc, char **argv) {
        int ends[2];

        g_test_init(&argc, &argv, NULL);
        g_assert_cmpint(pipe2(ends, O_DIRECT | O_CLOEXEC), ==, 0);
        kernel = ends[0];
        fs.dev = ends[1];
        g_assert_true(devices_init(&fs) && nodes_init(&fs));
        notifier_init(&fs);
        DirLayer below = { .layer = 1 };
        Found root = { .st = { .st_mode = S_IFDIR | 0755, .st_ino = 1, .st_nlink = 1 }, .layer = 1, .ino = 1, .n_lower = 1, .lower = &below };
        bool new_name;
        fs.root = node_get(&fs, NULL, "", &root, &new_name);
        g_test_add_func("/fs-notify/all-are-told", test_all_are_told);
        g_test_add_func("/fs-notify/bounded", test_bounded);
        return g_test_run();
}
