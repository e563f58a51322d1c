/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of accesses: what it writes, when, how often, and where it ends.
 */
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "fsoverlay/journal.h"
#include "fsoverlay/jsonbytes.h"

static int memory_file(int *ret_second) {
        int fd = memfd_create("journal", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        *ret_second = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        g_assert_cmpint(*ret_second, >=, 0);
        return fd;
}

static char *contents(int fd) {
        char *text;
        g_assert_cmpint(lseek(fd, 0, SEEK_SET), ==, 0);
        g_assert_true(fd_read_all(fd, 256u << 20, &text, NULL));
        return text;
}

static off_t size_of(int fd) {
        struct stat st;
        g_assert_cmpint(fstat(fd, &st), ==, 0);
        return st.st_size;
}

static void test_bytes(void) {
        static const struct {
                const char *bytes, *json;
        } rows[] = {
                { "", "\"\"" },
                { "/a b", "\"/a b\"" },
                { "\"\\", "\"\\\"\\\\\"" },
                { "\n\t\r\x1b\x7f\x01", "\"\\n\\t\\r\\u001b\\u007f\\u0001\"" },
                { "\xc3\xa4", "\"\\u00e4\"" },
                { "\xe2\x80\xae", "\"\\u202e\"" },
                { "\xf0\x9f\x98\x80", "\"\\ud83d\\ude00\"" },
                { "\xff", "\"\\udcff\"" },
                { "a\xc3", "\"a\\udcc3\"" },
                { "\xe2\x82", "\"\\udce2\\udc82\"" },
                { "\xed\xa0\x80", "\"\\udced\\udca0\\udc80\"" },     /* a surrogate in UTF-8 is none */
                { "\xc0\xaf", "\"\\udcc0\\udcaf\"" },                 /* nor is the long form of a slash */
                { "\xf4\x90\x80\x80", "\"\\udcf4\\udc90\\udc80\\udc80\"" }, /* nor what is beyond U+10FFFF */
        };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(GString) out = g_string_new(NULL);
                jsonbytes_append(out, rows[i].bytes);
                g_assert_cmpstr(out->str, ==, rows[i].json);
        }
}

static void test_lines(void) {
        _cleanup_close_ int second = -1;
        Journal *journal = journal_new(memory_file(&second));
        double before = (double) g_get_real_time() / 1e6;

        journal_event(journal, "read", "/usr/lib/x");
        journal_event(journal, "absent", "/usr/lib/x");
        journal_event(journal, "read", "/usr/lib/x");
        journal_event(journal, "write", "/a\nb\xff");
        journal_event(journal, "list", "/");
        journal_event(journal, "list", "/");
        journal_event(NULL, "list", "/");
        journal_free(journal);

        g_autofree char *text = contents(second);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        static const char *const expected[] = { "\"event\":\"read\",\"path\":\"/usr/lib/x\"}", "\"event\":\"absent\",\"path\":\"/usr/lib/x\"}",
                                                "\"event\":\"write\",\"path\":\"/a\\nb\\udcff\"}", "\"event\":\"list\",\"path\":\"/\"}" };
        g_assert_cmpuint(g_strv_length(lines), ==, G_N_ELEMENTS(expected) + 1);
        g_assert_cmpstr(lines[G_N_ELEMENTS(expected)], ==, "");
        for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
                g_assert_true(g_str_has_suffix(lines[i], expected[i]));
                if (i == 2)
                        continue; /* jansson takes no lone surrogate */
                json_t *object = json_loads(lines[i], JSON_REJECT_DUPLICATES, NULL);
                g_assert_nonnull(object);
                double time = json_real_value(json_object_get(object, "time"));
                g_assert_cmpfloat(time, >=, before - 0.01);
                g_assert_cmpfloat(time, <=, (double) g_get_real_time() / 1e6 + 0.01);
                json_decref(object);
        }
}

