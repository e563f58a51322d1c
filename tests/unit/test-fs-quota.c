/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The limit of --disk: counting an upper, threads that take and give back, what statfs says.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/quota.h"

static guint64 allocated(int dir, const char *name) {
        struct stat st;
        g_assert_cmpint(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), ==, 0);
        return (guint64) st.st_blocks * 512;
}

static void write_file(int dir, const char *name, size_t size) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        g_autofree char *bytes = g_malloc(size);
        memset(bytes, 'x', size);
        g_assert_cmpint(fd, >=, 0);
        g_assert_true(fd_write_all(fd, bytes, size));
        g_assert_cmpint(fsync(fd), ==, 0); /* some allocate only then */
}

static void test_count(void) {
        g_autofree char *path = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(GError) error = NULL;
        guint64 bytes = 1;

        g_assert_true(quota_count(dir, -1, &bytes, &error));
        g_assert_cmpuint(bytes, ==, allocated(dir, "."));

        write_file(dir, "a", 100000);
        write_file(dir, "b\nc\xff", 1);
        g_assert_cmpint(linkat(dir, "a", dir, "a2", 0), ==, 0);
        g_assert_cmpint(mkdirat(dir, "d", 0700), ==, 0);
        g_assert_cmpint(linkat(dir, "a", dir, "d/a3", 0), ==, 0);
        write_file(dir, "d/e", 50000);
        g_assert_cmpint(symlinkat("/usr", dir, "link"), ==, 0);
        g_assert_cmpint(symlinkat(".", dir, "d/loop"), ==, 0);
        g_assert_cmpint(mkfifoat(dir, "fifo", 0600), ==, 0);
        _cleanup_close_ int sparse = openat(dir, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        g_assert_cmpint(ftruncate(sparse, 1 << 30), ==, 0);

        guint64 expected = allocated(dir, ".") + allocated(dir, "a") + allocated(dir, "b\nc\xff") + allocated(dir, "d") + allocated(dir, "d/e") +
                           allocated(dir, "link") + allocated(dir, "d/loop") + allocated(dir, "fifo") + allocated(dir, "sparse");
        g_assert_cmpuint(expected, >=, 150001);
        g_assert_cmpuint(expected, <, 1 << 20);
        g_assert_true(quota_count(dir, -1, &bytes, &error));
        g_assert_cmpuint(bytes, ==, expected);

        g_autoptr(Quota) quota = quota_new(expected + 10, dir, -1, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(quota_used(quota), ==, expected);
        g_assert_false(quota_reserve(quota, 11));
        g_assert_true(quota_reserve(quota, 10));
        g_assert_false(quota_reserve(quota, 1));

        static const char *const names[] = { "a", "a2", "b\nc\xff", "d/a3", "d/e", "d/loop", "link", "fifo", "sparse" };
        for (guint i = 0; i < G_N_ELEMENTS(names); i++)
                g_assert_cmpint(unlinkat(dir, names[i], 0), ==, 0);
        g_assert_cmpint(unlinkat(dir, "d", AT_REMOVEDIR), ==, 0);
        g_assert_cmpint(rmdir(path), ==, 0);
}

#define DEPTH 5000

/* Deeper than there are descriptors, and than a path can be long. */
static void test_deep(void) {
        g_autofree char *path = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = fcntl(top, F_DUPFD_CLOEXEC, 3);
        g_autoptr(GError) error = NULL;
        guint64 bytes, expected = allocated(top, ".");

        for (int i = 0; i < DEPTH; i++) {
                g_assert_cmpint(mkdirat(fd, "d", 0700), ==, 0);
                expected += allocated(fd, "d");
                int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                g_assert_cmpint(next, >=, 0);
                close(fd);
                fd = next;
        }
        write_file(fd, "f", 20000);
        expected += allocated(fd, "f");
        write_file(top, "z", 20000);
        expected += allocated(top, "z");
        g_assert_true(quota_count(top, -1, &bytes, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(bytes, ==, expected);

        g_assert_cmpint(unlinkat(fd, "f", 0), ==, 0);
        for (int i = 0; i < DEPTH; i++) {
                int next = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                close(fd);
                fd = next;
                g_assert_cmpint(unlinkat(fd, "d", AT_REMOVEDIR), ==, 0);
        }
        close(fd);
        g_assert_cmpint(unlinkat(top, "z", 0), ==, 0);
        close(top);
        g_assert_cmpint(rmdir(path), ==, 0);
}

static void test_unreadable(void) {
        g_autofree char *path = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(GError) error = NULL;
        guint64 bytes;

        g_assert_cmpint(mkdirat(dir, "closed", 0), ==, 0);
        bool ok = quota_count(dir, -1, &bytes, &error);
        if (geteuid() == 0)
                g_assert_true(ok);
        else {
                g_assert_false(ok);
                g_assert_cmpint(err_get_errno(error), ==, EACCES);
                g_assert_nonnull(strstr(error->message, "closed"));
        }
        g_assert_cmpint(unlinkat(dir, "closed", AT_REMOVEDIR), ==, 0);
        g_assert_cmpint(rmdir(path), ==, 0);
}

static void test_numbers(void) {
        g_autoptr(Quota) quota = quota_new_used(1000, 400);

        g_assert_false(quota_reserve(quota, 601));
        g_assert_false(quota_reserve(quota, G_MAXUINT64));
        g_assert_cmpuint(quota_used(quota), ==, 400);
        g_assert_true(quota_reserve(quota, 600));
        g_assert_true(quota_reserve(quota, 0));
        quota_adjust(quota, 50); /* metadata that the file system took */
        g_assert_cmpuint(quota_used(quota), ==, 1050);
        g_assert_false(quota_reserve(quota, 1));
        quota_adjust(quota, -100);
        g_assert_cmpuint(quota_used(quota), ==, 950);
        quota_adjust(quota, G_MININT64);
        g_assert_cmpuint(quota_used(quota), ==, 0);
        quota_release(quota, 5);
        g_assert_cmpuint(quota_used(quota), ==, 0);

        g_assert_true(quota_reserve(NULL, G_MAXUINT64));
        quota_release(NULL, 1);
        quota_adjust(NULL, -1);
        g_assert_cmpuint(quota_used(NULL), ==, 0);
}

static void test_statfs(void) {
        const struct statvfs disk = { .f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1000, .f_bfree = 600, .f_bavail = 500, .f_files = 7 };
        g_autoptr(Quota) quota = quota_new_used(100 * 4096 + 1, 10 * 4096 + 1);
        struct statvfs st = disk;

        quota_statfs(NULL, &st);
        g_assert_cmpmem(&st, sizeof st, &disk, sizeof disk);
        quota_statfs(quota, &st);
        g_assert_cmpuint(st.f_blocks, ==, 100);
        g_assert_cmpuint(st.f_bfree, ==, 90);
        g_assert_cmpuint(st.f_bavail, ==, 90);
        g_assert_cmpuint(st.f_files, ==, 7);

        quota_adjust(quota, 200 * 4096);
        st = disk;
        quota_statfs(quota, &st);
        g_assert_cmpuint(st.f_blocks, ==, 100);
        g_assert_cmpuint(st.f_bfree, ==, 0);

        g_autoptr(Quota) larger = quota_new_used((guint64) 4096 * 100000, 0);
        st = disk;
        quota_statfs(larger, &st);
        g_assert_cmpuint(st.f_bavail, ==, 500); /* more than the disk has is not to be had */
}

#define N_THREADS 4
#define LIMIT 100000u

static gint over;

static gpointer take_and_give(gpointer data) {
        Quota *quota = data;
        guint64 held = 0, seed = (guintptr) &held;

        for (int i = 0; i < 200000; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                guint64 n = seed >> 33 & 0xffff;
                if (seed >> 63 && held >= n) {
                        quota_release(quota, n);
                        held -= n;
                } else if (quota_reserve(quota, n))
                        held += n;
                if (quota_used(quota) > LIMIT)
                        g_atomic_int_inc(&over);
        }
        return g_memdup2(&held, sizeof held);
}

static void test_threads(void) {
        g_autoptr(Quota) quota = quota_new_used(LIMIT, 0);
        GThread *threads[N_THREADS];
        guint64 sum = 0;

        for (int i = 0; i < N_THREADS; i++)
                threads[i] = g_thread_new("worker", take_and_give, quota);
        for (int i = 0; i < N_THREADS; i++) {
                g_autofree guint64 *held = g_thread_join(threads[i]);
                sum += *held;
        }
        g_assert_cmpint(g_atomic_int_get(&over), ==, 0);
        g_assert_cmpuint(quota_used(quota), ==, sum);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs/quota/count", test_count);
        g_test_add_func("/fs/quota/deep", test_deep);
        g_test_add_func("/fs/quota/unreadable", test_unreadable);
        g_test_add_func("/fs/quota/numbers", test_numbers);
        g_test_add_func("/fs/quota/statfs", test_statfs);
        g_test_add_func("/fs/quota/threads", test_threads);
        return g_test_run();
}
