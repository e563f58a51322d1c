/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/*
 * What the box left at name in dir, and all below, is to have no file that stands elsewhere, too, under another name: such ones become copies, of data,
 * mode and times. A file that cannot is removed here; it has its other name. False with errno: one could not, or a directory could not be looked into.
 */
bool hook_own(int dir, const char *name);
