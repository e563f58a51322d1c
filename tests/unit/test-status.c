/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of status and jsontext: each line is read back.
 *
 * Role: test program. Privileges: none. Threads: one.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "jsontext.h"
#include "status.h"

static json_t *read_event(int fd) {
        char buf[65536];
        ssize_t n = read(fd, buf, sizeof buf - 1);
        g_assert_cmpint(n, >, 0);
        g_assert_cmpint(buf[n - 1], ==, '\n');
        g_assert_true(memchr(buf, '\n', (size_t) n) == buf + n - 1);
        json_error_t failure;
        json_t *event = json_loadb(buf, (size_t) n, JSON_REJECT_DUPLICATES, &failure);
        if (!event)
                g_error("%s in %s", failure.text, buf);
        return event;
}

static const char *text_of(const json_t *event, const char *key) {
        return json_string_value(json_object_get(event, key));
}

static json_int_t int_of(const json_t *event, const char *key) {
        json_t *value = json_object_get(event, key);
        g_assert_true(json_is_integer(value));
        return json_integer_value(value);
}

static void test_events(void) {
        int p[2];
        g_autoptr(Status) s = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(pipe2(p, 0), ==, 0);
        g_assert_true(status_open(p[1], NULL, &s, &error));
        g_assert_true(fcntl(p[1], F_GETFD) & FD_CLOEXEC);

        g_assert_true(status_started(s, "abc", 4711, NULL, &error));
        json_t *event = read_event(p[0]);
        g_assert_cmpstr(text_of(event, "event"), ==, "started");
        g_assert_cmpstr(text_of(event, "box"), ==, "abc");
        g_assert_cmpint(int_of(event, "pid"), ==, 4711);
        json_decref(event);

        struct rusage usage = { .ru_utime = { 2, 5 }, .ru_stime = { 0, 7 }, .ru_maxrss = 1234 };
        CgroupNumbers numbers = { .oom_kills = 2, .memory_max = 512, .memory_peak = G_MAXUINT64 };
        status_exited(s, "abc", &(StatusExit){ .status = 143, .signal = 15, .timeout = true, .limits = &numbers, .usage = &usage });
        event = read_event(p[0]);
        g_assert_cmpstr(text_of(event, "event"), ==, "exited");
        g_assert_cmpint(int_of(event, "status"), ==, 143);
        g_assert_cmpint(int_of(event, "signal"), ==, 15);
        g_assert_true(json_is_true(json_object_get(event, "timeout")));
        g_assert_true(json_is_true(json_object_get(event, "oom")));
        json_t *limits = json_object_get(event, "limits");
        g_assert_cmpint(int_of(limits, "oom_kills"), ==, 2);
        g_assert_cmpint(int_of(limits, "memory_max"), ==, 512);
        g_assert_null(json_object_get(limits, "memory_peak"));
        json_t *used = json_object_get(event, "usage");
        g_assert_cmpint(int_of(used, "user_us"), ==, 2000005);
        g_assert_cmpint(int_of(used, "system_us"), ==, 7);
        g_assert_cmpint(int_of(used, "max_rss_kib"), ==, 1234);
        json_decref(event);

        /* what there is not, or is not known, is null */
        status_exited(s, "abc", &(StatusExit){ .status = 0 });
        event = read_event(p[0]);
        g_assert_cmpuint(json_object_size(event), ==, 7);
        g_assert_true(json_is_null(json_object_get(event, "signal")) && json_is_null(json_object_get(event, "oom")) &&
                      json_is_null(json_object_get(event, "usage")));
        g_assert_true(json_is_false(json_object_get(event, "timeout")));
        json_decref(event);

        g_autoptr(GError) failure = NULL;
        GError **slot = &failure;
        err_set(slot, ENOENT, "mount \"x\"\n\x1b[31m");
        err_hint(slot, "do that");
        err_step(slot, "mount");
        status_failed(s, failure);
        event = read_event(p[0]);
        g_assert_cmpstr(text_of(event, "event"), ==, "failed");
        g_assert_cmpstr(text_of(event, "step"), ==, "mount");
        g_assert_cmpstr(text_of(event, "hint"), ==, "do that");
        g_assert_cmpstr(text_of(event, "message"), ==, failure->message);
        g_assert_cmpint(int_of(event, "errno"), ==, ENOENT);
        json_decref(event);
        close(p[0]);
        close(p[1]);
}

