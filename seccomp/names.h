/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy.h"

/* An ABI for which code is made. */
typedef struct {
        uint32_t audit;   /* AUDIT_ARCH_*, as seccomp_data.arch has it */
        uint32_t scmp;    /* SCMP_ARCH_* */
        const char *oci;  /* "SCMP_ARCH_X86_64" */
        const char *go;   /* "amd64", as the engines' profiles say it */
        int number_limit; /* system calls from here on are of another ABI (x32) or none */
} Arch;

/* This machine's own ABI and its 32-bit one (NULL: it has none). */
const Arch *arch_native(void);
const Arch *arch_compat(void);

/* A name of any architecture that OCI knows, supported by this program or not. */
bool arch_oci_known(const char *oci);

#define NAME_ABSENT (-1) /* the call exists, not on this ABI */
#define NAME_UNKNOWN (-2)

/* The number of a system call on an ABI, by the library's tables, then by the policy's own "numbers". */
int name_resolve(const Policy *policy, const Arch *arch, const char *name);

/* Does each of the policy's own numbers agree with what the library knows? */
bool names_check(const Policy *policy, GError **error);
