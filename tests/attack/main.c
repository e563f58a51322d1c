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

enum { SECONDS = 60 };

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
        const char *result = probe_attempt(p);
        printf(*reached_text() ? "%s %s %s\n" : "%s %s\n", p->name, result, reached_text());
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

static void run_all(bool calls, bool own) {
        for (const Probe *const *group = probe_groups; *group; group++)
                for (const Probe *p = *group; p->name && (*group == calls_probes) == calls; p++)
                        run(p, own);
}

int main(int argc, char **argv) {
        bool own = false;

        /* Some of these end the machine where they succeed. */
        if (geteuid() == 0 && !getenv("USBOX") && !getenv("USBOX_ATTACK_ROOT_OF_A_BOX")) {
                fputs("probe: for boxes, not for the root of a machine\n", stderr);
                return 2;
        }
        for (int i = 1; i < argc; i++) {
                const Probe *found = probe_find(argv[i]);
                if (strcmp(argv[i], "--with") == 0 && i + 1 < argc && target_add(argv[i + 1]))
                        i++;
                else if (strcmp(argv[i], "--victim") == 0 && i + 1 < argc)
                        return victim_main(argv[i + 1]);
                else if (strcmp(argv[i], "--own") == 0)
                        own = true;
                else if (strcmp(argv[i], "--calls") == 0 || strcmp(argv[i], "--all") == 0)
                        run_all(strcmp(argv[i], "--calls") == 0, own);
                else if (strcmp(argv[i], "--list") == 0) {
                        for (const Probe *const *group = probe_groups; *group; group++)
                                for (const Probe *p = *group; p->name; p++)
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
