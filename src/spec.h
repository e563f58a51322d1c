/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "account.h"
#include "box.h"
#include "caps.h"
#include "limit.h"
#include "mount.h"
#include "namespaces.h"
#include "net.h"
#include "pod.h"
#include "process.h"
#include "seccomp.h"
#include "timens.h"
#include "user.h"

/* Who calls usbox, looked up once, by account.h and not by the environment. */
typedef struct {
        uid_t uid;
        gid_t gid;
        AccountServed served; /* by newuidmap and newgidmap */
        char *name;  /* the uid as text where there is no entry */
        char *home;  /* real path; "/" where there is none */
        char *shell;
        char *cwd;   /* real path */
} Caller;

/*
 * What the user asked for, complete and checked. Only spec_build() makes one; after it the Spec is const, and every
 * process that is forked later reads the same.
 */
struct Spec {
        Caller caller;
        BoxSpec box;
        PodSpec pod;
        UserSpec user;
        NamespaceSpec namespaces;
        RootSpec root;
        MountSpec mount;
        NetSpec net;
        SeccompSpec seccomp;
        CapsSpec caps;
        ProcessSpec process;
        LimitsSpec limits;
        TimeSpec time;
};

/* A draft with the defaults of CLI.md in it, before any option. Fails where the caller cannot be looked up. */
Spec *spec_new(GError **error);

/* The same for what takes no name from the working directory: where that was removed, or is out of reach, "/" stands for it. */
Spec *spec_new_anywhere(GError **error);
void spec_free(Spec *spec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Spec, spec_free)

/*
 * Draft → Spec: takes the command (argv is copied), fills what depends on more than one option, asks every module's
 * x_check(), and returns the same object const. NULL with error; the draft is then still the caller's to free.
 */
const Spec *spec_build(Spec *draft, char *const *argv, GError **error);

/* --dry-run: everything in force, as text for people or as a JSON object (jansson's json_t); the caller's. */
char *spec_describe(const Spec *spec);
struct json_t *spec_to_json(const Spec *spec);
