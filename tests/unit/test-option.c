/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The option table, the parser, and the readers of values.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "draft.h"

static void test_table(void) {
        g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
        bool shorts[256] = { false };
        int group = -1;

        for (const Option *const *o = option_all(); *o; o++) {
                g_assert_true(g_hash_table_add(names, (gpointer) (*o)->name));
                if ((*o)->alias)
                        g_assert_true(g_hash_table_add(names, (gpointer) (*o)->alias));
                if ((*o)->short_name) {
                        g_assert_false(shorts[(unsigned char) (*o)->short_name]);
                        shorts[(unsigned char) (*o)->short_name] = true;
                }
                g_assert_cmpint((int) (*o)->group, >=, group);
                group = (int) (*o)->group;
                g_assert_nonnull((*o)->apply);
                g_assert_cmpuint(strlen((*o)->help), >, 8);
                g_assert_false(g_str_has_suffix((*o)->help, "."));
                g_assert_true(option_find((*o)->name) == *o);
                /* Two values are two words in the help, so that it shows both. */
                if ((*o)->flags & OPTION_TWO)
                        g_assert_nonnull(strchr((*o)->arg, ' '));
                if ((*o)->complete == COMPLETE_CHOICES)
                        g_assert_nonnull((*o)->choices);
        }
        g_assert_null(option_find("no-such-option"));
        g_assert_null(option_find_short('\0'));
}

/* Where the table lists choices, each is taken and nothing else is. */
static void test_choices(void) {
        unsigned n = 0;

        for (const Option *const *o = option_all(); *o; o++) {
                if ((*o)->complete != COMPLETE_CHOICES)
                        continue;
                g_auto(GStrv) choices = g_strsplit((*o)->choices, "|", -1);
                g_autofree char *option = g_strdup_printf("--%s", (*o)->name);
                for (char **choice = choices; *choice; choice++) {
                        g_autoptr(Spec) draft = draft_of(WORDS(option, *choice, "cmd"));
                        n++;
                }
                assert_refused(WORDS(option, "bogus", "cmd"), option, NULL);
                assert_refused(WORDS(option, "", "cmd"), "is empty", NULL);
        }
        g_assert_cmpuint(n, >, 15);
}

