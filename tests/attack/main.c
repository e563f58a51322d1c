/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a hostile program in a box would try: `probe NAME...` prints for each "NAME ok WHAT" or "NAME ERRNO WHAT".
 *
 * --list    the names of all; --list-calls: of those that are single calls; --calls: run those; --all: run all others
 * --with    KEY=VALUE: a target (probe.h)
 * --own     run in namespaces of one's own, as their root: where the suite proves what an ordinary user may do nowhere else
 * --victim  be a target: a process to be seen, signalled, traced
 *
 * Role: tests only, runs as the payload. Privileges: what the box gives. Threads: one. A probe does no harm where it comes
 * through: it spoils what the suite has put there for it, or the box, which is thrown away.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

enum { MAX_TARGETS = 64, SECONDS = 60 };

static const Probe *const groups[] = { calls_probes,   files_probes, writes_probes, shapes_probes, processes_probes,
                                       spaces_probes, sockets_probes, ipc_probes, kernel_probes, rights_probes };
static const char *targets[MAX_TARGETS];
static char text[1024];

const char *target(const char *key) {
        size_t n = strlen(key);
        for (size_t i = 0; i < MAX_TARGETS && targets[i]; i++)
                if (strncmp(targets[i], key, n) == 0 && targets[i][n] == '=')
                        return targets[i] + n + 1;
        errno = EDESTADDRREQ;
        return NULL;
}

unsigned long target_number(const char *key) {
        const char *value = target(key);
        return value ? strtoul(value, NULL, 0) : 0;
}

const char *target_path(const char *key, const char *name) {
        static char paths[4][512];
        static unsigned next;
        const char *dir = target(key);
        if (!dir)
                return NULL;
        char *path = paths[next++ % 4];
        snprintf(path, sizeof paths[0], "%s/%s", dir, name);
        return path;
}

long reached(const char *format, ...) {
        size_t n = strlen(text);
        va_list args;
        va_start(args, format);
        vsnprintf(text + n, sizeof text - n, format, args);
        va_end(args);
        return 0;
}

const char *reached_text(void) {
        return text;
}

void reached_forget(void) {
        *text = 0;
}

long reached_secret(const void *data, size_t n) {
        static const char mark[] = "USBOX-SECRET-";
        enum { DIGITS = 16 };
        const size_t length = sizeof mark - 1 + DIGITS;
        long found = 0;

        for (const char *at = data, *end = at + n; (at = memmem(at, (size_t) (end - at), mark, sizeof mark - 1)); at++) {
                char secret[sizeof mark + DIGITS];
                if ((size_t) (end - at) < length)
                        break;
                memcpy(secret, at, length);
                secret[length] = 0;
                if (strspn(secret + sizeof mark - 1, "0123456789abcdef") < DIGITS)
                        continue;
                if (!strstr(text, secret))
                        reached("%s ", secret);
                found++;
        }
        if (found == 0)
                errno = ENODATA;
        return found > 0 ? found : -1;
}

long reached_secret_fd(int fd) {
        static char data[1 << 16];
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        if (poll(&poll_fd, 1, 8000) <= 0) {
                errno = ETIMEDOUT;
                return -1;
        }
        ssize_t n = read(fd, data, sizeof data);
        return n < 0 ? -1 : reached_secret(data, (size_t) n);
}

long reached_secret_file(int dir, const char *path) {
        int fd = path ? openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
        if (fd < 0)
                return -1;
        long ret = reached_secret_fd(fd);
        close(fd);
        return ret;
}

long each_process(long (*f)(pid_t pid, void *data), void *data) {
        DIR *proc = opendir("/proc");
        long ret = -1;
        if (!proc)
                return -1;
        errno = ESRCH;
        for (struct dirent *entry; (entry = readdir(proc));) {
                pid_t pid = (pid_t) strtol(entry->d_name, NULL, 10);
                if (pid > 0 && pid != getpid() && pid != getppid() && f(pid, data) >= 0)
                        ret = 0;
        }
        closedir(proc);
        return ret;
}