static void test_none(void) {
        Status *s = NULL;
        g_assert_true(status_open(-1, NULL, &s, NULL));
        g_assert_null(s);
        g_assert_true(status_started(s, "x", 1, NULL, NULL));
        status_exited(s, "x", &(StatusExit){ 0 });
        status_free(s);
}

static void test_wrong_fd(void) {
        int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int path_only = open("/dev/null", O_PATH | O_CLOEXEC);
        int wrong[] = { 0, 987, read_only, path_only };

        for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
                Status *s = NULL;
                g_autoptr(GError) error = NULL;
                g_assert_false(status_open(wrong[i], NULL, &s, &error));
                g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
                g_assert_null(s);
        }
        close(read_only);
        close(path_only);
}

/* A reader that has gone, and one that never reads, cost no more than a second and no run. */
static void test_bad_readers(void) {
        int p[2];
        g_autoptr(Status) s = NULL;
        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(status_open(p[1], NULL, &s, NULL));
        close(p[0]);
        g_assert_true(status_started(s, "abc", 1, NULL, NULL));
        status_exited(s, "abc", &(StatusExit){ 0 });
        close(p[1]);

        int q[2];
        g_autoptr(Status) stuck = NULL;
        g_assert_cmpint(pipe2(q, O_CLOEXEC), ==, 0);
        g_assert_true(status_open(q[1], NULL, &stuck, NULL));
        gint64 start = g_get_monotonic_time();
        for (unsigned i = 0; i < 5000; i++)
                g_assert_true(status_started(stuck, "abc", 1, NULL, NULL));
        g_assert_cmpint(g_get_monotonic_time() - start, <, 15 * G_USEC_PER_SEC);
        close(q[0]);
        close(q[1]);
}

static char *scratch_dir(void) {
        char *dir = g_dir_make_tmp("usbox-test-XXXXXX", NULL);
        g_assert_nonnull(dir);
        return dir;
}

static void test_pidfile(void) {
        g_autofree char *dir = scratch_dir();
        g_autofree char *path = g_build_filename(dir, "a pid\nfile", NULL);
        g_autofree char *content = NULL;
        Status *s = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_true(g_file_set_contents(path, "an old one, longer than a pid", -1, NULL));
        g_assert_true(status_open(-1, path, &s, &error));
        g_assert_true(status_started(s, "abc", 4711, NULL, &error));
        g_assert_no_error(error);
        g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
        g_assert_cmpstr(content, ==, "4711\n");
        status_free(s);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        g_assert_cmpint(g_rmdir(dir), ==, 0); /* and no temporary file stayed */
}

/* Somebody else's file of that name is not removed; nor is anything where nothing was written. */
static void test_pidfile_replaced(void) {
        g_autofree char *dir = scratch_dir();
        g_autofree char *path = g_build_filename(dir, "pid", NULL);
        Status *s = NULL;
        g_assert_true(status_open(-1, path, &s, NULL));
        status_free(s);

        g_assert_true(status_open(-1, path, &s, NULL));
        g_assert_true(status_started(s, "abc", 4711, NULL, NULL));
        g_assert_true(g_file_set_contents(path, "another run's", -1, NULL)); /* by rename: another inode */
        status_free(s);
        g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
        g_unlink(path);
        g_rmdir(dir);
}

