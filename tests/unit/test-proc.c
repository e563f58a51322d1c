/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of proc: what a started program finds, for each way that descriptors can stand in each other's places.
 *
 * Role: test program; with --look it is the program that is started, and says what it finds. Privileges: none. Threads: one.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "mark.h"

static const char *self; /* this program's path */

/* --look: every descriptor with its mark, and the state of signals. */
static int look(void) {
        sigset_t mask;

        for (int fd = 0; fd < FD_LOOK_MAX; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        printf("%d:%d ", fd, mark_of(fd) > 0 && mark_of(fd) < 100 ? mark_of(fd) : 0);
        sigprocmask(SIG_SETMASK, NULL, &mask);
        for (int sig = 1; sig < 32; sig++) {
                struct sigaction action;
                if (sigismember(&mask, sig) > 0)
                        printf("blocked:%d ", sig);
                /* A handler would be a sanitizer's own: exec(2) leaves none. */
                if (sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
                        printf("ignored:%d ", sig);
        }
        printf("%s\n", g_getenv("ONLY") ? g_getenv("ONLY") : "-");
        return 3;
}

/* What the started program finds, its output mapped to 1 beside map. */
static char *spawn_look(const ProcFd *map, size_t n_map) {
        g_autoptr(GError) error = NULL;
        g_autofree ProcFd *whole = g_new0(ProcFd, n_map + 1);
        char *const argv[] = { (char *) self, (char *) "--look", NULL }, *const envp[] = { (char *) "ONLY=this", NULL };
        char *text = NULL;
        int out[2], status = -1, pidfd = -1;

        g_assert_cmpint(pipe2(out, O_CLOEXEC), ==, 0);
        if (n_map > 0)
                memcpy(whole, map, n_map * sizeof *map);
        whole[n_map] = (ProcFd){ out[1], STDOUT_FILENO };
        pid_t pid = proc_spawn(self, argv, envp, whole, n_map + 1, &pidfd, &error);
        g_assert_no_error(error);
        g_assert_cmpint(pid, >, 0);
        close(out[1]);
        g_assert_true(fd_read_all(out[0], 4096, &text, NULL));
        close(out[0]);
        g_assert_true(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
        siginfo_t info = { 0 };
        g_assert_cmpint(waitid(P_PIDFD, (id_t) pidfd, &info, WEXITED | WNOWAIT), ==, 0);
        g_assert_cmpint(info.si_pid, ==, pid);
        close(pidfd);
        g_assert_true(proc_wait(pid, &status));
        g_autofree char *how = proc_status_text(status);
        g_assert_cmpstr(how, ==, "exit status 3");
        return g_strchomp(text);
}

/* Each order of three descriptors that stand on each other's places: theirs are 3, 4, 5 in the order of the map. */
static void test_spawn_map(void) {
        for (int fd = 20; fd < 24; fd++)
                mark_number(fd, fd - 10);
        for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++)
                        for (int c = 0; c < 4; c++) {
                                ProcFd map[] = { { 20 + a, 3 }, { 20 + b, 4 }, { 20 + c, 5 } };
                                g_autofree char *found = spawn_look(map, 3),
                                                *wanted = g_strdup_printf("0:0 1:0 2:0 3:%d 4:%d 5:%d this", 10 + a, 10 + b, 10 + c);
                                g_assert_cmpstr(found, ==, wanted);
                        }
        for (int fd = 20; fd < 24; fd++)
                close(fd);
}

/* The same where ours have the very numbers that theirs are to have, other ones than those. */
static void test_spawn_crossed(void) {
        g_autoptr(GArray) moved = g_array_new(FALSE, FALSE, sizeof(int));
        static const int orders[][3] = { { 3, 4, 5 }, { 3, 5, 4 }, { 4, 3, 5 }, { 4, 5, 3 }, { 5, 3, 4 }, { 5, 4, 3 } };

        /* What stands there steps aside (a test runner's log, perhaps). */
        for (int fd = 3; fd < 6; fd++) {
                int aside = fcntl(fd, F_DUPFD_CLOEXEC, 50);
                g_array_append_val(moved, aside);
                close(fd);
        }
        for (int fd = 3; fd < 6; fd++)
                mark_number(fd, fd + 10);
        for (unsigned i = 0; i < G_N_ELEMENTS(orders); i++) {
                ProcFd map[] = { { orders[i][0], 3 }, { orders[i][1], 4 }, { orders[i][2], 5 } };
                g_autofree char *found = spawn_look(map, 3), *wanted = g_strdup_printf("0:0 1:0 2:0 3:%d 4:%d 5:%d this", orders[i][0] + 10,
                                                                                       orders[i][1] + 10, orders[i][2] + 10);
                g_assert_cmpstr(found, ==, wanted);
        }
        /* standard ones, and one of ours under several numbers */
        ProcFd map[] = { { 4, 0 }, { 5, 2 }, { 4, 3 } };
        g_autofree char *found = spawn_look(map, 3), *bare = spawn_look(NULL, 0);
        g_assert_cmpstr(found, ==, "0:14 1:0 2:15 3:14 this");
        g_assert_cmpstr(bare, ==, "0:0 1:0 2:0 this");
        for (int fd = 3; fd < 6; fd++) {
                int aside = g_array_index(moved, int, fd - 3);
                close(fd);
                if (aside >= 0) {
                        g_assert_cmpint(dup3(aside, fd, O_CLOEXEC), ==, fd);
                        close(aside);
                }
        }
}

static void on_signal(int sig) {
}

/* Blocked and ignored signals are this process's own. */
static void test_spawn_signals(void) {
        sigset_t all, old;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &old);
        (void) signal(SIGPIPE, SIG_IGN);
        (void) signal(SIGHUP, SIG_IGN);
        (void) signal(SIGUSR1, on_signal);
        g_autofree char *found = spawn_look(NULL, 0);
        (void) signal(SIGPIPE, SIG_DFL);
        (void) signal(SIGHUP, SIG_DFL);
        (void) signal(SIGUSR1, SIG_DFL);
        sigprocmask(SIG_SETMASK, &old, NULL);
        g_assert_cmpstr(found, ==, "0:0 1:0 2:0 this");
}

static void test_spawn_fails(void) {
        char *const argv[] = { (char *) "x", NULL };
        g_autoptr(GError) error = NULL;
        int pidfd = -1;

        g_assert_cmpint(proc_spawn("/no/such/program", argv, argv + 1, NULL, 0, &pidfd, &error), ==, -1);
        g_assert_cmpint(err_get_errno(error), ==, ENOENT);
        g_assert_cmpint(pidfd, ==, -1);
        g_clear_error(&error);
        g_assert_cmpint(proc_spawn("/etc/passwd", argv, argv + 1, NULL, 0, NULL, &error), ==, -1);
        g_assert_cmpint(err_get_errno(error), ==, EACCES);
        g_clear_error(&error);
        ProcFd map[] = { { STDIN_FILENO, 3 }, { 250, 4 } }; /* the second is not open */
        g_assert_cmpint(proc_spawn(self, argv, argv + 1, map, 2, NULL, &error), ==, -1);
        g_assert_cmpint(err_get_errno(error), ==, EBADF);
        g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1); /* no child was left */
        g_assert_cmpint(errno, ==, ECHILD);
}

