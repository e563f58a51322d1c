/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox-fs without the launcher: its options, and that it mounts both ways. The kernel's first request (INIT, fuse.h) is all that is
 * looked for behind the mount.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/fd.h"
#include "fsoverlay/standalone.h"

/* Words are separated by blanks. */
static bool parse(const char *words, StandaloneOptions *ret, GError **error) {
        g_autofree char *line = g_strconcat("usbox-fs ", words, NULL);
        g_auto(GStrv) argv = g_strsplit(line, " ", -1);
        return standalone_parse((int) g_strv_length(argv), argv, ret, error);
}

static void test_usual(void) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(parse("-f -o lowerdir=/a:/b:c,upperdir=u,workdir=w /tmp/../tmp", &o, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(o.lowers->len, ==, 3);
        g_assert_cmpstr(o.lowers->pdata[0], ==, "/a");
        g_assert_cmpstr(o.lowers->pdata[1], ==, "/b");
        g_assert_cmpstr(o.lowers->pdata[2], ==, "c");
        g_assert_cmpstr(o.upper, ==, "u");
        g_assert_cmpstr(o.work, ==, "w");
        g_assert_cmpstr(o.mountpoint, ==, "/tmp");
        g_assert_cmpstr(o.fsname, ==, "usbox-fs");
        g_assert_true(o.foreground);
        g_assert_true(!o.debug && !o.strict && !o.no_polling && !o.noacl && !o.read_only && !o.fsync_ignored && !o.allow_other && !o.help && !o.version);
        g_assert_true(o.squash_uid == -1 && o.squash_gid == -1 && o.disk == 0 && o.threads == 0);
        g_assert_true(!o.trace && !o.stats && !o.context && o.uidmap->len == 0 && o.gidmap->len == 0 && o.hide->len == 0);
}

static void test_escapes(void) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(parse("-olowerdir=/a\\:b:/c\\,d:/e\\\\:/f\\g,upperdir=/u\\,v:w "
                            "-o workdir=/w\\\\,ro,hide=*.a\\,b\\\\,hide=/x,,trace=/t\\,t --debug -- /tmp", &o, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(o.lowers->len, ==, 4);
        g_assert_cmpstr(o.lowers->pdata[0], ==, "/a:b");
        g_assert_cmpstr(o.lowers->pdata[1], ==, "/c,d");
        g_assert_cmpstr(o.lowers->pdata[2], ==, "/e\\");
        g_assert_cmpstr(o.lowers->pdata[3], ==, "/f\\g");
        g_assert_cmpstr(o.upper, ==, "/u,v:w");
        g_assert_cmpstr(o.work, ==, "/w\\");
        g_assert_cmpstr(o.trace, ==, "/t,t");
        g_assert_cmpuint(o.hide->len, ==, 2);
        g_assert_cmpstr(o.hide->pdata[0], ==, "*.a,b\\\\"); /* backslashes are the pattern's */
        g_assert_cmpstr(o.hide->pdata[1], ==, "/x");
        g_assert_true(o.read_only && o.debug && o.foreground);
}

static void test_all(void) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(parse("-s -o lowerdir=/a,timeout=1e9,cache=strict,polling=off,disk=2G,noacl,fsync=0,allow_other,uidmapping=0:1000:1:1:100000:65536 "
                            "-o gidmapping=:0:7:1,squash_to_gid=5,squash_to_root,stats=s,fsname=x=y,suid,noexec,exec,nodiratime /tmp", &o, &error));
        g_assert_no_error(error);
        g_assert_true(o.strict && o.noacl && o.fsync_ignored && o.allow_other && o.read_only && !o.foreground);
        g_assert_cmpuint(o.disk, ==, G_GUINT64_CONSTANT(2) << 30);
        g_assert_cmpuint(o.threads, ==, 1);
        g_assert_cmpint(o.squash_uid, ==, 0);
        g_assert_cmpint(o.squash_gid, ==, 5);
        g_assert_cmpstr(o.fsname, ==, "x=y");
        g_assert_true(g_path_is_absolute(o.stats) && g_str_has_suffix(o.stats, "/s"));
        g_assert_cmpuint(o.uidmap->len, ==, 2);
        const FsIdRange *range = &g_array_index(o.uidmap, FsIdRange, 1);
        g_assert_true(range->host == 1 && range->box == 100000 && range->count == 65536);
        g_assert_cmpuint(o.gidmap->len, ==, 1);
        g_assert_cmpuint(o.set_flags, ==, MS_NODIRATIME);
        g_assert_cmpuint(o.clear_flags, ==, MS_NOSUID | MS_NOEXEC);

        g_autoptr(FsConfig) config = standalone_config(&o);
        g_assert_true(config->strict && config->no_polling && config->read_only && config->disk == o.disk && config->threads == 1 && config->uidmap->len == 2);
}

/* What others pass: podman, mount(8), fuse-overlayfs's own users. The last of several counts. */
static void test_passed_around(void) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(parse("-o lowerdir=/x -o lowerdir=l/A:l/B,upperdir=/u,workdir=/w,volatile,context=\"system_u:object_r:t:s0:c1,c2\",userxattr "
                            "-o rw,dev,nodev,suid,nosuid,noatime,relatime,subtype=s,default_permissions,allow_root,max_idle_threads=3,clone_fd "
                            "-o xino=off,nfs_export=on,index=off,metacopy=off,redirect_dir=on,static_nlink,xattr_permissions=2,x-gvfs-hide,max_threads=4 /tmp",
                            &o, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(o.lowers->len, ==, 2);
        g_assert_cmpstr(o.context, ==, "context=\"system_u:object_r:t:s0:c1,c2\"");
        g_assert_true(o.fsync_ignored && !o.read_only && o.threads == 4);
        g_assert_cmpuint(o.set_flags, ==, MS_NOSUID | MS_NODEV);
        g_assert_cmpuint(o.clear_flags, ==, MS_NOATIME);
}

static void test_asked(void) {
        static const char *const rows[] = { "-h", "--help", "-V", "--version", "-f --version -o nonsense" };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(StandaloneOptions) o = { 0 };
                g_assert_true(parse(rows[i], &o, NULL));
                g_assert_true(o.help == (i < 2) && o.version == (i >= 2));
        }
        g_assert_nonnull(strstr(standalone_help(), "lowerdir="));
}

static void test_cache(void) {
        static const struct {
                const char *option;
                bool strict;
        } rows[] = { { "cache=strict", true }, { "timeout=0", true }, { "timeout=0.0", true }, { "timeout=1.5", false }, { "timeout=0,cache=fast", false } };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(StandaloneOptions) o = { 0 };
                g_autofree char *words = g_strdup_printf("-o lowerdir=/a,%s /tmp", rows[i].option);
                g_assert_true(parse(words, &o, NULL));
                g_assert_cmpint(o.strict, ==, rows[i].strict);
        }
}

