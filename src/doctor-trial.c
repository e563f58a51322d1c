/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usbox doctor: trying for real, in children, what `run` does.
 *
 * Role: verb, and its children. Privileges: the caller's; the children have those of a user namespace of their own. Threads: one.
 *
 * A child writes each result into memory that it shares with us: an errno, and before that RUNNING, so that a child that
 * hangs or is killed (a seccomp filter may do that) shows at what. All mounts and interfaces go with the child's namespaces;
 * the one thing on a disk is a directory beside the boxes, removed here.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/proc.h"
#include "base/sys.h"
#include "doctor.h"
#include "fsoverlay/config.h"

#define GROUP_TIMEOUT_MS 10000
#define RUNNING (-2)

/* Fewer than a box has: what is scarce beyond that may be there by the time that it runs. */
#define PROCESSES_WANTED 8

/* Of address space, for the plan of a small root (root-share.c). */
#define SHARED_WANTED ((size_t) 64 << 20)

/* Shared with the children. */
typedef struct {
        int result[TRIAL_MAX];
        int landlock_abi;
} Results;

typedef struct {
        volatile Results *results;
        const DoctorHost *host;
        char *dir; /* the scratch directory beside the boxes, or NULL */
} Trials;

/* Note the outcome of one trial; returns whether it worked. */
static bool note(const Trials *t, DoctorTrial trial, bool worked) {
        t->results->result[trial] = worked ? 0 : errno;
        return worked;
}

static void begin(const Trials *t, DoctorTrial trial) {
        t->results->result[trial] = RUNNING;
}

#define TRY(t, trial, expression) (begin(t, trial), note(t, trial, (expression)))

/* With arguments that make no sense each call is refused for that reason, if it is there at all. */
static bool refused(long r) {
        return r >= 0 || (errno != ENOSYS && errno != EPERM);
}

const DoctorCall doctor_calls[] = {
        { TRIAL_CLONE3, "clone3", SYS_clone3, { 0 }, false },
        { TRIAL_OPENAT2, "openat2", SYS_openat2, { -1 }, false },
        { TRIAL_OPEN_TREE, "open_tree", SYS_open_tree, { -1, 0, -1 }, false },
        { TRIAL_MOVE_MOUNT, "move_mount", SYS_move_mount, { -1, 0, -1, 0, -1 }, true },
        { TRIAL_FSOPEN, "fsopen", SYS_fsopen, { 0, -1 }, true },
        { TRIAL_FSCONFIG, "fsconfig", SYS_fsconfig, { -1, -1 }, false },
        { TRIAL_FSMOUNT, "fsmount", SYS_fsmount, { -1, -1, -1 }, true },
        { TRIAL_MOUNT_SETATTR, "mount_setattr", SYS_mount_setattr, { -1, 0, -1 }, false },
        { TRIAL_PIVOT_ROOT, "pivot_root", SYS_pivot_root, { 0 }, true },
        { TRIAL_UMOUNT, "umount2", SYS_umount2, { 0, -1 }, false },
        { TRIAL_SETNS, "setns", SYS_setns, { -1 }, false },
        { TRIAL_CLOSE_RANGE, "close_range", SYS_close_range, { 1, 0 }, false },
        { TRIAL_PIDFD, "pidfd_open", SYS_pidfd_open, { -1 }, false },
        { TRIAL_PIDFD_SIGNAL, "pidfd_send_signal", SYS_pidfd_send_signal, { -1, 0, 0, -1 }, false },
        { TRIAL_SIGNALFD, "signalfd4", SYS_signalfd4, { -1, 0, 0, -1 }, false },
        { TRIAL_EPOLL, "epoll_create1", SYS_epoll_create1, { -1 }, false },
        { TRIAL_INOTIFY, "inotify_init1", SYS_inotify_init1, { -1 }, false },
        { TRIAL_EVENTFD, "eventfd2", SYS_eventfd2, { 0, -1 }, false },
        { TRIAL_MEMFD, "memfd_create", SYS_memfd_create, { 0, -1 }, false },
        { TRIAL_STATX, "statx", SYS_statx, { -1, 0, -1, -1 }, false },
        { TRIAL_RENAMEAT2, "renameat2", SYS_renameat2, { -1, 0, -1, 0, -1 }, false },
        { TRIAL_SPLICE, "splice", SYS_splice, { -1, 0, -1 }, false },
        { 0 },
};

static bool is_there(const DoctorCall *call, bool have_capability) {
        const long *a = call->arguments;
        long r = syscall(call->number, a[0], a[1], a[2], a[3], a[4], 0L);

        return refused(r) || (call->wants_capability && !have_capability && errno == EPERM);
}

