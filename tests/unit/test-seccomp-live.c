/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The built-in filters in force: children install one and make real calls. Each call is first made without a filter:
 * where the kernel says by itself what the filter is to say (a sysctl that closes io_uring), the case proves nothing
 * and is skipped.
 *
 * Role: unit test, as root or not. Threads: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "seccomp.h"

#define HIGH 0xdeadbeef00000000UL /* garbage above an int argument */
#define SAME (-1)                 /* what the kernel says without a filter */
#define DIED 1000                 /* + signal */

static int result(long r) {
        return r < 0 ? errno : 0;
}

static int null_fd(void) {
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int call_sti(void) {
        char c = 'x';
        return result(syscall(SYS_ioctl, (long) null_fd(), (long) TIOCSTI, &c));
}

static int call_sti_high(void) {
        char c = 'x';
        return result(syscall(SYS_ioctl, (long) null_fd(), HIGH | TIOCSTI, &c));
}

static int call_linux_high(void) {
        char c = 2;
        return result(syscall(SYS_ioctl, (long) null_fd(), HIGH | TIOCLINUX, &c));
}

static int call_winsz(void) {
        struct winsize size;
        return result(syscall(SYS_ioctl, (long) null_fd(), HIGH | TIOCGWINSZ, &size));
}

static int call_io_uring(void) {
        return result(
                syscall(SYS_io_uring_setup, 0L, NULL)); /* unfiltered: EFAULT, or EPERM where a sysctl closes it */
}

static int call_clone3(void) {
        return result(syscall(SYS_clone3, NULL, 0L)); /* EINVAL */
}

static int call_keyctl(void) {
        return result(syscall(SYS_keyctl, 9999L, 0L, 0L, 0L, 0L)); /* EOPNOTSUPP */
}

static int call_openat2(void) {
        return result(syscall(SYS_openat2, -1L, "x", NULL, 0L)); /* EINVAL */
}

static int call_bpf(void) {
        return result(syscall(SYS_bpf, 9999L, NULL, 0L)); /* EINVAL or EPERM */
}

/* CLONE_NEWUSER beside a flag that must not stand with it: the kernel gets as far as its own look at the flags. */
static int call_clone_newuser(void) {
        return result(syscall(SYS_clone, HIGH | CLONE_NEWUSER | CLONE_FS | SIGCHLD, NULL, NULL, NULL, 0L)); /* EINVAL */
}

static int call_clone_plain(void) {
        long pid = syscall(SYS_clone, (long) SIGCHLD, NULL, NULL, NULL, 0L);
        if (pid == 0)
                _exit(0);
        return result(pid);
}

static int call_unshare_newuser(void) {
        return result(syscall(SYS_unshare, CLONE_NEWUSER | 0x1L)); /* EINVAL: no such flag as 1 */
}

static int call_unshare_files(void) {
        return result(syscall(SYS_unshare, (long) CLONE_FILES));
}

static int call_mount(void) {
        return result(syscall(SYS_mount, NULL, NULL, NULL, 0L, NULL)); /* EFAULT */
}

static int call_chroot(void) {
        return result(syscall(SYS_chroot, NULL)); /* EFAULT */
}

static int call_socket(int family, int type, int protocol) {
        return result(
                syscall(SYS_socket, HIGH | (unsigned) family, HIGH | (unsigned) type, HIGH | (unsigned) protocol));
}

static int call_socket_unix(void) {
        return call_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int call_socket_tcp(void) {
        return call_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
}

static int call_socket_udp6(void) {
        return call_socket(AF_INET6, SOCK_DGRAM, 0);
}

static int call_socket_route(void) {
        return call_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
}

static int call_socket_diag(void) {
        return call_socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

static int call_socket_no_kind(void) {
        return call_socket(AF_INET, 9, 0); /* ESOCKTNOSUPPORT; we: EPROTONOSUPPORT */
}

static int call_socket_no_family(void) {
        return call_socket(46, 99, 0); /* EINVAL: both are out of range */
}

static int call_socketpair(void) {
        return result(syscall(SYS_socketpair, (long) AF_INET, (long) SOCK_STREAM, 0L, NULL)); /* EFAULT */
}

static int call_personality(void) {
        return result(syscall(SYS_personality, HIGH | 0xffffffff));
}

static int call_personality_exec(void) {
        return result(syscall(SYS_personality, HIGH | READ_IMPLIES_EXEC));
}

static int with_file(int (*call)(const char *, int)) {
        char name[] = "/tmp/usbox-test-seccomp-XXXXXX";
        int fd = mkstemp(name);
        if (fd < 0)
                return DIED;
        int r = call(name, fd);
        unlink(name);
        return r;
}

/* Later machines have the one call for both. */
static long chmod_named(const char *name, long mode) {
#ifdef SYS_chmod
        return syscall(SYS_chmod, name, mode);
#else
        return syscall(SYS_fchmodat, (long) AT_FDCWD, name, mode);
#endif
}

static int do_chmod(const char *name, int fd) {
        return result(chmod_named(name, HIGH | 04755));
}

static int do_fchmod(const char *name, int fd) {
        return result(syscall(SYS_fchmod, (long) fd, 02755L));
}

static int do_chmod_plain(const char *name, int fd) {
        return result(chmod_named(name, HIGH | 01755));
}

static int do_creat(const char *name, int fd) {
        unlink(name);
        return result(syscall(SYS_openat, (long) AT_FDCWD, name, HIGH | O_CREAT | O_WRONLY, HIGH | 04755));
}

static int do_open_garbage(const char *name, int fd) {
        return result(syscall(SYS_openat, (long) AT_FDCWD, name, (long) O_RDONLY, 06000L));
}

static int do_mknod(const char *name, int fd) {
        unlink(name);
        return result(syscall(SYS_mknodat, (long) AT_FDCWD, name, (long) (S_IFREG | 04755), 0L));
}

static int call_chmod(void) {
        return with_file(do_chmod);
}

static int call_fchmod(void) {
        return with_file(do_fchmod);
}

static int call_chmod_plain(void) {
        return with_file(do_chmod_plain);
}

static int call_creat(void) {
        return with_file(do_creat);
}

static int call_open_garbage(void) {
        return with_file(do_open_garbage);
}

static int call_mknod(void) {
        return with_file(do_mknod);
}

#ifdef __x86_64__
static int int80(long number, long a, long b) {
        long r;
        __asm__ volatile("int $0x80"
                         : "=a"(r)
                         : "a"(number), "b"(a), "c"(b), "d"(0L), "S"(0L), "D"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        return r < 0 ? (int) -r : 0;
}

static int call_80_getpid(void) {
        return int80(20, 0, 0);
}

static int call_80_keyctl(void) {
        return int80(288, 9999, 0);
}

static int call_80_sti(void) {
        return int80(54, null_fd(), TIOCSTI);
}

static int call_80_socketcall_socket(void) {
        return int80(102, 1, 0); /* EFAULT */
}

static int call_80_socketcall_bind(void) {
        return int80(102, 2, 0); /* EFAULT */
}
#endif

/* Expected with the plain filter, for a root payload, nested, both; with SAME the kernel's own answer. */
static const struct {
        const char *name;
        int (*call)(void);
        int expected[4];
} cases[] = {
        { "TIOCSTI", call_sti, { EPERM, EPERM, EPERM, EPERM } },
        { "TIOCSTI-high", call_sti_high, { EPERM, EPERM, EPERM, EPERM } },
        { "TIOCLINUX-high", call_linux_high, { EPERM, EPERM, EPERM, EPERM } },
        { "TIOCGWINSZ", call_winsz, { SAME, SAME, SAME, SAME } },
        { "io_uring_setup", call_io_uring, { EPERM, EPERM, EPERM, EPERM } },
        { "clone3", call_clone3, { ENOSYS, ENOSYS, SAME, SAME } },
        { "keyctl", call_keyctl, { EPERM, EPERM, EPERM, EPERM } },
        { "openat2", call_openat2, { ENOSYS, SAME, SAME, SAME } },
        { "bpf", call_bpf, { EPERM, EPERM, EPERM, EPERM } },
        { "clone-newuser", call_clone_newuser, { EPERM, EPERM, SAME, SAME } },
        { "clone", call_clone_plain, { SAME, SAME, SAME, SAME } },
        { "unshare-newuser", call_unshare_newuser, { EPERM, EPERM, SAME, SAME } },
        { "unshare-files", call_unshare_files, { SAME, SAME, SAME, SAME } },
        { "mount", call_mount, { EPERM, EPERM, SAME, SAME } },
        { "chroot", call_chroot, { EPERM, SAME, SAME, SAME } },
        { "socket-unix", call_socket_unix, { SAME, SAME, SAME, SAME } },
        { "socket-tcp", call_socket_tcp, { SAME, SAME, SAME, SAME } },
        { "socket-udp6", call_socket_udp6, { SAME, SAME, SAME, SAME } },
        { "socket-route", call_socket_route, { SAME, SAME, SAME, SAME } },
        { "socket-diag", call_socket_diag, { EPROTONOSUPPORT, EPROTONOSUPPORT, EPROTONOSUPPORT, EPROTONOSUPPORT } },
        { "socket-no-kind",
          call_socket_no_kind,
          { EPROTONOSUPPORT, EPROTONOSUPPORT, EPROTONOSUPPORT, EPROTONOSUPPORT } },
        { "socket-no-family", call_socket_no_family, { EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT } },
        { "socketpair-inet", call_socketpair, { EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT } },
        { "personality", call_personality, { SAME, SAME, SAME, SAME } },
        { "personality-exec", call_personality_exec, { EPERM, EPERM, EPERM, EPERM } },
        { "chmod-setuid", call_chmod, { EPERM, SAME, EPERM, SAME } },
        { "fchmod-setgid", call_fchmod, { EPERM, SAME, EPERM, SAME } },
        { "chmod-sticky", call_chmod_plain, { SAME, SAME, SAME, SAME } },
        { "create-setuid", call_creat, { EPERM, SAME, EPERM, SAME } },
        { "open-garbage", call_open_garbage, { SAME, SAME, SAME, SAME } },
        { "mknod-setuid", call_mknod, { EPERM, SAME, EPERM, SAME } },
};

#ifdef __x86_64__
/* The 32-bit entrance: expected with the native filters, and with those that have the 32-bit ABI too. */
static const struct {
        const char *name;
        int (*call)(void);
        int off, on;
} cases_i386[] = {
        { "getpid", call_80_getpid, ENOSYS, SAME },
        { "keyctl", call_80_keyctl, ENOSYS, EPERM },
        { "TIOCSTI", call_80_sti, ENOSYS, EPERM },
        { "socketcall-socket", call_80_socketcall_socket, ENOSYS, EPERM },
        { "socketcall-bind", call_80_socketcall_bind, ENOSYS, SAME },
};
#endif

/* The call's errno in a child with the filter (variant 0..7 as in the test's loops; -1: none), or DIED + signal. */
static int in_child(int (*call)(void), int variant) {
        int fds[2], r = 0, status;
        g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
        pid_t pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
                const struct sock_filter *filter;
                size_t n;
                if (variant >= 0) {
                        seccomp_builtin((SeccompFeatures){ .compat32 = variant & 4, .nested = variant & 2, .root_payload = variant & 1 }, &filter, &n);
                        if (!confine_self(NULL) || !confine_seccomp(filter, n, NULL))
                                _exit(1);
                }
                r = call();
                _exit(write(fds[1], &r, sizeof r) == sizeof r ? 0 : 1);
        }
        close(fds[1]);
        ssize_t got = read(fds[0], &r, sizeof r);
        close(fds[0]);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        if (WIFSIGNALED(status))
                return DIED + WTERMSIG(status);
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
        g_assert_cmpint(got, ==, sizeof r);
        return r;
}

static void test_native(gconstpointer data) {
        size_t i = GPOINTER_TO_SIZE(data);
        int unfiltered = in_child(cases[i].call, -1);
        g_test_message("%s without a filter: %s", cases[i].name, g_strerror(unfiltered));
        g_assert_cmpint(unfiltered, <, DIED);
        if (unfiltered == cases[i].expected[0]) {
                g_test_skip("this kernel refuses it by itself");
                return;
        }
        for (int variant = 0; variant < 8; variant++) {
                int expected = cases[i].expected[variant & 3];
                g_assert_cmpint(in_child(cases[i].call, variant), ==, expected == SAME ? unfiltered : expected);
        }
}

#ifdef __x86_64__
static void test_i386(gconstpointer data) {
        size_t i = GPOINTER_TO_SIZE(data);
        int unfiltered = in_child(cases_i386[i].call, -1);
        if (unfiltered >= DIED) {
                g_test_skip("this kernel has no 32-bit ABI");
                return;
        }
        for (int variant = 0; variant < 8; variant++) {
                int expected = variant & 4 ? cases_i386[i].on : cases_i386[i].off;
                g_assert_cmpint(in_child(cases_i386[i].call, variant), ==, expected == SAME ? unfiltered : expected);
        }
}
#endif

int main(int argc, char **argv) {
        g_test_init(&argc, &argv, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *path = g_strconcat("/seccomp-live/", cases[i].name, NULL);
                g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_native);
        }
#ifdef __x86_64__
        for (size_t i = 0; i < G_N_ELEMENTS(cases_i386); i++) {
                g_autofree char *path = g_strconcat("/seccomp-live/i386/", cases_i386[i].name, NULL);
                g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_i386);
        }
#endif
        return g_test_run();
}
