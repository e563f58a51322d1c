/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at mounts and namespaces: those of others entered, one's own left, made and used to look under what is masked.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives; the suite proves most of them in namespaces of their own
 * (`probe --own`). Threads: one. Those that are one call stand in calls.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

static int open_ns(pid_t pid, const char *kind) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kind);
        return open(path, O_RDONLY | O_CLOEXEC);
}

/* Another's namespaces, for what they alone have. */
static long enter(pid_t pid) {
        int user = open_ns(pid, "user"), mnt = open_ns(pid, "mnt");
        struct stat theirs, mine;
        if (user < 0 || mnt < 0 || fstat(user, &theirs) < 0 || stat("/proc/self/ns/user", &mine) < 0 || theirs.st_ino == mine.st_ino)
                return -1;
        if (setns(user, CLONE_NEWUSER) < 0 || setns(mnt, CLONE_NEWNS) < 0)
                return -1;
        return reached_secret_file(AT_FDCWD, "/tmp/secret") < 0 ? reached("entered the namespaces of process %d", pid) : 0;
}
static long enter_by_pidfd(pid_t pid) {
        int user = open_ns(pid, "user"), pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        struct stat theirs, mine;
        if (user < 0 || pidfd < 0 || fstat(user, &theirs) < 0 || stat("/proc/self/ns/user", &mine) < 0 || theirs.st_ino == mine.st_ino)
                return -1;
        if (setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return -1;
        return reached_secret_file(AT_FDCWD, "/tmp/secret") < 0 ? reached("entered the namespaces of process %d", pid) : 0;
}

/* In a child, since who has entered does not come back: it says by a pipe what it got. */
static long enter_each(pid_t pid, void *way) {
        int out[2];
        char said[256];
        if (pipe2(out, O_CLOEXEC) < 0)
                return -1;
        pid_t child = fork();
        if (child == 0) {
                reached_forget();
                long ret = way ? enter_by_pidfd(pid) : enter(pid);
                if (ret < 0 || dprintf(out[1], "%s", reached_text()) < 0)
                        _exit(errno ? errno : EPERM);
                _exit(0);
        }
        close(out[1]);
        ssize_t n = child < 0 ? 0 : read(out[0], said, sizeof said - 1);
        close(out[0]);
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) < 0)
                return -1;
        errno = WEXITSTATUS(status);
        said[n > 0 ? n : 0] = 0;
        return status == 0 ? reached("%s ", said) : -1;
}
static long probe_ns_enter(void) {
        return each_process(enter_each, NULL);
}
static long probe_ns_enter_pidfd(void) {
        return each_process(enter_each, (void *) "by its pidfd");
}
/* The user namespace above another's. */
static long parent_of(pid_t pid, void *data) {
        (void) data;
        int user = open_ns(pid, "user"), parent = user < 0 ? -1 : ioctl(user, NS_GET_PARENT);
        return parent < 0 ? -1 : reached("have the user namespace above that of process %d", pid);
}
static long probe_ns_parent(void) {
        return each_process(parent_of, NULL);
}
static long probe_ns_of_socket(void) {
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), net = s < 0 ? -1 : ioctl(s, SIOCGSKNS);
        return net < 0 ? -1 : reached("have the network namespace of a socket");
}

/* mounts that are more than one call */
static long probe_chroot_escape(void) {
        int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root < 0 || chroot("/tmp") < 0 || fchdir(root) < 0)
                return -1;
        for (int i = 0; i < 64; i++)
                if (chdir("..") < 0)
                        return -1;
        const char *outside = target_path("outside", "secret");
        return outside ? reached_secret_file(AT_FDCWD, outside + 1) : -1;
}
static long probe_mount_overlay(void) {
        if (mkdir("/tmp/u", 0755) < 0 || mkdir("/tmp/w", 0755) < 0 || mkdir("/tmp/m", 0755) < 0)
                return -1;
        return mount("overlay", "/tmp/m", "overlay", 0, "lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w,userxattr");
}
static long probe_mount_sysfs(void) {
        return mount("sysfs", "/tmp", "sysfs", 0, NULL);
}
static long probe_mount_cgroup(void) {
        return mount("cgroup2", "/tmp", "cgroup2", 0, NULL);
}
static long probe_mount_mqueue(void) {
        return mount("mqueue", "/tmp", "mqueue", 0, NULL);
}
static long probe_mount_devpts(void) {
        return mount("devpts", "/tmp", "devpts", 0, "newinstance");
}
static long probe_mount_fuse(void) {
        char options[128];
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, getuid(), getgid());
        return fd < 0 ? -1 : mount("x", "/tmp", "fuse", 0, options);
}
static long probe_mount_private_bind(void) {
        /* What is mounted over a part of /proc or hidden by a mount shows in a bind that is not recursive. */
        if (mount("/proc", "/tmp", NULL, MS_BIND, NULL) < 0)
                return -1;
        return reached("a second /proc without what is mounted on it");
}

/* What a user namespace of one's own makes possible, where one may be made at all. */
static long probe_nested_mount(void) {
        if (!spaces_of_my_own())
                return -1;
        return mount("tmpfs", "/tmp", "tmpfs", 0, NULL) < 0 ? -1 : reached("a mount in a user namespace of its own");
}
/* What is mounted over the box's /proc is not over one that is mounted anew. */
static long probe_nested_proc(void) {
        char line[512];
        int status = 0;
        if (!target("key") || !spaces_of_my_own())
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                FILE *keys = mount("proc", "/tmp", "proc", 0, NULL) == 0 ? fopen("/tmp/keys", "re") : NULL;
                while (keys && fgets(line, sizeof line, keys))
                        if (strstr(line, target("key")))
                                _exit(0);
                _exit(keys ? ENOENT : errno);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return -1;
        errno = WEXITSTATUS(status);
        return status == 0 ? reached("the name of a key in a /proc of its own") : -1;
}
static long probe_nested_overlay(void) {
        const char *lower = target("outside");
        char options[512];
        snprintf(options, sizeof options, "lowerdir=%s:/etc", lower ? lower : "");
        if (!lower || !spaces_of_my_own() || mount("overlay", "/mnt", "overlay", 0, options) < 0)
                return -1;
        return reached_secret_file(AT_FDCWD, "/mnt/secret");
}

/* One namespace more, of each of the kinds that calls.c has not. */
#define UNSHARE(id, flags)                     \
        static long probe_##id(void) {         \
                return unshare(flags);         \
        }
UNSHARE(unshare_pid, CLONE_NEWPID)
UNSHARE(unshare_ipc, CLONE_NEWIPC)
UNSHARE(unshare_uts, CLONE_NEWUTS)
UNSHARE(unshare_cgroup, CLONE_NEWCGROUP)
UNSHARE(unshare_time, 0x80 /* CLONE_NEWTIME */)

const Probe spaces_probes[] = {
        PROBE(ns_enter),         PROBE(ns_enter_pidfd), PROBE(ns_parent),     PROBE(ns_of_socket), PROBE(chroot_escape), PROBE(mount_overlay),
        PROBE(mount_sysfs),      PROBE(mount_cgroup),   PROBE(mount_mqueue),  PROBE(mount_devpts), PROBE(mount_fuse),    PROBE(mount_private_bind),
        PROBE(nested_mount),     PROBE(nested_proc),    PROBE(nested_overlay), PROBE(unshare_pid), PROBE(unshare_ipc),   PROBE(unshare_uts),
        PROBE(unshare_cgroup),   PROBE(unshare_time),
        { NULL, NULL },
};
