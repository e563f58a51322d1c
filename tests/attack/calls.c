/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes that are one system call, or little more: what the filter and the second user namespace refuse.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one. Raw calls, since libc emulates,
 * retries and hides some of them. They need no targets (probe.h), and `probe --calls` runs them all.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

/* A call of fixed arguments. */
#define PROBE_CALL(id, ...)                        \
        static long probe_##id(void) {             \
                return syscall(__VA_ARGS__);       \
        }

static char scratch[4096];

/* mounts */
PROBE_CALL(mount_tmpfs, SYS_mount, "tmpfs", "/tmp", "tmpfs", 0, NULL)
PROBE_CALL(mount_proc, SYS_mount, "proc", "/tmp", "proc", 0, NULL)
PROBE_CALL(mount_bind, SYS_mount, "/etc", "/tmp", NULL, 4096 /* MS_BIND */, NULL)
PROBE_CALL(remount_root, SYS_mount, NULL, "/", NULL, 32 | 4096 /* MS_REMOUNT | MS_BIND */, NULL)
PROBE_CALL(remount_proc_sys, SYS_mount, NULL, "/proc/sys", NULL, 32 | 4096, NULL)
PROBE_CALL(mount_shared, SYS_mount, NULL, "/", NULL, (1 << 20) | 16384 /* MS_SHARED | MS_REC */, NULL)
PROBE_CALL(umount_proc, SYS_umount2, "/proc", 2 /* MNT_DETACH */)
PROBE_CALL(umount_root, SYS_umount2, "/", 2)
PROBE_CALL(umount_tmp, SYS_umount2, "/tmp", 2)
PROBE_CALL(pivot_root, SYS_pivot_root, "/tmp", "/tmp")
PROBE_CALL(fsopen, SYS_fsopen, "tmpfs", 0)
PROBE_CALL(fspick, SYS_fspick, AT_FDCWD, "/", 0)
PROBE_CALL(open_tree_clone, SYS_open_tree, AT_FDCWD, "/etc", 1 /* OPEN_TREE_CLONE */)
PROBE_CALL(move_mount, SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/mnt", 0)

static long probe_mount_setattr(void) {
        struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
        return syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, &attr, sizeof attr);
}

/* names, clocks, the machine */
PROBE_CALL(sethostname, SYS_sethostname, "owned", 5)
PROBE_CALL(setdomainname, SYS_setdomainname, "owned", 5)
PROBE_CALL(reboot, SYS_reboot, 0xfee1dead, 672274793, 0 /* CAD_OFF */, NULL)
PROBE_CALL(swapon, SYS_swapon, "/etc/hostname", 0)
PROBE_CALL(acct, SYS_acct, "/etc/hostname")
PROBE_CALL(syslog, SYS_syslog, 3, scratch, sizeof scratch)
PROBE_CALL(init_module, SYS_init_module, scratch, sizeof scratch, "")
PROBE_CALL(kexec_load, SYS_kexec_load, 0, 0, NULL, 0)
PROBE_CALL(vhangup, SYS_vhangup)
PROBE_CALL(quotactl, SYS_quotactl, 0x80000100, "/dev/vda", 0, scratch)

static long probe_clock_settime(void) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return syscall(SYS_clock_settime, CLOCK_REALTIME, &now);
}

/* the kernel's wide interfaces */
PROBE_CALL(bpf, SYS_bpf, 0, scratch, 48)
PROBE_CALL(perf_event_open, SYS_perf_event_open, scratch, 0, -1, -1, 0)
PROBE_CALL(userfaultfd, SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */)
PROBE_CALL(io_uring_setup, SYS_io_uring_setup, 4, scratch)
PROBE_CALL(io_uring_enter, SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0)
PROBE_CALL(io_uring_register, SYS_io_uring_register, -1, 0, NULL, 0)
PROBE_CALL(fanotify_init, SYS_fanotify_init, 0x200 /* FAN_REPORT_FID */, 0)
PROBE_CALL(set_mempolicy, SYS_set_mempolicy, 0, NULL, 0)
PROBE_CALL(mbind, SYS_mbind, scratch, 4096, 0, NULL, 0, 0)
PROBE_CALL(move_pages, SYS_move_pages, 0, 0, NULL, NULL, NULL, 0)
PROBE_CALL(kcmp, SYS_kcmp, getpid(), getpid(), 0, 0, 0)
PROBE_CALL(pidfd_getfd, SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0)
PROBE_CALL(process_madvise, SYS_process_madvise, -1, NULL, 0, 0, 0)
PROBE_CALL(name_to_handle_at, SYS_name_to_handle_at, AT_FDCWD, "/", scratch, scratch + 2048, 0)
PROBE_CALL(open_by_handle_at, SYS_open_by_handle_at, AT_FDCWD, scratch, O_RDONLY)
PROBE_CALL(personality_compat, SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */)
PROBE_CALL(unknown_call, 9999)
PROBE_CALL(clone3_none, SYS_clone3, scratch, 0)