static void test_hide(void) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_true(parse("-o lowerdir=/a,hide=.env,hide=/etc/shadow,hide=/home/*/x,hide=a/b /tmp", &o, &error));
        g_assert_no_error(error);
        g_autoptr(FsConfig) config = standalone_config(&o);
        static const FsRuleKind kinds[] = { FS_RULE_GLOB, FS_RULE_HIDE, FS_RULE_GLOB, FS_RULE_GLOB };
        g_assert_cmpuint(config->rules->len, ==, G_N_ELEMENTS(kinds));
        for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
                const FsRule *rule = config->rules->pdata[i];
                g_assert_cmpint(rule->kind, ==, kinds[i]);
                g_assert_cmpstr(rule->path, ==, o.hide->pdata[i]);
        }
}

static void test_refused(void) {
        static const struct {
                const char *words, *message, *hint;
        } rows[] = {
                { "/tmp", "-o lowerdir=* is missing", NULL },
                { "-o lowerdir=/a", "the mount point is missing", NULL },
                { "-o lowerdir=/a /tmp /usr", "/usr: there is one mount point already", NULL },
                { "-o lowerdir=/a /no/such/dir", "mount point /no/such/dir: No such file*", NULL },
                { "-o lowerdir=/a,upperdir=/u /tmp", "-o workdir=* is missing beside -o upperdir=*", NULL },
                { "-o lowerdir=/a,workdir=/u /tmp", "-o upperdir=* is missing beside -o workdir=*", NULL },
                { "-o lowerdir=/a::/b /tmp", "-o lowerdir: a path of it is empty", NULL },
                { "-o lowerdir= /tmp", "-o lowerdir: a path of it is empty", NULL },
                { "-o upperdir= /tmp", "-o upperdir: is empty", NULL },
                { "-o lowerdir /tmp", "-o lowerdir: needs a value*", NULL },
                { "-o noacl=1 /tmp", "-o noacl: takes no value", NULL },
                { "-o", "-o: needs a list*", NULL },
                { "-o lowerdirs=/a /tmp", "-o lowerdirs: unknown option", "did you mean -o lowerdir=*" },
                { "-o upperidr=/a /tmp", "-o upperidr: unknown option", "did you mean -o upperdir=*" },
                { "-o nosiud /tmp", "-o nosiud: unknown option", "did you mean -o nosuid?" },
                { "-o quux\n /tmp", "-o quux\\n: unknown option", "usbox-fs --help*" },
                { "-x /tmp", "-x: unknown option", "usbox-fs --help*" },
                { "--foreground /tmp", "--foreground: unknown option", NULL },
                { "-o uidmapping=0:1 /tmp", "-o uidmapping: '0:1' is not a list*", NULL },
                { "-o uidmapping=0:1:0 /tmp", "-o uidmapping: '0:1:0' is not*", NULL },
                { "-o uidmapping=:: /tmp", "-o uidmapping: '::' is not*", NULL },
                { "-o uidmapping=0:-1:1 /tmp", "-o uidmapping: '0:-1:1' is not*", NULL },
                { "-o gidmapping=0:4294967295:1 /tmp", "-o gidmapping: *is not*", NULL },
                { "-o gidmapping=4294967294:0:2 /tmp", "-o gidmapping: *is not*", NULL },
                { "-o gidmapping= /tmp", "-o gidmapping: *is not*", NULL },
                { "-o squash_to_uid=4294967295 /tmp", "-o squash_to_uid: '4294967295' is not an id", NULL },
                { "-o squash_to_uid= /tmp", "-o squash_to_uid: '' is not an id", NULL },
                { "-o cache=off /tmp", "-o cache: 'off' is not fast or strict", NULL },
                { "-o polling=yes /tmp", "-o polling: 'yes' is not on or off", NULL },
                { "-o timeout=-1 /tmp", "-o timeout: '-1' is not*", NULL },
                { "-o timeout= /tmp", "-o timeout: '' is not*", NULL },
                { "-o timeout=1s /tmp", "-o timeout: '1s' is not*", NULL },
                { "-o threads=0 /tmp", "-o threads: '0' is not a number from 1 to 64", NULL },
                { "-o threads=65 /tmp", "-o threads: '65' is not a number from 1 to 64", NULL },
                { "-o disk=0 /tmp", "-o disk: '0' is not a size*", NULL },
                { "-o disk=G /tmp", "-o disk: 'G' is not a size*", NULL },
                { "-o disk=1X /tmp", "-o disk: '1X' is not a size*", NULL },
                { "-o disk=9223372036854775808 /tmp", "-o disk: *is not a size*", NULL },
                { "-o disk=8388608T /tmp", "-o disk: *is not a size*", NULL },
                { "-o fsync=2 /tmp", "-o fsync: '2' is not 0 or 1", NULL },
                { "-o fsname= /tmp", "-o fsname: is empty", NULL },
                { "-o lowerdir=/a,hide= /tmp", "-o hide: *", NULL },
                { "-o lowerdir=/a,hide=/a/../b /tmp", "-o hide: *", NULL },
        };
        for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(StandaloneOptions) o = { 0 };
                g_autoptr(GError) error = NULL;
                if (parse(rows[i].words, &o, &error))
                        g_error("\"%s\" was accepted", rows[i].words);
                if (!g_pattern_match_simple(rows[i].message, error->message))
                        g_error("\"%s\": %s", rows[i].words, error->message);
                if (rows[i].hint && !(err_get_hint(error) && g_pattern_match_simple(rows[i].hint, err_get_hint(error))))
                        g_error("\"%s\": hint: %s", rows[i].words, err_get_hint(error));
        }
}

