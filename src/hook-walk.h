/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "hook-tree.h"

/*
 * Go through the tree, whose top is open as top. Before the box runs: remember what there is, as the tree's marks. again, after it: tell what is not
 * among them. passed: of HookStamp, directories that are not looked into. How many levels were seen as a whole; UINT_MAX: all.
 */
unsigned hook_walk(HookTree *tree, const GArray *passed, int top, bool again);
