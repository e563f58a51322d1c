/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the stack sees of the machine, for fuzz-frames: a time that goes only as the input says, no waiting, no chance; and a look at whom it speaks to.
 *
 * Role: tests only. Privileges: none. Threads: one. The program's own symbols come before a library's, so that libslirp has these, too; those of --wrap
 * are for our own modules.
 */
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "frames-check.h"
#include "frames.h"

#define DESCRIPTORS 200 /* few enough for an input to use them up */

bool machine_in_stack;
int64_t machine_clock;
static uint32_t randomness;

static void limit_descriptors(rlim_t most) {
        struct rlimit limit;

        g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = MIN(most, limit.rlim_max);
        g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &limit));
}

void machine_begin(void) {
        limit_descriptors(DESCRIPTORS);
        machine_clock = (int64_t) 1000 * 1000000000;
        randomness = 0;
}

/* It goes on by itself only so that a loop that waits for it ends. */
int clock_gettime(clockid_t id, struct timespec *ret) {
        if (id != CLOCK_MONOTONIC)
                return (int) syscall(SYS_clock_gettime, id, ret);
        machine_clock += 20000;
        ret->tv_sec = machine_clock / 1000000000;
        ret->tv_nsec = machine_clock % 1000000000;
        return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout) {
        return (int) syscall(SYS_epoll_pwait, fd, events, max, 0, NULL, 0);
}

ssize_t getrandom(void *ret, size_t len, unsigned flags) {
        for (size_t i = 0; i < len; i++) {
                randomness = randomness * 1664525 + 1013904223;
                ((uint8_t *) ret)[i] = (uint8_t) (randomness >> 24);
        }
        return (ssize_t) len;
}

/* libFuzzer's, for an input that broke something, where there may be no descriptors left. Ours is fopen64(3) by that name. */
FILE *open_for_fuzzer(const char *path, const char *mode) __asm__("fopen");

FILE *open_for_fuzzer(const char *path, const char *mode) {
        limit_descriptors(RLIM_INFINITY);
        return fopen64(path, mode);
}

/* The names of --wrap. */
void __wrap_log_note(const char *fmt, ...);
ssize_t __real_tap_read(int fd, uint8_t *buf, size_t size, TapLeft *ret_left);
ssize_t __wrap_tap_read(int fd, uint8_t *buf, size_t size, TapLeft *ret_left);

void __wrap_log_note(const char *fmt, ...) {
}

/* What stands behind a frame is that of others, and nobody's to read. */
ssize_t __wrap_tap_read(int fd, uint8_t *buf, size_t size, TapLeft *ret_left) {
        ASAN_UNPOISON_MEMORY_REGION(buf, size);
        ssize_t n = __real_tap_read(fd, buf, size, ret_left);
        size_t end = TAP_ROOM + (n < 0 ? 0 : (size_t) n);
        ASAN_POISON_MEMORY_REGION(buf + end, size - end);
        return n;
}

static int type_of(int fd) {
        int type = 0;
        socklen_t len = sizeof type;

        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 ? type : -1;
}

int connect(int fd, const struct sockaddr *addr, socklen_t len) {
        if (machine_in_stack && (addr->sa_family == AF_INET || addr->sa_family == AF_INET6))
                check_connect(addr);
        return (int) syscall(SYS_connect, fd, addr, len);
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *addr, socklen_t addr_len) {
        if (machine_in_stack && addr && (addr->sa_family == AF_INET || addr->sa_family == AF_INET6) && type_of(fd) != SOCK_RAW)
                check_sendto(addr);
        return syscall(SYS_sendto, fd, data, len, flags, addr, addr_len);
}

int listen(int fd, int backlog) {
        int r = (int) syscall(SYS_listen, fd, backlog);
        if (machine_in_stack && r == 0)
                check_listens(fd);
        return r;
}