/* In a child, so that namespaces and ids are its own: f's result is its exit status. */
static int in_child(int (*f)(const char *dir), const char *dir) {
        int status;
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
                _exit(f(dir));
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* Does the kernel speak behind the mount, and is it the mount that was asked for? */
static bool speaks(int fd, const char *dir, unsigned long flags) {
        char buffer[FUSE_MIN_READ_BUFFER * 2];
        struct fuse_in_header header;
        struct pollfd ready = { .fd = fd, .events = POLLIN };

        if (poll(&ready, 1, 5000) != 1)
                return false;
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n < (ssize_t) sizeof header)
                return false;
        memcpy(&header, buffer, sizeof header);
        char *table;
        if (header.opcode != FUSE_INIT || !fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &table, NULL))
                return false;
        g_autofree char *text = table, *start = g_strdup_printf(" / %s %s", dir, flags & MS_RDONLY ? "ro," : "rw,");
        const char *line = strstr(table, start);
        if (!line)
                return false;
        g_autofree char *only = g_strndup(line, strcspn(line, "\n"));
        return strstr(only, " - fuse.usbox-fs name,x ") && strstr(only, "nodev") && strstr(only, "noatime") && strstr(only, "default_permissions") &&
               !strstr(only, "nosuid") == !(flags & MS_NOSUID);
}

