/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What verbs for boxes are made of: arguments, names, the log, the runtime directory.
 *
 * Role: tests only. Privileges: none. Threads: one.
 */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "box-remove.h"
#include "events.h"
#include "logs.h"
#include "registry.h"
#include "runtime.h"
#include "seen.h"
#include "verb-args.h"

static const VerbOption options[] = {
        { .name = "all", .short_name = 'a', .help = "" },
        { .name = "signal", .short_name = 's', .arg = "SIGNAL", .help = "" },
        { .name = "env", .short_name = 'e', .arg = "NAME", .help = "" },
        { 0 },
};

static bool parse(VerbArgs *args, VerbOrder order, const char *line, GError **error) {
        g_auto(GStrv) words = g_strsplit(line, " ", -1);
        static char *kept[32]; /* what args borrows */
        int n = (int) g_strv_length(words);

        g_assert_cmpint(n, <, G_N_ELEMENTS(kept));
        for (int i = 0; i < n; i++) {
                g_free(kept[i]);
                kept[i] = g_strdup(words[i]);
        }
        return verb_args_parse(args, "verb", options, order, *line ? n : 0, kept, error);
}

static void test_args(void) {
        static const struct {
                VerbOrder order;
                const char *line, *rest, *signal;
                bool all;
        } rows[] = {
                { VERB_MIXED, "", "", NULL, false },
                { VERB_MIXED, "a b", "a b", NULL, false },
                { VERB_MIXED, "a -a b", "a b", NULL, true },
                { VERB_MIXED, "--all --signal=9 a", "a", "9", true },
                { VERB_MIXED, "--signal 9 --signal 10", "", "10", false },
                { VERB_MIXED, "-as9", "", "9", true },
                { VERB_MIXED, "-s 9 -- -a", "-a", "9", false },
                { VERB_MIXED, "-", "-", NULL, false },
                { VERB_MIXED, "--signal= x", "x", "", false },
                { VERB_FIRST, "-a box cmd -s x", "box cmd -s x", NULL, true },
                { VERB_FIRST, "box -- cmd -- -a", "box cmd -- -a", NULL, false },
                { VERB_FIRST, "-s 9 box -a", "box -a", "9", false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(VerbArgs) args = { 0 };
                g_assert_true(parse(&args, rows[i].order, rows[i].line, NULL));
                g_autofree char *rest = g_strjoinv(" ", (char **) args.rest->pdata);
                g_assert_cmpstr(rest, ==, rows[i].rest);
                g_assert_cmpstr(verb_args_get(&args, "signal"), ==, rows[i].signal);
                g_assert_cmpint(verb_args_has(&args, "all"), ==, rows[i].all);
        }
}

static void test_bad_args(void) {
        static const char *const lines[] = { "--nonsense", "-x", "-ax", "--all=1", "--signal", "-s", "--al" };

        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
                g_auto(VerbArgs) args = { 0 };
                g_autoptr(GError) error = NULL;
                g_assert_false(parse(&args, VERB_MIXED, lines[i], &error));
                g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
                g_assert_cmpstr(err_get_step(error), ==, "options");
        }
        g_auto(VerbArgs) args = { 0 };
        g_assert_true(parse(&args, VERB_MIXED, "a b", NULL));
        g_assert_true(verb_args_count(&args, "verb", 2, 2, NULL));
        g_assert_false(verb_args_count(&args, "verb", 3, 4, NULL));
        g_assert_false(verb_args_count(&args, "verb", 0, 1, NULL));
}