/* Nothing is written for each event, all within a second of activity, or when asked. What this process itself took a second for says nothing. */
static void test_buffer(void) {
        _cleanup_close_ int second = -1;
        Journal *journal = journal_new(memory_file(&second));

        gint64 begin = g_get_monotonic_time();
        journal_event(journal, "read", "/first"); /* the first time is long ago */
        off_t size = size_of(second);
        g_assert_cmpint(size, >, 0);
        journal_event(journal, "read", "/a");
        if (g_get_monotonic_time() - begin < G_USEC_PER_SEC)
                g_assert_cmpint(size_of(second), ==, size);
        begin = g_get_monotonic_time();
        journal_flush(journal);
        g_assert_cmpint(size_of(second), >, size);
        size = size_of(second);
        journal_event(journal, "read", "/b");
        if (g_get_monotonic_time() - begin < G_USEC_PER_SEC)
                g_assert_cmpint(size_of(second), ==, size);
        g_usleep(1100000);
        journal_event(journal, "read", "/c");
        g_autofree char *text = contents(second);
        g_assert_nonnull(strstr(text, "\"/b\""));
        g_assert_nonnull(strstr(text, "\"/c\""));
        journal_free(journal);
}

static void test_full_disk(void) {
        if (g_test_subprocess()) {
                int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
                g_assert_cmpint(fd, >=, 0);
                log_init("usbox-fs", false);
                Journal *journal = journal_new(fd);
                journal_event(journal, "read", "/a");
                journal_event(journal, "read", "/b");
                journal_flush(journal);
                journal_free(journal);
                return;
        }
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("usbox-fs: trace of files: No space left on device; it ends here\n");
}

typedef struct {
        Journal *journal;
        int shift;
} Worker;

#define N_THREADS 4
#define N_PATHS 20000

static gpointer work(gpointer data) {
        const Worker *w = data;
        for (int i = 0; i < N_PATHS; i++) {
                char path[64];
                g_snprintf(path, sizeof path, "/directory/of/some/length/%d", (i + w->shift) % N_PATHS);
                journal_event(w->journal, i % 2 ? "read" : "absent", path);
                journal_event(w->journal, i % 2 ? "absent" : "read", path);
        }
        return NULL;
}

static void test_threads(void) {
        _cleanup_close_ int second = -1;
        Journal *journal = journal_new(memory_file(&second));
        Worker workers[N_THREADS];
        GThread *threads[N_THREADS];

        for (int i = 0; i < N_THREADS; i++) {
                workers[i] = (Worker){ journal, i * 1001 };
                threads[i] = g_thread_new("worker", work, &workers[i]);
        }
        for (int i = 0; i < N_THREADS; i++)
                g_thread_join(threads[i]);
        journal_free(journal);

        g_autofree char *text = contents(second);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        g_assert_cmpuint(g_strv_length(lines), ==, 2 * N_PATHS + 1);
        for (guint i = 0; i < 2 * N_PATHS; i++) {
                g_assert_true(g_str_has_prefix(lines[i], "{\"time\":") && g_str_has_suffix(lines[i], "\"}"));
                g_assert_true(g_hash_table_add(seen, strchr(lines[i], ',')));
        }
}

static void test_overflow(void) {
        _cleanup_close_ int second = -1;
        Journal *journal = journal_new(memory_file(&second));
        char path[32];

        for (guint i = 0; i < JOURNAL_EVENTS_MAX + 5; i++) {
                g_snprintf(path, sizeof path, "/%u", i);
                journal_event(journal, "read", path);
                if (i == JOURNAL_EVENTS_MAX - 1)
                        journal_event(journal, "read", path); /* known: no overflow yet */
        }
        journal_free(journal);

        g_autofree char *text = contents(second);
        guint n = 0;
        char *last = text;
        for (char *p = text; *p; n++) {
                last = p;
                p = strchr(p, '\n') + 1;
        }
        g_assert_cmpuint(n, ==, JOURNAL_EVENTS_MAX + 1);
        g_assert_true(g_str_has_suffix(last, ",\"event\":\"overflow\"}\n"));
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs/journal/bytes", test_bytes);
        g_test_add_func("/fs/journal/lines", test_lines);
        g_test_add_func("/fs/journal/buffer", test_buffer);
        g_test_add_func("/fs/journal/full-disk", test_full_disk);
        g_test_add_func("/fs/journal/threads", test_threads);
        g_test_add_func("/fs/journal/overflow", test_overflow);
        return g_test_run();
}