static void test_words(void) {
        static const struct {
                const char *words[8];
                int rest;
        } rows[] = {
                { { "cmd", "--rm" }, 0 },
                { { "--rm", "cmd", "--bogus" }, 1 },
                { { "--", "--rm" }, 1 },
                { { "--rm", "--", "cmd" }, 2 },
                { { "--rm", "-" }, 1 },
                { { "--network", "none", "cmd" }, 2 },
                { { "--network=none", "cmd" }, 1 },
                { { "-it", "cmd" }, 1 },
                { { "-itunull", NULL }, -1 },
                { { "-itu0", "cmd" }, 1 },
                { { "-itu", "0", "cmd" }, 2 },
                { { "-u=0", "cmd" }, 1 },
                { { "--bind", "/a", "/b", "cmd" }, 3 },
                { { "--oom-score-adj", "5", "cmd" }, 2 },
                { { "--rm=false", "cmd" }, 1 },
                { { "--rm" }, 1 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(Spec) draft = draft_new();
                g_autoptr(GError) error = NULL;
                g_assert_cmpint(draft_parse(draft, rows[i].words, &error), ==, rows[i].rest);
        }

        g_autoptr(Spec) draft = draft_of(WORDS("-itv/a:/b", "-v", "/c:/d", "-v=/e:/f", "cmd"));
        g_assert_true(draft->box.tty);
        g_assert_cmpuint(draft->mount.ops->len, ==, 3);
        g_assert_cmpstr(((MountOp *) draft->mount.ops->pdata[2])->src, ==, "/e");
}

static void test_bad_words(void) {
        assert_refused(WORDS("--netwrok", "none", "cmd"), "unknown option '--netwrok'", "--network?");
        assert_refused(WORDS("--hom=all", "cmd"), "unknown option '--hom'", "--home");
        assert_refused(WORDS("--zzgpuzz", "all", "cmd"), "unknown option '--zzgpuzz'", "usbox help run");
        assert_refused(WORDS("--disk", "0", "cmd"), "--disk: a copy of no bytes", "--read-only");
        assert_refused(WORDS("--disk", "1X", "cmd"), "--disk: '1X' is not a size", NULL);
        assert_refused(WORDS("--disk", "-1", "cmd"), "--disk: '-1' is not a size", NULL);
        assert_refused(WORDS("--disk", "1e3", "cmd"), "--disk: '1e3' is not a size", NULL);
        assert_refused(WORDS("--gpsu", "x", "cmd"), "unknown option", NULL);
        assert_refused(WORDS("--unshare-net", "cmd"), "unknown option '--unshare-net'", "--network none");
        assert_refused(WORDS("--shm-size=1G", "cmd"), "unknown option '--shm-size'", "--tmpfs /dev/shm:size=SIZE");
        assert_refused(WORDS("-Z", "cmd"), "unknown option '-Z'", NULL);
        assert_refused(WORDS("-iZt", "cmd"), "unknown option '-Z'", NULL);
        assert_refused(WORDS("--bad\n\033[31m", "cmd"), "unknown option '--bad\\n\\x1b[31m'", NULL);
        assert_refused(WORDS("-\303\244", "cmd"), "unknown option '-\303\244'", NULL);
        assert_refused(WORDS("--network"), "--network needs a value", NULL);
        assert_refused(WORDS("--network", "--", "cmd"), "--network needs a value", NULL);
        assert_refused(WORDS("-v"), "-v needs a value", NULL);
        assert_refused(WORDS("--bind", "/a"), "--bind needs two values: --bind SRC DST", NULL);
        assert_refused(WORDS("--bind=/a", "/b", "cmd"), "two values", NULL);
        assert_refused(WORDS("--network=", "cmd"), "--network: the value is empty", NULL);
        assert_refused(WORDS("--symlink", "", "/l", "cmd"), "--symlink: the value is empty", NULL);
        assert_refused(WORDS("--rm=maybe", "cmd"), "--rm: 'maybe' is not true or false", NULL);
        assert_refused(WORDS("--rm=json", "cmd"), "--rm: 'json'", NULL);
        assert_refused(WORDS("--overlay", "fsue", "cmd"), "not one of fuse, kernel, none", "did you mean fuse?");
        assert_refused(WORDS("--hide", "a/../*", "cmd"), "--hide: \"a/../*\" has \".\" or \"..\" in it", NULL);
        assert_refused(WORDS("--hide", "*.x/", "cmd"), "--hide: \"*.x/\" has an empty name in it", NULL);
        assert_refused(WORDS("--network", "usre", "cmd"), "not one of user, none, host", "did you mean user?");
}

static void test_help_and_switches(void) {
        g_autoptr(Spec) help = draft_of(WORDS("--help", "--bogus"));
        g_assert_true(help->box.help);
        g_autoptr(Spec) late = draft_of(WORDS("--overlay", "fuse", "-h"));
        g_assert_true(late->box.help);
        g_autoptr(Spec) theirs = draft_of(WORDS("ls", "--help"));
        g_assert_false(theirs->box.help);

        g_autoptr(Spec) json = draft_of(WORDS("--dry-run=json", "cmd"));
        g_assert_true(json->box.dry_run && json->box.dry_run_json);
        g_autoptr(Spec) text = draft_of(WORDS("--dry-run=json", "--dry-run", "cmd"));
        g_assert_true(text->box.dry_run && !text->box.dry_run_json);
        g_autoptr(Spec) off = draft_of(WORDS("--no-ipv6", "--no-ipv6=false", "--rm", "--rm=no", "cmd"));
        g_assert_true(off->net.ipv6 && !off->box.rm);
}

static void test_numbers(void) {
        static const char *const bad[] = { "",   "-1",  "+1", " 1",         "1 ",         "0x10",
                                           "1a", "1.0", "١",  "4294967295", "4294967296", "18446744073709551616",
                                           NULL };
        guint32 id = 7;
        guint64 n;
        gint64 i;

        for (const char *const *text = bad; *text; text++) {
                g_autoptr(GError) error = NULL;
                g_assert_false(option_id("--user", *text, &id, &error));
                assert_usage(error, "--user: '", NULL);
                g_assert_cmpuint(id, ==, 7);
        }
        g_assert_true(option_id("--user", "4294967294", &id, NULL));
        g_assert_cmpuint(id, ==, 4294967294u);
        /* Leading zeros are digits like others, and not octal. */
        g_assert_true(option_id("--user", "0010", &id, NULL));
        g_assert_cmpuint(id, ==, 10);

        g_assert_true(option_digits("18446744073709551615", G_MAXUINT64, &n));
        g_assert_cmpuint(n, ==, G_MAXUINT64);
        g_assert_false(option_digits("18446744073709551616", G_MAXUINT64, &n));
        g_assert_false(option_digits("99999999999999999999999", G_MAXUINT64, &n));
        g_assert_true(option_i64("x", "-5", -5, 5, &i, NULL));
        g_assert_cmpint(i, ==, -5);
        g_assert_true(option_i64("x", "+5", -5, 5, &i, NULL));
        g_assert_false(option_i64("x", "-6", -5, 5, &i, NULL));
        g_assert_false(option_i64("x", "--5", -5, 5, &i, NULL));
        g_assert_false(option_i64("x", "-", -5, 5, &i, NULL));
}

static void test_durations(void) {
        static const struct {
                const char *text;
                guint64 ns;
        } good[] = {
                { "0", 0 },
                { "90", 90 * 1000000000ULL },
                { "1.5", 1500000000ULL },
                { "1.5s", 1500000000ULL },
                { "250ms", 250000000ULL },
                { "2m", 120 * 1000000000ULL },
                { "1h30m", 5400 * 1000000000ULL },
                { "1h2m3s4ms", 3723004000000ULL },
                { "1d", 86400 * 1000000000ULL },
        };
        static const char *const bad[] = { "",    "s",   "-1", "1x",   "1h30",         "1e9",   "inf",
                                           "nan", "1 s", ".",  "1..5", "99999999999d", "1h-1m", NULL };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                guint64 ns = 1;
                g_assert_true(option_duration("--timeout", good[i].text, &ns, NULL));
                g_assert_cmpuint(ns, ==, good[i].ns);
        }
        for (const char *const *text = bad; *text; text++) {
                g_autoptr(GError) error = NULL;
                guint64 ns;
                if (option_duration("--timeout", *text, &ns, &error))
                        g_error("taken as a time: %s", *text);
                assert_usage(error, "--timeout: '", NULL);
        }
}

