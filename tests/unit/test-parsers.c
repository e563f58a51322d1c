/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of mountinfo and account: text that others have a hand in.
 *
 * Role: test program. Privileges: none. Threads: one.
 */
#include <glib/gstdio.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "account.h"
#include "mountinfo.h"

/* ---- mountinfo ---- */

/* The points of text, joined by '|'. */
static char *points_of(const char *text) {
        g_autoptr(GPtrArray) points = mountinfo_points(text);
        g_ptr_array_add(points, NULL);
        return g_strjoinv("|", (char **) points->pdata);
}

static void test_points(void) {
        static const char *const rows[][2] = {
                { "", "" },
                { "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n28 1 8:1 / / rw - ext4 /dev/root rw\n", "/sys|/" },
                { "28 1 8:1 / /no/newline rw - ext4 x rw", "/no/newline" },
                /* the root of the mount has a point's look, the source too */
                { "1 2 0:3 /sub\\040dir /mnt rw - btrfs /dev/x rw", "/mnt" },
                { "1 2 0:3 / /a\\040b\\011c\\012d\\134e rw - t t rw", "/a b\tc\nd\\e" },
                { "1 2 0:3 / /\\303\\244 rw - t t rw", "/ä" },
                { "1 2 0:3 / /\xff\xfe rw - t t rw", "/\xff\xfe" },
                /* what only looks like an escape */
                { "1 2 0:3 / /a\\04 rw", "/a\\04" },
                { "1 2 0:3 / /a\\ rw", "/a\\" },
                { "1 2 0:3 / /\\x41\\8888\\ rw", "/\\x41\\8888\\" },
                { "1 2 0:3 / /\\400\\000x\\080\\008 rw", "/\\400\\000x\\080\\008" },
                { "1 2 0:3 / /\\134040 rw", "/\\040" },
                { "1 2 0:3 / /\\\\040 rw", "/\\ " },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *points = points_of(rows[i][0]);
                g_assert_cmpstr(points, ==, rows[i][1]);
        }
}

/* Lines that are none are passed over, and take none of their neighbours with them. */
static void test_hostile_lines(void) {
        static const char *const lines[] = {
                "\n", " \n", "    \n", "1 2 3 4\n", "1 2 0:3 / \n", "1 2 0:3 / /x\n", "1 2 0:3 / relative rw\n", "1 2 0:3 /  /x rw\n",
                "/x /x /x /x\n", "\\012\\012\\012\n", "1 2 0:3 / \\057x rw\n",
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
                g_autofree char *text = g_strconcat("1 2 0:3 / /one rw\n", lines[i], "1 2 0:3 / /two rw\n", lines[i], NULL);
                g_autofree char *points = points_of(text), *cut = points_of(lines[i]);
                g_assert_cmpstr(points, ==, "/one|/two");
                g_assert_cmpstr(cut, ==, "");
        }
        g_autofree char *deep = g_strnfill(100000, '/'), *text = g_strdup_printf("1 2 0:3 / %s rw\n", deep), *points = points_of(text);
        g_assert_cmpstr(points, ==, deep);
}

/* The kernel's own: every point is there for lstat(2), unless another mount hides it or it is another user's. */
static void test_own_mounts(void) {
        g_autofree char *text = NULL;
        unsigned found = 0;

        g_assert_true(g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL));
        g_autoptr(GPtrArray) points = mountinfo_points(text);
        g_autofree char **lines = g_strsplit(text, "\n", -1);
        g_assert_cmpuint(points->len, ==, g_strv_length(lines) - 1);
        for (guint i = 0; i < points->len; i++) {
                GStatBuf st;
                found += g_lstat(points->pdata[i], &st) == 0;
                g_free(lines[i]);
        }
        g_free(lines[points->len]);
        g_assert_cmpuint(found, >, points->len / 2);
}