static void try_calls(const Trials *t) {
        for (const DoctorCall *call = doctor_calls; call->name; call++)
                TRY(t, call->trial, is_there(call, false));
        int abi = sys_landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        t->results->landlock_abi = MAX(abi, 0);
}

/* Likewise. A kernel without it says so at the first one. */
static bool try_landlock(void) {
        if (sys_landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 0)
                return errno == ENOSYS || errno == EOPNOTSUPP;
        return refused(sys_landlock_add_rule(-1, LANDLOCK_RULE_PATH_BENEATH, NULL)) && refused(sys_landlock_restrict_self(-1));
}

static bool install_filter(void) {
        struct sock_filter allow[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
        struct sock_fprog program = { .len = 1, .filter = allow };
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

static bool connect_to(const char *dir, const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        g_autofree char *path = g_build_filename(dir, name, NULL);
        if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
                errno = ENAMETOOLONG;
                return false;
        }
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd >= 0 && connect(fd, (const struct sockaddr *) &address, sizeof address) == 0;
}

/* What does not need namespaces. */
static void try_outside(const Trials *t) {
        TRY(t, TRIAL_FUSE, open("/dev/fuse", O_RDWR | O_CLOEXEC) >= 0);
        TRY(t, TRIAL_BUS, connect_to(t->host->runtime_dir, "bus"));
        if (t->dir)
                TRY(t, TRIAL_XATTR, setxattr(t->dir, XATTR_FORM, "y", 1, 0) == 0);
        TRY(t, TRIAL_KEYRING, syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0);
        TRY(t, TRIAL_SECCOMP, install_filter());
        TRY(t, TRIAL_LANDLOCK, try_landlock()); /* after it: it wants no_new_privs */
}

static bool write_maps(uid_t uid, gid_t gid) {
        g_autofree char *uids = g_strdup_printf("%u %u 1\n", (unsigned) uid, (unsigned) uid);
        g_autofree char *gids = g_strdup_printf("%u %u 1\n", (unsigned) gid, (unsigned) gid);
        return fd_write_file(AT_FDCWD, "/proc/self/setgroups", "deny") && fd_write_file(AT_FDCWD, "/proc/self/uid_map", uids) &&
               fd_write_file(AT_FDCWD, "/proc/self/gid_map", gids);
}

static bool make_tap(int tun) {
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
        g_strlcpy(request.ifr_name, "usbox%d", sizeof request.ifr_name);
        return ioctl(tun, TUNSETIFF, &request) == 0;
}

static bool touch(const char *path) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        return fd >= 0 && fd_write_all(fd, "x", 1);
}

