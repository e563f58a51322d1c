/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program that executes the command, where usbox's own file must not be what does.
 *
 * Role: payload, between its confinement and the command. Privileges: the command's. Threads: one. Order: step 9, last.
 *
 * A script whose interpreter is /proc/self/exe makes the kernel execute whatever program is executing the script, and what then runs in the
 * box has that program's file at hand (CVE-2019-5736). So where the caller could change usbox's file, the payload's process first
 * executes this, from a sealed file in memory that nobody can write to. It is no part of any library and uses none: its
 * execution is a good part of what a short run costs. It is told nothing but argv and the environment; descriptor 3 is the wire,
 * on which it says why it could not execute the command.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "stub.h"

#define PATH_LEN 4096

static long call(long n, long a, long b, long c) {
#if defined(__x86_64__)
        long r;
        __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return r;
#elif defined(__aarch64__)
        register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
        return x0;
#else
#error "the two lines that make a system call on this machine"
#endif
}

static size_t length(const char *s) {
        size_t n = 0;
        while (s[n])
                n++;
        return n;
}

static int has_slash(const char *s) {
        for (; *s; s++)
                if (*s == '/')
                        return 1;
        return 0;
}

/* The value of PATH, or what execvp(3) takes without one. */
static const char *search_path(char **envp) {
        for (; *envp; envp++)
                if ((*envp)[0] == 'P' && (*envp)[1] == 'A' && (*envp)[2] == 'T' && (*envp)[3] == 'H' && (*envp)[4] == '=')
                        return *envp + 5;
        return "/bin:/usr/bin";
}

/* As execvp(3) does, a file that is of no format is a script of the shell's. argv has a place before its first word (_start). */
static long execute(const char *path, char **argv, char **envp) {
        static const char shell[] = "/bin/sh";
        long r = call(SYS_execve, (long) path, (long) argv, (long) envp);

        if (r != -ENOEXEC)
                return r;
        char *first = argv[0];
        argv[-1] = (char *) shell;
        argv[0] = (char *) path;
        r = call(SYS_execve, (long) shell, (long) (argv - 1), (long) envp);
        argv[0] = first;
        return r;
}

/* The errno of execvp(3), as a negative number. */
static long search(char **argv, char **envp) {
        char path[PATH_LEN];
        size_t name = length(argv[0]);
        long denied = 0;

        if (has_slash(argv[0]))
                return execute(argv[0], argv, envp);
        if (name == 0)
                return -ENOENT;
        for (const char *p = search_path(envp);; p++) {
                size_t n = 0;
                for (; *p && *p != ':'; p++)
                        if (n + name + 2 < PATH_LEN)
                                path[n++] = *p;
                if (n > 0)
                        path[n++] = '/';
                for (size_t i = 0; i <= name && n < PATH_LEN; i++)
                        path[n++] = argv[0][i];
                path[PATH_LEN - 1] = '\0';
                long r = execute(path, argv, envp);
                if (r == -EACCES)
                        denied = r;
                else if (r != -ENOENT && r != -ESTALE && r != -ENOTDIR && r != -ENODEV && r != -ETIMEDOUT)
                        return r;
                if (!*p)
                        return denied ? denied : -ENOENT;
        }
}

__attribute__((used, noreturn)) void stub_main(long *stack);
void stub_main(long *stack) {
        char **argv = (char **) (stack + 1), **envp = argv + stack[0] + 1;

        (void) call(SYS_fcntl, STUB_WIRE, F_SETFD, FD_CLOEXEC);
        StubFailure failure = { .type = STUB_WIRE_TYPE, .errnum = (int32_t) -search(argv, envp) };
        (void) call(SYS_write, STUB_WIRE, (long) &failure, sizeof failure);
        for (;;)
                (void) call(SYS_exit_group, 125, 0, 0);
}

/* argc lies where argv's place before the first word is: it has been read by the time that is used. */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall stub_main\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tbl stub_main\n");
#endif