/* By the type of their file system, wherever the kernel put optional fields, and whatever the names look like. */
static void test_mounts_of(void) {
        static const char *const types[] = { "proc", "cgroup2", NULL }, *const none[] = { NULL };
        static const char text[] = "1 2 0:3 / /p rw - proc proc rw\n"
                                   "1 2 0:3 / /q\\040- rw shared:1 master:2 - cgroup2 x rw\n"
                                   "1 2 0:3 / /proc rw - ext4 proc rw\n"
                                   "1 2 0:3 / /x rw - procfs - proc - rw\n"
                                   "1 2 0:3 / /cut rw - proc\n"
                                   "1 2 0:3 / /cut rw -\n"
                                   "1 2 0:3 / /cut rw\n";
        g_autoptr(GPtrArray) some = mountinfo_points_of(text, types), no = mountinfo_points_of(text, none),
                             all = mountinfo_points_of(text, NULL);

        g_assert_cmpuint(some->len, ==, 2);
        g_assert_cmpstr(some->pdata[0], ==, "/p");
        g_assert_cmpstr(some->pdata[1], ==, "/q -");
        g_assert_cmpuint(no->len, ==, 0);
        g_assert_cmpuint(all->len, ==, 7);
}

static void test_below(void) {
        static const struct {
                const char *path, *dir;
                bool below, at;
        } rows[] = {
                { "/", "/", false, true },       { "/a", "/", true, true },        { "/a/b", "/", true, true },
                { "/a", "/a", false, true },     { "/a/b", "/a", true, true },     { "/ab", "/a", false, false },
                { "/a", "/a/b", false, false },  { "/", "/a", false, false },      { "/a/bc", "/a/b", false, false },
                { "/a/b/c", "/a/b", true, true },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_assert_true(path_is_below(rows[i].path, rows[i].dir) == rows[i].below);
                g_assert_true(path_is_at_or_below(rows[i].path, rows[i].dir) == rows[i].at);
        }
}

/* ---- account ---- */

static void assert_account(const char *text, uid_t uid, const char *name, const char *home, const char *shell) {
        g_auto(Account) found = { 0 };

        if (account_find(text, uid, &found) != (name != NULL))
                g_error("uid %u is %sin: %s", (unsigned) uid, name ? "not " : "", text);
        g_assert_cmpstr(found.name, ==, name);
        g_assert_cmpstr(found.home, ==, home);
        g_assert_cmpstr(found.shell, ==, shell);
}

/* Whom newuidmap serves, or why not. */
static void test_account_served(void) {
        static const struct {
                gid_t gid;
                const char *login_defs;
                AccountServed served;
        } rows[] = {
                { 1000, NULL, ACCOUNT_SERVED },
                { 44, NULL, ACCOUNT_OTHER_GROUP },
                { 44, "GRANT_AUX_GROUP_SUBIDS yes\n", ACCOUNT_SERVED },
                { 44, "UMASK 022\n \tGRANT_AUX_GROUP_SUBIDS\t YES ", ACCOUNT_SERVED },
                { 44, "#GRANT_AUX_GROUP_SUBIDS yes\n", ACCOUNT_OTHER_GROUP },
                { 44, "GRANT_AUX_GROUP_SUBIDS yes\nGRANT_AUX_GROUP_SUBIDS no\n", ACCOUNT_OTHER_GROUP },
                { 44, "GRANT_AUX_GROUP_SUBIDS\n", ACCOUNT_OTHER_GROUP },
        };
        g_auto(Account) ann = { 0 };

        g_assert_true(account_find("ann:x:1000:1000::/home/ann:/bin/sh\n", 1000, &ann));
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                g_assert_cmpint(account_served_by(&ann, rows[i].gid, rows[i].login_defs), ==, rows[i].served);
        g_assert_cmpint(account_served_by(&(Account){ 0 }, 0, NULL), ==, ACCOUNT_NONE);
}

static void test_accounts(void) {
        static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                                     "ann:x:1000:1001:Ann,,,:/home/ann:/bin/zsh\n"
                                     "second:x:1000:1:of the same uid:/else:/bin/false\n"
                                     "bare:x:1001:1:::\n"
                                     "short:x:1002:1::/home/short\n"
                                     "last:x:4294967294:1::/l a\xc3\xa4st:/a:b c";

        assert_account(passwd, 0, "root", "/root", "/bin/bash");
        assert_account(passwd, 1000, "ann", "/home/ann", "/bin/zsh");
        assert_account(passwd, 1001, "bare", "", "");
        assert_account(passwd, 1002, "short", "/home/short", "");
        assert_account(passwd, 4294967294u, "last", "/l aäst", "/a:b c");
        assert_account(passwd, 1, NULL, NULL, NULL);
        assert_account("", 0, NULL, NULL, NULL);
}