/* By the same calls as the box's mounts. The options end with NULL; attrs: besides those of all of them. */
static bool mount_new(const char *type, const char *place, const char *const *options, unsigned attrs) {
        _cleanup_close_ int fs = fsopen(type, FSOPEN_CLOEXEC);
        if (fs < 0)
                return false;
        for (; options && *options; options += 2) {
                const char *value = options[1];
                if (fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, *options, value, 0) < 0)
                        return false;
        }
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return false;
        _cleanup_close_ int made = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | attrs);
        return made >= 0 && move_mount(made, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

/* Names are relative to the scratch directory: a ':' or '\\' in its own name would be lowerdir's syntax. */
static void try_overlay(const Trials *t, const char *merged) {
        static const char *const options[] = { "userxattr", NULL,   "lowerdir", "lower", "upperdir", "upper",
                                               "workdir",   "work", NULL };
        if (!TRY(t, TRIAL_OVERLAY, chdir(t->dir) == 0 && g_mkdir(merged, 0700) == 0 && mount_new("overlay", merged, options, 0)))
                return;
        TRY(t, TRIAL_OVERLAY_EDIT, chdir(merged) == 0 && touch("edited") && unlink("removed") == 0 && touch("removed"));
}

/* As the child does it for a root by FUSE: opened and mounted in one user namespace. Nobody serves it, so nobody looks into it. */
static bool mount_fuse(void) {
        _cleanup_close_ int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        _cleanup_close_ int fs = device < 0 ? -1 : fsopen("fuse", FSOPEN_CLOEXEC);
        g_autofree char *fd = g_strdup_printf("%d", device), *uid = g_strdup_printf("%u", geteuid()),
                        *gid = g_strdup_printf("%u", getegid());
        const char *const options[][2] = { { "fd", fd }, { "rootmode", "40000" }, { "user_id", uid }, { "group_id", gid } };

        for (size_t i = 0; fs >= 0 && i < G_N_ELEMENTS(options); i++)
                if (fsconfig(fs, FSCONFIG_SET_STRING, options[i][0], options[i][1], 0) < 0)
                        return false;
        if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return false;
        _cleanup_close_ int made = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        return made >= 0;
}

/* The calls that ask for a capability first, where there is one. */
static void try_calls_again(const Trials *t) {
        for (const DoctorCall *call = doctor_calls; call->name; call++)
                if (call->wants_capability)
                        TRY(t, call->trial, is_there(call, true));
}

/* A mount says whether the namespace's capabilities are worth anything: without that, EPERM would be told of each of those calls. */
static void try_calls_twice(const Trials *t) {
        try_calls(t);
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
                try_calls_again(t);
}

/* Pid 1 of a pid namespace, with every namespace that a box has. */
static void try_inside(const Trials *t) {
        const char *base = t->dir ? t->dir : "/tmp";
        g_autofree char *place = t->dir ? g_build_filename(base, "place", NULL) : g_strdup(base);
        g_autofree char *proc = g_build_filename(place, "proc", NULL), *sys = g_build_filename(place, "sys", NULL);
        g_autofree char *merged = g_build_filename(place, "merged", NULL);

        if (!TRY(t, TRIAL_USERNS_CAPS, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0))
                return;
        try_calls_again(t);
        int tun = -1;
        if (TRY(t, TRIAL_TUN_OPEN, (tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC)) >= 0))
                TRY(t, TRIAL_TUN_TAP, make_tap(tun));
        if (mount_new("tmpfs", place, (const char *const[]){ "mode", "0700", NULL }, 0)) {
                TRY(t, TRIAL_PROC, g_mkdir(proc, 0700) == 0 && mount_new("proc", proc, NULL, 0));
                TRY(t, TRIAL_SYSFS, g_mkdir(sys, 0700) == 0 && mount_new("sysfs", sys, NULL, MOUNT_ATTR_RDONLY));
                if (t->dir)
                        try_overlay(t, merged);
        }
        if (t->results->result[TRIAL_FUSE] == 0)
                TRY(t, TRIAL_FUSE_MOUNT, mount_fuse());
        TRY(t, TRIAL_USERNS_INNER, unshare(CLONE_NEWUSER) == 0);
}

static void try_box(const Trials *t) {
        static const struct {
                DoctorTrial trial;
                int flag;
        } namespaces[] = {
                { TRIAL_NS_MOUNT, CLONE_NEWNS }, { TRIAL_NS_UTS, CLONE_NEWUTS },   { TRIAL_NS_IPC, CLONE_NEWIPC },
                { TRIAL_NS_CGROUP, CLONE_NEWCGROUP }, { TRIAL_NS_NET, CLONE_NEWNET }, { TRIAL_NS_TIME, CLONE_NEWTIME },
                { TRIAL_NS_PID, CLONE_NEWPID },
        };
        uid_t uid = geteuid();
        gid_t gid = getegid();
        bool all = true;

        if (!TRY(t, TRIAL_USERNS, unshare(CLONE_NEWUSER) == 0) || !TRY(t, TRIAL_USERNS_MAP, write_maps(uid, gid)))
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of credentials took it away */
        for (size_t i = 0; i < G_N_ELEMENTS(namespaces); i++)
                if (!TRY(t, namespaces[i].trial, unshare(namespaces[i].flag) == 0))
                        all = false;
        /* Some of what follows would change the machine if it were done in its own namespaces. */
        if (!all)
                return;
        pid_t pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                try_inside(t);
                _exit(0);
        }
        if (pid > 0)
                (void) TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
}

/* Run a group of trials in a child; what it has not come to by the end of the time stays TRIAL_NOT_RUN. */
static void run_group(const Trials *t, void (*group)(const Trials *)) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0) {
                t->results->result[TRIAL_PROCESSES] = errno;
                return;
        }
        pid_t parent = getpid(), pid = fork();
        if (pid < 0)
                t->results->result[TRIAL_PROCESSES] = errno;
        if (pid == 0) {
                close(ends[0]);
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() == parent)
                        group(t);
                _exit(0);
        }
        close(ends[1]);
        /* The end of the last process that has the other end: of the child's child, too. */
        struct pollfd p = { .fd = ends[0], .events = POLLIN };
        bool ended = pid > 0 && TEMP_FAILURE_RETRY(poll(&p, 1, GROUP_TIMEOUT_MS)) > 0;
        close(ends[0]);
        if (pid > 0) {
                if (!ended)
                        (void) kill(pid, SIGKILL);
                (void) TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
        }
        for (unsigned i = 0; i < TRIAL_MAX; i++)
                if (t->results->result[i] == RUNNING)
                        t->results->result[i] = ended ? EPERM : ETIMEDOUT;
}