static void test_sizes(void) {
        static const struct {
                const char *text;
                guint64 bytes;
        } good[] = { { "0", 0 },          { "65536", 65536 },     { "1k", 1024 },   { "512M", 512ULL << 20 },
                     { "1.5G", 3ULL << 29 }, { "1GiB", 1ULL << 30 }, { "2kb", 2048 }, { "7B", 7 } };
        static const char *const bad[] = { "", "M", "-1", "1X", "1Mi x", "1e3", "99999999P", "0x10", NULL };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                guint64 bytes = 1;
                g_assert_true(option_size("x", good[i].text, &bytes, NULL));
                g_assert_cmpuint(bytes, ==, good[i].bytes);
        }
        for (const char *const *text = bad; *text; text++) {
                guint64 bytes;
                g_assert_false(option_size("x", *text, &bytes, NULL));
        }
}

static void test_signals(void) {
        static const struct {
                const char *text;
                int sig;
        } good[] = { { "TERM", SIGTERM }, { "SIGTERM", SIGTERM }, { "15", 15 }, { "USR1", SIGUSR1 } };
        static const char *const bad[] = { "0", "65", "-9", "TERMINATE", "", "SIGSIGTERM", "term ", NULL };
        int sig;

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                g_assert_true(option_signal("x", good[i].text, &sig, NULL));
                g_assert_cmpint(sig, ==, good[i].sig);
        }
        g_assert_true(option_signal("x", "RTMIN+1", &sig, NULL));
        g_assert_cmpint(sig, ==, SIGRTMIN + 1);
        for (const char *const *text = bad; *text; text++)
                g_assert_false(option_signal("x", *text, &sig, NULL));
}