static void test_names(void) {
        static const char *const good[] = { "a", "web", "Web-1_x.y", "0", "0123456789abc", "abcdef", "lastly" };
        static const char *const bad[] = { "", ".", "..", "-a", "_a", "a/b", "a b", "last", "0123456789ab", "a\n", "\xc3\xa9", "a\x1b" };
        g_autofree char *longest = g_strnfill(BOX_NAME_MAX, 'a'), *longer = g_strnfill(BOX_NAME_MAX + 1, 'a');

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
                g_assert_true(registry_name_ok(good[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                g_assert_false(registry_name_ok(bad[i]));
        g_assert_true(registry_name_ok(longest));
        g_assert_false(registry_name_ok(longer));
}

static void test_log_time(void) {
        char text[LOG_TIME_LEN + 1];

        log_time(G_GINT64_CONSTANT(1700000000123456), text);
        g_assert_cmpstr(text, ==, "2023-11-14T22:13:20.123456000Z");
        log_time(0, text);
        g_assert_cmpstr(text, ==, "1970-01-01T00:00:00.000000000Z");
}

static void test_log_entries(void) {
        static const char time[] = "2023-11-14T22:13:20.123456000Z";
        static const struct {
                const char *tail, *text;
                int stream;
                bool whole;
        } rows[] = {
                { " stdout F text", "text", 1, true },   { " stdout P ", "", 1, false }, { " stderr F  a ", " a ", 2, true },
                { " usbox F lost", "lost", 0, true },    { " stdout X text", NULL, 0, false }, { " stdin F text", NULL, 0, false },
                { "  stdout F text", NULL, 0, false },   { " stdout F", NULL, 0, false },  { "", NULL, 0, false },
                { "stdout F text", NULL, 0, false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                /* Without a byte behind it, for valgrind and ASan. */
                g_autofree char *line = g_strconcat(time, rows[i].tail, NULL), *exact = g_memdup2(line, strlen(line));
                LogEntry e;
                bool ok = log_entry_parse(exact, strlen(line), &e);
                g_assert_cmpint(ok, ==, rows[i].text != NULL);
                if (!ok)
                        continue;
                g_assert_cmpmem(e.text, e.len, rows[i].text, strlen(rows[i].text));
                g_assert_cmpint(e.stream, ==, rows[i].stream);
                g_assert_cmpint(e.whole, ==, rows[i].whole);
        }
}

static void test_log_rotation(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-log-XXXXXX", NULL);
        _cleanup_close_ int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_autofree char *chunk = g_strnfill(999, 'x');
        int out[2], err[2];
        struct stat st;

        g_assert_true(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
        LogWriter *w = log_writer_new(dirfd, (int[]){ out[0], err[0] }, 8000, NULL);
        g_assert_nonnull(w);
        for (int i = 0; i < 30; i++) {
                struct pollfd fds[LOG_N_FDS];
                chunk[998] = '\n';
                g_assert_true(fd_write_all(i % 3 ? out[1] : err[1], chunk, 999));
                log_writer_poll(w, fds);
                g_assert_cmpint(poll(fds, LOG_N_FDS, -1), ==, 1);
                log_writer_dispatch(w, fds);
                g_assert_true(fstatat(dirfd, LOG_FILE, &st, 0) == 0 && st.st_size <= 8000);
        }
        /* What is in the pipes at the end is written, too. */
        g_assert_true(fd_write_all(out[1], "end", 3));
        log_writer_free(w);
        g_autofree char *text = NULL;
        g_assert_true(fd_read_file(dirfd, LOG_FILE, 100000, &text, NULL));
        g_assert_true(g_str_has_suffix(text, " stdout P end\n"));
        g_assert_true(fstatat(dirfd, LOG_OLD, &st, 0) == 0 && st.st_size <= 8000 && st.st_size > 6000);
        close(out[1]);
        close(err[1]);
        g_assert_true(unlinkat(dirfd, LOG_FILE, 0) == 0 && unlinkat(dirfd, LOG_OLD, 0) == 0 && rmdir(dir) == 0);
}

/* Not taken for the end of it: the log says so, and goes on with the other. */
static void test_log_unreadable(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-log-XXXXXX", NULL), *text = NULL;
        _cleanup_close_ int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        int directory = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err[2]; /* read(2) of it says EISDIR */

        g_assert_cmpint(pipe2(err, O_CLOEXEC), ==, 0);
        LogWriter *w = log_writer_new(dirfd, (int[]){ directory, err[0] }, 8000, NULL);
        g_assert_nonnull(w);
        g_assert_true(fd_write_all(err[1], "one\n", 4));
        const struct pollfd both[LOG_N_FDS] = { { .revents = POLLIN }, { .revents = POLLIN } };
        log_writer_dispatch(w, both);
        g_assert_true(fd_write_all(err[1], "two\n", 4));
        g_assert_cmpuint(log_writer_free(w), ==, 0);
        g_assert_true(fd_read_file(dirfd, LOG_FILE, 1000, &text, NULL));
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_assert_cmpuint(g_strv_length(lines), ==, 4);
        g_assert_true(g_str_has_suffix(lines[0], " usbox F the rest of stdout could not be read: Is a directory"));
        g_assert_true(g_str_has_suffix(lines[1], " stderr F one") && g_str_has_suffix(lines[2], " stderr F two"));
        close(err[1]);
        g_assert_true(unlinkat(dirfd, LOG_FILE, 0) == 0 && rmdir(dir) == 0);
}

/* A runtime directory that is the test's; its path is the caller's. */
static char *own_runtime(int *ret_top) {
        char *dir = g_dir_make_tmp("usbox-runtime-XXXXXX", NULL);

        g_setenv("XDG_RUNTIME_DIR", dir, TRUE);
        *ret_top = runtime_open(true, NULL);
        g_assert_cmpint(*ret_top, >=, 0);
        return dir;
}

static void remove_runtime(const char *dir, int top) {
        close(top);
        g_autofree char *path = g_build_filename(dir, "usbox", NULL);
        g_assert_true(rmdir(path) == 0 && rmdir(dir) == 0);
}

static bool is_there(int dirfd, const char *name) {
        return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(int dirfd, const char *name) {
        _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        g_assert_cmpint(fd, >=, 0);
}

/* However far a launcher had come when it was killed: what it left goes. What one holds that lives stays, and what is no box's. */
static void test_runtime_sweep(void) {
        static const char *const left[] = { ".00000000000a", ".00000000000b", ".00000000000c", "00000000000d", "00000000000e" };
        int top, listener = -1;
        g_autofree char *dir = own_runtime(&top);

        for (size_t i = 0; i < G_N_ELEMENTS(left); i++)
                g_assert_cmpint(mkdirat(top, left[i], 0700), ==, 0);
        make_file(top, ".00000000000b/lock.new");
        make_file(top, ".00000000000c/lock");
        make_file(top, ".00000000000c/state.json");
        make_file(top, "00000000000e/lock");
        make_file(top, "00000000000e/control");
        g_assert_cmpint(mkdirat(top, "something-else", 0700), ==, 0);
        RuntimeBox *alive = runtime_box_new("00000000000f", "{}", &listener, NULL);
        g_assert_nonnull(alive);
        runtime_sweep(top);
        for (size_t i = 0; i < G_N_ELEMENTS(left); i++)
                g_assert_false(is_there(top, left[i]));
        g_assert_true(is_there(top, "something-else") && is_there(top, ".00000000000f/lock"));
        g_assert_true(runtime_box_publish(alive, NULL));
        runtime_sweep(top);
        g_assert_true(is_there(top, "00000000000f/lock") && is_there(top, "00000000000f/state.json") && runtime_is_locked(top, "00000000000f"));
        runtime_box_free(alive);
        close(listener);
        g_assert_false(is_there(top, "00000000000f"));
        g_assert_cmpint(unlinkat(top, "something-else", AT_REMOVEDIR), ==, 0);
        remove_runtime(dir, top);
}

/* One whose launcher is about to remove it, its record first, is not listed as a box of which nothing is known. */
static void test_runtime_end(void) {
        int top, listener = -1;
        g_autofree char *dir = own_runtime(&top);
        const Caller caller = { .uid = getuid(), .gid = getgid(), .home = dir };
        g_autoptr(GError) error = NULL;

        g_setenv("XDG_DATA_HOME", dir, TRUE);
        RuntimeBox *box = runtime_box_new("00000000000a", "{}", &listener, &error);
        g_assert_no_error(error);
        g_assert_true(runtime_box_publish(box, &error));
        g_autoptr(GPtrArray) running = registry_list(&caller, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(running->len, ==, 1);
        g_assert_cmpint(unlinkat(top, "00000000000a/state.json", 0), ==, 0);
        g_autoptr(GPtrArray) ending = registry_list(&caller, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(ending->len, ==, 0);
        runtime_box_free(box);
        close(listener);
        g_unsetenv("XDG_DATA_HOME");
        remove_runtime(dir, top);
}

/* One that has no lock may be one that is being made, as long as somebody makes one. */
static void test_runtime_being_made(void) {
        int top;
        g_autofree char *dir = own_runtime(&top);
        int maker = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        g_assert_true(flock(maker, LOCK_SH) == 0 && mkdirat(top, ".00000000000a", 0700) == 0);
        make_file(top, ".00000000000a/lock.new");
        runtime_sweep(top);
        g_assert_true(is_there(top, ".00000000000a/lock.new"));
        close(maker);
        runtime_sweep(top);
        g_assert_false(is_there(top, ".00000000000a"));
        remove_runtime(dir, top);
}

/* One that is being made is let be by somebody who does nothing but sweep. */
static void test_runtime_race(void) {
        int top;
        g_autofree char *dir = own_runtime(&top);
        pid_t sweeper = fork();

        if (sweeper == 0)
                for (;;)
                        runtime_sweep(top);
        for (int i = 0; i < 1000; i++) {
                g_autoptr(GError) error = NULL;
                int listener = -1;
                RuntimeBox *box = runtime_box_new("00000000000a", "{}", &listener, &error);
                g_assert_no_error(error);
                g_assert_true(runtime_box_publish(box, &error));
                g_assert_true(runtime_is_locked(top, "00000000000a") && is_there(top, "00000000000a/control") && is_there(top, "00000000000a/state.json"));
                runtime_box_free(box);
                close(listener);
        }
        g_assert_true(kill(sweeper, SIGKILL) == 0 && waitpid(sweeper, NULL, 0) == sweeper);
        remove_runtime(dir, top);
}

/* Nanoseconds by which the clock was set ahead, and what the moment is then. */
static void test_clock_set_back(void) {
        static const struct {
                gint64 ahead;
                time_t sec;
                long nsec;
        } rows[] = {
                { 0, 1000, 500 },
                { 3600 * G_GINT64_CONSTANT(1000000000), 1000, 500 },
                { -1000000, 1000, 500 }, /* only looked at a little later */
                { -60 * G_GINT64_CONSTANT(1000000000), 940, 500 },
                { -100000000, 999, 900000500 },
                { -2000 * G_GINT64_CONSTANT(1000000000), 0, 0 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                struct timespec since = { 1000, 500 };
                seen_set_back(&since, 700, 700 + rows[i].ahead);
                g_assert_cmpint(since.tv_sec, ==, rows[i].sec);
                g_assert_cmpint(since.tv_nsec, ==, rows[i].nsec);
        }
}

/* Somebody else writes the tree that is removed, as a box by --rw does where a commit works: the two names change places all the time. */
static _Noreturn void swap_for_ever(int dir) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;)
                (void) renameat2(dir, "tree/closed", dir, "tree/other", RENAME_EXCHANGE);
}

/* A directory that shuts out its owner is opened up to be removed, but what a symlink leads to that comes in its place is not. It takes a thousand rounds or so
 * to be met in between; tests run often. */
static void test_remove_race(void) {
        g_autofree char *top = g_dir_make_tmp("usbox-remove-XXXXXX", NULL), *victim = g_build_filename(top, "victim", NULL);
        _cleanup_close_ int dir = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        g_assert_cmpint(mkdir(victim, 0755), ==, 0);
        pid_t pid = fork();
        if (pid == 0)
                swap_for_ever(dir);
        for (int i = 0; i < 300; i++) {
                FdLater later = { .n = FD_LATER_MAX };
                g_assert_cmpint(mkdirat(dir, "new", 0700) | mkdirat(dir, "new/closed", 0700) | symlinkat(victim, dir, "new/other"), ==, 0);
                make_file(dir, "new/closed/file");
                g_assert_cmpint(fchmodat(dir, "new/closed", 0, 0) | renameat(dir, "new", dir, "tree"), ==, 0);
                (void) box_remove_part(&later, dir, "tree", NULL);
                g_assert_true(stat(victim, &st) == 0 && (st.st_mode & 07777) == 0755);
                while (is_there(dir, "tree")) /* what was missed meanwhile */
                        (void) box_remove_part(&later, dir, "tree", NULL);
        }
        g_assert_true(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
        g_assert_true(rmdir(victim) == 0 && rmdir(top) == 0);
}

/* What is too deep is moved up to be removed from there. A removal that ended in the middle has left such names: the next one does
 * not fail at them, and removes them with the box; in a directory that is no box's they are somebody's. */
static void test_remove_deep(void) {
        g_autofree char *top = g_dir_make_tmp("usbox-remove-XXXXXX", NULL), *box = g_build_filename(top, "0123456789ab", NULL);
        _cleanup_close_ int boxes = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(GString) deep = g_string_new(box);
        FdLater later = { .n = FD_LATER_MAX };

        g_string_append(deep, "/upper");
        for (int i = 0; i < 200; i++)
                g_string_append(deep, "/d");
        g_assert_cmpint(g_mkdir_with_parents(deep->str, 0700), ==, 0);
        _cleanup_close_ int fd = open(box, O_PATH | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(mkdirat(fd, ".deep-0", 0700) | mkdirat(boxes, ".deep-0", 0700), ==, 0);
        make_file(fd, ".deep-0/file");
        g_assert_cmpint(box_remove(&later, boxes, "0123456789ab", NULL), ==, 0);
        g_assert_false(is_there(boxes, "0123456789ab"));
        g_assert_cmpint(g_mkdir_with_parents(deep->str, 0700), ==, 0);
        g_assert_cmpint(box_remove_part(&later, boxes, "0123456789ab", NULL), ==, 0);
        g_assert_cmpint(unlinkat(boxes, ".deep-0", AT_REMOVEDIR) | rmdir(top), ==, 0);
}

static off_t size_of(int dir, const char *name) {
        struct stat st;
        return fstatat(dir, name, &st, 0) == 0 ? st.st_size : -1;
}

/* Two launchers find at the same moment that it is large enough. */
static void test_events_rotate_once(void) {
        g_autofree char *path = g_dir_make_tmp("usbox-test-XXXXXX", NULL);
        _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = openat(dir, EVENTS_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        const off_t large = 1024 * 1024;

        g_assert_cmpint(ftruncate(file, large), ==, 0);
        g_assert_cmpint(flock(file, LOCK_EX), ==, 0); /* the other is at it */
        events_append(dir, "start", "0123456789ab", NULL, NULL);
        off_t written = size_of(dir, EVENTS_FILE);
        g_assert_cmpint(written, >, large);
        g_assert_cmpint(size_of(dir, EVENTS_OLD), ==, -1);
        g_assert_cmpint(flock(file, LOCK_UN), ==, 0);

        events_append(dir, "exit", "0123456789ab", NULL, NULL);
        g_assert_cmpint(size_of(dir, EVENTS_FILE), ==, -1);
        g_assert_cmpint(size_of(dir, EVENTS_OLD), >, written);
        events_append(dir, "start", "0123456789ab", "web", NULL);
        g_assert_cmpint(size_of(dir, EVENTS_FILE), <, 1024);
        g_assert_cmpint(size_of(dir, EVENTS_OLD), >, written);

        g_assert_cmpint(unlinkat(dir, EVENTS_FILE, 0), ==, 0);
        g_assert_cmpint(unlinkat(dir, EVENTS_OLD, 0), ==, 0);
        g_assert_cmpint(rmdir(path), ==, 0);
}

int main(int argc, char **argv) {
        setlocale(LC_ALL, "C.UTF-8");
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/boxes/args", test_args);
        g_test_add_func("/boxes/bad-args", test_bad_args);
        g_test_add_func("/boxes/names", test_names);
        g_test_add_func("/boxes/log-time", test_log_time);
        g_test_add_func("/boxes/log-entries", test_log_entries);
        g_test_add_func("/boxes/log-rotation", test_log_rotation);
        g_test_add_func("/boxes/log-unreadable", test_log_unreadable);
        g_test_add_func("/boxes/runtime-sweep", test_runtime_sweep);
        g_test_add_func("/boxes/runtime-end", test_runtime_end);
        g_test_add_func("/boxes/runtime-being-made", test_runtime_being_made);
        g_test_add_func("/boxes/runtime-race", test_runtime_race);
        g_test_add_func("/boxes/remove-race", test_remove_race);
        g_test_add_func("/boxes/remove-deep", test_remove_deep);
        g_test_add_func("/boxes/clock-set-back", test_clock_set_back);
        g_test_add_func("/boxes/events-rotate-once", test_events_rotate_once);
        return g_test_run();
}