static bool make_options(const char *dir, const char *more, StandaloneOptions *ret) {
        g_autofree char *words = g_strdup_printf("-o lowerdir=/usr,fsname=name\\,x%s %s", more, dir);
        return parse(words, ret, NULL);
}

static bool write_map(const char *path, unsigned id) {
        g_autofree char *line = g_strdup_printf("0 %u 1", id);
        return fd_write_file(AT_FDCWD, path, line);
}

static int child_mounts(const char *dir) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;
        uid_t uid = geteuid();
        gid_t gid = getegid();

        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return 77;
        if (!fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny") || !write_map("/proc/self/uid_map", uid) || !write_map("/proc/self/gid_map", gid))
                return 2;
        if (!make_options(dir, "", &o))
                return 3;
        _cleanup_close_ int fd = standalone_mount(&o, &error);
        if (fd < 0) {
                g_printerr("%s\n", error->message);
                return 4;
        }
        if (!speaks(fd, dir, MS_RDONLY))
                return 5;
        standalone_unmount(&o, fd);
        struct statfs st;
        if (statfs(dir, &st) < 0 || st.f_type == FUSE_SUPER_MAGIC)
                return 6;
        /* What is there in its place now is left alone. */
        if (mount("other", dir, "tmpfs", 0, NULL) < 0)
                return 7;
        standalone_unmount(&o, fd);
        return statfs(dir, &st) == 0 && st.f_type == TMPFS_MAGIC ? 0 : 8;
}

static void test_mount_namespace(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        int result = in_child(child_mounts, dir);
        g_assert_cmpint(rmdir(dir), ==, 0);
        if (result == 77)
                g_test_skip("no user namespaces here");
        else
                g_assert_cmpint(result, ==, 0);
}

