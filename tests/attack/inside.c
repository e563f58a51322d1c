/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes from inside a helper: what usbox-net or usbox-fs would reach if it were taken over.
 *
 * Role: tests only; LD_PRELOAD puts it into a helper. Privileges: the helper's at that moment. Threads: the helper's first.
 *
 * It stands in the way of the calls by which a helper confines itself. At the first of them it makes the attempts that the environment names,
 * when they must come through, so that none is stopped by a mistake of its own; and again when the filter, which is the last of them, is on.
 *
 * USBOX_ATTACK_PROCESS  which of them, by the name that ps shows: usbox-net-agent, say
 * USBOX_ATTACK_INSIDE   the names of probes, with blanks between
 * USBOX_ATTACK_WITH     their targets, KEY=VALUE, in lines
 * USBOX_ATTACK_SPARED   calls that are not made, with blanks between: seccomp and landlock seem to succeed, unshare is refused; so one sees what else holds
 * USBOX_ATTACK_REPORT   a file of REPORT_SIZE zeroes, for a line from each: "before|after NAME ok|ERRNO WHAT"
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe.h"

enum { REPORT_SIZE = 1 << 16 };

static char *report; /* memory: who has no right to write(2) says it so */
static char *wanted, *wanted_process; /* NULL: nothing is, here */
static char *spared;                   /* NULL: nothing */
static bool busy;                      /* what is called now is called by a probe */
static bool began;                     /* it has made its attempts before */

__attribute__((constructor)) static void read_environment(void) {
        const char *names = getenv("USBOX_ATTACK_INSIDE"), *name = getenv("USBOX_ATTACK_PROCESS");
        const char *with = getenv("USBOX_ATTACK_WITH"), *path = getenv("USBOX_ATTACK_REPORT");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

        if (fd < 0)
                return;
        report = mmap(NULL, REPORT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (report == MAP_FAILED || close(fd) < 0)
                abort();

        /* Copies: helpers wipe what the caller gave. */
        wanted = names ? strdup(names) : NULL;
        wanted_process = name ? strdup(name) : NULL;
        spared = getenv("USBOX_ATTACK_SPARED") ? strdup(getenv("USBOX_ATTACK_SPARED")) : NULL;
        char *lines = with ? strdup(with) : NULL;
        for (char *at = lines; at && *at;) {
                char *line = strsep(&at, "\n");
                if (!target_add(line))
                        abort();
        }
        unsetenv("LD_PRELOAD");
}

static void attempt_all(const char *moment) {
        char *names = strdupa(wanted);

        busy = true;
        for (char *name; (name = strsep(&names, " "));) {
                const Probe *p = probe_find(name);
                if (!p)
                        abort();
                reached_forget();
                const char *result = probe_attempt(p);
                size_t used = strlen(report);
                snprintf(report + used, REPORT_SIZE - used, "%s %s %s %s\n", moment, name, result, reached_text());
        }
        busy = false;
}

static void begins(void) {
        char name[17] = "";

        if (!wanted || !wanted_process || busy || began)
                return;
        int (*next)(int, ...) = (int (*)(int, ...)) dlsym(RTLD_NEXT, "prctl");
        if (next(PR_GET_NAME, name) < 0 || strcmp(name, wanted_process) != 0)
                return;
        began = true;
        attempt_all("before");
}

/* Of the process alone that is looked at, and not of a probe's. */
static bool is_spared(const char *call) {
        return began && !busy && spared && strstr(spared, call);
}

int unshare(int flags) {
        int (*next)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "unshare");
        if (flags & CLONE_NEWUSER)
                begins();
        if (is_spared("unshare")) {
                errno = EPERM;
                return -1;
        }
        return next(flags);
}

int prctl(int option, ...) {
        int (*next)(int, ...) = (int (*)(int, ...)) dlsym(RTLD_NEXT, "prctl");
        unsigned long a[4];
        va_list ap;

        va_start(ap, option);
        for (int i = 0; i < 4; i++)
                a[i] = va_arg(ap, unsigned long);
        va_end(ap);
        if (option == PR_SET_NO_NEW_PRIVS)
                begins();
        return next(option, a[0], a[1], a[2], a[3]);
}

long syscall(long number, ...) {
        long (*next)(long, ...) = (long (*)(long, ...)) dlsym(RTLD_NEXT, "syscall");
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        bool not_made = (number == SYS_seccomp && is_spared("seccomp")) || (number == SYS_landlock_restrict_self && is_spared("landlock"));
        long ret = not_made ? 0 : next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (number == SYS_seccomp && a[0] == SECCOMP_SET_MODE_FILTER && ret == 0 && !busy && began)
                attempt_all("after");
        return ret;
}
