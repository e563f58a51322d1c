/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "scope/config.h"
#include "scope/version.h"

/* One box's cgroup. */
typedef struct {
        char *path; /* from CGROUP_MOUNT on, "/user.slice/..."; NULL: none yet */
        int fd;     /* the directory */
        bool own;   /* we made it, and we remove it; else systemd did and does */
        char *home; /* where we were before, or are to be afterwards (own) */
        bool in_pod; /* own, and a part of its pod's */
        bool pod;    /* boxes have theirs in it */
} ScopeCgroup;

/* The cgroup of this process, or of another, from the mount on; the caller's. */
char *cgroup_of_self(GError **error);
char *cgroup_of(pid_t pid, GError **error);

/* Words of a file ("cgroup.controllers"); the caller's, empty where it cannot be read. */
char **cgroup_words(int dir, const char *file);

/* Every controller that settings and properties need must be in the cgroup's cgroup.controllers: else an error that names it, says which are, and
 * what delegates it. systemd would leave out in silence what it cannot set. */
bool cgroup_check_controllers(const ScopeCgroup *c, const ScopeConfig *config, GError **error);

/* The same of a cgroup that systemd has not given them yet: it can, as far as they are delegated to it. */
bool cgroup_check_delegated(const ScopeCgroup *c, const ScopeConfig *config, GError **error);

/* The same before there is one, of what is above all units of the user's systemd. */
bool cgroup_check_beforehand(const char *above, const ScopeConfig *config, GError **error);

/* The leaves; and, when we ourselves are in helpers/, what is useful in them switched on. */
bool cgroup_make_leaves(const ScopeCgroup *c, GError **error);
bool cgroup_prepare_leaves(const ScopeCgroup *c, GError **error);

/* Write settings to the cgroup's own files; those of processes (pids.max) to payload/, of a pod to boxes/. */
bool cgroup_apply(const ScopeCgroup *c, const GPtrArray *settings, GError **error);

/* The limit of processor time (cpu.max), which is taken off until the box's command is executed: what is done until then is not the command's.
 * "": there is none. The caller's; NULL with error. */
char *cgroup_hold_cpu(const ScopeCgroup *c, GError **error);

/* Move a process into a leaf. The errno in the error is EACCES or EPERM where the kernel does not let us take it out of where it is. */
bool cgroup_join(const ScopeCgroup *c, const char *leaf, pid_t pid, GError **error);

/* oom.c: have the kernel rather kill processes of payload/, all of which are frozen, than helpers. mount_ns: the box's mount namespace. */
bool cgroup_raise_oom(const ScopeCgroup *c, int mount_ns, GError **error);

/* Kill all in payload/. Where the kernel cannot (before 5.14), one by one. */
void cgroup_kill_payload(const ScopeCgroup *c);

/* Remove an own one: first out of it, then wait for what is left in it. */
void cgroup_remove(ScopeCgroup *c);

/* Whether a process is in the directory's cgroup or below. */
bool cgroup_populated(int dir);

/* pod.c: make a pod's place for its boxes ready; the cgroup of a box in it; remove what is left of them. */
bool pod_make_place(const ScopeCgroup *c, GError **error);
bool pod_make_box(const ScopeConfig *config, ScopeCgroup *ret, GError **error);
void pod_remove_boxes(const ScopeCgroup *c);

/* Whether settings protect memory; then, of a box in a pod, what is to be done when they are written; and what when nobody is in its cgroup any more. */
bool pod_is_protection(const GPtrArray *settings);
bool pod_protect_boxes(const ScopeCgroup *c, GError **error);
void pod_leave(const ScopeCgroup *c);

/* weight.c: whether the kernel shares disks by weight at all (what: who asks for it); write value (io.weight) to all that do. */
bool weight_check(const ScopeCgroup *c, const char *what, GError **error);
bool weight_apply(const ScopeCgroup *c, const char *value, GError **error);

/* A descriptor, the caller's, that can be read from when somebody has written a weight: then value is to be restored. -1: there is none that systemd
 * would write differently. */
int weight_watch(const ScopeCgroup *c);
void weight_restore(const ScopeCgroup *c, int watch, const char *value);

/* direct.c: where no systemd is there for this user. Finds a cgroup that we may write below and makes the box's in it. */
bool direct_make(const ScopeConfig *config, ScopeCgroup *ret, GError **error);
