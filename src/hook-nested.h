/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "root.h"

/*
 * Project hooks below the top of trees that are written through (--rw): of repositories there and of submodules, .envrc, .vscode, .idea. They have no
 * guard (root-hooks.h): what the box did to them is named when it has ended. Seen is one mount, without following a symlink, as far as
 * HOOK_NESTED_ENTRIES names, the upper levels first.
 */
#define HOOK_NESTED_ENTRIES 100000u

typedef struct HookNested HookNested;

/* Note what there is, before the command begins. The plan is borrowed to the end. NULL: no tree of it has hooks that are guarded. */
HookNested *hook_nested_new(const RootPlan *plan);

/* After the end of the box: say what is new, replaced or changed, and where not all could be looked at. nested may be NULL. */
void hook_nested_tell(HookNested *nested);

void hook_nested_free(HookNested *nested);
