/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Project hooks in a tree that is written through (--rw): files that tools of the caller run later without being asked. They
 * stay copy-on-write in it: the box's writes land in upper/ and are seen before they count.
 */

#include "root-build.h"
#include "root-plan.h"

/* One hook of one source. */
typedef struct {
        const char *name;  /* ".git/hooks" */
        char *path;        /* in the box, without leading "/" */
        HostPath host;     /* path NULL: it was not there when the box started */
        bool parent_there; /* but what it lies in was */
        bool is_dir;
        mode_t mode;
        unsigned index; /* names its workdir */
        char *data;     /* a file's contents */
        size_t len;
        bool replaced; /* the host has replaced or removed it while the box ran (hook-guard.h); host is then the last one that has a guard */
        bool put_back; /* and that guard was put back */
} Hook;

/* Why a hook that is there (opened as fd; negative: errno says why not) cannot be guarded, as an errno; 0: it can, and *ret_st is its. */
int hook_problem(int fd, struct stat *ret_st);

/* Where its copy is while the box runs, in the box's directory; the caller's to free. In a root that usbox-fs serves upper/ and work/ are its own: the
 * directories on the way there would be taken for changes of the box's. So only what an earlier run of the box has changed is in upper/ from the start. */
char *hook_copy_path(const RootPlan *plan, const Hook *hook, int box_fd);
char *hook_work_path(const RootPlan *plan, const Hook *hook);

/* Launcher: find the hooks of a source that is a directory, as source->hooks. A symlink on the way to one is an error:
 * what it leads to could not be guarded. */
bool root_hooks_plan(Planner *p, MountSource *source, GError **error);

/* Launcher: what they need in the box's directory; and afterwards, remove what stayed as it was. */
bool root_hooks_make(const RootPlan *plan, int box_fd, GError **error);
void root_hooks_trim(const RootPlan *plan, int box_fd, FdLater *later);

/*
 * Launcher, after the run: hooks that were not there before. The kernel's overlay cannot keep a name from being made in a tree
 * that is written through, so it is on the host while the box runs; here it is moved into upper/, where the others are. Only
 * where what it lies in (.git) was there: a repository that the box made itself stays whole.
 */
void root_hooks_take_back(const RootPlan *plan, int box_fd, const Spec *spec);

/* Those that are still there after that (another file system, --overlay=none, a new repository), as host paths; NULL: none. The
 * caller can only be told. The caller's to free. */
GPtrArray *root_hooks_appeared(const RootPlan *plan);

/* Those that the host replaced while the box ran (git config, an editor): the mount over such a one goes with it, and so the box could write what came
 * in its place: to its end, or until the guard was put back. One that is gone can do no harm. As above. */
GPtrArray *root_hooks_replaced(const RootPlan *plan);
GPtrArray *root_hooks_back(const RootPlan *plan);

/* Child, after the source (the plan's of that number) is attached as mnt: mount over them, and have the launcher told of that mount. */
bool root_hooks_mount(RootBuild *b, guint number, int mnt, GError **error);

typedef enum {
        HOOK_UNKNOWN,  /* nobody has looked */
        HOOK_GUARDED,  /* it has a guard, or has nothing of the host's */
        HOOK_PUT_BACK, /* it has one now */
        HOOK_GONE,     /* there is nothing of that name */
        HOOK_FAILED,
} HookOutcome;

/*
 * Mender, in the box's user and mount namespace: put the guard over a hook back, where it has none any more. box: the tree as the box has it mounted.
 * The hook is read-only then, as the host has it: what the box wrote to its own one before is in upper/. *ret_st is HOOK_PUT_BACK's.
 */
HookOutcome root_hooks_put_back(int box, const Hook *hook, struct stat *ret_st);
