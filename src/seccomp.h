/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "option.h"

typedef enum { SECCOMP_DEFAULT, SECCOMP_OFF, SECCOMP_FILE } SeccompMode;

typedef struct {
        SeccompMode mode;
        bool compat32; /* --seccomp default+32bit */
        char *file;    /* --seccomp FILE: absolute */
} SeccompSpec;

extern const Option seccomp_options[];
