/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "option.h"

typedef struct {
        int resource; /* RLIMIT_* */
        rlim_t soft, hard;
} UlimitSpec;

/* The payload as a process: argv, environment, limits by rlimit. */
typedef struct {
        char **argv;         /* the command, never empty after spec_build() */
        char **envp;         /* after process_check(): the environment in force */
        GPtrArray *env_ops;  /* of char *: what -e, --env-file, --env-inherit, --unsetenv, --clearenv asked, in order */
        GArray *ulimits;     /* of UlimitSpec */
        bool oom_score_given;
        int oom_score_adj;
        GPtrArray *sysctls;  /* of char *: "key=value" */
} ProcessSpec;

extern const Option process_options[];
