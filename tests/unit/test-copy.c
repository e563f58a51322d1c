/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of a copy of a file that is written while it is copied.
 *
 * Role: test program. Privileges: none. Threads: one: the writer is a function that our copy_file_range(2) calls half-way.
 */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"

#define HALF 8192
#define SIZE (2 * HALF)

static void (*write_meanwhile)(int fd);
static unsigned copies; /* begun so far */

/* In the place of libc's: so that the first half is copied, then something happens, then the second half is. */
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t len, unsigned flags) {
        char buffer[HALF];
        ssize_t n = pread(from, buffer, MIN(len, sizeof buffer), *in);

        g_assert_cmpuint(flags, ==, 0);
        g_assert_cmpint(n, >=, 0);
        g_assert_cmpint(pwrite(to, buffer, (size_t) n, *out), ==, n);
        if (*in == 0) {
                copies++;
                if (write_meanwhile)
                        write_meanwhile(from);
        }
        *in += n;
        *out += n;
        return n;
}

static void fill(int fd, char with, off_t at, size_t n) {
        g_autofree char *data = g_malloc(n);

        memset(data, with, n);
        g_assert_cmpint(pwrite(fd, data, n, at), ==, (ssize_t) n);
}

static int new_file(void) {
        int fd = memfd_create("copy", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        return fd;
}

/* As if nothing had happened to it for long: the clock's tick is another one. */
static void let_age(int fd, struct stat *ret) {
        struct timespec tick;

        g_assert_cmpint(fstat(fd, ret), ==, 0);
        do
                (void) clock_gettime(CLOCK_REALTIME_COARSE, &tick);
        while (tick.tv_sec == ret->st_ctim.tv_sec && tick.tv_nsec <= ret->st_ctim.tv_nsec);
}

/* Copy a file of a's that was left alone; the copy is all of "wanted", or (0) not to be had. */
static int copy(void (*meanwhile)(int), bool aged, char wanted) {
        _cleanup_close_ int from = new_file(), to = new_file();
        struct stat st;
        char got[SIZE + 1];

        fill(from, 'a', 0, SIZE);
        g_assert_cmpint(fstat(from, &st), ==, 0);
        if (aged)
                let_age(from, &st);
        write_meanwhile = meanwhile;
        copies = 0;
        int r = copy_settled(from, to, SIZE, true, &st);
        write_meanwhile = NULL;
        if (!wanted)
                return r;
        g_assert_cmpint(pread(to, got, sizeof got, 0), ==, SIZE);
        for (int i = 0; i < SIZE; i++)
                g_assert_true(got[i] == wanted);
        return r;
}

static void overwrite_once(int fd) {
        if (copies == 1)
                fill(fd, 'b', 0, SIZE);
}

static void overwrite(int fd) {
        fill(fd, (char) ('b' + copies), 0, SIZE);
}

static void append(int fd) {
        fill(fd, 'z', SIZE, HALF);
}

static void change_mode(int fd) {
        g_assert_cmpint(fchmod(fd, 0600), ==, 0);
}

static void shorten(int fd) {
        g_assert_cmpint(ftruncate(fd, HALF), ==, 0);
}

static void test_left_alone(void) {
        g_assert_cmpint(copy(NULL, true, 'a'), ==, 0);
        g_assert_cmpint(copy(NULL, false, 'a'), ==, 0);
        g_assert_cmpuint(copies, ==, 1);
}

static void test_overwritten(void) {
        g_assert_cmpint(copy(overwrite_once, true, 'b'), ==, 0);
        g_assert_cmpuint(copies, ==, 2);
        /* Nor does it help that all happens in one tick of the clock. */
        g_assert_cmpint(copy(overwrite_once, false, 'b'), ==, 0);
        g_assert_cmpuint(copies, ==, 2);
}

static void test_overwritten_again_and_again(void) {
        g_assert_cmpint(copy(overwrite, true, 0), ==, -EAGAIN);
        g_assert_cmpuint(copies, >, 2);
}

/* What does not touch the part that is copied is no reason to begin again, however often it happens. */
static void test_changed_elsewhere(void) {
        g_assert_cmpint(copy(append, true, 'a'), ==, 0);
        g_assert_cmpuint(copies, ==, 1);
        g_assert_cmpint(copy(change_mode, true, 'a'), ==, 0);
        g_assert_cmpuint(copies, ==, 1);
}

static void test_shortened(void) {
        g_assert_cmpint(copy(shorten, true, 0), ==, -ESTALE);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/copy/left-alone", test_left_alone);
        g_test_add_func("/copy/overwritten", test_overwritten);
        g_test_add_func("/copy/overwritten-again-and-again", test_overwritten_again_and_again);
        g_test_add_func("/copy/changed-elsewhere", test_changed_elsewhere);
        g_test_add_func("/copy/shortened", test_shortened);
        return g_test_run();
}
