/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of descriptors, of errors and their quoting, and of log lines.
 *
 * Role: test program. Privileges: none. Threads: one, and one that reads slowly.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "mark.h"

/* ---- fd ---- */

/* Keep the descriptors of these numbers, marked 1, 2, ..., in this order. */
static void check_keep_only(const int *numbers, size_t n) {
        g_autofree int *keep = g_memdup2(numbers, n * sizeof *numbers);

        for (int fd = 3; fd < FD_LOOK_MAX; fd++)
                close(fd);
        for (size_t i = 0; i < n; i++) {
                if (numbers[i] < 3)
                        close(numbers[i]);
                mark_number(numbers[i], (int) i + 1);
        }
        for (int fd = 3; fd < 40; fd += 5) /* bystanders, not O_CLOEXEC */
                if (fcntl(fd, F_GETFD) < 0)
                        g_assert_cmpint(dup2(STDERR_FILENO, fd), ==, fd);
        g_assert_true(fd_keep_only(keep, n));
        for (size_t i = 0; i < n; i++) {
                g_assert_cmpint(keep[i], ==, 3 + (int) i);
                g_assert_cmpint(mark_of(keep[i]), ==, (int) i + 1);
                g_assert_true(fcntl(keep[i], F_GETFD) & FD_CLOEXEC);
        }
        for (int fd = 3 + (int) n; fd < FD_LOOK_MAX; fd++)
                g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
        for (int fd = 0; fd < 3; fd++)
                g_assert_cmpint(fcntl(fd, F_GETFD), >=, 0);
}

/* All orders of the numbers from at on. */
static void permute(int *numbers, size_t at, size_t n) {
        if (at == n) {
                check_keep_only(numbers, n);
                return;
        }
        for (size_t i = at; i < n; i++) {
                int swapped = numbers[at];
                numbers[at] = numbers[i], numbers[i] = swapped;
                permute(numbers, at + 1, n);
                swapped = numbers[at];
                numbers[at] = numbers[i], numbers[i] = swapped;
        }
}

static void keep_all_orders(void) {
        int places[] = { 3, 4, 5, 6 }, beside[] = { 4, 5, 9, 200 }, high[] = { 100, 7, 101, 102 }, two[] = { 4, 3 }, standard[] = { 0, 3, 1, 8 };

        check_keep_only(NULL, 0);
        for (int fd = 3; fd < 10; fd++)
                check_keep_only(&fd, 1);
        permute(places, 0, 4);
        permute(beside, 0, 4);
        permute(high, 0, 4);
        permute(two, 0, 2);
        permute(standard, 0, 4); /* last: 0 and 1 are never the same again */
}

/* In a child, since all else is closed. */
static void test_keep_only(void) {
        pid_t pid = fork();
        int status;

        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                keep_all_orders();
                _exit(0);
        }
        g_assert_true(proc_wait(pid, &status));
        g_assert_cmpint(status, ==, 0);
}

static void test_keep_only_fails(void) {
        pid_t pid = fork();
        if (pid == 0) {
                int keep[] = { 250 }; /* not open */
                _exit(!fd_keep_only(keep, 1) && errno == EBADF ? 0 : 1);
        }
        int status;
        g_assert_true(proc_wait(pid, &status));
        g_assert_cmpint(status, ==, 0);
}

static void test_read(void) {
        static const char text[] = "a\0b\n";
        char *got = NULL;
        size_t len = 99;
        int fd = marked_fd(0);

        g_assert_true(fd_write_all(fd, text, sizeof text));
        for (size_t max = 0; max <= sizeof text + 1; max++) {
                lseek(fd, 0, SEEK_SET);
                errno = 0;
                bool ok = fd_read_all(fd, max, &got, &len);
                g_assert_true(ok == (max >= sizeof text));
                if (!ok) {
                        g_assert_cmpint(errno, ==, EFBIG);
                        continue;
                }
                g_assert_cmpmem(got, len, text, sizeof text);
                g_assert_cmpint(got[len], ==, '\0');
                g_free(got);
        }
        /* sizes around those that the buffer grows at */
        for (int size = 4090; size < 4100; size++) {
                g_assert_cmpint(ftruncate(fd, size), ==, 0);
                lseek(fd, 0, SEEK_SET);
                g_assert_true(fd_read_all(fd, (size_t) size, &got, &len));
                g_assert_cmpuint(len, ==, (size_t) size);
                g_free(got);
        }
        close(fd);

        g_assert_false(fd_read_all(fd, 10, &got, NULL));
        g_assert_cmpint(errno, ==, EBADF);
        g_assert_false(fd_read_file(AT_FDCWD, "/proc", 10, &got, NULL));
        g_assert_cmpint(errno, ==, EISDIR);
        g_assert_false(fd_read_file(AT_FDCWD, "/no/such/file", 10, &got, NULL));
        g_assert_cmpint(errno, ==, ENOENT);
        g_assert_true(fd_read_file(AT_FDCWD, "/dev/null", 0, &got, NULL));
        g_assert_cmpstr(got, ==, "");
        g_free(got);
}

