/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * System call names and architectures. libseccomp is used for its tables alone.
 *
 * Role: usbox-seccomp, at build time and for --seccomp FILE. Privileges: none. Threads: one.
 * Order: after policy.c has read the file, before codegen.c.
 */
#include <linux/audit.h>
#include <seccomp.h>
#include <stdlib.h>

#include "base/error.h"
#include "names.h"

#define NUMBER_MAX 1024 /* beyond every system call of Linux */

/* x32 is not an architecture of its own to seccomp: the same AUDIT_ARCH and this bit in the number (seccomp(2)). */
#define X32_SYSCALL_BIT 0x40000000

#if defined(__x86_64__) && !defined(__ILP32__)
static const Arch native = { AUDIT_ARCH_X86_64, SCMP_ARCH_X86_64, "SCMP_ARCH_X86_64", "amd64", X32_SYSCALL_BIT };
static const Arch compat = { AUDIT_ARCH_I386, SCMP_ARCH_X86, "SCMP_ARCH_X86", "x86", X32_SYSCALL_BIT };
#define COMPAT &compat
#elif defined(__aarch64__)
static const Arch native = { AUDIT_ARCH_AARCH64, SCMP_ARCH_AARCH64, "SCMP_ARCH_AARCH64", "arm64", X32_SYSCALL_BIT };
#define COMPAT NULL
#elif defined(__riscv) && __riscv_xlen == 64
static const Arch native = { AUDIT_ARCH_RISCV64, SCMP_ARCH_RISCV64, "SCMP_ARCH_RISCV64", "riscv64", X32_SYSCALL_BIT };
#define COMPAT NULL
#else
#error "seccomp: this architecture needs a row here and a look at seccomp/default.json's numbers"
#endif

static const char *const oci_archs[] = {
        "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",         "SCMP_ARCH_ARM",
        "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
        "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",    "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB",        NULL,
};

const Arch *arch_native(void) {
        return &native;
}

const Arch *arch_compat(void) {
        return COMPAT;
}

bool arch_oci_known(const char *oci) {
        return g_strv_contains(oci_archs, oci);
}

/* The library answers "socket" on i386 with a pseudo number that stands for two entrances, socketcall(2) and the direct
 * call of Linux 4.3. A rule about arguments can hold only for the direct one: that is what the name means here, and
 * socketcall is governed by its own name. */
static int direct_number(const Arch *arch, const char *name) {
        for (int n = 0; n < NUMBER_MAX; n++) {
                char *of_number = seccomp_syscall_resolve_num_arch(arch->scmp, n);
                bool same = of_number && g_str_equal(of_number, name);
                free(of_number);
                if (same)
                        return n;
        }
        return NAME_ABSENT;
}

static int library_resolve(const Arch *arch, const char *name) {
        int n = seccomp_syscall_resolve_name_arch(arch->scmp, name);
        if (n >= 0)
                return n;
        if (n == __NR_SCMP_ERROR)
                return NAME_UNKNOWN;
        return n > -1000 ? direct_number(arch, name) : NAME_ABSENT;
}

int name_resolve(const Policy *policy, const Arch *arch, const char *name) {
        int n = library_resolve(arch, name);
        if (n != NAME_UNKNOWN)
                return n;
        for (guint i = 0; i < policy->numbers->len; i++) {
                const PolicyNumber *own = policy->numbers->pdata[i];
                if (!g_str_equal(own->name, name))
                        continue;
                if (!own->arch || g_str_equal(own->arch, arch->go))
                        return own->number;
                n = NAME_ABSENT;
        }
        return n;
}

bool names_check(const Policy *policy, GError **error) {
        for (guint i = 0; i < policy->numbers->len; i++) {
                const PolicyNumber *own = policy->numbers->pdata[i];
                if (own->arch && !g_str_equal(own->arch, native.go))
                        continue;
                int n = library_resolve(&native, own->name);
                if (n >= 0 && n != own->number)
                        return err_set(error, 0, "numbers: %s is %d, the library says %d", own->name, own->number, n);
        }
        return true;
}