/* keys */
PROBE_CALL(add_key, SYS_add_key, "user", "usbox-probe", "x", 1, KEY_SPEC_SESSION_KEYRING)
PROBE_CALL(keyctl_session, SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
PROBE_CALL(request_key, SYS_request_key, "user", "usbox-secret", NULL, 0)

static long read_key(int ring) {
        long key = syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", "usbox-secret", 0);
        return key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, key, scratch, sizeof scratch);
}
static long probe_key_session(void) {
        return read_key(KEY_SPEC_SESSION_KEYRING);
}
static long probe_key_user_session(void) {
        return read_key(KEY_SPEC_USER_SESSION_KEYRING);
}

/* namespaces */
PROBE_CALL(unshare_user, SYS_unshare, CLONE_NEWUSER)
PROBE_CALL(unshare_mount, SYS_unshare, CLONE_NEWNS)
PROBE_CALL(unshare_net, SYS_unshare, CLONE_NEWNET)
PROBE_CALL(chroot, SYS_chroot, "/tmp")

static long child_of(long pid) {
        if (pid == 0)
                _exit(0);
        if (pid > 0)
                waitpid((pid_t) pid, NULL, 0);
        return pid;
}
static long probe_clone_user(void) {
        return child_of(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0));
}
static long probe_clone_plain(void) {
        return child_of(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
}

static long setns_of(const char *path, int type) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -1 : syscall(SYS_setns, fd, type);
}
static long probe_setns_init_user(void) {
        return setns_of("/proc/1/ns/user", CLONE_NEWUSER);
}
static long probe_setns_init_mnt(void) {
        return setns_of("/proc/1/ns/mnt", CLONE_NEWNS);
}
/* The user namespace that owns our network namespace: the outer one, if it let us in. */
static long probe_setns_outer_user(void) {
        int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        int user = net < 0 ? -1 : ioctl(net, 0xb701 /* NS_GET_USERNS */);
        return user < 0 ? -1 : syscall(SYS_setns, user, CLONE_NEWUSER);
}

/* other processes */
PROBE_CALL(ptrace_init, SYS_ptrace, PTRACE_SEIZE, 1, NULL, NULL)

static long probe_vm_read_init(void) {
        struct iovec local = { scratch, 8 }, remote = { (void *) (uintptr_t) 0x400000, 8 };
        return syscall(SYS_process_vm_readv, 1, &local, 1, &remote, 1, 0);
}
static long probe_open_init_mem(void) {
        return open("/proc/1/mem", O_RDWR | O_CLOEXEC);
}
static long probe_open_init_environ(void) {
        int fd = open("/proc/1/environ", O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -1 : (long) read(fd, scratch, sizeof scratch);
}

/* the network */
static long probe_route_ioctl(void) {
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct rtentry route = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = (char *) "lo" };
        struct sockaddr_in dst = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x01020304) };
        memcpy(&route.rt_dst, &dst, sizeof dst);
        return s < 0 ? -1 : ioctl(s, SIOCADDRT, &route);
}
static long probe_link_down(void) {
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = 0 };
        return s < 0 ? -1 : ioctl(s, SIOCSIFFLAGS, &ifr);
}
static long probe_route_netlink(void) {
        int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        struct {
                struct nlmsghdr h;
                struct rtmsg r;
                struct rtattr dst;
                uint32_t address;
                struct rtattr oif;
                uint32_t index;
        } request = {
                .h = { .nlmsg_len = sizeof request, .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE },
                .r = { .rtm_family = AF_INET, .rtm_dst_len = 32, .rtm_table = RT_TABLE_MAIN,
                       .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_LINK, .rtm_type = RTN_UNICAST },
                .dst = { .rta_len = 8, .rta_type = RTA_DST },
                .address = htonl(0x01020304),
                .oif = { .rta_len = 8, .rta_type = RTA_OIF },
                .index = 1,
        };
        struct {
                struct nlmsghdr h;
                struct nlmsgerr e;
        } answer;

        if (s < 0 || send(s, &request, sizeof request, 0) < 0)
                return -1;
        if (recv(s, &answer, sizeof answer, 0) < (ssize_t) sizeof(struct nlmsghdr) + 4)
                return -1;
        errno = -answer.e.error;
        return answer.e.error ? -1 : 0;
}
static long new_socket(int family, int type, int protocol) {
        return syscall(SYS_socket, family, type | SOCK_CLOEXEC, protocol);
}
static long probe_socket_inet_raw(void) {
        return new_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}