static void test_groups(void) {
        static const char passwd[] = "ann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n"
                                     "carl:x:1002:100::/home/carl:/bin/sh\ndora:x:1003:100::/home/dora:/bin/sh\n",
                          group[] = "ann:x:1000:\nbob:x:1001:ann\nusers:x:100:\nself:x:1004:erna\n# ann:x:1000:bob\nshort:x:1000\n";
        static const struct {
                const char *name;
                gid_t gid;
                bool own;
        } rows[] = {
                { "ann", 1000, true },   { "bob", 1001, false } /* ann is in it, too */,
                { "carl", 100, false } /* and so is dora */, { "erna", 1004, true },
                { "fred", 1005, false } /* in no file */,
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++)
                g_assert_true(account_group_is_own(passwd, group, rows[i].name, rows[i].gid) == rows[i].own);
        g_assert_false(account_group_is_own(NULL, group, "ann", 1000));
        g_assert_false(account_group_is_own(passwd, NULL, "ann", 1000));
        g_assert_false(account_group_is_own(passwd, group, NULL, 1000));
}

static void test_locked(void) {
        g_autofree char *shadow = account_shadow("root:x:0:0:root:/root:/bin/bash\n# no\n+::::::\nshort:x:1\nann:$6$secret:1000:1000:,,,:/home/ann:/bin/sh"),
                        *gshadow = account_gshadow("root:x:0:\nadm:$1$secret:4:ann,bob\nshort:x\n\n");
        g_assert_cmpstr(shadow, ==, "root:*::0:99999:7:::\nann:*::0:99999:7:::\n");
        g_assert_cmpstr(gshadow, ==, "root:*::\nadm:*::ann,bob\n");
}

/* None of these is anybody, and each leaves the line behind it as it is. */
static void test_hostile_accounts(void) {
        static const char *const lines[] = {
                "",
                ":",
                "::::::",
                ":x:7:7::/evil:/evil",
                "# ann:x:7:7::/evil:/evil",
                "+",
                "+::::::",
                "+ann:x:7:7::/evil:/evil",
                "-ann:x:7:7::/evil:/evil",
                "ann:x:7",
                "ann:x:7:",
                "ann:x:7:7:no home",
                "ann:x::7::/evil:/evil",
                "ann:x:-4294967289:7::/evil:/evil", /* 7 in 32 bits */
                "ann:x:4294967303:7::/evil:/evil",
                "ann:x:18446744073709551623:7::/evil:/evil",
                "ann:x:+7:7::/evil:/evil",
                "ann:x: 7:7::/evil:/evil",
                "ann:x:7 :7::/evil:/evil",
                "ann:x:7x:7::/evil:/evil",
                "ann:x:0x7:7::/evil:/evil",
                "ann:7:7::/evil:/evil",
                "ann:x:7:::/evil:/evil",
                "ann:x:7:-1::/evil:/evil",
                "ann:x:7:7x::/evil:/evil",
                "ann",
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
                g_autofree char *text = g_strdup_printf("%s\nseven:x:7:7::/home/seven:/bin/sh\n%s", lines[i], lines[i]);
                assert_account(lines[i], 7, NULL, NULL, NULL);
                assert_account(lines[i], 0, NULL, NULL, NULL);
                assert_account(text, 7, "seven", "/home/seven", "/bin/sh");
        }
        /* a line without its end is not joined with what lies behind it */
        assert_account("ann:x\n:7:7::/evil:/evil", 7, NULL, NULL, NULL);
        assert_account("ann:x:7\n:7:7::/evil:/evil", 7, NULL, NULL, NULL);
        g_autofree char *name = g_strnfill(1000000, 'n'), *text = g_strdup_printf("%s:x:7:7::/h:/s\n", name);
        assert_account(text, 7, name, "/h", "/s");
}

