/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at what the kernel shows and takes: /proc and /sys, cgroups, devices, terminals, and at calls that no sandboxed program needs,
 * each so that it does something where it is let through.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fanotify.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "probe.h"

/* Opening is enough; the suite gives another file where an ordinary user may not outside. */
static long open_to_write(const char *path) {
        int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
        return fd < 0 ? -1 : reached("%s is open for writing", path);
}
static long read_some(const char *path) {
        char data[256];
        int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
        ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data);
        if (fd >= 0)
                close(fd);
        errno = n < 0 ? errno : ENODATA;
        return n <= 0 ? -1 : reached("%s: %zd bytes", path, n);
}
#define WRITE_TO(id)                                    \
        static long probe_##id(void) {                  \
                return open_to_write(target(#id));      \
        }
#define READ_FROM(id)                                   \
        static long probe_##id(void) {                  \
                return read_some(target(#id));          \
        }
WRITE_TO(sysrq)
WRITE_TO(core_pattern)
WRITE_TO(sysctl_kernel)
WRITE_TO(sysctl_net)
WRITE_TO(sysctl_host_name)
WRITE_TO(sysctl_user)
WRITE_TO(sys_write)
READ_FROM(interrupts)
READ_FROM(key_users)
READ_FROM(kernel_log)
READ_FROM(kcore)
READ_FROM(timer_list)
READ_FROM(dmi)

/* A process of the box's in a cgroup outside: any that takes it. */
static char joined[256];
static int join_cgroup(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void) st;
        (void) type;
        if (strcmp(path + at->base, "cgroup.procs") != 0)
                return 0;
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0\n", 2) < 0)
                return 0;
        snprintf(joined, sizeof joined, "%s", path);
        return 1;
}
static long probe_cgroup_join(void) {
        const char *top = target("cgroup");
        errno = ENOENT;
        return top && nftw(top, join_cgroup, 16, FTW_PHYS) == 1 ? reached("%s", joined) : -1;
}

/* The first file of one of these names that opens for writing: what limits, freezes, kills or runs a program lies there. */
static const char *const *wanted;
static int write_control(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void) st;
        (void) type;
        for (size_t i = 0; wanted[i]; i++)
                if (strcmp(path + at->base, wanted[i]) == 0 && open_to_write(path) >= 0)
                        return 1;
        return 0;
}
static long write_controls(const char *const *names) {
        const char *top = target("cgroup");
        wanted = names;
        errno = ENOENT;
        return top && nftw(top, write_control, 16, FTW_PHYS) == 1 ? 0 : -1;
}
static long probe_cgroup_limit(void) {
        static const char *const names[] = { "memory.max", "memory.high", "pids.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us", NULL };
        return write_controls(names);
}
static long probe_cgroup_kill(void) {
        static const char *const names[] = { "cgroup.kill", "cgroup.freeze", "freezer.state", NULL };
        return write_controls(names);
}
static long probe_cgroup_delegate(void) {
        static const char *const names[] = { "cgroup.subtree_control", "cgroup.type", NULL };
        return write_controls(names);
}
/* What the kernel runs as the machine's root when a cgroup of version 1 has become empty. */
static long probe_cgroup_release_agent(void) {
        static const char *const names[] = { "release_agent", "notify_on_release", NULL };
        return write_controls(names);
}
/* In a cgroup: what cgroup file systems are mounted in may be a tmpfs, whose directories are none. */
static int make_cgroup(const char *path, const struct stat *st, int type, struct FTW *at) {
        char name[600];
        (void) st;
        (void) at;
        snprintf(name, sizeof name, "%s/cgroup.procs", path);
        if (type != FTW_D || access(name, F_OK) < 0)
                return 0;
        snprintf(name, sizeof name, "%s/usbox-attack", path);
        return mkdir(name, 0755) == 0 && rmdir(name) == 0 && reached("%s", name) == 0;
}
static long probe_cgroup_make(void) {
        const char *top = target("cgroup");
        errno = ENOENT;
        return top && nftw(top, make_cgroup, 16, FTW_PHYS) == 1 ? 0 : -1;
}

/* Every device node that opens and is none of those that every sandbox has. */
static int open_device(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void) type;
        (void) at;
        if (!S_ISCHR(st->st_mode) && !S_ISBLK(st->st_mode))
                return 0;
        unsigned major_number = major(st->st_rdev);
        /* memory devices null, zero, full, random, urandom; /dev/tty, ptmx and console; pseudo-terminals */
        if ((major_number == 1 && minor(st->st_rdev) != 1 && minor(st->st_rdev) != 11) || major_number == 5 || (major_number >= 136 && major_number <= 143))
                return 0;
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0) {
                reached("%s ", path);
                close(fd);
        }
        return fd >= 0 ? 1 : 0;
}
static long probe_device_any(void) {
        errno = ENOENT;
        return nftw("/dev", open_device, 16, FTW_PHYS) == 1 ? 0 : -1;
}
static long probe_device_fuse(void) {
        return open("/dev/fuse", O_RDWR | O_CLOEXEC) < 0 ? -1 : reached("/dev/fuse");
}
static long probe_device_tun(void) {
        struct ifreq ifr = { .ifr_name = "attack0", .ifr_flags = IFF_TAP | IFF_NO_PI };
        int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        return fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 ? -1 : reached("a network interface");
}
static long probe_device_null_made(void) {
        /* A whiteout to overlays: device 0:0, the one that an ordinary user may make. */
        return mknod("made-whiteout", S_IFCHR, 0) < 0 ? -1 : reached("a whiteout of its own");
}