static long probe_socket_packet(void) {
        return new_socket(AF_PACKET, SOCK_RAW, 0);
}
static long probe_socket_vsock(void) {
        return new_socket(40 /* AF_VSOCK */, SOCK_STREAM, 0);
}
static long probe_socket_alg(void) {
        return new_socket(AF_ALG, SOCK_SEQPACKET, 0);
}
static long probe_socket_audit(void) {
        return new_socket(AF_NETLINK, SOCK_RAW, 9 /* NETLINK_AUDIT */);
}
static long probe_socket_netfilter(void) {
        return new_socket(AF_NETLINK, SOCK_RAW, 12 /* NETLINK_NETFILTER */);
}
static long probe_socket_unix(void) {
        return new_socket(AF_UNIX, SOCK_STREAM, 0);
}
static long probe_socket_inet(void) {
        return new_socket(AF_INET, SOCK_STREAM, 0);
}
static long probe_socket_route(void) {
        return new_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
}

/* files */
static long probe_mknod_null(void) {
        unlink("/tmp/probe-null");
        return mknod("/tmp/probe-null", S_IFCHR | 0666, makedev(1, 3));
}
static long probe_mknod_disk(void) {
        unlink("/tmp/probe-disk");
        return mknod("/tmp/probe-disk", S_IFBLK | 0666, makedev(254, 0));
}
static long probe_chmod_setuid(void) {
        int fd = open("/tmp/probe-suid", O_CREAT | O_RDWR | O_CLOEXEC, 0755);
        return fd < 0 ? -1 : syscall(SYS_fchmod, fd, 04755);
}
static long probe_create_setuid(void) {
        unlink("/tmp/probe-suid2");
        return syscall(SYS_openat, AT_FDCWD, "/tmp/probe-suid2", O_CREAT | O_RDWR | O_CLOEXEC, 04755);
}
/* The bits that were stored after both ways of asking for them; refused or masked are both good. */
static long probe_setuid_stored(void) {
        struct stat st;
        int fd = open("/tmp/probe-suid3", O_CREAT | O_RDWR | O_CLOEXEC, 0755);
        if (fd < 0)
                return -1;
        (void) syscall(SYS_fchmod, fd, 06755);
#ifdef SYS_chmod
        (void) syscall(SYS_chmod, "/tmp/probe-suid3", 06755);
#endif
        (void) syscall(SYS_fchmodat, AT_FDCWD, "/tmp/probe-suid3", 06755);
        (void) syscall(452 /* fchmodat2 */, AT_FDCWD, "/tmp/probe-suid3", 06755, 0);
        if (fstat(fd, &st) < 0)
                return -1;
        errno = EPERM;
        return st.st_mode & 06000 ? 0 : -1;
}

/* terminals: our own stdin, whatever it is */
static long probe_tiocsti(void) {
        return syscall(SYS_ioctl, 0, 0x5412, "x");
}
static long probe_tiocsti_high_bits(void) {
        return syscall(SYS_ioctl, 0, 0x5412UL | (1UL << 32), "x");
}
static long probe_tioclinux(void) {
        return syscall(SYS_ioctl, 0, 0x541c, "\2");
}
static long probe_tiocsetd(void) {
        int discipline = 0;
        return syscall(SYS_ioctl, 0, 0x5423, &discipline);
}
static long probe_tioccons(void) {
        return syscall(SYS_ioctl, 0, 0x541d, NULL);
}

#ifdef __x86_64__
PROBE_CALL(iopl, SYS_iopl, 3)
PROBE_CALL(ioperm, SYS_ioperm, 0, 1, 1)
PROBE_CALL(modify_ldt, SYS_modify_ldt, 0, scratch, sizeof scratch)

