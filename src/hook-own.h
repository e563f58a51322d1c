/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "spec.h"

/*
 * What the box left at name in dir, and all below, is to have no file that stands elsewhere, too, under another name: such ones become copies, of data,
 * mode and times. Nor is it to have marks of an overlay's. What cannot be made so, or cannot be looked into, is removed here, with the rights of the caller's
 * subordinate ids where it takes them. False with errno: there was something like that.
 */
bool hook_own(int dir, const char *name, const Spec *spec);
