/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at processes of the caller's outside: seen in /proc, read, traced, signalled, slowed down. The victim is a process that the
 * suite starts, this program as `probe --victim`, with secrets in its arguments, environment, memory, directory and an open file.
 *
 * Role: tests only, runs as the payload, and as the victim outside. Privileges: what the box gives. Threads: one. Nobody is signalled
 * but by signals that do nothing to who does not ask for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

static pid_t victim(void) {
        return (pid_t) target_number("victim");
}

/* /proc/PID/WHAT, of every process there is */
static long secret_in_proc(pid_t pid, void *what) {
        char path[512];
        snprintf(path, sizeof path, "/proc/%d/%s", pid, (const char *) what);
        return reached_secret_file(AT_FDCWD, path);
}
static long probe_proc_cmdline(void) {
        return each_process(secret_in_proc, (void *) "cmdline");
}
static long probe_proc_environ(void) {
        return each_process(secret_in_proc, (void *) "environ");
}
static long probe_proc_cwd(void) {
        return each_process(secret_in_proc, (void *) "cwd/secret");
}
static long probe_proc_root(void) {
        char path[512];
        if (!target("outside"))
                return -1;
        snprintf(path, sizeof path, "root%s/secret", target("outside"));
        return each_process(secret_in_proc, path);
}
/* The same of a thread: another door to the same rooms. */
static long secret_in_task(pid_t pid, void *what) {
        char path[512];
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, pid, (const char *) what);
        return reached_secret_file(AT_FDCWD, path);
}
static long probe_proc_task_cwd(void) {
        return each_process(secret_in_task, (void *) "cwd/secret");
}
static long secret_in_fds(pid_t pid, void *data) {
        (void) data;
        for (int fd = 0; fd < 16; fd++) {
                static char text[4096];
                char path[64];
                snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                struct stat st;
                if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
                        continue;
                int opened = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
                ssize_t n = opened < 0 ? -1 : pread(opened, text, sizeof text, 0);
                if (opened >= 0)
                        close(opened);
                if (n > 0 && reached_secret(text, (size_t) n) >= 0)
                        return 0;
        }
        errno = ENOENT;
        return -1;
}
static long probe_proc_fd(void) {
        return each_process(secret_in_fds, NULL);
}
/* Its end, where the suite wrote a secret. */
static long secret_in_exe(pid_t pid, void *data) {
        static char text[256];
        char path[64];
        (void) data;
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        off_t end = fd < 0 ? -1 : lseek(fd, -(off_t) sizeof text, SEEK_END);
        ssize_t n = end < 0 ? -1 : read(fd, text, sizeof text);
        if (fd >= 0)
                close(fd);
        return n < 0 ? -1 : reached_secret(text, (size_t) n);
}
static long probe_proc_exe(void) {
        return each_process(secret_in_exe, NULL);
}
/* The program that runs outside (CVE-2019-5736), the victim's or usbox's: who may set its mode to what it is may set it to another. */
static long chmod_exe(pid_t pid, void *data) {
        char path[64];
        struct stat st;
        (void) data;
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        if (stat(path, &st) < 0 || st.st_uid != geteuid())
                return -1;
        return chmod(path, st.st_mode & 07777) < 0 ? -1 : reached("the mode of %s ", path);
}
static long probe_proc_exe_chmod(void) {
        return each_process(chmod_exe, NULL);
}
static long secret_in_mem(pid_t pid, void *data) {
        char path[64], text[64];
        (void) data;
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text, (off_t) target_number("address"));
        if (fd >= 0)
                close(fd);
        return n < 0 ? -1 : reached_secret(text, (size_t) n);
}
static long probe_proc_mem(void) {
        return each_process(secret_in_mem, NULL);
}