/* x32: the same numbers with bit 30. */
PROBE_CALL(x32_getpid, 0x40000000 | SYS_getpid)
PROBE_CALL(x32_unshare_user, 0x40000000 | SYS_unshare, CLONE_NEWUSER)
PROBE_CALL(x32_keyctl, 0x40000000 | SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)

/* A 32-bit entry of a 64-bit program: the i386 table's numbers, getpid and add_key. Returns as the kernel does. */
static long int80(long number, long a, long b, long c) {
        long ret = 0;
        __asm__ volatile("int $0x80" : "=a"(ret) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
        if (ret < 0 && ret > -4096) {
                errno = (int) -ret;
                return -1;
        }
        return ret;
}
static long probe_int80_getpid(void) {
        return int80(20, 0, 0, 0);
}
static long probe_int80_unshare_user(void) {
        return int80(310, CLONE_NEWUSER, 0, 0);
}
static long probe_int80_keyctl(void) {
        return int80(288, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
}
#else
PROBE_ABSENT(iopl)
PROBE_ABSENT(ioperm)
PROBE_ABSENT(modify_ldt)
PROBE_ABSENT(x32_getpid)
PROBE_ABSENT(x32_unshare_user)
PROBE_ABSENT(x32_keyctl)
PROBE_ABSENT(int80_getpid)
PROBE_ABSENT(int80_unshare_user)
PROBE_ABSENT(int80_keyctl)
#endif

const Probe calls_probes[] = {
        PROBE(mount_tmpfs), PROBE(mount_proc), PROBE(mount_bind), PROBE(remount_root), PROBE(remount_proc_sys), PROBE(mount_shared),
        PROBE(umount_proc), PROBE(umount_root), PROBE(umount_tmp), PROBE(pivot_root), PROBE(fsopen), PROBE(fspick), PROBE(open_tree_clone),
        PROBE(move_mount), PROBE(mount_setattr), PROBE(sethostname), PROBE(setdomainname), PROBE(reboot), PROBE(swapon), PROBE(acct),
        PROBE(syslog), PROBE(init_module), PROBE(kexec_load), PROBE(vhangup), PROBE(quotactl),
        PROBE(clock_settime), PROBE(bpf), PROBE(perf_event_open), PROBE(userfaultfd), PROBE(io_uring_setup), PROBE(io_uring_enter),
        PROBE(io_uring_register), PROBE(fanotify_init), PROBE(set_mempolicy), PROBE(mbind), PROBE(move_pages),
        PROBE(kcmp), PROBE(pidfd_getfd), PROBE(process_madvise), PROBE(name_to_handle_at), PROBE(open_by_handle_at),
        PROBE(personality_compat), PROBE(unknown_call), PROBE(clone3_none), PROBE(add_key), PROBE(keyctl_session), PROBE(request_key),
        PROBE(key_session), PROBE(key_user_session), PROBE(unshare_user), PROBE(unshare_mount), PROBE(unshare_net), PROBE(chroot),
        PROBE(clone_user), PROBE(clone_plain), PROBE(setns_init_user), PROBE(setns_init_mnt), PROBE(setns_outer_user),
        PROBE(ptrace_init), PROBE(vm_read_init), PROBE(open_init_mem), PROBE(open_init_environ), PROBE(route_ioctl), PROBE(link_down),
        PROBE(route_netlink), PROBE(socket_inet_raw), PROBE(socket_packet), PROBE(socket_vsock), PROBE(socket_alg),
        PROBE(socket_audit), PROBE(socket_netfilter), PROBE(socket_unix), PROBE(socket_inet), PROBE(socket_route), PROBE(mknod_null),
        PROBE(mknod_disk), PROBE(chmod_setuid), PROBE(create_setuid), PROBE(setuid_stored), PROBE(tiocsti), PROBE(tiocsti_high_bits),
        PROBE(tioclinux), PROBE(tiocsetd), PROBE(tioccons),
        PROBE(iopl), PROBE(ioperm), PROBE(modify_ldt), PROBE(x32_getpid), PROBE(x32_unshare_user), PROBE(x32_keyctl),
        PROBE(int80_getpid), PROBE(int80_unshare_user), PROBE(int80_keyctl),
        { NULL, NULL },
};
