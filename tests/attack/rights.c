/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes at rights: capabilities held and gained, set-id programs, files that would give rights to who executes them.
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "probe.h"

/* "CapEff" and its kin of a process, or 0 */
static unsigned long long status_number(pid_t pid, const char *key, int field, int base) {
        char path[64], line[256];
        unsigned long long value = 0;
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        FILE *file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file)) {
                size_t n = strlen(key);
                if (strncmp(line, key, n) != 0 || line[n] != ':')
                        continue;
                char *at = line + n + 1;
                for (int i = 0; i <= field; i++)
                        value = strtoull(at, &at, base);
        }
        if (file)
                fclose(file);
        return value;
}

static long any_capability(const char *set) {
        unsigned long long caps = status_number(getpid(), set, 0, 16);
        errno = ENODATA;
        return caps ? reached("%s %llx", set, caps) : -1;
}
static long probe_caps_effective(void) {
        return any_capability("CapEff");
}
static long probe_caps_bounding(void) {
        return any_capability("CapBnd");
}
/* Of those that nobody in a box is to have: over mounts, network, processes, the machine. */
static long probe_caps_great(void) {
        const unsigned long long great = 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_NET_ADMIN | 1ULL << CAP_NET_RAW | 1ULL << CAP_SYS_PTRACE | 1ULL << CAP_SYS_MODULE |
                                         1ULL << CAP_SYS_RAWIO | 1ULL << CAP_MKNOD | 1ULL << CAP_DAC_READ_SEARCH | 1ULL << CAP_SYS_BOOT | 1ULL << CAP_SYS_TIME;
        unsigned long long caps = (status_number(getpid(), "CapEff", 0, 16) | status_number(getpid(), "CapBnd", 0, 16)) & great;
        errno = ENODATA;
        return caps ? reached("%llx", caps) : -1;
}
static long probe_new_privileges(void) {
        errno = ENODATA;
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? reached("no_new_privs is not set") : -1;
}
/* Is what was executed another user than we are? su waits for a password that nobody gives. */
static long probe_setuid_program(void) {
        int in[2], out[2];
        if (geteuid() == 0 || access("/usr/bin/su", X_OK) < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                dup2(out[1], 2);
                execl("/usr/bin/su", "su", "-c", "true", "root", NULL);
                _exit(1);
        }
        close(out[1]);
        struct pollfd poll_fd = { .fd = out[0], .events = POLLIN };
        unsigned long long uid = geteuid();
        /* It asks, or says why it does not; then it is what it is. */
        if (pid > 0 && poll(&poll_fd, 1, 5000) > 0)
                uid = status_number(pid, "Uid", 1, 10);
        if (pid > 0) {
                close(in[1]);
                (void) kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
        }
        errno = EPERM;
        return uid != geteuid() ? reached("a process of user %llu", uid) : -1;
}
/* A set-id file of our own, on the host's file system: for others, or for later. */
static long set_id(const char *path, mode_t bits) {
        struct stat st;
        int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0755);
        if (fd < 0)
                return -1;
        (void) syscall(SYS_fchmod, fd, 0755 | bits);
#ifdef SYS_chmod
        (void) syscall(SYS_chmod, path, 0755 | bits);
#endif
        (void) syscall(SYS_fchmodat, AT_FDCWD, path, 0755 | bits);
        (void) syscall(452 /* fchmodat2 */, AT_FDCWD, path, 0755 | bits, 0);
        errno = EPERM;
        return fstat(fd, &st) < 0 || !(st.st_mode & bits) ? -1 : reached("mode %o", st.st_mode & 07777);
}
static long probe_setuid_file(void) {
        return set_id("made-setuid", 04000);
}
static long probe_setgid_file(void) {
        return set_id("made-setgid", 02000);
}
static long probe_setuid_created(void) {
        struct stat st;
        int fd = open("created-setuid", O_CREAT | O_RDWR | O_CLOEXEC, 04755);
        errno = EPERM;
        return fd < 0 || fstat(fd, &st) < 0 || !(st.st_mode & 04000) ? -1 : reached("mode %o", st.st_mode & 07777);
}
/* cap_net_admin=ep on a file */
static long set_file_caps(const char *path) {
        struct vfs_cap_data caps = { .magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, .data[0].permitted = 1U << CAP_NET_ADMIN };
        return setxattr(path, "security.capability", &caps, sizeof caps, 0);
}
static long probe_file_caps(void) {
        int fd = open("/tmp/with-caps", O_CREAT | O_RDWR | O_CLOEXEC, 0755);
        return fd < 0 || set_file_caps("/tmp/with-caps") < 0 ? -1 : reached("a file with capabilities");
}
/* And do they come to who executes it? As nobody's root, since root would have them anyway. */
static long probe_file_caps_executed(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[2] = { { 0 } };
        if (system("cp /bin/grep /tmp/grep-with-caps") != 0 || set_file_caps("/tmp/grep-with-caps") < 0)
                return -1;
        if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
                return -1;
        pid_t pid = fork();
        if (pid == 0) {
                execl("/tmp/grep-with-caps", "grep", "-q", "CapEff:.*[1-9a-f]", "/proc/self/status", NULL);
                _exit(126);
        }
        int status = 0;
        errno = EPERM;
        return pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0 ? -1 : reached("capabilities by executing a file");
}

/* 0 is what starts a core_pattern program on the host, with what the dump holds (core(5)); a call that only says that it did is none. */
static long probe_core_limit(void) {
        struct rlimit limit;
        if (getrlimit(RLIMIT_CORE, &limit) < 0)
                return -1;
        rlim_t before = limit.rlim_max; /* 0 where the caller's is, which nobody can raise */
        limit = (struct rlimit){ 0, 0 };
        if (setrlimit(RLIMIT_CORE, &limit) < 0 || getrlimit(RLIMIT_CORE, &limit) < 0)
                return -1;
        errno = EPERM;
        return before > 0 && limit.rlim_max == 0 ? reached("the limit of core dumps was %llu and is 0", (unsigned long long) before) : -1;
}

const Probe rights_probes[] = {
        PROBE(caps_effective), PROBE(caps_bounding),  PROBE(caps_great), PROBE(new_privileges), PROBE(setuid_program), PROBE(setuid_file),
        PROBE(setgid_file),    PROBE(setuid_created), PROBE(file_caps),  PROBE(file_caps_executed), PROBE(core_limit),
        { NULL, NULL },
};