static void test_paths(void) {
        static const struct {
                const char *from, *to;
        } rows[] = {
                { "/", "/" },         { "//a///b/", "/a/b" },      { "/a/./b", "/a/b" },  { "/a/../b", "/b" },
                { "/../..", "/" },    { "/../../etc", "/etc" },    { "/a/b/../../..", "/" }, { "/a/...", "/a/..." },
                { "/a/..b", "/a/..b" }, { "/a b\n/c", "/a b\n/c" },
        };
        g_autoptr(Spec) draft = draft_new();

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *path = option_normal_path(rows[i].from);
                g_assert_cmpstr(path, ==, rows[i].to);
        }
        g_autofree char *home = option_host_path(draft, "~/x"), *tilde = option_host_path(draft, "~"),
                        *relative = option_host_path(draft, "../x"), *other = option_host_path(draft, "~bob/x"),
                        *absolute = option_host_path(draft, "/a/../x");
        g_assert_cmpstr(home, ==, "/home/ann/x");
        g_assert_cmpstr(tilde, ==, "/home/ann");
        g_assert_cmpstr(relative, ==, "/home/ann/project/../x");
        g_assert_cmpstr(other, ==, "/home/ann/project/~bob/x");
        g_assert_cmpstr(absolute, ==, "/a/../x");
}

static void test_descriptors(void) {
        int pipe_fds[2], fd = -1;
        g_assert_cmpint(pipe(pipe_fds), ==, 0); /* not close-on-exec: as a caller's are */
        g_autofree char *read_end = g_strdup_printf("%d", pipe_fds[0]), *write_end = g_strdup_printf("%d", pipe_fds[1]);

        g_assert_true(option_fd("x", read_end, false, &fd, NULL));
        g_assert_cmpint(fd, ==, pipe_fds[0]);
        g_assert_false(option_fd("x", read_end, true, &fd, NULL));
        g_assert_true(option_fd("x", write_end, true, &fd, NULL));
        g_assert_false(option_fd("x", write_end, false, &fd, NULL));
        g_assert_false(option_fd("x", "-1", true, &fd, NULL));
        g_assert_false(option_fd("x", "99999999999", true, &fd, NULL));

        g_assert_cmpint(fcntl(pipe_fds[0], F_SETFD, FD_CLOEXEC), ==, 0);
        g_autoptr(GError) error = NULL;
        g_assert_false(option_fd("--status-fd", read_end, false, &fd, &error));
        assert_usage(error, "is not open", NULL);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        g_assert_false(option_fd("x", write_end, true, &fd, NULL));
}

static void test_nearest(void) {
        static const char *const names[] = { "network", "none", "publish", "read-only", NULL };

        g_assert_cmpstr(option_nearest("netwrok", names), ==, "network");
        g_assert_cmpstr(option_nearest("readonly", names), ==, "read-only");
        g_assert_cmpstr(option_nearest("pub", names), ==, "publish");
        g_assert_null(option_nearest("memory", names));
        g_assert_null(option_nearest("x", names));
        g_autofree char *long_name = g_strnfill(1000, 'a');
        g_assert_null(option_nearest(long_name, NULL));
        g_assert_cmpstr(option_nearest("ulimits", NULL), ==, "ulimit");
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/option/table", test_table);
        g_test_add_func("/option/choices", test_choices);
        g_test_add_func("/option/words", test_words);
        g_test_add_func("/option/bad-words", test_bad_words);
        g_test_add_func("/option/help-and-switches", test_help_and_switches);
        g_test_add_func("/option/numbers", test_numbers);
        g_test_add_func("/option/durations", test_durations);
        g_test_add_func("/option/sizes", test_sizes);
        g_test_add_func("/option/signals", test_signals);
        g_test_add_func("/option/paths", test_paths);
        g_test_add_func("/option/descriptors", test_descriptors);
        g_test_add_func("/option/nearest", test_nearest);
        return g_test_run();
}