static bool write_file(const char *path, const char *data) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool ok = fd >= 0 && write(fd, data, strlen(data)) == (ssize_t) strlen(data);
        if (fd >= 0)
                close(fd);
        return ok;
}

bool spaces_of_my_own(void) {
        char uids[64], gids[64];
        snprintf(uids, sizeof uids, "0 %u 1", geteuid());
        snprintf(gids, sizeof gids, "0 %u 1", getegid());
        return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP) == 0 &&
               write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", uids) && write_file("/proc/self/gid_map", gids) &&
               mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* In a network namespace of one's own it is down at first. */
static bool lo_up(void) {
        struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        bool ok = s >= 0 && ioctl(s, SIOCSIFFLAGS, &ifr) == 0;
        if (s >= 0)
                close(s);
        return ok;
}

/* What it printed it has printed: a probe that comes through may end its process in any way. */
static void attempt(const Probe *p) {
        alarm(SECONDS);
        errno = 0;
        long ret = p->run();
        const char *result = ret >= 0 ? "ok" : strerrorname_np(errno);
        for (char *c = text; *c; c++)
                if ((unsigned char) *c < ' ' || (unsigned char) *c > '~')
                        *c = '.';
        printf(*text ? "%s %s %s\n" : "%s %s\n", p->name, result ? result : "?", text);
        fflush(stdout);
        _exit(0);
}

static void await(pid_t pid, const char *name) {
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                printf("%s FORK\n", name);
        else if (WIFSIGNALED(status))
                printf("%s SIG%s\n", name, sigabbrev_np(WTERMSIG(status)));
        fflush(stdout);
}

/* In a child of its own, since a probe that succeeds changes the process (or is killed by the filter). */
static void run(const Probe *p, bool own) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0 && !own)
                attempt(p);
        if (pid == 0) {
                bool ok = spaces_of_my_own() && mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 && lo_up();
                pid_t first = ok ? fork() : -1;
                if (first == 0) {
                        /* Where /proc has another pid namespace's processes the probe would meet none of its own. */
                        if (mount("proc", "/proc", "proc", 0, NULL) < 0)
                                perror("probe: mount /proc");
                        attempt(p);
                }
                await(first, p->name);
                _exit(0);
        }
        await(pid, p->name);
}

static const Probe *find(const char *name) {
        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                for (const Probe *p = groups[g]; p->name; p++)
                        if (strcmp(p->name, name) == 0)
                                return p;
        return NULL;
}

static void run_all(bool calls, bool own) {
        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                for (const Probe *p = groups[g]; p->name && (groups[g] == calls_probes) == calls; p++)
                        run(p, own);
}

int main(int argc, char **argv) {
        size_t n = 0;
        bool own = false;

        /* Some of these end the machine where they succeed. */
        if (geteuid() == 0 && !getenv("USBOX") && !getenv("USBOX_ATTACK_ROOT_OF_A_BOX")) {
                fputs("probe: for boxes, not for the root of a machine\n", stderr);
                return 2;
        }
        for (int i = 1; i < argc; i++) {
                const Probe *found = find(argv[i]);
                if (strcmp(argv[i], "--with") == 0 && i + 1 < argc && n + 1 < MAX_TARGETS)
                        targets[n++] = argv[++i];
                else if (strcmp(argv[i], "--victim") == 0 && i + 1 < argc)
                        return victim_main(argv[i + 1]);
                else if (strcmp(argv[i], "--own") == 0)
                        own = true;
                else if (strcmp(argv[i], "--calls") == 0 || strcmp(argv[i], "--all") == 0)
                        run_all(strcmp(argv[i], "--calls") == 0, own);
                else if (strcmp(argv[i], "--list") == 0) {
                        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                                for (const Probe *p = groups[g]; p->name; p++)
                                        puts(p->name);
                } else if (strcmp(argv[i], "--list-calls") == 0) {
                        for (const Probe *p = calls_probes; p->name; p++)
                                puts(p->name);
                } else if (found)
                        run(found, own);
                else {
                        fprintf(stderr, "probe: no probe '%s'\n", argv[i]);
                        return 2;
                }
        }
        return 0;
}
