/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all probes use: their targets, what they have reached, the list of all of them (probe.h).
 *
 * Role: tests only, in the program that is the payload (main.c), and in helpers (inside.c). Privileges: what the place gives. Threads: one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "probe.h"

enum { MAX_TARGETS = 64 };

const Probe *const probe_groups[] = { calls_probes,   files_probes, writes_probes, shapes_probes, processes_probes, spaces_probes,
                                      sockets_probes, ipc_probes,   kernel_probes, rights_probes, NULL };
static const char *targets[MAX_TARGETS];
static size_t n_targets;
static char text[1024];

bool target_add(const char *assignment) {
        if (n_targets + 1 >= MAX_TARGETS)
                return false;
        targets[n_targets++] = assignment;
        return true;
}

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

const Probe *probe_find(const char *name) {
        for (const Probe *const *group = probe_groups; *group; group++)
                for (const Probe *p = *group; p->name; p++)
                        if (strcmp(p->name, name) == 0)
                                return p;
        return NULL;
}

const char *probe_attempt(const Probe *p) {
        errno = 0;
        long ret = p->run();
        const char *result = ret >= 0 ? "ok" : strerrorname_np(errno);
        for (char *c = text; *c; c++)
                if ((unsigned char) *c < ' ' || (unsigned char) *c > '~')
                        *c = '.';
        return result ? result : "?";
}
