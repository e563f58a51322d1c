/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* System calls and constants that glibc 2.36 has no wrapper for, as thin as can be: each returns what the
 * kernel returns, -1 with errno set on failure. */

#include <errno.h>
#include <linux/landlock.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline pid_t sys_clone3(struct clone_args *args) {
        return (pid_t) syscall(SYS_clone3, args, sizeof *args);
}

/* Beneath a directory the kernel gives up at a ".." while anybody on the machine mounts or renames something (EAGAIN, openat2(2)), and is to
 * be asked again. */
static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
        struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
        int fd;

        for (int tries = 0; (fd = (int) syscall(SYS_openat2, dirfd, path, &how, sizeof how)) < 0 && errno == EAGAIN && tries < 1000;)
                tries++;
        return fd;
}

static inline int sys_pivot_root(const char *new_root, const char *put_old) {
        return (int) syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_landlock_create_ruleset(const struct landlock_ruleset_attr *attr, size_t size, uint32_t flags) {
        return (int) syscall(SYS_landlock_create_ruleset, attr, size, flags);
}

static inline int sys_landlock_add_rule(int ruleset, enum landlock_rule_type type, const void *attr) {
        return (int) syscall(SYS_landlock_add_rule, ruleset, type, attr, 0);
}

static inline int sys_landlock_restrict_self(int ruleset) {
        return (int) syscall(SYS_landlock_restrict_self, ruleset, 0);
}