static gpointer read_slowly(gpointer data) {
        char buf[777];
        gsize total = 0;
        ssize_t n;
        while ((n = read(GPOINTER_TO_INT(data), buf, sizeof buf)) != 0) {
                total += n > 0 ? (gsize) n : 0;
                g_usleep(50);
        }
        return GSIZE_TO_POINTER(total);
}

static void on_alarm(int sig) {
}

/* Short writes and interruptions are none of the caller's business. */
static void test_sealed(void) {
        static const char text[] = "a\0b\n";
        char *got = NULL;
        size_t len = 99;
        int fd = fd_sealed("usbox-test", text, sizeof text), pipes[2];

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, "x", 1), <, 0);
        g_assert_true(fd_read_sealed(fd, sizeof text, &got, &len));
        g_assert_cmpmem(got, len, text, sizeof text);
        g_free(got);
        close(fd);

        /* What may be written to, or has no end, is not read. */
        fd = memfd_create("usbox-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        g_assert_true(fd >= 0 && !fd_read_sealed(fd, 10, &got, &len) && errno == EINVAL);
        close(fd);
        g_assert_true(pipe(pipes) == 0 && !fd_read_sealed(pipes[0], 10, &got, &len) && errno == EINVAL);
        close(pipes[0]);
        close(pipes[1]);
}

static void test_write_all(void) {
        g_autofree char *data = g_strnfill(1000000, 'x');
        struct sigaction action = { .sa_handler = on_alarm }; /* no SA_RESTART */
        struct itimerval often = { .it_value.tv_usec = 1000, .it_interval.tv_usec = 1000 }, never = { 0 };
        int p[2];

        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        GThread *reader = g_thread_new("reader", read_slowly, GINT_TO_POINTER(p[0]));
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        g_assert_true(fd_write_all(p[1], data, 1000000));
        setitimer(ITIMER_REAL, &never, NULL);
        close(p[1]);
        g_assert_cmpuint(GPOINTER_TO_SIZE(g_thread_join(reader)), ==, 1000000);
        close(p[0]);

        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[1], true));
        g_assert_false(fd_write_all(p[1], data, 1000000));
        g_assert_cmpint(errno, ==, EAGAIN);
        close(p[0]);
        g_assert_false(fd_write_all(p[1], "x", 1));
        g_assert_cmpint(errno, ==, EPIPE);
        g_assert_true(fd_write_all(p[1], NULL, 0));
        close(p[1]);
}

static void test_write_file(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-test-XXXXXX", NULL), *path = g_build_filename(dir, "f", NULL), *got = NULL;
        int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

        g_assert_false(fd_write_file(dirfd, "f", "x"));
        g_assert_cmpint(errno, ==, ENOENT); /* it makes none */
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
        g_assert_true(fd_write_file(dirfd, "f", "text\n"));
        g_assert_true(fd_read_file(dirfd, "f", 100, &got, NULL));
        g_assert_cmpstr(got, ==, "text\n");
        g_assert_false(fd_write_file(AT_FDCWD, "/dev/full", "x"));
        g_assert_cmpint(errno, ==, ENOSPC);
        close(dirfd);
        g_unlink(path);
        g_rmdir(dir);
}

static void test_small_things(void) {
        int p[2];
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(fd_set_nonblock(p[0], true));
        g_assert_true(fcntl(p[0], F_GETFL) & O_NONBLOCK);
        g_assert_true(fd_set_nonblock(p[0], false));
        g_assert_false(fcntl(p[0], F_GETFL) & O_NONBLOCK);

        int handed = fd_steal(&p[0]);
        g_assert_cmpint(p[0], ==, -1);
        {
                _cleanup_close_ int closed = handed, none = -1;
                errno = EXDEV;
        }
        g_assert_cmpint(errno, ==, EXDEV);
        g_assert_cmpint(fcntl(handed, F_GETFD), ==, -1);
        close(p[1]);
        g_assert_false(fd_set_nonblock(p[1], true));
        g_assert_cmpint(errno, ==, EBADF);
}

/* ---- error ---- */