/* by its number */
static long probe_vm_read(void) {
        char text[64];
        struct iovec local = { text, sizeof text }, remote = { (void *) (uintptr_t) target_number("address"), sizeof text };
        long n = syscall(SYS_process_vm_readv, victim(), &local, 1, &remote, 1, 0);
        return n < 0 ? -1 : reached_secret(text, (size_t) n);
}
static long probe_vm_write(void) {
        char text[] = "owned";
        struct iovec local = { text, sizeof text }, remote = { (void *) (uintptr_t) target_number("writable"), sizeof text };
        return syscall(SYS_process_vm_writev, victim(), &local, 1, &remote, 1, 0);
}
static long probe_ptrace(void) {
        char text[64];
        if (ptrace(PTRACE_SEIZE, victim(), NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, victim(), NULL, NULL) < 0 || waitpid(victim(), NULL, __WALL) < 0)
                return -1;
        for (size_t i = 0; i < sizeof text; i += sizeof(long)) {
                long word = ptrace(PTRACE_PEEKDATA, victim(), (void *) (uintptr_t) (target_number("address") + i), NULL);
                memcpy(text + i, &word, sizeof word);
        }
        (void) ptrace(PTRACE_DETACH, victim(), NULL, NULL);
        return reached_secret(text, sizeof text);
}
static long probe_victim_descriptor(void) {
        int pidfd = (int) syscall(SYS_pidfd_open, victim(), 0);
        long fd = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, (int) target_number("victim_fd"), 0);
        char text[64];
        ssize_t n = fd < 0 ? -1 : pread((int) fd, text, sizeof text, 0);
        return n < 0 ? -1 : reached_secret(text, (size_t) n);
}
/* The victim notes the signals that it gets; which number comes by which way stands in the suite's table, too. */
static long probe_signal_kill(void) {
        return kill(victim(), SIGRTMIN + 1);
}
static long probe_signal_tgkill(void) {
        return syscall(SYS_tgkill, victim(), victim(), SIGRTMIN + 2);
}
static long probe_signal_queue(void) {
        return sigqueue(victim(), SIGRTMIN + 3, (union sigval){ .sival_int = 1 });
}
static long probe_signal_pidfd(void) {
        int pidfd = (int) syscall(SYS_pidfd_open, victim(), 0);
        return pidfd < 0 ? -1 : syscall(SYS_pidfd_send_signal, pidfd, SIGRTMIN + 4, NULL, 0);
}
/* The kernel sends for us what a socket's owner is to get. */
static long probe_signal_async(void) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        if (fcntl(pair[0], F_SETOWN, victim()) < 0 || fcntl(pair[0], F_SETSIG, SIGRTMIN + 5) < 0 || fcntl(pair[0], F_SETFL, O_ASYNC) < 0)
                return -1;
        return write(pair[1], "x", 1);
}
/* Every process that we may signal; who does not ask for SIGURG does not notice. */
static long probe_signal_all(void) {
        signal(SIGURG, SIG_IGN);
        return kill(-1, SIGURG);
}
static long probe_slow_priority(void) {
        return setpriority(PRIO_PROCESS, (id_t) victim(), 19); /* no less than whatever it has */
}
static long probe_slow_affinity(void) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(0, &set);
        return syscall(SYS_sched_setaffinity, victim(), sizeof set, &set);
}
/* Of all processes of this user, wherever they are: best effort, 6. */
static long probe_slow_io_of_user(void) {
        return syscall(SYS_ioprio_set, 3 /* IOPRIO_WHO_USER */, getuid(), 2 << 13 | 6);
}
static long probe_limit_process(void) {
        struct rlimit limit = { 4711, 4711 };
        return prlimit(victim(), RLIMIT_MSGQUEUE, &limit, NULL);
}
static long probe_victim_compared(void) {
        return syscall(SYS_kcmp, victim(), victim(), KCMP_FILES, 0, 0) < 0 ? -1 : reached("compared");
}
static long probe_victim_pidfd(void) {
        return syscall(SYS_pidfd_open, victim(), 0) < 0 ? -1 : reached("a descriptor of process %d", victim());
}

const Probe processes_probes[] = {
        PROBE(proc_cmdline),    PROBE(proc_environ),    PROBE(proc_cwd),      PROBE(proc_root),        PROBE(proc_task_cwd), PROBE(proc_fd),
        PROBE(proc_exe),        PROBE(proc_exe_chmod),  PROBE(proc_mem),      PROBE(vm_read),          PROBE(vm_write),      PROBE(ptrace),
        PROBE(victim_descriptor),     PROBE(signal_kill),     PROBE(signal_tgkill), PROBE(signal_queue),     PROBE(signal_pidfd),  PROBE(signal_async),
        PROBE(signal_all),      PROBE(slow_priority),   PROBE(slow_affinity), PROBE(slow_io_of_user),  PROBE(limit_process), PROBE(victim_compared),
        PROBE(victim_pidfd),
        { NULL, NULL },
};

/* the victim: notes signals in descriptor 8 */
static char secret[64], writable[64] = "untouched";

static void note_signal(int number) {
        char line[] = "00\n";
        int n = number == SIGURG ? 99 : number - SIGRTMIN;
        line[0] = (char) ('0' + n / 10);
        line[1] = (char) ('0' + n % 10);
        (void) !write(8, line, 3);
}

/* what is the secret, a word of the command line; "spaces SECRET": in namespaces of its own, with a file there. */
int victim_main(const char *what) {
        const char *own = strncmp(what, "spaces ", 7) == 0 ? what + 7 : NULL;
        snprintf(secret, sizeof secret, "%s", own ? own : what);
        if (own) {
                int fd = spaces_of_my_own() && mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 ? open("/tmp/secret", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
                if (fd < 0 || write(fd, own, strlen(own)) < 0) {
                        perror("probe: victim");
                        return 1;
                }
        }
        (void) prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        struct sigaction action = { .sa_handler = note_signal, .sa_flags = SA_RESTART };
        for (int i = 1; i <= 5; i++)
                sigaction(SIGRTMIN + i, &action, NULL);
        sigaction(SIGURG, &action, NULL);
        printf("%d %p %p\n", getpid(), (void *) secret, (void *) writable);
        fflush(stdout);
        char byte = 0;
        /* The suite holds the other end. */
        while (read(0, &byte, 1) < 0 && errno == EINTR)
                ;
        return 0;
}
