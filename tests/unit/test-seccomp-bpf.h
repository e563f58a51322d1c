/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a filter came to its verdict. */
typedef struct {
        uint32_t action; /* SECCOMP_RET_* with data */
        bool looked_at_args;
        unsigned steps; /* instructions executed */
} BpfVerdict;

/* Run a filter as the kernel would (seccomp_check_filter() and the classic interpreter); aborts where the kernel would
 * refuse it or it runs off its end. */
BpfVerdict bpf_run(const struct sock_filter *filter, size_t n, const struct seccomp_data *data);

/* "allow", "EPERM", "kill" ...; static or interned. */
const char *bpf_action_name(uint32_t action);