/* As the C library has it, and none where it has none. */
static void test_lookup(void) {
        g_auto(Account) me = { 0 }, nobody = { 0 };
        const struct passwd *pw = getpwuid(getuid());

        g_assert_true(account_lookup(getuid(), &me, NULL));
        g_assert_true((me.name != NULL) == (pw != NULL));
        if (pw) {
                g_assert_cmpstr(me.name, ==, pw->pw_name);
                g_assert_cmpstr(me.home, ==, pw->pw_dir);
                g_assert_cmpstr(me.shell, ==, pw->pw_shell);
        }
        g_assert_true(account_lookup(3999999999u, &nobody, NULL));
        g_assert_null(nobody.name);
}

/* What is not in the file is asked of getent(1): here one of our own. Whatever that says, only a line of that uid counts. */
static void test_getent(void) {
        static const struct {
                const char *script, *name, *error;
        } rows[] = {
                { "echo \"ldap:x:$2:1::/home/ldap:/bin/sh\"", "ldap", NULL },
                { "echo other:x:5:1::/x:/x", NULL, NULL },
                { "echo \"failed:x:$2:1::/x:/x\"; exit 2", NULL, NULL },
                { "echo \"failed:x:$2:1::/x:/x\"; exit 3", NULL, "exit status 3" },
                { "kill -9 $$", NULL, "SIGKILL" },
                { ":", NULL, NULL },
                { "while echo a long answer a long answer a long answer; do :; done 2>/dev/null", NULL, "too large" },
        };
        g_autofree char *dir = g_dir_make_tmp("usbox-test-XXXXXX", NULL), *program = g_build_filename(dir, "getent", NULL),
                        *old = g_strdup(g_getenv("PATH")), *path = g_strdup_printf("%s:%s", dir, old);

        g_setenv("PATH", path, TRUE);
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(Account) found = { 0 };
                g_autofree char *script = g_strdup_printf("#!/bin/sh\n%s\n", rows[i].script);
                g_assert_true(g_file_set_contents_full(program, script, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0755, NULL));
                g_autoptr(GError) error = NULL;
                g_assert_true(account_lookup(3999999999u, &found, &error) == (rows[i].error == NULL));
                g_assert_cmpstr(found.name, ==, rows[i].name);
                g_assert_true(!error || strstr(error->message, rows[i].error));
        }
        g_setenv("PATH", "/nowhere", TRUE);
        g_auto(Account) found = { 0 };
        g_assert_true(account_lookup(3999999999u, &found, NULL));
        g_assert_null(found.name);
        g_setenv("PATH", old, TRUE);
        g_unlink(program);
        g_rmdir(dir);
}

static void test_data_dir(void) {
        static const char *const rows[][2] = {
                { NULL, "/home/ann/.local/share" }, { "", "/home/ann/.local/share" }, { "relative", "/home/ann/.local/share" }, { "/d", "/d" },
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
                if (rows[i][0])
                        g_setenv("XDG_DATA_HOME", rows[i][0], TRUE);
                else
                        g_unsetenv("XDG_DATA_HOME");
                g_autofree char *dir = account_data_dir("/home/ann");
                g_assert_cmpstr(dir, ==, rows[i][1]);
        }
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/mountinfo/points", test_points);
        g_test_add_func("/mountinfo/hostile-lines", test_hostile_lines);
        g_test_add_func("/mountinfo/own", test_own_mounts);
        g_test_add_func("/mountinfo/of-type", test_mounts_of);
        g_test_add_func("/mountinfo/below", test_below);
        g_test_add_func("/account/find", test_accounts);
        g_test_add_func("/account/served", test_account_served);
        g_test_add_func("/account/groups", test_groups);
        g_test_add_func("/account/locked", test_locked);
        g_test_add_func("/account/hostile-lines", test_hostile_accounts);
        g_test_add_func("/account/lookup", test_lookup);
        g_test_add_func("/account/getent", test_getent);
        g_test_add_func("/account/data-dir", test_data_dir);
        return g_test_run();
}
