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
} Hook;

void hook_free(gpointer hook);

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
void root_hooks_take_back(const RootPlan *plan, int box_fd);

/* Those that are still there after that (another file system, --overlay=none, a new repository), as host paths; NULL: none. The
 * caller can only be told. The caller's to free. */
GPtrArray *root_hooks_appeared(const RootPlan *plan);

/* Those that the host removed or replaced while the box ran (git config, an editor): the mount over such a one goes with it, and so the box could
 * write what came in its place. As above. */
GPtrArray *root_hooks_replaced(const RootPlan *plan);

/* Child, after the source is attached as mnt: mount over them. */
bool root_hooks_mount(RootBuild *b, const MountSource *source, int mnt, GError **error);