static void test_pidfile_errors(void) {
        g_autofree char *dir = scratch_dir();
        g_autofree char *missing = g_build_filename(dir, "no", "pid", NULL);
        g_autofree char *is_dir = g_build_filename(dir, "sub", NULL);
        Status *s = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_false(status_open(-1, missing, &s, &error));
        g_assert_cmpint(err_get_errno(error), ==, ENOENT);
        g_clear_error(&error);
        g_assert_false(status_open(-1, "", &s, &error));
        g_assert_error(error, USBOX_ERROR, USBOX_ERROR_USAGE);
        g_clear_error(&error);

        g_assert_cmpint(g_mkdir(is_dir, 0700), ==, 0);
        g_assert_true(status_open(-1, is_dir, &s, NULL));
        g_assert_false(status_started(s, "abc", 1, NULL, &error));
        g_assert_cmpint(err_get_errno(error), ==, EISDIR);
        status_free(s);
        g_assert_cmpint(g_rmdir(is_dir), ==, 0);
        g_assert_cmpint(g_rmdir(dir), ==, 0);
}

/* An error's text may hold any bytes: the event is told all the same. */
static void test_broken_text(void) {
        int p[2];
        g_autoptr(Status) s = NULL;
        g_autoptr(GError) failure = NULL;
        GError **slot = &failure;

        g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
        g_assert_true(status_open(p[1], NULL, &s, NULL));
        err_set(slot, 0, "mount \xff\xc3");
        err_hint(slot, "not \xe2");
        status_failed(s, failure);
        json_t *event = read_event(p[0]);
        g_assert_cmpstr(text_of(event, "event"), ==, "failed");
        g_assert_cmpstr(text_of(event, "message"), ==, "mount \ufffd\ufffd");
        g_assert_cmpstr(text_of(event, "hint"), ==, "not \ufffd");
        json_decref(event);
        close(p[0]);
        close(p[1]);
}

/* Any bytes give a line that a parser takes and a terminal is not steered by; text comes back as it was. */
static void test_json_strings(void) {
        static const char *const texts[] = { "", "plain", "\"\\/\b\f\n\r\t\x01\x1f\x7f", "ä€😀", "\xff\xfe" "broken\xc3", "\xe2\x80\xae" "bidi",
                                             "\xc2\x9b" "31m", "\xef\xbf\xbe\xf0\x90\x8d\x88", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80" };

        for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
                json_t *object = json_object();
                json_object_set_new(object, "a", jsontext_string(texts[i]));
                g_autofree char *line = jsontext_line(object);
                for (const char *p = line; *p; p++)
                        g_assert_true(g_ascii_isprint(*p) || *p == '\x7f' || (*p == '\n' && p[1] == '\0'));
                json_t *back = json_loads(line, 0, NULL);
                g_assert_nonnull(back);
                g_autofree char *valid = g_utf8_make_valid(texts[i], -1);
                g_assert_cmpstr(text_of(back, "a"), ==, valid);
                json_decref(back);
        }
}

/* Keys stand in the order in which they were set, and nothing stands between. */
static void test_json_line(void) {
        static const char *const list[] = { "z", "a", NULL };
        json_t *object = json_object();

        json_object_set_new(object, "z", json_integer(G_MAXINT64));
        json_object_set_new(object, "list", jsontext_list(list));
        json_object_set_new(object, "none", jsontext_list(list + 2));
        json_object_set_new(object, "a", json_boolean(false));
        json_object_set_new(object, "m", json_integer(-1));
        g_autofree char *line = jsontext_line(object);
        g_assert_cmpstr(line, ==, "{\"z\":9223372036854775807,\"list\":[\"z\",\"a\"],\"none\":[],\"a\":false,\"m\":-1}\n");
}

int main(int argc, char **argv) {
        signal(SIGPIPE, SIG_IGN);
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/status/events", test_events);
        g_test_add_func("/status/none", test_none);
        g_test_add_func("/status/wrong-fd", test_wrong_fd);
        g_test_add_func("/status/bad-readers", test_bad_readers);
        g_test_add_func("/status/pidfile", test_pidfile);
        g_test_add_func("/status/pidfile-replaced", test_pidfile_replaced);
        g_test_add_func("/status/pidfile-errors", test_pidfile_errors);
        g_test_add_func("/status/broken-text", test_broken_text);
        g_test_add_func("/jsontext/strings", test_json_strings);
        g_test_add_func("/jsontext/line", test_json_line);
        return g_test_run();
}
