/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: the facts of this machine that need no trial.
 *
 * Role: verb. Privileges: the caller's. Threads: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "account.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "doctor-check.h"
#include "runtime.h"

/* What stat(2) shows of an owner that the user namespace has no id for. */
#define OVERFLOW_ID 65534u

/* What is read of what a helper says. */
#define SAID_MAX 4096

/* The permitted set and the effective bit of security.capability (capabilities(7), "File capability extended attribute
 * versioning"), all little-endian. */
static bool has_file_capability(const char *path, unsigned capability) {
        struct vfs_ns_cap_data data;
        ssize_t n = getxattr(path, "security.capability", &data, sizeof data);

        if (n < (ssize_t) (sizeof data.magic_etc + sizeof data.data[0]) || capability >= 32)
                return false;
        return (GUINT32_FROM_LE(data.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) && (GUINT32_FROM_LE(data.data[0].permitted) & (1U << capability));
}

static DoctorProgram find_program(const char *name, unsigned capability) {
        DoctorProgram program = { .path = g_find_program_in_path(name) };
        struct stat st;
        struct statvfs fs;

        if (!program.path || stat(program.path, &st) < 0)
                return program;
        program.privileged = ((st.st_mode & S_ISUID) && st.st_uid == 0) || has_file_capability(program.path, capability);
        program.foreign = !program.privileged && (st.st_mode & S_ISUID) && st.st_uid == OVERFLOW_ID;
        program.nosuid = statvfs(program.path, &fs) == 0 && (fs.f_flag & ST_NOSUID);
        return program;
}

const char *doctor_proc_problem(void) {
        g_autofree char *self = g_file_read_link("/proc/self", NULL), *pid = g_strdup_printf("%d", (int) getpid());

        if (!self)
                return "is not mounted here";
        return g_str_equal(self, pid) ? NULL : "is that of another pid namespace";
}

bool doctor_in_box(void) {
        return g_strcmp0(g_getenv("USBOX"), "1") == 0;
}

static void find_user(DoctorHost *host) {
        int n = getgroups(0, NULL);
        g_auto(Account) account = { 0 };

        host->name = account_lookup(host->uid, &account, NULL) && account.name ? g_strdup(account.name) : g_strdup_printf("%u", (unsigned) host->uid);
        host->served = account_served(&account, host->gid);
        host->home = g_strdup(account.home ? account.home : "/");
        host->groups = g_array_new(FALSE, TRUE, sizeof(gid_t));
        g_array_set_size(host->groups, n > 0 ? (guint) n : 0);
        if (n > 0 && getgroups(n, (gid_t *) (void *) host->groups->data) < 0)
                g_array_set_size(host->groups, 0);
        g_array_append_val(host->groups, host->gid);
        host->no_new_privs = proc_gains_nothing();
        host->in_box = doctor_in_box();
}

static void find_directories(DoctorHost *host) {
        const char *runtime = g_getenv("XDG_RUNTIME_DIR");
        struct stat st;
        struct statvfs fs;

        g_autofree char *data = account_data_dir(host->home);
        host->data_dir = g_build_filename(data, "usbox", "boxes", NULL);
        host->data_foreign = stat(host->data_dir, &st) == 0 && (st.st_uid != host->uid || (st.st_mode & 022));
        host->data_free = G_MAXUINT64;
        for (g_autofree char *dir = g_strdup(host->data_dir);;) {
                if (statvfs(dir, &fs) == 0) {
                        host->data_free = (guint64) fs.f_bavail * fs.f_frsize;
                        break;
                }
                if (strcmp(dir, "/") == 0 || strcmp(dir, ".") == 0)
                        break;
                char *up = g_path_get_dirname(dir);
                g_free(dir);
                dir = up;
        }

        g_autoptr(GError) failure = NULL;
        RuntimeKind kind;
        host->boxes_runtime = runtime_path(&kind);
        host->boxes_runtime_tmp = kind == RUNTIME_TMP;
        _cleanup_close_ int boxes = runtime_open(false, &failure);
        if (boxes < 0 && err_get_errno(failure) != ENOENT)
                host->boxes_runtime_error = err_quote(failure->message);

        host->runtime_dir = runtime && *runtime == '/' ? g_strdup(runtime) : g_strdup_printf("/run/user/%u", (unsigned) host->uid);
        host->runtime_dir_ok = stat(host->runtime_dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == host->uid;
}

/* As a run looks for it (spec_new()), and as its command enters it. */
static int try_workdir(void) {
        g_autofree char *cwd = realpath(".", NULL);

        if (!cwd)
                return errno;
        if (*cwd != '/')
                return ENOENT;
        return access(".", X_OK) < 0 ? errno : 0;
}

static void find_shell(DoctorHost *host) {
        struct rlimit limit;

        host->open_files = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (guint64) limit.rlim_cur : G_MAXUINT64;
        host->workdir_error = try_workdir();
}

static void find_own_files(DoctorHost *host) {
        static const char *const helpers[] = { "usbox-fs", "usbox-net", "usbox-net-stack", "usbox-scope", "usbox-seccomp", NULL };

        host->helpers = g_strjoinv(", ", (char **) helpers);
        for (size_t i = 0; helpers[i] && !host->missing_helper; i++) {
                g_autoptr(GError) error = NULL;
                g_autofree char *path = proc_helper_path(helpers[i], &error);
                if (!path)
                        host->missing_helper = err_quote(error->message);
        }
        host->exe = g_file_read_link("/proc/self/exe", NULL);
        if (host->exe) {
                g_autofree char *bin = g_path_get_dirname(host->exe);
                g_autofree char *path = g_build_filename(bin, USBOX_DATA_FROM_BIN, "apparmor", "usbox", NULL);
                g_autofree char *canonical = g_canonicalize_filename(path, NULL);
                if (g_file_test(canonical, G_FILE_TEST_IS_REGULAR))
                        host->apparmor_profile = g_steal_pointer(&canonical);
        }
}

/* Run usbox-net --try-fast-path; NULL: it could not be run; else what it says on stderr, the caller's. */
static char *ask_fast_path(int *ret_status) {
        char *const argv[] = { (char *) "usbox-net", (char *) "--try-fast-path", NULL }, *const envp[] = { NULL };
        g_autoptr(GError) error = NULL;
        g_autofree char *path = proc_helper_path("usbox-net", &error);
        char *said = NULL;
        int ends[2];

        if (!path || pipe2(ends, O_CLOEXEC) < 0)
                return NULL;
        const ProcFd map = { ends[1], STDERR_FILENO };
        pid_t pid = proc_spawn(path, argv, envp, &map, 1, NULL, &error);
        close(ends[1]);
        if (pid > 0 && !fd_read_all(ends[0], SAID_MAX, &said, NULL))
                said = NULL;
        close(ends[0]);
        if (pid > 0)
                (void) proc_wait(pid, ret_status);
        return said;
}

/* The program that makes it is the one to ask. What it says is why not. */
static void try_fast_path(DoctorHost *host) {
        int status = 0;

        if (host->trial[TRIAL_TUN_TAP] != 0)
                return;
        char *said = ask_fast_path(&status);
        host->fast_path_tried = said != NULL;
        if (said && status != 0) {
                said[strcspn(said, "\n")] = '\0';
                host->fast_path_error = err_quote(g_str_has_prefix(said, "usbox-net: ") ? said + strlen("usbox-net: ") : said);
        }
        g_free(said);
}

DoctorHost *doctor_host_new(void) {
        DoctorHost *host = g_new0(DoctorHost, 1);
        struct utsname name;

        host->root = g_strdup("");
        host->uid = geteuid();
        host->gid = getegid();
        host->kernel = g_strdup(uname(&name) == 0 ? name.release : "");
        host->newuidmap = find_program("newuidmap", CAP_SETUID);
        host->newgidmap = find_program("newgidmap", CAP_SETGID);
        host->proc_problem = doctor_proc_problem();
        find_shell(host);
        find_user(host);
        find_directories(host);
        find_own_files(host);
        doctor_try(host);
        try_fast_path(host);
        return host;
}

void doctor_host_free(DoctorHost *host) {
        if (!host)
                return;
        g_free(host->root);
        g_free(host->name);
        g_free(host->home);
        if (host->groups)
                g_array_unref(host->groups);
        g_free(host->kernel);
        g_free(host->exe);
        g_free(host->newuidmap.path);
        g_free(host->newgidmap.path);
        g_free(host->data_dir);
        g_free(host->runtime_dir);
        g_free(host->boxes_runtime);
        g_free(host->boxes_runtime_error);
        g_free(host->helpers);
        g_free(host->missing_helper);
        g_free(host->fast_path_error);
        g_free(host->apparmor_profile);
        g_free(host);
}
