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

/* What the environment begins with, before env_ops. */
typedef enum {
        ENV_DEFAULT, /* of the caller's, what CLI.md lists */
        ENV_INHERIT, /* --env-inherit: all of the caller's */
        ENV_CLEAR,   /* --clearenv: nothing */
} EnvBase;

/* The payload as a process: argv, environment, limits by rlimit. */
typedef struct {
        char **argv;         /* the command, never empty after spec_build() */
        char **envp;         /* after process_check(): the environment in force */
        EnvBase env_base;
        char **env_places;   /* those of envp by --env-inherit alone that name a directory: not the command's where the box has it not */
        GPtrArray *env_ops;  /* of char *: "K=V" sets, "K" unsets: what -e, --env-file and --unsetenv asked, in order */
        GPtrArray *env_files; /* of char *, absolute: what --env-file read; NULL: none */
        GArray *ulimits;     /* of UlimitSpec, each resource once */
        bool oom_score_given;
        int oom_score_adj;
        GPtrArray *sysctls;  /* of char *: "KEY=VALUE", KEY a path beneath /proc/sys ("net/ipv4/ip_forward") */
} ProcessSpec;

extern const Option process_options[];
extern const Option env_options[];

/* The defaults; and free what it owns. */
void process_init(ProcessSpec *s);
void process_clear(ProcessSpec *s);

/* Fills envp from the caller's environment; checks limits against the caller's own and sysctls against the namespaces
 * that the box has of its own. After user_check() and namespaces_check(). */
bool process_check(Spec *draft, GError **error);

/* envp from the environment outside (NULL-terminated), for process_check() and tests. */
void process_fill_environment(Spec *draft, const char *const *outside);

/* What -e says, as "K=V" (char *): "K=V" itself, "K" for what the caller has under that name, "K*" for all of its whose names begin so; nothing,
 * if it has none. False: text is none of these. */
bool process_add_variable(GPtrArray *assignments, const char *text);

/* "nofile" for RLIMIT_NOFILE. Static. */
const char *process_ulimit_name(int resource);

/* --sysctl was given for something of IPC, which only the box's uid 0 may write. */
bool process_has_ipc_sysctl(const ProcessSpec *s);

/* --ulimit was given for it. */
bool process_has_ulimit(const ProcessSpec *s, int resource);