/* A limit on processes counts those that there are at one time. */
static bool start_processes(void) {
        pid_t pids[PROCESSES_WANTED], parent = getpid();
        size_t n = 0;
        int saved = 0;

        for (; n < G_N_ELEMENTS(pids) && saved == 0; n++) {
                pids[n] = fork();
                if (pids[n] == 0) {
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        while (getppid() == parent)
                                pause();
                        _exit(0);
                }
                saved = pids[n] < 0 ? errno : 0;
        }
        for (size_t i = 0; i < n; i++) {
                if (pids[i] < 0)
                        continue;
                (void) kill(pids[i], SIGKILL);
                (void) TEMP_FAILURE_RETRY(waitpid(pids[i], NULL, 0));
        }
        errno = saved;
        return saved == 0;
}

static bool share_memory(void) {
        void *memory = proc_share(SHARED_WANTED, NULL);
        int saved = errno;

        if (memory)
                munmap(memory, SHARED_WANTED);
        errno = saved;
        return memory != NULL;
}

/* The directory where boxes are kept, or would be: its nearest ancestor that exists. */
static char *existing_ancestor(const char *path) {
        char *dir = g_strdup(path);
        while (!g_file_test(dir, G_FILE_TEST_IS_DIR) && strcmp(dir, "/") != 0 && strcmp(dir, ".") != 0) {
                char *up = g_path_get_dirname(dir);
                g_free(dir);
                dir = up;
        }
        return dir;
}

static char *make_scratch(const char *data_dir) {
        static const char *const dirs[] = { "lower", "upper", "work", "place" };
        static const char *const files[] = { "lower/edited", "lower/removed" };
        g_autofree char *base = existing_ancestor(data_dir);
        char *dir = g_build_filename(base, ".usbox-doctor-XXXXXX", NULL);

        if (!mkdtemp(dir)) {
                int saved = errno;
                g_free(dir);
                errno = saved;
                return NULL;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
                g_autofree char *path = g_build_filename(dir, dirs[i], NULL);
                (void) g_mkdir(path, 0700);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
                g_autofree char *path = g_build_filename(dir, files[i], NULL);
                (void) touch(path);
        }
        return dir;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
        (void) remove(path);
        return 0;
}

static void remove_scratch(const char *dir) {
        /* overlayfs makes its own directory in workdir without any permission, and leaves a whiteout there. */
        g_autofree char *work = g_build_filename(dir, "work", "work", NULL);
        (void) g_chmod(work, 0700);
        (void) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Nothing is tried yet; memory for what comes of it, or NULL. */
static volatile Results *results_new(DoctorHost *host) {
        volatile Results *results = proc_share(sizeof(Results), NULL);

        for (unsigned i = 0; i < TRIAL_MAX; i++) {
                host->trial[i] = TRIAL_NOT_RUN;
                if (results)
                        results->result[i] = TRIAL_NOT_RUN;
        }
        return results;
}

static void results_take(DoctorHost *host, volatile Results *results_take) {
        for (unsigned i = 0; i < TRIAL_MAX; i++)
                host->trial[i] = results_take->result[i];
        host->landlock_abi = results_take->landlock_abi;
        munmap((void *) results_take, sizeof(Results));
}

void doctor_try_calls(DoctorHost *host) {
        volatile Results *results = results_new(host);

        if (!results)
                return;
        run_group(&(Trials){ .results = results, .host = host }, try_calls_twice);
        results_take(host, results);
}

void doctor_try(DoctorHost *host) {
        volatile Results *results = results_new(host);
        Trials t = { .results = results, .host = host };
        sigset_t ends, before;

        if (!results) {
                host->trial[TRIAL_PROCESSES] = host->trial[TRIAL_MEMORY] = ENOMEM;
                return;
        }

        /* ^C must wait until the scratch directory is gone. */
        sigemptyset(&ends);
        sigaddset(&ends, SIGINT);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGHUP);
        sigprocmask(SIG_BLOCK, &ends, &before);
        t.dir = make_scratch(host->data_dir);
        note(&t, TRIAL_DATA, t.dir != NULL);
        note(&t, TRIAL_PROCESSES, start_processes());
        note(&t, TRIAL_MEMORY, share_memory());
        run_group(&t, try_calls);
        run_group(&t, try_outside);
        run_group(&t, try_box);
        if (t.dir)
                remove_scratch(t.dir);
        sigprocmask(SIG_SETMASK, &before, NULL);
        g_free(t.dir);
        results_take(host, results);
}