/* terminals; the suite runs these on one */
static long probe_tty_type(void) {
        return ioctl(0, TIOCSTI, "x");
}
static long probe_tty_type_high_bits(void) {
        return syscall(SYS_ioctl, 0, TIOCSTI | 1UL << 32, "x");
}
static long probe_tty_open_callers(void) {
        const char *name = target("tty");
        int fd = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
        return fd < 0 ? -1 : write(fd, "owned\n", 6);
}

/* calls that do something where they are let through */
static long probe_call_io_uring(void) {
        static struct io_uring_params params;
        return syscall(SYS_io_uring_setup, 4, &params) < 0 ? -1 : reached("a ring");
}
static long probe_call_userfaultfd(void) {
        return syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC) < 0 ? -1 : reached("a userfaultfd");
}
static long probe_call_perf(void) {
        struct perf_event_attr attr = {
                .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK, .exclude_kernel = 1, .exclude_hv = 1 };
        return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0 ? -1 : reached("a counter");
}
static long probe_call_fanotify(void) {
        return syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY) < 0 ? -1 : reached("a fanotify group");
}
#ifdef __x86_64__
static long probe_call_modify_ldt(void) {
        static char table[4096];
        return syscall(SYS_modify_ldt, 0, table, sizeof table) < 0 ? -1 : reached("its LDT");
}
#else
PROBE_ABSENT(call_modify_ldt)
#endif
static long probe_call_numa_policy(void) {
        return syscall(SYS_set_mempolicy, 0, NULL, 0) < 0 ? -1 : reached("a memory policy");
}
static long probe_call_move_pages(void) {
        return syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0) < 0 ? -1 : reached("moved pages");
}
static long probe_call_file_handle(void) {
        struct {
                struct file_handle head;
                unsigned char room[128];
        } handle = { .head.handle_bytes = 128 };
        int mount_id = 0;
        return syscall(SYS_name_to_handle_at, AT_FDCWD, ".", &handle, &mount_id, 0) < 0 ? -1 : reached("a handle of %u bytes", handle.head.handle_bytes);
}
static long probe_call_open_handle(void) {
        struct {
                struct file_handle head;
                unsigned char room[128];
        } handle = { .head.handle_bytes = 128 };
        /* Where it is allowed to who is root of a namespace alone, then for directories. */
        int mount_id = 0, dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || syscall(SYS_name_to_handle_at, dir, "", &handle, &mount_id, AT_EMPTY_PATH) < 0)
                return -1;
        return syscall(SYS_open_by_handle_at, dir, &handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0 ? -1 : reached("a file by its handle");
}
static long probe_call_personality(void) {
        return syscall(SYS_personality, READ_IMPLIES_EXEC) < 0 ? -1 : reached("READ_IMPLIES_EXEC");
}
static long probe_call_process_madvise(void) {
        static char page[4096] __attribute__((aligned(4096)));
        struct {
                void *base;
                size_t length;
        } vector = { page, sizeof page };
        int self = (int) syscall(SYS_pidfd_open, getpid(), 0);
        return self < 0 || syscall(SYS_process_madvise, self, &vector, 1, MADV_COLD, 0) < 0 ? -1 : reached("advice");
}
static long probe_call_clone3(void) {
        struct {
                uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, rest[6];
        } args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
        long pid = syscall(SYS_clone3, &args, sizeof args);
        if (pid == 0)
                _exit(0);
        return pid < 0 ? -1 : reached("a process in a user namespace of its own");
}

#define CALL(id) PROBE(call_##id)
const Probe kernel_probes[] = {
        PROBE(sysrq),          PROBE(core_pattern),        PROBE(sysctl_kernel),    PROBE(sysctl_net),  PROBE(sysctl_host_name), PROBE(sys_write),
        PROBE(interrupts),     PROBE(key_users),           PROBE(kernel_log),       PROBE(kcore),       PROBE(timer_list), PROBE(dmi),
        PROBE(sysctl_user),    PROBE(cgroup_limit),        PROBE(cgroup_kill),      PROBE(cgroup_delegate), PROBE(cgroup_release_agent), PROBE(cgroup_make),
        PROBE(cgroup_join),    PROBE(device_any),          PROBE(device_fuse),      PROBE(device_tun),  PROBE(device_null_made), PROBE(tty_type),
        PROBE(tty_type_high_bits), PROBE(tty_open_callers), CALL(io_uring),         CALL(userfaultfd),  CALL(perf),              CALL(fanotify),
        CALL(modify_ldt),      CALL(numa_policy),          CALL(move_pages),        CALL(file_handle),  CALL(open_handle),       CALL(personality),
        CALL(process_madvise), CALL(clone3),
        { NULL, NULL },
};