/* As long as it is not reaped, and then no other process of that number. */
static void test_pidfd(void) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        g_assert_cmpint(pid, >, 0);
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);
        struct pollfd ended = { .fd = pidfd, .events = POLLIN };
        g_assert_cmpint(poll(&ended, 1, -1), ==, 1);
        g_assert_cmpint(proc_pidfd_pid(pidfd), ==, pid);
        _cleanup_close_ int proc = proc_pidfd_open(pidfd);
        g_assert_cmpint(faccessat(proc, "stat", F_OK, 0), ==, 0);
        g_assert_true(proc_wait(pid, NULL));
        g_assert_cmpint(proc_pidfd_pid(pidfd), ==, -1);
        g_assert_cmpint(proc_pidfd_open(pidfd), ==, -1);
        g_assert_cmpint(errno, ==, ESRCH);
        g_assert_cmpint(faccessat(proc, "stat", F_OK, 0), ==, -1);
}

/* Where descriptors are out, no filter is to blame. */
static void test_check_pidfds(void) {
        g_autoptr(GError) error = NULL;
        struct rlimit before, none;

        g_assert_true(proc_check_pidfds(&error));
        g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
        none = before;
        none.rlim_cur = 0;
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
        bool ok = proc_check_pidfds(&error);
        g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
        g_assert_false(ok);
        g_assert_cmpint(err_get_errno(error), ==, EMFILE);
        g_assert_null(err_get_hint(error));
}

