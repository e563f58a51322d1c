/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "root.h"

/*
 * The guards over project hooks (root-hooks.h) while the box runs. Where the host replaces such a file or directory (git config renames
 * another one into its place), the kernel takes the mount over it away (detach_mounts(), fs/namespace.c), and the box could write what came. So
 * the launcher watches the names, and has their guards put back.
 */
typedef struct HookGuard HookGuard;

/* Watch the hooks of the plan (borrowed; what becomes of them is noted in it) from now on: before the child looks at them, so that nothing is missed.
 * nested: the box may have mount namespaces of its own making, where nobody puts a guard back. NULL: there is nothing to watch; or it cannot be
 * watched, which the user is told. */
HookGuard *hook_guard_new(RootPlan *plan, bool nested);

/* GUARDED has come: the plan's source of that number as the box has it mounted. False: there is none of that number. */
bool hook_guard_take_tree(HookGuard *guard, guint32 source, int fd_take);

/* To be polled for POLLIN: that something has changed; that what puts guards back has ended. -1: not now. guard may be NULL. */
int hook_guard_changes(const HookGuard *guard);
int hook_guard_mender(const HookGuard *guard);

/* One of them has something to say. mount_ns: the box's, borrowed. */
void hook_guard_dispatch(HookGuard *guard, int mount_ns);

/* Nothing is put back from then on. */
void hook_guard_free(HookGuard *guard);