/* As an ordinary user. */
static int child_fusermount(const char *dir) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        if (geteuid() == 0 && (chown(dir, 65534, 65534) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
                return 2;
        if (!make_options(dir, ",upperdir=/u,workdir=/w", &o))
                return 3;
        _cleanup_close_ int fd = standalone_mount(&o, &error);
        if (fd < 0) {
                g_printerr("%s\n", error->message);
                return 4;
        }
        bool ok = speaks(fd, dir, MS_NOSUID) && fcntl(fd, F_GETFD) == FD_CLOEXEC;
        standalone_unmount(&o, fd);
        struct statfs st;
        return ok && statfs(dir, &st) == 0 && st.f_type != FUSE_SUPER_MAGIC ? 0 : 5;
}

static void test_mount_fusermount(void) {
        g_autofree char *program = g_find_program_in_path("fusermount3");
        if (!program) {
                g_test_skip("no fusermount3 here");
                return;
        }
        g_autofree char *dir = g_dir_make_tmp("usbox-fs-XXXXXX", NULL);
        g_assert_cmpint(in_child(child_fusermount, dir), ==, 0);
        g_assert_cmpint(rmdir(dir), ==, 0);
}

static int child_no_way(const char *dir) {
        g_auto(StandaloneOptions) o = { 0 };
        g_autoptr(GError) error = NULL;

        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
                return 2;
        g_setenv("PATH", "/nonexistent", TRUE);
        if (!make_options(dir, "", &o) || standalone_mount(&o, &error) >= 0)
                return 3;
        return strstr(error->message, "fusermount3 is not there") && err_get_hint(error) ? 0 : 4;
}

static void test_no_fusermount(void) {
        g_assert_cmpint(in_child(child_no_way, "/tmp"), ==, 0);
}

/* The parent's end says that the child serves, or how it ended. */
static int child_serves(const char *dir) {
        g_autofree char *file = g_build_filename(dir, "said", NULL);
        int ready = -1;

        if (!standalone_background(&ready, NULL))
                return 2;
        g_autofree char *cwd = g_get_current_dir();
        g_usleep(50000);
        g_autofree char *text = g_strdup_printf("%s %d %d", cwd, getsid(0) == getpid(), isatty(0));
        if (!g_file_set_contents(file, text, -1, NULL))
                return 3;
        standalone_serving(&ready);
        struct stat st, null;
        bool quiet = fstat(2, &st) == 0 && stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev && ready == -1;
        g_autofree char *done = g_build_filename(dir, "done", NULL);
        return g_file_set_contents(done, quiet ? "quiet" : "loud", -1, NULL) ? 0 : 4;
}

static int child_fails(const char *dir) {
        int ready = -1;
        return standalone_background(&ready, NULL) ? 42 : 2;
}

static int child_ends_early(const char *dir) {
        int ready = -1;
        return standalone_background(&ready, NULL) ? 0 : 2;
}

static void test_background(void) {
        g_autofree char *dir = g_dir_make_tmp("usbox-fs-XXXXXX", NULL), *said = g_build_filename(dir, "said", NULL), *text = NULL;
        g_autofree char *done = g_build_filename(dir, "done", NULL), *quiet = NULL;

        g_assert_cmpint(in_child(child_serves, dir), ==, 0);
        g_assert_true(g_file_get_contents(said, &text, NULL, NULL)); /* it was before the parent's end */
        g_assert_cmpstr(text, ==, "/ 1 0");
        for (int i = 0; i < 500 && !g_file_test(done, G_FILE_TEST_EXISTS); i++)
                g_usleep(10000);
        g_assert_true(g_file_get_contents(done, &quiet, NULL, NULL));
        g_assert_cmpstr(quiet, ==, "quiet");
        g_assert_true(unlink(said) == 0 && unlink(done) == 0 && rmdir(dir) == 0);

        g_assert_cmpint(in_child(child_fails, dir), ==, 42);
        g_assert_cmpint(in_child(child_ends_early, dir), ==, 1);
}

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/fs/standalone/usual", test_usual);
        g_test_add_func("/fs/standalone/escapes", test_escapes);
        g_test_add_func("/fs/standalone/all", test_all);
        g_test_add_func("/fs/standalone/passed-around", test_passed_around);
        g_test_add_func("/fs/standalone/asked", test_asked);
        g_test_add_func("/fs/standalone/cache", test_cache);
        g_test_add_func("/fs/standalone/hide", test_hide);
        g_test_add_func("/fs/standalone/refused", test_refused);
#ifndef __SANITIZE_THREAD__ /* which starts a thread, and only a process without another gets a user namespace */
        g_test_add_func("/fs/standalone/mount-namespace", test_mount_namespace);
#else
        (void) test_mount_namespace;
#endif
        g_test_add_func("/fs/standalone/mount-fusermount", test_mount_fusermount);
        g_test_add_func("/fs/standalone/no-fusermount", test_no_fusermount);
        g_test_add_func("/fs/standalone/background", test_background);
        return g_test_run();
}
