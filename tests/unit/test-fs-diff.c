/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-fs diff: trees are made from a list, and the lines that come out are compared as text.
 *
 * Whiteouts are devices 0:0, which any user may make since Linux 5.8.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/diff.h"

typedef struct {
        char *top;
        int fd;
} Trees;

static void trees_setup(Trees *t, gconstpointer data) {
        t->top = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        t->fd = open(t->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(t->fd, >=, 0);
        static const char *const dirs[] = { "l", "m", "u" };
        for (guint i = 0; i < G_N_ELEMENTS(dirs); i++)
                g_assert_cmpint(mkdirat(t->fd, dirs[i], 0755), ==, 0);
}

static void remove_tree(int dirfd, const char *name) {
        if (unlinkat(dirfd, name, 0) == 0)
                return;
        g_assert_cmpint(fchmodat(dirfd, name, 0700, 0), ==, 0);
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        g_assert_nonnull(dir);
        for (const char *child; (child = g_dir_read_name(dir));)
                remove_tree(fd, child);
        close(fd);
        g_assert_cmpint(unlinkat(dirfd, name, AT_REMOVEDIR), ==, 0);
}

static void trees_teardown(Trees *t, gconstpointer data) {
        close(t->fd);
        remove_tree(AT_FDCWD, t->top);
        g_free(t->top);
}

/* One entry: "path/" a directory, "path" a file with path's text... or with TEXT after "=", "path>target" a symlink, "path!" a whiteout,
 * "path|" a FIFO; a mode after "@" (octal). All have the same times. */
static void make(const Trees *t, const char *spec) {
        g_autofree char *path = g_strdup(spec);
        char *mode_text = strchr(path, '@'), *mark = strpbrk(path, "=>!|");
        mode_t mode = mode_text ? (mode_t) strtoul(mode_text + 1, NULL, 8) : 0;
        const struct timespec times[2] = { { 1000000000, 5 }, { 1000000000, 5 } };

        if (mode_text)
                *mode_text = '\0';
        char kind = mark ? *mark : path[strlen(path) - 1] == '/' ? '/' : '=';
        g_autofree char *name = mark ? g_strndup(path, (gsize) (mark - path)) : g_strdup(path);
        if (kind == '/')
                g_assert_cmpint(mkdirat(t->fd, name, 0755), ==, 0);
        else if (kind == '>')
                g_assert_cmpint(symlinkat(mark + 1, t->fd, name), ==, 0);
        else if (kind == '!')
                g_assert_cmpint(mknodat(t->fd, name, S_IFCHR, 0), ==, 0);
        else if (kind == '|')
                g_assert_cmpint(mkfifoat(t->fd, name, 0644), ==, 0);
        else {
                _cleanup_close_ int fd = openat(t->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
                g_assert_cmpint(fd, >=, 0);
                const char *text = mark ? mark + 1 : "text";
                g_assert_true(fd_write_all(fd, text, strlen(text)));
        }
        if (kind != '>' && kind != '!')
                g_assert_cmpint(fchmodat(t->fd, name, mode ? mode : kind == '/' ? 0755 : 0644, 0), ==, 0);
        g_assert_cmpint(utimensat(t->fd, name, times, AT_SYMLINK_NOFOLLOW), ==, 0);
}

#define make_all(t, ...) make_list(t, (const char *const[]){ __VA_ARGS__, NULL })

static void make_list(const Trees *t, const char *const *specs) {
        for (; *specs; specs++)
                make(t, *specs);
}

static void set_xattr(const Trees *t, const char *name, const char *attribute, const char *value) {
        g_autofree char *path = g_build_filename(t->top, name, NULL);
        g_assert_cmpint(lsetxattr(path, attribute, value, strlen(value), 0), ==, 0);
}

/* The output; false's error goes to *error. */
static char *diff(const Trees *t, bool *ret_ok, GError **error) {
        int fd = memfd_create("diff", MFD_CLOEXEC), copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        g_autofree char *list = g_strdup_printf("lowerdir=%s/m:%s/l,upperdir=%s/u", t->top, t->top, t->top);
        char *argv[] = { (char *) "diff", (char *) "-o", list, NULL }, *text;

        *ret_ok = diff_run(3, argv, fd, error);
        g_assert_cmpint(lseek(copy, 0, SEEK_SET), ==, 0);
        g_assert_true(fd_read_all(copy, 64u << 20, &text, NULL));
        close(fd);
        close(copy);
        return text;
}

static void expect(const Trees *t, const char *const *lines) {
        g_autoptr(GError) error = NULL;
        bool ok;
        g_autofree char *text = diff(t, &ok, &error), *joined = g_strjoinv("\n", (char **) lines);
        g_autofree char *expected = *joined ? g_strconcat(joined, "\n", NULL) : g_strdup("");

        g_assert_no_error(error);
        g_assert_true(ok);
        for (char *p = expected; *p; p++) /* for the reader's sake */
                if (*p == '\'')
                        *p = '"';
        g_assert_cmpstr(text, ==, expected);
}

#define expect_lines(t, ...) expect(t, (const char *const[]){ __VA_ARGS__, NULL })
#define expect_nothing(t) expect(t, (const char *const[]){ NULL })

#define DIR_ "'type':'dir','mode':'0755','size':0"
#define FILE_(n) "'type':'file','mode':'0644','size':" #n
#define LINK_(n) "'type':'symlink','mode':'0777','size':" #n

static void test_plain(Trees *t, gconstpointer data) {
        expect_nothing(t);
        make_all(t, "l/a", "l/b", "l/c=old", "l/d/", "l/d/x", "l/d/y", "l/e/", "l/e/z", "l/f>one", "l/g>one", "l/h", "l/same", "l/i/");
        make_all(t, "u/a!", "u/b=longer", "u/c=new", "u/d/", "u/d/y!", "u/d/new/", "u/d/new/deep", "u/e!", "u/f>two", "u/g>one", "u/h>file", "u/same",
                 "u/i/@0700", "u/gone!", "u/fifo|", "u/z", "u/d-");
        expect_lines(t, "{'path':'/a','change':'D','lower':{" FILE_(4) "}}", "{'path':'/b','change':'M'," FILE_(6) ",'lower':{" FILE_(4) "}}",
                     "{'path':'/c','change':'M'," FILE_(3) ",'lower':{" FILE_(3) "}}", "{'path':'/d/new','change':'A'," DIR_ "}",
                     "{'path':'/d/new/deep','change':'A'," FILE_(4) "}", "{'path':'/d/y','change':'D','lower':{" FILE_(4) "}}",
                     "{'path':'/d-','change':'A'," FILE_(4) "}", "{'path':'/e','change':'D','lower':{" DIR_ "}}",
                     "{'path':'/f','change':'M'," LINK_(3) ",'lower':{" LINK_(3) "}}", "{'path':'/fifo','change':'A','type':'fifo','mode':'0644','size':0}",
                     "{'path':'/h','change':'T'," LINK_(4) ",'lower':{" FILE_(4) "}}",
                     "{'path':'/i','change':'M','type':'dir','mode':'0700','size':0,'lower':{" DIR_ "}}", "{'path':'/z','change':'A'," FILE_(4) "}");
}

/* What differs though it looks alike, and the other way round. */
static void test_same(Trees *t, gconstpointer data) {
        make_all(t, "l/time", "l/bytes=abc", "l/mode", "l/attr", "l/ours", "l/dir/", "l/mode-dir/");
        make_all(t, "u/time", "u/bytes=abd", "u/mode@0600", "u/attr", "u/ours", "u/dir/", "u/mode-dir/");
        g_assert_cmpint(utimensat(t->fd, "u/time", NULL, 0), ==, 0);
        g_assert_cmpint(utimensat(t->fd, "u/dir", NULL, 0), ==, 0); /* of a directory that says nothing */
        set_xattr(t, "u/attr", "user.note", "x");
        set_xattr(t, "u/ours", "user.overlay.usbox.origin", "x");
        set_xattr(t, "u/dir", "user.fuseoverlayfs.opaque", "n");
        expect_lines(t, "{'path':'/attr','change':'M'," FILE_(4) ",'lower':{" FILE_(4) "}}",
                     "{'path':'/bytes','change':'M'," FILE_(3) ",'lower':{" FILE_(3) "}}",
                     "{'path':'/mode','change':'M','type':'file','mode':'0600','size':4,'lower':{" FILE_(4) "}}",
                     "{'path':'/time','change':'M'," FILE_(4) ",'lower':{" FILE_(4) "}}");
        set_xattr(t, "l/attr", "user.note", "y");
        set_xattr(t, "u/mode-dir", "user.note", "y");
        g_assert_cmpint(unlinkat(t->fd, "u/bytes", 0) + unlinkat(t->fd, "u/mode", 0) + unlinkat(t->fd, "u/time", 0), ==, 0);
        expect_lines(t, "{'path':'/attr','change':'M'," FILE_(4) ",'lower':{" FILE_(4) "}}", "{'path':'/mode-dir','change':'M'," DIR_ ",'lower':{" DIR_ "}}");
}

static void test_types(Trees *t, gconstpointer data) {
        make_all(t, "l/file-dir", "l/dir-file/", "l/dir-file/x", "l/dir-link/");
        make_all(t, "u/file-dir/", "u/file-dir/x", "u/dir-file", "u/dir-link>y");
        expect_lines(t, "{'path':'/dir-file','change':'T'," FILE_(4) ",'lower':{" DIR_ "}}",
                     "{'path':'/dir-link','change':'T'," LINK_(1) ",'lower':{" DIR_ "}}",
                     "{'path':'/file-dir','change':'T'," DIR_ ",'lower':{" FILE_(4) "}}", "{'path':'/file-dir/x','change':'A'," FILE_(4) "}");
}

/* The three forms of one thing. */
static void test_opaque(Trees *t, gconstpointer data) {
        static const char *const lines[] = { "{'path':'/d','change':'M'," DIR_ ",'lower':{" DIR_ "},'opaque':true}",
                                             "{'path':'/d/a','change':'D','lower':{" FILE_(4) "}}",
                                             "{'path':'/d/n','change':'A'," FILE_(4) "}",
                                             "{'path':'/d/s/q','change':'D','lower':{" FILE_(4) "}}",
                                             "{'path':'/d/t','change':'D','lower':{" DIR_ "}}",
                                             "{'path':'/new','change':'A'," DIR_ "}",
                                             NULL };
        make_all(t, "l/d/", "l/d/a", "l/d/b", "l/d/s/", "l/d/s/p", "l/d/s/q", "l/d/t/", "l/d/t/deep", "m/d/", "m/d/a!");
        make_all(t, "l/d/twice", "m/d/twice!", "u/d/", "u/d/b", "u/d/n", "u/d/s/", "u/d/s/p", "u/new/");
        g_assert_cmpint(unlinkat(t->fd, "m/d/a", 0), ==, 0);
        set_xattr(t, "u/d", "user.overlay.opaque", "y");
        set_xattr(t, "u/new", "user.overlay.opaque", "y");
        expect(t, lines);
        set_xattr(t, "u/d", "user.overlay.opaque", "n");
        set_xattr(t, "u/d", "user.fuseoverlayfs.opaque", "y");
        g_autofree char *path = g_build_filename(t->top, "u/d", NULL);
        g_assert_cmpint(removexattr(path, "user.overlay.opaque"), ==, 0);
        expect(t, lines);
        g_assert_cmpint(removexattr(path, "user.fuseoverlayfs.opaque"), ==, 0);
        make(t, "u/d/.wh..wh..opq");
        expect(t, lines);
}

static void test_whiteout_forms(Trees *t, gconstpointer data) {
        make_all(t, "l/a", "l/b", "l/c", "l/x/", "l/x/d", "l/x/e", "l/f");
        make_all(t, "u/.wh.a", "u/.wh..wh.plnk", "u/.wh.none", "u/.wh.f", "u/f=back", "u/x/", "u/x/d=", "u/x/e=");
        set_xattr(t, "u/x", "user.overlay.opaque", "x");
        set_xattr(t, "u/x/d", "user.overlay.whiteout", "");
        expect_lines(t, "{'path':'/a','change':'D','lower':{" FILE_(4) "}}", "{'path':'/f','change':'M'," FILE_(4) ",'lower':{" FILE_(4) "}}",
                     "{'path':'/x/d','change':'D','lower':{" FILE_(4) "}}", "{'path':'/x/e','change':'M'," FILE_(0) ",'lower':{" FILE_(4) "}}");
        /* only where the directory says so */
        set_xattr(t, "u/x", "user.overlay.opaque", "n");
        g_assert_cmpint(unlinkat(t->fd, "u/x/e", 0) + unlinkat(t->fd, "u/f", 0), ==, 0);
        expect_lines(t, "{'path':'/a','change':'D','lower':{" FILE_(4) "}}", "{'path':'/f','change':'D','lower':{" FILE_(4) "}}",
                     "{'path':'/x/d','change':'M'," FILE_(0) ",'lower':{" FILE_(4) "}}");
}

static void test_redirect(Trees *t, gconstpointer data) {
        make_all(t, "l/old/", "l/old/a", "l/old/b", "l/old/s/", "l/old/s/c", "l/p/", "l/p/q/", "l/p/q/x", "l/taken/", "l/taken/t");
        make_all(t, "u/old!", "u/new/", "u/new/a!", "u/new/b=changed", "u/new/s/", "u/new/s/c!", "u/new/moved/", "u/new/moved/x!");
        make_all(t, "u/p/", "u/p/q!", "u/p/r/", "u/p/r/x!", "u/taken/", "u/taken/a!");
        set_xattr(t, "u/new", "user.overlay.redirect", "/old");
        set_xattr(t, "u/new/moved", "user.overlay.redirect", "/p/q");
        set_xattr(t, "u/p/r", "user.overlay.redirect", "q");
        set_xattr(t, "u/taken", "user.overlay.redirect", "/old");
        expect_lines(t, "{'path':'/new','change':'A'," DIR_ ",'redirect':'/old'}", "{'path':'/new/a','change':'D','lower':{" FILE_(4) "}}",
                     "{'path':'/new/b','change':'M'," FILE_(7) ",'lower':{" FILE_(4) "}}", "{'path':'/new/moved','change':'A'," DIR_ ",'redirect':'/p/q'}",
                     "{'path':'/new/moved/x','change':'D','lower':{" FILE_(4) "}}", "{'path':'/new/s/c','change':'D','lower':{" FILE_(4) "}}",
                     "{'path':'/old','change':'D','lower':{" DIR_ "}}", "{'path':'/p/q','change':'D','lower':{" DIR_ "}}",
                     "{'path':'/p/r','change':'A'," DIR_ ",'redirect':'/p/q'}", "{'path':'/p/r/x','change':'D','lower':{" FILE_(4) "}}",
                     "{'path':'/taken','change':'M'," DIR_ ",'lower':{" DIR_ "},'redirect':'/old'}", "{'path':'/taken/a','change':'D','lower':{" FILE_(4) "}}");
}

/* A redirect that would lead out is none, and is said. */
static void test_bad_redirect(Trees *t, gconstpointer data) {
        static const char *const values[] = { "/../../etc", "..", "a/b", "", "/", "/a//b", "/./a" };

        make_all(t, "u/d/", "u/d/passwd!");
        for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
                g_autoptr(GError) error = NULL;
                bool ok;
                set_xattr(t, "u/d", "user.overlay.redirect", values[i]);
                g_autofree char *text = diff(t, &ok, &error);
                g_assert_false(ok);
                g_assert_cmpstr(text, ==, "{\"path\":\"/d\",\"change\":\"A\",\"type\":\"dir\",\"mode\":\"0755\",\"size\":0}\n");
        }
}

/* Several lower layers are one: whiteouts, opaque and moved directories among them. */
static void test_lowers(Trees *t, gconstpointer data) {
        make_all(t, "l/a", "l/b/", "l/b/x", "l/c", "l/from/", "l/from/f", "l/d/", "l/d/g");
        make_all(t, "m/a!", "m/b/", "m/b/y", "m/.wh.c", "m/to/", "m/d/");
        set_xattr(t, "m/b", "user.overlay.opaque", "y");
        set_xattr(t, "m/to", "user.overlay.redirect", "from");
        make_all(t, "u/a", "u/b/", "u/b/x", "u/b/y", "u/c", "u/to/", "u/to/f!", "u/d/", "u/d/g!");
        expect_lines(t, "{'path':'/a','change':'A'," FILE_(4) "}", "{'path':'/b/x','change':'A'," FILE_(4) "}", "{'path':'/c','change':'A'," FILE_(4) "}",
                     "{'path':'/d/g','change':'D','lower':{" FILE_(4) "}}", "{'path':'/to/f','change':'D','lower':{" FILE_(4) "}}");
}

static void test_override(Trees *t, gconstpointer data) {
        make_all(t, "l/a@0755", "l/b", "u/a@0600", "u/b@0600", "u/c", "u/d");
        set_xattr(t, "u/a", "user.containers.override_stat", "0:0:0755");
        set_xattr(t, "u/b", "user.containers.override_stat", "0:0:0644:pipe");
        set_xattr(t, "u/c", "user.containers.override_stat", "0:0:04711:file");
        set_xattr(t, "u/d", "user.containers.override_stat", "0:0");
        expect_lines(t, "{'path':'/b','change':'T','type':'fifo','mode':'0644','size':0,'lower':{" FILE_(4) "}}",
                     "{'path':'/c','change':'A','type':'file','mode':'4711','size':4}", "{'path':'/d','change':'A'," FILE_(4) "}");
}

static void test_names(Trees *t, gconstpointer data) {
        g_autofree char *longest = g_strnfill(255, 'n'), *spec = g_strconcat("u/", longest, NULL);
        make_all(t, "u/\n", "u/\"\\", "u/\xff\xc3", "u/\xc3\xa4", "u/-", "u/ ");
        make(t, spec);
        g_autofree char *last = g_strdup_printf("{'path':'/%s','change':'A'," FILE_(4) "}", longest);
        expect_lines(t, "{'path':'/\\n','change':'A'," FILE_(4) "}", "{'path':'/ ','change':'A'," FILE_(4) "}",
                     "{'path':'/\\\"\\\\','change':'A'," FILE_(4) "}", "{'path':'/-','change':'A'," FILE_(4) "}", last,
                     "{'path':'/\\u00e4','change':'A'," FILE_(4) "}", "{'path':'/\\udcff\\udcc3','change':'A'," FILE_(4) "}");
}

/* Links of the box lead nowhere: neither as a directory nor as a file to compare. */
static void test_symlinks(Trees *t, gconstpointer data) {
        make_all(t, "l/d/", "l/d/passwd", "l/f", "u/d>/etc", "u/f>/etc/passwd");
        expect_lines(t, "{'path':'/d','change':'T'," LINK_(4) ",'lower':{" DIR_ "}}", "{'path':'/f','change':'T'," LINK_(11) ",'lower':{" FILE_(4) "}}");
}

#define MANY 100000

static void test_many(Trees *t, gconstpointer data) {
        make_all(t, "u/d/", "l/d/");
        _cleanup_close_ int u = openat(t->fd, "u/d", O_RDONLY | O_DIRECTORY | O_CLOEXEC), l = openat(t->fd, "l/d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_cmpint(mknodat(u, "0", S_IFCHR, 0), ==, 0);
        for (int i = 0; i < MANY; i++) {
                char name[16];
                g_snprintf(name, sizeof name, "%d", i);
                if (i > 0)
                        g_assert_cmpint(linkat(u, "0", u, name, 0), ==, 0);
                if (i % 50 == 0)
                        g_assert_cmpint(mkdirat(l, name, 0700), ==, 0);
                if (i % 50000 == 49999) { /* a file system has a limit of links */
                        g_assert_cmpint(unlinkat(u, "0", 0), ==, 0);
                        g_assert_cmpint(mknodat(u, "0", S_IFCHR, 0), ==, 0);
                }
        }
        g_autoptr(GError) error = NULL;
        bool ok;
        clock_t start = clock(); /* of the processor: what others do at the time does not count */
        g_autofree char *text = diff(t, &ok, &error);
        g_assert_cmpint((clock() - start) / CLOCKS_PER_SEC, <, 20);
        g_assert_no_error(error);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_assert_cmpuint(g_strv_length(lines), ==, MANY / 50 + 1);
        for (guint i = 0; i < MANY / 50; i++) {
                g_assert_true(g_str_has_suffix(lines[i], "\"change\":\"D\",\"lower\":{\"type\":\"dir\",\"mode\":\"0700\",\"size\":0}}"));
                g_assert_true(i == 0 || strcmp(lines[i - 1], lines[i]) < 0);
        }
}

/* As deep as a path can be, and beyond: all that has a path comes out, the rest is an error. */
static void test_deep(Trees *t, gconstpointer data) {
        int fd = openat(t->fd, "u", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < 2100; i++) {
                g_assert_cmpint(mkdirat(fd, "d", 0755), ==, 0);
                int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                close(fd);
                fd = next;
        }
        if (g_test_subprocess()) {
                g_autoptr(GError) error = NULL;
                bool ok;
                g_autofree char *text = diff(t, &ok, &error);
                g_assert_false(ok);
                guint n = 0;
                for (const char *p = text; (p = strchr(p, '\n')); p++)
                        n++;
                g_assert_cmpuint(n, ==, 2048);
                g_printerr("%s\n", error->message);
        } else {
                g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
                g_test_trap_assert_passed();
                g_test_trap_assert_stderr("*: diff: */d/d*: File name too long\nthe upper could not be read in full, 1 times\n");
        }
        for (int i = 0; i < 2100; i++) {
                int above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                close(fd);
                fd = above;
                g_assert_cmpint(unlinkat(fd, "d", AT_REMOVEDIR), ==, 0);
        }
        close(fd);
}

static void test_refused(Trees *t, gconstpointer data) {
        g_autofree char *real = g_strdup_printf("lowerdir=%s/l,upperdir=%s/u", t->top, t->top);
        const struct {
                const char *options, *more, *message;
        } rows[] = {
                { "lowerdir=/usr", NULL, "-o upperdir=* is missing" },
                { "upperdir=/usr", NULL, "-o lowerdir=* is missing" },
                { "lowerdir=/usr,upperdir=/no/such", NULL, "upper directory /no/such: No such file*" },
                { "lowerdir=/usr:/no/such,upperdir=/usr", NULL, "lower directory /no/such: No such file*" },
                { "lowerdir=/usr,upperdri=/usr", NULL, "-o upperdri: unknown option" },
                { real, "/tmp", "takes -o lowerdir=*" },
        };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                char *argv[] = { (char *) "diff", (char *) "-o", (char *) rows[i].options, (char *) rows[i].more, NULL };
                g_autoptr(GError) error = NULL;
                g_assert_false(diff_run(rows[i].more ? 4 : 3, argv, -1, &error));
                if (!g_pattern_match_simple(rows[i].message, error->message))
                        g_error("%s: %s", rows[i].options, error->message);
        }
        /* What cannot be written is an error, too. */
        make(t, "u/a");
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        char *argv[] = { (char *) "diff", (char *) "-o", real, NULL };
        g_autoptr(GError) error = NULL;
        g_assert_false(diff_run(3, argv, full, &error));
        g_assert_cmpint(err_get_errno(error), ==, ENOSPC);
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                void (*f)(Trees *, gconstpointer);
        } tests[] = {
                { "plain", test_plain },       { "same", test_same },         { "types", test_types },
                { "opaque", test_opaque },     { "whiteouts", test_whiteout_forms }, { "redirect", test_redirect },
                { "bad-redirect", test_bad_redirect }, { "lowers", test_lowers }, { "override", test_override },
                { "names", test_names },       { "symlinks", test_symlinks }, { "many", test_many },
                { "deep", test_deep },         { "refused", test_refused },
        };
        g_test_init(&argc, &argv, NULL);
        for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
                g_autofree char *path = g_strconcat("/fs/diff/", tests[i].name, NULL);
                g_test_add(path, Trees, NULL, trees_setup, tests[i].f, trees_teardown);
        }
        return g_test_run();
}