static void test_quote(void) {
        static const char *const rows[][2] = {
                { "", "" },
                { "plain name.c", "plain name.c" },
                { "a\nb\tc\\d", "a\\nb\\tc\\\\d" },
                { "\x1b[31m\x07\r\x7f", "\\x1b[31m\\x07\\x0d\\x7f" },
                { "ä€😀", "ä€😀" },
                { "\xc2\x9b" "31m", "\\xc2\\x9b31m" },             /* C1: CSI in one character */
                { "\xe2\x80\xae" "cod.exe", "\\xe2\\x80\\xaecod.exe" }, /* RIGHT-TO-LEFT OVERRIDE */
                { "\xe2\x80\x8b|\xef\xbb\xbf", "\\xe2\\x80\\x8b|\\xef\\xbb\\xbf" }, /* of no width */
                { "\xe2\x80\xa8", "\\xe2\\x80\\xa8" },             /* LINE SEPARATOR */
                { "\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82" },
                { "\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80", "\\xed\\xa0\\x80\\xc0\\x80\\xf4\\x90\\x80\\x80" }, /* surrogate, overlong, too high */
                { "\xee\x80\x80", "\xee\x80\x80" },                   /* private use: prompts and editors have such */
                { "\xcd\xb8", "\\xcd\\xb8" },                       /* not assigned */
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *quoted = err_quote(rows[i][0]), *again = err_visible(quoted);
                g_assert_cmpstr(quoted, ==, rows[i][1]);
                g_assert_cmpstr(again, ==, quoted);
        }
        g_autofree char *visible = err_visible("a\\x1b \x1b[2J\n\xc2\x9b" "2J");
        g_assert_cmpstr(visible, ==, "a\\x1b \\x1b[2J\\n\\xc2\\x9b2J");
}

static void test_text(void) {
        g_assert_cmpstr(err_text(ENOENT), ==, "No such file or directory");
        g_assert_cmpstr(err_text(4711), ==, "unknown error");
}

/* Any bytes: what comes out is printable, and tells the name exactly. */
static void test_quote_any(void) {
        for (unsigned round = 0; round < 5000; round++) {
                char name[33];
                size_t len = (size_t) g_test_rand_int_range(0, sizeof name);
                for (size_t i = 0; i < len; i++)
                        name[i] = (char) g_test_rand_int_range(1, 256);
                name[len] = '\0';
                g_autofree char *quoted = err_quote(name), *back = g_malloc(strlen(quoted) + 1);
                char *to = back;
                for (const char *p = quoted; *p; p = g_utf8_next_char(p))
                        g_assert_true(g_unichar_isprint(g_utf8_get_char_validated(p, -1)));
                for (const char *p = quoted; *p; p++) {
                        if (*p != '\\')
                                *to++ = *p;
                        else if (*++p == 'x') {
                                *to++ = (char) (g_ascii_xdigit_value(p[1]) << 4 | g_ascii_xdigit_value(p[2]));
                                p += 2;
                        } else
                                *to++ = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
                }
                *to = '\0';
                g_assert_cmpstr(back, ==, name);
        }
}

static void test_error(void) {
        g_autoptr(GError) error = NULL, foreign = g_error_new(G_FILE_ERROR, G_FILE_ERROR_IO, "x");
        GError *null_error = NULL;

        g_assert_false(err_set(&error, ENOENT, "open %s", "%s"));
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_FAILED);
        g_assert_cmpstr(error->message, ==, "open %s: No such file or directory");
        g_assert_cmpint(err_get_errno(error), ==, ENOENT);
        g_assert_null(err_get_step(error));
        g_assert_null(err_get_hint(error));
        /* the innermost stays */
        g_assert_false(err_step(&error, "mount"));
        g_assert_false(err_step(&error, "run"));
        g_assert_false(err_hint(&error, "do %d", 1));
        g_assert_false(err_hint(&error, "do 2"));
        g_prefix_error(&error, "here: ");
        g_autoptr(GError) copy = g_error_copy(error);
        g_clear_error(&error);
        g_assert_cmpstr(copy->message, ==, "here: open %s: No such file or directory");
        g_assert_cmpstr(err_get_step(copy), ==, "mount");
        g_assert_cmpstr(err_get_hint(copy), ==, "do 1");
        g_assert_cmpint(err_get_errno(copy), ==, ENOENT);

        g_assert_false(err_set_code(&error, USBOX_ERROR_NOT_FOUND, 0, "alone"));
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_NOT_FOUND);
        g_assert_cmpstr(error->message, ==, "alone");
        err_set_errno(error, EPERM);
        g_assert_cmpint(err_get_errno(error), ==, EPERM);
        g_clear_error(&error);
        g_assert_false(err_usage(&error, "bad"));
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);

        /* nowhere to put it, nothing there yet, somebody else's */
        g_assert_false(err_set(NULL, EIO, "x") || err_usage(NULL, "x") || err_hint(NULL, "x") || err_step(NULL, "x"));
        g_assert_false(err_hint(&null_error, "x") || err_step(&null_error, "x"));
        g_assert_false(err_hint(&foreign, "x") || err_step(&foreign, "x"));
        err_set_errno(foreign, EIO);
        g_assert_true(!err_get_hint(foreign) && !err_get_step(foreign) && err_get_errno(foreign) == 0);
        g_assert_true(!err_get_hint(NULL) && !err_get_step(NULL) && err_get_errno(NULL) == 0);
}