/* A child that forks twice, closes ready, and waits for its end; *ret_ready says that they are there. */
static pid_t fork_parent(int *ret_ready) {
        int ends[2];

        g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
        pid_t pid = fork();
        if (pid == 0) {
                pid_t self_pid = getpid();
                for (int i = 0; i < 2; i++)
                        if (fork() == 0) {
                                (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
                                if (getppid() != self_pid)
                                        _exit(1);
                                (void) !write(ends[1], "x", 1);
                                for (;;)
                                        (void) pause();
                        }
                for (;;)
                        (void) pause();
        }
        g_assert_cmpint(pid, >, 0);
        close(ends[1]);
        *ret_ready = ends[0];
        for (char byte, n = 0; n < 2; n++)
                g_assert_cmpint(read(ends[0], &byte, 1), ==, 1);
        return pid;
}

/* What a child leaves is ours and reaped; and where we were not asked to, that is waited for by nobody. */
static void test_adopt(void) {
        ProcOrphans orphans = { .n = 0 }, none = { .n = 0 };
        _cleanup_close_ int ready = -1;

        proc_reap(&none);
        pid_t pid = fork_parent(&ready);
        proc_adopt(pid, &orphans);
        proc_adopt(getppid(), &orphans); /* the first time counts */
        g_assert_cmpuint(orphans.n, ==, 2);
        kill(pid, SIGKILL);
        g_assert_true(proc_wait(pid, NULL));
        proc_reap(&orphans);
        g_assert_cmpuint(orphans.n, ==, 0);
        g_assert_cmpint(waitpid(-1, NULL, 0), ==, -1);
        g_assert_cmpint(errno, ==, ECHILD);

        proc_adopt(pid, &none); /* it is gone */
        none = (ProcOrphans){ .pids = { getpid() }, .n = 1 }; /* none of ours any more */
        proc_reap(&none);
        g_assert_cmpuint(none.n, ==, 0);
        (void) prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
}

static void test_status_text(void) {
        static const struct {
                int status;
                const char *text;
        } rows[] = {
                { 0, "exit status 0" },
                { 255 << 8, "exit status 255" },
                { SIGKILL, "killed by signal 9 (SIGKILL)" },
                { SIGSEGV | 0x80 /* core dumped */, "killed by signal 11 (SIGSEGV)" },
                { 40, "killed by signal 40" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *text = proc_status_text(rows[i].status);
                g_assert_cmpstr(text, ==, rows[i].text);
        }
}

static void test_helper_path(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-test-XXXXXX", NULL), *path = g_build_filename(dir, "helper", NULL), *found = NULL;
        g_autoptr(GError) error = NULL;

        g_setenv("USBOX_LIBEXECDIR", dir, TRUE);
        g_assert_null(proc_helper_path("helper", &error));
        g_assert_cmpint(err_get_errno(error), ==, ENOENT);
        g_assert_nonnull(strstr(err_get_hint(error), "helper"));
        g_clear_error(&error);
        g_assert_true(g_file_set_contents(path, "x", 1, NULL));
        if (getuid() != 0) { /* root may execute what nobody may, as far as access(2) says */
                g_assert_cmpint(g_chmod(path, 0644), ==, 0);
                g_assert_null(proc_helper_path("helper", &error));
                g_assert_cmpint(err_get_errno(error), ==, EACCES);
                g_clear_error(&error);
        }
        g_assert_cmpint(g_chmod(path, 0755), ==, 0);
        found = proc_helper_path("helper", &error);
        g_assert_no_error(error);
        g_assert_cmpstr(found, ==, path);
        g_unsetenv("USBOX_LIBEXECDIR");
        g_assert_null(proc_helper_path("no-such-helper", &error)); /* beside this program */
        g_assert_nonnull(strstr(error->message, USBOX_LIBEXEC_FROM_BIN "/no-such-helper"));
        g_unlink(path);
        g_rmdir(dir);
}

int main(int argc, char **argv) {
        if (argc == 2 && g_str_equal(argv[1], "--look"))
                return look();
        self = argv[0];
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/proc/spawn-map", test_spawn_map);
        g_test_add_func("/proc/spawn-crossed", test_spawn_crossed);
        g_test_add_func("/proc/spawn-signals", test_spawn_signals);
        g_test_add_func("/proc/spawn-fails", test_spawn_fails);
        g_test_add_func("/proc/pidfd", test_pidfd);
        g_test_add_func("/proc/check-pidfds", test_check_pidfds);
        g_test_add_func("/proc/adopt", test_adopt);
        g_test_add_func("/proc/status-text", test_status_text);
        g_test_add_func("/proc/helper-path", test_helper_path);
        return g_test_run();
}