/* ---- log ---- */

static void test_log(void) {
        if (g_test_subprocess()) {
                log_init("prog", false);
                errno = EXDEV;
                log_note("a %s", "note");
                log_note("%s", "\x1b[2J\r\nprog: forged");
                log_step("not shown");
                g_assert_cmpint(errno, ==, EXDEV);
                g_assert_false(log_is_verbose());
                log_init("prog", true);
                log_step("shown");
                close(STDERR_FILENO);
                log_note("nowhere to go");
                exit(0);
        }
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("prog: a note\nprog: \\x1b*2J\\x0d\\nprog: forged\nprog: * shown\n");
        g_test_trap_assert_stderr_unmatched("*not shown*");
}

static void test_patience(void) {
        int ends[2];
        FdPatience patience = { .left_ms = 1000 };

        g_assert_true(pipe2(ends, O_CLOEXEC) == 0);
        g_assert_cmpint(fd_await(ends[0], 20), ==, 0);
        g_assert_cmpint(write(ends[1], "x", 1), ==, 1);
        g_assert_cmpint(fd_await(ends[0], 20), ==, 1);
        /* We were stopped for a minute: that is not the time of whom we wait for. */
        int slice = fd_patience_slice(&patience);
        patience.since -= 60 * G_USEC_PER_SEC;
        fd_patience_used(&patience);
        g_assert_cmpint(patience.left_ms, ==, 1000 - slice);
        patience.left_ms = 1;
        patience.since -= 1;
        fd_patience_used(&patience);
        g_assert_cmpint(patience.left_ms, ==, 0);
        close(ends[0]);
        close(ends[1]);
}

/* An entry that is not used must not count against the limit on files. */
static void test_poll(void) {
        int ends[2];
        struct rlimit limit;
        struct pollfd fds[FD_POLL_MAX];

        g_assert_true(pipe2(ends, O_CLOEXEC) == 0);
        g_assert_true(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        const struct rlimit low = { (rlim_t) ends[1] + 1, limit.rlim_max };
        g_assert_true(setrlimit(RLIMIT_NOFILE, &low) == 0);
        for (size_t i = 0; i < G_N_ELEMENTS(fds); i++)
                fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN, .revents = POLLERR };
        fds[70] = (struct pollfd){ .fd = ends[1], .events = POLLOUT };
        fds[G_N_ELEMENTS(fds) - 1].fd = ends[0];
        g_assert_cmpint(fd_poll(fds, G_N_ELEMENTS(fds) - 1, 1000), ==, 1);
        g_assert_cmpint(fds[70].revents, ==, POLLOUT);
        g_assert_cmpint(fds[0].revents, ==, 0);
        fds[70].fd = -1;
        g_assert_cmpint(fd_poll(fds, G_N_ELEMENTS(fds), 0), ==, 0);
        g_assert_cmpint(fds[70].revents, ==, 0);
        g_assert_cmpint(write(ends[1], "x", 1), ==, 1);
        g_assert_cmpint(fd_poll(fds, G_N_ELEMENTS(fds), 1000), ==, 1);
        g_assert_cmpint(fds[G_N_ELEMENTS(fds) - 1].revents, ==, POLLIN);
        g_assert_true(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        close(ends[0]);
        close(ends[1]);
}

int main(int argc, char **argv) {
        (void) signal(SIGPIPE, SIG_IGN);
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fd/keep-only", test_keep_only);
        g_test_add_func("/fd/keep-only-fails", test_keep_only_fails);
        g_test_add_func("/fd/read", test_read);
        g_test_add_func("/fd/sealed", test_sealed);
        g_test_add_func("/fd/write-all", test_write_all);
        g_test_add_func("/fd/write-file", test_write_file);
        g_test_add_func("/fd/small-things", test_small_things);
        g_test_add_func("/error/quote", test_quote);
        g_test_add_func("/error/quote-any", test_quote_any);
        g_test_add_func("/error/text", test_text);
        g_test_add_func("/error/set", test_error);
        g_test_add_func("/log/lines", test_log);
        g_test_add_func("/fd/patience", test_patience);
        g_test_add_func("/fd/poll", test_poll);
        return g_test_run();
}
